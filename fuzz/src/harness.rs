//! One function for each reader of bytes from outside. It takes any bytes and panics when a promise is broken. Coverage-guided
//! fuzzing (`fuzz_targets/`, nightly compiler) and the runner in `tests/fuzz.rs` (stable compiler) call the same functions.
//!
//! The oracle is `serde_json`, read through visitors of our own where it is more lenient than the gateway.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use mcp_registry_gateway::grants::redirect::{Place, RedirectUri, Schemes};
use mcp_registry_gateway::json::{self, Problem};
use mcp_registry_gateway::protocol::message::{Message, Shape};
use mcp_registry_gateway::protocol::sse::{self, Event, Reader};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A harness with its name and the folder of its seeds under `fuzz/seeds`.
pub struct Target {
    /// Name, as in `fuzz_targets/`.
    pub name: &'static str,
    /// Folder with inputs to begin with.
    pub seeds: &'static str,
    /// The harness. It says whether the input got as far as what it is about, so that a runner can keep to such inputs.
    pub run: fn(&[u8]) -> bool,
}

/// Every harness. A new reader gets its line here, a file in `fuzz_targets/` and seeds.
pub const TARGETS: &[Target] = &[
    Target { name: "json_check", seeds: "json", run: json_check },
    Target { name: "json_read", seeds: "json", run: json_read },
    Target { name: "json_splice", seeds: "json", run: json_splice },
    Target { name: "sse_events", seeds: "sse", run: sse_events },
    Target { name: "message_parse", seeds: "json", run: message_parse },
    Target { name: "redirect_uri", seeds: "redirect", run: redirect_uri },
];

/// `json::check` accepts exactly what the oracle accepts, less duplicate names and nesting past the bound.
pub fn json_check(data: &[u8]) -> bool {
    let oracle = serde_json::from_slice::<Distinct>(data);
    let ours = json::check(data);
    match (&ours, &oracle) {
        // A duplicate is looked at more closely below.
        (Ok(()), Ok(_)) | (Err(_), Err(_)) => {}
        (Ok(()), Err(error)) => {
            let text = error.to_string();
            // Numbers past f64 and half of a surrogate pair are JSON all the same (RFC 8259, sections 6 and 8.2). The oracle
            // counts nesting a little differently.
            let known =
                ["number out of range", "surrogate", "unexpected end of hex escape", "recursion limit exceeded"]
                    .iter()
                    .any(|known| text.contains(known));
            assert!(known, "accepted, but the oracle says: {text}");
        }
        (Err(Problem::TooDeep { .. }), oracle) => {
            let brackets = data.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
            assert!(brackets > json::MAX_DEPTH, "refused as too deep with {brackets} brackets: {oracle:?}");
        }
        (Err(problem), Ok(_)) => panic!("refused ({problem}), but the oracle accepts it"),
    }
    if let Err(Problem::Duplicate { .. }) = ours {
        // The oracle stops at whatever is wrong first in its own order; leniently read, a duplicate must be what it meets.
        let plain = serde_json::from_slice::<serde_json::Value>(data);
        if plain.is_ok() {
            let error = oracle.expect_err("checked above").to_string();
            assert!(
                error.contains(TWICE) || error.contains("number out of range"),
                "refused as duplicate, but: {error}"
            );
        }
    }
    ours.is_ok()
}

