//! OAuth clients: registered by an administrator, on both databases, and proving who they are; registering themselves, which
//! leaves nothing behind.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Mutex;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use mcp_registry_gateway::grants::authenticate::{AuthenticateError, Shown};
use mcp_registry_gateway::grants::client::{Client, ClientError, GrantType, Known};
use mcp_registry_gateway::grants::dynamic::RegisterError;
use mcp_registry_gateway::protocol::oauth::CLIENT_ASSERTION;
use mcp_registry_gateway::store::now;
use serde_json::{Value, json};
use sqlx::Connection as _;
use time::OffsetDateTime;

use crate::store_databases::Database;
use crate::store_rest::World;

const ISSUER: &str = "https://gateway.example";

fn portal() -> Value {
    json!({
        "client_id": "portal", "name": "The Portal", "kind": "confidential",
        "redirect_uris": ["https://portal.example/callback"],
    })
}

fn service(id: &str) -> Value {
    json!({"client_id": id, "name": "At night", "kind": "service"})
}

/// Who asks.
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A client shows what it shows; each assertion is good once.
async fn shows(world: &World, shown: &Shown<'_>) -> Result<std::sync::Arc<Client>, AuthenticateError> {
    static SPENT: Mutex<Option<HashSet<[u8; 32]>>> = Mutex::new(None);
    let spend = async |hash: [u8; 32], until: OffsetDateTime| {
        assert!(until > now());
        Ok(SPENT.lock().unwrap().get_or_insert_default().insert(hash))
    };
    world.app.clients.authenticate(shown, &[ISSUER], HERE, now(), spend).await
}

async fn with_secret(world: &World, id: &str, secret: &str) -> Result<std::sync::Arc<Client>, AuthenticateError> {
    shows(world, &Shown { client_id: Some(id), client_secret: Some(secret), ..Shown::default() }).await
}

fn refused(result: Result<std::sync::Arc<Client>, AuthenticateError>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error, AuthenticateError::Refused { .. }), "{error:?}");
    error.to_string()
}

on_both! {
    async fn a_client_is_registered_read_changed_and_removed(db) {
        let world = World::open(db).await;
        let made = world.call("POST /oauth-clients", portal()).await.expect(201);
        assert_eq!((made.header("location"), made.header("cache-control")), ("/api/v1/oauth-clients/portal", "no-store"));
        let secret = made.json()["client_secret"].as_str().unwrap().to_owned();
        assert!(secret.starts_with("mcpg_cs_"), "{secret}");
        assert_eq!(world.call("POST /oauth-clients", portal()).await.expect(409).json()["code"], "TAKEN");

        let read = world.call("GET /oauth-clients/portal", Value::Null).await.expect(200);
        assert!(!read.text.contains(&secret), "a secret is shown once");
        let read = read.json();
        assert_eq!(read["secrets"][0]["hint"], secret[..12]);
        assert_eq!((&read["scopes"], &read["token_endpoint_auth_method"]), (&json!(["mcp", "offline_access"]), &json!("client_secret_basic")));
        let change = json!({"name": "Portal", "redirect_uris": ["https://new.example/cb"], "scopes": ["mcp", "admin"]});
        let changed = world.call("PATCH /oauth-clients/portal", change).await.expect(200).json();
        assert_eq!((&changed["name"], &changed["scopes"]), (&json!("Portal"), &json!(["mcp", "admin"])));
        let client = world.app.clients.find("portal", HERE, now()).await.unwrap();
        assert!(client.redirect("https://new.example/cb").is_some() && client.redirect("https://portal.example/callback").is_none());
        assert!(client.is_registered() && client.may(GrantType::AuthorizationCode) && !client.may(GrantType::ClientCredentials));

        let public = json!({"name": "Desktop", "kind": "public", "redirect_uris": ["http://127.0.0.1/cb"]});
        let public = world.call("POST /oauth-clients", public).await.expect(201).json();
        assert!(public["client_secret"].is_null() && public["secrets"] == json!([]), "{public}");
        let page = world.call("GET /oauth-clients?limit=1", Value::Null).await.expect(200).json();
        assert_eq!(page["items"][0]["client_id"], public["client_id"], "an id was made");
        let next = format!("GET /oauth-clients?cursor={}", page["next_cursor"].as_str().unwrap());
        assert_eq!(world.call(&next, Value::Null).await.expect(200).json()["items"][0]["client_id"], "portal");

        world.call("DELETE /oauth-clients/portal", Value::Null).await.expect(204);
        let gone = world.call("GET /oauth-clients/portal", Value::Null).await.expect(404).json();
        assert_eq!(gone["detail"], "there is no such client");
        assert!(matches!(world.app.clients.find("portal", HERE, now()).await, Err(ClientError::Unknown)));
    }
}

