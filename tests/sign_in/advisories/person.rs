//! What is done to a person's browser.

use serde_json::json;
use testkit::browser::Page;
use testkit::entra::Entra;
use testkit::sign_in::{with_password, with_provider};

use crate::entra::{ALICE, house};
use crate::world::{PASSWORD, World, browser};

const EVIL: &str = "http://127.0.0.1:6666/steal";

/// A client that an attacker registered.
async fn evil_client(world: &World) -> String {
    world.registered(&json!({"redirect_uris": [EVIL], "client_name": "Harmless"})).await
}

fn gives_nothing(page: &Page) {
    assert!(!page.stopped, "{}", page.url);
    assert!(page.redirects.iter().all(|url| !url.as_str().starts_with(EVIL)), "{:?}", page.redirects);
}

/// Confused deputy: who is signed in everywhere follows an attacker's link, and no code comes of it without a yes on a page that
/// says where it goes. GHSA-c2jp-c369-7pvx, GHSA-6x8h-498w-gv8c.
#[tokio::test]
async fn confused_deputy() {
    let Some(entra) = Entra::start(&[]).await.unwrap() else { return };
    let world = house(&entra).await;
    let evil = evil_client(&world).await;
    let asked = [("client_id", evil.as_str()), ("redirect_uri", EVIL)];
    let mut victim = browser().stop_at(EVIL);
    // Entra knows the person by its own cookie from now on, and this gateway has had a yes for another client.
    let page = world.consent(&mut victim, &[]).await;
    assert!(with_provider(&mut victim, &page, "entra", &entra, ALICE).await.unwrap().param("code").is_some());
    for _ in 0..2 {
        let page = victim.open(&world.authorize(&asked)).await.unwrap();
        gives_nothing(&page);
        assert!(page.url.as_str().starts_with(&world.url), "not even to Entra: {}", page.url);
        let text = page.text();
        assert!(text.contains("127.0.0.1:6666") && text.contains("nobody has checked its name"), "{text}");
    }
    // The attacker knows how the forms look, but not what is in the victim's.
    let forged = victim.open(&world.authorize(&asked)).await.unwrap();
    let form = forged.form("decision").unwrap();
    for wrong in [form.without("csrf"), form.filled(&[("csrf", "guessed")])] {
        gives_nothing(&victim.send(&forged, &wrong.filled(&[("decision", "allow:entra")])).await.unwrap());
    }
    // Said once, a yes is asked for again.
    let end = with_provider(&mut victim, &forged, "entra", &entra, ALICE).await.unwrap();
    assert!(end.url.as_str().starts_with(EVIL), "allowed by the person: {}", end.url);
    gives_nothing(&victim.open(&world.authorize(&asked)).await.unwrap());
}

/// Consent in another browser: the attacker says yes at home and has the victim sign in at the provider.
/// CVE-2026-27124 (GHSA-rww4-4w9c-7733).
#[tokio::test]
async fn consent_in_another_browser() {
    let Some(entra) = Entra::start(&[]).await.unwrap() else { return };
    let world = house(&entra).await;
    let evil = evil_client(&world).await;
    let mut attacker = browser().stop_at(EVIL);
    let page = world.consent(&mut attacker, &[("client_id", &evil), ("redirect_uri", EVIL)]).await;
    let sent = attacker.submit(&page, "decision", &[("decision", "allow:entra")]).await.unwrap();
    let link = sent.redirects.iter().find(|url| url.as_str().starts_with(entra.base_url())).unwrap();
    for signed_in in [false, true] {
        let mut victim = browser().stop_at(EVIL);
        if signed_in {
            // With a sign-in of the victim's own under way, and one that is over.
            world.consent(&mut victim, &[]).await;
            let page = world.consent(&mut victim, &[]).await;
            with_password(&mut victim, &page, "ada", PASSWORD).await.unwrap();
        }
        let page = victim.open(link.as_str()).await.unwrap();
        let back = entra.sign_in(&mut victim, page, ALICE).await.unwrap();
        gives_nothing(&back);
        assert_eq!((back.status.as_u16(), back.url.path()), (400, "/oauth/callback/entra"), "{}", back.text());
        assert!(back.text().contains("begun in another browser"), "{}", back.text());
    }
}

/// A redirect URI that is not the client's, or that a browser would run. CVE-2025-4143, GHSA-q9xg-f2v2-695g.
#[tokio::test]
async fn redirect_to_somewhere_else() {
    let world = World::start().await;
    let evil = evil_client(&world).await;
    for (client, uri) in [
        (world.client.as_str(), EVIL),
        (&evil, "http://127.0.0.1:6666/steal/../other"),
        (&evil, "http://127.0.0.1.evil.example:6666/steal"),
        (&evil, "javascript:alert(document.domain)"),
        (&evil, "http://127.0.0.1:6666\\@evil.example/steal"),
    ] {
        let page = browser().open(&world.authorize(&[("client_id", client), ("redirect_uri", uri)])).await.unwrap();
        assert_eq!((page.status.as_u16(), page.redirects.len(), page.forms().len()), (400, 0, 0), "{uri}");
    }
    for uri in ["javascript:alert(1)", "data:text/html,x", "http://evil.example/cb", "https://u@evil.example/cb"] {
        assert_eq!(world.register(&json!({"redirect_uris": [uri]}), &[]).await.error().1, "invalid_redirect_uri");
    }
}

/// Texts of a client, of a link and of a provider are shown as texts. GHSA-q9xg-f2v2-695g and its like.
#[tokio::test]
async fn script_in_names_and_errors() {
    let Some(entra) = Entra::start(&[]).await.unwrap() else { return };
    let world = house(&entra).await;
    let evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'";
    let never = |page: &Page| {
        assert!(!page.body.contains("<script") && !page.body.contains("<img"), "{}: {}", page.url, page.body);
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    };
    let client = world.registered(&json!({"redirect_uris": [EVIL], "client_name": evil})).await;
    let asked = [("client_id", client.as_str()), ("redirect_uri", EVIL), ("login_hint", evil)];
    let mut one = browser().stop_at(EVIL);
    let consent = world.consent(&mut one, &asked).await;
    never(&consent);
    assert!(consent.text().contains("<script>alert(1)</script>"), "shown as it is: {}", consent.text());
    let sent = one.submit(&consent, "decision", &[("decision", "allow:entra")]).await.unwrap();
    let link = sent.redirects.iter().find(|url| url.as_str().starts_with(entra.base_url())).unwrap();
    let (_, state) = link.query_pairs().find(|(name, _)| name == "state").unwrap();
    let answer =
        [("state", &*state), ("error", evil), ("error_description", evil), ("error_uri", "javascript:alert(3)")];
    let back = url::Url::parse_with_params(&world.uri("/oauth/callback/entra"), &answer).unwrap();
    let back = one.open(back.as_str()).await.unwrap();
    never(&back);
    assert!(!back.stopped && back.text().contains("alert(1)"), "told, as a text: {}", back.text());
    never(&browser().open(&world.authorize(&[("client_id", evil), ("redirect_uri", evil)])).await.unwrap());
    // And where a person sees what acts for them.
    let mut person = browser().stop_at(EVIL);
    let consent = world.consent(&mut person, &asked[..2]).await;
    with_password(&mut person, &consent, "ada", PASSWORD).await.unwrap();
    let page = person.open(&world.uri("/access")).await.unwrap();
    let page = person.submit(&page, "username", &[("username", "ada"), ("password", PASSWORD)]).await.unwrap();
    never(&page);
    assert!(page.url.path() == "/access", "{}", page.url);
}