/// Readers never panic on anything, and on checked text they see what the oracle sees, byte for byte.
pub fn json_read(data: &[u8]) -> bool {
    walk(data, 4);
    if json::check(data).is_err() {
        return false;
    }
    if let Ok(oracle) = serde_json::from_slice::<Members>(data) {
        let ours: Vec<_> = json::members(data).collect();
        assert_eq!(ours.len(), oracle.0.len(), "number of members");
        for ((written, value), (name, raw)) in ours.iter().zip(&oracle.0) {
            assert!(json::is_name(written, name), "{written:?} is not {name:?}");
            assert_eq!(*value, raw.get().as_bytes(), "value of {name:?}");
            assert_eq!(json::get(data, name), Some(*value), "look-up of {name:?}");
            assert_eq!(&data[json::span(data, value)], *value, "span of {name:?}");
            if let Ok(text) = serde_json::from_str::<String>(raw.get()) {
                assert_eq!(json::text(value).as_deref(), Some(text.as_str()), "text of {name:?}");
                assert_eq!(serde_json::from_str::<String>(&json::quote(&text)).ok(), Some(text), "quoted again");
            } else {
                // A text that the oracle cannot hold, for half of a surrogate pair, stands for itself.
                let as_written = raw.get().strip_prefix('"').and_then(|text| text.strip_suffix('"'));
                assert_eq!(json::text(value).as_deref(), as_written, "{name:?}");
            }
        }
    } else if let Ok(oracle) = serde_json::from_slice::<Vec<&RawValue>>(data) {
        let ours: Vec<_> = json::elements(data).collect();
        let oracle: Vec<_> = oracle.iter().map(|raw| raw.get().as_bytes()).collect();
        assert_eq!(ours, oracle, "elements");
    } else if data.trim_ascii_start().starts_with(b"{") {
        // A name that the oracle cannot hold.
        assert!(json::members(data).count() > 0, "an object that the oracle refuses has a name in it");
    } else {
        assert_eq!((json::members(data).count(), json::elements(data).count()), (0, 0), "neither object nor array");
    }
    true
}

/// What `json_splice` puts in.
const NEW: [&[u8]; 4] = [b"null", b"\"\\u0061\"", b"[1,{\"x\":2}]", b"-0.5e7"];

/// Values of a checked object exchanged by `splice` are exchanged, and every other byte stays.
pub fn json_splice(data: &[u8]) -> bool {
    if json::check(data).is_err() || serde_json::from_slice::<Members>(data).is_err() {
        return false;
    }
    // Which members change is drawn from the bytes themselves, so that a finding can be repeated.
    let mut draw = data.iter().fold(0x9e37_79b9_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let mut edits: Vec<(Range<usize>, &[u8])> = Vec::new();
    let mut expected: Vec<(&[u8], &[u8])> = Vec::new();
    for (name, value) in json::members(data) {
        draw = draw.rotate_left(5).wrapping_mul(0x9e37_79b1);
        let new = NEW[(draw >> 8) as usize % NEW.len()];
        if draw & 1 == 0 {
            edits.push((json::span(data, value), new));
        }
        expected.push((name, if draw & 1 == 0 { new } else { value }));
    }
    let spliced = json::splice(data, &edits);
    assert_eq!(json::check(&spliced), Ok(()), "still strict JSON");
    assert_eq!(json::members(&spliced).collect::<Vec<_>>(), expected);
    let back: Vec<(Range<usize>, &[u8])> = {
        let originals = json::members(data).map(|(_, value)| value);
        json::members(&spliced).zip(originals).map(|((_, new), old)| (json::span(&spliced, new), old)).collect()
    };
    assert_eq!(&json::splice(&spliced, &back)[..], data, "the old values put back give the old bytes");
    !edits.is_empty()
}

/// However a stream is cut into pieces, the same events come out, with the fields that the standard gives them, and no byte
/// is lost. What `frame` writes is read back.
pub fn sse_events(data: &[u8]) -> bool {
    let whole = read_events(data, usize::MAX);
    // The sizes of the pieces come from the bytes themselves, so that a finding can be repeated.
    let size = 1 + data.iter().map(|byte| usize::from(*byte)).sum::<usize>() % 17;
    assert_eq!(read_events(data, size), whole, "cut into pieces of {size}");
    assert_eq!(read_events(data, 1), whole, "byte by byte");

    let (events, rest) = &whole;
    let stream = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    let together: Vec<u8> = events.iter().flat_map(|event| event.raw.iter().copied()).collect();
    assert!(stream.starts_with(&together), "events are the bytes of the stream");
    assert_eq!(stream.len(), together.len() + rest, "every byte is in an event or waits for its end");
    let plain: Vec<_> = events.iter().map(Plain::of).collect();
    assert_eq!(plain, read_plainly(&together), "fields");

    let framed = sse::frame(data, Some(b"7"), Some(10));
    let (back, rest) = read_events(&framed, usize::MAX);
    assert_eq!((back.len(), rest), (1, 0), "a frame is one event");
    let lines: Vec<u8> = data.iter().map(|byte| if *byte == b'\r' { b'\n' } else { *byte }).collect();
    assert_eq!(back[0].data.as_deref(), Some(&lines[..]));
    assert_eq!((back[0].id.as_deref(), back[0].retry), (Some(&b"7"[..]), Some(10)));
    !events.is_empty()
}

fn read_events(data: &[u8], size: usize) -> (Vec<Event>, usize) {
    let mut reader = Reader::new(1 << 20);
    let mut events = Vec::new();
    for piece in data.chunks(size.min(data.len().max(1))) {
        reader.feed(piece);
        while let Some(event) = reader.event().expect("far under the bound") {
            events.push(event);
        }
    }
    (events, reader.unfinished())
}

/// The fields of an event.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plain {
    data: Option<Vec<u8>>,
    id: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    retry: Option<u64>,
}

