//! Sessions of legacy clients (2025-11-25, basic/transports, "Session Management"). A session belongs to a principal, not to
//! a token: whoever shows it must be the one who opened it. It holds what the protocol makes stateful: what the client can do,
//! the sessions opened for it with servers, requests under way, and requests of servers that wait for the client.
//! All of them together are [`Sessions`].

mod sessions;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use ahash::AHashMap;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::sync::{OnceCell, mpsc};

use crate::access::{SessionType, UserId};
use crate::fault::{Fault, Kind};
use crate::id::{Principal, ServerId, TenantId};
use crate::protocol::era::Version;
use crate::upstream::Upstream;
use crate::upstream::mux::Mux;
use crate::upstream::session::HttpSession;
pub use sessions::{Opening, Sessions};

/// Most requests of one session under way.
const MOST_IN_FLIGHT: usize = 256;
/// Most requests of servers that wait for one client.
const MOST_ASKED: usize = 64;
/// Most things that are being told to servers on behalf of one client, while nobody waits.
const MOST_ERRANDS: u64 = 64;
/// Most resources that one session watches.
const MOST_WATCHED: usize = 1_000;

/// Most servers to which a client is being asked to bring its user.
const MOST_ELICITED: usize = 32;

/// What a session reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Everything the caller sees, names prefixed.
    All,
    /// One server, names untouched.
    One(ServerId),
}

/// One session.
pub struct Session {
    /// Its id, as in `Mcp-Session-Id`.
    pub id: Box<str>,
    /// A number for it, unique in this process.
    pub number: u64,
    /// Who opened it.
    pub principal: Principal,
    /// In which tenant.
    pub tenant: TenantId,
    /// For which account.
    pub account: UserId,
    /// What it reaches.
    pub reach: Reach,
    /// What was agreed with the client.
    pub version: Version,
    /// The parameters of the client's `initialize`, as written.
    pub init: Bytes,
    /// Whether the client can answer requests of servers (sampling, elicitation, roots).
    pub answers: bool,
    /// With what kind of credential it was opened.
    pub credential: SessionType,
    seen: AtomicU64,
    /// Streams that last and belong to it.
    holds: AtomicU64,
    /// What servers are being told on its behalf.
    errands: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    links: Vec<(ServerId, Arc<OnceCell<Arc<HttpSession>>>)>,
    in_flight: AHashMap<Bytes, Arc<Cancel>>,
    asked: AHashMap<Bytes, Asked>,
    watched: HashSet<Box<str>>,
    level: Option<Bytes>,
    outbox: Option<(u64, mpsc::Sender<Bytes>)>,
    /// To which servers the client was asked to bring its user, each with the id of that.
    elicited: Vec<(ServerId, Box<str>)>,
}

/// A request of a server that waits for the client's answer.
#[derive(Clone)]
pub struct Asked {
    /// Whose request it is.
    pub upstream: Arc<Upstream>,
    /// How the answer gets there.
    pub way: Way,
    /// The server's own id.
    pub id: Bytes,
    /// The client's request under way that caused it, by its id; none for what came on a stream of its own.
    pub cause: Option<Bytes>,
    /// The task that the server says it belongs to, by the server's own id as written.
    pub task: Option<Bytes>,
}

/// How an answer gets back to a server.
#[derive(Clone)]
pub enum Way {
    /// `POSTed` in this session.
    Http(Arc<HttpSession>),
    /// Through this channel, under this token.
    Mux(Mux, u64),
}

/// Tells a request under way that the client wants it no more.
#[derive(Default)]
pub struct Cancel {
    set: AtomicBool,
    waker: AtomicWaker,
    /// Where the notification goes too: the session with the server, and the request's id there.
    forward: Mutex<Option<(Arc<Upstream>, Arc<HttpSession>)>>,
}

impl Cancel {
    /// Cancels, and says whether nobody had before. From now on the end of the request is the client's wish, whatever the server does.
    pub fn cancel(&self) -> bool {
        let first = !self.set.swap(true, Relaxed);
        self.waker.wake();
        first
    }

