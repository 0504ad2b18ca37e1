//! Several gateways on one database refresh what the provider (Entra's stand-in) gave: each login once between them, and what came of it
//! is known to all.

use mcp_registry_gateway::crypto::hash_token;
use mcp_registry_gateway::grants::{
    CodeTerms, End, EndReason, GivenTokens, GrantKind, Ids, Issue, Kind, NewLogin, Order, Possession, Redemption,
    RefreshResult, challenge_of,
};
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::idp::{ENTRA, ProviderTokens};
use mcp_registry_gateway::secret::Secret;
use mcp_registry_gateway::store::logins::{Claim, LifeColumns, LoginRow};
use mcp_registry_gateway::store::{micros, now};
use serde_json::Value;
use sqlx::{Connection as _, Executor as _, PgConnection};
use testkit::entra::Entra;
use uuid::Uuid;

use crate::refresh_world::{CALLBACK, behind, comes, keeps, use_now};
use crate::store_databases::Database;
use crate::store_grants::{House, RECHECK, REDIRECT, VERIFIER, redemption};
use crate::store_rest::World;

const BOB: &str = "bob@contoso.onmicrosoft.com";

async fn gateway(entra: &Entra, database: &Database) -> World {
    let args = behind(entra.base_url());
    World::with(database, &args.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// Bob signs in, an hour ago, and uses it now.
async fn signed_in(world: &World, entra: &Entra) -> Uuid {
    let (tenant, user, tokens) = comes(&world.app, entra, BOB).await;
    let (login, grant) = keeps(&world.app, ENTRA, (&tenant, user), &tokens, now() - time::Duration::hours(1)).await;
    use_now(&world.app, &[grant]).await;
    login
}

async fn refreshes(entra: &Entra) -> usize {
    let asked = entra.log("/token").await.unwrap();
    asked.iter().filter(|line| line["grant_type"] == "refresh_token").count()
}

async fn status(world: &World, query: &str) -> Value {
    world.call(&format!("GET /admin/token-refresh-status{query}"), Value::Null).await.expect(200).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_gateways_one_asks_about_each_and_both_know_what_came_of_it() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let Some(database) = Database::postgresql().await else { return };
    let one = gateway(&entra, &database).await;
    let other = one.beside(&database).await;
    let tenant = TenantId::default_tenant();
    let mut logins = Vec::new();
    for _ in 0..6 {
        logins.push(signed_in(&one, &entra).await);
    }
    let before = status(&one, "").await;
    assert!(before["success_rate"].is_null() && before["average_retries"].is_null(), "{before}");
    assert_eq!(
        (&before["targets"]["success_rate"]["met"], &before["active_monitoring_tasks"]),
        (&Value::Null, &6.into())
    );

    let (due, of_two) = (logins[0], logins[1]);
    let asked = refreshes(&entra).await;
    let all = tokio::join!(
        one.app.refresh_all(),
        other.app.refresh_all(),
        one.app.vouch(&tenant, due, now()),
        other.app.vouch(&tenant, due, now()),
        other.app.vouch(&tenant, of_two, now()),
    );
    assert!(all.0.is_ok() && all.1.is_ok() && all.2.is_ok() && all.3.is_ok() && all.4.is_ok(), "{all:?}");
    assert_eq!(refreshes(&entra).await - asked, 6, "each once");
    for login in logins {
        let kept = one.app.grants.login(&tenant, login).await.unwrap().unwrap();
        assert!(now() - kept.checked_at < time::Duration::minutes(1));
    }

    let (own, others) = (status(&one, "?scope=replica").await, status(&other, "?scope=replica").await);
    let count = |report: &Value| report["successful_refreshes"].as_i64().unwrap();
    assert_eq!((count(&own) + count(&others), &own["scope"]), (6, &"replica".into()));
    // What both have written is told by a third that begins only then.
    let later = one.restarted().await;
    let told = status(&later, "").await;
    assert_eq!((count(&told), &told["failed_refreshes"], &told["scope"]), (6, &0.into(), &"cluster".into()));
    assert_eq!((&told["success_rate"], &told["targets"]["success_rate"]["met"]), (&1.0.into(), &true.into()));
    assert_eq!(
        (&told["average_retries"], &told["queue_depth"], &told["reauth_required"]),
        (&0.0.into(), &0.into(), &0.into())
    );
    assert!(told["next_due_at"].is_string() && told["window_seconds"].as_u64().unwrap() >= 23 * 3_600, "{told}");
}

on_both! {
    async fn who_cannot_be_asked_about_keeps_nobody_from_being_asked_about(db) {
        let house = House::open(db).await;
        let (grants, tenant) = (&house.grants, &house.tenant);
        let given = GivenTokens { text: b"upstream", expires_at: house.after(60) };
        let new = NewLogin { tenant, user: house.user, provider: ENTRA, tokens: Some(given) };
        let mut ids = Vec::new();
        for _ in 0..4 {
            ids.push(grants.keep_login(&new, house.now).await.unwrap());
        }
        // The first two ended at a moment when somebody still made them due, the third cannot be opened.
        for id in &ids[..3] {
            let mut row = house.store.login_row(tenant, *id).await.unwrap().unwrap();
            let sealed = row.tokens.clone();
            let claim = Claim { until: 0, tokens: sealed.as_deref() };
            row.due_at = Some(1);
            if *id == ids[2] {
                let life = LifeColumns { issued_at: row.issued_at, expires_at: row.expires_at };
                assert!(house.store.renew_login(tenant, *id, claim, b"sealed by nobody", life).await.unwrap());
            } else {
                "dead".clone_into(&mut row.state);
            }
            assert!(house.store.update_login_row(tenant, &row, claim).await.unwrap());
        }
        let due = grants.logins_due(ENTRA, &[], 1, house.after(60)).await.unwrap();
        assert_eq!(due.iter().map(|login| login.id).collect::<Vec<_>>(), [ids[3]]);
        assert_eq!(grants.next_due(ENTRA).await.unwrap(), Some(house.after(60 + 300)), "only that one is waited for");
        assert_eq!(grants.count_due(ENTRA, house.after(60)).await.unwrap(), 0);
    }
}

on_both! {
    async fn why_a_token_ended_is_told_as_long_as_it_would_be_good(db) {
        let house = House::open(db).await;
        let (first, hash) = (house.tokens("mcp").await, |access: &Secret| hash_token(access.expose()));
        let end = End { reason: EndReason::Error, detail: "needs_interaction" };
        let ended = first.expires_at + time::Duration::SECOND;
        house.grants.end(&house.tenant, Ids::One(first.grant, None), end, ended).await.unwrap();
        let told = async |access: &Secret, at| {
            let why = house.store.end_of_access_token(&hash(access), micros(at)).await.unwrap();
            why.map(|(_, detail)| detail)
        };
        assert_eq!(told(&first.access, house.after(1)).await, None, "it had ended before");
        let third = house.tokens("mcp").await;
        house.grants.end(&house.tenant, Ids::One(third.grant, None), end, house.after(1)).await.unwrap();
        assert_eq!(told(&third.access, third.expires_at - time::Duration::SECOND).await.as_deref(), Some("needs_interaction"));
        assert_eq!(told(&third.access, third.expires_at).await, None, "it would be good no longer");
        let key = Some([1; 32]);
        let terms = CodeTerms { redirect_uri: REDIRECT.into(), code_challenge: challenge_of(VERIFIER), key, trace: None };
        let code = house.grants.grant(&house.order("mcp"), &terms, house.now).await.unwrap().code;
        let shown = Redemption { possession: Possession { key, is_public: true }, ..redemption(&code) };
        let bound = house.grants.redeem(&shown, house.now).await.unwrap();
        house.grants.end(&house.tenant, Ids::One(bound.grant, None), end, house.after(1)).await.unwrap();
        assert_eq!(told(&bound.access, house.after(2)).await, None, "nobody was asked for a proof of its key");
    }
}

on_both! {
    async fn whoever_gives_up_counting_refreshes_loses_none(db) {
        let house = House::open(db).await;
        for polls in 0..6 {
            house.grants.count_refresh(&house.tenant, Kind::Proactive, RefreshResult::Success, 0, house.now);
            let mut writing = Box::pin(house.grants.flush_refreshes());
            for _ in 0..polls {
                if futures_util::poll!(&mut writing).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(writing);
        }
        let told = house.grants.refresh_figures(Some(&house.tenant), false, 23, house.now).await.unwrap().sums;
        assert_eq!(told.iter().map(|sum| sum.count).sum::<i64>(), 6);
    }
}

on_both! {
    async fn how_refreshes_came_out_is_counted_by_tenant_and_hour_and_forgotten_after_weeks(db) {
        let house = House::open(db).await;
        let grants = &house.grants;
        let (proactive, success) = (Kind::Proactive, RefreshResult::Success);
        let ago = |hours| house.now - time::Duration::hours(hours);
        for (retries, hours) in [(2, 0), (1, 1), (0, 30)] {
            grants.count_refresh(&house.tenant, proactive, success, retries, ago(hours));
        }
        grants.count_refresh(&house.tenant, Kind::Emergency, RefreshResult::Failure, 4, ago(24 * 36));
        let sums = async |here, hours| {
            let told = grants.refresh_figures(Some(&house.tenant), here, hours, house.now).await.unwrap().sums;
            told.into_iter().map(|sum| (sum.kind, sum.count, sum.retries)).collect::<Vec<_>>()
        };
        assert_eq!(sums(false, 23).await, [("proactive".to_owned(), 2, 3)]);
        grants.count_refresh(&house.tenant, proactive, success, 0, house.now);
        assert_eq!(sums(false, 23).await, [("proactive".to_owned(), 3, 3)], "what comes later is added");
        assert_eq!(sums(false, 47).await, [("proactive".to_owned(), 4, 3)]);
        let all = grants.refresh_figures(None, false, 23, house.now).await.unwrap().sums;
        assert_eq!(all.iter().map(|sum| sum.count).sum::<i64>(), 3, "of all tenants");
        assert_eq!(sums(false, 24 * 40).await.len(), 2);
        grants.sweep(house.now, |_| {}).await.unwrap();
        assert_eq!(sums(false, 24 * 40).await, [("proactive".to_owned(), 4, 3)]);
        let own: i64 = sums(true, 23).await.iter().map(|(_, count, _)| count).sum();
        assert_eq!(own, 3, "of this process");
    }
}

/// So many logins that were due a minute ago.
async fn due(house: &House, count: usize) -> Vec<Uuid> {
    let given = GivenTokens { text: b"upstream", expires_at: house.after(60) };
    let new = NewLogin { tenant: &house.tenant, user: house.user, provider: ENTRA, tokens: Some(given) };
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(house.grants.keep_login(&new, house.now).await.unwrap());
    }
    ids.sort();
    ids
}

fn ids(claimed: &[LoginRow]) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = claimed.iter().map(|row| row.id).collect();
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_take_the_due_at_once_each_takes_others_and_none_waits() {
    let Some(database) = Database::postgresql().await else { return };
    let house = House::open(&database).await;
    let other = database.open().await;
    let all = due(&house, 6).await;
    let (now, until) = (micros(house.after(120)), micros(house.after(420)));
    // The first is in the middle of taking two.
    let mut first = PgConnection::connect(&database.url).await.unwrap();
    first.execute("BEGIN").await.unwrap();
    let held = sqlx::query("SELECT id FROM logins ORDER BY id LIMIT 2 FOR UPDATE").fetch_all(&mut first).await.unwrap();
    assert_eq!(held.len(), 2);
    let taking = other.claim_due_logins(ENTRA, &[], now, until, 10);
    let taken =
        tokio::time::timeout(std::time::Duration::from_secs(30), taking).await.expect("it does not wait").unwrap();
    assert_eq!(ids(&taken), all[2..]);
    first.execute("ROLLBACK").await.unwrap();
    assert_eq!(ids(&other.claim_due_logins(ENTRA, &[], now, until, 10).await.unwrap()), all[..2], "they are left");

    let all = due(&house, 40).await;
    let (mut taken, mut rounds) = (Vec::new(), 0);
    while taken.len() < all.len() {
        let (one, two) = tokio::join!(
            house.store.claim_due_logins(ENTRA, &[], now, until, 7),
            other.claim_due_logins(ENTRA, &[], now, until, 7),
        );
        taken.extend(one.unwrap().into_iter().chain(two.unwrap()));
        rounds += 1;
        assert!(rounds <= all.len(), "{} of {}", taken.len(), all.len());
    }
    assert_eq!(ids(&taken), all, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lets_the_unused_rest_waits_for_nobody() {
    let Some(database) = Database::postgresql().await else { return };
    let house = House::open(&database).await;
    let all = due(&house, 6).await;
    let now = micros(house.after(120));
    let mut first = PgConnection::connect(&database.url).await.unwrap();
    first.execute("BEGIN").await.unwrap();
    sqlx::query("SELECT id FROM logins ORDER BY id LIMIT 2 FOR UPDATE").fetch_all(&mut first).await.unwrap();
    let resting = house.store.rest_unused_logins(ENTRA, now, now, 10);
    let rested = tokio::time::timeout(std::time::Duration::from_secs(30), resting).await.expect("it does not wait");
    assert_eq!(rested.unwrap(), 4);
    first.execute("ROLLBACK").await.unwrap();
    assert_eq!(house.store.rest_unused_logins(ENTRA, now, now, 10).await.unwrap(), 2, "they are left");
    assert_eq!(house.store.claim_due_logins(ENTRA, &[], now, now + 1, 10).await.unwrap().len(), 0, "of {all:?}");
}

on_both! {
    async fn two_who_note_the_use_of_the_same_grants_do_not_stop_each_other(db) {
        let house = House::open(db).await;
        let (other, mut grants) = (db.open().await, Vec::new());
        for login in due(&house, 24).await {
            let order = Order { login: Some(login), ..house.order("mcp") };
            grants.push(house.grants.issue(&order, Issue::alone(GrantKind::Service), house.now).await.unwrap().grant);
        }
        for round in 1..=20 {
            let used = |each: &Uuid| (*each, micros(house.after(round)));
            let (there, back): (Vec<_>, Vec<_>) = (grants.iter().map(used).collect(), grants.iter().rev().map(used).collect());
            let (one, two) = tokio::join!(house.store.touch_grants(&there, RECHECK), other.touch_grants(&back, RECHECK));
            one.and(two).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_tokens_end_is_told_by_themselves_after_a_new_start_too() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let database = Database::sqlite();
    let world = gateway(&entra, &database).await;
    let (tenant, id) = (TenantId::default_tenant(), signed_in(&world, &entra).await);
    let login = world.app.grants.login(&tenant, id).await.unwrap().unwrap();
    let tokens: ProviderTokens = serde_json::from_slice(login.tokens.as_ref().unwrap()).unwrap();
    // As of what was kept before it was noted beside: an hour is a guess.
    let row = world.app.store.login_row(&tenant, id).await.unwrap().unwrap();
    let claim = Claim { until: row.ask_after, tokens: row.tokens.as_deref() };
    let guess = LifeColumns { issued_at: row.issued_at, expires_at: row.issued_at + 1 };
    assert!(world.app.store.renew_login(&tenant, id, claim, row.tokens.as_deref().unwrap(), guess).await.unwrap());
    let world = world.restarted().await;
    let seen = world.call(&format!("GET /admin/user-token-status/{BOB}"), Value::Null).await.expect(200).json();
    let ends = tokens.expires_at.format(&time::format_description::well_known::Rfc3339).unwrap();
    assert_eq!(seen["credentials"][0]["expires_at"], ends.as_str(), "{seen}");
}
