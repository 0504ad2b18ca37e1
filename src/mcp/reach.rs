//! Sends one request to the server that it is for, in the era and session that fit, and says what must be changed in the
//! answer. Which replica, which child, which session with the server: all of it is settled here; what the answer says is not
//! looked at, but for an HTTP status that means "this session is gone".

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::access::Caller;
use crate::app::App;
use crate::balance::{InFlight, caller_key};
use crate::fault::{Fault, Kind, Retry};
use crate::json;
use crate::mcp::bridge::answer::Fix;
use crate::mcp::bridge::request::{to_legacy, to_modern};
use crate::mcp::headers::{mirror_params, named_by};
use crate::mcp::hear;
use crate::mcp::session::{Cancel, Reach, Session};
use crate::mcp::source::Source;
use crate::mcp::tasks::Tie;
use crate::mcp::withdrawal::Withdrawal;
use crate::policy::What;
use crate::protocol::era::{Era, MODERN, Version};
use crate::protocol::message::{self, Message};
use crate::protocol::meta;
use crate::registry::catalog::{Item, Kind as ListKind};
use crate::upstream::channel::Who;
use crate::upstream::http::{Answer, Content, HttpServer, Outgoing, garbage, mirror};
use crate::upstream::mux::{Mux, Origin};
use crate::upstream::peer::contradicts;
use crate::upstream::session::HttpSession;
use crate::upstream::trip::Trip;
use crate::upstream::wire::Body;
use crate::upstream::{Channel, Transport, Upstream};

/// The methods of all protocol versions that change nothing.
const READS: [&str; 9] = [
    "ping",
    "server/discover",
    "tools/list",
    "prompts/list",
    "prompts/get",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "completion/complete",
];

/// How often a session with a server is opened anew because another caller's is in its place.
const TRIES: u8 = 3;

/// One request on its way.
pub struct Ask<'a> {
    /// The process.
    pub app: &'a App,
    /// Who asks.
    pub caller: &'a Caller,
    /// In which legacy session, if it is a legacy client.
    pub session: Option<&'a Arc<Session>>,
    /// The server.
    pub upstream: &'a Arc<Upstream>,
    /// The request, names already the server's own.
    pub message: &'a Message,
    /// What ties the tasks in its answer to the caller.
    pub tie: Option<&'a Arc<Tie>>,
    /// The tool that is called, when it is listed.
    pub item: Option<&'a Item>,
    /// Headers of a modern client that mirror parameters of a tool that is not listed.
    pub params: Vec<(HeaderName, HeaderValue)>,
    /// Headers of the client that say to which trace the request belongs.
    pub trace: Vec<(HeaderName, HeaderValue)>,
    /// How the client takes it back, in the legacy era.
    pub cancel: Option<&'a Arc<Cancel>>,
    /// How long it may take and which way it went.
    pub trip: &'a Trip,
}

/// What the server began to answer.
pub struct Reached {
    /// The answer.
    pub reply: Reply,
    /// What must be changed in it.
    pub fix: Fix,
    /// Where the server's own requests are answered.
    pub origin: Back,
    /// The version spoken with the server.
    pub version: Option<Version>,
    /// The replica.
    pub replica: Option<usize>,
}

/// An answer, by form.
pub enum Reply {
    /// One JSON text, to be read; the replica's account goes along.
    Json(StatusCode, Body, InFlight),
    /// One JSON text, read already: that of a refusal.
    Refused(StatusCode, Message),
    /// A stream.
    Stream(Source),
}

/// The way back to the server for what the client answers it.
pub enum Back {
    /// There is none: the server cannot ask.
    None,
    /// This session with it.
    Http(Arc<HttpSession>),
    /// The session that several clients share: it must not ask.
    Shared(Arc<HttpSession>, Withdrawal),
    /// This channel.
    Mux(Mux),
}

impl Back {
    /// The answer came; there is nothing to take back any more.
    pub fn answered(&mut self) {
        if let Self::Shared(_, withdrawal) = self {
            withdrawal.answered();
        }
    }
}