on_both! {
    async fn what_an_administrator_names_is_registered_or_refused_and_what_is_left_of_it_is_told(db) {
        let world = World::open(db).await;
        let both = json!(["authorization_code", "refresh_token"]);
        let with = |more: &[(&str, Value)]| {
            let mut order = portal();
            for (name, value) in more {
                order[*name] = value.clone();
            }
            order
        };
        let refused = with(&[("grant_types", both.clone()), ("scopes", json!(["mcp"]))]);
        let told = world.call("POST /oauth-clients", refused).await.expect(422).json();
        assert_eq!(told["errors"][0]["field"], "grant_types");
        assert!(told["errors"][0]["message"].as_str().unwrap().contains("offline_access"), "{told}");
        let made = world.call("POST /oauth-clients", with(&[("grant_types", both.clone())])).await.expect(201).json();
        assert_eq!(made["grant_types"], both);
        // Scopes that leave less of it are taken, and the answer says what is left.
        let edit = async |change: Value| world.call("PATCH /oauth-clients/portal", change).await;
        let less = edit(json!({"scopes": ["mcp"]})).await.expect(200).json();
        assert_eq!(less["grant_types"], json!(["authorization_code"]));
        edit(json!({"name": "Still The Portal"})).await.expect(200);
        edit(json!({"grant_types": both.clone()})).await.expect(422);
        let again = edit(json!({"grant_types": both.clone(), "scopes": ["mcp", "offline_access"]})).await.expect(200).json();
        assert_eq!(again["grant_types"], both);
    }
}

on_both! {
    async fn a_secret_is_exchanged_without_a_pause(db) {
        let world = World::open(db).await;
        let secret = |answer: &Value| answer["client_secret"].as_str().unwrap().to_owned();
        let first = secret(&world.call("POST /oauth-clients", portal()).await.expect(201).json());
        let second = secret(&world.call("POST /oauth-clients/portal/secrets", Value::Null).await.expect(201).json());
        let third = world.call("POST /oauth-clients/portal/secrets", Value::Null).await.expect(422).json();
        assert!(third["detail"].as_str().unwrap().contains("remove one first"), "{third}");
        assert!(with_secret(&world, "portal", &first).await.is_ok() && with_secret(&world, "portal", &second).await.is_ok());

        let old = format!("DELETE /oauth-clients/portal/secrets/{}", &first[..12]);
        world.call(&old, Value::Null).await.expect(204);
        world.call(&old, Value::Null).await.expect(404);
        refused(with_secret(&world, "portal", &first).await);
        assert!(with_secret(&world, "portal", &second).await.is_ok());
    }
}

