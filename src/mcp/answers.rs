//! What the gateway answers itself: who it is, what it can do, and the lists of everything a caller sees. Nothing here asks a
//! server; it is all in the snapshot.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::StreamBody;

use crate::access::Caller;
use crate::app::App;
use crate::json;
use crate::mcp::error::{Refusal, json_response};
use crate::protocol::era::{Era, LEGACY, Version, spoken_json};
use crate::protocol::message::{self, Message};
use crate::protocol::meta;
use crate::registry::catalog::{Item, Kind};
use crate::registry::model::ServerSpec;
use crate::registry::snapshot::{Entry, Tenant, problems_json};
use crate::upstream::peer::Peer;

/// How long a modern client may keep a list, milliseconds: a change is announced to those who listen.
const LIST_TTL: u64 = 60_000;

/// What the common endpoint can do.
const CAPABILITIES: &str = r#"{"tools":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"prompts":{"listChanged":true},"completions":{},"logging":{}}"#;

fn server_info() -> String {
    format!(
        r#"{{"name":"mcp-registry-gateway","title":"MCP Registry Gateway","version":"{}"}}"#,
        env!("CARGO_PKG_VERSION")
    )
}

const INSTRUCTIONS: &str =
    "Tools and prompts of several servers, each named server__name. Resources keep their own URIs.";

/// The version for a legacy client that asks for this one: its own where it is spoken, else the newest with a handshake
/// (2025-11-25, basic/lifecycle, "Version Negotiation").
pub fn negotiate(asked: &str) -> Version {
    Version::parse(asked).filter(|version| version.era() == Era::Legacy).unwrap_or(LEGACY)
}

/// The result of `initialize` at the common endpoint.
pub fn initialize(version: Version) -> String {
    format!(
        r#"{{"protocolVersion":"{version}","capabilities":{CAPABILITIES},"serverInfo":{},"instructions":"{INSTRUCTIONS}"}}"#,
        server_info()
    )
}

/// The result of `server/discover` at the common endpoint.
pub fn discover() -> String {
    format!(
        r#"{{"resultType":"complete","supportedVersions":{},"capabilities":{CAPABILITIES},"instructions":"{INSTRUCTIONS}","ttlMs":{LIST_TTL},"cacheScope":"private","_meta":{{"{}":{}}}}}"#,
        spoken_json(),
        meta::SERVER_INFO,
        server_info()
    )
}

/// The result of `initialize` for a server whose handshake was spoken before the client came, or that has none: what the
/// server said of itself, under the version agreed with the client; of what was told one person only, how it was registered.
pub fn initialize_for(peer: &Peer, spec: &ServerSpec, version: Version) -> String {
    if let Some(legacy) = &peer.legacy {
        let held = json::get(&legacy.result, "protocolVersion").map(|held| json::span(&legacy.result, held));
        let is_named = json::get(&legacy.result, "serverInfo").is_some();
        let about = if is_named { String::new() } else { format!(",\"serverInfo\":{}", registered(spec)) };
        let edits = held.map(|span| (span, format!("{}{about}", json::quote(version.as_str()))));
        let edits: Vec<_> = edits.iter().map(|(span, text)| (span.clone(), text.as_bytes())).collect();
        return String::from_utf8_lossy(&json::splice(&legacy.result, &edits)).into_owned();
    }
    let about = peer.about();
    let text = |value: Option<&[u8]>, otherwise: &str| {
        value.map_or_else(|| otherwise.to_owned(), |value| String::from_utf8_lossy(value).into_owned())
    };
    let instructions =
        json::get(about, "instructions").map(|value| format!(",\"instructions\":{}", text(Some(value), "\"\"")));
    format!(
        r#"{{"protocolVersion":"{version}","capabilities":{},"serverInfo":{}{}}}"#,
        text(json::get(about, "capabilities"), "{}"),
        text(json::path(about, &["_meta", meta::SERVER_INFO]), &registered(spec)),
        instructions.unwrap_or_default()
    )
}

