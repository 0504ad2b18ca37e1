//! ALL SQL.
