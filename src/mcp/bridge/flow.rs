//! A response that is too long to be kept, changed while it passes: the client's own id, and what its era demands of a result.
//! It is read only as far as that needs: the members of the message and of its result, each by name and place. Deeper down
//! nothing is looked at, so that what passes is not known to be JSON; that it ends where it should is.
//!
//! What cannot be changed in passing is said so as long as nothing has passed: an error, a question to the client.

use bytes::Bytes;
use memchr::memchr2;

use crate::fault::{Fault, Kind as FaultKind, Retry};
use crate::json;
use crate::mcp::bridge::answer::{CACHE, Fix};
use crate::protocol::era::Era;
use crate::telemetry::Outcome;
use crate::upstream::http::garbage;

/// Longest id, and longest short value, that is kept to be looked at.
const SHORT: usize = 4096;

/// See the module.
pub struct Flow {
    fix: Fix,
    scan: Scan,
    /// The member of the message, and of its result, that is being read.
    member: Option<Member>,
    inner: Option<Inner>,
    /// The short value that is being read.
    held: Vec<u8>,
    id: bool,
    result: bool,
    /// Whether the result has a member yet.
    filled: bool,
    kind: bool,
    /// Which of [`CACHE`] it has.
    cache: [bool; CACHE.len()],
    failed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Member {
    Id,
    Result,
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Inner {
    Kind,
    Failed,
    Other,
}

impl Flow {
    /// Nothing has passed yet.
    pub fn new(fix: Fix) -> Self {
        let (scan, held) = Default::default();
        let (id, result, filled, kind, cache, failed) = Default::default();
        Self { fix, scan, member: None, inner: None, held, id, result, filled, kind, cache, failed }
    }

    /// Reads the next piece and puts what is to go out behind `out`.
    pub fn push(&mut self, piece: &Bytes, out: &mut Vec<Bytes>) -> Result<(), Fault> {
        // What lies before `from` has gone out, or is not to.
        let (mut at, mut from) = (0, 0);
        while let Some(event) = self.scan.next(piece, &mut at)? {
            match event {
                Event::Key(1) => self.member = Some(self.member_named()?),
                Event::Value(1) if self.member == Some(Member::Id) => {
                    put(out, piece, from, at);
                    from = at;
                }
                Event::Done(1) if self.member.take() == Some(Member::Id) => {
                    self.hold(&piece[from..at])?;
                    from = at;
                    let id = std::mem::take(&mut self.held);
                    if !self.fix.is_the_id(&id) {
                        return Err(garbage("the server answered another request"));
                    }
                    out.push(if self.fix.renumbered.is_some() { self.fix.id.clone() } else { id.into() });
                }
                Event::Value(1) if self.member == Some(Member::Result) && piece[at] != b'{' => {
                    return Err(garbage("the result is no object"));
                }
                Event::Key(2) if self.member == Some(Member::Result) => {
                    self.filled = true;
                    self.inner = Some(self.inner_named());
                }
                Event::Done(2) if self.inner.is_some() => self.take_inner()?,
                Event::Close(2) if self.member == Some(Member::Result) => {
                    let more = self.additions();
                    if !more.is_empty() {
                        put(out, piece, from, at);
                        from = at;
                        out.push(more.into());
                    }
                }
                _ => {}
            }
        }
        if self.member == Some(Member::Id) && self.scan.in_value() {
            self.hold(&piece[from..])?;
        } else {
            put(out, piece, from, piece.len());
        }
        Ok(())
    }

    /// It has ended; how, if that is a whole response.
    pub fn end(&self) -> Result<Outcome, Fault> {
        if !self.scan.ended {
            return Err(Fault::upstream(FaultKind::Dropped, Retry::MaybeSent, "the answer ended half-way"));
        }
        if !(self.id && self.result) {
            return Err(garbage("the server's answer is no response"));
        }
        Ok(if self.failed { Outcome::ToolError } else { Outcome::Success })
    }

    fn member_named(&mut self) -> Result<Member, Fault> {
        let key = &self.scan.key;
        let member = match () {
            () if json::is_name(key, "id") => Member::Id,
            () if json::is_name(key, "result") => Member::Result,
            () if ["error", "method"].iter().any(|name| json::is_name(key, name)) => {
                return Err(garbage("the server's answer is too long, and no result"));
            }
            () => return Ok(Member::Other),
        };
        let seen = if member == Member::Id { &mut self.id } else { &mut self.result };
        if std::mem::replace(seen, true) {
            Err(garbage("a member of the server's answer comes twice"))
        } else {
            Ok(member)
        }
    }

    fn inner_named(&mut self) -> Inner {
        let key = &self.scan.key;
        if json::is_name(key, "resultType") {
            self.kind = true;
            return Inner::Kind;
        }
        for ((name, _), has) in CACHE.iter().zip(&mut self.cache) {
            *has |= json::is_name(key, name);
        }
        if json::is_name(key, "isError") { Inner::Failed } else { Inner::Other }
    }

    fn take_inner(&mut self) -> Result<(), Fault> {
        let value = &self.scan.scalar_text;
        match self.inner.take() {
            Some(Inner::Failed) => self.failed = value == b"true",
            Some(Inner::Kind) if self.fix.client == Era::Legacy && value == b"\"input_required\"" => {
                return Err(Fault::client(
                    FaultKind::Era,
                    "the server wants input that its client cannot be asked for",
                ));
            }
            _ => {}
        }
        Ok(())
    }

    /// What the result lacks under the client's era, as members before its end.
    fn additions(&self) -> String {
        let (client, server) = (self.fix.client, self.fix.server);
        let mut more = String::new();
        if (client, server) == (Era::Modern, Era::Legacy) {
            let comma = |more: &str| if self.filled || !more.is_empty() { "," } else { "" };
            if !self.kind {
                more.push_str(comma(&more));
                more.push_str("\"resultType\":\"complete\"");
            }
            for ((_, member), has) in CACHE.iter().zip(self.cache) {
                if self.fix.cacheable && !has {
                    more.push_str(comma(&more));
                    more.push_str(member);
                }
            }
        }
        more
    }

    fn hold(&mut self, text: &[u8]) -> Result<(), Fault> {
        if self.held.len() + text.len() > SHORT {
            return Err(garbage("the id of the server's answer is too long"));
        }
        self.held.extend_from_slice(text);
        Ok(())
    }
}

fn put(out: &mut Vec<Bytes>, piece: &Bytes, from: usize, to: usize) {
    if from < to {
        out.push(piece.slice(from..to));
    }
}

/// Something that the scan came by, with the depth of the object in which it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// The end of a name.
    Key(usize),
    /// The first byte of a member's value is next.
    Value(usize),
    /// A member's value has ended.
    Done(usize),
    /// The bracket that closes it is next.
    Close(usize),
}

/// Walks over JSON in pieces and stops at what happens in the two outermost levels.
#[derive(Default)]
struct Scan {
    depth: usize,
    /// Whether the container at this depth, 1 or 2, is an object, and whether its next string is a name.
    object: [bool; 3],
    wants_key: [bool; 3],
    string: bool,
    escaped: bool,
    in_key: bool,
    scalar: bool,
    /// The next byte was announced.
    announced: bool,
    ended: bool,
    key: Vec<u8>,
    /// The value that is being read, if it is short and no container.
    scalar_text: Vec<u8>,
    value: bool,
}

impl Scan {
    /// Whether a value in the outermost object is being read.
    fn in_value(&self) -> bool {
        self.value
    }

