//! Reads a journal from where it was drained to, in pieces that fit into one transaction.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::folder;
use super::frame::{self, Next};
use super::journal::{Position, segment_path};

/// Most records of one piece. What is counted of a piece is added to rows once, so that long pieces cost less.
pub(super) const MOST: usize = 4_096;
/// Most bytes of one piece, more than the longest frame.
const BYTES: u64 = 4 << 20;

/// Some records, in the order in which they were appended.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// Their texts.
    pub(super) texts: Vec<String>,
    /// Bytes of the journal that they are.
    pub(super) bytes: u64,
    /// Where the next begin; none at the end of the journal.
    pub(super) next: Option<Position>,
    /// Bytes that are no records.
    pub(super) torn: u64,
    /// Whether files are missing before the next one.
    pub(super) gap: bool,
    /// Whether these are more than what a process had begun to write at the very end when it was killed.
    pub(super) damaged: bool,
}

/// Reads on from `from` in `folder`, `most` records, to `end` at most; without one to the end of the last file, which may be torn.
pub(super) fn read(folder: &Path, from: Position, end: Option<Position>, most: usize) -> io::Result<Piece> {
    let path = segment_path(folder, from.segment);
    let length = match std::fs::metadata(&path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let later = folder::segments(folder)?.into_iter().find(|segment| *segment > from.segment);
            return match later {
                Some(segment) => {
                    Ok(Piece { next: Some(Position { segment, offset: 0 }), gap: true, ..Piece::default() })
                }
                // There is no next file.
                None if end.is_none() => Ok(Piece::default()),
                None => Err(error),
            };
        }
        Err(error) => return Err(error),
    };
    let is_last = end.is_some_and(|end| end.segment == from.segment);
    let to = end.filter(|_| is_last).map_or(length, |end| end.offset.min(length));
    if from.offset >= to {
        let next = (!is_last).then_some(Position { segment: from.segment + 1, offset: 0 });
        return Ok(Piece { next, ..Piece::default() });
    }
    let wanted = (to - from.offset).min(BYTES);
    let mut bytes = vec![0; usize::try_from(wanted).unwrap_or_default()];
    File::open(&path)?.read_exact_at(&mut bytes, from.offset)?;
    let is_whole = from.offset + wanted == to;
    let (mut piece, mut rest) = (Piece::default(), &bytes[..]);
    while piece.texts.len() < most {
        match frame::next(rest) {
            Next::Text(text) => {
                let whole = frame::HEAD + text.len();
                piece.bytes += whole as u64;
                // Its checksum is right: what is no text there was none when it was written.
                let text = String::from_utf8(text.to_vec());
                let text = text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
                piece.texts.push(text);
                rest = &rest[whole..];
            }
            // More of the file is to be read, unless this is all of it.
            Next::More if !is_whole || rest.is_empty() => break,
            Next::More if end.is_none() && is_last_file(folder, from.segment)? && next_frame(rest).is_none() => {
                piece.torn += rest.len() as u64;
                rest = &[];
            }
            Next::More | Next::Torn => {
                let found = next_frame(rest);
                // Where none follows, one may begin at the end of what was read, if that is not all.
                let left = if is_whole { 0 } else { (frame::HEAD + frame::LONGEST).min(rest.len() - 1) };
                let skipped = found.unwrap_or(rest.len() - left);
                (piece.torn, piece.damaged) = (piece.torn + skipped as u64, true);
                rest = &rest[skipped..];
                if found.is_none() {
                    break;
                }
            }
        }
    }
    let position = from.offset + piece.bytes + piece.torn;
    piece.next = Some(if position >= to && !is_last {
        Position { segment: from.segment + 1, offset: 0 }
    } else {
        Position { segment: from.segment, offset: position }
    });
    Ok(piece)
}

/// Where the next whole frame begins behind a place that holds none.
fn next_frame(bytes: &[u8]) -> Option<usize> {
    (1..bytes.len()).find(|at| matches!(frame::next(&bytes[*at..]), Next::Text(_)))
}

fn is_last_file(folder: &Path, segment: u64) -> io::Result<bool> {
    segment_path(folder, segment + 1).try_exists().map(|exists| !exists)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::folder::Folder;
    use crate::audit::frame::framed;
    use crate::audit::journal::Journal;
    use crate::config::Durability;

    fn base() -> std::path::PathBuf {
        std::env::temp_dir().join(format!("mcp-gateway-journal-{}", uuid::Uuid::now_v7()))
    }

    /// Everything from the beginning.
    fn all(folder: &Path, end: Option<Position>) -> (Vec<String>, u64) {
        let (mut at, mut texts, mut torn) = (Position::BEGIN, Vec::new(), 0);
        loop {
            let piece = read(folder, at, end, MOST).unwrap();
            texts.extend(piece.texts);
            torn += piece.torn;
            match piece.next.filter(|next| *next != at) {
                Some(next) => at = next,
                None => return (texts, torn),
            }
        }
    }

    #[test]
    fn what_was_appended_is_read_in_order_over_files_and_a_torn_end_is_told() {
        let base = base();
        let folder = Folder::make(&base, uuid::Uuid::now_v7()).unwrap();
        let journal = Journal::open(folder.path.clone(), Durability::Process, 1 << 30).unwrap();
        let long = "x".repeat(5_000);
        for number in 0..2_500 {
            journal.append(&framed(format!("{number} {long}")));
        }
        assert!(journal.end().segment > 2, "{:?}", journal.end());
        let (texts, torn) = all(&folder.path, Some(journal.end()));
        assert_eq!((texts.len(), torn), (2_500, 0));
        assert!(texts.iter().enumerate().all(|(at, text)| text.starts_with(&format!("{at} "))));
        assert!(Folder::left_behind(&base).unwrap().is_empty(), "its process lives");

        let last = segment_path(&folder.path, journal.end().segment);
        let whole = std::fs::read(&last).unwrap();
        for cut in [1, 100, 5_000] {
            std::fs::write(&last, &whole[..whole.len() - cut]).unwrap();
            let (texts, torn) = all(&folder.path, None);
            assert_eq!(texts.len(), 2_499, "without {cut}");
            assert!(torn > 0, "without {cut}");
        }
        // In the middle it costs what stands there, and no more; whatever its length says by then.
        std::fs::write(&last, &whole).unwrap();
        let first = segment_path(&folder.path, 1);
        let whole = std::fs::read(&first).unwrap();
        let frame = whole.len() / 837;
        for (from, to) in
            [(10, 11), (0, 4), (1, 2), (frame * 3 + 50, frame * 4 + 50), (10, 1_500_000), (2_000_000, 4_150_000)]
        {
            let mut hurt = whole.clone();
            hurt[from..to].iter_mut().for_each(|byte| *byte ^= 0x55);
            std::fs::write(&first, &hurt).unwrap();
            let (texts, torn) = all(&folder.path, None);
            let lost = 2_500 - texts.len();
            assert!(lost > 0 && lost <= (to - from) / 5_000 + 2, "{lost} of {from} to {to}");
            assert!(torn >= lost as u64 * 5_000, "{torn} of {from} to {to}");
        }
        drop((journal, folder));
        assert_eq!(Folder::left_behind(&base).unwrap().len(), 1, "its process is gone");
        std::fs::remove_dir_all(&base).unwrap();
    }
}
