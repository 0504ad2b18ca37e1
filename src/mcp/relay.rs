//! An answer on its way to the client as a stream of events. It is pulled by the client's reading, so a slow reader slows the
//! server and nothing piles up here. Dropping it before its end takes the request back from the server.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

use crate::access::Caller;
use crate::app::App;
use crate::fault::{Fault, Kind, Retry, Whose};
use crate::mcp::allow::may_hear;
use crate::mcp::bridge::answer::{ERA_CODE, ERA_MODERN, Fix};
use crate::mcp::error::Refusal;
use crate::mcp::reach::Back;
use crate::mcp::record::Finish;
use crate::mcp::session::{Asked, Hold, InFlight, Session, Way};
use crate::mcp::source::{Part, Piece, Source};
use crate::mcp::streams::{Seat, Tenure};
use crate::mcp::{hear, listen, tasks};
use crate::protocol::era::Era;
use crate::protocol::message::{self, Message, Shape};
use crate::protocol::{meta, sse};
use crate::telemetry::Outcome;
use crate::upstream::Upstream;
use crate::upstream::way::User;

/// After the response a server gets this long to end its stream, so that the connection can be used again.
const LINGER: Duration = Duration::from_millis(500);

async fn first_of(process: CancellationToken, way: impl Future<Output = ()>, sight: impl Future<Output = ()>) {
    tokio::select! { () = process.cancelled() => {}, () = way => {}, () = sight => {} }
}

/// What a relay stands on.
pub struct Relay {
    app: App,
    caller: Caller,
    upstream: Arc<Upstream>,
    source: Option<Source>,
    first: Option<Piece>,
    fix: Fix,
    back: Back,
    session: Option<Arc<Session>>,
    in_flight: Option<InFlight>,
    /// Put before event ids where one session reaches several servers.
    tag: Option<Box<str>>,
    finish: Finish,
    answered: bool,
    resumable: bool,
    /// Parts of a long event that are to go out.
    parts: VecDeque<Bytes>,
    /// While a long event passes: whether its frame is the server's own.
    long: Option<bool>,
    /// Whether it is a stream of its own and not the answer to one request.
    open_ended: bool,
    timer: Option<Pin<Box<Sleep>>>,
    deadline: Option<Instant>,
    /// Until when it may go on. An answer gets one when it turns out to take its time.
    tenure: Option<Tenure>,
    /// Ready when the process stops, the way to the server is closed or the server is the caller's no more, for a stream that would
    /// not end by itself.
    stop: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    seat: Option<Seat>,
    /// Keeps the session of a stream that lasts.
    _hold: Option<Hold>,
    /// Keeps the way to the server open for a call until its end.
    _user: Option<User>,
}

/// What a relay is made of.
pub struct Parts {
    /// The process.
    pub app: App,
    /// Whose stream it is.
    pub caller: Caller,
    /// The server.
    pub upstream: Arc<Upstream>,
    /// Where the pieces come from.
    pub source: Source,
    /// A piece that was already read.
    pub first: Option<Piece>,
    /// What must be changed in them.
    pub fix: Fix,
    /// Where the server's own requests are answered.
    pub back: Back,
    /// The client's legacy session.
    pub session: Option<Arc<Session>>,
    /// The request on the session's list.
    pub in_flight: Option<InFlight>,
    /// Put before event ids where one session reaches several servers.
    pub tag: Option<Box<str>>,
    /// Records the operation.
    pub finish: Finish,
    /// Its place among the streams; none for an answer that travels on a stream already open, which nobody can come back to.
    pub seat: Option<Seat>,
    /// When it must have ended; none for what lasts until somebody ends it, such as `subscriptions/listen`.
    pub deadline: Option<Instant>,
}

impl Relay {
    /// Starts passing on.
    pub fn new(parts: Parts) -> Self {
        Self::with(parts, false)
    }

    /// Starts passing on a stream that is not the answer to one request: it ends when the server ends it, or the process.
    pub fn open_ended(parts: Parts) -> Self {
        Self::with(parts, true)
    }

