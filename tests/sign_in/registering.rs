//! Clients that register themselves over HTTP.

use serde_json::json;

use crate::world::{REDIRECT, World};

#[tokio::test]
async fn a_flood_of_registrations_is_slowed_down_and_leaves_nothing_behind() {
    let world = World::start().await;
    let metadata = json!({"redirect_uris": [REDIRECT]});
    let mut made = 0;
    let refused = loop {
        let answer = world.register(&metadata, &[]).await;
        if answer.status != 201 {
            break answer;
        }
        assert_eq!(answer.header("cache-control"), "no-store");
        made += 1;
        assert!(made < 1_000, "nobody is slowed down");
    };
    assert_eq!(refused.error(), (429, "temporarily_unavailable".to_owned()));
    assert!(refused.header("retry-after").parse::<u32>().unwrap() >= 1);
    assert_eq!(world.rest("GET", "/oauth-clients", json!(null)).await.expect(200).json()["items"], json!([]));
    let (access, _) = world.tokens("/mcp", "mcp").await;
    world.app.tokens.find(&world.app.store, &access, mcp_registry_gateway::store::now()).await.unwrap();
}

#[tokio::test]
async fn a_registration_that_cannot_be_taken_says_why() {
    let world = World::start().await;
    let register = async |body: &str, kind: &str| {
        world.send("POST", "/oauth/register", &[("content-type", kind)], body).await.error()
    };
    let json = "application/json";
    let large = json!({"redirect_uris": [REDIRECT], "client_uri": "x".repeat(20_000)}).to_string();
    let evil = r#"{"redirect_uris":["javascript:alert(1)"]}"#;
    for (body, kind, status, code) in [
        ("{", json, 400, "invalid_client_metadata"),
        (r#"{"redirect_uris":[]}"#, json, 400, "invalid_redirect_uri"),
        (evil, json, 400, "invalid_redirect_uri"),
        (r#"{"redirect_uris":["https://a.example/cb"]}"#, "text/plain", 400, "invalid_client_metadata"),
        (&large, json, 413, "invalid_client_metadata"),
    ] {
        assert_eq!(register(body, kind).await, (status, code.to_owned()), "{body:.60}");
    }
}

#[tokio::test]
async fn where_registering_takes_a_token_it_is_shown_as_a_bearer() {
    let token = "a-registration-token";
    let world = World::with(&["--client-registration=token", &format!("--client-registration-token={token}")]).await;
    let metadata = json!({"redirect_uris": [REDIRECT]});
    for shown in ["", "Bearer wrong", "Basic YTpi"] {
        let answer = world.register(&metadata, &[("authorization", shown)]).await;
        assert_eq!(answer.error(), (401, "invalid_token".to_owned()), "{shown}");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    world.register(&metadata, &[("authorization", &format!("Bearer {token}"))]).await.expect(201);

    let closed = World::with(&["--client-registration=off"]).await;
    assert_eq!(closed.register(&metadata, &[]).await.error(), (403, "access_denied".to_owned()));
}
