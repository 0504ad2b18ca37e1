//! The registry at run time: every enabled server with its transport and what it offers, and the snapshot made of them.
//! It follows the stored servers (`follow`), and for each server a keeper asks again when the server says that something
//! changed, when what is known is too old, or when somebody wants it asked now.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ahash::{AHashMap, AHashSet};
use arc_swap::ArcSwap;
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::access::Caller;
use crate::balance::{ReplicaStatus, Replicas};
use crate::fault::{Fault, Kind as FaultKind, Retry};
use crate::id::{ServerId, Slug, TenantId};
use crate::registry::catalog::{Catalog, Kind};
use crate::registry::keeper;
use crate::registry::model::{Server, ServerSpec};
use crate::registry::snapshot::{AllRules, Entry, Snapshot, State};
use crate::upstream::peer::Peer;
use crate::upstream::way::reach_alike;
use crate::upstream::{Ground, Upstream};

/// See the module.
pub struct Registry {
    /// What servers stand on.
    pub ground: Arc<Ground>,
    snapshot: ArcSwap<Snapshot>,
    live: Mutex<AHashMap<ServerId, Live>>,
    /// The names of the servers that tenants have, also of those that are disabled; not those of the gateway's own tenant.
    taken: ArcSwap<AHashSet<(TenantId, Slug)>>,
    rules: Mutex<AllRules>,
    /// Held from looking at what is live to putting the snapshot in its place: an older look never replaces a newer one.
    publishing: Mutex<()>,
    revision: watch::Sender<u64>,
    /// Age at which a catalogue is asked for again.
    pub ttl: Duration,
    /// Cancelled when nothing is waited for any more.
    stopping: CancellationToken,
}

struct Live {
    entry: Entry,
    keeper: Arc<Keeper>,
    checked_at: Option<OffsetDateTime>,
    checked: watch::Sender<u64>,
    since: Instant,
}

/// A server that has not answered so long after it was set up is in trouble.
const LATE: Duration = Duration::from_secs(5);

impl Live {
    /// What is wrong with it that asking has not shown, or not yet.
    fn trouble(&self) -> Option<Fault> {
        let failing = self.entry.upstream.balance().and_then(Replicas::trouble);
        let late = || {
            let text = format!("it has not answered for more than {} s since it was set up", LATE.as_secs());
            (self.entry.state == State::Unknown && self.since.elapsed() > LATE)
                .then(|| Fault::upstream(FaultKind::Timeout, Retry::NotSent, text))
        };
        failing.or_else(late)
    }
}

impl Live {
    /// Goes on under another description.
    fn redescribe(&mut self, server: Server) {
        if self.entry.slug() != server.spec.slug.as_str() {
            // Its names at the common endpoint are others now.
            self.entry.marks.iter_mut().for_each(|mark| *mark += 1);
        }
        self.entry.rates = server.rates().map(Arc::new);
        self.entry.upstream = Arc::new(self.entry.upstream.redescribed(Arc::new(server)));
    }
}

/// The handle of a keeper.
#[derive(Default)]
pub struct Keeper {
    /// Wakes it.
    pub wake: Notify,
    /// Ends it.
    pub stop: CancellationToken,
    /// How often it began to ask.
    pub begun: AtomicU64,
}

/// What an earlier process knew of a server.
#[derive(Debug, Default)]
pub struct Recalled {
    /// What it offered.
    pub catalog: Catalog,
    /// What it spoke.
    pub peer: Option<Peer>,
}

/// How a server is doing, for people.
#[derive(Debug, Clone)]
pub struct Status {
    /// In one word.
    pub state: State,
    /// Era and version, once known.
    pub version: Option<crate::protocol::era::Version>,
    /// How many items of each kind.
    pub counts: [usize; 4],
    /// What could not be taken in.
    pub problems: Vec<String>,
    /// When it was last asked.
    pub checked_at: Option<OffsetDateTime>,
    /// Its replicas; none of a child process.
    pub replicas: Vec<ReplicaStatus>,
}

impl Registry {
    /// An empty one.
    pub fn new(ground: Arc<Ground>, ttl: Duration) -> Arc<Self> {
        let (snapshot, live, taken, rules, publishing, stopping) = Default::default();
        let revision = watch::Sender::new(0);
        Arc::new(Self { ground, snapshot, live, taken, rules, publishing, revision, ttl, stopping })
    }

