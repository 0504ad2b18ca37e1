//! The token that a server is shown for somebody, renewed when it is wanted and ends soon, or when the server refuses it: by one of all
//! processes at a time, and kept before it is used, since many an authorization server takes each refresh token once.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::client::Way;
use super::sealed::{Kept, is_closed, of_connection, seal_with};
use super::view::ACTIVE;
use super::{ConnectError, Connections, Site, Why, of};
use crate::access::{Caller, SessionType};
use crate::crypto::Sealer;
use crate::fault::{Fault, Kind};
use crate::id::TenantId;
use crate::idp::{AccessToken, Class, IdpError, UNSAID};
use crate::secret::Secret;
use crate::store::connections::{ConnectionRow, RenewedColumns};
use crate::store::{at, micros, now};

/// A token that ends sooner is renewed first: it must still be good when it arrives.
const SPARE: Duration = Duration::from_secs(40);
/// For how long whoever is about to ask has it alone, and from when they ask: longer than an answer takes, and to keep it.
const READY: Duration = Duration::from_mins(1);
const ALONE: Duration = Duration::from_mins(5);
/// How long somebody waits while another renews, and how often it is looked.
const PATIENCE: Duration = Duration::from_secs(12);
const LOOK: Duration = Duration::from_millis(100);
/// After a failure it is tried again: twice as late each time, and no later than this.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// How authorization servers say that they do not know a client (RFC 6749 section 5.2).
pub(super) const UNKNOWN_CLIENT: &str = "invalid_client";
/// Why something was not renewed, as it is stored: the client is not taken, or something else in the request is not.
const CLIENT: &str = "client";
const REQUEST: &str = "request";
/// What was refused so often in a row for one of these is not renewed any more, as far as anybody can tell.
const STUCK: i64 = 3;

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

/// What became of renewing.
enum Renewed {
    /// There are new tokens.
    Done,
    /// Somebody else has it by now.
    Another,
    /// There are none now; the old ones are good as long as they were.
    Unanswered(Fault),
}

/// Whom an authorization server is asked for.
struct Holder {
    site: Site,
    tenant: TenantId,
    claimed: ConnectionRow,
    kept: Kept,
}

impl Connections {
    /// The token of the caller for a server.
    pub async fn token(&self, site: &Site, caller: &Caller, not: Not<'_>) -> Result<AccessToken, Fault> {
        if caller.session_type() == SessionType::Service {
            return Err(Self::no_person());
        }
        self.token_of(site, caller.tenant(), caller.user_id().uuid(), not).await
    }

