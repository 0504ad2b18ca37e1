//! Streamable HTTP towards one registered server: which replica, which headers, and what kind of answer came back.
//! It knows the transport rules of both eras (2025-11-25 and 2026-07-28, basic/transports) and no method but
//! `initialize` and `server/discover`, which it needs to find out what the server speaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::Full;

use crate::access::Caller;
use crate::balance::{InFlight, Replicas, Room, Scaling};
use crate::fault::{Fault, Kind, Retry};
use crate::net::Target;
use crate::protocol::challenge::Challenge;
use crate::protocol::era::{Era, MODERN, Version};
use crate::protocol::members::with_meta;
use crate::protocol::message::{Message, Shape};
use crate::protocol::meta;
use crate::registry::model::{Server, ServerSpec};
use crate::telemetry::Metrics;
use crate::upstream::Ground;
use crate::upstream::channel::wanted::Wanted;
use crate::upstream::credentials::{Holder, Key, Plan, Shown};
use crate::upstream::events::EventStream;
use crate::upstream::peer::modern_request;
use crate::upstream::trip::Trip;
use crate::upstream::wire::{Body, Reply, Wire};

/// Bounds on what comes back.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// One JSON answer or one event, bytes.
    pub message: usize,
    /// Requests in flight to one replica, and, as many as there may be of these, connections to it at rest.
    pub pool: Scaling,
}

/// Headers that a request usually has room for.
const HEADERS: usize = 16;
/// Longest challenge that is read, bytes.
const LONGEST_CHALLENGE: usize = 16 << 10;
/// How many requests may wait for each that may ever be in flight.
const QUEUE: usize = 10;
/// How long a request waits for its turn where as many are in flight as may.
const TURN: Duration = Duration::from_secs(10);

/// A server reached by Streamable HTTP.
pub struct HttpServer {
    replicas: Vec<Place>,
    balance: Replicas,
    /// Milliseconds.
    patience: AtomicU64,
    limits: Limits,
    /// What the gateway's own session is wanted to tell of.
    pub(super) wanted: Wanted,
    /// What requests show besides; none where their headers say all.
    plan: Option<Arc<Plan>>,
}

struct Place {
    wire: Arc<Wire>,
    path: PathAndQuery,
    /// What every request there carries, with room for what it carries besides.
    headers: HeaderMap,
}

/// One message on its way out.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// The JSON-RPC message.
    pub message: Bytes,
    /// The version to announce; none before one is agreed.
    pub version: Option<Version>,
    /// The session, in the legacy era.
    pub session: Option<HeaderValue>,
    /// Headers that mirror the body, in the modern era, and what else belongs to this call alone.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Where to, if not to the registered path.
    pub path: Option<PathAndQuery>,
    /// In whose name; none: the gateway's own.
    pub whose: Option<Caller>,
}

/// An answer, by kind. `attempt` is told how it ended.
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Content and its form.
    pub content: Content,
    /// The replica's account of this call.
    pub attempt: InFlight,
    /// The session that the server opened with this answer.
    pub session: Option<HeaderValue>,
}

/// What an answer holds.
pub enum Content {
    /// Nothing (202, 204).
    Empty,
    /// One JSON text, not read yet.
    Json(Body),
    /// A stream of events, not read yet.
    Events(Body),
}

impl Outgoing {
    /// A modern request of the gateway's own; `params` is a JSON object without `_meta`.
    pub fn modern(id: &str, method: &str, params: &str) -> Self {
        let message = modern_request(id, method, params);
        Self { message, version: Some(MODERN), headers: mirror(Era::Modern, method, None), ..Self::default() }
    }
}

