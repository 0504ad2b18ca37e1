//! One JSON-RPC message, read as an envelope: what kind it is, its `id` and `method`, and where `params` and `result` stand in
//! the bytes. Everything else stays as the sender wrote it; a change is a splice that leaves every other byte alone.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use crate::json;
use crate::protocol::meta;

/// Why a text is no message, with the JSON-RPC code that says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct NoMessage {
    /// JSON-RPC error code.
    pub code: i32,
    /// What is wrong and where.
    pub text: String,
}

impl From<json::Problem> for NoMessage {
    fn from(problem: json::Problem) -> Self {
        let code =
            if matches!(problem, json::Problem::Syntax { .. }) { meta::PARSE_ERROR } else { meta::INVALID_REQUEST };
        Self { code, text: problem.to_string() }
    }
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Has `id` and `method`.
    Request,
    /// Has `method` and no `id`.
    Notification,
    /// Has `result`.
    Result,
    /// Has `error`.
    Error,
}

/// A checked message: the bytes, and where the parts stand.
#[derive(Debug, Clone)]
pub struct Message {
    bytes: Bytes,
    shape: Shape,
    id: Option<Range<usize>>,
    method: Range<usize>,
    /// `params` of a request or notification, `result` or `error` of a response.
    body: Option<Range<usize>>,
    /// `name` and `_meta` in `params`: every request is asked for them several times.
    name: Option<Range<usize>>,
    meta: Option<Range<usize>>,
}

impl Message {
    /// Checks `bytes` strictly and finds the parts.
    pub fn parse(bytes: Bytes) -> Result<Self, NoMessage> {
        json::check(&bytes)?;
        Self::of_checked(bytes)
    }

    fn of_checked(bytes: Bytes) -> Result<Self, NoMessage> {
        let invalid = |text: &str| Err(NoMessage { code: meta::INVALID_REQUEST, text: text.to_owned() });
        let (mut version, mut id, mut method, mut params, mut result, mut error) =
            (false, None, None, None, None, None);
        match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => {}
            Some(b'[') => return invalid("batches are not part of the protocol here; send each message by itself"),
            _ => return invalid("a JSON-RPC message is an object"),
        }
        for (name, value) in json::members(&bytes) {
            let slot = match name {
                b"jsonrpc" => {
                    version = value == b"\"2.0\"";
                    continue;
                }
                b"id" => &mut id,
                b"method" => &mut method,
                b"params" => &mut params,
                b"result" => &mut result,
                b"error" => &mut error,
                // A name that only differs in case or escapes could be read as the real one by somebody else.
                other if is_disguised(other) => {
                    return invalid(
                        "`jsonrpc`, `id`, `method`, `params`, `result` and `error` are written in plain lower case",
                    );
                }
                _ => continue,
            };
            *slot = Some(json::span(&bytes, value));
        }
        if !version {
            return invalid("`jsonrpc` must be \"2.0\"");
        }
        let id_text = id.clone().map(|range| &bytes[range]);
        let shape = match (&method, &result, &error) {
            (Some(_), None, None) if id.is_some() => Shape::Request,
            (Some(_), None, None) => Shape::Notification,
            (None, Some(_), None) if id.is_some() => Shape::Result,
            (None, None, Some(_)) => Shape::Error,
            (None, Some(_), None) => return invalid("a result needs an `id`"),
            (None, None, None) => return invalid("there is no `method`, `result` or `error`"),
            _ => return invalid("only one of `method`, `result` and `error` may be there"),
        };
        match id_text.and_then(|text| text.first()) {
            None | Some(b'"' | b'-' | b'0'..=b'9') => {}
            Some(b'n') if shape == Shape::Error => {}
            _ => return invalid("`id` must be a string or a number"),
        }
        let method = match method {
            Some(range) if bytes[range.start] == b'"' && range.len() > 2 => range,
            Some(_) => return invalid("`method` must be a string that is not empty"),
            None => 0..0,
        };
        // The protocol narrows JSON-RPC: parameters are named, never positional.
        if let Some(range) = &params
            && bytes[range.start] != b'{'
        {
            return Err(NoMessage { code: meta::INVALID_PARAMS, text: "`params` must be an object".to_owned() });
        }
        let (mut name, mut meta) = (None, None);
        if let Some(range) = &params {
            for (written, value) in json::members(&bytes[range.clone()]) {
                if json::is_name(written, "name") {
                    name = Some(json::span(&bytes, value));
                } else if json::is_name(written, "_meta") {
                    meta = Some(json::span(&bytes, value));
                }
            }
        }
        Ok(Self { shape, id, method, body: params.or(result).or(error), name, meta, bytes })
    }

    /// What it is.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The whole, as written.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The whole, as written.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The id, as written (quotes included).
    pub fn id(&self) -> Option<&[u8]> {
        self.id.clone().map(|range| &self.bytes[range])
    }

    /// The id, as written, sharing the message's memory.
    pub fn id_bytes(&self) -> Option<Bytes> {
        self.id.clone().map(|range| self.bytes.slice(range))
    }

    /// The method; empty for a response.
    pub fn method(&self) -> Cow<'_, str> {
        json::text(&self.bytes[self.method.clone()]).unwrap_or_default()
    }

    /// `params`, `result` or `error`, as written.
    pub fn body(&self) -> Option<&[u8]> {
        self.body.clone().map(|range| &self.bytes[range])
    }

    /// A member of `params`, `result` or `error`.
    pub fn member(&self, name: &str) -> Option<&[u8]> {
        let known = match name {
            "name" if self.is_call() => &self.name,
            "_meta" if self.is_call() => &self.meta,
            _ => return json::get(self.body()?, name),
        };
        known.clone().map(|range| &self.bytes[range])
    }

    fn is_call(&self) -> bool {
        matches!(self.shape, Shape::Request | Shape::Notification)
    }

    /// A string member of `params`, `result` or `error`.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        json::text(self.member(name)?)
    }

    /// A member of `_meta` in `params` or `result`.
    pub fn meta(&self, name: &str) -> Option<&[u8]> {
        json::get(self.member("_meta")?, name)
    }

    /// The numeric code of an error.
    pub fn error_code(&self) -> Option<i64> {
        if self.shape != Shape::Error {
            return None;
        }
        std::str::from_utf8(self.member("code")?).ok()?.parse().ok()
    }

    /// The bytes with the parts at `edits` replaced; each `part` must be a slice of this message, in order and apart.
    pub fn splice(&self, edits: &[(&[u8], &[u8])]) -> Bytes {
        let edits: Vec<_> = edits.iter().map(|(part, new)| (json::span(&self.bytes, part), *new)).collect();
        json::splice(&self.bytes, &edits)
    }

    /// The message with one string in it replaced; `part` must be a slice of this message.
    pub fn with_text(&self, part: &[u8], text: &str) -> Result<Self, NoMessage> {
        // Checked already, and a quoted string in place of another leaves it so.
        Self::of_checked(self.splice(&[(part, json::quote(text).as_bytes())]))
    }

    /// The bytes with another id.
    pub fn with_id(&self, id: &[u8]) -> Bytes {
        match self.id() {
            Some(old) if old == id => self.bytes.clone(),
            Some(old) => self.splice(&[(old, id)]),
            None => self.bytes.clone(),
        }
    }
}

