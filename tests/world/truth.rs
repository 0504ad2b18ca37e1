//! Every field of every report and every series of the metrics against a workload of which everything is known, for several seeds; and the
//! same again when the gateway began anew, in good order or not, and by two gateways on one database. A field of which nobody says what
//! it must be fails the test.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "numbers of a test"
)]

#[path = "../it/store_databases.rs"]
#[allow(unused_macros, dead_code, reason = "half of it is for tests of the store")]
mod databases;

mod compare;
mod daily;
mod facts;
mod limits;
mod page;
mod people;
mod rest;
mod scene;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::client::{Client, Request};
use testkit::entra::{CONTOSO, Entra, GATEWAY, SECRETS};
use testkit::process::{Process, Start};
use testkit::settings::roomy;
use testkit::workload::{Ask, By, Happening, THRESHOLD, Workload};

use self::compare::{Expected, faults, misjudged};
use self::databases::Database;
use self::facts::Facts;
use self::rest::ELSEWHERE;
use self::scene::Scene;
use crate::world::{KEY, until};

/// What reads the metrics.
const TOKEN: &str = "a-token-for-the-metrics-of-the-workload";
/// How often a gateway may tell what is not so yet: it remembers for seconds how many are signed in.
const TRIES: usize = 15;
const PAUSE: Duration = Duration::from_secs(1);

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("mcp-gateway-truth-{}", uuid::Uuid::now_v7())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The figures of a day are those of a workload that is over within it.
async fn not_before_midnight() {
    let left = 86_400 - time::OffsetDateTime::now_utc().unix_timestamp() % 86_400;
    if left < 80 {
        tokio::time::sleep(Duration::from_secs(left.unsigned_abs() + 1)).await;
    }
}

/// A gateway on this data folder, and on this database if it is another one.
async fn start(folder: &Path, database: Option<&str>) -> Process {
    start_with(folder, database, &[]).await
}

async fn start_with(folder: &Path, database: Option<&str>, more: &[String]) -> Process {
    not_before_midnight().await;
    let threshold = format!("--ddos-detection-threshold={THRESHOLD}");
    let database = database.map(|url| format!("--database-url={url}"));
    Start::new(env!("CARGO_BIN_EXE_mcp-gateway"))
        .args(["serve", "--port=0", "--behind-proxy", "--metrics-export-interval=5s", &threshold])
        .arg(format!("--data-dir={}", folder.display()))
        .args(database)
        .args(roomy(more))
        .env("MREG_BOOTSTRAP_ADMIN_KEY", KEY)
        .env("MREG_METRICS_TOKEN", TOKEN)
        .env("MREG_MASTER_KEY", "3q2+78r+uq2+7wEjRWeJq83vZyHa5LPh0vYsMRlZh8I=")
        .ready("listening on")
        .start()
        .await
        .unwrap()
}

fn address(process: &Process) -> String {
    process.url().unwrap().to_owned()
}

/// A gateway of the workload, as far as what it counted of the trail is known.
#[derive(Clone, Copy)]
struct Life {
    gateway: usize,
    /// Whether it counts what another one left behind.
    heir: bool,
    /// Whether it is the only one there is now.
    single: bool,
}

async fn page_of(workload: &Workload, gateway: usize) -> page::Series {
    let client = Client::new(workload.player.url(gateway)).bearer(TOKEN);
    let reply = client.send(Request::get().path("/metrics")).await.unwrap();
    assert_eq!(reply.status, 200);
    page::read(&reply.text().await.unwrap())
}

fn counted(series: &page::Series) -> usize {
    series.get("mcp_analytics_records_total").copied().unwrap_or_default() as usize
}

/// How many records of the workload these lives have written.
fn written(workload: &Workload, lives: &[Life]) -> usize {
    let ledger = &workload.player.ledger;
    let own = |gateway: usize| lives.iter().any(|life| life.gateway == gateway);
    let deeds = ledger.deeds.iter().filter(|deed| own(deed.gateway)).count();
    deeds + ledger.events.iter().filter(|event| own(event.gateway) && event.what.is_recorded()).count()
}

