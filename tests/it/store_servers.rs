//! Servers over a database: secrets sealed, changes by who may.

use mcp_registry_gateway::access::bootstrap::bootstrap;
use mcp_registry_gateway::access::keys::{self, KeyOrder};
use mcp_registry_gateway::access::{Accounts, Admin, Caller, KeyRing, Role, Scopes, users};
use mcp_registry_gateway::crypto::{MasterKey, Place, Sealer, is_of_tenant};
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::registry::model::ServerSpec;
use mcp_registry_gateway::registry::servers::{Servers, ServersError, masked, masked_json};
use mcp_registry_gateway::store::servers::ServerRow;
use mcp_registry_gateway::store::users::UserRow;
use mcp_registry_gateway::store::{Store, now};
use mcp_registry_gateway::vault::Vault;
use serde_json::{Value, json};

fn spec(value: Value) -> ServerSpec {
    serde_json::from_value(value).unwrap()
}

fn files() -> ServerSpec {
    spec(
        json!({"slug": "files", "replicas": [{"url": "https://files.example/mcp"}], "headers": {"authorization": "Bearer s3cret"}}),
    )
}

async fn admin(store: &Store) -> Caller {
    let key = bootstrap(store, None).await.unwrap().unwrap();
    let ring = KeyRing::empty();
    ring.reload(store).await.unwrap();
    ring.authenticate(key.expose(), now()).unwrap()
}

/// A user of that role with a key for everything.
async fn person(store: &Store, admin: &Caller, name: &str, role: Role) -> Caller {
    let order = users::UserOrder { username: name.into(), password: None, role, tenant: None };
    users::create(store, &Accounts::default(), &Admin::prove(admin).unwrap(), order, now()).await.unwrap();
    holder(store, admin, name, role).await
}

/// A user with a key for everything.
async fn holder(store: &Store, admin: &Caller, name: &str, role: Role) -> Caller {
    let order =
        KeyOrder { name: "k".into(), scopes: Scopes::all(), role, username: Some(name.into()), expires_at: None };
    let (key, _) = keys::create(store, admin, order, now()).await.unwrap();
    let ring = KeyRing::empty();
    ring.reload(store).await.unwrap();
    ring.authenticate(key.expose(), now()).unwrap()
}

on_both! {
    async fn nobody_sees_a_server_by_being_called_like_somebody_at_a_provider(db) {
        let store = db.open().await;
        let admin = admin(&store).await;
        let vault = Vault::new(store.clone(), Sealer::new(&MasterKey::generate()));
        let servers = Servers { store: &store, vault: &vault };
        let row = UserRow {
            id: uuid::Uuid::now_v7(),
            username: "grace@example.com".into(),
            role: "user".into(),
            state: "active".into(),
            issuer: Some("https://login.example.com".into()),
            subject: Some("1".into()),
            ..UserRow::default()
        };
        store.insert_person(admin.tenant(), &row).await.unwrap();
        let grace = holder(&store, &admin, &row.username, Role::User).await;
        let of = |users: Value| ServerSpec { visibility: serde_json::from_value(users).unwrap(), ..files() };
        let named = of(json!({"everyone": false, "users": ["Grace@example.com", "nobody"]}));
        servers.create(&admin, named.clone(), now()).await.unwrap();
        assert!(matches!(servers.get(&grace, "files").await, Err(ServersError::Missing)));
        let warned = servers.warnings(&admin, &[&named], &[]).await.unwrap();
        assert!(warned.len() == 2 && warned[0].contains(&format!("use the id {}", row.id)), "{warned:?}");
        let by_id = of(json!({"everyone": false, "users": [row.id]}));
        servers.replace(&admin, "files", by_id.clone(), None, now()).await.unwrap();
        assert!(servers.get(&grace, "files").await.is_ok() && servers.warnings(&admin, &[&by_id], &[]).await.unwrap().is_empty());
    }
}

