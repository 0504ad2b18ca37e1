//! Sessions of browsers at our own pages: "my access" and nothing else. A session never stands in for a sign-in or a consent.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Account, Ended, Grants, Refusal, not_yet};
use crate::secret::Secret;

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
        let _ = (account, login_method, login, now);
        not_yet()
    }

    /// The session of a cookie; `None` when it is over, or its account disabled.
    pub async fn session(&self, cookie: &str, now: OffsetDateTime) -> Result<Option<BrowserSession>, Refusal> {
        let _ = (cookie, now);
        not_yet()
    }

    /// Ends the session of a cookie, if there is one.
    pub async fn close_session(&self, cookie: &str, now: OffsetDateTime) -> Result<Option<Ended>, Refusal> {
        let _ = (cookie, now);
        not_yet()
    }
}
