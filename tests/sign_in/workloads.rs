//! Assertions of a platform about the programs on it, shown for tokens of the services that they are.

use mcp_registry_gateway::store::now;
use serde_json::{Value, json};

use crate::assertions::{GRANT, JAG, client, foreign, invalid, jag, key, public, show, signed, with};
use crate::world::{Answer, World};

const CLUSTER: &str = "https://cluster.example";
const POD: &str = "system:serviceaccount:build:runner";

/// A gateway that trusts a cluster, and a service that is a program on it.
async fn cluster(trust: Value) -> World {
    let world = World::start().await;
    let order = json!({"name": "cluster", "issuer": CLUSTER, "profiles": ["workload"], "jwks": {"keys": [public()]}});
    world.rest("POST", "/trusted-issuers", with(order, trust)).await.expect(201);
    let order = json!({"client_id": "build", "name": "Build", "kind": "service", "workloads": [{"issuer": CLUSTER, "subject": POD}]});
    let made = world.rest("POST", "/oauth-clients", order).await.expect(201).json();
    assert_eq!((made.get("client_secret"), &made["token_endpoint_auth_method"]), (None, &json!("none")));
    assert_eq!(made["grant_types"], json!([GRANT]));
    world
}

fn pod(world: &World, more: Value) -> Value {
    let at = now().unix_timestamp();
    with(json!({"iss": CLUSTER, "sub": POD, "aud": [&world.url], "iat": at, "exp": at + 3_600}), more)
}

async fn as_build(world: &World, assertion: &str, more: &[(&str, &str)]) -> Answer {
    world.token(&[&[("grant_type", GRANT), ("client_id", "build"), ("assertion", assertion)], more].concat()).await
}

#[tokio::test]
async fn a_program_is_the_service_that_its_platform_says_it_is() {
    let world = cluster(json!({})).await;
    let token = signed(None, &pod(&world, json!({})), &key());
    let api = world.uri("/api/v1");
    for _ in 0..2 {
        // It is in a file, and is shown as often as the program comes.
        let given = as_build(&world, &token, &[("resource", &api)]).await.expect(200).json();
        assert_eq!((&given["scope"], given.get("refresh_token")), (&json!("mcp"), None));
        let me = world.get("/api/v1/me", given["access_token"].as_str().unwrap()).await.expect(200).json();
        assert_eq!(
            (&me["name"], &me["session_type"], &me["role"]),
            (&json!("build"), &json!("service"), &json!("user"))
        );
    }
    let soon = signed(None, &pod(&world, json!({"exp": now().unix_timestamp() + 100})), &key());
    let given = as_build(&world, &soon, &[]).await.expect(200).json();
    assert!((1..=160).contains(&given["expires_in"].as_i64().unwrap()), "no longer than the platform says: {given}");

    let at = now().unix_timestamp();
    let mut told = std::collections::BTreeSet::new();
    for change in [
        json!({"iss": "https://other.example"}),
        json!({"sub": "system:serviceaccount:build:other"}),
        json!({"aud": "https://other.example"}),
        json!({"aud": [&world.url, "https://other.example"]}),
        json!({"exp": at - 61}),
        json!({"exp": at + 25 * 3_600}),
        json!({"nbf": at + 120}),
        json!({"authorization_details": [{"type": "calendar"}]}),
    ] {
        let refused = as_build(&world, &signed(None, &pod(&world, change.clone()), &key()), &[]).await;
        assert_eq!(refused.error(), invalid("invalid_grant"), "{change}");
        told.insert(refused.text);
    }
    for (typ, by) in [(JAG, key()), (Some("at+jwt"), key()), (None, foreign())] {
        let refused = as_build(&world, &signed(typ, &pod(&world, json!({})), &by), &[]).await;
        assert_eq!(refused.error(), invalid("invalid_grant"), "{typ:?}");
        told.insert(refused.text);
    }
    assert_eq!(told.len(), 1, "whoever is not the program learns nothing of whom we trust: {told:?}");
    for (more, code) in
        [(("scope", "admin"), "invalid_scope"), (("resource", "https://other.example"), "invalid_target")]
    {
        assert_eq!(as_build(&world, &token, &[more]).await.error(), invalid(code), "{more:?}");
    }
    let bare = [("grant_type", "client_credentials"), ("client_id", "build")];
    assert_eq!(world.token(&bare).await.error(), invalid("unauthorized_client"), "the assertion is all its proof");
    let secret = as_build(&world, &token, &[("client_secret", "x")]).await;
    assert_eq!(secret.error(), (401, "invalid_client".into()));

    let last = as_build(&world, &token, &[("resource", &api)]).await.expect(200).json();
    world.rest("DELETE", "/trusted-issuers/cluster", Value::Null).await.expect(204);
    world.get("/api/v1/me", last["access_token"].as_str().unwrap()).await.expect(401);
    assert_eq!(as_build(&world, &token, &[]).await.error(), invalid("invalid_grant"), "trusted no longer");
    world.rest("PATCH", "/users/build", json!({"state": "disabled"})).await.expect(200);
    assert_eq!(as_build(&world, &token, &[]).await.error(), (401, "invalid_client".into()));
    let text = world.metrics().await;
    for (result, reason) in
        [("success", ""), ("failure", "other_workload"), ("failure", "audience"), ("failure", "untrusted")]
    {
        let line = format!("method=\"client_credentials\",result=\"{result}\",reason=\"{reason}\"}}");
        assert!(text.contains(&line), "{line}: {text}");
    }
}

#[tokio::test]
async fn a_platform_may_say_another_audience_and_vouches_for_no_people() {
    let world = cluster(json!({"audience": "api://gateway"})).await;
    let given = |aud: &str| signed(None, &pod(&world, json!({"aud": aud})), &key());
    as_build(&world, &given("api://gateway"), &[]).await.expect(200);
    assert_eq!(as_build(&world, &given(&world.url), &[]).await.error(), invalid("invalid_grant"));
    let secret = client(&world, "editor", json!({"grant_types": [GRANT]})).await;
    let said = jag(&world, json!({"iss": CLUSTER}));
    let refused = show(&world, ("editor", &secret), &signed(JAG, &said, &key()), &[]).await;
    assert!(
        refused.error() == invalid("invalid_grant") && refused.text.contains("nobody here trusts"),
        "{}",
        refused.text
    );
}

#[tokio::test]
async fn who_says_whom_to_trust_gives_no_program_a_greater_role_than_the_own() {
    let world = World::start().await;
    let boss = json!({
        "client_id": "build", "name": "Build", "kind": "service", "role": "admin", "scopes": ["mcp", "admin"],
        "workloads": [{"issuer": CLUSTER, "subject": POD}],
    });
    world.rest("POST", "/oauth-clients", boss).await.expect(201);
    let (ada, _) = world.tokens("/api/v1", "mcp admin").await;
    let bearer = format!("Bearer {ada}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let order = json!({"name": "cluster", "issuer": CLUSTER, "profiles": ["workload"], "jwks": {"keys": [public()]}});
    world.send("POST", "/api/v1/trusted-issuers", &headers, &order.to_string()).await.expect(201);
    let token = signed(None, &pod(&world, json!({})), &key());
    assert_eq!(as_build(&world, &token, &[]).await.error(), invalid("invalid_grant"), "she could sign it herself");

    world.rest("DELETE", "/trusted-issuers/cluster", Value::Null).await.expect(204);
    world.rest("POST", "/trusted-issuers", order).await.expect(201);
    as_build(&world, &token, &[]).await.expect(200);
    world.send("DELETE", "/api/v1/trusted-issuers/cluster", &headers, "").await.expect(403);
}
