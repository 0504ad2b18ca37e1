//! "My access": what one sees there is one's own, and ends when one says so.

use http::Method;
use mcp_registry_gateway::grants::{GrantKind, Issue, MOST_IN_BROWSERS, Order, ScopeSet};
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::store::now;
use serde_json::json;

use crate::world::{PASSWORD, World, new_browser};

#[tokio::test]
async fn programs_and_keys_are_seen_and_ended() {
    let world = World::new().await;
    let mut editor = new_browser();
    let consent = editor.open(&world.authorize(&[])).await.unwrap();
    let end = world.sign_in(&mut editor, &consent).await;
    let tokens = world.redeem(&world.client_id, &end).await;
    let order = json!({ "name": "a script", "username": "ada", "servers": ["*"], "tools": ["*"] });
    let key = world.rest(Method::POST, "/keys", &order).await["key"].as_str().unwrap().to_owned();

    let (mut browser, page) = world.signed_in().await;
    for shown in ["ada", "Editor", "/mcp: use servers", "a script", "(this browser)"] {
        assert!(page.text().contains(shown), "{shown}: {}", page.text());
    }
    assert!(!page.body.contains(tokens.access.expose()) && !page.body.contains(&key));
    assert!(browser.jar().is_guarded("mcpg-session"));
    for (kind, name) in [("grant", "Editor"), ("key", "a script")] {
        let page = browser.open(&world.url("/access")).await.unwrap();
        let form = page.forms().into_iter().find(|form| form.has(kind)).unwrap();
        let id = form.choices[0].1.clone();
        let forged = form.filled(&[(kind, &id), ("csrf", "guessed")]);
        assert_eq!(browser.send(&page, &forged).await.unwrap().status, 403);
        assert_eq!(new_browser().send(&page, &form.filled(&[(kind, &id)])).await.unwrap().status, 403, "no session");
        let page = browser.send(&page, &form.filled(&[(kind, &id)])).await.unwrap();
        assert!(page.url.path() == "/access" && !page.text().contains(name), "{name} is gone: {}", page.text());
    }
    assert!(world.app.keyring.authenticate(&key, now()).is_err(), "and no good any more");
    let caller = world.app.tokens.find(&world.app.store, tokens.access.expose(), now()).await;
    assert!(caller.is_err());
}

#[tokio::test]
async fn of_sessions_in_browsers_without_end_the_oldest_gives_way() {
    let world = World::new().await;
    let (mut oldest, _) = world.signed_in().await;
    let (mut second, page) = world.signed_in().await;
    let cookie = second.jar().header(&page.url).unwrap();
    let own = cookie.split("; ").find_map(|cookie| cookie.strip_prefix("mcpg-session=")).unwrap();
    let account = world.app.grants.session(own, now()).await.unwrap().unwrap().account;
    for _ in 0..MOST_IN_BROWSERS - 2 {
        world.app.grants.open_session(&account, "local", None, now()).await.unwrap();
    }
    assert_eq!(oldest.open(&world.url("/access")).await.unwrap().url.path(), "/access");
    world.signed_in().await;
    assert_eq!(oldest.open(&world.url("/access")).await.unwrap().url.path(), "/oauth/sign-in");
    assert_eq!(second.open(&world.url("/access")).await.unwrap().url.path(), "/access");
}

#[tokio::test]
async fn what_is_somebody_elses_cannot_be_ended() {
    let world = World::new().await;
    let bea = world.rest(Method::POST, "/users", &json!({ "username": "bea" })).await;
    let bea: uuid::Uuid = bea["id"].as_str().unwrap().parse().unwrap();
    let order = Order {
        tenant: TenantId::default_tenant(),
        user: bea,
        client_id: world.client_id.clone(),
        client_name: None,
        resource: world.url("/mcp"),
        scopes: ScopeSet::DEFAULT,
        login_method: "local".to_owned(),
        login: None,
    };
    let hers = world.app.grants.issue(&order, Issue::alone(GrantKind::Client), now()).await.unwrap();
    let order = json!({ "name": "hers", "username": "bea", "servers": ["*"], "tools": ["*"] });
    let made = world.rest(Method::POST, "/keys", &order).await;
    let (mut browser, page) = world.signed_in().await;
    for (kind, id) in [("key", made["id"].as_str().unwrap()), ("grant", &hers.grant.to_string())] {
        let form = page.form("everything").unwrap().filled(&[(kind, id)]);
        browser.send(&page, &form).await.unwrap();
    }
    let live = world.app.grants.of_user(&TenantId::default_tenant(), bea, now()).await.unwrap();
    assert_eq!(live.iter().map(|grant| grant.id).collect::<Vec<_>>(), [hers.grant]);
    assert!(world.app.keyring.authenticate(made["key"].as_str().unwrap(), now()).is_ok());
}

#[tokio::test]
async fn signing_out_of_everything_ends_all_browsers_and_programs() {
    let world = World::new().await;
    let (mut one, page) = world.signed_in().await;
    let (mut two, _) = world.signed_in().await;
    let login = json!({ "username": "ada", "password": PASSWORD });
    let key = world.rest(Method::POST, "/login", &login).await["key"].as_str().unwrap().to_owned();
    assert!(world.app.keyring.authenticate(&key, now()).is_ok());
    let out = one.submit(&page, "everything", &[("everything", "yes")]).await.unwrap();
    assert!(out.text().contains("You are signed out") && one.jar().names().is_empty(), "{}", out.text());
    assert!(world.app.keyring.authenticate(&key, now()).is_err(), "and what the command line signed in with");
    let page = two.open(&world.url("/access")).await.unwrap();
    assert_eq!(page.url.path(), "/oauth/sign-in", "the other one as well");
    let page = two.submit(&page, "username", &[("username", "ada"), ("password", PASSWORD)]).await.unwrap();
    let out = two.submit(&page, "sign_out", &[("sign_out", "yes")]).await.unwrap();
    assert!(out.text().contains("You are signed out"), "{}", out.text());
    assert_eq!(two.open(&world.url("/access")).await.unwrap().url.path(), "/oauth/sign-in");
}

#[tokio::test]
async fn a_session_of_the_browser_spares_nobody_consent_and_sign_in() {
    let world = World::new().await;
    let (mut browser, _) = world.signed_in().await;
    let consent = browser.open(&world.authorize(&[])).await.unwrap();
    assert!(consent.form("decision").is_ok());
    let page = browser.submit(&consent, "decision", &[("decision", "allow:local")]).await.unwrap();
    assert!(page.form("password").is_ok() && !page.stopped, "{}", page.text());
}
