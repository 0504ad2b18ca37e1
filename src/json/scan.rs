//! Where a string has something else than plain characters. Most strings of a message are short, so eight bytes at a time come
//! first, and the widest registers only for what is left of a long one.

/// Bytes looked at eight at a time.
const NEAR: usize = 64;

const LOW: u64 = u64::from_le_bytes([1; 8]);
const HIGH: u64 = LOW << 7;

/// The high bit of each byte of `word` that is less than `than`, which is at most 128; behind the first such byte also of others.
fn less(word: u64, than: u64) -> u64 {
    word.wrapping_sub(LOW * than) & !word & HIGH
}

/// Offset of the first quote, backslash or control character at `from` or behind it; where there is none, the length.
pub(super) fn special(text: &[u8], from: usize) -> usize {
    let (eights, _) = text.get(from..).unwrap_or_default().as_chunks::<8>();
    let mut at = from;
    for eight in eights.iter().take(NEAR / 8) {
        let word = u64::from_le_bytes(*eight);
        let found =
            less(word, 0x20) | less(word ^ (LOW * u64::from(b'"')), 1) | less(word ^ (LOW * u64::from(b'\\')), 1);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = text.get(at..).unwrap_or_default();
    if rest.len() < 8 {
        return at + rest.iter().position(|byte| is_special(*byte)).unwrap_or(rest.len());
    }
    let plain = &rest[..memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len())];
    // Looking at all of them first is many at a time; finding the one is for the error alone.
    if plain.iter().fold(u8::MAX, |least, byte| least.min(*byte)) < 0x20 {
        return at + plain.iter().position(|byte| is_special(*byte)).unwrap_or(plain.len());
    }
    at + plain.len()
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn finds_the_first_one_wherever_it_stands(
            length in 0..300_usize,
            others in proptest::collection::vec((0..300_usize, proptest::prelude::any::<u8>()), 0..6),
            from in 0..310_usize,
        ) {
            let mut text = vec![b'a'; length];
            for (at, byte) in others {
                if let Some(place) = text.get_mut(at) {
                    *place = byte;
                }
            }
            let slow = (from..length).find(|at| is_special(text[*at])).unwrap_or(length.max(from));
            proptest::prop_assert_eq!(special(&text, from), slow);
        }
    }
}
