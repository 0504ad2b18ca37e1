//! Names that somebody else would read as one of ours. Many servers are written in Go, whose `encoding/json` takes a member's name
//! in any case, and for it U+017F is an `s` and U+212A a `k` (Unicode, `CaseFolding.txt`, simple folding). Such a name next to
//! ours would be another message to them.

/// Whether `name`, spelled out, and `known`, which is ASCII, differ in nothing but case.
#[inline]
pub fn folds_to(name: &[u8], known: &str) -> bool {
    // What folds to a letter, and is none, is longer than it.
    if name.len() <= known.len() { name.eq_ignore_ascii_case(known.as_bytes()) } else { shrinks_to(name, known) }
}

fn shrinks_to(mut name: &[u8], known: &str) -> bool {
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

/// Whether two names differ in nothing but case, for any that somebody's server could fold so. Errs towards yes.
pub fn same_but_for_case(one: &str, other: &str) -> bool {
    folded(one).eq(folded(other))
}

/// A name without its case.
pub fn folded(name: &str) -> impl Iterator<Item = char> {
    name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_two_names_may_differ_in_case_alone() {
        for (one, other) in [
            ("amount", "Amount"),
            ("acces\u{17f}", "access"),
            ("\u{212a}ey", "key"),
            ("\u{3c2}", "\u{3a3}"),
            ("\u{df}", "SS"),
        ] {
            assert!(same_but_for_case(one, other) && same_but_for_case(other, one), "{one} {other}");
        }
        assert!(!same_but_for_case("amount", "amounts") && !same_but_for_case("\u{e4}", "a"));
    }

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
