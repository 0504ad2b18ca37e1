//! The REST API behind the door: what people do with servers, keys and accounts.

use axum::body::Body;
use http::{HeaderValue, Request};
use http_body_util::BodyExt;
use mcp_registry_gateway::access::KeyRing;
use mcp_registry_gateway::access::bootstrap::bootstrap;
use mcp_registry_gateway::app::{App, assemble};
use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::crypto::{MasterKey, Sealer};
use mcp_registry_gateway::grants::resource::Issuer;
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::store::catalogs::CatalogRow;
use mcp_registry_gateway::web::Door;
use serde_json::{Value, json};
pub use testkit::answer::Answer;

use crate::store_databases::Database;

/// Where the gateway would listen.
fn issuer() -> Issuer {
    Issuer::new(None, false, "127.0.0.1:8001".parse().unwrap())
}

/// A gateway's REST API with its administrator.
pub struct World {
    pub app: App,
    door: Door,
    pub admin: String,
}

fn door(app: &App) -> Door {
    let front = mcp_registry_gateway::router::Front::new(app.clone());
    Door::new(&app.settings, app.recorder.metrics().clone(), front)
}

impl World {
    pub async fn open(database: &Database) -> Self {
        Self::with(database, &[]).await
    }

    /// The same with these settings.
    pub async fn with(database: &Database, args: &[&str]) -> Self {
        Self::made(database, args, Sealer::new(&MasterKey::generate())).await
    }

    /// The same under these keys.
    pub async fn sealed_by(database: &Database, sealer: Sealer) -> Self {
        Self::made(database, &[], sealer).await
    }

    async fn made(database: &Database, args: &[&str], sealer: Sealer) -> Self {
        let store = database.open().await;
        let admin = bootstrap(&store, None).await.unwrap().unwrap().expose().to_owned();
        let keyring = KeyRing::empty();
        keyring.reload(&store).await.unwrap();
        let settings = Settings::from_args(args, &DotEnv::default()).unwrap();
        let app = assemble(settings, issuer(), store, sealer, keyring).unwrap();
        Self { door: door(&app), app, admin }
    }

    /// The same database under a new process.
    pub async fn restarted(self) -> Self {
        let Self { app, admin, .. } = self;
        let app =
            assemble((*app.settings).clone(), issuer(), app.store.clone(), app.sealer.clone(), app.keyring.clone())
                .unwrap();
        app.recall().await.unwrap();
        app.guard.follow(&app.store).await.unwrap();
        Self { door: door(&app), app, admin }
    }

    /// The same database and keyring under a new process with these keys.
    pub async fn with_sealer(&self, sealer: Sealer) -> Self {
        let (settings, store, keyring) =
            ((*self.app.settings).clone(), self.app.store.clone(), self.app.keyring.clone());
        let app = assemble(settings, issuer(), store, sealer, keyring).unwrap();
        app.recall().await.unwrap();
        Self { door: door(&app), app, admin: self.admin.clone() }
    }

    /// Another process on the same database.
    pub async fn beside(&self, database: &Database) -> Self {
        let keyring = KeyRing::empty();
        let store = database.open().await;
        keyring.reload(&store).await.unwrap();
        let app = assemble((*self.app.settings).clone(), issuer(), store, self.app.sealer.clone(), keyring).unwrap();
        app.recall().await.unwrap();
        Self { door: door(&app), app, admin: self.admin.clone() }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        self.send_of("127.0.0.1", request).await
    }

