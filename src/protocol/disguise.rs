//! Names that somebody else would read as one of ours. Many servers are written in Go, whose `encoding/json` takes a member's name
//! in any case, and for it U+017F is an `s` and U+212A a `k` (Unicode, `CaseFolding.txt`, simple folding). Such a name next to
//! ours would be another message to them.

/// Whether `name`, spelled out, and `known`, which is ASCII, differ in nothing but case.
pub fn folds_to(mut name: &[u8], known: &str) -> bool {
    for wanted in known.bytes() {
        let (letter, length) = match name {
            [0xc5, 0xbf, ..] => (b's', 2),
            [0xe2, 0x84, 0xaa, ..] => (b'k', 3),
            [first, ..] => (first.to_ascii_lowercase(), 1),
            [] => return false,
        };
        if letter != wanted.to_ascii_lowercase() {
            return false;
        }
        name = &name[length..];
    }
    name.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded_as_servers_fold_them() {
        for (name, known) in [
            ("name", "name"),
            ("NaMe", "name"),
            ("param\u{17f}", "params"),
            ("\u{17f}\u{212a}", "sk"),
            ("REQUESTid", "requestId"),
            ("_META", "_meta"),
        ] {
            assert!(folds_to(name.as_bytes(), known), "{name}");
        }
        for (name, known) in [
            ("names", "name"),
            ("nam", "name"),
            ("", "name"),
            ("n\u{e4}me", "name"),
            ("\u{131}d", "id"),
            ("-meta", "_meta"),
        ] {
            assert!(!folds_to(name.as_bytes(), known), "{name}");
        }
    }
}
