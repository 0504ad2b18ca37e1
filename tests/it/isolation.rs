//! Two tenants on one gateway, and neither sees the other: every call of the router's table, made by people of `beta` with the names and
//! ids of what `kestrel` has. A new route fails in `routes` until it has a row, and here until its open places are filled.

use axum::Router;
use http_body_util::BodyExt as _;
use mcp_registry_gateway::audit::{Record, search};
use mcp_registry_gateway::grants::{Step, TraceNote};
use mcp_registry_gateway::router;
use mcp_registry_gateway::store::audit_search::AuditSelection;
use mcp_registry_gateway::store::{micros, now};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, SqliteConnection};

use crate::audit_chains::signed_in;
use crate::routes::{rows, send};
use crate::store_databases::Database;
use crate::store_rest::World;

const PASSWORD: &str = "a long pass phrase";
/// Stands in all that is told of what the other tenant has, and in its secrets. Nobody of `beta` ever says it.
const WORD: &str = "osprey";
const ADDRESS: &str = "198.51.100.7";

/// Ids of what `kestrel` has that are not names.
pub struct Ids {
    user: String,
    key: String,
    secret: String,
    sign_in: String,
    record: String,
}

/// A tenant and the key of its administrator, who signs in by password.
pub async fn tenant(world: &World, id: &str, display_name: &str) -> String {
    let order = json!({"tenant_id": id, "display_name": display_name});
    world.call("POST /admin/tenants", order).await.expect(201);
    let head = json!({"username": format!("{id}-head"), "password": PASSWORD, "role": "tenant_admin", "tenant_id": id});
    world.call("POST /users", head).await.expect(201);
    let login = json!({"username": format!("{id}/{id}-head"), "password": PASSWORD});
    let made = world.with_key("", "POST /login", login).await.expect(200);
    made.json()["key"].as_str().unwrap().to_owned()
}

/// One of everything that a tenant can have.
pub async fn furnish(world: &World, head: &str) -> Ids {
    let made = async |call: &str, body: Value| world.with_key(head, call, body).await.expect(201).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let files = json!({"slug": "kestrel-files", "title": "osprey files", "description": "of the osprey", "tags": ["osprey"],
        "replicas": [{"url": "https://osprey.example/mcp"}], "headers": {"x-key": "osprey-secret"}});
    made("POST /servers", files).await;
    let user = made("POST /users", json!({"username": "kestrel-ann", "role": "server_owner"})).await;
    let key = made("POST /keys", json!({"name": "osprey key", "servers": "*"})).await;
    made("POST /oauth-clients", json!({"client_id": "kestrel-bot", "name": "osprey bot", "kind": "service"})).await;
    let secret = made("POST /oauth-clients/kestrel-bot/secrets", Value::Null).await;
    let issuer =
        json!({"name": "kestrel-corp", "issuer": "https://osprey.example", "profiles": ["id_jag"], "role": "user"});
    made("POST /trusted-issuers", issuer).await;
    world.call("POST /admin/tenant-limits/kestrel", json!({"base_rpm": 4_242})).await.expect(200);
    let rules = json!({"text": "permit(principal, action, resource); // for the osprey"});
    world.call("PUT /admin/policies/kestrel", rules).await.expect(200);
    world.call("POST /admin/bans", json!({"address": ADDRESS, "note": "the osprey's"})).await.expect(201);
    let tenants = world.app.store.tenants("", 10).await.unwrap();
    let tenant = &tenants.iter().find(|tenant| tenant.id.as_str() == "kestrel").unwrap().id;
    let note = TraceNote { tenant: Some(tenant), username: Some("osprey@example.com"), ..TraceNote::default() };
    let step = Step { at: 1_767_225_600_000_000, name: "authorize".into(), detail: WORD.into(), ..Step::default() };
    let sign_in = world.app.grants.trace(vec![step], note).unwrap().to_string();
    let done = ["tools/call", "auth.login"].map(|action| {
        let (surface, outcome) = if action == "auth.login" { ("background", "denied") } else { ("mcp", "success") };
        let done = json!({"id": user["id"], "at": micros(now()), "instance": user["id"], "surface": surface, "action": action,
            "outcome": outcome, "tenant": "kestrel", "user": user["id"], "credential": user["id"], "server": "osprey-files",
            "name": "osprey-tool", "reason": WORD});
        serde_json::from_value::<Record>(done).unwrap()
    });
    world.app.store.add_increments(&world.app.analytics.fold(&done)).await.unwrap();
    signed_in(&world.app, "kestrel", &["osprey"]).await;
    let theirs = AuditSelection { chain: Some("kestrel"), ..AuditSelection::default() };
    let record = search(&world.app.store, &theirs, 1).await.unwrap()[0].id.to_string();
    let secret = text(&secret["secrets"][0]["hint"]);
    Ids { user: text(&user["id"]), key: text(&key["id"]), secret, sign_in, record }
}

