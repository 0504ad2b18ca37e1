//! One JSON-RPC message, read as an envelope: what kind it is, its `id` and `method`, and where `params` and `result` stand in
//! the bytes. Everything else stays as the sender wrote it; a change is a splice that leaves every other byte alone.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use crate::json::{self, Listener, Name};
use crate::protocol::disguise::folds_to;
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
    /// The method, if it is one of [`meta::REQUESTS`] in plain letters.
    request: Option<&'static str>,
    body: Option<Body>,
}

/// `params` of a request or notification, `result` or `error` of a response.
#[derive(Debug, Clone)]
struct Body {
    whole: Range<usize>,
    known: Known,
    meta: KnownMeta,
}

/// Members of a body that every message is asked for, some of them several times.
const KNOWN: [&str; 4] = ["name", "_meta", "isError", "task"];

/// The same of `_meta` in a body.
const KNOWN_META: [&str; 4] = [meta::PROTOCOL_VERSION, meta::CLIENT_CAPABILITIES, meta::RELATED_TASK, meta::LOG_LEVEL];

/// Names of the envelope.
const ENVELOPE: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

/// Members of `params` by which something is decided here, before a server reads them again.
const DECIDING: [&str; 15] = [
    "name",
    "_meta",
    "arguments",
    "uri",
    "cursor",
    "ref",
    "level",
    "requestId",
    "progressToken",
    "protocolVersion",
    "capabilities",
    "clientInfo",
    "notifications",
    "task",
    "taskId",
];

/// The same of `ref` in `params`.
const OF_REF: [&str; 3] = ["type", "name", "uri"];

type Known = [Spot; KNOWN.len()];
type KnownMeta = [Spot; KNOWN_META.len()];

/// Where a value stands; empty if it is not there. Messages are moved often, and none is as long as these could tell.
#[derive(Debug, Clone, Copy, Default)]
struct Spot {
    start: u32,
    end: u32,
}

impl Spot {
    fn of(range: Range<usize>) -> Self {
        let short = |at| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: short(range.start), end: short(range.end) }
    }

    fn range(self) -> Option<Range<usize>> {
        (self.end > 0).then_some(self.start as usize..self.end as usize)
    }
}

/// What is found while a text is checked.
#[derive(Default)]
struct Parts {
    version: Option<Range<usize>>,
    id: Option<Range<usize>>,
    method: Option<Range<usize>>,
    params: Option<Body>,
    result: Option<Body>,
    error: Option<Body>,
    /// Those of the member whose value is being read.
    known: Known,
    /// Those of its `_meta`.
    meta: KnownMeta,
    /// Those of the member of a member whose value is being read.
    inside: KnownMeta,
    /// There is a name that only differs in case or escapes from one of ours, and could be read as it by somebody else.
    disguised: bool,
    /// The one of [`DECIDING`] as which somebody else could read a name in the member whose value is being read.
    mistakable: Option<&'static str>,
    /// The one of [`OF_REF`] likewise, in the member of a member.
    mistakable_inside: Option<&'static str>,
    /// The same of `params`.
    mistakable_params: Option<&'static str>,
}

