//! What was learned of a server's protocol: kept, believed, and given up when an answer shows that it is wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde_json::json;
use testkit::client::Client;
use testkit::upstream::{Answer, Eras, Fault, Faulty, Plain};

use crate::world::{World, until, within};

const LEGACY: &str = "2025-11-25";

fn old() -> Eras {
    Eras::Legacy(LEGACY.to_owned())
}

async fn echo(client: &Client) {
    let outcome = within(client.tool("echo", json!({ "text": "hello" }))).await.unwrap();
    assert!(outcome.result().is_object(), "{} {}", outcome.status, outcome.response);
}

#[tokio::test]
async fn after_a_restart_the_first_call_waits_for_no_probe() {
    for eras in [old(), Eras::Modern, Eras::Dual] {
        let server = Faulty::with(eras.clone()).await.unwrap();
        let world = World::with(&[]).await;
        world.register("one", &[server.url()]).await;
        let era = if eras == old() { "legacy" } else { "modern" };
        let legacy = world.client("/mcp/one");
        legacy.initialize(LEGACY).await.unwrap();
        echo(&legacy).await;
        until(async || {
            let kept = world.app.store.memory_of_all_tenants().await.unwrap();
            kept.first().is_some_and(|row| row.era == era && row.initialize_result.is_some())
        })
        .await;

        let world = world.restart(async |_| _ = server.fail_on("server/discover", Fault::Hang)).await;
        assert_eq!(world.status("one").await["era"], era, "{eras:?}");
        echo(&world.client("/mcp/one")).await;
        let legacy = world.client("/mcp/one");
        within(legacy.initialize(LEGACY)).await.unwrap();
        echo(&legacy).await;
    }
}

#[tokio::test]
async fn what_was_learned_before_a_server_was_changed_is_not_believed() {
    let server = Faulty::with(Eras::Modern).await.unwrap();
    let world = World::with(&[]).await;
    world.register("one", &[server.url()]).await;
    until(async || world.kept().await == ["modern"]).await;
    let world = world
        .restart(async |app| {
            server.fail_on("server/discover", Fault::Hang);
            let tenant = mcp_registry_gateway::id::TenantId::default_tenant();
            let mut row = app.store.memory_of_all_tenants().await.unwrap().remove(0);
            row.learned_at = 0;
            app.store.put_memory(&tenant, &row).await.unwrap();
        })
        .await;
    assert_eq!(world.status("one").await["era"], json!(null));
    until(async || world.kept().await.is_empty()).await;
}

#[tokio::test]
async fn what_a_server_can_do_now_is_found_out_behind_the_scenes() {
    let server = Plain::with(Eras::Modern).await.unwrap();
    server.set(|settings| settings.capabilities = json!({ "tools": {} }));
    let world = World::with(&[]).await;
    world.register("one", &[server.url()]).await;
    until(async || world.kept().await == ["modern"]).await;
    let world = world
        .restart(async |_| {
            server.set(|settings| {
                settings.capabilities = json!({ "tools": {}, "prompts": {} });
                settings.prompts = vec![json!({ "name": "greet" })];
            });
        })
        .await;
    until(async || world.status("one").await["prompts"] == 1).await;
}

#[tokio::test]
async fn a_server_that_changed_its_era_while_the_gateway_was_down_is_listed_whole() {
    for (before, after, era) in [(old(), Eras::Modern, "modern"), (Eras::Modern, old(), "legacy")] {
        let server = Plain::with(before).await.unwrap();
        let world = World::with(&[]).await;
        world.register("one", &[server.url()]).await;
        let tools = world.status("one").await["tools"].clone();
        until(async || world.kept().await.len() == 1).await;
        let world = world.restart(async |_| _ = server.eras(after).tools_changed()).await;
        echo(&world.client("/mcp/one")).await;
        until(async || world.kept().await == [era]).await;
        until(async || {
            let status = world.status("one").await;
            status["state"] == "ready" && status["era"] == era && status["tools"] == tools
        })
        .await;
    }
}

#[tokio::test]
async fn the_call_that_finds_out_a_change_of_era_is_served_and_acted_on_once() {
    for (before, after) in [(old(), Eras::Modern), (Eras::Modern, old())] {
        for (sessions, client_era) in [(true, "modern"), (true, "legacy"), (false, "modern"), (false, "legacy")] {
            let case = format!("{before:?} to {after:?}, sessions {sessions}, {client_era} client");
            let server = Plain::with(before.clone()).await.unwrap();
            server.sessions(sessions);
            let acted = Arc::new(AtomicUsize::new(0));
            let counting = acted.clone();
            server.script("count", move |_| {
                counting.fetch_add(1, Relaxed);
                Answer::text("counted")
            });
            let world = World::with(&[]).await;
            world.register("one", &[server.url()]).await;
            let client = world.client("/mcp/one");
            if client_era == "legacy" {
                client.initialize(LEGACY).await.unwrap();
            }
            echo(&client).await;

            server.eras(after.clone());
            let outcome = within(client.tool("count", json!({}))).await.unwrap();
            assert!(outcome.result().is_object(), "{case}: {} {}", outcome.status, outcome.response);
            assert_eq!(acted.load(Relaxed), 1, "{case}");
            echo(&client).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_takes_up_another_version_with_a_handshake_is_followed() {
    for client_era in ["modern", "legacy"] {
        let server = Plain::with(Eras::Legacy("2025-06-18".to_owned())).await.unwrap();
        server.sessions(false);
        let world = World::with(&[]).await;
        world.register("one", &[server.url()]).await;
        let client = world.client("/mcp/one");
        if client_era == "legacy" {
            client.initialize(LEGACY).await.unwrap();
        }
        echo(&client).await;
        server.eras(old());
        echo(&client).await;
        let versions: Vec<String> =
            server.calls("echo").iter().map(|call| call.header("mcp-protocol-version").to_owned()).collect();
        assert_eq!(versions, ["2025-06-18", "2025-06-18", LEGACY], "{client_era}");
    }
}

#[tokio::test]
async fn refusals_of_a_server_reach_the_client_and_make_no_storm_of_probes() {
    // A text that is no message, and an error of the protocol: both may be the other era's.
    for (fault, code) in [(Fault::Status(400), -31_006), (Fault::Refusal(-32_000), -32_000)] {
        let server = Faulty::with(old()).await.unwrap();
        let world = World::with(&[]).await;
        world.register("one", &[server.url()]).await;
        let client = world.client("/mcp/one").keep_alive();
        echo(&client).await;
        server.fail_on("tools/call", fault);
        let before = server.asked("server/discover").len();
        for _ in 0..20 {
            let outcome = within(client.tool("echo", json!({ "text": "hello" }))).await.unwrap();
            assert_eq!(outcome.code(), Some(code), "{}", outcome.response);
        }
        let probes = server.asked("server/discover").len() - before;
        assert!((1..10).contains(&probes), "{probes} probes for 20 refusals");
        server.heal();
        echo(&client).await;
    }
}
