//! What a client reads before it asks for anything: the challenge (RFC 9728 section 5.1), the resource's metadata (section 3), the
//! authorization server's (RFC 8414). Each is compared with what the client was given, as the client compares it.

use http::header::{ACCEPT, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use url::Url;

use super::mismatch::{advice, is_of};
use super::{Mark, Play, Stop, json_of, quoted};
use crate::config::is_loopback;

/// What the gateway answers to a call without a token.
pub(super) struct Challenge {
    metadata: Url,
    scope: Option<String>,
}

/// What a resource says of itself.
pub(super) struct Resource {
    /// Its URI, as it is written.
    pub(super) uri: String,
    /// What to ask for.
    pub(super) scope: String,
    server: String,
}

/// What the authorization server says of itself.
pub(super) struct Server {
    pub(super) issuer: String,
    pub(super) authorize: Url,
    pub(super) token: Url,
    pub(super) register: Option<Url>,
    pub(super) documents: bool,
    /// Whether its answers say who answers (RFC 9207).
    pub(super) says_iss: bool,
    pub(super) offers_refresh: bool,
}

/// Whether a client that calls from elsewhere can come here at all.
pub(super) fn reachable(play: &mut Play) -> Result<(), Stop> {
    let local = is_loopback(&play.url) || matches!(play.url.host(), Some(url::Host::Ipv4(ip)) if ip.is_private());
    if play.who.hosted && (local || play.url.scheme() != "https") {
        let what = format!("{} calls from the internet, and {} is not there", play.who.title, play.url);
        let advice = "give the gateway a name in the DNS and a certificate, and MREG_PUBLIC_URL; or play it with that address: --url";
        return Err(play.stop("address", what, advice));
    }
    Ok(())
}

const CALL: &str = "call without a token";

/// The first call, which has to be refused in the way that leads on.
pub(super) async fn challenge(play: &mut Play) -> Result<Challenge, Stop> {
    let hello = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": { "name": format!("{} (mcp-gateway doctor)", play.who.title), "version": env!("CARGO_PKG_VERSION") },
    }});
    let headers = vec![
        (ACCEPT, HeaderValue::from_static("application/json, text/event-stream")),
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
    ];
    let url = play.url.clone();
    let answer = play.send(CALL, Method::POST, &url, headers, hello.to_string().into_bytes()).await?;
    match answer.status {
        StatusCode::UNAUTHORIZED => {}
        StatusCode::FORBIDDEN => {
            let advice = format!(
                "the gateway does not know this host name: set MREG_PUBLIC_URL={}, or add it to MREG_ALLOWED_HOSTS",
                url.origin().ascii_serialization()
            );
            return Err(play.stop(CALL, quoted(&answer), advice));
        }
        status if status.is_redirection() => {
            let to = answer.headers.get(http::header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
            let what = format!("{} to {to}", status.as_u16());
            return Err(play.stop(
                CALL,
                what,
                "clients do not follow it: give the client the address that it leads to",
            ));
        }
        _ => {
            let advice =
                "a gateway answers 401 here: is this its address, with /mcp, and does every proxy pass the path on?";
            return Err(play.stop(CALL, quoted(&answer), advice));
        }
    }
    let header = answer.headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let found = parameter(header, "resource_metadata").and_then(|text| Url::parse(text).ok());
    let Some(metadata) = found else {
        let what = "401, and its WWW-Authenticate does not say where the metadata is (resource_metadata)";
        return Err(play.stop(CALL, what, "a proxy in front takes the header away or answers itself: let it pass"));
    };
    let scope = parameter(header, "scope").map(str::to_owned);
    play.found.fine(CALL, format!("401, which leads to {metadata}"));
    Ok(Challenge { metadata, scope })
}

/// The value of a quoted parameter of a challenge (RFC 9110 section 11.2).
fn parameter<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

const RESOURCE: &str = "resource metadata";

/// What the resource says of itself.
pub(super) async fn resource(play: &mut Play, challenge: &Challenge) -> Result<Resource, Stop> {
    let answer = play.get(RESOURCE, &challenge.metadata).await?;
    let found = json_of(&answer);
    if answer.status != StatusCode::OK || !found.is_object() {
        let advice = "the path /.well-known/oauth-protected-resource/… has to reach the gateway through every proxy";
        return Err(play.stop(RESOURCE, quoted(&answer), advice));
    }
    let uri = found["resource"].as_str().unwrap_or_default().to_owned();
    let Ok(told) = Url::parse(&uri) else {
        return Err(play.stop(RESOURCE, format!("its resource `{uri}` is no URL"), "correct MREG_PUBLIC_URL"));
    };
    if !is_of(&play.url, &told) {
        let what = format!("it is of {uri}, and the client was given {}", play.url);
        let what_to_do = advice(&play.url, &told);
        return Err(play.stop(RESOURCE, what, what_to_do));
    }
    let Some(server) = found["authorization_servers"][0].as_str().map(str::to_owned) else {
        return Err(play.stop(
            RESOURCE,
            "it names no authorization server",
            "something else than the gateway answers there",
        ));
    };
    let listed = words(&found["scopes_supported"]).join(" ");
    let scope = challenge.scope.clone().unwrap_or(listed);
    play.found.fine(RESOURCE, format!("of {uri}, which asks {server}; scope {scope}"));
    Ok(Resource { uri, scope, server })
}

