//! Builds the parts from the settings, in the order in which they need each other, and starts what runs beside requests.
//! Nothing slow happens here: servers are asked after the first answer can be given.

use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use time::OffsetDateTime;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{Accounts, KeyRing, Proofs, TokenRing, keys};
use crate::analytics::{Analytics, Switches};
use crate::app::entrusted::Entrusted;
use crate::app::exporting::{begin_exporting, export_jobs};
use crate::app::preflight;
use crate::app::sharing::Sharing;
use crate::app::trail::{begin_trail, trail_jobs};
use crate::app::{App, Counted, DatabaseWaits, Exporting, Forcing, Parts, Sampler, memory, resealing};
use crate::audit::Trail;
use crate::balance::Scaling;
use crate::config::Settings;
use crate::connections::Connections;
use crate::crypto::Sealer;
use crate::grants::attempts::Attempts;
use crate::grants::client::Clients;
use crate::grants::resource::Issuer;
use crate::grants::{Grants, Terms};
use crate::idp::Providers;
use crate::jobs::{Every, Jobs};
use crate::limit::board::redis::RedisBoard;
use crate::limit::guard::Guard;
use crate::mcp::handshake::close_behind;
use crate::mcp::held::Room;
use crate::mcp::legacy_sse::Channels;
use crate::mcp::session::Sessions;
use crate::mcp::streams::Streams;
use crate::net::{AddressPolicy, Outbound};
use crate::policy::observed::Observed;
use crate::registry::live::Registry;
use crate::store::idempotency::KEPT;
use crate::store::{self, Store, StoreError};
use crate::telemetry::{Health, Metrics, Recorder, Status, Weight};
use crate::upstream::Ground;
use crate::upstream::credentials::Credentials;
use crate::upstream::credentials::signer::Signer;
use crate::upstream::http::Limits;
use crate::upstream::stdio;
use crate::vault::Vault;

/// Notices of servers that wait for slow listeners.
const NOTICES: usize = 1024;

/// Answers of the longest kind that batches and streams of the oldest transport may hold together.
const HELD_ANSWERS: usize = 4;

/// How often a process looks for what others changed: limits hold everywhere within a second.
const LOOK: Duration = Duration::from_millis(800);

/// How often a process looks for keys of tenants that others made: much more often than it has to, to seal without asking.
const FOLLOW_KEYS: Duration = Duration::from_secs(5);

/// How often it is looked at the latest about whom providers are to be asked: what other processes made due, and who came back.
const LOOK_FOR_DUE: Duration = Duration::from_secs(20);

/// Servers whose replicas are checked at the same time.
const CHECKS: usize = 16;
/// A replica that has not answered a check by then is not well.
const LONGEST_CHECK: Duration = Duration::from_secs(5);

/// Builds everything around the stored data. Fails with a sentence that says what to do, and, as far as that can be seen
/// beforehand, without having written anything. Nobody may come in yet: the key ring is read when there is a first
/// administrator.
pub async fn build(settings: Settings, issuer: Issuer) -> anyhow::Result<App> {
    preflight::admin_key(&settings)?;
    let board = preflight::redis(&settings)?;
    let seen = preflight::database_in_time(&settings).await?;
    let sealing = preflight::master_key(&settings, Some(&seen)).await?;
    let folder = &settings.data.data_dir;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the data folder {}; choose another with --data-dir", folder.display()))?;
    let sealer = sealing.sealer()?;
    let database = preflight::database_url(&settings);
    let store = Store::connect(database.expose(), settings.pools.database_pool_size).await.context(seen.place)?;
    let app = assemble(settings, issuer, store, sealer, KeyRing::empty())?;
    begin_trail(&app)?;
    begin_exporting(&app);
    app.servers().reseal().await.context("the key that seals secrets")?;
    app.vault.know_ids().await.context("the key that seals secrets")?;
    app.lower_unnamed().await?;
    app.registry.ground.credentials.signer().follow(store::now()).await?;
    Box::pin(app.connections().forget_changes()).await?;
    app.recall().await?;
    app.guard.follow(&app.store).await?;
    Box::pin(share_limits(&app, board)).await?;
    start_jobs(&app);
    Ok(app)
}

