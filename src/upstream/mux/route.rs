//! Where a message of the peer goes: the reading half of `mux`. `take` decides under the lock, `deliver` waits outside
//! of it.
//!
//! The rule for what the peer asks of a client: it goes to the one session that can have caused it, and when that is in
//! doubt to nobody. A session is a possible cause while a call of it is under way, and for a while after it cancelled one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::queue::{NoRoom, Queue};
use super::{Asked, Event, Flight, Origin, Shared, State, slow_reader, wire};
use crate::fault::{Fault, Kind, Retry};
use crate::json::{self, Problem};
use crate::upstream::pipe::Closed;

/// Messages without sense in a row before the peer is slowed down, and after how many more each time.
const NONSENSE: u64 = 1024;
const NONSENSE_STEP: u64 = 64;
/// How long it is held each time: a flood costs a fraction of one core, a banner costs nothing.
const NONSENSE_PAUSE: Duration = Duration::from_millis(20);
/// How often nonsense is logged.
const NONSENSE_LOG: Duration = Duration::from_secs(10);

/// Reads `incoming` until it ends or `stop`, then fails what is under way.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut incoming: mpsc::Receiver<Bytes>,
    peer: Closed,
    stop: CancellationToken,
) {
    let mut reader = Reader { shared: &shared, answers: VecDeque::new(), nonsense: Nonsense::default() };
    loop {
        // Our own answers are sent from here without ever waiting for them alone: a peer that writes before it reads would
        // otherwise stop both sides for good.
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            room = shared.outgoing.reserve(), if !reader.answers.is_empty() => match (room, reader.answers.pop_front()) {
                (Ok(room), Some(answer)) => room.send(answer),
                _ => reader.answers.clear(),
            },
            message = incoming.recv(), if reader.answers.len() < shared.limits.requests.max(1) => match message {
                Some(message) => reader.take_text(message).await,
                None => break,
            },
        }
    }
    let fault = peer
        .reason()
        .unwrap_or_else(|| Fault::upstream(Kind::Dropped, Retry::MaybeSent, "the connection to the server was closed"));
    close(&shared, &fault);
}

fn close(shared: &Shared, fault: &Fault) {
    // First closed, then drained: a call that is added in between sees one of the two.
    shared.closed.set(fault.clone());
    let mut state = shared.lock();
    let flights = std::mem::take(&mut state.flights);
    state.asked.clear();
    state.ghosts.clear();
    drop(state);
    for flight in flights.into_values() {
        flight.queue.end(Some(Fault { retry: Retry::MaybeSent, ..fault.clone() }));
    }
}

struct Reader<'a> {
    shared: &'a Arc<Shared>,
    /// What we say to the peer of our own: answers to `ping`, refusals.
    answers: VecDeque<Bytes>,
    nonsense: Nonsense,
}

/// What to do with a message, decided under the lock.
enum Step {
    Deliver { queue: Arc<Queue>, number: u64, event: Event, last: bool },
    Fail { queue: Arc<Queue>, fault: Fault },
    Broadcast,
    Answer(Bytes),
    Drop(&'static str),
    Nonsense(&'static str),
}

impl Reader<'_> {
    async fn take_text(&mut self, message: Bytes) {
        if let Err(problem) = json::check(&message) {
            self.refuse_text(&message, &problem).await;
            return;
        }
        let first = message.iter().find(|byte| !byte.is_ascii_whitespace());
        if first == Some(&b'[') {
            // A batch (2025-03-26); later versions have none, and reading one harms nobody.
            let parts: Vec<Bytes> = json::elements(&message).map(|part| message.slice_ref(part)).collect();
            for part in parts {
                self.take_message(part).await;
            }
        } else {
            self.take_message(message).await;
        }
    }

    async fn take_message(&mut self, message: Bytes) {
        if message.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            self.nonsense.note(self.shared, "not a JSON object").await;
            return;
        }
        let step = decide(self.shared, &message);
        if let Step::Nonsense(what) = step {
            self.nonsense.note(self.shared, what).await;
            return;
        }
        self.nonsense.over();
        match step {
            Step::Deliver { queue, number, event, last } => self.deliver(&queue, number, event, last).await,
            Step::Fail { queue, fault } => queue.end(Some(fault)),
            Step::Broadcast if message.len() > self.shared.limits.broadcast_bytes => {
                warn!(target: "mcp.upstream", bytes = message.len(), "dropped a notification that is too large to pass to everybody");
            }
            // Without a listener nobody misses it.
            Step::Broadcast => drop(self.shared.broadcast.send(message)),
            Step::Answer(answer) => self.answers.push_back(answer),
            Step::Drop(why) => debug!(target: "mcp.upstream", why, "dropped a message of the server"),
            Step::Nonsense(_) => {}
        }
    }