    fn with(parts: Parts, open_ended: bool) -> Self {
        let Parts {
            app,
            caller,
            upstream,
            mut source,
            first,
            fix,
            back,
            session,
            in_flight,
            tag,
            finish,
            seat,
            deadline,
        } = parts;
        let lasts = open_ended || deadline.is_none();
        let stop = lasts.then(|| {
            let unseen = app.registry.unseen(&caller, upstream.server.id);
            Box::pin(first_of(app.shutdown.clone(), upstream.closed(), unseen)) as Pin<Box<_>>
        });
        let tenure = lasts.then(|| Tenure::new(&caller));
        let user = (!lasts).then(|| upstream.user());
        let hold = session.as_ref().filter(|_| open_ended).map(Hold::new);
        source.begun();
        // What travels on a stream with other messages must come whole.
        if !open_ended && seat.is_some() {
            source.in_parts(&fix);
        }
        Self {
            app,
            caller,
            upstream,
            source: Some(source),
            first,
            fix,
            back,
            session,
            in_flight,
            tag,
            finish,
            answered: false,
            resumable: open_ended,
            parts: VecDeque::new(),
            long: None,
            open_ended,
            timer: None,
            deadline,
            tenure,
            stop,
            seat,
            _hold: hold,
            _user: user,
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        loop {
            if let Some(part) = self.parts.pop_front() {
                self.finish.sent(part.len());
                return Poll::Ready(Some(Ok(part)));
            }
            if self.in_flight.as_ref().is_some_and(|request| request.cancel.poll(context).is_ready()) {
                self.finish.end(Outcome::from(&Fault::client(Kind::Cancelled, "cancelled")));
                self.answered = true;
                self.source = None;
                return Poll::Ready(None);
            }
            if self.stop.as_mut().is_some_and(|stop| stop.as_mut().poll(context).is_ready()) {
                return Poll::Ready(self.goodbye().map(Ok));
            }
            if self.tenure.as_mut().is_some_and(|tenure| tenure.poll(context).is_ready()) {
                self.tenure = None;
                return self.poll_broken(&Fault::client(Kind::Cancelled, Tenure::OVER));
            }
            let piece = match self.first.take() {
                Some(piece) => Some(Ok(piece)),
                None => match &mut self.source {
                    None => return Poll::Ready(None),
                    Some(source) => match source.poll_next(context) {
                        Poll::Ready(piece) => piece,
                        Poll::Pending => return self.poll_quiet(context),
                    },
                },
            };
            self.timer = None;
            match piece {
                Some(Ok(Piece { part: Some(part), id, retry, .. })) => self.pass_part(part, id.as_deref(), retry),
                Some(Ok(piece)) => {
                    if let Some(frame) = self.pass(piece) {
                        if !self.answered && self.tenure.is_none() {
                            self.tenure = Some(Tenure::new(&self.caller));
                        }
                        self.finish.sent(frame.len());
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                Some(Err(fault)) => return self.poll_broken(&fault),
                None if self.answered => {
                    self.source = None;
                    return Poll::Ready(None);
                }
                // A legacy server may end a stream early and go on when the client comes back for the rest.
                None if self.resumable => {
                    self.finish.end(Outcome::Success);
                    self.answered = true;
                    self.succeeded();
                    self.source = None;
                    return Poll::Ready(None);
                }
                None => {
                    let text = "the stream ended without an answer";
                    return self.poll_broken(&Fault::upstream(Kind::Dropped, Retry::MaybeSent, text));
                }
            }
        }
    }

    /// Nothing more will come: the last frame of a stream that lasts. A subscription ends with its result (2026-07-28,
    /// basic/patterns/subscriptions, "Graceful Closure"); the client then knows that nothing broke.
    fn goodbye(&mut self) -> Option<Bytes> {
        (self.stop, self.source) = (None, None);
        if std::mem::replace(&mut self.answered, true) {
            return None;
        }
        self.finish.end(Outcome::Success);
        (!self.open_ended).then(|| listen::completion(&self.fix.id))
    }

    /// Nothing to pass on: after the answer the stream soon ends, before it a comment keeps it alive.
    fn poll_quiet(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        let mut wait = if self.answered { LINGER } else { self.app.settings.limits.sse_keep_alive };
        if let Some(deadline) = self.deadline.filter(|_| !self.answered) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let text = "no whole answer within the server's bound for one call";
                return self.poll_broken(&Fault::upstream(Kind::Timeout, Retry::MaybeSent, text));
            }
            wait = wait.min(left);
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(wait)));
        ready!(timer.as_mut().poll(context));
        self.timer = None;
        if self.answered {
            self.source = None;
            return Poll::Ready(None);
        }
        // No comment fits into the middle of an event.
        if self.long.is_some() || self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return self.poll_quiet(context);
        }
        if self.tenure.is_none() {
            self.tenure = Some(Tenure::new(&self.caller));
        }
        Poll::Ready(Some(Ok(sse::KEEP_ALIVE)))
    }

    fn succeeded(&mut self) {
        if let Some(source) = &mut self.source {
            source.succeeded();
        }
    }

    fn failed(&mut self, fault: &Fault) {
        if let Some(source) = &mut self.source {
            source.failed(fault);
        }
        self.finish.fail(fault);
    }

    fn poll_broken(&mut self, fault: &Fault) -> Poll<Option<Result<Bytes, Fault>>> {
        if self.answered {
            self.source = None;
            return Poll::Ready(None);
        }
        self.answered = true;
        self.failed(fault);
        self.source = None;
        if self.long.is_some() {
            // Half an event has gone out. An error here closes the client's connection: it cannot take it for a whole one.
            return Poll::Ready(Some(Err(fault.clone())));
        }
        if self.open_ended {
            return Poll::Ready(None);
        }
        let refusal = Refusal::of(fault, self.upstream.server.spec.slug.as_str(), self.fix.client);
        Poll::Ready(Some(Ok(sse::frame(&refusal.message(Some(&self.fix.id)), None, None))))
    }

    /// A part of a long event with the result.
    fn pass_part(&mut self, part: Part, id: Option<&[u8]>, retry: Option<u64>) {
        if self.answered {
            // A second answer: nobody waits for it.
            self.source = None;
            return;
        }
        if let Some(head) = part.head {
            // It takes its time.
            self.tenure.get_or_insert_with(|| Tenure::new(&self.caller));
            self.resumable |= id.is_some() && self.session.is_some();
            let raw = self.tag.is_none() && (self.fix.client == Era::Legacy || id.is_none());
            self.long = Some(raw);
            self.parts.push_back(if raw { head } else { sse::frame_head(self.event_id(id).as_deref(), retry) });
        }
        self.parts.extend(part.data);
        if let Some((end, outcome)) = part.end {
            let raw = self.long.take().unwrap_or_default();
            self.parts.push_back(if raw { end } else { Bytes::from_static(b"\n\n") });
            self.answered = true;
            self.back.answered();
            self.succeeded();
            self.finish.end(outcome);
        }
    }

    /// The frame for one piece; `None` if the client should not see it.
    fn pass(&mut self, piece: Piece) -> Option<Bytes> {
        self.resumable |= piece.id.is_some() && self.session.is_some() && self.seat.is_some();
        let Some(message) = &piece.message else {
            // Only an id to come back with, or a comment.
            return match (&piece.raw, self.fix.client) {
                (Some(raw), Era::Legacy) if self.tag.is_none() => Some(raw.clone()),
                (Some(_), Era::Legacy) if piece.id.is_some() => Some(self.priming(&piece)),
                _ => None,
            };
        };
        let bytes = match message.shape() {
            Shape::Result | Shape::Error if self.open_ended => message.bytes().clone(),
            Shape::Result | Shape::Error => {
                if self.answered {
                    return None;
                }
                self.answered = true;
                self.back.answered();
                if let Err(fault) = self.fix.check(message) {
                    self.failed(&fault);
                    let refusal = Refusal::of(&fault, self.upstream.server.spec.slug.as_str(), self.fix.client);
                    return Some(sse::frame(&refusal.message(Some(&self.fix.id)), None, None));
                }
                let (bytes, outcome) = self.fix.response(message);
                self.succeeded();
                self.finish.end(outcome);
                bytes
            }
            Shape::Notification => self.notification(message)?,
            Shape::Request => self.request(message, piece.token)?,
        };
        match piece.raw {
            Some(raw) if self.tag.is_none() && self.fix.client == Era::Legacy && bytes == *message.bytes() => Some(raw),
            // No event ids in the modern era: its streams cannot be resumed.
            Some(raw) if self.fix.client == Era::Modern && piece.id.is_none() && bytes == *message.bytes() => Some(raw),
            _ => Some(sse::frame(&bytes, self.event_id(piece.id.as_deref()).as_deref(), piece.retry)),
        }
    }

    fn priming(&self, piece: &Piece) -> Bytes {
        let id = self.event_id(piece.id.as_deref()).unwrap_or_default();
        let retry = piece.retry.map_or(String::new(), |retry| format!("retry: {retry}\n"));
        format!("id: {}\n{retry}data: \n\n", String::from_utf8_lossy(&id)).into()
    }

    fn event_id(&self, id: Option<&[u8]>) -> Option<Vec<u8>> {
        if self.fix.client == Era::Modern {
            return None;
        }
        let id = id?;
        Some(match &self.tag {
            Some(tag) => [tag.as_bytes(), b"/", id].concat(),
            None => id.to_vec(),
        })
    }

    /// A notification as the client should hear it, if it should.
    fn notification(&self, message: &Message) -> Option<Bytes> {
        if !may_hear(&self.app, &self.caller, self.upstream.server.id, message) {
            return None;
        }
        let bytes = self.fix.notification(message)?;
        match (&self.back, &self.session, &self.tag) {
            // Other servers speak to the same client.
            (Back::Http(link), Some(session), Some(_)) => hear::told(session, link, message),
            _ => Some(bytes),
        }
    }

    /// A request of the server: noted, so that the client's answer finds its way, and passed on; or declined for a client
    /// that cannot be asked.
    fn request(&mut self, message: &Message, token: Option<u64>) -> Option<Bytes> {
        let theirs = message.id_bytes()?;
        let way = match (&self.back, token) {
            (Back::Http(link), _) => Way::Http(link.clone()),
            (Back::Mux(mux), Some(token)) => Way::Mux(mux.clone(), token),
            (Back::Shared(link, _), _) => {
                let error = message::error(Some(&theirs), ERA_CODE, ERA_MODERN, Some("{\"kind\":\"era\"}"));
                decline(&self.app, &self.upstream, Way::Http(link.clone()), error, ());
                return None;
            }
            _ => return None,
        };
        let session = self.session.as_ref()?;
        let cause = self.in_flight.as_ref().map(|request| request.id().clone());
        let task = tasks::related(message).map(Bytes::copy_from_slice);
        let asked = Asked { upstream: self.upstream.clone(), way, id: theirs, cause, task };
        let tied = self.fix.tie.as_ref().map(|tie| tie.other(message));
        note_request(&self.app, session, tied.as_deref().unwrap_or(message), asked, self.tag.is_some())
    }
}

