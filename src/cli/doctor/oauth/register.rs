//! How the client makes itself known: by a document at its id, or by registering itself (RFC 7591).

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use url::Url;

use super::describe::{Resource, Server};
use super::{How, Play, Stop, json_of, quoted};

const CHECK: &str = "registration";

/// The id of the client.
pub(super) async fn client(
    play: &mut Play,
    server: &Server,
    how: How,
    redirect: &str,
    resource: &Resource,
) -> Result<String, Stop> {
    match (play.who.document, how) {
        (None, How::Document) => {
            let what = format!("{} has no such document; it registers itself", play.who.title);
            Err(play.stop(CHECK, what, "leave --known-by away"))
        }
        (Some(_), How::Document) if !server.documents => {
            let what = "the gateway does not take documents (client_id_metadata_document_supported), and the client registers itself";
            Err(play.stop(CHECK, what, "leave --known-by away"))
        }
        (Some(document), How::Auto | How::Document) if server.documents => {
            play.found.fine(CHECK, format!("none: the client is known by {document}, which the gateway fetches"));
            Ok(document.to_owned())
        }
        _ => registered(play, server, redirect, resource).await,
    }
}

async fn registered(play: &mut Play, server: &Server, redirect: &str, resource: &Resource) -> Result<String, Stop> {
    let Some(endpoint) = &server.register else {
        let none = "the gateway lets no client register itself";
        if let Some(document) = play.who.document.filter(|_| server.documents) {
            let what = format!("{none}, and {} need not: it is known by {document}", play.who.title);
            return Err(play.stop(CHECK, what, "leave --known-by away; or set MREG_CLIENT_REGISTRATION=open"));
        }
        let what = format!("{none}, and {} has no other way", play.who.title);
        let advice = format!(
            "set MREG_CLIENT_REGISTRATION=open; or register it (`mcp-gateway clients add ID --redirect {}`) and give the client that id",
            play.who.redirect
        );
        return Err(play.stop(CHECK, what, advice));
    };
    let body = play.who.registration(redirect, &resource.scope).to_string().into_bytes();
    let json = HeaderValue::from_static("application/json");
    let answer = play
        .send(CHECK, Method::POST, &endpoint.clone(), vec![(ACCEPT, json.clone()), (CONTENT_TYPE, json)], body)
        .await?;
    let made = json_of(&answer);
    if answer.status != StatusCode::CREATED {
        let advice = match (answer.status, made["error"].as_str().unwrap_or_default()) {
            (StatusCode::FORBIDDEN, _) => {
                "set MREG_CLIENT_REGISTRATION=open, or register the client: `mcp-gateway clients add`"
            }
            (StatusCode::UNAUTHORIZED, _) => {
                "registering takes a token (MREG_CLIENT_REGISTRATION=token) that this client cannot be given: register it with \
                 `mcp-gateway clients add`, or set it to open"
            }
            (StatusCode::TOO_MANY_REQUESTS, _) => {
                "too many register from this address: behind a proxy set --behind-proxy and MREG_TRUSTED_PROXIES, so that each \
                 client counts by itself"
            }
            (_, "invalid_redirect_uri") => "if the scheme is a program's, allow it: MREG_ALLOWED_REDIRECT_SCHEMES",
            _ => "the gateway's log says more under the id of the request",
        };
        return Err(play.stop(CHECK, quoted(&answer), advice));
    }
    let Some(id) = made["client_id"].as_str().filter(|id| !id.is_empty()) else {
        return Err(play.stop(CHECK, "the answer holds no client_id", "something else than the gateway answers there"));
    };
    let method = made["token_endpoint_auth_method"].as_str().unwrap_or("none");
    if method != "none" {
        let what = format!("the client registers as public, and was told to use {method}");
        return Err(play.stop(CHECK, what, "something else than the gateway answers there"));
    }
    let kept = made["redirect_uris"].as_array().is_some_and(|uris| uris.iter().any(|uri| uri == redirect));
    if !kept {
        let what = format!("the address {redirect} was not registered");
        return Err(play.stop(CHECK, what, "something else than the gateway answers there"));
    }
    play.found.fine(CHECK, format!("registered at {}, answered at {}", endpoint.path(), place(redirect)));
    Ok(id.to_owned())
}

fn place(redirect: &str) -> String {
    Url::parse(redirect).map_or_else(
        |_| redirect.to_owned(),
        |url| {
            let host = url.host_str().unwrap_or_default();
            if matches!(url.scheme(), "http" | "https") { host.to_owned() } else { format!("{}:", url.scheme()) }
        },
    )
}
