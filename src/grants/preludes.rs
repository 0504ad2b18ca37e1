//! What programs do before they send a browser: they call without a credential, read metadata, register themselves. Nothing
//! in such a request says which sign-in it belongs to, so it is remembered for a few minutes, in this process alone, by where
//! it came from, and put in front of the trace that seems to follow: with certainty that a program registered itself which comes
//! with the id that it got, else as a guess by address and time. What nothing follows becomes a trace of its own.
//!
//! Everything here is bounded, and costs no SQL when it happens: the sweep writes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::rate::{Limits, Network, Rate};
use super::traces::{Step, awaited};
use super::{Grants, Outcome, Refusal, TraceNote};
use crate::crypto::hash_token;
use crate::store::{at, micros};

/// How long after its last step something is still expected to follow, microseconds.
const WAITS: i64 = 5 * 60 * 1_000_000;
/// Most that is remembered; what is further is not.
const MOST: usize = 4096;
/// Most that one source, however many networks of /64 it has, may add to more than half of that.
const MOST_OF_ONE: usize = MOST / 16;
/// Most steps of one of them.
const STEPS: usize = 12;
/// Most grants whose tokens were shown in the wrong place.
const MISUSED: usize = 1024;
/// Most that a sweep writes.
const AT_ONCE: usize = 50;

/// Traces that stand on nothing but somebody's request: of one source, and of all.
const OF_ONE: Rate = Rate { burst: 100, pause: Duration::from_secs(1) };
const OF_ALL: Rate = Rate { burst: 1_000, pause: Duration::from_millis(100) };
/// Traces of preludes that nothing followed: whoever reads metadata every minute, a monitor perhaps, makes no more of them.
const LEFT_OF_ONE: Rate = Rate { burst: 2, pause: Duration::from_mins(30) };
const LEFT_OF_ALL: Rate = Rate { burst: 100, pause: Duration::from_secs(30) };

/// By what it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum By {
    Network(Network),
    /// SHA-256 of the id that the program got.
    Client([u8; 32]),
}

#[derive(Debug, Clone)]
struct Prelude {
    address: IpAddr,
    steps: Vec<Step>,
    /// Id and name, once the program registered itself.
    client: Option<(String, String)>,
}

impl Prelude {
    fn last(&self) -> i64 {
        self.steps.iter().map(|step| step.at).max().unwrap_or_default()
    }

    /// Whether it says more than that somebody called without a credential.
    fn says_something(&self) -> bool {
        self.steps.iter().any(|step| step.name != "challenge")
    }

    fn add(&mut self, step: Step) {
        // The same again takes the place of what was.
        self.steps.retain(|own| (&own.name, own.ok, &own.detail) != (&step.name, step.ok, &step.detail));
        if self.steps.len() < STEPS {
            self.steps.push(step);
        }
    }
}

/// See the module. Cheap to clone; clones are one memory.
#[derive(Debug, Clone)]
pub struct Preludes(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    state: Mutex<State>,
    traces: Limits,
    left: Limits,
}

#[derive(Debug, Default)]
struct State {
    /// When room was last made, microseconds since 1970.
    swept_at: i64,
    by: HashMap<By, Prelude, ahash::RandomState>,
    misused: HashMap<Uuid, Step, ahash::RandomState>,
}

impl Default for Preludes {
    fn default() -> Self {
        let state = Mutex::default();
        let traces = Limits::new(OF_ONE, Some(OF_ALL), MOST);
        Self(Arc::new(Parts { state, traces, left: Limits::new(LEFT_OF_ONE, Some(LEFT_OF_ALL), MOST) }))
    }
}

impl Preludes {
    /// Remembers a step of whoever is at `address`.
    pub fn note(&self, address: IpAddr, step: Step) {
        let from = By::Network(Network::of(address));
        self.state().at(from, address, step.at, |prelude| prelude.add(step));
    }

