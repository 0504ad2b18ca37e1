//! Servers that want to see the person as Entra does: the gateway gets a token on behalf of each, and what happens when it gets none.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use mcp_registry_gateway::grants::Tokens;
use serde_json::{Value, json};
use testkit::client::{Client, Outcome, Request};
use testkit::entra::{CONTOSO, Entra};
use testkit::jsonrpc::MODERN;
use testkit::upstream::{Eras, Plain};

use crate::entra::{house, leave, whole};
use crate::world::{KEY, World, new_browser};

const ORDERS: &str = "api://orders";
const PAYROLL: &str = "api://55555555-5555-4555-8555-555555555555";
const BEHALF: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// A server behind the gateway for which it gets tokens of this application.
async fn server(world: &World, slug: &str, audience: &str) -> Plain {
    let server = Plain::with(Eras::Dual).await.unwrap();
    let spec = json!({
        "slug": slug, "replicas": [{"url": server.url()}],
        "auth": {"kind": "on_behalf_of", "audience": audience},
        "discovery_auth": {"kind": "headers", "headers": {"Authorization": "Bearer catalogue"}},
    });
    let made = world.rest(Method::POST, "/servers", &spec).await;
    assert_eq!(made["status"]["state"], "ready", "{made}");
    server
}

async fn signed_in(world: &World, entra: &Entra, name: &str) -> Tokens {
    let end = whole(world, entra, &format!("{name}@contoso.onmicrosoft.com")).await;
    world.redeem(&world.client_id, &end).await
}

/// Signed in for one server alone.
async fn signed_in_at(world: &World, entra: &Entra, name: &str, slug: &str) -> Tokens {
    let mut browser = new_browser();
    let resource = world.url(&format!("/mcp/{slug}"));
    let consent = browser.open(&world.authorize(&[("resource", &resource)])).await.unwrap();
    let page = browser.submit(&consent, "decision", &[("decision", "allow:entra")]).await.unwrap();
    let end = entra.sign_in(&mut browser, page, &format!("{name}@contoso.onmicrosoft.com")).await.unwrap();
    world.redeem(&world.client_id, &end).await
}

async fn call(world: &World, credential: &str, slug: &str) -> Outcome {
    let client = Client::new(&format!("{}/mcp", world.running.url())).bearer(credential);
    client.tool(&format!("{slug}__echo"), json!({})).await.unwrap()
}

