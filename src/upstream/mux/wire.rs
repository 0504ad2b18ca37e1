//! The bytes of `mux`: what of a message is read, and which few bytes of it are changed. Pure; every other byte of a
//! message stays as its author wrote it.

use std::ops::Range;

use bytes::Bytes;

use crate::json;

/// Member of `_meta` that names the subscription a notification belongs to (2026-07-28, subscriptions).
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// The members of a JSON-RPC message, as written. Absent ones are `None`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parts<'a> {
    pub id: Option<&'a [u8]>,
    pub method: Option<&'a [u8]>,
    pub params: Option<&'a [u8]>,
    pub result: Option<&'a [u8]>,
    pub error: Option<&'a [u8]>,
}

/// Reads the members of a checked object in one pass.
pub(super) fn parts(message: &[u8]) -> Parts<'_> {
    let mut parts = Parts::default();
    for (name, value) in json::members(message) {
        if json::is_name(name, "id") {
            parts.id = Some(value);
        } else if json::is_name(name, "method") {
            parts.method = Some(value);
        } else if json::is_name(name, "params") {
            parts.params = Some(value);
        } else if json::is_name(name, "result") {
            parts.result = Some(value);
        } else if json::is_name(name, "error") {
            parts.error = Some(value);
        }
    }
    parts
}

/// A client's request made ready for the peer, and what must be put back later.
#[derive(Debug)]
pub(super) struct Request {
    pub message: Bytes,
    pub id: Box<[u8]>,
    pub progress: Option<Box<[u8]>>,
    /// `subscriptions/listen`: stays open and owns the notifications that carry its id.
    pub listen: bool,
    /// `initialize` must not be cancelled (2025-11-25, cancellation).
    pub cancellable: bool,
}

/// Replaces the id and the progress token of `message` with `number`. `None` when it is no request.
pub(super) fn request(message: &[u8], number: u64) -> Option<Request> {
    let parts = parts(message);
    let (id, method) = (parts.id?, parts.method?);
    let method = json::text(method)?;
    let digits = number.to_string();
    let progress = parts.params.and_then(|params| json::path(params, &["_meta", "progressToken"]));
    let mut edits: Vec<(Range<usize>, &[u8])> = Vec::with_capacity(2);
    edits.push((json::span(message, id), digits.as_bytes()));
    if let Some(token) = progress {
        edits.push((json::span(message, token), digits.as_bytes()));
    }
    Some(Request {
        message: edited(message, edits),
        id: id.into(),
        progress: progress.map(Into::into),
        listen: method == "subscriptions/listen",
        cancellable: method != "initialize",
    })
}

/// The client's id back in a response; for a subscription also in `result._meta`.
pub(super) fn response(message: &[u8], parts: &Parts<'_>, id: &[u8], listen: bool) -> Bytes {
    let mut edits: Vec<(Range<usize>, &[u8])> = Vec::with_capacity(2);
    if let Some(written) = parts.id {
        edits.push((json::span(message, written), id));
    }
    if listen && let Some(written) = parts.result.and_then(|result| json::path(result, &["_meta", SUBSCRIPTION])) {
        edits.push((json::span(message, written), id));
    }
    edited(message, edits)
}

/// `message` with `part`, a slice of it, replaced.
pub(super) fn replace(message: &[u8], part: &[u8], new: &[u8]) -> Bytes {
    json::splice(message, &[(json::span(message, part), new)])
}

fn edited(message: &[u8], mut edits: Vec<(Range<usize>, &[u8])>) -> Bytes {
    // Members come in any order; splices must come in theirs.
    edits.sort_unstable_by_key(|(range, _)| range.start);
    json::splice(message, &edits)
}

/// The subscription id in a notification's `params._meta`, as written.
pub(super) fn subscription(params: Option<&[u8]>) -> Option<&[u8]> {
    json::path(params?, &["_meta", SUBSCRIPTION])
}

/// The number in an id or token that we once sent. Some peers print it as a float.
pub(super) fn number(lexeme: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(lexeme).ok()?;
    text.strip_suffix(".0").unwrap_or(text).parse().ok()
}

/// The id under which a client sees the peer's request `token`, quotes included.
pub(super) fn client_id(token: u64) -> String {
    format!("\"mcpg-{token}\"")
}

/// `notifications/cancelled` for our request `number`.
pub(super) fn cancelled(number: u64, reason: Option<&str>) -> Bytes {
    let reason = reason.map(|text| format!(",\"reason\":{}", json::quote(text))).unwrap_or_default();
    format!(
        "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{{\"requestId\":{number}{reason}}}}}"
    )
    .into()
}

/// The empty result for the peer's request `id` (`ping`).
pub(super) fn empty_result(id: &[u8]) -> Bytes {
    [b"{\"jsonrpc\":\"2.0\",\"id\":", id, b",\"result\":{}}"].concat().into()
}

/// An internal error (-32603) for the peer's request `id`.
pub(super) fn refusal(id: &[u8], message: &str) -> Bytes {
    let text = json::quote(message);
    [b"{\"jsonrpc\":\"2.0\",\"id\":", id, b",\"error\":{\"code\":-32603,\"message\":", text.as_bytes(), b"}}"]
        .concat()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_changes_in_two_places_and_comes_back_whole() {
        let written = br#"{ "params":{"_meta":{"progressToken":"p","x":1e2},"n":9007199254740993}, "id": 1.0,"method":"tools/call"}"#;
        let request = request(written, 7).unwrap();
        assert_eq!(
            request.message,
            &br#"{ "params":{"_meta":{"progressToken":7,"x":1e2},"n":9007199254740993}, "id": 7,"method":"tools/call"}"#[..]
        );
        assert_eq!((&*request.id, request.progress.as_deref()), (&b"1.0"[..], Some(&b"\"p\""[..])));
        let answer = br#"{"jsonrpc":"2.0","id":7,"result":{"z":null,"_meta":{}}}"#;
        let restored = response(answer, &parts(answer), &request.id, false);
        assert_eq!(restored, &br#"{"jsonrpc":"2.0","id":1.0,"result":{"z":null,"_meta":{}}}"#[..]);
    }

    #[test]
    fn a_subscription_gets_its_id_back_in_the_closing_result_too() {
        let answer = br#"{"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":7}},"id":7}"#;
        let restored = response(answer, &parts(answer), b"\"l\"", true);
        assert_eq!(restored, &br#"{"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":"l"}},"id":"l"}"#[..]);
    }

    #[test]
    fn numbers_are_read_as_peers_print_them() {
        assert_eq!(number(b"12"), Some(12));
        assert_eq!(number(b"12.0"), Some(12));
        assert_eq!(number(b"\"12\""), None);
        assert_eq!(number(b"-1"), None);
    }

    #[test]
    fn what_we_write_is_strict_json() {
        for text in [
            cancelled(3, None),
            cancelled(3, Some("a \"quoted\"\nreason")),
            empty_result(b"\"x\""),
            refusal(b"1", "say \"why\""),
        ] {
            assert_eq!(json::check(&text), Ok(()), "{text:?}");
        }
    }
}
