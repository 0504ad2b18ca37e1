//! How many requests a thread has in hand at once. What a request touches is still in the processor's cache when its answer comes
//! if few others came in between; reading all that have come first, and answering them afterwards, fetches everything from memory
//! twice. So a thread that has enough in hand reads the next requests when it has answered most of them.
//!
//! That holds for HTTP/1.1 in the clear; TLS and HTTP/2 read ahead of what they answer and are hardly held back.
//!
//! Nobody waits long for somebody's slow server: what is enough doubles while a thread is idle at times and somebody waits, until it
//! is busy or nobody does, and one that is busy with something else reads more now and then. It halves with each round of the thread
//! (`rounds`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::awake::Awake;

/// Requests that are enough to have in hand, at least.
const ENOUGH: usize = 16;
/// More than ever come at once.
const MOST: usize = 1 << 20;
/// More are read when so many are answered. Requests that are read together are sent on together and answered together: each
/// wakes its server and its client once for several of them.
const BATCH: usize = ENOUGH - ENOUGH / 4;
/// How often a thread looks whether it was idle while somebody waits. The kernel's account of it is a few milliseconds old at times.
const LOOK: Duration = Duration::from_millis(10);
/// A thread is idle that had nothing to do for one part in so many of the time between two looks.
const IDLE: u32 = 4;

/// What one thread has in hand.
#[derive(Default)]
pub(super) struct Uptake {
    state: Mutex<State>,
    /// Told when somebody begins to wait.
    awaited: Notify,
}

struct State {
    /// Whether the process stops: nobody waits then.
    open: bool,
    /// How many are enough to have in hand at present.
    enough: usize,
    in_hand: usize,
    /// How many were answered since somebody was called.
    answered: usize,
    /// Who waits, in the order of coming. `None` went away.
    waiting: VecDeque<Option<Waker>>,
    /// How many ever waited before the first of these.
    called: u64,
}

impl Default for State {
    fn default() -> Self {
        Self { open: false, enough: ENOUGH, in_hand: 0, answered: 0, waiting: VecDeque::new(), called: 0 }
    }
}

impl State {
    /// Calls those who wait until there are enough in hand.
    fn call(&mut self) {
        self.answered = 0;
        while self.in_hand < self.enough
            && let Some(first) = self.waiting.pop_front()
        {
            self.called += 1;
            if let Some(waker) = first {
                self.in_hand += 1;
                waker.wake();
            }
        }
    }

    fn one_less(&mut self) {
        self.in_hand -= 1;
        self.answered += 1;
        if self.answered >= BATCH || self.in_hand == 0 {
            self.call();
        }
    }

    /// Finds out what is enough for a thread that was idle for a part of some time in which somebody waited.
    fn adapt(&mut self, time: Duration, idle: Duration) {
        if idle > time / IDLE {
            self.enough = self.enough.saturating_mul(2).min(MOST);
            self.call();
        }
    }

    /// Calls some more, however many there are in hand.
    fn call_more(&mut self) {
        self.enough = (self.in_hand + ENOUGH).min(MOST);
        self.call();
    }

    /// The place of a number among those who wait; none once it was called.
    fn waiter(&mut self, number: u64) -> Option<&mut Option<Waker>> {
        let place = usize::try_from(number.checked_sub(self.called)?).ok()?;
        self.waiting.get_mut(place)
    }
}

impl Uptake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets everybody read what has come, from now on: the process stops, and what was sent to it is to be answered.
    pub(super) fn open(&self) {
        let mut state = self.state();
        (state.open, state.enough) = (true, usize::MAX);
        state.call();
    }

    /// Fewer are enough again. For the thread's round.
    pub(super) fn ease(&self) {
        let mut state = self.state();
        if !state.open {
            state.enough = (state.enough / 2).max(ENOUGH);
        }
    }

    /// Sees to it that somebody is called now and then, whatever the thread does. Runs on it.
    pub(super) async fn keep_time(&self) {
        let awake = Awake::of_this_thread();
        loop {
            self.awaited.notified().await;
            while !self.state().waiting.is_empty() {
                let (began, before, called) = (Instant::now(), awake.time(), self.state().called);
                tokio::time::sleep(LOOK).await;
                let (time, awake) = (began.elapsed(), awake.time().saturating_sub(before));
                let mut state = self.state();
                state.adapt(time, time.saturating_sub(awake));
                // What it is busy with is something else, or all that it has in hand takes long.
                if state.called == called {
                    state.call_more();
                }
            }
        }
    }
}

