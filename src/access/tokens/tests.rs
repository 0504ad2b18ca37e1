//! What is read while it changes is not kept.

use super::*;
use crate::access::Direct;

fn row() -> LiveTokenRow {
    LiveTokenRow {
        grant_id: Uuid::now_v7(),
        tenant_id: "default".to_owned(),
        user_id: Uuid::now_v7(),
        username: "ada".to_owned(),
        issuer: None,
        subject: None,
        role: "admin".to_owned(),
        state: "active".to_owned(),
        kind: "client".to_owned(),
        client_name: None,
        resource: None,
        scopes: "mcp".to_owned(),
        expires_at: i64::MAX,
        jkt: None,
    }
}

#[tokio::test]
async fn what_was_read_before_an_account_changed_or_a_grant_ended_is_not_kept_after_it() {
    let folder = std::env::temp_dir().join(format!("mcp-gateway-tokens-{}", Uuid::now_v7()));
    std::fs::create_dir(&folder).unwrap();
    let store = Store::connect(&format!("sqlite://{}", folder.join("gateway.db").display()), 1).await.unwrap();
    let now = OffsetDateTime::now_utc();
    let ring = TokenRing::new("https://gateway.example.com", 100, now);
    let entry = |row: LiveTokenRow| Entry {
        caller: ring.caller(row).unwrap(),
        expires_at: i64::MAX,
        used: AtomicI64::new(0),
        stored: AtomicI64::new(0),
    };
    let keep = |row, reloads| ring.keep(hash_token("a token"), entry(row), 0, reloads);

    let before = ring.reloads();
    ring.reload(&store).await.unwrap();
    assert!(!keep(row(), before) && ring.known("a token", now).is_none());
    let who = Direct {
        issuer: "https://login.example.com",
        subject: "ada",
        provider: "A provider",
        tenant: TenantId::default_tenant(),
        user: Uuid::now_v7(),
        username: "ada",
        role: Role::Admin,
        expires_at: now + Duration::from_mins(1),
    };
    assert!(ring.admit("another", &who, now, before).is_none() && ring.known("another", now).is_none());
    assert!(ring.admit("another", &who, now, ring.reloads()).is_some() && ring.known("another", now).is_some());

    let grant = row();
    ring.end_grants(&HashSet::from([grant.grant_id]));
    assert!(!keep(grant.clone(), ring.reloads()) && ring.known("a token", now).is_none());
    assert!(keep(row(), ring.reloads()) && ring.known("a token", now).is_some());
    assert!(ring.note_ended(&HashSet::from([grant.grant_id]), micros(now)).is_empty(), "once is enough");
    let later = micros(now) + 2 * LOOK_BACK;
    assert_eq!((ring.note_ended(&HashSet::new(), later).len(), ring.ended().len()), (0, 0), "and not for ever");
    std::fs::remove_dir_all(folder).unwrap();
}
