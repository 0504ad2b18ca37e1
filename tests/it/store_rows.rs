//! The rows: what is written is read, by its own tenant only, whole or not at all.

use mcp_registry_gateway::id::{ServerId, TenantId};
use mcp_registry_gateway::store::catalogs::{CatalogRow, MemoryRow};
use mcp_registry_gateway::store::servers::ServerRow;
use mcp_registry_gateway::store::signing_keys::SigningKeyRow;
use mcp_registry_gateway::store::users::{UserChange, UserRow};
use mcp_registry_gateway::store::{Json, Store, StoreError, at, micros, now};
use serde_json::json;
use uuid::Uuid;

pub fn server(tenant: &TenantId, slug: &str) -> ServerRow {
    let time = micros(now());
    ServerRow {
        id: Uuid::now_v7(),
        tenant_id: tenant.as_str().into(),
        owner_id: None,
        slug: slug.into(),
        spec: Json(json!({"slug": slug, "title": "Ünï\u{1F600} \"quoted\"", "n": 12_345_678_901_234_i64})),
        secrets: Some(vec![0, 255, 1, 0, 128]),
        enabled: true,
        revision: 1,
        created_at: time,
        updated_at: time,
    }
}

fn user(tenant: &TenantId, name: &str, role: &str) -> UserRow {
    let time = micros(now());
    UserRow {
        id: Uuid::now_v7(),
        tenant_id: tenant.as_str().into(),
        username: name.into(),
        password_hash: None,
        role: role.into(),
        state: "active".into(),
        issuer: None,
        subject: None,
        display_name: None,
        directory: None,
        guest: false,
        created_at: time,
        updated_at: time,
    }
}

