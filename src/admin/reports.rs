//! What operators read: each a [`Report`] of what was measured, `null` where nothing was.

mod envelope;
pub(super) mod fairness;
pub(super) mod limits;
pub(super) mod tokens;
