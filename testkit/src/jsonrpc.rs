//! The few pieces of JSON-RPC and MCP that both the stand-ins and the client need.
//!
//! Messages stay text: an id is kept as it was written, because telling `1` from `1.0` is part of what is tested.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

/// The version of the stateless era.
pub const MODERN: &str = "2026-07-28";
/// The versions with a handshake, newest first.
pub const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// Where a request's version is in its `_meta`.
pub const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// Where the client's capabilities are in a request's `_meta`.
pub const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// Where the client's name is in a request's `_meta`.
pub const META_CLIENT: &str = "io.modelcontextprotocol/clientInfo";
/// Where the server's name is in a result's `_meta`.
pub const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";
/// Where a notification's subscription is in its `_meta`.
pub const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// A message of any kind.
#[derive(Debug, Deserialize)]
pub struct Envelope {
    /// The id, as it was written.
    #[serde(default, deserialize_with = "present")]
    pub id: Option<Box<RawValue>>,
    /// The method, unless the message is a response.
    pub method: Option<String>,
    /// The parameters.
    #[serde(default)]
    pub params: Value,
    /// The result, if the message is a response.
    pub result: Option<Value>,
    /// The error, if the message is a response.
    pub error: Option<Value>,
}

/// Keeps `"id": null` apart from no id.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// A response with a result; both are JSON texts.
pub fn result(id: &str, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

/// A response with an error; the id is a JSON text.
pub fn error(id: &str, code: i64, message: &str, data: Option<&Value>) -> String {
    let mut error = json!({ "code": code, "message": message });
    if let Some(data) = data {
        error["data"] = data.clone();
    }
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
}

/// A request; the id is a JSON text.
pub fn request(id: &str, method: &str, params: &Value) -> String {
    let method = Value::from(method);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{params}}}"#)
}

/// A notification.
pub fn notification(method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string()
}

/// The `_meta` that makes a request one of the stateless era.
pub fn modern_meta(capabilities: &Value) -> Value {
    json!({
        META_VERSION: MODERN,
        META_CLIENT: { "name": "testkit", "version": "1.0.0" },
        META_CAPABILITIES: capabilities,
    })
}

/// What the `Mcp-Name` header says of a request, for the methods that have one.
pub fn name_of<'a>(method: &str, params: &'a Value) -> Option<&'a str> {
    match method {
        "tools/call" | "prompts/get" => params["name"].as_str(),
        "resources/read" => params["uri"].as_str(),
        "tasks/get" | "tasks/update" | "tasks/cancel" => params["taskId"].as_str(),
        _ => None,
    }
}

/// A value as it may stand in a header: plain where that is safe, else in the Base64 form.
pub fn header_value(value: &str) -> String {
    let plain = value.bytes().all(|byte| matches!(byte, 0x20..=0x7e | b'\t'))
        && value.trim() == value
        && !(value.starts_with("=?base64?") && value.ends_with("?="));
    if plain { value.to_owned() } else { format!("=?base64?{}?=", STANDARD.encode(value)) }
}

/// The value a header stands for; `None` when its Base64 form is broken.
pub fn decode_header_value(value: &str) -> Option<String> {
    match value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok(),
        None => Some(value.to_owned()),
    }
}

/// The `Mcp-Param-*` headers that a tool's schema asks for, given the arguments: name and plain value.
pub fn param_headers(schema: &Value, arguments: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let given = &arguments[key];
        if let Some(name) = property["x-mcp-header"].as_str() {
            let plain = match given {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                Value::Bool(truth) => Some(truth.to_string()),
                _ => None,
            };
            found.extend(plain.map(|plain| (format!("Mcp-Param-{name}"), plain)));
        }
        if given.is_object() {
            found.extend(param_headers(property, given));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_survive_the_way_there_and_back() {
        for value in ["us-west1", "Hello, 世界", " padded ", "line1\nline2", "=?base64?literal?=", "", "a\tb"] {
            let header = header_value(value);
            assert!(header.bytes().all(|byte| (0x20..=0x7e).contains(&byte) || byte == b'\t'), "{header}");
            assert_eq!(decode_header_value(&header).as_deref(), Some(value));
        }
        assert_eq!(header_value(" padded "), "=?base64?IHBhZGRlZCA=?=");
        assert_eq!(decode_header_value("=?base64?SGVsbG8?="), None);
        assert_eq!(decode_header_value("=?base64?SGVs!!!bG8=?="), None);
    }

    #[test]
    fn an_id_is_kept_as_written() {
        let read = |text| serde_json::from_str::<Envelope>(text).expect("a message");
        assert_eq!(read(r#"{"id":1.0,"method":"m"}"#).id.expect("an id").get(), "1.0");
        assert_eq!(read(r#"{"id":null,"method":"m"}"#).id.expect("an id").get(), "null");
        assert!(read(r#"{"method":"m"}"#).id.is_none());
    }

    #[test]
    fn nested_properties_are_mirrored_too() {
        let schema = json!({ "properties": {
            "a": { "x-mcp-header": "A" },
            "in": { "properties": { "b": { "x-mcp-header": "B" }, "c": { "x-mcp-header": "C" } } },
        } });
        let found = param_headers(&schema, &json!({ "a": 4, "in": { "b": true, "c": null } }));
        assert_eq!(found, [("Mcp-Param-A".to_owned(), "4".to_owned()), ("Mcp-Param-B".to_owned(), "true".to_owned())]);
    }
}
