//! Streams for what belongs to no request: `GET` in the legacy era, `subscriptions/listen` in the modern one. At a server's own
//! endpoint the server's stream is passed on where it has one of the client's era; everywhere else the gateway tells what
//! changed in the registry and what servers said of resources that the client watches.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::header::{ALLOW, HeaderValue};
use http::{HeaderMap, StatusCode};
use tokio::sync::mpsc;

use crate::access::Caller;
use crate::app::App;
use crate::fault::{Fault, Kind as FaultKind};
use crate::id::ServerId;
use crate::json;
use crate::mcp::bridge::answer::Fix;
use crate::mcp::error::{Refusal, empty_response};
use crate::mcp::exchange::{Call, stream_response};
use crate::mcp::hear::hear_link;
use crate::mcp::outbox::Outbox;
use crate::mcp::reach::{self, Back};
use crate::mcp::record::Finish;
use crate::mcp::relay::{Parts, Relay};
use crate::mcp::resolve::LONGEST_URI;
use crate::mcp::session::{Reach, Session, is_part_of};
use crate::mcp::source::Source;
use crate::mcp::streams::{Seat, Tenure};
use crate::mcp::tasks;
use crate::mcp::watch::{self, Watch};
use crate::policy::What;
use crate::protocol::disguise::folds_to;
use crate::protocol::era::Era;
use crate::protocol::level::Level;
use crate::protocol::members::with_meta;
use crate::protocol::message::{self, Message};
use crate::protocol::{meta, sse};
use crate::registry::catalog::Kind;
use crate::registry::snapshot::{Entry, Tenant};
use crate::telemetry::Outcome;
use crate::upstream::http::{Answer, Content};
use crate::upstream::session::HttpSession;
use crate::upstream::trip::Trip;
use crate::upstream::{Notice, Transport, Upstream};
use crate::web::Unjudged;

/// Messages that wait for a slow listener; it then misses some.
const WAITING: usize = 64;
/// How long the last word of a stream waits for a slow listener.
const FAREWELL: Duration = Duration::from_secs(1);
/// Most resources that one modern stream watches.
const MOST_WATCHED: usize = 1_000;

/// What a modern client may wish to hear of (2026-07-28, basic/patterns/subscriptions).
const WISHES: [&str; 4] = ["toolsListChanged", "promptsListChanged", "resourcesListChanged", "resourceSubscriptions"];

/// What a listener wants to hear.
struct Wants {
    app: App,
    caller: Caller,
    reach: Reach,
    kinds: Vec<Kind>,
    uris: HashSet<String>,
    /// The legacy session, whose watched resources change while it listens.
    session: Option<Arc<Session>>,
    /// The id of the request that opened a modern stream.
    subscription: Option<Bytes>,
}

