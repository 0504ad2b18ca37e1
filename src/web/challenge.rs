//! What a caller without a good credential is told to do (RFC 6750 section 3, RFC 9449 section 7.1, RFC 9728 section 5.1): where the
//! description of the resource is, from which a client finds its way to sign in, and which scope to ask for.

use std::fmt::{Display, Write as _};

use http::header::HeaderValue;

use crate::access::{AuthError, Opening};
use crate::app::App;
use crate::crypto::dpop::{self, BadProof};

/// The value of `WWW-Authenticate` for a request to this resource at this path, under which the client looks for its description.
/// No error code is told where no credential was shown. Who may show an access token is told of both ways to do so, by itself first:
/// many read only what comes first.
pub fn challenge(app: &App, what: Opening<'_>, at: impl Display, error: AuthError) -> HeaderValue {
    let mut text = String::with_capacity(320);
    let of_proof = matches!(error, AuthError::NotBound | AuthError::Proof(_));
    text.push_str(if of_proof { "DPoP" } else { "Bearer" });
    text.push_str(" realm=\"mcp-gateway\"");
    if error != AuthError::Missing {
        let code = match error {
            // The token is not this key's (RFC 9449 section 7.1).
            AuthError::Proof(BadProof::OtherKey) => "invalid_token",
            AuthError::Proof(_) => "invalid_dpop_proof",
            _ => "invalid_token",
        };
        _ = write!(text, ", error=\"{code}\", error_description=\"");
        // The grammar of the attribute has neither quotes nor anything beyond ASCII.
        text.extend(
            error.to_string().chars().filter(char::is_ascii).map(|c| if "\"\\`".contains(c) { '\'' } else { c }),
        );
        text.push('"');
    }
    point_at(app, at, &mut text);
    _ = write!(text, ", scope=\"{}\"", what.scope());
    if of_proof {
        text.push_str(", ");
        algorithms(&mut text);
    } else if matches!(
        error,
        AuthError::Missing
            | AuthError::Bound
            | AuthError::EndedToken
            | AuthError::ComeBack
            | AuthError::Gone
            | AuthError::WrongResource
    ) {
        text.push_str(", DPoP ");
        algorithms(&mut text);
    }
    HeaderValue::from_str(&text).unwrap_or(PLAIN)
}

/// The value of `WWW-Authenticate` for a caller whose credential lacks a scope (RFC 6750 section 3.1): 403, and which would do. It
/// is of the scheme in which the credential was shown: one that is `bound` to a key is shown with a proof (RFC 9449 section 7.1).
pub fn insufficient_scope(app: &App, at: impl Display, needed: &str, bound: bool) -> HeaderValue {
    let scheme = if bound { "DPoP" } else { "Bearer" };
    let mut text = format!("{scheme} realm=\"mcp-gateway\", error=\"insufficient_scope\", scope=\"{needed}\"");
    point_at(app, at, &mut text);
    if bound {
        text.push_str(", ");
        algorithms(&mut text);
    }
    HeaderValue::from_str(&text).unwrap_or(PLAIN)
}

/// The value of `WWW-Authenticate` for a caller of this resource whose credential is good, and who has to show more of themselves all the
/// same: the client gets nothing new by refreshing, and sends the person to sign in.
pub fn sign_in_again(app: &App, what: Opening<'_>) -> HeaderValue {
    let said = "sign in again: the identity provider wants to see you";
    let mut text = format!("Bearer realm=\"mcp-gateway\", error=\"invalid_token\", error_description=\"{said}\"");
    point_at(app, what, &mut text);
    _ = write!(text, ", scope=\"{}\"", what.scope());
    HeaderValue::from_str(&text).unwrap_or(PLAIN)
}

const PLAIN: HeaderValue = HeaderValue::from_static("Bearer realm=\"mcp-gateway\"");

fn point_at(app: &App, at: impl Display, text: &mut String) {
    _ = write!(text, ", resource_metadata=\"{}\"", app.issuer.resource_metadata_url(at));
}

/// How a proof may be signed.
fn algorithms(text: &mut String) {
    text.push_str("algs=\"");
    for (at, algorithm) in dpop::ALGORITHMS.iter().enumerate() {
        _ = write!(text, "{}{algorithm:?}", if at == 0 { "" } else { " " });
    }
    text.push('"');
}