on_both! {
    async fn secrets_are_sealed_in_the_row_and_whole_in_the_snapshot(db) {
        let store = db.open().await;
        let admin = admin(&store).await;
        let vault = Vault::new(store.clone(), Sealer::new(&MasterKey::generate()));
        let servers = Servers { store: &store, vault: &vault };
        let made = servers.create(&admin, files(), now()).await.unwrap();

        let row = store.server(&TenantId::default_tenant(), "files").await.unwrap().unwrap();
        assert!(!row.spec.0.to_string().contains("s3cret") && row.spec.0.get("headers").is_none());
        let sealed = row.secrets.unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"s3cret"));
        assert_eq!(servers.load_all().await.unwrap(), std::slice::from_ref(&made.server));
        assert_eq!(masked_json(&made.server.spec)["headers"], json!({"authorization": "***"}));

        let stranger = Vault::new(store.clone(), Sealer::new(&MasterKey::generate()));
        let other = Servers { store: &store, vault: &stranger };
        assert!(matches!(other.load_all().await, Err(ServersError::Vault(_))), "another master key is told");
    }
}

on_both! {
    async fn secrets_are_sealed_under_the_key_of_their_tenant_also_those_from_before_there_was_one(db) {
        let store = db.open().await;
        let admin = admin(&store).await;
        let (tenant, master) = (TenantId::default_tenant(), Sealer::new(&MasterKey::generate()));
        let vault = Vault::new(store.clone(), master.clone());
        let servers = Servers { store: &store, vault: &vault };
        assert!(store.data_keys(Some(&tenant)).await.unwrap().is_empty(), "it is made when it is needed");
        let made = servers.create(&admin, files(), now()).await.unwrap();
        let stored = async || store.server(&tenant, "files").await.unwrap().unwrap();
        let sealed = stored().await.secrets.unwrap();
        assert!(is_of_tenant(&sealed));

        let id = made.server.id.to_string();
        let place = Place { table: "servers.secrets", row: &id, tenant: &tenant, subject: None };
        let plain = json!({"headers": {"authorization": "Bearer s3cret"}, "env": {}}).to_string();
        let other = Vault::new(store.clone(), master.clone());
        let servers = Servers { store: &store, vault: &other };
        for old in [master.seal(place, plain.as_bytes()).unwrap(), vault.seal(place, plain.as_bytes()).await.unwrap()] {
            store.reseal_server(&tenant, made.server.id.0, &stored().await.secrets.unwrap(), &old).await.unwrap();
            for _ in 0..2 {
                servers.reseal().await.unwrap();
                let row = stored().await;
                assert!(is_of_tenant(&row.secrets.unwrap()) && row.revision == 1);
            }
            assert_eq!(servers.load_all().await.unwrap(), std::slice::from_ref(&made.server));
        }

        let stranger = Vault::new(store.clone(), Sealer::new(&MasterKey::generate()));
        let error = Servers { store: &store, vault: &stranger }.reseal().await.unwrap_err().to_string();
        assert!(error.contains("`default`") && error.contains("another master key"), "{error}");
    }
}

