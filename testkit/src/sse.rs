//! Server-sent events: a decoder that takes bytes as they come, and a writer.
//!
//! The decoder follows the living standard: LF, CRLF and CR end a line, several `data` lines join with LF, a comment is
//! dropped, and an event that the stream's end cuts off is never dispatched.

use std::collections::VecDeque;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The `event` field; empty means `message`.
    pub event: String,
    /// The `data` lines, joined.
    pub data: String,
    /// The `id` field of this event, when it has one.
    pub id: Option<String>,
    /// The `retry` field in milliseconds, when the event has one.
    pub retry: Option<u64>,
}

/// Turns bytes into events.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    after_cr: bool,
    begun: bool,
    event: Event,
    ready: VecDeque<Event>,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' if std::mem::take(&mut self.after_cr) => {}
                b'\n' | b'\r' => {
                    self.after_cr = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    self.end_line(&String::from_utf8_lossy(&line));
                }
                _ => {
                    self.after_cr = false;
                    self.line.push(byte);
                }
            }
        }
    }

    /// The next complete event, if there is one.
    pub fn pop(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// Whether bytes of an unfinished event have been taken.
    pub fn is_midway(&self) -> bool {
        self.begun || !self.line.is_empty()
    }

    fn end_line(&mut self, line: &str) {
        if line.is_empty() {
            if std::mem::take(&mut self.begun) {
                let mut event = std::mem::take(&mut self.event);
                event.data.pop();
                self.ready.push_back(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                self.event.data.push_str(value);
                self.event.data.push('\n');
            }
            "event" => value.clone_into(&mut self.event.event),
            "id" => self.event.id = Some(value.to_owned()),
            "retry" => self.event.retry = value.parse().ok(),
            _ => return,
        }
        self.begun = true;
    }
}

/// An event of type `message` as it goes over the wire.
pub fn message(data: &str) -> String {
    let mut out = String::with_capacity(data.len() + 24);
    out.push_str("event: message\n");
    for line in data.split('\n') {
        out.push_str("data: ");
        out.push_str(line);
        out.push('\n');
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> Vec<Event> {
        let mut decoder = Decoder::new();
        for piece in pieces {
            decoder.push(piece);
        }
        std::iter::from_fn(|| decoder.pop()).collect()
    }

    #[test]
    fn every_cut_gives_the_same_events() {
        let stream = "id: 7\r\nevent: message\r\ndata: {\"a\":\r\ndata: \"é\"}\r\n\r\n: ping\n\nretry: 5\ndata:\n\ndata: x\r\rdata: cut";
        let whole = all(&[stream.as_bytes()]);
        assert_eq!(whole.len(), 3);
        assert_eq!(whole[0].data, "{\"a\":\n\"é\"}");
        assert_eq!(whole[0].id.as_deref(), Some("7"));
        assert_eq!((whole[1].data.as_str(), whole[1].retry), ("", Some(5)));
        assert_eq!(whole[2].data, "x");
        for cut in 0..stream.len() {
            let (left, right) = stream.as_bytes().split_at(cut);
            assert_eq!(all(&[left, right]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(all(&[message("one\ntwo").as_bytes()])[0].data, "one\ntwo");
    }
}
