//! What starts, what stops, and that nothing is left.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mcp_registry_gateway::fault::{Fault, Kind, Retry, Whose};
use mcp_registry_gateway::id::ServerId;
use mcp_registry_gateway::secret::Secret;
use mcp_registry_gateway::upstream::mux::Mux;
use mcp_registry_gateway::upstream::stdio::orphans::children;
use mcp_registry_gateway::upstream::stdio::{Key, Phase, Pool, Settings};
use serde_json::json;
use tokio_util::task::TaskTracker;

use crate::world::{
    ADA, BOB, FAMILY, call, fault, key, kill, launch, marked, new_mark, nothing_left, program_of, response, settings,
    until, within, world, world_with,
};

#[tokio::test]
async fn a_crash_drops_its_calls_says_why_and_is_followed_by_a_pause_and_a_new_start() {
    let world = world_with(Settings { backoff_first: Duration::from_millis(300), ..settings() });
    let key = key();
    let mut launch = world.python();
    launch.env.insert("TOKEN".into(), Secret::new("s3cret-value"));
    let link = world.get(&key, launch.clone()).await.unwrap();
    let mut bystander = call(&link.mux, json!({"name": "gate"}), BOB).await;
    let mut crash = call(&link.mux, json!({"name": "crash"}), ADA).await;
    for call in [&mut bystander, &mut crash] {
        let dropped = fault(call).await;
        assert_eq!((dropped.whose, dropped.kind, dropped.retry), (Whose::Upstream, Kind::Dropped, Retry::MaybeSent));
        assert!(dropped.detail.contains("exited with status 3"), "{dropped}");
        assert!(dropped.detail.contains("going down with ***"), "{dropped}");
        assert!(!dropped.detail.contains("s3cret"), "{dropped}");
    }
    let paused = world.get(&key, launch.clone()).await.unwrap_err();
    assert_eq!((paused.kind, paused.retry), (Kind::Unreachable, Retry::NotSent));
    assert!(paused.retry_after.is_some());
    until("the pause is seen", || world.status(&key).phase == Phase::BackingOff).await;
    let status = world.status(&key);
    assert_eq!((status.pid, status.last_exit.as_deref()), (None, Some("exited with status 3")));

    let mut again = world.get(&key, launch.clone()).await;
    while let Err(fault) = again {
        tokio::time::sleep(fault.retry_after.unwrap()).await;
        again = world.get(&key, launch.clone()).await;
    }
    assert_eq!(response(&mut call(&again.unwrap().mux, json!({}), ADA).await).await["id"], 1);
    let status = world.status(&key);
    assert_eq!((status.phase, status.restarts), (Phase::Running, 1));
    world.end().await;
}

