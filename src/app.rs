//! The parts of the process, built once from the settings; itself an extractor. Surfaces take the whole of it, engines the
//! parts they need. What surfaces ask beyond one engine (take over a change, how a server does) are small functions here.

mod assembly;
mod attempts;
mod bans;
mod connected;
mod entrusted;
mod exporting;
mod footprint;
mod forcing;
mod gauges;
mod guarding;
mod issuing;
mod master_key;
mod memory;
mod people;
mod policies;
mod pools;
pub mod preflight;
mod refreshing;
mod resealing;
mod sampling;
mod sealing_keys;
mod sharing;
mod signed_in;
mod trail;
mod unreadable;
mod vouching;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use bytes::Bytes;
use http::request::Parts as RequestParts;
use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{Accounts, Caller, KeyRing, Proofs, Role, TokenRing};
use crate::analytics::Analytics;
use crate::audit::{Drain, Trail};
use crate::balance::ReplicaStatus;
use crate::config::Settings;
use crate::connections::{Look, Site};
use crate::crypto::Sealer;
use crate::fault::{self, Fault, Retry};
use crate::grants::attempts::Attempts;
use crate::grants::client::Clients;
use crate::grants::resource::Issuer;
use crate::grants::{End, Ended, Grants, Ids, Refusal};
use crate::id::{ServerId, TenantId};
use crate::idp::Providers;
use crate::limit::guard::Guard;
use crate::limit::{self, Limits, Who};
use crate::mcp::held::Room;
use crate::mcp::legacy_sse::Channels;
use crate::mcp::session::Sessions;
use crate::mcp::streams::Streams;
use crate::policy::observed::Observed;
use crate::registry::catalog::Kind;
use crate::registry::live::Registry;
use crate::registry::model::Server;
use crate::registry::servers::Servers;
use crate::registry::snapshot::State;
use crate::store::announcements::Heard;
use crate::store::{Store, StoreError, now};
use crate::telemetry::{Event, Health, Recorder};
use crate::vault::Vault;

pub use assembly::{assemble, build};
pub use bans::{BanOrder, BanView, LiftOrder, LiftReason};
pub use connected::Goes;
pub use exporting::Exporting;
pub use footprint::Footprint;
pub use forcing::{Forced, Forcing};
pub use policies::{Explained, Question, Trial, Whom};
pub use pools::DatabaseWaits;
pub use sampling::{ACTIVE, Sampler};
pub use sealing_keys::{NothingBefore, SealingKeys, TenantKeys};
pub use signed_in::{Counted, SignedIn};

/// Pause before the database is asked again to say when something changes.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// The running gateway. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// What it is made of.
pub struct Parts {
    /// This process among all that there are and were.
    pub instance: uuid::Uuid,
    /// What the operator asked for.
    pub settings: Arc<Settings>,
    /// The database.
    pub store: Store,
    /// Seals secrets at rest.
    pub sealer: Sealer,
    /// Seals what belongs to tenants, each under its own key.
    pub vault: Vault,
    /// What tokens and metadata say about who issued them.
    pub issuer: Issuer,
    /// Who may come in by key.
    pub keyring: KeyRing,
    /// Who may come in by access token.
    pub tokens: TokenRing,
    /// Which proofs of keys were shown.
    pub proofs: Proofs,
    /// What was granted to clients.
    pub grants: Grants,
    /// How often one address may try.
    pub attempts: Attempts,
    /// How much tenants and users may call.
    pub limits: Limits,
    /// From where nothing is taken for a while.
    pub guard: Guard,
    /// Who may sign in by password.
    pub accounts: Accounts,
    /// The OAuth clients that may ask for something in somebody's name.
    pub clients: Clients,
    /// Who says who people are.
    pub providers: Providers,
    /// For whom administrators have providers asked now.
    pub forcing: Forcing,
    /// Told when something is to be sealed anew.
    resealing: tokio::sync::Notify,
    /// What was called lately, to try changed rules on.
    pub observed: Observed,
    /// The servers at run time.
    pub registry: Arc<Registry>,
    /// Sessions of legacy clients.
    pub sessions: Sessions,
    /// Open streams of clients of HTTP+SSE.
    pub channels: Channels,
    /// Event streams open to clients.
    pub streams: Streams,
    /// Room for answers that are held whole where many share a stream.
    pub held: Room,
    /// Where finished operations go.
    pub recorder: Recorder,
    /// What is counted of the records of the audit trail.
    pub analytics: Arc<Analytics>,
    /// What was last stored of how this process is.
    pub sampler: Sampler,
    /// Where they are kept.
    pub trail: Trail,
    /// The revision of the store that was last taken over whole.
    pub followed: tokio::sync::Mutex<Option<i64>>,
    /// How many sessions there were when somebody last looked.
    pub counted: Counted,
    /// How long connections to the database were waited for.
    pub database_waits: DatabaseWaits,
    /// How the parts are.
    pub health: Health,
    /// Brings the journal of the trail into the database until its requests are over; taken by who ends the process.
    pub drain: std::sync::Mutex<Option<JoinHandle<Drain>>>,
    /// Ends that.
    pub last: CancellationToken,
    /// What takes metrics and spans to a collector of OpenTelemetry.
    pub exporting: Exporting,
    /// Owns everything that runs on its own, so that the end can wait for it.
    pub tasks: TaskTracker,
    /// Cancelled when the process begins to stop.
    pub shutdown: CancellationToken,
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl FromRequestParts<App> for App {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(_: &mut RequestParts, app: &App) -> Result<Self, Self::Rejection> {
        Ok(app.clone())
    }
}

/// How a server is doing, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ServerStatus {
    /// `ready`, `unreachable`, `disabled` or `unknown`.
    pub state: &'static str,
    /// `legacy` or `modern`, once known.
    pub era: Option<&'static str>,
    /// Protocol version, once known.
    pub version: Option<&'static str>,
    /// Why it could last not be asked.
    pub last_error: Option<String>,
    /// What of its offers could not be taken in.
    pub problems: Vec<String>,
    /// When it was last asked.
    #[serde(with = "crate::clock::MaybeMoment")]
    pub checked_at: Option<OffsetDateTime>,
    /// How many tools it offers, once known.
    pub tools: Option<usize>,
    /// How many resources.
    pub resources: Option<usize>,
    /// How many resource templates.
    pub templates: Option<usize>,
    /// How many prompts.
    pub prompts: Option<usize>,
    /// Its replicas.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ReplicaView>,
    /// Where people connect to it, and as which client the gateway is known there, once that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<Look>,
}

