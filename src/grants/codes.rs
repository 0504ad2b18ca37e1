//! Codes: made when a person was let in, shown once by the client that proves to be the one that asked (RFC 7636, S256 only).
//! Whatever is wrong burns the code, and a second showing ends what the first one got.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;
use uuid::Uuid;

use super::families::{Ending, answer, deed};
use super::redirect::RedirectUri;
use super::{GrantKind, Granted, Grants, OauthCode, Order, Possession, Refusal, Tokens};
use crate::crypto::dpop::Thumbprint;
use crate::crypto::{TokenKind, hash_token, is_token, new_token};
use crate::secret::Secret;
use crate::store::families::{CodeRow, Seen};
use crate::store::grants::Made;
use crate::store::micros;

/// How long a code is good.
pub const CODE_LASTS: Duration = Duration::from_mins(1);

/// What a code is bound to besides its grant.
#[derive(Debug, Clone)]
pub struct CodeTerms {
    /// Where it is sent.
    pub redirect_uri: String,
    /// S256 of the client's verifier.
    pub code_challenge: String,
    /// The key that must be proved with it, if the client named one (RFC 9449 section 10).
    pub key: Option<Thumbprint>,
    /// The trace of the sign-in, if it is noted.
    pub trace: Option<Uuid>,
}

/// A code as a client shows it.
#[derive(Debug)]
pub struct Redemption {
    /// The code.
    pub code: Secret,
    /// The client, as far as it proved who it is.
    pub client_id: String,
    /// Must be the one that it was sent to, if it is given (OAuth 2.1 does not ask for it).
    pub redirect_uri: Option<String>,
    /// Where the client may be answered now, if that is known for sure. What was taken off it since the code was sent there may be
    /// somebody else's.
    pub redirects: Option<Vec<RedirectUri>>,
    /// 43 to 128 characters.
    pub verifier: Secret,
    /// Must be the grant's, if it is given.
    pub resource: Option<String>,
    /// The key that was proved with it.
    pub possession: Possession,
}

/// S256 of a verifier (RFC 7636 section 4.2).
pub fn challenge_of(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(hash_token(verifier))
}

impl Grants {
    /// Makes a grant with its code.
    pub async fn grant(&self, order: &Order, code: &CodeTerms, now: OffsetDateTime) -> Result<Granted, Refusal> {
        let grant = order.row(GrantKind::Client, now, now + self.0.terms.grant);
        let text = new_token(TokenKind::Code);
        let row = CodeRow {
            hash: hash_token(text.expose()).to_vec(),
            grant_id: grant.id,
            redirect_uri: code.redirect_uri.clone(),
            code_challenge: code.code_challenge.clone(),
            jkt: code.key.map(Vec::from),
            expires_at: micros(now + CODE_LASTS),
            spent_at: None,
            trace_id: code.trace,
        };
        self.0.store.insert_grant_with_code(&order.tenant, &grant, &row).await?;
        let ended = self.end_surplus(&order.tenant, order.user, Made::BySignIn, now).await?;
        Ok(Granted { id: grant.id, code: text, ended })
    }

    /// Gives the first tokens for a code. Whatever does not fit ends the grant that the code was for.
    pub async fn redeem(&self, shown: &Redemption, now: OffsetDateTime) -> Result<Tokens, Refusal> {
        let code = shown.code.expose();
        if !is_token(TokenKind::Code, code) {
            return Err(no_good("malformed"));
        }
        let decide = |seen: &Seen<CodeRow>| match judge(seen, shown, micros(now)) {
            Ok(()) => {
                let (deed, tokens) = self.first_tokens(&seen.grant, shown.possession, now);
                (deed, tokens.map(|tokens| Tokens { trace: seen.shown.trace_id, ..tokens }))
            }
            Err((end, reason)) => (deed(end), Err(no_good(reason))),
        };
        let done = self.0.store.show_code(&hash_token(code), micros(now), decide).await?;
        answer(done, || no_good("unknown"))
    }
}

/// What is wrong with a code and how that ends its grant.
fn judge(seen: &Seen<CodeRow>, shown: &Redemption, now: i64) -> Result<(), (Option<Ending>, &'static str)> {
    let (grant, code) = (&seen.grant, &seen.shown);
    let burn = |reason| Err((Some(("error", reason)), reason));
    if grant.ended_at.is_some() {
        return Err((None, "ended"));
    }
    if code.spent_at.is_some() {
        return burn("code_reuse");
    }
    if code.expires_at <= now {
        return Err((Some(("timeout", "code")), "expired"));
    }
    if grant.client_id.as_deref() != Some(&shown.client_id) {
        return burn("other_client");
    }
    if shown.redirect_uri.as_ref().is_some_and(|uri| *uri != code.redirect_uri)
        || shown.redirects.as_ref().is_some_and(|now| !now.iter().any(|uri| uri.matches(&code.redirect_uri)))
    {
        return burn("redirect_uri");
    }
    if !proves(shown.verifier.expose(), &code.code_challenge) {
        return burn("verifier");
    }
    if !shown.possession.opens(code.jkt.as_deref()) {
        return burn("other_key");
    }
    if shown.resource.is_some() && shown.resource != grant.resource {
        return burn("resource");
    }
    if !seen.account_active {
        return burn("disabled");
    }
    Ok(())
}

/// Whether a verifier is well formed (RFC 7636 section 4.1) and the one that was hashed.
fn proves(verifier: &str, challenge: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    (43..=128).contains(&verifier.len())
        && verifier.bytes().all(good)
        && bool::from(challenge_of(verifier).as_bytes().ct_eq(challenge.as_bytes()))
}

/// One text for all that can be wrong: which it was, a guesser is not told.
fn no_good(reason: &'static str) -> Refusal {
    let text = "the code is unknown, expired, used or not for this client, redirect_uri, verifier, key and resource; begin again";
    Refusal::new(OauthCode::InvalidGrant, reason, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_of_the_form_of_its_specification() {
        // The example of RFC 7636, appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge_of(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(proves(verifier, &challenge_of(verifier)));
        assert!(!proves(verifier, verifier), "not plain");
        for wrong in ["", &"a".repeat(42), &"a".repeat(129), &"ä".repeat(30), &format!("{verifier} ")] {
            assert!(!proves(wrong, &challenge_of(wrong)), "{wrong}");
        }
        assert!(proves(&"~".repeat(128), &challenge_of(&"~".repeat(128))));
    }
}
