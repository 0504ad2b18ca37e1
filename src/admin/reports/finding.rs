//! What a diagnosis found: how bad, what, from which figures, and what to do.

use serde::Serialize;

/// See the module.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    /// `info`, `warning` or `critical`.
    pub(super) severity: &'static str,
    pub(super) what: String,
    pub(super) evidence: String,
    pub(super) advice: &'static str,
}