    /// Remembers that who is at `address` registered itself and got an id: from now on the steps are that client's, those before as
    /// a guess.
    pub fn registered(&self, address: IpAddr, client_id: &str, name: &str, now: OffsetDateTime) {
        let mut state = self.state();
        let before = state.by.remove(&By::Network(Network::of(address)));
        let before = before.map(|prelude| prelude.steps).unwrap_or_default();
        let step = Step::good("register", format!("the program registered itself as `{name}`"), now);
        let client = (client_id.to_owned(), name.to_owned());
        state.at(By::Client(hash_token(client_id)), address, micros(now), |prelude| {
            before.into_iter().map(guessed).chain([step]).for_each(|step| prelude.add(step));
            prelude.client = Some(client);
        });
    }

    /// Takes out what came before a request of this client from this address.
    pub fn take(&self, address: IpAddr, client_id: &str, now: OffsetDateTime) -> Vec<Step> {
        let mut state = self.state();
        let waits = micros(now) - WAITS;
        let by_client = state.by.remove(&By::Client(hash_token(client_id)));
        let by_address = state.by.remove(&By::Network(Network::of(address)));
        match (by_client, by_address) {
            (Some(certain), _) => certain.steps,
            (None, Some(guess)) if guess.last() >= waits => guess.steps.into_iter().map(guessed).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether a trace may begin that stands on nothing but a request from this address.
    pub fn may_begin(&self, address: IpAddr, now: OffsetDateTime) -> bool {
        self.0.traces.take(address, now).is_ok()
    }

    /// Remembers that a token of this grant was shown where it opens nothing.
    pub fn misused(&self, grant: Uuid, step: Step) {
        let mut state = self.state();
        if state.misused.len() < MISUSED || state.misused.contains_key(&grant) {
            state.misused.insert(grant, step);
        }
    }

    /// Takes out what nothing followed by `now`, as far as it says something.
    fn left(&self, now: OffsetDateTime) -> Vec<Prelude> {
        let mut state = self.state();
        let waits = micros(now) - WAITS;
        let due: Vec<_> =
            state.by.iter().filter(|(_, prelude)| prelude.last() < waits).map(|(from, _)| *from).collect();
        let due = due.into_iter().filter_map(|from| state.by.remove(&from)).filter(Prelude::says_something);
        due.filter(|prelude| self.0.left.take(prelude.address, now).is_ok()).take(AT_ONCE).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A step of which only address and time say whose it is.
fn guessed(step: Step) -> Step {
    Step { inferred: true, ..step }
}

impl State {
    fn at(&mut self, from: By, address: IpAddr, now: i64, change: impl FnOnce(&mut Prelude)) {
        if self.by.contains_key(&from) || self.has_room(address, now) {
            change(self.by.entry(from).or_insert(Prelude { address, steps: Vec::new(), client: None }));
        }
    }

    /// Whether there is room for one more from there; what is over and says nothing makes some, the rest waits for the sweep.
    fn has_room(&mut self, address: IpAddr, now: i64) -> bool {
        if self.by.len() >= MOST && now >= self.swept_at + 1_000_000 {
            self.swept_at = now;
            self.by.retain(|_, prelude| prelude.last() >= now - WAITS || prelude.says_something());
        }
        let source = Network::widest(address);
        let of_one = || self.by.values().filter(|prelude| Network::widest(prelude.address) == source).count();
        self.by.len() < MOST / 2 || (self.by.len() < MOST && of_one() < MOST_OF_ONE)
    }
}

impl Grants {
    /// What programs did before there was anything to note it at.
    pub fn preludes(&self) -> &Preludes {
        &self.0.preludes
    }

    /// Writes down what nothing followed.
    pub(super) fn sweep_preludes(&self, now: OffsetDateTime) {
        for prelude in self.preludes().left(now) {
            let refused = prelude.steps.last().is_some_and(|step| !step.ok);
            let outcome = if refused { Outcome::Failure } else { Outcome::Abandoned };
            let mut steps = prelude.steps;
            let last = at(steps.iter().map(|step| step.at).max().unwrap_or_default());
            let missing = awaited(&steps).filter(|_| !refused);
            steps.extend(missing.map(|missing| Step::bad(missing.step, "never_came", missing.what, last)));
            let client = prelude.client.as_ref();
            let note = TraceNote {
                client_id: client.map(|(id, _)| id.as_str()),
                client_name: client.map(|(_, name)| name.as_str()),
                outcome: Some(outcome),
                ..TraceNote::default()
            };
            self.trace(steps, note);
        }
    }

    /// Notes which tokens were shown in the wrong place.
    pub(super) async fn note_misused(&self) -> Result<(), Refusal> {
        let misused = std::mem::take(&mut self.preludes().state().misused);
        for (grant, step) in misused {
            if let Some(trace) = self.trace_of_grant(grant).await? {
                let failure = TraceNote { outcome: Some(Outcome::Failure), ..TraceNote::default() };
                self.trace_steps(trace, [step], failure);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-01-01 00:00:00 UTC);

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn names(steps: &[Step]) -> Vec<(&str, bool)> {
        steps.iter().map(|step| (step.name.as_str(), step.inferred)).collect()
    }

    #[test]
    fn steps_go_to_the_client_that_registered_and_else_to_who_comes_from_there() {
        let preludes = Preludes::default();
        let good = |name: &str| Step::good(name, "", NOW);
        preludes.note(ip(1), good("challenge"));
        preludes.note(ip(1), good("metadata"));
        preludes.note(ip(1), good("metadata"));
        preludes.registered(ip(1), "mcpg_dc_x", "A client", NOW);
        assert_eq!(names(&preludes.take(ip(1), "another", NOW)), []);
        let own = preludes.take(ip(9), "mcpg_dc_x", NOW);
        assert_eq!(names(&own), [("challenge", true), ("metadata", true), ("register", false)]);
        assert_eq!(names(&preludes.take(ip(9), "mcpg_dc_x", NOW)), [], "once");
        preludes.note(ip(2), good("metadata"));
        assert_eq!(names(&preludes.take(ip(2), "https://client.example/id", NOW)), [("metadata", true)]);
        preludes.note(ip(2), good("metadata"));
        assert_eq!(names(&preludes.take(ip(2), "any", NOW + Duration::from_mins(6))), [], "too long ago");
    }

    #[test]
    fn what_nothing_followed_is_left_once_and_an_idle_knock_is_nothing() {
        let preludes = Preludes::default();
        preludes.note(ip(1), Step::good("challenge", "", NOW));
        preludes.note(ip(2), Step::good("metadata", "", NOW));
        assert!(preludes.left(NOW + Duration::from_mins(4)).is_empty());
        let later = NOW + Duration::from_mins(6);
        assert_eq!(preludes.left(later).iter().map(|left| left.address).collect::<Vec<_>>(), [ip(2)]);
        assert!(preludes.left(later).is_empty() && preludes.state().by.is_empty());
        let monitor = (0..60).filter(|minute| {
            let now = later + Duration::from_mins(minute * 6);
            preludes.note(ip(3), Step::good("metadata", "", now));
            !preludes.left(now + Duration::from_mins(6)).is_empty()
        });
        assert!(monitor.count() < 20, "a monitor does not fill the traces");
    }

    #[test]
    fn who_has_many_networks_leaves_room_for_others() {
        let preludes = Preludes::default();
        for n in 0..10_000u32 {
            let address = format!("2001:db8:1:{n:x}::1").parse().unwrap();
            preludes.note(address, Step::good("metadata", "", NOW));
        }
        assert_eq!(preludes.state().by.len(), MOST / 2);
        preludes.note(ip(1), Step::good("metadata", "", NOW));
        assert_eq!(preludes.take(ip(1), "", NOW).len(), 1);
    }

    #[test]
    fn many_addresses_neither_grow_the_memory_nor_push_out_who_is_in_it() {
        let preludes = Preludes::default();
        preludes.note(ip(1), Step::good("metadata", "first", NOW));
        for n in 0..10_000u32 {
            preludes.note(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), Step::good("metadata", "", NOW));
        }
        assert_eq!(preludes.state().by.len(), MOST);
        assert_eq!(preludes.take(ip(1), "", NOW).len(), 1);
        for n in 0..100 {
            preludes.note(ip(1), Step::good("metadata", n.to_string(), NOW));
        }
        assert_eq!(preludes.take(ip(1), "", NOW).len(), STEPS);
    }
}