impl Ask<'_> {
    fn era(&self) -> Era {
        if self.session.is_some() { Era::Legacy } else { Era::Modern }
    }

    fn fix(&self, server: Era) -> Fix {
        let level = self.message.meta(meta::LOG_LEVEL).and_then(json::text);
        let method = self.message.method();
        Fix {
            client: self.era(),
            server,
            id: self.message.id_bytes().unwrap_or_default(),
            renumbered: None,
            token: None,
            tie: self.tie.cloned(),
            cacheable: ListKind::of_method(&method).is_some() || method == "resources/read",
            log_level: level.map(|level| level.as_ref().into()),
        }
    }

    /// Whether a second try cannot do harm: what the specification says only reads, and tools that say that they are idempotent.
    /// What a method that is not known here does, nobody knows.
    fn may_repeat(&self) -> bool {
        match self.message.method().as_ref() {
            "tools/call" => self.item.is_some_and(Item::is_repeatable),
            method => READS.contains(&method),
        }
    }

    /// A message in this session, in the name of who asks.
    fn in_session(&self, session: &HttpSession, message: Bytes) -> Outgoing {
        Outgoing { whose: Some(self.caller.clone()), ..session.outgoing(message, self.trace.clone()) }
    }

    /// The message in the modern era, with the headers that mirror it.
    fn modern(&self) -> Outgoing {
        let message = match self.session {
            None => self.message.bytes().clone(),
            Some(session) => to_modern(self.message, &session.init, session.level().as_deref()),
        };
        let method = self.message.method();
        let name = named_by(&method).and_then(|member| self.message.text(member));
        let mut headers = mirror(Era::Modern, &method, name.as_deref());
        match self.item {
            Some(item) => headers.extend(mirror_params(self.message, &item.mirrored)),
            None => headers.extend(self.params.iter().cloned()),
        }
        headers.extend(self.trace.iter().cloned());
        Outgoing { message, version: Some(MODERN), headers, whose: Some(self.caller.clone()), ..Outgoing::default() }
    }
}

/// Sends the request and waits for the beginning of the answer.
pub async fn reach(ask: &Ask<'_>) -> Result<Reached, Fault> {
    match &ask.upstream.transport {
        Transport::Http(server) => over_http(ask, server).await,
        Transport::Stdio(_) | Transport::Sse(_) => Box::pin(over_channel(ask)).await,
    }
}

async fn over_channel(ask: &Ask<'_>) -> Result<Reached, Fault> {
    let channel = ask.upstream.channel(ask.trip, &who(ask.caller, ask.session), ask.era()).await?;
    let Some(Channel { mux, peer, era, mut attempt, .. }) = channel else {
        return Err(Fault::gateway(Kind::Setup, "the server has no channel"));
    };
    let version = match era {
        Era::Modern => Some(MODERN),
        Era::Legacy => peer.legacy.as_ref().map(|legacy| legacy.version),
    };
    let message = match (era, ask.session) {
        (Era::Modern, Some(session)) => to_modern(ask.message, &session.init, session.level().as_deref()),
        (Era::Legacy, None) => to_legacy(ask.message, None).0,
        _ => ask.message.bytes().clone(),
    };
    let origin = match ask.session {
        Some(session) => Origin { session: session.number, answers: session.answers && era == Era::Legacy },
        None => Origin { session: caller_key(ask.caller.principal()), answers: false },
    };
    let replica = attempt.as_ref().map(InFlight::index);
    if replica.is_none() {
        // A child is no replica, and yet tried.
        ask.trip.tries();
    }
    let patience = Duration::from_millis(ask.upstream.server.spec.timeouts.idle_ms);
    let taken = ask.upstream.send_in_time(&mux, message, origin).await;
    let call = taken.inspect_err(|fault| {
        if let Some(attempt) = &mut attempt {
            attempt.report(Err(fault), Instant::now());
        }
    })?;
    // A quiet subscription is a healthy one.
    let lasts = ask.message.method() == "subscriptions/listen";
    let call = if lasts { call } else { call.with_patience(patience) };
    let origin = Back::Mux(mux);
    let reply = Reply::Stream(Source::mux(call, attempt));
    let mut fix = ask.fix(era);
    if let Some(session) = ask.session.filter(|_| era == Era::Legacy && !ask.upstream.is_private()) {
        // The server was told what the most curious of those who share it wants.
        let level = session.level();
        fix.log_level = level.and_then(|params| Some(json::get_text(&params, "level")?.as_ref().into()));
    }
    Ok(Reached { reply, fix, origin, version, replica })
}

/// For whom a channel is wanted.
pub fn who(caller: &Caller, session: Option<&Arc<Session>>) -> Who {
    Who {
        caller: caller_key(caller.principal()),
        user: Some(format!("{}|{}", caller.principal().issuer, caller.principal().subject).into()),
        session: session.map(|session| ((&*session.id).into(), session.init.clone())),
    }
}