on_both! {
    async fn secrets_go_where_they_were_given_for_whatever_the_database_says(db) {
        let store = db.open().await;
        let admin = admin(&store).await;
        let (tenant, vault) = (TenantId::default_tenant(), Vault::new(store.clone(), Sealer::new(&MasterKey::generate())));
        let servers = Servers { store: &store, vault: &vault };
        let made = servers.create(&admin, files(), now()).await.unwrap();
        let good = store.server(&tenant, "files").await.unwrap().unwrap();
        for (member, elsewhere) in [
            ("replicas", json!([{"url": "https://elsewhere.example/mcp"}])),
            ("replicas", json!([good.spec.0["replicas"][0], {"url": "https://elsewhere.example/mcp"}])),
            ("transport", json!("sse")),
        ] {
            let mut row = good.clone();
            row.spec.0[member] = elsewhere;
            row.revision += 1;
            store.update_server(&tenant, &row, row.revision - 1).await.unwrap();
            assert!(servers.load_all().await.unwrap().is_empty(), "{member}");
            servers.reseal().await.unwrap();
            assert!(servers.load_all().await.unwrap().is_empty(), "{member}: nor after the next start");
            let back = ServerRow { revision: row.revision + 1, ..good.clone() };
            store.update_server(&tenant, &back, row.revision).await.unwrap();
            assert_eq!(servers.load_all().await.unwrap()[0].spec, made.server.spec);
            store.update_server(&tenant, &good, back.revision).await.unwrap();
        }
        // The same program started in another folder is another one.
        let command = json!({"program": "/bin/true", "args": ["server.js"], "cwd": "/srv/one"});
        let child = json!({"slug": "child", "transport": "stdio", "command": command, "env": {"TOKEN": "s3cret"}});
        servers.create(&admin, spec(child), now()).await.unwrap();
        let child = store.server(&tenant, "child").await.unwrap().unwrap();
        let loaded = async || servers.load_all().await.unwrap().iter().any(|server| server.spec.slug.as_str() == "child");
        assert!(loaded().await);
        for (revision, folder) in [(2, json!("/srv/other")), (3, Value::Null)] {
            let mut row = ServerRow { revision, ..child.clone() };
            row.spec.0["command"]["cwd"] = folder;
            store.update_server(&tenant, &row, revision - 1).await.unwrap();
            assert!(!loaded().await);
        }
        let mut titled = good.clone();
        titled.spec.0["title"] = json!("Files");
        titled.revision += 1;
        store.update_server(&tenant, &titled, good.revision).await.unwrap();
        let loaded = servers.load_all().await.unwrap();
        assert_eq!(loaded[0].spec.headers, made.server.spec.headers, "the rest does not matter");
    }
}

on_both! {
    async fn with_a_tenant_its_key_is_gone(db) {
        let store = db.open().await;
        let acme = store.add_tenant("acme", "Acme").await.unwrap();
        let vault = Vault::new(store.clone(), Sealer::new(&MasterKey::generate()));
        let place = Place { table: "servers.secrets", row: "1", tenant: &acme, subject: None };
        let sealed = vault.seal(place, b"s3cret").await.unwrap();
        let another = Vault::new(store.clone(), vault.master().clone());
        assert!(another.seal_at_once(place, b"x").is_err(), "nothing is sealed under the master key");
        assert_eq!(**another.open(place, &sealed).await.unwrap(), *b"s3cret");
        assert!(is_of_tenant(&another.seal_at_once(place, b"x").unwrap()));

        store.purge_tenant(&acme, None).await.unwrap();
        assert!(store.data_keys(Some(&acme)).await.unwrap().is_empty());
        vault.load().await.unwrap();
        assert!(vault.open(place, &sealed).await.is_err() && vault.seal(place, b"x").await.is_err());
        store.add_tenant("acme", "Acme").await.unwrap();
        let new = another.seal(place, b"x").await.unwrap();
        assert!(another.open(place, &sealed).await.is_err(), "another one of the name has another key, at once");
        assert_eq!(**vault.open(place, &new).await.unwrap(), *b"x");
    }
}

