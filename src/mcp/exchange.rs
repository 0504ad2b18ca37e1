//! ONE call from admission to last byte, for either era: admit, resolve, allow, send, answer, record. Read this page first.
//!
//! `tools/call` reads nothing but the snapshot and touches no database. Each step either goes on or ends in an error that
//! says whose fault it is; whichever way it ends, exactly one operation is recorded.

use std::borrow::Cow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::access::{Caller, Opening};
use crate::app::App;
use crate::fault::{Fault, Kind, Retry, Whose};
use crate::mcp::admit::{admit, admit_again, admit_at};
use crate::mcp::bridge::answer::Fix;
use crate::mcp::bridge::flow::Flow;
use crate::mcp::connect::{self, Waited};
use crate::mcp::error::{Refusal, empty_response, json_response};
use crate::mcp::headers::{TRACE, check_params, trace_headers};
use crate::mcp::listen;
use crate::mcp::passage::{Began, Course, Passage, read_rest, read_whole};
use crate::mcp::reach::{Ask, Reached, Reply, reach};
use crate::mcp::record::Finish;
use crate::mcp::relay::{Parts, Relay};
use crate::mcp::resolve::{Target, resolve};
use crate::mcp::session::{InFlight, Reach, Session};
use crate::mcp::source::Source;
use crate::mcp::streams::Tenure;
use crate::mcp::tasks::{self, Tie};
use crate::mcp::traced;
use crate::mcp::uri::bare;
use crate::mcp::watch;
use crate::protocol::era::Era;
use crate::protocol::message::Message;
use crate::protocol::meta;
use crate::registry::catalog::Item;
use crate::registry::snapshot::Entry;
use crate::telemetry::Outcome;
use crate::upstream::http::read_message;
use crate::upstream::peer::Peer;
use crate::upstream::trip::Trip;
use crate::upstream::wire::Body as UpstreamBody;
use crate::web::Unjudged;
use crate::web::challenge::sign_in_again;

/// One request, admitted.
pub struct Call {
    /// The process.
    pub app: App,
    /// Who asks.
    pub caller: Caller,
    /// The request.
    pub message: Message,
    /// Its headers.
    pub headers: HeaderMap,
    /// What it reaches.
    pub reach: Reach,
    /// The legacy session it belongs to; none in the modern era.
    pub session: Option<Arc<Session>>,
    /// Records the operation.
    pub finish: Finish,
    /// Whether the answer travels on a stream that is open already, of which nobody can ask for the rest later.
    pub carried: bool,
}

/// Serves one request.
pub async fn exchange(mut call: Box<Call>) -> Response {
    let era = call.era();
    match serve(&mut call, era).await {
        Ok(response) => response,
        Err(refusal) => {
            if let Some(fault) = &refusal.fault {
                call.finish.fail(fault);
            }
            if let Some(denied) = &refusal.denied {
                call.finish.denied(denied);
            }
            let unknown = refusal.code == meta::METHOD_NOT_FOUND;
            let kind = if unknown { "unknown_method" } else { "bad_request" };
            call.finish.note(&refusal);
            call.finish.end(Outcome::Error { whose: Whose::Client, kind });
            call.refuse(&refusal)
        }
    }
}

