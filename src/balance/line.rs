//! The calls that wait for a place on one replica. Each thread has a line of its own, and a place that is given back goes to the
//! line of the thread that gives it: waking somebody on another thread takes a call of the kernel there and back, and the
//! memory of a call that has just ended is at hand only where it ended. Whoever has waited markedly longer elsewhere goes
//! first all the same.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::meter::{Meter, Reading};

/// How much longer somebody on another thread must have waited to go first.
const AHEAD: Duration = Duration::from_millis(5);
/// Threads are told apart by this many lines; two that share one only share its order.
const LINES: usize = 16;

/// Places, and the lines in front of them. While somebody waits none is free.
#[derive(Debug)]
pub(super) struct Lines {
    most: usize,
    /// More than there are, for a while, after their number was lowered.
    taken: usize,
    waiting: usize,
    next: u64,
    each: Vec<(usize, VecDeque<Ticket>)>,
    /// Whose turn it is, and who has not looked yet.
    called: Vec<u64>,
    meter: Meter,
}

#[derive(Debug)]
struct Ticket {
    number: u64,
    since: Instant,
    waker: Option<Waker>,
}

impl Lines {
    /// So many places, all free.
    pub(super) fn new(most: usize, now: Instant) -> Self {
        let meter = Meter::new(now);
        Self { most, taken: 0, waiting: 0, next: 0, each: Vec::new(), called: Vec::new(), meter }
    }

