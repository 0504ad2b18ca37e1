//! Requests on their way to a server of another era, or into a session that several clients share.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::json;
use crate::protocol::era::MODERN;
use crate::protocol::message::Message;
use crate::protocol::meta;

/// A legacy client's request as a modern server wants it: version, client and capabilities in `_meta` (2026-07-28, basic,
/// "Per-request protocol fields"). No capability is announced: what the server would ask could not be carried back.
/// `init` are the parameters of the client's `initialize`, `level` those of its `logging/setLevel`.
pub fn to_modern(message: &Message, init: &[u8], level: Option<&[u8]>) -> Bytes {
    let mut fields = format!("\"{}\":\"{MODERN}\",\"{}\":{{}}", meta::PROTOCOL_VERSION, meta::CLIENT_CAPABILITIES);
    for (key, value) in [
        (meta::CLIENT_INFO, json::get(init, "clientInfo")),
        (meta::LOG_LEVEL, level.and_then(|params| json::get(params, "level"))),
    ] {
        if let Some(value) = value.and_then(|value| std::str::from_utf8(value).ok()) {
            let _ = write!(fields, ",\"{key}\":{value}");
        }
    }
    let whole = message.bytes();
    match (message.body(), message.member("_meta")) {
        (Some(_), Some(held)) if held.starts_with(b"{") => insert(whole, held, &fields),
        (Some(params), _) => insert(whole, params, &format!("\"_meta\":{{{fields}}}")),
        (None, _) => insert(whole, whole, &format!("\"params\":{{\"_meta\":{{{fields}}}}}")),
    }
}

/// `whole` with `members` put first into `object`, which is part of it.
pub fn insert(whole: &[u8], object: &[u8], members: &str) -> Bytes {
    let span = json::span(whole, object);
    let brace = span.start + object.iter().position(|byte| *byte == b'{').unwrap_or_default() + 1;
    let comma = if json::members(object).next().is_some() { "," } else { "" };
    json::splice(whole, &[(brace..brace, format!("{members}{comma}").as_bytes())])
}

/// The members of `_meta` that only the modern era knows. A legacy server that sees one may take it for a modern request.
const MODERN_ONLY: [&str; 4] = [meta::PROTOCOL_VERSION, meta::CLIENT_INFO, meta::CLIENT_CAPABILITIES, meta::LOG_LEVEL];

/// A modern client's request as a legacy server wants it: without the fields of its own era. With a `number`, several
/// clients share the session: id and progress token become our own. Returns it with the client's token, if that changed.
pub fn to_legacy(message: &Message, number: Option<u64>) -> (Bytes, Option<Bytes>) {
    let mut token = None;
    let (id, fields);
    let mut edits: Vec<(&[u8], &[u8])> = Vec::with_capacity(2);
    if let (Some(number), Some(old)) = (number, message.id()) {
        id = number.to_string();
        edits.push((old, id.as_bytes()));
    }
    if let Some(held) = message.member("_meta").filter(|held| held.starts_with(b"{")) {
        let mut kept = Vec::with_capacity(held.len());
        for (name, value) in json::members(held) {
            if MODERN_ONLY.iter().any(|known| json::is_name(name, known)) {
                continue;
            }
            kept.extend_from_slice(if kept.is_empty() { b"\"" } else { b",\"" });
            kept.extend_from_slice(name);
            kept.extend_from_slice(b"\":");
            match number {
                Some(number) if json::is_name(name, "progressToken") => {
                    token = Some(Bytes::copy_from_slice(value));
                    kept.extend_from_slice(format!("\"mcpg-{number}\"").as_bytes());
                }
                _ => kept.extend_from_slice(value),
            }
        }
        fields = [b"{", &kept[..], b"}"].concat();
        edits.push((held, &fields));
    }
    let whole = message.bytes();
    edits.sort_by_key(|(part, _)| json::span(whole, part).start);
    (message.splice(&edits), token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[test]
    fn a_legacy_request_gets_the_modern_fields_wherever_its_parameters_are() {
        let init = br#"{"protocolVersion":"2025-11-25","clientInfo":{"name":"c","version":"1"}}"#;
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","x":1.0}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":7},"name":"a"}}"#,
        ] {
            let changed = Message::parse(to_modern(&message(text), init, Some(br#"{"level":"info"}"#))).unwrap();
            assert_eq!(changed.meta(meta::PROTOCOL_VERSION), Some(&b"\"2026-07-28\""[..]), "{text}");
            assert_eq!(changed.meta(meta::LOG_LEVEL), Some(&b"\"info\""[..]));
            assert_eq!(changed.meta(meta::CLIENT_INFO), Some(&br#"{"name":"c","version":"1"}"#[..]));
            assert_eq!(changed.meta("progressToken"), message(text).meta("progressToken"));
            assert_eq!(changed.member("x"), message(text).member("x"));
        }
    }

    #[test]
    fn a_shared_session_sees_our_numbers() {
        let asked = message(r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"progressToken":"p"}},"id":"a"}"#);
        let (bytes, token) = to_legacy(&asked, Some(7));
        assert_eq!(token.as_deref(), Some(&b"\"p\""[..]));
        assert_eq!(bytes, r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"progressToken":"mcpg-7"}},"id":7}"#);
        let (bytes, token) = to_legacy(&message(r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#), Some(8));
        assert_eq!((bytes, token), (Bytes::from_static(br#"{"jsonrpc":"2.0","id":8,"method":"m"}"#), None));
    }

    #[test]
    fn a_legacy_server_sees_nothing_of_the_modern_era() {
        let asked = message(
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","x":1.0,"progressToken":3,"io.modelcontextprotocol/clientCapabilities":{}},"y":null}}"#,
        );
        let (bytes, token) = to_legacy(&asked, None);
        assert_eq!(token, None);
        assert_eq!(
            bytes,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"x":1.0,"progressToken":3},"y":null}}"#
        );
    }
}
