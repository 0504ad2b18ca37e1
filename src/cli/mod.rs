//! The command line.

pub mod guard;
