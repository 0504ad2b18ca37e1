//! Every list that the description names: page by page everything is found once, also while more comes.

use std::collections::BTreeMap;

use mcp_registry_gateway::grants::{Step, TraceNote};
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::store::catalogs::CatalogRow;
use serde_json::{Value, json};

use crate::api::operations;
use crate::audit_chains::signed_in;
use crate::routes::{issuer, service};
use crate::store_databases::Database;
use crate::store_rest::{World, server};

/// How many of each there are in the beginning.
const THERE: usize = 7;
/// More that come while pages are read.
const MORE: usize = 4;

/// One more of everything that lists are of.
async fn add(world: &World, number: usize) {
    // Some before, some behind what was read already.
    let name = format!("{}{number}", if number.is_multiple_of(2) { "a" } else { "x" });
    world.call("POST /servers", server(&name)).await.expect(201);
    world.call("POST /users", json!({"username": name})).await.expect(201);
    world.call("POST /keys", json!({"name": name, "servers": []})).await.expect(201);
    world.call("POST /oauth-clients", service(&format!("bot-{name}"))).await.expect(201);
    world.call("POST /trusted-issuers", issuer(&name)).await.expect(201);
    world.call("POST /admin/tenants", json!({"tenant_id": name})).await.expect(201);
    let ban = json!({"address": format!("192.0.2.{}", number + 1), "note": "x"});
    world.call("POST /admin/bans", ban).await.expect(201);
    let rules = json!({"text": format!("permit(principal, action, resource); // {number}")});
    world.call("PUT /admin/policies/default", rules).await.expect(200);
    let tenant = TenantId::default_tenant();
    let at = 1_767_225_600_000_000 + i64::try_from(number).unwrap() * 1_000;
    let note = TraceNote { tenant: Some(&tenant), username: Some("ada"), ..TraceNote::default() };
    world.app.grants.trace(vec![Step { at, name: "authorize".into(), ..Step::default() }], note).unwrap();
    world.app.grants.write_traces().await;
    signed_in(&world.app, "default", &[&name]).await;
    signed_in(&world.app, &name, &[&name]).await;
}

/// What an item is told from the others by.
fn key(item: &Value) -> String {
    let names = ["slug", "id", "client_id", "tenant_id", "address", "version", "key", "name", "chain"];
    let of = |name: &&str| item.get(*name).filter(|value| !value.is_null()).map(Value::to_string);
    let server = item.get("server").map(Value::to_string).unwrap_or_default();
    server + &names.iter().find_map(of).unwrap_or_else(|| panic!("what is {item} called?"))
}

