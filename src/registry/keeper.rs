//! Keeps what is known of one server true. It asks when the server is new, when it says that a list changed, when what is
//! known is too old, and when told to; a server that does not answer is asked again after a pause that grows.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use crate::fault::{Fault, Kind as FaultKind};
use crate::protocol::era::Era;
use crate::protocol::message::{self, Message, Shape};
use crate::protocol::meta;
use crate::registry::catalog::{Catalog, Kind};
use crate::registry::live::{Keeper, Registry};
use crate::upstream::http::HttpServer;
use crate::upstream::notices::{LISTS, Voice, pause};
use crate::upstream::session::HttpSession;
use crate::upstream::trip::Trip;
use crate::upstream::{Notice, Transport, Upstream};

/// First and longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// Several changes in a row are asked about once.
const SETTLE: Duration = Duration::from_millis(50);

/// Runs until stopped.
pub async fn keep(registry: Arc<Registry>, upstream: Arc<Upstream>, keeper: Arc<Keeper>) {
    tokio::select! {
        () = keeper.stop.cancelled() => {}
        () = ask_again_and_again(&registry, &upstream, &keeper) => {}
        () = listen(&upstream) => {}
        () = confirm(&upstream, &keeper) => {}
    }
}

/// What an earlier process learned is good enough to begin with; what the server can do now is found out behind the scenes.
async fn confirm(upstream: &Upstream, keeper: &Keeper) {
    if upstream.known().is_some() && upstream.confirm().await {
        keeper.wake.notify_one();
    }
    std::future::pending::<()>().await;
}

async fn ask_again_and_again(registry: &Registry, upstream: &Arc<Upstream>, keeper: &Keeper) {
    let mut notices = registry.ground.notices.subscribe();
    let mut said = Vec::new();
    let mut pause = PAUSES.0;
    loop {
        // Who wanted it asked before it begins is served by this; who comes later wants it asked again.
        let _ = keeper.wake.notified().now_or_never();
        keeper.begun.fetch_add(1, Ordering::SeqCst);
        // These questions are the probes that find out whether a server is back; their pauses are the keeper's own.
        if let Some(balance) = upstream.balance() {
            balance.hasten(std::time::Instant::now());
        }
        // What it is called and how long it may take can have changed.
        let described = registry.upstream(upstream.server.id);
        let asked = described.as_ref().filter(|now| now.shares_way(upstream)).unwrap_or(upstream);
        let result = match Catalog::ask(asked).await {
            // It is there, and shows nothing to anybody but people, each at the server's own endpoint.
            Err(fault) if is_for_others(asked, &fault) => Ok(Catalog::hidden()),
            result => result,
        };
        if let Err(fault) = &result {
            tracing::warn!(server = %asked.server.spec.slug, kind = fault.kind.label(), "the server could not be asked: {fault}");
            if matches!(fault.kind, FaultKind::Garbage | FaultKind::Refused | FaultKind::Status(_)) {
                // Perhaps it speaks something else than it did.
                upstream.forget();
            }
        }
        let well = result.is_ok();
        registry.heard(upstream, result, &said);
        let wait = if well {
            // What cannot be asked about now is told when it can be.
            said.clear();
            pause = PAUSES.0;
            registry.ttl.mul_f64(rand::random_range(0.9..1.1))
        } else {
            let wait = pause.mul_f64(rand::random_range(0.8..1.2));
            pause = (pause * 2).min(PAUSES.1);
            wait
        };
        let mut until = Instant::now() + wait;
        loop {
            tokio::select! {
                // What is known of a program that nobody uses is as good as it was when it was last used.
                () = tokio::time::sleep_until(until) => {
                    if !(well && upstream.sleeps()) {
                        break;
                    }
                    until += wait;
                }
                () = keeper.wake.notified() => break,
                notice = notices.recv() => if note(&mut said, &notice, upstream) {
                    tokio::time::sleep(SETTLE).await;
                    while let Some(notice @ (Ok(_) | Err(RecvError::Lagged(_)))) = notices.recv().now_or_never() {
                        note(&mut said, &notice, upstream);
                    }
                    break;
                },
            }
        }
    }
}

