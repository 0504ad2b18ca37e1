//! Names that MCP reserves: `_meta` keys (2026-07-28, basic, "_meta"), HTTP headers (basic/transports), methods of requests, error codes
//! (basic, "Error Codes"), and how a value travels in a header ("Value Encoding").

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;

/// Protocol version of one request.
pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// Name and version of the client software.
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// What the client can do.
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// Least severe log message the client wants for this request.
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// Name and version of the server software.
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// The request that opened the stream on which a notification travels.
pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
/// The task that a message belongs to (2025-11-25, basic/utilities/tasks).
pub const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";
/// The extension by which a server of 2026-07-28 may answer a call with a task.
pub const TASKS: &str = "io.modelcontextprotocol/tasks";
/// What the gateway adds to a list: servers it could not ask, names that collide.
pub const PROBLEMS: &str = "io.mcp-registry-gateway/problems";

/// `MCP-Protocol-Version`.
pub static VERSION_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// `Mcp-Method`.
pub static METHOD_HEADER: HeaderName = HeaderName::from_static("mcp-method");
/// `Mcp-Name`.
pub static NAME_HEADER: HeaderName = HeaderName::from_static("mcp-name");
/// `Mcp-Session-Id`.
pub static SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");
/// `Last-Event-ID`.
pub static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Lower-case prefix of the headers that mirror tool parameters.
pub const PARAM_PREFIX: &str = "mcp-param-";

/// Requests of all protocol versions, of either side, in order of how often they are seen. Without an `id` they are nothing.
pub const REQUESTS: [&str; 23] = [
    "tools/call",
    "tools/list",
    "resources/read",
    "prompts/get",
    "initialize",
    "ping",
    "server/discover",
    "resources/list",
    "resources/templates/list",
    "prompts/list",
    "completion/complete",
    "logging/setLevel",
    "resources/subscribe",
    "resources/unsubscribe",
    "subscriptions/listen",
    "tasks/get",
    "tasks/result",
    "tasks/list",
    "tasks/cancel",
    "tasks/update",
    "sampling/createMessage",
    "elicitation/create",
    "roots/list",
];

/// JSON-RPC: the text is no JSON.
pub const PARSE_ERROR: i32 = -32700;
/// JSON-RPC: the JSON is no request.
pub const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC: no such method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// JSON-RPC: the parameters do not fit; MCP: unknown tool, prompt or resource.
pub const INVALID_PARAMS: i32 = -32602;
/// JSON-RPC: something failed here.
pub const INTERNAL_ERROR: i32 = -32603;
/// MCP 2026-07-28: headers and body disagree.
pub const HEADER_MISMATCH: i32 = -32020;
/// MCP 2026-07-28: the client lacks a capability that the request needs.
pub const MISSING_CAPABILITY: i32 = -32021;
/// MCP 2026-07-28: version not spoken.
pub const UNSUPPORTED_VERSION: i32 = -32022;
/// MCP until 2025-11-25: no such resource. Not to be sent under 2026-07-28.
pub const RESOURCE_NOT_FOUND: i32 = -32002;

/// `value` as it may stand in a header: itself, or its Base64 form where the header could not hold it.
pub fn encode(value: &str) -> Cow<'_, str> {
    let like_encoded = value.starts_with("=?base64?") && value.ends_with("?=");
    let plain = value.bytes().all(|byte| matches!(byte, 0x20..=0x7e | b'\t'))
        && value.trim_matches([' ', '\t']) == value
        && !like_encoded;
    if plain { Cow::Borrowed(value) } else { Cow::Owned(format!("=?base64?{}?=", STANDARD.encode(value))) }
}

/// The value that a header carries; `None` if its Base64 form is broken.
pub fn decode(header: &str) -> Option<Cow<'_, str>> {
    match header.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        None => Some(Cow::Borrowed(header)),
        Some(inner) => String::from_utf8(STANDARD.decode(inner).ok()?).ok().map(Cow::Owned),
    }
}

/// Whether the value of a `Content-Type` names this media type, whatever its parameters.
pub fn is_type(value: &[u8], wanted: &[u8]) -> bool {
    let end = value.iter().position(|byte| matches!(byte, b';' | b' ')).unwrap_or(value.len());
    value[..end].eq_ignore_ascii_case(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification_encode_as_printed() {
        for (value, header) in [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ] {
            assert_eq!(encode(value), header);
            assert_eq!(decode(header).as_deref(), Some(value));
        }
        assert_eq!(decode("=?base64?***?="), None);
    }
}