on_both! {
    async fn a_service_acts_as_an_account_of_its_own(db) {
        let world = World::open(db).await;
        let mut order = service("nightly");
        order["role"] = "server_owner".into();
        let made = world.call("POST /oauth-clients", order).await.expect(201).json();
        assert_eq!((&made["role"], &made["scopes"]), (&json!("server_owner"), &json!(["mcp"])));
        let account = world.call("GET /users/nightly", Value::Null).await.expect(200).json();
        assert_eq!((&account["id"], &account["role"], &account["has_password"]), (&made["user_id"], &json!("server_owner"), &json!(false)));
        let password = json!({"password": "a long pass phrase"});
        let no = world.call("POST /users/nightly/password", password).await.expect(422).json();
        assert_eq!(no["errors"][0]["field"], "password");

        let secret = made["client_secret"].as_str().unwrap();
        let client = with_secret(&world, "nightly", secret).await.unwrap();
        assert!(client.may(GrantType::ClientCredentials) && !client.may(GrantType::AuthorizationCode));
        assert!(matches!(&client.known, Known::Registered { service: Some(_), .. }));
        world.call("PATCH /users/nightly", json!({"state": "disabled"})).await.expect(200);
        refused(with_secret(&world, "nightly", secret).await);
        world.call("PATCH /users/nightly", json!({"state": "active"})).await.expect(200);
        world.call("PATCH /oauth-clients/nightly", json!({"role": "user"})).await.expect(200);
        assert_eq!(world.call("GET /users/nightly", Value::Null).await.json()["role"], "user");
        world.call("DELETE /oauth-clients/nightly", Value::Null).await.expect(204);
        world.call("GET /users/nightly", Value::Null).await.expect(404);

        world.call("POST /oauth-clients", service("second")).await.expect(201);
        world.call("DELETE /users/second", Value::Null).await.expect(204);
        world.call("GET /oauth-clients/second", Value::Null).await.expect(404);
        world.call("POST /users", json!({"username": "ada"})).await.expect(201);
        world.call("POST /oauth-clients", service("ada")).await.expect(409);
        assert!(world.app.store.client_of_any_tenant("ada").await.unwrap().is_none(), "nothing is half made");
    }
}

on_both! {
    async fn an_administrator_of_a_tenant_does_not_touch_a_client_above(db) {
        let world = World::open(db).await;
        let mut order = service("root");
        order["role"] = "admin".into();
        world.call("POST /oauth-clients", order.clone()).await.expect(201);
        let last = world.call("PATCH /users/admin", json!({"role": "user"})).await.expect(409).json();
        assert_eq!(last["code"], "LAST_ADMIN", "a service administers nothing by itself");
        let lesser = world.person("tina", "tenant_admin", json!({"servers": "*"})).await;
        order["client_id"] = "other".into();
        world.with_key(&lesser, "POST /oauth-clients", order).await.expect(403);
        for (call, body) in [
            ("PATCH /oauth-clients/root", json!({"name": "x"})),
            ("DELETE /oauth-clients/root", Value::Null),
            ("POST /oauth-clients/root/secrets", Value::Null),
            ("DELETE /oauth-clients/root/secrets/mcpg_cs_abcd", Value::Null),
        ] {
            world.with_key(&lesser, call, body).await.expect(403);
        }
        world.with_key(&lesser, "POST /oauth-clients", service("mine")).await.expect(201);
        world.with_key(&lesser, "PATCH /oauth-clients/mine", json!({"role": "admin"})).await.expect(403);
        world.with_key(&lesser, "PATCH /oauth-clients/mine", json!({"role": "tenant_admin"})).await.expect(200);
    }
}

on_both! {
    async fn of_two_changes_at_once_one_is_told(db) {
        let world = World::open(db).await;
        world.call("POST /oauth-clients", portal()).await.expect(201);
        let store = &world.app.store;
        let row = store.client_of_any_tenant("portal").await.unwrap().unwrap();
        let tenant = mcp_registry_gateway::id::TenantId::default_tenant();
        let change = || store.update_client(&tenant, &row, None, row.updated_at + 1);
        let (one, two) = tokio::join!(change(), change());
        assert_eq!([one.is_ok(), two.is_ok()].iter().filter(|done| **done).count(), 1);
    }
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_client_is_told_with_its_field() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let with = |mut order: Value, more: Value| {
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        order
    };
    for (order, fields) in [
        (with(portal(), json!({"client_id": "Not an id", "name": ""})), vec!["client_id", "name"]),
        (with(portal(), json!({"client_id": "mcpg_dc_x"})), vec!["client_id"]),
        (with(portal(), json!({"client_id": "https://portal.example/client"})), vec!["client_id"]),
        (with(portal(), json!({"redirect_uris": []})), vec!["redirect_uris"]),
        (
            with(portal(), json!({"redirect_uris": ["https://a.example/", "javascript:x", "http://a.example/"]})),
            vec!["redirect_uris[1]", "redirect_uris[2]"],
        ),
        (with(portal(), json!({"scopes": ["mcp", "everything"]})), vec!["scopes[1]"]),
        (with(portal(), json!({"scopes": []})), vec!["scopes"]),
        (with(portal(), json!({"role": "user"})), vec!["role"]),
        (with(portal(), json!({"jwks_uri": "http://a.example/keys"})), vec!["jwks_uri"]),
        (with(portal(), json!({"jwks": {"keys": [{"kty": "oct", "k": "AAAA"}]}})), vec!["jwks"]),
        (with(portal(), json!({"kind": "public", "jwks_uri": "https://a.example/keys"})), vec!["jwks"]),
        (with(service("bot"), json!({"redirect_uris": ["https://a.example/"]})), vec!["redirect_uris"]),
        (with(service("bot"), json!({"scopes": ["mcp", "offline_access"]})), vec!["scopes"]),
        (with(service("bot"), json!({"colour": 1})), vec!["colour"]),
    ] {
        let told = world.call("POST /oauth-clients", order.clone()).await.expect(422).json();
        let named: Vec<_> = told["errors"].as_array().unwrap().iter().map(|error| error["field"].clone()).collect();
        assert_eq!(json!(named), json!(fields), "{order}");
    }
    assert_eq!(world.call("GET /oauth-clients", Value::Null).await.json()["items"], json!([]));
}

