//! Keys and accounts over a database: who is let in, as what, and until when.

use mcp_registry_gateway::access::accounts::{Count, SIGN_IN_LASTS};
use mcp_registry_gateway::access::bootstrap::{BootstrapError, bootstrap};
use mcp_registry_gateway::access::keys::{self, KeyOrder};
use mcp_registry_gateway::access::users::{self, NewPassword, UserEdit, UserOrder};
use mcp_registry_gateway::access::{AccessError, Accounts, Admin, Allow, AuthError, Caller, KeyRing, Role, Scopes};
use mcp_registry_gateway::crypto::{is_api_key, new_api_key};
use mcp_registry_gateway::secret::Secret;
use mcp_registry_gateway::store::{Store, now};
use time::Duration;

async fn ring(store: &Store) -> KeyRing {
    let ring = KeyRing::empty();
    ring.reload(store).await.unwrap();
    ring
}

async fn admin(store: &Store) -> Caller {
    let key = bootstrap(store, None).await.unwrap().unwrap();
    ring(store).await.authenticate(key.expose(), now()).unwrap()
}

fn proved(caller: &Caller) -> Admin {
    Admin::prove(caller).unwrap()
}

/// Where passwords come from nobody counts.
fn uncounted() -> Count {
    Box::new(|| Ok(Box::new(|| {})))
}

fn order(name: &str, role: Role, scopes: Scopes) -> KeyOrder {
    KeyOrder { name: name.into(), scopes, role, username: None, expires_at: None }
}

fn person(name: &str, password: Option<Secret>, role: Role) -> UserOrder {
    UserOrder { username: name.into(), password, role, tenant: None }
}

fn only(patterns: &[&str]) -> Allow {
    Allow::Only(patterns.iter().map(|&pattern| pattern.into()).collect())
}

on_both! {
    async fn the_first_start_makes_one_administrator_even_when_two_start_at_once(db) {
        let (one, two) = (db.open().await, db.open().await);
        let (first, second) = tokio::join!(bootstrap(&one, None), bootstrap(&two, None));
        let keys: Vec<Secret> = [first.unwrap(), second.unwrap()].into_iter().flatten().collect();
        assert_eq!(keys.len(), 1);
        assert!(is_api_key(keys[0].expose()));
        assert!(bootstrap(&one, None).await.unwrap().is_none(), "a later start makes none");

        let ring = ring(&one).await;
        assert_eq!(ring.len(), 1);
        let caller = ring.authenticate(keys[0].expose(), now()).unwrap();
        assert_eq!((caller.username(), caller.role()), ("admin", Role::Admin));
        assert!(caller.administers_gateway() && caller.scopes().allows_tool("any", "thing"));
    }
}

on_both! {
    async fn a_supplied_key_is_the_first_one_or_joins_it_and_a_weak_one_is_refused(db) {
        let store = db.open().await;
        let weak = Secret::new("mcpg_change-me-change-me-change-me-change-me");
        assert!(matches!(bootstrap(&store, Some(&weak)).await, Err(BootstrapError::WeakKey)));
        let (supplied, next) = (new_api_key(), new_api_key());
        assert!(bootstrap(&store, Some(&supplied)).await.unwrap().is_none(), "what is known need not be shown");
        bootstrap(&store, Some(&supplied)).await.unwrap();
        bootstrap(&store, Some(&next)).await.unwrap();

        let ring = ring(&store).await;
        assert_eq!(ring.len(), 2);
        let (one, two) = (ring.authenticate(supplied.expose(), now()), ring.authenticate(next.expose(), now()));
        assert_eq!(one.unwrap().principal(), two.unwrap().principal());
    }
}

