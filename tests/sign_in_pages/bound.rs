//! A sign-in belongs to the browser that began it, goes on only by the forms that it was shown, and ends once.

use std::time::Duration;

use http::Method;
use mcp_registry_gateway::store::{micros, now};
use testkit::client::{Client, Request};

use crate::world::{PASSWORD, World, new_browser};

#[tokio::test]
async fn consent_counts_only_with_the_cookie_and_the_form_of_the_page() {
    let world = World::new().await;
    let mut browser = new_browser();
    let page = browser.open(&world.authorize(&[])).await.unwrap();
    for decision in ["allow:local", "deny"] {
        let form = page.form("decision").unwrap().filled(&[("decision", decision)]);
        let answer = new_browser().send(&page, &form).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.stopped), (400, false), "no cookie: {}", answer.text());
        for wrong in [form.without("csrf"), form.filled(&[("csrf", "guessed")]), form.without("id")] {
            let answer = browser.send(&page, &wrong).await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.stopped), (400, false), "{}", answer.text());
        }
    }
    let mut other = new_browser();
    let others = other.open(&world.authorize(&[])).await.unwrap();
    let form = page.form("decision").unwrap().filled(&[("decision", "allow:local")]);
    let answer = other.send(&others, &form).await.unwrap();
    assert_eq!(answer.status, 400, "another browser, with a sign-in of its own: {}", answer.text());
    let end = world.sign_in(&mut browser, &page).await;
    assert!(end.param("code").is_some(), "none of it did any harm");
}

#[tokio::test]
async fn a_password_before_consent_gives_nothing() {
    let world = World::new().await;
    let mut browser = new_browser();
    let page = browser.open(&world.authorize(&[])).await.unwrap();
    let mut form = page.form("decision").unwrap();
    form.action = "/oauth/sign-in".into();
    let form = form.filled(&[("username", "ada"), ("password", PASSWORD)]);
    let answer = browser.send(&page, &form).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.stopped), (400, false), "{}", answer.text());
}

#[tokio::test]
async fn a_form_that_is_sent_twice_gives_one_code() {
    let world = World::new().await;
    let mut browser = new_browser();
    let consent = browser.open(&world.authorize(&[])).await.unwrap();
    let page = browser.submit(&consent, "decision", &[("decision", "allow:local")]).await.unwrap();
    let mut again = browser.clone();
    let typed = [("username", "ada"), ("password", PASSWORD)];
    assert!(browser.submit(&page, "username", &typed).await.unwrap().param("code").is_some());
    let second = again.submit(&page, "username", &typed).await.unwrap();
    assert_eq!((second.status.as_u16(), second.stopped), (400, false), "{}", second.text());
}

#[tokio::test]
async fn a_sign_in_that_took_too_long_is_over() {
    let world = World::new().await;
    let mut browser = new_browser();
    let page = browser.open(&world.authorize(&[])).await.unwrap();
    world.app.store.purge_authorizations(micros(now() + Duration::from_mins(11))).await.unwrap();
    let answer = browser.submit(&page, "decision", &[("decision", "allow:local")]).await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("begin again"), "it says what to do: {}", answer.text());
}

#[tokio::test]
async fn tabs_do_not_disturb_each_other_and_the_oldest_of_many_gives_way() {
    let world = World::new().await;
    let mut browser = new_browser();
    let mut tabs = Vec::new();
    for n in 0..9 {
        let state = format!("tab {n}");
        tabs.push(browser.open(&world.authorize(&[("state", &state)])).await.unwrap());
    }
    assert_eq!(browser.jar().names().len(), 8);
    for (n, tab) in tabs.iter().enumerate().rev() {
        if n == 0 {
            let answer = browser.submit(tab, "decision", &[("decision", "allow:local")]).await.unwrap();
            assert_eq!(answer.status, 400, "the first has given way");
        } else {
            let end = world.sign_in(&mut browser, tab).await;
            assert_eq!(end.param("state"), Some(format!("tab {n}")));
        }
    }
}

#[tokio::test]
async fn a_form_of_another_origin_does_not_come_in() {
    let world = World::new().await;
    let mut browser = new_browser();
    let page = browser.open(&world.authorize(&[])).await.unwrap();
    let form = page.form("decision").unwrap().filled(&[("decision", "deny")]);
    let cookie = browser.jar().header(&page.url).unwrap();
    for origin in ["null", "https://evil.example", ""] {
        let request = Request::new(Method::POST, form.encoded().into())
            .path("/oauth/consent")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("cookie", &cookie)
            .header("origin", origin);
        let reply = Client::new(&world.running.url()).send(request).await.unwrap();
        assert_eq!(reply.status, 403, "{origin}");
    }
    assert!(browser.send(&page, &form).await.unwrap().stopped, "the page's own form does");
}
