//! Somebody goes to an authorization server and comes back: in the same browser, as the same account, once. What comes back is from whom it
//! was asked, and is kept for who went.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use super::client::key_of;
use super::leads::There;
use super::renewing::{UNKNOWN_CLIENT, same};
use super::sealed::{Going, Kept, of_attempt, of_connection, seal_with};
use super::{ConnectError, Connections, Site, of};
use crate::crypto::{hash_token, new_secret};
use crate::id::{ServerId, TenantId};
use crate::idp::{Authority, Sent, refused_at_callback};
use crate::secret::Secret;
use crate::store::connections::{AttemptRow, ConnectionRow};
use crate::store::micros;

/// How long somebody may be on the way.
const LASTS: Duration = Duration::from_mins(10);
/// Most ways that one account is on at once; the oldest gives way.
const MOST: i64 = 8;
/// How authorization servers name a person's no.
const NO: &str = "access_denied";

/// Who goes, and in which browser.
#[derive(Debug, Clone, Copy)]
pub struct Person<'a> {
    /// In which tenant.
    pub tenant: &'a TenantId,
    /// The account.
    pub user: Uuid,
    /// The cookie of the browser's session here.
    pub cookie: &'a str,
}

/// What a browser came back with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answer<'a> {
    /// At whose address.
    pub key: &'a str,
    /// What it was sent with.
    pub state: &'a str,
    /// From whom it says that it is (RFC 9207).
    pub iss: Option<&'a str>,
    /// The code.
    pub code: Option<&'a str>,
    /// In its place, the error and what is said of it.
    pub error: Option<&'a str>,
    /// See there.
    pub description: Option<&'a str>,
}

impl Connections {
    /// Where the browser of somebody goes who wants to connect to this server: `shown` is the mark of where the page said.
    pub async fn begin(
        &self,
        site: &Site,
        who: Person<'_>,
        shown: &str,
        now: OffsetDateTime,
    ) -> Result<Url, ConnectError> {
        let found = self.find(site).await?;
        let There { leads, named_by, about, codes } = self.way_of(site, found, who).await?;
        if leads.mark() != shown {
            return Err(ConnectError::NotShown);
        }
        let (client, way) = self.client(site, &about, &codes).await?;
        let sent = Sent::new(client, self.redirect_uri(&about.issuer), leads.resource, leads.scopes);
        let state = new_secret();
        let url = sent.url(&about, &state);
        let hash = hash_token(state.expose());
        let authority = Authority::clone(&about);
        let going = Going { authority, named_by, sent, way, place: site.place.clone() };
        let row = AttemptRow {
            sent: self.seal(of_attempt(&name_of(&hash), who.tenant, who.user), &going).await?,
            state_hash: hash.to_vec(),
            browser_hash: hash_token(who.cookie).to_vec(),
            tenant_id: who.tenant.as_str().to_owned(),
            user_id: who.user,
            server_id: site.id.0,
            created_at: micros(now),
            expires_at: micros(now + LASTS),
        };
        self.0.store.begin_connecting(who.tenant, &row, MOST).await?;
        Ok(url)
    }

    /// Somebody came back: whatever the answer, it counts once. What was given is kept, in the place of what there was. `site_of` finds the
    /// server, if the person may see it still; which one it was is in `at` as soon as that is known.
    pub async fn finish(
        &self,
        answer: Answer<'_>,
        who: Person<'_>,
        site_of: impl FnOnce(ServerId) -> Option<Site> + Send,
        now: OffsetDateTime,
        at: &mut Option<Site>,
    ) -> Result<(), ConnectError> {
        let (hash, browser) = (hash_token(answer.state), hash_token(who.cookie));
        let row = self.0.store.take_connecting(who.tenant, who.user, &hash, &browser, micros(now)).await?;
        let row = row.ok_or(ConnectError::Lost)?;
        let going: Going = self.open(of_attempt(&name_of(&hash), who.tenant, who.user), &row.sent).await?;
        let site = site_of(ServerId(row.server_id)).ok_or(ConnectError::Moved)?;
        let site = at.insert(site);
        let done = Box::pin(self.come_back(site, answer, who, going, now)).await;
        self.count(match &done {
            Ok(()) => "connected",
            Err(ConnectError::Denied) => "denied",
            Err(_) => "failed",
        });
        done
    }

    async fn come_back(
        &self,
        site: &Site,
        answer: Answer<'_>,
        who: Person<'_>,
        going: Going,
        now: OffsetDateTime,
    ) -> Result<(), ConnectError> {
        is_from(&answer, &going.authority)?;
        if let Some(error) = answer.error {
            return Err(if error == NO {
                ConnectError::Denied
            } else {
                refused_at_callback(error, answer.description).into()
            });
        }
        let code = Secret::new(answer.code.ok_or(ConnectError::Lost)?);
        if site.place != going.place {
            return Err(ConnectError::Moved);
        }
        let (this, site, tenant, user) = (self.clone(), site.clone(), who.tenant.clone(), who.user);
        Box::pin(self.to_its_end(async move { this.redeem(&site, (&tenant, user), going, &code, now).await })).await?
    }