/// Puts the parts together around an open database. No server is set up and nothing runs yet.
pub fn assemble(
    settings: Settings,
    issuer: Issuer,
    store: Store,
    sealer: Sealer,
    keyring: KeyRing,
) -> anyhow::Result<App> {
    let metrics = Arc::new(Metrics::new(settings.metrics.max_series));
    let tasks = TaskTracker::new();
    let shutdown = CancellationToken::new();
    let children = stdio::Settings {
        max_children: settings.limits.max_children,
        max_per_server: settings.limits.max_children_per_server,
        idle_after: settings.limits.child_idle_timeout,
        ..stdio::Settings::default()
    };
    let outbound = Outbound::new(AddressPolicy::ADMIN, settings.pools.extra_ca_file.clone());
    let providers = Providers::new(&settings.azure, &settings.oidc, &outbound)?;
    let vault = Vault::new(store.clone(), sealer.clone());
    let clients = Clients::new(&settings.clients, &store, vault.ids(), &outbound);
    let signer = Signer::new(store.clone(), sealer.clone());
    let connections = Connections::new(store.clone(), vault.clone(), &outbound, issuer.as_str(), &metrics, &tasks);
    let credentials = Credentials::new(&outbound, signer, connections, issuer.as_str(), &metrics, &tasks);
    let ground = Arc::new(Ground {
        credentials,
        outbound: Arc::new(outbound),
        limits: Limits { message: settings.limits.response_body, pool: Scaling::from(&settings.pools) },
        children: stdio::pool::Pool::new(children, tasks.clone()),
        notices: broadcast::channel(NOTICES).0,
        learned: tokio::sync::Notify::new(),
        tasks: tasks.clone(),
    });
    let outbound = Arc::clone(&ground.outbound);
    let registry = Registry::new(ground, settings.limits.catalogue_ttl);
    let sessions = Sessions::new(settings.limits.max_sessions, settings.limits.session_idle_timeout);
    let streams = Streams::new(settings.limits.max_streams);
    let grants = Grants::new(store.clone(), vault.clone(), Terms::new(&settings.sign_in, &settings.refresh), &metrics);
    let tokens = TokenRing::new(issuer.as_str(), settings.limits.max_tokens, OffsetDateTime::now_utc());
    let held = Room::new(settings.limits.response_body.saturating_mul(HELD_ANSWERS));
    let rules = preflight::rules(&settings.rate_limits);
    let instance = uuid::Uuid::now_v7();
    let trail = Trail::new(instance, settings.audit.clone());
    let (exporting, tracer) = Exporting::new(&settings, &outbound, instance, &metrics)?;
    let recorder = Recorder::new(metrics).kept_by(Arc::new(trail.clone())).traced_by(tracer);
    let guard = Guard::new(&settings.guard, &settings.listen, rules.window, recorder.clone());
    let switches = Switches { users: settings.analytics.users, behaviour: settings.analytics.behaviour };
    let app = App::new(Parts {
        instance,
        analytics: Arc::new(Analytics::new(switches, instance, Arc::clone(recorder.metrics()))),
        sampler: Sampler::default(),
        guard,
        attempts: Attempts::new(&settings.sign_in, settings.rate_limits.anonymous_rpm),
        limits: crate::limit::Limits::new(rules, settings.rate_limits.burst_factor),
        accounts: Accounts::default(),
        clients,
        proofs: Proofs::new(Arc::clone(recorder.metrics())),
        recorder,
        trail,
        drain: std::sync::Mutex::default(),
        last: CancellationToken::new(),
        exporting,
        followed: tokio::sync::Mutex::default(),
        counted: Counted::default(),
        database_waits: DatabaseWaits::default(),
        health: Health::default(),
        settings: Arc::new(settings),
        store,
        sealer,
        vault,
        keyring,
        tokens,
        issuer,
        grants,
        providers,
        forcing: Forcing::default(),
        resealing: tokio::sync::Notify::new(),
        observed: Observed::default(),
        registry,
        sessions,
        channels: Channels::default(),
        streams,
        held,
        tasks,
        shutdown,
    });
    app.registry.ground.credentials.ask(Entrusted::to(&app));
    Ok(app)
}

/// Nothing is let through before it is known how much this process may let through.
async fn share_limits(app: &App, board: Option<RedisBoard>) -> Result<(), StoreError> {
    let replicas = if app.store.is_shared() { app.say_here().await? } else { 1 };
    let fewer = Arc::default();
    match board {
        Some(board) => {
            let sharing = Sharing::begin(app, board, replicas, &fewer).await;
            app.tasks.spawn(sharing.go_on());
        }
        None => app.limits.part(replicas),
    }
    app.show_replicas();
    if app.store.is_shared() {
        app.tasks.spawn(app.clone().be_here(fewer));
    }
    Ok(())
}

