//! The life of one child, from its start until nothing is left of it, as one task.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Entry, Inner, Key, Link, Outcome, Stage};
use crate::fault::{Fault, Kind, Retry};
use crate::upstream::mux::Mux;
use crate::upstream::pipe::Pipe;
use crate::upstream::stdio::Launch;
use crate::upstream::stdio::child::{Child, last_words};

/// How much longer an idle child lives that is answering.
const ANSWERING: Duration = Duration::from_millis(500);

/// A seat in the caps and a line in the map. Both are given back when it is dropped, also by a panic.
#[derive(Debug)]
pub(super) struct Seat<H> {
    pool: Arc<Inner<H>>,
    key: Key,
    birth: u64,
    stop: CancellationToken,
    gone: CancellationToken,
    /// What stays in the map afterwards.
    rest: Option<Rest>,
}

#[derive(Debug)]
struct Rest {
    fault: Fault,
    pause: Duration,
    failures: u32,
}

/// Why a child that was running no longer is.
enum Over {
    Stopped,
    Ended { clean: bool, fault: Fault },
}

impl<H> Seat<H> {
    pub(super) fn new(pool: Arc<Inner<H>>, key: Key, birth: u64) -> Self {
        Self { pool, key, birth, stop: CancellationToken::new(), gone: CancellationToken::new(), rest: None }
    }

    pub(super) fn birth(&self) -> u64 {
        self.birth
    }

    pub(super) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    pub(super) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Changes our line in the map, if it is still ours.
    fn note<T>(&self, change: impl FnOnce(&mut Entry<H>) -> T) -> Option<T> {
        let mut state = self.pool.lock();
        state.entries.get_mut(&self.key).filter(|entry| entry.birth == self.birth).map(change)
    }

    /// Leaves a pause behind that grows with failures in a row.
    fn leave_pause(&mut self, fault: Fault, failures: u32) {
        let settings = &self.pool.settings;
        let doublings = failures.saturating_sub(1).min(16);
        let pause = settings.backoff_first.saturating_mul(1 << doublings).min(settings.backoff_most);
        self.rest = Some(Rest { fault, pause, failures });
    }
}

impl<H> Drop for Seat<H> {
    fn drop(&mut self) {
        let rest = self.rest.take();
        let mut state = self.pool.lock();
        state.taken -= 1;
        if let Some(count) = state.seats.get_mut(&self.key.server) {
            *count -= 1;
            if *count == 0 {
                state.seats.remove(&self.key.server);
            }
        }
        let shut = state.shut;
        if let Some(entry) = state.entries.get_mut(&self.key).filter(|entry| entry.birth == self.birth) {
            match rest {
                // Who stopped it wants it forgotten.
                Some(rest) if !shut && !self.stop.is_cancelled() => {
                    entry.pid = None;
                    entry.failures = rest.failures;
                    entry.stage = Stage::Down { until: Instant::now() + rest.pause, fault: rest.fault };
                }
                _ => {
                    state.entries.remove(&self.key);
                }
            }
        }
        drop(state);
        self.gone.cancel();
    }
}

