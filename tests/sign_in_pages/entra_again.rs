//! What a client or the provider wants of a sign-in at Entra: anew, another account, more proof.

use http::Method;
use mcp_registry_gateway::app::Forced;
use mcp_registry_gateway::grants::{Kind, LoginState, NewLogin, NotVouched};
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::idp::ENTRA;
use mcp_registry_gateway::store::now;
use serde_json::{Value, json};
use testkit::browser::Page;
use testkit::entra::{CONTOSO, Entra, PASSWORD};
use uuid::Uuid;

use crate::entra::{house, whole};
use crate::world::{World, new_browser};

const ALICE: &str = "alice@contoso.onmicrosoft.com";
const BOB: &str = "bob@contoso.onmicrosoft.com";
const CLAIMS: &str = r#"{"access_token":{"polids":{"essential":true,"values":["more-proof"]}}}"#;

/// A parameter of the last address at which Entra was asked to sign somebody in.
fn asked(page: &Page, entra: &Entra, name: &str) -> Option<String> {
    let mut at_entra = page.redirects.iter().filter(|url| url.as_str().starts_with(entra.base_url()));
    let first = at_entra.find(|url| url.path().ends_with("/authorize"))?;
    first.query_pairs().find(|(own, _)| own == name).map(|(_, value)| value.into_owned())
}

#[tokio::test]
async fn what_a_client_asks_of_the_sign_in_is_asked_of_entra() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    for (changes, decision, expected) in [
        (vec![], "allow:entra", None),
        (vec![("prompt", "login")], "allow:entra", Some("login")),
        (vec![("prompt", "select_account")], "allow:entra", Some("select_account")),
        (vec![("prompt", "consent")], "allow:entra", None),
        (vec![("max_age", "60")], "allow:entra", Some("login")),
        (vec![], "allow:entra:other", Some("select_account")),
        (vec![("prompt", "login")], "allow:entra:other", Some("login")),
    ] {
        let mut browser = new_browser();
        let consent = browser.open(&world.authorize(&changes)).await.unwrap();
        let page = browser.submit(&consent, "decision", &[("decision", decision)]).await.unwrap();
        assert_eq!(asked(&page, &entra, "prompt").as_deref(), expected, "{changes:?} {decision}");
    }
    let mut browser = new_browser();
    let page = browser.open(&world.url("/access")).await.unwrap();
    let page = browser.submit(&page, "provider", &[("provider", "entra:other")]).await.unwrap();
    assert_eq!(asked(&page, &entra, "prompt").as_deref(), Some("select_account"), "at our own pages, too");
}

#[tokio::test]
async fn who_is_to_sign_in_anew_is_not_let_through_by_a_session_at_entra() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    let mut browser = new_browser();
    let mut signed_in = 0;
    for changes in [vec![], vec![], vec![("prompt", "login")]] {
        let consent = browser.open(&world.authorize(&changes)).await.unwrap();
        let page = browser.submit(&consent, "decision", &[("decision", "allow:entra")]).await.unwrap();
        if !page.stopped {
            signed_in += 1;
        }
        assert!(entra.sign_in(&mut browser, page, BOB).await.unwrap().param("code").is_some());
    }
    assert_eq!(signed_in, 2, "the first, and the one that was to be anew");
}

/// Somebody's account, with a sign-in after which Entra wants to see more.
async fn parked(world: &World, entra: &Entra, who: &str, claims: &str) {
    assert!(whole(world, entra, who).await.stopped);
    let (tenant, user) = (TenantId::default_tenant(), account(world, who).await);
    let grants = &world.app.grants;
    let login = NewLogin { tenant: &tenant, user, provider: ENTRA, tokens: None };
    let id = grants.keep_login(&login, now()).await.unwrap();
    let state = LoginState::NeedsInteraction;
    let said =
        NotVouched { state, reason: "AADSTS50076", claims: Some(claims), kind: Kind::OnDemand, code: "AADSTS50076" };
    let login = grants.login(&tenant, id).await.unwrap().unwrap();
    assert!(grants.login_refused(&login, &said, now()).await.unwrap());
    assert_eq!(wanted(world, who).await.as_deref(), Some(claims));
}

async fn account(world: &World, who: &str) -> Uuid {
    let account = world.rest(Method::GET, &format!("/users/{who}"), &Value::Null).await;
    account["id"].as_str().unwrap().parse().unwrap()
}

/// What Entra wants to see of somebody.
async fn wanted(world: &World, who: &str) -> Option<String> {
    let (tenant, user) = (TenantId::default_tenant(), account(world, who).await);
    world.app.grants.parked_claims(&tenant, user, ENTRA).await.unwrap()
}

#[tokio::test]
async fn what_entra_wants_to_see_is_sent_along_the_next_time_and_once() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    parked(&world, &entra, BOB, CLAIMS).await;
    let mut browser = new_browser();
    let consent = browser.open(&world.authorize(&[])).await.unwrap();
    let page = browser.submit(&consent, "decision", &[("decision", "allow:entra")]).await.unwrap();
    assert_eq!(asked(&page, &entra, "claims"), None, "who it is shows only when somebody has signed in");
    let page = browser.submit(&page, "login", &[("login", BOB), ("passwd", PASSWORD)]).await.unwrap();
    assert_eq!(asked(&page, &entra, "claims").as_deref(), Some(CLAIMS));
    assert_eq!(asked(&page, &entra, "login_hint").as_deref(), Some(BOB));
    let end = entra.sign_in(&mut browser, page, BOB).await.unwrap();
    assert!(end.stopped && end.param("code").is_some(), "{} {}", end.url, end.text());
    let steps = "authorize client request consent provider callback account !provider provider callback account code";
    assert_eq!(world.steps().await, format!("{steps} → under_way"));
    assert!(!browser.jar().names().iter().any(|name| name.starts_with("mcpg-txn")), "none is left under way");

    let consent = browser.open(&world.authorize(&[])).await.unwrap();
    let page = browser.submit(&consent, "decision", &[("decision", "allow:entra")]).await.unwrap();
    assert!(page.stopped, "it was seen: {}", page.text());
}

