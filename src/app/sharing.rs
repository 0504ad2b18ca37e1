//! How replicas share the limits: ten times a second each comes to the board in Redis, where there is one. A replica that does not
//! reach it goes on by itself with its part of everything, and says so; without a board each has its part all the time.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::App;
use crate::limit::board::PERIOD;
use crate::limit::board::redis::{BoardError, RedisBoard};
use crate::store::StoreError;
use crate::telemetry::{Counter, Part, Status, Weight};

/// A process that has not said for so long that it is there is no longer.
const GONE: Duration = Duration::from_secs(15);
/// How often it says so.
const SAID: Duration = Duration::from_secs(5);
/// How often it looks while some serve that cannot be heard.
const LOOKED: Duration = Duration::from_secs(1);

/// What comes to the board and back.
pub(super) struct Sharing {
    app: App,
    board: RedisBoard,
    part: Part,
    /// Replicas that were heard last, itself among them; rung when they become fewer.
    replicas: u32,
    fewer: Arc<Notify>,
    /// Whether the board was there when it was last asked; none before it is asked first.
    well: Option<bool>,
}

impl Sharing {
    /// Joins the others and hears them once, if they can be heard: from then on requests may come.
    pub(super) async fn begin(app: &App, board: RedisBoard, replicas: u32, fewer: &Arc<Notify>) -> Self {
        app.limits.join(replicas);
        let part = app.health.part("redis", Weight::Partial);
        let mut sharing = Self { app: app.clone(), board, part, replicas, fewer: fewer.clone(), well: None };
        loop {
            sharing.exchange().await;
            if sharing.well.is_some() {
                return sharing;
            }
            tokio::time::sleep(Duration::from_nanos(PERIOD)).await;
        }
    }

    /// Goes on until the process stops.
    pub(super) async fn go_on(mut self) {
        let mut ticks = interval(Duration::from_nanos(PERIOD));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let app = self.app.clone();
        let rounds = async {
            loop {
                ticks.tick().await;
                self.exchange().await;
            }
        };
        app.shutdown.run_until_cancelled(rounds).await;
    }

    async fn exchange(&mut self) {
        let app = &self.app;
        let (mut report, sent) = app.limits.report(app.instance.as_u128());
        report.counts = app.guard.counted();
        let began = Instant::now();
        let replied = self.board.exchange(&report).await;
        let metrics = app.recorder.metrics();
        let result = if replied.is_ok() { "success" } else { "failure" };
        metrics.limit_exchanges.on([result], Counter::inc);
        match replied {
            Ok(reply) => {
                metrics.limit_exchange_duration.on([], |all| all.observe(began.elapsed()));
                app.limits.hear(&report, &reply, sent);
                app.guard.hear(&reply.others, OffsetDateTime::now_utc());
                let now = app.limits.fair().replicas();
                if now < std::mem::replace(&mut self.replicas, now) {
                    self.fewer.notify_one();
                }
                self.is(Ok(()));
            }
            Err(error) => {
                if !app.limits.miss(&report) {
                    self.is(Err(error));
                }
            }
        }
        self.app.show_replicas();
    }

    /// Says how it is, once for each time that it changes.
    fn is(&mut self, how: Result<(), BoardError>) {
        let well = how.is_ok();
        if self.well.replace(well) == Some(well) {
            return;
        }
        let replicas = self.app.limits.fair().replicas();
        match how {
            Ok(()) => tracing::info!(replicas, "the limits are shared with the other replicas through Redis"),
            Err(error) => tracing::warn!(
                replicas,
                error = error.to_string(),
                "Redis cannot be reached: until it can, this process has its part of the limits, one of as many as there are replicas"
            ),
        }
        self.part.set(if well { Status::Ok } else { Status::Degraded });
    }
}

impl App {
    /// Says to the other processes on this database that this one is there; returns how many there are.
    pub(super) async fn say_here(&self) -> Result<u32, StoreError> {
        self.store.is_here(self.instance, GONE).await
    }

    /// Where the database may be shared: says again and again that this process is there, and takes no more than its part of the limits
    /// while there is no board. Who leaves the board and serves on has only lost its way there, and takes its part by itself: that is
    /// looked for when there are `fewer`.
    pub(super) async fn be_here(self, fewer: Arc<Notify>) {
        let rounds = async {
            let mut in_doubt = true;
            loop {
                // Without a board there is nobody to be heard, and a doubt waits for it.
                let wait = if in_doubt && self.limits.fair().is_on_board() { LOOKED } else { SAID };
                in_doubt |= timeout(wait, fewer.notified()).await.is_ok();
                match self.say_here().await {
                    Ok(replicas) => in_doubt = self.are_here(replicas, in_doubt),
                    Err(error) => {
                        tracing::warn!(
                            error = error.to_string(),
                            "cannot say to other replicas that this one is there"
                        );
                    }
                }
            }
        };
        self.shutdown.run_until_cancelled(rounds).await;
        if let Err(error) = self.store.leaves(self.instance).await {
            tracing::debug!(error = error.to_string(), "the other replicas miss this one a little later");
        }
    }

    /// So many serve from the database. Returns whether it is in doubt how much is for this one.
    fn are_here(&self, replicas: u32, in_doubt: bool) -> bool {
        let fair = self.limits.fair();
        if !fair.is_on_board() {
            self.limits.part(replicas);
            self.show_replicas();
            return true;
        }
        // One that has just begun is in the database before it is on the board: only who left the board is missed.
        let missing = if in_doubt { replicas.saturating_sub(fair.replicas()) } else { 0 };
        fair.miss(missing);
        missing > 0
    }

    pub(super) fn show_replicas(&self) {
        let replicas = self.limits.fair().replicas();
        self.recorder.metrics().replicas.on([], |gauge| gauge.set(replicas.into()));
    }
}
