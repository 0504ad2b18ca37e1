//! Tenants over REST: who makes and sees them, and that one does not see another.

use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::store::catalogs::CatalogRow;
use serde_json::{Value, json};

use crate::store_databases::Database;
use crate::store_rest::{World, request, server};

const FABRIKAM: &str = "fab00000-0000-4000-8000-000000000002";
const PASSWORD: &str = "a long pass phrase";

impl World {
    /// A tenant `acme`, and a key of its administrator `eve`, who signs in by password.
    pub async fn acme(&self) -> String {
        self.call("POST /admin/tenants", json!({"tenant_id": "acme"})).await.expect(201);
        let eve = json!({"username": "eve", "password": PASSWORD, "role": "tenant_admin", "tenant_id": "acme"});
        self.call("POST /users", eve).await.expect(201);
        self.login("acme/eve").await
    }

    /// What `tools/list` answers at `/mcp`, without a session.
    async fn listed(&self, key: &str) -> String {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
        let mut asked = request("POST", "/mcp", key, &body);
        for (name, value) in [
            ("accept", "application/json, text/event-stream"),
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/list"),
        ] {
            asked.headers_mut().insert(name, value.parse().unwrap());
        }
        self.send(asked).await.expect(200).text
    }

    async fn login(&self, name: &str) -> String {
        let made = self.with_key("", "POST /login", json!({"username": name, "password": PASSWORD})).await;
        made.expect(200).json()["key"].as_str().unwrap().to_owned()
    }
}

on_both! {
    async fn a_tenant_is_made_changed_suspended_and_removed(db) {
        let world = World::open(db).await;
        let order = json!({"tenant_id": "acme", "display_name": "Acme", "entra_tenant_ids": [FABRIKAM, FABRIKAM]});
        let made = world.call("POST /admin/tenants", order.clone()).await.expect(201);
        assert_eq!(made.header("location"), "/api/v1/admin/tenants/acme");
        assert_eq!(made.json()["entra_tenant_ids"], json!([FABRIKAM]));
        assert_eq!(made.json()["guests"], true, "unless something else is said");
        let closed = json!({"tenant_id": "closed", "guests": false});
        assert_eq!(world.call("POST /admin/tenants", closed).await.expect(201).json()["guests"], false);
        let told = world.call("PATCH /admin/tenants/closed", json!({"display_name": "Closed"})).await.expect(200);
        assert_eq!(told.json()["guests"], false, "what is not named stays");
        assert_eq!(world.call("POST /admin/tenants", order).await.expect(409).json()["code"], "TAKEN");
        let held = json!({"tenant_id": "other", "entra_tenant_ids": [FABRIKAM]});
        let held = world.call("POST /admin/tenants", held).await.expect(409).json();
        assert!(held["code"] == "DIRECTORY_TAKEN" && held["detail"].as_str().unwrap().contains("acme"), "{held}");
        world.call("GET /admin/tenants/other", Value::Null).await.expect(404);
        for wrong in [
            json!({"tenant_id": "A_B"}),
            json!({"tenant_id": "b", "display_name": " "}),
            json!({"tenant_id": "b", "entra_tenant_ids": ["x"]}),
            json!({"tenant_id": "b", "rate_limits": {"rpm": 1}}),
            json!({"tenant_id": "b", "features": {"gold": true}}),
            json!({"tenant_id": "b", "features": {"priority_support": "yes"}}),
            json!({"tenant_id": "b", "rate_limits": 5}),
        ] {
            world.call("POST /admin/tenants", wrong).await.expect(422);
        }

        let key = {
            let eve = json!({"username": "eve", "password": PASSWORD, "role": "tenant_admin", "tenant_id": "acme"});
            world.call("POST /users", eve).await.expect(201);
            world.login("acme/eve").await
        };
        world.with_key(&key, "POST /servers", server("files")).await.expect(201);
        let served = || world.app.registry.snapshot().entries().count();
        assert_eq!(served(), 1);
        world.call("DELETE /admin/tenants/acme", Value::Null).await.expect(204);
        assert_eq!(served(), 0, "nothing of it is started or called");
        assert_eq!(world.call("GET /admin/tenants/acme", Value::Null).await.expect(200).json()["state"], "suspended");
        assert_eq!(world.with_key(&key, "GET /me", Value::Null).await.expect(401).json()["code"], "TENANT_SUSPENDED");
        let again = json!({"username": "acme/eve", "password": PASSWORD});
        world.with_key("", "POST /login", again).await.expect(401);
        world.call("PATCH /admin/tenants/acme", json!({"state": "active", "display_name": "Acme Ltd"})).await.expect(200);
        assert_eq!(served(), 1);
        world.with_key(&key, "GET /me", Value::Null).await.expect(200);

        let asked = world.call("DELETE /admin/tenants/acme?purge=true", Value::Null).await.expect(409).json();
        assert!(asked["code"] == "NOT_CONFIRMED" && asked["detail"].as_str().unwrap().contains("1 accounts"), "{asked}");
        world.call("DELETE /admin/tenants/acme?purge=true&confirm=acm", Value::Null).await.expect(409);
        world.call("DELETE /admin/tenants/acme?purge=true&confirm=acme", Value::Null).await.expect(204);
        world.call("GET /admin/tenants/acme", Value::Null).await.expect(404);
        world.with_key(&key, "GET /me", Value::Null).await.expect(401);
        for call in ["DELETE /admin/tenants/default", "DELETE /admin/tenants/default?purge=true&confirm=default"] {
            world.call(call, Value::Null).await.expect(422);
        }
    }
}

