//! People are sent to an authorization server, and come back with a code (RFC 6749 section 4.1, with proof keys, RFC 7636, and for one
//! resource, RFC 8707). What it is redeemed for is renewed, and given back. A client that nobody registered there registers itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use url::Url;
use zeroize::Zeroizing;

use super::authority::Authority;
use super::classify::{at_callback, classify, classify_hiding, shown};
use super::credential::Credential;
use super::discovery::takes_secret_in_body;
use super::endpoint::{Given, Place, TokenEndpoint, secrets};
use super::error::IdpError;
use super::http::Http;
use super::jwt::Unverified;
use crate::crypto::new_secret;
use crate::secret::Secret;

/// Largest answer to a registration, bytes.
const MOST: usize = 64 << 10;
/// Most clients of one authorization server whose pauses are remembered.
const MOST_CLIENTS: usize = 64;
/// Longest text of another's that is kept, characters.
const LONGEST: usize = 2_000;
/// With this scope tokens can be renewed while nobody is there.
const OFFLINE: &str = "offline_access";

/// What the gateway is called at an authorization server, and how it proves that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeClient {
    /// Its id there.
    pub id: String,
    /// Its secret there; none for a public client.
    pub secret: Option<Secret>,
    /// Whether that goes into the body of the form.
    pub secret_in_body: bool,
}

/// What somebody is sent with, and what is needed of it when they come back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sent {
    /// As which client.
    pub client: CodeClient,
    /// Where the answer comes.
    pub redirect_uri: String,
    /// For which resource.
    pub resource: String,
    /// What was asked for.
    pub scopes: Vec<String>,
    /// What proves that the code is redeemed by who sent them.
    pub verifier: Secret,
}

impl Sent {
    /// With a new verifier.
    pub fn new(client: CodeClient, redirect_uri: String, resource: String, scopes: Vec<String>) -> Self {
        Self { client, redirect_uri, resource, scopes, verifier: new_secret() }
    }

    /// Where the browser goes.
    pub fn url(&self, to: &Authority, state: &Secret) -> Url {
        let mut url = to.authorization_endpoint.clone();
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.expose()));
        let mut query = url.query_pairs_mut();
        query.append_pair("response_type", "code").append_pair("client_id", &self.client.id);
        query.append_pair("redirect_uri", &self.redirect_uri).append_pair("state", state.expose());
        query.append_pair("code_challenge", &challenge).append_pair("code_challenge_method", "S256");
        query.append_pair("resource", &self.resource);
        if !self.scopes.is_empty() {
            query.append_pair("scope", &self.scopes.join(" "));
        }
        // Without it OpenID providers leave the scope out (OpenID Connect Core 1.0 section 11).
        if self.scopes.iter().any(|scope| scope == OFFLINE) {
            query.append_pair("prompt", "consent");
        }
        drop(query);
        url
    }
}

/// The scopes to ask for: with what keeps people connected, where the authorization server knows that.
pub fn with_offline(mut scopes: Vec<String>, to: &Authority) -> Vec<String> {
    if to.scopes_supported.iter().any(|scope| scope == OFFLINE) && !scopes.iter().any(|scope| scope == OFFLINE) {
        scopes.push(OFFLINE.to_owned());
    }
    scopes
}

/// What is given for a code, or in place of what was given before. Serialising writes it: the caller seals that.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CodeTokens {
    /// For the server.
    pub access: Secret,
    /// When that ends; none where nobody says.
    pub expires_at: Option<OffsetDateTime>,
    /// For the next ones.
    pub refresh: Option<Secret>,
    /// What they are good for, as far as that was said.
    pub scopes: Vec<String>,
    /// Who it is there, to be shown and not to decide by.
    pub person: Option<String>,
}