/// `GET` in a legacy session. Without a `seat` it travels on a stream that has one.
pub async fn stream(
    app: App,
    caller: Caller,
    session: Arc<Session>,
    headers: &HeaderMap,
    mut finish: Finish,
    seat: Option<Seat>,
) -> Response {
    let last = headers.get(&meta::LAST_EVENT_ID).cloned();
    match server_stream(&app, &caller, &session, last).await {
        Ok(Some((upstream, answer, link, tag))) => {
            finish.fill(|operation| operation.server = Some(upstream.server.spec.slug.clone()));
            let Transport::Http(server) = &upstream.transport else { return empty_response(StatusCode::NOT_FOUND) };
            let Answer { content: Content::Events(mut body), mut attempt, .. } = answer else {
                return not_offered(finish);
            };
            body.be_patient();
            attempt.report(Ok(()), std::time::Instant::now());
            let source = Source::events(body, attempt, server.limits().message);
            let fix = Fix::nothing(Era::Legacy);
            let upstream = upstream.clone();
            finish.opened();
            let parts = Parts {
                app,
                caller,
                upstream,
                source,
                first: None,
                fix,
                back: Back::Http(link),
                session: Some(session),
                in_flight: None,
                tag,
                finish,
                seat,
                deadline: None,
            };
            stream_response(Body::new(Relay::open_ended(parts)))
        }
        // Of one to which its user has to connect first nothing is heard before; what the gateway says is.
        Ok(None) | Err(Fault { kind: FaultKind::Connect, .. }) => {
            let number = rand::random();
            let receiver = session.open_outbox(number, WAITING);
            for (id, link) in session.links() {
                hear_link(&app, &caller, &session, id, link);
            }
            watch_again(&app, &caller, &session);
            let tenure = Tenure::new(&caller);
            let kinds = Kind::ALL.to_vec();
            let (reach, uris) = (session.reach, HashSet::new());
            if let Some(outbox) = session.outbox() {
                let wants = Wants {
                    app: app.clone(),
                    caller,
                    reach,
                    kinds,
                    uris,
                    session: Some(session.clone()),
                    subscription: None,
                };
                app.tasks.spawn(feed(wants, outbox));
            }
            finish.opened();
            stream_response(Body::new(Outbox::new(&app, tenure, receiver, Some((session, number)), finish, seat)))
        }
        Err(fault) if matches!(fault.kind, FaultKind::Status(405)) => not_offered(finish),
        Err(fault) => {
            finish.fail(&fault);
            let mut refusal = Refusal::of(&fault, "server", Era::Legacy);
            refusal.status = StatusCode::BAD_GATEWAY;
            refusal.respond(None)
        }
    }
}

