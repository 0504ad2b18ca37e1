//! With Entra ID, as its stand-in imitates it: who comes in and as what, who does not, and what comes back to the wrong browser.

use http::Method;
use serde_json::json;
use testkit::browser::{Browser, Page};
use testkit::entra::{CONTOSO, Entra, GATEWAY, SECRETS};

use crate::world::{World, new_browser};

pub const HELP: &str = "Ask the platform team: platform@contoso.example";

/// A gateway and the stand-in that it trusts; none where that is not installed.
pub async fn house(tenant: &str, more: &[&str]) -> Option<(World, Entra)> {
    trusting(tenant, &[&["--sign-in-help", HELP], more].concat()).await
}

/// The same, for work accounts of several directories, by an operator who does not say whom to ask.
pub async fn without_help(more: &[&str]) -> Option<(World, Entra)> {
    trusting("organizations", more).await
}

async fn trusting(tenant: &str, more: &[&str]) -> Option<(World, Entra)> {
    let entra = Entra::start(&[]).await.unwrap()?;
    let (graph, v1) = (entra.graph_url(), entra.v1_issuer_prefix());
    let own = [
        ("--azure-tenant-id", tenant),
        ("--azure-client-id", GATEWAY),
        ("--azure-client-secret", SECRETS[0]),
        ("--azure-authority", entra.base_url()),
        ("--azure-graph-url", &graph),
        ("--azure-v1-issuer-prefix", &v1),
    ];
    let args: Vec<&str> = own.iter().flat_map(|(name, value)| [*name, *value]).chain(more.iter().copied()).collect();
    let world = World::with(&args).await;
    let callback = json!({ "uri": world.url("/oauth/callback/entra") });
    entra.post(&format!("/_sim/apps/{GATEWAY}/redirect-uris"), callback).await.unwrap();
    Some((world, entra))
}

/// Agrees, and goes to Entra's first page.
pub async fn leave(world: &World, browser: &mut Browser) -> Page {
    let consent = browser.open(&world.authorize(&[("scope", "mcp offline_access")])).await.unwrap();
    browser.submit(&consent, "decision", &[("decision", "allow:entra")]).await.unwrap()
}

pub async fn whole(world: &World, entra: &Entra, user: &str) -> Page {
    let mut browser = new_browser();
    let page = leave(world, &mut browser).await;
    entra.sign_in(&mut browser, page, user).await.unwrap()
}

#[tokio::test]
async fn people_of_the_directory_come_in_with_their_roles() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    for (user, role) in [("alice", "admin"), ("bob", "user"), ("carol", "user")] {
        let name = format!("{user}@contoso.onmicrosoft.com");
        let end = whole(&world, &entra, &name).await;
        assert!(end.stopped, "{user}: {} {}", end.status, end.text());
        assert_eq!(end.param("iss").as_deref(), Some(world.app.issuer.as_str()));
        assert!(world.redeem(&world.client_id, &end).await.refresh.is_some());
        let account = world.rest(Method::GET, &format!("/users/{name}"), &json!(null)).await;
        assert_eq!(account["role"], role, "{account}");
    }
    assert_eq!(world.steps().await, "authorize client request consent provider callback account code → under_way");
    let logged = entra.log("/authorize").await.unwrap();
    assert!(logged.iter().all(|asked| asked["resource"].is_null()), "no resource is sent to Entra: {logged:?}");
}

#[tokio::test]
async fn who_is_not_of_it_is_told_whom_to_ask() {
    let more = ["--azure-allowed-tenants", CONTOSO, "--azure-role-user", "Mcp.Reader"];
    let Some((world, entra)) = house("organizations", &more).await else { return };
    for user in ["frank@fabrikam.onmicrosoft.com", "erin@fabrikam.onmicrosoft.com", "nora@contoso.onmicrosoft.com"] {
        let page = whole(&world, &entra, user).await;
        assert_eq!((page.status.as_u16(), page.stopped), (403, false), "{user}: {} {}", page.url, page.text());
        for shown in ["You are not let in", "not for your organisation", HELP] {
            assert!(page.text().contains(shown), "{user}: {shown}: {}", page.text());
        }
        assert!(world.steps().await.ends_with("→ failure"), "{}", world.steps().await);
    }
    let users = world.rest(Method::GET, "/users", &json!(null)).await;
    assert!(!users.to_string().contains("fabrikam"), "no account is left of it: {users}");
}

