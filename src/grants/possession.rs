//! Tokens that are bound to a key of the client's (RFC 9449): which key a request for tokens proved, and what that means for what
//! it shows. An access token is bound to the key of the request that it came of. A refresh token is bound only where nothing else
//! proves the client: a confidential client may change its key (section 5).

use crate::crypto::dpop::Thumbprint;

/// What a request for tokens proved besides who the client is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Possession {
    /// The key, if it proved one.
    pub key: Option<Thumbprint>,
    /// Whether the client proves nothing of itself.
    pub is_public: bool,
}

impl Possession {
    /// The key that the refresh tokens are bound to from now on.
    pub(super) fn of_family(self) -> Option<Thumbprint> {
        self.key.filter(|_| self.is_public)
    }

    /// Whether what is bound to this key, if to any, may be shown.
    pub(super) fn opens(self, bound: Option<&[u8]>) -> bool {
        bound.is_none_or(|bound| self.key.as_ref().is_some_and(|key| key == bound))
    }
}
