//! With a password of the gateway: the whole way, a no, and what a wrong password gets.

use http::Method;
use mcp_registry_gateway::grants::{Step, TraceFilter};
use serde_json::json;

use crate::world::{PASSWORD, World, new_browser};

#[tokio::test]
async fn a_person_allows_a_program_and_it_gets_a_code_that_is_good() {
    let world = World::new().await;
    let mut browser = new_browser();
    let consent = browser.open(&world.authorize(&[("scope", "mcp offline_access admin")])).await.unwrap();
    let text = consent.text();
    assert!(text.contains("Editor") && text.contains("nobody has checked its name"), "{text}");
    assert!(
        text.contains("127.0.0.1:7777") && text.contains("your own computer"),
        "the whole host, and what it is: {text}"
    );
    assert!(text.contains(&world.url("/mcp")) && text.contains("stay connected") && !text.contains("manage"), "{text}");
    let cookie = browser.jar().names()[0].to_owned();
    assert!(cookie.starts_with("mcpg-txn-") && browser.jar().is_guarded(&cookie), "{cookie}");

    let end = world.sign_in(&mut browser, &consent).await;
    assert!(end.stopped, "{} {}", end.url, end.text());
    assert_eq!(end.param("state").unwrap(), "the client's & own");
    assert_eq!(end.param("iss").unwrap(), world.app.issuer.as_str());
    assert!(browser.jar().names().is_empty(), "nothing is left of the sign-in");
    let tokens = world.redeem(&world.client_id, &end).await;
    assert!(tokens.access.expose().starts_with("mcpg_at_") && tokens.refresh.is_some());
    assert_eq!(world.steps().await, "authorize client request consent account code → under_way");
    let metrics = world.metrics().await;
    let counted = "mcp_auth_events_total{tenant_id=\"default\",method=\"login\",result=\"success\",reason=\"\"} 1";
    assert!(
        metrics.contains(counted)
            && metrics.contains("mcp_user_logins_total{tenant_id=\"default\",login_method=\"local\""),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_no_goes_back_to_the_program_from_either_page() {
    let world = World::new().await;
    for at_password in [false, true] {
        let mut browser = new_browser();
        let mut page = browser.open(&world.authorize(&[])).await.unwrap();
        if at_password {
            page = browser.submit(&page, "decision", &[("decision", "allow:local")]).await.unwrap();
        }
        let form = page.forms().into_iter().find(|form| form.action.ends_with("/oauth/consent")).unwrap();
        let end = browser.send(&page, &form.filled(&[("decision", "deny")])).await.unwrap();
        assert_eq!(end.param("error").as_deref(), Some("access_denied"), "{}", end.url);
        assert_eq!(end.param("iss").unwrap(), world.app.issuer.as_str());
        assert_eq!(end.param("state").unwrap(), "the client's & own");
        assert!(browser.jar().names().is_empty());
        assert!(world.steps().await.ends_with("!consent → failure"), "{}", world.steps().await);
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_and_too_many_must_wait() {
    let world = World::new().await;
    let mut browser = new_browser();
    let consent = browser.open(&world.authorize(&[])).await.unwrap();
    let mut page = browser.submit(&consent, "decision", &[("decision", "allow:local")]).await.unwrap();
    for _ in 0..10 {
        page = browser.submit(&page, "username", &[("username", "ada"), ("password", "guessed")]).await.unwrap();
        assert_eq!(page.status, 403);
        assert!(page.text().contains("user name or the password is wrong"), "{}", page.text());
    }
    page = browser.submit(&page, "username", &[("username", "ada"), ("password", PASSWORD)]).await.unwrap();
    assert_eq!(page.status, 429);
    assert!(
        page.text().contains("Too many wrong passwords") && !page.header("retry-after").is_empty(),
        "{}",
        page.text()
    );
    assert!(!page.body.contains(PASSWORD), "what was typed is not shown");
}

#[tokio::test]
async fn a_disabled_account_is_as_good_as_none() {
    let world = World::new().await;
    world.rest(Method::PATCH, "/users/ada", &json!({ "state": "disabled" })).await;
    let mut browser = new_browser();
    let consent = browser.open(&world.authorize(&[])).await.unwrap();
    let page = world.sign_in(&mut browser, &consent).await;
    assert_eq!(page.status, 403);
    assert!(page.text().contains("user name or the password is wrong"), "{}", page.text());
}

#[tokio::test]
async fn a_registered_program_is_named_as_such_and_asks_within_its_scopes() {
    let world = World::new().await;
    let order = json!({
        "client_id": "desk", "name": "The desk", "kind": "public", "redirect_uris": ["http://127.0.0.1/callback"],
        "scopes": ["mcp"],
    });
    world.rest(Method::POST, "/oauth-clients", &order).await;
    let mut browser = new_browser();
    let asked =
        [("client_id", "desk"), ("scope", "mcp offline_access"), ("redirect_uri", "http://127.0.0.1:7777/callback")];
    let consent = browser.open(&world.authorize(&asked)).await.unwrap();
    assert!(consent.text().contains("An administrator of this gateway registered"), "{}", consent.text());
    assert!(!consent.text().contains("stay connected"), "{}", consent.text());
    let end = world.sign_in(&mut browser, &consent).await;
    assert!(world.redeem("desk", &end).await.refresh.is_none());
    let only = browser.open(&world.authorize(&[("client_id", "desk"), ("redirect_uri", "")])).await.unwrap();
    assert_eq!(only.status, 200, "the only redirect URI need not be named");
    let traces = world.app.grants.traces(TraceFilter::default(), None, 9).await.unwrap();
    assert!(traces.len() >= 2);
    // Not of which tenant: the person may be of another one.
    let of_client = |step: &Step| step.detail.starts_with("registered by an administrator; answered at");
    assert!(traces.iter().all(|trace| trace.steps.iter().any(of_client)), "{traces:?}");
}
