//! What is done by way of addresses and names.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;

use crate::world::{KEY, World, browser};

/// SSRF when dialling: a client id is a URL that a stranger chose. However an address inside is written, nobody is called, and the
/// page tells nothing of what is there. (That the address which was checked is the one that is called, whatever the name says a
/// moment later, and that no redirect is followed, is in `src/net/tests.rs` and `src/net/fetch.rs`, where names can be made to
/// change.)
#[tokio::test]
async fn addresses_inside() {
    let world = World::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = listener.local_addr().unwrap().port();
    let shut = {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        other.local_addr().unwrap().port()
    };
    let mut told = Vec::new();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "2852039166",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "10.0.0.1",
        "192.168.0.1",
    ] {
        for port in [open, shut] {
            let id = format!("https://{host}:{port}/client.json");
            let page = browser().open(&world.authorize(&[("client_id", &id)])).await.unwrap();
            assert_eq!((page.status.as_u16(), page.redirects.len()), (400, 0), "{id}: {}", page.text());
            let text = page.text();
            let words = text.split("Number of this request").next().unwrap().replace(&id, "");
            assert!(
                !words.contains("which is") && !words.contains("refused") && !words.contains("loopback"),
                "{words}"
            );
            if id.parse::<url::Url>().unwrap().as_str() == id {
                told.push(words);
            }
        }
    }
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 1, "one answer for whatever is there: {told:#?}");
    let nobody_came = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
    assert!(nobody_came.is_err());
}

/// DNS rebinding of the listener: a web page lets its own name point to this machine. CVE-2025-66414 (GHSA-w48q-cv73-mx4w),
/// GHSA-9h52-p55h-vw2f, GHSA-xw59-hvm2-8pj6.
#[tokio::test]
async fn names_of_others_that_point_here() {
    let world = World::start().await;
    let good = format!("Bearer {KEY}");
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
    let authorize = "/oauth/authorize?client_id=x";
    for (method, path) in [
        ("POST", "/mcp"),
        ("POST", "/mcp/files"),
        ("GET", "/sse"),
        ("GET", "/api/v1/me"),
        ("POST", "/api/v1/login"),
        ("POST", "/oauth/token"),
        ("POST", "/oauth/register"),
        ("GET", authorize),
        ("GET", "/access"),
        ("GET", "/.well-known/oauth-authorization-server"),
        ("GET", "/health"),
        ("GET", "/metrics"),
    ] {
        for host in ["evil.example", "evil.example:8001", "localhost.evil.example", "127.0.0.1.evil.example"] {
            let headers = [("host", host), ("authorization", good.as_str()), ("content-type", "application/json")];
            let told = world.send(method, path, &headers, if method == "POST" { &ping } else { "" }).await;
            assert_eq!(told.status, 403, "{method} {path} as {host}: {}", told.text);
            assert!(told.text.contains("FOREIGN_HOST") && !told.text.contains(host), "{}", told.text);
        }
    }
    // What the page's own origin says gives it away as well, where a cookie or a key would count.
    for path in ["/mcp", "/api/v1/me", "/access", "/oauth/consent"] {
        let headers = [("origin", "http://evil.example"), ("authorization", good.as_str())];
        world.send("POST", path, &headers, &ping).await.expect(403);
    }
}