#[tokio::test]
async fn those_who_ask_at_the_same_time_get_the_same_child() {
    let world = world();
    let key = key();
    let started = Arc::new(AtomicUsize::new(0));
    let ask = || {
        let (started, launch) = (Arc::clone(&started), world.python());
        let init = move |mux: Mux| async move {
            started.fetch_add(1, Ordering::SeqCst);
            response(&mut call(&mux, json!({}), ADA).await).await;
            Ok("shaken")
        };
        world.pool.get(&key, || launch, init)
    };
    // The first to ask goes away at once; the start goes on for the others.
    assert!(tokio::time::timeout(Duration::ZERO, ask()).await.is_err());
    let (a, b, c) = within(async { tokio::join!(ask(), ask(), ask()) }).await;
    let (a, b, c) = (a.unwrap(), b.unwrap(), c.unwrap());
    assert!(Arc::ptr_eq(&a, &b) && Arc::ptr_eq(&b, &c));
    assert_eq!((started.load(Ordering::SeqCst), world.pool.running()), (1, 1));
    world.end().await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_mistake_of_the_set_up() {
    let world = world();
    let missing = world.get(&key(), launch(&world.mark, "no-such-program-here", &[])).await.unwrap_err();
    assert_eq!((missing.whose, missing.kind), (Whose::Gateway, Kind::Setup));
    assert!(missing.detail.contains("`no-such-program-here` was not found in PATH"), "{missing}");
    let mut nowhere = world.sh("true");
    nowhere.cwd = Some("/no/such/folder".into());
    assert_eq!(world.get(&key(), nowhere).await.unwrap_err().kind, Kind::Setup);
    // A file that looks like a program and is none is found out by the guard.
    let broken = std::env::temp_dir().join(&world.mark);
    std::fs::write(&broken, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&broken, PermissionsExt::from_mode(0o755)).unwrap();
    let refused = world.get_in_vain(launch(&world.mark, broken.to_str().unwrap(), &[])).await;
    std::fs::remove_file(&broken).unwrap();
    assert_eq!(refused.kind, Kind::Setup, "{refused}");
    world.end().await;
}

#[tokio::test]
async fn a_program_that_does_not_come_up_says_why() {
    let world = world_with(Settings { start_timeout: Duration::from_millis(500), ..settings() });
    let died = world.get_in_vain(world.sh("echo no licence found >&2; exit 9")).await;
    assert_eq!((died.kind, died.retry), (Kind::Unreachable, Retry::NotSent));
    assert!(died.detail.contains("exited with status 9") && died.detail.contains("no licence found"), "{died}");

    let never = |_| std::future::pending::<Result<&'static str, Fault>>();
    let silent = world.sh("echo waiting for nothing >&2; cat");
    let slow = within(world.pool.get(&key(), || silent, never)).await.unwrap_err();
    assert_eq!(slow.kind, Kind::Timeout);
    assert!(slow.detail.contains("waiting for nothing"), "{slow}");
    world.end().await;
}

#[tokio::test]
async fn children_are_capped_in_all_and_for_each_server() {
    let world = world_with(Settings { max_children: 3, max_per_server: 2, ..settings() });
    let server = ServerId::new();
    let of = |user: &str| Key { server, way: 1, share: Some(user.into()), modern: false };
    world.get(&of("ada"), world.sh("cat")).await.unwrap();
    world.get(&of("bob"), world.sh("cat")).await.unwrap();
    let full = world.get(&of("eve"), world.sh("cat")).await.unwrap_err();
    assert_eq!((full.whose, full.kind), (Whose::Gateway, Kind::Full));
    world.get(&key(), world.sh("cat")).await.unwrap();
    assert_eq!(world.get(&key(), world.sh("cat")).await.unwrap_err().kind, Kind::Full);
    within(world.pool.release(&of("ada"))).await;
    world.get(&of("eve"), world.sh("cat")).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn an_idle_child_is_stopped_unless_it_is_held() {
    let world = world_with(Settings { idle_after: Duration::from_millis(50), ..settings() });
    let (kept, left) = (key(), key());
    let held = world.get(&kept, world.sh("cat")).await.unwrap().hold();
    world.get(&left, world.sh("cat")).await.unwrap();
    until("the idle one is gone", || world.pool.running() == 1).await;
    assert_eq!(world.status(&kept).phase, Phase::Running);
    drop(held);
    until("the other one is gone", || world.pool.running() == 0).await;
    world.get(&left, world.sh("cat")).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn stopping_a_server_stops_its_children_and_the_next_call_starts_a_new_one() {
    let world = world();
    let key = key();
    let old = world.get(&key, world.sh("cat")).await.unwrap();
    within(world.pool.stop(key.server, key.way)).await;
    assert!(marked(&world.mark).is_empty());
    within(old.mux.closed()).await;
    let new = world.get(&key, world.sh("cat")).await.unwrap();
    assert!(!Arc::ptr_eq(&old, &new));
    within(world.pool.shutdown()).await;
    assert_eq!(world.get(&key, world.sh("cat")).await.unwrap_err().kind, Kind::Unreachable);
    world.end().await;
}

/// Starts a program that says that it is ready, stops its server, and sees that nothing is left.
async fn stopped(script: &str) {
    let world = world_with(Settings { close_grace: Duration::from_millis(50), ..settings() });
    let key = key();
    world.get(&key, world.sh(script)).await.unwrap();
    until("it runs", || world.status(&key).stderr == ["ready"]).await;
    within(world.pool.stop(key.server, key.way)).await;
    assert!(marked(&world.mark).is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_program_that_ignores_everything_polite_is_killed() {
    stopped("trap '' TERM INT HUP PIPE; echo ready >&2; while :; do sleep 1; done").await;
}

#[tokio::test]
async fn a_program_that_stops_its_guard_is_ended_all_the_same() {
    stopped("trap '' TERM; echo ready >&2; kill -STOP $PPID; while :; do sleep 1; done").await;
}

#[tokio::test]
async fn what_a_killed_guard_leaves_behind_is_ended_and_reaped_and_nobody_else_is() {
    // As one that was there before the gateway became what it is.
    let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let world = world();
    let key = key();
    // One of the family has the name of a guard.
    let script = "sh -c 'echo mcp-gateway >/proc/$$/comm; echo ready >&2; sleep 1000; :' & exec cat";
    world.get(&key, world.sh(script)).await.unwrap();
    until("all of it runs", || world.status(&key).stderr == ["ready"]).await;
    kill(world.status(&key).pid.unwrap(), "KILL");
    within(world.pool.stop(key.server, key.way)).await;
    assert_eq!(marked(&world.mark), Vec::<u32>::new());
    let left: Vec<i32> = children().iter().map(|pid| pid.as_raw_nonzero().get()).collect();
    assert_eq!(left, [i32::try_from(stranger.id()).unwrap()]);
    assert!(stranger.try_wait().unwrap().is_none());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    world.end().await;
}

#[tokio::test]
async fn what_a_guard_leaves_behind_that_panicked_is_ended_too() {
    let guard = std::env::temp_dir().join(new_mark());
    // It plays a guard that goes down with the code of a panic.
    std::fs::write(&guard, "#!/bin/sh\nsleep 1000 >/dev/null 2>&1 &\nexit 101\n").unwrap();
    std::fs::set_permissions(&guard, PermissionsExt::from_mode(0o755)).unwrap();
    let world = world_with(Settings { guard: guard.clone(), ..settings() });
    let died = world.get_in_vain(world.sh("cat")).await;
    std::fs::remove_file(&guard).unwrap();
    assert_eq!(died.kind, Kind::Unreachable, "{died}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_cycles_of_start_stop_and_kill_leave_no_process() {
    // Several at once, so that one that ends does so beside others that start.
    let workers = (0..4).map(|_| tokio::spawn(cycles(250)));
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
}

async fn cycles(count: usize) {
    let world = world_with(Settings { close_grace: Duration::from_millis(500), ..settings() });
    for cycle in 0..count {
        let key = key();
        let link = world.get(&key, world.sh(FAMILY)).await.unwrap();
        response(&mut call(&link.mux, json!({}), ADA).await).await;
        // Guard, program, and most of the family; those who are late are born into it.
        assert!(marked(&world.mark).len() >= 4);
        let guard = world.status(&key).pid.unwrap();
        match cycle % 4 {
            // Its input is closed, which ends the program but not the rest.
            0 => {}
            1 => kill(program_of(guard), "KILL"),
            // As the kernel would for want of memory.
            2 => kill(guard, "KILL"),
            // As an operator would.
            _ => kill(guard, "TERM"),
        }
        if cycle % 4 > 0 {
            let ended = within(link.mux.closed()).await;
            assert!(ended.detail.contains("signal"), "{ended}");
        }
        within(world.pool.stop(key.server, key.way)).await;
        assert_eq!(marked(&world.mark), Vec::<u32>::new(), "in cycle {cycle}");
    }
    world.end().await;
}

/// Not a test of its own: plays the gateway that is killed in the next one.
#[tokio::test]
#[ignore = "run by another test"]
async fn acts_as_a_gateway() {
    let Ok(mark) = std::env::var("GIVE_MARK") else { return };
    let pool: Pool<()> = Pool::new(settings(), TaskTracker::new());
    // It does not end when its input does: the guard must see that the gateway is gone.
    let family = launch(&mark, "sh", &["-c", &format!("{FAMILY}exec sleep 1000")]);
    let link = pool.get(&key(), || family, |_| async { Ok(()) }).await.unwrap();
    response(&mut call(&link.mux, json!({}), ADA).await).await;
    eprintln!("the family is there");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_gateway_that_is_killed_takes_everything_with_it() {
    let mark = new_mark();
    let mut gateway = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::acts_as_a_gateway", "--ignored", "--nocapture"])
        .env("GIVE_MARK", &mark)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(gateway.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "the family is there"));
    assert!(marked(&mark).len() >= 4);
    gateway.kill().unwrap();
    gateway.wait().unwrap();
    nothing_left(&mark).await;
}