on_both! {
    async fn a_mask_that_is_sent_back_keeps_the_secret_but_does_not_follow_to_another_host(db) {
        let store = db.open().await;
        let admin = admin(&store).await;
        let vault = Vault::new(store.clone(), Sealer::new(&MasterKey::generate()));
        let servers = Servers { store: &store, vault: &vault };
        let made = servers.create(&admin, files(), now()).await.unwrap();
        let mut edit = masked(&made.server.spec);

        let same = servers.replace(&admin, "files", edit.clone(), Some(1), now()).await.unwrap();
        assert_eq!(same.server.revision, 1, "what says the same changes nothing");
        edit.title = "Files".into();
        let changed = servers.replace(&admin, "files", edit.clone(), Some(1), now()).await.unwrap();
        assert_eq!(changed.server.revision, 2);
        assert_eq!(changed.server.spec.headers["authorization"].expose(), "Bearer s3cret");
        assert!(matches!(servers.replace(&admin, "files", files(), Some(1), now()).await, Err(ServersError::Stale)));

        edit.replicas[0].url = "https://elsewhere.example/mcp".into();
        let Err(ServersError::Invalid(errors)) = servers.replace(&admin, "files", edit.clone(), None, now()).await else {
            panic!("a stored secret went to another host")
        };
        assert_eq!(errors[0].field, "headers.authorization");
        edit.headers = files().headers;
        servers.replace(&admin, "files", edit, None, now()).await.unwrap();
        let unknown = spec(json!({"slug": "new", "replicas": [{"url": "https://x.example/"}], "headers": {"x-key": "***"}}));
        assert!(matches!(servers.create(&admin, unknown, now()).await, Err(ServersError::Invalid(_))));
    }
}

on_both! {
    async fn who_may_not_see_or_change_a_server_does_not(db) {
        let store = db.open().await;
        let admin = admin(&store).await;
        let vault = Vault::new(store.clone(), Sealer::new(&MasterKey::generate()));
        let servers = Servers { store: &store, vault: &vault };
        let owner = person(&store, &admin, "owner", Role::ServerOwner).await;
        let other = person(&store, &admin, "other", Role::ServerOwner).await;
        let user = person(&store, &admin, "user", Role::User).await;
        let head = person(&store, &admin, "head", Role::TenantAdmin).await;
        let program = spec(json!({"slug": "tool", "transport": "stdio", "command": {"program": "true"}}));

        for (who, spec) in [(&user, files()), (&owner, program.clone()), (&head, program.clone())] {
            assert!(matches!(servers.create(who, spec, now()).await, Err(ServersError::Forbidden(_))));
        }
        servers.create(&admin, program.clone(), now()).await.unwrap();
        assert!(!servers.set_enabled(&head, "tool", false, None, now()).await.unwrap().server.spec.enabled, "who may stop it");
        let started = servers.set_enabled(&head, "tool", true, None, now()).await;
        assert!(matches!(started, Err(ServersError::Forbidden(_))), "may not start it");
        assert!(servers.set_enabled(&admin, "tool", true, None, now()).await.unwrap().server.spec.enabled);
        let moved = ServerSpec { title: "x".into(), ..program };
        assert!(matches!(servers.replace(&head, "tool", moved, None, now()).await, Err(ServersError::Forbidden(_))));

        let mut secret = files();
        secret.visibility = serde_json::from_value(json!({"everyone": false, "users": ["USER"]})).unwrap();
        servers.create(&owner, secret.clone(), now()).await.unwrap();
        assert!(matches!(servers.get(&other, "files").await, Err(ServersError::Missing)), "hidden is as absent");
        assert!(matches!(servers.delete(&other, "files", None).await, Err(ServersError::Missing)));
        assert!(servers.get(&user, "files").await.is_ok() && servers.get(&owner, "files").await.is_ok());
        assert!(matches!(servers.set_enabled(&user, "files", false, None, now()).await, Err(ServersError::Forbidden(_))));
        assert_eq!(servers.list(&other, "", 10).await.unwrap().0.len(), 1);
        assert_eq!(servers.list(&head, "", 10).await.unwrap().0.len(), 2);
        assert!(!servers.set_enabled(&owner, "files", false, None, now()).await.unwrap().server.spec.enabled);
        assert!(matches!(servers.create(&head, secret, now()).await, Err(ServersError::Taken(_))));
        servers.delete(&head, "files", Some(2)).await.unwrap();
        assert!(matches!(servers.get(&head, "files").await, Err(ServersError::Missing)));
    }
}
