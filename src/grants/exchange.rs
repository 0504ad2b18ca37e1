//! One of our access tokens, shown to get another one for less (RFC 8693): for a part of its resource, for fewer scopes, for no
//! longer. What is given rests on the grant of what was shown, and ends with it.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{GrantKind, Grants, OauthCode, Possession, Refusal, ScopeSet, damaged};
use crate::crypto::dpop::Thumbprint;
use crate::crypto::{TokenKind, hash_token, is_token};
use crate::id::TenantId;
use crate::store::tenants::tenant_of;
use crate::store::{at, micros};

/// An access token of ours that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchangeable {
    /// Its grant.
    pub grant: Uuid,
    /// Whose tenant.
    pub tenant: TenantId,
    /// For which account.
    pub user: Uuid,
    /// Whether a person's or a client's own.
    pub kind: GrantKind,
    /// The only resource that it is good for.
    pub resource: String,
    /// What it may be used for.
    pub scopes: ScopeSet,
    /// When it ends.
    pub expires_at: OffsetDateTime,
    /// How its account signed in.
    pub login_method: String,
    /// What the provider gave for the account then.
    pub login: Option<Uuid>,
}

impl Grants {
    /// The access token that is shown, if it is good. `invalid_request` when not (section 2.2.2). One that is bound to a key takes the
    /// proof of that key: nobody else makes another token of it, and none that is bound less.
    pub async fn exchangeable(
        &self,
        token: &str,
        key: Option<Thumbprint>,
        now: OffsetDateTime,
    ) -> Result<Exchangeable, Refusal> {
        if !is_token(TokenKind::Access, token) {
            return Err(bad_subject("malformed"));
        }
        let (store, hash) = (&self.0.store, hash_token(token));
        let shown = store.show_access_token(&hash, micros(now)).await?.ok_or_else(|| bad_subject("ended"))?;
        if shown.state != "active" {
            return Err(bad_subject("disabled"));
        }
        if !(Possession { key, is_public: false }).opens(shown.jkt.as_deref()) {
            return Err(bad_subject("other_key"));
        }
        let grant = store.grant_of_token(&hash, false).await?.ok_or_else(|| bad_subject("ended"))?;
        let scopes = ScopeSet::parse(&shown.scopes).map_err(|error| damaged("an access token's scopes", &error))?;
        Ok(Exchangeable {
            grant: grant.id,
            tenant: tenant_of(&grant.tenant_id)?,
            user: grant.user_id,
            kind: if grant.kind == GrantKind::Service.as_str() { GrantKind::Service } else { GrantKind::Client },
            resource: grant.resource.unwrap_or_default(),
            scopes,
            expires_at: at(shown.expires_at),
            login_method: grant.login_method,
            login: grant.login_id,
        })
    }
}

/// One text for all that can be wrong with what is shown.
pub fn bad_subject(reason: &'static str) -> Refusal {
    let text = "the subject_token is unknown, has expired or ended, or is not one that this client, with this key, may exchange";
    Refusal::new(OauthCode::InvalidRequest, reason, text)
}
