//! What the audit trail says of tokens: who got them, for whom and for what, and who did not and why; and how an authorization ended
//! whose client alone is told.

use http::Method;
use serde_json::{Value, json};
use testkit::client::{Client, Request};
use testkit::sign_in::with_password;

use crate::assertions::{GRANT, ISSUER, JAG, client, jag, key, public, show, signed};
use crate::exchange::{broker, exchange};
use crate::world::{PASSWORD, REDIRECT, World, browser};

/// The records of an action, the newest first, once there are so many.
async fn records(world: &World, action: &str, count: usize) -> Vec<Value> {
    let look = async {
        loop {
            let found = world.rest("GET", &format!("/admin/audit?limit=500&action={action}"), Value::Null).await;
            let found = found.expect(200).json()["items"].as_array().unwrap().clone();
            if found.len() >= count {
                assert_eq!(found.len(), count, "{found:?}");
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let all = tokio::time::timeout(std::time::Duration::from_secs(30), look).await.expect("it is recorded");
    all.into_iter().map(|item| item["record"].clone()).collect()
}

#[tokio::test]
async fn tokens_are_recorded_with_whom_they_are_for_and_refusals_with_why() {
    let world = World::start().await;
    let user = world.user.to_string();
    let code = world.code("/api/v1", "mcp offline_access").await;
    let given = world.redeem(&code).await.expect(200).json();
    let refresh = given["refresh_token"].as_str().unwrap();
    let next = world.refresh(refresh, &[]).await.expect(200).json();
    // What is not given for it is of the grant that was shown.
    world.refresh(refresh, &[("scope", "admin")]).await.expect(400);
    world.refresh("mcpg_rt_nobodys", &[]).await.expect(400);
    let secret = world.service("night", &["mcp"]).await;
    let own = [("grant_type", "client_credentials"), ("client_id", "night"), ("client_secret", secret.as_str())];
    world.token(&own).await.expect(200);
    world.token(&[&own[..], &[("scope", "admin")]].concat()).await.expect(400);
    world.token(&[own[0], own[1], ("client_secret", "mcpg_cs_wrong")]).await.expect(401);

    let all = records(&world, "auth.token", 7).await;
    let said = |record: &Value| {
        let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        (text("name"), text("outcome"), text("reason"))
    };
    let of = |name: &str, outcome: &str, reason: &str| (name.to_owned(), outcome.to_owned(), reason.to_owned());
    assert_eq!(said(&all[0]), of("client_credentials", "denied", "invalid_client"));
    assert_eq!(said(&all[1]), of("client_credentials", "denied", "scope"));
    assert_eq!(said(&all[2]), of("client_credentials", "success", ""));
    assert_eq!(said(&all[3]), of("refresh_token", "denied", "malformed"));
    assert_eq!(said(&all[4]).1, "denied");
    assert_eq!(said(&all[5]), of("refresh_token", "success", ""));
    assert_eq!(said(&all[6]), of("authorization_code", "success", ""));
    for person in &all[4..] {
        assert_eq!((&person["tenant"], &person["user"]), (&json!("default"), &json!(user)), "{person}");
        assert_eq!(
            (&person["client"], &person["credential"]),
            (&json!(world.client), &all[6]["credential"]),
            "{person}"
        );
    }
    assert!(all[2]["user"].is_string() && all[2]["client"] == "night", "{}", all[2]);
    assert_eq!(all[1]["tenant"], "default", "its client proved who it is: {}", all[1]);
    assert_eq!((all[0].get("tenant"), &all[0]["client"]), (None, &json!("night")), "{}", all[0]);
    for record in &all {
        assert!(record["address"] == "127.0.0.1" && record["request_id"].is_string(), "{record}");
        let text = record.to_string();
        for shown in [&*code, refresh, next["access_token"].as_str().unwrap(), &secret] {
            assert!(!text.contains(shown), "{text}");
        }
    }

    let token = [("token", next["refresh_token"].as_str().unwrap()), ("client_id", world.client.as_str())];
    world.form("/oauth/revoke", &[], &token).await.expect(200);
    let revoked = records(&world, "auth.revoke", 1).await.remove(0);
    assert_eq!((&revoked["user"], &revoked["credential"]), (&json!(user), &all[6]["credential"]), "{revoked}");
    assert_eq!(revoked["client"], world.client, "{revoked}");
}

#[tokio::test]
async fn so_are_machines_that_show_assertions_and_tokens_and_clients_that_register() {
    let world = World::start().await;
    let trust =
        json!({"name": "corp", "issuer": ISSUER, "profiles": ["id_jag"], "role": "user", "jwks": {"keys": [public()]}});
    world.rest("POST", "/trusted-issuers", trust).await.expect(201);
    let secret = client(&world, "editor", json!({"grant_types": [GRANT]})).await;
    let assertion = signed(JAG, &jag(&world, json!({})), &key());
    let given = show(&world, ("editor", &secret), &assertion, &[]).await.expect(200).json();
    show(&world, ("editor", &secret), &assertion, &[]).await.expect(400);
    let broker = broker(&world, "broker", &["mcp", "admin"]).await;
    exchange(&world, ("broker", &broker), given["access_token"].as_str().unwrap(), &[]).await.expect(200);
    let all = records(&world, "auth.token", 3).await;
    let told: Vec<_> = all.iter().map(|record| (&record["client"], &record["outcome"])).collect();
    let (yes, no) = (json!("success"), json!("denied"));
    assert_eq!(told, [(&json!("broker"), &yes), (&json!("editor"), &no), (&json!("editor"), &yes)]);
    assert!(all.iter().all(|record| record["tenant"] == "default"), "{all:?}");
    assert_eq!((&all[0]["user"], &all[1]["reason"]), (&all[2]["user"], &json!("replayed")));

    world.register(&json!({"redirect_uris": ["ftp://nowhere"]}), &[]).await.expect(400);
    let registered = records(&world, "auth.register", 2).await;
    assert_eq!((&registered[0]["outcome"], &registered[1]["client"]), (&no, &json!(world.client)), "{registered:?}");
}

#[tokio::test]
async fn what_a_person_allows_is_recorded_and_an_authorization_that_a_client_is_refused_is_no_success() {
    let world = World::start().await;
    let mut person = browser();
    let consent = world.consent(&mut person, &[]).await;
    with_password(&mut person, &consent, "ada", PASSWORD).await.unwrap();
    let allowed = records(&world, "auth.consent", 1).await.remove(0);
    assert_eq!((&allowed["outcome"], &allowed["reason"]), (&json!("success"), &json!("allowed")), "{allowed}");
    assert_eq!((&allowed["user"], &allowed["client"]), (&json!(world.user), &json!(world.client)), "{allowed}");

    let mut person = browser();
    let consent = world.consent(&mut person, &[]).await;
    person.submit(&consent, "decision", &[("decision", "deny")]).await.unwrap();
    let refused = records(&world, "auth.consent", 2).await.remove(0);
    assert_eq!((&refused["outcome"], &refused["reason"]), (&json!("denied"), &json!("denied")), "{refused}");

    // Without a page, and with an address that is the client's own.
    for (change, outcome, reason) in
        [(("scope", "nothing"), "error", "invalid_scope"), (("prompt", "none"), "error", "login_required")]
    {
        let path = world.authorize(&[change]).split_off(world.url.len());
        let reply = Client::new(&world.url).send(Request::new(Method::GET, "".into()).path(&path)).await.unwrap();
        assert!(reply.headers["location"].to_str().unwrap().starts_with(REDIRECT));
        let id = reply.headers["x-request-id"].to_str().unwrap().to_owned();
        let record = of_request(&world, &id).await;
        assert_eq!((&record["outcome"], &record["reason"]), (&json!(outcome), &json!(reason)), "{record}");
    }
}

/// What is recorded of the request itself.
async fn of_request(world: &World, id: &str) -> Value {
    loop {
        let found = world.rest("GET", &format!("/admin/audit?request_id={id}"), Value::Null).await.expect(200).json();
        let mut found = found["items"].as_array().unwrap().iter().map(|item| &item["record"]);
        if let Some(record) = found.find(|record| record["surface"] == "oauth") {
            return record.clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