/// One replica of a server, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReplicaView {
    /// Where it is.
    pub url: Arc<str>,
    /// Its share of the calls under the `weighted` policy.
    pub weight: u32,
    /// Calls under way.
    pub in_flight: usize,
    /// Calls that wait until fewer are under way.
    pub waiting: usize,
    /// `closed`, `open` or `half_open`.
    pub breaker: &'static str,
    /// Whether it answered when it was last checked; absent before, and where there is no other replica.
    pub healthy: Option<bool>,
    /// What was wrong when it was last checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_detail: Option<String>,
    /// The last failure of a call that counted against it.
    pub last_fault: Option<FaultView>,
}

/// A failure of a call, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FaultView {
    /// What happened, in one word.
    pub kind: &'static str,
    /// In one sentence.
    pub detail: String,
    /// When.
    #[serde(with = "crate::clock::Moment")]
    pub at: OffsetDateTime,
}

impl From<ReplicaStatus> for ReplicaView {
    fn from(status: ReplicaStatus) -> Self {
        let health = status.health.as_ref();
        Self {
            url: status.url,
            weight: status.weight,
            in_flight: status.in_flight,
            waiting: status.waiting,
            breaker: status.breaker.label(),
            healthy: health.map(|health| health.healthy),
            health_detail: health.filter(|health| !health.healthy).map(|health| health.detail.clone()),
            last_fault: status.last_fault.map(|fault| FaultView {
                kind: fault.kind.label(),
                detail: fault.detail,
                at: OffsetDateTime::now_utc() - fault.at.elapsed(),
            }),
        }
    }
}