/// Waits until all that these lives have written is in the trail.
async fn drained(workload: &Workload, lives: &[Life]) {
    let wanted = written(workload, lives);
    until(|| async {
        let mut sum = 0;
        for life in lives {
            sum += counted(&page_of(workload, life.gateway).await);
        }
        (sum >= wanted).then_some(())
    })
    .await;
}

/// A report: its name, its parameters, and what it must say.
struct Report {
    route: &'static str,
    fill: Vec<String>,
    must: Box<dyn Fn(&Scene<'_>) -> Expected>,
}

fn report(route: &'static str, fill: &[&str], must: impl Fn(&Scene<'_>) -> Expected + 'static) -> Report {
    Report { route, fill: fill.iter().map(|part| (*part).to_owned()).collect(), must: Box::new(must) }
}

/// All reports, of every tenant and every account.
fn reports(workload: &Workload, single: bool) -> Vec<Report> {
    // What a process has measured for itself.
    let scope = if single { "cluster" } else { "replica" };
    let mut all = vec![
        report("GET /admin/multi-user-status", &[], people::status),
        report("GET /admin/daily-health-report", &[], daily::daily),
        report("GET /admin/diagnostics/auth-failures", &[], people::failures),
        report("GET /admin/connection-pool-status", &[], move |scene| rest::pools(scene, scope)),
        report("GET /admin/diagnostics/resources", &[], move |scene| rest::resources(scene, scope)),
        report("GET /admin/diagnostics/network", &[], move |scene| rest::network(scene, scope)),
        report("GET /admin/diagnostics/memory", &[], move |scene| rest::memory(scene, scope)),
        report("GET /admin/capacity-status", &[], rest::capacity),
        report("GET /admin/token-refresh-status", &[], rest::refreshes),
        report("GET /admin/rate-limit-analytics", &[], move |scene| limits::analytics(scene, scope)),
        report("GET /admin/diagnostics/rate-limits", &[], move |scene| limits::diagnostics(scene, scope)),
    ];
    let tenants = workload.tenants.iter().map(|tenant| tenant.id.clone()).chain(["default".to_owned()]);
    for id in tenants {
        let of = id.clone();
        all.push(report("GET /admin/tenant-analytics/{tenant_id}", &[&id], move |scene| people::tenant(scene, &of)));
    }
    for at in 0..workload.tenants.len() {
        let of = move |scene: &Scene<'_>| limits::fairness(scene, &scene.workload.tenants[at], scope);
        all.push(report("GET /admin/tenant-fairness/{tenant_id}", &[&workload.tenants[at].id], of));
    }
    for at in 0..workload.tenants.len() {
        let of = move |scene: &Scene<'_>| limits::tenant(&scene.workload.tenants[at]);
        all.push(report("GET /admin/tenants/{id}", &[&workload.tenants[at].id], of));
    }
    let people = workload.tenants.iter().flat_map(|tenant| tenant.people.iter().chain([&tenant.head]));
    for person in people.chain([&workload.admin]) {
        let who = person.who.clone();
        let must = move |scene: &Scene<'_>| people::user(scene, &who.tenant, &who.user, &who.name);
        all.push(report("GET /admin/user-activity/{user_id}", &[&person.who.user], must));
    }
    let who = workload.tenants[0].people[0].who.clone();
    let must = move |scene: &Scene<'_>| rest::tokens(scene, &who.tenant, &who.user);
    all.push(report("GET /admin/user-token-status/{user_id}", &[&workload.tenants[0].people[0].who.user], must));
    let came = workload.player.ledger.events.iter().filter_map(|event| match &event.what {
        Happening::SignIn { tenant, user, method: "entra", refused: None } => Some((tenant.clone(), user.clone())),
        _ => None,
    });
    for ((tenant, user), result) in came.zip(["success", "reauth_required"]) {
        let id = user.clone();
        let must = move |scene: &Scene<'_>| rest::vouched(scene, &tenant, &user, result);
        all.push(report("GET /admin/user-token-status/{user_id}", &[&id], must));
    }
    all
}