/// A path with the other tenant's things in its open places, and the same with things that nobody has; once for each way of naming them.
pub fn filled(path: &str, ids: &Ids) -> Vec<(String, String)> {
    const NOBODYS: &str = "01900000-0000-7000-8000-000000000000";
    let path = &path.replace("{user_id}", "{id}");
    let under = |part: &str| path.contains(part);
    let id: Vec<(&str, &str)> = match path.as_str() {
        path if !path.contains("{id}") => vec![("", "")],
        _ if under("/users/") || under("-token-") || under("/user-activity/") => {
            vec![("kestrel-ann", "nobody"), (&ids.user, NOBODYS)]
        }
        _ if under("/oauth-clients/") => vec![("kestrel-bot", "nobody")],
        _ if under("/keys/") => vec![(&ids.key, NOBODYS)],
        _ if under("/tenants/") => vec![("kestrel", "nobody")],
        _ if under("/audit/") => vec![(&ids.record, NOBODYS)],
        _ if under("/sign-ins/") => vec![(&ids.sign_in, NOBODYS)],
        _ => panic!("{path}: which of a tenant's things has such an id?"),
    };
    let rest = [
        ("{slug}", "kestrel-files", "nobody"),
        ("{server}", "kestrel-files", "nobody"),
        ("{tenant_id}", "kestrel", "nobody"),
        ("{hint}", &ids.secret, &ids.secret),
        ("{name}", "kestrel-corp", "nobody"),
        ("{version}", "1", "1"),
        ("{*path}", "mcp/kestrel-files", "mcp/nobody"),
        ("{address}", ADDRESS, "198.51.100.8"),
        ("{provider}", "kestrel", "nobody"),
        ("{file}", "kestrel", "nobody"),
        ("{key}", "kestrel", "nobody"),
    ];
    id.into_iter()
        .map(|(theirs, nobodys)| {
            let fill = |id: &str, which: usize| {
                rest.iter().fold(path.replace("{id}", id), |path, (place, theirs, nobodys)| {
                    path.replace(place, [theirs, nobodys][which])
                })
            };
            let pair = (fill(theirs, 0), fill(nobodys, 1));
            assert!(!pair.0.contains('{'), "{path}: what stands in its open place?");
            pair
        })
        .collect()
}

/// Status and body, without what is another each time; the body of a stream that lasts is not waited for.
async fn answer(router: &Router, (method, path): (&str, &str), key: &str, body: &Value) -> (u16, String) {
    let answer = send(router, method, path, key, body).await;
    let status = answer.status().as_u16();
    if answer.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream") {
        return (status, String::new());
    }
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let Ok(mut told) = serde_json::from_str::<Value>(&text) else { return (status, text) };
    told.as_object_mut().map(|told| told.remove("request_id"));
    (status, told.to_string())
}

/// What a text says when the names in a path stand in it as those of the other.
fn renamed(text: &str, theirs: &str, nobodys: &str) -> String {
    let names = theirs.split('/').zip(nobodys.split('/')).filter(|(one, other)| one != other);
    names.fold(text.to_owned(), |text, (theirs, nobodys)| text.replace(theirs, nobodys))
}

/// All that `kestrel` has, as its administrator reads it.
async fn inventory(world: &World, head: &str) -> Vec<String> {
    let mut all = Vec::new();
    for list in ["servers", "users", "keys", "oauth-clients", "trusted-issuers", "sign-ins", "admin/tenants"] {
        let mut told = world.with_key(head, &format!("GET /{list}"), Value::Null).await.expect(200).json();
        assert!(told.to_string().contains(WORD) || list == "users", "{list}: {told}");
        for item in told["items"].as_array_mut().unwrap() {
            for volatile in ["status", "last_used_at"] {
                item.as_object_mut().unwrap().remove(volatile);
            }
        }
        all.push(told.to_string());
    }
    all
}

