//! Authorizations under way: from the client's redirect to the code. Each is bound to the browser that began it by a cookie, is
//! sealed in the database, goes on only after the person agreed, and is taken out once.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;
use uuid::Uuid;

use super::rate::Network;
use super::request::{Arrived, Leg, Request};
use super::{Grants, OauthCode, Refusal, damaged};
use crate::crypto::{Place, hash_token, new_secret};
use crate::id::TenantId;
use crate::secret::Secret;
use crate::store::authorizations::{AuthorizationRow, Inserted, Room, STAYS};
use crate::store::{StoreError, micros, sealed};

/// How long a person has from the client's redirect to the provider's answer.
pub const AUTHORIZATION_LASTS: Duration = Duration::from_mins(10);
/// Most authorizations under way at once, in all and of one network; where there are more, the oldest that nobody acted on give way.
const ROOM: Room = Room { all: 50_000, of_one: 10_000 };

/// An authorization that was begun.
#[derive(Debug)]
pub struct Begun {
    /// Its id.
    pub id: Uuid,
    /// For a cookie of the browser, named after the id.
    pub cookie: Secret,
    /// For the form by which the person agrees.
    pub csrf: Secret,
}

/// An authorization as it stands.
#[derive(Debug)]
pub struct UnderWay {
    /// Its id.
    pub id: Uuid,
    /// What was asked for.
    pub request: Request,
    /// For the form by which the person agrees.
    pub csrf: Secret,
    /// Whether the person agreed.
    pub consented: bool,
    /// The way to the provider, once the browser was sent there.
    pub leg: Option<Leg>,
    /// Who has signed in, where the person is asked afterwards.
    pub arrived: Option<Arrived>,
    /// The network from which it was begun.
    source: String,
}

/// What is sealed in a row.
#[derive(Serialize, Deserialize)]
struct Kept {
    request: Request,
    csrf: Secret,
    consented: bool,
    leg: Option<Leg>,
    #[serde(default)]
    arrived: Option<Arrived>,
}

/// Rounds of reading and writing that two forms sent at once may take.
const ROUNDS: usize = 4;

impl Kept {
    /// How far it is, by which it is kept when there are too many: anybody can ask, and agree too, but not sign in.
    fn stage(&self) -> i64 {
        if self.arrived.is_some() { STAYS } else { self.consented.into() }
    }
}

impl Grants {
    /// Keeps what a client asked for by way of a browser at `address`. Refused with `temporarily_unavailable` when there are as many
    /// as there may be, and somebody has signed in for each.
    pub async fn begin(&self, request: Request, address: IpAddr, now: OffsetDateTime) -> Result<Begun, Refusal> {
        let source = Network::widest(address).to_string();
        self.keep(Kept { request, csrf: new_secret(), consented: false, leg: None, arrived: None }, source, now).await
    }

    /// Goes on, for the same browser, with an authorization that was taken out: the person is sent to the provider once more,
    /// or, once somebody `arrived`, asked.
    pub async fn begin_again(
        &self,
        under: &UnderWay,
        arrived: Option<Arrived>,
        now: OffsetDateTime,
    ) -> Result<Begun, Refusal> {
        let (request, consented) = (under.request.clone(), under.consented);
        self.keep(Kept { request, csrf: new_secret(), consented, leg: None, arrived }, under.source.clone(), now).await
    }

    async fn keep(&self, kept: Kept, source: String, now: OffsetDateTime) -> Result<Begun, Refusal> {
        let (id, cookie) = (Uuid::now_v7(), new_secret());
        let row = AuthorizationRow {
            id,
            browser_hash: hash_token(cookie.expose()).to_vec(),
            state_hash: None,
            request: self.seal(id, &kept)?,
            source,
            stage: kept.stage(),
            created_at: micros(now),
            expires_at: micros(now + AUTHORIZATION_LASTS),
        };
        match self.0.store.insert_authorization(&row, ROOM).await? {
            Inserted::For(0) => {}
            Inserted::For(gone) => {
                tracing::warn!(gone, source = row.source, "more sign-ins are begun than are kept: the oldest gave way");
            }
            Inserted::Full => {
                let text = "too many people are signing in at this moment; try again in a minute";
                let full = Refusal::new(OauthCode::TemporarilyUnavailable, "full", text);
                return Err(Refusal { retry_after: Some(Duration::from_mins(1)), ..full });
            }
        }
        Ok(Begun { id, cookie, csrf: kept.csrf })
    }