    fn lock(&self) -> MutexGuard<'_, AHashMap<ServerId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What requests read.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Tells of every new snapshot.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Takes over the servers as stored: new ones are set up, those that are gone or disabled closed once their calls have
    /// finished. One that is described otherwise goes on as it is; one that is reached otherwise is set up anew, and calls
    /// under way finish where they began. Returns those whose replicas are others than before: sessions with them are of no
    /// use any more. `remembered` is what an earlier process knew of a server.
    pub fn follow(self: &Arc<Self>, servers: Vec<Server>, remembered: &AHashMap<ServerId, Recalled>) -> Vec<ServerId> {
        let (mut retired, mut moved) = (Vec::new(), Vec::new());
        let of_tenants = servers.iter().filter(|server| !server.tenant.is_default());
        let taken = of_tenants.map(|server| (server.tenant.clone(), server.spec.slug.clone())).collect();
        self.taken.store(Arc::new(taken));
        {
            let mut live = self.lock();
            let mut kept = AHashMap::with_capacity(servers.len());
            for server in servers.into_iter().filter(|server| server.spec.enabled) {
                let id = server.id;
                let before = live.remove(&id);
                match before {
                    Some(same) if same.entry.upstream.server.revision == server.revision => {
                        kept.insert(id, same);
                    }
                    Some(mut same) if reach_alike(&same.entry.upstream.server.spec, &server.spec) => {
                        same.redescribe(server);
                        kept.insert(id, same);
                    }
                    before => {
                        let spec = &server.spec;
                        let elsewhere =
                            |old: &ServerSpec| (old.transport, &old.replicas) != (spec.transport, &spec.replicas);
                        if before.as_ref().is_some_and(|old| elsewhere(&old.entry.upstream.server.spec)) {
                            moved.push(id);
                        }
                        if let Some(set_up) = self.set_up(server, before.as_ref(), remembered) {
                            kept.insert(id, set_up);
                        }
                        retired.extend(before);
                    }
                }
            }
            retired.extend(std::mem::replace(&mut *live, kept).into_values());
        }
        self.publish();
        for Live { entry, keeper, .. } in retired {
            keeper.stop.cancel();
            // The entry itself would keep the way open.
            let upstream = entry.upstream.clone();
            drop(entry);
            let hurry = self.stopping.clone();
            self.ground.tasks.spawn(async move { upstream.retire(hurry).await });
        }
        moved
    }

    fn set_up(
        self: &Arc<Self>,
        server: Server,
        before: Option<&Live>,
        remembered: &AHashMap<ServerId, Recalled>,
    ) -> Option<Live> {
        let id = server.id;
        let slug = server.spec.slug.clone();
        let upstream = match Upstream::new(Arc::new(server), &self.ground, before.map(|live| &*live.entry.upstream)) {
            Ok(upstream) => Arc::new(upstream),
            Err(fault) => {
                tracing::error!(server = %slug, "the server cannot be set up: {fault}");
                return None;
            }
        };
        let known = before.map(|live| live.entry.catalog.clone());
        let recalled = remembered.get(&id).filter(|_| before.is_none());
        if let Some(peer) = recalled.and_then(|recalled| recalled.peer.clone()) {
            upstream.remember(peer);
        }
        let catalog = known.or_else(|| Some(Arc::new(recalled?.catalog.clone()))).unwrap_or_default();
        let marks = before.map_or([0; 4], |live| live.entry.marks);
        let entry = Entry::new(upstream.clone(), catalog, marks);
        let keeper = Arc::new(Keeper::default());
        self.ground.tasks.spawn(keeper::keep(self.clone(), upstream, keeper.clone()));
        Some(Live { entry, keeper, checked_at: None, checked: watch::Sender::new(0), since: Instant::now() })
    }

    /// The server as it is described and reached now; `None` if there is no such server, or it is disabled.
    pub fn upstream(&self, id: ServerId) -> Option<Arc<Upstream>> {
        self.lock().get(&id).map(|live| live.entry.upstream.clone())
    }

