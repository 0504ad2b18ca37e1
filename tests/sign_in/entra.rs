//! With Entra behind the gateway (its stand-in): its own access tokens shown directly, and what becomes of sessions when it is
//! asked again about people.

use mcp_registry_gateway::grants::{CodeTerms, GivenTokens, LoginState, NewLogin, Order, ScopeSet, challenge_of};
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::idp::{ENTRA, Hints, OIDC};
use mcp_registry_gateway::store::now;
use mcp_registry_gateway::telemetry::Status;
use serde_json::{Value, json};
use testkit::browser::Browser;
use testkit::client::{Client, Request};
use testkit::entra::{CONTOSO, DAEMON, Entra, GATEWAY, SECRETS, VISITOR};
use testkit::sign_in::VERIFIER;
use url::Url;
use uuid::Uuid;

use crate::world::{Door, REDIRECT, World};

pub const ALICE: &str = "alice@contoso.onmicrosoft.com";
pub const BOB: &str = "bob@contoso.onmicrosoft.com";
pub const CALLBACK: &str = "http://127.0.0.1:8080/oauth/callback/entra";

/// The settings of a gateway in front of this stand-in for one directory, but for the credential.
pub fn azure(entra: &Entra) -> [String; 5] {
    [
        format!("--azure-tenant-id={CONTOSO}"),
        format!("--azure-client-id={GATEWAY}"),
        format!("--azure-authority={}", entra.base_url()),
        format!("--azure-v1-issuer-prefix={}", entra.v1_issuer_prefix()),
        format!("--azure-graph-url={}", entra.graph_url()),
    ]
}

/// A gateway in front of this stand-in for one directory, with this credential or more settings.
pub async fn behind_with(entra: &Entra, more: &[&str]) -> World {
    let own = azure(entra);
    World::with(&own.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>()).await
}

pub async fn behind(entra: &Entra) -> World {
    behind_with(entra, &[&format!("--azure-client-secret={}", SECRETS[0])]).await
}

/// The same, which knows the stand-in as one provider of OpenID Connect among others.
pub async fn behind_other(entra: &Entra) -> World {
    World::with(&[
        &format!("--oidc-issuer={}/{CONTOSO}/v2.0", entra.base_url()),
        &format!("--oidc-client-id={GATEWAY}"),
        &format!("--oidc-client-secret={}", SECRETS[0]),
        "--oidc-scopes=openid profile offline_access",
        "--oidc-roles-claim=roles",
        "--oidc-role-server-owner=Mcp.Admin",
        "--oidc-role-user=*",
    ])
    .await
}

/// A gateway for which the stand-in is this provider.
pub async fn behind_as(entra: &Entra, provider: &str) -> World {
    if provider == ENTRA { behind(entra).await } else { behind_other(entra).await }
}

/// The same, to which people come back with a browser.
pub async fn house(entra: &Entra) -> World {
    house_as(entra, ENTRA).await
}

/// The same for this provider.
pub async fn house_as(entra: &Entra, provider: &str) -> World {
    let world = behind_as(entra, provider).await;
    comes_back(entra, &world, provider).await;
    world
}

/// The same with another credential.
pub async fn house_with(entra: &Entra, credential: &[&str]) -> World {
    let world = behind_with(entra, credential).await;
    comes_back(entra, &world, "entra").await;
    world
}

/// Tells the stand-in where the gateway's provider of this name has people come back.
pub async fn comes_back(entra: &Entra, gateway: &Door, provider: &str) {
    let callback = json!({"uri": gateway.uri(&format!("/oauth/callback/{provider}"))});
    entra.post(&format!("/_sim/apps/{GATEWAY}/redirect-uris"), callback).await.unwrap();
}