on_both! {
    async fn each_key_that_lets_nobody_in_says_why(db) {
        let store = db.open().await;
        let admin = admin(&store).await;
        let accounts = Accounts::default();
        let ada = users::create(&store, &accounts, &proved(&admin), person("Ada", None, Role::User), now()).await.unwrap();
        assert_eq!(ada.username, "ada");
        let for_ada = |name: &str| KeyOrder {
            username: Some("ADA".into()),
            ..order(name, Role::User, Scopes { servers: only(&["files"]), tools: Allow::All, admin: false })
        };
        let soon = now() + Duration::hours(1);
        let (ends, _) = keys::create(&store, &admin, KeyOrder { expires_at: Some(soon), ..for_ada("ends") }, now()).await.unwrap();
        let (stays, view) = keys::create(&store, &admin, for_ada("stays"), now()).await.unwrap();
        let ring = ring(&store).await;
        let shows = |key: &Secret, at| ring.authenticate(key.expose(), at).map(drop);

        assert_eq!(ring.authenticate("", now()).unwrap_err(), AuthError::Missing);
        for malformed in ["mcpg_", "Bearer x", "mcpg_short", &format!("mcpg_{}", "a".repeat(300)), &"é".repeat(40)] {
            assert_eq!(ring.authenticate(malformed, now()).unwrap_err(), AuthError::Malformed);
        }
        assert_eq!(shows(&new_api_key(), now()), Err(AuthError::Unknown));
        assert_eq!(shows(&ends, soon - Duration::SECOND), Ok(()));
        assert_eq!(shows(&ends, soon), Err(AuthError::Expired));
        let caller = ring.authenticate(stays.expose(), now()).unwrap();
        let end = caller.ended().clone();
        assert!(!end.is_cancelled());
        assert_eq!((caller.username(), caller.role(), caller.credential_name()), ("ada", Role::User, "stays"));
        assert!(caller.may_call_tool("files", "read") && !caller.may_call_tool("other", "read") && !caller.may_manage());

        let disabled = UserEdit { active: Some(false), ..UserEdit::default() };
        users::edit(&store, &accounts, &admin, id(&ada.id), disabled, uncounted(), now()).await.unwrap();
        ring.reload(&store).await.unwrap();
        assert_eq!(shows(&stays, now()), Err(AuthError::Disabled));
        assert!(end.is_cancelled(), "who is in already is out too");
        assert!(caller.ended().is_cancelled(), "and stays out");
        users::edit(&store, &accounts, &admin, id(&ada.id), UserEdit { active: Some(true), ..UserEdit::default() }, uncounted(), now()).await.unwrap();
        ring.reload(&store).await.unwrap();
        let end = ring.authenticate(stays.expose(), now()).unwrap().ended().clone();
        assert!(!end.is_cancelled(), "an account that is enabled again begins anew");
        ring.reload(&store).await.unwrap();
        ring.end_expired(now());
        assert!(!end.is_cancelled(), "nothing has happened to it");
        ring.end_expired(soon);
        assert!(!end.is_cancelled(), "it does not expire");
        keys::revoke(&store, &admin, id(&view.id), now()).await.unwrap();
        ring.reload(&store).await.unwrap();
        assert_eq!(shows(&stays, now()), Err(AuthError::Revoked));
        assert_eq!(shows(&ends, now()), Ok(()));
    }
}

fn id(shown: &impl std::fmt::Display) -> uuid::Uuid {
    shown.to_string().parse().unwrap()
}

on_both! {
    async fn nobody_hands_out_more_than_they_have(db) {
        let store = db.open().await;
        let admin = admin(&store).await;
        let accounts = Accounts::default();
        let created = users::create(&store, &accounts, &proved(&admin), person("lead", None, Role::TenantAdmin), now()).await.unwrap();
        let scopes = Scopes { servers: only(&["git-*"]), tools: Allow::All, admin: true };
        let own = KeyOrder { username: Some("lead".into()), ..order("own", Role::TenantAdmin, scopes.clone()) };
        let (key, _) = keys::create(&store, &admin, own, now()).await.unwrap();
        let lead = ring(&store).await.authenticate(key.expose(), now()).unwrap();
        let ask = async |order: KeyOrder| keys::create(&store, &lead, order, now()).await.map(drop);

        ask(order("narrower", Role::User, Scopes { servers: only(&["git-hub"]), ..Scopes::default() })).await.unwrap();
        for wider in [
            order("all servers", Role::User, Scopes { servers: Allow::All, ..Scopes::default() }),
            order("another server", Role::User, Scopes { servers: only(&["files"]), ..Scopes::default() }),
            KeyOrder { username: Some("admin".into()), ..order("as admin", Role::Admin, scopes.clone()) },
        ] {
            assert!(matches!(ask(wider.clone()).await, Err(AccessError::Forbidden(_))), "{wider:?}");
        }
        users::create(&store, &accounts, &proved(&admin), person("dev", None, Role::User), now()).await.unwrap();
        let above_its_holder = KeyOrder { username: Some("dev".into()), ..order("k", Role::ServerOwner, scopes.clone()) };
        assert!(matches!(ask(above_its_holder).await, Err(AccessError::Invalid(_))));
        let for_who_is_above = KeyOrder { username: Some("admin".into()), ..order("k", Role::User, scopes) };
        assert!(matches!(ask(for_who_is_above).await, Err(AccessError::Forbidden(_))));
        let theirs = keys::revoke(&store, &lead, id(&admin.key_id().unwrap()), now()).await;
        assert!(matches!(theirs, Err(AccessError::Forbidden(_))), "nor takes from who is above");
        let made = users::create(&store, &accounts, &proved(&lead), person("root", None, Role::Admin), now()).await;
        assert!(matches!(made, Err(AccessError::Forbidden(_))));
        let disable = UserEdit { active: Some(false), ..UserEdit::default() };
        let taken = users::edit(&store, &accounts, &lead, id(&admin.user_id()), disable, uncounted(), now()).await;
        assert!(matches!(taken, Err(AccessError::Forbidden(_))));

        let demoted = UserEdit { role: Some(Role::User), ..UserEdit::default() };
        users::edit(&store, &accounts, &admin, id(&created.id), demoted, uncounted(), now()).await.unwrap();
        let lead = ring(&store).await.authenticate(key.expose(), now()).unwrap();
        assert_eq!(lead.role(), Role::User, "a key loses the role with its holder");
        assert!(!lead.administers_tenant());
    }
}

