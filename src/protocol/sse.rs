//! Server-Sent Events framing (WHATWG HTML, "Server-sent events"): bytes in any pieces go in, whole events come out.
//! Nothing is decoded that need not be: an event keeps the bytes it was written in, so that it can be passed on unchanged.

use bytes::{Bytes, BytesMut};

/// One event, or one block of comments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Exactly the bytes read, blank line included.
    pub raw: Bytes,
    /// The `data` lines, joined by newlines; `None` where there was no `data` line.
    pub data: Option<Bytes>,
    /// The last `id` line.
    pub id: Option<Bytes>,
    /// The last `event` line.
    pub name: Option<Bytes>,
    /// The last `retry` line that is a number, milliseconds.
    pub retry: Option<u64>,
}

/// The beginning of a long event: what stands before its data, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Long {
    /// The bytes up to the first of the data.
    pub head: Bytes,
    /// The `id` line before it.
    pub id: Option<Bytes>,
    /// The `retry` line before it.
    pub retry: Option<u64>,
}

/// What follows in a long event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum More {
    /// A piece of its data.
    Data(Bytes),
    /// Its end, as written; `true` when it held more data after all, which are lost.
    End(Bytes, bool),
}

/// The stream sent one event larger than the reader keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {limit} bytes")]
pub struct TooLarge {
    /// The bound.
    pub limit: usize,
}

/// Cuts a byte stream into events.
#[derive(Debug)]
pub struct Reader {
    buffer: BytesMut,
    /// No line ends in `buffer` from `line` up to here.
    scanned: usize,
    /// Where the unfinished line begins in `buffer`.
    line: usize,
    /// Whether a line that is not blank stands before `line`.
    begun: bool,
    limit: usize,
    started: bool,
    /// Whether a long event is read, and its line of data has not ended.
    long: bool,
}

/// Stands for the data that were taken out of a long event.
const TAKEN: &[u8] = b"data";

impl Reader {
    /// A reader that keeps at most `limit` bytes of one event.
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, line: 0, begun: false, limit, started: false, long: false }
    }

    /// Takes the next piece of the stream.
    pub fn feed(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
        if !self.started && self.buffer.len() >= 3 {
            self.started = true;
            if self.buffer.starts_with(b"\xef\xbb\xbf") {
                drop(self.buffer.split_to(3));
                // The first two bytes may have been looked at already; no line ends in them.
                self.scanned = 0;
            }
        }
    }

    /// Bytes of an event that has begun and not ended. At the end of a stream they are dropped, as the standard says.
    pub fn unfinished(&self) -> usize {
        self.buffer.len()
    }

    /// Whether what has begun is more than blank lines and comments.
    pub fn has_data(&self) -> bool {
        self.buffer[..].split(|byte| matches!(byte, b'\n' | b'\r')).any(|line| line.starts_with(b"data"))
    }

    /// The next whole event, if it is there.
    pub fn event(&mut self) -> Result<Option<Event>, TooLarge> {
        match self.find_end() {
            Some(end) => {
                let raw = self.buffer.split_to(end).freeze();
                (self.scanned, self.line, self.begun) = (0, 0, false);
                Ok(Some(parse(raw)))
            }
            None if self.buffer.len() > self.limit => Err(TooLarge { limit: self.limit }),
            None => Ok(None),
        }
    }

    /// The data so far of an event that is to be read as a long one: its first line of data has begun and not ended. Asked after
    /// [`Self::event`] gave none.
    pub fn long_data(&self) -> Option<&[u8]> {
        let (before, line) = self.buffer.split_at(self.line);
        let data = line.strip_prefix(b"data:").filter(|_| self.scanned == self.buffer.len())?;
        let before = parse(Bytes::copy_from_slice(before));
        let message = before.name.is_none_or(|name| name == b"message"[..]);
        (message && before.data.is_none()).then(|| data.strip_prefix(b" ").unwrap_or(data))
    }

    /// From now on that event is read in pieces, with [`Self::more`]; the data so far are taken.
    pub fn begin_long(&mut self) -> Long {
        let data = self.long_data().map_or(0, <[u8]>::len);
        let head = self.buffer.split_to(self.buffer.len() - data).freeze();
        let Event { id, retry, .. } = parse(head.slice(..self.line));
        self.buffer.clear();
        (self.scanned, self.line, self.begun, self.long) = (0, 0, false, true);
        Long { head, id, retry }
    }

    /// What more of the long event is there.
    pub fn more(&mut self) -> Result<Option<More>, TooLarge> {
        if self.long {
            let Some(end) = memchr::memchr2(b'\n', b'\r', &self.buffer) else {
                let data = self.buffer.split().freeze();
                return Ok((!data.is_empty()).then_some(More::Data(data)));
            };
            let data = self.buffer.split_to(end).freeze();
            // What is left reads like an event with one empty line of data.
            self.buffer = [TAKEN, &self.buffer].concat().as_slice().into();
            self.long = false;
            if !data.is_empty() {
                return Ok(Some(More::Data(data)));
            }
        }
        Ok(self.event()?.map(|event| {
            let lost = event.data.is_some_and(|data| !data.trim_ascii().is_empty());
            More::End(event.raw.slice(TAKEN.len()..), lost)
        }))
    }

    /// Offset behind the first blank line that ends something. A line ends with CR LF, LF or CR. No byte is looked at twice,
    /// however small the pieces are and however long the line: an upstream must not be able to make this expensive.
    fn find_end(&mut self) -> Option<usize> {
        let text = &self.buffer[..];
        while let Some(step) = memchr::memchr2(b'\n', b'\r', &text[self.scanned..]) {
            let ending = self.scanned + step;
            let after = match (text[ending], text.get(ending + 1)) {
                (b'\r', Some(b'\n')) => ending + 2,
                // A CR at the very end of what is here may be the first half of CR LF.
                (b'\r', None) => {
                    self.scanned = ending;
                    return None;
                }
                _ => ending + 1,
            };
            let blank = ending == self.line;
            (self.line, self.scanned) = (after, after);
            // Blank lines before an event belong to nothing; they go out with it, so that bytes stay the same.
            if blank && self.begun {
                return Some(after);
            }
            self.begun |= !blank;
        }
        self.scanned = text.len();
        None
    }
}

