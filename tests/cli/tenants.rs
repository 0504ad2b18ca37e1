//! Tenants on a real gateway.

use serde_json::json;

use crate::real::{Real, find};

const FABRIKAM: &str = "fab00000-0000-4000-8000-000000000002";

#[tokio::test]
async fn a_tenant_comes_is_changed_suspended_and_goes() {
    let gateway = Real::start().await;
    let made =
        gateway.run(&["tenants", "add", "acme", "--name", "Acme", "--directory", FABRIKAM, "--json"]).await.expect(0);
    assert_eq!(made.json()["entra_tenant_ids"], json!([FABRIKAM]));
    let list = gateway.run(&["tenants", "list"]).await.expect(0).out;
    assert!(list.contains("acme") && list.contains("default") && list.contains(FABRIKAM), "{list}");
    let held = gateway.run(&["tenants", "add", "other", "--directory", FABRIKAM]).await.expect(1).err;
    assert!(held.contains("belongs to the tenant `acme`"), "{held}");

    let eve = ["users", "add", "eve", "--tenant", "acme", "--role", "tenant_admin", "--json"];
    assert!(gateway.run(&eve).await.expect(0).json()["password"].is_string());
    let users = gateway.run(&["users", "list"]).await.expect(0).out;
    assert!(!users.contains("eve"), "she is of another tenant: {users}");

    gateway.run(&["tenants", "edit", "acme"]).await.expect(2);
    gateway.run(&["tenants", "edit", "acme", "--name", "Acme Ltd", "--no-directories"]).await.expect(0);
    let state = async || {
        let list = gateway.run(&["tenants", "list", "--json"]).await.expect(0).json();
        find(&list, "tenant_id", "acme")["state"].as_str().unwrap().to_owned()
    };
    assert!(gateway.run(&["tenants", "remove", "acme"]).await.expect(0).out.contains("suspended acme"));
    assert_eq!(state().await, "suspended");
    gateway.run(&["tenants", "edit", "acme", "--resume"]).await.expect(0);
    assert_eq!(state().await, "active");
    let shown = gateway.run(&["tenants", "show", "acme"]).await.expect(0).out;
    assert!(shown.contains("Acme Ltd") && shown.contains("directories: none"), "{shown}");
    assert!(shown.contains("guests: let in"), "{shown}");
    for (flag, said) in [("--no-guests", "guests: refused"), ("--guests", "guests: let in")] {
        let told = gateway.run(&["tenants", "edit", "acme", flag]).await.expect(0).out;
        assert!(told.contains(said), "{flag}: {told}");
    }

    let granted =
        gateway.run(&["tenants", "limits", "acme", "--weight", "2", "--base-rpm", "600", "--json"]).await.expect(0);
    assert_eq!(granted.json()["limits"]["base_rpm"], 600);
    gateway.run(&["tenants", "edit", "acme", "--priority-support", "true"]).await.expect(0);
    let shown = gateway.run(&["tenants", "show", "acme"]).await.expect(0).out;
    for part in ["requests a minute: 600", "weight: 2", "burst factor: that of the settings", "priority support: yes"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let rules = ["tenants", "edit", "acme", "--role-mapping", "Mcp.Ops=server_owner", "--role-mapping", "a=b=user"];
    let told = gateway.run(&rules).await.expect(0).out;
    assert!(told.contains("roles: Mcp.Ops=server_owner, a=b=user"), "{told}");
    let told = gateway.run(&["tenants", "edit", "acme", "--no-role-mappings"]).await.expect(0).out;
    assert!(told.contains("roles: by the rules of the settings"), "{told}");
    gateway.run(&["tenants", "edit", "acme", "--role-mapping", "x=admin"]).await.expect(1);
    gateway.run(&["tenants", "edit", "acme", "--role-mapping", "x"]).await.expect(2);
    let told = gateway.run(&["tenants", "edit", "acme", "--audit-days", "90"]).await.expect(0).out;
    assert!(told.contains("audit trail kept: 90 days") && told.contains("analytics kept: 395 days"), "{told}");
    let open = gateway.run(&["tenants", "limits", "acme", "--base-rpm", "none"]).await.expect(0).out;
    assert!(open.contains("requests a minute: no cap") && open.contains("burst factor: 1.5"), "{open}");
    let wrong = gateway.run(&["tenants", "limits", "acme", "--weight", "0", "--burst", "99"]).await.expect(1).err;
    assert!(wrong.contains("fairness_weight") && wrong.contains("1 to 10"), "{wrong}");
    gateway.run(&["tenants", "limits", "acme", "--weight", "none"]).await.expect(2);
    let made = gateway
        .run(&["tenants", "add", "vip", "--burst", "3", "--enhanced-monitoring", "true", "--json"])
        .await
        .expect(0);
    assert_eq!(
        (&made.json()["rate_limits"]["burst_factor"], &made.json()["features"]["enhanced_monitoring"]),
        (&json!(3.0), &json!(true))
    );

    let asked = gateway.run(&["tenants", "remove", "acme", "--purge"]).await.expect(1).err;
    assert!(asked.contains("1 accounts") && asked.contains("--confirm acme"), "{asked}");
    gateway.run(&["tenants", "remove", "acme", "--purge", "--confirm", "acme"]).await.expect(0);
    let gone = gateway.run(&["tenants", "show", "acme"]).await.expect(1).err;
    assert!(gone.contains("there is no tenant `acme`"), "{gone}");
    gateway.run(&["tenants", "remove", "default"]).await.expect(1);
}