on_both! {
    async fn signing_in_takes_the_right_password_and_ends_by_itself(db) {
        let store = db.open().await;
        let admin = admin(&store).await;
        let accounts = Accounts::default();
        let password = Secret::new("a long pass phrase");
        let ada = users::create(&store, &accounts, &proved(&admin), person("ada", Some(password.clone()), Role::ServerOwner), now()).await.unwrap();
        let sign_in = async |name: &str, password: &Secret, at| {
            accounts.sign_in(&store, name, password.clone(), uncounted(), at).await
        };
        let wrong = Secret::new("another pass phrase");

        for (name, password) in [("ada", &wrong), ("nobody", &password), ("admin", &password), ("", &password)] {
            assert!(matches!(sign_in(name, password, now()).await, Err(AccessError::WrongPassword)), "{name}");
        }
        let start = now();
        let made = sign_in(" ADA ", &password, start).await.unwrap();
        let ring = ring(&store).await;
        let caller = ring.authenticate(made.key.expose(), start).unwrap();
        assert_eq!((caller.username(), caller.role()), ("ada", Role::ServerOwner));
        assert_eq!(made.expires_at, start + SIGN_IN_LASTS);
        assert_eq!(ring.authenticate(made.key.expose(), made.expires_at).unwrap_err(), AuthError::Expired);
        assert!(keys::list(&store, &caller, None, 10, now()).await.unwrap().is_empty(), "it is no key of the list");

        let new = Secret::new("yet another phrase");
        let set = async |current: Option<&Secret>| {
            let password = Some(NewPassword { new: new.clone(), current: current.cloned() });
            users::edit(&store, &accounts, &caller, id(&ada.id), UserEdit { password, ..UserEdit::default() }, uncounted(), now()).await
        };
        let without = set(None).await;
        assert!(matches!(without, Err(AccessError::Invalid(_))));
        set(Some(&password)).await.unwrap();
        ring.reload(&store).await.unwrap();
        assert_eq!(ring.authenticate(made.key.expose(), now()).unwrap_err(), AuthError::Revoked, "sign-ins end");
        assert!(matches!(sign_in("ada", &password, now()).await, Err(AccessError::WrongPassword)));
        sign_in("ada", &new, now()).await.unwrap();
    }
}

on_both! {
    async fn whoever_guesses_has_to_wait(db) {
        let store = db.open().await;
        let admin = admin(&store).await;
        let accounts = Accounts::default();
        let password = Secret::new("a long pass phrase");
        users::create(&store, &accounts, &proved(&admin), person("ada", Some(password.clone()), Role::User), now()).await.unwrap();
        let start = now();
        for _ in 0..10 {
            let guess = accounts.sign_in(&store, "ada", Secret::new("guess"), uncounted(), start).await;
            assert!(matches!(guess, Err(AccessError::WrongPassword)));
        }
        let Err(AccessError::TooManyAttempts { retry_after }) =
            accounts.sign_in(&store, "Ada", password.clone(), uncounted(), start).await
        else {
            panic!("the eleventh must wait")
        };
        let later = start + retry_after;
        accounts.sign_in(&store, "ada", password, uncounted(), later).await.unwrap();
    }
}

