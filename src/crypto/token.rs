//! The random texts we issue: API keys, and the tokens and codes of the authorization server. The kind stands in the first
//! characters and is all that tells kinds apart: a text is looked for among those of its own kind and nowhere else.

use std::borrow::Cow;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::random_bytes;
use crate::secret::Secret;

/// What every API key begins with, and every token.
pub const KEY_PREFIX: &str = "mcpg_";

/// What a text of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// A key that somebody made on purpose, or by signing in with a password through the API.
    ApiKey,
    /// Good for one resource, for minutes (RFC 6749 section 1.4).
    Access,
    /// Gets access tokens, once (RFC 6749 section 1.5).
    Refresh,
    /// Gets the first tokens, once and at once (RFC 6749 section 1.3.1).
    Code,
}

impl TokenKind {
    /// Those of the authorization server.
    const GRANTED: [Self; 3] = [Self::Access, Self::Refresh, Self::Code];

    /// What a text of this kind begins with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::ApiKey => KEY_PREFIX,
            Self::Access => "mcpg_at_",
            Self::Refresh => "mcpg_rt_",
            Self::Code => "mcpg_ac_",
        }
    }

    /// What `text` says it is, by its first characters only; `None` when it is none of ours. (What we make after `mcpg_`
    /// holds no underscore, so that no API key begins like a token.)
    pub fn of(text: &str) -> Option<Self> {
        let granted = Self::GRANTED.into_iter().find(|kind| text.starts_with(kind.prefix()));
        granted.or_else(|| text.starts_with(KEY_PREFIX).then_some(Self::ApiKey))
    }
}

/// Characters that carry 256 random bits.
const RANDOM: usize = 43;
/// Characters that check the others.
const CHECK: usize = 6;

/// A new text of a kind: its prefix, 43 characters that carry 256 random bits, and 6 that check them, so that a secret
/// scanner can tell it from noise. All of `0-9A-Za-z`.
pub fn new_token(kind: TokenKind) -> Secret {
    let bytes = Zeroizing::new(random_bytes::<32>());
    let mut text = Zeroizing::new(String::with_capacity(kind.prefix().len() + RANDOM + CHECK));
    text.push_str(kind.prefix());
    push_base62(&mut text, &*bytes, RANDOM);
    let check = checksum(&text);
    push_base62(&mut text, &check, CHECK);
    Secret::new(text.as_str())
}

/// A new API key.
pub fn new_api_key() -> Secret {
    new_token(TokenKind::ApiKey)
}

/// 43 characters of `0-9A-Za-z` that carry 256 random bits: for cookies, states and forms, which nobody scans for.
pub fn new_secret() -> Secret {
    let bytes = Zeroizing::new(random_bytes::<32>());
    let mut text = Zeroizing::new(String::with_capacity(RANDOM));
    push_base62(&mut text, &*bytes, RANDOM);
    Secret::new(text.as_str())
}

/// Whether `text` has the form of what [`new_token`] makes, checksum included.
pub fn is_token(kind: TokenKind, text: &str) -> bool {
    let begin = kind.prefix().len() + RANDOM;
    text.len() == begin + CHECK && text.is_ascii() && TokenKind::of(text) == Some(kind) && {
        let mut check = String::new();
        push_base62(&mut check, &checksum(&text[..begin]), CHECK);
        check == text[begin..]
    }
}

/// Whether `text` has the form of a key made by [`new_api_key`], checksum included.
pub fn is_api_key(text: &str) -> bool {
    is_token(TokenKind::ApiKey, text)
}

