//! ENGINE: the transports to the servers behind the gateway.

pub mod mux;
pub mod pipe;
pub mod stdio;
