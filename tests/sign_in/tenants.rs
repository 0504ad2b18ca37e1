//! Whose the people of a provider without directories are.

use std::sync::{Arc, Mutex};

use axum::routing::{get, post};
use axum::{Json, Router};
use mcp_registry_gateway::access::Role;
use mcp_registry_gateway::grants::TraceFilter;
use mcp_registry_gateway::idp::{Claimed, Person};
use mcp_registry_gateway::store::now;
use serde_json::json;

use crate::assertions::{key, public, signed};
use crate::world::{World, browser};

fn grace() -> Person {
    Person {
        groups: Vec::new(),
        app_roles: Vec::new(),
        groups_missing: false,
        issuer: "https://login.example/realm".to_owned(),
        subject: "u-1".to_owned(),
        directory: None,
        username: "grace".to_owned(),
        display_name: None,
        role: Some(Role::Admin),
        claimed: Claimed::default(),
        guest: false,
        app_only: false,
        authenticated_at: None,
    }
}

#[tokio::test]
async fn what_a_provider_counts_people_among_is_kept_for_access_rules() {
    let world = World::start().await;
    let group = uuid::Uuid::from_u128(0xaaaa_0000_0000_4000_8000_0000_0000_0001);
    let kept = async |person: Person| {
        let known = world.app.account_of(&person, Role::User, now()).await.unwrap();
        world.app.store.memberships(&known.tenant, known.id).await.unwrap().unwrap()
    };
    let finance = vec!["Finance".to_owned()];
    let first = Person { groups: vec![group], app_roles: finance.clone(), ..grace() };
    assert_eq!(kept(first).await, format!("g {group}\nr Finance\n"));
    assert_eq!(
        kept(Person { app_roles: finance, ..grace() }).await,
        "r Finance\n",
        "who left a group is in it no more"
    );
    assert_eq!(
        kept(Person { groups_missing: true, ..grace() }).await,
        "?\n",
        "what was not said is known to be unknown"
    );
}

#[tokio::test]
async fn people_of_another_provider_are_of_the_tenant_in_the_settings() {
    let world = World::start().await;
    let known = world.app.account_of(&grace(), Role::Admin, now()).await.unwrap();
    assert_eq!((known.tenant.as_str(), known.role), ("default", Role::Admin));

    let world = World::with(&["--oidc-tenant=acme"]).await;
    let refused = world.app.account_of(&grace(), Role::Admin, now()).await.unwrap_err();
    assert_eq!(refused.reason, "no_tenant");
    assert!(refused.detail.contains("`acme`") && refused.detail.contains("MREG_OIDC_TENANT"), "{}", refused.detail);
    world.rest("POST", "/admin/tenants", json!({"tenant_id": "acme"})).await.expect(201);
    let known = world.app.account_of(&grace(), Role::Admin, now()).await.unwrap();
    assert_eq!((known.tenant.as_str(), known.role), ("acme", Role::TenantAdmin));
    let taken = json!({"tenant_id": "other", "entra_tenant_ids": ["fab00000-0000-4000-8000-000000000002"]});
    world.rest("POST", "/admin/tenants", taken).await.expect(201);
    assert!(!world.app.account_of(&grace(), Role::Admin, now()).await.unwrap().is_new, "directories are Entra's");
}

/// A provider that says of everybody that they proved who they are an hour ago: its address, and where the nonce of the next
/// sign-in is put.
async fn provider() -> (String, Arc<Mutex<String>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let nonce = Arc::<Mutex<String>>::default();
    let at = |path: &str| format!("{base}{path}");
    let found = json!({
        "issuer": base, "authorization_endpoint": at("/authorize"), "token_endpoint": at("/token"), "jwks_uri": at("/keys"),
    });
    let (issuer, said) = (base.clone(), Arc::clone(&nonce));
    let token = async move || {
        let at = now().unix_timestamp();
        let claims = json!({
            "iss": issuer, "sub": "u-1", "aud": "gateway", "iat": at, "exp": at + 300, "auth_time": at - 3_600,
            "nonce": *said.lock().unwrap(), "preferred_username": "grace",
        });
        Json(json!({"access_token": "x", "token_type": "Bearer", "id_token": signed(None, &claims, &key())}))
    };
    let router = Router::new()
        .route("/.well-known/openid-configuration", get(Json(found)))
        .route("/keys", get(Json(json!({"keys": [public()]}))))
        .route("/token", post(token));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (base, nonce)
}

#[tokio::test]
async fn who_did_not_sign_in_anew_is_counted_for_the_tenant_in_the_settings() {
    let (issuer, nonce) = provider().await;
    let world = World::with(&[
        &format!("--oidc-issuer={issuer}"),
        "--oidc-client-id=gateway",
        "--oidc-client-secret=the-word-of-the-gateway-there",
        "--oidc-role-user=*",
        "--oidc-tenant=acme",
    ])
    .await;
    world.rest("POST", "/admin/tenants", json!({"tenant_id": "acme"})).await.expect(201);
    let mut person = browser().stop_at(&issuer);
    let consent = world.consent(&mut person, &[("max_age", "60")]).await;
    let leaves = person.submit(&consent, "decision", &[("decision", "allow:oidc")]).await.unwrap();
    assert_eq!(leaves.param("prompt").as_deref(), Some("login"), "{}", leaves.url);
    *nonce.lock().unwrap() = leaves.param("nonce").unwrap();
    let back = format!("/oauth/callback/oidc?code=x&state={}", leaves.param("state").unwrap());
    let page = person.open(&world.uri(&back)).await.unwrap();
    assert!(page.text().contains("asks that you sign in anew"), "{} {}", page.status, page.text());

    let line = "mcp_auth_events_total{tenant_id=\"acme\",method=\"login\",result=\"failure\",reason=\"not_anew\"} 1";
    let counted = world.metrics().await;
    assert!(counted.contains(line), "{counted}");
    let traces = world.app.grants.traces(TraceFilter::default(), None, 1).await.unwrap();
    assert_eq!((traces[0].tenant.as_deref(), traces[0].username.as_deref()), (Some("acme"), Some("grace")));
}