on_both! {
    async fn a_tenant_that_is_removed_is_offered_nothing_when_another_comes_under_its_name(db) {
        let world = World::open(db).await;
        world.acme().await;
        for (slug, to) in [("both", json!(["acme", "other"])), ("one", json!(["acme"])), ("all", json!("*")), ("none", json!([]))] {
            let mut spec = server(slug);
            spec["offered_to"] = to;
            world.call("POST /servers", spec).await.expect(201);
        }
        world.call("DELETE /admin/tenants/acme?purge=true&confirm=acme", Value::Null).await.expect(204);
        let key = world.acme().await;
        let list = world.with_key(&key, "GET /servers", Value::Null).await.expect(200).json();
        let seen: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|server| &server["slug"]).collect();
        assert_eq!(seen, ["all"]);
        let both = world.call("GET /servers/both", Value::Null).await.expect(200).json();
        assert_eq!((&both["offered_to"], &both["revision"]), (&json!(["other"]), &json!(2)));
        assert_eq!(world.call("GET /servers/all", Value::Null).await.expect(200).json()["revision"], 1);
        assert_eq!(world.call("GET /servers/one", Value::Null).await.expect(200).json().get("offered_to"), None);
    }
}

on_both! {
    async fn what_a_tenant_is_granted_is_set_read_and_kept(db) {
        let world = World::open(db).await;
        let order = json!({"tenant_id": "acme", "rate_limits": {"base_rpm": 600, "fairness_weight": 2.5, "burst_factor": 3},
            "features": {"priority_support": true}});
        let made = world.call("POST /admin/tenants", order).await.expect(201).json();
        let limits = json!({"base_rpm": 600, "fairness_weight": 2.5, "burst_factor": 3.0, "max_concurrent_requests": null});
        assert_eq!(made["rate_limits"], limits);
        assert_eq!(made["features"], json!({"enhanced_monitoring": false, "priority_support": true, "recorded_arguments": false}));
        let usual = world.call("GET /admin/tenants/default", Value::Null).await.expect(200).json();
        assert_eq!(usual["rate_limits"], json!({"base_rpm": null, "fairness_weight": 1.0, "burst_factor": null,
            "max_concurrent_requests": null}));

        let change = json!({"rate_limits": {"base_rpm": null, "max_concurrent_requests": 9}, "features": {"enhanced_monitoring": true}});
        let told = world.call("PATCH /admin/tenants/acme", change).await.expect(200).json();
        assert_eq!(told["rate_limits"], json!({"base_rpm": null, "fairness_weight": 2.5, "burst_factor": 3.0,
            "max_concurrent_requests": 9}), "what is not named stays");
        assert_eq!(told["features"], json!({"enhanced_monitoring": true, "priority_support": true, "recorded_arguments": false}));

        let set = |body: Value| world.call("POST /admin/tenant-limits/acme", body);
        let first = set(json!({"fairness_weight": 4, "burst_factor": null})).await.expect(200).json();
        assert_eq!(first["tenant_id"], "acme");
        assert_eq!(first["limits"], json!({"base_rpm": null, "fairness_weight": 4.0, "burst_factor": 1.5,
            "max_concurrent_requests": 9}), "the factor in force is that of the settings");
        assert!(first["in_force_from"].as_str() > made["created_at"].as_str(), "{first}");
        let again = set(json!({"fairness_weight": 4})).await.expect(200).json();
        assert_eq!(again, first, "what is said twice is in force since the first time");
        assert_eq!(world.call("GET /admin/tenant-limits/acme", Value::Null).await.expect(200).json(), first);

        let wrong = json!({"base_rpm": 0, "fairness_weight": "NaN", "burst_factor": 11, "max_concurrent_requests": -1});
        let named = |problem: &Value| {
            let errors = problem["errors"].as_array().unwrap().iter();
            errors.map(|error| error["field"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let told = set(wrong.clone()).await.expect(422).json();
        assert_eq!(named(&told), ["base_rpm", "max_concurrent_requests", "fairness_weight", "burst_factor"]);
        let order = json!({"tenant_id": "A", "display_name": " ", "rate_limits": wrong});
        let told = world.call("POST /admin/tenants", order).await.expect(422).json();
        assert_eq!(named(&told)[..3], ["tenant_id", "display_name", "rate_limits.base_rpm"]);
        for wrong in [json!({}), json!({"rpm": 1}), json!([]), json!({"base_rpm": null, "fairness_weight": null})] {
            set(wrong).await.expect(422);
        }
        world.call("POST /admin/tenant-limits/none", json!({"base_rpm": 1})).await.expect(404);
        assert_eq!(world.call("GET /admin/tenant-limits/acme", Value::Null).await.expect(200).json(), first);
    }
}

#[tokio::test]
async fn a_tenants_administrator_reads_what_it_is_granted_and_sets_nothing() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let eve = world.acme().await;
    world.with_key(&eve, "GET /admin/tenant-limits/acme", Value::Null).await.expect(200);
    world.with_key(&eve, "POST /admin/tenant-limits/acme", json!({"base_rpm": 1})).await.expect(403);
    for change in [json!({"rate_limits": {"base_rpm": 1}}), json!({"features": {"priority_support": true}})] {
        world.with_key(&eve, "PATCH /admin/tenants/acme", change).await.expect(403);
    }
    for other in ["default", "none"] {
        world.with_key(&eve, &format!("GET /admin/tenant-limits/{other}"), Value::Null).await.expect(404);
        world.with_key(&eve, &format!("POST /admin/tenant-limits/{other}"), json!({"x": 1})).await.expect(404);
    }
}

on_both! {
    async fn what_gives_roles_in_a_tenant_is_set_by_who_may_give_them(db) {
        let world = World::open(db).await;
        let eve = world.acme().await;
        let rules = json!([{"value": "Mcp.Ops", "role": "tenant_admin"}, {"value": "Mcp.Ops", "role": "tenant_admin"}]);
        let told = world.with_key(&eve, "PATCH /admin/tenants/acme", json!({"role_mappings": rules})).await.expect(200).json();
        assert_eq!(told["role_mappings"], json!([rules[0]]), "each once");
        let kept = world.call("PATCH /admin/tenants/acme", json!({"display_name": "A"})).await.expect(200).json();
        assert_eq!(kept["role_mappings"], told["role_mappings"], "what is not named stays");
        let rule = |value: &str, role: &str| json!({"role_mappings": [{"value": value, "role": role}]});
        for (wrong, field) in [
            (rule("Mcp.Ops", "admin"), "role_mappings[0].role"),
            (rule("", "user"), "role_mappings[0].value"),
            (rule(" x", "user"), "role_mappings[0].value"),
            (rule("*", "server_owner"), "role_mappings[0].value"),
            (rule("x", "king"), "role_mappings[0].role"),
            (json!({"role_mappings": [{"value": "x"}]}), "role_mappings[0].role"),
            (json!({"role_mappings": vec![json!({"value": "x", "role": "user"}); 201]}), "role_mappings"),
        ] {
            let told = world.call("PATCH /admin/tenants/acme", wrong).await.expect(422).json();
            assert_eq!(told["errors"][0]["field"], field, "{told}");
        }
        world.with_key(&eve, "PATCH /admin/tenants/acme", rule("x", "admin")).await.expect(403);
        world.with_key(&eve, "PATCH /admin/tenants/default", rule("x", "user")).await.expect(404);

        let admins = rule("Mcp.Admin", "admin");
        world.call("PATCH /admin/tenants/default", admins.clone()).await.expect(200);
        let dora = json!({"username": "dora", "password": PASSWORD, "role": "tenant_admin"});
        world.call("POST /users", dora).await.expect(201);
        let dora = world.login("dora").await;
        for taken in [json!({"role_mappings": []}), rule("Mcp.Admin", "user"), rule("Mcp.Other", "admin")] {
            world.with_key(&dora, "PATCH /admin/tenants/default", taken).await.expect(403);
        }
        let more = json!({"role_mappings": [admins["role_mappings"][0], {"value": "Ops", "role": "tenant_admin"}]});
        world.with_key(&dora, "PATCH /admin/tenants/default", more).await.expect(403);
        let none = world.call("PATCH /admin/tenants/default", json!({"role_mappings": []})).await.expect(200).json();
        assert_eq!(none["role_mappings"], json!([]));
    }
}

on_both! {
    async fn for_how_long_what_is_recorded_of_a_tenant_is_kept_is_said_in_days(db) {
        let world = World::open(db).await;
        let eve = world.acme().await;
        let kept = world.with_key(&eve, "GET /admin/tenants/acme", Value::Null).await.expect(200).json()["retention"].clone();
        assert_eq!(kept, json!({"audit_days": 365, "analytics_days": 395}));
        let told = world.call("PATCH /admin/tenants/acme", json!({"retention": {"audit_days": 30}})).await.expect(200).json();
        assert_eq!(told["retention"], json!({"audit_days": 30, "analytics_days": 395}), "what is not named stays");
        let order = json!({"tenant_id": "long", "retention": {"audit_days": 3650, "analytics_days": 1096}});
        let made = world.call("POST /admin/tenants", order).await.expect(201).json();
        assert_eq!(made["retention"], json!({"audit_days": 3650, "analytics_days": 1096}));
        for wrong in [json!({"audit_days": 29, "analytics_days": 0}), json!({"audit_days": "365", "analytics_days": 1097})] {
            let told = world.call("PATCH /admin/tenants/acme", json!({"retention": wrong})).await.expect(422).json();
            assert_eq!((&told["errors"][0]["field"], &told["errors"][1]["field"]),
                (&json!("retention.audit_days"), &json!("retention.analytics_days")));
        }
        world.call("PATCH /admin/tenants/acme", json!({"retention": {"days": 30}})).await.expect(422);
        world.with_key(&eve, "PATCH /admin/tenants/acme", json!({"retention": {"audit_days": 30}})).await.expect(403);
    }
}

on_both! {
    async fn secrets_of_a_tenant_outlast_the_process_and_end_with_the_tenant(db) {
        let world = World::open(db).await;
        let eve = world.acme().await;
        let mut files = server("files");
        files["headers"] = json!({"authorization": "Bearer s3cret"});
        world.with_key(&eve, "POST /servers", files.clone()).await.expect(201);
        let world = world.restarted().await;
        let known = |world: &World| {
            let servers = world.app.registry.snapshot();
            let entry = servers.entries().next().map(|entry| entry.upstream.server.spec.clone());
            entry.map(|spec| spec.headers["authorization"].expose().to_owned())
        };
        assert_eq!(known(&world).as_deref(), Some("Bearer s3cret"));
        let beside = world.beside(db).await;
        world.call("DELETE /admin/tenants/acme?purge=true&confirm=acme", Value::Null).await.expect(204);
        let eve = world.acme().await;
        world.with_key(&eve, "POST /servers", files).await.expect(201);
        beside.app.changed().await.unwrap();
        assert_eq!(known(&beside).as_deref(), Some("Bearer s3cret"), "another process takes over the new key");
    }
}

#[tokio::test]
async fn a_tenants_administrator_sees_it_and_no_other() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let eve = world.acme().await;
    let list = world.with_key(&eve, "GET /admin/tenants", Value::Null).await.expect(200).json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list["items"][0]["tenant_id"], "acme");
    world.with_key(&eve, "PATCH /admin/tenants/acme", json!({"display_name": "Acme!"})).await.expect(200);
    let told = world.with_key(&eve, "PATCH /admin/tenants/acme", json!({"guests": false})).await.expect(200);
    assert_eq!(told.json()["guests"], false);
    for change in [json!({"entra_tenant_ids": [FABRIKAM]}), json!({"state": "suspended"})] {
        world.with_key(&eve, "PATCH /admin/tenants/acme", change).await.expect(403);
    }
    world.with_key(&eve, "POST /admin/tenants", json!({"tenant_id": "more"})).await.expect(403);
    world.with_key(&eve, "DELETE /admin/tenants/acme", Value::Null).await.expect(403);
    for call in ["GET", "PATCH", "DELETE"] {
        for other in ["default", "none"] {
            let body = if call == "PATCH" { json!({"display_name": "x"}) } else { Value::Null };
            world.with_key(&eve, &format!("{call} /admin/tenants/{other}"), body).await.expect(404);
        }
    }
    let order = |tenant: &str, role: &str| json!({"username": "mallory", "tenant_id": tenant, "role": role});
    for tenant in ["default", "none"] {
        world.with_key(&eve, "POST /users", order(tenant, "user")).await.expect(422);
    }
    world.with_key(&eve, "POST /users", order("acme", "admin")).await.expect(403);
    world.call("POST /users", order("acme", "admin")).await.expect(422);
    world.with_key(&eve, "POST /users", order("acme", "user")).await.expect(201);
}

