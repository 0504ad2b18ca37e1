//! What people connected, in both databases: one of many renews it, and nobody writes over what came since.

use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::store::connections::{AttemptRow, ConnectionRow, IssuerRow, Of, RenewedColumns};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::store_rest::{World, server};

fn row(of: Of, tokens: &[u8]) -> ConnectionRow {
    ConnectionRow {
        id: Uuid::now_v7(),
        tenant_id: "default".to_owned(),
        user_id: of.user,
        server_id: of.server,
        issuer: "https://as.example".to_owned(),
        place: "p".to_owned(),
        tokens: Some(tokens.to_vec()),
        scopes: "read".to_owned(),
        wanted: String::new(),
        state: "active".to_owned(),
        reason: None,
        created_at: 1,
        renewed_at: 1,
        expires_at: Some(100),
        until: 0,
        asking: false,
        failures: 0,
        version: 0,
    }
}

/// An account and a server.
async fn people(world: &World) -> Of {
    let made = world.call("POST /servers", server("files")).await.expect(201).json();
    let ann = world.call("POST /users", json!({"username": "ann"})).await.expect(201).json();
    let id = |made: &Value| made["id"].as_str().unwrap().parse().unwrap();
    Of { user: id(&ann), server: id(&made) }
}

on_both! {
    async fn a_connection_is_renewed_by_one_and_what_came_since_stays(database) {
        let world = World::open(database).await;
        let (store, tenant, of) = (&world.app.store, TenantId::default_tenant(), people(&world).await);
        store.put_connection(&tenant, &row(of, b"first")).await.unwrap();
        let read = store.connection(&tenant, of).await.unwrap().unwrap();
        let (one, two) = tokio::join!(
            store.claim_connection(&tenant, &read, 10, 20),
            store.claim_connection(&tenant, &read, 10, 20)
        );
        let claimed: Vec<_> = [one.unwrap(), two.unwrap()].into_iter().flatten().collect();
        assert_eq!(claimed.len(), 1);
        let again = store.connection(&tenant, of).await.unwrap().unwrap();
        assert!(store.claim_connection(&tenant, &again, 10, 20).await.unwrap().is_none(), "it is being asked about");
        // Whoever was cut off does not write over what another got after its time.
        let late = store.claim_connection(&tenant, &again, 20, 30).await.unwrap().unwrap();
        let new = RenewedColumns { tokens: b"new", scopes: "read write", renewed_at: 21, expires_at: None };
        assert!(!store.hold_connection(&tenant, &claimed[0], 30).await.unwrap());
        assert!(!store.connection_needs_person(&tenant, &claimed[0], "refused").await.unwrap());
        assert!(store.hold_connection(&tenant, &late, 40).await.unwrap());
        assert!(store.renew_connection(&tenant, &late, new).await.unwrap());
        let older = RenewedColumns { tokens: b"older", ..new };
        assert!(!store.renew_connection(&tenant, &claimed[0], older).await.unwrap());
        let renewed = store.connection(&tenant, of).await.unwrap().unwrap();
        assert_eq!((renewed.tokens.as_deref(), renewed.expires_at, renewed.asking), (Some(&b"new"[..]), None, false));

        // A new one takes its place, and is nobody's who claimed the old.
        let before = store.claim_connection(&tenant, &renewed, 40, 50).await.unwrap().unwrap();
        store.want_of_connection(&tenant, &before, "write").await.unwrap();
        store.want_of_connection(&tenant, &before, "admin").await.unwrap();
        assert_eq!(store.connection(&tenant, of).await.unwrap().unwrap().wanted, "write", "who read before changes nothing");
        store.put_connection(&tenant, &row(of, b"second")).await.unwrap();
        assert!(!store.renew_connection(&tenant, &before, new).await.unwrap());
        store.connection_unanswered(&tenant, &before, 99, None).await.unwrap();
        let second = store.connection(&tenant, of).await.unwrap().unwrap();
        assert_eq!((second.tokens.as_deref(), &*second.wanted, second.until), (Some(&b"second"[..]), "", 0));
        assert!(store.connection_needs_person(&tenant, &second, "refused").await.unwrap());
        let over = store.connections_of(&tenant, of.user).await.unwrap().remove(0);
        assert_eq!((over.tokens, &*over.state), (None, "needs_person"));

        let changes = store.connection_changes(0, 10).await.unwrap();
        assert_eq!(changes.iter().map(|change| (change.number, change.connected)).collect::<Vec<_>>(), [(1, true), (2, true)]);
        assert!(store.remove_connection(&tenant, of, 60).await.unwrap().is_some());
        assert!(store.remove_connection(&tenant, of, 60).await.unwrap().is_none());
        let changes = store.connection_changes(2, 10).await.unwrap();
        assert_eq!(changes.iter().map(|change| (change.number, change.connected)).collect::<Vec<_>>(), [(3, false)]);
        assert!(store.last_connection_change().await.unwrap() >= 3);
    }
}