    /// The token of an account for a server.
    pub(super) async fn token_of(
        &self,
        site: &Site,
        tenant: &TenantId,
        user: Uuid,
        not: Not<'_>,
    ) -> Result<AccessToken, Fault> {
        let (began, mut renewed) = (Instant::now(), false);
        loop {
            let (row, kept) = self.usable(site, tenant, user).await?;
            let time = now();
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
                // A server that refuses it once may take it again: what nothing brings back is not thrown away for that.
                if lasts {
                    return Err(self.not_taken(site));
                }
                match self.over(site, tenant, &row, "ended").await {
                    Some(fault) => return Err(fault),
                    None => continue,
                }
            }
            if at(row.until) > time || began.elapsed() > PATIENCE {
                if is_good {
                    return Ok(given(&kept, &row, time));
                }
                if !row.asking || began.elapsed() > PATIENCE {
                    if is_stuck(&row, &kept) {
                        return Err(self.ask(site, &Why::Over));
                    }
                    let wait = Duration::try_from(at(row.until) - time).ok();
                    return Err(later(wait, "its tokens could not be renewed a moment ago"));
                }
                tokio::time::sleep(LOOK).await;
                continue;
            }
            let claimed = self.0.store.claim_connection(tenant, &row, micros(time), micros(time + READY)).await;
            let Some(claimed) = claimed.map_err(|error| unread(&error.into()))? else { continue };
            let holder = Holder { site: site.clone(), tenant: tenant.clone(), claimed, kept: kept.clone() };
            let this = self.clone();
            let renewing = self.to_its_end(async move { this.renew(&holder).await });
            match renewing.await.map_err(|error| unread(&error))?? {
                Renewed::Done => renewed = true,
                Renewed::Another => {}
                Renewed::Unanswered(_) if is_good => return Ok(given(&kept, &row, time)),
                Renewed::Unanswered(fault) => return Err(fault),
            }
        }
    }

    /// The server refuses what it was shown for somebody, also after it was renewed.
    pub fn not_taken(&self, site: &Site) -> Fault {
        self.look_again(site);
        self.ask(site, &Why::NotTaken)
    }

    /// What somebody connected, if it can be used here.
    pub(super) async fn usable(
        &self,
        site: &Site,
        tenant: &TenantId,
        user: Uuid,
    ) -> Result<(ConnectionRow, Kept), Fault> {
        let row = self.0.store.connection(tenant, of(user, site.id)).await.map_err(|error| unread(&error.into()))?;
        let row = row.ok_or_else(|| self.ask(site, &Why::New))?;
        let found = self.found(site).await.map_err(|error| unread(&error))?;
        if row.place != site.place || found.is_some_and(|found| !same(&found.issuer, &row.issuer)) {
            return Err(self.ask(site, &Why::Moved));
        }
        let Some(sealed) = row.tokens.as_deref().filter(|_| row.state == ACTIVE) else {
            return Err(self.ask(site, &Why::Over));
        };
        match self.open(of_connection(&row.id.to_string(), tenant, row.user_id), sealed).await {
            Ok(kept) => Ok((row, kept)),
            Err(error) if is_closed(&error) => {
                tracing::error!(server = %site.slug, connection = %row.id, "what somebody connected does not open: {error}");
                Err(self.ask(site, &Why::Over))
            }
            Err(error) => Err(unread(&error)),
        }
    }

    /// Asks for new tokens and keeps them.
    async fn renew(&self, holder: &Holder) -> Result<Renewed, Fault> {
        let Holder { site, tenant, claimed, kept } = holder;
        // What can fail before the old ones are shown fails before.
        let sealer = match self.0.vault.sealer_of(tenant).await {
            Ok(sealer) => sealer,
            Err(error) => return Err(self.not_asked(holder, &error.into()).await),
        };
        let (about, codes) = match self.0.authorities.of(&claimed.issuer, kept.named_by).await {
            Ok(found) => found,
            Err(error) => return self.refused(holder, &error).await,
        };
        let Some(client) = Self::client_again(Some(site), kept, &about) else {
            return self.over(site, tenant, claimed, CLIENT).await.map_or(Ok(Renewed::Another), Err);
        };
        match self.0.store.hold_connection(tenant, claimed, micros(now() + ALONE)).await {
            Ok(true) => {}
            Ok(false) => return Ok(Renewed::Another),
            Err(error) => return Err(self.not_asked(holder, &error.into()).await),
        }
        match codes.refresh(&about, &client, &kept.resource, &kept.tokens, now()).await {
            Ok(tokens) => {
                self.came(holder, &sealer, Kept { tokens, ..kept.clone() }).await.map_err(|error| unread(&error))
            }
            Err(error) => self.refused(holder, &error).await,
        }
    }

    /// Keeps new tokens, or gives them back if the person disconnected meanwhile.
    async fn came(&self, holder: &Holder, sealer: &Sealer, new: Kept) -> Result<Renewed, ConnectError> {
        let Holder { site, tenant, claimed, .. } = holder;
        let sealed = seal_with(sealer, of_connection(&claimed.id.to_string(), tenant, claimed.user_id), &new)?;
        let scopes = new.tokens.scopes.join(" ");
        let columns = RenewedColumns {
            tokens: &sealed,
            scopes: &scopes,
            renewed_at: micros(now()),
            expires_at: new.tokens.expires_at.map(micros),
        };
        if Self::insist(|| self.0.store.renew_connection(tenant, claimed, columns)).await? {
            return Ok(Renewed::Done);
        }
        tracing::info!(server = %site.slug, "what was renewed is not connected any more, or was renewed by another");
        // Of one that connected anew, the same grant may be at work there.
        if self.0.store.connection(tenant, of(claimed.user_id, site.id)).await?.is_none()
            && let Err(error) = self.revoke(Some(site), &claimed.issuer, &new, now()).await
        {
            tracing::warn!(server = %site.slug, "new tokens could not be given back: {error}");
        }
        Ok(Renewed::Another)
    }

    /// It was not asked: whoever comes next may.
    async fn not_asked(&self, holder: &Holder, error: &ConnectError) -> Fault {
        if let Err(error) = self.0.store.release_connection(&holder.tenant, &holder.claimed).await {
            tracing::warn!(server = %holder.site.slug, "a connection could not be let go: {error}");
        }
        unread(error)
    }

    /// There are no new tokens. Only what is said of these very tokens ends a connection.
    async fn refused(&self, holder: &Holder, error: &IdpError) -> Result<Renewed, Fault> {
        let Holder { site, tenant, claimed, kept } = holder;
        let (class, code) = (error.class.label(), error.error.as_deref());
        let reason = match &error.class {
            Class::NeedsInteraction { .. } | Class::Dead | Class::ConsentMissing | Class::Refused | Class::Forged => {
                tracing::info!(server = %site.slug, class, code, "an authorization server gives no new tokens: {error}");
                self.look_again(site);
                return self.over(site, tenant, claimed, "refused").await.map_or(Ok(Renewed::Another), Err);
            }
            Class::OurCredential if kept.way == Way::Registered && code == Some(UNKNOWN_CLIENT) => {
                let gone = self.client_is_unknown(site, &kept.client).await;
                gone.map_err(|error| unread(&error))?;
                if claimed.reason.as_deref() == Some(CLIENT) && claimed.failures + 1 >= STUCK {
                    tracing::info!(server = %site.slug, "an authorization server does not know the client any more: {error}");
                    return self.over(site, tenant, claimed, CLIENT).await.map_or(Ok(Renewed::Another), Err);
                }
                Some(CLIENT)
            }
            // An administrator's to mend.
            Class::OurCredential if kept.way == Way::Configured => None,
            Class::OurCredential if code == Some(UNKNOWN_CLIENT) => Some(CLIENT),
            Class::OurCredential | Class::Configuration if code.is_some() => Some(REQUEST),
            _ => None,
        };
        tracing::warn!(server = %site.slug, class, code, "an authorization server could not be asked: {error}");
        let pause = pause(error, claimed.failures);
        let noted = self.0.store.connection_unanswered(tenant, claimed, micros(now() + pause), reason).await;
        noted.map_err(|error| unread(&error.into()))?;
        let (reason, failures) = (reason.map(str::to_owned), claimed.failures + 1);
        let is_stuck = is_stuck(&ConnectionRow { reason, failures, ..claimed.clone() }, kept);
        Ok(Renewed::Unanswered(match &error.class {
            _ if is_stuck => self.ask(site, &Why::Over),
            Class::OurCredential => {
                let told = "the gateway is not let in at the server's authorization server; an administrator must mend its credential";
                Fault::gateway(Kind::NoCredential, error.to_string()).telling(told)
            }
            _ => later(Some(pause), "its authorization server does not answer"),
        }))
    }

    /// Notes that the person has to connect again, and what to tell them; none where it is another by now.
    async fn over(&self, site: &Site, tenant: &TenantId, row: &ConnectionRow, reason: &str) -> Option<Fault> {
        match self.0.store.connection_needs_person(tenant, row, reason).await {
            Ok(true) => {
                self.count("needs_person");
                Some(self.ask(site, &Why::Over))
            }
            Ok(false) => None,
            Err(error) => Some(unread(&error.into())),
        }
    }
}

/// Whether the person is asked to connect again although it is tried on: nothing renews it, as far as anybody can tell.
pub(super) fn is_stuck(row: &ConnectionRow, kept: &Kept) -> bool {
    match row.reason.as_deref() {
        // Whoever goes there now goes as another client.
        Some(CLIENT) if kept.way == Way::Registered => true,
        Some(CLIENT | REQUEST) => row.failures >= STUCK,
        _ => false,
    }
}

/// Whether both are one issuer: as its metadata write it, or as it was named.
pub(super) fn same(one: &str, other: &str) -> bool {
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
