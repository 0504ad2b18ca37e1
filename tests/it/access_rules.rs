//! Access rules over REST and in the store: whose they are, versions, and what is kept to try changed ones on.

use mcp_registry_gateway::access::{Role, SessionType, Subject};
use mcp_registry_gateway::id::{ServerId, TenantId};
use mcp_registry_gateway::policy::observed::Observed;
use mcp_registry_gateway::policy::{Hints, Place, Thing, What};
use mcp_registry_gateway::store::access_rules::VERSIONS;
use serde_json::{Value, json};

use crate::store_rest::{World, request};

const OPEN: &str = "permit(principal, action, resource);";

on_both! {
    async fn rules_are_their_tenants_own_and_to_others_not_there(db) {
        let world = World::open(db).await;
        let eve = world.acme().await;
        let own = "/admin/policies/acme";
        world.with_key(&eve, &format!("PUT {own}"), json!({"text": "// acme\n"})).await.expect(200);
        assert_eq!(world.call(&format!("GET {own}"), Value::Null).await.expect(200).json()["text"], "// acme\n");
        for (call, body) in [
            ("GET /admin/policies/default", Value::Null),
            ("PUT /admin/policies/default", json!({"text": OPEN})),
            ("GET /admin/policies/default/versions", Value::Null),
            ("GET /admin/policies/default/versions/0", Value::Null),
            ("POST /admin/policies/default/explain", json!({"user": "eve", "server": "x"})),
            ("POST /admin/policies/default/dry-run", json!({"text": OPEN})),
            ("GET /admin/policies/nowhere", Value::Null),
        ] {
            world.with_key(&eve, call, body).await.expect(404);
        }
        let snapshot = world.app.registry.snapshot();
        let tenants = world.app.store.tenants("", 10).await.unwrap();
        let open: Vec<_> = tenants.iter().map(|tenant| (tenant.id.as_str(), snapshot.rules(&tenant.id).is_open())).collect();
        assert_eq!(open, [("acme", false), ("default", true)], "they decide for their own tenant");
        world.call("DELETE /admin/tenants/acme?purge=true&confirm=acme", Value::Null).await.expect(204);
        world.call(&format!("GET {own}"), Value::Null).await.expect(404);
    }
}

on_both! {
    async fn a_version_that_somebody_changed_meanwhile_is_not_overwritten_and_the_last_are_kept(db) {
        let world = World::open(db).await;
        let put = async |text: String, tag: &str| {
            let mut asked = request("PUT", "/api/v1/admin/policies/default", &world.admin, &json!({"text": text}));
            asked.headers_mut().insert("if-match", tag.parse().unwrap());
            world.send(asked).await
        };
        let first = world.call("GET /admin/policies/default", Value::Null).await.expect(200);
        assert!(first.header("etag").starts_with("\"0."));
        assert!(put(format!("{OPEN} // 1"), first.header("etag")).await.expect(200).header("etag").starts_with("\"1."));
        put(format!("{OPEN} // 2"), "\"0\"").await.expect(412);
        put(OPEN.to_owned(), "what").await.expect(412);
        assert_eq!(put(format!("{OPEN} // 1"), "\"1\"").await.expect(200).json()["version"], 1, "nothing is different");
        for number in 2..=VERSIONS + 3 {
            put(format!("{OPEN} // {number}"), "*").await.expect(200);
        }
        let kept = world.call("GET /admin/policies/default/versions", Value::Null).await.expect(200).json();
        let kept: Vec<i64> = kept["items"].as_array().unwrap().iter().map(|item| item["version"].as_i64().unwrap()).collect();
        assert_eq!(kept, (4..=VERSIONS + 3).rev().collect::<Vec<_>>());
        world.call("GET /admin/policies/default/versions/3", Value::Null).await.expect(404);
        world.call("GET /admin/policies/default/versions/x", Value::Null).await.expect(404);
        for wrong in [json!({}), json!({"text": 1}), json!({"text": OPEN, "more": 1}), json!({"text": "\0"})] {
            world.call("PUT /admin/policies/default", wrong).await.expect(422);
        }
        world.call("PUT /admin/policies/default?dry=1", json!({"text": OPEN})).await.expect(422);
        world.call("POST /admin/policies/default/dry-run", json!({"text": OPEN, "days": 0})).await.expect(422);
    }
}

on_both! {
    async fn operations_are_counted_and_the_oldest_go(db) {
        let store = db.open().await;
        let tenant = TenantId::default_tenant();
        let observed = Observed::default();
        let subject = |user: u128| {
            let user = uuid::Uuid::from_u128(user);
            Subject::new(&tenant, user, None, Role::User, &"cli".into(), SessionType::ApiKey, &std::sync::Arc::default())
        };
        let thing = |name: &'static str| Thing {
            place: Place { id: ServerId::default(), revision: 1, slug: "git", tags: &[] },
            what: What::Tool(name, Hints::default()),
        };
        for at in 1..=5 {
            observed.note(&subject(1), &thing("log"), true, at);
        }
        observed.note(&subject(1), &thing("log"), false, 6);
        observed.note(&subject(2), &thing("push"), true, 7);
        observed.flush(&store).await.unwrap();
        observed.note(&subject(1), &thing("log"), true, 9);
        observed.flush(&store).await.unwrap();
        let rows = store.observed(&tenant, 0).await.unwrap();
        let told: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.decision.as_str(), row.count, row.last_at)).collect();
        assert_eq!(told, [("log", "allowed", 6, 9), ("push", "allowed", 1, 7), ("log", "denied", 1, 6)]);
        assert_eq!(store.observed(&tenant, 8).await.unwrap().len(), 1);
        assert_eq!(store.trim_observed("default", 2).await.unwrap(), 1);
        assert_eq!(store.observed(&tenant, 0).await.unwrap().len(), 2);
    }
}

on_both! {
    async fn what_a_provider_counts_somebody_among_reaches_the_rules(db) {
        let world = World::open(db).await;
        let tenant = TenantId::default_tenant();
        let ada = json!({"username": "ada"});
        let id = world.call("POST /users", ada).await.expect(201).json()["id"].as_str().unwrap().parse().unwrap();
        let order = json!({"name": "k", "username": "ada", "servers": "*"});
        let key = world.call("POST /keys", order).await.expect(201).json()["key"].as_str().unwrap().to_owned();
        let caller = || world.app.keyring.authenticate(&key, time::OffsetDateTime::now_utc()).unwrap();
        assert!(caller().subject().memberships().groups.is_empty());
        let (before, shape) = (caller(), *caller().subject().shape());
        world.app.store.set_memberships(&tenant, id, "g aaaaaaaa-0000-4000-8000-000000000001\n", 1).await.unwrap();
        world.app.changed().await.unwrap();
        assert_eq!(caller().subject().memberships().groups.len(), 1);
        assert!(before.has_ended() && *caller().subject().shape() != shape, "what was open under the old ones ends");
        assert_eq!(world.app.store.memberships(&tenant, id).await.unwrap().unwrap().lines().count(), 1);
    }
}