/// What stands for a server's own `serverInfo`.
fn registered(spec: &ServerSpec) -> String {
    let (name, title) = (json::quote(spec.slug.as_str()), json::quote(&spec.title));
    format!(r#"{{"name":{name},"title":{title},"version":"0"}}"#)
}

/// The result of `initialize` for a server of which nothing is known but how it was registered: it may have whatever there is.
pub fn initialize_unseen(spec: &ServerSpec, version: Version) -> String {
    let about = registered(spec);
    format!(r#"{{"protocolVersion":"{version}","capabilities":{CAPABILITIES},"serverInfo":{about}}}"#)
}

/// The result of `server/discover` for a server that knows only the handshake.
pub fn discover_for(peer: &Peer) -> String {
    let source = peer.legacy.as_ref().map_or(&b"{}"[..], |legacy| &legacy.result);
    let text = |name: &str| json::get(source, name).map(|value| String::from_utf8_lossy(value).into_owned());
    let instructions = text("instructions").map(|value| format!(",\"instructions\":{value}"));
    format!(
        r#"{{"resultType":"complete","supportedVersions":{},"capabilities":{}{},"ttlMs":0,"cacheScope":"private","_meta":{{"{}":{}}}}}"#,
        spoken_json(),
        text("capabilities").unwrap_or_else(|| "{}".to_owned()),
        instructions.unwrap_or_default(),
        meta::SERVER_INFO,
        text("serverInfo").unwrap_or_else(|| r#"{"name":"unknown","version":"0"}"#.to_owned())
    )
}

/// One page of everything of a kind that the caller sees.
pub fn list(app: &App, caller: &Caller, message: &Message, kind: Kind, era: Era) -> Result<Response, Refusal> {
    let snapshot = app.registry.snapshot();
    let page = match (snapshot.tenant(caller.tenant()), message.text("cursor")) {
        (None, None) => Bytes::from(format!("\"{}\":[]", kind.member())),
        (None, Some(_)) => return Err(bad_cursor()),
        (Some(tenant), cursor) => {
            let page = match cursor {
                None => 0,
                Some(cursor) => tenant.page_of_cursor(kind, &cursor).ok_or_else(bad_cursor)?,
            };
            page_of(tenant, caller, kind, page).ok_or_else(bad_cursor)?
        }
    };
    Ok(listed(message, era, page))
}

/// What of a kind the caller may use of one server, under the server's own names and on one page. For a caller whose key
/// names tools, or whom rules narrow: the server itself would list the others too.
pub fn items_of(
    tenant: &Tenant,
    entry: &Entry,
    caller: &Caller,
    message: &Message,
    kind: Kind,
    era: Era,
) -> Result<Response, Refusal> {
    if message.member("cursor").is_some() {
        return Err(bad_cursor());
    }
    let mut page = Vec::with_capacity(1024);
    page.extend_from_slice(format!("\"{}\":[", kind.member()).as_bytes());
    let in_scope = |item: &&Item| kind != Kind::Tools || caller.may_call_tool(entry.slug(), &item.key);
    let items = entry.catalog.items(kind).iter().filter(in_scope);
    for (at, item) in items.filter(|item| tenant.permits_item(caller, entry, kind, item)).enumerate() {
        if at > 0 {
            page.push(b',');
        }
        page.extend_from_slice(&item.raw);
    }
    page.push(b']');
    if let Some(problem) = entry.problem() {
        page.extend_from_slice(problems_json(&[(entry.slug(), problem.into_owned())]).as_bytes());
    }
    Ok(listed(message, era, page.into()))
}

fn bad_cursor() -> Refusal {
    Refusal::new(
        http::StatusCode::OK,
        meta::INVALID_PARAMS,
        "Invalid params: the cursor is not of this list, or the list has changed; ask again without a cursor",
    )
}

/// One page of a list, the members of the result given, as the era wants it.
fn listed(message: &Message, era: Era, page: Bytes) -> Response {
    let id = message.id().unwrap_or(b"null");
    let mut head = Vec::with_capacity(128);
    head.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    head.extend_from_slice(id);
    head.extend_from_slice(b",\"result\":{");
    if era == Era::Modern {
        let hints = format!("\"resultType\":\"complete\",\"ttlMs\":{LIST_TTL},\"cacheScope\":\"private\",");
        head.extend_from_slice(hints.as_bytes());
    }
    in_parts([head.into(), page, Bytes::from_static(b"}}")])
}

fn page_of(tenant: &Tenant, caller: &Caller, kind: Kind, page: usize) -> Option<Bytes> {
    let view = tenant.view(caller);
    tenant.page(caller, &view, kind, page)
}

/// A JSON answer in three parts, so that the middle, which may be large and belongs to many, is not copied.
fn in_parts(parts: [Bytes; 3]) -> Response {
    let length: usize = parts.iter().map(Bytes::len).sum();
    if length < 4096 {
        return json_response(http::StatusCode::OK, parts.concat().into());
    }
    let frames = parts.map(|part| Ok::<_, std::convert::Infallible>(http_body::Frame::data(part)));
    let mut response = Response::new(Body::new(StreamBody::new(futures_util::stream::iter(frames))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// An answer of the gateway's own, `result` being JSON.
pub fn here(message: &Message, result: &str) -> Response {
    json_response(http::StatusCode::OK, message::result(message.id().unwrap_or(b"null"), result.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::peer::Legacy;

    #[test]
    fn what_the_gateway_says_of_itself_is_json() {
        let legacy = Bytes::from_static(br#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"},"instructions":"i"}"#);
        let old = Peer { legacy: Some(Legacy { version: LEGACY, result: legacy }), modern: None, asked: true };
        let new = Peer {
            legacy: None,
            modern: Some(Bytes::from(format!(
                r#"{{"capabilities":{{"tools":{{}}}},"_meta":{{"{}":{{"name":"s","version":"1"}}}}}}"#,
                meta::SERVER_INFO
            ))),
            asked: true,
        };
        let spec: ServerSpec = serde_json::from_value(serde_json::json!({"slug": "tracker"})).unwrap();
        for text in [
            initialize(LEGACY),
            discover(),
            initialize_for(&old, &spec, LEGACY),
            initialize_for(&new, &spec, LEGACY),
            discover_for(&old),
        ] {
            let value: serde_json::Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(value["capabilities"].get("tools").is_some(), "{text}");
        }
        let name = |peer: &Peer| {
            let said: serde_json::Value = serde_json::from_str(&initialize_for(peer, &spec, LEGACY)).unwrap();
            said["serverInfo"]["name"].clone()
        };
        assert_eq!((name(&old), name(&new)), ("s".into(), "s".into()));
        // What one person alone was told is told nobody else, and a name there must be.
        assert_eq!((name(&old.in_common()), name(&new.in_common())), ("tracker".into(), "tracker".into()));
    }

    #[test]
    fn a_client_gets_the_version_it_asked_for_or_the_newest() {
        assert_eq!(negotiate("2025-03-26").as_str(), "2025-03-26");
        assert_eq!(negotiate("1999-01-01"), LEGACY);
        assert_eq!(negotiate("2026-07-28"), LEGACY);
    }
}