impl Plain {
    fn of(event: &Event) -> Self {
        let owned = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| bytes.to_vec());
        Self { data: owned(&event.data), id: owned(&event.id), name: owned(&event.name), retry: event.retry }
    }
}

/// The algorithm of the standard, line by line, without regard to cost. Blocks without a field count as events, as they do
/// for the reader.
fn read_plainly(stream: &[u8]) -> Vec<Plain> {
    let (mut lines, mut line, mut bytes) = (Vec::new(), Vec::new(), stream.iter().peekable());
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' | b'\n' => {
                if *byte == b'\r' {
                    bytes.next_if_eq(&&b'\n');
                }
                lines.push(std::mem::take(&mut line));
            }
            other => line.push(*other),
        }
    }
    let (mut events, mut event, mut begun) = (Vec::new(), Plain::default(), false);
    for line in lines {
        if line.is_empty() {
            if std::mem::take(&mut begun) {
                events.push(std::mem::take(&mut event));
            }
            continue;
        }
        begun = true;
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (&line[..], &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value).to_vec();
        match field {
            b"data" => {
                event.data = Some(match event.data.take() {
                    Some(before) => [before, value].join(&b'\n'),
                    None => value,
                });
            }
            b"event" => event.name = Some(value),
            b"id" if !value.contains(&0) => event.id = Some(value),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                event.retry = String::from_utf8(value).ok().and_then(|text| text.parse().ok()).or(event.retry);
            }
            _ => {}
        }
    }
    events
}

/// What is read as a message has the parts that the oracle reads, a plain request is read as one, and an id exchanged and put
/// back leaves every byte as it was.
pub fn message_parse(data: &[u8]) -> bool {
    let distinct = serde_json::from_slice::<Distinct>(data).is_ok();
    let members = serde_json::from_slice::<Members>(data).map(|members| members.0).unwrap_or_default();
    let find = |name: &str| members.iter().find(|(other, _)| other == name).map(|(_, raw)| raw.get());
    let message = match Message::parse(Bytes::copy_from_slice(data)) {
        Ok(message) => message,
        Err(refusal) => {
            let known =
                |(name, _): &(String, &RawValue)| matches!(name.as_str(), "jsonrpc" | "id" | "method" | "params");
            let plain = distinct
                && members.iter().all(known)
                && find("jsonrpc") == Some("\"2.0\"")
                && find("id").is_some_and(|id| id.starts_with(|first: char| first == '"' || first.is_ascii_digit()))
                && find("method").is_some_and(|method| method.starts_with('"') && method.len() > 2)
                && find("params").is_none_or(|params| params.starts_with('{'))
                && !data.contains(&b'\\');
            assert!(!plain, "a plain request is refused: {refusal}");
            return false;
        }
    };
    if members.is_empty() {
        // Only numbers past f64 and nesting right at the bound may keep the oracle from reading along.
        return false;
    }
    // Half a surrogate pair, which the oracle cannot read, stays as it is spelled.
    let spelled = |raw: &str| raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).unwrap_or(raw).to_owned();
    let method = find("method").map(|raw| serde_json::from_str(raw).unwrap_or_else(|_| spelled(raw)));
    assert_eq!(message.method(), method.as_deref().unwrap_or_default());
    assert_eq!(message.id(), find("id").map(str::as_bytes));
    let shape = match (find("method"), find("id"), find("result")) {
        (Some(_), Some(_), _) => Shape::Request,
        (Some(_), None, _) => Shape::Notification,
        (None, _, Some(_)) => Shape::Result,
        (None, _, None) => Shape::Error,
    };
    assert_eq!(message.shape(), shape);
    let body = match shape {
        Shape::Request | Shape::Notification => find("params"),
        Shape::Result => find("result"),
        Shape::Error => find("error"),
    };
    let inner = body.and_then(|body| serde_json::from_str::<Members>(body).ok()).map(|members| members.0);
    // Where the oracle reads none, it is no object, or one that the oracle cannot read.
    for name in ["name", "_meta", "isError", "other"].into_iter().filter(|_| inner.is_some()) {
        let inner = inner.iter().flatten().find(|(other, _)| other == name).map(|(_, raw)| raw.get().as_bytes());
        assert_eq!(message.member(name), inner, "{name}");
    }
    let body = body.map(str::as_bytes);
    assert_eq!(message.body(), body);
    if let Some(name) = message.member("name").filter(|name| name.starts_with(b"\"")) {
        let changed = message.with_text(name, "an\"other");
        let again = Message::parse(changed.bytes().clone()).expect("still a message");
        assert_eq!(again.text("name").as_deref(), Some("an\"other"));
        let parts = |message: &Message| {
            [message.id(), message.body(), message.member("_meta"), message.member("isError")]
                .map(|part| part.map(<[u8]>::to_vec))
        };
        assert_eq!((parts(&changed), changed.method()), (parts(&again), again.method()));
    }
    if let Some(id) = message.id() {
        let renamed = message.with_id(b"\"another\"");
        let again = Message::parse(renamed).expect("still a message");
        assert_eq!((again.id(), again.shape(), again.body()), (Some(&b"\"another\""[..]), shape, body));
        assert_eq!(&again.with_id(id)[..], data, "the old id put back");
    }
    true
}