#[tokio::test]
async fn who_is_signed_in_at_our_pages_goes_to_entra_once_with_it() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    let mut browser = new_browser();
    let page = browser.open(&world.url("/access")).await.unwrap();
    let page = browser.submit(&page, "provider", &[("provider", "entra")]).await.unwrap();
    entra.sign_in(&mut browser, page, BOB).await.unwrap();
    parked(&world, &entra, BOB, CLAIMS).await;
    let consent = browser.open(&world.authorize(&[])).await.unwrap();
    let page = browser.submit(&consent, "decision", &[("decision", "allow:entra")]).await.unwrap();
    assert_eq!(asked(&page, &entra, "claims").as_deref(), Some(CLAIMS));
    assert_eq!(asked(&page, &entra, "login_hint").as_deref(), Some(BOB));
}

#[tokio::test]
async fn what_entra_wants_of_one_person_is_not_met_by_another_who_comes_back() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    let mut browser = new_browser();
    let page = browser.open(&world.url("/access")).await.unwrap();
    let page = browser.submit(&page, "provider", &[("provider", "entra")]).await.unwrap();
    entra.sign_in(&mut browser, page, ALICE).await.unwrap();
    let of_bob = CLAIMS.replace("more-proof", "other-proof");
    parked(&world, &entra, ALICE, CLAIMS).await;
    parked(&world, &entra, BOB, &of_bob).await;
    let names: Vec<_> = browser.jar().names().into_iter().map(str::to_owned).collect();
    names.iter().filter(|name| name.starts_with("ESTSAUTH")).for_each(|name| browser.jar().forget(name));
    let consent = browser.open(&world.authorize(&[])).await.unwrap();
    let page = browser.submit(&consent, "decision", &[("decision", "allow:entra")]).await.unwrap();
    assert_eq!(asked(&page, &entra, "claims").as_deref(), Some(CLAIMS));
    let page = browser.submit(&page, "login", &[("login", BOB), ("passwd", PASSWORD)]).await.unwrap();
    assert_eq!(asked(&page, &entra, "claims").as_deref(), Some(of_bob.as_str()));
    assert_eq!(asked(&page, &entra, "login_hint").as_deref(), Some(BOB));
    assert_eq!(wanted(&world, BOB).await, Some(of_bob));
    let end = entra.sign_in(&mut browser, page, BOB).await.unwrap();
    assert!(end.stopped && end.param("code").is_some(), "{} {}", end.url, end.text());
    assert_eq!((wanted(&world, BOB).await, wanted(&world, ALICE).await.as_deref()), (None, Some(CLAIMS)));
}

#[tokio::test]
async fn a_challenge_at_the_end_of_a_sign_in_is_answered_by_one_more_try_and_no_loop() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    let claims: Value = serde_json::from_str(CLAIMS).unwrap();
    let fault = |times: i32| {
        json!({"match": {"endpoint": "token", "grant_type": "authorization_code"}, "times": times,
            "action": {"aadsts": 50_076, "claims": claims}})
    };
    for (times, comes_in) in [(1, true), (-1, false)] {
        entra.post("/_sim/faults", fault(times)).await.unwrap();
        let page = whole(&world, &entra, BOB).await;
        assert_eq!(page.stopped, comes_in, "{} {}", page.url, page.text());
        if !comes_in {
            assert!(page.text().contains("AADSTS50076"), "{}", page.text());
        }
    }
}

#[tokio::test]
async fn programs_that_entra_wants_to_see_somebody_again_for_are_shown_until_the_person_comes_back() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    let end = whole(&world, &entra, BOB).await;
    let token = world.redeem(&world.client_id, &end).await.access;
    let (tenant, bob) = (TenantId::default_tenant(), account(&world, BOB).await);
    entra.post(&format!("/_sim/users/{BOB}/revoke"), json!({})).await.unwrap();
    let forced = world.app.refresh_now(&tenant, bob).await.unwrap();
    assert!(matches!(forced, Forced::Failed(_)), "{forced:?}");
    let refused = world.app.tokens.find(&world.app.store, token.expose(), now()).await.unwrap_err();
    assert_eq!(refused.reason(), "come_back");
    let mut browser = new_browser();
    let page = browser.open(&world.url("/access")).await.unwrap();
    let page = browser.submit(&page, "provider", &[("provider", "entra")]).await.unwrap();
    let page = entra.sign_in(&mut browser, page, BOB).await.unwrap();
    for shown in ["Signed out", "Editor", "sign in again from each", "Microsoft Entra ID ended it at"] {
        assert!(page.text().contains(shown), "{shown}: {}", page.text());
    }
    assert!(whole(&world, &entra, BOB).await.stopped);
    let page = browser.open(&world.url("/access")).await.unwrap();
    assert!(page.url.path() == "/access" && !page.text().contains("Signed out"), "{}", page.text());
}
