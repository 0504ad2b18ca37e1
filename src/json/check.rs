//! The strict pass: RFC 8259, no name twice in one object, nesting bounded. It builds nothing, and recurses no deeper than
//! the bound.

use std::borrow::Cow;
use std::ops::Range;

use super::read::unescape;
use super::scan::special;
use super::{MAX_DEPTH, Problem};

/// Hears of the members of a text while it is checked, so that nobody has to look for them afterwards.
pub trait Listener {
    /// A member of an object that stands `depth` levels deep, 0 for the outermost. Those of an object come before the member
    /// that it is the value of.
    fn member(&mut self, depth: usize, name: Name<'_>, value: Range<usize>);
}

impl Listener for () {
    fn member(&mut self, _: usize, _: Name<'_>, _: Range<usize>) {}
}

/// A member's name, as written between its quotes.
#[derive(Debug, Clone, Copy)]
pub struct Name<'a> {
    /// The bytes.
    pub written: &'a [u8],
    /// Whether it holds an escape, and so could be spelled otherwise.
    pub escaped: bool,
}

impl<'a> Name<'a> {
    /// The bytes of what it spells.
    pub fn spelled(self) -> Cow<'a, [u8]> {
        if !self.escaped {
            return Cow::Borrowed(self.written);
        }
        match unescape(self.written) {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        }
    }
}

/// Accepts `text` if it is one strict JSON value with nothing but white space around it.
pub fn check(text: &[u8]) -> Result<(), Problem> {
    check_telling(text, &mut ())
}

/// The same, and tells of each member. What was told of a text that is refused means nothing.
pub fn check_telling<L: Listener>(text: &[u8], listener: &mut L) -> Result<(), Problem> {
    // Strings are the bulk of a message; validating UTF-8 once over the whole is faster than per string.
    if let Err(error) = std::str::from_utf8(text) {
        return Err(Problem::Syntax { at: error.valid_up_to(), what: "not UTF-8" });
    }
    let mut checker = Checker { text, at: 0, names: Vec::with_capacity(PAIRWISE), listener };
    checker.space();
    checker.value(0)?;
    checker.space();
    if checker.at == text.len() { Ok(()) } else { checker.fail("nothing may follow the value") }
}

struct Checker<'a, L> {
    text: &'a [u8],
    at: usize,
    /// Names of the objects that are open, innermost last; each object knows where its own begin.
    names: Vec<Written>,
    listener: &'a mut L,
}

/// A string as written between its quotes.
struct Written {
    range: Range<usize>,
    /// Whether it holds an escape, and so could be spelled otherwise.
    escaped: bool,
}

/// Up to this many plain names are compared pairwise; more, or others, are put into a set.
const PAIRWISE: usize = 16;

impl<L: Listener> Checker<'_, L> {
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

    /// Reads a string.
    fn string(&mut self) -> Result<Written, Problem> {
        let start = self.at + 1;
        self.at = start;
        let mut escaped = false;
        loop {
            self.at = special(self.text, self.at);
            match self.peek() {
                Some(b'"') => {
                    let range = start..self.at;
                    self.at += 1;
                    return Ok(Written { range, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at = self.escape()?;
                }
                Some(_) => return self.fail("a control character in a string must be escaped"),
                None => return self.fail("the string does not end"),
            }
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
        // Bytes say which names are the same, unless one could be spelled otherwise.
        let mut plain = true;
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return self.fail("a member name was expected");
            }
            let name = self.string()?;
            plain &= !name.escaped;
            self.names.push(name);
            if plain && self.names.len() - mine <= PAIRWISE {
                self.compare_last(mine)?;
            }
            self.space();
            if self.peek() != Some(b':') {
                return self.fail("`:` was expected");
            }
            self.at += 1;
            self.space();
            let value = self.at;
            self.value(depth + 1)?;
            if let Some(Written { range, escaped }) = self.names.last() {
                let name = Name { written: &self.text[range.clone()], escaped: *escaped };
                self.listener.member(depth, name, value..self.at);
            }
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    let compared = plain && self.names.len() - mine <= PAIRWISE;
                    return if compared { Ok(()) } else { self.compare_all(mine) };
                }
                _ => return self.fail("`,` or `}` was expected"),
            }
        }
    }

    /// Compares the last name with those before it, all of them plain.
    fn compare_last(&self, mine: usize) -> Result<(), Problem> {
        let Some((last, before)) = self.names[mine..].split_last() else { return Ok(()) };
        let name = &self.text[last.range.clone()];
        for other in before {
            if name == &self.text[other.range.clone()] {
                return Err(duplicate(last.range.start, name));
            }
        }
        Ok(())
    }

    /// Compares all names, each spelled out once.
    fn compare_all(&self, mine: usize) -> Result<(), Problem> {
        let mut seen =
            std::collections::HashSet::with_capacity_and_hasher(self.names.len() - mine, ahash::RandomState::new());
        for name in &self.names[mine..] {
            let text = &self.text[name.range.clone()];
            if !seen.insert(unescape(text)) {
                return Err(duplicate(name.range.start, text));
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
