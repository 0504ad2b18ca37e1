//! What clients ask for, wrongly: a page until client and redirect URI are right, then an answer to the client.

use http::Method;
use serde_json::json;

use crate::world::{REDIRECT, World, new_browser};

#[tokio::test]
async fn before_client_and_redirect_uri_are_right_nobody_is_sent_anywhere() {
    let world = World::new().await;
    let web = world.register("Web", &["https://app.example/cb", "https://app.example/other"]);
    let web = web.as_str();
    for changes in [
        vec![("client_id", "")],
        vec![("client_id", "nobody")],
        vec![("client_id", "mcpg_dc_forged")],
        vec![("redirect_uri", "https://evil.example/cb")],
        vec![("redirect_uri", "javascript:alert(1)")],
        vec![("redirect_uri", "data:text/html,x")],
        vec![("redirect_uri", "http://127.0.0.1:7777/other")],
        vec![("redirect_uri", "http://127.0.0.1:7777/callback?x=1")],
        vec![("redirect_uri", "http://localhost:7777/callback")],
        vec![("redirect_uri", "https://127.0.0.1:7777/callback")],
        vec![("redirect_uri", "http://127.0.0.1:7777@evil.example/callback")],
        vec![("redirect_uri", "http://u@127.0.0.1:7777/callback")],
        vec![("redirect_uri", "http://127.0.0.1:7777/callback#x")],
        vec![("redirect_uri", "http://127.0.0.1:7777/Callback")],
        vec![("redirect_uri", "http://127.0.0.1:7777/callback/")],
        vec![("client_id", web), ("redirect_uri", "")],
        vec![("client_id", web), ("redirect_uri", "https://APP.example/cb")],
        vec![("client_id", web), ("redirect_uri", "https://app.example:8443/cb")],
        // However wrong the rest is.
        vec![
            ("client_id", web),
            ("redirect_uri", "https://evil.example/"),
            ("response_type", "token"),
            ("prompt", "none"),
        ],
    ] {
        let mut browser = new_browser();
        let page = browser.open(&world.authorize(&changes)).await.unwrap();
        assert_eq!((page.status.as_u16(), page.redirects.len()), (400, 0), "{changes:?}: {}", page.text());
        assert!(page.forms().is_empty() && !page.body.contains("href=\"http"), "{changes:?}: {}", page.body);
        assert!(browser.jar().names().is_empty());
    }
    let twice = format!("{}&redirect_uri=https%3A%2F%2Fevil.example%2F", world.authorize(&[]));
    assert_eq!(new_browser().open(&twice).await.unwrap().status, 400);
    assert_eq!(world.steps().await, "authorize !client → failure");
}

