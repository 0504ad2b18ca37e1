//! What authorization servers say of themselves (RFC 8414, OpenID Connect Discovery 1.0), as far as it takes to send people there and to
//! get tokens. It is read at most once an hour; the last good word serves while they are ill.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ahash::AHashMap;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use url::Url;

use super::classify::shown;
use super::code::Codes;
use super::error::{Class, IdpError};
use super::http::Http;
use super::kept::Kept;
use crate::config::{is_guarded, is_loopback};
use crate::net::{AddressPolicy, Outbound};

/// Largest metadata, bytes.
const MOST: usize = 64 << 10;
/// Age at which they are asked for again.
const FRESH: Duration = Duration::from_hours(1);
/// Most authorization servers whose word is kept; where there are more, it is asked for anew.
const MOST_KNOWN: usize = 1_000;
/// Where metadata of authorization servers are (RFC 8414 section 3), and those of OpenID providers.
const OAUTH: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";

/// Who said where an authorization server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NamedBy {
    /// An administrator: it may be inside the network.
    Administrator,
    /// A server. It leads nowhere inside.
    Server,
    /// A server on this machine, of one on this machine. It leads nowhere else.
    Neighbour,
}

/// What is used of metadata.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Authority {
    /// What it calls itself.
    pub issuer: String,
    /// Where people go.
    pub authorization_endpoint: Url,
    /// Where tokens are.
    pub token_endpoint: Url,
    /// Where clients register themselves (RFC 7591).
    #[serde(default)]
    pub registration_endpoint: Option<Url>,
    /// Where tokens are given back (RFC 7009).
    #[serde(default)]
    pub revocation_endpoint: Option<Url>,
    /// How a client shows at the token endpoint who it is.
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// What may be asked for.
    #[serde(default)]
    pub scopes_supported: Vec<String>,
    /// Whether a client may be known by the URL of its description.
    #[serde(default)]
    pub client_id_metadata_document_supported: bool,
    /// Whether its answers say from whom they are (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
    #[serde(default)]
    code_challenge_methods_supported: Vec<String>,
}

impl Authority {
    fn read(body: &[u8], issuer: &str) -> Result<Self, IdpError> {
        let found: Self = serde_json::from_slice(body).map_err(|error| {
            let text = format!("the metadata of the authorization server {issuer} cannot be used: {error}");
            IdpError::configuration(text)
        })?;
        must_be_of(&found.issuer, issuer)?;
        let wrong = |text: String| Err(IdpError::configuration(format!("the authorization server {issuer} {text}")));
        if let Some(url) = found.asked().chain([&found.authorization_endpoint]).find(|url| !is_guarded(url)) {
            return wrong(format!("names `{}` in its metadata, which is no https URL", shown(url.as_str())));
        }
        if !found.code_challenge_methods_supported.iter().any(|method| method == "S256") {
            return wrong(
                "does not say that it checks proof keys (PKCE, `code_challenge_methods_supported` with S256)".into(),
            );
        }
        Ok(found)
    }

    /// Where the gateway itself goes.
    fn asked(&self) -> impl Iterator<Item = &Url> {
        let others = [self.registration_endpoint.as_ref(), self.revocation_endpoint.as_ref()];
        others.into_iter().flatten().chain([&self.token_endpoint])
    }

    /// Refuses to send people to another's page, from which an answer could be taken for this one's: to another origin than the issuer's,
    /// unless answers say whose they are (RFC 9700 section 4.4), or an administrator named it.
    pub fn must_lead_home(&self, named_by: NamedBy) -> Result<(), IdpError> {
        let to = &self.authorization_endpoint;
        let is_home = Url::parse(&self.issuer).is_ok_and(|issuer| issuer.origin() == to.origin());
        if is_home || named_by == NamedBy::Administrator || self.authorization_response_iss_parameter_supported {
            return Ok(());
        }
        let (issuer, to) = (&self.issuer, shown(to.as_str()));
        let text = format!(
            "the authorization server {issuer} sends people to another place, `{to}`, whose answers do not say from whom they are (iss); \
             name it with `issuer` if it is to be believed"
        );
        Err(IdpError::configuration(text))
    }