    /// The authorization of that id, for the browser that shows its cookie.
    pub async fn under_way(&self, id: Uuid, cookie: &str, now: OffsetDateTime) -> Result<UnderWay, Refusal> {
        let row = self.row_under_way(id, cookie, now).await?;
        self.told(row)
    }

    /// The authorization of that id for a form of its page: cookie and form must both be its own.
    pub async fn of_form(&self, id: Uuid, cookie: &str, csrf: &str, now: OffsetDateTime) -> Result<UnderWay, Refusal> {
        let row = self.row_under_way(id, cookie, now).await?;
        let kept = self.open(&row)?;
        own_form(&kept, csrf)?;
        Ok(told(row, kept))
    }

    /// The person agreed: cookie and form must both be those of the authorization.
    pub async fn consent(&self, id: Uuid, cookie: &str, csrf: &str, now: OffsetDateTime) -> Result<UnderWay, Refusal> {
        self.change_under_way(id, cookie, now, |kept, row| {
            own_form(kept, csrf)?;
            kept.consented = true;
            Ok(row.state_hash.clone())
        })
        .await
    }

    /// The browser is sent to a provider with `state`. Sending it again replaces the way that it was sent before. With the `csrf`
    /// of the authorization's form, the person agrees by it to what was asked for.
    pub async fn send(
        &self,
        id: Uuid,
        cookie: &str,
        csrf: Option<&str>,
        state: &Secret,
        leg: Leg,
        now: OffsetDateTime,
    ) -> Result<(), Refusal> {
        let state = hash_token(state.expose());
        self.change_under_way(id, cookie, now, |kept, _| {
            if let Some(csrf) = csrf {
                own_form(kept, csrf)?;
                kept.consented = true;
            }
            agreed(kept)?;
            kept.leg = Some(leg.clone());
            Ok(Some(state.to_vec()))
        })
        .await
        .map(drop)
    }

    /// The provider sent a browser back with `state`: takes the authorization out, once, if `cookie_of` finds the cookie of its
    /// id in that browser. A browser without it leaves the authorization as it is.
    pub async fn at_callback(
        &self,
        state: &str,
        cookie_of: impl FnOnce(Uuid) -> Option<String> + Send,
        now: OffsetDateTime,
    ) -> Result<UnderWay, Refusal> {
        let state = hash_token(state);
        let id = self.0.store.authorization_of_state(&state, micros(now)).await?;
        let id = id.ok_or_else(|| gone("state"))?;
        let cookie = cookie_of(id).ok_or_else(|| gone("other_browser"))?;
        let browser = hash_token(&cookie);
        let row = self.0.store.take_authorization(id, &browser, Some(&state), micros(now)).await?;
        self.taken(row)
    }

    /// The trace of the authorization whose browser was sent to a provider with `state`, for a note only: it opens nothing.
    pub async fn trace_of_state(&self, state: &str, now: OffsetDateTime) -> Result<Option<Uuid>, Refusal> {
        match self.0.store.authorization_of_state(&hash_token(state), micros(now)).await? {
            Some(id) => self.trace_under_way(id, now).await,
            None => Ok(None),
        }
    }

    /// The trace of an authorization, whichever browser it is bound to, for a note only.
    pub async fn trace_under_way(&self, id: Uuid, now: OffsetDateTime) -> Result<Option<Uuid>, Refusal> {
        let row = self.0.store.any_authorization(id, micros(now)).await?;
        row.map_or(Ok(None), |row| Ok(self.open(&row)?.request.trace))
    }

    /// Takes an authorization out, once: the person signed in here.
    pub async fn take(&self, id: Uuid, cookie: &str, now: OffsetDateTime) -> Result<UnderWay, Refusal> {
        let row = self.0.store.take_authorization(id, &hash_token(cookie), None, micros(now)).await?;
        self.taken(row)
    }