#[tokio::test]
async fn who_is_disabled_at_entra_does_not_come_back() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    let mut browser = new_browser();
    let page = leave(&world, &mut browser).await;
    let page = entra.sign_in(&mut browser, page, "dave@contoso.onmicrosoft.com").await.unwrap();
    assert!(!page.stopped && page.text().contains("AADSTS50057"), "{}", page.text());
}

#[tokio::test]
async fn an_account_that_is_disabled_here_stays_out() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    let bob = "bob@contoso.onmicrosoft.com";
    assert!(whole(&world, &entra, bob).await.stopped);
    world.rest(Method::PATCH, &format!("/users/{bob}"), &json!({ "state": "disabled" })).await;
    let page = whole(&world, &entra, bob).await;
    assert_eq!((page.status.as_u16(), page.stopped), (403, false), "{}", page.text());
    assert!(page.text().contains("disabled here") && page.text().contains(HELP), "{}", page.text());
    assert!(page.body.contains("error=access_denied"), "and a way back that tells the program");
    assert!(world.steps().await.ends_with("!account → failure"), "{}", world.steps().await);
}

#[tokio::test]
async fn an_answer_counts_only_in_the_browser_that_was_sent_and_once() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    let callback = world.url("/oauth/callback/entra");
    let mut victim = new_browser().stop_at(&callback);
    let page = leave(&world, &mut victim).await;
    let back = entra.sign_in(&mut victim, page, "alice@contoso.onmicrosoft.com").await.unwrap();
    assert!(back.stopped && back.url.as_str().starts_with(&callback), "{}", back.url);

    let mut other = new_browser();
    leave(&world, &mut other).await;
    let stolen = other.open(back.url.as_str()).await.unwrap();
    assert_eq!((stolen.status.as_u16(), stolen.stopped), (400, false), "{}", stolen.text());

    let mut own = new_browser();
    *own.jar() = victim.jar().clone();
    assert!(own.open(back.url.as_str()).await.unwrap().param("code").is_some());
    *own.jar() = victim.jar().clone();
    let again = own.open(back.url.as_str()).await.unwrap();
    assert_eq!((again.status.as_u16(), again.stopped), (400, false), "{}", again.text());
}

#[tokio::test]
async fn an_error_of_entra_is_explained_and_a_no_goes_back() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    let callback = world.url("/oauth/callback/entra");
    let failed = "error=access_denied&error_description=AADSTS50105:+%3Cimg+src=x%3E%0D%0ATrace+ID:+trace-7%0D%0A";
    for (answer, expected) in [(failed, None), ("error=access_denied", Some("access_denied"))] {
        let mut browser = new_browser();
        let page = leave(&world, &mut browser).await;
        let sent = page.redirects.iter().find(|url| url.as_str().starts_with(entra.base_url())).unwrap();
        let (_, state) = sent.query_pairs().find(|(name, _)| name == "state").unwrap();
        let end = browser.open(&format!("{callback}?state={state}&{answer}")).await.unwrap();
        let told = end.stopped.then(|| end.param("error")).flatten();
        assert_eq!(told.as_deref(), expected, "{} {}", end.url, end.text());
        if expected.is_none() {
            for shown in ["AADSTS50105", "not assigned to the application", "trace-7", "Number of this request"] {
                assert!(end.text().contains(shown), "{shown}: {}", end.text());
            }
            assert!(!end.body.contains("<img"), "{}", end.body);
        }
    }
}

#[tokio::test]
async fn my_access_is_reached_with_entra_as_well() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    let mut browser = new_browser();
    let page = browser.open(&world.url("/access")).await.unwrap();
    let page = browser.submit(&page, "provider", &[("provider", "entra")]).await.unwrap();
    let page = entra.sign_in(&mut browser, page, "alice@contoso.onmicrosoft.com").await.unwrap();
    assert_eq!(page.url.path(), "/access", "{}", page.text());
    assert!(page.text().contains("Microsoft Entra ID") && page.text().contains("Administrator of this gateway"));
}