async fn serve(call: &mut Call, era: Era) -> Result<Response, Refusal> {
    call.digest();
    traced::begin(call);
    // Admit: within the limits of the user and the tenant.
    let admitted = admit(call).await?;
    let snapshot = call.app.registry.snapshot();
    let tenant = snapshot.tenant(call.caller.tenant());

    // From here on the client may take it back, and it has begun as to its time.
    let began = Instant::now();
    let message = call.message.clone();
    let in_flight = match &call.session {
        None => None,
        Some(session) => match session.begin(message.id_bytes().unwrap_or_default()) {
            Ok(in_flight) => Some(in_flight),
            Err(fault) => return Err(Refusal::full(&fault)),
        },
    };

    // Resolve: which server, and what it calls the thing.
    let target = {
        let resolving = pin!(resolve(call, tenant, &message));
        unless_taken_back(in_flight.as_ref(), resolving).await
    };
    let Some(target) = target else { return Ok(call.taken_back()) };
    let target = target?;
    let (entry, sent, item, wishes) = match target {
        Target::Here(response) => {
            call.finish.end(Outcome::Success);
            return Ok(response);
        }
        Target::Server { entry, message, item } => (entry, message, item, false),
        Target::Wish(entry) => (entry, Cow::Borrowed(&message), None, true),
    };
    call.finish.fill(|operation| operation.server = Some(entry.upstream.server.spec.slug.clone()));

    // Allow: the same rule that decided whether the tool is listed.
    if sent.method() == "tools/call" {
        if let Some(item) = item {
            call.finish.fill(|operation| operation.name = Some(item.key.clone()));
        }
        let tool = sent.text("name").unwrap_or_default();
        if !call.caller.may_call_tool(entry.slug(), &tool) {
            call.finish.end(Outcome::Denied("scope"));
            let named = message.text("name").unwrap_or_default();
            return Err(Refusal::unknown("tool", &named));
        }
        if let Some(item) = item.filter(|_| era == Era::Modern) {
            check_params(&call.headers, &sent, &item.mirrored)?;
        }
    } else if let Some(name) = named(&sent) {
        call.finish.fill(|operation| operation.name = Some(name.into()));
    }
    let (sent, tie) = match tenant {
        Some(tenant) => tasks::tied(call, tenant, entry, sent)?,
        None => (sent, None),
    };
    // Where rules narrow, the server's own stream would tell of what they hide; and of tasks, of anybody's.
    let own_stream = || {
        has_own_stream(entry)
            && !listen::wishes_for_tasks(&sent)
            && tenant.is_none_or(|tenant| tenant.rules().is_open())
    };
    if era == Era::Modern && sent.method() == "subscriptions/listen" && !own_stream() {
        let response = Box::pin(listen::one(call, entry)).await?;
        call.finish.end(Outcome::Success);
        return Ok(response);
    }

    // Admit at the server: last, so that a refusal shows nothing of what is hidden.
    if let (Some(rates), Some(admitted)) = (entry.rates.as_deref(), admitted) {
        let tool = (rates.any_tool() && sent.method() == "tools/call").then(|| sent.text("name")).flatten();
        admit_at(call, rates, tool.as_deref(), admitted)?;
    }
    if wishes {
        let mut wishing = Box::pin(watch::wish(call, entry, &sent));
        let answer = unless_taken_back(in_flight.as_ref(), wishing.as_mut()).await;
        drop(wishing);
        let Some(answer) = answer else { return Ok(call.taken_back()) };
        if let Some(response) = answer? {
            call.finish.end(Outcome::Success);
            return Ok(response);
        }
    }

    let sent = connect::without_answer(entry, era, sent);
    // Send: replica, session, era, credential are the transport's business.
    only_what_goes_along(&mut call.headers);
    let sent = traced::below(call, sent);
    call.finish.wait();
    let total = Duration::from_millis(entry.upstream.server.spec.timeouts.total_ms);
    let deadline = (sent.method() != "subscriptions/listen").then(|| began + total);
    let trip = Trip::by(deadline.map(Instant::into_std));
    let answered = {
        let mut sending = pin!(send(call, entry, (&sent, tie.as_ref()), item, in_flight, deadline, &trip));
        match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, sending.as_mut()).await,
            None => Ok(sending.await),
        }
    };
    answered.unwrap_or_else(|_| {
        call.tried(&trip);
        Err(call.failed(&too_late(total), entry))
    })
}

/// What is asked for, but for tools, which are noted as the registry knows them.
fn named(message: &Message) -> Option<String> {
    match &*message.method() {
        "prompts/get" => message.text("name").map(Cow::into_owned),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => message.text("uri").map(|uri| bare(&uri)),
        _ => None,
    }
}

/// What comes of waiting; `None` if the client takes its request back first. Whoever does gets no answer to it, whatever came at
/// the same moment. What waits is pinned where it is made: a future that takes another one as its argument has room for it twice.
async fn unless_taken_back<T>(in_flight: Option<&InFlight>, waiting: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let Some(request) = in_flight else { return Some(waiting.await) };
    tokio::select! {
        biased;
        () = request.cancel.wait() => None,
        done = waiting => Some(done),
    }
}

