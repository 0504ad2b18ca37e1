//! SURFACE: `/health`, `/metrics`.