/// Notes the kinds of list that a notice says have changed at this server, each once; all of them when notices were missed.
/// Returns whether there are any.
fn note(said: &mut Vec<Kind>, notice: &Result<Notice, RecvError>, upstream: &Upstream) -> bool {
    let kinds: &[Kind] = match notice {
        Ok(notice) if notice.server == upstream.server.id && notice.session.is_none() => {
            match notice.message.method().as_ref() {
                "notifications/tools/list_changed" => &[Kind::Tools],
                "notifications/prompts/list_changed" => &[Kind::Prompts],
                "notifications/resources/list_changed" => &[Kind::Resources, Kind::Templates],
                _ => &[],
            }
        }
        Err(RecvError::Lagged(_)) => &Kind::ALL,
        _ => &[],
    };
    for kind in kinds {
        if !said.contains(kind) {
            said.push(*kind);
        }
    }
    !kinds.is_empty()
}

/// Hears what a server over HTTP says by itself, as long as it will. What children say comes through their channel.
async fn listen(upstream: &Arc<Upstream>) {
    let Transport::Http(server) = &upstream.transport else { return std::future::pending().await };
    loop {
        let heard = match open(upstream, server).await {
            Ok(Some((voice, session))) => hear(upstream, server, voice, session.as_deref()).await,
            // It does not offer such a stream; changes are found by age.
            Ok(None) => return std::future::pending().await,
            Err(fault) => Err(fault),
        };
        if let Err(fault) = heard {
            tracing::debug!(server = %upstream.server.spec.slug, "the stream of notices broke: {fault}");
        }
        pause().await;
    }
}

/// A stream, with the session that it belongs to, if it does.
type Opened = (Voice, Option<Arc<HttpSession>>);

async fn open(upstream: &Arc<Upstream>, server: &HttpServer) -> Result<Option<Opened>, Fault> {
    let peer = match upstream.peer().await {
        Err(fault) if is_for_others(upstream, &fault) => return Ok(None),
        peer => peer?,
    };
    let notifies = [["tools", "listChanged"], ["prompts", "listChanged"], ["resources", "listChanged"]];
    let subscribes = peer.can(&["resources", "subscribe"]);
    if !subscribes && !notifies.iter().any(|path| peer.can(path)) {
        return Ok(None);
    }
    let mut held = None;
    let voice = match peer.era_for(Era::Modern) {
        Era::Modern => upstream.subscribe(LISTS).await,
        Era::Legacy => {
            let mut own = upstream.own_session(server).await?;
            let mut answer = own.listen(server, None).await;
            if own.is_lost(&answer) {
                // It forgot the session, perhaps in a restart.
                upstream.lose_own_session(&own);
                own = upstream.own_session(server).await?;
                answer = own.listen(server, None).await;
            }
            held = Some(own);
            answer.map(|answer| Voice::of(server, answer))
        }
    };
    match voice {
        Err(fault) if matches!(fault.kind, FaultKind::Status(405 | 404 | 400)) => Ok(None),
        Err(fault) if is_for_others(upstream, &fault) => Ok(None),
        voice => Ok(voice?.map(|voice| (voice, held))),
    }
}

/// Whether a server refuses the gateway because it lets in people only.
fn is_for_others(upstream: &Upstream, fault: &Fault) -> bool {
    let people = matches!(&upstream.transport, Transport::Http(server) if server.is_for_people_only());
    people && fault.kind == FaultKind::Refused
}

/// Nobody stands behind the gateway's own session who could be asked.
async fn decline(session: &HttpSession, server: &HttpServer, request: &Message) {
    let text = "the gateway itself asked; there is no client behind this session that could answer";
    let error = message::error(request.id(), meta::METHOD_NOT_FOUND, text, None);
    let _ = session.post(&Trip::default(), server, error, Vec::new()).await;
}

async fn hear(
    upstream: &Upstream,
    server: &HttpServer,
    mut voice: Voice,
    session: Option<&HttpSession>,
) -> Result<(), Fault> {
    let herald = upstream.herald();
    while let Some(message) = voice.next().await {
        if let (Some(other), Some(session)) = (herald.tell(message?), session)
            && other.shape() == Shape::Request
        {
            decline(session, server, &other).await;
        }
    }
    Ok(())
}