/// In the era that the server is known to speak. When the answer looks as if it did not speak that any more, nothing was acted
/// on: it is asked what it speaks, and gets the request once more if that has changed.
async fn over_http(ask: &Ask<'_>, server: &HttpServer) -> Result<Reached, Fault> {
    let peer = ask.upstream.peer_for(ask.era(), Some(ask.caller)).await?;
    let era = peer.era_for(ask.era());
    let mut tried = spoken(ask, server, era).await;
    let came = match &tried {
        Ok(Reached { reply: Reply::Refused(status, message), .. }) => Ok((status.as_u16(), message.error_code())),
        Ok(_) => Ok((StatusCode::OK.as_u16(), None)),
        Err(fault) => Err(fault),
    };
    if contradicts(era, came)
        && let Some(now) = Box::pin(ask.upstream.relearn(&peer, ask.era())).await
    {
        if let Ok(refused) = &mut tried {
            refused.origin.answered();
        }
        if let Some(session) = ask.session {
            session.lose_all(ask.upstream.server.id);
        }
        return Box::pin(spoken(ask, server, now.era_for(ask.era()))).await;
    }
    tried
}

async fn spoken(ask: &Ask<'_>, server: &HttpServer, era: Era) -> Result<Reached, Fault> {
    match (era, ask.session) {
        (Era::Modern, _) => {
            let caller = caller_key(ask.caller.principal());
            let answer = server.post(ask.trip, caller, ask.may_repeat(), &ask.modern()).await?;
            reached(ask, server, answer, ask.fix(Era::Modern), Back::None, MODERN).await
        }
        (Era::Legacy, Some(session)) => in_session(ask, server, session).await,
        (Era::Legacy, None) => Box::pin(in_shared_session(ask, server)).await,
    }
}

/// In the session that belongs to the client's own. One that the server forgot is opened anew, once: the request was not
/// acted on.
async fn in_session(ask: &Ask<'_>, server: &HttpServer, session: &Arc<Session>) -> Result<Reached, Fault> {
    let mut again = true;
    loop {
        let link = link(ask.app, ask.trip, ask.caller, session, ask.upstream, server).await?;
        if let Some(cancel) = ask.cancel {
            cancel.forward_to(ask.upstream, &link);
        }
        link.used_by(ask.caller);
        let outgoing = ask.in_session(&link, ask.message.bytes().clone());
        let answer = server.send(ask.trip, link.replica, Method::POST, &outgoing).await;
        if again && link.is_over(&answer, server) {
            session.lose(ask.upstream.server.id, &link);
            again = false;
            continue;
        }
        let version = link.version();
        return reached(ask, server, answer?, ask.fix(Era::Legacy), Back::Http(link), version).await;
    }
}

/// In one of the gateway's own sessions, under a number of its own: with the replica that the policy says, or the next.
async fn in_shared_session(ask: &Ask<'_>, server: &HttpServer) -> Result<Reached, Fault> {
    server.prepare(Some(ask.caller)).await?;
    let order = server.order(caller_key(ask.caller.principal()))?;
    server.walk(ask.trip, order, ask.may_repeat(), |place| in_session_with(ask, server, place)).await
}

async fn in_session_with(ask: &Ask<'_>, server: &HttpServer, mut place: InFlight) -> Result<Reached, Fault> {
    let replica = place.index();
    let mut again = true;
    loop {
        let (link, taken) = ask.upstream.own_session_with(server, ask.trip, Some(ask.caller), place).await?;
        link.used_by(ask.caller);
        let number = link.number();
        let (bytes, token) = to_legacy(ask.message, Some(number));
        let id = Bytes::from(number.to_string());
        let fix = Fix { renumbered: Some(id.clone()), token, ..ask.fix(Era::Legacy) };
        // From here on a client that goes away takes its request back, whether the answer has begun or not.
        let mut withdrawal = Withdrawal::new(ask.app, ask.upstream, &link, &id);
        let answer = server.send_with(taken, Method::POST, &ask.in_session(&link, bytes)).await;
        if answer.is_err() {
            withdrawal.answered();
        }
        if again && link.is_lost(&answer) {
            // With the answer goes its place.
            drop(answer);
            withdrawal.answered();
            ask.upstream.lose_own_session(&link);
            place = server.place(ask.trip, replica).await?;
            again = false;
            continue;
        }
        let version = link.version();
        return reached(ask, server, answer?, fix, Back::Shared(link, withdrawal), version).await;
    }
}