on_both! {
    async fn a_write_that_is_given_up_half_way_is_whole_or_nothing_and_stops_nobody(db) {
        let store = db.open().await;
        let tenant = TenantId::default_tenant();
        for polls in 0..12 {
            let row = user(&tenant, &format!("half{polls}"), "user");
            let mut writing = Box::pin(store.insert_user(&tenant, &row));
            for _ in 0..polls {
                if futures_util::poll!(&mut writing).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(writing);
            let before = store.revision().await.unwrap();
            store.insert_user(&tenant, &user(&tenant, &format!("whole{polls}"), "user")).await.unwrap();
            assert!(store.revision().await.unwrap() > before);
        }
        let people = store.users(&tenant, "", 100).await.unwrap();
        assert_eq!(people.iter().filter(|row| row.username.starts_with("whole")).count(), 12);
    }
}

on_both! {
    async fn what_is_written_is_read_after_a_restart(db) {
        let store = db.open().await;
        let tenant = TenantId::default_tenant();
        let row = server(&tenant, "files");
        store.insert_server(&tenant, &row).await.unwrap();
        store.close().await;

        let store = db.open().await;
        let read = store.server(&tenant, "files").await.unwrap().unwrap();
        assert_eq!(read.spec.0, row.spec.0, "in whichever order");
        let read = ServerRow { spec: row.spec.clone(), ..read };
        assert_eq!(format!("{read:?}"), format!("{row:?}"));
        let tenants = store.tenants("", 10).await.unwrap();
        assert_eq!(tenants.len(), 1);
        assert!(tenants[0].created_at > at(1_000_000), "the first start is dated");
        store.ping().await.unwrap();
    }
}

on_both! {
    async fn one_tenants_rows_are_nothing_to_another(db) {
        let store = db.open().await;
        let (ours, theirs) = (TenantId::default_tenant(), store.add_tenant("acme", "Acme").await.unwrap());
        let row = server(&ours, "files");
        store.insert_server(&ours, &row).await.unwrap();
        store.insert_server(&theirs, &server(&theirs, "files")).await.unwrap();
        let person = user(&ours, "ada", "user");
        store.insert_user(&ours, &person).await.unwrap();
        let id = ServerId(row.id);
        let tools = CatalogRow {
            server_id: row.id, kind: "tools".into(), items: b"[1]".to_vec(), discovered_at: 1,
        };
        store.put_catalog(&ours, &tools).await.unwrap();

        assert!(matches!(store.update_server(&theirs, &ServerRow { revision: 2, ..row.clone() }, 1).await, Err(StoreError::Missing)));
        assert!(matches!(store.delete_server(&theirs, row.id, None).await, Err(StoreError::Missing)));
        assert!(store.catalogs(&theirs, id).await.unwrap().is_empty());
        assert!(matches!(store.put_catalog(&theirs, &tools).await, Err(StoreError::Missing)));
        let memory = MemoryRow {
            server_id: row.id, era: "legacy".into(), version: "2025-11-25".into(),
            discover_result: None, initialize_result: Some(b"{}".to_vec()), learned_at: 1,
        };
        assert!(matches!(store.put_memory(&theirs, &memory).await, Err(StoreError::Missing)));
        assert_eq!(store.catalogs(&ours, id).await.unwrap(), [tools]);
        assert!(store.user(&theirs, person.id).await.unwrap().is_none());
        assert!(store.user_named(&theirs, "ada").await.unwrap().is_none());
        let change = UserChange { role: Some("admin"), ..UserChange::default() };
        assert!(matches!(store.update_user(&theirs, person.id, change, false, 1).await, Err(StoreError::Missing)));
        assert_eq!(store.servers(&theirs, "", 10).await.unwrap().len(), 1);
        assert_eq!(store.server(&ours, "files").await.unwrap().unwrap().revision, 1);
    }
}

on_both! {
    async fn a_name_that_is_taken_writes_nothing(db) {
        let store = db.open().await;
        let tenant = TenantId::default_tenant();
        store.insert_server(&tenant, &server(&tenant, "files")).await.unwrap();
        let revision = store.revision().await.unwrap();

        assert!(matches!(store.insert_server(&tenant, &server(&tenant, "files")).await, Err(StoreError::Taken)));
        assert!(matches!(store.add_tenant("default", "again").await, Err(StoreError::Taken)));

        assert_eq!(store.servers(&tenant, "", 10).await.unwrap().len(), 1);
        assert_eq!(store.revision().await.unwrap(), revision, "a change that failed is no change");
    }
}

on_both! {
    async fn of_two_changes_made_from_one_reading_one_wins(db) {
        let store = db.open().await;
        let tenant = TenantId::default_tenant();
        let row = server(&tenant, "files");
        store.insert_server(&tenant, &row).await.unwrap();

        let mut tasks = tokio::task::JoinSet::new();
        for worker in 0..8 {
            let (store, tenant) = (store.clone(), tenant.clone());
            tasks.spawn(async move {
                let mut won = 0;
                for round in 0..10 {
                    let read = store.server(&tenant, "files").await.unwrap().unwrap();
                    let change = ServerRow {
                        spec: Json(json!({"worker": worker, "round": round})), revision: read.revision + 1, ..read.clone()
                    };
                    match store.update_server(&tenant, &change, read.revision).await {
                        Ok(()) => won += 1,
                        Err(StoreError::Stale) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                won
            });
        }
        let won: i64 = tasks.join_all().await.into_iter().sum();

        assert!(won >= 10);
        assert_eq!(store.server(&tenant, "files").await.unwrap().unwrap().revision, 1 + won);
    }
}

on_both! {
    async fn a_thousand_names_are_looked_up_at_once(db) {
        let store = db.open().await;
        let (ours, theirs) = (TenantId::default_tenant(), store.add_tenant("acme", "Acme").await.unwrap());
        for name in ["ada", "bob", "eve"] {
            store.insert_user(&ours, &user(&ours, name, "user")).await.unwrap();
        }
        let mut names: Vec<String> = (0..998).map(|number| format!("nobody-{number}")).collect();
        names.extend(["bob".to_owned(), "ada".to_owned()]);
        let eve = store.user_named(&ours, "eve").await.unwrap().unwrap();
        let among = async |tenant: &TenantId, names: &[String], ids: &[uuid::Uuid]| {
            let found = store.users_among(tenant, names, ids).await.unwrap();
            let mut found: Vec<String> = found.into_iter().map(|user| user.username).collect();
            found.sort();
            found
        };
        assert_eq!(among(&ours, &names, &[]).await, ["ada", "bob"]);
        assert_eq!(among(&ours, &names, &[eve.id]).await, ["ada", "bob", "eve"]);
        assert_eq!(among(&ours, &[], &[eve.id]).await, ["eve"]);
        assert!(among(&theirs, &names, &[eve.id]).await.is_empty() && among(&ours, &[], &[]).await.is_empty());
    }
}

on_both! {
    async fn what_a_server_offers_is_kept_to_the_byte(db) {
        let store = db.open().await;
        let tenant = TenantId::default_tenant();
        let row = server(&tenant, "files");
        store.insert_server(&tenant, &row).await.unwrap();
        let id = ServerId(row.id);
        let text = "[ {\"name\" : \"a\",\t\"n\":1.0e+00400, \"big\":123456789012345678901234567890, \"z\":null,\r\n\"u\":\"\\u00e9é\\/\\u0000\" } ]";
        let mut items = CatalogRow {
            server_id: row.id, kind: "tools".into(), items: text.as_bytes().to_vec(), discovered_at: 7,
        };
        store.put_catalog(&tenant, &items).await.unwrap();
        assert_eq!(store.catalogs(&tenant, id).await.unwrap(), [items.clone()]);
        assert_eq!(store.catalogs_of_all_tenants().await.unwrap(), [items.clone()]);
        items = CatalogRow { items: b"[]".to_vec(), discovered_at: 9, ..items };
        store.put_catalog(&tenant, &items).await.unwrap();
        assert_eq!(store.catalogs(&tenant, id).await.unwrap(), [items]);
        let memory = MemoryRow {
            server_id: row.id, era: "modern".into(), version: "2026-07-28".into(),
            discover_result: Some(text.as_bytes().to_vec()), initialize_result: None, learned_at: 3,
        };
        store.put_memory(&tenant, &memory).await.unwrap();
        store.put_memory(&tenant, &memory).await.unwrap();
        assert_eq!(store.memory_of_all_tenants().await.unwrap(), [memory]);

        store.delete_server(&tenant, row.id, Some(1)).await.unwrap();
        assert!(store.catalogs_of_all_tenants().await.unwrap().is_empty());
        assert!(store.memory_of_all_tenants().await.unwrap().is_empty());
    }
}

async fn moved(store: &Store, last: &mut i64) -> bool {
    let now = store.revision().await.unwrap();
    std::mem::replace(last, now) < now
}

on_both! {
    async fn the_revision_moves_with_what_the_snapshot_is_made_of(db) {
        let store = db.open().await;
        let tenant = TenantId::default_tenant();
        let mut last = store.revision().await.unwrap();
        let row = server(&tenant, "files");
        store.insert_server(&tenant, &row).await.unwrap();
        assert!(moved(&store, &mut last).await);
        store.update_server(&tenant, &ServerRow { revision: 2, ..row.clone() }, 1).await.unwrap();
        assert!(moved(&store, &mut last).await);
        assert!(matches!(store.update_server(&tenant, &ServerRow { revision: 2, ..row.clone() }, 1).await, Err(StoreError::Stale)));
        assert!(!moved(&store, &mut last).await);
        store.insert_user(&tenant, &user(&tenant, "ada", "user")).await.unwrap();
        assert!(moved(&store, &mut last).await);
        let tools = CatalogRow { server_id: row.id, kind: "tools".into(), items: b"[]".to_vec(), discovered_at: 1 };
        store.put_catalog(&tenant, &tools).await.unwrap();
        assert!(!moved(&store, &mut last).await, "a catalogue is not part of it");
        assert!(matches!(store.delete_server(&tenant, row.id, Some(1)).await, Err(StoreError::Stale)));
        store.delete_server(&tenant, row.id, Some(2)).await.unwrap();
        assert!(moved(&store, &mut last).await);
    }
}

on_both! {
    async fn the_last_administrator_stays(db) {
        let store = db.open().await;
        let tenant = TenantId::default_tenant();
        let (one, two) = (user(&tenant, "one", "admin"), user(&tenant, "two", "admin"));
        store.insert_user(&tenant, &one).await.unwrap();
        store.insert_user(&tenant, &two).await.unwrap();
        let disable = UserChange { state: Some("disabled"), ..UserChange::default() };
        let demote = UserChange { role: Some("user"), ..UserChange::default() };

        store.update_user(&tenant, one.id, disable.clone(), true, 1).await.unwrap();
        assert!(matches!(store.update_user(&tenant, two.id, disable, true, 1).await, Err(StoreError::LastAdmin)));
        assert!(matches!(store.update_user(&tenant, two.id, demote, true, 1).await, Err(StoreError::LastAdmin)));

        let two = store.user(&tenant, two.id).await.unwrap().unwrap();
        assert_eq!((two.state.as_str(), two.role.as_str()), ("active", "admin"));
    }
}

#[tokio::test]
async fn the_database_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let database = crate::store_databases::Database::sqlite();
    let file = database.file().unwrap();
    let store = database.open().await;
    store.add_tenant("acme", "Acme").await.unwrap();
    for entry in std::fs::read_dir(file.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
    }
    store.close().await;

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    database.open().await.close().await;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn an_address_of_no_database_is_refused_without_repeating_it() {
    for address in ["mysql://root:hunter2@localhost/x", "hunter2", "postgres://u:hunter2@localhost:nope/x"] {
        let error = Store::connect(address, 1).await.unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

on_both! {
    async fn a_key_to_sign_with_is_made_by_one_and_goes_when_another_has_taken_its_place(db) {
        let store = db.open().await;
        let row = |created_at| SigningKeyRow { id: Uuid::now_v7(), sealed: vec![1, 0, 255], created_at };
        let kept = async || {
            let rows = store.signing_keys().await.unwrap();
            rows.iter().map(|row| row.created_at).collect::<Vec<_>>()
        };
        store.add_signing_key(&row(100), 50).await.unwrap();
        store.add_signing_key(&row(101), 50).await.unwrap();
        assert_eq!(kept().await, [100], "another was first");
        store.add_signing_key(&row(200), 150).await.unwrap();
        assert_eq!(kept().await, [100, 200]);
        let first = store.signing_keys().await.unwrap()[0].id;
        store.remove_signing_key(first).await.unwrap();
        store.remove_signing_key(first).await.unwrap();
        assert_eq!(kept().await, [200]);
        assert_eq!(store.signing_keys().await.unwrap()[0].sealed, [1, 0, 255]);
    }
}