/// A redirect URI that is taken leads where the standard's reader says, and is met by itself and, on the own machine alone, by
/// itself at another port.
pub fn redirect_uri(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(uri) = RedirectUri::parse(text, &Schemes::default()) else { return false };
    let read = url::Url::parse(text).expect("what is taken is a URL");
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "only printable ASCII");
    assert!(read.fragment().is_none() && read.username().is_empty() && read.password().is_none());
    let host = read.host_str().unwrap_or_default();
    match uri.place() {
        Place::Web => assert_eq!(read.scheme(), "https"),
        Place::Loopback => assert!(matches!(host, "127.0.0.1" | "[::1]" | "localhost"), "{host}"),
        Place::App => assert!(!matches!(read.scheme(), "http" | "https" | "javascript" | "data" | "file" | "blob")),
    }
    assert!(uri.matches(text), "it is itself");
    let mut moved = read.clone();
    if read.as_str() == text && read.port() != Some(4711) && moved.set_port(Some(4711)).is_ok() {
        assert_eq!(uri.matches(moved.as_str()), uri.place() == Place::Loopback, "{moved}");
    }
    if host != "evil.example" && moved.set_host(Some("evil.example")).is_ok() {
        assert!(!uri.matches(moved.as_str()), "{moved}");
    }
    true
}

fn walk(data: &[u8], depth: usize) {
    if depth == 0 {
        return;
    }
    for (name, value) in json::members(data) {
        let _ = (json::is_name(name, "method"), json::text(value), json::path(data, &["params", "name"]));
        walk(value, depth - 1);
    }
    for element in json::elements(data) {
        walk(element, depth - 1);
    }
}

const TWICE: &str = "name occurs twice";

/// Any value in which no object holds a name twice.
#[derive(Debug)]
struct Distinct;

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = Distinct;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Distinct, E> {
                Ok(Distinct)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Distinct, E> {
                Ok(Distinct)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Distinct, E> {
                Ok(Distinct)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Distinct, E> {
                Ok(Distinct)
            }
            fn visit_str<E>(self, _: &str) -> Result<Distinct, E> {
                Ok(Distinct)
            }
            fn visit_unit<E>(self) -> Result<Distinct, E> {
                Ok(Distinct)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Distinct, A::Error> {
                while seq.next_element::<Distinct>()?.is_some() {}
                Ok(Distinct)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Distinct, A::Error> {
                let (mut seen, mut twice) = (HashSet::new(), false);
                while let Some(name) = map.next_key::<String>()? {
                    twice |= !seen.insert(name);
                    map.next_value::<Distinct>()?;
                }
                if twice { Err(A::Error::custom(TWICE)) } else { Ok(Distinct) }
            }
        }
        deserializer.deserialize_any(Walk)
    }
}

/// The members of an object in the order in which they are written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Walk)
    }
}