/// The fault of a call that took longer than its server may.
fn too_late(total: Duration) -> Fault {
    let text = format!("no whole answer within {} ms, the server's bound for one call", total.as_millis());
    Fault::upstream(Kind::Timeout, Retry::MaybeSent, text)
}

async fn send(
    call: &mut Call,
    entry: &Entry,
    (sent, tie): (&Message, Option<&Arc<Tie>>),
    item: Option<&Item>,
    in_flight: Option<InFlight>,
    deadline: Option<Instant>,
    trip: &Trip,
) -> Result<Response, Refusal> {
    let era = call.era();
    let mut waiting = connect::waiting(call, entry);
    let reached = loop {
        let ask = Ask {
            app: &call.app,
            caller: &call.caller,
            session: call.session.as_ref(),
            upstream: &entry.upstream,
            message: sent,
            tie,
            item,
            params: if item.is_none() && era == Era::Modern { param_headers(&call.headers) } else { Vec::new() },
            trace: trace_headers(&call.headers),
            cancel: in_flight.as_ref().map(|request| &request.cancel),
            trip,
        };
        let reached = {
            let reaching = pin!(reach(&ask));
            unless_taken_back(in_flight.as_ref(), reaching).await
        };
        call.tried(trip);
        let Some(reached) = reached else { return Ok(call.taken_back()) };
        match reached {
            Ok(reached) => break reached,
            // The user is on the way to connect; nothing was done without them. Their time is not the gateway's own.
            Err(fault)
                if fault.kind == Kind::Connect
                    && let Some(user) = &mut waiting =>
            {
                let absent = call.finish.step_out();
                match Box::pin(user.came(call, deadline)).await {
                    Waited::Came => waiting = None,
                    Waited::Perhaps => {}
                    Waited::Not => return Err(call.failed(&fault, entry)),
                    Waited::Ended => return Err(call.failed(&Fault::client(Kind::Cancelled, Tenure::OVER), entry)),
                }
                if let Some(absent) = absent {
                    Box::pin(admit_again(call, absent)).await?;
                }
                Box::pin(still_there(call, entry)).await?;
            }
            Err(fault) => return Err(call.failed(&fault, entry)),
        }
    };
    // It has no more to hear.
    drop(waiting);
    call.finish.fill(|operation| {
        operation.upstream_version = reached.version.map(crate::protocol::era::Version::as_str);
        operation.replica = reached.replica.and_then(|replica| u16::try_from(replica).ok());
    });

    // Answer: one text, or a stream that ends with it.
    answer(call, entry, reached, in_flight, deadline).await
}

/// Resolves a call anew that has waited for its user: rules and offers may be others by now.
async fn still_there(call: &Call, entry: &Entry) -> Result<(), Refusal> {
    let snapshot = call.app.registry.snapshot();
    match resolve(call, snapshot.tenant(call.caller.tenant()), &call.message).await? {
        Target::Server { entry: now, .. } if now.upstream.server.id == entry.upstream.server.id => Ok(()),
        _ => {
            let fault = Fault::client(Kind::Cancelled, "it leads to another server").telling("it has moved; try again");
            Err(Refusal::of(&fault, entry.slug(), call.era()))
        }
    }
}

