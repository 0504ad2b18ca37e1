//! The operation of one request while it is under way. Whoever finishes it says how; one that is dropped unfinished was
//! cancelled. It is recorded exactly once, before the last byte goes out, or when it is given up.

use std::net::IpAddr;
use std::time::Instant;

use crate::fault::{Fault, Whose};
use crate::limit::{Absent, Permit};
use crate::mcp::error::Denied;
use crate::telemetry::{Operation, Outcome, Recorder, Span};

/// Records its operation when it is closed, at the latest when dropped.
pub struct Finish {
    recorder: Recorder,
    open: Option<Box<Open>>,
}

struct Open {
    operation: Operation,
    ended: bool,
    recorded: bool,
    waiting: Option<Instant>,
    /// Given back when the request is over.
    permit: Option<Permit>,
}

impl Finish {
    /// One that nothing was said about yet.
    pub fn new(operation: Operation, recorder: Recorder) -> Self {
        Self {
            recorder,
            open: Some(Box::new(Open { operation, ended: false, recorded: false, waiting: None, permit: None })),
        }
    }

    /// One that records nothing.
    pub fn nothing(recorder: &Recorder) -> Self {
        Self { recorder: recorder.clone(), open: None }
    }

    /// Gives the operation to somebody else; what is left here records nothing.
    #[must_use]
    pub fn hand_over(&mut self) -> Self {
        // The server is not done: its answer comes in pieces.
        self.fill(|operation| operation.span.iter_mut().for_each(|span| span.answered = None));
        Self { recorder: self.recorder.clone(), open: self.open.take() }
    }

    /// Fills in what became known.
    pub fn fill(&mut self, change: impl FnOnce(&mut Operation)) {
        if let Some(open) = &mut self.open {
            change(&mut open.operation);
        }
    }

    /// Where the request came from, if that is known.
    pub fn address(&self) -> Option<IpAddr> {
        self.open.as_ref()?.operation.address
    }

    /// Its place in its trace, if traces are exported.
    pub fn span(&self) -> Option<&Span> {
        self.open.as_ref()?.operation.span.as_deref()
    }

    /// Keeps this until the request is over.
    pub fn keep(&mut self, permit: Permit) {
        if let Some(open) = &mut self.open {
            open.permit = Some(permit);
        }
    }

    /// Gives back for a while what was kept, if there is any.
    pub fn step_out(&mut self) -> Option<Absent> {
        self.open.as_mut()?.permit.take().map(Permit::leave)
    }

    /// A sentence about the outcome, where none is known that says more.
    pub fn note(&mut self, text: &str) {
        self.fill(|operation| _ = operation.detail.get_or_insert_with(|| text.into()));
    }

    /// From now on it waits for a server.
    pub fn wait(&mut self) {
        if let Some(open) = &mut self.open {
            open.waiting = Some(Instant::now());
            let operation = &mut open.operation;
            operation.span.iter_mut().for_each(|span| span.send(operation.started.elapsed()));
        }
    }

    /// The server has answered, or begun to.
    pub fn waited(&mut self) {
        if let Some(open) = &mut self.open
            && let Some(since) = open.waiting.take()
        {
            let operation = &mut open.operation;
            operation.times.upstream += since.elapsed();
            operation.span.iter_mut().for_each(|span| span.answer(operation.started.elapsed()));
        }
    }

    /// These bytes went to the client.
    pub fn sent(&mut self, bytes: usize) {
        self.fill(|operation| operation.sizes.response += bytes as u64);
    }

    /// How it ended; the first word counts.
    pub fn end(&mut self, outcome: Outcome) {
        self.waited();
        if let Some(open) = &mut self.open
            && !open.ended
        {
            open.ended = true;
            open.operation.finish(outcome);
        }
    }

    /// It ended with a fault.
    pub fn fail(&mut self, fault: &Fault) {
        self.waited();
        if let Some(open) = &mut self.open
            && !open.ended
        {
            open.ended = true;
            open.operation.fail(fault);
        }
    }

    /// Access rules refused it.
    pub fn denied(&mut self, denied: &Denied) {
        self.fill(|operation| {
            operation.server = Some(denied.server.clone());
            operation.name = denied.name.clone().or(operation.name.take());
            operation.rule.clone_from(&denied.rule);
        });
        self.end(Outcome::Denied("policy"));
    }

    /// It was given up.
    pub fn cancelled(&mut self, whose: Whose) {
        self.end(Outcome::Error { whose, kind: "cancelled" });
    }
}

impl Finish {
    /// Records it, if that was not done: it has ended, and what its client may take for the whole answer goes out next. What it keeps
    /// until the request is over stays.
    pub fn close(&mut self) {
        if let Some(open) = self.open.as_mut().filter(|open| open.ended && !open.recorded) {
            open.recorded = true;
            self.recorder.record(&open.operation);
        }
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.end(Outcome::of_dropped());
        self.close();
    }
}
