//! Framing on a byte stream: one message a line (stdio transport, every version). Blank lines are skipped, a line longer
//! than the cap ends the reading, and a message that holds line breaks between its tokens is written as one line.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

/// From this size on a line is handed over in the buffer it was read into; smaller ones are copied to size.
const HAND_OVER: usize = 64 << 10;

/// Reads lines of at most `most` bytes.
pub(super) struct Lines<R> {
    source: R,
    line: Vec<u8>,
    most: usize,
}

/// Why there is no next line.
#[derive(Debug)]
pub(super) enum End {
    /// The stream ended.
    Eof,
    /// A line is longer than allowed.
    TooLong,
    /// Reading failed.
    Broken(io::Error),
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(super) fn new(source: R, most: usize) -> Self {
        Self { source, line: Vec::new(), most }
    }

    /// The next line that is not blank, without its end. A last line without an end counts.
    pub(super) async fn next(&mut self) -> Result<Bytes, End> {
        loop {
            let ended = self.fill().await?;
            if self.line.last() == Some(&b'\r') {
                self.line.pop();
            }
            if self.line.iter().any(|byte| !byte.is_ascii_whitespace()) {
                return Ok(if self.line.len() < HAND_OVER {
                    let line = Bytes::copy_from_slice(&self.line);
                    self.line.clear();
                    line
                } else {
                    Bytes::from(std::mem::take(&mut self.line))
                });
            }
            self.line.clear();
            if ended {
                return Err(End::Eof);
            }
        }
    }

    /// Reads up to the end of a line or of the stream; whether it was the latter.
    async fn fill(&mut self) -> Result<bool, End> {
        loop {
            let chunk = self.source.fill_buf().await.map_err(End::Broken)?;
            if chunk.is_empty() {
                return Ok(true);
            }
            let stop = memchr::memchr(b'\n', chunk);
            let part = &chunk[..stop.unwrap_or(chunk.len())];
            if self.line.len() + part.len() > self.most {
                return Err(End::TooLong);
            }
            self.line.extend_from_slice(part);
            let used = part.len() + usize::from(stop.is_some());
            self.source.consume(used);
            if stop.is_some() {
                return Ok(false);
            }
        }
    }
}

/// Writes `message` as one line. `scratch` is reused between messages.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    sink: &mut W,
    message: &[u8],
    scratch: &mut Vec<u8>,
) -> io::Result<()> {
    let broken = memchr::memchr2(b'\n', b'\r', message).is_some();
    if message.len() >= HAND_OVER && !broken {
        sink.write_all(message).await?;
        return sink.write_all(b"\n").await;
    }
    scratch.clear();
    scratch.extend_from_slice(message);
    if broken {
        // Strict JSON has these only between tokens, where a blank means the same.
        for byte in scratch.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
            *byte = b' ';
        }
    }
    scratch.push(b'\n');
    sink.write_all(scratch).await?;
    if scratch.capacity() > HAND_OVER * 2 {
        *scratch = Vec::new();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(text: &[u8], most: usize) -> (Vec<String>, End) {
        // A buffer of five bytes, so that lines straddle its end.
        let mut lines = Lines::new(tokio::io::BufReader::with_capacity(5, text), most);
        let mut seen = Vec::new();
        loop {
            match lines.next().await {
                Ok(line) => seen.push(String::from_utf8(line.to_vec()).unwrap()),
                Err(end) => return (seen, end),
            }
        }
    }

    #[tokio::test]
    async fn lines_are_read_whole_whatever_ends_them() {
        let (lines, end) = all(b"{\"a\":1}\r\n\n  \n{}\nlast line", 64).await;
        assert_eq!(lines, ["{\"a\":1}", "{}", "last line"]);
        assert!(matches!(end, End::Eof));
    }

    #[tokio::test]
    async fn a_line_past_the_cap_ends_the_reading() {
        let (lines, end) = all(b"12345678\n123456789\nx\n", 8).await;
        assert_eq!(lines, ["12345678"]);
        assert!(matches!(end, End::TooLong));
    }

    #[tokio::test]
    async fn a_message_is_written_as_one_line() {
        let mut out = Vec::new();
        let mut scratch = Vec::new();
        write(&mut out, b"{\r\n  \"a\": 1\n}", &mut scratch).await.unwrap();
        let large = vec![b'1'; HAND_OVER];
        write(&mut out, &large, &mut scratch).await.unwrap();
        assert!(out.starts_with(b"{    \"a\": 1 }\n1"));
        assert_eq!(out.len(), 14 + HAND_OVER + 1);
        assert_eq!(out.last(), Some(&b'\n'));
    }
}
