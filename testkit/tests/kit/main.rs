//! The stand-ins against the kit's own client, and against a client that nobody here wrote.

mod browser;
mod entra;
mod faulty;
mod foreign;
mod legacy_sse;
mod plain;
mod programs;
