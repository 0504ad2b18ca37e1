//! What a client announces about a message: which era it speaks, and, in the modern one, the headers that mirror the body
//! (2026-07-28, basic/transports/streamable-http, "Request Metadata" and "Server Validation"). Headers and body must agree,
//! so that nobody between client and gateway sees another request than the gateway does.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::json;
use crate::mcp::error::Refusal;
use crate::protocol::era::{Era, Version};
use crate::protocol::message::{Message, Shape};
use crate::protocol::meta;
use crate::registry::catalog::Mirrored;
use crate::telemetry::TraceParent;

/// Methods that the modern era has no more.
const REMOVED: [&str; 5] = ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];

/// The headers that say to which trace a request belongs (W3C Trace Context).
pub const TRACE: [&str; 2] = ["traceparent", "tracestate"];

/// Longest header of a trace that is carried on, bytes.
pub const MOST_TRACE: usize = 512;

/// The era of a message. Modern is what names a modern version, in header or body, or a version that nobody speaks.
pub fn era_of(headers: &HeaderMap, message: &Message) -> Era {
    let modern = |version: Option<Version>| version.is_none_or(|version| version.era() == Era::Modern);
    if message.meta(meta::PROTOCOL_VERSION).is_some() {
        return Era::Modern;
    }
    match headers.get(&meta::VERSION_HEADER) {
        Some(value) if modern(value.to_str().ok().and_then(Version::parse)) => Era::Modern,
        _ => Era::Legacy,
    }
}

/// Checks a modern message against its headers, and that its method is one of the modern era.
pub fn check_modern(headers: &HeaderMap, message: &Message) -> Result<(), Refusal> {
    let announced = only(headers, &meta::VERSION_HEADER)?;
    let stated = message.meta(meta::PROTOCOL_VERSION).map(|value| json::text(value).unwrap_or_default());
    match (announced, &stated) {
        (None, _) => return mismatch("the header MCP-Protocol-Version is missing"),
        (Some(announced), Some(stated)) if announced != stated => {
            return mismatch(&format!("MCP-Protocol-Version is `{announced}`, but `_meta` says `{stated}`"));
        }
        (Some(announced), _) if Version::parse(announced).is_none_or(|version| version.era() != Era::Modern) => {
            return Err(Refusal::version(announced));
        }
        (Some(_), None) if message.shape() == Shape::Request => return Err(missing(meta::PROTOCOL_VERSION)),
        _ => {}
    }
    if message.shape() != Shape::Request {
        return Ok(());
    }
    match message.meta(meta::CLIENT_CAPABILITIES) {
        None => return Err(missing(meta::CLIENT_CAPABILITIES)),
        Some(value) if !value.starts_with(b"{") => {
            let text = format!("Invalid params: `_meta` member `{}` must be an object", meta::CLIENT_CAPABILITIES);
            return Err(Refusal::bad(meta::INVALID_PARAMS, text));
        }
        Some(_) => {}
    }
    let method = message.method();
    match only(headers, &meta::METHOD_HEADER)? {
        None => return mismatch("the header Mcp-Method is missing"),
        Some(header) if header != method => {
            return mismatch(&format!("Mcp-Method is `{header}`, but the body says `{method}`"));
        }
        Some(_) => {}
    }
    if let Some(member) = named_by(&method) {
        let body = message.text(member).unwrap_or_default();
        match only(headers, &meta::NAME_HEADER)?.map(meta::decode) {
            None => return mismatch("the header Mcp-Name is missing"),
            Some(None) => return mismatch("the Base64 form of Mcp-Name is broken"),
            Some(Some(header)) if header != body => {
                return mismatch(&format!("Mcp-Name is `{header}`, but the body says `{body}`"));
            }
            Some(Some(_)) => {}
        }
    }
    if REMOVED.contains(&method.as_ref()) {
        return Err(Refusal::no_method(Era::Modern, &method));
    }
    Ok(())
}

/// The member of `params` that `Mcp-Name` mirrors.
pub fn named_by(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    }
}

