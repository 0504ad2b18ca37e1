//! The tokens of a grant are one family: each refresh token is good once and gives the next. An answer that was lost is given
//! again, and a token that comes back after its successors were used ends the family, because two hold it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Ended, GrantKind, Grants, OauthCode, Order, Possession, Refusal, Scope, ScopeSet, damaged};
use crate::crypto::dpop::{BadProof, Thumbprint};
use crate::crypto::{CryptoError, Place, TokenKind, hash_token, is_token, new_token};
use crate::id::TenantId;
use crate::secret::Secret;
use crate::store::families::{Deed, NewTokens, RefreshRow, Seen};
use crate::store::grants::GrantRow;
use crate::store::tenants::tenant_of;
use crate::store::{at, micros, sealed};

/// How long the answer to a refresh is given again to whoever repeats it.
pub const REFRESH_GRACE: Duration = Duration::from_mins(1);

/// What a client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Of which grant.
    pub grant: Uuid,
    /// In which tenant.
    pub tenant: Arc<str>,
    /// For which account.
    pub user: Uuid,
    /// The access token.
    pub access: Secret,
    /// The refresh token, where the grant has the scope `offline_access`.
    pub refresh: Option<Secret>,
    /// What the access token may be used for.
    pub scopes: ScopeSet,
    /// When the access token ends.
    pub expires_at: OffsetDateTime,
    /// The key that the access token is bound to.
    pub key: Option<Thumbprint>,
    /// The trace of the sign-in, where these are the first tokens that came of it.
    pub trace: Option<Uuid>,
}

/// How an access token is given at once.
#[derive(Debug, Clone, Copy)]
pub struct Issue {
    /// What kind of session it is.
    pub kind: GrantKind,
    /// It ends then at the latest.
    pub until: Option<OffsetDateTime>,
    /// The grant that it rests on, and ends with.
    pub parent: Option<Uuid>,
    /// The key that it is bound to.
    pub key: Option<Thumbprint>,
}

impl Issue {
    /// Of its own, for as long as an access token is good, bound to nothing.
    pub fn alone(kind: GrantKind) -> Self {
        Self { kind, until: None, parent: None, key: None }
    }
}

/// A refresh token as a client shows it.
#[derive(Debug)]
pub struct Refresh {
    /// The token.
    pub token: Secret,
    /// The client, as far as it proved who it is.
    pub client_id: String,
    /// Fewer scopes for the access token; the grant keeps its own (RFC 6749 section 6).
    pub scopes: Option<ScopeSet>,
    /// Must be the grant's, if it is given.
    pub resource: Option<String>,
    /// The key that was proved with it.
    pub possession: Possession,
}

/// An answer as it is sealed beside the token that got it.
#[derive(Serialize, Deserialize)]
struct Answer {
    access: Secret,
    refresh: Option<Secret>,
    scopes: ScopeSet,
    /// Microseconds since 1970.
    expires_at: i64,
    #[serde(default)]
    key: Option<Thumbprint>,
}

/// What a refresh token that is shown leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is spent, and the next tokens are given.
    Rotate,
    /// The same answer once more: it was asked for twice at nearly the same time.
    Repeat,
    /// The answer was lost, as nobody used it: other tokens take the place of those.
    Replace,
    /// Two hold it: the family ends.
    Reuse,
}

fn verdict(seen: &Seen<RefreshRow>, now: i64) -> Verdict {
    let grace = i64::try_from(REFRESH_GRACE.as_micros()).unwrap_or(0);
    match seen.shown.state.as_str() {
        "active" => Verdict::Rotate,
        "spent" if seen.next_is_active => {
            let fresh = seen.shown.spent_at.is_some_and(|spent| now < spent.saturating_add(grace));
            if fresh && seen.shown.answer.is_some() {
                Verdict::Repeat
            } else if seen.next_is_unused {
                Verdict::Replace
            } else {
                Verdict::Reuse
            }
        }
        _ => Verdict::Reuse,
    }
}

impl Grants {
    /// Gives an access token at once, without a code and without a refresh token: to a client on its own, by an assertion, or for
    /// another token. `invalid_grant` when the account may not come in, or what it rests on has ended.
    pub async fn issue(&self, order: &Order, how: Issue, now: OffsetDateTime) -> Result<Tokens, Refusal> {
        let own = now + self.0.terms.access_token.min(self.0.terms.grant);
        let expires_at = how.until.map_or(own, |until| until.min(own));
        let grant = GrantRow { parent_id: how.parent, ..order.row(how.kind, now, expires_at) };
        let access = new_token(TokenKind::Access);
        let new = NewTokens {
            access: hash_token(access.expose()),
            scopes: grant.scopes.clone(),
            access_expires_at: grant.expires_at,
            access_jkt: how.key,
            grant_jkt: None,
            refresh: None,
            answer: None,
            grant_expires_at: grant.expires_at,
        };
        if !self.0.store.insert_grant_with_tokens(&order.tenant, &grant, &new).await? {
            let text = "the account may not come in, or the session that this rests on has ended";
            return Err(Refusal::new(OauthCode::InvalidGrant, "disabled", text));
        }
        let (scopes, expires_at) = (order.scopes, at(grant.expires_at));
        let (tenant, user) = (order.tenant.as_str().into(), order.user);
        Ok(Tokens {
            grant: grant.id,
            tenant,
            user,
            access,
            refresh: None,
            scopes,
            expires_at,
            key: how.key,
            trace: None,
        })
    }