/// The session with a server that belongs to a client's session, opened for whom this caller is at the server: who comes with less than
/// whoever opened it does not use what was opened with more.
pub async fn link(
    app: &App,
    trip: &Trip,
    caller: &Caller,
    session: &Arc<Session>,
    upstream: &Arc<Upstream>,
    server: &HttpServer,
) -> Result<Arc<HttpSession>, Fault> {
    let mut tries = 0;
    loop {
        let link = linked(app, trip, caller, session, upstream, server).await?;
        if link.holder == server.holder(Some(caller)) {
            return Ok(link);
        }
        session.lose(upstream.server.id, &link);
        upstream.end_unless_used(link);
        tries += 1;
        if tries == TRIES {
            let told =
                "the session is used with different credentials at the same time; use one, or a session for each";
            return Err(Fault::client(Kind::NoCredential, told).telling(told));
        }
    }
}

/// The one that there is, for whomever; opened with the client's own parameters when there is none.
async fn linked(
    app: &App,
    trip: &Trip,
    caller: &Caller,
    session: &Arc<Session>,
    upstream: &Arc<Upstream>,
    server: &HttpServer,
) -> Result<Arc<HttpSession>, Fault> {
    let cell = session.link(upstream.server.id);
    let open = || async {
        let opening = HttpSession::open(server, &trip.beside(), caller, &session.init).await?;
        let opened = opening.session()?;
        opened.confirm(server).await?;
        if let Some(level) = session.level() {
            opened.ask(server, message::call(Some(b"\"mcpg-level\""), "logging/setLevel", &level)).await?;
        }
        for uri in watched_there(app, caller, session, upstream) {
            let params = format!("{{\"uri\":{}}}", json::quote(&uri));
            let message = message::call(Some(b"\"mcpg-watch\""), "resources/subscribe", params.as_bytes());
            opened.ask(server, message).await?;
        }
        // At the server's own endpoint its stream is the client's, but for who listened before there was a session with it.
        hear::hear_link(app, caller, session, upstream.server.id, opened.clone());
        Ok::<_, Fault>(opened)
    };
    match cell.get() {
        Some(open) => Ok(open.clone()),
        None => Box::pin(cell.get_or_try_init(open)).await.cloned(),
    }
}

/// The resources of this server that the client watches.
fn watched_there(app: &App, caller: &Caller, session: &Session, upstream: &Upstream) -> Vec<String> {
    let snapshot = app.registry.snapshot();
    let Some(tenant) = snapshot.tenant(caller.tenant()) else { return Vec::new() };
    let id = upstream.server.id;
    let of_it = |uri: &String| match session.reach {
        Reach::All => tenant.resource(caller, uri).is_some_and(|owner| owner.upstream.server.id == id),
        Reach::One(_) => {
            let entry = tenant.entry_by_id(caller, id);
            entry.is_some_and(|entry| tenant.permits(caller, entry, What::Resource(uri)))
        }
    };
    session.watched().into_iter().filter(of_it).collect()
}

async fn reached(
    ask: &Ask<'_>,
    server: &HttpServer,
    answer: Answer,
    fix: Fix,
    origin: Back,
    version: Version,
) -> Result<Reached, Fault> {
    let Answer { status, content, mut attempt, .. } = answer;
    let replica = attempt.index();
    let reply = match content {
        Content::Json(body) if status.is_client_error() => {
            let refused = Box::pin(read_refusal(status, body, server.limits().message)).await;
            let refused = refused.and_then(|message| fix.check(&message).map(|()| message));
            attempt.report(refused.as_ref().map(drop), Instant::now());
            Reply::Refused(status, refused?)
        }
        Content::Json(body) => Reply::Json(status, body, attempt),
        Content::Events(mut body) => {
            if ask.message.method() == "subscriptions/listen" {
                // A quiet subscription is a healthy one.
                body.be_patient();
                attempt.rest();
            }
            Reply::Stream(Source::events(body, attempt, server.limits().message))
        }
        Content::Empty => {
            ask.upstream.forget();
            let fault =
                garbage(format!("the server answered a request with HTTP {} and nothing else", status.as_u16()));
            attempt.report(Err(&fault), Instant::now());
            return Err(fault);
        }
    };
    Ok(Reached { reply, fix, origin, version: Some(version), replica: Some(replica) })
}

/// What a server says that does not take the request. Text that is no message comes from something before the server, or from
/// one that does not know what it was sent.
async fn read_refusal(status: StatusCode, body: Body, limit: usize) -> Result<Message, Fault> {
    Message::parse(body.collect(limit).await?).map_err(|_| {
        let text = format!("the server answered HTTP {} and no MCP message", status.as_u16());
        Fault::upstream(Kind::Status(status.as_u16()), Retry::NotSent, text)
    })
}
