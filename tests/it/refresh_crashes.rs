//! A refresh of what a provider (Entra's stand-in) gave is ended at every place: nobody is signed out.

use std::time::Duration;

use mcp_registry_gateway::crypto::MasterKey;
use mcp_registry_gateway::grants::LoginState;
use mcp_registry_gateway::idp::{ENTRA, ProviderTokens};
use mcp_registry_gateway::store::now;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use testkit::entra::Entra;

use crate::cut_off::{self, KEY, Left, Told, WINDOW};
use crate::refresh_world::{CALLBACK, behind, comes, gateway, is_live, keeps, login, use_now};
use crate::store_databases::Database;

/// In more groups than a token holds: to know the role takes another refresh, for Graph, and a question to Graph.
const CAROL: &str = "carol@contoso.onmicrosoft.com";
const GROUP_OF_CAROL: &str = "99990000-0000-4000-8000-000000001249";
/// Longer than one process has a login to ask about alone.
const LATER: Duration = Duration::from_mins(6);

fn settings(base: &str) -> Vec<String> {
    let mut settings = behind(base);
    settings.push(format!("--azure-role-server-owner={GROUP_OF_CAROL}"));
    settings
}

/// The process that is ended, or comes later: asks about whoever is due. Of another test, which says where it ends.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is run by other tests"]
async fn a_process_of_its_own() {
    let told = Told::here();
    let app = gateway(told.text("database"), &MasterKey::from_text(KEY).unwrap(), &settings(told.text("entra"))).await;
    told.watch();
    app.refresh_all().await.unwrap();
    println!("{}", cut_off::reached());
}

async fn run(database: &Database, entra: &Entra, later: Duration, ends_at: usize) -> Vec<String> {
    let what = json!({"database": database.url, "entra": entra.base_url()});
    cut_off::run("refresh_crashes::a_process_of_its_own", &what, later, ends_at).await
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

/// What a process that ended at this place, or none, has left, and what a later one makes of it. It is lost where the provider had
/// replaced what was stored.
async fn ends_at(entra: &Entra, database: &Database, place: usize, strict: bool) -> Left {
    let app = gateway(&database.url, &MasterKey::from_text(KEY).unwrap(), &settings(entra.base_url())).await;
    let (tenant, user, tokens) = comes(&app, entra, CAROL).await;
    let (id, grant) = keeps(&app, ENTRA, (&tenant, user), &tokens, now() - time::Duration::hours(1)).await;
    use_now(&app, &[grant]).await;
    let first = login(&app, id).await;
    let before = shown(entra).await.len();

    let places = run(database, entra, Duration::ZERO, place).await;
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
        return Left { places, lost: true };
    } else if let Some((token, well)) = later.first() {
        assert!(*token == stored && *well, "what was stored is good, and is what is shown: {place}");
    }
    assert!(kept.cut_off_at.is_none() && kept.failures == 0, "{place}");
    assert!(kept.checked_at > first.checked_at + time::Duration::minutes(50), "it was refreshed: {place}");
    let last = hash(kept.tokens.as_ref().unwrap());
    assert!(!asked().await.iter().any(|(token, _)| *token == last), "and what came last is what is kept: {place}");
    Left { places, lost: false }
}

async fn at_every_place(databases: impl AsyncFn() -> Option<Database>, rotation: &str) {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    entra.post("/_sim/config", json!({ "rotation": rotation })).await.unwrap();
    let strict = rotation == "strict";
    let ends_at = async |database: &Database, place| ends_at(&entra, database, place, strict).await;
    let Some((places, lost)) = cut_off::at_every_place(databases, ends_at).await else { return };
    let count = |what: &str| places.iter().filter(|place| *place == what).count();
    assert!(count("after an answer") >= 5, "discovery, two refreshes, keys and Graph: {places:?}");
    assert!(count("after a write") + count("after a commit") >= 6, "{places:?}");
    // Two answers bring a refresh token.
    let expected: &[_] = if strict { &[WINDOW, WINDOW] } else { &[] };
    assert_eq!(lost, expected.concat(), "{places:#?}");
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
