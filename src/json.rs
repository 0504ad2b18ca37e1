//! JSON read in place: one strict pass that accepts or refuses a text (RFC 8259, no duplicate names, bounded nesting), then
//! look-ups that return slices of it, and splices that change a few bytes and keep the rest as it was written.
//!
//! It is not a parser into values: numbers keep their digits, strings their escapes. `serde_json` is the oracle it is fuzzed
//! against. Duplicate names are refused because two readers of one message may otherwise see two different messages.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// Deepest nesting of arrays and objects that is read.
pub const MAX_DEPTH: usize = 128;

/// Why a text was refused, with the byte offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not JSON.
    #[error("invalid JSON at byte {at}: {what}")]
    Syntax {
        /// Offset of the byte that does not fit.
        at: usize,
        /// What was expected.
        what: &'static str,
    },
    /// A name occurs twice in one object.
    #[error("duplicate member \"{name}\" at byte {at}")]
    Duplicate {
        /// Offset of the second occurrence.
        at: usize,
        /// The name, shortened.
        name: String,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels at byte {at}")]
    TooDeep {
        /// Offset of the bracket.
        at: usize,
    },
}

/// Accepts `text` if it is one strict JSON value with nothing but white space around it.
pub fn check(text: &[u8]) -> Result<(), Problem> {
    // Strings are the bulk of a message; validating UTF-8 once over the whole is faster than per string.
    if let Err(error) = std::str::from_utf8(text) {
        return Err(Problem::Syntax { at: error.valid_up_to(), what: "not UTF-8" });
    }
    let mut checker = Checker { text, at: 0, names: Vec::new() };
    checker.space();
    checker.value(0)?;
    checker.space();
    if checker.at == text.len() { Ok(()) } else { checker.fail("nothing may follow the value") }
}

struct Checker<'a> {
    text: &'a [u8],
    at: usize,
    /// Names of the objects that are open, innermost last; each object knows where its own begin.
    names: Vec<Range<usize>>,
}

/// Up to this many names are compared pairwise; more are put into a set.
const PAIRWISE: usize = 16;

impl Checker<'_> {
    fn fail<T>(&self, what: &'static str) -> Result<T, Problem> {
        Err(Problem::Syntax { at: self.at, what })
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), Problem> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => self.fail("a value was expected"),
        }
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), Problem> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            self.fail("a value was expected")
        }
    }

    fn digits(&mut self) -> Result<(), Problem> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { self.fail("a digit was expected") } else { Ok(()) }
    }

    fn number(&mut self) -> Result<(), Problem> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Reads a string and returns the range between its quotes.
    fn string(&mut self) -> Result<Range<usize>, Problem> {
        let start = self.at + 1;
        let mut from = start;
        loop {
            let Some(step) = memchr::memchr2(b'"', b'\\', &self.text[from..]) else {
                self.at = self.text.len();
                return self.fail("the string does not end");
            };
            let stop = from + step;
            let piece = &self.text[from..stop];
            // Looking at all of them first is many at a time; finding the one is for the error alone.
            if piece.iter().fold(u8::MAX, |least, byte| least.min(*byte)) < 0x20 {
                self.at = from + piece.iter().position(|byte| *byte < 0x20).unwrap_or_default();
                return self.fail("a control character in a string must be escaped");
            }
            if self.text[stop] == b'"' {
                self.at = stop + 1;
                return Ok(start..stop);
            }
            self.at = stop;
            from = self.escape()?;
        }
    }

    /// Checks the escape at `self.at` and returns the offset behind it. Half of a surrogate pair is no character, but the
    /// grammar allows it (RFC 8259, section 8.2) and JavaScript writes it; it passes as it is written.
    fn escape(&mut self) -> Result<usize, Problem> {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(self.at + 2),
            Some(b'u') => {
                if hex4(self.text, self.at + 2) {
                    Ok(self.at + 6)
                } else {
                    self.fail("four hex digits were expected")
                }
            }
            _ => self.fail("not an escape"),
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), Problem> {
        if depth == MAX_DEPTH {
            return Err(Problem::TooDeep { at: self.at });
        }
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            self.value(depth + 1)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.fail("`,` or `]` was expected"),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), Problem> {
        if depth == MAX_DEPTH {
            return Err(Problem::TooDeep { at: self.at });
        }
        let mine = self.names.len();
        let result = self.members(depth, mine);
        self.names.truncate(mine);
        result
    }

    fn members(&mut self, depth: usize, mine: usize) -> Result<(), Problem> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return self.fail("a member name was expected");
            }
            let name = self.string()?;
            self.names.push(name);
            if self.names.len() - mine <= PAIRWISE {
                self.compare_last(mine)?;
            }
            self.space();
            if self.peek() != Some(b':') {
                return self.fail("`:` was expected");
            }
            self.at += 1;
            self.space();
            self.value(depth + 1)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return if self.names.len() - mine > PAIRWISE { self.compare_all(mine) } else { Ok(()) };
                }
                _ => return self.fail("`,` or `}` was expected"),
            }
        }
    }

    fn compare_last(&self, mine: usize) -> Result<(), Problem> {
        let (last, before) = match self.names[mine..].split_last() {
            Some((last, before)) => (last.clone(), before),
            None => return Ok(()),
        };
        let name = &self.text[last.clone()];
        let escaped = memchr::memchr(b'\\', name).is_some();
        for other in before {
            let other = &self.text[other.clone()];
            // Escapes are rare: bytes decide, unless one side could spell the same name differently.
            let same = if escaped || memchr::memchr(b'\\', other).is_some() {
                unescape(name) == unescape(other)
            } else {
                name == other
            };
            if same {
                return Err(duplicate(last.start, name));
            }
        }
        Ok(())
    }

    fn compare_all(&self, mine: usize) -> Result<(), Problem> {
        let mut seen =
            std::collections::HashSet::with_capacity_and_hasher(self.names.len() - mine, ahash::RandomState::new());
        for name in &self.names[mine..] {
            let text = &self.text[name.clone()];
            if !seen.insert(unescape(text)) {
                return Err(duplicate(name.start, text));
            }
        }
        Ok(())
    }
}