    /// What this peer sends.
    pub async fn send_of(&self, peer: &str, mut request: Request<Body>) -> Answer {
        request.headers_mut().entry("host").or_insert(HeaderValue::from_static("localhost"));
        let response = self.door.answer((peer.parse::<std::net::IpAddr>().unwrap(), 9).into(), request).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    /// `call` is a method and a path below `/api/v1`; a null body is none.
    pub async fn with_key(&self, key: &str, call: &str, body: Value) -> Answer {
        let (method, path) = call.split_once(' ').unwrap();
        self.send(request(method, &format!("/api/v1{path}"), key, &body)).await
    }

    pub async fn call(&self, call: &str, body: Value) -> Answer {
        self.with_key(&self.admin, call, body).await
    }

    /// Makes a user and a key of that role and scopes.
    pub async fn person(&self, name: &str, role: &str, scopes: Value) -> String {
        self.call("POST /users", json!({"username": name, "role": role})).await.expect(201);
        let mut order = json!({"name": "k", "username": name, "role": role});
        order.as_object_mut().unwrap().extend(scopes.as_object().unwrap().clone());
        self.call("POST /keys", order).await.expect(201).json()["key"].as_str().unwrap().to_owned()
    }
}

/// A request with this key, or none when it is empty, and this body, or none when it is null.
pub fn request(method: &str, path: &str, key: &str, body: &Value) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !key.is_empty() {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    if body.is_null() {
        return request.body(Body::empty()).unwrap();
    }
    request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap()
}

pub fn server(slug: &str) -> Value {
    json!({"slug": slug, "replicas": [{"url": format!("https://{slug}.example/mcp")}]})
}

on_both! {
    async fn a_server_is_registered_read_changed_and_removed(db) {
        let world = World::open(db).await;
        let mut spec = server("files");
        spec["headers"] = json!({"x-key": "s3cret"});
        let made = world.call("POST /servers", spec.clone()).await.expect(201);
        assert_eq!(made.header("location"), "/api/v1/servers/files");
        assert!(made.header("etag").starts_with("\"1."));
        assert!(!made.text.contains("s3cret"));
        assert_eq!(made.json()["headers"]["x-key"], "***");
        assert_ne!(made.json()["status"]["state"], "ready");
        assert_eq!(world.call("POST /servers", spec).await.expect(409).json()["code"], "SLUG_TAKEN");

        let patched = world.call("PATCH /servers/files", json!({"title": "Files", "tags": ["a"]})).await.expect(200);
        assert_eq!(patched.json()["revision"], 2);
        let same = world.call("PATCH /servers/files", json!({"title": "Files"})).await.expect(200);
        assert_eq!(same.json()["revision"], 2, "nothing changed");
        let read = world.call("GET /servers/files", Value::Null).await.expect(200);
        assert_eq!((read.json()["title"].as_str(), &read.header("etag")[..3]), (Some("Files"), "\"2."));
        let gone = world.call("PATCH /servers/files", json!({"headers": null})).await.expect(200);
        assert!(gone.json().get("headers").is_none());
        let off = world.call("POST /servers/files/disable", Value::Null).await.expect(200);
        assert_eq!((&off.json()["enabled"], &off.json()["status"]["state"]), (&json!(false), &json!("disabled")));
        world.call("POST /servers/files/refresh", Value::Null).await.expect(409);
        world.call("POST /servers/files/enable", Value::Null).await.expect(200);
        world.call("POST /servers/files/refresh", Value::Null).await.expect(200);
        world.call("PUT /servers/files", server("documents")).await.expect(200);
        world.call("GET /servers/files", Value::Null).await.expect(404);
        world.call("DELETE /servers/documents", Value::Null).await.expect(204);
        let left = world.call("GET /servers", Value::Null).await.expect(200).json();
        assert_eq!(left, json!({"items": [], "next_cursor": null}));
    }
}

on_both! {
    async fn who_read_an_older_version_changes_nothing(db) {
        let world = World::open(db).await;
        world.call("POST /servers", server("files")).await.expect(201);
        world.call("PATCH /servers/files", json!({"title": "one"})).await.expect(200);
        for (method, body) in [("PUT", server("files")), ("PATCH", json!({"title": "two"})), ("DELETE", Value::Null)] {
            let mut request = request(method, "/api/v1/servers/files", &world.admin, &body);
            request.headers_mut().insert("if-match", HeaderValue::from_static("\"1\""));
            assert_eq!(world.send(request).await.expect(412).json()["code"], "PRECONDITION_FAILED");
        }
        assert_eq!(world.call("GET /servers/files", Value::Null).await.json()["title"], "one");
    }
}

on_both! {
    async fn a_long_list_comes_in_pages(db) {
        let world = World::open(db).await;
        for number in 0..7 {
            world.call("POST /servers", server(&format!("s{number}"))).await.expect(201);
        }
        let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = world.call(&format!("GET /servers?limit=3{cursor}"), Value::Null).await.expect(200).json();
            pages += 1;
            seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["slug"].as_str().unwrap().to_owned()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!((seen.join(" ").as_str(), pages), ("s0 s1 s2 s3 s4 s5 s6", 3));
        for wrong in ["limit=0", "limit=501", "limit=x", "cursor=*", "page=2"] {
            let answer = world.call(&format!("GET /servers?{wrong}"), Value::Null).await.expect(422).json();
            assert_eq!(answer["errors"][0]["field"], wrong.split('=').next().unwrap(), "{answer}");
        }
        for list in ["users", "keys"] {
            let page = world.call(&format!("GET /{list}?limit=1"), Value::Null).await.expect(200).json();
            assert_eq!((page["items"].as_array().unwrap().len(), &page["next_cursor"]), (1, &Value::Null));
        }
    }
}

on_both! {
    async fn a_key_is_shown_once_and_ends_when_told(db) {
        let world = World::open(db).await;
        let order = json!({"name": "ci", "servers": ["files"], "tools": ["read_*"], "expires_in_days": 1});
        let made = world.call("POST /keys", order).await.expect(201);
        assert_eq!(made.header("cache-control"), "no-store");
        let (key, id) = (made.json()["key"].as_str().unwrap().to_owned(), made.json()["id"].as_str().unwrap().to_owned());
        assert_eq!(made.json()["tools"], json!(["*/read_*"]));
        let me = world.with_key(&key, "GET /me", Value::Null).await.expect(200).json();
        assert_eq!((&me["name"], &me["role"], &me["scopes"]["admin"]), (&json!("admin"), &json!("user"), &json!(false)));
        let list = world.call("GET /keys", Value::Null).await.expect(200);
        assert!(list.text.contains(&id) && !list.text.contains(&key));

        world.with_key(&key, "GET /users", Value::Null).await.expect(403);
        world.with_key(&key, "POST /servers", server("x")).await.expect(403);
        world.with_key(&key, "POST /keys", json!({"name": "more", "servers": []})).await.expect(403);
        world.call(&format!("DELETE /keys/{id}"), Value::Null).await.expect(204);
        let refused = world.with_key(&key, "GET /me", Value::Null).await.expect(401);
        assert_eq!(refused.json()["code"], "KEY_REVOKED");
    }
}

on_both! {
    async fn people_sign_in_change_their_password_and_are_disabled(db) {
        let world = World::open(db).await;
        let order = json!({"username": "Ada", "password": "a long pass phrase"});
        let ada = world.call("POST /users", order.clone()).await.expect(201);
        assert!(!ada.text.contains("phrase") && !ada.text.contains("argon2"));
        world.call("POST /users", order).await.expect(409);
        let sign_in = async |password: &str| {
            world.with_key("", "POST /login", json!({"username": "ada", "password": password})).await
        };
        assert_eq!(sign_in("wrong").await.expect(401).json()["code"], "WRONG_PASSWORD");
        let key = sign_in("a long pass phrase").await.expect(200).json()["key"].as_str().unwrap().to_owned();
        let own = world.with_key(&key, "GET /users/ada", Value::Null).await.expect(200).json();
        assert_eq!((&own["role"], &own["has_password"]), (&json!("user"), &json!(true)));
        world.with_key(&key, "GET /users/admin", Value::Null).await.expect(403);
        let change = json!({"password": "a new pass phrase", "current_password": "a long pass phrase"});
        world.with_key(&key, "POST /users/ada/password", change).await.expect(204);
        world.with_key(&key, "GET /me", Value::Null).await.expect(401);

        let key = sign_in("a new pass phrase").await.expect(200).json()["key"].as_str().unwrap().to_owned();
        world.with_key(&key, "POST /logout", Value::Null).await.expect(204);
        world.with_key(&key, "GET /me", Value::Null).await.expect(401);
        let off = world.call("PATCH /users/ada", json!({"state": "disabled"})).await.expect(200);
        assert_eq!(off.json()["state"], "disabled");
        sign_in("a new pass phrase").await.expect(401);
        assert_eq!(world.call("PATCH /users/admin", json!({"role": "user"})).await.expect(409).json()["code"], "LAST_ADMIN");
        world.call("PATCH /users/nobody", json!({"role": "user"})).await.expect(404);
    }
}

on_both! {
    async fn a_narrow_key_gives_out_nothing_that_is_wide(db) {
        let world = World::open(db).await;
        let narrow = json!({"servers": ["fs"], "tools": ["fs/read"], "admin": true});
        let ada = world.person("ada", "user", narrow.clone()).await;
        let bob = world.person("bob", "tenant_admin", narrow).await;
        let refused = async |key: &str, call: &str, body: Value| {
            let answer = world.with_key(key, call, body).await.expect(403);
            assert!(answer.text.contains("narrower scopes"), "{call}: {}", answer.text);
        };
        refused(&ada, "POST /users/ada/password", json!({"password": "a long pass phrase"})).await;
        refused(&bob, "POST /users/ada/password", json!({"password": "a long pass phrase"})).await;
        refused(&bob, "POST /users", json!({"username": "eve", "role": "user", "password": "a long pass phrase"})).await;
        let service = json!({"name": "bot", "kind": "service", "role": "user"});
        refused(&bob, "POST /oauth-clients", service.clone()).await;
        let made = world.call("POST /oauth-clients", service).await.expect(201).json();
        let path = format!("/oauth-clients/{}", made["client_id"].as_str().unwrap());
        refused(&bob, &format!("POST {path}/secrets"), Value::Null).await;
        refused(&bob, &format!("PATCH {path}"), json!({"scopes": ["mcp", "admin"]})).await;
        let issuer = json!({"name": "idp", "issuer": "https://idp.example", "profiles": ["id_jag"]});
        refused(&bob, "POST /trusted-issuers", issuer).await;

        // What is known anyway, and what opens nothing, stays.
        world.call("POST /users/ada/password", json!({"password": "a long pass phrase"})).await.expect(204);
        let change = json!({"password": "another pass phrase", "current_password": "a long pass phrase"});
        world.with_key(&ada, "POST /users/ada/password", change).await.expect(204);
        world.with_key(&bob, "POST /users", json!({"username": "eve", "role": "user"})).await.expect(201);
    }
}

on_both! {
    async fn who_is_removed_leaves_servers_and_no_key(db) {
        let world = World::open(db).await;
        let scopes = json!({"servers": ["*"], "admin": true});
        let owner = world.person("ada", "server_owner", scopes.clone()).await;
        world.with_key(&owner, "POST /servers", server("files")).await.expect(201);
        world.with_key(&owner, "DELETE /users/ada", Value::Null).await.expect(403);
        let deputy = world.person("bob", "tenant_admin", scopes).await;
        world.with_key(&deputy, "DELETE /users/admin", Value::Null).await.expect(403);
        world.with_key(&deputy, "DELETE /users/ada", Value::Null).await.expect(204);
        world.with_key(&owner, "GET /me", Value::Null).await.expect(401);
        world.call("GET /users/ada", Value::Null).await.expect(404);
        world.call("GET /servers/files", Value::Null).await.expect(200);
        assert_eq!(world.call("DELETE /users/admin", Value::Null).await.expect(409).json()["code"], "LAST_ADMIN");
        world.call("GET /me", Value::Null).await.expect(200);
    }
}

on_both! {
    async fn what_servers_offer_is_found_by_who_may_use_it(db) {
        let world = World::open(db).await;
        let tenant = TenantId::default_tenant();
        for (slug, tag) in [("files", "disk"), ("git", "code"), ("off", "code")] {
            let mut spec = server(slug);
            spec["tags"] = json!([tag]);
            world.call("POST /servers", spec).await.expect(201);
            let row = world.app.store.server(&tenant, slug).await.unwrap().unwrap();
            for (kind, items) in [
                ("tools", r#"[{"name":"read","description":"Reads","n":1.50},{"name":"write"},{"name":"list_all"}]"#),
                ("resources", r#"[{"uri":"file:///a","name":"A"}]"#),
                ("templates", r#"[{"uriTemplate":"file:///{x}"}]"#),
                ("prompts", "[]"),
            ] {
                let items = items.as_bytes().to_vec();
                let row = CatalogRow { server_id: row.id, kind: kind.into(), items, discovered_at: 1 };
                world.app.store.put_catalog(&tenant, &row).await.unwrap();
            }
        }
        world.call("POST /servers/off/disable", Value::Null).await.expect(200);
        let world = world.restarted().await;
        let found = async |key: &str, query: &str| {
            let answer = world.with_key(key, &format!("GET /discovery/{query}"), Value::Null).await.expect(200).json();
            let items = answer["items"].as_array().unwrap().clone();
            let names: Vec<_> = items.iter().map(|i| format!("{}/{}", i["server"].as_str().unwrap(), i["key"].as_str().unwrap())).collect();
            (names.join(" "), answer["next_cursor"].as_str().map(str::to_owned))
        };
        let admin = world.admin.as_str();
        assert_eq!(found(admin, "tools").await.0, "files/list_all files/read files/write git/list_all git/read git/write");
        assert_eq!(found(admin, "tools?q=READ").await.0, "files/read git/read");
        assert_eq!(found(admin, "tools?server=git&q=li").await.0, "git/list_all");
        assert_eq!(found(admin, "tools?tag=code").await.0, "git/list_all git/read git/write");
        assert_eq!(found(admin, "resources?tag=disk").await.0, "files/file:///a files/file:///{x}");
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let (names, next) = found(admin, &format!("tools?limit=2{cursor}")).await;
            all.push(names);
            let Some(next) = next else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(all, ["files/list_all files/read", "files/write git/list_all", "git/read git/write"]);

        let key = world.person("ada", "user", json!({"servers": ["git"], "tools": ["git/read"]})).await;
        assert_eq!(found(&key, "tools").await.0, "git/read");
        assert_eq!(found(&key, "tools?server=files").await.0, "");
        let tools = world.with_key(&key, "GET /servers/git/tools", Value::Null).await.expect(200);
        assert_eq!(tools.text, r#"{"items":[{"name":"read","description":"Reads","n":1.50}],"next_cursor":null}"#);
        let seen = world.with_key(&key, "GET /servers/git", Value::Null).await.expect(200).json();
        assert!(seen.get("replicas").is_none(), "where it is is none of a user's business");
        assert_eq!(seen["status"]["tools"], 3);
        world.with_key(&key, "GET /servers/files", Value::Null).await.expect(404);
        world.with_key(&key, "GET /servers/files/tools", Value::Null).await.expect(404);
    }
}
