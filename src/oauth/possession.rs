//! The key that a request for tokens proves to have (RFC 9449 section 5): whatever is then given is bound to it.

use http::HeaderMap;
use time::OffsetDateTime;

use crate::app::App;
use crate::crypto::dpop::BadProof;
use crate::grants::client::{Client, Proof};
use crate::grants::{OauthCode, Possession, Refusal};
use crate::web::open;
use crate::web::proof::{self, Sent};

/// What a request of this client proves. Without a proof it gets tokens that are bound to nothing, unless it said that it wants none.
pub(super) fn proved(
    app: &App,
    headers: &HeaderMap,
    client: &Client,
    now: OffsetDateTime,
) -> Result<Possession, Refusal> {
    let key = match proof::shown(headers).map_err(bad)? {
        Some(text) => Some(proof::take(app, text, Sent::new("POST", open::TOKEN), None, now).map_err(bad)?),
        None if client.bound => return Err(bad(BadProof::Missing)),
        None => None,
    };
    Ok(Possession { key, is_public: matches!(client.proof, Proof::None) })
}

fn bad(proof: BadProof) -> Refusal {
    Refusal::new(OauthCode::InvalidDpopProof, proof.reason(), proof.text())
}