/// What a server offers: JSON arrays as it sent them.
#[derive(Debug, Clone)]
pub struct Offers {
    /// Its tools.
    pub tools: Bytes,
    /// Its resources.
    pub resources: Bytes,
    /// Its resource templates.
    pub templates: Bytes,
    /// Its prompts.
    pub prompts: Bytes,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The servers of the registry, to read and change.
    pub fn servers(&self) -> Servers<'_> {
        Servers { store: &self.store, vault: &self.vault }
    }

    /// Takes over the tenants and servers as stored, and what an earlier process learned of them.
    pub async fn recall(&self) -> anyhow::Result<()> {
        self.agree().await?;
        let servers = self.servers().load_all().await?;
        let recalled = memory::recall(&self.store, &servers).await?;
        self.take_rules().await?;
        self.registry.follow(servers, &recalled);
        Ok(())
    }

    /// Who a caller is to the limits.
    pub fn who<'a>(&self, caller: &'a Caller) -> Who<'a> {
        let settings = &self.settings.rate_limits;
        let rpm = match caller.role() {
            Role::Admin | Role::TenantAdmin => settings.admin_rpm,
            Role::ServerOwner => settings.server_owner_rpm,
            Role::User => settings.user_rpm,
        };
        Who { tenant: caller.tenant(), user: caller.user_id().uuid().as_u128(), rpm }
    }

    /// Takes over what tenants are granted.
    async fn agree(&self) -> Result<(), StoreError> {
        let terms = limit::Terms::of_all(&self.store).await?;
        self.limits.agree(terms.into_iter().map(|(tenant, _, terms)| (tenant, terms)));
        Ok(())
    }

    /// Takes over what is stored by now of tenants, servers, keys and accounts: before the answer to who changed it, and when another
    /// process did.
    pub async fn changed(&self) -> Result<(), StoreError> {
        // One at a time, or what was read first could be taken over last.
        let mut followed = self.followed.lock().await;
        // Read before the rest: what changes meanwhile is looked at again.
        let revision = self.store.revision().await?;
        if *followed == Some(revision) {
            return Ok(());
        }
        self.agree().await?;
        self.keyring.reload(&self.store).await?;
        self.tokens.reload(&self.store).await?;
        self.follow_rules().await?;
        self.take_rules().await?;
        match self.servers().load_all().await {
            Ok(servers) => {
                let moved = self.registry.follow(servers, &ahash::AHashMap::new());
                if !moved.is_empty() {
                    self.sessions.each(|session, _| moved.iter().for_each(|server| session.lose_all(*server)));
                }
                *followed = Some(revision);
            }
            Err(error) => tracing::error!("the servers could not be read again: {error}"),
        }
        Ok(())
    }

    /// Takes over what other processes change as soon as the database says so, until the process stops. Where it says nothing
    /// (SQLite, a pooler in between), the job that looks from time to time finds it.
    pub async fn hear_changes(&self) {
        let hearing = async {
            loop {
                match self.store.announcements().await {
                    Ok(None) => return std::future::pending().await,
                    Ok(Some(mut announcements)) => loop {
                        // First what was announced before anybody listened.
                        let mut heard = Ok(Heard::ALL);
                        while let Ok(what) = heard {
                            heard = match self.take_over(what).await {
                                Ok(()) => announcements.next().await,
                                Err(error) => Err(error),
                            };
                        }
                        if let Err(error) = heard {
                            tracing::warn!("changes by other processes are not heard of at once: {error}");
                            break;
                        }
                    },
                    Err(error) => tracing::warn!("changes by other processes are not heard of at once: {error}"),
                }
                tokio::time::sleep(LISTEN_AGAIN).await;
            }
        };
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = hearing => {}
        }
    }

    async fn take_over(&self, heard: Heard) -> Result<(), StoreError> {
        if heard.ends {
            self.tokens.forget_ended(&self.store).await?;
        }
        if heard.bans {
            self.guard.follow(&self.store).await?;
        }
        if heard.registry { self.changed().await } else { Ok(()) }
    }

    /// Ends sessions: what is live of them, here at once and everywhere within a second. Says what has ended.
    pub async fn end_sessions(&self, tenant: &TenantId, which: Ids<'_>, end: End) -> Result<Vec<Ended>, Refusal> {
        let ended = self.grants.end(tenant, which, end, now()).await?;
        self.told_of(&ended);
        Ok(ended)
    }

    /// Takes over that these sessions have ended, and counts them.
    pub fn told_of(&self, ended: &[Ended]) {
        self.tokens.end_grants(&ended.iter().map(|ended| ended.id).collect());
        for session in ended {
            self.recorder.session_ended(Event {
                tenant: Some(session.tenant.as_str().into()),
                user: Some(session.user),
                session_type: Some(session.kind.clone().into()),
                credential: Some(session.id),
                reason: Some(session.reason.clone().into()),
                detail: Some(session.detail.clone().into()),
                lasted: Duration::try_from(session.ended_at - session.created_at).unwrap_or_default(),
                ..Event::new("session.end", true)
            });
        }
    }

    /// Asks a server anew what it offers, and waits for the answer.
    pub async fn refresh(&self, server: ServerId) -> Result<(), Fault> {
        match self.registry.refresh(server).await.map(|status| status.state) {
            Some(State::Unreachable(trouble)) => {
                Err(Fault::upstream(fault::Kind::Unreachable, Retry::NotSent, trouble.detail))
            }
            _ => Ok(()),
        }
    }

    /// How a server is doing.
    pub fn status(&self, server: &Server) -> ServerStatus {
        let Some(status) = self.registry.status(server.id).filter(|_| server.spec.enabled) else {
            return ServerStatus { state: "disabled", ..ServerStatus::default() };
        };
        let known = status.checked_at.is_some() || status.counts.iter().any(|count| *count > 0);
        let count = |kind: Kind| known.then(|| status.counts[kind as usize]);
        let (state, last_error) = match status.state {
            State::Unknown => ("unknown", None),
            State::Ready => ("ready", None),
            State::Unreachable(trouble) => ("unreachable", Some(trouble.detail)),
        };
        ServerStatus {
            state,
            era: status.version.map(|version| version.era().label()),
            version: status.version.map(crate::protocol::era::Version::as_str),
            last_error,
            problems: status.problems,
            checked_at: status.checked_at,
            tools: count(Kind::Tools),
            resources: count(Kind::Resources),
            templates: count(Kind::Templates),
            prompts: count(Kind::Prompts),
            replicas: status.replicas.into_iter().map(ReplicaView::from).collect(),
            connect: Site::of(server).and_then(|site| self.connections().last_look(site.id)),
        }
    }

    /// What a server is known to offer.
    pub fn offers(&self, _tenant: &TenantId, server: ServerId) -> Offers {
        let catalog = self.registry.catalog(server).unwrap_or_default();
        let items = |kind| memory::array(catalog.items(kind));
        Offers {
            tools: items(Kind::Tools),
            resources: items(Kind::Resources),
            templates: items(Kind::Templates),
            prompts: items(Kind::Prompts),
        }
    }
}