/// What is wrong with what this life tells, once.
async fn look(workload: &mut Workload, lives: &[Life], life: Life) -> Vec<String> {
    drained(workload, lives).await;
    let series = page_of(workload, life.gateway).await;
    let settled = workload.player.ledger.deeds.len();
    let mut wrong = Vec::new();
    let mut instance = String::new();
    for report in reports(workload, life.single) {
        let before = workload.player.ledger.deeds.len();
        let fill: Vec<&str> = report.fill.iter().map(String::as_str).collect();
        let admin = workload.admin.clone();
        let ask = Ask::new(By::Somebody(&admin), report.route).fill(&fill);
        let told = workload.player.ask_at(life.gateway, ask).await.unwrap();
        let name = format!("{} {}", report.route, fill.join(" "));
        assert_eq!(told.status, 200, "{name}: {}", told.body);
        let read = workload.player.ledger.deeds.last().unwrap().time;
        if instance.is_empty() {
            told.body["instance_id"].as_str().unwrap_or_default().clone_into(&mut instance);
        }
        // The reports before may be in the trail by now, in their order, or may not.
        let of_prefix = |deeds: usize| {
            let ledger = workload.player.ledger.up_to(deeds);
            let facts = Facts { ledger: &ledger, gateway: None };
            let own = Facts { gateway: Some(life.gateway), ..facts };
            let scene = Scene { workload, facts, own, gateway: life.gateway, read, instance: &instance };
            faults(&told.body, &(report.must)(&scene), ELSEWHERE)
        };
        let mut least: Option<Vec<String>> = None;
        for deeds in settled..=before {
            let found = of_prefix(deeds);
            if least.as_ref().is_none_or(|least| found.len() < least.len()) {
                least = Some(found);
            }
            if least.as_ref().is_some_and(Vec::is_empty) {
                break;
            }
        }
        let found = least.unwrap_or_default().into_iter().chain(misjudged(&told.body));
        wrong.extend(found.map(|fault| format!("{name}: {fault}")));
    }
    let ledger = workload.player.ledger.up_to(settled);
    let facts = Facts { ledger: &ledger, gateway: None };
    let own = Facts { gateway: Some(life.gateway), ..facts };
    let read = testkit::workload::Time::default();
    let scene = Scene { workload, facts, own, gateway: life.gateway, read, instance: "" };
    let drained = written(workload, &[life]) - (workload.player.ledger.deeds.len() - settled);
    wrong.extend(
        page::faults(&series, &scene, (!life.heir).then_some(drained))
            .into_iter()
            .map(|fault| format!("/metrics: {fault}")),
    );
    wrong.extend(health(workload, life.gateway).await);
    wrong
}

async fn health(workload: &Workload, gateway: usize) -> Vec<String> {
    let reply = Client::new(workload.player.url(gateway)).send(Request::get().path("/health")).await.unwrap();
    let told: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
    let parts = told["components"].as_object().unwrap();
    let known = ["access rules", "audit", "database", "sign-in", "upstreams"];
    let mut wrong: Vec<String> = parts.keys().filter(|part| !known.contains(&part.as_str())).cloned().collect();
    wrong.extend(parts.iter().filter(|(_, is)| **is != "ok").map(|(part, is)| format!("{part} is {is}")));
    if told["status"] != "ok" {
        wrong.push(told.to_string());
    }
    wrong.into_iter().map(|fault| format!("/health: {fault}")).collect()
}

