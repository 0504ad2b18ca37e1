//! The audit trail, seen from outside: every answer that somebody got is found in it, once, whatever became of the process; nobody sees
//! another tenant's; and what cannot be recorded is not done.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use mcp_registry_gateway::audit::{records, verify};
use mcp_registry_gateway::store::Store;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};
use testkit::client::{Client, Reply, Request};
use testkit::process::Process;
use testkit::upstream::{Eras, Plain};

use crate::isolation::somebody;
use crate::world::{KEY, World, process_on, until};

/// What the trail says of a request, as soon as it says anything.
async fn record_of(world: &World, request_id: &str) -> Value {
    until(|| async {
        let path = format!("/admin/audit?request_id={request_id}");
        let (status, found) = world.rest(Method::GET, &path, &Value::Null).await;
        assert_eq!(status, 200, "{found}");
        let items = found["items"].as_array().unwrap();
        assert!(items.len() <= 1, "{found}");
        items.first().map(|item| item["record"].clone())
    })
    .await
}

async fn send(client: &Client, request: Request) -> (u16, String) {
    let reply = client.send(request).await.unwrap();
    let (status, id) = (reply.status.as_u16(), reply.headers["x-request-id"].to_str().unwrap().to_owned());
    reply.text().await.unwrap();
    (status, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_says_who_did_what_where_and_how_it_came_out() {
    let server = Plain::with(Eras::Dual).await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    let ada = world.person("ada", "user").await;
    let client = world.client_of("/mcp/it", &ada);
    let secret = "a-word-that-only-the-tool-should-hear";
    let call = client.request("1", "tools/call", json!({"name": "echo", "arguments": {"message": secret}}));
    let (status, id) = send(&client, call).await;
    assert_eq!(status, 200);
    let record = record_of(&world, &id).await;
    for (name, value) in [
        ("surface", "mcp"),
        ("action", "tools/call"),
        ("endpoint", "/mcp/{server}"),
        ("tenant", "default"),
        ("username", "ada"),
        ("role", "user"),
        ("session_type", "api_key"),
        ("address", "127.0.0.1"),
        ("server", "it"),
        ("name", "echo"),
        ("outcome", "success"),
        ("request_id", id.as_str()),
    ] {
        assert_eq!(record[name], value, "{name}: {record}");
    }
    assert_eq!(record["arguments_digest"].as_str().unwrap().len(), 64, "{record}");
    assert!(record["total_us"].as_u64().unwrap() > 0 && record["response_bytes"].as_u64().unwrap() > 0, "{record}");
    assert!(!record.to_string().contains(secret), "{record}");

    let stranger = world.client_of("/mcp/it", "mcpg_wrong");
    let (status, id) = send(&stranger, stranger.request("1", "tools/list", json!({}))).await;
    assert_eq!(status, 401);
    let record = record_of(&world, &id).await;
    assert_eq!((&record["outcome"], record.get("tenant")), (&json!("denied"), None), "{record}");

    let (status, id) =
        send(&world.client("/"), Request::new(Method::GET, String::new().into()).path("/api/v1/servers")).await;
    assert_eq!(status, 200);
    let record = record_of(&world, &id).await;
    assert_eq!((&record["surface"], &record["action"]), (&json!("admin"), &json!("GET /api/v1/servers")), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_of_a_tenant_sees_the_records_of_that_tenant() {
    let world = World::start().await;
    let (acme, other) =
        (somebody(&world, "acme", "tenant_admin").await, somebody(&world, "other", "tenant_admin").await);
    let ask = async |key: &str, path: &str| {
        let request = Request::new(Method::GET, String::new().into()).path(&format!("/api/v1/admin/audit{path}"));
        let reply = world.client_of("/", key).send(request).await.unwrap();
        let id = reply.headers["x-request-id"].to_str().unwrap().to_owned();
        (reply.status.as_u16(), id, serde_json::from_str::<Value>(&reply.text().await.unwrap()).unwrap())
    };
    let (status, id, _) = ask(&other, "").await;
    assert_eq!(status, 200);
    record_of(&world, &id).await;
    let (_, _, all) = ask(KEY, &format!("?request_id={id}")).await;
    let record = all["items"][0]["id"].as_str().unwrap().to_owned();

    let (status, _, seen) = ask(&acme, &format!("?request_id={id}")).await;
    assert_eq!((status, &seen["items"]), (200, &json!([])));
    let (_, _, seen) = ask(&acme, "?limit=500").await;
    assert!(seen["items"].as_array().unwrap().iter().all(|item| item["chain"] == "acme"), "{seen}");
    for tenant in ["other", "none", ""] {
        assert_eq!(ask(&acme, &format!("?tenant={tenant}")).await.0, 404, "{tenant}");
    }
    assert_eq!(ask(&acme, &format!("/{record}")).await.0, 404);
    assert_eq!(ask(&other, &format!("/{record}")).await.0, 200);
    assert_eq!(ask(KEY, &format!("/{record}")).await.0, 200);
    let (_, _, own) = ask(KEY, "?tenant=other&limit=500").await;
    let own = own["items"].as_array().unwrap();
    assert!(!own.is_empty() && own.iter().all(|item| item["chain"] == "other"), "{own:?}");
}

/// A gateway on this data folder, as a process that bans nobody.
async fn start(folder: &Path, args: &[&str]) -> Process {
    process_on(folder, &[&["--ddos-detection-threshold=1000000"], args].concat()).await
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("mcp-gateway-audit-{}", uuid::Uuid::now_v7())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An answer that came whole: the request, and how many records there are of it at least and at most.
type Answered = (String, usize, usize);

/// The ways in which the gateway is called when it is killed.
const WAYS: [&str; 9] = ["call", "call", "list", "nowhere", "batch", "stream", "old", "rest", "token"];

/// Calls in this way until the gateway is gone; what was answered.
async fn call_until_gone(url: String, way: &'static str, secret: String) -> Vec<Answered> {
    let mut answered = Vec::new();
    // Whatever goes wrong does so because it is gone.
    _ = match way {
        "stream" => open_streams(&url, &mut answered).await,
        "old" => speak_as_of_old(&url, &mut answered).await,
        _ => call_again_and_again(&url, way, &secret, &mut answered).await,
    };
    answered
}

fn id_of(reply: &Reply) -> String {
    reply.headers["x-request-id"].to_str().unwrap().to_owned()
}

async fn call_again_and_again(url: &str, way: &str, secret: &str, answered: &mut Vec<Answered>) -> anyhow::Result<()> {
    let server = if way == "nowhere" { "none" } else { "it" };
    let client = Client::new(&format!("{url}/mcp/{server}")).bearer(KEY).keep_alive();
    let session = async || client.initialize("2025-03-26").await;
    if way == "batch" {
        session().await?;
    }
    let echo = json!({"name": "echo", "arguments": {"message": "x"}});
    loop {
        let (request, records) = match way {
            "call" => (client.request("1", "tools/call", echo.clone()), 1),
            "batch" => {
                let one = |id: u32| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": echo});
                let batch = Request::post(json!([one(1), one(2)]).to_string());
                (batch.header("mcp-session-id", &client.session().unwrap()), 2)
            }
            "rest" => (Request::post("").path("/api/v1/servers/it/enable"), 1),
            "token" => {
                let form = format!("grant_type=client_credentials&client_id=night&client_secret={secret}");
                let form = Request::post(form).path("/oauth/token").without("authorization");
                // One of the request, and one of what was given.
                (form.header("content-type", "application/x-www-form-urlencoded"), 2)
            }
            _ => (client.request("1", "tools/list", json!({})), 1),
        };
        let reply = client.send(request).await?;
        let (status, id) = (reply.status, id_of(&reply));
        reply.text().await?;
        assert!(status == 200 || way == "nowhere", "{way}: {status}");
        answered.push((id, records, records));
    }
}

/// Opens streams, and goes away again.
async fn open_streams(url: &str, answered: &mut Vec<Answered>) -> anyhow::Result<()> {
    let client = Client::new(&format!("{url}/mcp")).bearer(KEY);
    loop {
        let (_, mut stream) = client.subscribe(json!({"toolsListChanged": true})).await?;
        assert_eq!(stream.status, 200);
        // When it ends nobody waits for the record of that.
        answered.push((id_of(&stream), 1, 2));
        stream.message().await?;
    }
}

/// Calls over HTTP with SSE.
async fn speak_as_of_old(url: &str, answered: &mut Vec<Answered>) -> anyhow::Result<()> {
    let client = Client::new(&format!("{url}/sse/it")).bearer(KEY).keep_alive();
    let mut stream = Client::new(&format!("{url}/sse/it")).bearer(KEY).send(Request::get()).await?;
    answered.push((id_of(&stream), 1, 2));
    let address = stream.event().await?.map(|event| event.data).unwrap_or_default();
    let info = json!({ "name": "old", "version": "1" });
    let opening = json!({ "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": info });
    for id in 0_u64.. {
        let (method, params) = match id {
            0 => ("initialize", opening.clone()),
            _ => ("tools/call", json!({"name": "echo", "arguments": {"message": "x"}})),
        };
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let taken = client.send(Request::post(message.to_string()).without("accept").path(&address)).await?;
        assert_eq!(taken.status, 202);
        let request = id_of(&taken);
        // That it was taken is recorded before it is said, and what was done before that is answered.
        answered.push((request.clone(), 1, 2));
        if stream.message().await?.is_some() {
            answered.pop();
            answered.push((request, 2, 2));
        }
    }
    Ok(())
}

/// Kills the gateway in the midst of calls again and again, until so many were answered; then looks for each of them.
async fn killed(operations: usize, args: &[&str]) {
    let server = Plain::with(Eras::Dual).await.unwrap();
    let folder = Folder::new();
    let (mut answered, mut rounds, mut secret) = (Vec::<Answered>::new(), 0, String::new());
    let mut of_ways = HashMap::<&str, usize>::new();
    while answered.len() < operations || WAYS.iter().any(|way| of_ways.get(way).is_none_or(|count| *count < 3)) {
        let mut process = start(&folder.0, args).await;
        let url = process.url().unwrap().to_owned();
        if rounds == 0 {
            let spec = json!({"slug": "it", "replicas": [{"url": server.url()}]});
            let register = Request::post(spec.to_string()).path("/api/v1/servers");
            assert_eq!(send(&Client::new(&url).bearer(KEY), register).await.0, 201);
            let order = json!({"client_id": "night", "name": "night", "kind": "service", "scopes": ["mcp"]});
            let order = Request::post(order.to_string()).path("/api/v1/oauth-clients");
            let made = Client::new(&url).bearer(KEY).send(order).await.unwrap().text().await.unwrap();
            let made: Value = serde_json::from_str(&made).unwrap();
            made["client_secret"].as_str().unwrap().clone_into(&mut secret);
        }
        let calls: Vec<_> =
            WAYS.map(|way| tokio::spawn(call_until_gone(url.clone(), way, secret.clone()))).into_iter().collect();
        tokio::time::sleep(Duration::from_millis(300 + rand::random::<u64>() % 1_500)).await;
        process.kill_and_wait().await.unwrap();
        for (way, ids) in WAYS.into_iter().zip(calls) {
            let ids = ids.await.unwrap();
            of_ways.entry(way).and_modify(|count| *count += ids.len()).or_insert(ids.len());
            answered.extend(ids);
        }
        rounds += 1;
    }
    let mut last = start(&folder.0, args).await;
    let journals = folder.0.join("audit");
    // Those that were killed are brought over first.
    until(|| async { (std::fs::read_dir(&journals).unwrap().count() == 1).then_some(()) }).await;
    assert!(last.stop(Duration::from_secs(20)).await.unwrap().success());
    assert_eq!(std::fs::read_dir(&journals).unwrap().count(), 0, "what was stopped leaves nothing behind");

    let store = Store::connect(&format!("sqlite://{}", folder.0.join("gateway.sqlite").display()), 2).await.unwrap();
    let mut found: HashMap<String, usize> = HashMap::new();
    for chain in ["default", ""] {
        let mut after = 0;
        loop {
            let rows = records(&store, chain, after, 5_000).await.unwrap();
            let Some(last) = rows.last() else { break };
            after = last.seq;
            rows.into_iter().filter_map(|row| row.request_id).for_each(|id| *found.entry(id).or_default() += 1);
        }
    }
    let is_found = |(id, least, most): &Answered| (*least..=*most).contains(found.get(id).unwrap_or(&0));
    let wrong: Vec<_> = answered.iter().filter(|answered| !is_found(answered)).collect();
    assert!(
        wrong.is_empty(),
        "of {} answers, {} are not found as often as they should: {wrong:?}",
        answered.len(),
        wrong.len()
    );
    let verified = verify(&store, None, None, |_| {}).await.unwrap();
    assert_eq!(verified.findings, vec![]);
    assert!(verified.records >= answered.len() as u64);
    eprintln!("{} answers in {rounds} lives, {} records: {of_ways:?}", answered.len(), verified.records);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_found_once_though_the_process_is_killed() {
    killed(3_000, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_found_once_where_the_disk_is_waited_for() {
    killed(500, &["--audit-durability=disk"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: just audit-kills"]
async fn a_hundred_thousand_answers_are_found_once() {
    killed(100_000, &[]).await;
}

/// A gateway with a server behind it, and who asks it.
struct Served {
    folder: Folder,
    process: Process,
    server: Plain,
    admin: Client,
    url: String,
}

impl Served {
    async fn start(folder: Folder, args: &[&str]) -> Self {
        let server = Plain::with(Eras::Dual).await.unwrap();
        let process = start(&folder.0, args).await;
        let url = process.url().unwrap().to_owned();
        let admin = Client::new(&url).bearer(KEY);
        let spec = json!({"slug": "it", "replicas": [{"url": server.url()}]});
        assert_eq!(send(&admin, Request::post(spec.to_string()).path("/api/v1/servers")).await.0, 201);
        Self { folder, process, server, admin, url }
    }

    /// Status and request id of a call.
    async fn call(&self) -> (u16, String) {
        let client = Client::new(&format!("{}/mcp/it", self.url)).bearer(KEY);
        send(&client, client.request("1", "tools/call", json!({"name": "echo", "arguments": {"message": "x"}}))).await
    }

    /// Calls until so many were refused; the ids of those that were answered, each of which was done, and no other.
    async fn call_until_refused(&self, most: usize) -> Vec<String> {
        let (mut answered, mut refused) = (Vec::new(), 0);
        while refused < 10 {
            assert!(answered.len() < most, "there was room for {most}");
            match self.call().await {
                (200, id) => answered.push(id),
                (503, _) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        answered
    }

    fn called(&self) -> usize {
        self.server.host().requests().iter().filter(|request| request.rpc() == "tools/call").count()
    }

    async fn health(&self) -> Value {
        let reply = self.admin.send(Request::new(Method::GET, String::new().into()).path("/health")).await.unwrap();
        serde_json::from_str::<Value>(&reply.text().await.unwrap()).unwrap()["components"]["audit"].clone()
    }

    async fn is_found(&self, id: &str) {
        until(|| async {
            let path = format!("/api/v1/admin/audit?request_id={id}");
            let reply = self.admin.send(Request::new(Method::GET, String::new().into()).path(&path)).await.unwrap();
            let found: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
            (found["items"].as_array()?.len() == 1).then_some(())
        })
        .await;
    }

    /// Somebody else who writes to the database.
    async fn holder(&self) -> sqlx::SqliteConnection {
        let database = format!("sqlite://{}", self.folder.0.join("gateway.sqlite").display());
        sqlx::SqliteConnection::connect(&database).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_has_calls_refused_until_the_database_takes_them() {
    let world = Served::start(Folder::new(), &["--audit-journal-max-bytes=1MiB"]).await;
    assert_eq!(world.health().await, "ok");
    let mut holder = world.holder().await;
    holder.execute("BEGIN IMMEDIATE").await.unwrap();
    let answered = world.call_until_refused(5_000).await;
    assert_eq!(world.called(), answered.len(), "what is refused is not done");
    until(|| async { (world.health().await == "degraded").then_some(()) }).await;
    holder.execute("ROLLBACK").await.unwrap();
    until(|| async { (world.call().await.0 == 200).then_some(()) }).await;
    until(|| async { (world.health().await == "ok").then_some(()) }).await;
    for id in [answered.first().unwrap(), answered.last().unwrap()] {
        world.is_found(id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_has_calls_wait_where_that_is_asked_for() {
    let args = ["--audit-journal-max-bytes=1MiB", "--audit-when-full=slow"];
    let world = Served::start(Folder::new(), &args).await;
    let mut holder = world.holder().await;
    holder.execute("BEGIN IMMEDIATE").await.unwrap();
    fill_most(&world).await;
    // One call after the other, until one has no answer.
    let mut called = world.called();
    while let Ok((status, _)) = tokio::time::timeout(Duration::from_secs(2), world.call()).await {
        assert_eq!(status, 200);
        called += 1;
        assert!(called < 5_000, "a journal of 1 MiB holds no more");
    }
    assert_eq!(world.called(), called, "what waits is not done yet");
    let (waiting, ()) = tokio::join!(world.call(), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        holder.execute("ROLLBACK").await.unwrap();
    });
    assert_eq!(waiting.0, 200, "there was room while it waited");
    world.is_found(&waiting.1).await;
    // One for which there is none in time is refused, and not done.
    holder.execute("BEGIN IMMEDIATE").await.unwrap();
    fill_most(&world).await;
    let mut called = world.called();
    while world.call().await.0 != 503 {
        called += 1;
        assert!(called < 10_000, "a journal of 1 MiB holds no more");
    }
    assert_eq!(world.called(), called, "what is refused is not done");
    holder.execute("ROLLBACK").await.unwrap();
}

/// Calls, many at once, of which the records come near to 1 MiB.
async fn fill_most(world: &Served) {
    for _ in 0..50 {
        let calls = futures_util::future::join_all((0..20).map(|_| world.call())).await;
        assert!(calls.iter().all(|(status, _)| *status == 200));
    }
}

/// A folder for the journal on a disk of 2 MiB, while this is there.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// If there may be one.
    fn below(folder: &Folder) -> Option<Self> {
        let path = folder.0.join("audit");
        std::fs::create_dir_all(&path).unwrap();
        let mut mount = std::process::Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs"]).arg(&path).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self(path));
        }
        eprintln!("skipped: no disk can be mounted here");
        None
    }

    /// Something else fills it, but for some bytes.
    fn fill(&self) -> PathBuf {
        const ROOM: u64 = 40 << 10;
        let other = self.0.join("other");
        let free = rustix::fs::statvfs(&self.0).map(|disk| disk.f_bavail * disk.f_frsize).unwrap();
        std::fs::write(&other, vec![0; usize::try_from(free - ROOM).unwrap()]).unwrap();
        other
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_has_calls_refused_until_it_takes_them_and_loses_none() {
    for durability in ["process", "disk"] {
        let folder = Folder::new();
        let Some(disk) = SmallDisk::below(&folder) else { return };
        let mut world = Served::start(folder, &[&format!("--audit-durability={durability}")]).await;
        let other = disk.fill();
        let answered = world.call_until_refused(5_000).await;
        until(|| async { (world.health().await == "degraded").then_some(()) }).await;
        std::fs::remove_file(&other).unwrap();
        until(|| async { (world.call().await.0 == 200).then_some(()) }).await;
        until(|| async { (world.health().await == "ok").then_some(()) }).await;
        for id in &answered {
            world.is_found(id).await;
        }
        assert!(world.process.stop(Duration::from_secs(20)).await.unwrap().success());
        assert_eq!(std::fs::read_dir(&disk.0).unwrap().count(), 0, "{durability}");
    }
}