fn start_jobs(app: &App) {
    let jobs = Jobs::new(app.tasks.clone(), app.shutdown.clone(), app.recorder.metrics().clone());
    app.tasks.spawn(memory::keep(app.clone()));
    let noter = app.clone();
    app.tasks.spawn(async move {
        noter.shutdown.run_until_cancelled(noter.grants.keep_writing_traces()).await;
    });

    guard_jobs(app, &jobs);
    credential_jobs(app, &jobs);
    sealing_jobs(app, &jobs);
    analytics_jobs(app, &jobs);
    trail_jobs(app, &jobs);
    export_jobs(app, &jobs);

    let database = app.health.part("database", Weight::Vital);
    let listener = app.clone();
    app.tasks.spawn(async move { listener.hear_changes().await });
    let follower = app.clone();
    // Another process, or somebody with a database shell, may have changed what this one serves from memory, unheard.
    jobs.run("follow", Every::about(LOOK), move || {
        let (app, database) = (follower.clone(), database.clone());
        async move {
            let bans = app.guard.follow(&app.store).await;
            let taken = app.changed().await.and(bans);
            database.set(if taken.is_ok() { Status::Ok } else { Status::Failing });
            Ok(taken?)
        }
    });
    let upstreams = app.health.part("upstreams", Weight::Partial);
    let rules = app.health.part("access rules", Weight::Partial);
    rules.set(if app.rules_are_well() { Status::Ok } else { Status::Degraded });
    let watcher = app.clone();
    jobs.run("look at servers", Every::about(Duration::from_secs(2)), move || {
        let (app, upstreams, rules) = (watcher.clone(), upstreams.clone(), rules.clone());
        async move {
            upstreams.set(if app.registry.look() { Status::Ok } else { Status::Degraded });
            rules.set(if app.rules_are_well() { Status::Ok } else { Status::Degraded });
            Ok(())
        }
    });
    let settler = app.clone();
    let second = Every { jitter: 0.0, ..Every::about(Duration::from_secs(1)) };
    jobs.run("size pools", second, move || {
        settler.settle_pools(Instant::now());
        async { Ok(()) }
    });
    let waiter = app.clone();
    jobs.run("wait for the database", Every::about(Duration::from_secs(1)), move || {
        let app = waiter.clone();
        async move {
            app.wait_for_database().await;
            Ok(())
        }
    });
    let checker = app.clone();
    let interval = app.settings.limits.health_check_interval;
    jobs.run("check replicas", Every::about(interval), move || {
        let app = checker.clone();
        async move {
            let snapshot = app.registry.snapshot();
            let entries = snapshot.entries();
            let servers: Vec<_> = entries.map(|entry| entry.upstream.clone()).collect();
            let patience = interval.min(LONGEST_CHECK);
            let checks = servers.into_iter().map(|server| async move { server.check_replicas(patience).await });
            futures_util::stream::iter(checks).buffer_unordered(CHECKS).collect::<()>().await;
            Ok(())
        }
    });
    let sweeper = app.clone();
    jobs.run("sweep sessions", Every::about(Duration::from_secs(15)), move || {
        let app = sweeper.clone();
        async move {
            for session in app.sessions.sweep() {
                close_behind(&app, session);
            }
            Ok(())
        }
    });
    let sweeper = app.clone();
    jobs.run("sweep limits", Every::about(Duration::from_secs(30)), move || {
        sweeper.limits.sweep();
        async { Ok(()) }
    });
    let ender = app.clone();
    // Half of what may pass between the end of a credential and the end of what it opened, anywhere.
    jobs.run("end credentials", Every::about(Duration::from_millis(500)), move || {
        let app = ender.clone();
        async move {
            let now = OffsetDateTime::now_utc();
            app.keyring.end_expired(now);
            app.tokens.end_expired(now);
            Ok(app.tokens.forget_ended(&app.store).await?)
        }
    });
    let purger = app.store.clone();
    jobs.run("purge ended keys", Every::about(Duration::from_hours(1)), move || {
        let store = purger.clone();
        async move {
            let purged = keys::purge_ended(&store, store::now()).await?;
            if purged > 0 {
                tracing::info!(purged, "keys that ended long ago are gone");
            }
            Ok(())
        }
    });
    let purger = app.store.clone();
    jobs.run("purge kept answers", Every::about(Duration::from_hours(1)), move || {
        let store = purger.clone();
        async move { Ok(store.purge_answers(store::micros(store::now() - KEPT)).await.map(drop)?) }
    });
    let sweeper = app.clone();
    jobs.run("sweep sign-ins", Every::about(Duration::from_secs(20)), move || {
        let app = sweeper.clone();
        async move {
            loop {
                if !app.grants.sweep(store::now(), |ended| app.told_of(ended)).await?.more {
                    return Ok(());
                }
            }
        }
    });
    sign_in_jobs(app, &jobs);
    let flusher = app.clone();
    jobs.run("flush use", Every::about(Duration::from_secs(30)), move || {
        let app = flusher.clone();
        async move {
            app.keyring.flush_used(&app.store, app.grants.terms().schedule.recheck).await?;
            app.tokens.flush_used(&app.store, app.grants.terms().schedule.recheck).await?;
            Ok(())
        }
    });
    let noter = app.clone();
    jobs.run("write operations", Every::about(Duration::from_secs(10)), move || {
        let app = noter.clone();
        async move { Ok(app.observed.flush(&app.store).await?) }
    });
}