    fn next(&mut self, text: &[u8], at: &mut usize) -> Result<Option<Event>, Fault> {
        while let Some(byte) = text.get(*at).copied() {
            if self.string {
                if self.read_string(text, at) {
                    if self.in_key {
                        (self.in_key, self.wants_key[self.depth]) = (false, false);
                        return Ok(Some(Event::Key(self.depth)));
                    }
                    if let Some(done) = self.done() {
                        return Ok(Some(done));
                    }
                }
                continue;
            }
            if self.scalar {
                if matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace() {
                    self.scalar = false;
                    if let Some(done) = self.done() {
                        return Ok(Some(done));
                    }
                } else {
                    self.note(&[byte]);
                    *at += 1;
                }
                continue;
            }
            let outer = matches!(self.depth, 1 | 2);
            match byte {
                _ if byte.is_ascii_whitespace() => *at += 1,
                _ if self.ended => return Err(garbage("something follows the server's answer")),
                b':' => *at += 1,
                b',' => {
                    if outer {
                        self.wants_key[self.depth] = self.object[self.depth];
                    }
                    *at += 1;
                }
                b'"' if outer && self.wants_key[self.depth] => {
                    (self.string, self.in_key) = (true, true);
                    self.key.clear();
                    *at += 1;
                }
                b'}' | b']' => {
                    if outer && !std::mem::replace(&mut self.announced, true) {
                        return Ok(Some(Event::Close(self.depth)));
                    }
                    self.announced = false;
                    self.depth = self.depth.checked_sub(1).ok_or_else(|| garbage("a bracket closes nothing"))?;
                    self.ended = self.depth == 0;
                    *at += 1;
                    if let Some(done) = self.done() {
                        return Ok(Some(done));
                    }
                }
                _ => {
                    if self.depth == 0 && byte != b'{' {
                        return Err(garbage("the server's answer is no object"));
                    }
                    if outer && !std::mem::replace(&mut self.announced, true) {
                        self.scalar_text.clear();
                        self.value |= self.depth == 1;
                        return Ok(Some(Event::Value(self.depth)));
                    }
                    self.announced = false;
                    self.begin(byte);
                    *at += 1;
                }
            }
        }
        Ok(None)
    }

