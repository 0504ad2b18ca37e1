//! Assertions that clients sign are shown once (RFC 7523 section 3, point 7); which were, the database knows.

use time::OffsetDateTime;

use super::{Grants, Refusal, not_yet};

impl Grants {
    /// Takes note that `issuer` showed `jti`, until it expires by itself. `false` when it was shown before.
    pub async fn spend_assertion(&self, issuer: &str, jti: &str, expires_at: OffsetDateTime) -> Result<bool, Refusal> {
        let _ = (issuer, jti, expires_at);
        not_yet()
    }
}