    /// Keeps what is given for a code, which is given once.
    async fn redeem(
        &self,
        site: &Site,
        (tenant, user): (&TenantId, Uuid),
        going: Going,
        code: &Secret,
        now: OffsetDateTime,
    ) -> Result<(), ConnectError> {
        let issuer = going.authority.issuer.clone();
        let (_, codes) = self.0.authorities.of(&issuer, going.named_by).await?;
        let sealer = self.0.vault.sealer_of(tenant).await?;
        let redeemed = codes.redeem(&going.authority, &going.sent, code, now).await;
        if redeemed.as_ref().is_err_and(|error| error.error.as_deref() == Some(UNKNOWN_CLIENT)) {
            self.client_is_unknown(site, &going.sent.client).await?;
        }
        let tokens = redeemed?;
        let (id, expires_at, scopes) = (Uuid::now_v7(), tokens.expires_at, tokens.scopes.join(" "));
        let Going { sent, way, named_by, .. } = going;
        let kept = Kept { tokens, client: sent.client, way, resource: sent.resource, named_by }.without_configured();
        let row = ConnectionRow {
            tokens: Some(seal_with(&sealer, of_connection(&id.to_string(), tenant, user), &kept)?),
            id,
            tenant_id: tenant.as_str().to_owned(),
            user_id: user,
            server_id: site.id.0,
            issuer,
            place: site.place.clone(),
            scopes,
            wanted: String::new(),
            state: super::view::ACTIVE.to_owned(),
            reason: None,
            created_at: micros(now),
            renewed_at: micros(now),
            expires_at: expires_at.map(micros),
            until: 0,
            asking: false,
            failures: 0,
            version: 0,
        };
        let before = Self::insist(|| self.0.store.put_connection(tenant, &row)).await?;
        if let Some(before) = before.filter(|before| !same(&before.issuer, &row.issuer)) {
            self.replaced(site, before, now).await;
        }
        tracing::info!(server = %site.slug, %user, issuer = row.issuer, "somebody connected to the server");
        Ok(())
    }

    /// Ends what somebody connected; the authorization server is told, if it listens.
    pub async fn disconnect(&self, site: &Site, who: Person<'_>, now: OffsetDateTime) -> Result<(), ConnectError> {
        self.end(Some(site), site.id, who, now).await
    }

    /// The same also where the server is not to be seen.
    pub(super) async fn end(
        &self,
        site: Option<&Site>,
        server: ServerId,
        who: Person<'_>,
        now: OffsetDateTime,
    ) -> Result<(), ConnectError> {
        let (this, site, tenant, user) = (self.clone(), site.cloned(), who.tenant.clone(), who.user);
        let ending = async move {
            let removed = this.0.store.remove_connection(&tenant, of(user, server), micros(now)).await?;
            let Some(row) = removed else { return Ok(()) };
            this.count("disconnected");
            // It has ended here, whatever becomes of it there.
            if let Err(error) = this.give_back(site.as_ref(), &tenant, &row, now).await {
                tracing::warn!(server = %server.0, issuer = row.issuer, "tokens could not be given back: {error}");
            }
            Ok(())
        };
        self.to_its_end(ending).await?
    }

    async fn give_back(
        &self,
        site: Option<&Site>,
        tenant: &TenantId,
        row: &ConnectionRow,
        now: OffsetDateTime,
    ) -> Result<(), ConnectError> {
        let Some(kept) = self.kept_of(tenant, row).await? else { return Ok(()) };
        self.revoke(site, &row.issuer, &kept, now).await
    }

    /// What a row holds, if it holds anything.
    pub(super) async fn kept_of(&self, tenant: &TenantId, row: &ConnectionRow) -> Result<Option<Kept>, ConnectError> {
        let Some(sealed) = &row.tokens else { return Ok(None) };
        self.open(of_connection(&row.id.to_string(), tenant, row.user_id), sealed).await.map(Some)
    }

    pub(super) async fn revoke(
        &self,
        site: Option<&Site>,
        issuer: &str,
        kept: &Kept,
        now: OffsetDateTime,
    ) -> Result<(), ConnectError> {
        let (about, codes) = self.0.authorities.of(issuer, kept.named_by).await?;
        let Some(client) = Self::client_again(site, kept, &about) else { return Ok(()) };
        Ok(codes.revoke(&about, &client, &kept.tokens, now).await?)
    }
}

/// The row of an attempt, by its state's hash.
fn name_of(hash: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(hash)
}

/// Whether an answer is from whom it was asked (RFC 9207 section 2.4; RFC 9700 section 4.4): at the address that is that one's own, and
/// saying so, if it says anything or promised to.
fn is_from(answer: &Answer<'_>, asked: &Authority) -> Result<(), ConnectError> {
    if answer.key != key_of(&asked.issuer) {
        return Err(ConnectError::MixedUp("it came at the address of another"));
    }
    match answer.iss {
        Some(iss) if iss != asked.issuer => Err(ConnectError::MixedUp("it says that it is another's (iss)")),
        None if asked.authorization_response_iss_parameter_supported => {
            Err(ConnectError::MixedUp("it does not say whose it is (iss), as it always does"))
        }
        _ => Ok(()),
    }
}