#[tokio::test]
async fn no_call_of_any_role_tells_of_another_tenant_or_touches_it() {
    let database = Database::sqlite();
    let world = World::with(&database, &["--rate-limit-user-rpm=10000"]).await;
    let theirs = tenant(&world, "kestrel", "osprey Ltd").await;
    let ids = furnish(&world, &theirs).await;
    let before = inventory(&world, &theirs).await;
    let head = tenant(&world, "beta", "Beta").await;
    let mut people = vec![("tenant_admin", 3)];
    let mut keys = vec![head.clone()];
    for (role, column) in [("server_owner", 2), ("user", 1)] {
        let name = format!("beta-{role}");
        world.with_key(&head, "POST /users", json!({"username": name, "role": role})).await.expect(201);
        let order = json!({"name": "k", "username": name, "role": role, "servers": "*"});
        let made = world.with_key(&head, "POST /keys", order).await.expect(201).json();
        keys.push(made["key"].as_str().unwrap().to_owned());
        people.push((role, column));
    }

    let router = router::routes(world.app.clone());
    let mut calls = rows();
    // Behind that one the key is of no use.
    calls.sort_by_key(|(call, ..)| *call == "POST /api/v1/logout");
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for ((role, column), key) in people.into_iter().zip(&keys) {
        for (call, body, expected) in &calls {
            let (method, path) = call.split_once(' ').unwrap();
            if !path.contains('{') {
                let (_, text) = answer(&router, (method, path), key, body).await;
                if text.contains(WORD) || text.contains("kestrel") {
                    wrong.push(format!("{role}: {call} tells: {text}"));
                }
                continue;
            }
            // Pages and metadata are the same for everybody.
            let open = ["/oauth/", "/connections/", "/.well-known/"].iter().any(|open| path.starts_with(open));
            for (theirs, nobodys) in filled(path, &ids) {
                let (status, text) = answer(&router, (method, &theirs), key, body).await;
                let (as_nobodys, like) = answer(&router, (method, &nobodys), key, body).await;
                // Who may do it with nothing at all may be told so.
                let may_be = |status| status == 404 || (status == 403 && expected[column] == 403);
                if !open && !may_be(status) {
                    wrong.push(format!("{role}: {method} {theirs} answers {status}: {text}"));
                }
                // A page has the time on it.
                let same = text.starts_with('<') || like == renamed(&text, &theirs, &nobodys);
                if text.contains(WORD) || status != as_nobodys || !same {
                    wrong.push(format!("{role}: {method} {theirs} tells: {status} {text}, not {as_nobodys} {like}"));
                }
                tried += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(tried > 120, "{tried}");
    assert_eq!(inventory(&world, &theirs).await, before, "and all of it is as it was");
    let limits = world.call("GET /admin/tenant-limits/kestrel", Value::Null).await.expect(200).json();
    assert_eq!(limits["limits"]["base_rpm"], 4_242, "{limits}");
}

#[tokio::test]
async fn what_is_asked_for_by_name_is_answered_as_what_nobody_has() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let theirs = tenant(&world, "kestrel", "osprey Ltd").await;
    furnish(&world, &theirs).await;
    let head = tenant(&world, "beta", "Beta").await;
    let router = router::routes(world.app.clone());
    let (mut wrong, mut tried) = (Vec::new(), 0);
    let mut compare = async |call: &str, [body, like]: [Value; 2], names: [&str; 2]| {
        let (method, path) = call.split_once(' ').unwrap();
        let ask = async |name: &str, body: &Value| {
            answer(&router, (method, &path.replace('?', &format!("?{name}"))), &head, body).await
        };
        let ((status, text), (as_nobodys, like)) = (ask(names[0], &body).await, ask(names[1], &like).await);
        let same = status == as_nobodys && text.replace(names[0], names[1]) == like;
        if !same || text.contains(WORD) {
            wrong.push(format!("{call} {body}: {status} {text}, not {as_nobodys} {like}"));
        }
        tried += 1;
    };

    let lists = rows().into_iter().map(|(call, ..)| call);
    for call in lists.filter(|call| call.starts_with("GET /api/v1/") && !call.contains('{')) {
        for (name, theirs) in [
            ("tenant_id", "kestrel"),
            ("tenant", "kestrel"),
            ("user", "kestrel-ann"),
            ("user_id", "kestrel-ann"),
            ("username", "kestrel-ann"),
            ("client", "kestrel-bot"),
            ("client_id", "kestrel-bot"),
            ("server", "kestrel-files"),
            ("q", "kestrel"),
        ] {
            let names = [format!("{name}={theirs}"), format!("{name}=nobody")];
            compare(&format!("{call}?"), [Value::Null, Value::Null], [&names[0], &names[1]]).await;
        }
    }
    let at = "https://beta.example/mcp";
    let bodies: [(&str, &str, fn(&str, &str) -> Value); 12] = [
        ("POST /api/v1/users", "kestrel", |name, _| json!({"username": "x", "tenant_id": name})),
        ("POST /api/v1/keys", "kestrel-ann", |name, _| json!({"name": "x", "username": name, "servers": "*"})),
        (
            "POST /api/v1/oauth-clients",
            "kestrel",
            |name, _| json!({"client_id": "x", "name": "x", "kind": "service", "tenant_id": name}),
        ),
        (
            "POST /api/v1/trusted-issuers",
            "kestrel",
            |name, _| json!({"name": "x", "issuer": "https://x.example", "profiles": ["id_jag"], "role": "user", "tenant_id": name}),
        ),
        ("POST /api/v1/admin/tenants", "kestrel", |name, _| json!({"tenant_id": name})),
        (
            "POST /api/v1/apply",
            "kestrel",
            |name, _| json!({"servers": [], "tenants": [{"tenant_id": name, "guests": false}]}),
        ),
        (
            "POST /api/v1/apply",
            "kestrel-files",
            |name, at| json!({"servers": [{"slug": name, "replicas": [{"url": at}], "headers": {"x-key": "***"}}]}),
        ),
        (
            "POST /api/v1/apply",
            "kestrel",
            |name, at| json!({"servers": [{"slug": "x", "replicas": [{"url": at}], "offered_to": [name]}]}),
        ),
        ("POST /api/v1/apply", "kestrel-ann", |name, at| {
            let seen = json!({"everyone": false, "users": [name]});
            json!({"servers": [{"slug": "x", "replicas": [{"url": at}], "visibility": seen}], "dry_run": true})
        }),
        (
            "POST /api/v1/servers",
            "kestrel",
            |name, at| json!({"slug": "x", "replicas": [{"url": at}], "offered_to": [name]}),
        ),
        (
            "POST /api/v1/login",
            "kestrel/kestrel-head",
            |name, _| json!({"username": name, "password": "not the right one"}),
        ),
        (
            "POST /mcp",
            "kestrel-files__echo",
            |name, _| json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": {}}}),
        ),
    ];
    for (call, theirs, body) in bodies {
        let nobodys = if theirs.ends_with("__echo") { "nobody__echo" } else { "nobody" };
        compare(call, [body(theirs, at), body(nobodys, at)], [theirs, nobodys]).await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(tried > 100, "{tried}");
}

/// Tables whose rows are of a tenant.
async fn tables_of_tenants(connection: &mut SqliteConnection) -> Vec<String> {
    let text = "SELECT m.name FROM sqlite_master m JOIN pragma_table_info(m.name) c ON c.name = 'tenant_id'
        WHERE m.type = 'table' ORDER BY m.name";
    sqlx::query_scalar(text).fetch_all(connection).await.unwrap()
}

async fn rows_of_kestrel(connection: &mut SqliteConnection, table: &str) -> i64 {
    let text = AssertSqlSafe(format!("SELECT count(*) FROM {table} WHERE tenant_id = 'kestrel'"));
    sqlx::query_scalar(text).fetch_one(connection).await.unwrap()
}

/// A row of the tenant's, of its first account and server where it is of any; what else it holds is anything.
async fn put_a_row(connection: &mut SqliteConnection, table: &str) {
    let columns: Vec<(String, String)> =
        sqlx::query_as("SELECT name, type FROM pragma_table_info($1) WHERE \"notnull\" = 1 AND dflt_value IS NULL")
            .bind(table)
            .fetch_all(&mut *connection)
            .await
            .unwrap();
    let value = |(name, kind): &(String, String)| match (name.as_str(), kind.as_str()) {
        ("tenant_id", _) => "'kestrel'".to_owned(),
        ("user_id", _) => "(SELECT id FROM users WHERE tenant_id = 'kestrel' LIMIT 1)".to_owned(),
        ("server_id", _) => "(SELECT id FROM servers WHERE tenant_id = 'kestrel' LIMIT 1)".to_owned(),
        ("client_id", _) => "'kestrel-bot'".to_owned(),
        (_, "UUID" | "BYTEA") => "randomblob(16)".to_owned(),
        (_, "TEXT" | "JSONB") => "'{}'".to_owned(),
        _ => "1".to_owned(),
    };
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let values: Vec<String> = columns.iter().map(value).collect();
    let text = format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), values.join(", "));
    connection.execute(AssertSqlSafe(text)).await.unwrap();
}

#[tokio::test]
async fn a_tenant_that_is_erased_leaves_nothing_in_any_table() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let head = tenant(&world, "kestrel", "osprey Ltd").await;
    furnish(&world, &head).await;
    inventory(&world, &head).await;
    let mut connection = SqliteConnection::connect(&database.url).await.unwrap();
    connection.execute("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON").await.unwrap();
    let tables = tables_of_tenants(&mut connection).await;
    assert!(tables.len() > 12, "{tables:?}");
    for table in &tables {
        if rows_of_kestrel(&mut connection, table).await == 0 {
            put_a_row(&mut connection, table).await;
        }
        assert!(rows_of_kestrel(&mut connection, table).await > 0, "{table}");
    }
    world.call("DELETE /admin/tenants/kestrel?purge=true&confirm=kestrel", Value::Null).await.expect(204);
    for table in &tables {
        assert_eq!(rows_of_kestrel(&mut connection, table).await, 0, "{table} remembers a tenant that is erased");
    }
}
