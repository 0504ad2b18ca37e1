//! Arguments as records of a tenant show them that wants that: what looks like a secret, by its name or its shape, is left out, and of
//! the rest only so much is there. It is done before anything is written: what is left out stands in no file.

use std::borrow::Cow;

use crate::crypto::masked;
use crate::json::{elements, members, quote, text};

/// Longest arguments that are looked at, bytes as they were sent.
const LONGEST_READ: usize = 64 << 10;
/// Longest that a record holds, bytes.
const LONGEST: usize = 8 << 10;
/// Longest text of them, bytes.
const LONGEST_TEXT: usize = 1 << 10;
/// Deepest that is looked at.
const DEEPEST: usize = 16;

/// In place of what is left out.
const LEFT_OUT: &str = "\"[left out]\"";

/// What names of secrets hold, small letters and digits alone.
const NAMES: [&str; 22] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
    "secret",
    "token",
    "authorization",
    "apikey",
    "accesskey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "credential",
    "cookie",
    "bearer",
    "session",
    "signature",
    "assertion",
    "connectionstring",
    "verifier",
    "dsn",
];
/// Names that are too short to be looked for in others.
const WHOLE_NAMES: [&str; 8] = ["pin", "otp", "auth", "key", "code", "csrf", "jwt", "cvv"];

/// How secrets begin wherever they stand, besides our own and what is signed.
const BEGINNINGS: [&str; 19] = [
    "-----BEGIN",
    "Bearer ",
    "bearer ",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxa-",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "sk-",
    "sk_live_",
    "AKIA",
    "ASIA",
    "AIza",
    "npm_",
];

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
        Some(b'{' | b'[') if depth >= DEEPEST => out.push_str(LEFT_OUT),
        Some(b'{') => {
            out.push('{');
            for (at, (name, value)) in members(value).enumerate() {
                let name = text(&[b"\"", name, b"\""].concat()).map(Cow::into_owned).unwrap_or_default();
                out.push_str(if at == 0 { "" } else { "," });
                out.push_str(&quote(&plain(&name)));
                out.push(':');
                if is_secret_name(&name) {
                    out.push_str(LEFT_OUT);
                } else if !write(value, depth + 1, out) {
                    return false;
                }
            }
            out.push('}');
        }
        Some(b'[') => {
            out.push('[');
            for (at, value) in elements(value).enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                if !write(value, depth + 1, out) {
                    return false;
                }
            }
            out.push(']');
        }
        Some(b'"') => out.push_str(&quote(&plain(&text(value).unwrap_or_default()))),
        // Numbers and words.
        _ => out.push_str(std::str::from_utf8(value).unwrap_or("null")),
    }
    out.len() <= LONGEST
}

/// A text without what looks like a secret, and no longer than may be.
fn plain(given: &str) -> Cow<'_, str> {
    if looks_secret(given) {
        return Cow::Borrowed("[left out]");
    }
    let shown = masked(given);
    if shown.len() <= LONGEST_TEXT {
        return shown;
    }
    Cow::Owned(format!("{}… ({} bytes)", &shown[..shown.floor_char_boundary(LONGEST_TEXT)], given.len()))
}

fn is_secret_name(name: &str) -> bool {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    WHOLE_NAMES.contains(&&*name) || NAMES.iter().any(|part| name.contains(part))
}

fn looks_secret(text: &str) -> bool {
    let word = |at: usize| text[..at].chars().next_back().is_none_or(|c| !c.is_ascii_alphanumeric());
    let begins = |start: &str| text.match_indices(start).any(|(at, _)| word(at));
    // As a header carries it; elsewhere it is a common word.
    let is_basic = text.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("basic "));
    let in_address = || {
        text.match_indices("://").any(|(at, sign)| {
            let rest = &text[at + sign.len()..];
            let end = rest.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(rest.len());
            rest[..end].rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
        })
    };
    BEGINNINGS.iter().any(|start| begins(start)) || is_basic || in_address()
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
            "postgres://root:hunter2@db.example/x",
        ] {
            let arguments =
                serde_json::json!({"text": secret, "list": [format!("see {secret}")], secret: 1}).to_string();
            let shown = shown(arguments.as_bytes());
            let part = secret.rsplit([' ', '\n', ':', '.']).next().unwrap();
            assert!(!shown.contains(secret) && (part.len() < 8 || !shown.contains(part)), "{shown}");
        }
        let kept = r#"{"text":"ask-me, https://a.example/x@y, task-1"}"#;
        assert_eq!(&*shown(kept.as_bytes()), kept);
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
