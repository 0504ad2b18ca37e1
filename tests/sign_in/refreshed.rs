//! What the provider (Entra's stand-in) gave is kept fresh, and what that shows: to administrators, and to who shows a token that has
//! ended.

use mcp_registry_gateway::grants::{GivenTokens, GrantKind, Issue, LoginState, NewLogin, Order, ScopeSet};
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::idp::{ENTRA, ProviderTokens};
use mcp_registry_gateway::store::now;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use testkit::entra::{Entra, SECRETS};
use testkit::sign_in::with_provider;
use time::Duration;
use uuid::Uuid;

use crate::asked_again::raw;
use crate::door::{REDIRECT, browser};
use crate::entra::{ALICE, BOB, CALLBACK, azure, behind_with, comes_back, signed_in};
use crate::process::Gateway;
use crate::world::World;

const TESS: &str = "tess@contoso.onmicrosoft.com";
const OWEN: &str = "owen@contoso.onmicrosoft.com";

fn default() -> TenantId {
    TenantId::default_tenant()
}

/// A gateway that refreshes nothing by itself while the test does.
async fn quiet(entra: &Entra) -> World {
    behind_with(entra, &[&format!("--azure-client-secret={}", SECRETS[0]), "--background-token-refresh=false"]).await
}

async fn refreshes(entra: &Entra) -> usize {
    let asked = entra.log("/token").await.unwrap();
    asked.iter().filter(|line| line["grant_type"] == "refresh_token").count()
}

async fn fault(entra: &Entra, times: i64, action: Value) {
    let rule = json!({"match": {"endpoint": "token", "grant_type": "refresh_token"}, "times": times, "action": action});
    entra.post("/_sim/faults", rule).await.unwrap();
}

async fn state(world: &World, login: Uuid) -> LoginState {
    world.app.grants.login(&default(), login).await.unwrap().unwrap().state
}

/// What an administrator sees of somebody's newest login.
async fn seen(world: &World, user: &str) -> Value {
    let status = world.rest("GET", &format!("/admin/user-token-status/{user}"), json!(null)).await.expect(200).json();
    status["credentials"][0].clone()
}

async fn status(world: &World) -> Value {
    world.rest("GET", "/admin/token-refresh-status", json!(null)).await.expect(200).json()
}

