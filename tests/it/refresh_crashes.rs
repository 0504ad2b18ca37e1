//! A refresh is ended at every place where something outlives the process: before and after each write to the database and each question
//! to the provider (Entra's stand-in), by `kill -9`. The places are counted in a refresh that nobody disturbs. Each is then come to by a
//! process of its own, on a database of its own, and what a later process makes of it is looked at.

use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::Duration;

use mcp_registry_gateway::clock;
use mcp_registry_gateway::crypto::MasterKey;
use mcp_registry_gateway::grants::LoginState;
use mcp_registry_gateway::idp::{ENTRA, ProviderTokens};
use mcp_registry_gateway::place;
use mcp_registry_gateway::store::now;
use rustix::process::{Signal, getpid, kill_process};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use testkit::entra::Entra;

use crate::refresh_world::{CALLBACK, behind, comes, gateway, is_live, keeps, login, use_now};
use crate::store_databases::Database;

/// In more groups than a token holds: to know the role takes another refresh, for Graph, and a question to Graph.
const CAROL: &str = "carol@contoso.onmicrosoft.com";
const GROUP_OF_CAROL: &str = "99990000-0000-4000-8000-000000001249";
/// What a master key may be: random bytes.
const KEY: &str = "q3mZsV0c1yP8wJ5nR7tKdX2uHf9LbGe4aWiOoYzC6Bk=";
/// How a process is told what to do.
const TOLD: &str = "REFRESH_AND_DIE";
/// Longer than one process has a login to ask about alone.
const LATER: Duration = Duration::from_mins(6);

fn settings(base: &str) -> Vec<String> {
    let mut settings = behind(base);
    settings.push(format!("--azure-role-server-owner={GROUP_OF_CAROL}"));
    settings
}

/// The places that this process has come to.
static REACHED: Mutex<Vec<&str>> = Mutex::new(Vec::new());

/// The process that is ended, or comes later: asks about whoever is due. Of another test, which says where it ends.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is run by other tests"]
async fn a_process_of_its_own() {
    let told: Value = serde_json::from_str(&std::env::var(TOLD).unwrap()).unwrap();
    let text = |name: &str| told[name].as_str().unwrap();
    let app = gateway(text("database"), &MasterKey::from_text(KEY).unwrap(), &settings(text("entra"))).await;
    clock::move_on(Duration::from_secs(told["later"].as_u64().unwrap()));
    let ends_at = told["ends_at"].as_u64().unwrap();
    place::watch(move |place| {
        let mut reached = REACHED.lock().unwrap();
        reached.push(place);
        if reached.len() as u64 == ends_at {
            kill_process(getpid(), Signal::KILL).unwrap();
        }
    });
    app.refresh_all().await.unwrap();
    println!("\nreached: {}", REACHED.lock().unwrap().join("|"));
}

/// Runs one, to its end or to the place with this number; what it said.
async fn run(database: &Database, entra: &Entra, later: Duration, ends_at: usize) -> Output {
    let told =
        json!({"database": database.url, "entra": entra.base_url(), "later": later.as_secs(), "ends_at": ends_at});
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["refresh_crashes::a_process_of_its_own", "--exact", "--ignored", "--nocapture"]);
    command.env(TOLD, told.to_string());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.success(), ends_at == 0, "{}", said());
    output
}

