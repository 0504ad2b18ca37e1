//! The doors of the gateway: `POST`, `GET` and `DELETE` of Streamable HTTP at `/mcp` and `/mcp/{server}`, for both eras on one
//! URL. It lets the caller in, reads the envelope, finds the session, and hands requests to `exchange`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::access::{AuthError, Caller, Opening};
use crate::app::App;
use crate::grants::Step;
use crate::limit::guard::Barred;
use crate::mcp::error::{Refusal, empty_response};
use crate::mcp::exchange::{Call, accepted};
use crate::mcp::headers::{check_modern, era_of, only};
use crate::mcp::record::Finish;
use crate::mcp::session::{Reach, Session};
use crate::mcp::{admit, batch, early, handshake, legacy_sse, listen, notices};
use crate::protocol::era::{Era, UNSTATED, Version};
use crate::protocol::message::{Message, Shape};
use crate::protocol::meta;
use crate::store::now;
use crate::telemetry::{Operation, Outcome, RequestId, SessionTag, TraceParent};
use crate::web::barred;
use crate::web::body::{BodyProblem, read};
use crate::web::challenge::{challenge, insufficient_scope};
use crate::web::path::Named;
use crate::web::proof::{Address, Sent};
use crate::web::{Source, Visit, caller};
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode};

/// `/mcp`: everything the caller sees.
pub const ALL: &str = "/mcp";
/// `/mcp/{server}`: one server.
pub const ONE: &str = "/mcp/{server}";

/// When a credential that could not be checked is worth showing again.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// A request that was let in; it reaches everything until somebody narrows it.
pub(super) struct Entered {
    pub(super) app: App,
    pub(super) caller: Caller,
    pub(super) headers: HeaderMap,
    pub(super) reach: Reach,
    pub(super) finish: Finish,
}

/// `POST /mcp`.
pub fn post_all(
    State(app): State<App>,
    request: Request<axum::body::Body>,
) -> impl Future<Output = Response> + Send + 'static {
    post(app, None, request)
}

/// `POST /mcp/{server}`.
pub fn post_one(
    State(app): State<App>,
    Named(server): Named,
    request: Request<axum::body::Body>,
) -> impl Future<Output = Response> + Send + 'static {
    post(app, Some(server), request)
}

/// What comes next for a message.
enum Next {
    /// It is a request.
    Serve(Box<Call>),
    /// It is answered.
    Done(Response),
    /// What is seldom, and may take its time.
    Later(Pin<Box<dyn Future<Output = Response> + Send>>),
}

/// `POST`, of everything or of one server. Not itself asynchronous: what is read off the head of a request has no place in the future of its call.
pub fn post(
    app: App,
    server: Option<String>,
    request: Request<axum::body::Body>,
) -> impl Future<Output = Response> + Send + 'static {
    // What else the request came with is dropped here: a call should not carry it while it waits for its server.
    let (Parts { headers, mut extensions, .. }, body) = request.into_parts();
    let visit = extensions.remove::<Visit>();
    let endpoint = if server.is_some() { ONE } else { ALL };
    async move {
        let entered = enter(app, "POST", [ALL, ONE], server.as_deref(), headers, visit.as_ref()).await;
        let next = match entered {
            Ok(entered) => take(entered, body, endpoint, visit).await,
            Err(refusal) => return refusal.respond(None),
        };
        match next {
            Next::Serve(call) => early::answer(call).await,
            Next::Done(response) => response,
            Next::Later(response) => response.await,
        }
    }
}

/// Reads the message, and finds out what it is.
async fn take(mut entered: Entered, body: axum::body::Body, endpoint: &'static str, visit: Option<Visit>) -> Next {
    let text = match read_message(&entered.headers, body).await {
        Ok(text) => text,
        Err(refusal) => return Next::Done(entered.refuse(&refusal, None)),
    };
    if batch::is_batch(&text) {
        return Next::Later(Box::pin(batch::take(entered, text, endpoint, visit)));
    }
    let message = match Message::of_client(text) {
        Ok(message) => message,
        Err(problem) => return Next::Done(entered.refuse(&problem.into(), None)),
    };
    entered.finish.fill(|operation| {
        operation.sizes.request = message.bytes().len() as u64;
        operation.set_method(&message.method());
    });
    match era_of(&entered.headers, &message) {
        Era::Modern => modern(entered, message),
        Era::Legacy => legacy(entered, message),
    }
}

