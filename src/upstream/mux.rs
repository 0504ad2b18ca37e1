//! Many callers over one pipe. Ids and progress tokens of callers are replaced by numbers of our own on the way out and
//! put back byte for byte on the way in, so that two clients may both have a request `1` under way.
//!
//! What the peer sends goes to the call it belongs to (`route` decides), and never to a session that might not be its
//! cause. Everything is bounded: calls under way, what waits for a slow caller, requests of the peer that wait for an
//! answer. It knows JSON-RPC and the few notifications that carry ids, nothing else of the protocol.

mod queue;
mod route;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::queue::{Budget, Queue};
use super::pipe::{Closed, Pipe};
use crate::fault::{Fault, Kind, Retry};

/// What one mux may hold.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Calls under way, those still waiting to be written included.
    pub in_flight: usize,
    /// Messages that wait for one caller.
    pub queued: usize,
    /// Bytes that wait for one caller; a single larger message still passes.
    pub queued_bytes: usize,
    /// Bytes that wait for all callers together; a single larger message still passes.
    pub total_bytes: usize,
    /// Requests of the peer that wait for a client's answer.
    pub requests: usize,
    /// How long the peer is held back for a caller whose queue is full, before that call is given up.
    pub patience: Duration,
    /// How long a call that was cancelled may still be the cause of what the peer sends.
    pub doubt: Duration,
    /// Notifications kept for a slow reader of [`Mux::broadcasts`].
    pub broadcasts: usize,
    /// Largest notification that is broadcast, in bytes; a larger one is dropped and logged.
    pub broadcast_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: 1024,
            queued: 256,
            queued_bytes: 4 << 20,
            total_bytes: 128 << 20,
            requests: 256,
            patience: Duration::from_millis(250),
            doubt: Duration::from_secs(30),
            broadcasts: 64,
            broadcast_bytes: 256 << 10,
        }
    }
}

/// On whose behalf a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The session; calls of one session are one possible cause. 0 is the gateway itself.
    pub session: u64,
    /// Whether the client of the session can answer requests of a server.
    pub answers: bool,
}

/// What a caller sees of its call, in order; a response is the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A notification of this call: progress, a log message, an event of its subscription.
    Notification(Bytes),
    /// A request of the peer, with the id `"mcpg-<token>"`. Answer with [`Mux::reply`].
    Request {
        /// Names the request; random, so that no other client can guess it.
        token: u64,
        /// The request.
        message: Bytes,
    },
    /// The answer, with the client's own id.
    Response(Bytes),
}

impl Event {
    /// The JSON-RPC message.
    pub fn message(&self) -> &Bytes {
        match self {
            Self::Notification(message) | Self::Response(message) | Self::Request { message, .. } => message,
        }
    }

    /// Bytes it holds, with something for the bookkeeping.
    fn size(&self) -> usize {
        self.message().len() + 64
    }
}

/// Many callers over one pipe. Clones are the same mux; when the last one and the last [`Call`] are dropped, the pipe is.
#[derive(Debug, Clone)]
pub struct Mux(Arc<Owner>);

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    /// Stops the reader, which owns the other end of the pipe.
    _stop: DropGuard,
}

#[derive(Debug)]
struct Shared {
    outgoing: mpsc::Sender<Bytes>,
    broadcast: broadcast::Sender<Bytes>,
    limits: Limits,
    slots: Arc<Semaphore>,
    budget: Arc<Budget>,
    state: Mutex<State>,
    closed: Closed,
    garbage: AtomicU64,
    tasks: TaskTracker,
    runtime: Handle,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the last call.
    last: u64,
    flights: HashMap<u64, Flight, ahash::RandomState>,
    /// Calls that were cancelled and not answered since: the peer may still act for them.
    ghosts: VecDeque<Ghost>,
    asked: HashMap<u64, Asked, ahash::RandomState>,
}

/// A call under way.
#[derive(Debug)]
struct Flight {
    id: Box<[u8]>,
    progress: Option<Box<[u8]>>,
    origin: Origin,
    listen: bool,
    queue: Arc<Queue>,
}

#[derive(Debug)]
struct Ghost {
    number: u64,
    session: u64,
    since: Instant,
}

/// A request of the peer that waits for a client's answer.
#[derive(Debug)]
struct Asked {
    id: Box<[u8]>,
    call: u64,
}

impl Origin {
    /// The gateway itself, which cannot answer a server.
    pub const GATEWAY: Self = Self { session: 0, answers: false };
}