/// What stores how this process is.
fn analytics_jobs(app: &App, jobs: &Jobs) {
    let sampler = app.clone();
    jobs.run("sample", Every::about(app.settings.analytics.export_interval), move || {
        let app = sampler.clone();
        async move { Ok(app.sample(store::now()).await?) }
    });
    let beater = app.clone();
    // Several times a minute, so that one that fails leaves no gap.
    let round = Every { at_once: true, ..Every::about(Duration::from_secs(20)) };
    jobs.run("heartbeat", round, move || {
        let app = beater.clone();
        async move { Ok(app.beat(store::now()).await?) }
    });
    let tidier = app.clone();
    jobs.run("tidy analytics", Every::about(Duration::from_hours(1)), move || {
        let app = tidier.clone();
        async move { Ok(app.tidy_analytics(store::now()).await?) }
    });
}

/// What keeps the keys that seal secrets together with those of other processes.
fn sealing_jobs(app: &App, jobs: &Jobs) {
    let vault = app.vault.clone();
    jobs.run("follow sealing keys", Every::about(FOLLOW_KEYS), move || {
        let vault = vault.clone();
        async move { Ok(vault.load().await?) }
    });
    let sealer = app.clone();
    let round = Every { at_once: true, ..Every::about(resealing::PAUSE) };
    jobs.run("seal anew", round, move || {
        let app = sealer.clone();
        async move { app.seal_anew_in_turn().await }
    });
}

/// What keeps what is shown to servers ready.
fn credential_jobs(app: &App, jobs: &Jobs) {
    let renewer = app.registry.ground.credentials.clone();
    jobs.run("renew credentials", Every::about(Duration::from_secs(10)), move || {
        let credentials = renewer.clone();
        async move {
            credentials.renew().await;
            Ok(())
        }
    });
    let follower = app.clone();
    jobs.run("follow connections", Every::about(LOOK), move || {
        let app = follower.clone();
        async move { Ok(app.follow_connections().await?) }
    });
    let sweeper = app.connections().clone();
    jobs.run("sweep connections", Every::about(Duration::from_mins(1)), move || {
        let connections = sweeper.clone();
        async move { Ok(connections.sweep(store::now()).await?) }
    });
    let signer = app.registry.ground.credentials.signer().clone();
    jobs.run("look at signing keys", Every::about(Duration::from_secs(30)), move || {
        let signer = signer.clone();
        async move { Ok(signer.follow(store::now()).await?) }
    });
}

/// What keeps bans and forgets what is over.
fn guard_jobs(app: &App, jobs: &Jobs) {
    let writer = app.clone();
    app.tasks.spawn(async move {
        writer.shutdown.run_until_cancelled(writer.guard.keep_writing(&writer.store)).await;
    });
    let sweeper = app.guard.clone();
    jobs.run("sweep the guard", Every::about(Duration::from_secs(30)), move || {
        sweeper.sweep(OffsetDateTime::now_utc());
        async { Ok(()) }
    });
    let purger = app.clone();
    jobs.run("purge old bans", Every::about(Duration::from_hours(1)), move || {
        let app = purger.clone();
        async move { Ok(app.guard.purge(&app.store, store::now()).await.map(drop)?) }
    });
}

/// What asks identity providers, where there are any.
fn sign_in_jobs(app: &App, jobs: &Jobs) {
    if app.providers.names().is_empty() {
        return;
    }
    let renewer = app.providers.clone();
    jobs.run("renew provider keys", Every::about(Duration::from_hours(1)), move || {
        let providers = renewer.clone();
        async move { Ok(providers.refresh_keys().await?) }
    });
    if app.settings.refresh.background {
        for provider in app.providers.names() {
            let asker = app.clone();
            jobs.run_when_due("ask providers", LOOK_FOR_DUE, move || {
                let app = asker.clone();
                // Of its own, so that who stops the process waits until everybody who was taken has been asked about or given back.
                let run = app.tasks.clone().spawn(async move { app.refresh_at(provider.name).await });
                async move { Ok(run.await??) }
            });
        }
    }
    let counter = app.clone();
    jobs.run("count refreshes", Every::about(Duration::from_secs(1)), move || {
        let app = counter.clone();
        async move { Ok(app.grants.flush_refreshes().await?) }
    });
    let sign_in = app.health.part("sign-in", Weight::Partial);
    let watcher = app.clone();
    jobs.run("look at providers", Every::about(Duration::from_secs(2)), move || {
        sign_in.set(watcher.sign_in_status());
        async { Ok(()) }
    });
}