/// Lets a request in: credential, then server, so that nobody learns without a credential which servers there are. `doors` are
/// the paths for all servers and for one.
pub(super) async fn enter(
    app: App,
    verb: &'static str,
    doors: [&'static str; 2],
    server: Option<&str>,
    headers: HeaderMap,
    visit: Option<&Visit>,
) -> Result<Entered, Refusal> {
    let what = Opening::of(server);
    let mut entered = let_in(app, verb, doors[usize::from(server.is_some())], what, headers, visit).await?;
    match reach_of(&entered.app, &entered.caller, server) {
        Ok(reach) => entered.reach = reach,
        Err(refusal) => {
            entered.note(&refusal);
            return Err(refusal);
        }
    }
    Ok(entered)
}

/// Lets in whoever shows a good credential, and records whoever does not.
pub(super) async fn let_in(
    app: App,
    verb: &'static str,
    endpoint: &'static str,
    what: Opening<'_>,
    headers: HeaderMap,
    visit: Option<&Visit>,
) -> Result<Entered, Refusal> {
    let mut finish = begin(&app, verb, endpoint, &headers, visit);
    let to = match endpoint {
        ONE => Address::Newer(what),
        legacy_sse::ONE => Address::Older(what),
        path => Address::Path(path),
    };
    let source = Source::from_visit(visit);
    let caller = match caller::admit(&app, &headers, what, Sent { method: verb, to }, source).await {
        Ok(caller) => caller,
        Err(error) => {
            finish.end(match error {
                AuthError::TooManyBare { .. } => Outcome::RateLimited,
                error => Outcome::Denied(error.reason()),
            });
            if let (AuthError::Missing, Some(visit)) = (error, visit) {
                let detail = format!("a program called {what} without a credential and was told where to sign in");
                app.grants.preludes().note(visit.client, Step::good("challenge", detail, now()));
            }
            return Err(unauthorized(&app, what, endpoint, error));
        }
    };
    Ok(admitted(app, caller, headers, finish))
}

/// One more message of a request that was let in: a record of its own, for the same caller.
pub(super) fn again(of: &Entered, endpoint: &'static str, visit: Option<&Visit>) -> Entered {
    let finish = begin(&of.app, "POST", endpoint, &of.headers, visit);
    Entered { reach: of.reach, ..admitted(of.app.clone(), of.caller.clone(), of.headers.clone(), finish) }
}

fn admitted(app: App, caller: Caller, headers: HeaderMap, mut finish: Finish) -> Entered {
    finish.fill(|operation| operation.who = Some(Arc::clone(caller.actor())));
    Entered { app, caller, headers, reach: Reach::All, finish }
}

/// What a path that names this server, or none, reaches.
fn reach_of(app: &App, caller: &Caller, server: Option<&str>) -> Result<Reach, Refusal> {
    let Some(slug) = server else { return Ok(Reach::All) };
    let snapshot = app.registry.snapshot();
    let entry = snapshot.tenant(caller.tenant()).and_then(|tenant| tenant.entry(caller, slug));
    Ok(Reach::One(entry.ok_or_else(|| no_server(slug))?.upstream.server.id))
}

/// Begins the record of a request.
fn begin(app: &App, verb: &'static str, endpoint: &'static str, headers: &HeaderMap, visit: Option<&Visit>) -> Finish {
    let request_id = visit.map_or_else(RequestId::new, |visit| visit.request_id.clone());
    let mut operation = Operation::start(request_id, endpoint);
    operation.address = visit.map(|visit| visit.client);
    app.recorder.trace(&mut operation, TraceParent::of(headers));
    operation.method = Cow::Borrowed(verb);
    Finish::new(operation, app.recorder.clone())
}

fn unauthorized(app: &App, what: Opening<'_>, endpoint: &str, error: AuthError) -> Refusal {
    if matches!(error, AuthError::Unavailable | AuthError::ProviderAway) {
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, meta::INTERNAL_ERROR, error.to_string());
        return Refusal { retry_after: Some(TRY_AGAIN), ..refusal };
    }
    if let AuthError::TooManyBare { rpm, seconds } = error {
        return admit::without_credential(error, rpm, seconds);
    }
    // A client takes the description only of the address that it was given (RFC 9728 section 3.3).
    let at = if [ALL, ONE].contains(&endpoint) { what.to_string() } else { what.older().to_string() };
    if let AuthError::LacksScope { bound } = error {
        let mut refusal = Refusal::new(StatusCode::FORBIDDEN, meta::INVALID_REQUEST, format!("Forbidden: {error}"));
        refusal.headers.push((WWW_AUTHENTICATE, insufficient_scope(app, at, what.scope(), bound)));
        return refusal;
    }
    let mut text = format!("Unauthorized: {error}");
    // People read this where their program cannot sign in by itself.
    if matches!(error, AuthError::ComeBack | AuthError::Gone) {
        _ = write!(text, " (what acts for you is at {}/access)", app.issuer.as_str().trim_end_matches('/'));
    }
    let mut refusal = Refusal::new(StatusCode::UNAUTHORIZED, meta::INVALID_REQUEST, text);
    refusal.headers.push((WWW_AUTHENTICATE, challenge(app, what, at, error)));
    refusal
}