impl Mux {
    /// Takes over `pipe`. The reading task belongs to `tasks`. Must be called inside a runtime.
    pub fn new(pipe: Pipe, limits: Limits, tasks: &TaskTracker) -> Self {
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            outgoing: pipe.outgoing,
            broadcast: broadcast::channel(limits.broadcasts.max(1)).0,
            slots: Arc::new(Semaphore::new(limits.in_flight)),
            budget: Arc::new(Budget::new(limits.queued, limits.queued_bytes, limits.total_bytes)),
            state: Mutex::default(),
            closed: Closed::new(),
            garbage: AtomicU64::new(0),
            tasks: tasks.clone(),
            runtime: Handle::current(),
            limits,
        });
        tasks.spawn(route::run(Arc::clone(&shared), pipe.incoming, pipe.closed, stop.clone()));
        Self(Arc::new(Owner { shared, _stop: stop.drop_guard() }))
    }

    /// Sends a request and returns its events. `message` is a checked JSON-RPC request as the client wrote it.
    ///
    /// Fails with [`Kind::Full`] when too many calls are under way and with the reason of closing when the peer is gone;
    /// in both cases nothing was sent. Waits while the peer does not read.
    pub async fn call(&self, message: Bytes, origin: Origin) -> Result<Call, Fault> {
        let shared = &self.0.shared;
        let slot = Arc::clone(&shared.slots).try_acquire_owned().map_err(|_| {
            let most = shared.limits.in_flight;
            Fault::gateway(Kind::Full, format!("the server already has {most} calls under way; try again later"))
        })?;
        let room = shared.room().await?;
        // From here on nothing waits: the call is known before its first byte can be answered.
        let queue = Arc::new(Queue::new(Arc::clone(&shared.budget)));
        let mut state = shared.lock();
        if let Some(fault) = shared.closed.reason() {
            return Err(not_sent(fault));
        }
        let number = state.last + 1;
        let Some(request) = wire::request(&message, number) else {
            return Err(Fault::gateway(Kind::Garbage, "the message is no JSON-RPC request"));
        };
        state.last = number;
        let flight = Flight {
            id: request.id,
            progress: request.progress,
            origin,
            listen: request.listen,
            queue: Arc::clone(&queue),
        };
        state.flights.insert(number, flight);
        drop(state);
        room.send(request.message);
        let cancellable = request.cancellable;
        Ok(Call { mux: self.clone(), number, queue, cancellable, slot: Some(slot), patience: None })
    }

    /// Sends a notification as it is. Waits while the peer does not read.
    pub async fn notify(&self, message: Bytes) -> Result<(), Fault> {
        self.0.shared.room().await?.send(message);
        Ok(())
    }

    /// Passes a client's answer to the peer's request `token`, with the peer's id. A token is good once; one that is
    /// unknown, answered or withdrawn is the client's fault.
    pub async fn reply(&self, token: u64, message: Bytes) -> Result<(), Fault> {
        let shared = &self.0.shared;
        let parts = wire::parts(&message);
        let Some(id) = parts.id.filter(|_| parts.method.is_none() && (parts.result.is_some() != parts.error.is_some()))
        else {
            return Err(Fault::client(Kind::Garbage, "an answer holds an id and either a result or an error"));
        };
        let room = shared.room().await?;
        let Some(asked) = shared.lock().asked.remove(&token) else {
            return Err(Fault::client(
                Kind::Garbage,
                "no request of the server waits for this answer; it was answered, withdrawn or never made",
            ));
        };
        room.send(wire::replace(&message, id, &asked.id));
        Ok(())
    }

    /// Notifications that belong to no call: changes of lists, updated resources, log messages of unclear origin. A reader
    /// that is too slow misses the oldest.
    pub fn broadcasts(&self) -> broadcast::Receiver<Bytes> {
        self.0.shared.broadcast.subscribe()
    }

    /// Waits until the peer is gone, and says why.
    pub async fn closed(&self) -> Fault {
        self.0.shared.closed.wait().await
    }

    /// Whether the peer is gone.
    pub fn is_closed(&self) -> bool {
        self.0.shared.closed.is_set()
    }

    /// Calls under way, those waiting to be written and those whose answer is not yet taken included.
    pub fn in_flight(&self) -> usize {
        self.0.shared.limits.in_flight.saturating_sub(self.0.shared.slots.available_permits())
    }

    /// Whether the peer owes an answer to anybody, calls at rest included; subscriptions are never answered.
    pub fn is_asked(&self) -> bool {
        self.0.shared.lock().flights.values().any(|flight| !flight.listen)
    }

    /// Messages of the peer that were no JSON-RPC, since the start.
    pub fn garbage(&self) -> u64 {
        self.0.shared.garbage.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for one message to the peer.
    async fn room(&self) -> Result<mpsc::Permit<'_, Bytes>, Fault> {
        tokio::select! {
            biased;
            fault = self.closed.wait() => Err(not_sent(fault)),
            room = self.outgoing.reserve() => match room {
                Ok(room) => Ok(room),
                Err(_) => Err(Fault::upstream(Kind::Dropped, Retry::NotSent, "the server reads no more messages")),
            },
        }
    }

    /// Whether the peer waits for an answer to a request that it made within call `number`.
    fn awaits_answer(&self, number: u64) -> bool {
        self.lock().asked.values().any(|asked| asked.call == number)
    }

    /// Forgets call `number` and returns what the peer must be told: that it is cancelled, and that its own requests
    /// within that call get no answer. Empty when it was answered before.
    fn abandon(&self, number: u64, cancellable: bool, reason: Option<&str>) -> Vec<Bytes> {
        let mut messages = Vec::new();
        let mut state = self.lock();
        let Some(flight) = state.flights.remove(&number) else { return messages };
        state.asked.retain(|_, asked| {
            let keep = asked.call != number;
            if !keep {
                messages.push(wire::refusal(&asked.id, "the client went away before it answered"));
            }
            keep
        });
        if !flight.listen {
            state.haunt(number, flight.origin.session, &self.limits);
        }
        if cancellable && !self.closed.is_set() {
            messages.push(wire::cancelled(number, reason));
        }
        messages
    }

    /// Sends `messages`, now or in a task that is bounded by the slot of the call it speaks for.
    fn send_soon(
        self: &Arc<Self>,
        messages: Vec<Bytes>,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Option<tokio::task::JoinHandle<()>> {
        let mut messages = messages.into_iter();
        let blocked = loop {
            match self.outgoing.try_send(messages.next()?) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Closed(_)) => return None,
                Err(mpsc::error::TrySendError::Full(message)) => break message,
            }
        };
        let shared = Arc::clone(self);
        let send = async move {
            for message in std::iter::once(blocked).chain(messages) {
                let Ok(room) = shared.room().await else { break };
                room.send(message);
            }
            drop(slot);
        };
        Some(self.tasks.spawn_on(send, &self.runtime))
    }
}

