//! How the gateway proves to a server in whose name it calls: for calls of people ([`ServerSpec::auth`]), and for questions of its
//! own ([`ServerSpec::discovery_auth`]).
//!
//! [`ServerSpec::auth`]: super::ServerSpec::auth
//! [`ServerSpec::discovery_auth`]: super::ServerSpec::discovery_auth

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{ServerSpec, TransportKind, is_reserved_header};
use crate::config::is_guarded;
use crate::field::FieldError;
use crate::secret::Secret;

/// Most scopes that are asked for.
const MOST_SCOPES: usize = 64;
/// Longest text of a field, bytes.
const LONGEST: usize = 2_048;
/// Most headers of the gateway's own questions.
const MOST_HEADERS: usize = 32;
/// What says how the gateway gets a token as a client.
const CLIENT: &[&str] =
    &["issuer", "token_endpoint", "client_id", "client_secret", "client_auth", "scopes", "resource"];

/// With what the gateway comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthKind {
    /// With what stands in `headers` of the server, the same for everybody.
    #[default]
    None,
    /// With headers of its own; for the gateway's questions only.
    Headers,
    /// With a word of the gateway, signed, that says who calls.
    Identity,
    /// With a token that the gateway has as a client (RFC 6749 section 4.4), the same for everybody.
    ClientCredentials,
    /// With a token that Entra ID gives for the person (on-behalf-of).
    OnBehalfOf,
    /// With a token that is given for the person in exchange for another (RFC 8693).
    TokenExchange,
    /// With a token that is given for the person because the gateway vouches for them, as their identity provider
    /// (draft-ietf-oauth-identity-assertion-authz-grant).
    IdJag,
    /// With a token that the server's own authorization server gives for the person, who went there once (RFC 6749 section 4.1).
    AuthorizationCode,
}

impl AuthKind {
    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Headers => "headers",
            Self::Identity => "identity",
            Self::ClientCredentials => "client_credentials",
            Self::OnBehalfOf => "on_behalf_of",
            Self::TokenExchange => "token_exchange",
            Self::IdJag => "id_jag",
            Self::AuthorizationCode => "authorization_code",
        }
    }

    /// The fields that mean something with it: those of a client, and those of its own.
    fn fields(self) -> [&'static [&'static str]; 2] {
        match self {
            Self::None => [&[], &[]],
            Self::Headers => [&[], &["headers"]],
            Self::Identity => [&[], &["audience", "header", "meta", "claims"]],
            Self::ClientCredentials => [CLIENT, &["audience"]],
            Self::OnBehalfOf => [&[], &["audience", "scopes"]],
            Self::TokenExchange => [CLIENT, &["audience", "subject", "provider", "claims"]],
            Self::IdJag => [CLIENT, &["claims"]],
            Self::AuthorizationCode => {
                [&[], &["issuer", "client_id", "client_secret", "client_auth", "scopes", "resource"]]
            }
        }
    }

    /// Whether the gateway comes to an authorization server as a client.
    fn is_client(self) -> bool {
        !self.fields()[0].is_empty()
    }
}

/// How a client proves at the token endpoint who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// By its secret in a header (RFC 6749 section 2.3.1).
    Basic,
    /// By its secret in the body.
    Post,
    /// By what the gateway signs (RFC 7523 section 2.2).
    PrivateKeyJwt,
}

/// What is exchanged for a token (RFC 8693 section 2.1, `subject_token`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubjectToken {
    /// A word of the gateway, signed, that says who calls.
    Identity,
    /// The access token that the person's identity provider gave the gateway.
    Provider,
}

/// What the gateway's word says besides who it is and in which tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdentityClaim {
    /// What the account is called.
    Name,
    /// The caller's role here.
    Role,
    /// Who the person is at the identity provider that signed them in.
    Principal,
}

