//! Arguments as records of a tenant show them that wants that: what looks like a secret, by its name or its shape, is left out, and of
//! the rest only so much is there. It is done before anything is written: what is left out stands in no file.

mod names;
mod texts;

use std::borrow::Cow;

use self::texts::{LEFT_OUT, without_secrets};
use crate::json::{check, elements, members, quote, text};

/// Longest arguments that are looked at, bytes as they were sent.
const LONGEST_READ: usize = 64 << 10;
/// Longest that a record holds, bytes.
const LONGEST: usize = 8 << 10;
/// Longest text of them, bytes.
const LONGEST_TEXT: usize = 1 << 10;
/// Deepest that is looked at, also in texts that are JSON themselves.
const DEEPEST: usize = 16;

/// As a record shows the arguments, which are checked JSON: JSON again.
pub fn shown(arguments: &[u8]) -> Box<str> {
    let mut out = String::new();
    if arguments.len() > LONGEST_READ || !write(arguments, 0, &mut out) {
        return format!("\"[left out: {} bytes]\"", arguments.len()).into();
    }
    out.into()
}

/// Writes a value; whether there is room for it.
fn write(value: &[u8], depth: usize, out: &mut String) -> bool {
    let value = value.trim_ascii();
    match value.first() {
        Some(b'{' | b'[') if depth >= DEEPEST => out.push_str(&quote(LEFT_OUT)),
        Some(b'{') => return write_object(value, depth, out),
        Some(b'[') => return write_list(value, depth, out),
        Some(b'"') => out.push_str(&quote(&plain(characters(value).as_deref(), depth))),
        // Numbers and words.
        _ => out.push_str(std::str::from_utf8(value).unwrap_or("null")),
    }
    out.len() <= LONGEST
}

fn write_object(object: &[u8], depth: usize, out: &mut String) -> bool {
    let pair = Pair::of(object);
    out.push('{');
    for (at, (name, value)) in members(object).enumerate() {
        let name = name_of(name);
        out.push_str(if at == 0 { "" } else { "," });
        out.push_str(&quote(&plain(name.as_deref(), DEEPEST)));
        out.push(':');
        if name.is_none_or(|name| pair.hides(&name)) {
            out.push_str(&quote(LEFT_OUT));
        } else if !write(value, depth + 1, out) {
            return false;
        }
    }
    out.push('}');
    out.len() <= LONGEST
}

fn write_list(list: &[u8], depth: usize, out: &mut String) -> bool {
    let mut before: Option<Cow<'_, str>> = None;
    out.push('[');
    for (at, value) in elements(list).enumerate() {
        out.push_str(if at == 0 { "" } else { "," });
        let item = characters(value);
        if before.is_some_and(|before| texts::announces(&before, item.as_deref().unwrap_or_default())) {
            out.push_str(&quote(LEFT_OUT));
        } else if !write(value, depth + 1, out) {
            return false;
        }
        before = item;
    }
    out.push(']');
    out.len() <= LONGEST
}

/// What an object says of its own members, where one names what another holds, as lists of headers and variables are written.
struct Pair {
    /// Whether what is named is a secret.
    is_secret: bool,
    /// Whether `key` is what names it, and no secret.
    by_key: bool,
}

impl Pair {
    fn of(object: &[u8]) -> Self {
        let (mut is_secret, mut by_key, mut has_value, mut has_name) = (false, false, false, false);
        for (name, value) in members(object) {
            let Some(name) = name_of(name) else { continue };
            has_value |= names::is_value(&name);
            if names::is_naming(&name) && value.first() == Some(&b'"') {
                is_secret |= characters(value).is_none_or(|named| names::is_secret(&named));
                let is_key = name.eq_ignore_ascii_case("key");
                by_key |= is_key;
                has_name |= !is_key;
            }
        }
        Self { is_secret, by_key: by_key && has_value && !has_name }
    }

