//! JSON read in place: one strict pass that accepts or refuses a text (RFC 8259, no duplicate names, bounded nesting), then
//! look-ups that return slices of it, and splices that change a few bytes and keep the rest as it was written.
//!
//! It is not a parser into values: numbers keep their digits, strings their escapes. `serde_json` is the oracle it is fuzzed
//! against. Duplicate names are refused because two readers of one message may otherwise see two different messages.

mod check;
mod read;
mod scan;

pub use check::{Listener, Name, check, check_telling};
pub use read::{Elements, Members, elements, get, get_text, is_name, members, path, quote, span, splice, text};

/// Deepest nesting of arrays and objects that is read.
pub const MAX_DEPTH: usize = 128;

/// Why a text was refused, with the byte offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not JSON.
    #[error("invalid JSON at byte {at}: {what}")]
    Syntax {
        /// Offset of the byte that does not fit.
        at: usize,
        /// What was expected.
        what: &'static str,
    },
    /// A name occurs twice in one object.
    #[error("duplicate member \"{name}\" at byte {at}")]
    Duplicate {
        /// Offset of the second occurrence.
        at: usize,
        /// The name, shortened.
        name: String,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels at byte {at}")]
    TooDeep {
        /// Offset of the bracket.
        at: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::read::unescape;
    use super::*;

    fn agrees_with_oracle(text: &str) {
        let ours = check(text.as_bytes());
        let theirs = serde_json::from_str::<serde_json::Value>(text);
        match (&ours, &theirs) {
            (Ok(()) | Err(Problem::Duplicate { .. } | Problem::TooDeep { .. }), Ok(_)) | (Err(_), Err(_)) => {}
            // Numbers past f64 are JSON all the same (RFC 8259 section 6); the oracle refuses them.
            (Ok(()), Err(error)) if error.to_string().contains("number out of range") => {}
            // Half of a surrogate pair is in the grammar too; the oracle cannot keep it in a string of Rust.
            (Ok(()), Err(error))
                if ["lone leading surrogate", "unexpected end of hex escape"]
                    .iter()
                    .any(|known| error.to_string().contains(known)) => {}
            _ => panic!("{text:?}: {ours:?} against {theirs:?}"),
        }
    }

    #[test]
    fn accepts_and_refuses_what_the_oracle_does() {
        for text in [
            "{}",
            "[]",
            " null ",
            "true",
            "0",
            "-0.0",
            "1E+2",
            "1e999",
            "01",
            "1.",
            ".5",
            "-",
            "+1",
            "\"\"",
            "\"\\u00e9\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"\\x\"",
            "\"\n\"",
            "\"",
            "{\"a\":1,}",
            "[1,]",
            "[1 2]",
            "{\"a\" 1}",
            "{a:1}",
            "{\"a\":1}x",
            "",
            " ",
            "[[[[]]]]",
            "{\"a\":{\"a\":1}}",
            "nul",
            "tru",
            "9007199254740993",
            "\u{feff}{}",
            "\"\u{2028}\"",
            "\"\u{7f}\"",
        ] {
            agrees_with_oracle(text);
        }
    }

    #[test]
    fn refuses_a_name_that_occurs_twice_however_it_is_spelled() {
        let refused = |text: &str| matches!(check(text.as_bytes()), Err(Problem::Duplicate { .. }));
        assert!(refused(r#"{"a":1,"a":2}"#));
        assert!(refused(r#"{"name":1,"n\u0061me":2}"#));
        assert!(refused(r#"{"x":{"y":[{"b":1,"c":1,"b":1}]}}"#));
        assert!(refused(r#"{"\u0061":1,"b":2,"a":3}"#));
        assert!(refused(r#"{"a":1,"b":2,"\u0061":{"\u0061":3}}"#));
        assert!(refused(r#"{"a":1,"a":2,"\u0062":3}"#));
        assert!(!refused(r#"{"a":{"a":1},"b":{"a":1}}"#));
        assert!(!refused(r#"{"\u0061":{"\u0061":1},"b":{"a":1},"\ud800":1,"\ud801":1}"#));
        let many = (0..100).map(|n| format!("\"k{n}\":{n},")).collect::<Vec<_>>().concat();
        assert!(!refused(&format!("{{{many}\"z\":1}}")));
        assert!(refused(&format!("{{{many}\"k7\":1}}")));
    }

    #[test]
    fn refuses_nesting_past_the_bound_without_using_the_stack() {
        assert_eq!(check(&b"[".repeat(MAX_DEPTH + 1)), Err(Problem::TooDeep { at: MAX_DEPTH }));
        let fits = [b"[".repeat(MAX_DEPTH), b"]".repeat(MAX_DEPTH)].concat();
        assert_eq!(check(&fits), Ok(()));
    }

    #[test]
    fn finds_members_as_written() {
        let text = br#" { "id" : 1.0 , "params":{"name":"a\"b","list":[1,{"x":"}"}]}, "n\u0061me": null } "#;
        check(text).unwrap();
        assert_eq!(get(text, "id"), Some(&b"1.0"[..]));
        assert_eq!(path(text, &["params", "list"]), Some(&br#"[1,{"x":"}"}]"#[..]));
        assert_eq!(get_text(get(text, "params").unwrap(), "name").as_deref(), Some("a\"b"));
        assert_eq!(get(text, "name"), Some(&b"null"[..]));
        assert_eq!(get(text, "absent"), None);
        assert_eq!(elements(b"[1, \"a,b\" ,[2,3],{}]").collect::<Vec<_>>(), [&b"1"[..], b"\"a,b\"", b"[2,3]", b"{}"]);
        assert_eq!(elements(b"[]").count(), 0);
    }

    #[test]
    fn splices_keep_every_other_byte() {
        let text = br#"{"id":7,"big":9007199254740993,"p":{"name":"a"}}"#;
        let id = span(text, get(text, "id").unwrap());
        let name = span(text, path(text, &["p", "name"]).unwrap());
        assert_eq!(
            &splice(text, &[(id, b"\"x\""), (name, b"\"bb\"")])[..],
            br#"{"id":"x","big":9007199254740993,"p":{"name":"bb"}}"#
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_judged_like_the_oracle(text in r#"[\[\]{}",:0-9eE+\-.\\ubn a-f]{0,40}"#) {
            agrees_with_oracle(&text);
        }

        #[test]
        fn readers_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = check(&bytes);
            for (name, value) in members(&bytes) {
                let _ = (unescape(name), text(value), elements(value).count());
            }
        }
    }
}