fn no_server(slug: &str) -> Refusal {
    let slug: String = slug.chars().take(60).collect();
    let text = format!("there is no server `{slug}` here, or it is not for you");
    Refusal::new(StatusCode::NOT_FOUND, meta::INVALID_REQUEST, text)
}

async fn read_message(headers: &HeaderMap, body: axum::body::Body) -> Result<Bytes, Refusal> {
    if !accepts(headers, &["application/json", "text/event-stream"]) {
        let text = "the client must accept both `application/json` and `text/event-stream`";
        return Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, meta::INVALID_REQUEST, text));
    }
    read_text(headers, body).await
}

/// The message in a body that says that it is JSON.
pub(super) async fn read_json(headers: &HeaderMap, body: axum::body::Body) -> Result<Message, Refusal> {
    Ok(Message::of_client(read_text(headers, body).await?)?)
}

/// The text in a body that says that it is JSON.
async fn read_text(headers: &HeaderMap, body: axum::body::Body) -> Result<Bytes, Refusal> {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if !meta::is_type(kind, b"application/json") {
        let text = "send the message as `Content-Type: application/json`";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, meta::INVALID_REQUEST, text));
    }
    read(body).await.map_err(unread)
}

/// Says why a body could not be read.
pub fn unread(problem: BodyProblem) -> Refusal {
    let status = match problem {
        BodyProblem::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        BodyProblem::TooSlow => StatusCode::REQUEST_TIMEOUT,
        BodyProblem::Broken => StatusCode::BAD_REQUEST,
    };
    Refusal::new(status, meta::INVALID_REQUEST, problem.to_string())
}

/// Says that nothing is taken from an address for now, or not what it shows.
pub fn held_off(barred: &Barred) -> Response {
    let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, meta::INVALID_REQUEST, barred::sentence(barred));
    Refusal { retry_after: Some(barred.retry_after), ..refusal }.respond(None)
}

/// Says that what cannot be recorded is not done.
pub fn unrecorded() -> Response {
    let problem = crate::web::unrecorded();
    let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, meta::INTERNAL_ERROR, problem.recorded());
    Refusal { retry_after: Some(TRY_AGAIN), ..refusal }.respond(None)
}