fn parse(raw: Bytes) -> Event {
    let mut event = Event { raw: Bytes::new(), data: None, id: None, name: None, retry: None };
    let mut at = 0;
    while at < raw.len() {
        let end = memchr::memchr2(b'\n', b'\r', &raw[at..]).map_or(raw.len(), |step| at + step);
        let line = raw.slice(at..end);
        at = if raw.get(end) == Some(&b'\r') && raw.get(end + 1) == Some(&b'\n') { end + 2 } else { end + 1 };
        let (field, value) = match memchr::memchr(b':', &line) {
            Some(0) => continue,
            Some(colon) => {
                let skip = usize::from(line.get(colon + 1) == Some(&b' '));
                (&line[..colon], line.slice(colon + 1 + skip..))
            }
            None => (&line[..], Bytes::new()),
        };
        match field {
            b"data" => {
                event.data = Some(match event.data.take() {
                    None => value,
                    Some(before) => [&before[..], b"\n", &value[..]].concat().into(),
                });
            }
            b"id" if !value.contains(&0) => event.id = Some(value),
            b"event" => event.name = Some(value),
            // Digits only: a number's parser would also take a sign.
            b"retry" if value.iter().all(u8::is_ascii_digit) => {
                event.retry = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok()).or(event.retry);
            }
            _ => {}
        }
    }
    event.raw = raw;
    event
}

/// A `message` event with this data, which must hold no line break unless it is JSON white space; each line becomes one.
pub fn frame(data: &[u8], id: Option<&[u8]>, retry: Option<u64>) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 48);
    put_head(&mut out, id, retry);
    for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.extend_from_slice(b"\n");
    }
    out.extend_from_slice(b"\n");
    out.freeze()
}

/// The beginning of a `message` event, up to its data, which must hold no line break.
pub fn frame_head(id: Option<&[u8]>, retry: Option<u64>) -> Bytes {
    let mut out = BytesMut::with_capacity(48);
    put_head(&mut out, id, retry);
    out.extend_from_slice(b"data: ");
    out.freeze()
}

fn put_head(out: &mut BytesMut, id: Option<&[u8]>, retry: Option<u64>) {
    out.extend_from_slice(b"event: message\n");
    if let Some(id) = id {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id);
        out.extend_from_slice(b"\n");
    }
    if let Some(retry) = retry {
        out.extend_from_slice(format!("retry: {retry}\n").as_bytes());
    }
}