fn not_offered(mut finish: Finish) -> Response {
    finish.end(Outcome::Success);
    let mut response = empty_response(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST, DELETE"));
    // It is the server that has none; clients ask to find out.
    response.extensions_mut().insert(Unjudged);
    response
}

type ServerStream = (Arc<Upstream>, Answer, Arc<HttpSession>, Option<Box<str>>);

/// The server's own stream, where it is the one to pass on: at its own endpoint, or to go on behind an event of it.
async fn server_stream(
    app: &App,
    caller: &Caller,
    session: &Arc<Session>,
    last: Option<HeaderValue>,
) -> Result<Option<ServerStream>, Fault> {
    let snapshot = app.registry.snapshot();
    let Some(tenant) = snapshot.tenant(caller.tenant()) else { return Ok(None) };
    let (entry, last, tag) = match session.reach {
        Reach::One(id) => (tenant.entry_by_id(caller, id), last, None),
        Reach::All => {
            let text = last.as_ref().and_then(|last| last.to_str().ok()).unwrap_or_default();
            let Some((slug, event)) = text.split_once('/') else { return Ok(None) };
            (tenant.entry(caller, slug), HeaderValue::from_str(event).ok(), Some(slug.into()))
        }
    };
    let Some(entry) = entry else { return Ok(None) };
    let Transport::Http(server) = &entry.upstream.transport else { return Ok(None) };
    if entry.upstream.peer_for(Era::Legacy, Some(caller)).await?.era_for(Era::Legacy) != Era::Legacy {
        return Ok(None);
    }
    let trip = Trip::default();
    let mut link = reach::link(app, &trip, caller, session, &entry.upstream, server).await?;
    let mut answer = link.listen(server, last).await;
    if link.is_lost(&answer) {
        // What came before is gone with the server's session.
        session.lose(entry.upstream.server.id, &link);
        link = reach::link(app, &trip, caller, session, &entry.upstream, server).await?;
        answer = link.listen(server, None).await;
    }
    Ok(Some((entry.upstream.clone(), answer?, link, tag)))
}

/// `subscriptions/listen` at the common endpoint.
pub async fn all(call: &Call) -> Result<Response, Refusal> {
    let snapshot = call.app.registry.snapshot();
    let tenant = snapshot.tenant(call.caller.tenant()).cloned();
    listen(call, move |uri| tenant.as_ref().and_then(|tenant| tenant.resource(&call.caller, uri)).cloned()).await
}

/// `subscriptions/listen` for a server that has no such stream itself.
pub async fn one(call: &Call, entry: &Entry) -> Result<Response, Refusal> {
    let snapshot = call.app.registry.snapshot();
    let tenant = snapshot.tenant(call.caller.tenant()).cloned();
    let permits =
        move |uri: &str| tenant.as_ref().is_some_and(|tenant| tenant.permits(&call.caller, entry, What::Resource(uri)));
    listen(call, move |uri| permits(uri).then(|| entry.clone())).await
}

async fn listen(call: &Call, owner: impl Fn(&str) -> Option<Entry>) -> Result<Response, Refusal> {
    let seat = call.app.streams.seat(&call.caller).map_err(|fault| Refusal::full(&fault))?;
    let filter = call.message.member("notifications").unwrap_or(b"{}");
    let id = call.message.id_bytes().unwrap_or_default();
    let wanted = |name: &str| json::get(filter, name) == Some(b"true");
    let [tools, prompts, resources, _] = WISHES;
    let flags = [
        (tools, vec![Kind::Tools]),
        (prompts, vec![Kind::Prompts]),
        (resources, vec![Kind::Resources, Kind::Templates]),
    ];
    let mut honoured: Vec<String> = Vec::new();
    let mut kinds = Vec::new();
    for (name, list) in flags {
        if wanted(name) {
            honoured.push(format!("\"{name}\":true"));
            kinds.extend(list);
        }
    }
    let mut owners: AHashMap<ServerId, (Arc<Upstream>, Vec<String>)> = AHashMap::new();
    let asked = json::elements(json::get(filter, WISHES[3]).unwrap_or_default()).filter_map(json::text);
    // No server offers a longer one.
    for uri in asked.take(MOST_WATCHED).filter(|uri| uri.len() <= LONGEST_URI) {
        if let Some(upstream) = owner(&uri).map(|entry| entry.upstream) {
            owners.entry(upstream.server.id).or_insert_with(|| (upstream, Vec::new())).1.push(uri.into_owned());
        }
    }
    // What is acknowledged is what will be told.
    let watches: Vec<Watch> = owners
        .into_values()
        .map(|(upstream, uris)| Watch::begin(upstream, uris))
        .collect::<FuturesUnordered<_>>()
        .collect()
        .await;
    let uris: HashSet<String> = watches.iter().flat_map(|watch| watch.uris.iter().cloned()).collect();
    if !uris.is_empty() {
        let list: Vec<String> = uris.iter().map(|uri| json::quote(uri)).collect();
        honoured.push(format!("\"resourceSubscriptions\":[{}]", list.join(",")));
    }
    let (sender, receiver) = mpsc::channel(WAITING);
    let tag = format!("\"_meta\":{{\"{}\":{}}}", meta::SUBSCRIPTION_ID, String::from_utf8_lossy(&id));
    let acknowledged = format!("{{{tag},\"notifications\":{{{}}}}}", honoured.join(","));
    let first = message::call(None, "notifications/subscriptions/acknowledged", acknowledged.as_bytes());
    let _ = sender.try_send(sse::frame(&first, None, None));
    for watch in watches {
        call.app.tasks.spawn(watch.keep(call.app.clone(), sender.clone()));
    }
    let wants = Wants {
        app: call.app.clone(),
        caller: call.caller.clone(),
        reach: call.reach,
        kinds,
        uris,
        session: None,
        subscription: Some(id),
    };
    call.app.tasks.spawn(feed(wants, sender));
    let tenure = Tenure::new(&call.caller);
    Ok(stream_response(Body::new(Outbox::new(&call.app, tenure, receiver, None, call.finish_later(), Some(seat)))))
}

/// Whether a client wishes to hear of tasks (the extension `io.modelcontextprotocol/tasks`), by a name that a server could read so.
pub fn wishes_for_tasks(message: &Message) -> bool {
    let spelled = |name: &[u8]| json::text(&[b"\"", name, b"\""].concat()).map(Cow::into_owned);
    let mut wishes = json::members(message.member("notifications").unwrap_or(b"{}"));
    wishes.any(|(name, _)| spelled(name).is_some_and(|name| folds_to(name.as_bytes(), "taskIds")))
}

/// What the client asked to watch before it began to listen.
fn watch_again(app: &App, caller: &Caller, session: &Session) {
    let snapshot = app.registry.snapshot();
    let Some(tenant) = snapshot.tenant(caller.tenant()) else { return };
    let mut owners: AHashMap<ServerId, (Arc<Upstream>, Vec<String>)> = AHashMap::new();
    for uri in session.watched() {
        let entry = match session.reach {
            Reach::One(id) => {
                tenant.entry_by_id(caller, id).filter(|entry| tenant.permits(caller, entry, What::Resource(&uri)))
            }
            Reach::All => tenant.resource(caller, &uri),
        };
        let Some(upstream) = entry.map(|entry| &entry.upstream) else { continue };
        if upstream.known().is_some_and(|peer| peer.era_for(Era::Legacy) == Era::Modern) {
            owners.entry(upstream.server.id).or_insert_with(|| (upstream.clone(), Vec::new())).1.push(uri);
        }
    }
    for (_, (upstream, uris)) in owners {
        watch::watch_for(app, session, &upstream, uris);
    }
}

/// Puts what the listener wants to hear into its outbox, until it goes away or the process ends. It listens from when this is
/// called: whoever is told afterwards that it will hear of changes misses none.
fn feed(wants: Wants, outbox: mpsc::Sender<Bytes>) -> impl Future<Output = ()> + Send {
    let app = wants.app.clone();
    let mut changes = app.registry.changes();
    let mut notices = app.registry.ground.notices.subscribe();
    let mut marks = wants.marks();
    async move {
        loop {
            tokio::select! {
                () = outbox.closed() => return,
                () = app.shutdown.cancelled() => {
                    if let Some(id) = &wants.subscription {
                        // One who does not read has a moment to begin to.
                        let _ = Box::pin(outbox.send_timeout(completion(id), FAREWELL)).await;
                    }
                    if let Some(session) = &wants.session {
                        session.close_all_outboxes();
                    }
                    return;
                }
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = wants.marks();
                    let mut told: Vec<&str> = Vec::new();
                    for ((kind, before), after) in wants.kinds.iter().zip(&marks).zip(&now) {
                        let method = list_changed(*kind);
                        if before != after && !told.contains(&method) {
                            told.push(method);
                            let _ = outbox.try_send(sse::frame(&wants.tell(&message::call(None, method, b"{}")), None, None));
                        }
                    }
                    marks = now;
                }
                notice = notices.recv() => if let Ok(notice) = notice && wants.wants(&notice) {
                    let _ = outbox.try_send(sse::frame(&wants.tell(notice.message.bytes()), None, None));
                },
            }
        }
    }
}

