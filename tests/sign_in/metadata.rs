//! What the gateway says of itself, word for word, and to whom.

use std::fmt::Write as _;

use serde_json::Value;

use crate::world::World;

const PLACES: [&str; 8] = [
    "/.well-known/oauth-protected-resource",
    "/.well-known/oauth-protected-resource/mcp",
    "/.well-known/oauth-protected-resource/mcp/files",
    "/.well-known/oauth-protected-resource/api/v1",
    "/.well-known/oauth-protected-resource/sse",
    "/.well-known/oauth-protected-resource/sse/files",
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
];

#[tokio::test]
async fn metadata_says_where_everything_is() {
    let world = World::with(&["--public-url=https://gateway.example"]).await;
    let mut text = String::new();
    for path in PLACES {
        let answer = world.send("GET", path, &[("host", "gateway.example")], "").await.expect(200);
        assert_eq!(answer.header("cache-control"), "public, max-age=300", "{path}");
        assert_eq!(answer.header("content-type"), "application/json", "{path}");
        _ = write!(text, "{path}\n{}\n\n", serde_json::to_string_pretty(&answer.json()).unwrap());
    }
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn metadata_is_made_of_the_settings_and_never_of_the_host() {
    let world = World::with(&["--public-url=https://gateway.example", "--allowed-hosts=other.example"]).await;
    for path in PLACES {
        for host in ["other.example", "gateway.example", "127.0.0.1:1"] {
            let headers = [("host", host), ("x-forwarded-host", "evil.example"), ("forwarded", "host=evil.example")];
            let text = world.send("GET", path, &headers, "").await.expect(200).text;
            assert!(text.contains("https://gateway.example") && !text.contains("other.example"), "{path}: {text}");
            assert!(!text.contains("evil.example") && !text.contains("127.0.0.1"), "{path}: {text}");
        }
        world.send("GET", path, &[("host", "evil.example")], "").await.expect(403);
    }
}

#[tokio::test]
async fn below_a_path_metadata_stands_with_the_path_behind_it() {
    let world = World::with(&["--public-url=https://gateway.example/gw"]).await;
    for (path, resource) in [
        ("/.well-known/oauth-protected-resource/gw", "https://gateway.example/gw/mcp"),
        ("/.well-known/oauth-protected-resource/gw/mcp/files", "https://gateway.example/gw/mcp/files"),
        ("/.well-known/oauth-protected-resource/api/v1", "https://gateway.example/gw/api/v1"),
    ] {
        assert_eq!(world.send("GET", path, &[], "").await.expect(200).json()["resource"], resource);
    }
    for path in ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"] {
        for path in [path.to_owned(), format!("{path}/gw")] {
            let told = world.send("GET", &path, &[], "").await.expect(200).json();
            assert_eq!(told["issuer"], "https://gateway.example/gw");
            assert_eq!(told["token_endpoint"], "https://gateway.example/gw/oauth/token");
        }
        world.send("GET", &format!("{path}/other"), &[], "").await.expect(404);
    }
    for path in ["/gwx/mcp", "/mcp/a/b", "/mcp/Not-A-Slug", "/sse/a/b", "/api", "/mcp/"] {
        world.send("GET", &format!("/.well-known/oauth-protected-resource{path}"), &[], "").await.expect(404);
    }
}

#[tokio::test]
async fn registration_is_told_of_where_there_is_one() {
    for (args, offered) in [
        (vec!["--client-registration=off"], false),
        (vec!["--client-registration=token", "--client-registration-token=a-registration-token"], true),
    ] {
        let world = World::with(&args).await;
        let told = world.send("GET", "/.well-known/oauth-authorization-server", &[], "").await.expect(200).json();
        assert_eq!(told["registration_endpoint"] != Value::Null, offered, "{told}");
    }
}

#[tokio::test]
async fn pages_of_any_site_may_read_metadata_and_get_tokens_and_nothing_else() {
    let world = World::start().await;
    let page = ("origin", "https://app.example");
    let asks = [page, ("access-control-request-method", "POST"), ("access-control-request-headers", "authorization")];
    for path in PLACES.into_iter().chain(["/oauth/token", "/oauth/register", "/oauth/revoke"]) {
        let may = world.send("OPTIONS", path, &asks, "").await.expect(204);
        let allowed = (may.header("access-control-allow-origin"), may.header("access-control-allow-headers"));
        assert_eq!(allowed, ("*", "authorization"), "{path}");
        assert_eq!(may.header("access-control-allow-credentials"), "", "{path}");
        let method = if path.starts_with("/oauth") { "POST" } else { "GET" };
        let answer = world.send(method, path, &[page], "").await;
        assert_ne!(answer.status, 403, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{path}");
        assert!(!answer.header("vary").contains("origin"), "the same for everybody: {path}");
    }
    for path in ["/mcp", "/api/v1/me", "/oauth/tokens", "/health"] {
        let answer = world.send("GET", path, &[page], "").await.expect(403);
        assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
        world.send("OPTIONS", path, &asks, "").await.expect(403);
    }
}