/// All that this life tells is so.
async fn agrees(workload: &mut Workload, lives: &[Life], life: Life, when: &str) {
    let mut wrong = Vec::new();
    for _ in 0..TRIES {
        wrong = look(workload, lives, life).await;
        if wrong.is_empty() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("{when}: {} faults\n{}", wrong.len(), wrong.join("\n"));
}

/// All of it, at one gateway.
async fn one_gateway(seed: u64) {
    let folder = Folder::new();
    let process = start(&folder.0, None).await;
    let mut workload = Workload::begin(seed, vec![address(&process)], KEY).await.unwrap();
    workload.play(100).await.unwrap();
    workload.sign_in().await.unwrap();
    workload.misbehave().await.unwrap();
    workload.press().await.unwrap();
    let told = workload.weighs(3.0).await.unwrap();
    assert_eq!(faults(&told, &limits::set(&workload.tenants[0]), ELSEWHERE), Vec::<String>::new());
    workload.play(100).await.unwrap();
    let life = Life { gateway: 0, heir: false, single: true };
    agrees(&mut workload, &[life], life, &format!("seed {seed}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_and_metrics_say_what_was_done() {
    one_gateway(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_and_metrics_say_what_was_done_otherwise() {
    one_gateway(2).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: just truth --seeds N"]
async fn reports_and_metrics_say_what_was_done_by_many_seeds() {
    let seeds = std::env::var("TRUTH_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(20);
    for seed in 0..seeds {
        one_gateway(seed).await;
        eprintln!("seed {seed} is told as it was");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_back_when_a_gateway_begins_anew() {
    let folder = Folder::new();
    let mut process = start(&folder.0, None).await;
    let mut workload = Workload::begin(3, vec![address(&process)], KEY).await.unwrap();
    workload.play(60).await.unwrap();
    workload.sign_in().await.unwrap();
    workload.misbehave().await.unwrap();
    let first = Life { gateway: 0, heir: false, single: true };
    agrees(&mut workload, &[first], first, "before").await;

    assert!(process.stop(Duration::from_secs(20)).await.unwrap().success());
    process = start(&folder.0, None).await;
    workload.moves_to(address(&process));
    let second = Life { gateway: 1, ..first };
    agrees(&mut workload, &[second], second, "after a stop").await;
    workload.play(60).await.unwrap();
    agrees(&mut workload, &[second], second, "after a stop, and more").await;

    // What is still in the journal is counted by the next one.
    workload.knock(30).await.unwrap();
    process.kill_and_wait().await.unwrap();
    process = start(&folder.0, None).await;
    workload.moves_to(address(&process));
    let third = Life { gateway: 2, heir: true, ..first };
    agrees(&mut workload, &[third], third, "after it was killed").await;
    workload.play(30).await.unwrap();
    agrees(&mut workload, &[third], third, "after it was killed, and more").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshes_are_told_as_they_came_out_also_when_the_gateway_is_killed() {
    let Some(entra) = Entra::start(&[]).await.unwrap() else { return };
    let folder = Folder::new();
    let azure = [
        format!("--azure-tenant-id={CONTOSO}"),
        format!("--azure-client-id={GATEWAY}"),
        format!("--azure-client-secret={}", SECRETS[0]),
        format!("--azure-authority={}", entra.base_url()),
        format!("--azure-v1-issuer-prefix={}", entra.v1_issuer_prefix()),
        format!("--azure-graph-url={}", entra.graph_url()),
    ];
    let mut process = start_with(&folder.0, None, &azure).await;
    let callback = json!({"uri": format!("{}/oauth/callback/entra", address(&process))});
    entra.post(&format!("/_sim/apps/{GATEWAY}/redirect-uris"), callback).await.unwrap();
    let mut workload = Workload::begin(5, vec![address(&process)], KEY).await.unwrap();
    workload.vouch(&entra).await.unwrap();
    let first = Life { gateway: 0, heir: false, single: true };
    agrees(&mut workload, &[first], first, "before").await;
    process.kill_and_wait().await.unwrap();
    process = start_with(&folder.0, None, &azure).await;
    workload.moves_to(address(&process));
    let second = Life { gateway: 1, heir: true, single: true };
    agrees(&mut workload, &[second], second, "after it was killed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_on_one_database_tell_the_same() {
    let Some(database) = Database::postgresql().await else { return };
    let (one, other) = (Folder::new(), Folder::new());
    let processes = [start(&one.0, Some(&database.url)).await, start(&other.0, Some(&database.url)).await];
    let mut workload = Workload::begin(4, processes.iter().map(address).collect(), KEY).await.unwrap();
    workload.play(120).await.unwrap();
    workload.sign_in().await.unwrap();
    workload.press().await.unwrap();
    let lives = [0, 1].map(|gateway| Life { gateway, heir: false, single: false });
    for life in lives {
        agrees(&mut workload, &lives, life, &format!("at gateway {}", life.gateway)).await;
    }
}