impl HttpServer {
    /// Sets up the replicas; nothing is contacted. What `previous` knew of a replica with the same URL is kept.
    pub fn new(server: &Server, ground: &Ground, previous: Option<&Self>) -> Result<Self, Fault> {
        let Ground { outbound, limits, credentials, .. } = ground;
        let (limits, plan) = (*limits, Plan::of(server, credentials)?);
        let setup = |text: String| Fault::gateway(Kind::Setup, text);
        let spec = &server.spec;
        let connect = Duration::from_millis(spec.timeouts.connect_ms);
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("mcp-gateway/", env!("CARGO_PKG_VERSION"))));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        for (name, value) in &spec.headers {
            let bad = |()| setup(format!("header `{name}` cannot be sent"));
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad(()))?;
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| bad(()))?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        let Scaling { most, .. } = limits.pool;
        // The queue is as long however low the limit is: what comes before it has grown is not lost.
        let room = Room { most: limits.pool.first(), queue: most.saturating_mul(QUEUE), patience: TURN };
        let balance = Replicas::new(&spec.replicas, spec.balance, room, previous.map(Self::balance), Instant::now());
        let mut replicas = Vec::with_capacity(spec.replicas.len());
        for (index, replica) in spec.replicas.iter().enumerate() {
            let target = Target::parse(&replica.url)?;
            let uri: http::Uri = replica.url.parse().map_err(|error| setup(format!("bad URL: {error}")))?;
            let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
            let host = HeaderValue::from_str(&target.authority())
                .map_err(|_| setup("the host name does not fit into a header".to_owned()))?;
            let mut own = HeaderMap::with_capacity(HEADERS);
            own.insert(HOST, host);
            own.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
            let wire = Arc::new(Wire::new(target, outbound.clone(), connect, most, balance.sockets(index)));
            replicas.push(Place { wire, path, headers: own });
        }
        let (patience, wanted) = (AtomicU64::new(spec.timeouts.idle_ms), Wanted::default());
        Ok(Self { replicas, balance, patience, limits, wanted, plan })
    }

    /// Takes over timeouts and policy of a description that is otherwise the same, for calls from now on.
    pub fn retune(&self, spec: &ServerSpec) {
        self.patience.store(spec.timeouts.idle_ms, Relaxed);
        self.balance.follow(spec.balance);
        for place in &self.replicas {
            place.wire.connect_within(Duration::from_millis(spec.timeouts.connect_ms));
        }
    }

    /// Breakers and loads, for status pages.
    pub fn balance(&self) -> &Replicas {
        &self.balance
    }

    /// To be called once a second: limits follow the load, and connections that have rested too long are closed.
    pub fn settle(&self, server: &str, metrics: &Metrics, now: Instant) {
        self.balance.settle(&self.limits.pool, metrics, server, now);
        for place in &self.replicas {
            place.wire.sweep(now);
        }
    }

    /// The connections of each replica, for status pages.
    pub fn wires(&self) -> impl Iterator<Item = &Arc<Wire>> {
        self.replicas.iter().map(|place| &place.wire)
    }

    /// Where a replica is.
    pub fn target(&self, replica: usize) -> Option<&Target> {
        self.replicas.get(replica).map(|place| place.wire.target())
    }

    /// The registered path of a replica.
    pub fn path(&self, replica: usize) -> Option<&PathAndQuery> {
        self.replicas.get(replica).map(|place| &place.path)
    }

    /// The bounds in force.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Gets what is to be shown in this name, if it is not there: before a place on a replica is taken, which would be held meanwhile, and
    /// would tell of the replica what is no fault of its own.
    pub async fn prepare(&self, whose: Option<&Caller>) -> Result<(), Fault> {
        match &self.plan {
            Some(plan) => match plan.ready(whose) {
                // Boxed, as all that is seldom: a call's future is as large as the largest thing that it might wait for.
                Err(key) => Box::pin(plan.get(key, whose)).await.map(drop),
                Ok(_) => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// POSTs to the first replica of the caller's order that takes it. `again` allows another replica after one that may
    /// have acted on the message.
    pub async fn post(&self, trip: &Trip, caller: u64, again: bool, outgoing: &Outgoing) -> Result<Answer, Fault> {
        self.prepare(outgoing.whose.as_ref()).await?;
        let order = self.order(caller)?;
        self.walk(trip, order, again, |place| self.send_with(place, Method::POST, outgoing)).await
    }

    /// Asks something harmless only to see what comes back; a breaker hears nothing of a fault that is `beside_the_point`.
    pub async fn sound(
        &self,
        caller: u64,
        outgoing: &Outgoing,
        beside_the_point: impl Fn(&Fault) -> bool,
    ) -> Result<Message, Fault> {
        self.prepare(outgoing.whose.as_ref()).await?;
        let (trip, order, unheard) = (Trip::default(), self.order(caller)?, &beside_the_point);
        self.walk(&trip, order, true, |mut place| async move {
            let asked = self.ask_one(place.index(), Method::POST, outgoing).await;
            let asked = asked.and_then(|(message, _)| message.ok_or_else(|| garbage("an empty answer to a request")));
            if !asked.as_ref().is_err_and(unheard) {
                place.report(asked.as_ref().map(drop), Instant::now());
            }
            asked
        })
        .await
    }

    /// Sends to one replica, whatever the others do.
    pub async fn send(
        &self,
        trip: &Trip,
        replica: usize,
        method: Method,
        outgoing: &Outgoing,
    ) -> Result<Answer, Fault> {
        self.prepare(outgoing.whose.as_ref()).await?;
        let place = self.place(trip, replica).await?;
        self.send_with(place, method, outgoing).await
    }

    /// Sends to the replica on which this is a place.
    pub async fn send_with(&self, mut attempt: InFlight, method: Method, outgoing: &Outgoing) -> Result<Answer, Fault> {
        match self.send_there(attempt.index(), method, outgoing, Some(&mut attempt)).await {
            Ok((status, content, session)) => Ok(Answer { status, content, attempt, session }),
            Err(fault) => {
                attempt.report(Err(&fault), Instant::now());
                Err(fault)
            }
        }
    }

    async fn send_there(
        &self,
        replica: usize,
        method: Method,
        outgoing: &Outgoing,
        mut held: Option<&mut InFlight>,
    ) -> Result<(StatusCode, Content, Option<HeaderValue>), Fault> {
        let Some(place) = self.replicas.get(replica) else {
            return Err(Fault::gateway(Kind::Setup, "the replica is gone"));
        };
        let patience = Duration::from_millis(self.patience.load(Relaxed));
        let mut shown = match self.plan.as_ref().map(|plan| plan.ready(outgoing.whose.as_ref())) {
            None | Some(Ok(None)) => None,
            Some(Ok(ready)) => ready,
            // It has ended since it was prepared, or this goes to a replica whatever its places say.
            Some(Err(key)) => Box::pin(aside(held.as_deref_mut(), self.to_show(key, outgoing))).await?,
        };
        let until = held.as_ref().and_then(|held| held.due());
        let mut reply = {
            let mut request = Some(Self::request(place, &method, outgoing, shown.as_deref()));
            place.wire.send(&mut request, patience, until).await?
        };
        let refused = reply.status == StatusCode::UNAUTHORIZED;
        if let Some(taken) = shown.as_ref().filter(|_| !refused) {
            taken.was_taken();
        } else if let Some(before) = shown.take() {
            let Reply { status, headers, body } = reply;
            // Neither the connection nor the place on it is held while another credential is got.
            Box::pin(body.finish()).await;
            let Some(other) = Box::pin(self.instead(&before, &headers, outgoing, held)).await? else {
                return Err(Box::pin(self.refusal(status, &headers, outgoing, Some(&before))).await);
            };
            // Nothing was acted on: it was not let in.
            let mut request = Some(Self::request(place, &method, outgoing, Some(&other)));
            reply = place.wire.send(&mut request, patience, until).await?;
            shown = Some(other);
        }
        if matches!(reply.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let Reply { status, headers, body } = reply;
            Box::pin(body.finish()).await;
            return Err(Box::pin(self.refusal(status, &headers, outgoing, shown.as_deref())).await);
        }
        self.classify(reply).await
    }

    /// What a refusal of what was shown comes to.
    async fn refusal(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        outgoing: &Outgoing,
        shown: Option<&Shown>,
    ) -> Fault {
        match self.to_connect(status, headers, outgoing, shown).await {
            Some(fault) => fault,
            None => self.explained(not_let_in(status), outgoing),
        }
    }

    /// What the caller is told to do about it, where they connected their account to the server.
    async fn to_connect(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        outgoing: &Outgoing,
        shown: Option<&Shown>,
    ) -> Option<Fault> {
        let (plan, caller) = (self.plan.as_ref()?, outgoing.whose.as_ref());
        if status == StatusCode::UNAUTHORIZED {
            return plan.to_connect(caller, None).await;
        }
        let challenge = Challenge::bearer(headers)?;
        let more = (challenge.get("error") == Some("insufficient_scope")).then(|| challenge.get("scope"))?;
        plan.to_connect(caller, Some((shown?, more.unwrap_or_default()))).await
    }

    /// For whom is what a request in this name opens at the server.
    pub fn holder(&self, whose: Option<&Caller>) -> Holder {
        self.plan.as_ref().map_or(Holder::Gateway, |plan| plan.holder(whose))
    }

    /// Whether the gateway itself has nothing to show, but people have.
    pub fn is_for_people_only(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.is_for_people_only())
    }

    async fn to_show(&self, key: Key, outgoing: &Outgoing) -> Result<Option<Arc<Shown>>, Fault> {
        let Some(plan) = &self.plan else { return Err(Fault::gateway(Kind::NoCredential, "nothing is to be shown")) };
        plan.get(key, outgoing.whose.as_ref()).await.map(Some)
    }

    /// What to show in the place of what this answer refuses, if there is something.
    async fn instead(
        &self,
        refused: &Arc<Shown>,
        answer: &HeaderMap,
        outgoing: &Outgoing,
        held: Option<&mut InFlight>,
    ) -> Result<Option<Arc<Shown>>, Fault> {
        let Some(plan) = &self.plan else { return Ok(None) };
        aside(held, plan.instead(refused, outgoing.whose.as_ref(), wanted_claims(answer))).await
    }

    /// A refusal of whoever it was that came.
    fn explained(&self, fault: Fault, outgoing: &Outgoing) -> Fault {
        if fault.kind != Kind::Refused || self.plan.is_none() {
            return fault;
        }
        match &outgoing.whose {
            Some(caller) if self.holder(Some(caller)) != Holder::Gateway => fault
                .telling("the server does not let you in with what the gateway shows it for you; ask an administrator"),
            Some(_) => fault,
            None => {
                let detail = format!("{}; the gateway's own questions go with `discovery_auth`", fault.detail);
                Fault { detail, ..fault }
            }
        }
    }

    fn request(place: &Place, method: &Method, outgoing: &Outgoing, shown: Option<&Shown>) -> Request<Full<Bytes>> {
        let meta = shown.and_then(|shown| shown.meta.as_ref());
        let message = meta.map_or_else(|| outgoing.message.clone(), |(name, value)| telling(outgoing, name, value));
        let mut request = Request::new(Full::new(message));
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(outgoing.path.as_ref().unwrap_or(&place.path).clone());
        *request.uri_mut() = http::Uri::from_parts(uri).unwrap_or_default();
        let headers = request.headers_mut();
        headers.clone_from(&place.headers);
        if let Some(version) = outgoing.version {
            headers.insert(&meta::VERSION_HEADER, HeaderValue::from_static(version.as_str()));
        }
        if let Some(session) = &outgoing.session {
            headers.insert(&meta::SESSION_HEADER, session.clone());
        }
        for (name, value) in &outgoing.headers {
            headers.insert(name, value.clone());
        }
        for (name, value) in shown.iter().flat_map(|shown| &shown.headers) {
            headers.insert(name, value.clone());
        }
        if *method == Method::GET {
            headers.remove(CONTENT_TYPE);
            headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        }
        *request.method_mut() = method.clone();
        request
    }

    async fn classify(&self, reply: Reply) -> Result<(StatusCode, Content, Option<HeaderValue>), Fault> {
        let Reply { status, mut headers, body } = reply;
        let session = headers.remove(&meta::SESSION_HEADER);
        let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let json = meta::is_type(kind, b"application/json");
        let events = meta::is_type(kind, b"text/event-stream");
        let fault = |kind, text: String| Err(Fault::upstream(kind, Retry::MaybeSent, text));
        let code = status.as_u16();
        match code {
            200..300 if events => Ok((status, Content::Events(body), session)),
            200..300 if json => Ok((status, Content::Json(body), session)),
            202 | 204 => {
                Box::pin(body.finish()).await;
                Ok((status, Content::Empty, session))
            }
            200..300 => {
                let kind_text = String::from_utf8_lossy(kind).chars().take(60).collect::<String>();
                let start = Box::pin(peek(body)).await;
                fault(Kind::Garbage, format!("HTTP {code} with content type `{kind_text}` is no MCP answer{start}"))
            }
            // A client error with a JSON-RPC body is an answer: unknown session, wrong version, unknown method.
            400..500 if json && code != 429 => Ok((status, Content::Json(body), session)),
            300..400 => {
                Box::pin(body.finish()).await;
                fault(Kind::Status(code), format!("the server redirects (HTTP {code}); register the final URL"))
            }
            _ => {
                Box::pin(body.finish()).await;
                let mut error =
                    Fault::upstream(Kind::Status(code), Retry::MaybeSent, format!("the server answered HTTP {code}"));
                error.retry_after = headers
                    .get(RETRY_AFTER)
                    .and_then(|value| value.to_str().ok()?.trim().parse().ok())
                    .map(|seconds: u64| Duration::from_secs(seconds.min(86_400)));
                if code == 429 || code < 500 {
                    // Throttled or not found: nothing was done with it.
                    error.retry = Retry::NotSent;
                }
                Err(error)
            }
        }
    }

    /// Reads an answer until the response to the one request is there; notifications before it are passed over.
    pub async fn response(&self, answer: Answer) -> Result<Message, Fault> {
        let Answer { content, mut attempt, .. } = answer;
        let read = self.read(content).await;
        let read = read.and_then(|message| message.ok_or_else(|| garbage("an empty answer to a request")));
        attempt.report(read.as_ref().map(drop), Instant::now());
        read
    }

    async fn read(&self, content: Content) -> Result<Option<Message>, Fault> {
        match content {
            Content::Empty => Ok(None),
            Content::Json(body) => body.collect(self.limits.message).await.and_then(read_message).map(Some),
            Content::Events(body) => first_response(EventStream::new(body, self.limits.message)).await.map(Some),
        }
    }

    /// Sends to one replica whatever its breaker says, which does not hear of it either: for checks, and for who tells it what
    /// came of it. The answer's message, if it has one, and the session that it opened.
    pub async fn ask_one(
        &self,
        replica: usize,
        method: Method,
        outgoing: &Outgoing,
    ) -> Result<(Option<Message>, Option<HeaderValue>), Fault> {
        let (_, content, session) = self.send_there(replica, method, outgoing, None).await?;
        Ok((self.read(content).await?, session))
    }

    /// The same, with the answer not yet read: for what is a part of an exchange of which the breaker hears as a whole.
    pub async fn send_beside(&self, replica: usize, method: Method, outgoing: &Outgoing) -> Result<Content, Fault> {
        self.send_there(replica, method, outgoing, None).await.map(|(_, content, _)| content)
    }
}

fn not_let_in(status: StatusCode) -> Fault {
    let text = format!("the server refused the gateway's credential (HTTP {})", status.as_u16());
    Fault::upstream(Kind::Refused, Retry::MaybeSent, text)
}

/// Waits for what somebody else gives: the place on the replica is for others meanwhile, and is taken again if there is something.
async fn aside<T>(
    held: Option<&mut InFlight>,
    given: impl Future<Output = Result<Option<T>, Fault>>,
) -> Result<Option<T>, Fault> {
    let Some(held) = held else { return given.await };
    let due = held.pause();
    let given = given.await?;
    if given.is_some() {
        held.resume(due).await?;
    }
    Ok(given)
}

/// The message with one more member in its `_meta`; an answer has none.
fn telling(outgoing: &Outgoing, name: &str, value: &str) -> Bytes {
    match Message::parse(outgoing.message.clone()) {
        Ok(message) if matches!(message.shape(), Shape::Request | Shape::Notification) => {
            with_meta(&message, &[(name, value.as_bytes())])
        }
        _ => outgoing.message.clone(),
    }
}

/// What a server wants to see in a token, JSON, if it says so as Entra's do (continuous access evaluation, "claims challenge").
fn wanted_claims(headers: &HeaderMap) -> Option<String> {
    let said = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let mut said =
        said.filter(|text| text.len() <= LONGEST_CHALLENGE && text.contains("error=\"insufficient_claims\""));
    let encoded = said.find_map(|text| text.split_once("claims=\"").and_then(|(_, rest)| rest.split('"').next()))?;
    let encoded = encoded.trim_end_matches('=').replace('+', "-").replace('/', "_");
    let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&claims).is_ok().then_some(claims)
}

