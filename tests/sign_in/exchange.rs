//! Tokens exchanged for tokens that may less (RFC 8693).

use mcp_registry_gateway::grants::{GrantKind, Issue, MOST_AT_ONCE, Order, ScopeSet};
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::store::now;
use serde_json::{Value, json};

use crate::world::{Answer, Door, World};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// A client that exchanges tokens; its secret.
pub async fn broker(world: &Door, id: &str, scopes: &[&str]) -> String {
    let order = json!({"client_id": id, "name": id, "kind": "confidential", "grant_types": [GRANT], "scopes": scopes});
    let made = world.rest("POST", "/oauth-clients", order).await.expect(201).json();
    made["client_secret"].as_str().unwrap().to_owned()
}

pub async fn exchange(world: &Door, (id, secret): (&str, &str), token: &str, more: &[(&str, &str)]) -> Answer {
    let own = [
        ("grant_type", GRANT),
        ("client_id", id),
        ("client_secret", secret),
        ("subject_token", token),
        ("subject_token_type", ACCESS_TOKEN),
    ];
    let kept = own.into_iter().filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
    world.token(&kept.chain(more.iter().copied()).collect::<Vec<_>>()).await
}

fn access(answer: Answer) -> String {
    answer.expect(200).json()["access_token"].as_str().unwrap().to_owned()
}

fn invalid(code: &str) -> (u16, String) {
    (400, code.to_owned())
}

#[tokio::test]
async fn a_token_for_all_servers_is_exchanged_for_one_server_and_ends_with_the_first() {
    let world = World::start().await;
    let secret = broker(&world, "broker", &["mcp"]).await;
    let me = ("broker", secret.as_str());
    let (token, refresh) = world.tokens("/mcp", "mcp offline_access").await;
    let files = world.uri("/mcp/files");
    let answer = exchange(&world, me, &token, &[("resource", &files), ("requested_token_type", ACCESS_TOKEN)]).await;
    let given = answer.json();
    assert_eq!((&given["issued_token_type"], &given["token_type"]), (&json!(ACCESS_TOKEN), &json!("Bearer")));
    assert_eq!((&given["scope"], given.get("refresh_token")), (&json!("mcp"), None));
    let narrow = access(answer);
    world.get("/mcp", &narrow).await.expect(401);
    assert_ne!(world.get("/mcp/files", &narrow).await.status, 401);

    // Again for less, by another one; never back for more.
    let second = broker(&world, "second", &["mcp"]).await;
    let further = access(exchange(&world, ("second", &second), &narrow, &[]).await);
    assert_ne!(world.get("/mcp/files", &further).await.status, 401);
    for wider in [world.uri("/mcp"), world.uri("/mcp/mail"), world.uri("/api/v1"), "https://other.example/mcp".into()] {
        assert_eq!(
            exchange(&world, me, &narrow, &[("resource", &wider)]).await.error(),
            invalid("invalid_target"),
            "{wider}"
        );
    }

    // The refresh ends nothing; giving the first one back ends all that came of it.
    world.refresh(&refresh, &[]).await.expect(200);
    assert_ne!(world.get("/mcp/files", &further).await.status, 401);
    let fields = [("token", refresh.as_str()), ("client_id", &world.client)];
    world.form("/oauth/revoke", &[], &fields).await.expect(200);
    for token in [&narrow, &further] {
        world.get("/mcp/files", token).await.expect(401);
        assert_eq!(exchange(&world, me, token, &[]).await.error(), invalid("invalid_request"));
    }
    let text = world.metrics().await;
    for (result, reason) in [("success", ""), ("failure", "resource"), ("failure", "ended")] {
        let line = format!("{{tenant_id=\"default\",method=\"validate\",result=\"{result}\",reason=\"{reason}\"}}");
        assert!(text.contains(&line), "{line}: {text}");
    }
}