impl Listener for Parts {
    fn member(&mut self, depth: usize, name: Name<'_>, value: Range<usize>) {
        match depth {
            0 => {
                let (known, meta) = (std::mem::take(&mut self.known), std::mem::take(&mut self.meta));
                let body = Body { whole: value, known, meta };
                let mistakable = self.mistakable.take();
                match name.written {
                    b"jsonrpc" => self.version = Some(body.whole),
                    b"id" => self.id = Some(body.whole),
                    b"method" => self.method = Some(body.whole),
                    b"params" => {
                        self.params = Some(body);
                        self.mistakable_params = mistakable;
                    }
                    b"result" => self.result = Some(body),
                    b"error" => self.error = Some(body),
                    _ => {
                        let name = name.spelled();
                        self.disguised |= ENVELOPE.iter().any(|known| folds_to(&name, known));
                    }
                }
            }
            1 => {
                let name = name.spelled();
                let (inside, found) = (self.mistakable_inside.take(), std::mem::take(&mut self.inside));
                if *name == *b"_meta" {
                    self.meta = found;
                }
                if *name == *b"ref" && inside.is_some() {
                    self.mistakable = inside;
                }
                if let Some(known) = KNOWN.iter().position(|known| *name == *known.as_bytes()) {
                    self.known[known] = Spot::of(value);
                } else if let Some(known) = mistaken_for(&name, &DECIDING) {
                    self.mistakable = Some(known);
                }
            }
            2 => {
                let name = name.spelled();
                if let Some(known) = KNOWN_META.iter().position(|known| *name == *known.as_bytes()) {
                    self.inside[known] = Spot::of(value);
                } else if let Some(known) = mistaken_for(&name, &OF_REF) {
                    self.mistakable_inside = Some(known);
                }
            }
            _ => {}
        }
    }
}

/// Whether `written` is `text` between quotes.
fn is_quoted(written: &[u8], text: &str) -> bool {
    written.len() == text.len() + 2 && &written[1..=text.len()] == text.as_bytes()
}