#[tokio::test]
async fn two_tenants_have_servers_people_keys_and_clients_of_the_same_names() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let eve = world.acme().await;
    for key in [world.admin.clone(), eve] {
        let client =
            json!({"client_id": if key == world.admin { "a" } else { "b" }, "name": "Client", "kind": "service"});
        world.with_key(&key, "POST /servers", server("files")).await.expect(201);
        world.with_key(&key, "POST /users", json!({"username": "ada"})).await.expect(201);
        world.with_key(&key, "POST /keys", json!({"name": "ci", "servers": "*", "username": "ada"})).await.expect(201);
        world.with_key(&key, "POST /oauth-clients", client).await.expect(201);
        for (list, most) in [("/servers", 1), ("/keys", 2), ("/oauth-clients", 1)] {
            let items = world.with_key(&key, &format!("GET {list}"), Value::Null).await.expect(200).json();
            let count = items["items"].as_array().unwrap().len();
            assert!((1..=most).contains(&count), "{list}: {items}");
        }
    }
    let taken = json!({"client_id": "a", "name": "x", "kind": "service"});
    let eve = world.login("acme/eve").await;
    world.with_key(&eve, "POST /oauth-clients", taken).await.expect(409);
}

#[tokio::test]
async fn each_tenant_finds_the_tools_of_its_own_server_under_one_name() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let eve = world.acme().await;
    let admin = world.admin.clone();
    for (key, tenant, tool) in
        [(&admin, TenantId::default_tenant(), "ours"), (&eve, of(&world, "acme").await, "theirs")]
    {
        world.with_key(key, "POST /servers", server("files")).await.expect(201);
        let row = world.app.store.server(&tenant, "files").await.unwrap().unwrap();
        let items = json!([{"name": tool, "description": "Finds things", "inputSchema": {"type": "object"}}]);
        let items = items.to_string().into_bytes();
        let tools = CatalogRow { server_id: row.id, kind: "tools".into(), items, discovered_at: 1 };
        world.app.store.put_catalog(&tenant, &tools).await.unwrap();
    }
    let world = world.restarted().await;
    for (key, own, other) in [(&admin, "ours", "theirs"), (&eve, "theirs", "ours")] {
        for call in ["GET /servers/files/tools", "GET /discovery/tools?q=things", "GET /servers"] {
            let text = world.with_key(key, call, Value::Null).await.expect(200).text;
            assert!(!text.contains(other), "{call}: {text}");
            assert!(call == "GET /servers" || text.contains(own), "{call}: {text}");
        }
        let text = world.listed(key).await;
        assert!(text.contains(own) && !text.contains(other), "{text}");
    }
}

async fn of(world: &World, tenant: &str) -> TenantId {
    let tenants = world.app.store.tenants("", 10).await.unwrap();
    tenants.into_iter().find(|one| one.id.as_str() == tenant).unwrap().id
}
