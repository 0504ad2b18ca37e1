//! How a client wants the person to be asked (OpenID Connect Core 1.0 section 3.1.2.1), and what becomes of it at a provider.

use time::{Duration, OffsetDateTime};

use super::fields::Fields;
use crate::grants::{AUTHORIZATION_LASTS, Prompt};

/// How far the clock of a provider may be off.
const SKEW: Duration = Duration::minutes(5);

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nobody is to see a page (`none`).
    Silent,
    /// The person is asked, and how.
    Asked(Prompt),
}

/// Reads `prompt` and `max_age`; else what is wrong with them. A value of `prompt` that is not known here says nothing.
pub(super) fn wish(fields: &Fields) -> Result<Wish, String> {
    let words: Vec<&str> = fields.text("prompt").split(' ').filter(|word| !word.is_empty()).collect();
    let age = fields.text("max_age");
    if age.len() > 10 || !age.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("max_age is a number of seconds".to_owned());
    }
    if words.contains(&"none") {
        let alone = words.len() == 1;
        return if alone { Ok(Wish::Silent) } else { Err("prompt=none goes with no other prompt".to_owned()) };
    }
    Ok(Wish::Asked(Prompt {
        // How long ago somebody signed in at a provider is seldom known: signing in anew is never too long ago.
        login: words.contains(&"login") || !age.is_empty(),
        select_account: words.contains(&"select_account"),
        consent: words.contains(&"consent"),
    }))
}

/// What a provider is sent. It takes one; who signs in anew can choose another account, too.
pub(super) fn for_provider(prompt: Prompt, another: bool) -> Option<String> {
    let word = match prompt {
        Prompt { login: true, .. } => "login",
        Prompt { select_account: true, .. } => "select_account",
        _ if another => "select_account",
        _ => return None,
    };
    Some(word.to_owned())
}

/// Whether a sign-in that was to be anew may be one, as far as the provider says when it was: somebody may have taken the word
/// out of the address on the way.
pub(super) fn is_anew(prompt: Prompt, authenticated_at: Option<OffsetDateTime>, now: OffsetDateTime) -> bool {
    !prompt.login || authenticated_at.is_none_or(|at| at + AUTHORIZATION_LASTS + SKEW >= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Wish, String> {
        wish(&Fields::of(query.as_bytes()))
    }

    #[test]
    fn what_a_client_wants_is_read() {
        let asked = |login, select_account, consent| Ok(Wish::Asked(Prompt { login, select_account, consent }));
        for (query, expected) in [
            ("", asked(false, false, false)),
            ("prompt=login", asked(true, false, false)),
            ("prompt=consent+select_account", asked(false, true, true)),
            ("prompt=create+other", asked(false, false, false)),
            ("max_age=0", asked(true, false, false)),
            ("max_age=3600&prompt=consent", asked(true, false, true)),
            ("prompt=none", Ok(Wish::Silent)),
        ] {
            assert_eq!(read(query), expected, "{query}");
        }
        for query in ["prompt=none+login", "prompt=consent+none", "max_age=-1", "max_age=soon", "max_age=99999999999"] {
            assert!(read(query).is_err(), "{query}");
        }
    }

    #[test]
    fn a_sign_in_of_long_ago_is_not_anew() {
        let (now, anew) = (OffsetDateTime::now_utc(), Prompt { login: true, ..Prompt::default() });
        for (prompt, ago, expected) in [
            (anew, Some(60), true),
            (anew, None, true),
            (anew, Some(3_600), false),
            (Prompt::default(), Some(86_400), true),
        ] {
            assert_eq!(is_anew(prompt, ago.map(|ago| now - Duration::seconds(ago)), now), expected, "{ago:?}");
        }
    }
}
