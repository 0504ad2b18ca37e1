//! `initialize` and the end of a session (2025-11-25, basic/lifecycle). At a server's own endpoint, where that server is reached
//! over HTTP and speaks the legacy era, the handshake is the server's: what it answers is what the client sees.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use crate::app::App;
use crate::fault::Fault;
use crate::json;
use crate::mcp::admit::admit;
use crate::mcp::answers;
use crate::mcp::connect;
use crate::mcp::error::{Refusal, json_response};
use crate::mcp::exchange::Call;
use crate::mcp::session::{self, Reach, Session};
use crate::mcp::tasks::announced;
use crate::protocol::era::{Era, Version};
use crate::protocol::{message, meta};
use crate::registry::snapshot::Entry;
use crate::telemetry::{Outcome, SessionTag};
use crate::upstream::peer::Legacy;
use crate::upstream::session::{HttpSession, Opening};
use crate::upstream::trip::Trip;
use crate::upstream::{Transport, Upstream};

/// Largest `initialize` parameters that are kept with a session.
const MOST_INIT: usize = 64 << 10;

/// What came of the handshake with a server.
struct Agreed {
    version: Version,
    /// The result for the client, JSON.
    result: Bytes,
    link: Option<Arc<HttpSession>>,
}

/// Opens a session.
pub async fn initialize(mut call: Box<Call>) -> Response {
    match open(&mut call).await {
        Ok(response) => response,
        Err(refusal) => {
            call.finish.note(&refusal);
            call.finish.end(Outcome::Error { whose: crate::fault::Whose::Client, kind: "bad_request" });
            call.refuse(&refusal)
        }
    }
}

async fn open(call: &mut Call) -> Result<Response, Refusal> {
    // Before anything is made: who opens one session after the other has the limits of the first.
    admit(call).await?;
    let params = call.message.body().unwrap_or(b"{}");
    let asked = json::get_text(params, "protocolVersion").ok_or_else(|| {
        Refusal::new(StatusCode::OK, meta::INVALID_PARAMS, "Invalid params: `protocolVersion` is missing or no string")
    })?;
    if params.len() > MOST_INIT {
        let text = format!("Invalid params: the parameters of `initialize` are larger than {MOST_INIT} bytes");
        return Err(Refusal::new(StatusCode::OK, meta::INVALID_PARAMS, text));
    }
    let version = answers::negotiate(&asked);
    let can = |name: &str| json::path(params, &["capabilities", name]).is_some();
    let answers_servers = ["sampling", "elicitation", "roots"].into_iter().any(can);
    let init = Bytes::copy_from_slice(params);
    let agreed = match call.reach {
        Reach::All => Agreed { version, result: answers::initialize(version).into(), link: None },
        Reach::One(id) => {
            let snapshot = call.app.registry.snapshot();
            let entry = snapshot.tenant(call.caller.tenant()).and_then(|tenant| tenant.entry_by_id(&call.caller, id));
            let entry = entry.ok_or_else(Refusal::no_session)?;
            call.finish.fill(|operation| operation.server = Some(entry.upstream.server.spec.slug.clone()));
            match with_server(call, &entry.upstream, version, &init).await {
                Ok(Ok(agreed)) => agreed,
                Ok(Err(declined)) => {
                    call.finish.end(Outcome::Error { whose: crate::fault::Whose::Upstream, kind: "rpc_error" });
                    let id = call.message.id().unwrap_or(b"null");
                    return Ok(json_response(StatusCode::OK, declined.with_id(id)));
                }
                Err(fault) if connect::may_come_in(&fault, version, &init) => {
                    call.finish.waited();
                    let result = announced(connect::met(&entry.upstream, version).into());
                    Agreed { version, result, link: None }
                }
                Err(fault) => {
                    call.finish.fail(&fault);
                    return Err(Refusal::of(&fault, entry.slug(), Era::Legacy));
                }
            }
        }
    };
    let opening = session::Opening {
        account: call.caller.user_id(),
        principal: call.caller.principal().clone(),
        tenant: call.caller.tenant().clone(),
        reach: call.reach,
        version: agreed.version,
        init,
        answers: answers_servers,
        credential: call.caller.session_type(),
    };
    let session = call.app.sessions.open(opening).map_err(|fault| {
        call.finish.fail(&fault);
        Refusal { status: StatusCode::SERVICE_UNAVAILABLE, ..Refusal::of(&fault, "gateway", Era::Legacy) }
    })?;
    if let (Some(link), Reach::One(server)) = (agreed.link, call.reach) {
        let _ = session.link(server).set(link);
    }
    call.finish.fill(|operation| {
        operation.session = Some(SessionTag::of(&session.id));
        operation.client_version = Some(agreed.version.as_str());
    });
    call.finish.end(Outcome::Success);
    let body = message::result(call.message.id().unwrap_or(b"null"), &agreed.result);
    let mut response = json_response(StatusCode::OK, body);
    if let Ok(id) = HeaderValue::from_str(&session.id) {
        response.headers_mut().insert(&meta::SESSION_HEADER, id);
    }
    Ok(response)
}

async fn with_server(
    call: &mut Call,
    upstream: &Arc<Upstream>,
    version: Version,
    init: &Bytes,
) -> Result<Result<Agreed, message::Message>, Fault> {
    call.finish.wait();
    let peer = upstream.peer_for(Era::Legacy, Some(&call.caller)).await?;
    let said = |version| answers::initialize_for(&peer, &upstream.server.spec, version).into();
    let agreed = match (&upstream.transport, &peer.legacy) {
        (Transport::Http(server), Some(_)) => {
            match HttpSession::open(server, &Trip::default(), &call.caller, init).await? {
                Opening::Declined(declined) => return Ok(Err(declined)),
                Opening::Open(link) => {
                    let Legacy { version, result } = link.legacy.clone();
                    Agreed { version, result: announced(result), link: Some(link) }
                }
            }
        }
        // Newer than what was agreed with the server must not be promised.
        (Transport::Stdio(_) | Transport::Sse(_), Some(legacy)) => {
            let version = legacy.version.min(version);
            Agreed { version, result: announced(said(version)), link: None }
        }
        (_, None) => Agreed { version, result: said(version), link: None },
    };
    call.finish.waited();
    Ok(Ok(agreed))
}

/// Ends what a session held with servers. Nobody waits for it.
pub fn close_behind(app: &App, session: Arc<Session>) {
    let app = app.clone();
    app.tasks.clone().spawn(async move {
        let snapshot = app.registry.snapshot();
        let own = crate::upstream::channel::Who {
            session: Some(((&*session.id).into(), session.init.clone())),
            ..Default::default()
        };
        // Also those that were offered to its tenant and are not any more.
        let could_be_reached = |entry: &&Entry| {
            let owner = &entry.upstream.server.tenant;
            *owner == session.tenant || owner.is_default()
        };
        for entry in snapshot.entries().filter(could_be_reached) {
            entry.upstream.release(&own).await;
        }
        for (id, link) in session.links() {
            let upstream = app.registry.upstream(id);
            if let Some(Transport::Http(server)) = upstream.as_ref().map(|upstream| &upstream.transport) {
                link.close(server).await;
            }
        }
    });
}
