//! The provider is ill while somebody signs in, or changes its keys: whoever has a session keeps it, and who signs in is told what
//! to do: with Entra, and with another provider of OpenID Connect. (What becomes of sessions when the provider is asked again about
//! people is in `entra`.)

use std::time::Duration;

use mcp_registry_gateway::idp::{ENTRA, OIDC};
use serde_json::{Value, json};
use testkit::browser::{Browser, Page};
use testkit::client::{Client, Request};
use testkit::entra::Entra;
use testkit::sign_in::with_provider;

use crate::entra::{ALICE, BOB, house, house_as, house_with, signed_in};
use crate::world::{World, browser};

async fn fault(entra: &Entra, endpoint: &str, action: &Value) {
    let rule = json!({"match": {"endpoint": endpoint}, "times": -1, "action": action});
    entra.post("/_sim/faults", rule).await.unwrap();
}

async fn well_again(entra: &Entra) {
    let request = Request::new(http::Method::DELETE, "".into()).path("/_sim/faults");
    assert!(Client::new(entra.base_url()).send(request).await.unwrap().status.is_success());
}

/// Signs in as far as the provider's own pages: the next step is the callback.
async fn at_the_provider(world: &World, entra: &Entra) -> (Browser, Page) {
    let mut browser = browser().stop_at(&world.uri("/oauth/callback"));
    let consent = world.consent(&mut browser, &[]).await;
    let provider = world.app.providers.names()[0].name;
    let back = with_provider(&mut browser, &consent, provider, entra, ALICE).await.unwrap();
    assert!(back.stopped && back.url.path() == format!("/oauth/callback/{provider}"), "{}", back.url);
    let mut own = crate::world::browser();
    *own.jar() = browser.jar().clone();
    (own, back)
}

async fn comes_back(world: &World, entra: &Entra) -> Page {
    let (mut browser, back) = at_the_provider(world, entra).await;
    browser.open(back.url.as_str()).await.unwrap()
}

#[tokio::test]
async fn who_signs_in_while_the_provider_is_ill_is_told_to_come_back_and_can() {
    ill_at_sign_in(ENTRA).await;
}

#[tokio::test]
async fn who_signs_in_while_another_provider_is_ill_is_told_to_come_back_and_can() {
    ill_at_sign_in(OIDC).await;
}

async fn ill_at_sign_in(provider: &str) {
    let Some(entra) = Entra::start(&[]).await.unwrap() else { return };
    for (endpoint, action, again) in [
        ("token", json!({"status": 503}), true),
        ("token", json!({"status": 500}), true),
        ("token", json!({"drop": true}), true),
        ("token", json!({"status": 429, "retry_after": 120}), false),
        ("token", json!({"aadsts": 90_033}), true),
        // Nobody asks again for the keys at once, as long as there are none.
        ("keys", json!({"status": 503}), false),
        ("keys", json!({"drop": true}), false),
    ] {
        let world = house_as(&entra, provider).await;
        let (mut person, back) = at_the_provider(&world, &entra).await;
        fault(&entra, endpoint, &action).await;
        let page = person.open(back.url.as_str()).await.unwrap();
        well_again(&entra).await;
        assert_eq!((page.status.as_u16(), page.stopped), (503, false), "{action}: {}", page.text());
        let wait: u64 = page.header("retry-after").parse().unwrap();
        assert!(
            if action["retry_after"].is_null() { wait == 60 } else { (1..=120).contains(&wait) },
            "{action}: {wait}"
        );
        assert!(page.text().contains("Please try again in a moment"), "{}", page.text());
        assert!(page.body.contains("error=temporarily_unavailable"), "the program is told so: {}", page.body);
        if again {
            let end = comes_back(&world, &entra).await;
            assert!(end.param("code").is_some(), "{action}: {} {}", end.url, end.text());
        }
    }
    let slow = house_as(&entra, provider).await;
    fault(&entra, "token", &json!({"latency_ms": 300})).await;
    fault(&entra, "keys", &json!({"latency_ms": 300})).await;
    let end = comes_back(&slow, &entra).await;
    assert!(end.param("code").is_some(), "slow is not ill: {} {}", end.url, end.text());
}

