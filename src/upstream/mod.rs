//! ENGINE: the transports to the servers behind the gateway.