async fn answer(
    call: &mut Call,
    entry: &Entry,
    reached: Reached,
    in_flight: Option<InFlight>,
    deadline: Option<Instant>,
) -> Result<Response, Refusal> {
    let Reached { reply, fix, mut origin, .. } = reached;
    let (source, first) = match reply {
        Reply::Json(status, body, mut attempt) => {
            let reading = pin!(read_whole(body));
            let Some(began) = unless_taken_back(in_flight.as_ref(), reading).await else {
                return Ok(call.taken_back());
            };
            call.finish.waited();
            origin.answered();
            let read = match began {
                Ok(Began::Whole(bytes)) => {
                    read_message(bytes).and_then(|message| fix.check(&message).map(|()| message))
                }
                Ok(Began::Longer(head, body)) => {
                    return Box::pin(long(call, entry, &fix, (head, body), attempt, in_flight, deadline)).await;
                }
                Err(fault) => Err(fault),
            };
            attempt.report(read.as_ref().map(drop), std::time::Instant::now());
            let message = read.map_err(|fault| call.failed(&fault, entry))?;
            return Ok(call.one(&fix, &message, status));
        }
        Reply::Refused(status, message) => {
            call.finish.waited();
            origin.answered();
            return Ok(call.one(&fix, &message, status));
        }
        // Most answers of a shared channel are a response and nothing before it: those need no stream.
        Reply::Stream(mut source @ Source::Mux(..)) => {
            let first = {
                let next = pin!(source.next());
                unless_taken_back(in_flight.as_ref(), next).await
            };
            let Some(first) = first else { return Ok(call.taken_back()) };
            let dropped = || Fault::upstream(Kind::Dropped, Retry::MaybeSent, "the server ended");
            let piece = first.unwrap_or_else(|| Err(dropped())).map_err(|fault| {
                source.failed(&fault);
                call.failed(&fault, entry)
            })?;
            call.finish.waited();
            match &piece.message {
                Some(message) if message.method().is_empty() => {
                    source.succeeded();
                    return Ok(call.one(&fix, message, StatusCode::OK));
                }
                _ => (source, Some(piece)),
            }
        }
        Reply::Stream(source) => {
            call.finish.waited();
            (source, None)
        }
    };
    let seat = match (!call.carried).then(|| call.app.streams.seat(&call.caller)).transpose() {
        Ok(seat) => seat,
        Err(fault) => {
            call.finish.fail(&fault);
            return Err(Refusal::full(&fault));
        }
    };
    let tag = (call.reach == Reach::All).then(|| entry.slug().into());
    let mut finish = call.finish.hand_over();
    if deadline.is_none() {
        finish.opened();
    }
    let (app, caller) = (call.app.clone(), call.caller.clone());
    let (upstream, session, back) = (entry.upstream.clone(), call.session.clone(), origin);
    let parts =
        Parts { app, caller, upstream, source, first, fix, back, session, in_flight, tag, finish, seat, deadline };
    Ok(stream_response(Body::new(Relay::new(parts))))
}

/// A long JSON answer: a result is passed on as it comes, anything else read whole within the bound.
async fn long(
    call: &mut Call,
    entry: &Entry,
    fix: &Fix,
    (head, body): (Bytes, UpstreamBody),
    mut attempt: crate::balance::InFlight,
    in_flight: Option<InFlight>,
    deadline: Option<Instant>,
) -> Result<Response, Refusal> {
    let limit = call.app.settings.limits.response_body;
    let (mut flow, mut out) = (Flow::new(fix.clone()), Vec::new());
    // What may name a task is read whole: the server's own id of it does not pass.
    if fix.tie.is_none() && flow.push(&head, &mut out).is_ok() {
        let (finish, left) = (call.finish.hand_over(), limit.saturating_sub(head.len()));
        let tenure = Tenure::new(&call.caller);
        let course = Course { user: entry.upstream.user(), attempt, in_flight, finish, tenure };
        let passage = Passage::new(flow, out, body, left, course, deadline);
        let mut response = Response::new(Body::new(passage));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return Ok(response);
    }
    let reading = pin!(read_rest(head, body, limit));
    let Some(rest) = unless_taken_back(in_flight.as_ref(), reading).await else {
        return Ok(call.taken_back());
    };
    let read = rest.and_then(read_message);
    let read = read.and_then(|message| fix.check(&message).map(|()| message));
    attempt.report(read.as_ref().map(drop), std::time::Instant::now());
    let message = read.map_err(|fault| call.failed(&fault, entry))?;
    Ok(call.one(fix, &message, StatusCode::OK))
}

impl Call {
    /// The era of its client.
    pub fn era(&self) -> Era {
        if self.session.is_some() { Era::Legacy } else { Era::Modern }
    }

    /// Notes what tells these arguments from others, and says nothing of them.
    fn digest(&mut self) {
        if self.message.method() == "tools/call"
            && let Some(arguments) = self.message.member("arguments")
        {
            let digest = Sha256::digest(arguments).into();
            self.finish.fill(|operation| operation.arguments = Some(digest));
        }
    }

    /// Notes how many replicas were tried.
    fn tried(&mut self, trip: &Trip) {
        self.finish.fill(|operation| operation.attempts = trip.tried());
    }