/// The token of an application on its own.
async fn of_application(entra: &Entra, (id, secret): (&str, &str)) -> String {
    let body = format!(
        "grant_type=client_credentials&client_id={id}&client_secret={secret}&scope=api%3A%2F%2F{GATEWAY}%2F.default"
    );
    let request = Request::new(http::Method::POST, body.into())
        .path(&format!("/{CONTOSO}/oauth2/v2.0/token"))
        .header("content-type", "application/x-www-form-urlencoded");
    let text = Client::new(entra.base_url()).send(request).await.unwrap().text().await.unwrap();
    let given: Value = serde_json::from_str(&text).unwrap();
    given["access_token"].as_str().unwrap_or_else(|| panic!("{given}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applications_token_that_entra_made_for_the_gateway_opens_it_and_no_other_does() {
    let Some(entra) = Entra::start(&[]).await.unwrap() else { return };
    let world = behind(&entra).await;
    let me = async |token: &str| world.get("/api/v1/me", token).await;

    let token = of_application(&entra, DAEMON).await;
    let daemon = me(&token).await.expect(200).json();
    assert_eq!((&daemon["session_type"], &daemon["role"]), (&json!("service"), &json!("user")));
    for token in [&token, &of_application(&entra, DAEMON).await] {
        assert_eq!(me(token).await.expect(200).json()["user_id"], daemon["user_id"], "known, and the same one");
    }
    assert_ne!(world.get("/mcp", &token).await.status, 401, "the whole gateway");

    let alice = entra.token(ALICE, json!({})).await.unwrap();
    for path in ["/api/v1/me", "/mcp"] {
        let refused = world.get(path, &alice).await.expect(401);
        let told = refused.header("www-authenticate");
        assert!(told.contains("error=\"invalid_token\"") && told.contains("sign in through this gateway"), "{told}");
        assert!(told.contains("resource_metadata="), "{told}");
    }
    let users = world.rest("GET", "/users", json!(null)).await.expect(200).text;
    assert!(!users.contains("alice"), "and no account is made of it: {users}");

    let graph = "00000003-0000-0000-c000-000000000000";
    for wrong in [
        entra.token(ALICE, json!({"claims": {"aud": graph}})).await.unwrap(),
        entra.token(ALICE, json!({"claims": {"aud": "api://orders"}})).await.unwrap(),
        entra.token(ALICE, json!({"claims": {"iss": "https://other.example/v2.0"}})).await.unwrap(),
        entra.token(ALICE, json!({"attack": "alg-none"})).await.unwrap(),
        entra.token(ALICE, json!({"attack": "hs256-public-key"})).await.unwrap(),
        entra.token(ALICE, json!({"attack": "foreign-key"})).await.unwrap(),
        entra.token(ALICE, json!({"scp": ["something.else"]})).await.unwrap(),
        of_application(&entra, VISITOR).await,
        "a.b.c".to_owned(),
    ] {
        let refused = me(&wrong).await.expect(401);
        assert!(refused.header("www-authenticate").contains("error=\"invalid_token\""), "{refused:?}");
    }

    world
        .rest("PATCH", &format!("/users/{}", daemon["user_id"].as_str().unwrap()), json!({"state": "disabled"}))
        .await
        .expect(200);
    me(&token).await.expect(401);
    let alone = World::start().await;
    alone.get("/api/v1/me", &token).await.expect(401);
}

/// Somebody signs in with the provider and gets a session of a client, as it was an hour ago; the refresh token and the login.
pub async fn signed_in(world: &World, entra: &Entra, user: &str) -> (String, Uuid) {
    let name = world.app.providers.names()[0].name;
    let provider = world.app.providers.get(name).unwrap();
    let callback = Url::parse(CALLBACK).unwrap();
    let leg = provider.begin(&callback, &Hints::default()).await.unwrap();
    let mut browser = Browser::new().stop_at(CALLBACK);
    let page = browser.open(leg.url.as_str()).await.unwrap();
    let page = entra.sign_in(&mut browser, page, user).await.unwrap();
    let code = page.param("code").unwrap();
    let signed_in = provider.finish(&callback, &code, &leg.nonce, &leg.verifier, now()).await.unwrap();
    let person = signed_in.person;
    let account = world.app.account_of(&person, person.role.unwrap(), now()).await.unwrap();
    let (tenant, earlier) = (account.tenant.clone(), now() - time::Duration::hours(1));
    let tokens = signed_in.tokens.unwrap();
    let text = serde_json::to_vec(&tokens).unwrap();
    let given = GivenTokens { text: &text, expires_at: tokens.expires_at };
    let login = NewLogin { tenant: &tenant, user: account.id, provider: name, tokens: Some(given) };
    let login = world.app.grants.keep_login(&login, earlier).await.unwrap();
    let order = Order {
        tenant,
        user: account.id,
        client_id: world.client.clone(),
        client_name: None,
        resource: world.uri("/api/v1"),
        scopes: ScopeSet::ALL,
        login_method: name.to_owned(),
        login: Some(login),
    };
    let terms =
        CodeTerms { redirect_uri: REDIRECT.to_owned(), code_challenge: challenge_of(VERIFIER), key: None, trace: None };
    let code = world.app.grants.grant(&order, &terms, now()).await.unwrap().code;
    let given = world.redeem(code.expose()).await.expect(200).json();
    // And uses it.
    world.get("/api/v1/me", given["access_token"].as_str().unwrap()).await.expect(200);
    let recheck = world.app.grants.terms().schedule.recheck;
    world.app.tokens.flush_used(&world.app.store, recheck).await.unwrap();
    (given["refresh_token"].as_str().unwrap().to_owned(), login)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_ill_ends_no_session_and_one_that_says_no_does() {
    Box::pin(ill_or_no(ENTRA)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_provider_that_is_ill_ends_no_session_and_one_that_says_no_does() {
    Box::pin(ill_or_no(OIDC)).await;
}

async fn ill_or_no(provider: &str) {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let tenant = TenantId::default_tenant();
    let on_refresh = |action: Value| json!({"match": {"endpoint": "token", "grant_type": "refresh_token"}, "times": -1, "action": action});
    let claims = json!({"access_token": {"capolids": {"essential": true, "values": ["x"]}}});
    for (action, status, left, health) in [
        (json!({"status": 500}), 200, LoginState::Active, Status::Ok),
        (json!({"status": 503}), 200, LoginState::Active, Status::Ok),
        (json!({"status": 429, "retry_after": 60}), 200, LoginState::Active, Status::Ok),
        (json!({"status": 429, "retry_after": "Fri, 01 Jan 2100 00:00:00 GMT"}), 200, LoginState::Active, Status::Ok),
        (json!({"drop": true}), 200, LoginState::Active, Status::Ok),
        (json!({"latency_ms": 300, "status": 503}), 200, LoginState::Active, Status::Ok),
        (json!({"aadsts": 50_196}), 200, LoginState::Active, Status::Ok),
        (json!({"aadsts": 7_000_222}), 200, LoginState::Active, Status::Degraded),
        (json!({"aadsts": 50_076, "claims": claims}), 400, LoginState::NeedsInteraction, Status::Ok),
        (json!({"aadsts": 50_076}), 400, LoginState::NeedsInteraction, Status::Ok),
        (json!({"aadsts": 700_082}), 400, LoginState::Dead, Status::Ok),
        (json!({"aadsts": 50_173}), 400, LoginState::Dead, Status::Ok),
        (json!({"aadsts": 50_057}), 400, LoginState::Dead, Status::Ok),
    ] {
        // Each gateway by itself: after a 429 nobody is asked for a while.
        let world = behind_as(&entra, provider).await;
        let (refresh, login) = signed_in(&world, &entra, BOB).await;
        entra.post("/_sim/faults", on_refresh(action.clone())).await.unwrap();
        let answer = world.refresh(&refresh, &[]).await;
        assert_eq!(answer.status, status, "{action}: {}", answer.text);
        control(&entra, http::Method::DELETE, "/_sim/faults", "").await;
        let kept = world.app.grants.login(&tenant, login).await.unwrap().unwrap();
        assert_eq!((kept.state, world.app.sign_in_status()), (left, health), "{action}");
        if status == 400 {
            assert_eq!(answer.error().1, "invalid_grant");
            assert!(answer.text.contains("sign in again"), "{}", answer.text);
            assert_eq!(world.refresh(&refresh, &[]).await.error().1, "invalid_grant");
        } else {
            let (given, asked) = (answer.json(), entra.log("/token").await.unwrap().len());
            world.get("/api/v1/me", given["access_token"].as_str().unwrap()).await.expect(200);
            world.refresh(given["refresh_token"].as_str().unwrap(), &[]).await.expect(200);
            if action["status"] == 429 {
                assert_eq!(entra.log("/token").await.unwrap().len(), asked, "nobody asks before the time");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_entra_says_of_a_person_by_now_is_in_force_for_sessions_and_keys() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let (world, tenant) = (behind(&entra).await, TenantId::default_tenant());
    let state = async |login| world.app.grants.login(&tenant, login).await.unwrap().unwrap().state;
    let (refresh, login) = signed_in(&world, &entra, BOB).await;
    let me = async |given: &Value| world.get("/api/v1/me", given["access_token"].as_str().unwrap()).await;
    let roles = json!({"appRoles": {GATEWAY: ["Mcp.TenantAdmin"]}});
    control(&entra, http::Method::PATCH, &format!("/_sim/users/{BOB}"), &roles.to_string()).await;
    let given = world.refresh(&refresh, &[]).await.expect(200).json();
    assert_eq!(me(&given).await.expect(200).json()["role"], "tenant_admin", "the role of now");
    assert_eq!(state(login).await, LoginState::Active);

    let (second, login) = signed_in(&world, &entra, BOB).await;
    let order = json!({"name": "a script", "username": BOB, "servers": ["*"], "tools": ["*"]});
    let key = world.rest("POST", "/keys", order).await.expect(201).json()["key"].as_str().unwrap().to_owned();
    world.get("/api/v1/me", &key).await.expect(200);
    entra.post(&format!("/_sim/users/{BOB}/disable"), json!({})).await.unwrap();
    assert_eq!(world.refresh(&second, &[]).await.error(), (400, "invalid_grant".to_owned()));
    assert_eq!(state(login).await, LoginState::Dead);
    me(&given).await.expect(401);
    // A key is no session, and ends all the same; nobody but the provider gives it back, at a sign-in.
    world.get("/api/v1/me", &key).await.expect(401);
    entra.post(&format!("/_sim/users/{BOB}/enable"), json!({})).await.unwrap();
    world.get("/api/v1/me", &key).await.expect(401);
    let tokens = entra.token(BOB, json!({})).await.unwrap();
    world.get("/api/v1/me", &tokens).await.expect(401);
    comes_back(&entra, &world, "entra").await;
    let mut browser = Browser::new();
    let page = browser.open(&world.uri("/access")).await.unwrap();
    let there = browser.submit(&page, "provider", &[("provider", "entra")]).await.unwrap();
    let end = entra.sign_in(&mut browser, there, BOB).await.unwrap();
    assert_eq!(end.url.path(), "/access", "{}", end.text());
    world.get("/api/v1/me", &key).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_verified_now_is_told_from_one_that_is_no_good() {
    let Some(entra) = Entra::start(&[]).await.unwrap() else { return };
    let world = behind(&entra).await;
    let token = entra.token(ALICE, json!({})).await.unwrap();
    drop(entra);
    for path in ["/api/v1/me", "/mcp"] {
        let away = world.get(path, &token).await.expect(503);
        assert!(!away.header("retry-after").is_empty(), "{path}: {away:?}");
        assert!(away.text.contains("identity provider") && !away.text.contains("DATABASE"), "{path}: {}", away.text);
    }
    let told = world.get("/api/v1/me", &token).await.json();
    assert_eq!(told["code"], "IDENTITY_PROVIDER_UNAVAILABLE", "{told}");
}

async fn control(entra: &Entra, method: http::Method, path: &str, body: &str) {
    let request = Request::new(method, body.to_owned().into()).header("content-type", "application/json").path(path);
    assert!(Client::new(entra.base_url()).send(request).await.unwrap().status.is_success());
}
