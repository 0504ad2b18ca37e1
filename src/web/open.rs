//! The paths that web pages of any site may call: a client that runs in a browser finds the gateway's metadata there, registers
//! itself, and gets and gives back its tokens. None of them looks at a cookie, so a page gains nothing from the browser it runs
//! in; no other path is open to pages of origins that an operator did not name.

use http::HeaderValue;

use crate::grants::resource::{AUTHORIZATION_SERVER, PROTECTED_RESOURCE};

/// Where clients of OpenID Connect look for the metadata of an authorization server.
pub const OPENID: &str = "/.well-known/openid-configuration";
/// The token endpoint (RFC 6749 section 3.2).
pub const TOKEN: &str = "/oauth/token";
/// The revocation endpoint (RFC 7009 section 2).
pub const REVOKE: &str = "/oauth/revoke";
/// The registration endpoint (RFC 7591 section 3).
pub const REGISTER: &str = "/oauth/register";
/// The keys that the gateway signs with (RFC 7517 section 5).
pub const KEYS: &str = "/oauth/keys";

/// Which pages may read an answer: all, without credentials of the browser.
pub const ANY_ORIGIN: HeaderValue = HeaderValue::from_static("*");

/// Whether pages of any origin may call the path.
pub fn is_open(path: &str) -> bool {
    let below = |known: &str| path.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    [TOKEN, REVOKE, REGISTER, KEYS].contains(&path)
        || [PROTECTED_RESOURCE, AUTHORIZATION_SERVER, OPENID].into_iter().any(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_no_cookie_is_open() {
        for path in [TOKEN, REVOKE, REGISTER, OPENID, PROTECTED_RESOURCE, "/.well-known/oauth-protected-resource/mcp/x"]
        {
            assert!(is_open(path), "{path}");
        }
        for path in ["/", "/mcp", "/api/v1/me", "/oauth/authorize", "/oauth/consent", "/oauth/token/", "/oauth/tokens"]
        {
            assert!(!is_open(path), "{path}");
        }
        assert!(!is_open("/.well-known/oauth-protected-resources"));
    }
}