    fn begin(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' => {
                self.depth += 1;
                if self.depth <= 2 {
                    self.object[self.depth] = byte == b'{';
                    self.wants_key[self.depth] = byte == b'{';
                }
            }
            b'"' => {
                self.string = true;
                self.note(b"\"");
            }
            _ if matches!(self.depth, 1 | 2) => {
                self.scalar = true;
                self.note(&[byte]);
            }
            _ => {}
        }
    }

    /// Moves to behind the string, or to the end of what is here; whether the string has ended.
    fn read_string(&mut self, text: &[u8], at: &mut usize) -> bool {
        let from = *at;
        loop {
            if std::mem::replace(&mut self.escaped, false) {
                if *at == text.len() {
                    self.escaped = true;
                    break;
                }
                *at += 1;
            }
            match memchr2(b'"', b'\\', &text[*at..]) {
                None => {
                    *at = text.len();
                    break;
                }
                Some(step) if text[*at + step] == b'\\' => {
                    *at += step + 1;
                    self.escaped = true;
                }
                Some(step) => {
                    *at += step + 1;
                    self.string = false;
                    break;
                }
            }
        }
        let read = &text[from..*at];
        if self.in_key {
            let name = if self.string { read } else { &read[..read.len() - 1] };
            // A long name is none that is looked for.
            self.key.extend_from_slice(&name[..name.len().min(SHORT.saturating_sub(self.key.len()))]);
        } else {
            self.note(read);
        }
        !self.string
    }

    fn note(&mut self, text: &[u8]) {
        if !matches!(self.depth, 1 | 2) {
            return;
        }
        if self.scalar_text.len() + text.len() <= SHORT {
            self.scalar_text.extend_from_slice(text);
        } else {
            // Too long to be any value that is looked for, whatever follows.
            self.scalar_text.resize(SHORT, 0);
        }
    }

    fn done(&mut self) -> Option<Event> {
        self.value &= self.depth != 1;
        matches!(self.depth, 1 | 2).then_some(Event::Done(self.depth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fix(client: Era, server: Era, cacheable: bool) -> Fix {
        let renumbered = ((client, server) == (Era::Modern, Era::Legacy)).then(|| Bytes::from_static(b"7"));
        Fix { client, server, id: "\"mine\"".into(), renumbered, token: None, tie: None, cacheable, log_level: None }
    }

    /// What comes out when the text is cut there, and how it ended.
    fn passed(fix: &Fix, text: &str, cuts: &[usize]) -> Result<(String, Outcome), Fault> {
        let whole = Bytes::copy_from_slice(text.as_bytes());
        let (mut flow, mut out, mut from) = (Flow::new(fix.clone()), Vec::new(), 0);
        for cut in cuts.iter().copied().chain([text.len()]) {
            flow.push(&whole.slice(from..cut), &mut out)?;
            from = cut;
        }
        let outcome = flow.end()?;
        Ok((String::from_utf8(out.concat()).unwrap(), outcome))
    }

    const RESULTS: [&str; 9] = [
        "{}",
        " { } ",
        r#"{"content":[{"type":"text","text":"a\\\"}]{,é"}],"isError":true}"#,
        r#"{"isError":false,"x":{"isError":true,"resultType":"no"},"y":[[],{}],"z":-1.5e9}"#,
        r#"{"resultType":"complete","ttlMs":5}"#,
        r#"{"ttlMs":5,"b":null}"#,
        r#"{"result\u0054ype":"complete"}"#,
        r#"{"resultType":"custom","":"","\\":"\\"}"#,
        r#"{"id":9,"result":{"id":1},"error":1,"method":"x"}"#,
    ];

    proptest! {
        /// A long response comes out with the members that a short one gets, wherever the pieces are cut.
        #[test]
        fn it_does_what_is_done_to_a_short_response(
            result in 0..RESULTS.len(), order in 0..3_usize, modern: (bool, bool), cacheable: bool,
            cuts in prop::collection::vec(0..400_usize, 0..12),
        ) {
            let era = |modern| if modern { Era::Modern } else { Era::Legacy };
            let fix = fix(era(modern.0), era(modern.1), cacheable);
            let (id, result) = (if fix.renumbered.is_some() { "7" } else { "\"mine\"" }, RESULTS[result]);
            let text = match order {
                0 => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#),
                1 => format!(r#"{{ "result" : {result}, "x":[1,{{"id":2}}], "jsonrpc":"2.0", "id" : {id} }} "#),
                _ => format!("\n{{\"id\":{id}\n,\"result\":{result},\"jsonrpc\":\"2.0\"}}\n"),
            };
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (text.len() + 1)).collect();
            cuts.sort_unstable();
            let (long, outcome) = passed(&fix, &text, &cuts).unwrap();
            let message = crate::protocol::message::Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap();
            let (short, wanted) = fix.response(&message);
            prop_assert_eq!(outcome, wanted);
            let read = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap();
            prop_assert_eq!(read(long.as_bytes()), read(&short));
            if fix.client == fix.server {
                prop_assert_eq!(long, text);
            }
        }

        #[test]
        fn no_text_brings_it_down(text in "[\\[\\]{}\",:a0 \\\\]{0,60}", cuts in prop::collection::vec(0..60_usize, 0..5)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (text.len() + 1)).collect();
            cuts.sort_unstable();
            let _ = passed(&fix(Era::Modern, Era::Legacy, true), &text, &cuts);
        }
    }

    #[test]
    fn what_is_no_result_or_not_the_clients_does_not_pass() {
        let same = fix(Era::Modern, Era::Modern, false);
        for text in [
            r#"{"jsonrpc":"2.0","id":"mine","error":{"code":1,"message":"x"}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/x","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":"another","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":"mine","id":"mine","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":"mine","result":{},"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":"mine","result":[]}"#,
            r#"{"jsonrpc":"2.0","id":"mine","result":{"#,
            r#"{"jsonrpc":"2.0","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":"mine","result":{}} x"#,
            r#"[{"jsonrpc":"2.0","id":"mine","result":{}}]"#,
            "",
        ] {
            assert!(passed(&same, text, &[]).is_err(), "{text}");
        }
        let asks = r#"{"jsonrpc":"2.0","id":"mine","result":{"resultType":"input_required"}}"#;
        assert!(passed(&same, asks, &[]).is_ok());
        assert_eq!(passed(&fix(Era::Legacy, Era::Modern, false), asks, &[]).unwrap_err().kind, FaultKind::Era);
    }
}