/// The one of these names that somebody else could read in the place of another.
fn mistaken_for(name: &[u8], known: &[&'static str]) -> Option<&'static str> {
    known.iter().copied().find(|known| folds_to(name, known)).filter(|known| *name != *known.as_bytes())
}

impl Message {
    /// Checks `bytes` strictly and finds the parts.
    pub fn parse(bytes: Bytes) -> Result<Self, NoMessage> {
        let mut parts = Parts::default();
        json::check_telling(&bytes, &mut parts)?;
        Self::of(parts, bytes)
    }

    /// The same for what a client sends. What this side decides by must say the same to every server that reads it after.
    pub fn of_client(bytes: Bytes) -> Result<Self, NoMessage> {
        let mut parts = Parts::default();
        json::check_telling(&bytes, &mut parts)?;
        let mistakable = parts.mistakable_params;
        let message = Self::of(parts, bytes)?;
        if let Some(known) = mistakable {
            let text = format!("`params` holds a name that could be read as `{known}`; names are written exactly");
            return Err(NoMessage { code: meta::INVALID_REQUEST, text });
        }
        if matches!(message.shape, Shape::Request | Shape::Notification)
            && message.member("_meta").is_some_and(|held| !held.starts_with(b"{"))
        {
            return Err(NoMessage { code: meta::INVALID_PARAMS, text: "`_meta` must be an object".to_owned() });
        }
        // Some servers act on it all the same, and no rule for requests would have been asked.
        if message.shape == Shape::Notification && meta::REQUESTS.contains(&message.method().as_ref()) {
            return Err(NoMessage { code: meta::INVALID_REQUEST, text: "a request needs an `id`".to_owned() });
        }
        Ok(message)
    }

    fn of(parts: Parts, bytes: Bytes) -> Result<Self, NoMessage> {
        let invalid = |text: &str| Err(NoMessage { code: meta::INVALID_REQUEST, text: text.to_owned() });
        if u32::try_from(bytes.len()).is_err() {
            return invalid("a message is shorter than 4 GiB");
        }
        match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => {}
            Some(b'[') => return invalid("batches are not part of the protocol here; send each message by itself"),
            _ => return invalid("a JSON-RPC message is an object"),
        }
        let Parts { version, id, method, params, result, error, disguised, .. } = parts;
        if disguised {
            return invalid(
                "`jsonrpc`, `id`, `method`, `params`, `result` and `error` are written in plain lower case",
            );
        }
        if version.is_none_or(|range| &bytes[range] != b"\"2.0\"") {
            return invalid("`jsonrpc` must be \"2.0\"");
        }
        let shape = match (&method, &result, &error) {
            (Some(_), None, None) if id.is_some() => Shape::Request,
            (Some(_), None, None) => Shape::Notification,
            (None, Some(_), None) if id.is_some() => Shape::Result,
            (None, None, Some(_)) => Shape::Error,
            (None, Some(_), None) => return invalid("a result needs an `id`"),
            (None, None, None) => return invalid("there is no `method`, `result` or `error`"),
            _ => return invalid("only one of `method`, `result` and `error` may be there"),
        };
        match id.as_ref().map(|range| bytes[range.start]) {
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
        if let Some(params) = &params
            && bytes[params.whole.start] != b'{'
        {
            return Err(NoMessage { code: meta::INVALID_PARAMS, text: "`params` must be an object".to_owned() });
        }
        let body = match shape {
            Shape::Request | Shape::Notification => params,
            Shape::Result => result,
            Shape::Error => error,
        };
        let written = &bytes[method.clone()];
        let request = meta::REQUESTS.into_iter().find(|known| is_quoted(written, known));
        Ok(Self { bytes, shape, id, method, request, body })
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
        match self.request {
            Some(known) => Cow::Borrowed(known),
            None => json::text(&self.bytes[self.method.clone()]).unwrap_or_default(),
        }
    }

    /// `params`, `result` or `error`, as written.
    pub fn body(&self) -> Option<&[u8]> {
        self.body.as_ref().map(|body| &self.bytes[body.whole.clone()])
    }

    /// A member of `params`, `result` or `error`.
    pub fn member(&self, name: &str) -> Option<&[u8]> {
        let body = self.body.as_ref()?;
        match KNOWN.iter().position(|known| *known == name) {
            Some(known) => body.known[known].range().map(|range| &self.bytes[range]),
            None => json::get(&self.bytes[body.whole.clone()], name),
        }
    }

    /// A string member of `params`, `result` or `error`.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        json::text(self.member(name)?)
    }

    /// A member of `_meta` in `params` or `result`.
    pub fn meta(&self, name: &str) -> Option<&[u8]> {
        match KNOWN_META.iter().position(|known| *known == name) {
            Some(known) => self.body.as_ref()?.meta[known].range().map(|range| &self.bytes[range]),
            None => json::get(self.member("_meta")?, name),
        }
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
    #[must_use]
    pub fn with_text(&self, part: &[u8], text: &str) -> Self {
        // Checked already, and a quoted string in place of another leaves it so: what stands behind it moves.
        let (old, new) = (json::span(&self.bytes, part), json::quote(text));
        let moved = |at: usize| if at >= old.end { at - old.len() + new.len() } else { at };
        let mut message = self.clone();
        message.bytes = json::splice(&self.bytes, &[(old.clone(), new.as_bytes())]);
        let moved = |range: Range<usize>| moved(range.start)..moved(range.end);
        for range in message.id.iter_mut().chain([&mut message.method]) {
            *range = moved(range.clone());
        }
        if let Some(body) = &mut message.body {
            body.whole = moved(body.whole.clone());
            for spot in body.known.iter_mut().chain(&mut body.meta) {
                *spot = spot.range().map_or(*spot, |range| Spot::of(moved(range)));
            }
        }
        message
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
    fn a_request_of_a_client_has_an_id_and_what_nobody_knows_needs_none() {
        let of = |method: &str| {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"name":"a"}}}}"#);
            Message::of_client(text.into()).map(|message| message.shape()).map_err(|error| error.code)
        };
        for method in meta::REQUESTS.into_iter().chain([r"tools\/c\u0061ll"]) {
            assert_eq!(of(method), Err(meta::INVALID_REQUEST), "{method}");
        }
        for method in ["notifications/initialized", "notifications/of/tomorrow", "tools/of/tomorrow"] {
            assert_eq!(of(method), Ok(Shape::Notification), "{method}");
        }
    }

    #[test]
    fn a_name_that_servers_could_read_as_ours_is_refused_where_it_would_decide() {
        let with = |more: &str| {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"read"}}{more}}}"#);
            Message::of_client(text.into()).map(drop).map_err(|error| error.code)
        };
        let among = |more: &str| {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"x":1,{more}}}}}"#);
            Message::of_client(text.into()).map(drop).map_err(|error| error.code)
        };
        for name in ["Params", "param\u{17f}", r"param\u017f", r"P\u0061rams", "JSONRPC", "re\u{17f}ult", "iD"] {
            assert_eq!(with(&format!(r#","{name}":{{"name":"delete"}}"#)), Err(meta::INVALID_REQUEST), "{name}");
        }
        for name in ["Name", "NAME", r"\u004eame", "_Meta", "argument\u{17f}", "URI", "progressTo\u{212a}en"] {
            assert_eq!(among(&format!(r#""{name}":"delete""#)), Err(meta::INVALID_REQUEST), "{name}");
        }
        for good in [r#""n\u0061me":"a""#, r#""names":1"#, r#""arguments":{"Name":1,"URI":2}"#, r#""_meta":{"NAME":1}"#]
        {
            assert_eq!(among(good), Ok(()), "{good}");
        }
        assert_eq!(with(r#","more":{"Name":1}"#), Ok(()));
        for (reference, code) in [
            (r#""ref":{"type":"ref/prompt","name":"a"}"#, Ok(())),
            (r#""ref":{"name":"a","Name":"b"}"#, Err(meta::INVALID_REQUEST)),
            (r#""r\u0065f":{"uri":"a:b","UR\u0049":"c:d"}"#, Err(meta::INVALID_REQUEST)),
            (r#""ref":{"type":"ref/prompt","Type":"ref/resource","name":"a"}"#, Err(meta::INVALID_REQUEST)),
            (r#""argument":{"Name":"a"},"ref":{"name":"a"}"#, Ok(())),
            (r#""ref":{"name":"a","x":{"Name":"b"}}"#, Ok(())),
        ] {
            assert_eq!(among(reference), code, "{reference}");
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

    #[test]
    fn members_of_meta_are_those_of_the_body_however_they_are_written() {
        let (version, task) = (meta::PROTOCOL_VERSION, meta::RELATED_TASK);
        let escaped = version.replace("protocol", r"\u0070rotocol");
        let no = format!(r#"{{"{version}":"no","{task}":"no"}}"#);
        for (name, held) in [("_meta", version), (r"_m\u0065ta", version), ("_meta", escaped.as_str())] {
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":1,"x":{{"_meta":{no}}},"method":"tools/call","params":{{"y":{no},"{name}":{{"z":{no},"{held}":"yes"}},"w":{no}}},"v":{{"_meta":{no}}}}}"#
            );
            let message = parse(&text).unwrap();
            assert_eq!(message.meta(version), Some(&b"\"yes\""[..]), "{text}");
            assert_eq!(message.meta(task), None, "{text}");
        }
        let bare = parse(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"y":{no}}}}}"#)).unwrap();
        assert_eq!((bare.meta(version), bare.meta(task)), (None, None));
    }

    #[test]
    fn the_parts_are_found_wherever_they_stand_and_after_a_change_of_length() {
        let texts = [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"x":1},"arguments":{"name":"no"}}}"#,
            r#"{"params":{"list":[{"name":"no"}],"_meta":{"x":1},"n\u0061me":"a"},"other":{"name":"no"},"method":"tools/call","id":1,"jsonrpc":"2.0"}"#,
        ];
        for text in texts {
            let message = parse(text).unwrap();
            for new in ["", "b", "a much longer name", "\u{e9}\"\n"] {
                let changed = message.with_text(message.member("name").unwrap(), new);
                let read = Message::parse(changed.bytes().clone()).unwrap();
                assert_eq!(changed.text("name").unwrap(), new, "{text}");
                assert_eq!((changed.meta("x"), changed.id()), (Some(&b"1"[..]), Some(&b"1"[..])), "{text}");
                assert_eq!((changed.method(), changed.body()), (read.method(), read.body()), "{text}");
            }
        }
        let failed =
            parse(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"isError":false}],"isError":true}}"#).unwrap();
        assert_eq!(failed.member("isError"), Some(&b"true"[..]));
    }
}