/// A comment that keeps a quiet stream open.
pub const KEEP_ALIVE: Bytes = Bytes::from_static(b":\n\n");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_in(pieces: &[&[u8]]) -> Vec<Event> {
        let mut reader = Reader::new(1 << 20);
        let mut events = Vec::new();
        for piece in pieces {
            reader.feed(piece);
            while let Some(event) = reader.event().unwrap() {
                events.push(event);
            }
        }
        events
    }

    fn data(events: &[Event]) -> Vec<&str> {
        events.iter().filter_map(|event| event.data.as_deref()).map(|data| std::str::from_utf8(data).unwrap()).collect()
    }

    #[test]
    fn an_event_has_its_fields() {
        let events = read_in(&[b"event: message\nid: 7\nretry: 500\ndata: {\"a\":\ndata:1}\n\n: hello\n\ndata\n\n"]);
        assert_eq!(data(&events), ["{\"a\":\n1}", ""]);
        assert_eq!(events[0].id.as_deref(), Some(&b"7"[..]));
        assert_eq!(events[0].retry, Some(500));
        assert_eq!(events[0].name.as_deref(), Some(&b"message"[..]));
        assert_eq!(events[1].data, None);
    }

    #[test]
    fn every_line_ending_and_a_byte_order_mark_are_read() {
        for ending in ["\n", "\r\n", "\r"] {
            let text = ["\u{feff}data: one", "", "data: two", "", ":", ""].join(ending) + "x";
            assert_eq!(data(&read_in(&[text.as_bytes()])), ["one", "two"], "{ending:?}");
        }
    }

    #[test]
    fn what_is_not_ended_is_not_an_event() {
        let mut reader = Reader::new(100);
        reader.feed(b"data: half\n");
        assert_eq!(reader.event(), Ok(None));
        assert_eq!(reader.unfinished(), 11);
    }

    #[test]
    fn an_event_over_the_bound_is_refused() {
        let mut reader = Reader::new(100);
        reader.feed(&[b'x'; 101]);
        assert_eq!(reader.event(), Err(TooLarge { limit: 100 }));
    }

    #[test]
    fn a_long_event_comes_in_pieces_and_the_next_one_whole() {
        for ending in ["\n", "\r\n", "\r"] {
            let text = ["id: 7", "data: {\"a\":", "event: message", "", "data: two", "", ":"].join(ending);
            for cut in "id: 7".len() + ending.len() + "data: {".len()..text.len() {
                let mut reader = Reader::new(100);
                reader.feed(&text.as_bytes()[..cut]);
                if reader.event().unwrap().is_some() {
                    continue;
                }
                let Some(begun) = reader.long_data().map(<[u8]>::to_vec) else { continue };
                let long = reader.begin_long();
                assert_eq!(
                    (&*long.head, long.id.as_deref()),
                    (format!("id: 7{ending}data: ").as_bytes(), Some(&b"7"[..]))
                );
                reader.feed(&text.as_bytes()[cut..]);
                let mut data = begun;
                let end = loop {
                    match reader.more().unwrap().unwrap() {
                        More::Data(piece) => data.extend_from_slice(&piece),
                        More::End(end, lost) => break (end, lost),
                    }
                };
                assert_eq!(data, b"{\"a\":", "{ending:?} cut at {cut}");
                assert_eq!(end, (format!("{ending}event: message{ending}{ending}").into(), false));
                assert_eq!(reader.event().unwrap().unwrap().data.as_deref(), Some(&b"two"[..]));
            }
        }
    }

    proptest! {
        #[test]
        fn how_the_stream_is_cut_makes_no_difference(
            text in "(\\n|\r|\r\n|data: ?[a-z]{0,5}|id: ?[0-9]|:c|event: x|[a-z:]{0,4}){0,30}",
            cuts in proptest::collection::vec(0_usize..200, 0..8),
        ) {
            let whole = read_in(&[text.as_bytes(), b""]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (text.len() + 1)).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            let cut = read_in(&pieces);
            prop_assert_eq!(&whole, &cut);
            let raw: usize = whole.iter().map(|event| event.raw.len()).sum();
            prop_assert!(raw <= text.len());
        }

        #[test]
        fn a_frame_reads_back_as_its_data(text in "[ -~\u{e9}\u{2028}]{0,60}") {
            let events = read_in(&[&frame(text.as_bytes(), Some(b"9"), None)]);
            prop_assert_eq!(data(&events), [text.as_str()]);
        }
    }
}
