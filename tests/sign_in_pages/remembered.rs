//! What was allowed before is not asked again: for registered clients that nobody can pass for, in a browser that no other site sent
//! here, for as much as was allowed, until somebody takes it back.

use http::Method;
use serde_json::{Value, json};
use testkit::browser::{Browser, Page};
use testkit::client::{Client, Request};

use crate::world::{PASSWORD, REDIRECT, World, new_browser};

/// A client that an administrator registers; `kind` is `public` or `confidential`.
async fn registered(world: &World, id: &str, kind: &str) -> String {
    let order = json!({
        "client_id": id, "name": "Desk", "kind": kind, "redirect_uris": ["http://127.0.0.1/callback"],
        "scopes": ["mcp", "admin", "offline_access"],
    });
    world.rest(Method::POST, "/oauth-clients", &order).await;
    id.to_owned()
}

/// Signs in as ada where the page asks for that.
async fn as_ada(browser: &mut Browser, page: &Page) -> Page {
    browser.submit(page, "username", &[("username", "ada"), ("password", PASSWORD)]).await.unwrap()
}

#[tokio::test]
async fn a_registered_client_is_asked_about_once_for_as_much() {
    let world = World::new().await;
    let desk = registered(&world, "desk", "confidential").await;
    let with = |scope| world.authorize(&[("client_id", &desk), ("scope", scope)]);
    let mut browser = new_browser();

    let page = browser.open(&with("mcp")).await.unwrap();
    assert!(
        page.form("password").is_ok() && page.text().contains("Desk"),
        "first it is known who it is: {}",
        page.text()
    );
    let consent = as_ada(&mut browser, &page).await;
    assert!(consent.text().contains("Allow Desk to act for you?"), "{}", consent.text());
    assert!(consent.text().contains("You are signed in as ada"), "{}", consent.text());
    let end = browser.submit(&consent, "decision", &[("decision", "allow:arrived")]).await.unwrap();
    assert!(end.param("code").is_some(), "{} {}", end.url, end.text());

    let page = browser.open(&with("mcp")).await.unwrap();
    assert!(as_ada(&mut browser, &page).await.param("code").is_some(), "it was allowed");
    let api = world.url("/api/v1");
    let at_api = |scope| world.authorize(&[("client_id", &desk), ("scope", scope), ("resource", &api)]);
    for (scope, why) in [("mcp", "another resource is asked about"), ("mcp admin", "and more")] {
        let page = browser.open(&at_api(scope)).await.unwrap();
        let consent = as_ada(&mut browser, &page).await;
        assert!(consent.form("decision").is_ok(), "{why}: {}", consent.text());
        browser.submit(&consent, "decision", &[("decision", "allow:arrived")]).await.unwrap();
    }
    let page =
        browser.open(&world.authorize(&[("client_id", &desk), ("scope", "mcp"), ("prompt", "consent")])).await.unwrap();
    assert!(page.form("decision").is_ok(), "and what the client wants to be asked: {}", page.text());
    let one = world.url("/mcp/files");
    let page = browser.open(&world.authorize(&[("client_id", &desk), ("resource", &one)])).await.unwrap();
    assert!(as_ada(&mut browser, &page).await.form("decision").is_ok(), "and another resource");
    assert!(browser.jar().names().iter().all(|name| name.contains("txn")), "{:?}", browser.jar().names());
}

#[tokio::test]
async fn where_nobody_can_sign_in_a_page_says_so_whichever_comes_first() {
    let world = World::with(&["--local-sign-in=false"]).await;
    let desk = registered(&world, "desk", "confidential").await;
    let asks = [world.authorize(&[("client_id", &desk)]), world.authorize(&[]), world.url("/oauth/sign-in")];
    for url in asks {
        let page = new_browser().open(&url).await.unwrap();
        assert_eq!((page.status.as_u16(), page.stopped), (503, false), "{url}: {}", page.text());
        assert!(page.text().contains("Sign-in is not set up") && page.forms().is_empty(), "{}", page.text());
    }
}

#[tokio::test]
async fn nobody_is_let_through_unseen_whatever_was_allowed() {
    let world = World::new().await;
    let desk = registered(&world, "desk", "confidential").await;
    let (mut browser, _) = world.signed_in().await;
    let silent = world.authorize(&[("client_id", &desk), ("prompt", "none")]);
    let told = async |browser: &mut Browser| browser.open(&silent).await.unwrap().param("error");
    assert_eq!(told(&mut new_browser()).await.as_deref(), Some("login_required"));
    assert_eq!(told(&mut browser).await.as_deref(), Some("consent_required"));
    let page = browser.open(&world.authorize(&[("client_id", &desk)])).await.unwrap();
    let consent = as_ada(&mut browser, &page).await;
    browser.submit(&consent, "decision", &[("decision", "allow:arrived")]).await.unwrap();
    assert_eq!(told(&mut browser).await.as_deref(), Some("interaction_required"));
}

#[tokio::test]
async fn a_public_client_whose_answer_goes_to_a_web_site_is_remembered_too() {
    let world = World::new().await;
    let redirect = "https://app.example/cb";
    let order = json!({ "client_id": "web", "name": "Web", "kind": "public", "redirect_uris": [redirect] });
    world.rest(Method::POST, "/oauth-clients", &order).await;
    let mut browser = new_browser().stop_at(redirect);
    let url = world.authorize(&[("client_id", "web"), ("redirect_uri", redirect)]);
    for asked in [true, false] {
        let page = browser.open(&url).await.unwrap();
        let mut page = as_ada(&mut browser, &page).await;
        assert_eq!(page.form("decision").is_ok(), asked, "{}", page.text());
        if asked {
            page = browser.submit(&page, "decision", &[("decision", "allow:arrived")]).await.unwrap();
        }
        assert!(page.stopped && page.param("code").is_some(), "{}", page.url);
    }
}

