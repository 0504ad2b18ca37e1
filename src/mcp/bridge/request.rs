//! Requests on their way to a server of another era, or into a session that several clients share.

use bytes::Bytes;

use crate::json;
use crate::protocol::era::MODERN;
use crate::protocol::members::{put, with_meta};
use crate::protocol::message::Message;
use crate::protocol::meta;

/// A legacy client's request as a modern server wants it: version, client and capabilities in `_meta` (2026-07-28, basic,
/// "Per-request protocol fields"). No capability is announced: what the server would ask could not be carried back.
/// `init` are the parameters of the client's `initialize`, `level` those of its `logging/setLevel`.
pub fn to_modern(message: &Message, init: &[u8], level: Option<&[u8]>) -> Bytes {
    let version = json::quote(MODERN.as_str());
    let said = [
        (meta::PROTOCOL_VERSION, Some(version.as_bytes())),
        (meta::CLIENT_CAPABILITIES, Some(&b"{}"[..])),
        (meta::CLIENT_INFO, json::get(init, "clientInfo")),
        (meta::LOG_LEVEL, level.and_then(|params| json::get(params, "level"))),
    ];
    let said: Vec<_> = said.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    with_meta(message, &said)
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
            match number {
                Some(number) if json::is_name(name, "progressToken") => {
                    token = Some(Bytes::copy_from_slice(value));
                    put(&mut kept, name, format!("\"mcpg-{number}\"").as_bytes());
                }
                _ => put(&mut kept, name, value),
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
    fn what_a_client_says_of_the_modern_era_itself_gives_way_and_no_name_comes_twice() {
        let init = br#"{"protocolVersion":"2025-11-25","clientInfo":{"name":"c","version":"1"}}"#;
        let key = "io.modelcontextprotocol/";
        for (held, more) in [
            (format!(r#"{{"{key}clientInfo":{{"name":"other"}},"x":1.0}}"#), r#""x":1.0"#),
            (format!(r#"{{"x":1.0,"{key}clientCapabilities":{{"sampling":{{}}}}}}"#), r#""x":1.0"#),
            (format!(r#"{{"{key}protocolVersi\u006fn":"1999-01-01","{key}logLevel":"debug"}}"#), ""),
        ] {
            let asked = message(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"_meta":{held}}}}}"#));
            let changed = to_modern(&asked, init, Some(br#"{"level":"info"}"#));
            let comma = if more.is_empty() { "" } else { "," };
            let meta = format!(
                r#"{{"{key}protocolVersion":"2026-07-28","{key}clientCapabilities":{{}},"{key}clientInfo":{{"name":"c","version":"1"}},"{key}logLevel":"info"{comma}{more}}}"#
            );
            assert_eq!(changed, format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"_meta":{meta}}}}}"#));
            Message::parse(changed).unwrap();
        }
        // Servers' notifications are not held to what clients' requests are.
        let odd = message(r#"{"jsonrpc":"2.0","method":"n","params":{"_meta":null}}"#);
        assert_eq!(with_meta(&odd, &[("a", b"1")]), r#"{"jsonrpc":"2.0","method":"n","params":{"_meta":{"a":1}}}"#);
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