#[tokio::test]
async fn nothing_grows_by_an_exchange() {
    let world = World::start().await;
    let all = broker(&world, "all", &["mcp", "admin"]).await;
    let few = broker(&world, "few", &["mcp"]).await;
    let (all, few) = (("all", all.as_str()), ("few", few.as_str()));
    let (api, _) = world.tokens("/api/v1", "mcp admin offline_access").await;
    let (plain, _) = world.tokens("/api/v1", "mcp").await;
    for (who, token, scope, expected) in [
        (all, &api, None, "mcp admin"),
        (all, &api, Some("mcp"), "mcp"),
        (all, &api, Some("mcp offline_access"), "mcp"),
        (few, &api, None, "mcp"),
        (few, &api, Some("mcp admin"), "invalid_scope"),
        (all, &plain, None, "mcp"),
        (all, &plain, Some("admin"), "invalid_scope"),
        (all, &plain, Some("unknown"), "invalid_scope"),
        (all, &plain, Some("offline_access"), "invalid_scope"),
    ] {
        let more: Vec<_> = scope.map(|scope| ("scope", scope)).into_iter().collect();
        let answer = exchange(&world, who, token, &more).await;
        let got = if answer.status == 200 { answer.json()["scope"].clone() } else { json!(answer.error().1) };
        assert_eq!(got, expected, "{} {scope:?}", who.0);
    }
    // Nor does it last longer, however often it is exchanged.
    let user = world.user.to_string();
    let given = exchange(&world, all, &api, &[("scope", "mcp")]).await.expect(200).json();
    let lasts = given["expires_in"].as_i64().unwrap();
    let narrow = given["access_token"].as_str().unwrap().to_owned();
    let again = exchange(&world, few, &narrow, &[]).await.expect(200).json();
    assert!((1..=lasts).contains(&again["expires_in"].as_i64().unwrap()), "{again}");
    assert_eq!(world.get("/api/v1/me", &narrow).await.expect(200).json()["user_id"], json!(user));
    world.rest("PATCH", &format!("/users/{user}"), json!({"state": "disabled"})).await.expect(200);
    assert_eq!(exchange(&world, few, &narrow, &[]).await.error(), invalid("invalid_request"));
}

#[tokio::test]
async fn what_is_no_request_for_an_exchange_is_told_what_is_wrong_with_it() {
    let world = World::start().await;
    let secret = broker(&world, "broker", &["mcp"]).await;
    let (token, refresh) = world.tokens("/mcp", "mcp offline_access").await;
    let unknown = mcp_registry_gateway::crypto::new_token(mcp_registry_gateway::crypto::TokenKind::Access);
    let jag = "urn:ietf:params:oauth:token-type:id-jag";
    for (more, code) in [
        (("subject_token", ""), "invalid_request"),
        (("subject_token", refresh.as_str()), "invalid_request"),
        (("subject_token", crate::world::KEY), "invalid_request"),
        (("subject_token", unknown.expose()), "invalid_request"),
        (("subject_token", "a.b.c"), "invalid_request"),
        (("subject_token_type", ""), "invalid_request"),
        (("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"), "invalid_request"),
        (("subject_token_type", JWT), "invalid_request"),
        (("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"), "invalid_request"),
        (("requested_token_type", jag), "invalid_request"),
        (("actor_token", "x"), "invalid_request"),
        (("actor_token_type", ACCESS_TOKEN), "invalid_request"),
        (("audience", "files"), "invalid_target"),
    ] {
        assert_eq!(exchange(&world, ("broker", &secret), &token, &[more]).await.error(), invalid(code), "{more:?}");
    }
    let of_client = exchange(&world, ("broker", &secret), &token, &[("client_secret", "wrong")]).await;
    assert_eq!(of_client.error(), (401, "invalid_client".into()));
    let service = world.service("night", &["mcp"]).await;
    assert_eq!(exchange(&world, ("night", &service), &token, &[]).await.error(), invalid("unauthorized_client"));
    let fields = [
        ("grant_type", GRANT),
        ("client_id", world.client.as_str()),
        ("subject_token", token.as_str()),
        ("subject_token_type", ACCESS_TOKEN),
    ];
    assert_eq!(world.token(&fields).await.error(), invalid("unauthorized_client"), "nobody who registered itself");
}