impl CodeTokens {
    fn of(given: Given, asked: &[String], before: Option<&Self>, now: OffsetDateTime) -> Result<Self, IdpError> {
        let said = given.says_when();
        let scopes = given.scope.as_deref().map(|text| text.split_ascii_whitespace().map(str::to_owned).collect());
        let refresh = given.refresh_token.clone().or_else(|| before.and_then(|before| before.refresh.clone()));
        let person = given.id_token.as_ref().and_then(|token| who(token.expose()));
        let access = given.access(now)?;
        Ok(Self {
            // Where there is something to renew it with, it is renewed after a while even if nobody says when it ends.
            expires_at: (said || refresh.is_some()).then_some(access.expires_at),
            access: access.token,
            refresh,
            scopes: scopes.unwrap_or_else(|| before.map_or_else(|| asked.to_vec(), |before| before.scopes.clone())),
            person: person.or_else(|| before.and_then(|before| before.person.clone())),
        })
    }
}

/// Who an ID token is about. It came from the token endpoint itself over TLS (OpenID Connect Core 1.0 section 3.1.3.7).
fn who(id_token: &str) -> Option<String> {
    let read = Unverified::read_from_provider(id_token).ok()?;
    let text = ["email", "preferred_username", "name", "sub"].into_iter().find_map(|name| read.said(name))?;
    Some(shown(text))
}

/// A client, and what is remembered of how it was answered.
type Known = (CodeClient, Arc<TokenEndpoint>);

/// What an authorization server is asked. Cheap to clone; clones share its pauses.
#[derive(Clone)]
pub struct Codes {
    http: Http,
    endpoints: Arc<Mutex<Vec<Known>>>,
}

impl Codes {
    pub(super) fn new(http: Http) -> Self {
        Self { http, endpoints: Arc::default() }
    }

    pub(super) fn http(&self) -> &Http {
        &self.http
    }

    /// What is given for a code.
    pub async fn redeem(
        &self,
        at: &Authority,
        sent: &Sent,
        code: &Secret,
        now: OffsetDateTime,
    ) -> Result<CodeTokens, IdpError> {
        let grant = [
            ("grant_type", "authorization_code"),
            ("code", code.expose()),
            ("redirect_uri", &sent.redirect_uri),
            ("code_verifier", sent.verifier.expose()),
            ("resource", &sent.resource),
        ];
        CodeTokens::of(self.ask(at, &sent.client, &grant, now).await?, &sent.scopes, None, now)
    }

    /// What is given in place of these. What nothing new is given for stays.
    pub async fn refresh(
        &self,
        at: &Authority,
        client: &CodeClient,
        resource: &str,
        tokens: &CodeTokens,
        now: OffsetDateTime,
    ) -> Result<CodeTokens, IdpError> {
        let refresh = tokens.refresh.as_ref().map(Secret::expose).unwrap_or_default();
        let grant = [("grant_type", "refresh_token"), ("refresh_token", refresh), ("resource", resource)];
        CodeTokens::of(self.ask(at, client, &grant, now).await?, &[], Some(tokens), now)
    }

    /// Gives tokens back (RFC 7009). Where that is not offered, nothing is done.
    pub async fn revoke(
        &self,
        at: &Authority,
        client: &CodeClient,
        tokens: &CodeTokens,
        now: OffsetDateTime,
    ) -> Result<(), IdpError> {
        let Some(url) = &at.revocation_endpoint else { return Ok(()) };
        let (token, hint) = match &tokens.refresh {
            Some(refresh) => (refresh, "refresh_token"),
            None => (&tokens.access, "access_token"),
        };
        let credential = credential_of(client);
        let proof = credential.prove(0, &client.id, place_of(at, client), now).await?;
        let form = {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("token", token.expose()).append_pair("token_type_hint", hint);
            form.append_pair("client_id", &client.id);
            form.extend_pairs(proof.fields.iter().map(|(name, value)| (name, value.expose())));
            Zeroizing::new(form.finish())
        };
        let answer = self.http.form(url, &form, proof.header, MOST).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        let sent = proof.fields.iter().map(|(_, value)| value.expose()).chain([token.expose()]);
        Err(classify_hiding(&answer, &secrets(sent.chain(credential.texts())), now))
    }