    /// Waits until the caller may not see the server any more: it is gone or disabled, or is not for them now.
    pub fn unseen(self: &Arc<Self>, caller: &Caller, id: ServerId) -> impl Future<Output = ()> + Send + 'static {
        let (registry, caller, mut changes) = (self.clone(), caller.clone(), self.changes());
        async move {
            let sees = || {
                let snapshot = registry.snapshot();
                snapshot.tenant(caller.tenant()).is_some_and(|tenant| tenant.entry_by_id(&caller, id).is_some())
            };
            while sees() && changes.changed().await.is_ok() {}
        }
    }

    /// The access rules of all tenants, as they were taken over last.
    pub fn rules(&self) -> AllRules {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over access rules: they are in force when the servers have been, too ([`Self::follow`]).
    pub fn take_rules(&self, rules: AllRules) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// One at a time: a snapshot that was begun earlier never takes the place of one that knows more.
    fn publish(&self) {
        let _turn = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = self.lock().values().map(|live| live.entry.clone()).collect();
        let rules = self.rules();
        self.snapshot.store(Arc::new(Snapshot::new(entries, &self.taken.load(), rules)));
        self.revision.send_modify(|revision| *revision += 1);
    }

    /// Takes in what a keeper heard. `said` are the kinds that the server itself said had changed.
    pub fn heard(&self, upstream: &Arc<Upstream>, result: Result<Catalog, Fault>, said: &[Kind]) {
        {
            let mut live = self.lock();
            let Some(live) = live.get_mut(&upstream.server.id) else { return };
            if !live.entry.upstream.shares_way(upstream) {
                return;
            }
            live.checked_at = Some(OffsetDateTime::now_utc());
            match result {
                Ok(catalog) => {
                    for kind in Kind::ALL {
                        if said.contains(&kind) || catalog.items(kind) != live.entry.catalog.items(kind) {
                            live.entry.marks[kind as usize] += 1;
                        }
                    }
                    live.entry.catalog = Arc::new(catalog);
                    live.entry.state = State::Ready;
                }
                Err(fault) => live.entry.state = State::Unreachable(fault),
            }
            live.entry.trouble = live.trouble();
            live.checked.send_modify(|count| *count += 1);
        }
        self.publish();
    }

    /// Asks a server now and waits until it has been asked; `None` if there is no such server, or it is disabled. What began
    /// earlier does not count: it may not have seen what is to be found out.
    pub async fn refresh(&self, id: ServerId) -> Option<Status> {
        let (mut checked, begun) = {
            let live = self.lock();
            let live = live.get(&id)?;
            let begun = live.keeper.begun.load(Ordering::SeqCst);
            live.keeper.wake.notify_one();
            (live.checked.subscribe(), begun)
        };
        let _ = checked.wait_for(|checked| *checked > begun).await;
        self.status(id)
    }

    /// Waits until a server has been asked once since it was set up; `None` as for [`Self::refresh`].
    pub async fn first_look(&self, id: ServerId) -> Option<Status> {
        let mut checked = self.lock().get(&id)?.checked.subscribe();
        let _ = checked.wait_for(|checked| *checked > 0).await;
        self.status(id)
    }

    /// How a server is doing; `None` if there is no such server, or it is disabled.
    pub fn status(&self, id: ServerId) -> Option<Status> {
        let live = self.lock();
        let live = live.get(&id)?;
        Some(Status {
            state: match live.entry.standing().1 {
                Some(trouble) => State::Unreachable(trouble.clone()),
                None => live.entry.state.clone(),
            },
            version: live.entry.upstream.known().and_then(|peer| peer.version()),
            counts: Kind::ALL.map(|kind| live.entry.catalog.items(kind).len()),
            problems: live.entry.catalog.problems.clone(),
            checked_at: live.checked_at,
            replicas: live.entry.upstream.replicas(),
        })
    }

    /// Looks at what calls and time have shown since servers were last asked. Returns whether all of them are well.
    pub fn look(&self) -> bool {
        let (mut well, mut changed) = (true, false);
        for live in self.lock().values_mut() {
            let trouble = live.trouble();
            let forgiven = |balance: &Replicas| balance.trouble().is_some() && balance.may_probe(Instant::now());
            if live.entry.state == State::Ready && live.entry.upstream.balance().is_some_and(forgiven) {
                // Nobody calls what is said to be dead: asking is how it is found to be back.
                live.keeper.wake.notify_one();
            }
            changed |= trouble != live.entry.trouble;
            live.entry.trouble = trouble;
            well &= live.entry.standing().1.is_none();
        }
        if changed {
            self.publish();
        }
        well
    }

    /// What a server offers, as last heard.
    pub fn catalog(&self, id: ServerId) -> Option<Arc<Catalog>> {
        self.lock().get(&id).map(|live| live.entry.catalog.clone())
    }

    /// Ends everything that it holds with servers.
    pub async fn close(&self) {
        self.stopping.cancel();
        let all: Vec<Live> = std::mem::take(&mut *self.lock()).into_values().collect();
        for live in &all {
            live.keeper.stop.cancel();
            live.entry.upstream.forget_wishes();
        }
        self.ground.children.shutdown().await;
        let began = Instant::now();
        for live in all {
            // Servers that do not answer a goodbye must not hold up the end.
            if began.elapsed() < Duration::from_secs(2) {
                let _ = tokio::time::timeout(Duration::from_secs(1), live.entry.upstream.close()).await;
            }
        }
    }
}