/// The first words of an answer that is none, so that a person sees what sort of page it was.
async fn peek(mut body: Body) -> String {
    match tokio::time::timeout(Duration::from_secs(1), body.chunk()).await {
        Ok(Some(Ok(start))) => {
            let text: String = String::from_utf8_lossy(&start[..start.len().min(200)])
                .chars()
                .map(|letter| if letter.is_control() { ' ' } else { letter })
                .take(80)
                .collect();
            format!(": {}", text.trim())
        }
        _ => String::new(),
    }
}

/// A fault for an answer that is no MCP message.
pub fn garbage(text: impl Into<String>) -> Fault {
    Fault::upstream(Kind::Garbage, Retry::MaybeSent, text)
}

/// Checks what the server sent.
pub fn read_message(bytes: Bytes) -> Result<Message, Fault> {
    Message::parse(bytes).map_err(|error| garbage(format!("the server's answer is no MCP message: {error}")))
}

async fn first_response(mut events: EventStream) -> Result<Message, Fault> {
    while let Some(data) = events.data().await {
        let message = read_message(data?)?;
        if matches!(message.shape(), Shape::Result | Shape::Error) {
            Box::pin(events.finish()).await;
            return Ok(message);
        }
    }
    Err(Fault::upstream(Kind::Dropped, Retry::MaybeSent, "the stream ended without an answer"))
}

/// The headers that mirror a modern message (2026-07-28, basic/transports/streamable-http, "Standard Request Headers").
pub fn mirror(era: Era, method: &str, name: Option<&str>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    if era == Era::Modern {
        if let Ok(value) = HeaderValue::from_str(&meta::encode(method)) {
            headers.push((meta::METHOD_HEADER.clone(), value));
        }
        if let Some(value) = name.and_then(|name| HeaderValue::from_str(&meta::encode(name)).ok()) {
            headers.push((meta::NAME_HEADER.clone(), value));
        }
    }
    headers
}
