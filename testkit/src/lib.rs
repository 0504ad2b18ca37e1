//! Stand-ins and real peers that the gateway's tests speak to.
//!
//! Everything here speaks protocols (HTTP, JSON-RPC, server-sent events, processes) and knows nothing of the gateway:
//! a test of the gateway through this crate is a test of what others see. `upstream` holds servers to put behind it,
//! [`client`] a client that sends exactly the bytes it is told to, [`answer`] what came back, [`browser`] a person's way through pages and forms,
//! [`entra`] an identity provider, [`provider`] one that only refreshes, [`authorization`] a place that gives tokens, [`people_server`] one that gives them for people who come there, [`collector`] one of traces and metrics, [`sign_in`] what a client and a person do to sign in, [`settings`] what it is started with, [`workload`] what many do of which everything is known, [`process`] a way to run and watch a binary, [`command`] to run one to its
//! end, and `src/bin` the same as programs.

pub mod answer;
pub mod authorization;
pub mod browser;
pub mod client;
pub mod collector;
pub mod command;
pub mod entra;
pub mod jsonrpc;
pub mod people_server;
pub mod process;
pub mod provider;
pub mod pulse;
pub mod settings;
pub mod sign_in;
pub mod sse;
pub mod upstream;
pub mod workload;
