//! Assertions that clients sign are shown once (RFC 7523 section 3, point 7); which were, the database knows.

use time::OffsetDateTime;

use super::{Grants, Refusal};
use crate::crypto::hash_token;
use crate::store::micros;

impl Grants {
    /// Takes note that `issuer` showed `jti`, until it expires by itself. `false` when it was shown before.
    pub async fn spend_assertion(&self, issuer: &str, jti: &str, expires_at: OffsetDateTime) -> Result<bool, Refusal> {
        // The length tells where the one ends and the other begins.
        let hash = hash_token(&format!("{} {issuer} {jti}", issuer.len()));
        Ok(self.0.store.spend_assertion(&hash, micros(expires_at)).await?)
    }
}