    fn hides(&self, name: &str) -> bool {
        if self.by_key && name.eq_ignore_ascii_case("key") {
            return false;
        }
        names::is_secret(name) || (self.is_secret && names::is_value(name))
    }
}

/// The characters of a text; `None` for anything else, and for half of a surrogate pair, with which a text has none.
fn characters(value: &[u8]) -> Option<Cow<'_, str>> {
    // Only such a text stands there as it is written.
    text(value).filter(|text| !(matches!(text, Cow::Borrowed(_)) && text.contains('\\')))
}

/// The same of a member's name, as it is written between its quotes.
fn name_of(written: &[u8]) -> Option<String> {
    characters(&[b"\"", written, b"\""].concat()).map(Cow::into_owned)
}

/// A text without what looks like a secret, and no longer than may be.
fn plain(given: Option<&str>, depth: usize) -> Cow<'_, str> {
    let Some(given) = given else { return Cow::Borrowed(LEFT_OUT) };
    let holds_json =
        depth < DEEPEST && given.trim_start().starts_with(['{', '[', '"']) && check(given.as_bytes()).is_ok();
    let shown = if holds_json {
        let mut inner = String::new();
        // What there is no room for is cut off below.
        write(given.as_bytes(), depth + 1, &mut inner);
        Cow::Owned(inner)
    } else {
        without_secrets(given)
    };
    if shown.len() <= LONGEST_TEXT {
        return shown;
    }
    Cow::Owned(format!("{}… ({} bytes)", &shown[..shown.floor_char_boundary(LONGEST_TEXT)], given.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_of(arguments: &str) -> serde_json::Value {
        crate::json::check(arguments.as_bytes()).unwrap();
        serde_json::from_str(&shown(arguments.as_bytes())).unwrap()
    }

    #[test]
    fn what_is_called_a_secret_is_left_out_however_that_is_written() {
        let arguments = r#"{"path": "/a", "n": 1.50, "ok": [true, null], "Api-Key": "x1", "dbPassword": {"deep": "x2"}, "pin": "x3",
            "spin": "kept", "p\u0061ssword": "x4", "inner": [{"access_token": ["x5"]}], "Authorization": "x6"}"#;
        let shown = shown_of(arguments);
        let left = serde_json::json!("[left out]");
        let expected = serde_json::json!({"path": "/a", "n": 1.5, "ok": [true, null], "Api-Key": left, "dbPassword": left,
            "pin": left, "spin": "kept", "password": left, "inner": [{"access_token": left}], "Authorization": left});
        assert_eq!(shown, expected);
        assert!(shown_of(r#"{"n": 12345678901234567890123}"#).to_string().len() > 10);
    }

    #[test]
    fn what_looks_like_a_secret_is_left_out_wherever_it_stands() {
        let own = format!("mcpg_{}", "0123456789abcdef".repeat(4));
        for secret in [
            own.as_str(),
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
            "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----",
            "ghp_0123456789012345678901234567890123456",
            "use AKIAIOSFODNN7EXAMPLE there",
            "Bearer abc.defghijk",
        ] {
            let arguments =
                serde_json::json!({"text": secret, "list": [format!("see {secret}")], secret: 1}).to_string();
            let shown = shown(arguments.as_bytes());
            let part = secret.rsplit([' ', '\n', ':', '.']).next().unwrap();
            assert!(!shown.contains(secret) && (part.len() < 8 || !shown.contains(part)), "{shown}");
        }
        let kept = r#"{"text":"ask-me, https://a.example/x, task-1"}"#;
        assert_eq!(&*shown(kept.as_bytes()), kept);
    }

    #[test]
    fn what_another_member_or_item_names_is_left_out() {
        for (arguments, expected) in [
            (
                r#"{"headers":[{"name":"X-Api-Key","value":"abc"}]}"#,
                r#"{"headers":[{"name":"X-Api-Key","value":"[left out]"}]}"#,
            ),
            (
                r#"{"env":[{"value":{"a":1},"key":"DB_PASSWORD"}]}"#,
                r#"{"env":[{"value":"[left out]","key":"DB_PASSWORD"}]}"#,
            ),
            (r#"{"key":"abc"}"#, r#"{"key":"[left out]"}"#),
            (r#"{"key":"abc","name":"n","value":1}"#, r#"{"key":"[left out]","name":"n","value":1}"#),
            (
                r#"[{"Field":"pin","stringValue":1,"type":"t"}]"#,
                r#"[{"Field":"pin","stringValue":"[left out]","type":"t"}]"#,
            ),
            (r#"{"name":"p\u0061ss\ud800","value":1}"#, r#"{"name":"[left out]","value":"[left out]"}"#),
            (r#"{"name":"limit","value":10}"#, r#"{"name":"limit","value":10}"#),
            (r#"["--password","abc","-v"]"#, r#"["--password","[left out]","-v"]"#),
            (r#"["-u","ada:abc","--user","ada"]"#, r#"["-u","[left out]","--user","ada"]"#),
            (r#"[["X-Api-Key",["abc"]],["Accept","x"]]"#, r#"[["X-Api-Key","[left out]"],["Accept","x"]]"#),
            (r#"{"p\u0061ssword\ud800":"abc"}"#, r#"{"[left out]":"[left out]"}"#),
            (r#"{"text":"\u0070assword=abc \ud800"}"#, r#"{"text":"[left out]"}"#),
            (r#"{"p\u0430ssword":"abc"}"#, "{\"p\u{430}ssword\":\"[left out]\"}"),
            (
                r#"{"monkey":1,"country_code":"de","description":"d"}"#,
                r#"{"monkey":1,"country_code":"de","description":"d"}"#,
            ),
        ] {
            assert_eq!(&*shown(arguments.as_bytes()), expected);
        }
    }

    #[test]
    fn json_in_a_text_is_read_as_such() {
        let inner =
            serde_json::json!({"p": "a", "password": "hunter2", "list": [{"name": "pin", "value": 1}]}).to_string();
        let left = r#"{"list":[{"name":"pin","value":"[left out]"}],"p":"a","password":"[left out]"}"#;
        let twice = serde_json::json!({"body": inner}).to_string();
        let body = shown_of(&serde_json::json!({"body": twice}).to_string())["body"].as_str().unwrap().to_owned();
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let body: serde_json::Value = serde_json::from_str(body["body"].as_str().unwrap()).unwrap();
        assert_eq!(body, serde_json::from_str::<serde_json::Value>(left).unwrap());
        let mut deep = inner;
        for _ in 0..8 {
            deep = serde_json::json!([deep]).to_string();
        }
        assert!(!shown(deep.as_bytes()).contains("hunter2"));
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_is_json_and_bounded(text in r#"[\[\]{}"' ,:=@<>/\\&;%2-paus\n\u{430}]{0,80}"#) {
            let arguments = serde_json::json!({"a": text, "b": [text], text.clone(): 1}).to_string();
            let shown = shown(arguments.as_bytes());
            proptest::prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&shown).is_ok() && shown.len() <= LONGEST + LONGEST_TEXT * 6);
        }
    }

    #[test]
    fn however_long_or_deep_they_are_there_is_a_bound() {
        let long = serde_json::json!({"text": "ü".repeat(5_000)}).to_string();
        assert!(shown(long.as_bytes()).len() < 1_200);
        for huge in [
            serde_json::json!(vec!["word"; 5_000]).to_string(),
            serde_json::json!({"text": "x".repeat(100_000)}).to_string(),
        ] {
            assert_eq!(&*shown(huge.as_bytes()), format!("\"[left out: {} bytes]\"", huge.len()));
        }
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        assert!(shown(deep.as_bytes()).contains("left out"));
        assert!(serde_json::from_str::<serde_json::Value>(&shown(deep.as_bytes())).is_ok());
    }
}