async fn force(world: &World, user: &str) -> crate::door::Answer {
    world.rest("POST", &format!("/admin/force-token-refresh/{user}"), json!(null)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_who_come_at_once_when_the_providers_token_has_ended_make_one_refresh() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let world = quiet(&entra).await;
    entra.post("/_sim/config", json!({"accessTokenTTL": 1, "rotation": "strict"})).await.unwrap();
    let (refresh, login) = signed_in(&world, &entra, BOB).await;
    let before = refreshes(&entra).await;
    let come = (0..50).map(|_| world.refresh(&refresh, &[]));
    for answer in futures_util::future::join_all(come).await {
        answer.expect(200);
    }
    assert_eq!(refreshes(&entra).await - before, 1);
    assert_eq!(state(&world, login).await, LoginState::Active);
    assert_eq!(seen(&world, BOB).await["last_refresh"]["kind"], "on_demand");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_throttles_is_asked_once_and_nobody_is_signed_out() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let world = quiet(&entra).await;
    let mut sessions = Vec::new();
    for _ in 0..12 {
        sessions.push(signed_in(&world, &entra, BOB).await);
    }
    fault(&entra, -1, json!({"status": 429, "retry_after": 300})).await;
    let before = refreshes(&entra).await;
    for _ in 0..3 {
        world.app.refresh_all().await.unwrap();
    }
    let given = futures_util::future::join_all(sessions.iter().map(|(refresh, _)| world.refresh(refresh, &[]))).await;
    assert_eq!(refreshes(&entra).await - before, 1, "and then nobody asks");
    let mut failures = 0;
    for (answer, (_, login)) in given.into_iter().zip(sessions) {
        world.get("/api/v1/me", answer.expect(200).json()["access_token"].as_str().unwrap()).await.expect(200);
        let kept = world.app.grants.login(&default(), login).await.unwrap().unwrap();
        assert_eq!(kept.state, LoginState::Active);
        failures += kept.failures;
    }
    assert_eq!(failures, 1, "who was not asked about has not failed");
    let told = force(&world, BOB).await.expect(424);
    assert!(told.json()["code"] == "PROVIDER_THROTTLES" && !told.header("retry-after").is_empty(), "{}", told.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_ill_for_long_shows_as_failing_and_ends_nothing() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let world = quiet(&entra).await;
    let (refresh, login) = signed_in(&world, &entra, BOB).await;
    fault(&entra, -1, json!({"status": 503})).await;
    for failures in 1..=6_u32 {
        let told = force(&world, BOB).await.expect(424).json();
        assert_eq!((&told["code"], &told["error_code"]), (&json!("REFRESH_FAILED"), &json!("AADSTS90033")), "{told}");
        let again = force(&world, BOB).await.expect(409);
        assert!(
            again.json()["code"] == "REFRESHED_LATELY" && !again.header("retry-after").is_empty(),
            "{}",
            again.text
        );
        raw(&world).await.execute("UPDATE logins SET not_before = 0").await.unwrap();
        let kept = world.app.grants.login(&default(), login).await.unwrap().unwrap();
        assert_eq!((kept.failures, kept.state), (failures, LoginState::Active));
        let shown = seen(&world, BOB).await;
        assert_eq!((&shown["state"], &shown["failing"]), (&json!("valid"), &json!(failures > 4)), "{shown}");
        assert_eq!(
            (&shown["last_refresh"]["result"], &shown["last_refresh"]["error_code"]),
            (&json!("failure"), &json!("AADSTS90033"))
        );
    }
    let report = status(&world).await;
    assert_eq!((&report["failed_refreshes"], &report["success_rate"]), (&json!(1), &json!(0.0)), "{report}");
    world.refresh(&refresh, &[]).await.expect(200);
    let gone = testkit::client::Request::new(http::Method::DELETE, "".into()).path("/_sim/faults");
    assert!(testkit::client::Client::new(entra.base_url()).send(gone).await.unwrap().status.is_success());
    let healed = force(&world, BOB).await.expect(200).json();
    assert_eq!(healed["credentials"][0]["state"], "valid", "{healed}");
    let report = status(&world).await;
    assert_eq!((&report["successful_refreshes"], &report["average_retries"]), (&json!(1), &json!(2.0)), "{report}");
    assert!(
        world
            .metrics()
            .await
            .contains("mcp_token_refresh_total{tenant_id=\"default\",kind=\"forced\",result=\"success\"} 1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_away_shows_in_the_report_when_tokens_end_by_it() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let world = quiet(&entra).await;
    let (_, first) = signed_in(&world, &entra, BOB).await;
    signed_in(&world, &entra, ALICE).await;
    fault(&entra, -1, json!({"status": 503})).await;
    raw(&world).await.execute("UPDATE logins SET due_at = 0, expires_at = 1").await.unwrap();
    world.app.refresh_all().await.unwrap();
    raw(&world).await.execute("UPDATE logins SET due_at = 0, ask_after = 0").await.unwrap();
    world.app.refresh_all().await.unwrap();
    assert!(world.app.grants.login(&default(), first).await.unwrap().unwrap().failures < 3);
    assert_eq!(status(&world).await["failed_refreshes"], 2, "each once");
}

/// Somebody of this tenant with a session that rests on what Entra is said to have given.
async fn of_tenant(world: &World, tenant: &str, name: &str) {
    let order = json!({"username": name, "role": "user", "tenant_id": tenant, "password": "a long pass phrase"});
    let user = world.rest("POST", "/users", order).await.expect(201).json()["id"].as_str().unwrap().parse().unwrap();
    let all = world.app.store.tenants("", 10).await.unwrap();
    let tenant = all.into_iter().map(|one| one.id).find(|id| id.as_str() == tenant).unwrap();
    let tokens = json!({"access": null, "refresh": "none", "expires_at": 1, "scopes": [], "subject": name}).to_string();
    let given = GivenTokens { text: tokens.as_bytes(), expires_at: now() };
    let login = NewLogin { tenant: &tenant, user, provider: ENTRA, tokens: Some(given) };
    let login = Some(world.app.grants.keep_login(&login, now() - Duration::hours(1)).await.unwrap());
    let order = Order {
        tenant: tenant.clone(),
        user,
        client_id: "client".to_owned(),
        client_name: None,
        resource: world.uri("/mcp"),
        scopes: ScopeSet::ALL,
        login_method: ENTRA.to_owned(),
        login,
    };
    world.app.grants.issue(&order, Issue::alone(GrantKind::Client), now()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenant_whose_questions_all_fail_keeps_nobody_else_from_being_asked_about() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let world = quiet(&entra).await;
    world.rest("POST", "/admin/tenants", json!({"tenant_id": "acme"})).await.expect(201);
    for name in ["one", "two", "three", "four"] {
        of_tenant(&world, "acme", name).await;
    }
    let (_, login) = signed_in(&world, &entra, BOB).await;
    let mut raw = raw(&world).await;
    for _ in 0..2 {
        // Those of the tenant whose directory is set up wrongly wait for longest.
        fault(&entra, 2, json!({"aadsts": 700_016})).await;
        raw.execute("UPDATE logins SET due_at = CASE tenant_id WHEN 'acme' THEN 1 ELSE 2 END, ask_after = 0")
            .await
            .unwrap();
        let before = world.app.grants.login(&default(), login).await.unwrap().unwrap().checked_at;
        world.app.refresh_all().await.unwrap();
        assert!(world.app.grants.login(&default(), login).await.unwrap().unwrap().checked_at > before);
    }
    let (failures,): (i64,) = sqlx::query_as("SELECT SUM(failures) FROM logins").fetch_one(&mut raw).await.unwrap();
    assert_eq!(failures, 4, "each counts, and is not put again at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_must_come_back_is_told_why_and_nobody_else_is_touched() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let world = quiet(&entra).await;
    let mut sessions = Vec::new();
    for person in [ALICE, BOB, TESS, OWEN] {
        let (refresh, login) = signed_in(&world, &entra, person).await;
        let given = world.refresh(&refresh, &[]).await.expect(200).json();
        sessions.push((given["access_token"].as_str().unwrap().to_owned(), login));
    }
    for (person, what) in [(BOB, "revoke"), (TESS, "disable"), (OWEN, "require-mfa")] {
        entra.post(&format!("/_sim/users/{person}/{what}"), json!({})).await.unwrap();
    }
    raw(&world).await.execute("UPDATE logins SET due_at = 0").await.unwrap();
    world.app.refresh_all().await.unwrap();

    let expected = [
        (LoginState::Active, ""),
        (LoginState::Dead, "wants to see the person again: sign in again"),
        (LoginState::Dead, "does not let the person in any longer"),
        (LoginState::NeedsInteraction, "wants to see the person again: sign in again"),
    ];
    for ((token, login), (left, why)) in sessions.iter().zip(expected) {
        assert_eq!(state(&world, *login).await, left);
        if why.is_empty() {
            world.get("/api/v1/me", token).await.expect(200);
            continue;
        }
        for path in ["/api/v1/me", "/mcp"] {
            let refused = world.get(path, token).await.expect(401);
            let told = refused.header("www-authenticate");
            assert!(told.contains("error=\"invalid_token\"") && told.contains(why), "{told}");
            assert!(refused.text.contains(why), "{}", refused.text);
        }
        assert!(world.get("/mcp", token).await.text.contains("/access)"), "people are told where to look");
    }

    let owen = seen(&world, OWEN).await;
    assert_eq!(
        (&owen["state"], &owen["refresh_due_at"], &owen["scopes"]),
        (&json!("reauth_required"), &json!(null), &json!([]))
    );
    let last = &owen["last_refresh"];
    assert_eq!((&last["kind"], &last["result"]), (&json!("proactive"), &json!("reauth_required")), "{owen}");
    assert!(last["error_code"].as_str().unwrap().starts_with("AADSTS500"), "{owen}");
    assert_eq!(force(&world, OWEN).await.expect(409).json()["code"], "NOTHING_TO_REFRESH");
    let alice = seen(&world, ALICE).await;
    assert_eq!((&alice["state"], &alice["provider"]), (&json!("valid"), &json!(ENTRA)), "{alice}");
    assert!(alice["audience"].as_str().unwrap().starts_with("api://") && alice["scopes"][0].is_string(), "{alice}");
    let report = status(&world).await;
    // Each was asked about once when they came, and once by the job.
    assert_eq!((&report["successful_refreshes"], &report["failed_refreshes"]), (&json!(5), &json!(3)), "{report}");
    assert_eq!((&report["reauth_required"], &report["proactive_ratio"]), (&json!(3), &json!(1.0)), "{report}");
    assert_eq!(report["targets"]["success_rate"]["met"], false, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_of_a_tenant_sees_and_refreshes_nobody_elses() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let world = quiet(&entra).await;
    signed_in(&world, &entra, BOB).await;
    let bob = world.rest("GET", &format!("/users/{BOB}"), json!(null)).await.expect(200).json()["id"].clone();
    let bob = bob.as_str().unwrap();
    world.rest("POST", "/admin/tenants", json!({"tenant_id": "acme"})).await.expect(201);
    let order =
        json!({"username": "root", "role": "tenant_admin", "tenant_id": "acme", "password": "a long pass phrase"});
    world.rest("POST", "/users", order).await.expect(201);
    let login = json!({"username": "acme/root", "password": "a long pass phrase"}).to_string();
    let login = world.send("POST", "/api/v1/login", &[("content-type", "application/json")], &login).await;
    let key = login.expect(200).json()["key"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {key}");
    let call = async |method: &str, path: &str| {
        world.send(method, &format!("/api/v1/admin/{path}"), &[("authorization", bearer.as_str())], "").await
    };
    for user in [bob, &Uuid::nil().to_string()] {
        call("GET", &format!("user-token-status/{user}")).await.expect(404);
        call("POST", &format!("force-token-refresh/{user}")).await.expect(404);
    }
    let own = call("GET", "token-refresh-status").await.expect(200).json();
    assert_eq!(own["active_monitoring_tasks"], 0, "{own}");
    assert_eq!(status(&world).await["active_monitoring_tasks"], 1);
    let seen = world.rest("GET", &format!("/admin/user-token-status/{bob}"), json!(null)).await.expect(200);
    assert!(seen.json()["tenant_id"] == "default" && !seen.text.contains("eyJ"), "{}", seen.text);
}

/// As after a crash between the provider's answer and its being stored: somebody has asked, the provider has replaced what is kept, and
/// nobody is there any more who knows with what.
async fn crash_in_between(world: &World, login: Uuid) {
    let mut claimed = world.app.grants.login_now(&default(), login, now()).await.unwrap().unwrap();
    assert!(world.app.grants.hold_login(&mut claimed, now()).await.unwrap());
    let tokens: ProviderTokens = serde_json::from_slice(claimed.tokens.as_ref().unwrap()).unwrap();
    world.app.providers.get(ENTRA).unwrap().recheck(&tokens, now()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_an_answer_is_stored_costs_no_session() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    for (strict, shown) in [("entra", false), ("strict", true)] {
        let world = quiet(&entra).await;
        entra.post("/_sim/config", json!({ "rotation": strict })).await.unwrap();
        let (refresh, login) = signed_in(&world, &entra, BOB).await;
        crash_in_between(&world, login).await;
        let asked = refreshes(&entra).await;
        world.app.vouch(&default(), login, now() + Duration::minutes(4)).await.unwrap();
        assert_eq!(refreshes(&entra).await, asked, "who asked may still be there");
        world.app.vouch(&default(), login, now() + Duration::minutes(6)).await.unwrap();
        assert_eq!(refreshes(&entra).await - asked, 1);
        assert_eq!(
            (state(&world, login).await, &seen(&world, BOB).await["failing"]),
            (LoginState::Active, &json!(shown))
        );
        let given = world.refresh(&refresh, &[]).await.expect(200).json();
        world.get("/api/v1/me", given["access_token"].as_str().unwrap()).await.expect(200);
        let refresh = given["refresh_token"].as_str().unwrap().to_owned();
        if strict == "entra" {
            continue;
        }
        let wanted = force(&world, BOB).await.expect(409);
        assert_eq!(
            wanted.json()["code"],
            "REFRESHED_LATELY",
            "an administrator does not show it again and again either"
        );
        // Whoever signs in again heals every session; nobody asks with what is spent meanwhile.
        let (_, fresh) = signed_in(&world, &entra, BOB).await;
        world.app.refresh_all().await.unwrap();
        assert_eq!(state(&world, fresh).await, LoginState::Active);
        let past = "UPDATE logins SET cut_off_at = 1, ask_after = 0, due_at = 0 WHERE cut_off_at IS NOT NULL";
        raw(&world).await.execute(past).await.unwrap();
        world.app.refresh_all().await.unwrap();
        assert_eq!(
            world.app.grants.login(&default(), login).await.unwrap().map(|kept| kept.state),
            Some(LoginState::Active)
        );
        world.refresh(&refresh, &[]).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_in_again_before_a_crash_is_seen_keeps_every_session() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let world = quiet(&entra).await;
    entra.post("/_sim/config", json!({"rotation": "strict"})).await.unwrap();
    let (refresh, login) = signed_in(&world, &entra, BOB).await;
    crash_in_between(&world, login).await;
    let (_, fresh) = signed_in(&world, &entra, BOB).await;
    raw(&world).await.execute("UPDATE logins SET cut_off_at = 1, ask_after = 0, due_at = 0 WHERE sent").await.unwrap();
    world.app.refresh_all().await.unwrap();
    assert_eq!(state(&world, fresh).await, LoginState::Active);
    world.refresh(&refresh, &[]).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_has_cost_ends_after_an_hour_if_the_person_does_not_come() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let world = quiet(&entra).await;
    entra.post("/_sim/config", json!({"rotation": "strict"})).await.unwrap();
    let (refresh, login) = signed_in(&world, &entra, BOB).await;
    crash_in_between(&world, login).await;
    world.app.vouch(&default(), login, now() + Duration::minutes(6)).await.unwrap();
    let past = "UPDATE logins SET cut_off_at = 1, ask_after = 0, due_at = 0";
    raw(&world).await.execute(past).await.unwrap();
    world.app.refresh_all().await.unwrap();
    assert_ne!(state(&world, login).await, LoginState::Active);
    assert_eq!(world.refresh(&refresh, &[]).await.error(), (400, "invalid_grant".to_owned()));
}

/// Waits until this is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let seen = async {
        while !is_so().await {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), seen).await.expect(what);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_while_the_provider_answers_has_lost_no_session_when_it_is_back() {
    let Some(entra) = Entra::start(&[]).await.unwrap() else { return };
    let own = azure(&entra);
    let args: Vec<&str> = own.iter().map(String::as_str).collect();
    let secrets = [("MREG_AZURE_CLIENT_SECRET", SECRETS[0])];
    let mut gateway = Gateway::start(&args, &secrets).await;
    comes_back(&entra, &gateway.door, ENTRA).await;
    gateway.door.client = gateway.registered(&json!({"redirect_uris": [REDIRECT], "client_name": "A client"})).await;
    let mut person = browser();
    let consent = gateway.consent(&mut person, &[]).await;
    let end = with_provider(&mut person, &consent, ENTRA, &entra, BOB).await.unwrap();
    let given = gateway.redeem(&end.param("code").unwrap()).await.expect(200).json();

    entra.post("/_sim/config", json!({"rotation": "strict"})).await.unwrap();
    fault(&entra, 1, json!({"latency_ms": 1_500})).await;
    let (asked, tokens) = (refreshes(&entra).await, entra.given().await.unwrap().len());
    let path = format!("/admin/force-token-refresh/{BOB}");
    tokio::select! {
        _ = gateway.rest("POST", &path, json!(null)) => panic!("it was answered"),
        () = until("the question is there", async || refreshes(&entra).await > asked) => {}
    }
    // Whoever uses it when the gateway is back has it asked about.
    let again: Vec<&str> = args.iter().copied().chain(["--identity-recheck-interval=1ms"]).collect();
    gateway.kill_and_start(&again, &secrets).await;
    until("the provider answers nobody", async || entra.given().await.unwrap().len() > tokens).await;
    let seen = gateway.rest("GET", &format!("/admin/user-token-status/{BOB}"), json!(null)).await.expect(200).json();
    assert_eq!(seen["credentials"][0]["state"], "refreshing", "{seen}");

    // Five minutes later.
    let file = gateway.folder.join("data/gateway.sqlite");
    let mut raw = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    raw.execute("UPDATE logins SET ask_after = 0, due_at = 0").await.unwrap();
    let given = gateway.refresh(given["refresh_token"].as_str().unwrap(), &[]).await.expect(200).json();
    assert_eq!(refreshes(&entra).await - asked, 2, "the question was put again");
    let shown = gateway.get("/mcp", given["access_token"].as_str().unwrap()).await;
    assert_ne!(shown.status, 401, "{}", shown.text);
    let seen = gateway.rest("GET", &format!("/admin/user-token-status/{BOB}"), json!(null)).await.expect(200).json();
    assert_eq!(seen["credentials"][0]["failing"], true, "{seen}");
    gateway.refresh(given["refresh_token"].as_str().unwrap(), &[]).await.expect(200);
    assert_eq!(refreshes(&entra).await - asked, 2, "and what is spent is not shown again and again");
}