fn duplicate(at: usize, name: &[u8]) -> Problem {
    Problem::Duplicate { at, name: unescape(name).chars().take(64).collect() }
}

fn hex4(text: &[u8], at: usize) -> bool {
    text.get(at..at + 4).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

/// The characters of a checked string, given what stands between its quotes. One that holds half of a surrogate pair has no
/// characters of its own and stands for itself as written.
fn unescape(raw: &[u8]) -> Cow<'_, str> {
    let Ok(raw) = std::str::from_utf8(raw) else { return Cow::Borrowed("") };
    if memchr::memchr(b'\\', raw.as_bytes()).is_none() {
        return Cow::Borrowed(raw);
    }
    let mut quoted = String::with_capacity(raw.len() + 2);
    quoted.push('"');
    quoted.push_str(raw);
    quoted.push('"');
    serde_json::from_str(&quoted).map_or(Cow::Borrowed(raw), Cow::Owned)
}

/// The members of a checked object, in order: the name as written between its quotes, and the value as written.
/// On anything that is no object it yields nothing.
pub fn members(object: &[u8]) -> Members<'_> {
    let start = skip_space(object, 0);
    let open = object.get(start) == Some(&b'{');
    Members { text: object, at: if open { start + 1 } else { object.len() } }
}

/// See [`members`].
#[derive(Debug, Clone)]
pub struct Members<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut at = skip_space(self.text, self.at);
        if self.text.get(at) == Some(&b',') {
            at = skip_space(self.text, at + 1);
        }
        if self.text.get(at) != Some(&b'"') {
            self.at = self.text.len();
            return None;
        }
        let end = skip_string(self.text, at);
        let name = &self.text[at + 1..end.saturating_sub(1).max(at + 1)];
        at = skip_space(self.text, end);
        if self.text.get(at) != Some(&b':') {
            self.at = self.text.len();
            return None;
        }
        at = skip_space(self.text, at + 1);
        let stop = skip_value(self.text, at);
        self.at = stop;
        Some((name, &self.text[at..stop]))
    }
}

