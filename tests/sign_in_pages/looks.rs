//! What every page has around it, and what strangers' texts become on it.

use testkit::browser::Page;
use testkit::client::{Client, Request};

use crate::world::{World, new_browser};

fn check(page: &Page) {
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'self'; img-src 'self'; form-action "), "{policy}");
    for part in ["frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    for (name, value) in [
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("content-type", "text/html; charset=utf-8"),
    ] {
        assert_eq!(page.header(name), value, "{name} at {}", page.url);
    }
    let lower = page.body.to_lowercase();
    for never in ["<script", "<style", " style=", " onclick", " onload", "javascript:"] {
        assert!(!lower.contains(never), "{never} at {}: {}", page.url, page.body);
    }
    assert!(lower.contains("<html lang=\"en\">") && lower.contains("<title>") && lower.contains("name=\"viewport\""));
}

#[tokio::test]
async fn every_page_is_closed_to_frames_scripts_and_caches() {
    let world = World::new().await;
    let mut browser = new_browser();
    check(&browser.open(&world.authorize(&[("client_id", "nobody")])).await.unwrap());
    let consent = browser.open(&world.authorize(&[])).await.unwrap();
    check(&consent);
    let policy = consent.header("content-security-policy");
    assert!(policy.contains("form-action 'self' https: http://127.0.0.1:7777;"), "and to other addresses: {policy}");
    check(&browser.submit(&consent, "decision", &[("decision", "allow:local")]).await.unwrap());
    check(&browser.submit(&consent, "decision", &[("decision", "nothing")]).await.unwrap());
    check(&browser.open(&world.url("/oauth/sign-in")).await.unwrap());
    check(&browser.open(&world.url("/oauth/callback/nowhere?state=x")).await.unwrap());
    let (mut browser, access) = world.signed_in().await;
    check(&access);
    check(&browser.submit(&access, "sign_out", &[("sign_out", "yes")]).await.unwrap());
}

#[tokio::test]
async fn texts_of_strangers_stay_texts() {
    let world = World::new().await;
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";
    let client = world.register(&evil.replace(['<', '>'], "|"), &["http://127.0.0.1/callback"]);
    let named = world.register("<b onclick=x>Bank</b>", &["cursor://<i>/cb".replace(['<', '>'], "").as_str()]);
    for changes in [
        vec![("client_id", client.as_str())],
        vec![("client_id", named.as_str()), ("redirect_uri", "cursor://i/cb")],
        vec![("client_id", evil)],
        vec![("redirect_uri", evil)],
        vec![("login_hint", evil)],
    ] {
        let page = new_browser().open(&world.authorize(&changes)).await.unwrap();
        for never in ["<script", "<img", "<b onclick", "\"'>"] {
            assert!(!page.body.contains(never), "{changes:?}: {}", page.body);
        }
    }
    let page = new_browser().open(&world.authorize(&[("client_id", &named), ("redirect_uri", "")])).await.unwrap();
    assert!(page.text().contains("<b onclick=x>Bank</b>"), "it is shown as it is: {}", page.text());
    assert!(page.text().contains("Any program can claim such links"), "{}", page.text());
    assert!(page.header("content-security-policy").contains("https: cursor:;"));
}

#[tokio::test]
async fn the_stylesheet_is_kept_for_good_under_its_own_name() {
    let world = World::new().await;
    let page = new_browser().open(&world.url("/oauth/sign-in")).await.unwrap();
    let (_, rest) = page.body.split_once("href=\"/oauth/assets/").unwrap();
    let name = rest.split('"').next().unwrap();
    let get = async |name: &str| {
        Client::new(&world.running.url()).send(Request::get().path(&format!("/oauth/assets/{name}"))).await.unwrap()
    };
    let reply = get(name).await;
    assert_eq!(
        (reply.status.as_u16(), reply.headers["content-type"].to_str().unwrap()),
        (200, "text/css; charset=utf-8")
    );
    assert_eq!(reply.headers["cache-control"], "public, max-age=31536000, immutable");
    assert_eq!(get("other.css").await.status, 404);
}

#[tokio::test]
async fn a_browser_that_opens_a_program_says_that_all_went_well() {
    let world = World::new().await;
    let editor = world.register("Editor & Co", &["cursor://x/cb"]);
    let mut browser = new_browser();
    let consent =
        browser.open(&world.authorize(&[("client_id", &editor), ("redirect_uri", "cursor://x/cb")])).await.unwrap();
    let page = world.sign_in(&mut browser, &consent).await;
    check(&page);
    assert_eq!((page.status.as_u16(), page.stopped), (200, false), "{}", page.text());
    assert!(page.text().contains("You are signed in") && page.text().contains("Editor & Co"), "{}", page.text());
    let link = page.body.split("href=\"cursor://x/cb?code=").nth(1).unwrap().split('"').next().unwrap();
    assert!(
        page.body.contains(&format!("http-equiv=\"refresh\" content=\"0;url=cursor://x/cb?code={link}\"")),
        "{}",
        page.body
    );
    assert!(link.contains("&#38;iss=") || link.contains("&amp;iss="), "{link}");
    assert_eq!(page.header("content-security-policy").matches("form-action 'none'").count(), 1);
}
