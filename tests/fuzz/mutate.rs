//! Changes inputs: bytes flipped, cut, doubled, moved and replaced by words that the readers look for, pieces of two inputs
//! joined, values wrapped in more brackets. Half of the changes put one whole value in the place of another, so that much of
//! what comes out is still JSON. The same start gives the same changes.

use std::ops::Range;

/// What readers of JSON-RPC, MCP and event streams look for, and what they stumble over.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u0061",
    "\\ud83d\\ude00",
    "\\ud83d",
    "\\udc00",
    "\\u0000",
    "\\\"",
    "\\x",
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-",
    "1e999",
    "1E+2",
    "0.1",
    "01",
    "9007199254740993",
    "1.",
    ".5",
    "{}",
    "[]",
    "\"\"",
    "\"a\":1",
    "\"a\":1,\"a\":2",
    "\"n\\u0061me\"",
    "\"name\"",
    "\"jsonrpc\":\"2.0\"",
    "\"id\":",
    "\"method\":",
    "\"params\":",
    "\"result\":",
    "\"error\":",
    "\"_meta\":",
    "\"progressToken\":",
    "tools/call",
    "initialize",
    "notifications/cancelled",
    "data:",
    "data: ",
    "event: message",
    "id: ",
    "retry: 10",
    ": ",
    "\n",
    "\r\n",
    "\r",
    "\n\n",
    "\r\n\r\n",
    "\t",
    " ",
    "\u{feff}",
    "\u{2028}",
    "\u{0}",
    "\u{7f}",
    "é",
    "😀",
];

/// A source of changes.
pub struct Mutator(u64);

impl Mutator {
    /// One that begins at `start`.
    pub fn new(start: u64) -> Self {
        Self(start.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number under `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.draw() >> 32).unwrap_or(0) % end.max(1)
    }

    /// One of `pool`, changed one to eight times, at most `most` bytes.
    pub fn change(&mut self, pool: &[Vec<u8>], most: usize) -> Vec<u8> {
        let mut input = pool[self.below(pool.len())].clone();
        let once_more = self.below(8).min(self.below(8));
        for _ in 0..=once_more {
            if self.below(2) == 0 {
                self.step(&mut input, pool);
            } else {
                self.exchange(&mut input, pool);
            }
        }
        input.truncate(most);
        input
    }

    /// Puts one whole value in the place of another, or beside it.
    fn exchange(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let other = &pool[self.below(pool.len())];
        let (places, values) = (values(input), values(other));
        if places.is_empty() || values.is_empty() {
            return;
        }
        let place = places[self.below(places.len())].clone();
        let value = other[values[self.below(values.len())].clone()].to_vec();
        match self.below(4) {
            0 => drop(input.splice(place.end..place.end, [b", ", &value[..]].concat())),
            1 => {
                let name = format!(",\"k{}\" : ", self.below(30));
                input.splice(place.end..place.end, [name.as_bytes(), &value].concat());
            }
            _ => drop(input.splice(place, value)),
        }
    }

    fn step(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let end = (at + self.below(24)).min(input.len());
        match self.below(11) {
            0 if !input.is_empty() => {
                let at = at.min(input.len() - 1);
                input[at] ^= 1 << self.below(8);
            }
            1 if !input.is_empty() => {
                let at = at.min(input.len() - 1);
                input[at] = self.draw().to_le_bytes()[5];
            }
            2 => drop(input.drain(at..end)),
            3 => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            4 => {
                let piece: Vec<u8> = input.drain(at..end).collect();
                let to = self.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            5 | 6 => {
                let word = WORDS[self.below(WORDS.len())].bytes();
                input.splice(at..at, word);
            }
            7 => {
                let word = WORDS[self.below(WORDS.len())].bytes();
                input.splice(at..end, word);
            }
            8 => {
                let other = &pool[self.below(pool.len())];
                let from = self.below(other.len() + 1);
                let to = (from + self.below(200)).min(other.len());
                input.splice(at..end, other[from..to].iter().copied());
            }
            9 => {
                let times = 1 + self.below(140);
                let (open, close): (&[u8], &[u8]) = if self.below(2) == 0 { (b"[", b"]") } else { (b"{\"a\":", b"}") };
                let wrapped = [open.repeat(times), std::mem::take(input), close.repeat(times)].concat();
                *input = wrapped;
            }
            _ => input.truncate(at),
        }
    }
}

/// Where values seem to stand: strings, numbers, words, and what lies between matching brackets. It reads JSON as one would
/// at a glance, so that nothing under test has a say in what is fed to it.
fn values(text: &[u8]) -> Vec<Range<usize>> {
    let (mut found, mut open, mut at) = (Vec::new(), Vec::new(), 0);
    while at < text.len() {
        let from = at;
        at += 1;
        match text[from] {
            b'{' | b'[' => open.push(from),
            b'}' | b']' => found.extend(open.pop().map(|start| start..at)),
            b'"' => {
                while at < text.len() && text[at] != b'"' {
                    at += 1 + usize::from(text[at] == b'\\');
                }
                at = (at + 1).min(text.len());
                found.push(from..at);
            }
            b'-' | b'0'..=b'9' | b'a'..=b'z' => {
                while at < text.len() && (text[at].is_ascii_alphanumeric() || b"+-.".contains(&text[at])) {
                    at += 1;
                }
                found.push(from..at);
            }
            _ => {}
        }
    }
    found
}