/// What a token says.
fn claims(shown: &str) -> Value {
    let part = shown.trim_start_matches("Bearer ").split('.').nth(1).unwrap_or_default();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// How often Entra was asked for this grant.
async fn asked(entra: &Entra, grant: &str) -> usize {
    entra.log("/token").await.unwrap().iter().filter(|asked| asked["grant_type"] == grant).count()
}

async fn refresh(world: &World, tokens: &Tokens) -> (u16, String) {
    let token = tokens.refresh.as_ref().unwrap().expose();
    let form = format!("grant_type=refresh_token&refresh_token={token}&client_id={}", world.client_id);
    let request = Request::post(form).header("content-type", "application/x-www-form-urlencoded").path("/oauth/token");
    let reply = Client::new(&world.running.url()).send(request).await.unwrap();
    (reply.status.as_u16(), reply.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_person_comes_with_a_token_of_their_own_for_the_application_behind() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    let orders = server(&world, "orders", ORDERS).await;
    for name in ["alice", "bob"] {
        let tokens = signed_in(&world, &entra, name).await;
        for _ in 0..3 {
            let called = call(&world, tokens.access.expose(), "orders").await;
            assert!(called.result().is_object(), "{called:?}");
        }
        let shown = orders.calls("echo").last().unwrap().header("authorization").to_owned();
        let claims = claims(&shown);
        assert!(claims.to_string().contains(&format!("{name}@contoso")), "{claims}");
        assert_eq!((claims["aud"].as_str(), claims["scp"].as_str()), (Some(ORDERS), Some("Orders.Read")), "{claims}");
        assert!(!shown.contains(tokens.access.expose()));
    }
    assert_eq!(asked(&entra, BEHALF).await, 2, "one for each");
    let own = orders.asked("tools/list");
    assert!(own.iter().all(|asked| asked.header("authorization") == "Bearer catalogue"));

    let by_key = call(&world, KEY, "orders").await;
    assert_eq!(by_key.code(), Some(-31_015), "{by_key:?}");
    assert!(by_key.response.to_string().contains("which an API key does not say; sign in instead"), "{by_key:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_ended_is_renewed_before_it_is_shown_to_entra() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    let orders = server(&world, "orders", ORDERS).await;
    entra.post("/_sim/config", json!({"accessTokenTTL": 10})).await.unwrap();
    let tokens = signed_in(&world, &entra, "alice").await;
    entra.post("/_sim/config", json!({"accessTokenTTL": 3600})).await.unwrap();
    let called = call(&world, tokens.access.expose(), "orders").await;
    assert!(called.result().is_object(), "{called:?}");
    assert_eq!((asked(&entra, "refresh_token").await, asked(&entra, BEHALF).await), (1, 1));
    assert_eq!(orders.calls("echo").len(), 1);
    // What came with it is kept: nothing is renewed for the next server.
    let _more = server(&world, "more", ORDERS).await;
    assert!(call(&world, tokens.access.expose(), "more").await.result().is_object());
    assert_eq!((asked(&entra, "refresh_token").await, asked(&entra, BEHALF).await), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_has_agreed_the_caller_is_told_to_what_and_stays_signed_in() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    let orders = server(&world, "orders", ORDERS).await;
    let tokens = signed_in(&world, &entra, "alice").await;
    let fault = json!({"match": {"endpoint": "token", "grant_type": BEHALF}, "times": -1, "action": {"aadsts": 65001}});
    entra.post("/_sim/faults", fault).await.unwrap();
    for _ in 0..10 {
        let refused = call(&world, tokens.access.expose(), "orders").await;
        assert_eq!(refused.code(), Some(-31_015), "{refused:?}");
        let text = refused.response["error"]["message"].as_str().unwrap();
        assert!(text.starts_with("orders: nobody has agreed that the gateway uses `api://orders`"), "{text}");
        assert!(!text.contains("AADSTS"), "{text}");
    }
    assert_eq!(asked(&entra, BEHALF).await, 1, "Entra is asked once for a while");
    assert!(orders.calls("echo").is_empty());
    assert_eq!(refresh(&world, &tokens).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_to_show_more_signs_in_again_and_nothing_else_ends() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    let payroll = server(&world, "payroll", PAYROLL).await;
    let _orders = server(&world, "orders", ORDERS).await;
    let before = signed_in(&world, &entra, "alice").await;
    let refused = call(&world, before.access.expose(), "payroll").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (401, Some(-31_016)), "{refused:?}");
    let challenge = refused.headers["www-authenticate"].to_str().unwrap().to_owned();
    assert!(challenge.contains("error=\"invalid_token\", error_description=\"sign in again"), "{challenge}");
    assert!(challenge.contains("/.well-known/oauth-protected-resource/mcp\""), "{challenge}");
    // A refresh would give nothing new: the client sends the person to sign in. What they have goes on.
    let (status, answer) = refresh(&world, &before).await;
    assert!(status == 400 && answer.contains("invalid_grant"), "{status} {answer}");
    assert!(call(&world, before.access.expose(), "orders").await.result().is_object());

    let after = signed_in(&world, &entra, "alice").await;
    let called = call(&world, after.access.expose(), "payroll").await;
    assert!(called.result().is_object(), "{called:?}");
    assert_eq!(payroll.calls("echo").len(), 1);
    assert_eq!(refresh(&world, &after).await.0, 200);
    assert_eq!(refresh(&world, &before).await.0, 200, "it was met");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_show_what_one_server_wants_is_asked_once_and_comes_in_all_the_same() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    let _payroll = server(&world, "payroll", PAYROLL).await;
    let _orders = server(&world, "orders", ORDERS).await;
    let before = signed_in(&world, &entra, "alice").await;
    assert_eq!(call(&world, before.access.expose(), "payroll").await.code(), Some(-31_016));
    let (status, answer) = refresh(&world, &before).await;
    assert!(status == 400 && answer.contains("invalid_grant"), "{status} {answer}");
    assert_eq!(refresh(&world, &before).await.0, 200, "it was said");

    // Entra knows the person, and lets nobody in who is asked for more.
    let mut browser = new_browser();
    let page = leave(&world, &mut browser).await;
    let fault = json!({"match": {"endpoint": "authorize"}, "times": 1, "action": {"aadsts": 53003}});
    entra.post("/_sim/faults", fault).await.unwrap();
    let page = entra.sign_in(&mut browser, page, "alice@contoso.onmicrosoft.com").await.unwrap();
    assert!(!page.stopped && page.url.as_str().contains("claims="), "{}", page.url);
    let after = signed_in(&world, &entra, "alice").await;
    assert!(call(&world, after.access.expose(), "orders").await.result().is_object());
    assert_eq!(refresh(&world, &after).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lets_in_people_only_is_used_at_its_own_endpoint_by_each() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    for eras in [Eras::Dual, Eras::Legacy("2025-11-25".into())] {
        let server = Plain::with(eras.clone()).await.unwrap();
        server.set(|settings| settings.instructions = Some("said to one alone".into()));
        server.door(|headers| headers.get("authorization").is_none().then(|| "Bearer".to_owned()));
        let auth = json!({"kind": "on_behalf_of", "audience": ORDERS});
        let slug = if matches!(eras, Eras::Dual) { "dual" } else { "legacy" };
        let spec = json!({"slug": slug, "replicas": [{"url": server.url()}], "auth": auth});
        let made = world.rest(Method::POST, "/servers", &spec).await;
        assert_eq!((&made["status"]["state"], &made["status"]["tools"]), (&json!("ready"), &json!(0)), "{made}");
        assert!(made["status"]["problems"][0].as_str().unwrap().contains("discovery_auth"), "{made}");
        for name in ["alice", "bob"] {
            let tokens = signed_in_at(&world, &entra, name, slug).await;
            for version in [MODERN, "2025-11-25"] {
                let url = format!("{}/mcp/{slug}", world.running.url());
                let client = Client::new(&url).bearer(tokens.access.expose());
                if version != MODERN {
                    client.initialize(version).await.unwrap();
                }
                let listed = client.call("tools/list", json!({})).await.unwrap();
                assert!(listed.result()["tools"].as_array().is_some_and(|tools| !tools.is_empty()), "{listed:?}");
                let called = client.tool("echo", json!({"who": name})).await.unwrap();
                assert!(called.result().is_object(), "{called:?}");
            }
        }
        for call in server.calls("echo") {
            let who = call.json()["params"]["arguments"]["who"].as_str().unwrap().to_owned();
            assert!(claims(call.header("authorization")).to_string().contains(&format!("{who}@contoso")), "{call:?}");
        }
        let key = Client::new(&format!("{}/mcp", world.running.url())).bearer(KEY);
        let about = key.call("tools/list", json!({})).await.unwrap();
        assert!(!about.response.to_string().contains("echo"), "one person's lists are nobody else's: {about:?}");
    }
}
