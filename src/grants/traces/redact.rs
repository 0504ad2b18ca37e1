//! What is taken out of every text of a trace: what is taken out of a log, and whatever else has the form of a token, a code, a
//! verifier or a secret, whoever put it there. What a client or a provider wrote is quoted in traces, and nobody promised that it holds nothing of the kind.

use crate::crypto::{is_long_run, masked, without_runs};
use crate::grants::dynamic::PREFIX;

/// Parameters of OAuth whose values are nobody's business, however short.
const PARAMETERS: [&str; 12] = [
    "access_token",
    "assertion",
    "client_assertion",
    "client_secret",
    "code",
    "code_challenge",
    "code_verifier",
    "id_token",
    "nonce",
    "password",
    "refresh_token",
    "state",
];
/// Characters of a sealed client id that are left: enough to tell two of them apart.
const SHOWN: usize = 12;

/// The text without what could be a secret; an ellipsis stands in its place.
pub fn redact(text: &str) -> String {
    without_runs(&masked(text), |before, run| {
        is_long_run(run) || (before.ends_with('=') && PARAMETERS.contains(&name_before(before)))
    })
}

/// A client's id as it is shown: whole, but for one that holds a sealed registration and is long, or one that may be a secret
/// in the wrong place.
pub fn shown_client(id: &str) -> String {
    match id.strip_prefix(PREFIX) {
        Some(sealed) if sealed.is_ascii() && sealed.len() > SHOWN => format!("{PREFIX}{}…", &sealed[..SHOWN]),
        Some(_) => id.to_owned(),
        None => redact(id),
    }
}

/// The name in front of a `=`.
fn name_before(text: &str) -> &str {
    let text = text.trim_end_matches('=');
    let start = text.rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map_or(0, |at| at + 1);
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{TokenKind, new_api_key, new_secret, new_token};

    #[test]
    fn nothing_that_opens_anything_is_left() {
        let kinds = [TokenKind::Access, TokenKind::Refresh, TokenKind::Code];
        let given = kinds.map(new_token).into_iter().chain([new_api_key(), new_secret()]);
        for secret in given.map(|secret| secret.expose().to_owned()).chain([
            "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJzdWIiOiJhbGljZSBpcyBhIHBlcnNvbiJ9.c2lnbmF0dXJlLW9mLXRoaXJ0eS10d28tYnl0ZXM"
                .to_owned(),
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned(),
        ]) {
            for text in [secret.clone(), format!("at https://a.example/cb?x={secret}&y"), format!("`{secret}`")] {
                let left = redact(&text);
                let longest = secret.split('.').map(|part| &part[..20]).find(|part| left.contains(part));
                assert_eq!(longest, None, "{left}");
            }
        }
        let refresh = new_token(TokenKind::Refresh);
        assert_eq!(redact(&format!("not `{}`", refresh.expose())), "not `mcpg_rt_…`", "of ours the kind is told");
        assert_eq!(redact(&format!("?code={}&x=1", refresh.expose())), "?code=…&x=1");
        assert_eq!(redact(&refresh.expose().replacen('_', "%5F", 3)), "…");
        assert_eq!(redact(&format!("{}%2Bmore", refresh.expose())), "mcpg_rt_…");
        let url = "http://127.0.0.1/cb?code=abc&state=x-1&error=access_denied&password=pw";
        assert_eq!(redact(url), "http://127.0.0.1/cb?code=…&state=…&error=access_denied&password=…");
    }

    #[test]
    fn what_helps_is_left() {
        for text in [
            "AADSTS50011: the redirect URI `https://gateway.example.com/oauth/callback/entra` is not registered",
            "trace 0af76519-16cd-43dd-8448-eb211c80319c",
            "mcp offline_access for https://gateway.example.com/mcp/files",
            "é ü …",
            "",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn a_sealed_client_id_is_short_and_another_is_whole() {
        let sealed = format!("{PREFIX}{}", "aB3_".repeat(80));
        assert_eq!(shown_client(&sealed), format!("{PREFIX}aB3_aB3_aB3_…"));
        assert_eq!(shown_client("https://claude.ai/oauth/client"), "https://claude.ai/oauth/client");
        assert_eq!(shown_client(new_api_key().expose()), "mcpg_…");
    }
}