/// The elements of a checked array, as written. On anything that is no array it yields nothing.
pub fn elements(array: &[u8]) -> Elements<'_> {
    let start = skip_space(array, 0);
    let open = array.get(start) == Some(&b'[');
    Elements { text: array, at: if open { start + 1 } else { array.len() } }
}

/// See [`elements`].
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let mut at = skip_space(self.text, self.at);
        if self.text.get(at) == Some(&b',') {
            at = skip_space(self.text, at + 1);
        }
        if matches!(self.text.get(at), None | Some(b']')) {
            self.at = self.text.len();
            return None;
        }
        let stop = skip_value(self.text, at);
        self.at = stop;
        (stop > at).then(|| &self.text[at..stop])
    }
}

fn skip_space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
        at += 1;
    }
    at
}

/// Offset behind the string that begins at `at`.
fn skip_string(text: &[u8], at: usize) -> usize {
    let mut from = at + 1;
    while let Some(step) = text.get(from..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        if text[from + step] == b'"' {
            return from + step + 1;
        }
        from += step + 2;
    }
    text.len()
}

/// Offset behind the value that begins at `at`.
fn skip_value(text: &[u8], at: usize) -> usize {
    match text.get(at) {
        Some(b'"') => skip_string(text, at),
        Some(b'{' | b'[') => {
            let (mut depth, mut at) = (0_usize, at);
            while let Some(byte) = text.get(at) {
                match byte {
                    b'"' => {
                        at = skip_string(text, at);
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return at + 1;
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
            text.len()
        }
        _ => {
            let mut at = at;
            while !matches!(text.get(at), None | Some(b',' | b'}' | b']' | b' ' | b'\n' | b'\t' | b'\r')) {
                at += 1;
            }
            at
        }
    }
}

/// The value of member `name` of a checked object. `name` is compared with what is written, so it must need no escape; a
/// writer who escapes a plain name is read all the same.
pub fn get<'a>(object: &'a [u8], name: &str) -> Option<&'a [u8]> {
    members(object).find(|(written, _)| is_name(written, name)).map(|(_, value)| value)
}

/// Whether a name as written between its quotes spells `name`.
pub fn is_name(written: &[u8], name: &str) -> bool {
    written == name.as_bytes() || (memchr::memchr(b'\\', written).is_some() && unescape(written) == name)
}

/// The value at a path of member names.
pub fn path<'a>(object: &'a [u8], names: &[&str]) -> Option<&'a [u8]> {
    names.iter().try_fold(object, |value, name| get(value, name))
}

/// The characters of a checked string value; `None` for any other value.
pub fn text(value: &[u8]) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    Some(unescape(inner))
}

/// The characters of the string at member `name`.
pub fn get_text<'a>(object: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    get(object, name).and_then(text)
}

/// `text` as a JSON string, quotes included.
pub fn quote(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// Where `part`, a slice of `whole`, stands in it.
pub fn span(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize).min(whole.len());
    start..(start + part.len()).min(whole.len())
}