    /// Refuses to be led into the network by what is on this machine.
    fn must_be_near(&self) -> Result<(), IdpError> {
        let Some(url) = self.asked().find(|url| !is_loopback(url)) else { return Ok(()) };
        let (issuer, url) = (&self.issuer, shown(url.as_str()));
        let text = format!("the authorization server {issuer} is on this machine, and `{url}`, which it names, is not");
        Err(IdpError::configuration(text))
    }
}

/// Refuses metadata of another issuer: byte for byte, but for the slash that a URL without a path has (RFC 8414 section 3.3).
pub(super) fn must_be_of(found: &str, issuer: &str) -> Result<(), IdpError> {
    if found.trim_end_matches('/') == issuer.trim_end_matches('/') {
        return Ok(());
    }
    let text = format!("the metadata of the authorization server {issuer} are of `{}`, which is another", shown(found));
    Err(IdpError::configuration(text))
}

/// The metadata of an issuer, from the first place that has any: its path comes behind the well-known part, in OpenID Connect before it.
pub(super) async fn metadata(http: &Http, issuer: &Url) -> Result<Bytes, IdpError> {
    let mut first = None;
    for place in described_at(issuer) {
        match http.document(&place, MOST).await {
            Ok(body) => return Ok(body),
            Err(error) if matches!(error.class, Class::Temporary { .. }) => return Err(first.unwrap_or(error)),
            // What it says of the first is what is told of all.
            Err(error) => _ = first.get_or_insert(error),
        }
    }
    Err(first.unwrap_or_else(|| IdpError::configuration(format!("{issuer} has no metadata"))))
}

/// Where they may be, the likeliest first.
fn described_at(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/');
    let mut places = vec![format!("{OAUTH}{path}")];
    if !path.is_empty() {
        places.push(format!("{OPENID}{path}"));
    }
    places.push(format!("{path}{OPENID}"));
    let at = |path: &String| {
        let mut url = issuer.clone();
        url.set_path(path);
        url
    };
    places.iter().map(at).collect()
}

/// The authorization servers that were asked. Cheap to clone; clones are one.
#[derive(Clone)]
pub struct Authorities(Arc<Inner>);

struct Inner {
    outbound: Outbound,
    known: Mutex<AHashMap<(String, NamedBy), Arc<Known>>>,
}

struct Known {
    codes: Codes,
    metadata: Kept<Arc<Authority>>,
}

impl Authorities {
    /// None is asked anything yet.
    pub fn new(outbound: &Outbound) -> Self {
        Self(Arc::new(Inner { outbound: outbound.clone(), known: Mutex::default() }))
    }

    /// For questions to whoever was named by this one.
    pub(super) fn http(&self, named_by: NamedBy) -> Http {
        let policy = match named_by {
            NamedBy::Administrator | NamedBy::Neighbour => AddressPolicy::ADMIN,
            NamedBy::Server => AddressPolicy::STRANGER,
        };
        Http::new(&self.0.outbound).under(policy)
    }

    /// What the issuer says of itself, and what it is asked with.
    pub async fn of(&self, issuer: &str, named_by: NamedBy) -> Result<(Arc<Authority>, Codes), IdpError> {
        let url = Url::parse(issuer).ok().filter(|url| is_guarded(url) && url.query().is_none());
        let url = url.ok_or_else(|| {
            IdpError::configuration(format!("`{}` is no authorization server: it must be an https URL", shown(issuer)))
        })?;
        let known = self.known(issuer, named_by);
        let fetch = async {
            let found = Authority::read(&metadata(known.codes.http(), &url).await?, issuer)?;
            if named_by == NamedBy::Neighbour {
                found.must_be_near()?;
            }
            Ok(Arc::new(found))
        };
        let (seen, now) = (known.metadata.newest(), Instant::now());
        if let Some(seen) = seen.as_ref().filter(|seen| !seen.is_older(FRESH, now)) {
            return Ok((Arc::clone(&seen.value), known.codes.clone()));
        }
        let found = match (known.metadata.newer(seen.as_ref(), now, fetch).await, seen) {
            (Err(error), Some(seen)) => {
                tracing::warn!(error = error.detail, "the last metadata of an authorization server are used on");
                seen
            }
            (outcome, _) => outcome?,
        };
        Ok((Arc::clone(&found.value), known.codes.clone()))
    }

