//! What a diagnosis found: how bad, what, from which figures, and what to do.

use schemars::JsonSchema;
use serde::Serialize;

/// What a diagnosis found.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Finding {
    /// `info`, `warning` or `critical`.
    pub(super) severity: &'static str,
    pub(super) what: String,
    pub(super) evidence: String,
    pub(super) advice: &'static str,
}