/// Whether the client takes all of these. A client that sends no `Accept` takes everything (RFC 9110, section 12.5.1).
pub(super) fn accepts(headers: &HeaderMap, wanted: &[&str]) -> bool {
    // As most programs write it.
    if headers.get(ACCEPT).is_some_and(|value| value == "application/json, text/event-stream") {
        return wanted.iter().all(|kind| ["application/json", "text/event-stream"].contains(kind));
    }
    let values = || headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges =
        || values().flat_map(|value| value.split(',')).map(|range| range.split(';').next().unwrap_or_default());
    let takes = |kind: &&str| {
        let group = kind.split('/').next().unwrap_or_default();
        ranges().map(str::trim).any(|name| {
            name.eq_ignore_ascii_case(kind)
                || name == "*/*"
                || name.strip_suffix("/*").is_some_and(|name| name == group)
        })
    };
    values().next().is_none() || wanted.iter().all(takes)
}

impl Entered {
    pub(super) fn refuse(mut self, refusal: &Refusal, id: Option<&[u8]>) -> Response {
        self.note(refusal);
        refusal.respond(id)
    }

    /// Takes one of what the user may have, for what is no call.
    pub(super) fn admit_user(&mut self) -> Result<(), Refusal> {
        admit::admit_user(&self.app, &self.caller, &mut self.finish)
    }

    fn note(&mut self, refusal: &Refusal) {
        self.finish.note(refusal);
        self.finish.end(Outcome::Error { whose: crate::fault::Whose::Client, kind: "bad_request" });
    }

    pub(super) fn into_call(self, message: Message, session: Option<Arc<Session>>) -> Box<Call> {
        let Self { app, caller, headers, reach, finish } = self;
        Box::new(Call { app, caller, message, headers, reach, session, finish, carried: false })
    }
}

/// A message of the modern era stands by itself.
fn modern(mut entered: Entered, message: Message) -> Next {
    if let Err(refusal) = check_modern(&entered.headers, &message) {
        return Next::Done(entered.refuse(&refusal, message.id()));
    }
    let version = crate::protocol::era::MODERN.as_str();
    entered.finish.fill(|operation| operation.client_version = Some(version));
    match message.shape() {
        Shape::Request => Next::Serve(entered.into_call(message, None)),
        // Closing the stream is how a modern client cancels; nothing else is notified over HTTP.
        Shape::Notification => {
            if let Err(refusal) = entered.admit_user() {
                return Next::Done(entered.refuse(&refusal, None));
            }
            entered.finish.end(Outcome::Success);
            Next::Done(accepted())
        }
        Shape::Result | Shape::Error => {
            let refusal = Refusal::bad(meta::INVALID_REQUEST, "a client of this version sends no responses");
            Next::Done(entered.refuse(&refusal, None))
        }
    }
}

/// A message of the legacy era belongs to a session, or opens one.
fn legacy(mut entered: Entered, message: Message) -> Next {
    if let Err(refusal) = legacy_version(&entered.headers) {
        return Next::Done(entered.refuse(&refusal, message.id()));
    }
    if message.shape() == Shape::Request && message.method() == "initialize" {
        return Next::Later(Box::pin(handshake::initialize(entered.into_call(message, None))));
    }
    let session = match session_of(&entered) {
        Ok(session) => session,
        Err(refusal) => return Next::Done(entered.refuse(&refusal, message.id())),
    };
    entered.finish.fill(|operation| {
        operation.session = Some(SessionTag::of(&session.id));
        operation.client_version = Some(session.version.as_str());
    });
    let shape = message.shape();
    let call = entered.into_call(message, Some(session));
    match shape {
        Shape::Request => Next::Serve(call),
        Shape::Notification => Next::Later(Box::pin(notices::notification(call))),
        Shape::Result | Shape::Error => Next::Later(Box::pin(notices::answer(call))),
    }
}

/// A header that names a version must name one of its era that is spoken here.
pub(super) fn legacy_version(headers: &HeaderMap) -> Result<Version, Refusal> {
    match only(headers, &meta::VERSION_HEADER)? {
        None => Ok(UNSTATED),
        Some(text) => Version::parse(text).ok_or_else(|| Refusal::version(text)),
    }
}

