//! Trusted issuers on both databases, and what ends with the trust.

use mcp_registry_gateway::grants::trusted::login_method;
use mcp_registry_gateway::grants::{GrantKind, Issue, Order, ScopeSet};
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::store::now;
use serde_json::{Value, json};

use crate::store_rest::World;

fn issuer(name: &str) -> Value {
    json!({
        "name": name, "issuer": format!("https://{name}.example"), "profiles": ["id_jag", "workload"],
        "roles_claim": "groups", "roles": {"admin": ["ops"], "user": ["staff"]}, "algorithms": ["ES256"],
        "audience": "api://gateway", "scopes": ["mcp", "admin"], "subject_claim": "oid",
    })
}

on_both! {
    async fn an_issuer_is_trusted_listed_and_trusted_no_longer(db) {
        let world = World::open(db).await;
        for name in ["corp", "acme", "zeta"] {
            let made = world.call("POST /trusted-issuers", issuer(name)).await.expect(201).json();
            for (field, value) in issuer(name).as_object().unwrap() {
                assert_eq!(&made[field], value, "{field}");
            }
        }
        let page = world.call("GET /trusted-issuers?limit=2", Value::Null).await.expect(200).json();
        let names: Vec<_> = page["items"].as_array().unwrap().iter().map(|item| item["name"].clone()).collect();
        assert_eq!(names, ["acme", "corp"]);
        let next = format!("GET /trusted-issuers?limit=2&cursor={}", page["next_cursor"].as_str().unwrap());
        let page = world.call(&next, Value::Null).await.expect(200).json();
        assert_eq!((&page["items"][0]["name"], &page["next_cursor"]), (&json!("zeta"), &Value::Null));
        let twice = json!({"name": "other", "issuer": "https://corp.example", "profiles": ["workload"]});
        world.call("POST /trusted-issuers", twice).await.expect(409);

        let tenant = TenantId::default_tenant();
        let ada = world.call("POST /users", json!({"username": "ada"})).await.expect(201).json();
        let user = ada["id"].as_str().unwrap().parse().unwrap();
        let order = |method: String| Order {
            tenant: tenant.clone(),
            user,
            client_id: "editor".into(),
            client_name: None,
            resource: "http://127.0.0.1:8001/mcp".into(),
            scopes: ScopeSet::DEFAULT,
            login_method: method,
            login: None,
        };
        let grants = &world.app.grants;
        let issue = async |method: String, parent| {
            let how = Issue { parent, ..Issue::alone(GrantKind::Client) };
            grants.issue(&order(method), how, now()).await.unwrap()
        };
        let own = issue(login_method("corp"), None).await;
        let behind = issue("local".into(), Some(own.grant)).await;
        let other = issue(login_method("acme"), None).await;
        world.call("DELETE /trusted-issuers/corp", Value::Null).await.expect(204);
        let live = grants.of_user(&tenant, user, now()).await.unwrap();
        assert_eq!(live.iter().map(|grant| grant.id).collect::<Vec<_>>(), [other.grant], "{own:?} {behind:?}");
        let gone = world.call("GET /trusted-issuers/corp", Value::Null).await.expect(404).json();
        assert_eq!(gone["detail"], "there is no such trusted issuer");
        world.call("DELETE /trusted-issuers/corp", Value::Null).await.expect(404);
        world.call("POST /trusted-issuers", issuer("corp")).await.expect(201);
    }
}