    /// Ends the operation with a fault; returns what the client sees.
    fn failed(&mut self, fault: &Fault, entry: &Entry) -> Refusal {
        self.finish.waited();
        self.finish.fail(fault);
        connect::asked(self, fault, entry).unwrap_or_else(|| Refusal::of(fault, entry.slug(), self.era()))
    }

    /// The answer to who is refused. Whoever has to sign in again before a server lets them in is told how, in whatever era.
    pub fn refuse(&self, refusal: &Refusal) -> Response {
        let mut response = refusal.respond(self.message.id());
        if refusal.fault.as_ref().is_some_and(|fault| fault.kind == Kind::SignIn) {
            let snapshot = self.app.registry.snapshot();
            let entry = match self.reach {
                Reach::All => None,
                Reach::One(id) => snapshot.tenant(self.caller.tenant()).and_then(|of| of.entry_by_id(&self.caller, id)),
            };
            let what = Opening::of(entry.map(Entry::slug));
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            response.headers_mut().insert(WWW_AUTHENTICATE, sign_in_again(&self.app, what));
            // The caller came with a good credential.
            response.extensions_mut().insert(Unjudged);
        }
        response
    }

    /// What tells of the end of the stream that this request opens; the request itself is done.
    pub fn finish_later(&self) -> Finish {
        self.finish.stream()
    }

    /// One message as the whole answer.
    fn one(&mut self, fix: &Fix, message: &Message, status: StatusCode) -> Response {
        let (bytes, outcome) = fix.response(message);
        self.finish.sent(bytes.len());
        self.finish.end(outcome);
        let code = message.error_code().and_then(|code| i32::try_from(code).ok());
        let status = match (fix.client, fix.server, code) {
            // 2026-07-28, basic/transports/streamable-http, "Sending Messages": 404 says that the method does not exist.
            (Era::Modern, _, Some(meta::METHOD_NOT_FOUND)) => StatusCode::NOT_FOUND,
            // 2026-07-28, basic, "Error Codes": over HTTP it stands under 400, whatever way the server said it.
            (Era::Modern, Era::Modern, Some(meta::MISSING_CAPABILITY)) => StatusCode::BAD_REQUEST,
            (client, server, _) if client == server => status,
            // A status of another era would be read wrongly; a legacy server's 404 means a session that the client never
            // saw.
            _ => StatusCode::OK,
        };
        let mut response = json_response(status, bytes);
        if status != StatusCode::OK {
            // What the server says of the request is no word of the gateway's about who sent it.
            response.extensions_mut().insert(Unjudged);
        }
        response
    }

    /// The client took the request back before the server began to answer: there is nothing to answer.
    fn taken_back(&mut self) -> Response {
        self.finish.cancelled(Whose::Client);
        stream_response(Body::empty())
    }
}

/// The headers of a stream of events.
pub fn stream_response(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// Whether `subscriptions/listen` is the server's to answer. Over HTTP a modern server must know it; a child that announces
/// no changes need not, and then the gateway tells what it finds out itself.
fn has_own_stream(entry: &Entry) -> bool {
    let announces = |peer: &Peer| {
        [["tools", "listChanged"], ["prompts", "listChanged"], ["resources", "listChanged"], ["resources", "subscribe"]]
            .iter()
            .any(|path| peer.can(path))
    };
    let over_http = matches!(entry.upstream.transport, crate::upstream::Transport::Http(_));
    entry.upstream.known().is_some_and(|peer| peer.modern.is_some() && (over_http || announces(&peer)))
}

/// Leaves the headers that may go along to the server. The others hold the client's read buffer, and much memory that would be
/// cold by the time the answer comes.
fn only_what_goes_along(headers: &mut HeaderMap) {
    let goes = |name: &HeaderName| TRACE.contains(&name.as_str()) || name.as_str().starts_with(meta::PARAM_PREFIX);
    *headers =
        headers.iter().filter(|(name, _)| goes(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
}

fn param_headers(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let of_params = headers.iter().filter(|(name, _)| name.as_str().starts_with(meta::PARAM_PREFIX));
    of_params.map(|(name, value)| (name.clone(), value.clone())).take(64).collect()
}

/// 202 without a body: a notification was taken.
pub fn accepted() -> Response {
    empty_response(StatusCode::ACCEPTED)
}