pub(super) fn session_of(entered: &Entered) -> Result<Arc<Session>, Refusal> {
    let id = entered.headers.get(&meta::SESSION_HEADER).ok_or_else(|| {
        Refusal::bad(
            meta::INVALID_REQUEST,
            "the header Mcp-Session-Id is missing: send `initialize` first, or speak protocol 2026-07-28",
        )
    })?;
    let (principal, tenant) = (entered.caller.principal(), entered.caller.tenant());
    let session = entered.app.sessions.get(id, principal, tenant).ok_or_else(Refusal::no_session)?;
    // A session of another endpoint is none of this one.
    if session.reach == entered.reach { Ok(session) } else { Err(Refusal::no_session()) }
}

/// `GET /mcp`: the stream for what belongs to no request, in the legacy era.
pub async fn get_all(State(app): State<App>, headers: HeaderMap, visit: Option<axum::Extension<Visit>>) -> Response {
    get(app, None, headers, visit.as_deref()).await
}

/// `GET /mcp/{server}`.
pub async fn get_one(
    State(app): State<App>,
    Named(server): Named,
    headers: HeaderMap,
    visit: Option<axum::Extension<Visit>>,
) -> Response {
    get(app, Some(&server), headers, visit.as_deref()).await
}

async fn get(app: App, server: Option<&str>, headers: HeaderMap, visit: Option<&Visit>) -> Response {
    let mut entered = match enter(app, "GET", [ALL, ONE], server, headers, visit).await {
        Ok(entered) => entered,
        Err(refusal) => return refusal.respond(None),
    };
    if !accepts(&entered.headers, &["text/event-stream"]) {
        let text = "this URL answers GET with `text/event-stream` only";
        return entered.refuse(&Refusal::new(StatusCode::NOT_ACCEPTABLE, meta::INVALID_REQUEST, text), None);
    }
    if speaks_modern(&entered.headers) {
        return method_not_allowed(entered);
    }
    if let Err(refusal) = entered.admit_user() {
        return entered.refuse(&refusal, None);
    }
    let session = match legacy_version(&entered.headers).and_then(|_| session_of(&entered)) {
        Ok(session) => session,
        Err(refusal) => return entered.refuse(&refusal, None),
    };
    entered.finish.fill(|operation| operation.session = Some(SessionTag::of(&session.id)));
    let Entered { app, caller, headers, mut finish, .. } = entered;
    match app.streams.seat(&caller) {
        Ok(seat) => listen::stream(app, caller, session, &headers, finish, Some(seat)).await,
        Err(fault) => {
            finish.fail(&fault);
            Refusal::full(&fault).respond(None)
        }
    }
}

fn speaks_modern(headers: &HeaderMap) -> bool {
    headers
        .get(&meta::VERSION_HEADER)
        .and_then(|value| Version::parse(value.to_str().ok()?))
        .is_some_and(|version| version.era() == Era::Modern)
}

fn method_not_allowed(mut entered: Entered) -> Response {
    entered.finish.end(Outcome::Error { whose: crate::fault::Whose::Client, kind: "bad_request" });
    let mut response = empty_response(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

/// `DELETE /mcp`: ends a session.
pub async fn delete_all(State(app): State<App>, headers: HeaderMap, visit: Option<axum::Extension<Visit>>) -> Response {
    delete(app, None, headers, visit.as_deref()).await
}

/// `DELETE /mcp/{server}`.
pub async fn delete_one(
    State(app): State<App>,
    Named(server): Named,
    headers: HeaderMap,
    visit: Option<axum::Extension<Visit>>,
) -> Response {
    delete(app, Some(&server), headers, visit.as_deref()).await
}

async fn delete(app: App, server: Option<&str>, headers: HeaderMap, visit: Option<&Visit>) -> Response {
    let mut entered = match enter(app, "DELETE", [ALL, ONE], server, headers, visit).await {
        Ok(entered) => entered,
        Err(refusal) => return refusal.respond(None),
    };
    if speaks_modern(&entered.headers) {
        return method_not_allowed(entered);
    }
    let session = match session_of(&entered) {
        Ok(session) => session,
        Err(refusal) => return entered.refuse(&refusal, None),
    };
    if let Some(session) = entered.app.sessions.end(&session.id) {
        handshake::close_behind(&entered.app, session);
    }
    entered.finish.end(Outcome::Success);
    empty_response(StatusCode::OK)
}
