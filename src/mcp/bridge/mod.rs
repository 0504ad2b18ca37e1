//! One protocol era to another.
