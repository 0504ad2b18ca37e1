//! SURFACE: the gateway, JSON-RPC in and JSON-RPC out.