/// SHA-256: what is stored of a token with 256 random bits. (Passwords, which can be guessed, are hashed by `access`.)
pub fn hash_token(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// `text` as it may stand in a log: of each secret of ours in it no more than its beginning, and of what others signed (a JWT)
/// nothing. People put tokens where they do not belong, such as paths. What a client that registered itself is called (`mcpg_dc_`)
/// is no secret.
pub fn masked(text: &str) -> Cow<'_, str> {
    const PUBLIC: &str = "mcpg_dc_";
    // `{"` in base64url, with which the header of each begins (RFC 7515 section 3.1).
    const SIGNED: &str = "eyJ";
    // Shorter ones are hints, by which secrets are told apart.
    const LONGEST_HINT: usize = 16;
    if ![KEY_PREFIX, SIGNED].into_iter().any(|start| text.contains(start)) {
        return Cow::Borrowed(text);
    }
    // Whichever comes first, and no further: one that never comes is not looked for to the end again and again.
    let next = |text: &str| {
        let starts = |at: &usize| [KEY_PREFIX, SIGNED].into_iter().any(|start| text[*at..].starts_with(start));
        text.match_indices(['m', 'e']).map(|(at, _)| at).find(starts)
    };
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = next(rest) {
        let (before, secret) = rest.split_at(at);
        let signed = secret.starts_with(SIGNED);
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || (signed && c == '.');
        let (secret, after) = secret.split_at(secret.find(|c| !is_part(c)).unwrap_or(secret.len()));
        shown.push_str(before);
        if secret.len() <= LONGEST_HINT || secret.starts_with(PUBLIC) {
            shown.push_str(secret);
        } else {
            let kind = TokenKind::of(secret).unwrap_or(TokenKind::ApiKey).prefix();
            shown.push_str(if signed { "" } else { kind });
            shown.push('…');
        }
        rest = after;
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

fn checksum(text: &str) -> [u8; 4] {
    let digest = Sha256::digest(text.as_bytes());
    [digest[0], digest[1], digest[2], digest[3]]
}

/// Writes a number (big-endian) in base 62, with leading zeros to `digits`.
fn push_base62(text: &mut String, number: &[u8], digits: usize) {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut number = Zeroizing::new(number.to_vec());
    let mut reversed = Zeroizing::new(Vec::with_capacity(digits));
    for _ in 0..digits {
        let mut rest = 0_u32;
        for byte in number.iter_mut() {
            let value = rest * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(0);
            rest = value % 62;
        }
        reversed.push(ALPHABET[rest as usize]);
    }
    text.extend(reversed.iter().rev().map(|byte| char::from(*byte)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_no_more_than_its_kind() {
        let [key, access] = [TokenKind::ApiKey, TokenKind::Access].map(new_token);
        let client = "mcpg_cs_0123456789abcdefghijABCDEFGHIJ0123456789xyz";
        let text = format!("/mcp/{}?a={} {client}`", key.expose(), access.expose());
        assert_eq!(masked(&text), "/mcp/mcpg_…?a=mcpg_at_… mcpg_…`");
        let signed = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl-_x";
        assert_eq!(masked(&format!("/mcp/{signed}/x {}", key.expose())), "/mcp/…/x mcpg_…");
        for plain in [
            "/mcp/files",
            "",
            "eyJ",
            "greyJays",
            "mcpg_",
            "ends with `mcpg_cs_Ab12`",
            "mcpg_dc_0123456789abcdefghijABCDEFGHIJ",
        ] {
            assert!(masked(plain) == plain, "{plain}");
        }
    }

    #[test]
    fn what_we_issue_can_be_recognised_and_not_guessed() {
        for kind in [TokenKind::ApiKey, TokenKind::Access, TokenKind::Refresh, TokenKind::Code] {
            let (one, two) = (new_token(kind), new_token(kind));
            assert_ne!(one, two);
            let text = one.expose();
            assert!(is_token(kind, text) && TokenKind::of(text) == Some(kind), "{text}");
            assert!(text[kind.prefix().len()..].bytes().all(|byte| byte.is_ascii_alphanumeric()));
            let mut bent = text.to_owned();
            bent.replace_range(20..21, if &bent[20..21] == "a" { "b" } else { "a" });
            assert!(!is_token(kind, &bent));
            assert!(!is_token(kind, kind.prefix()));
            assert!(!is_token(kind, &format!("{}{}", kind.prefix(), "é".repeat(25))));
            assert_eq!(format!("{one:?}"), "Secret(***)");
            for other in [TokenKind::ApiKey, TokenKind::Access, TokenKind::Refresh, TokenKind::Code] {
                assert_eq!(is_token(other, text), other == kind, "a text is of one kind");
            }
        }
        assert_eq!(TokenKind::of("mcpg-at"), None);
        assert_eq!(new_secret().expose().len(), 43);
        assert!(is_api_key(new_api_key().expose()));

        let mut digits = String::new();
        push_base62(&mut digits, &[0xff; 32], 43);
        assert_eq!(digits.len(), 43);
        push_base62(&mut digits, &[0, 0, 1, 0], 6);
        assert_eq!(&digits[43..], "000048");
    }
}