    /// Takes an authorization out: the person said no, or it cannot go on.
    pub async fn give_up(&self, id: Uuid, cookie: &str, now: OffsetDateTime) -> Result<UnderWay, Refusal> {
        let row = self.0.store.take_authorization(id, &hash_token(cookie), None, micros(now)).await?;
        self.told(row.ok_or_else(|| gone("gone"))?)
    }

    fn told(&self, row: AuthorizationRow) -> Result<UnderWay, Refusal> {
        let kept = self.open(&row)?;
        Ok(told(row, kept))
    }

    fn taken(&self, row: Option<AuthorizationRow>) -> Result<UnderWay, Refusal> {
        let row = row.ok_or_else(|| gone("gone"))?;
        let kept = self.open(&row)?;
        agreed(&kept)?;
        Ok(told(row, kept))
    }

    async fn row_under_way(&self, id: Uuid, cookie: &str, now: OffsetDateTime) -> Result<AuthorizationRow, Refusal> {
        let row = self.0.store.authorization(id, &hash_token(cookie), micros(now)).await?;
        row.ok_or_else(|| gone("gone"))
    }

    /// Reads, changes and writes; again when another form of the same browser came between.
    async fn change_under_way(
        &self,
        id: Uuid,
        cookie: &str,
        now: OffsetDateTime,
        change: impl Fn(&mut Kept, &AuthorizationRow) -> Result<Option<Vec<u8>>, Refusal>,
    ) -> Result<UnderWay, Refusal> {
        for _ in 0..ROUNDS {
            let row = self.row_under_way(id, cookie, now).await?;
            let mut kept = self.open(&row)?;
            let state = change(&mut kept, &row)?;
            let request = self.seal(id, &kept)?;
            match self.0.store.update_authorization(&row, &request, state.as_deref(), kept.stage()).await {
                Ok(()) => return Ok(told(row, kept)),
                Err(StoreError::Stale) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::from(StoreError::Stale))
    }

    fn seal(&self, id: Uuid, kept: &Kept) -> Result<Vec<u8>, Refusal> {
        let text = serde_json::to_vec(kept).map(zeroize::Zeroizing::new);
        let text = text.map_err(|error| damaged("an authorization", &error))?;
        let tenant = TenantId::default_tenant();
        self.0
            .vault
            .master()
            .seal(place(&id.to_string(), &tenant), &text)
            .map_err(|error| damaged("an authorization", &error))
    }

    fn open(&self, row: &AuthorizationRow) -> Result<Kept, Refusal> {
        let tenant = TenantId::default_tenant();
        let text = self.0.vault.master().open(place(&row.id.to_string(), &tenant), &row.request);
        let text = text.map_err(|error| damaged("an authorization", &error))?;
        serde_json::from_slice(&text).map_err(|error| damaged("an authorization", &error))
    }
}

/// Whose it is shows only when somebody has signed in: until then every authorization is under the first tenant.
fn place<'a>(row: &'a str, tenant: &'a TenantId) -> Place<'a> {
    Place { table: sealed::AUTHORIZATIONS.name, row, tenant, subject: None }
}

fn told(row: AuthorizationRow, kept: Kept) -> UnderWay {
    let Kept { request, csrf, consented, leg, arrived } = kept;
    UnderWay { id: row.id, request, csrf, consented, leg, arrived, source: row.source }
}

fn own_form(kept: &Kept, csrf: &str) -> Result<(), Refusal> {
    if bool::from(kept.csrf.expose().as_bytes().ct_eq(csrf.as_bytes())) {
        return Ok(());
    }
    let text = "the form was not sent by the page that this gateway showed; begin again";
    Err(Refusal::new(OauthCode::InvalidRequest, "csrf", text))
}

/// Whether the person may be let sign in: who agreed, or is asked afterwards.
fn agreed(kept: &Kept) -> Result<(), Refusal> {
    if kept.consented || kept.request.ask_later {
        return Ok(());
    }
    Err(Refusal::new(OauthCode::InvalidRequest, "consent", "nobody has agreed to this yet; begin again"))
}

/// Unknown, over, taken, or another browser's: which, only our logs know.
fn gone(reason: &'static str) -> Refusal {
    let text = "this sign-in is over, or was begun in another browser; begin again from the program that asks for it";
    Refusal::new(OauthCode::InvalidRequest, reason, text)
}
