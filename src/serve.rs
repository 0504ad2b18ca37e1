//! Listeners and graceful stop.