    /// Gives the next tokens for a refresh token.
    pub async fn refresh(&self, shown: &Refresh, now: OffsetDateTime) -> Result<Tokens, Refusal> {
        let token = shown.token.expose();
        if !is_token(TokenKind::Refresh, token) {
            return Err(no_good("malformed"));
        }
        let hash = hash_token(token);
        // It is told or, where the key is not there by which its answer would be sealed or the kept one opened, whose key that is: a token
        // that waits for it is not spent.
        let decide = |seen: &Seen<RefreshRow>, kept: Option<&[u8]>| {
            if !self.is_ready(&seen.grant, kept) {
                return (Deed::Leave, Err(seen.grant.tenant_id.clone()));
            }
            let (deed, told) = match self.decide(seen, shown, now) {
                Ok((deed, tokens)) => (deed, Ok(tokens)),
                Err((end, refusal)) => (deed(end), Err(refusal)),
            };
            (deed, Ok(told))
        };
        let first = |seen: &Seen<RefreshRow>| decide(seen, seen.shown.answer.as_deref());
        let mut done = self.0.store.show_refresh_token(&hash, micros(now), first).await?;
        if let Some((Err(tenant), _)) = &done {
            let prepared = self.0.vault.prepare(&tenant_of(tenant)?).await;
            prepared.map_err(|error| damaged("the key of a tenant", &error))?;
            // An answer that does not open is nobody's any more.
            done = self.0.store.show_refresh_token(&hash, micros(now), |seen| decide(seen, None)).await?;
        }
        let done = done.map(|(told, ended)| {
            (told.unwrap_or_else(|_| Err(damaged("the key of a tenant", &CryptoError::NoTenantKey))), ended)
        });
        answer(done, || no_good("unknown"))
    }

    /// The first tokens of a grant whose code was good.
    pub(super) fn first_tokens(
        &self,
        grant: &GrantRow,
        possession: Possession,
        now: OffsetDateTime,
    ) -> (Deed, Result<Tokens, Refusal>) {
        match ScopeSet::parse(&grant.scopes) {
            Ok(scopes) => {
                let lasts = scopes.has(Scope::OfflineAccess);
                let (new, tokens) = self.make(grant, scopes, lasts, possession, now);
                (Deed::Give(new), Ok(tokens))
            }
            Err(error) => (Deed::Leave, Err(damaged("a grant's scopes", &error))),
        }
    }

    fn decide(&self, seen: &Seen<RefreshRow>, shown: &Refresh, now: OffsetDateTime) -> Decided {
        let (grant, time) = (&seen.grant, micros(now));
        let leave = |refusal| Err((None, refusal));
        let end = |reason, detail| Err((Some((reason, detail)), no_good(detail)));
        if grant.ended_at.is_some() {
            return leave(no_good("ended"));
        }
        if grant.client_id.as_deref() != Some(&shown.client_id) {
            return leave(no_good("other_client"));
        }
        if !shown.possession.opens(grant.jkt.as_deref()) {
            // Whoever took the token has no key; the client goes on.
            return leave(if shown.possession.key.is_some() { no_good("other_key") } else { no_proof() });
        }
        if grant.expires_at <= time {
            return end("timeout", "expired");
        }
        if grant.last_used_at <= micros(now - self.0.terms.grant_idle) {
            return end("timeout", "idle");
        }
        if !seen.account_active {
            return end("error", "disabled");
        }
        let verdict = verdict(seen, time);
        if verdict == Verdict::Reuse {
            return end("error", "reuse");
        }
        if shown.resource.is_some() && shown.resource != grant.resource {
            let text = "the token is for another resource; sign in for that one";
            return leave(Refusal::new(OauthCode::InvalidTarget, "resource", text));
        }
        let corrupt = |error: &dyn std::fmt::Display| (None, damaged("a refresh token's answer", &error));
        let granted = ScopeSet::parse(&grant.scopes).map_err(|error| corrupt(&error))?;
        let scopes = shown.scopes.unwrap_or(granted);
        let too_much = || {
            Refusal::new(OauthCode::InvalidScope, "scope_widened", "more than was granted; sign in again to ask for it")
        };
        if !granted.covers(scopes) {
            return leave(too_much());
        }
        if verdict == Verdict::Repeat {
            let kept = seen.shown.answer.as_deref().unwrap_or_default();
            let answer = self.open_answer(grant, &seen.shown.hash, kept).map_err(|error| corrupt(&error))?;
            // Who asks for less than was given a moment before does not get more.
            if !scopes.covers(answer.scopes) {
                return leave(too_much());
            }
            if answer.key != shown.possession.key {
                return leave(no_good("other_key"));
            }
            let Answer { access, refresh, scopes, expires_at, key } = answer;
            let (grant, tenant, user) = (grant.id, grant.tenant_id.as_str().into(), grant.user_id);
            let expires_at = at(expires_at);
            let tokens = Tokens { grant, tenant, user, access, refresh, scopes, expires_at, key, trace: None };
            return Ok((Deed::Leave, tokens));
        }
        let (mut new, tokens) = self.make(grant, scopes, true, shown.possession, now);
        new.answer = Some(self.seal_answer(grant, &seen.shown.hash, &tokens).map_err(|error| corrupt(&error))?);
        Ok((Deed::Give(new), tokens))
    }

