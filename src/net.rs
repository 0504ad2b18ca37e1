//! The guarded outbound client.
