//! The text of a set before Cedar reads it, and mistakes in it as people find them: by line and column.
//!
//! Cedar reads an expression as deep as it is nested, and frees it so too; a chain of operators is nested as well. Both are bounded
//! here first, so that no text of a tenant's can use up a thread's stack.

use cedar_policy::ParseErrors;
use miette::Diagnostic;
use schemars::JsonSchema;
use serde::Serialize;

use super::{MOST_RULES, MOST_TEXT};

/// Deepest nesting of brackets.
const DEEPEST: usize = 32;
/// Most operators of one rule.
const MOST_OPERATORS: usize = 200;
/// Longest text in a rule, bytes as written: each is compared with what callers choose.
const LONGEST_LITERAL: usize = 1_024;
/// Most mistakes that are told at once.
pub(super) const MOST_MISTAKES: usize = 20;

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Mistake {
    /// From 1; 0 where the place is not known.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong and what to do.
    pub message: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            line => write!(f, "line {line}, column {}: {}", self.column, self.message),
        }
    }
}

impl Mistake {
    /// At a byte of the text.
    pub(super) fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &text[..end];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        Self { line, column: before[line_start..].chars().count() + 1, message: message.into() }
    }

    /// Where `needle` stands for the time numbered `nth`, from 0.
    pub(super) fn about(text: &str, needle: &str, nth: usize, message: impl Into<String>) -> Self {
        match text.match_indices(needle).nth(nth) {
            Some((offset, _)) => Self::at(text, offset, message),
            None => Self { line: 0, column: 0, message: message.into() },
        }
    }

    /// What Cedar says.
    pub(super) fn of(text: &str, said: &dyn Diagnostic) -> Self {
        let mut message = said.to_string();
        if let Some(help) = said.help() {
            message = format!("{message}; {help}");
        }
        let labels: Vec<_> = said.labels().into_iter().flatten().collect();
        if let Some(label) = labels.iter().find_map(|label| label.label()) {
            message = format!("{message}: {label}");
        }
        match labels.first() {
            Some(first) => Self::at(text, first.offset(), message),
            None => Self { line: 0, column: 0, message },
        }
    }
}

/// All that Cedar cannot read.
pub(super) fn unreadable(text: &str, errors: &ParseErrors) -> Vec<Mistake> {
    first(text, errors.iter())
}

/// The first by their places. Where one stands is told by reading up to there, so the others are not looked for.
pub(super) fn first<'a, D: Diagnostic + 'a>(text: &str, said: impl Iterator<Item = &'a D>) -> Vec<Mistake> {
    let place = |said: &D| said.labels().and_then(|mut labels| labels.next()).map(|label| label.offset());
    let mut said: Vec<(Option<usize>, &D)> = said.map(|one| (place(one), one)).collect();
    said.sort_by_key(|(place, _)| *place);
    said.into_iter().take(MOST_MISTAKES).map(|(_, one)| Mistake::of(text, one)).collect()
}

/// At most as many as are told at once.
pub(super) fn some(mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    mistakes.truncate(MOST_MISTAKES);
    mistakes
}

/// Fails for a text that is larger, longer or deeper than any may be.
pub(super) fn check(text: &str) -> Result<(), Mistake> {
    if text.len() > MOST_TEXT {
        return Err(Mistake::at(
            text,
            MOST_TEXT,
            format!("the rules are longer than {MOST_TEXT} bytes; here is where"),
        ));
    }
    if let Some(at) = text.find('\0') {
        return Err(Mistake::at(text, at, "the rules hold a NUL character"));
    }
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut operators, mut rules) = (0, 0_usize, 0, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let end = end_of_string(bytes, at);
                if end - at > LONGEST_LITERAL + 1 {
                    return Err(Mistake::at(text, at, format!("this text is longer than {LONGEST_LITERAL} bytes")));
                }
                at = end;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at = memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |length| at + length);
            }
            b'(' | b'[' | b'{' => {
                depth += 1;
                operators += usize::from(byte != b'{');
                if depth > DEEPEST {
                    return Err(Mistake::at(text, at, format!("brackets are nested more than {DEEPEST} deep here")));
                }
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b';' if depth == 0 => {
                (operators, rules) = (0, rules + 1);
                if rules > MOST_RULES {
                    return Err(Mistake::at(
                        text,
                        at,
                        format!("there are more than {MOST_RULES} rules; here is where"),
                    ));
                }
            }
            // `&&` and `||` count twice: chains may have half as many of them.
            b'&' | b'|' | b'+' | b'-' | b'*' | b'!' | b'.' => operators += 1,
            b'e' if bytes[at..].starts_with(b"else") => operators += 2,
            _ => {}
        }
        if operators > MOST_OPERATORS {
            let text_of = format!("a rule has more than {MOST_OPERATORS} operators; write several rules, or use a set");
            return Err(Mistake::at(text, at, text_of));
        }
        at += 1;
    }
    Ok(())
}

/// Where the string ends that begins at `at`: its closing quote, or the end of the text.
fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'"' => return at,
            _ => {}
        }
        at += 1;
    }
    at
}
