//! The token that a server is shown for somebody, renewed when it is wanted and ends soon, or when the server refuses it: by one of all
//! processes at a time, and kept before it is used, since many an authorization server takes each refresh token once.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::client::Way;
use super::sealed::{Kept, of_connection};
use super::view::ACTIVE;
use super::{ConnectError, Connections, Site, Why, listed, of};
use crate::access::{Caller, SessionType};
use crate::fault::{Fault, Kind};
use crate::id::TenantId;
use crate::idp::{AccessToken, Class, IdpError, UNSAID};
use crate::secret::Secret;
use crate::store::connections::{ConnectionRow, RenewedColumns};
use crate::store::{StoreError, at, micros, now};

/// A token that ends sooner is renewed first: it must still be good when it arrives.
const SPARE: Duration = Duration::from_secs(40);
/// For how long whoever renews has it alone: longer than that takes.
const ALONE: Duration = Duration::from_mins(1);
/// How long somebody waits while another renews, and how often it is looked.
const PATIENCE: Duration = Duration::from_secs(12);
const LOOK: Duration = Duration::from_millis(100);
/// After a failure it is tried again: twice as late each time, and no later than this.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// How often what was given is tried to be kept, and how long after each other.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// What is not to be given again.
#[derive(Debug, Clone, Copy)]
pub enum Not<'a> {
    /// Whatever is there is good.
    Any,
    /// This one ends soon: another, if there is one.
    Ending(&'a [u8]),
    /// The server refuses this one.
    Refused(&'a [u8]),
}

impl Not<'_> {
    fn is(self, token: &Secret) -> bool {
        match self {
            Self::Any => false,
            Self::Ending(other) | Self::Refused(other) => token.expose().as_bytes() == other,
        }
    }
}

impl Connections {
    /// The token of the caller for a server.
    pub async fn token(&self, site: &Site, caller: &Caller, not: Not<'_>) -> Result<AccessToken, Fault> {
        if caller.session_type() == SessionType::Service {
            return Err(Self::no_person());
        }
        let (began, mut renewed) = (Instant::now(), false);
        loop {
            let (row, kept) = self.usable(site, caller).await?;
            let (time, tenant) = (now(), caller.tenant());
            let lasts = row.expires_at.is_none_or(|end| at(end) > time + SPARE);
            let is_good = lasts && !(matches!(not, Not::Refused(_)) && not.is(&kept.tokens.access));
            // What came just now and does not last longer is as good as it gets.
            if renewed || (is_good && !not.is(&kept.tokens.access)) {
                return Ok(given(&kept, &row, time));
            }
            if kept.tokens.refresh.is_none() {
                if is_good {
                    return Ok(given(&kept, &row, time));
                }
                return Err(self.over(site, tenant, &row, "ended").await);
            }
            if at(row.until) > time {
                if is_good {
                    return Ok(given(&kept, &row, time));
                }
                if !row.asking || began.elapsed() > PATIENCE {
                    let wait = Duration::try_from(at(row.until) - time).ok();
                    return Err(later(wait, "its tokens could not be renewed a moment ago"));
                }
                tokio::time::sleep(LOOK).await;
                continue;
            }
            let claimed = self.0.store.claim_connection(tenant, &row, micros(time), micros(time + ALONE)).await;
            let Some(claimed) = claimed.map_err(|error| unread(&error.into()))? else { continue };
            match Box::pin(self.renew(site, tenant, &claimed, &kept)).await {
                Ok(true) => renewed = true,
                Ok(false) if is_good => return Ok(given(&kept, &row, time)),
                Ok(false) => return Err(later(Some(FIRST_PAUSE), "its authorization server does not answer")),
                Err(fault) => return Err(fault),
            }
        }
    }

    /// The server wants to see these scopes of somebody: noted, for the page where they connect.
    pub async fn wants(&self, site: &Site, caller: &Caller, scopes: &str) -> Fault {
        let mut scopes = listed(scopes);
        scopes.truncate(64);
        let scopes = scopes.join(" ");
        let noted =
            self.0.store.want_of_connection(caller.tenant(), of(caller.user_id().uuid(), site.id), &scopes).await;
        if let Err(error) = noted {
            tracing::warn!(server = %site.slug, "what the server wants could not be noted: {error}");
        }
        self.ask(site, &Why::More(if scopes.is_empty() { "it does not say what" } else { &scopes }))
    }

    /// The server refuses what it was shown for somebody, also after it was renewed.
    pub fn not_taken(&self, site: &Site) -> Fault {
        self.ask(site, &Why::NotTaken)
    }

    /// What the caller connected, if it can be used here.
    async fn usable(&self, site: &Site, caller: &Caller) -> Result<(ConnectionRow, Kept), Fault> {
        let (tenant, of) = (caller.tenant(), of(caller.user_id().uuid(), site.id));
        let row = self.0.store.connection(tenant, of).await.map_err(|error| unread(&error.into()))?;
        let row = row.ok_or_else(|| self.ask(site, &Why::New))?;
        let found = self.found(site).await.map_err(|error| unread(&error))?;
        if row.place != site.place || found.is_some_and(|found| !same(&found.issuer, &row.issuer)) {
            return Err(self.ask(site, &Why::Moved));
        }
        let Some(sealed) = row.tokens.as_deref().filter(|_| row.state == ACTIVE) else {
            return Err(self.ask(site, &Why::Over));
        };
        let kept =
            self.open(of_connection(&row.id.to_string(), tenant), sealed).await.map_err(|error| unread(&error))?;
        Ok((row, kept))
    }