    /// How many there are.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes a free place.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.taken >= self.most {
            return false;
        }
        self.meter.pass(self.taken, now);
        self.taken += 1;
        self.meter.enter(self.taken);
        true
    }

    /// Somebody finds no place, nor room to wait for one.
    pub(super) fn turn_away(&mut self) {
        self.meter.queue();
    }

    /// From now on there are so many. Returns whom to wake, because there is a place for them now; where there are fewer than
    /// are taken, places that are given back are nobody's until there are no more than that.
    pub(super) fn resize(&mut self, most: usize, thread: usize, now: Instant) -> Vec<Waker> {
        self.most = most;
        let mut woken = Vec::new();
        self.meter.pass(self.taken, now);
        while self.taken < self.most
            && let Some(ticket) = self.first(thread)
        {
            self.taken += 1;
            woken.extend(self.call(ticket));
        }
        woken
    }

    /// What was measured since the last reading.
    pub(super) fn read(&mut self, now: Instant) -> Reading {
        self.meter.pass(self.taken, now);
        self.meter.read(self.taken, self.waiting)
    }

    /// Joins the line of `thread`; returns the number by which to [`look`](Self::look).
    pub(super) fn join(&mut self, thread: usize, now: Instant) -> u64 {
        let thread = thread % LINES;
        let number = self.next;
        self.next += 1;
        self.waiting += 1;
        self.meter.queue();
        let ticket = Ticket { number, since: now, waker: None };
        match self.each.iter_mut().find(|(of, _)| *of == thread) {
            Some((_, line)) => line.push_back(ticket),
            None => self.each.push((thread, VecDeque::from([ticket]))),
        }
        number
    }

    /// Whether it is this number's turn; the place is taken then.
    pub(super) fn look(&mut self, number: u64, context: &Context<'_>) -> Poll<()> {
        if self.was_called(number) {
            return Poll::Ready(());
        }
        if let Some((line, at)) = self.find(number)
            && let Some(ticket) = self.each[line].1.get_mut(at)
        {
            match &mut ticket.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
        }
        Poll::Pending
    }

    /// This number waits no longer. Returns whom to wake, if it had been called and its place goes to somebody else.
    pub(super) fn leave(&mut self, number: u64, thread: usize, now: Instant) -> Option<Waker> {
        if self.was_called(number) {
            return self.give_back(thread, now);
        }
        if let Some((line, at)) = self.find(number) {
            self.each[line].1.remove(at);
            self.waiting -= 1;
        }
        None
    }

    /// A place is given back on `thread`. Returns whom to wake, if somebody who has looked gets it.
    pub(super) fn give_back(&mut self, thread: usize, now: Instant) -> Option<Waker> {
        let next = if self.taken > self.most { None } else { self.first(thread) };
        let Some(ticket) = next else {
            self.meter.pass(self.taken, now);
            self.taken -= 1;
            return None;
        };
        self.call(ticket)
    }

    /// Whoever is to have the next place, out of the line.
    fn first(&mut self, thread: usize) -> Option<Ticket> {
        let front = |(_, line): &(usize, VecDeque<Ticket>)| line.front().map(|first| (first.number, first.since));
        let fronts = self.each.iter().enumerate().filter_map(|(at, line)| Some((at, front(line)?)));
        let (longest, (_, since)) = fronts.min_by_key(|(_, (number, _))| *number)?;
        let own = self.each.iter().position(|(of, _)| *of == thread % LINES);
        let own = own.filter(|own| front(&self.each[*own]).is_some_and(|(_, own)| own <= since + AHEAD));
        self.each[own.unwrap_or(longest)].1.pop_front()
    }

    /// It is this one's turn; the place counts as taken.
    fn call(&mut self, ticket: Ticket) -> Option<Waker> {
        self.waiting -= 1;
        self.called.push(ticket.number);
        ticket.waker
    }

    fn was_called(&mut self, number: u64) -> bool {
        let found = self.called.iter().position(|called| *called == number);
        found.map(|at| self.called.swap_remove(at)).is_some()
    }

    /// Where a number stands.
    fn find(&self, number: u64) -> Option<(usize, usize)> {
        let in_line = |(_, line): &(usize, VecDeque<Ticket>)| line.binary_search_by_key(&number, |one| one.number).ok();
        self.each.iter().enumerate().find_map(|(at, line)| Some((at, in_line(line)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who is called when places are given back on these threads, one after the other.
    fn called(lines: &mut Lines, threads: &[usize]) -> Vec<u64> {
        let one = |thread: &usize| {
            lines.give_back(*thread, Instant::now());
            lines.called.pop().unwrap()
        };
        threads.iter().map(one).collect()
    }

    #[test]
    fn a_place_stays_on_its_thread_unless_somebody_elsewhere_has_waited_markedly_longer() {
        let now = Instant::now();
        let mut lines = Lines::new(6, now);
        assert!((0..6).all(|_| lines.take(now)));
        for (thread, after) in [(1, 0), (2, 0), (2, 4), (1, 5), (2, 9), (2, 20)] {
            lines.join(thread, now + Duration::from_millis(after));
        }
        assert_eq!(called(&mut lines, &[2, 2, 2, 1, 1, 3]), [1, 2, 0, 3, 4, 5]);
        lines.give_back(1, now);
        assert_eq!((lines.taken(), lines.waiting()), (5, 0));
    }

    #[test]
    fn more_places_are_for_who_waits_and_fewer_are_reached_as_calls_end() {
        let now = Instant::now();
        let mut lines = Lines::new(1, now);
        assert!(lines.take(now));
        for _ in 0..3 {
            lines.join(1, now);
        }
        lines.resize(3, 1, now);
        assert_eq!((lines.taken(), lines.waiting(), lines.called.clone()), (3, 1, vec![0, 1]));
        lines.resize(1, 1, now);
        for taken in [2, 1] {
            lines.give_back(1, now);
            assert_eq!(
                (lines.taken(), lines.waiting(), lines.called.len()),
                (taken, 1, 2),
                "a place too many is nobody's"
            );
        }
        lines.give_back(1, now);
        assert_eq!((lines.taken(), lines.waiting(), lines.called.clone()), (1, 0, vec![0, 1, 2]));
    }

    proptest::proptest! {
        /// However often the number of places changes meanwhile: nobody waits beside a free place, nobody is let in beyond the
        /// number of the moment, and when all is over everything is free.
        #[test]
        fn no_place_is_lost_and_none_is_made(steps in proptest::collection::vec((0..6_u8, 1..9_usize), 1..300)) {
            let now = Instant::now();
            let mut lines = Lines::new(4, now);
            let (mut holding, mut in_line) = (0, std::collections::BTreeSet::new());
            for (step, size) in steps {
                let before = lines.taken();
                let context = Context::from_waker(Waker::noop());
                match step {
                    0 | 1 => {
                        if lines.take(now) {
                            holding += 1;
                        } else {
                            in_line.insert(lines.join(size, now));
                        }
                    }
                    2 if holding > 0 => {
                        holding -= 1;
                        lines.give_back(size, now);
                    }
                    3 => {
                        if let Some(number) = in_line.pop_first() {
                            match lines.look(number, &context) {
                                Poll::Ready(()) => holding += 1,
                                Poll::Pending => _ = in_line.insert(number),
                            }
                        }
                    }
                    4 => {
                        if let Some(number) = in_line.pop_last() {
                            lines.leave(number, size, now);
                        }
                    }
                    5 => _ = lines.resize(size, 1, now),
                    _ => {}
                }
                proptest::prop_assert_eq!(lines.taken(), holding + lines.called.len());
                proptest::prop_assert_eq!(in_line.len(), lines.waiting() + lines.called.len());
                proptest::prop_assert!(lines.waiting() == 0 || lines.taken() >= lines.most());
                proptest::prop_assert!(lines.taken() <= before.max(lines.most()));
            }
            lines.resize(usize::MAX, 1, now);
            for number in in_line {
                proptest::prop_assert!(lines.look(number, &Context::from_waker(Waker::noop())).is_ready());
                holding += 1;
            }
            for _ in 0..holding {
                lines.give_back(1, now);
            }
            proptest::prop_assert_eq!((lines.taken(), lines.waiting()), (0, 0));
        }
    }
}