    /// A text that is JSON but not strict still fails the one call it answers, so that nobody waits for nothing.
    async fn refuse_text(&mut self, message: &[u8], problem: &Problem) {
        if matches!(problem, Problem::Duplicate { .. } | Problem::TooDeep { .. }) {
            let parts = wire::parts(message);
            let number = parts.id.filter(|_| parts.method.is_none()).and_then(wire::number);
            let flight = number.and_then(|number| self.shared.lock().flights.remove(&number));
            if let Some(flight) = flight {
                flight.queue.end(Some(garbage(format!("the server's answer was refused: {problem}"))));
            }
        }
        self.nonsense.note(self.shared, "not strict JSON").await;
    }

    /// Puts `event` into `queue`, waiting a little for a slow caller; then somebody's call is given up and the rest go on.
    async fn deliver(&mut self, queue: &Arc<Queue>, number: u64, event: Event, last: bool) {
        let Err(first) = queue.offer(event, last) else { return };
        let mut refused = first;
        let budget = &self.shared.budget;
        let deadline = tokio::time::Instant::now() + self.shared.limits.patience;
        budget.expect(true);
        loop {
            let (NoRoom::Queue(event) | NoRoom::Total(event)) = refused;
            // Offered again after the bell was asked for: room made in between rings no bell.
            match queue.offer(event, last) {
                Ok(()) => break,
                Err(again) => refused = again,
            }
            if tokio::time::timeout_at(deadline, budget.room()).await.is_ok() {
                continue;
            }
            match refused {
                NoRoom::Queue(_) => {
                    self.give_up(queue, number);
                    break;
                }
                // Whoever holds most of what is waiting pays, which may be this call.
                NoRoom::Total(_) => match self.hoarder() {
                    Some((hoarder, other)) if other != number => self.give_up(&hoarder, other),
                    _ => {
                        self.give_up(queue, number);
                        break;
                    }
                },
            }
        }
        budget.expect(false);
    }

    fn give_up(&mut self, queue: &Queue, number: u64) {
        queue.clear(Some(slow_reader()));
        self.answers.extend(self.shared.abandon(number, true, Some("the client reads too slowly")));
    }

    fn hoarder(&self) -> Option<(Arc<Queue>, u64)> {
        let state = self.shared.lock();
        let (number, flight) = state.flights.iter().max_by_key(|(_, flight)| flight.queue.bytes())?;
        Some((Arc::clone(&flight.queue), *number))
    }
}

fn garbage(detail: String) -> Fault {
    Fault::upstream(Kind::Garbage, Retry::MaybeSent, detail)
}

fn decide(shared: &Shared, message: &Bytes) -> Step {
    let parts = wire::parts(message);
    match (parts.method, parts.id) {
        (None, Some(id)) => respond(shared, message, &parts, id),
        (Some(method), id) => {
            let Some(method) = json::text(method) else { return Step::Nonsense("`method` is no string") };
            match id {
                Some(id) if method == "ping" => Step::Answer(wire::empty_result(id)),
                Some(id) => ask(shared, message, id),
                None => notify(shared, message, &method, parts.params),
            }
        }
        (None, None) => Step::Nonsense("neither `id` nor `method`"),
    }
}