#[tokio::test]
async fn what_one_allowed_is_nothing_to_another() {
    let world = World::new().await;
    let desk = registered(&world, "desk", "confidential").await;
    world.rest(Method::POST, "/users", &json!({ "username": "bea", "password": PASSWORD })).await;
    let mut browser = new_browser();
    for (name, asked) in [("ada", true), ("ada", false), ("bea", true)] {
        let page = browser.open(&world.authorize(&[("client_id", &desk)])).await.unwrap();
        let page = browser.submit(&page, "username", &[("username", name), ("password", PASSWORD)]).await.unwrap();
        assert_eq!(page.form("decision").is_ok(), asked, "{name}: {}", page.text());
        if asked && name == "ada" {
            browser.submit(&page, "decision", &[("decision", "allow:arrived")]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn nothing_is_remembered_of_who_could_be_anybody() {
    let world = World::new().await;
    let desk = registered(&world, "desk", "public").await;
    for client in [&world.client_id, &desk] {
        let mut browser = new_browser();
        for _ in 0..2 {
            let consent = browser.open(&world.authorize(&[("client_id", client)])).await.unwrap();
            assert!(consent.form("decision").is_ok(), "{client}: {}", consent.text());
            assert!(world.sign_in(&mut browser, &consent).await.param("code").is_some());
        }
    }
    let (mut browser, page) = world.signed_in().await;
    assert!(!page.text().contains("Not asked again"), "{}", page.text());
    assert!(browser.open(&world.authorize(&[("client_id", &desk)])).await.unwrap().form("decision").is_ok());
}

#[tokio::test]
async fn a_browser_that_another_site_sent_is_asked_first_and_each_time() {
    let world = World::new().await;
    let desk = registered(&world, "desk", "confidential").await;
    let url = world.authorize(&[("client_id", &desk)]);
    let path = url.replace(world.app.issuer.as_str(), "");
    let mut browser = new_browser();
    let page = browser.open(&url).await.unwrap();
    let consent = as_ada(&mut browser, &page).await;
    browser.submit(&consent, "decision", &[("decision", "allow:arrived")]).await.unwrap();
    for site in [&["cross-site"][..], &[], &["none", "cross-site"], &["other"]] {
        let request = site.iter().fold(Request::new(Method::GET, "".into()).path(&path), |request, site| {
            request.header("sec-fetch-site", site)
        });
        let text = Client::new(&world.running.url()).send(request).await.unwrap().text().await.unwrap();
        assert!(text.contains("name=\"decision\""), "{site:?}: {text}");
    }
}

#[tokio::test]
async fn no_code_is_given_before_it_was_allowed() {
    let world = World::new().await;
    let desk = registered(&world, "desk", "confidential").await;
    let mut browser = new_browser();
    let page = browser.open(&world.authorize(&[("client_id", &desk)])).await.unwrap();
    let consent = as_ada(&mut browser, &page).await;
    let form = consent.form("decision").unwrap();
    // The form in another browser, without its secret, or before anybody signed in.
    let allow = form.filled(&[("decision", "allow:arrived")]);
    assert_eq!(new_browser().send(&consent, &allow).await.unwrap().status, 400);
    assert_eq!(browser.send(&consent, &allow.filled(&[("csrf", "guessed")])).await.unwrap().status, 400);
    let mut other = new_browser();
    let first = other.open(&world.authorize(&[("client_id", &desk)])).await.unwrap();
    let mut early = first.form("decision").unwrap();
    early = early.filled(&[("decision", "allow:arrived")]);
    let answer = other.send(&first, &early).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.stopped), (400, false), "{}", answer.text());
    // And no is no.
    let end = browser.submit(&consent, "decision", &[("decision", "deny")]).await.unwrap();
    assert_eq!(end.param("error").as_deref(), Some("access_denied"));
    assert!(end.url.as_str().starts_with(REDIRECT));
}

#[tokio::test]
async fn what_is_not_asked_again_is_seen_and_taken_back() {
    let world = World::new().await;
    let desk = registered(&world, "desk", "confidential").await;
    let mut browser = new_browser();
    let ask = async |browser: &mut Browser| {
        let page = browser.open(&world.authorize(&[("client_id", &desk)])).await.unwrap();
        let page = as_ada(browser, &page).await;
        let asked = page.form("decision").is_ok();
        if asked {
            browser.submit(&page, "decision", &[("decision", "allow:arrived")]).await.unwrap();
        }
        asked
    };
    assert!(ask(&mut browser).await && !ask(&mut browser).await);
    for field in ["allowed", "grant", "everything"] {
        let (mut own, page) = world.signed_in().await;
        assert!(page.text().contains("Not asked again") && page.text().contains("Desk"), "{}", page.text());
        let form = page.forms().into_iter().find(|form| form.has(field)).unwrap();
        let value = form.choices[0].1.clone();
        own.send(&page, &form.filled(&[(field, &value)])).await.unwrap();
        assert!(ask(&mut browser).await, "{field}");
    }
    world.rest(Method::DELETE, "/oauth-clients/desk", &Value::Null).await;
    let (_, page) = world.signed_in().await;
    assert!(!page.text().contains("Not asked again"), "{}", page.text());
}
