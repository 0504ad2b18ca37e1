//! Sessions of browsers at our own pages: "my access" and nothing else. A session never stands in for a sign-in or a consent.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Account, End, EndReason, Ended, GrantKind, Grants, Ids, Refusal};
use crate::access::Role;
use crate::crypto::{hash_token, new_secret};
use crate::secret::Secret;
use crate::store::grants::GrantRow;
use crate::store::tenants::tenant_of;
use crate::store::{StoreError, at, micros};

/// How long one lasts, whatever its use.
pub const BROWSER_SESSION_LASTS: Duration = Duration::from_hours(8);

/// A session of a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserSession {
    /// Its grant.
    pub grant: Uuid,
    /// Who signed in.
    pub account: Account,
    /// `local`, or the identity provider's name.
    pub login_method: String,
    /// When it ends.
    pub expires_at: OffsetDateTime,
}

impl Grants {
    /// Begins a session; returns what the cookie holds.
    pub async fn open_session(
        &self,
        account: &Account,
        login_method: &str,
        login: Option<Uuid>,
        now: OffsetDateTime,
    ) -> Result<Secret, Refusal> {
        let cookie = new_secret();
        let grant = GrantRow {
            id: Uuid::now_v7(),
            tenant_id: account.tenant.as_str().to_owned(),
            user_id: account.id,
            kind: GrantKind::Browser.as_str().to_owned(),
            client_id: None,
            client_name: None,
            resource: None,
            scopes: String::new(),
            login_method: login_method.to_owned(),
            login_id: login,
            created_at: micros(now),
            last_used_at: micros(now),
            expires_at: micros(now + BROWSER_SESSION_LASTS),
            ended_at: None,
            end_reason: None,
            end_detail: None,
            parent_id: None,
            jkt: None,
        };
        self.0.store.insert_browser_session(&account.tenant, &grant, &hash_token(cookie.expose())).await?;
        Ok(cookie)
    }

    /// The session of a cookie; `None` when it is over, or its account disabled.
    pub async fn session(&self, cookie: &str, now: OffsetDateTime) -> Result<Option<BrowserSession>, Refusal> {
        let Some(row) = self.0.store.browser_session(&hash_token(cookie), micros(now)).await? else { return Ok(None) };
        let (grant, holder) = (row.grant, row.holder);
        if holder.user_state != "active" {
            return Ok(None);
        }
        let corrupt = || StoreError::Corrupt(format!("role `{}`", holder.user_role));
        let account = Account {
            tenant: tenant_of(&grant.tenant_id)?,
            id: grant.user_id,
            role: Role::parse(&holder.user_role).ok_or_else(corrupt)?,
            username: holder.username,
            display_name: holder.display_name,
            is_new: false,
        };
        let expires_at = at(grant.expires_at);
        Ok(Some(BrowserSession { grant: grant.id, account, login_method: grant.login_method, expires_at }))
    }

    /// Ends the session of a cookie, if there is one.
    pub async fn close_session(&self, cookie: &str, now: OffsetDateTime) -> Result<Option<Ended>, Refusal> {
        let Some(row) = self.0.store.browser_session(&hash_token(cookie), micros(now)).await? else { return Ok(None) };
        let end = End { reason: EndReason::Logout, detail: "signed_out" };
        let ended = self.end(&tenant_of(&row.grant.tenant_id)?, Ids::One(row.grant.id, None), end, now).await?;
        Ok(ended.into_iter().next())
    }
}