pub(super) async fn live<H, F, R>(mut seat: Seat<H>, launch: Launch, init: F, tell: watch::Sender<Outcome<H>>)
where
    H: Send + Sync + 'static,
    F: FnOnce(Mux) -> R + Send + 'static,
    R: Future<Output = Result<H, Fault>> + Send + 'static,
{
    let pool = Arc::clone(&seat.pool);
    let (mut child, pipe) = match Child::start(&launch, &pool.settings, pool.strangers(), &pool.tasks) {
        Ok(started) => started,
        Err(fault) => {
            // Nothing ran. A missing program is looked for at each call, so that installing it helps at once.
            if fault.kind != Kind::Setup {
                let failures = seat.note(|entry| entry.failures + 1).unwrap_or(1);
                seat.leave_pause(fault.clone(), failures);
            }
            drop(seat);
            tell.send_replace(Some(Err(fault)));
            return;
        }
    };
    info!(target: "mcp.upstream", server = %launch.name, pid = child.pid(), "started a server process");
    let (pid, tail) = (child.pid(), child.tail());
    seat.note(|entry| {
        entry.pid = Some(pid);
        entry.tail = tail;
    });
    let link = match shake_hands(&seat, &mut child, pipe, init).await {
        Ok(link) => Arc::new(link),
        Err(fault) => {
            warn!(target: "mcp.upstream", server = %launch.name, pid, fault = %fault.detail, "a server process did not start");
            // Those who wait hear it now; the map keeps the same answer until the process is gone.
            tell.send_replace(Some(Err(fault.clone())));
            let exit = child.stop().await;
            let failures = seat
                .note(|entry| {
                    entry.last_exit = exit.map(|exit| exit.text);
                    entry.failures + 1
                })
                .unwrap_or(1);
            seat.leave_pause(fault, failures);
            return;
        }
    };
    let stopping = seat.stop.is_cancelled();
    if !stopping {
        seat.note(|entry| entry.stage = Stage::Running(Arc::clone(&link)));
    }
    tell.send_replace(Some(Ok(Arc::clone(&link))));
    let over = if stopping { Over::Stopped } else { run(&seat, &mut child, &link).await };
    let exit = child.stop().await;
    let text = exit.map_or_else(|| "does not end".to_owned(), |exit| exit.text);
    match over {
        Over::Stopped => info!(target: "mcp.upstream", server = %launch.name, pid, "stopped a server process"),
        Over::Ended { clean, fault } => {
            warn!(target: "mcp.upstream", server = %launch.name, pid, exit = %text, "a server process ended");
            let lasted = link.born.elapsed() >= pool.settings.backoff_most;
            let failures = match seat.note(|entry| entry.failures) {
                Some(before) if !lasted => before + 1,
                _ => 1,
            };
            seat.note(|entry| entry.last_exit = Some(text));
            seat.leave_pause(fault, failures);
            // One that ended well after a time, with nothing to do, is simply started when it is needed.
            if clean
                && lasted
                && let Some(rest) = &mut seat.rest
            {
                (rest.pause, rest.failures) = (Duration::ZERO, 0);
            }
        }
    }
}

async fn shake_hands<H, F, R>(seat: &Seat<H>, child: &mut Child, pipe: Pipe, init: F) -> Result<Link<H>, Fault>
where
    F: FnOnce(Mux) -> R,
    R: Future<Output = Result<H, Fault>>,
{
    let settings = &seat.pool.settings;
    let mux = Mux::new(pipe, settings.mux.clone(), &seat.pool.tasks);
    let result = tokio::select! {
        biased;
        () = seat.stop.cancelled() => Err(Fault::gateway(Kind::Unreachable, "the server was stopped while it started")),
        result = tokio::time::timeout(settings.start_timeout, init(mux.clone())) => result.unwrap_or_else(|_| {
            let text = format!("the server process did not finish its handshake within {} s", settings.start_timeout.as_secs_f32());
            Err(Fault::upstream(Kind::Timeout, Retry::NotSent, text))
        }),
        // Waiting is what notices the end: it gives the pipe its reason, and whoever waits on the mux hears it.
        _ = child.wait() => Err(mux.closed().await),
    };
    match result {
        Ok(handshake) => Ok(Link::new(mux, handshake)),
        Err(_) if mux.is_closed() => {
            // The handshake may have seen the end of the stream before anyone knew why it ended.
            let _ = tokio::time::timeout(Duration::from_secs(1), child.wait()).await;
            let fault = mux.closed().await;
            let kind = if fault.kind == Kind::Setup { Kind::Setup } else { Kind::Unreachable };
            Err(Fault { kind, retry: Retry::NotSent, ..fault })
        }
        Err(fault) => {
            let words = last_words(&child.tail().lines());
            Err(Fault { detail: format!("{}{words}", fault.detail), ..fault })
        }
    }
}

/// Until it ends, is stopped, or has had nothing to do for long enough.
async fn run<H>(seat: &Seat<H>, child: &mut Child, link: &Arc<Link<H>>) -> Over {
    let idle_after = seat.pool.settings.idle_after;
    let mut rest = idle_after;
    loop {
        tokio::select! {
            biased;
            () = seat.stop.cancelled() => return Over::Stopped,
            exit = child.wait() => {
                let clean = exit.code == Some(0) && link.mux.in_flight() == 0;
                return Over::Ended { clean, fault: link.mux.closed().await };
            }
            fault = link.mux.closed() => return Over::Ended { clean: false, fault },
            () = tokio::time::sleep(rest) => {
                // Decided under the lock under which links are handed out: nobody gets one that is about to stop.
                let idle = seat.note(|entry| {
                    let idle = link.idle_for();
                    if idle < idle_after {
                        return Some(idle_after.saturating_sub(idle));
                    }
                    // A question that is no use of the child is answered all the same.
                    if link.mux.is_asked() {
                        return Some(ANSWERING);
                    }
                    entry.stage = Stage::Stopping;
                    None
                });
                match idle.flatten() {
                    Some(more) => rest = more,
                    None => return Over::Stopped,
                }
            }
        }
    }
}