/// How the gateway proves in whose name it calls. Which fields there are is a matter of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// With what it comes.
    #[serde(default)]
    pub kind: AuthKind,
    /// The authorization server, whose metadata say where tokens are (RFC 8414).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Where tokens are, in place of `issuer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<String>,
    /// What the gateway is called there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Its secret there, sealed at rest, masked when read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// How it proves who it is. Where absent by its secret, as the metadata say, in a header where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
    /// What is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// For which resource (RFC 8707).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// For whom the token or the word is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// What is exchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<SubjectToken>,
    /// Whose access token, where that is exchanged: no other provider's goes there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The header of the gateway's word; `Authorization` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// Whether the word goes into `_meta` of each request, and not into a header.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub meta: bool,
    /// What the word says besides.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub claims: BTreeSet<IdentityClaim>,
    /// Headers of the gateway's own questions, sealed at rest, masked when read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
}

impl Auth {
    /// Whether nothing is said.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether each person comes with something of their own.
    pub fn is_personal(&self) -> bool {
        self.kind == AuthKind::Identity || self.hands_on_tokens()
    }

    /// The header that it fills, if it fills one.
    pub fn header_name(&self) -> Option<&str> {
        match self.kind {
            AuthKind::None | AuthKind::Headers => None,
            AuthKind::Identity if self.meta => None,
            AuthKind::Identity => Some(self.header.as_deref().unwrap_or("Authorization")),
            _ => Some("Authorization"),
        }
    }

    /// Whether tokens that others give for people come to the server. That takes an administrator of the gateway, to whom the people
    /// are entrusted: also what is given for the gateway's own word about them may be good elsewhere, and what an authorization server
    /// gives that does not ask for which server it is.
    pub fn hands_on_tokens(&self) -> bool {
        matches!(
            self.kind,
            AuthKind::OnBehalfOf | AuthKind::TokenExchange | AuthKind::IdJag | AuthKind::AuthorizationCode
        )
    }

    /// Whether the gateway proves with its own key which client it is. That takes an administrator of the gateway: there is no secret
    /// that only one tenant knows.
    pub fn signs_as_client(&self) -> bool {
        self.client_auth == Some(ClientAuth::PrivateKeyJwt)
    }

    /// Where its secret may go.
    pub fn secret_goes_to(&self) -> [Option<&str>; 2] {
        [self.issuer.as_deref(), self.token_endpoint.as_deref()]
    }

    /// Whether its secret is used for something else than with `before`: as another client, for another place, or for more. To ask for
    /// no scopes is to ask for whatever the authorization server gives.
    pub fn asks_for_more_than(&self, before: &Self) -> bool {
        let place = |auth: &Self| [&auth.client_id, &auth.audience, &auth.resource, &auth.provider].map(Clone::clone);
        let more = !self.scopes.iter().all(|scope| before.scopes.contains(scope));
        place(self) != place(before) || more || (self.scopes.is_empty() && !before.scopes.is_empty())
    }

    /// Its secrets, each with its name below the field.
    pub fn secrets(&mut self) -> impl Iterator<Item = (String, &mut Secret)> {
        let headers = self.headers.iter_mut().map(|(name, value)| (format!("headers.{name}"), value));
        self.client_secret.iter_mut().map(|secret| ("client_secret".to_owned(), secret)).chain(headers)
    }

    /// The secret of that name below the field.
    pub fn secret(&self, name: &str) -> Option<&Secret> {
        match name.strip_prefix("headers.") {
            Some(header) => self.headers.get(header),
            None => self.client_secret.as_ref().filter(|_| name == "client_secret"),
        }
    }

    /// Without its secrets.
    #[must_use]
    pub fn bare(&self) -> Self {
        Self { client_secret: None, headers: BTreeMap::new(), ..self.clone() }
    }