on_both! {
    async fn who_a_client_is_is_proved_and_nobody_learns_which_clients_there_are(db) {
        let world = World::open(db).await;
        let made = world.call("POST /oauth-clients", portal()).await.expect(201).json();
        let secret = made["client_secret"].as_str().unwrap();
        let basic = |text: String| format!("Basic {}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text));
        let header = basic(format!("portal:{secret}"));
        let in_header = Shown { authorization: Some(&header), ..Shown::default() };
        assert_eq!(&*shows(&world, &in_header).await.unwrap().id, "portal");
        assert_eq!(&*with_secret(&world, "portal", secret).await.unwrap().id, "portal");

        let wrong = refused(with_secret(&world, "portal", "mcpg_cs_wrong").await);
        assert_eq!(wrong, refused(with_secret(&world, "nobody", secret).await));
        assert_eq!(wrong, refused(with_secret(&world, "mcpg_dc_AAAA", secret).await));
        let bare = Shown { client_id: Some("portal"), ..Shown::default() };
        assert_eq!(wrong, refused(shows(&world, &bare).await));
        let public = json!({"client_id": "desktop", "name": "D", "kind": "public", "redirect_uris": ["http://127.0.0.1/cb"]});
        world.call("POST /oauth-clients", public).await.expect(201);
        assert_eq!(wrong, refused(with_secret(&world, "desktop", secret).await));
        assert!(shows(&world, &Shown { client_id: Some("desktop"), ..Shown::default() }).await.is_ok());
    }
}

on_both! {
    async fn a_client_that_signs_is_believed_once(db) {
        let world = World::open(db).await;
        let key = concat!(env!("CARGO_MANIFEST_DIR"), "/src/net/testdata/server.key");
        let key = EncodingKey::from_ec_pem(&std::fs::read(key).unwrap()).unwrap();
        let public = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        let mut order = service(&format!("signer-{}", uuid::Uuid::now_v7().simple()));
        order["jwks"] = json!({ "keys": [public] });
        let made = world.call("POST /oauth-clients", order).await.expect(201).json();
        assert!(made["client_secret"].is_null() && made["token_endpoint_auth_method"] == "private_key_jwt", "{made}");
        let id = made["client_id"].as_str().unwrap();
        let sign = |jti: &str, subject: &str| {
            let claims = json!({"iss": subject, "sub": subject, "aud": ISSUER, "jti": jti, "exp": now().unix_timestamp() + 60});
            encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap()
        };
        let show = async |text: &str| {
            shows(&world, &Shown { assertion: Some(text), assertion_type: Some(CLIENT_ASSERTION), ..Shown::default() }).await
        };
        let (one, two) = (sign("1", id), sign("2", id));
        assert_eq!(&*show(&one).await.unwrap().id, id);
        refused(show(&one).await);
        assert!(show(&two).await.is_ok());
        refused(show(&sign("3", "nobody")).await);
        refused(with_secret(&world, id, "x").await);
        world.call(&format!("POST /oauth-clients/{id}/secrets"), Value::Null).await.expect(422);
    }
}

#[tokio::test]
async fn a_secret_of_a_client_that_registered_itself_ends_after_ninety_days() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let clients = &world.app.clients;
    let body = json!({"redirect_uris": ["https://app.example/cb"], "token_endpoint_auth_method": "client_secret_post"});
    let (source, began) = (IpAddr::from([192, 0, 2, 1]), now());
    let made = clients.dynamic().register(body.to_string().as_bytes(), None, source, began).unwrap();
    let made = serde_json::to_value(&made).unwrap();
    let (id, secret) = (made["client_id"].as_str().unwrap(), made["client_secret"].as_str().unwrap());
    let shown = Shown { client_id: Some(id), client_secret: Some(secret), ..Shown::default() };
    for (days, good) in [(0, true), (89, true), (90, false)] {
        let then = began + time::Duration::days(days);
        let result = clients.authenticate(&shown, &[ISSUER], HERE, then, async |_, _| Ok(true)).await;
        assert_eq!(result.is_ok(), good, "{days}");
    }
    let client = clients.find(id, HERE, now()).await.unwrap();
    assert!(client.redirect("https://app.example/cb").is_some() && !client.is_registered());
}

