//! The operation of one request while it is under way. Whoever finishes it says how; one that is dropped unfinished was
//! cancelled. It is recorded exactly once, before the last byte goes out, or when it is given up; one that is answered by a stream
//! that lasts when that is open, and the end of the stream is told of besides.

use std::net::IpAddr;
use std::time::Instant;

use crate::fault::{Fault, Whose};
use crate::limit::{Absent, Permit};
use crate::mcp::error::{Denied, Refusal};
use crate::telemetry::{Event, Operation, Outcome, Recorder, Span};

/// Records its operation when it is closed, at the latest when dropped.
pub struct Finish {
    recorder: Recorder,
    open: Option<Box<Open>>,
}

struct Open {
    operation: Operation,
    ended: bool,
    recorded: bool,
    stream: Stream,
    waiting: Option<Instant>,
    /// Given back when the request is over.
    permit: Option<Permit>,
}

/// A stream that lasts, as the answer.
#[derive(Clone, Copy)]
enum Stream {
    /// There is none.
    None,
    /// It is open, and nothing was said of its end.
    Open,
    /// It ended so.
    Over(Outcome),
}

impl Finish {
    /// One that nothing was said about yet.
    pub fn new(operation: Operation, recorder: Recorder) -> Self {
        Self {
            recorder,
            open: Some(Box::new(Open {
                operation,
                ended: false,
                recorded: false,
                stream: Stream::None,
                waiting: None,
                permit: None,
            })),
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

    /// What a refusal says, where nothing is known that says more.
    pub fn note(&mut self, refusal: &Refusal) {
        self.fill(|operation| {
            if operation.detail.is_none() {
                operation.detail = Some(refusal.text.as_ref().into());
                operation.told = Some(refusal.recorded());
            }
        });
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
        if self.ends(outcome) {
            self.fill(|operation| operation.finish(outcome));
        }
    }

    /// It ended with a fault.
    pub fn fail(&mut self, fault: &Fault) {
        if self.ends(Outcome::from(fault)) {
            self.fill(|operation| operation.fail(fault));
        }
    }

    /// Whether this is the first word about how it ended.
    fn ends(&mut self, outcome: Outcome) -> bool {
        self.waited();
        let Some(open) = &mut self.open else { return false };
        if matches!(open.stream, Stream::Open) {
            open.stream = Stream::Over(outcome);
        }
        !std::mem::replace(&mut open.ended, true)
    }

    /// A stream that lasts answers it, and is open: it is recorded, for nobody knows when that ends.
    pub fn opened(&mut self) {
        self.end(Outcome::Success);
        self.close();
        if let Some(open) = &mut self.open {
            open.stream = Stream::Open;
        }
    }

    /// What tells of the end of a stream that answers it; it itself is recorded here.
    #[must_use]
    pub fn stream(&self) -> Self {
        let open = self.open.as_ref().map(|open| Open {
            operation: open.operation.clone(),
            ended: true,
            recorded: true,
            stream: Stream::Open,
            waiting: None,
            permit: None,
        });
        Self { recorder: self.recorder.clone(), open: open.map(Box::new) }
    }

    /// Has it recorded that the message is taken, where its answer comes another way, and later.
    pub fn accepted(&self) {
        if let Some(open) = &self.open {
            self.recorder.tell(told(&open.operation, "message.accept", true));
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
        let Some(open) = &self.open else { return };
        let (reason, good) = match open.stream {
            Stream::None => {
                self.end(Outcome::of_dropped());
                return self.close();
            }
            Stream::Over(Outcome::Error { whose, kind }) => (kind, whose == Whose::Client),
            Stream::Open | Stream::Over(_) => ("closed", true),
        };
        let (lasted, response_bytes) = (open.operation.started.elapsed(), open.operation.sizes.response);
        let event = told(&open.operation, "stream.end", good);
        self.recorder.tell(Event { reason: Some(reason.into()), lasted, response_bytes, ..event });
    }
}

/// What is said of an operation besides its record.
fn told(operation: &Operation, action: &'static str, good: bool) -> Event {
    let who = operation.who.as_deref();
    Event {
        tenant: who.map(|who| who.tenant.as_str().into()),
        user: who.map(|who| who.user),
        username: who.map(|who| who.username.clone()),
        session_type: who.map(|who| who.session_type.into()),
        credential: who.map(|who| who.credential),
        client: who.and_then(|who| who.client.clone()),
        session: operation.session,
        address: operation.address,
        server: operation.server.as_ref().map(|server| server.as_str().into()),
        name: Some(operation.method_label().into()),
        request_id: Some(operation.request_id.clone()),
        ..Event::new(action, good)
    }
}