/// `base` with each range replaced. Ranges must be in order and apart.
pub fn splice(base: &[u8], edits: &[(Range<usize>, &[u8])]) -> Bytes {
    let grown: usize = edits.iter().map(|(_, new)| new.len()).sum();
    let mut out = BytesMut::with_capacity(base.len() + grown);
    let mut from = 0;
    for (range, new) in edits {
        out.extend_from_slice(&base[from..range.start]);
        out.extend_from_slice(new);
        from = range.end;
    }
    out.extend_from_slice(&base[from..]);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agrees_with_oracle(text: &str) {
        let ours = check(text.as_bytes());
        let theirs = serde_json::from_str::<serde_json::Value>(text);
        match (&ours, &theirs) {
            (Ok(()) | Err(Problem::Duplicate { .. } | Problem::TooDeep { .. }), Ok(_)) | (Err(_), Err(_)) => {}
            // Numbers past f64 are JSON all the same (RFC 8259 section 6); the oracle refuses them.
            (Ok(()), Err(error)) if error.to_string().contains("number out of range") => {}
            // Half of a surrogate pair is in the grammar too; the oracle cannot keep it in a string of Rust.
            (Ok(()), Err(error))
                if ["lone leading surrogate", "unexpected end of hex escape"]
                    .iter()
                    .any(|known| error.to_string().contains(known)) => {}
            _ => panic!("{text:?}: {ours:?} against {theirs:?}"),
        }
    }

    #[test]
    fn accepts_and_refuses_what_the_oracle_does() {
        for text in [
            "{}",
            "[]",
            " null ",
            "true",
            "0",
            "-0.0",
            "1E+2",
            "1e999",
            "01",
            "1.",
            ".5",
            "-",
            "+1",
            "\"\"",
            "\"\\u00e9\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"\\x\"",
            "\"\n\"",
            "\"",
            "{\"a\":1,}",
            "[1,]",
            "[1 2]",
            "{\"a\" 1}",
            "{a:1}",
            "{\"a\":1}x",
            "",
            " ",
            "[[[[]]]]",
            "{\"a\":{\"a\":1}}",
            "nul",
            "tru",
            "9007199254740993",
            "\u{feff}{}",
            "\"\u{2028}\"",
            "\"\u{7f}\"",
        ] {
            agrees_with_oracle(text);
        }
    }

    #[test]
    fn refuses_a_name_that_occurs_twice_however_it_is_spelled() {
        let refused = |text: &str| matches!(check(text.as_bytes()), Err(Problem::Duplicate { .. }));
        assert!(refused(r#"{"a":1,"a":2}"#));
        assert!(refused(r#"{"name":1,"n\u0061me":2}"#));
        assert!(refused(r#"{"x":{"y":[{"b":1,"c":1,"b":1}]}}"#));
        assert!(!refused(r#"{"a":{"a":1},"b":{"a":1}}"#));
        let many = (0..100).map(|n| format!("\"k{n}\":{n},")).collect::<Vec<_>>().concat();
        assert!(!refused(&format!("{{{many}\"z\":1}}")));
        assert!(refused(&format!("{{{many}\"k7\":1}}")));
    }

    #[test]
    fn refuses_nesting_past_the_bound_without_using_the_stack() {
        assert_eq!(check(&b"[".repeat(MAX_DEPTH + 1)), Err(Problem::TooDeep { at: MAX_DEPTH }));
        let fits = [b"[".repeat(MAX_DEPTH), b"]".repeat(MAX_DEPTH)].concat();
        assert_eq!(check(&fits), Ok(()));
    }

    #[test]
    fn finds_members_as_written() {
        let text = br#" { "id" : 1.0 , "params":{"name":"a\"b","list":[1,{"x":"}"}]}, "n\u0061me": null } "#;
        check(text).unwrap();
        assert_eq!(get(text, "id"), Some(&b"1.0"[..]));
        assert_eq!(path(text, &["params", "list"]), Some(&br#"[1,{"x":"}"}]"#[..]));
        assert_eq!(get_text(get(text, "params").unwrap(), "name").as_deref(), Some("a\"b"));
        assert_eq!(get(text, "name"), Some(&b"null"[..]));
        assert_eq!(get(text, "absent"), None);
        assert_eq!(elements(b"[1, \"a,b\" ,[2,3],{}]").collect::<Vec<_>>(), [&b"1"[..], b"\"a,b\"", b"[2,3]", b"{}"]);
        assert_eq!(elements(b"[]").count(), 0);
    }

    #[test]
    fn splices_keep_every_other_byte() {
        let text = br#"{"id":7,"big":9007199254740993,"p":{"name":"a"}}"#;
        let id = span(text, get(text, "id").unwrap());
        let name = span(text, path(text, &["p", "name"]).unwrap());
        assert_eq!(
            &splice(text, &[(id, b"\"x\""), (name, b"\"bb\"")])[..],
            br#"{"id":"x","big":9007199254740993,"p":{"name":"bb"}}"#
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_judged_like_the_oracle(text in r#"[\[\]{}",:0-9eE+\-.\\ubn a-f]{0,40}"#) {
            agrees_with_oracle(&text);
        }

        #[test]
        fn readers_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = check(&bytes);
            for (name, value) in members(&bytes) {
                let _ = (unescape(name), text(value), elements(value).count());
            }
        }
    }
}