on_both! {
    async fn the_last_use_of_a_key_is_written_once_in_a_while(db) {
        let store = db.open().await;
        let key = bootstrap(&store, None).await.unwrap().unwrap();
        let ring = ring(&store).await;
        let start = now();
        for second in 0..5 {
            ring.authenticate(key.expose(), start + Duration::seconds(second)).unwrap();
        }
        ring.reload(&store).await.unwrap();
        assert_eq!(ring.flush_used(&store, std::time::Duration::ZERO).await.unwrap(), 1, "a reload forgets no use");
        assert_eq!(ring.flush_used(&store, std::time::Duration::ZERO).await.unwrap(), 0);
        let caller = ring.authenticate(key.expose(), start).unwrap();
        let seen = keys::list(&store, &caller, None, 10, now()).await.unwrap();
        assert_eq!(seen[0].last_used_at, Some(start + Duration::seconds(4)));
        assert_eq!(ring.flush_used(&store, std::time::Duration::ZERO).await.unwrap(), 0, "an earlier use is no news");
    }
}

on_both! {
    async fn what_is_held_open_ends_when_its_holder_may_something_else(db) {
        let store = db.open().await;
        let admin = admin(&store).await;
        let accounts = Accounts::default();
        let olga = users::create(&store, &accounts, &proved(&admin), person("olga", None, Role::ServerOwner), now()).await.unwrap();
        let order = KeyOrder { username: Some("olga".into()), ..order("hers", Role::ServerOwner, Scopes::default()) };
        let (key, _) = keys::create(&store, &admin, order, now()).await.unwrap();
        let ring = ring(&store).await;
        let end = ring.authenticate(key.expose(), now()).unwrap().ended().clone();
        ring.reload(&store).await.unwrap();
        assert!(!end.is_cancelled());
        let change = UserEdit { role: Some(Role::User), ..UserEdit::default() };
        users::edit(&store, &accounts, &admin, id(&olga.id), change, uncounted(), now()).await.unwrap();
        ring.reload(&store).await.unwrap();
        assert!(end.is_cancelled(), "it was opened by a server owner, who is none any more");
        let again = ring.authenticate(key.expose(), now()).unwrap();
        assert!(again.role() == Role::User && !again.ended().is_cancelled());
    }
}

on_both! {
    async fn a_key_that_ended_is_gone_a_month_later_unless_a_start_could_take_it_for_a_new_one(db) {
        let store = db.open().await;
        let (supplied, start) = (new_api_key(), now());
        bootstrap(&store, Some(&supplied)).await.unwrap();
        let admin = ring(&store).await.authenticate(supplied.expose(), now()).unwrap();
        let made = async |name: &str, lasts: Option<Duration>| {
            let ends = KeyOrder { expires_at: lasts.map(|lasts| start + lasts), ..order(name, Role::User, Scopes::default()) };
            keys::create(&store, &admin, ends, start).await.unwrap().1
        };
        made("expired", Some(Duration::days(1))).await;
        made("expires later", Some(Duration::days(10))).await;
        made("stays", None).await;
        let revoked = made("revoked", None).await;
        keys::revoke(&store, &admin, id(&revoked.id), start + Duration::days(2)).await.unwrap();
        keys::revoke(&store, &admin, id(&admin.key_id().unwrap()), start).await.unwrap();
        let names = async || {
            let left = keys::list(&store, &admin, None, 10, now()).await.unwrap();
            left.into_iter().map(|key| key.name).collect::<Vec<_>>()
        };
        let revision = store.revision().await.unwrap();
        let purged = async |days: i64| keys::purge_ended(&store, start + Duration::days(days)).await.unwrap();

        assert_eq!((purged(30).await, store.revision().await.unwrap()), (0, revision), "nobody hears of nothing");
        assert_eq!(purged(33).await, 2);
        assert_eq!(names().await, ["supplied at start", "expires later", "stays"]);
        assert!(store.revision().await.unwrap() > revision, "every process forgets it");
        assert_eq!(purged(4_000).await, 1);
        assert_eq!(names().await, ["supplied at start", "stays"]);
        bootstrap(&store, Some(&supplied)).await.unwrap();
        let back = ring(&store).await.authenticate(supplied.expose(), now());
        assert_eq!(back.unwrap_err(), AuthError::Revoked);
    }
}

on_both! {
    async fn keys_are_removed_a_bounded_number_at_a_time(db) {
        let store = db.open().await;
        let admin = admin(&store).await;
        for name in ["a", "b", "c"] {
            let (_, key) = keys::create(&store, &admin, order(name, Role::User, Scopes::default()), now()).await.unwrap();
            keys::revoke(&store, &admin, id(&key.id), now()).await.unwrap();
        }
        let mut removed = Vec::new();
        for _ in 0..3 {
            removed.push(store.purge_keys(i64::MAX, "none", 2).await.unwrap());
        }
        assert_eq!(removed, [2, 1, 0]);
    }
}
