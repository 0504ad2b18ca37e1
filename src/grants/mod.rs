//! ENGINE: the authorization server's core without HTTP: which clients there are and how they prove who they are, where an
//! answer may be sent, what tokens are good for. Takes parts as arguments and knows nothing of axum.

pub mod authenticate;
pub mod client;
pub mod document;
pub mod dynamic;
pub mod redirect;
pub mod registered;
pub mod resource;
pub mod scope;

mod assertion;
mod fetch;
mod kept;
mod keys;
mod metadata;
pub mod rate;

use crate::crypto::new_api_key;
use crate::secret::Secret;

/// What a secret of a client begins with.
pub const CLIENT_SECRET_PREFIX: &str = "mcpg_cs_";

/// A new secret of a client: the prefix and 43 characters that carry 256 random bits.
pub(crate) fn new_client_secret() -> Secret {
    let key = new_api_key();
    Secret::new(format!("{CLIENT_SECRET_PREFIX}{}", &key.expose()[crate::crypto::KEY_PREFIX.len()..][..43]))
}