/// A connection's part in it: one request at a time.
pub(super) struct Slot {
    uptake: Arc<Uptake>,
    stage: Stage,
}

enum Stage {
    Resting,
    /// The so many-eth that ever waited.
    Waiting(u64),
    Taken,
    /// What is left of an answered request may be read without waiting: closing on it would lose the answer.
    Answered,
}

impl Slot {
    pub(super) fn new(uptake: Arc<Uptake>) -> Self {
        Self { uptake, stage: Stage::Resting }
    }

    /// Waits until what has come may be read, if anything has.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        has_come: impl FnOnce(&mut Context<'_>) -> bool,
    ) -> Poll<()> {
        if matches!(self.stage, Stage::Taken | Stage::Answered) {
            return Poll::Ready(());
        }
        let mut state = self.uptake.state();
        if let Stage::Waiting(number) = self.stage {
            if let Some(waiter) = state.waiter(number) {
                *waiter = Some(cx.waker().clone());
                return Poll::Pending;
            }
            self.stage = Stage::Taken;
            return Poll::Ready(());
        }
        if state.open || (state.in_hand < state.enough && state.waiting.is_empty()) || !has_come(cx) {
            return Poll::Ready(());
        }
        self.stage = Stage::Waiting(state.called + state.waiting.len() as u64);
        if state.waiting.is_empty() {
            self.uptake.awaited.notify_one();
        }
        state.waiting.push_back(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// Something was read.
    pub(super) fn take(&mut self) {
        if !matches!(self.stage, Stage::Taken) {
            // Who waited, and read because a request of it runs, waits no longer.
            self.rest();
            self.stage = Stage::Taken;
            self.uptake.state().in_hand += 1;
        }
    }

    /// The request is being answered: another may be read. Who waits goes on waiting.
    pub(super) fn answer(&mut self) {
        if matches!(self.stage, Stage::Taken) {
            self.stage = Stage::Answered;
            self.uptake.state().one_less();
        }
    }

    /// There was nothing to read.
    pub(super) fn rest(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Resting) {
            Stage::Taken => self.uptake.state().one_less(),
            Stage::Resting | Stage::Answered => {}
            Stage::Waiting(number) => {
                let mut state = self.uptake.state();
                match state.waiter(number) {
                    Some(waiter) => *waiter = None,
                    None => state.one_less(),
                }
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.rest();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker_ref;

    use super::*;

    /// Whether the slot may read what has come; if so, it does.
    fn reads(slot: &mut Slot) -> bool {
        let ready = slot.poll_read(&mut Context::from_waker(noop_waker_ref()), |_| true).is_ready();
        if ready {
            slot.take();
        }
        ready
    }

    fn slots(uptake: &Arc<Uptake>, count: usize) -> Vec<Slot> {
        (0..count).map(|_| Slot::new(Arc::clone(uptake))).collect()
    }

    /// A thread that has enough in hand.
    fn full() -> (Arc<Uptake>, Vec<Slot>) {
        let uptake = Arc::default();
        let mut busy = slots(&uptake, ENOUGH);
        assert!(busy.iter_mut().all(reads));
        (uptake, busy)
    }

    /// All but one of those are answered upon which more are read.
    fn answer_most(busy: &mut [Slot]) {
        busy[ENOUGH - BATCH + 1..].iter_mut().for_each(Slot::answer);
    }

    #[test]
    fn who_finds_enough_in_hand_reads_when_most_are_answered_in_the_order_of_coming() {
        let (uptake, mut busy) = full();
        let mut late = slots(&uptake, ENOUGH);
        assert!(!late.iter_mut().any(reads));

        answer_most(&mut busy);
        assert!(!late.iter_mut().any(reads), "one is too few");
        busy[0].answer();
        let (first, last) = late.split_at_mut(BATCH);
        assert!(!last.iter_mut().any(reads), "the others have come before");
        assert!(first.iter_mut().all(reads));
        busy[0].rest();
        assert!(!reads(&mut busy[0]), "who was answered waits behind who waits");
        first.iter_mut().for_each(Slot::answer);
        assert!(last.iter_mut().all(reads));
    }

    /// The thread had nothing to do for so many hundredths of some time.
    fn adapt(uptake: &Uptake, idle: u32) {
        uptake.state().adapt(Duration::from_secs(100), Duration::from_secs(1) * idle);
    }

    fn count(slots: &mut [Slot]) -> usize {
        slots.iter_mut().map(reads).filter(|read| *read).count()
    }

    #[test]
    fn a_thread_that_is_idle_while_somebody_waits_finds_more_to_be_enough_until_it_is_busy() {
        let (uptake, busy) = full();
        let mut late = slots(&uptake, 8 * ENOUGH);
        assert_eq!(count(&mut late), 0);
        adapt(&uptake, 20);
        assert_eq!(count(&mut late), 0, "that is not much");
        adapt(&uptake, 30);
        assert_eq!(count(&mut late), ENOUGH);
        adapt(&uptake, 100);
        assert_eq!(count(&mut late[ENOUGH..]), 2 * ENOUGH);
        assert_eq!(uptake.state().enough, 4 * ENOUGH);
        adapt(&uptake, 0);
        (0..3).for_each(|_| uptake.ease());
        assert_eq!(uptake.state().enough, ENOUGH);
        drop((busy, late));
        assert_eq!(uptake.state().in_hand, 0);
    }

    #[test]
    fn who_writes_while_waiting_goes_on_waiting() {
        let (uptake, mut busy) = full();
        let mut late = slots(&uptake, 1);
        assert!(!reads(&mut late[0]));
        late[0].answer();
        assert_eq!(uptake.state().waiting.len(), 1, "its task is still woken");
        answer_most(&mut busy);
        busy[0].answer();
        assert!(uptake.state().waiting.is_empty());
        assert!(reads(&mut late[0]));
    }

    #[test]
    fn what_is_left_of_an_answered_request_is_read_without_waiting_and_what_comes_later_waits() {
        let (uptake, mut busy) = full();
        let mut next = slots(&uptake, 1);
        assert!(!reads(&mut next[0]));
        busy[0].answer();
        assert!(reads(&mut busy[0]));
        busy[0].rest();
        assert!(!reads(&mut busy[0]));
    }

    #[test]
    fn who_reads_without_having_been_called_is_counted_once() {
        let (uptake, mut busy) = full();
        let mut late = slots(&uptake, 2);
        assert!(!late.iter_mut().any(reads));
        late[0].take();
        answer_most(&mut busy);
        busy[0].answer();
        busy[1].answer();
        late[1].take();
        drop((busy, late));
        let state = uptake.state();
        assert_eq!((state.in_hand, state.waiting.iter().flatten().count()), (0, 0));
    }

    #[test]
    fn nobody_waits_when_the_process_stops() {
        let (uptake, _busy) = full();
        let mut late = slots(&uptake, 2);
        assert!(!reads(&mut late[0]));
        uptake.open();
        assert!(late.iter_mut().all(reads));
    }

    #[test]
    fn who_goes_away_leaves_its_place_to_the_next() {
        let (uptake, mut busy) = full();
        let mut late = slots(&uptake, 3);
        assert!(!late.iter_mut().any(reads));
        // One while it waits, one after it was called.
        late.remove(0);
        answer_most(&mut busy);
        busy[0].answer();
        late.remove(0);
        assert!(reads(&mut late[0]));
        drop((busy, late));
        let state = uptake.state();
        assert_eq!((state.in_hand, state.waiting.len()), (0, 0));
    }

    #[test]
    fn nobody_waits_for_nothing() {
        let (uptake, _busy) = full();
        let mut resting = Slot::new(Arc::clone(&uptake));
        assert!(resting.poll_read(&mut Context::from_waker(noop_waker_ref()), |_| false).is_ready());
        assert!(uptake.state().waiting.is_empty());
        resting.answer();
        assert_eq!(uptake.state().in_hand, ENOUGH);
    }

    #[tokio::test]
    async fn a_thread_that_is_busy_with_something_else_reads_more_now_and_then() {
        let (uptake, _busy) = full();
        let mut late = slots(&uptake, ENOUGH);
        assert!(!late.iter_mut().any(reads));
        let time = tokio::time::timeout(LOOK * 5, uptake.keep_time()).await;
        assert!(time.is_err(), "it goes on");
        assert!(late.iter_mut().all(reads));
    }
}
