//! What a caller without a good credential is told to do (RFC 6750 section 3, RFC 9728 section 5.1): where the description of
//! the resource is, from which a client finds its way to sign in, and which scope to ask for.

use std::fmt::{Display, Write as _};

use http::header::HeaderValue;

use crate::access::{AuthError, Opening};
use crate::app::App;

/// The value of `WWW-Authenticate` for a request to this resource at this path, under which the client looks for its description.
/// No error code is told where no credential was shown.
pub fn challenge(app: &App, what: Opening<'_>, at: impl Display, error: AuthError) -> HeaderValue {
    let mut text = String::with_capacity(256);
    text.push_str("Bearer realm=\"mcp-gateway\"");
    if error != AuthError::Missing {
        text.push_str(", error=\"invalid_token\", error_description=\"");
        // The grammar of the attribute has neither quotes nor anything beyond ASCII.
        text.extend(
            error.to_string().chars().filter(char::is_ascii).map(|c| if "\"\\`".contains(c) { '\'' } else { c }),
        );
        text.push('"');
    }
    point_at(app, at, &mut text);
    _ = write!(text, ", scope=\"{}\"", what.scope());
    HeaderValue::from_str(&text).unwrap_or(PLAIN)
}

/// The value of `WWW-Authenticate` for a caller whose credential lacks a scope (RFC 6750 section 3.1): 403, and which would do.
pub fn insufficient_scope(app: &App, at: impl Display, needed: &str) -> HeaderValue {
    let mut text = format!("Bearer realm=\"mcp-gateway\", error=\"insufficient_scope\", scope=\"{needed}\"");
    point_at(app, at, &mut text);
    HeaderValue::from_str(&text).unwrap_or(PLAIN)
}

const PLAIN: HeaderValue = HeaderValue::from_static("Bearer realm=\"mcp-gateway\"");

fn point_at(app: &App, at: impl Display, text: &mut String) {
    _ = write!(text, ", resource_metadata=\"{}\"", app.issuer.resource_metadata_url(at));
}
