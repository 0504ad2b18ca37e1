//! Whose the people of a provider without directories are.

use mcp_registry_gateway::access::Role;
use mcp_registry_gateway::idp::Person;
use mcp_registry_gateway::store::now;
use serde_json::json;

use crate::world::World;

fn grace() -> Person {
    Person {
        issuer: "https://login.example/realm".to_owned(),
        subject: "u-1".to_owned(),
        directory: None,
        username: "grace".to_owned(),
        display_name: None,
        role: Some(Role::Admin),
        guest: false,
        app_only: false,
        authenticated_at: None,
    }
}

#[tokio::test]
async fn people_of_another_provider_are_of_the_tenant_in_the_settings() {
    let world = World::start().await;
    let known = world.app.account_of(&grace(), Role::Admin, now()).await.unwrap();
    assert_eq!((known.tenant.as_str(), known.role), ("default", Role::Admin));

    let world = World::with(&["--oidc-tenant=acme"]).await;
    let refused = world.app.account_of(&grace(), Role::Admin, now()).await.unwrap_err();
    assert_eq!(refused.reason, "no_tenant");
    assert!(refused.detail.contains("`acme`") && refused.detail.contains("MREG_OIDC_TENANT"), "{}", refused.detail);
    world.rest("POST", "/admin/tenants", json!({"tenant_id": "acme"})).await.expect(201);
    let known = world.app.account_of(&grace(), Role::Admin, now()).await.unwrap();
    assert_eq!((known.tenant.as_str(), known.role), ("acme", Role::TenantAdmin));
    let taken = json!({"tenant_id": "other", "entra_tenant_ids": ["fab00000-0000-4000-8000-000000000002"]});
    world.rest("POST", "/admin/tenants", taken).await.expect(201);
    assert!(!world.app.account_of(&grace(), Role::Admin, now()).await.unwrap().is_new, "directories are Entra's");
}