/// The result with which a subscription ends (2026-07-28, basic/patterns/subscriptions, "Graceful Closure"), as an event.
pub fn completion(id: &[u8]) -> Bytes {
    let tag = format!("\"_meta\":{{\"{}\":{}}}", meta::SUBSCRIPTION_ID, String::from_utf8_lossy(id));
    let result = format!("{{\"resultType\":\"complete\",{tag}}}");
    sse::frame(&message::result(id, result.as_bytes()), None, None)
}

pub(super) fn list_changed(kind: Kind) -> &'static str {
    match kind {
        Kind::Tools => "notifications/tools/list_changed",
        Kind::Prompts => "notifications/prompts/list_changed",
        Kind::Resources | Kind::Templates => "notifications/resources/list_changed",
    }
}

impl Wants {
    fn marks(&self) -> Vec<u64> {
        let snapshot = self.app.registry.snapshot();
        let Some(tenant) = snapshot.tenant(self.caller.tenant()) else { return vec![0; self.kinds.len()] };
        match self.reach {
            Reach::All => {
                let view = tenant.view(&self.caller);
                self.kinds.iter().map(|kind| tenant.mark(&view, *kind)).collect()
            }
            Reach::One(id) => {
                let entry = tenant.entry_by_id(&self.caller, id);
                // Other rules may leave other things.
                let version = u64::try_from(tenant.rules().version()).unwrap_or_default();
                let mark = |entry: &Entry, kind: Kind| entry.marks[kind as usize].wrapping_add(version << 32);
                self.kinds.iter().map(|kind| entry.map_or(0, |entry| mark(entry, *kind))).collect()
            }
        }
    }

