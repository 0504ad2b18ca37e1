//! How records stand in a file, one behind the other: length, checksum, text. A process that was killed may leave half a frame at
//! the end; it is told from a whole one by its checksum.

use crc::{CRC_32_ISCSI, Crc, Table};

/// Bytes before the text.
pub const HEAD: usize = 8;
/// Longest text; much longer than any record.
pub const LONGEST: usize = 64 << 10;

static CHECKSUM: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// Begins a frame in `buffer`: a text is to follow.
pub fn begin(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.extend_from_slice(&[0; HEAD]);
}

/// Writes into the head of a frame what is known once the text stands behind it.
pub fn end(buffer: &mut [u8]) {
    let (head, text) = buffer.split_at_mut(HEAD);
    head[..4].copy_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    head[4..].copy_from_slice(&CHECKSUM.checksum(text).to_le_bytes());
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A whole frame with this text.
    Text(&'a [u8]),
    /// More bytes are needed to say.
    More,
    /// No frame: it was torn, or something else wrote here.
    Torn,
}

/// Looks at the beginning of `bytes`.
pub fn next(bytes: &[u8]) -> Next<'_> {
    let Some((head, rest)) = bytes.split_at_checked(HEAD) else { return Next::More };
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let length = number(0) as usize;
    if length == 0 || length > LONGEST {
        return Next::Torn;
    }
    match rest.get(..length) {
        None => Next::More,
        Some(text) if CHECKSUM.checksum(text) == number(4) => Next::Text(text),
        Some(_) => Next::Torn,
    }
}

/// A whole frame.
#[cfg(test)]
pub(super) fn framed(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut buffer = Vec::new();
    begin(&mut buffer);
    buffer.extend_from_slice(text.as_ref());
    end(&mut buffer);
    buffer
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_cut_off_or_changed_is_no_frame(text in prop::collection::vec(any::<u8>(), 1..300), cut in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let whole = framed(&text);
            prop_assert_eq!(next(&whole), Next::Text(&text));
            let at = cut.index(whole.len());
            prop_assert_eq!(next(&whole[..at]), Next::More);
            let mut changed = whole;
            changed[at] ^= 1 << bit;
            prop_assert_ne!(next(&changed), Next::Text(&text));
        }
    }

    #[test]
    fn zeros_are_no_frame() {
        assert_eq!(next(&[0; 100]), Next::Torn);
    }
}