impl State {
    fn haunt(&mut self, number: u64, session: u64, limits: &Limits) {
        self.lay_ghosts(limits.doubt);
        // A bound, not a policy: past it the oldest doubt is forgotten.
        if self.ghosts.len() >= limits.in_flight.max(16) {
            self.ghosts.pop_front();
        }
        self.ghosts.push_back(Ghost { number, session, since: Instant::now() });
    }

    fn lay_ghosts(&mut self, doubt: Duration) {
        while self.ghosts.front().is_some_and(|ghost| ghost.since.elapsed() >= doubt) {
            self.ghosts.pop_front();
        }
    }
}

fn not_sent(fault: Fault) -> Fault {
    Fault { retry: Retry::NotSent, ..fault }
}

/// Too slow a reader: ours to bound, and the call may have had its effect.
fn slow_reader() -> Fault {
    let text = "the caller read too slowly and more of the answer was waiting than the gateway keeps";
    Fault { retry: Retry::MaybeSent, ..Fault::gateway(Kind::Full, text) }
}

/// One call under way: a stream of its events. Dropping it before its response tells the peer that it is cancelled.
#[derive(Debug)]
pub struct Call {
    mux: Mux,
    number: u64,
    queue: Arc<Queue>,
    cancellable: bool,
    /// Given back when the call is over, which includes telling the peer of a cancellation.
    slot: Option<OwnedSemaphorePermit>,
    /// How long the peer may say nothing, and the timer of that.
    patience: Option<(Duration, Pin<Box<Sleep>>)>,
}

impl Call {
    /// The next event. `None` after the response or a fault, and when the peer ended a subscription.
    pub async fn next(&mut self) -> Option<Result<Event, Fault>> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// From now on the call is given up when the peer says nothing of it for so long. The time in which the peer itself waits
    /// for the client does not count.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Some((patience, Box::pin(sleep(patience))));
        self
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Event, Fault>>> {
        let polled = self.queue.poll(context);
        let Some((patience, timer)) = &mut self.patience else { return polled };
        if let Poll::Ready(event) = polled {
            timer.as_mut().reset(tokio::time::Instant::now() + *patience);
            return Poll::Ready(event);
        }
        loop {
            ready!(timer.as_mut().poll(context));
            if !self.mux.0.shared.awaits_answer(self.number) {
                break;
            }
            timer.as_mut().reset(tokio::time::Instant::now() + *patience);
        }
        let text = format!("the server said nothing for {} ms", patience.as_millis());
        self.patience = None;
        self.give_up(Some("it took too long"));
        Poll::Ready(Some(Err(Fault::upstream(Kind::Timeout, Retry::MaybeSent, text))))
    }

    /// From now on it does not count among the calls under way: for a subscription that lasts as long as the peer.
    pub fn wait_at_rest(&mut self) {
        self.slot = None;
    }

    /// Cancels the call and waits until the peer's side has taken the message that says so; it is sent even when nobody
    /// waits. Does nothing after the response.
    pub async fn cancel(mut self, reason: Option<&str>) {
        if let Some(sent) = self.give_up(reason) {
            // It fails only when the runtime stops.
            let _ = sent.await;
        }
    }

    fn give_up(&mut self, reason: Option<&str>) -> Option<tokio::task::JoinHandle<()>> {
        self.queue.clear(None);
        let shared = &self.mux.0.shared;
        let messages = shared.abandon(self.number, self.cancellable, reason);
        shared.send_soon(messages, self.slot.take())
    }
}

impl Stream for Call {
    type Item = Result<Event, Fault>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(context)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.give_up(None);
    }
}
