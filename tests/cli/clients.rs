//! OAuth clients on a real gateway.

use serde_json::json;

use crate::real::{Real, find};

#[tokio::test]
async fn a_client_is_registered_shown_changed_rotated_and_removed() {
    let gateway = Real::start().await;
    let args = ["clients", "add", "portal", "--kind", "confidential", "--redirect", "https://portal.example/callback"];
    let first = gateway.run(&args).await.expect(0);
    let secret = first.out.trim().to_owned();
    assert!(secret.starts_with("mcpg_cs_") && first.err.contains("shown this once"), "{}", first.err);
    let again = gateway.run(&args).await.expect(1).err;
    assert!(again.contains("taken"), "{again}");
    let bad = ["clients", "add", "x", "--redirect", "http://portal.example/"];
    let refused = gateway.run(&bad).await.expect(1).err;
    assert!(refused.contains("redirect_uris[0]") && refused.contains("use https"), "{refused}");

    let shown = gateway.run(&["clients", "show", "portal"]).await.expect(0).out;
    assert!(shown.contains(&secret[..12]) && !shown.contains(&secret), "{shown}");
    let name = ["clients", "edit", "portal", "--name", "The Portal", "--scope", "mcp", "--json"];
    let edited = gateway.run(&name).await.expect(0).json();
    assert_eq!((&edited["name"], &edited["scopes"]), (&json!("The Portal"), &json!(["mcp"])));
    assert_eq!(edited.get("dpop_bound_access_tokens"), None);
    gateway.run(&["clients", "edit", "portal", "--dpop"]).await.expect(0);
    let bound = gateway.run(&["clients", "show", "portal"]).await.expect(0).out;
    assert!(bound.contains("bound to a key of its own"), "{bound}");
    let freed = gateway.run(&["clients", "edit", "portal", "--dpop=false", "--json"]).await.expect(0).json();
    assert_eq!(freed.get("dpop_bound_access_tokens"), None);
    let second = gateway.run(&["clients", "rotate", "portal"]).await.expect(0).out;
    assert_ne!(second.trim(), secret);
    gateway.run(&["clients", "rotate", "portal", "--drop", &secret[..12]]).await.expect(0);
    let secrets = gateway.run(&["clients", "show", "portal", "--json"]).await.expect(0).json()["secrets"].clone();
    assert_eq!((secrets.as_array().unwrap().len(), &secrets[0]["hint"]), (1, &json!(second[..12])));

    let service = ["clients", "add", "nightly", "--kind", "service", "--role", "server_owner", "--json"];
    let service = gateway.run(&service).await.expect(0).json();
    assert_eq!((&service["role"], service["client_secret"].is_string()), (&json!("server_owner"), true));
    let list = gateway.run(&["clients", "list", "--json"]).await.expect(0).json();
    assert_eq!(find(&list, "client_id", "portal")["kind"], "confidential");
    let table = gateway.run(&["clients", "list"]).await.expect(0).out;
    let row: Vec<&str> = table.lines().find(|line| line.starts_with("nightly")).unwrap().split_whitespace().collect();
    assert_eq!(row[1..], ["nightly", "service", "client_secret_basic", "server_owner", "mcp", "-"], "{table}");

    gateway.run(&["clients", "remove", "portal"]).await.expect(0);
    let gone = gateway.run(&["clients", "show", "portal"]).await.expect(1).err;
    assert!(gone.contains("there is no client `portal`"), "{gone}");
    assert_eq!(gateway.run(&["clients", "list", "--json"]).await.json()["items"].as_array().unwrap().len(), 1);
}
