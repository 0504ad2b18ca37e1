//! Keys that somebody presses, read by a thread of their own: a terminal cannot be waited for in the same way everywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// `q`, Ctrl-C or Ctrl-D.
    End,
    /// Tab.
    NextTable,
    /// Shift and Tab.
    TableBefore,
    Left,
    Right,
    Up,
    Down,
    /// `r`.
    Turn,
}

/// Reads keys from what a terminal sends, which may be cut anywhere.
#[derive(Debug, Default)]
struct Reader {
    /// Whether an escape sequence has begun, and with what.
    escape: Option<Vec<u8>>,
}

/// No sequence that means something is longer.
const LONGEST: usize = 8;

impl Reader {
    fn byte(&mut self, byte: u8) -> Option<Key> {
        if byte == 0x1b {
            self.escape = Some(Vec::new());
            return None;
        }
        let Some(mut sequence) = self.escape.take() else {
            return match byte {
                b'q' | b'Q' | 0x03 | 0x04 => Some(Key::End),
                b'\t' => Some(Key::NextTable),
                b'r' | b'R' => Some(Key::Turn),
                _ => None,
            };
        };
        sequence.push(byte);
        match *sequence {
            // `[` and `O` introduce; what follows ends with a letter.
            [b'[' | b'O'] => self.escape = Some(sequence),
            [b'[' | b'O', b'A'] => return Some(Key::Up),
            [b'[' | b'O', b'B'] => return Some(Key::Down),
            [b'[' | b'O', b'C'] => return Some(Key::Right),
            [b'[' | b'O', b'D'] => return Some(Key::Left),
            [b'[', b'Z'] => return Some(Key::TableBefore),
            [b'[', .., last] if !(0x40..=0x7e).contains(&last) && sequence.len() < LONGEST => {
                self.escape = Some(sequence);
            }
            _ => {}
        }
        None
    }
}

/// Keys as they come.
pub(super) struct Keys {
    pressed: mpsc::Receiver<Key>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keys {
    /// Reads standard input, which a [`super::terminal::Terminal`] has made return within a moment.
    pub(super) fn read() -> std::io::Result<Self> {
        let (sender, pressed) = mpsc::channel(64);
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = std::thread::Builder::new().name("keys".into()).spawn(move || listen(&told, &sender))?;
        Ok(Self { pressed, over, thread: Some(thread) })
    }

    /// The next one; none when there will be no more.
    pub(super) async fn next(&mut self) -> Option<Key> {
        self.pressed.recv().await
    }
}

fn listen(over: &AtomicBool, keys: &mpsc::Sender<Key>) {
    let (mut reader, mut bytes) = (Reader::default(), [0; 64]);
    while !over.load(Ordering::Relaxed) {
        match rustix::io::read(rustix::stdio::stdin(), &mut bytes) {
            Ok(count) => {
                for key in bytes[..count].iter().filter_map(|byte| reader.byte(*byte)) {
                    // Whoever presses more than can be shown does without some of it.
                    if matches!(keys.try_send(key), Err(mpsc::error::TrySendError::Closed(_))) {
                        return;
                    }
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It only reads; that it failed has no consequence here.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_wherever_their_sequence_is_cut() {
        let mut reader = Reader::default();
        let mut read = |bytes: &[u8]| bytes.iter().filter_map(|byte| reader.byte(*byte)).collect::<Vec<_>>();
        assert_eq!(
            read(b"\t\x1b[C\x1bOD\x1b[A\x1b[B\x1b[Zrxq"),
            [Key::NextTable, Key::Right, Key::Left, Key::Up, Key::Down, Key::TableBefore, Key::Turn, Key::End,]
        );
        assert_eq!((read(b"\x1b"), read(b"["), read(b"C")), (vec![], vec![], vec![Key::Right]));
        // The q of a longer sequence is none, and nor is one of a mouse; what is no sequence ends by itself.
        assert_eq!(read(b"\x1b[1;2q\x1b[5~"), []);
        assert_eq!(read(b"\x1b[99999999999999q"), [Key::End]);
        assert_eq!(read(b"\x03"), [Key::End]);
    }
}