    /// The fields that are said, but for the kind.
    fn said(&self) -> impl Iterator<Item = &'static str> {
        [
            ("issuer", self.issuer.is_some()),
            ("token_endpoint", self.token_endpoint.is_some()),
            ("client_id", self.client_id.is_some()),
            ("client_secret", self.client_secret.is_some()),
            ("client_auth", self.client_auth.is_some()),
            ("scopes", !self.scopes.is_empty()),
            ("resource", self.resource.is_some()),
            ("audience", self.audience.is_some()),
            ("subject", self.subject.is_some()),
            ("provider", self.provider.is_some()),
            ("header", self.header.is_some()),
            ("meta", self.meta),
            ("claims", !self.claims.is_empty()),
            ("headers", !self.headers.is_empty()),
        ]
        .into_iter()
        .filter_map(|(name, said)| said.then_some(name))
    }

    /// Every mistake in it, of the field of this name.
    fn check(&self, of: &str) -> Vec<FieldError> {
        let mut found = Vec::new();
        let mut say = |field: &str, message: String| found.push(FieldError::new(format!("{of}.{field}"), message));
        let known = self.kind.fields().concat();
        for field in self.said().filter(|field| !known.contains(field)) {
            let kind = self.kind.word();
            let rest = if known.is_empty() { String::new() } else { format!("; it takes {}", known.join(", ")) };
            say(field, format!("means nothing with the kind `{kind}`{rest}"));
        }
        let texts = [
            ("issuer", &self.issuer),
            ("token_endpoint", &self.token_endpoint),
            ("client_id", &self.client_id),
            ("resource", &self.resource),
            ("audience", &self.audience),
            ("provider", &self.provider),
        ];
        for (field, text) in texts.iter().filter_map(|(field, text)| Some((field, text.as_deref()?))) {
            if text.is_empty() || text.len() > LONGEST || text.contains(|letter: char| letter.is_control()) {
                say(field, format!("must be 1 to {LONGEST} bytes without control characters"));
            }
        }
        for (field, text) in [("issuer", &self.issuer), ("token_endpoint", &self.token_endpoint)] {
            if let Some(Err(message)) = text.as_deref().map(|text| check_place(text, field == "issuer")) {
                say(field, message);
            }
        }
        if let Some(Err(_)) = self.resource.as_deref().map(Url::parse) {
            say("resource", "must be an absolute URL (RFC 8707)".into());
        }
        if self.scopes.len() > MOST_SCOPES {
            say("scopes", format!("at most {MOST_SCOPES}"));
        }
        let is_scope = |scope: &String| {
            !scope.is_empty() && scope.len() <= LONGEST && scope.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !self.scopes.iter().all(is_scope) {
            say("scopes", "a scope has no spaces; give each as an item of its own".into());
        }
        if self.client_secret.as_ref().is_some_and(|secret| secret.expose().is_empty()) {
            say("client_secret", "is empty".into());
        }
        match self.kind {
            AuthKind::Headers if self.headers.is_empty() => say("headers", "give at least one header".into()),
            AuthKind::OnBehalfOf if self.audience.is_none() && self.scopes.is_empty() => {
                say("audience", "name the application behind the server: its App ID URI or its id".into());
            }
            AuthKind::AuthorizationCode => {
                if self.client_id.is_some() && self.issuer.is_none() {
                    say("issuer", "name the authorization server at which the gateway has this `client_id`".into());
                }
                if self.client_secret.is_some() && self.client_id.is_none() {
                    say("client_id", "say what the gateway is called at the authorization server".into());
                }
                if self.signs_as_client() {
                    say("client_auth", "use `basic` or `post`".into());
                }
            }
            kind if kind.is_client() => self.check_client(&mut say),
            _ => {}
        }
        if self.kind == AuthKind::TokenExchange
            && (self.subject == Some(SubjectToken::Provider)) != self.provider.is_some()
        {
            say(
                "provider",
                "name the identity provider whose tokens are exchanged with `subject: provider`, and only then".into(),
            );
        }
        if self.subject == Some(SubjectToken::Provider) && !self.claims.is_empty() {
            say(
                "claims",
                "the identity provider's token says what it says; `claims` goes with `subject: identity`".into(),
            );
        }
        if self.meta && self.header.is_some() {
            say("header", "the word goes into `_meta`: give `header` or `meta`, not both".into());
        }
        if let Some(name) = &self.header
            && (http::HeaderName::from_bytes(name.as_bytes()).is_err() || is_reserved_header(name))
        {
            say("header", "no header that may be filled here".into());
        }
        if self.headers.len() > MOST_HEADERS {
            say("headers", format!("at most {MOST_HEADERS}"));
        }
        found.extend(check_headers(&format!("{of}.headers"), &self.headers));
        found
    }

    fn check_client(&self, say: &mut impl FnMut(&str, String)) {
        match (&self.issuer, &self.token_endpoint) {
            (None, Some(_)) if self.kind == AuthKind::IdJag => {
                say("issuer", "name the authorization server: what vouches for a person is for it alone".into());
            }
            (None, None) => say("issuer", "name the authorization server, or its `token_endpoint`".into()),
            (Some(_), Some(_)) => say("token_endpoint", "give this or `issuer`, not both".into()),
            _ => {}
        }
        if self.client_id.is_none() {
            say("client_id", "say what the gateway is called at the authorization server".into());
        }
        match (self.signs_as_client(), &self.client_secret) {
            (true, Some(_)) => say("client_secret", "the gateway proves who it is with its key: leave it out".into()),
            // Some authorization servers exchange tokens for whoever shows them.
            (false, None) if self.kind != AuthKind::TokenExchange => say(
                "client_secret",
                "give the secret by which the authorization server knows the gateway, or `client_auth: private_key_jwt`"
                    .into(),
            ),
            _ => {}
        }
    }
}