on_both! {
    async fn an_attempt_is_taken_once_and_registrations_are_made_by_one(database) {
        let world = World::open(database).await;
        let (store, tenant, of) = (&world.app.store, TenantId::default_tenant(), people(&world).await);
        let attempt = |state: u8| AttemptRow {
            state_hash: vec![state; 32],
            browser_hash: vec![7; 32],
            tenant_id: "default".to_owned(),
            user_id: of.user,
            server_id: of.server,
            sent: b"x".to_vec(),
            created_at: state.into(),
            expires_at: 100,
        };
        for state in 1..=4 {
            store.begin_connecting(&tenant, &attempt(state), 3).await.unwrap();
        }
        let take = async |state: u8, browser: u8, user: Uuid, now: i64| {
            store.take_connecting(&tenant, user, &[state; 32], &[browser; 32], now).await.unwrap().is_some()
        };
        assert!(!take(1, 7, of.user, 10).await, "the oldest gave way");
        assert!(!take(2, 8, of.user, 10).await && !take(2, 7, Uuid::now_v7(), 10).await && !take(2, 7, of.user, 100).await);
        assert!(take(2, 7, of.user, 10).await && !take(2, 7, of.user, 10).await);
        assert!(store.purge_connecting(100, 0).await.unwrap() >= 2);
        assert!(!take(3, 7, of.user, 10).await);

        let issuer = "https://as.example";
        let claim = |issuer, version, now| store.claim_connection_client(of.server, issuer, version, now, 10);
        let (one, two) = tokio::join!(claim(issuer, None, 1), claim(issuer, None, 1));
        let claimed: Vec<_> = [one.unwrap(), two.unwrap()].into_iter().flatten().collect();
        assert_eq!(claimed.len(), 1);
        assert!(store.keep_connection_client(&claimed[0], b"client", Some(5)).await.unwrap());
        assert!(!store.keep_connection_client(&claimed[0], b"other", None).await.unwrap());
        let now_there = async || store.connection_client(of.server).await.unwrap().unwrap();
        store.forget_connection_client(&claimed[0]).await.unwrap();
        let kept = now_there().await;
        // What there is stays while the next is made, and if that fails.
        let again = claim(issuer, Some(kept.version), 5).await.unwrap().unwrap();
        assert!(claim(issuer, Some(again.version), 5).await.unwrap().is_none(), "somebody is at it");
        store.release_connection_client(&again, 20).await.unwrap();
        let kept = now_there().await;
        assert_eq!((kept.client.as_deref(), kept.expires_at, kept.until), (Some(&b"client"[..]), Some(5), 20));
        // That of another authorization server does not.
        let other = claim("https://other.example", Some(kept.version), 5).await.unwrap().unwrap();
        assert_eq!((other.client.as_deref(), other.expires_at), (None, None));
        assert!(store.keep_connection_client(&other, b"next", None).await.unwrap());
        store.forget_connection_client(&now_there().await).await.unwrap();
        assert_eq!(now_there().await.client, None);

        let found = IssuerRow {
            tenant_id: "default".to_owned(),
            server_id: of.server,
            issuer: issuer.to_owned(),
            named_by: "server".to_owned(),
            resource: "https://a.example".to_owned(),
            scopes: String::new(),
            place: "p".to_owned(),
            found_at: 1,
        };
        store.set_connection_issuer(&tenant, &found).await.unwrap();
        store.put_connection(&tenant, &row(of, b"x")).await.unwrap();
        let last = store.last_connection_change().await.unwrap();
        store.set_connection_issuer(&tenant, &found).await.unwrap();
        assert_eq!(store.last_connection_change().await.unwrap(), last, "it is where it was");
        let moved = IssuerRow { issuer: "https://other.example".to_owned(), ..found };
        store.set_connection_issuer(&tenant, &moved).await.unwrap();
        assert_eq!(store.connection_issuer(&tenant, of.server).await.unwrap().as_ref(), Some(&moved));
        assert_eq!(store.connection_issuers(&tenant).await.unwrap(), [moved]);
        let changes = store.connection_changes(last, 10).await.unwrap();
        assert!(changes.len() == 1 && changes[0].user_id == of.user && !changes[0].connected, "{changes:?}");

        // With the account goes what it connected, and with the server.
        world.call("DELETE /servers/files", Value::Null).await.expect(204);
        assert!(store.connection(&tenant, of).await.unwrap().is_none());
        assert!(store.connection_issuer(&tenant, of.server).await.unwrap().is_none());
        assert!(store.connection_client(of.server).await.unwrap().is_none());
    }
}
