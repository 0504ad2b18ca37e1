//! The renewal of what somebody connected is ended at every place: nobody has to connect again, but where the only copy of what came was in
//! the process that ended.

use std::time::Duration;

use mcp_registry_gateway::access::Caller;
use mcp_registry_gateway::app::App;
use mcp_registry_gateway::connections::{Answer, Not, Person, Site};
use mcp_registry_gateway::crypto::{MasterKey, Place};
use mcp_registry_gateway::id::{ServerId, TenantId};
use mcp_registry_gateway::registry::model::Server;
use mcp_registry_gateway::store::connections::{ConnectionRow, Of};
use mcp_registry_gateway::store::now;
use serde_json::{Value, json};
use testkit::browser::Browser;
use testkit::people_server::PeopleServer;
use uuid::Uuid;

use crate::cut_off::{self, KEY, Left, Told, WINDOW};
use crate::refresh_world::{account, gateway};
use crate::store_databases::Database;
use crate::store_rows::server;

/// When what was given is over.
const OVER: Duration = Duration::from_hours(2);
/// Longer than one process has a connection to ask about alone.
const LATER: Duration = Duration::from_mins(6);

async fn opened(database: &str) -> App {
    gateway(database, &MasterKey::from_text(KEY).unwrap(), &[]).await
}

fn site(of: Of, issuer: &str) -> Site {
    let auth = json!({"kind": "authorization_code", "issuer": issuer, "scopes": ["read"]});
    let spec = json!({"slug": "tracker", "replicas": [{"url": "http://127.0.0.1:9/mcp"}], "auth": auth});
    let (tenant, time) = (TenantId::default_tenant(), now());
    let spec = serde_json::from_value(spec).unwrap();
    let server = Server { id: ServerId(of.server), tenant, spec, revision: 1, created_at: time, updated_at: time };
    Site::of(&server).unwrap()
}

/// The process that is ended, or comes later: a call of somebody wants a token. Of another test, which says where it ends.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is run by other tests"]
async fn a_process_of_its_own() {
    let told = Told::here();
    let app = opened(told.text("database")).await;
    let id = |name| told.text(name).parse::<Uuid>().unwrap();
    let of = Of { user: id("user"), server: id("server") };
    let caller = Caller::at_pages(&app.store, &TenantId::default_tenant(), of.user, Uuid::now_v7()).await;
    let caller = caller.unwrap().unwrap();
    told.watch();
    // Whether there was one says the database.
    let _ = app.connections().token(&site(of, told.text("issuer")), &caller, Not::Any).await;
    println!("{}", cut_off::reached());
}

/// Somebody connects.
async fn connects(app: &App, there: &PeopleServer) -> Of {
    let tenant = TenantId::default_tenant();
    let row = server(&tenant, "tracker");
    app.store.insert_server(&tenant, &row).await.unwrap();
    let of = Of { user: account(app, "ann").await, server: row.id };
    let site = site(of, &there.issuer());
    let who = Person { tenant: &tenant, user: of.user, cookie: "cookie" };
    let mark = app.connections().leads(&site, who).await.unwrap().mark();
    let url = app.connections().begin(&site, who, &mark, now()).await.unwrap();
    let here = "http://127.0.0.1:8001/";
    let page = Browser::new().stop_at(here).open(url.as_str()).await.unwrap();
    let key = page.url.path().rsplit('/').next().unwrap();
    let [state, iss, code] = ["state", "iss", "code"].map(|name| page.param(name).unwrap());
    let answer = Answer { key, state: &state, iss: Some(&iss), code: Some(&code), ..Answer::default() };
    app.connections().finish(answer, who, |_| Some(site), now(), &mut None).await.unwrap();
    of
}

async fn row(app: &App, of: Of) -> ConnectionRow {
    app.store.connection(&TenantId::default_tenant(), of).await.unwrap().unwrap()
}

/// The refresh token that is stored.
async fn stored(app: &App, row: &ConnectionRow) -> String {
    let (id, tenant) = (row.id.to_string(), TenantId::default_tenant());
    let place = Place { table: "connections.tokens", row: &id, tenant: &tenant, subject: Some(row.user_id) };
    let kept = app.vault.open(place, row.tokens.as_deref().unwrap()).await.unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    kept["tokens"]["refresh"].as_str().unwrap().to_owned()
}

/// What a process that ended at this place, or none, has left, and what a later one makes of it.
async fn ends_at(database: &Database, place: usize, strict: bool) -> Left {
    let there = PeopleServer::start().await.unwrap();
    there.set(|manners| manners.is_strict = strict);
    let app = opened(&database.url).await;
    let of = connects(&app, &there).await;
    let first = row(&app, of).await;
    let what = json!({"database": database.url, "issuer": there.issuer(), "user": of.user, "server": of.server});
    let run = |later, ends_at| cut_off::run("connection_crashes::a_process_of_its_own", &what, later, ends_at);
    let shown = || -> Vec<String> {
        let asked = there.asked("refresh_token").into_iter();
        asked.map(|form| form["refresh_token"].clone()).collect()
    };

    let places = run(OVER, place).await;
    let left = row(&app, of).await;
    let kept = stored(&app, &left).await;
    let earlier = shown();
    run(OVER + LATER, 0).await;
    let after = row(&app, of).await;
    let later = shown().split_off(earlier.len());
    if strict && earlier.contains(&kept) {
        assert_eq!(later, [kept], "it is put once more, and may never have arrived: {place}");
        assert!(after.state == "needs_person" && after.tokens.is_none(), "the only copy was in the process: {place}");
        run(OVER + LATER * 2, 0).await;
        assert_eq!(shown().len(), earlier.len() + 1, "what is spent is not shown again and again: {place}");
        return Left { places, lost: true };
    }
    if place == 0 {
        assert!(later.is_empty(), "it was not due again");
    } else if let Some(token) = later.first() {
        assert_eq!(*token, kept, "what was stored is good, and is what is shown: {place}");
    }
    assert!(after.state == "active" && after.failures == 0 && !after.asking, "{place}: {after:?}");
    assert!(after.renewed_at > first.renewed_at, "it was renewed: {place}");
    let last = stored(&app, &after).await;
    assert!(!shown().contains(&last), "and what came last is what is kept: {place}");
    Left { places, lost: false }
}

async fn at_every_place(databases: impl AsyncFn() -> Option<Database>, strict: bool) {
    let ends_at = async |database: &Database, place| Box::pin(ends_at(database, place, strict)).await;
    let Some((places, lost)) = cut_off::at_every_place(databases, ends_at).await else { return };
    let count = |what: &str| places.iter().filter(|place| *place == what).count();
    assert!(count("after an answer") >= 2, "metadata and tokens: {places:?}");
    assert!(count("after a write") + count("after a commit") >= 3, "claimed, held and kept: {places:?}");
    let expected: &[_] = if strict { &WINDOW } else { &[] };
    assert_eq!(lost, expected, "{places:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_ends_anywhere_loses_nothing_sqlite() {
    at_every_place(async || Some(Database::sqlite()), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_ends_anywhere_loses_nothing_postgresql() {
    at_every_place(Database::postgresql, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_tokens_that_are_good_once_a_renewal_that_ends_anywhere_loses_what_no_one_else_had_sqlite() {
    at_every_place(async || Some(Database::sqlite()), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_tokens_that_are_good_once_a_renewal_that_ends_anywhere_loses_what_no_one_else_had_postgresql() {
    at_every_place(Database::postgresql, true).await;
}