    fn known(&self, issuer: &str, named_by: NamedBy) -> Arc<Known> {
        let mut all = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (issuer.to_owned(), named_by);
        if all.len() >= MOST_KNOWN && !all.contains_key(&key) {
            all.clear();
        }
        let new = || Arc::new(Known { codes: Codes::new(self.http(named_by)), metadata: Kept::default() });
        Arc::clone(all.entry(key).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_are_where_the_specifications_say() {
        let at = |issuer: &str| -> Vec<String> {
            described_at(&Url::parse(issuer).unwrap()).into_iter().map(String::from).collect()
        };
        assert_eq!(
            at("https://as.example"),
            [
                "https://as.example/.well-known/oauth-authorization-server",
                "https://as.example/.well-known/openid-configuration"
            ]
        );
        assert_eq!(
            at("https://as.example/t/1/"),
            [
                "https://as.example/.well-known/oauth-authorization-server/t/1",
                "https://as.example/.well-known/openid-configuration/t/1",
                "https://as.example/t/1/.well-known/openid-configuration"
            ]
        );
    }

    #[test]
    fn who_is_on_this_machine_names_nothing_in_the_network() {
        let named = |name: &str, place: &str| {
            let mut text = json!({
                "issuer": "http://127.0.0.1:1", "authorization_endpoint": "https://as.example/a",
                "token_endpoint": "http://127.0.0.1:1/t", "code_challenge_methods_supported": ["S256"],
            });
            text[name] = place.into();
            Authority::read(text.to_string().as_bytes(), "http://127.0.0.1:1").unwrap().must_be_near()
        };
        named("token_endpoint", "http://localhost:2/t").unwrap();
        for name in ["token_endpoint", "registration_endpoint", "revocation_endpoint"] {
            assert!(named(name, "https://10.0.0.1/x").is_err(), "{name}");
        }
    }

    #[test]
    fn people_are_sent_to_the_origin_of_who_asks_for_them() {
        let leads = |to: &str, says_whose: bool, named_by| {
            let text = json!({
                "issuer": "https://as.example/t", "authorization_endpoint": to, "token_endpoint": "https://as.example/t",
                "code_challenge_methods_supported": ["S256"], "authorization_response_iss_parameter_supported": says_whose,
            });
            let read = Authority::read(text.to_string().as_bytes(), "https://as.example/t");
            read.unwrap().must_lead_home(named_by).is_ok()
        };
        assert!(leads("https://as.example/a", false, NamedBy::Server));
        for other in ["https://as.example.good.example/a", "https://as.example:8443/a"] {
            assert!(leads(other, true, NamedBy::Server), "{other}");
            assert!(!leads(other, false, NamedBy::Server) && !leads(other, false, NamedBy::Neighbour), "{other}");
            assert!(leads(other, false, NamedBy::Administrator), "{other}");
        }
    }

    #[test]
    fn metadata_of_another_without_proof_keys_or_with_open_places_are_not_used() {
        let good = json!({
            "issuer": "https://as.example", "authorization_endpoint": "https://as.example/a",
            "token_endpoint": "https://as.example/t", "code_challenge_methods_supported": ["plain", "S256"],
        });
        let read = |changes: serde_json::Value| {
            let mut text = good.clone();
            text.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            Authority::read(text.to_string().as_bytes(), "https://as.example")
        };
        assert!(read(json!({})).is_ok() && read(json!({"issuer": "https://as.example/"})).is_ok());
        for bad in [
            json!({"issuer": "https://as.example/other"}),
            json!({"issuer": "https://as.example.evil.example"}),
            json!({"token_endpoint": "http://as.example/t"}),
            json!({"authorization_endpoint": "javascript:alert(1)"}),
            json!({"registration_endpoint": "http://10.0.0.1/r"}),
            json!({"code_challenge_methods_supported": ["plain"]}),
            json!({"code_challenge_methods_supported": []}),
        ] {
            let refused = read(bad.clone());
            assert!(refused.is_err_and(|error| error.class == Class::Configuration), "{bad}");
        }
    }
}