const SERVER: &str = "server metadata";

/// What the authorization server says of itself.
pub(super) async fn server(play: &mut Play, resource: &Resource) -> Result<Server, Stop> {
    let Ok(issuer) = Url::parse(&resource.server) else {
        return Err(play.stop(SERVER, format!("`{}` is no URL", resource.server), "correct MREG_PUBLIC_URL"));
    };
    let mut last = None;
    for place in places(&issuer) {
        let answer = play.get(SERVER, &place).await?;
        let found = json_of(&answer);
        if answer.status == StatusCode::OK && found.is_object() {
            return judged(play, resource, &place, &found);
        }
        last = Some(quoted(&answer));
    }
    let advice = "the path /.well-known/oauth-authorization-server has to reach the gateway through every proxy";
    Err(play.stop(SERVER, last.unwrap_or_default(), advice))
}

/// Where clients look, in their order.
fn places(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/');
    let first = ["oauth-authorization-server", "openid-configuration"].map(|name| format!("/.well-known/{name}{path}"));
    let behind = (!path.is_empty()).then(|| format!("{path}/.well-known/openid-configuration"));
    first.into_iter().chain(behind).filter_map(|path| issuer.join(&path).ok()).collect()
}

fn judged(play: &mut Play, resource: &Resource, place: &Url, found: &Value) -> Result<Server, Stop> {
    let issuer = found["issuer"].as_str().unwrap_or_default().to_owned();
    // A slash at the end of a root is the one difference that clients forgive.
    if issuer.trim_end_matches('/') != resource.server.trim_end_matches('/') {
        let what = format!("the issuer is `{issuer}`, and the resource asks `{}`", resource.server);
        let what_to_do = Url::parse(&issuer).map(|told| advice(place, &told)).unwrap_or_default();
        return Err(play.stop("issuer", what, what_to_do));
    }
    let endpoint = |name: &str| found[name].as_str().and_then(|text| Url::parse(text).ok());
    let (Some(authorize), Some(token)) = (endpoint("authorization_endpoint"), endpoint("token_endpoint")) else {
        let what = "it names no authorization_endpoint or token_endpoint";
        return Err(play.stop(SERVER, what, "something else than the gateway answers there"));
    };
    if let Some(plain) = [&authorize, &token].into_iter().find(|url| url.scheme() != "https" && !is_loopback(url)) {
        let what = format!("{plain} is neither https nor on this machine, and clients send no secret there");
        let public = "set MREG_PUBLIC_URL to the https address that clients are given, and --behind-proxy where a proxy ends TLS";
        return Err(play.stop(SERVER, what, public));
    }
    let has = |name: &str, word: &str| words(&found[name]).contains(&word);
    if !has("code_challenge_methods_supported", "S256") {
        let what = "it does not offer PKCE with S256 (code_challenge_methods_supported), without which clients stop";
        return Err(play.stop("PKCE", what, "this is no gateway of ours, or a proxy changes the document"));
    }
    play.found.fine(SERVER, format!("of {issuer}, with PKCE (S256)"));
    let says_iss = found["authorization_response_iss_parameter_supported"] == true;
    if !says_iss {
        let what = "it does not promise to name itself in answers (authorization_response_iss_parameter_supported)";
        play.found.say(
            "iss",
            Mark::Warn,
            what,
            "newer clients want it: a proxy changes the document, or the gateway is old",
        );
    }
    Ok(Server {
        says_iss,
        authorize,
        token,
        register: endpoint("registration_endpoint"),
        documents: found["client_id_metadata_document_supported"] == true
            && has("token_endpoint_auth_methods_supported", "none"),
        offers_refresh: has("scopes_supported", "offline_access"),
        issuer,
    })
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_by_its_names() {
        let header = "Bearer realm=\"x\", resource_metadata=\"https://g.example/.well-known/x\", scope=\"mcp admin\"";
        assert_eq!(parameter(header, "resource_metadata"), Some("https://g.example/.well-known/x"));
        assert_eq!((parameter(header, "scope"), parameter(header, "error")), (Some("mcp admin"), None));
    }

    #[test]
    fn metadata_is_looked_for_where_clients_look() {
        let at = |issuer: &str| places(&Url::parse(issuer).unwrap()).iter().map(Url::to_string).collect::<Vec<_>>();
        assert_eq!(at("https://g.example").len(), 2);
        assert_eq!(
            at("https://g.example/gw"),
            [
                "https://g.example/.well-known/oauth-authorization-server/gw",
                "https://g.example/.well-known/openid-configuration/gw",
                "https://g.example/gw/.well-known/openid-configuration",
            ]
        );
    }
}