/// Checks the headers that mirror tool parameters against the arguments of the call.
pub fn check_params(headers: &HeaderMap, message: &Message, mirrored: &[Mirrored]) -> Result<(), Refusal> {
    for parameter in mirrored {
        let header = only(headers, &parameter.header)?;
        match (header.map(meta::decode), argument(message, parameter)) {
            (None, Some(_)) => return mismatch(&format!("the header {} is missing", parameter.header)),
            (Some(None), _) => return mismatch(&format!("the Base64 form of {} is broken", parameter.header)),
            (Some(Some(_)), None) => {
                return mismatch(&format!("{} is there, but the argument is not", parameter.header));
            }
            (Some(Some(header)), Some(body)) if !body.is_said_by(&header) => {
                return mismatch(&format!("{} does not say what the argument says", parameter.header));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The headers that mirror tool parameters, for a server of the modern era.
pub fn mirror_params(message: &Message, mirrored: &[Mirrored]) -> Vec<(HeaderName, HeaderValue)> {
    let header = |parameter: &Mirrored| {
        let value = argument(message, parameter)?;
        Some((parameter.header.clone(), HeaderValue::from_str(&meta::encode(value.text())).ok()?))
    };
    mirrored.iter().filter_map(header).collect()
}

/// Those of [`TRACE`], to be carried on as they are. `tracestate`
/// means nothing without a good `traceparent`, and a second value of either is somebody's mistake.
pub fn trace_headers(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let one = |name: &'static str| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().filter(|value| value.len() <= MOST_TRACE)?;
        values.next().is_none().then(|| (HeaderName::from_static(name), value.clone()))
    };
    let [parent, state] = TRACE;
    match one(parent) {
        Some(parent) if TraceParent::of(headers).is_some() => {
            [Some(parent), one(state)].into_iter().flatten().collect()
        }
        _ => Vec::new(),
    }
}

/// An argument that a header may mirror.
enum Argument<'a> {
    String(Cow<'a, str>),
    Number(&'a str),
    /// `true` or `false`.
    Boolean(&'a str),
}

impl Argument<'_> {
    /// As it stands in a header.
    fn text(&self) -> &str {
        match self {
            Self::String(text) => text,
            Self::Number(text) | Self::Boolean(text) => text,
        }
    }

    /// Whether a header says the same. Only numbers are compared as numbers: `42.0` is `42`, but not for a string.
    fn is_said_by(&self, header: &str) -> bool {
        let text = self.text();
        match self {
            _ if header == text => true,
            Self::Number(_) => match (whole(header), whole(text)) {
                // A float would take two large numbers for one.
                (Some(one), Some(other)) => one == other,
                _ => header.parse::<f64>().is_ok_and(|one| text.parse().is_ok_and(|other: f64| same(one, other))),
            },
            Self::String(_) | Self::Boolean(_) => false,
        }
    }
}

/// An integer without fraction and exponent.
fn whole(text: &str) -> Option<i128> {
    text.parse().ok()
}

#[expect(clippy::float_cmp, reason = "two spellings of one number are one float")]
fn same(one: f64, other: f64) -> bool {
    one == other
}

/// The argument; `None` when it is absent, null or no primitive.
fn argument<'a>(message: &'a Message, parameter: &Mirrored) -> Option<Argument<'a>> {
    let value = parameter.path.iter().try_fold(message.member("arguments")?, |value, name| json::get(value, name))?;
    match value.first()? {
        b'"' => json::text(value).map(Argument::String),
        b'{' | b'[' | b'n' => None,
        b't' | b'f' => std::str::from_utf8(value).ok().map(Argument::Boolean),
        _ => std::str::from_utf8(value).ok().map(Argument::Number),
    }
}

/// The one value of a header. Where it comes more than once and differs, one reader would go by the first and the next by the
/// last.
pub fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.any(|other| other != value) {
        return mismatch(&format!("the header {name} is there more than once, with different values"));
    }
    match value.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_) => mismatch(&format!("the header {name} holds characters that no header may hold")),
    }
}

fn mismatch<T>(what: &str) -> Result<T, Refusal> {
    let what: String = what.chars().take(300).collect();
    Err(Refusal::bad(meta::HEADER_MISMATCH, format!("Header mismatch: {what}")))
}

fn missing(key: &str) -> Refusal {
    Refusal::bad(meta::INVALID_PARAMS, format!("Invalid params: `_meta` needs the member `{key}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_what_the_argument_says_by_the_arguments_own_type() {
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"text":"7","number":7,"big":9007199254740993,"half":0.5,"yes":true,"none":null}}}"#;
        let message = Message::parse(bytes::Bytes::from_static(text.as_bytes())).unwrap();
        let says = |name: &str, header: &str| {
            let parameter = Mirrored { header: HeaderName::from_static("mcp-param-x"), path: vec![name.into()].into() };
            let headers = HeaderMap::from_iter([(parameter.header.clone(), HeaderValue::from_str(header).unwrap())]);
            check_params(&headers, &message, &[parameter]).is_ok()
        };
        for (name, header) in
            [("text", "7"), ("number", "7"), ("number", "7.0"), ("number", "70e-1"), ("half", "5e-1"), ("yes", "true")]
        {
            assert!(says(name, header), "{name}: {header}");
        }
        for (name, header) in [
            ("text", "7.0"),
            ("text", "07"),
            ("number", "8"),
            ("number", "x"),
            ("big", "9007199254740992"),
            ("half", "0.6"),
            ("yes", "True"),
            ("none", "null"),
        ] {
            assert!(!says(name, header), "{name}: {header}");
        }
    }

    #[test]
    fn a_header_that_comes_twice_with_different_values_is_refused() {
        let name = HeaderName::from_static("mcp-name");
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&name, HeaderValue::from_static(value));
            }
            only(&headers, &name).map(|value| value.map(str::to_owned))
        };
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&["a", "a"]).unwrap().as_deref(), Some("a"));
        assert_eq!(of(&["a", "b"]).unwrap_err().code, meta::HEADER_MISMATCH);
    }

    #[test]
    fn a_trace_is_carried_on_whole_or_not_at_all() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let carried = |list: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in list {
                headers.append(*name, HeaderValue::from_str(value).unwrap());
            }
            trace_headers(&headers).into_iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(carried(&[("traceparent", good), ("tracestate", "a=1")]), ["traceparent", "tracestate"]);
        assert_eq!(carried(&[("traceparent", good), ("tracestate", &"a".repeat(600))]), ["traceparent"]);
        for none in
            [&[("tracestate", "a=1")][..], &[("traceparent", "x")], &[("traceparent", good), ("traceparent", good)]]
        {
            assert!(carried(none).is_empty(), "{none:?}");
        }
    }
}
