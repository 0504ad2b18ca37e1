//! What is measured at the connections to one replica. Counters since the last look, emptied once a second into the figures and
//! the metrics; a call that goes well costs one addition here.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use super::figures::Figures;
use crate::telemetry::{Counter, Histogram, Metrics, POOL};

/// How an attempt to open a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dial {
    /// It is open.
    Connected,
    /// It was not within its time.
    TimedOut,
    /// It was refused, broke, or its other side could not prove who it is.
    Failed,
    /// Nobody waited for it any more.
    GivenUp,
}

impl Dial {
    pub(super) const ALL: [Self; 4] = [Self::Connected, Self::TimedOut, Self::Failed, Self::GivenUp];

    /// In a metric's label.
    fn label(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::TimedOut => "timeout",
            Self::Failed => "failure",
            Self::GivenUp => "given_up",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Sockets {
    in_use: AtomicUsize,
    fresh: AtomicU64,
    reused: AtomicU64,
    dials: [AtomicU64; Dial::ALL.len()],
    connect: Histogram,
    tls: Histogram,
}

impl Default for Sockets {
    fn default() -> Self {
        let (in_use, fresh, reused, dials) = Default::default();
        Self { in_use, fresh, reused, dials, connect: Histogram::over(POOL), tls: Histogram::over(POOL) }
    }
}

impl Sockets {
    /// Connections that carry a request now.
    pub fn in_use(&self) -> usize {
        self.in_use.load(Relaxed)
    }

    /// One more carries a request, until [`leave`](Self::leave).
    pub fn enter(&self) {
        self.in_use.fetch_add(1, Relaxed);
    }

    /// One does not any more.
    pub fn leave(&self) {
        self.in_use.fetch_sub(1, Relaxed);
    }

    /// A request went out: on a connection that was new, or on one that had carried another before.
    pub fn sent(&self, fresh: bool) {
        if fresh { &self.fresh } else { &self.reused }.fetch_add(1, Relaxed);
    }

    /// A connection was to be opened.
    pub fn dialled(&self, dial: Dial) {
        self.dials[dial as usize].fetch_add(1, Relaxed);
    }

    /// How long it took to open one: TCP, and TLS where it is spoken.
    pub fn opened(&self, connect: Duration, tls: Option<Duration>) {
        self.connect.observe(connect);
        if let Some(tls) = tls {
            self.tls.observe(tls);
        }
    }

    /// Moves what was counted since the last time into `figures` and `metrics`.
    pub(super) fn empty_into(&self, figures: &mut Figures, metrics: &Metrics, [server, replica]: [&str; 2]) {
        for (count, sum, word) in
            [(&self.fresh, &mut figures.fresh, "new"), (&self.reused, &mut figures.reused, "reused")]
        {
            let count = count.swap(0, Relaxed);
            if count > 0 {
                *sum += count;
                metrics.upstream_requests.on([server, replica, word], |all: &Counter| all.add(count));
            }
        }
        for (dial, sum) in Dial::ALL.into_iter().zip(&mut figures.dials) {
            let count = self.dials[dial as usize].swap(0, Relaxed);
            if count > 0 {
                *sum += count;
                metrics.upstream_dials.on([server, replica, dial.label()], |all| all.add(count));
            }
        }
        for (times, tally, family) in [
            (&self.connect, &mut figures.connect, &metrics.upstream_connect),
            (&self.tls, &mut figures.tls, &metrics.upstream_tls),
        ] {
            if times.count() > 0 {
                family.on([server, replica], |all| *tally += times.pour_into(all));
            }
        }
    }
}