#[tokio::test]
async fn afterwards_the_client_is_told_with_its_state_and_who_answers() {
    let world = World::new().await;
    let long = "a".repeat(129);
    let (other, endless) = (world.url("/elsewhere"), "s".repeat(2_049));
    for (error, changes) in [
        ("invalid_request", vec![("response_type", "")]),
        ("unsupported_response_type", vec![("response_type", "token")]),
        ("unsupported_response_type", vec![("response_type", "code id_token")]),
        ("invalid_request", vec![("response_mode", "form_post")]),
        ("invalid_request", vec![("code_challenge", "")]),
        ("invalid_request", vec![("code_challenge", "short")]),
        ("invalid_request", vec![("code_challenge", &long)]),
        ("invalid_request", vec![("code_challenge_method", "plain")]),
        ("invalid_request", vec![("code_challenge_method", "")]),
        ("invalid_target", vec![("resource", "https://evil.example/mcp")]),
        ("invalid_target", vec![("resource", &other)]),
        ("invalid_scope", vec![("scope", "nothing known")]),
        ("invalid_scope", vec![("scope", "admin")]),
        ("invalid_authorization_details", vec![("authorization_details", r#"[{"type":"calendar"}]"#)]),
        ("login_required", vec![("prompt", "none")]),
        ("invalid_request", vec![("prompt", "none login")]),
        ("invalid_request", vec![("max_age", "soon")]),
    ] {
        let end = new_browser().open(&world.authorize(&changes)).await.unwrap();
        assert!(end.stopped, "{changes:?}: {} {}", end.status, end.text());
        assert_eq!(end.param("error").as_deref(), Some(error), "{changes:?}: {}", end.url);
        assert_eq!(end.param("iss").as_deref(), Some(world.app.issuer.as_str()));
        assert_eq!(end.param("state").as_deref(), Some("the client's & own"));
        assert!(end.param("error_description").is_some_and(|text| text.len() > 10) && end.param("code").is_none());
    }
    let end = new_browser().open(&world.authorize(&[("state", &endless)])).await.unwrap();
    assert_eq!((end.param("error").as_deref(), end.param("state")), (Some("invalid_request"), Some(endless.clone())));
    assert!(end.param("error_description").unwrap().contains("state is longer than 2048 bytes"), "{}", end.url);
    let huge = new_browser().open(&world.authorize(&[("state", &"s".repeat(17_000))])).await.unwrap();
    assert!(huge.status == 400 && huge.text().contains("longer than 16384 bytes"), "{}", huge.text());
    let good = new_browser().open(&world.authorize(&[("state", &endless[..2_048])])).await.unwrap();
    assert_eq!(good.status, 200);
    let two = format!("{}&resource=x&resource=y", world.authorize(&[]));
    assert_eq!(new_browser().open(&two).await.unwrap().param("error").as_deref(), Some("invalid_target"));
    let twice = format!("{}&scope=mcp&scope=admin", world.authorize(&[]));
    assert_eq!(new_browser().open(&twice).await.unwrap().param("error").as_deref(), Some("invalid_request"));
}

#[tokio::test]
async fn nobody_is_sent_to_a_web_site_that_vouches_for_itself_before_having_done_anything() {
    let world = World::new().await;
    let redirect = "https://evil.example:8443/cb";
    let itself = world.register("Web", &[redirect]);
    let order = json!({ "client_id": "web", "name": "Web", "kind": "public", "redirect_uris": [redirect] });
    world.rest(Method::POST, "/oauth-clients", &order).await;
    let open = async |client: &str, more: (&'static str, &str)| {
        let url = world.authorize(&[("client_id", client), ("redirect_uri", redirect), more]);
        new_browser().stop_at(redirect).open(&url).await.unwrap()
    };
    for (error, wrong) in [
        ("login_required", ("prompt", "none")),
        ("invalid_scope", ("scope", "nothing known")),
        ("invalid_target", ("resource", "https://evil.example/mcp")),
    ] {
        let page = open(&itself, wrong).await;
        assert_eq!((page.status.as_u16(), page.redirects.len(), page.stopped), (400, 0, false), "{}", page.text());
        assert!(page.text().contains("Back to evil.example:8443") && page.text().contains(error), "{}", page.text());
        assert!(page.body.contains(&format!("href=\"{redirect}?error={error}&")), "{}", page.body);
        let end = open("web", wrong).await;
        assert!(end.stopped && end.param("error").as_deref() == Some(error), "an administrator registered that one");
    }
    // The person's no is told to anybody.
    let mut browser = new_browser().stop_at(redirect);
    let page = browser.open(&world.authorize(&[("client_id", &itself), ("redirect_uri", redirect)])).await.unwrap();
    let end = browser.submit(&page, "decision", &[("decision", "deny")]).await.unwrap();
    assert!(end.stopped && end.param("error").as_deref() == Some("access_denied"), "{}", end.url);
    assert_eq!(end.param("iss").as_deref(), Some(world.app.issuer.as_str()));
}

#[tokio::test]
async fn each_resource_and_scope_is_told_in_words() {
    let world = World::new().await;
    let (one, slash, api) = (world.url("/mcp/files"), world.url("/mcp/"), world.url("/api/v1"));
    for (changes, words) in [
        (vec![("resource", one.as_str())], "see and use what the server files offers"),
        (vec![("resource", slash.as_str())], "every server that you may use"),
        (vec![("resource", api.as_str()), ("scope", "mcp admin unknown")], "manage servers, keys and people"),
        (vec![("login_hint", "ada@example.com")], "sign in as ada@example.com"),
    ] {
        let page = new_browser().open(&world.authorize(&changes)).await.unwrap();
        assert_eq!(page.status, 200, "{}", page.text());
        assert!(page.text().contains(words), "{words}: {}", page.text());
    }
    let (mut browser, _) = world.signed_in().await;
    let end = browser.open(&world.authorize(&[("prompt", "none")])).await.unwrap();
    assert_eq!(end.param("error").as_deref(), Some("consent_required"));
    assert!(end.url.as_str().starts_with(REDIRECT));
}
