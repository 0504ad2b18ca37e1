//! What a server says of whom it believes (RFC 9728): of which authorization servers it takes tokens, for which resource, and with which
//! scopes. It is found as clients find it: by the challenge with which the server refuses whoever shows nothing, else at the well-known
//! places.

use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Method, Request};
use serde::Deserialize;
use url::Url;

use super::authority::{Authorities, NamedBy};
use super::classify::shown;
use super::error::{Class, IdpError};
use super::http::Http;
use crate::config::{is_guarded, is_loopback};
use crate::protocol::challenge::Challenge;

/// Largest description, bytes.
const MOST: usize = 64 << 10;
/// Where descriptions of resources are (RFC 9728 section 3).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
/// Most scopes that are asked for because a server names them.
const MOST_SCOPES: usize = 64;
/// What a server is asked to see what it refuses: it changes nothing.
const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protected {
    /// What tokens must be for.
    pub resource: String,
    /// The authorization server: the first that it names.
    pub issuer: String,
    /// Those that it names besides.
    pub others: Vec<String>,
    /// Who says where that is.
    pub named_by: NamedBy,
    /// What it wants to see in a token, as far as it says.
    pub scopes: Vec<String>,
}

#[derive(Deserialize)]
struct Description {
    resource: String,
    #[serde(default)]
    authorization_servers: Vec<String>,
    #[serde(default)]
    scopes_supported: Vec<String>,
}

impl Authorities {
    /// What the server at `url` says.
    pub async fn protecting(&self, url: &Url) -> Result<Protected, IdpError> {
        // An administrator said where the server is.
        let http = self.http(NamedBy::Administrator);
        let challenge = http.challenge(url).await.unwrap_or_default();
        let named = challenge.get("resource_metadata").map(|text| named(url, text)).transpose()?;
        let body = match named {
            Some(place) => http.document(&place, MOST).await?,
            None => at_well_known_places(&http, url).await?,
        };
        let found: Description = serde_json::from_slice(&body).map_err(|error| {
            IdpError::configuration(format!("what the server says of its authorization server cannot be read: {error}"))
        })?;
        if !is_of(&found.resource, url) {
            let text = format!("the server describes the resource `{}`, which is not at {url}", shown(&found.resource));
            return Err(IdpError::configuration(text));
        }
        let mut issuers = found.authorization_servers.into_iter();
        let issuer = issuers.next();
        let issuer = issuer.ok_or_else(|| IdpError::configuration("the server names no authorization server"))?;
        let scopes: Vec<String> = match challenge.get("scope") {
            Some(scopes) => scopes.split_ascii_whitespace().map(str::to_owned).collect(),
            None => found.scopes_supported,
        };
        Ok(Protected {
            resource: found.resource,
            named_by: named_by(url, &issuer),
            issuer,
            others: issuers.collect(),
            scopes: scopes.into_iter().filter(|scope| is_scope(scope)).take(MOST_SCOPES).collect(),
        })
    }
}

/// Whether that is a scope (RFC 6749 section 3.3).
pub fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
}

impl Http {
    /// How the server at `url` refuses whoever shows nothing, if it does.
    async fn challenge(&self, url: &Url) -> Option<Challenge> {
        let mut request = Request::new(PING.into());
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        let answer = self.fetch(url, request, MOST).await.ok()?;
        Challenge::bearer(&answer.headers)
    }
}

fn named_by(server: &Url, issuer: &str) -> NamedBy {
    let is_near = is_loopback(server) && Url::parse(issuer).is_ok_and(|issuer| is_loopback(&issuer));
    if is_near { NamedBy::Neighbour } else { NamedBy::Server }
}

/// Where the challenge says that the description is. It must be the server's own, or it could lead anywhere.
fn named(server: &Url, text: &str) -> Result<Url, IdpError> {
    let url = Url::parse(text).ok().filter(|url| is_guarded(url) && url.origin() == server.origin());
    url.ok_or_else(|| {
        let text =
            format!("the server says that its description is at `{}`, which is not a place of its own", shown(text));
        IdpError::configuration(text)
    })
}

async fn at_well_known_places(http: &Http, server: &Url) -> Result<bytes::Bytes, IdpError> {
    let path = server.path().trim_end_matches('/');
    let mut places = vec![WELL_KNOWN.to_owned()];
    if !path.is_empty() {
        places.insert(0, format!("{WELL_KNOWN}{path}"));
    }
    for path in places {
        let mut url = server.clone();
        url.set_path(&path);
        match http.document(&url, MOST).await {
            Ok(body) => return Ok(body),
            Err(error) if matches!(error.class, Class::Temporary { .. }) => return Err(error),
            Err(_) => {}
        }
    }
    Err(IdpError::configuration(
        "the server does not say who its authorization server is (RFC 9728); name it with `issuer`",
    ))
}

/// Whether a resource is the server at `url`, or what that is a part of: the same origin, and its path or the beginning of it.
fn is_of(resource: &str, url: &Url) -> bool {
    let Ok(resource) = Url::parse(resource) else { return false };
    let (whole, own) = (resource.path().trim_end_matches('/'), url.path().trim_end_matches('/'));
    let behind = own.strip_prefix(whole);
    resource.origin() == url.origin()
        && resource.fragment().is_none()
        && behind.is_some_and(|behind| behind.is_empty() || behind.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_the_server_or_what_it_is_a_part_of() {
        let server = Url::parse("https://a.example/x/mcp").unwrap();
        for own in
            ["https://a.example/x/mcp", "https://A.example:443/x/mcp/", "https://a.example/x", "https://a.example"]
        {
            assert!(is_of(own, &server), "{own}");
        }
        for other in [
            "https://a.example/x/mc",
            "https://a.example/x/mcp/y",
            "https://b.example/x/mcp",
            "http://a.example/x/mcp",
            "https://a.example:8443/x/mcp",
            "https://a.example/x/mcp#y",
            "urn:x",
            "",
        ] {
            assert!(!is_of(other, &server), "{other}");
        }
    }

    #[test]
    fn what_is_on_this_machine_leads_to_this_machine_only() {
        let by = |server: &str, issuer: &str| named_by(&Url::parse(server).unwrap(), issuer);
        assert_eq!(by("http://127.0.0.1:1/mcp", "http://127.0.0.1:2"), NamedBy::Neighbour);
        for issuer in ["https://10.0.0.1", "https://as.example", "no URL"] {
            assert_eq!(by("http://127.0.0.1:1/mcp", issuer), NamedBy::Server, "{issuer}");
        }
        assert_eq!(by("https://a.example/mcp", "http://127.0.0.1:2"), NamedBy::Server);
    }

    #[test]
    fn a_description_is_at_a_place_of_the_servers_own() {
        let server = Url::parse("https://a.example/mcp").unwrap();
        assert!(named(&server, "https://a.example/meta").is_ok());
        for other in
            ["https://b.example/meta", "http://a.example/meta", "https://a.example:1/meta", "/meta", "file:///x"]
        {
            assert!(named(&server, other).is_err(), "{other}");
        }
    }
}