    /// Registers the gateway (RFC 7591): its client there, and when the secret ends, if it does.
    pub async fn register(
        &self,
        at: &Authority,
        registration: &Registration<'_>,
        now: OffsetDateTime,
    ) -> Result<(CodeClient, Option<OffsetDateTime>), IdpError> {
        let Some(url) = &at.registration_endpoint else {
            return Err(IdpError::configuration(format!("{} lets no client register itself", at.issuer)));
        };
        let methods = &at.token_endpoint_auth_methods_supported;
        // Where nothing is said, a secret in a header is what every one takes (RFC 8414 section 2).
        let takes = |method: &str| methods.iter().any(|known| known == method);
        let method = match methods.is_empty() || takes("client_secret_basic") {
            true => "client_secret_basic",
            false if takes("client_secret_post") => "client_secret_post",
            false => "none",
        };
        let wanted = serde_json::json!({
            "client_name": registration.name,
            "client_uri": registration.home,
            "redirect_uris": [registration.redirect_uri],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": method,
            "application_type": "web",
        });
        let answer = self.http.post_json(url, wanted.to_string(), MOST).await?;
        if !matches!(answer.status, StatusCode::OK | StatusCode::CREATED) {
            return Err(classify(&answer, now));
        }
        // The error of the parser would quote what it read.
        let given: Registered = serde_json::from_slice(&answer.body)
            .map_err(|_| IdpError::temporary(format!("the registration at {} cannot be read", at.issuer)))?;
        if given.client_id.is_empty() || given.client_id.len() > LONGEST {
            return Err(IdpError::configuration(format!("{} registers the gateway under no usable id", at.issuer)));
        }
        let method = given.token_endpoint_auth_method.as_deref().unwrap_or(method);
        let secret = given.client_secret.filter(|_| method != "none");
        let ends = given.client_secret_expires_at.filter(|at| *at > 0 && secret.is_some());
        let ends = ends.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
        Ok((CodeClient { id: given.client_id, secret, secret_in_body: method == "client_secret_post" }, ends))
    }

    async fn ask(
        &self,
        at: &Authority,
        client: &CodeClient,
        grant: &[(&str, &str)],
        now: OffsetDateTime,
    ) -> Result<Given, IdpError> {
        self.endpoint(client).ask(&self.http, place_of(at, client), grant, now).await
    }

    fn endpoint(&self, client: &CodeClient) -> Arc<TokenEndpoint> {
        let mut all = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, endpoint)) = all.iter().find(|(own, _)| own == client) {
            return Arc::clone(endpoint);
        }
        if all.len() >= MOST_CLIENTS {
            all.clear();
        }
        let without = "nobody who is connected there gets a token";
        let endpoint = Arc::new(TokenEndpoint::new(client.id.clone(), credential_of(client), without));
        all.push((client.clone(), Arc::clone(&endpoint)));
        endpoint
    }
}

/// A client that an administrator registered: its secret goes where it was said to, or where the authorization server takes it.
pub fn configured(id: &str, secret: Option<&Secret>, in_body: Option<bool>, at: &Authority) -> CodeClient {
    let secret_in_body = in_body.unwrap_or_else(|| takes_secret_in_body(&at.token_endpoint_auth_methods_supported));
    CodeClient { id: id.to_owned(), secret: secret.cloned(), secret_in_body }
}

/// What an error means that a browser came back with.
pub fn refused_at_callback(error: &str, description: Option<&str>) -> IdpError {
    at_callback(error, description)
}

/// Where a client gets tokens there.
fn place_of<'a>(at: &'a Authority, client: &CodeClient) -> Place<'a> {
    Place { url: &at.token_endpoint, secret_in_body: client.secret_in_body, audience: &at.issuer }
}

fn credential_of(client: &CodeClient) -> Credential {
    client.secret.clone().map_or(Credential::Nothing, |secret| Credential::secrets([secret]))
}

/// How the gateway describes itself.
#[derive(Debug, Clone, Copy)]
pub struct Registration<'a> {
    /// What people read.
    pub name: &'a str,
    /// Where it is.
    pub home: &'a str,
    /// Where answers come.
    pub redirect_uri: &'a str,
}

#[derive(Deserialize)]
struct Registered {
    client_id: String,
    client_secret: Option<Secret>,
    client_secret_expires_at: Option<i64>,
    token_endpoint_auth_method: Option<String>,
}

/// For how long an access token is good for which nobody says when it ends and which nothing renews: then it is looked at again.
pub const UNSAID: Duration = Duration::from_hours(1);