fn hash(tokens: &[u8]) -> String {
    let tokens: ProviderTokens = serde_json::from_slice(tokens).unwrap();
    let hash = Sha256::digest(tokens.refresh.expose());
    hash.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Which refresh tokens the provider was shown, and which it answered well.
async fn shown(entra: &Entra) -> Vec<(String, bool)> {
    let asked = entra.log("/token").await.unwrap();
    let refreshes = asked.iter().filter(|asked| asked["grant_type"] == "refresh_token");
    refreshes.map(|asked| (asked["shown"].as_str().unwrap().to_owned(), asked["status"] == 200)).collect()
}

/// What a process that ended at this place, or none, has left, and what a later one makes of it: the places that the first came to, and
/// whether the provider had replaced what was stored.
async fn ends_at(entra: &Entra, database: &Database, place: usize, strict: bool) -> (Vec<String>, bool) {
    let app = gateway(&database.url, &MasterKey::from_text(KEY).unwrap(), &settings(entra.base_url())).await;
    let (tenant, user, tokens) = comes(&app, entra, CAROL).await;
    let (id, grant) = keeps(&app, ENTRA, (&tenant, user), &tokens, now() - time::Duration::hours(1)).await;
    use_now(&app, &[grant]).await;
    let first = login(&app, id).await;
    let before = shown(entra).await.len();

    let output = run(database, entra, Duration::ZERO, place).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let reached = said.lines().find_map(|line| line.strip_prefix("reached: ")).unwrap_or_default();
    // The provider has answered whoever asked: it notes that when the connection is closed, as the end of a process does.
    let asked = async || {
        loop {
            let asked = shown(entra).await.split_off(before);
            let noted = entra.log("/token").await.unwrap();
            if noted.iter().all(|asked| !asked["ms"].is_null()) {
                return asked;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let left = login(&app, id).await;
    let stored = hash(left.tokens.as_ref().unwrap());
    let spent = |asked: &[(String, bool)]| asked.iter().any(|(token, well)| *well && *token == stored);
    let earlier = asked().await;
    let lost = spent(&earlier) && strict;
    assert_eq!(left.state, LoginState::Active, "{place}");

    run(database, entra, LATER, 0).await;
    let kept = login(&app, id).await;
    assert!(kept.state == LoginState::Active && is_live(&app, grant).await, "nobody is signed out: {place}");
    let later = asked().await.split_off(earlier.len());
    if place == 0 {
        assert!(later.is_empty(), "it was not due again");
    } else if lost {
        assert_eq!(later, [(stored, false)], "it is put once more, and may never have arrived: {place}");
        assert!(kept.cut_off_at.is_some() && kept.tokens == left.tokens, "the only copy was in the process: {place}");
        run(database, entra, LATER * 2, 0).await;
        assert_eq!(asked().await.len(), earlier.len() + 1, "what is spent is not shown again and again: {place}");
        return (Vec::new(), true);
    } else if let Some((token, well)) = later.first() {
        assert!(*token == stored && *well, "what was stored is good, and is what is shown: {place}");
    }
    assert!(kept.cut_off_at.is_none() && kept.failures == 0, "{place}");
    assert!(kept.checked_at > first.checked_at + time::Duration::minutes(50), "it was refreshed: {place}");
    let last = hash(kept.tokens.as_ref().unwrap());
    assert!(!asked().await.iter().any(|(token, _)| *token == last), "and what came last is what is kept: {place}");
    (reached.split('|').map(str::to_owned).collect(), false)
}

async fn at_every_place(databases: impl AsyncFn() -> Option<Database>, rotation: &str) {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    entra.post("/_sim/config", json!({ "rotation": rotation })).await.unwrap();
    let strict = rotation == "strict";
    let Some(database) = databases().await else { return };
    let (places, _) = ends_at(&entra, &database, 0, strict).await;
    let count = |what: &str| places.iter().filter(|place| *place == what).count();
    assert!(count("after an answer") >= 5, "discovery, two refreshes, keys and Graph: {places:?}");
    assert!(count("after a write") + count("after a commit") >= 6, "{places:?}");
    let mut lost = Vec::new();
    for place in 1..=places.len() {
        let database = databases().await.unwrap();
        if ends_at(&entra, &database, place, strict).await.1 {
            lost.push(place);
        }
    }
    // Between each of the two answers that bring a refresh token and its being stored, and nowhere else: nobody is asked meanwhile.
    let window = ["after an answer", "before a transaction", "before a commit"];
    let expected: &[_] = if strict { &[window, window] } else { &[] };
    let found: Vec<&str> = lost.iter().map(|place| places[place - 1].as_str()).collect();
    assert_eq!(found, expected.concat(), "{lost:?} of {places:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_ends_anywhere_loses_nothing_sqlite() {
    at_every_place(async || Some(Database::sqlite()), "entra").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_ends_anywhere_loses_nothing_postgresql() {
    at_every_place(Database::postgresql, "entra").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_tokens_that_are_good_once_a_refresh_that_ends_anywhere_loses_what_no_one_else_had_sqlite() {
    at_every_place(async || Some(Database::sqlite()), "strict").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_tokens_that_are_good_once_a_refresh_that_ends_anywhere_loses_what_no_one_else_had_postgresql() {
    at_every_place(Database::postgresql, "strict").await;
}