fn is_disguised(name: &[u8]) -> bool {
    const NAMES: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
    if memchr::memchr(b'\\', name).is_some() {
        return NAMES.iter().any(|known| json::is_name(name, known));
    }
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// A result for the request with this id, both as JSON texts.
pub fn result(id: &[u8], result: &[u8]) -> Bytes {
    [b"{\"jsonrpc\":\"2.0\",\"id\":".as_slice(), id, b",\"result\":", result, b"}"].concat().into()
}

/// A request or, without an id, a notification.
pub fn call(id: Option<&[u8]>, method: &str, params: &[u8]) -> Bytes {
    let method = json::quote(method);
    let mut out = Vec::with_capacity(64 + method.len() + params.len());
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\"");
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        out.extend_from_slice(id);
    }
    out.extend_from_slice(b",\"method\":");
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(b",\"params\":");
    out.extend_from_slice(params);
    out.push(b'}');
    out.into()
}

/// An error for the request with this id; `data` is JSON.
pub fn error(id: Option<&[u8]>, code: i32, text: &str, data: Option<&str>) -> Bytes {
    let mut out = String::from("{\"jsonrpc\":\"2.0\",");
    if let Some(id) = id {
        out.push_str("\"id\":");
        out.push_str(&String::from_utf8_lossy(id));
        out.push(',');
    }
    out.push_str("\"error\":{\"code\":");
    out.push_str(&code.to_string());
    out.push_str(",\"message\":");
    out.push_str(&json::quote(text));
    if let Some(data) = data {
        out.push_str(",\"data\":");
        out.push_str(data);
    }
    out.push_str("}}");
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Message, NoMessage> {
        Message::parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn each_shape_is_known_by_its_members() {
        let shapes = [
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, Shape::Request),
            (r#"{"method":"notifications/initialized","jsonrpc":"2.0","params":{}}"#, Shape::Notification),
            (r#"{"result":{},"jsonrpc":"2.0","id":"a"}"#, Shape::Result),
            (r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}"#, Shape::Error),
            (r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"x"}}"#, Shape::Error),
        ];
        for (text, shape) in shapes {
            assert_eq!(parse(text).map(|message| message.shape()), Ok(shape), "{text}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused_with_the_right_code() {
        for (text, code) in [
            ("{", meta::PARSE_ERROR),
            ("[]", meta::INVALID_REQUEST),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, meta::INVALID_REQUEST),
            ("3", meta::INVALID_REQUEST),
            (r#"{"id":1,"method":"ping"}"#, meta::INVALID_REQUEST),
            (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, meta::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, meta::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, meta::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, meta::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1}"#, meta::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, meta::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","METHOD":"tools/call"}"#, meta::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","m\u0065thod":"tools/call"}"#, meta::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#, meta::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}"#, meta::INVALID_PARAMS),
        ] {
            assert_eq!(parse(text).map_err(|error| error.code).map(|_| ()), Err(code), "{text}");
        }
    }

    #[test]
    fn a_change_leaves_every_other_byte_alone() {
        let text = r#"{ "jsonrpc":"2.0", "x":9007199254740993, "id":1.0, "method":"tools/call","params":{"name":"a","arguments":{"n":1E+2}} }"#;
        let message = parse(text).unwrap();
        assert_eq!(message.id(), Some(&b"1.0"[..]));
        let name = message.member("name").unwrap();
        let changed = message.splice(&[(message.id().unwrap(), b"7"), (name, b"\"b\"")]);
        assert_eq!(changed, text.replace("1.0,", "7,").replace("\"a\"", "\"b\""));
    }
}