#[tokio::test]
async fn ten_thousand_registrations_leave_no_row_and_little_memory() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let file = || std::fs::metadata(database.file().unwrap()).unwrap().len();
    let (revision, size) = (world.app.store.revision().await.unwrap(), file());
    let body = json!({"redirect_uris": ["https://app.example/cb"]}).to_string();
    let (mut passed, mut slowed) = (0, 0);
    for number in 0..10_000_u32 {
        let source = IpAddr::from((0xc000_0000 + number).to_be_bytes());
        match world.app.clients.dynamic().register(body.as_bytes(), None, source, now()) {
            Ok(_) => passed += 1,
            Err(RegisterError::TooMany(_)) => slowed += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(passed >= 300 && slowed > 0 && passed + slowed == 10_000, "{passed} passed");
    assert!(world.app.clients.dynamic().sources() <= passed, "who was refused is not remembered");
    assert_eq!((world.app.store.revision().await.unwrap(), file()), (revision, size));
    assert_eq!(world.call("GET /oauth-clients", Value::Null).await.json()["items"], json!([]));
}

#[tokio::test]
async fn with_a_client_goes_what_was_granted_to_it_and_agreed_for_it() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    world.call("POST /oauth-clients", portal()).await.expect(201);
    world.call("POST /users", json!({"username": "ada"})).await.expect(201);
    let mut raw = sqlx::SqliteConnection::connect(&database.url).await.unwrap();
    let user: uuid::Uuid =
        sqlx::query_scalar("SELECT id FROM users WHERE username = 'ada'").fetch_one(&mut raw).await.unwrap();
    for (id, client) in [(uuid::Uuid::now_v7(), "portal"), (uuid::Uuid::now_v7(), "other")] {
        let grant = "INSERT INTO grants (id, tenant_id, user_id, kind, client_id, scopes, login_method, created_at, last_used_at, expires_at)
            VALUES ($1, 'default', $2, 'client', $3, 'mcp', 'local', 1, 1, 2)";
        sqlx::query(grant).bind(id).bind(user).bind(client).execute(&mut raw).await.unwrap();
        let consent = "INSERT INTO consents (tenant_id, user_id, client_id, redirect_uri, resource, scopes, given_at)
            VALUES ('default', $1, $2, 'x', 'y', 'mcp', 1)";
        sqlx::query(consent).bind(user).bind(client).execute(&mut raw).await.unwrap();
    }
    world.call("DELETE /oauth-clients/portal", Value::Null).await.expect(204);
    let open: Vec<String> =
        sqlx::query_scalar("SELECT client_id FROM grants WHERE ended_at IS NULL").fetch_all(&mut raw).await.unwrap();
    let agreed: Vec<String> = sqlx::query_scalar("SELECT client_id FROM consents").fetch_all(&mut raw).await.unwrap();
    assert_eq!((open, agreed), (vec!["other".to_owned()], vec!["other".to_owned()]));
}