/// The mistakes in headers, of the field of this name.
pub(super) fn check_headers(of: &str, headers: &BTreeMap<String, Secret>) -> Vec<FieldError> {
    let mut found = Vec::new();
    let mut names = BTreeMap::new();
    for (name, value) in headers {
        let message = if let Some(other) = names.insert(name.to_ascii_lowercase(), name) {
            format!("the same header as `{other}`: its name may be written in any case, but once")
        } else if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            "not a valid header name".to_owned()
        } else if is_reserved_header(name) {
            "the gateway sets this header itself".to_owned()
        } else if http::HeaderValue::from_str(value.expose()).is_err() {
            "the value holds a character that no header may hold".to_owned()
        } else {
            continue;
        };
        found.push(FieldError::new(format!("{of}.{name}"), message));
    }
    found
}

fn check_place(text: &str, is_issuer: bool) -> Result<(), String> {
    let url = Url::parse(text).map_err(|error| format!("not an absolute URL: {error}"))?;
    if !is_guarded(&url) {
        return Err("must be an https URL (http only on a loopback address)".into());
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("must hold neither credentials nor a fragment".into());
    }
    if is_issuer && url.query().is_some() {
        return Err("an issuer has no query (RFC 8414)".into());
    }
    Ok(())
}

impl ServerSpec {
    /// Both ways to prove in whose name the gateway comes, each with the name of its field.
    pub fn auths(&self) -> [(&'static str, &Auth); 2] {
        [("auth", &self.auth), ("discovery_auth", &self.discovery_auth)]
    }

    /// The same, to be changed.
    pub fn auths_mut(&mut self) -> [(&'static str, &mut Auth); 2] {
        [("auth", &mut self.auth), ("discovery_auth", &mut self.discovery_auth)]
    }

    /// Whether the gateway's word for people may be for others than this server: whoever gets it could show it there.
    pub fn vouches_elsewhere(&self) -> bool {
        if self.auth.kind != AuthKind::Identity {
            return false;
        }
        let place = |text: &str| Url::parse(text).ok();
        let audience = self.word_is_for().and_then(place);
        // Others may live behind the same host, and each replica reads the word.
        audience.is_none() || !self.replicas.iter().all(|replica| place(&replica.url) == audience)
    }

    /// For whom the gateway's word is.
    pub fn word_is_for(&self) -> Option<&str> {
        self.auth.audience.as_deref().or(self.first_url())
    }

    /// Where it is.
    pub fn first_url(&self) -> Option<&str> {
        self.replicas.first().map(|replica| replica.url.as_str())
    }

    /// The mistakes in both.
    pub(super) fn check_auth(&self) -> Vec<FieldError> {
        let mut found = Vec::new();
        for (field, auth) in self.auths() {
            if self.transport == TransportKind::Stdio && !auth.is_none() {
                let text =
                    "a stdio server gets its credentials with `env`: this is for servers that are reached over HTTP";
                found.push(FieldError::new(field, text));
                continue;
            }
            found.extend(auth.check(field));
        }
        let mut say = |field: &str, message: &str| found.push(FieldError::new(field, message));
        if self.auth.kind == AuthKind::Headers {
            say("auth.kind", "headers that are the same for everybody go into `headers` of the server");
        }
        if self.transport == TransportKind::Sse && self.auth.is_personal() {
            say("auth.kind", "people share a stream of HTTP with SSE: only `client_credentials` goes with `sse`");
        }
        if self.transport == TransportKind::Sse && self.discovery_auth.kind != AuthKind::None {
            say(
                "discovery_auth.kind",
                "calls and the gateway's own questions share a stream of HTTP with SSE: leave it out",
            );
        }
        if self.auth.is_personal()
            && !self.replicas.iter().filter_map(|replica| Url::parse(&replica.url).ok()).all(|url| is_guarded(&url))
        {
            say("replicas", "what is shown for people goes to https URLs only (http on a loopback address)");
        }
        if !matches!(self.discovery_auth.kind, AuthKind::None | AuthKind::Headers | AuthKind::ClientCredentials) {
            say("discovery_auth.kind", "the gateway asks in its own name: use `headers` or `client_credentials`");
        }
        if let Some(name) = self.auth.header_name()
            && self.headers.keys().any(|own| own.eq_ignore_ascii_case(name))
        {
            let text = "`auth` fills this header; leave it out here, or the value would stand for whoever has none of their own";
            say(&format!("headers.{name}"), text);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn mistakes(changes: &Value) -> Vec<String> {
        let mut spec = json!({"slug": "a", "replicas": [{"url": "https://a.example/mcp"}]});
        spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let spec: ServerSpec = serde_json::from_value(spec).unwrap();
        spec.check().into_iter().map(|mistake| mistake.field).collect()
    }

    #[test]
    fn each_kind_has_its_own_fields_and_every_mistake_is_told() {
        let client = json!({"kind": "client_credentials", "issuer": "https://as.example", "client_id": "g", "client_secret": "s"});
        for good in [
            json!({"auth": {"kind": "none"}}),
            json!({"auth": {"kind": "identity"}}),
            json!({"auth": {"kind": "identity", "header": "X-Caller", "claims": ["role", "name"], "audience": "payroll"}}),
            json!({"auth": {"kind": "identity", "meta": true}, "headers": {"Authorization": "Bearer x"}}),
            json!({"auth": client, "discovery_auth": {"kind": "headers", "headers": {"Authorization": "Bearer x"}}}),
            json!({"auth": {"kind": "on_behalf_of", "audience": "api://orders"}, "discovery_auth": client}),
            json!({"auth": {"kind": "token_exchange", "token_endpoint": "http://127.0.0.1/token", "client_id": "g", "subject": "provider", "provider": "entra"}}),
            json!({"replicas": [{"url": "http://127.0.0.1/mcp"}], "auth": {"kind": "identity"}}),
            json!({"replicas": [{"url": "http://a.example/mcp"}], "auth": client}),
            json!({"transport": "sse", "auth": client}),
            json!({"auth": {"kind": "client_credentials", "issuer": "https://as.example", "client_id": "g", "client_auth": "private_key_jwt"}}),
            json!({"auth": {"kind": "id_jag", "issuer": "https://as.example", "client_id": "g", "client_secret": "s", "claims": ["name"]}}),
            json!({"auth": {"kind": "authorization_code"}}),
            json!({"auth": {"kind": "authorization_code", "scopes": ["a"], "resource": "https://a.example"}}),
            json!({"auth": {"kind": "authorization_code", "issuer": "https://as.example", "client_id": "g", "client_secret": "s"}}),
        ] {
            assert_eq!(mistakes(&good), [""; 0], "{good}");
        }
        for (bad, fields) in [
            (json!({"auth": {"kind": "none", "client_id": "g"}}), vec!["auth.client_id"]),
            (
                json!({"auth": {"kind": "client_credentials", "issuer": "http://as.example", "scopes": ["a b"], "header": "X"}}),
                vec!["auth.header", "auth.issuer", "auth.scopes", "auth.client_id", "auth.client_secret"],
            ),
            (
                json!({"auth": {"kind": "client_credentials", "issuer": "https://a", "client_id": "g", "client_auth": "private_key_jwt", "client_secret": "s"}}),
                vec!["auth.client_secret"],
            ),
            (
                json!({"auth": {"kind": "id_jag", "token_endpoint": "https://a/token", "client_id": "g", "audience": "x"}}),
                vec!["auth.audience", "auth.issuer", "auth.client_secret"],
            ),
            (json!({"auth": {"kind": "on_behalf_of", "issuer": "https://a"}}), vec!["auth.issuer", "auth.audience"]),
            (json!({"auth": {"kind": "identity", "header": "Mcp-Name"}}), vec!["auth.header"]),
            (json!({"auth": {"kind": "identity"}, "headers": {"authorization": "x"}}), vec!["headers.Authorization"]),
            (json!({"auth": {"kind": "headers", "headers": {"a": "b"}}}), vec!["auth.kind"]),
            (json!({"auth": {"kind": "identity"}, "transport": "sse"}), vec!["auth.kind"]),
            (json!({"auth": {"kind": "authorization_code", "client_secret": "s"}}), vec!["auth.client_id"]),
            (
                json!({"auth": {"kind": "authorization_code", "client_id": "g", "audience": "x"}}),
                vec!["auth.audience", "auth.issuer"],
            ),
            (json!({"discovery_auth": {"kind": "identity"}}), vec!["discovery_auth.kind"]),
            (json!({"discovery_auth": {"kind": "authorization_code"}}), vec!["discovery_auth.kind"]),
            (json!({"transport": "sse", "discovery_auth": client}), vec!["discovery_auth.kind"]),
            (
                json!({"auth": {"kind": "identity"}, "transport": "stdio", "replicas": [], "command": {"program": "x"}}),
                vec!["auth"],
            ),
        ] {
            assert_eq!(mistakes(&bad), fields, "{bad}");
        }
        assert!(serde_json::from_value::<Auth>(json!({"kind": "identity", "signature": "x"})).is_err());
    }

    #[test]
    fn what_is_for_people_goes_over_https_and_an_exchange_is_of_one_provider() {
        let plain = json!([{"url": "https://a.example/mcp"}, {"url": "http://a.example/mcp"}]);
        let jag = json!({"kind": "id_jag", "issuer": "https://as.example", "client_id": "g", "client_secret": "s"});
        for auth in [json!({"kind": "identity"}), json!({"kind": "on_behalf_of", "audience": "api://orders"}), jag] {
            assert_eq!(mistakes(&json!({"auth": auth, "replicas": plain})), ["replicas"], "{auth}");
        }
        let exchange = |more: Value| {
            let mut auth = json!({"kind": "token_exchange", "issuer": "https://as.example", "client_id": "g"});
            auth.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            mistakes(&json!({ "auth": auth }))
        };
        assert!(
            exchange(json!({})).is_empty() && exchange(json!({"subject": "provider", "provider": "oidc"})).is_empty()
        );
        assert_eq!(exchange(json!({"subject": "provider"})), ["auth.provider"]);
        let told = json!({"subject": "provider", "provider": "oidc", "claims": ["name"]});
        assert_eq!(exchange(told), ["auth.claims"]);
        assert_eq!(exchange(json!({"subject": "identity", "provider": "oidc"})), ["auth.provider"]);
    }

    #[test]
    fn a_word_for_another_place_is_told_from_one_for_the_server() {
        let to = |audience: Value, urls: &[&str]| {
            let auth = json!({"kind": "identity", "audience": audience});
            let replicas: Vec<Value> = urls.iter().map(|url| json!({"url": url})).collect();
            let spec = json!({"slug": "a", "auth": auth, "replicas": replicas});
            serde_json::from_value::<ServerSpec>(spec).unwrap().vouches_elsewhere()
        };
        let spec = |audience: Value| to(audience, &["https://a.example/mcp"]);
        assert!(!spec(Value::Null) && !spec("https://a.example/mcp".into()));
        assert!(spec("https://payroll.example/mcp".into()) && spec("payroll".into()) && spec("urn:payroll".into()));
        assert!(
            spec("https://a.example/payroll/mcp".into()) && spec("https://a.example".into()),
            "another on its host"
        );
        let both = ["https://payroll.example/mcp", "https://a.example/mcp"];
        assert!(to(Value::Null, &both) && to(both[0].into(), &both), "each replica reads the word for the first");
    }
}
