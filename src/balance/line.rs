//! The calls that wait for a place on one replica. Each thread has a line of its own, and a place that is given back goes to the
//! line of the thread that gives it: waking somebody on another thread takes a call of the kernel there and back, and the
//! memory of a call that has just ended is at hand only where it ended. Whoever has waited markedly longer elsewhere goes
//! first all the same.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How much longer somebody on another thread must have waited to go first.
const AHEAD: Duration = Duration::from_millis(5);
/// Threads are told apart by this many lines; two that share one only share its order.
const LINES: usize = 16;

/// Free places, and the lines in front of them. While somebody waits none is free.
#[derive(Debug)]
pub(super) struct Lines {
    free: usize,
    waiting: usize,
    next: u64,
    each: Vec<(usize, VecDeque<Ticket>)>,
    /// Whose turn it is, and who has not looked yet.
    called: Vec<u64>,
}

#[derive(Debug)]
struct Ticket {
    number: u64,
    since: Instant,
    waker: Option<Waker>,
}

impl Lines {
    /// So many places, all free.
    pub(super) fn new(free: usize) -> Self {
        Self { free, waiting: 0, next: 0, each: Vec::new(), called: Vec::new() }
    }

    /// How many are free.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes a free place.
    pub(super) fn take(&mut self) -> bool {
        let some = self.free > 0;
        self.free -= usize::from(some);
        some
    }

    /// Joins the line of `thread`; returns the number by which to [`look`](Self::look).
    pub(super) fn join(&mut self, thread: usize, now: Instant) -> u64 {
        let thread = thread % LINES;
        let number = self.next;
        self.next += 1;
        self.waiting += 1;
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
    pub(super) fn leave(&mut self, number: u64, thread: usize) -> Option<Waker> {
        if self.was_called(number) {
            return self.give_back(thread);
        }
        if let Some((line, at)) = self.find(number) {
            self.each[line].1.remove(at);
            self.waiting -= 1;
        }
        None
    }

    /// A place is given back on `thread`. Returns whom to wake, if somebody who has looked gets it.
    pub(super) fn give_back(&mut self, thread: usize) -> Option<Waker> {
        let front = |(_, line): &(usize, VecDeque<Ticket>)| line.front().map(|first| (first.number, first.since));
        let fronts = self.each.iter().enumerate().filter_map(|(at, line)| Some((at, front(line)?)));
        let Some((longest, (_, since))) = fronts.min_by_key(|(_, (number, _))| *number) else {
            self.free += 1;
            return None;
        };
        let own = self.each.iter().position(|(of, _)| *of == thread % LINES);
        let own = own.filter(|own| front(&self.each[*own]).is_some_and(|(_, own)| own <= since + AHEAD));
        let ticket = self.each[own.unwrap_or(longest)].1.pop_front()?;
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
            lines.give_back(*thread);
            lines.called.pop().unwrap()
        };
        threads.iter().map(one).collect()
    }

    #[test]
    fn a_place_stays_on_its_thread_unless_somebody_elsewhere_has_waited_markedly_longer() {
        let (mut lines, now) = (Lines::new(0), Instant::now());
        for (thread, after) in [(1, 0), (2, 0), (2, 4), (1, 5), (2, 9), (2, 20)] {
            lines.join(thread, now + Duration::from_millis(after));
        }
        assert_eq!(called(&mut lines, &[2, 2, 2, 1, 1, 3]), [1, 2, 0, 3, 4, 5]);
        lines.give_back(1);
        assert_eq!((lines.free(), lines.waiting()), (1, 0));
    }
}