    /// Ready once cancelled.
    pub fn poll(&self, context: &std::task::Context<'_>) -> Poll<()> {
        if self.set.load(Relaxed) {
            return Poll::Ready(());
        }
        self.waker.register(context.waker());
        if self.set.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits until cancelled.
    pub async fn wait(&self) {
        std::future::poll_fn(|context| self.poll(context)).await;
    }

    /// Whether it is cancelled.
    pub fn is_set(&self) -> bool {
        self.set.load(Relaxed)
    }

    /// From now on the notification itself is passed on to this session of a server.
    pub fn forward_to(&self, upstream: &Arc<Upstream>, session: &Arc<HttpSession>) {
        *self.forward.lock().unwrap_or_else(PoisonError::into_inner) = Some((upstream.clone(), session.clone()));
    }

    /// Where the notification itself goes, once.
    pub fn forward(&self) -> Option<(Arc<Upstream>, Arc<HttpSession>)> {
        self.forward.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A request under way; dropping it takes it off the session's list.
pub struct InFlight {
    session: Arc<Session>,
    id: Bytes,
    /// Tells that the client wants it no more.
    pub cancel: Arc<Cancel>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.session.lock();
        state.in_flight.remove(&self.id);
        // Whoever asked in its course needs no answer any more.
        state.asked.retain(|_, asked| asked.cause.as_ref() != Some(&self.id));
    }
}

impl InFlight {
    /// The client's id of the request.
    pub fn id(&self) -> &Bytes {
        &self.id
    }
}

/// Keeps a session from being ended as unused while a stream of its own is open.
pub struct Hold(Arc<Session>);

impl Hold {
    /// Keeps this one.
    pub fn new(session: &Arc<Session>) -> Self {
        session.holds.fetch_add(1, Relaxed);
        Self(session.clone())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.holds.fetch_sub(1, Relaxed);
    }
}

/// A place among the errands of a session; dropping it frees the place.
pub struct Errand(Arc<Session>);

impl Drop for Errand {
    fn drop(&mut self) {
        self.0.errands.fetch_sub(1, Relaxed);
    }
}

impl Session {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of asking the client to bring its user to the page of a server; the same as long as the user has not come through.
    pub fn elicit(&self, server: ServerId) -> Box<str> {
        let mut state = self.lock();
        if let Some((_, id)) = state.elicited.iter().find(|(known, _)| *known == server) {
            return id.clone();
        }
        if state.elicited.len() >= MOST_ELICITED {
            state.elicited.remove(0);
        }
        let id: Box<str> = uuid::Uuid::from_bytes(crate::crypto::random_bytes()).to_string().into();
        state.elicited.push((server, id.clone()));
        id
    }

    /// The user came through to a server: the id of asking for that, if the client was asked.
    pub fn came_through(&self, server: ServerId) -> Option<Box<str>> {
        let mut state = self.lock();
        let at = state.elicited.iter().position(|(known, _)| *known == server)?;
        Some(state.elicited.swap_remove(at).1)
    }

    /// Puts a request of the client on the list.
    pub fn begin(self: &Arc<Self>, id: Bytes) -> Result<InFlight, Fault> {
        let cancel = Arc::new(Cancel::default());
        let mut state = self.lock();
        if state.in_flight.len() >= MOST_IN_FLIGHT {
            let text = format!("this session already has {MOST_IN_FLIGHT} requests under way");
            return Err(Fault::gateway(Kind::Full, text));
        }
        // A client that uses an id twice at a time loses only its own means to cancel the first.
        state.in_flight.insert(id.clone(), cancel.clone());
        Ok(InFlight { session: self.clone(), id, cancel })
    }

    /// The request of the client with this id, while it is under way.
    pub fn find(&self, id: &[u8]) -> Option<Arc<Cancel>> {
        self.lock().in_flight.get(id).cloned()
    }

    /// The place for the session with a server, opened or not.
    pub fn link(&self, server: ServerId) -> Arc<OnceCell<Arc<HttpSession>>> {
        let mut state = self.lock();
        if let Some((_, cell)) = state.links.iter().find(|(id, _)| *id == server) {
            return cell.clone();
        }
        let cell = Arc::new(OnceCell::new());
        state.links.push((server, cell.clone()));
        cell
    }

    /// Forgets a session with a server, which the server forgot, unless another has taken its place.
    pub fn lose(&self, server: ServerId, lost: &Arc<HttpSession>) {
        self.lock().links.retain(|(id, cell)| *id != server || !cell.get().is_some_and(|held| Arc::ptr_eq(held, lost)));
    }

    /// Forgets the session with a server that has no sessions any more, or other ones.
    pub fn lose_all(&self, server: ServerId) {
        self.lock().links.retain(|(id, _)| *id != server);
    }

    /// The sessions opened with servers.
    pub fn links(&self) -> Vec<(ServerId, Arc<HttpSession>)> {
        let state = self.lock();
        state.links.iter().filter_map(|(id, cell)| Some((*id, cell.get()?.clone()))).collect()
    }

    /// Notes a request of a server that the client will see under `id`.
    pub fn ask(&self, id: Bytes, asked: Asked) -> Result<(), Fault> {
        let mut state = self.lock();
        if state.asked.len() >= MOST_ASKED {
            return Err(Fault::gateway(Kind::Full, format!("{MOST_ASKED} requests already wait for this client")));
        }
        state.asked.insert(id, asked);
        Ok(())
    }

    /// The request of a server that the client answers under `id`; it can be answered once.
    pub fn answer(&self, id: &[u8]) -> Option<Asked> {
        self.lock().asked.remove(id)
    }

    /// A server takes back what it asked over this link under an id of its own; the id under which the client sees it.
    pub fn take_back(&self, link: &Arc<HttpSession>, theirs: &[u8]) -> Option<Bytes> {
        let mut state = self.lock();
        let over = |way: &Way| matches!(way, Way::Http(way) if Arc::ptr_eq(way, link));
        let mut asked = state.asked.iter();
        let ours = asked.find(|(_, asked)| *asked.id == *theirs && over(&asked.way)).map(|(ours, _)| ours.clone())?;
        state.asked.remove(&ours);
        Some(ours)
    }

    /// A place for something that a server is to be told while nobody waits; `None` when too much of that is under way.
    pub fn errand(self: &Arc<Self>) -> Option<Errand> {
        let more = |count| (count < MOST_ERRANDS).then_some(count + 1);
        self.errands.fetch_update(Relaxed, Relaxed, more).ok().map(|_| Errand(self.clone()))
    }

    /// Begins or ends watching a resource. `false` if the session watches too many.
    pub fn watch(&self, uri: &str, on: bool) -> bool {
        let mut state = self.lock();
        if !on {
            state.watched.remove(uri);
            return true;
        }
        state.watched.len() < MOST_WATCHED && {
            state.watched.insert(uri.into());
            true
        }
    }

    /// Whether the session watches a resource, or one that it is a part of.
    pub fn watches(&self, uri: &str) -> bool {
        let state = self.lock();
        state.watched.contains(uri) || state.watched.iter().any(|watched| is_part_of(uri, watched))
    }

    /// The resources that the session watches.
    pub fn watched(&self) -> Vec<String> {
        self.lock().watched.iter().map(std::string::ToString::to_string).collect()
    }

    /// The parameters of the client's last `logging/setLevel`.
    pub fn level(&self) -> Option<Bytes> {
        self.lock().level.clone()
    }

    /// Keeps the parameters of a `logging/setLevel`.
    pub fn set_level(&self, params: &[u8]) {
        self.lock().level = Some(Bytes::copy_from_slice(params));
    }

    /// Opens the stream for what belongs to no request. One before it ends: messages must go to one stream only.
    pub fn open_outbox(&self, stream: u64, capacity: usize) -> mpsc::Receiver<Bytes> {
        let (sender, receiver) = mpsc::channel(capacity);
        self.lock().outbox = Some((stream, sender));
        receiver
    }

    /// Where messages go that belong to no request, while the client listens.
    pub fn outbox(&self) -> Option<mpsc::Sender<Bytes>> {
        self.lock().outbox.as_ref().map(|(_, sender)| sender.clone())
    }

    /// Closes the stream, unless a later one has taken its place.
    pub fn close_outbox(&self, stream: u64) {
        let mut state = self.lock();
        if state.outbox.as_ref().is_some_and(|(open, _)| *open == stream) {
            state.outbox = None;
        }
    }

    /// Closes the stream, whichever it is.
    pub fn close_all_outboxes(&self) {
        self.lock().outbox = None;
    }

    fn touch(&self, now: u64) {
        self.seen.store(now, Relaxed);
    }
}

/// Whether a resource is another or a part of it: a server may tell of "a sub-resource of the one that the client actually
/// subscribed to" (2025-11-25, schema, `ResourceUpdatedNotificationParams`).
pub fn is_part_of(uri: &str, whole: &str) -> bool {
    let Some(rest) = uri.strip_prefix(whole) else { return false };
    rest.is_empty() || whole.ends_with('/') || rest.starts_with(['/', '?', '#'])
}

#[cfg(test)]
mod tests {
    use super::{Cancel, is_part_of};

    #[test]
    fn a_request_is_taken_back_once() {
        let cancel = Cancel::default();
        assert!(cancel.cancel() && cancel.is_set());
        assert!(!cancel.cancel() && cancel.is_set(), "as often as the client says so");
    }

    #[test]
    fn a_part_of_a_resource_begins_where_a_name_ends() {
        for (uri, whole, expected) in [
            ("file:///a", "file:///a", true),
            ("file:///a/b", "file:///a", true),
            ("file:///a/b", "file:///a/", true),
            ("file:///a?page=2", "file:///a", true),
            ("file:///a#top", "file:///a", true),
            ("file:///ab", "file:///a", false),
            ("file:///a", "file:///a/b", false),
            ("file:///a", "file:///a/", false),
            ("file:///b/file:///a", "file:///a", false),
        ] {
            assert_eq!(is_part_of(uri, whole), expected, "{uri} of {whole}");
        }
    }
}
