//! What is read while it changes is not kept.

use super::*;
use crate::access::{Direct, Visibility};

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
        client_id: None,
        client_name: None,
        resource: None,
        scopes: "mcp".to_owned(),
        expires_at: i64::MAX,
        memberships: None,
        jkt: None,
    }
}

/// What a database gives of a token of this text, at that time by [`TokenRing::reloads`]; the caller to go on with.
fn kept(ring: &TokenRing, token: &str, row: LiveTokenRow, read_at: u64) -> Option<Caller> {
    let (expires_at, used, stored) = (row.expires_at, AtomicI64::new(0), AtomicI64::new(0));
    ring.keep(hash_token(token), Entry { caller: ring.caller(row).unwrap(), expires_at, read_at, used, stored }, 0)
}

fn keep(ring: &TokenRing, token: &str, row: LiveTokenRow, read_at: u64) -> bool {
    kept(ring, token, row, read_at).is_some()
}

#[tokio::test]
async fn what_was_read_before_an_account_changed_or_a_grant_ended_is_not_kept_after_it() {
    let folder = std::env::temp_dir().join(format!("mcp-gateway-tokens-{}", Uuid::now_v7()));
    std::fs::create_dir(&folder).unwrap();
    let store = Store::connect(&format!("sqlite://{}", folder.join("gateway.db").display()), 1).await.unwrap();
    let now = OffsetDateTime::now_utc();
    let ring = TokenRing::new("https://gateway.example.com", 100, now);
    let keep = |row, reloads| keep(&ring, "a token", row, reloads);

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
        memberships: &Arc::default(),
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

#[test]
fn whom_a_provider_names_sees_nothing_by_that_name() {
    let now = OffsetDateTime::now_utc();
    let ring = TokenRing::new("https://gateway.example.com", 100, now);
    let visible = |users: &[String]| Visibility { everyone: false, roles: Vec::new(), users: users.to_vec() };
    let named = visible(&["ada".to_owned()]);
    let sees = |caller: &Caller, visibility: &Visibility| {
        caller.may_use_server(&TenantId::default_tenant(), "files", visibility)
    };
    let user = || LiveTokenRow { role: "user".to_owned(), ..row() };
    assert!(sees(&ring.caller(user()).unwrap(), &named), "an administrator gave the name");
    let vouched = LiveTokenRow { issuer: Some("https://login.example.com".to_owned()), ..user() };
    let caller = ring.caller(vouched.clone()).unwrap();
    assert!(!sees(&caller, &named) && sees(&caller, &visible(&[vouched.user_id.to_string()])));
    let who = Direct {
        issuer: "https://login.example.com",
        subject: "ada",
        provider: "A provider",
        tenant: TenantId::default_tenant(),
        user: vouched.user_id,
        username: "ada",
        role: Role::User,
        memberships: &Arc::default(),
        expires_at: now + Duration::from_mins(1),
    };
    let caller = ring.admit("a token", &who, now, ring.reloads()).unwrap();
    assert!(!sees(&caller, &named) && sees(&caller, &visible(&[vouched.user_id.to_string()])));
}

#[test]
fn what_was_read_while_accounts_are_taken_over_is_not_judged_by_how_they_stood_before() {
    let now = OffsetDateTime::now_utc();
    let ring = TokenRing::new("https://gateway.example.com", 100, now);
    let (same, changed, gone) = (row(), row(), row());
    for (token, row) in [("same", &same), ("changed", &changed), ("gone", &gone)] {
        assert!(keep(&ring, token, row.clone(), ring.reloads()));
    }
    let old = ring.known("changed", now).unwrap();
    let (before, mut users) = ring.unsure();
    let mut all = [same.user_id, changed.user_id, gone.user_id];
    users.sort();
    all.sort();
    assert_eq!(users, all);
    // Read since: of somebody new, and of somebody who became a user meanwhile.
    let (new, user) = (row(), LiveTokenRow { role: "user".to_owned(), ..changed.clone() });
    assert!(keep(&ring, "new", new, ring.reloads()) && keep(&ring, "as a user", user, ring.reloads()));
    let stands = |row: &LiveTokenRow, role: &str| StandingRow {
        issuer: None,
        memberships: None,
        id: row.user_id,
        username: row.username.clone(),
        role: role.to_owned(),
        state: row.state.clone(),
    };
    ring.judge(before, vec![stands(&same, "admin"), stands(&changed, "server_owner")]);
    let good: Vec<_> = ["same", "changed", "gone", "new", "as a user"]
        .into_iter()
        .filter(|token| ring.known(token, now).is_some())
        .collect();
    assert_eq!(good, ["same", "new", "as a user"]);
    assert!(old.has_ended());
}

#[test]
fn whoever_reads_a_token_at_the_same_time_as_another_hears_of_its_end_too() {
    let now = OffsetDateTime::now_utc();
    let ring = TokenRing::new("https://gateway.example.com", 100, now);
    let row = row();
    let [first, second] = std::array::from_fn(|_| kept(&ring, "a token", row.clone(), ring.reloads()).unwrap());
    assert_eq!(ring.held().0, 1);
    ring.end_grants(&HashSet::from([row.grant_id]));
    assert!(first.has_ended() && second.has_ended());

    // One that was read before accounts were taken over gives way, and what is held open under it ends.
    let old = kept(&ring, "another", self::row(), ring.reloads()).unwrap();
    ring.unsure();
    let new = kept(&ring, "another", self::row(), ring.reloads()).unwrap();
    assert!(old.has_ended() && !new.has_ended() && ring.known("another", now).is_some());
}

#[test]
fn ended_grants_without_end_are_not_all_remembered_and_none_comes_back() {
    let now = OffsetDateTime::now_utc();
    let ring = TokenRing::new("https://gateway.example.com", 100, now);
    let (held, slow) = (row(), row());
    assert!(keep(&ring, "held", held.clone(), ring.reloads()));
    let read_at = ring.reloads();
    ring.end_grants(&HashSet::from([slow.grant_id, held.grant_id]));
    assert!(ring.known("held", now).is_none());
    for _ in 0..3 {
        ring.end_grants(&(0..MOST_ENDED / 2).map(|_| Uuid::now_v7()).collect());
        assert!(ring.ended().len() <= MOST_ENDED);
    }
    ring.end_grants(&(0..=MOST_ENDED).map(|_| Uuid::now_v7()).collect());
    assert!(ring.ended().len() <= MOST_ENDED && !ring.ended().contains_key(&slow.grant_id));
    assert!(!keep(&ring, "slow", slow, read_at), "it was read before it ended");
    assert!(keep(&ring, "another", row(), ring.reloads()));
}

#[test]
fn what_ends_is_over_for_whoever_was_told_of_the_same_end() {
    let now = OffsetDateTime::now_utc();
    let ring = TokenRing::new("https://gateway.example.com", 100, now);
    let row = row();
    let grants = HashSet::from([row.grant_id]);
    assert!(keep(&ring, "a token", row.clone(), ring.reloads()));
    let caller = ring.known("a token", now).unwrap();
    std::thread::scope(|scope| {
        // The first has noted the grant, and cannot come to the token yet.
        let held = ring.read(&hash_token("a token"));
        scope.spawn(|| ring.end_grants(&grants));
        while !ring.ended().contains_key(&row.grant_id) {
            std::thread::yield_now();
        }
        let (told, heard) = std::sync::mpsc::channel();
        let (ring, grants, caller) = (&ring, &grants, &caller);
        scope.spawn(move || {
            ring.end_grants(grants);
            told.send(caller.has_ended()).unwrap();
        });
        // Who does not wait for the first has said so long before.
        let early = heard.recv_timeout(Duration::from_millis(200));
        drop(held);
        assert_eq!(early.or_else(|_| heard.recv()), Ok(true), "the second came back, and the token is over");
    });
}

#[test]
fn a_token_under_which_something_is_held_open_gives_way_last_and_ends_it() {
    let now = OffsetDateTime::now_utc();
    // Two in each part, and four of one part.
    let ring = TokenRing::new("https://gateway.example.com", 2 * SHARDS, now);
    let mut texts =
        (0..).map(|number: u32| number.to_string()).filter(|text| usize::from(hash_token(text)[0]) % SHARDS == 0);
    let [first, idle, third, last] = std::array::from_fn(|_| texts.next().unwrap());
    let open = |token: &str| ring.known(token, now).unwrap().ended().clone();
    let keep = |token: &str| assert!(keep(&ring, token, row(), ring.reloads()));
    keep(&first);
    let held = open(&first);
    keep(&idle);
    keep(&third);
    assert!(ring.known(&idle, now).is_none() && !held.is_cancelled());
    let both = [(&first, held), (&third, open(&third))];
    keep(&last);
    let gone: Vec<_> = both.iter().filter(|(token, _)| ring.known(token, now).is_none()).collect();
    assert!(gone.len() == 1 && gone[0].1.is_cancelled());
    assert_eq!(both.iter().filter(|(_, held)| held.is_cancelled()).count(), 1);
}