fn respond(shared: &Shared, message: &Bytes, parts: &wire::Parts<'_>, id: &[u8]) -> Step {
    let Some(number) = wire::number(id) else { return Step::Nonsense("an answer with an id that was never sent") };
    let mut state = shared.lock();
    let Some(flight) = state.flights.remove(&number) else {
        // The answer to a cancelled call also says that the peer is done with it.
        state.ghosts.retain(|ghost| ghost.number != number);
        return Step::Drop("an answer that nobody waits for");
    };
    drop(state);
    if parts.result.is_some() == parts.error.is_some() {
        let fault = garbage("the server's answer holds neither a result nor an error, or both".into());
        return Step::Fail { queue: flight.queue, fault };
    }
    let event = Event::Response(wire::response(message, parts, &flight.id, flight.listen));
    Step::Deliver { queue: flight.queue, number, event, last: true }
}

fn ask(shared: &Shared, message: &Bytes, id: &[u8]) -> Step {
    let limits = &shared.limits;
    let mut state = shared.lock();
    state.lay_ghosts(limits.doubt);
    let (number, queue) = match state.only_cause(|_| true) {
        Cause::One(number, flight) if flight.origin.answers => (number, Arc::clone(&flight.queue)),
        Cause::One(..) => {
            return Step::Answer(wire::refusal(
                id,
                "the client that caused this request cannot answer requests of a server",
            ));
        }
        Cause::None => {
            return Step::Answer(wire::refusal(id, "no call is under way whose client could answer this request"));
        }
        Cause::Several => {
            return Step::Answer(wire::refusal(
                id,
                "several client sessions share this server process and any of them may have caused this request; \
                 set `sharing: per_session` for this server so that each session has a process of its own",
            ));
        }
    };
    if state.asked.len() >= limits.requests {
        return Step::Answer(wire::refusal(id, "too many requests of the server wait for an answer"));
    }
    let token = loop {
        let token = rand::random::<u64>();
        if !state.asked.contains_key(&token) {
            break token;
        }
    };
    state.asked.insert(token, Asked { id: id.into(), call: number });
    drop(state);
    let message = wire::replace(message, id, wire::client_id(token).as_bytes());
    Step::Deliver { queue, number, event: Event::Request { token, message }, last: false }
}

fn notify(shared: &Shared, message: &Bytes, method: &str, params: Option<&[u8]>) -> Step {
    let mut state = shared.lock();
    let call = |number: u64, flight: &Flight, message: Bytes| Step::Deliver {
        queue: Arc::clone(&flight.queue),
        number,
        event: Event::Notification(message),
        last: false,
    };
    if method == "notifications/progress" {
        let Some(token) = params.and_then(|params| json::get(params, "progressToken")) else {
            return Step::Nonsense("progress without a token");
        };
        let found = wire::number(token).and_then(|number| state.flights.get(&number).map(|flight| (number, flight)));
        return match found {
            Some((number, flight)) => match &flight.progress {
                Some(original) => call(number, flight, wire::replace(message, token, original)),
                None => Step::Drop("progress of a call that asked for none"),
            },
            None => Step::Drop("progress of a call that is over"),
        };
    }
    if method == "notifications/cancelled" {
        return withdraw(&mut state, message, params);
    }
    if let Some(id) = wire::subscription(params) {
        let found = wire::number(id).and_then(|number| state.flights.get(&number).map(|flight| (number, flight)));
        return match found {
            Some((number, flight)) if flight.listen => call(number, flight, wire::replace(message, id, &flight.id)),
            _ => Step::Drop("an event of a subscription that is over"),
        };
    }
    // Changes concern everybody. Whatever else comes while calls of one session run is most likely theirs, and nobody else's;
    // what the gateway itself asks meanwhile is no secret of anybody.
    if !method.ends_with("/list_changed") && method != "notifications/resources/updated" {
        state.lay_ghosts(shared.limits.doubt);
        if let Cause::One(number, flight) = state.only_cause(|session| session != Origin::GATEWAY.session) {
            return call(number, flight, message.clone());
        }
    }
    Step::Broadcast
}

