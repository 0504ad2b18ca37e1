//! The proof of possession that comes with a request (RFC 9449): the one header that holds it, and the address that it must be of,
//! which is made of the public URL and never of the request's `Host`.

use std::fmt;

use http::{HeaderMap, HeaderName};
use time::OffsetDateTime;

use crate::access::Opening;
use crate::app::App;
use crate::crypto::dpop::{BadProof, Thumbprint, Wanted};

/// The header.
const DPOP: HeaderName = HeaderName::from_static("dpop");

/// Where a request went.
#[derive(Debug, Clone, Copy)]
pub enum Address<'a> {
    /// `/mcp`, `/mcp/{server}`.
    Newer(Opening<'a>),
    /// `/sse`, `/sse/{server}`.
    Older(Opening<'a>),
    /// This path below `/api/v1`.
    Api(&'a str),
    /// This path.
    Path(&'a str),
}

impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer(what) => what.fmt(f),
            Self::Older(what) => what.older().fmt(f),
            Self::Api(path) => write!(f, "{}{path}", Opening::Api),
            Self::Path(path) => f.write_str(path),
        }
    }
}

/// What a proof must be of: a request of this method to this address.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    /// The method.
    pub method: &'a str,
    /// Below the public URL.
    pub to: Address<'a>,
}

impl<'a> Sent<'a> {
    /// A request of this method to this path.
    pub fn new(method: &'a str, path: &'a str) -> Self {
        Self { method, to: Address::Path(path) }
    }
}

/// The proof that a request holds, if it does.
pub fn shown(headers: &HeaderMap) -> Result<Option<&str>, BadProof> {
    let mut values = headers.get_all(&DPOP).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| BadProof::Malformed),
        _ => Err(BadProof::Doubled),
    }
}

/// Checks the proof of an access token that is bound to a key.
pub(super) fn check(
    app: &App,
    headers: &HeaderMap,
    sent: Sent<'_>,
    (token, key): (&str, &Thumbprint),
    now: OffsetDateTime,
) -> Result<(), BadProof> {
    let proof = shown(headers)?.ok_or(BadProof::Missing)?;
    take(app, proof, sent, Some((token, key)), now).map(drop)
}

/// Checks a proof, and that it was not shown before; the key that it is by. At a resource it must be of the token that is shown, and by
/// the token's key.
pub fn take(
    app: &App,
    proof: &str,
    sent: Sent<'_>,
    bound: Option<(&str, &Thumbprint)>,
    now: OffsetDateTime,
) -> Result<Thumbprint, BadProof> {
    let address = app.issuer.join(&sent.to.to_string());
    let (token, key) = bound.unzip();
    app.proofs.take(proof, &Wanted { method: sent.method, address: &address, token, key }, now)
}
