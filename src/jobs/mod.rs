//! Work in the background.
