//! What a client says of itself (RFC 7591 section 2), read alike from a document and from a registration. Only what means
//! something here is kept; logos and links of strangers are not.

use serde::Deserialize;
use serde_json::Value;

use super::client::{AuthMethod, GrantType};
use super::redirect::{RedirectUri, Schemes};
use crate::field::plain;
use crate::json;

/// Most redirect URIs of one client.
pub const MOST_REDIRECTS: usize = 10;
/// Most characters of a name.
pub const LONGEST_NAME: usize = 100;

/// What is wrong with it, in the words of RFC 7591 section 3.2.2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMetadata {
    /// `invalid_redirect_uri`.
    #[error("{0}")]
    Redirect(String),
    /// `invalid_client_metadata`.
    #[error("{0}")]
    Other(String),
}

impl BadMetadata {
    /// The error code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Redirect(_) => "invalid_redirect_uri",
            Self::Other(_) => "invalid_client_metadata",
        }
    }
}

pub(super) fn bad<T>(text: impl Into<String>) -> Result<T, BadMetadata> {
    Err(BadMetadata::Other(text.into()))
}

/// The members that are looked at, as they came.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    pub client_id: Option<String>,
    pub client_secret: Option<serde::de::IgnoredAny>,
    pub client_name: Option<String>,
    redirect_uris: Option<Vec<String>>,
    token_endpoint_auth_method: Option<String>,
    grant_types: Option<Vec<String>>,
    response_types: Option<Vec<String>>,
    pub application_type: Option<String>,
    pub scope: Option<String>,
    pub jwks: Option<Value>,
    pub jwks_uri: Option<String>,
    dpop_bound_access_tokens: Option<bool>,
}

impl Metadata {
    /// Reads a text: strict JSON, an object.
    pub(super) fn read(text: &[u8]) -> Result<Self, BadMetadata> {
        if let Err(problem) = json::check(text) {
            return bad(format!("this is not strict JSON: {problem}"));
        }
        // A list would be read by position.
        if !text.trim_ascii_start().starts_with(b"{") {
            return bad("must be an object");
        }
        serde_json::from_slice(text).or_else(|error| {
            let told = error.to_string();
            bad(plain(told.rsplit_once(" at line ").map_or(told.as_str(), |(message, _)| message)))
        })
    }

    /// Its redirect URIs, each judged.
    pub(super) fn redirects(&self, schemes: &Schemes) -> Result<Vec<RedirectUri>, BadMetadata> {
        let uris = self.redirect_uris.as_deref().unwrap_or_default();
        if uris.is_empty() || uris.len() > MOST_REDIRECTS {
            return Err(BadMetadata::Redirect(format!("give 1 to {MOST_REDIRECTS} redirect_uris")));
        }
        let judged = uris.iter().enumerate().map(|(index, uri)| {
            let told = |error| BadMetadata::Redirect(format!("redirect_uris[{index}]: {error}"));
            RedirectUri::parse(uri, schemes).map_err(told)
        });
        judged.collect()
    }

    /// How it proves who it is: not at all, when it does not say.
    pub(super) fn auth_method(&self) -> Result<AuthMethod, BadMetadata> {
        let Some(name) = &self.token_endpoint_auth_method else { return Ok(AuthMethod::None) };
        match AuthMethod::named(name) {
            Some(method) => Ok(method),
            None => bad("token_endpoint_auth_method is not one that is known here"),
        }
    }

    /// Whether it wants only tokens that are bound to a key (RFC 9449 section 5.2).
    pub(super) fn bound(&self) -> bool {
        self.dpop_bound_access_tokens.unwrap_or(false)
    }

