//! Look-ups in a text that was checked, which return slices of it, and splices. On a text that was not checked they find
//! something or nothing, and never panic.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::scan::special;

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
    let mut at = at + 1;
    loop {
        at = special(text, at);
        match text.get(at) {
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return text.len(),
        }
    }
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

/// The characters of a checked string, given what stands between its quotes. One that holds half of a surrogate pair has no
/// characters of its own and stands for itself as written.
pub(super) fn unescape(raw: &[u8]) -> Cow<'_, str> {
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