/// The peer withdraws a request of its own, or ends a subscription (2026-07-28, cancellation).
fn withdraw(state: &mut State, message: &Bytes, params: Option<&[u8]>) -> Step {
    let Some(id) = params.and_then(|params| json::get(params, "requestId")) else {
        return Step::Nonsense("a cancellation without `requestId`");
    };
    let token = state.asked.iter().find(|(_, asked)| *asked.id == *id).map(|(token, _)| *token);
    if let Some(asked) = token.and_then(|token| state.asked.remove(&token)) {
        return match (state.flights.get(&asked.call), token) {
            (Some(flight), Some(token)) => Step::Deliver {
                queue: Arc::clone(&flight.queue),
                number: asked.call,
                event: Event::Notification(wire::replace(message, id, wire::client_id(token).as_bytes())),
                last: false,
            },
            _ => Step::Drop("a request was withdrawn whose call is over"),
        };
    }
    let Some(number) = wire::number(id).filter(|number| state.flights.get(number).is_some_and(|flight| flight.listen))
    else {
        return Step::Drop("a cancellation of nothing that is known");
    };
    match state.flights.remove(&number) {
        Some(flight) => Step::Deliver {
            event: Event::Notification(wire::replace(message, id, &flight.id)),
            queue: flight.queue,
            number,
            last: true,
        },
        None => Step::Drop("a subscription that is over"),
    }
}

enum Cause<'a> {
    None,
    /// The most recent call of the only session that can be the cause.
    One(u64, &'a Flight),
    Several,
}

impl State {
    /// The cause among those sessions that count. Subscriptions cause nothing but their own events, which carry their id.
    fn only_cause(&self, counts: impl Fn(u64) -> bool) -> Cause<'_> {
        let mut newest: Option<(u64, &Flight)> = None;
        let causes = |flight: &Flight| !flight.listen && counts(flight.origin.session);
        for (number, flight) in self.flights.iter().filter(|(_, flight)| causes(flight)) {
            match newest {
                Some((_, other)) if other.origin.session != flight.origin.session => return Cause::Several,
                Some((seen, _)) if seen > *number => {}
                _ => newest = Some((*number, flight)),
            }
        }
        let Some((number, flight)) = newest else { return Cause::None };
        if self.ghosts.iter().any(|ghost| counts(ghost.session) && ghost.session != flight.origin.session) {
            return Cause::Several;
        }
        Cause::One(number, flight)
    }
}

/// Counts what makes no sense, logs it once per burst, and slows a flood of it down.
#[derive(Default)]
struct Nonsense {
    in_a_row: u64,
    unsaid: u64,
    said: Option<Instant>,
}

impl Nonsense {
    async fn note(&mut self, shared: &Shared, what: &'static str) {
        shared.garbage.fetch_add(1, Ordering::Relaxed);
        self.in_a_row += 1;
        self.unsaid += 1;
        if self.said.is_none_or(|said| said.elapsed() >= NONSENSE_LOG) {
            // The text itself stays out of the log: it may hold anything.
            warn!(target: "mcp.upstream", what, messages = self.unsaid, "the server sent what is no JSON-RPC message");
            self.unsaid = 0;
            self.said = Some(Instant::now());
        }
        if self.in_a_row >= NONSENSE && self.in_a_row.is_multiple_of(NONSENSE_STEP) {
            tokio::time::sleep(NONSENSE_PAUSE).await;
        }
    }

    fn over(&mut self) {
        self.in_a_row = 0;
    }
}