    /// Of the grants that it wants, those that people's clients have. A client that wants a code gets one; what else it
    /// names is left out, as the answer tells it.
    pub(super) fn grants(&self) -> Result<Vec<GrantType>, BadMetadata> {
        if self.response_types.as_ref().is_some_and(|types| !types.iter().any(|kind| kind == "code")) {
            return bad("the only response type is `code`");
        }
        let possible = [GrantType::AuthorizationCode, GrantType::RefreshToken];
        let Some(asked) = &self.grant_types else { return Ok(possible.to_vec()) };
        let grants: Vec<_> =
            possible.into_iter().filter(|grant| asked.iter().any(|name| name == grant.as_str())).collect();
        if grants.first() == Some(&GrantType::AuthorizationCode) {
            Ok(grants)
        } else {
            bad("grant_types must hold `authorization_code`")
        }
    }

    /// Its name, or `fallback` when it has none.
    pub(super) fn name(&self, fallback: &str) -> Result<String, BadMetadata> {
        let name = self.client_name.as_deref().map(str::trim).filter(|name| !name.is_empty()).unwrap_or(fallback);
        match check_name(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(message) => bad(format!("client_name: {message}")),
        }
    }
}

/// A name that people are shown: short, on one line, and read in the order in which it is written.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    let misleading = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    if name.trim().is_empty() || name.chars().count() > LONGEST_NAME || name.contains(misleading) {
        return Err("a name has 1 to 100 characters, none of which is invisible or changes the direction of others");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Metadata {
        Metadata::read(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn what_known_clients_send_is_read() {
        let typescript = read(&json!({
            "client_name": "Inspector", "redirect_uris": ["http://localhost:6274/oauth/callback"],
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
            "token_endpoint_auth_method": "none", "scope": "mcp", "application_type": "native", "contacts": ["x"],
        }));
        assert_eq!(typescript.redirects(&Schemes::default()).unwrap()[0].shown(), "localhost:6274");
        assert_eq!((typescript.auth_method(), typescript.grants().unwrap().len()), (Ok(AuthMethod::None), 2));
        let python = read(&json!({"redirect_uris": ["http://localhost:3030/callback"]}));
        assert_eq!((python.auth_method(), python.grants().unwrap().len()), (Ok(AuthMethod::None), 2));
        assert_eq!(python.name("localhost:3030").as_deref(), Ok("localhost:3030"));
    }

    #[test]
    fn more_than_a_code_is_left_out_and_less_refused() {
        let grants = |types: Value| read(&json!({"grant_types": types})).grants();
        let code = GrantType::AuthorizationCode;
        assert_eq!(grants(json!(["implicit", "authorization_code", "client_credentials"])), Ok(vec![code]));
        assert!(grants(json!(["refresh_token"])).is_err() && grants(json!([])).is_err());
        assert!(read(&json!({"response_types": ["token"]})).grants().is_err());
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        let redirects = |uris: Value| read(&json!({"redirect_uris": uris})).redirects(&Schemes::default()).unwrap_err();
        let told = redirects(json!(["https://app.example/cb", "javascript:alert(1)"]));
        assert_eq!(told.code(), "invalid_redirect_uri");
        assert!(told.to_string().starts_with("redirect_uris[1]: "), "{told}");
        assert!(redirects(json!([])).to_string().contains("1 to 10"));
        assert!(redirects(json!(vec!["https://app.example/cb"; 11])).to_string().contains("1 to 10"));
        let by_position = format!("[{}null]", "null,".repeat(10));
        let twice = r#"{"client_id":"a","client_id":"b"}"#;
        for bad in ["{", "[]", r#"{"client_id":1}"#, twice, "\"x\"", &by_position] {
            assert_eq!(Metadata::read(bad.as_bytes()).unwrap_err().code(), "invalid_client_metadata", "{bad}");
        }
        for bad in ["a\nb", "evil\u{202e}gnp", "zero\u{200b}width", &"x".repeat(101)] {
            assert!(read(&json!({"client_name": bad})).name("x").is_err(), "{bad}");
        }
        assert_eq!(read(&json!({"client_name": "  Zoë ☕ "})).name("x").as_deref(), Ok("Zoë ☕"));
    }
}