#[tokio::test]
async fn an_expired_secret_of_the_gateways_own_is_told_as_such_and_shows_in_its_health() {
    let Some(entra) = Entra::start(&[]).await.unwrap() else { return };
    let world = house_with(&entra, &["--azure-client-secret=gateway-secret-old"]).await;
    let page = comes_back(&world, &entra).await;
    assert_eq!((page.status.as_u16(), page.stopped), (502, false), "{}", page.text());
    assert!(page.text().contains("AADSTS7000222") && !page.text().contains("gateway-secret-old"), "{}", page.text());
    let degraded =
        async || world.send("GET", "/health", &[], "").await.expect(200).json()["components"]["sign-in"] == "degraded";
    let seen = async {
        while !degraded().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), seen).await.expect("health says so");
    world.send("GET", "/health/ready", &[], "").await.expect(200);
}

#[tokio::test]
async fn nobody_can_begin_while_the_provider_does_not_say_where_it_is() {
    let Some(entra) = Entra::start(&[]).await.unwrap() else { return };
    let world = house(&entra).await;
    fault(&entra, "discovery", &json!({"status": 503})).await;
    let mut person = browser();
    let consent = world.consent(&mut person, &[]).await;
    let page = person.submit(&consent, "decision", &[("decision", "allow:entra")]).await.unwrap();
    assert_eq!((page.status.as_u16(), page.stopped), (503, false), "{}", page.text());
}

async fn rotate(entra: &Entra, mode: &str) {
    entra.post("/_sim/keys/rotate", json!({"tenant": "contoso.onmicrosoft.com", "mode": mode})).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_change_between_the_way_there_and_the_way_back_let_people_in_and_end_no_session() {
    Box::pin(keys_change(ENTRA)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_another_provider_that_change_on_the_way_let_people_in_and_end_no_session() {
    Box::pin(keys_change(OIDC)).await;
}

async fn keys_change(provider: &str) {
    let Some(entra) = Entra::start(&[crate::entra::CALLBACK]).await.unwrap() else { return };
    for mode in ["publish", "activate", "retire", "emergency"] {
        let world = house_as(&entra, provider).await;
        // Keys are known before they change, and so are they after the job that looks for them.
        let mut refresh = signed_in(&world, &entra, BOB).await.0;
        let (mut person, back) = at_the_provider(&world, &entra).await;
        rotate(&entra, mode).await;
        world.app.providers.refresh_keys().await.unwrap();
        let end = person.open(back.url.as_str()).await.unwrap();
        assert!(end.param("code").is_some(), "{mode}: {} {}", end.url, end.text());
        // Once more, and this time nobody has looked, nor may for five minutes.
        let (mut person, back) = at_the_provider(&world, &entra).await;
        rotate(&entra, mode).await;
        let end = person.open(back.url.as_str()).await.unwrap();
        if end.stopped {
            assert!(end.param("code").is_some(), "{mode}: {}", end.url);
        } else {
            assert!(matches!(mode, "activate" | "emergency"), "{mode}: {}", end.text());
            assert_eq!(end.status, 503, "later, and not never: {}", end.text());
        }
        for _ in 0..2 {
            let given = world.refresh(&refresh, &[]).await.expect(200).json();
            given["refresh_token"].as_str().unwrap().clone_into(&mut refresh);
            world.get("/api/v1/me", given["access_token"].as_str().unwrap()).await.expect(200);
        }
        world.app.providers.refresh_keys().await.unwrap();
        let end = comes_back(&world, &entra).await;
        assert!(end.param("code").is_some(), "{mode}: {} {}", end.url, end.text());
    }
}