    fn make(
        &self,
        grant: &GrantRow,
        scopes: ScopeSet,
        lasts: bool,
        possession: Possession,
        now: OffsetDateTime,
    ) -> (NewTokens, Tokens) {
        let access = new_token(TokenKind::Access);
        let refresh = lasts.then(|| new_token(TokenKind::Refresh));
        let expires_at = grant.expires_at.min(micros(now + self.0.terms.access_token));
        let new = NewTokens {
            access: hash_token(access.expose()),
            scopes: scopes.to_string(),
            access_expires_at: expires_at,
            access_jkt: possession.key,
            grant_jkt: possession.of_family(),
            refresh: refresh.as_ref().map(|token| hash_token(token.expose())),
            answer: None,
            // Nothing lasts of a grant without a refresh token.
            grant_expires_at: if lasts { grant.expires_at } else { expires_at },
        };
        let (expires_at, key) = (at(expires_at), possession.key);
        let (grant, tenant, user) = (grant.id, grant.tenant_id.as_str().into(), grant.user_id);
        (new, Tokens { grant, tenant, user, access, refresh, scopes, expires_at, key, trace: None })
    }

    fn is_ready(&self, grant: &GrantRow, kept: Option<&[u8]>) -> bool {
        tenant_of(&grant.tenant_id).is_ok_and(|tenant| self.0.vault.is_ready(&tenant, kept))
    }

    fn seal_answer(&self, grant: &GrantRow, hash: &[u8], tokens: &Tokens) -> anyhow::Result<Vec<u8>> {
        let answer = Answer {
            access: tokens.access.clone(),
            refresh: tokens.refresh.clone(),
            scopes: tokens.scopes,
            expires_at: micros(tokens.expires_at),
            key: tokens.key,
        };
        let text = zeroize::Zeroizing::new(serde_json::to_vec(&answer)?);
        let (row, tenant) = (URL_SAFE_NO_PAD.encode(hash), tenant_of(&grant.tenant_id)?);
        Ok(self.0.vault.seal_at_once(place(&row, &tenant, grant), &text)?)
    }

    fn open_answer(&self, grant: &GrantRow, hash: &[u8], sealed: &[u8]) -> anyhow::Result<Answer> {
        let (row, tenant) = (URL_SAFE_NO_PAD.encode(hash), tenant_of(&grant.tenant_id)?);
        let text = self.0.vault.open_at_once(place(&row, &tenant, grant), sealed)?;
        Ok(serde_json::from_slice(&text)?)
    }
}

fn place<'a>(row: &'a str, tenant: &'a TenantId, grant: &GrantRow) -> Place<'a> {
    Place { table: sealed::ANSWERS.name, row, tenant, subject: Some(grant.user_id) }
}

/// What is to be done and told, or why neither and whether that ends the family.
type Decided = Result<(Deed, Tokens), (Option<Ending>, Refusal)>;

/// Reason and detail of an end, as they are stored.
pub(super) type Ending = (&'static str, &'static str);

pub(super) fn deed(end: Option<Ending>) -> Deed {
    end.map_or(Deed::Leave, |(reason, detail)| Deed::End(reason, detail))
}

/// What the database did, as an answer: a refusal brings the grant that ended because of it.
pub(super) fn answer(
    done: Option<(Result<Tokens, Refusal>, Option<GrantRow>)>,
    unknown: impl FnOnce() -> Refusal,
) -> Result<Tokens, Refusal> {
    let (told, ended) = done.ok_or_else(unknown)?;
    let ended = ended.map(Ended::of).transpose()?.map(Box::new);
    told.map_err(|refusal| Refusal { ended, ..refusal })
}

/// The token is good, but bound to a key.
fn no_proof() -> Refusal {
    let text = "the refresh token is bound to a key: send a proof of it in the header DPoP (RFC 9449)";
    Refusal::new(OauthCode::InvalidDpopProof, BadProof::Missing.reason(), text)
}

/// One text for all that can be wrong: which it was, a guesser is not told.
fn no_good(reason: &'static str) -> Refusal {
    let text = "the refresh token is unknown, expired, used, ended, or another client's or key's; sign in again";
    Refusal::new(OauthCode::InvalidGrant, reason, text)
}
