//! Trusted issuers, and clients that live by them, on a real gateway.

use serde_json::json;

use crate::real::Real;

#[tokio::test]
async fn an_issuer_is_trusted_shown_listed_and_trusted_no_longer() {
    let gateway = Real::start().await;
    let none = gateway.run(&["trust", "list"]).await.expect(0).out;
    assert!(none.contains("no issuer is trusted"), "{none}");
    let args = ["trust", "add", "corp", "--issuer", "https://idp.example.com", "--roles-claim", "groups"];
    let more =
        ["--role-of", "admin=ops", "--role-of", "user=staff", "--role-of", "user=guests", "--algorithm", "ES256"];
    let made = gateway.run(&[&args[..], &more].concat()).await.expect(0).out;
    assert_eq!(made.trim(), "trusts https://idp.example.com as corp");
    let bad = gateway.run(&["trust", "add", "other", "--issuer", "http://idp.example.com"]).await.expect(1).err;
    assert!(bad.contains("issuer: must be an https URL") && bad.contains("nobody would be let in"), "{bad}");
    gateway.run(&["trust", "add", "other", "--issuer", "https://a.example", "--role-of", "admin"]).await.expect(2);

    let shown = gateway.run(&["trust", "show", "corp"]).await.expect(0).out;
    for part in
        ["id_jag", "admin for groups=ops", "user for groups=staff guests", "ES256", "as the issuer publishes them"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let cluster = ["trust", "add", "ci", "--profile", "workload", "--issuer", "https://ci.example", "--json"];
    let cluster = gateway.run(&cluster).await.expect(0).json();
    assert_eq!((&cluster["profiles"], cluster.get("role")), (&json!(["workload"]), None));
    let table = gateway.run(&["trust", "list"]).await.expect(0).out;
    assert!(table.lines().count() == 3 && table.contains("https://ci.example"), "{table}");

    let build = ["clients", "add", "build", "--kind", "service", "--workload", "https://ci.example=repo:me/app"];
    let build = gateway.run(&[&build[..], &["--json"]].concat()).await.expect(0).json();
    assert_eq!((&build["workloads"][0]["subject"], build.get("client_secret")), (&json!("repo:me/app"), None));
    let editor =
        ["clients", "add", "editor", "--kind", "confidential", "--grant", "jwt-bearer", "--grant", "token-exchange"];
    assert!(gateway.run(&editor).await.expect(0).out.starts_with("mcpg_cs_"));
    let shown = gateway.run(&["clients", "show", "editor"]).await.expect(0).out;
    assert!(shown.contains("urn:ietf:params:oauth:grant-type:jwt-bearer"), "{shown}");

    gateway.run(&["trust", "remove", "corp"]).await.expect(0);
    let gone = gateway.run(&["trust", "show", "corp"]).await.expect(1).err;
    assert!(gone.contains("there is no trusted issuer `corp`") && gone.contains("trust list"), "{gone}");
}