#[tokio::test]
async fn a_services_token_stays_a_services_and_another_tenants_is_nobodys() {
    let world = World::start().await;
    let secret = broker(&world, "broker", &["mcp"]).await;
    let service = world.service("night", &["mcp"]).await;
    let own = [("grant_type", "client_credentials"), ("client_id", "night"), ("client_secret", service.as_str())];
    let token = access(world.token(&[&own[..], &[("resource", &world.uri("/api/v1"))]].concat()).await);
    let given = access(exchange(&world, ("broker", &secret), &token, &[]).await);
    let me = world.get("/api/v1/me", &given).await.expect(200).json();
    assert_eq!((&me["name"], &me["session_type"]), (&json!("night"), &json!("service")));

    let acme = world.app.store.add_tenant("acme", "Acme").await.unwrap();
    let at = mcp_registry_gateway::store::micros(now());
    let row = mcp_registry_gateway::store::users::UserRow {
        id: uuid::Uuid::now_v7(),
        tenant_id: "acme".into(),
        username: "eve".into(),
        role: "user".into(),
        state: "active".into(),
        created_at: at,
        updated_at: at,
        ..Default::default()
    };
    world.app.store.insert_user(&acme, &row).await.unwrap();
    let order = Order {
        tenant: acme,
        user: row.id,
        client_id: "theirs".into(),
        client_name: None,
        resource: world.uri("/mcp"),
        scopes: ScopeSet::DEFAULT,
        login_method: "local".into(),
        login: None,
    };
    let how = Issue::alone(GrantKind::Client);
    let theirs = world.app.grants.issue(&order, how, now()).await.unwrap().access;
    let refused = exchange(&world, ("broker", &secret), theirs.expose(), &[]).await;
    let unknown = exchange(&world, ("broker", &secret), "mcpg_at_unknown", &[]).await;
    assert_eq!((refused.error(), &refused.text), (invalid("invalid_request"), &unknown.text));
    assert_ne!(world.get("/mcp", theirs.expose()).await.status, 401, "it was good all the while");
    assert_eq!(world.rest("GET", "/trusted-issuers", Value::Null).await.expect(200).json()["items"], json!([]));
}

#[tokio::test]
async fn of_more_than_a_person_needs_the_oldest_ends_and_no_sign_in() {
    let world = World::start().await;
    let secret = broker(&world, "broker", &["mcp"]).await;
    let (token, _) = world.tokens("/mcp", "mcp").await;
    let narrower = async || access(exchange(&world, ("broker", &secret), &token, &[]).await);
    let grants = &world.app.grants;
    let is_good = async |token: &str| grants.exchangeable(token, None, now()).await.is_ok();
    let first = narrower().await;
    let order = Order {
        tenant: TenantId::default_tenant(),
        user: world.user,
        client_id: "broker".to_owned(),
        client_name: None,
        resource: world.uri("/mcp"),
        scopes: ScopeSet::DEFAULT,
        login_method: "local".to_owned(),
        login: None,
    };
    for _ in 1..MOST_AT_ONCE {
        grants.issue(&order, Issue::alone(GrantKind::Client), now()).await.unwrap();
    }
    assert!(is_good(&first).await);
    let last = narrower().await;
    assert!(!is_good(&first).await && is_good(&last).await && is_good(&token).await);
}

#[tokio::test]
async fn of_more_than_a_service_needs_the_oldest_ends_and_nothing_that_another_client_has_of_it() {
    let world = World::start().await;
    let secret = world.service("night", &["mcp"]).await;
    let broker = broker(&world, "broker", &["mcp"]).await;
    let own = [("grant_type", "client_credentials"), ("client_id", "night"), ("client_secret", secret.as_str())];
    let ask = async || access(world.token(&own).await);
    let grants = &world.app.grants;
    let first = ask().await;
    let shown = grants.exchangeable(&first, None, now()).await.unwrap();
    let order = Order {
        tenant: shown.tenant,
        user: shown.user,
        client_id: "night".to_owned(),
        client_name: None,
        resource: shown.resource,
        scopes: shown.scopes,
        login_method: shown.login_method,
        login: None,
    };
    for _ in 2..MOST_AT_ONCE {
        grants.issue(&order, Issue::alone(GrantKind::Service), now()).await.unwrap();
    }
    let second = ask().await;
    let handed_on = access(exchange(&world, ("broker", &broker), &second, &[]).await);
    let is_good = async |token: &str| grants.exchangeable(token, None, now()).await.is_ok();
    assert!(is_good(&first).await, "what the broker has is its own");
    let last = ask().await;
    assert!(!is_good(&first).await && is_good(&second).await && is_good(&last).await && is_good(&handed_on).await);
    world.get("/mcp", &first).await.expect(401);
}