#[tokio::test]
async fn every_list_is_read_whole_in_pages_while_more_comes() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    for number in 0..THERE {
        add(&world, number).await;
    }
    let tenant = TenantId::default_tenant();
    for row in world.app.store.servers(&tenant, "", 100).await.unwrap() {
        for (kind, items) in [
            ("tools", r#"[{"name":"read"},{"name":"write"},{"name":"list"}]"#),
            ("resources", r#"[{"uri":"file:///a"},{"uri":"file:///b"}]"#),
            ("templates", "[]"),
            ("prompts", "[]"),
        ] {
            let row =
                CatalogRow { server_id: row.id, kind: kind.into(), items: items.as_bytes().to_vec(), discovered_at: 1 };
            world.app.store.put_catalog(&tenant, &row).await.unwrap();
        }
    }
    let mut world = world.restarted().await;
    let lists: Vec<String> = operations()
        .into_iter()
        .filter(|operation| operation.takes("cursor"))
        .map(|operation| {
            operation.path().trim_start_matches("/api/v1").replace("{slug}", "a0").replace("{tenant_id}", "default")
        })
        .collect();
    assert!(lists.len() >= 12, "{lists:?}");
    for operation in operations().iter().filter(|operation| operation.method() == "GET") {
        let page = operation.about.pointer("/responses/200/content/application~1json/schema/$ref");
        let is_page = page.is_some_and(|schema| schema.as_str().unwrap().ends_with("Page"));
        assert_eq!(is_page, operation.takes("cursor"), "{}: a list comes in pages", operation.call);
    }
    let page = async |world: &World, list: &str, limit: usize, cursor: Option<&str>| {
        let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let state = if list == "/admin/bans" { "&state=all" } else { "" };
        let told =
            world.call(&format!("GET {list}?limit={limit}{cursor}{state}"), Value::Null).await.expect(200).json();
        let keys: Vec<String> = told["items"].as_array().unwrap().iter().map(key).collect();
        assert!(keys.len() <= limit, "{list}");
        (keys, told["next_cursor"].as_str().map(str::to_owned))
    };
    // The half of each is read; then more comes; then the rest is read.
    let mut before: BTreeMap<String, (Vec<String>, Vec<String>, Option<String>)> = BTreeMap::new();
    for list in &lists {
        let (whole, next) = page(&world, list, 500, None).await;
        assert!(whole.len() >= 3 && next.is_none(), "{list}: {whole:?}");
        let (first, next) = page(&world, list, 2, None).await;
        assert_eq!(first, whole[..2], "{list}");
        before.insert(list.clone(), (whole, first, next));
    }
    for number in THERE..THERE + MORE {
        add(&world, number).await;
    }
    world = world.restarted().await;
    for (list, (whole, mut seen, mut next)) in before {
        while let Some(cursor) = next {
            let (keys, after) = page(&world, &list, 2, Some(&cursor)).await;
            assert!(!keys.is_empty() || after.is_none(), "{list}: an empty page in the middle");
            seen.extend(keys);
            next = after;
        }
        let mut once = seen.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), seen.len(), "{list}: something twice in {seen:?}");
        for one in &whole {
            assert!(seen.contains(one), "{list}: {one} was there all the time and is not among {seen:?}");
        }
    }
    for list in &lists {
        for wrong in ["limit=0", "limit=501", "cursor=*", "cursor=bm93aGVyZQ"] {
            let status = world.call(&format!("GET {list}?{wrong}"), Value::Null).await.status;
            // A name that nobody has is a place in a list by names all the same.
            assert!(status == 422 || (status == 200 && wrong.ends_with("ZQ")), "{list}?{wrong}: {status}");
        }
    }
}

#[tokio::test]
async fn what_a_cursor_names_may_be_gone() {
    let database = Database::sqlite();
    let mut world = World::open(&database).await;
    world.call("POST /servers", server("a")).await.expect(201);
    for number in 0..3 {
        let rules = json!({"text": format!("permit(principal, action, resource); // {number}")});
        world.call("PUT /admin/policies/default", rules).await.expect(200);
    }
    let offers = async |world: World, tools: &str| {
        let tenant = TenantId::default_tenant();
        let server_id = world.app.store.servers(&tenant, "", 1).await.unwrap()[0].id;
        let items = tools.as_bytes().to_vec();
        let row = CatalogRow { server_id, kind: "tools".into(), items, discovered_at: 1 };
        world.app.store.put_catalog(&tenant, &row).await.unwrap();
        world.restarted().await
    };
    let names = |told: &Value| -> Vec<String> { told["items"].as_array().unwrap().iter().map(key).collect() };
    for list in ["/servers/a/tools", "/discovery/tools"] {
        // In no order of their own.
        world = offers(world, r#"[{"name":"c"},{"name":"a"},{"name":"b"},{"name":"d"}]"#).await;
        let first = world.call(&format!("GET {list}?limit=2"), Value::Null).await.expect(200).json();
        assert_eq!(names(&first).len(), 2);
        let cursor = first["next_cursor"].as_str().unwrap();
        world = offers(world, r#"[{"name":"d"},{"name":"c"},{"name":"a"}]"#).await;
        let rest = world.call(&format!("GET {list}?cursor={cursor}"), Value::Null).await.expect(200).json();
        let mut all = [names(&first), names(&rest)].concat();
        let found = all.len();
        all.dedup();
        assert_eq!((all.len(), found), (4, 4), "{list}: {all:?}");
    }
    // Of version 3, which was removed when there were too many.
    let cursor = mcp_registry_gateway::web::json::cursor_after("-3");
    let path = format!("GET /admin/policies/default/versions?cursor={cursor}");
    let rest = world.call(&path, Value::Null).await.expect(200).json();
    assert_eq!(names(&rest), ["2", "1"]);
}
