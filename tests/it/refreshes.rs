//! Several gateways on one database refresh what the provider (Entra's stand-in) gave: each login once between them, and what came of it
//! is known to all.

use mcp_registry_gateway::crypto::hash_token;
use mcp_registry_gateway::grants::{
    CodeTerms, End, EndReason, GivenTokens, GrantKind, Ids, Issue, Kind, NewLogin, Order, Possession, Redemption,
    RefreshResult, ScopeSet, challenge_of,
};
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::idp::{ENTRA, Hints};
use mcp_registry_gateway::secret::Secret;
use mcp_registry_gateway::store::logins::{Claim, LifeColumns};
use mcp_registry_gateway::store::{micros, now};
use serde_json::Value;
use testkit::browser::Browser;
use testkit::entra::{CONTOSO, Entra, GATEWAY, SECRETS};
use url::Url;
use uuid::Uuid;

use crate::store_databases::Database;
use crate::store_grants::{House, REDIRECT, VERIFIER, redemption};
use crate::store_rest::World;

const CALLBACK: &str = "http://127.0.0.1:9/oauth/callback/entra";
const BOB: &str = "bob@contoso.onmicrosoft.com";

async fn gateway(entra: &Entra, database: &Database) -> World {
    let (prefix, graph) = (entra.v1_issuer_prefix(), entra.graph_url());
    let mut args =
        vec!["--azure-tenant-id", CONTOSO, "--azure-client-id", GATEWAY, "--azure-client-secret", SECRETS[0]];
    args.extend(["--azure-authority", entra.base_url(), "--azure-v1-issuer-prefix", &prefix]);
    args.extend(["--azure-graph-url", &graph]);
    World::with(database, &args).await
}

/// Bob signs in, an hour ago, and uses it now.
async fn signed_in(world: &World, entra: &Entra) -> Uuid {
    let (provider, callback) = (world.app.providers.get(ENTRA).unwrap(), Url::parse(CALLBACK).unwrap());
    let leg = provider.begin(&callback, &Hints::default()).await.unwrap();
    let mut browser = Browser::new().stop_at(CALLBACK);
    let page = browser.open(leg.url.as_str()).await.unwrap();
    let code = entra.sign_in(&mut browser, page, BOB).await.unwrap().param("code").unwrap();
    let signed_in = provider.finish(&callback, &code, &leg.nonce, &leg.verifier, now()).await.unwrap();
    let (person, tokens) = (signed_in.person, signed_in.tokens.unwrap());
    let account = world.app.account_of(&person, person.role.unwrap(), now()).await.unwrap();
    let text = serde_json::to_vec(&tokens).unwrap();
    let given = GivenTokens { text: &text, expires_at: tokens.expires_at };
    let login = NewLogin { tenant: &account.tenant, user: account.id, provider: ENTRA, tokens: Some(given) };
    let login = world.app.grants.keep_login(&login, now() - time::Duration::hours(1)).await.unwrap();
    let order = Order {
        tenant: account.tenant.clone(),
        user: account.id,
        client_id: "client".to_owned(),
        client_name: None,
        resource: "http://127.0.0.1:8001/mcp".to_owned(),
        scopes: ScopeSet::ALL,
        login_method: ENTRA.to_owned(),
        login: Some(login),
    };
    let given = world.app.grants.issue(&order, Issue::alone(GrantKind::Client), now()).await.unwrap();
    let used = [(given.grant, micros(now()) + 1)];
    world.app.store.touch_grants(&used, crate::store_grants::RECHECK).await.unwrap();
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
        grants.sweep(house.now).await.unwrap();
        assert_eq!(sums(false, 24 * 40).await, [("proactive".to_owned(), 4, 3)]);
        let own: i64 = sums(true, 23).await.iter().map(|(_, count, _)| count).sum();
        assert_eq!(own, 3, "of this process");
    }
}