/// Puts a server's request on the session's list and returns it as the client sees it; one that cannot be passed on is
/// declined. With `rename` it gets an id of our own, because several servers may use the same.
pub fn note_request(app: &App, session: &Arc<Session>, message: &Message, asked: Asked, rename: bool) -> Option<Bytes> {
    let (id, bytes) = if rename && matches!(asked.way, Way::Http(_)) {
        let id = Bytes::from(format!("\"mcpg-{:016x}\"", rand::random::<u64>()));
        let bytes = message.with_id(&id);
        (id, bytes)
    } else {
        (asked.id.clone(), message.bytes().clone())
    };
    let Asked { upstream, way, id: theirs, .. } = asked.clone();
    match session.ask(id, asked) {
        Ok(()) => Some(bytes),
        Err(fault) => {
            tracing::warn!(server = %upstream.server.spec.slug, "a request of the server is declined: {fault}");
            let error = message::error(Some(&theirs), meta::INTERNAL_ERROR, &fault.detail, None);
            // Past the bound of errands it stays without an answer: the server asks faster than it can be told.
            if let Some(errand) = session.errand() {
                decline(app, &upstream, way, error, errand);
            }
            None
        }
    }
}

/// Tells a server that nobody can answer what it asked. `hold` is dropped when that is done.
fn decline(app: &App, upstream: &Arc<Upstream>, way: Way, error: Bytes, hold: impl Send + 'static) {
    let upstream = upstream.clone();
    app.tasks.spawn(async move {
        let _hold = hold;
        match way {
            Way::Http(link) => link.tell(&upstream, error).await,
            // It may have been withdrawn.
            Way::Mux(mux, token) => drop(mux.reply(token, error).await),
        }
    });
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        if self.open_ended {
            self.finish.end(Outcome::Success);
        }
        self.finish.cancelled(Whose::Client);
    }
}

impl http_body::Body for Relay {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = self.poll_next(context);
        // Whoever reads the last event has the answer, and may not wait for the end of the stream.
        if self.answered && self.parts.is_empty() && next.is_ready() {
            self.finish.close();
        }
        next.map(|frame| frame.map(|frame| frame.map(Frame::data)))
    }
}
