//! SURFACE: the admin REST API, `/api/v1`.
