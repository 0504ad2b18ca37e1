//! What surfaces share: caller, layers, client address.