    /// Asks for new tokens; says whether there are any, or others had them: else the authorization server does not answer.
    async fn renew(&self, site: &Site, tenant: &TenantId, claimed: &ConnectionRow, kept: &Kept) -> Result<bool, Fault> {
        let outcome = self.asked(site, claimed, kept).await;
        let error = match outcome {
            Ok(Some(new)) => {
                let stored = self.keep(tenant, claimed, &new).await.map_err(|error| unread(&error))?;
                if !stored {
                    tracing::info!(server = %site.slug, "what was renewed is not connected any more");
                }
                return Ok(true);
            }
            Ok(None) => return Err(self.over(site, tenant, claimed, "client").await),
            Err(ConnectError::Authority(error)) => error,
            Err(error) => return Err(unread(&error)),
        };
        let (class, code) = (error.class.label(), error.code.as_deref());
        match &error.class {
            Class::NeedsInteraction { .. } | Class::Dead | Class::ConsentMissing | Class::Refused | Class::Forged => {
                tracing::info!(server = %site.slug, class, code, "an authorization server gives no new tokens: {error}");
                Err(self.over(site, tenant, claimed, "refused").await)
            }
            Class::OurCredential if kept.way == Way::Registered => {
                tracing::warn!(server = %site.slug, class, code, "an authorization server knows the gateway no more: {error}");
                let gone = self.client_is_unknown(&claimed.issuer, &kept.client_id).await;
                gone.map_err(|error| unread(&error))?;
                Err(self.over(site, tenant, claimed, "client").await)
            }
            _ => {
                tracing::warn!(server = %site.slug, class, code, "an authorization server could not be asked: {error}");
                let pause = pause(&error, claimed.failures);
                let noted = self.0.store.connection_unanswered(tenant, claimed, micros(now() + pause)).await;
                noted.map_err(|error| unread(&error.into()))?;
                if matches!(error.class, Class::OurCredential) {
                    let told = "the gateway is not let in at the server's authorization server; an administrator must mend its credential";
                    return Err(Fault::gateway(Kind::NoCredential, error.to_string()).telling(told));
                }
                Ok(false)
            }
        }
    }

    async fn asked(&self, site: &Site, claimed: &ConnectionRow, kept: &Kept) -> Result<Option<Kept>, ConnectError> {
        let (about, codes) = self.0.authorities.of(&claimed.issuer, kept.named_by).await?;
        let known = self.client_again(site, (kept.way, &kept.client_id), &about).await?;
        let Some(client) = known else { return Ok(None) };
        let tokens = codes.refresh(&about, &client, &kept.resource, &kept.tokens, now()).await?;
        let (client_id, resource) = (kept.client_id.clone(), kept.resource.clone());
        Ok(Some(Kept { tokens, client_id, way: kept.way, resource, named_by: kept.named_by }))
    }

    /// Keeps new tokens. The old ones may be of no use any more, so that a database which is away for a moment is waited for.
    async fn keep(&self, tenant: &TenantId, claimed: &ConnectionRow, new: &Kept) -> Result<bool, ConnectError> {
        let sealed = self.seal(of_connection(&claimed.id.to_string(), tenant), new).await?;
        let columns = RenewedColumns {
            tokens: &sealed,
            scopes: &new.tokens.scopes.join(" "),
            renewed_at: micros(now()),
            expires_at: new.tokens.expires_at.map(micros),
        };
        let mut tries = 0;
        loop {
            match self.0.store.renew_connection(tenant, claimed, columns).await {
                Err(StoreError::Database(error)) if tries < TRIES => {
                    tracing::warn!("new tokens could not be kept, and are tried to be again: {error}");
                    tries += 1;
                    tokio::time::sleep(BETWEEN_TRIES).await;
                }
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Notes that the person has to connect again, and says so.
    async fn over(&self, site: &Site, tenant: &TenantId, row: &ConnectionRow, reason: &str) -> Fault {
        match self.0.store.connection_needs_person(tenant, row, reason).await {
            Ok(true) => self.count("needs_person"),
            Ok(false) => {}
            Err(error) => return unread(&error.into()),
        }
        self.ask(site, &Why::Over)
    }
}

/// Whether both are one issuer: as its metadata write it, or as it was named.
fn same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

fn given(kept: &Kept, row: &ConnectionRow, time: OffsetDateTime) -> AccessToken {
    AccessToken { token: kept.tokens.access.clone(), expires_at: row.expires_at.map_or(time + UNSAID, at) }
}

fn pause(error: &IdpError, failures: i64) -> Duration {
    if let Class::Temporary { retry_after: Some(wait) } = error.class {
        return wait.clamp(FIRST_PAUSE, LONGEST_PAUSE);
    }
    let doubled = u32::try_from(failures).unwrap_or(u32::MAX).min(16);
    FIRST_PAUSE.saturating_mul(1 << doubled).min(LONGEST_PAUSE)
}

fn later(retry_after: Option<Duration>, detail: &str) -> Fault {
    let told = "the authorization server of the server does not answer now; try again";
    let fault = Fault::gateway(Kind::NoCredential, detail).telling(told);
    Fault { retry_after: retry_after.or(Some(FIRST_PAUSE)), ..fault }
}

fn unread(error: &ConnectError) -> Fault {
    let fault = Fault::gateway(Kind::NoCredential, format!("what somebody connected could not be read: {error}"));
    Fault { retry_after: Some(FIRST_PAUSE), ..fault }
        .telling("the gateway could not read what you connected; try again")
}