    /// Whether a notice is of a resource that is watched or of a part of one, at a server that may be seen.
    fn wants(&self, notice: &Notice) -> bool {
        let updated = notice.message.method() == "notifications/resources/updated";
        let uri = updated.then(|| notice.message.text("uri")).flatten();
        if let Some(owner) = &notice.session {
            // What comes on a session's own channel is that client's, all that it may see, and nobody else's.
            let own = self.session.as_ref().is_some_and(|session| *session.id == **owner);
            return own && !tasks::is_news(&notice.message.method()) && self.sees(notice.server, uri.as_deref());
        }
        let Some(uri) = uri else { return false };
        let watched = match &self.session {
            Some(session) => session.watches(&uri),
            None => self.uris.iter().any(|watched| is_part_of(&uri, watched)),
        };
        watched && self.sees(notice.server, Some(&uri))
    }

    fn sees(&self, server: ServerId, uri: Option<&str>) -> bool {
        let snapshot = self.app.registry.snapshot();
        let tenant: Option<&Arc<Tenant>> = snapshot.tenant(self.caller.tenant());
        let here = match self.reach {
            Reach::All => true,
            Reach::One(id) => id == server,
        };
        let permitted = |tenant: &Arc<Tenant>| {
            let entry = tenant.entry_by_id(&self.caller, server);
            let may = |entry| uri.is_none_or(|uri| tenant.permits(&self.caller, entry, What::Resource(uri)));
            entry.is_some_and(may)
        };
        here && tenant.is_some_and(permitted)
    }

    /// A notification as this listener reads it: a modern one says to which subscription it belongs.
    fn tell(&self, notification: &Bytes) -> Bytes {
        let Some(id) = &self.subscription else { return notification.clone() };
        let Ok(message) = Message::parse(notification.clone()) else { return notification.clone() };
        if message.body().is_none() {
            notification.clone()
        } else {
            with_meta(&message, &[(meta::SUBSCRIPTION_ID, id)])
        }
    }
}

/// Passes a `logging/setLevel` on to every session with a server that this client has, and to the children and streams that
/// serve it, now or later. A server that has had as much as it takes for now is not told until a session with it is opened anew.
pub fn pass_level_on(call: &Call, session: &Arc<Session>, params: &[u8]) {
    let message = message::call(Some(b"\"mcpg-level\""), "logging/setLevel", params);
    let snapshot = call.app.registry.snapshot();
    let Some(tenant) = snapshot.tenant(call.caller.tenant()) else { return };
    let takes =
        |entry: &Entry| entry.rates.as_deref().is_none_or(|rates| call.app.limits.admit_at(rates, None).is_ok());
    if let Some(level) = json::get_text(params, "level").and_then(|level| Level::parse(&level)) {
        let who = reach::who(&call.caller, Some(session));
        let seen = |entry: &&Entry| tenant.entry_by_id(&call.caller, entry.upstream.server.id).is_some();
        for entry in tenant.entries().iter().filter(seen) {
            if matches!(entry.upstream.transport, Transport::Http(_)) || !takes(entry) {
                continue;
            }
            let (upstream, who, holder) = (entry.upstream.clone(), who.clone(), Arc::from(&*session.id));
            call.app.tasks.spawn(async move { upstream.log_for(&who, &holder, level).await });
        }
    }
    for (id, link) in session.links() {
        let Some(entry) = tenant.entry_by_id(&call.caller, id).filter(|entry| takes(entry)) else { continue };
        let (upstream, message) = (entry.upstream.clone(), message.clone());
        call.app.tasks.spawn(async move {
            if let Transport::Http(server) = &upstream.transport {
                let _ = link.ask(server, message).await;
            }
        });
    }
}
