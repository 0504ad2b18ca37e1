//! Tenants, over a database: whose the people of a directory are, what becomes of accounts when that changes, suspension, removal.

use mcp_registry_gateway::access::Role;
use mcp_registry_gateway::grants::Person;
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::limit::Terms;
use mcp_registry_gateway::store::StoreError;
use mcp_registry_gateway::store::directories::{Directory, Lowered};
use mcp_registry_gateway::store::servers::ServerChange;
use mcp_registry_gateway::store::tenants::{Holdings, Tenant, TenantChange, TenantStep, TermsChange};
use mcp_registry_gateway::store::users::UserChange;
use mcp_registry_gateway::store::{Store, micros, now};
use uuid::Uuid;

use crate::store_grants::House;

const CONTOSO: Uuid = Uuid::from_u128(0xc017_0000_0000_4000_8000_0000_0000_0001);
const FABRIKAM: Uuid = Uuid::from_u128(0xfab0_0000_0000_4000_8000_0000_0000_0002);
const TAILSPIN: Uuid = Uuid::from_u128(0x7a11_0000_0000_4000_8000_0000_0000_0003);

fn person(directory: Uuid, role: Role) -> Person<'static> {
    Person {
        issuer: if directory == CONTOSO { "https://login.example/c/v2.0" } else { "https://login.example/f/v2.0" },
        subject: "oid-1",
        username: "grace@example.com",
        display_name: None,
        directory: Some(directory),
        guest: false,
        role,
        believed: true,
    }
}

async fn name(store: &Store, tenant: &TenantId, directories: &[Uuid]) -> Result<(), StoreError> {
    let change = TenantChange { directories: Some(directories), ..TenantChange::default() };
    store.update_tenant(tenant, change, micros(now())).await
}

async fn suspend(store: &Store, tenant: &TenantId, active: bool) {
    let change = TenantChange { active: Some(active), ..TenantChange::default() };
    store.update_tenant(tenant, change, micros(now())).await.unwrap();
}

on_both! {
    async fn a_directory_is_of_the_tenant_that_names_it_and_of_no_other(db) {
        let house = House::open(db).await;
        let (store, grants, ours) = (&house.store, &house.grants, &house.tenant);
        let home = async |directory| grants.home_of_directory(directory).await.map_err(|refusal| refusal.reason);
        let whose = async |directory| home(directory).await.map(|home| home.tenant);
        let acme = store.add_tenant("acme", "Acme").await.unwrap();
        assert_eq!(whose(FABRIKAM).await.as_ref(), Ok(ours), "while none names any, all are of the first");
        grants.account_for(ours, &person(CONTOSO, Role::User), house.now).await.unwrap();

        name(store, &acme, &[FABRIKAM]).await.unwrap();
        assert_eq!(whose(FABRIKAM).await.as_ref(), Ok(&acme));
        assert_eq!(whose(CONTOSO).await.as_ref(), Ok(ours), "whose people have accounts stays where it is");
        assert_eq!(whose(TAILSPIN).await, Err("unknown_directory"), "and no other comes in any longer");
        assert_eq!(store.tenant(ours).await.unwrap().unwrap().directories, [Directory { id: CONTOSO, assumed: true }]);
        assert!(home(FABRIKAM).await.unwrap().named && !home(CONTOSO).await.unwrap().named, "nobody named that one");
        assert_eq!(store.tenants("", 10).await.unwrap().iter().map(|one| one.directories.len()).collect::<Vec<_>>(), [1, 1]);

        match name(store, &acme, &[FABRIKAM, CONTOSO]).await {
            Err(StoreError::DirectoryHeld { directory, tenant }) => {
                assert_eq!((directory, tenant.as_str()), (CONTOSO, "default"));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(whose(FABRIKAM).await.as_ref(), Ok(&acme), "what was refused changed nothing");
        let new = TenantId::default_tenant();
        assert!(matches!(store.insert_tenant(&new, TenantChange::default(), 1).await, Err(StoreError::Taken)));
    }
}

on_both! {
    async fn an_account_stays_with_its_tenant_when_its_directory_moves(db) {
        let house = House::open(db).await;
        let (store, grants, ours) = (&house.store, &house.grants, &house.tenant);
        let acme = store.add_tenant("acme", "Acme").await.unwrap();
        name(store, &acme, &[FABRIKAM]).await.unwrap();
        let made = grants.account_for(&acme, &person(FABRIKAM, Role::Admin), house.now).await.unwrap();
        assert_eq!(made.role, Role::TenantAdmin, "no provider's word makes an administrator of the gateway elsewhere");
        let cookie = grants.open_session(&made, "entra", None, house.now).await.unwrap();
        let stands = async || {
            let session = grants.session(cookie.expose(), house.now).await.unwrap().is_some();
            assert_eq!(store.may_come_in(&acme, made.id).await.unwrap(), session);
            session
        };
        assert!(stands().await);

        name(store, &acme, &[]).await.unwrap();
        assert!(!stands().await, "though no directory is named any more");
        let nobodys = grants.home_of_directory(FABRIKAM).await.unwrap_err();
        assert_eq!(nobodys.reason, "unknown_directory", "nor does anybody come in as one of the first tenant's");
        name(store, ours, &[FABRIKAM]).await.unwrap();
        assert!(!stands().await, "at once");
        let again = grants.account_for(ours, &person(FABRIKAM, Role::User), house.now).await;
        assert_eq!(again.unwrap_err().reason, "other_tenant");
        name(store, ours, &[]).await.unwrap();
        name(store, &acme, &[FABRIKAM]).await.unwrap();
        assert!(stands().await, "it is as it was when the directory is back");

        name(store, &acme, &[]).await.unwrap();
        name(store, ours, &[FABRIKAM]).await.unwrap();
        store.delete_user(&acme, made.id, None).await.unwrap();
        let moved = grants.account_for(ours, &person(FABRIKAM, Role::User), house.now).await.unwrap();
        assert!(moved.is_new && moved.tenant == *ours, "once it is removed there");
    }
}

on_both! {
    async fn only_a_directory_that_somebody_named_makes_more_than_users(db) {
        let house = House::open(db).await;
        let (store, grants, ours) = (&house.store, &house.grants, &house.tenant);
        let role = async |directory| store.user_of_subject(person(directory, Role::User).issuer, "oid-1").await.unwrap().unwrap().role;
        let unnamed = Person { believed: false, ..person(FABRIKAM, Role::Admin) };
        let frank = grants.account_for(ours, &unnamed, house.now).await.unwrap();
        assert_eq!(frank.role, Role::User);
        assert!(frank.withheld(Role::Admin, Some(FABRIKAM)).unwrap().contains("tenants edit"));
        assert_eq!(frank.withheld(Role::User, Some(FABRIKAM)), None, "nothing is withheld");

        // From before there were several.
        for directory in [CONTOSO, FABRIKAM] {
            grants.account_for(ours, &person(directory, Role::Admin), house.now).await.unwrap();
        }
        let owner = Person { subject: "oid-2", username: "owner", ..person(CONTOSO, Role::ServerOwner) };
        grants.account_for(ours, &owner, house.now).await.unwrap();
        for users in [vec!["owner".to_owned()], vec![]] {
            let revision = store.revision().await.unwrap();
            let lowered = store.lower_unnamed(None, 1).await.unwrap();
            assert_eq!((&lowered.users, lowered.admins.len()), (&users, 2), "nobody could name one");
            assert_eq!(store.revision().await.unwrap() > revision, !users.is_empty());
        }
        let lowered = store.lower_unnamed(Some(CONTOSO), 1).await.unwrap();
        assert_eq!((lowered.users, lowered.admins.len()), (vec![frank.username.clone()], 0));
        assert_eq!((role(CONTOSO).await.as_str(), role(FABRIKAM).await.as_str()), ("admin", "user"));

        let acme = store.add_tenant("acme", "Acme").await.unwrap();
        name(store, &acme, &[TAILSPIN]).await.unwrap();
        grants.account_for(ours, &person(FABRIKAM, Role::ServerOwner), house.now).await.unwrap();
        assert_eq!(store.lower_unnamed(Some(CONTOSO), 1).await.unwrap().users.len(), 1, "it was only written down");
        name(store, ours, &[CONTOSO, FABRIKAM]).await.unwrap();
        assert!(grants.home_of_directory(FABRIKAM).await.unwrap().named, "and now somebody named it");
        grants.account_for(ours, &person(FABRIKAM, Role::ServerOwner), house.now).await.unwrap();
        let revision = store.revision().await.unwrap();
        assert_eq!(store.lower_unnamed(None, 1).await.unwrap(), Lowered::default());
        assert_eq!((role(FABRIKAM).await.as_str(), store.revision().await.unwrap()), ("server_owner", revision));
    }
}

on_both! {
    async fn nobody_of_a_suspended_tenant_comes_in_until_it_is_resumed(db) {
        let house = House::open(db).await;
        let (store, grants) = (&house.store, &house.grants);
        let acme = store.add_tenant("acme", "Acme").await.unwrap();
        let known = grants.account_for(&acme, &person(FABRIKAM, Role::User), house.now).await.unwrap();
        let cookie = grants.open_session(&known, "entra", None, house.now).await.unwrap();
        suspend(store, &acme, false).await;
        assert_eq!(store.is_active_tenant(&acme).await.unwrap(), Some(false));
        assert_eq!(grants.session(cookie.expose(), house.now).await.unwrap(), None);
        let refused = grants.account_for(&acme, &person(FABRIKAM, Role::User), house.now).await.unwrap_err();
        assert_eq!(refused.reason, "suspended");
        suspend(store, &acme, true).await;
        assert!(grants.session(cookie.expose(), house.now).await.unwrap().is_some());
        grants.account_for(&acme, &person(FABRIKAM, Role::User), house.now).await.unwrap();
    }
}

on_both! {
    async fn that_somebody_is_a_guest_is_written_before_it_is_refused(db) {
        let house = House::open(db).await;
        let (store, grants, ours) = (&house.store, &house.grants, &house.tenant);
        let takes = async |guests| {
            let change = TenantChange { guests: Some(guests), ..TenantChange::default() };
            store.update_tenant(ours, change, micros(now())).await.unwrap();
        };
        let refused = async |person: Person<'static>| {
            grants.account_for(ours, &person, house.now).await.map(|account| account.id).map_err(|refusal| refusal.reason)
        };
        // From before it was written who is one.
        let known = grants.account_for(ours, &person(CONTOSO, Role::User), house.now).await.unwrap().id;
        takes(false).await;
        assert!(store.may_come_in(ours, known).await.unwrap());
        let guest = Person { guest: true, ..person(CONTOSO, Role::User) };
        assert_eq!(refused(guest).await, Err("guest"));
        assert!(!store.may_come_in(ours, known).await.unwrap(), "nor do its keys");
        let introduced = Person { directory: None, ..person(CONTOSO, Role::User) };
        assert_eq!(refused(introduced).await, Err("guest"), "who does not say so does not say that it is none");
        let new = Person { subject: "oid-2", username: "new", ..guest };
        assert_eq!(refused(new).await, Err("guest"));
        assert!(store.user_of_subject(new.issuer, new.subject).await.unwrap().is_none(), "nothing is made of it");
        takes(true).await;
        assert_eq!(refused(guest).await, Ok(known));
    }
}

on_both! {
    async fn the_last_administrator_is_not_shut_out_by_directories(db) {
        let house = House::open(db).await;
        let (store, ours) = (&house.store, &house.tenant);
        let admin = house.grants.account_for(ours, &person(CONTOSO, Role::Admin), house.now).await.unwrap();
        name(store, ours, &[CONTOSO]).await.unwrap();
        assert!(matches!(name(store, ours, &[FABRIKAM]).await, Err(StoreError::LastAdmin)));
        assert!(store.may_come_in(ours, admin.id).await.unwrap());
        let raise = UserChange { role: Some("admin"), ..UserChange::default() };
        store.update_user(ours, house.user, raise, false, 1).await.unwrap();
        name(store, ours, &[FABRIKAM]).await.unwrap();
        assert!(!store.may_come_in(ours, admin.id).await.unwrap());
    }
}

on_both! {
    async fn a_tenant_that_is_removed_takes_all_that_is_its_own(db) {
        let house = House::open(db).await;
        let store = &house.store;
        let acme = store.add_tenant("acme", "Acme").await.unwrap();
        name(store, &acme, &[FABRIKAM]).await.unwrap();
        let known = house.grants.account_for(&acme, &person(FABRIKAM, Role::User), house.now).await.unwrap();
        house.grants.open_session(&known, "entra", None, house.now).await.unwrap();
        assert_eq!(store.holdings(&acme).await.unwrap(), Holdings { accounts: 1, servers: 0, clients: 0 });
        store.purge_tenant(&acme, None).await.unwrap();
        assert_eq!(store.tenant(&acme).await.unwrap(), None);
        assert!(store.user(&acme, known.id).await.unwrap().is_none());
        assert!(matches!(store.purge_tenant(&acme, None).await, Err(StoreError::Missing)));
        assert!(store.user(&house.tenant, house.user).await.unwrap().is_some(), "and nothing of others");
        store.add_tenant("acme", "Another").await.unwrap();
    }
}

on_both! {
    async fn what_tenants_are_granted_is_read_at_once_and_kept(db) {
        let house = House::open(db).await;
        let acme = house.store.add_tenant("acme", "Acme").await.unwrap();
        let change = TermsChange { fairness_weight: Some(0.1), base_rpm: Some(Some(60)), ..TermsChange::default() };
        let set = async |terms| {
            let change = TenantChange { terms, ..TenantChange::default() };
            house.store.update_tenant(&acme, change, micros(now())).await.unwrap();
        };
        set(change).await;
        set(TermsChange { priority_support: Some(true), ..TermsChange::default() }).await;
        suspend(&house.store, &acme, false).await;
        let open = Store::connect(&db.url, 2).await.unwrap();
        let mut all = Terms::of_all(&open).await.unwrap();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        let terms = Terms { weight: 0.1, base_rpm: Some(60), priority_support: true, ..Terms::default() };
        let first = Terms { enhanced_monitoring: true, ..Terms::default() };
        assert_eq!(all, [(acme, false, terms), (house.tenant.clone(), true, first)]);
        open.close().await;
    }
}

on_both! {
    async fn changes_of_tenants_and_servers_are_made_all_or_none(db) {
        let house = House::open(db).await;
        let (store, ours, when) = (&house.store, &house.tenant, now());
        let gone = async |name: &str| {
            let id = store.add_tenant(name, name).await.unwrap();
            store.purge_tenant(&id, None).await.unwrap();
            id
        };
        let (one, two, three) = (gone("one").await, gone("two").await, gone("three").await);
        let of = |directories| TenantChange { directories: Some(directories), ..TenantChange::default() };
        let made = [TenantStep::Insert(&one, of(&[FABRIKAM])), TenantStep::Insert(&two, of(&[TAILSPIN]))];
        let held = async || {
            let all = store.tenants("default", 10).await.unwrap();
            all.iter().map(|tenant| tenant.directories.iter().map(|directory| directory.id).collect::<Vec<_>>()).collect::<Vec<_>>()
        };
        store.change_tenants(&made, micros(when), true).await.unwrap();
        assert!(held().await.is_empty(), "that was a rehearsal");
        store.change_tenants(&made, micros(when), false).await.unwrap();
        assert_eq!(held().await, [[FABRIKAM], [TAILSPIN]]);
        for rehearse in [true, false] {
            assert!(matches!(store.change_tenants(&made, 1, rehearse).await, Err(StoreError::Taken)));
            let taker = [TenantStep::Insert(&three, of(&[FABRIKAM]))];
            assert!(matches!(store.change_tenants(&taker, 1, rehearse).await, Err(StoreError::DirectoryHeld { .. })));
        }

        let swap = [TenantStep::Update(&one, of(&[TAILSPIN])), TenantStep::Update(&two, of(&[FABRIKAM]))];
        let missing = [ServerChange::Delete(Uuid::nil(), None)];
        assert!(matches!(store.change_all(&swap, ours, &missing, 1).await, Err(StoreError::Missing)));
        assert_eq!(held().await, [[FABRIKAM], [TAILSPIN]]);
        store.change_all(&swap, ours, &[], 1).await.unwrap();
        assert_eq!(held().await, [[TAILSPIN], [FABRIKAM]]);
        store.insert_tenant(&three, TenantChange::default(), micros(when)).await.unwrap();
        assert_eq!(store.tenant(&three).await.unwrap(), Some(Tenant::new(three, when)), "as it is planned");
    }
}

on_both! {
    async fn what_gives_roles_changes_only_from_what_was_decided_on(db) {
        let house = House::open(db).await;
        let (store, acme) = (&house.store, house.store.add_tenant("acme", "Acme").await.unwrap());
        let of = |role: &str| serde_json::json!([{"value": "Mcp.Ops", "role": role}]);
        let (user, owner, none) = (of("user"), of("server_owner"), serde_json::json!([]));
        let put = async |held: Option<&serde_json::Value>, wanted: &serde_json::Value| {
            let change = TenantChange { role_mappings: Some(wanted), held_role_mappings: held, ..TenantChange::default() };
            store.update_tenant(&acme, change, micros(now())).await
        };
        put(None, &user).await.unwrap();
        // Somebody else read before, when there were none, and decided by that.
        assert!(matches!(put(None, &owner).await, Err(StoreError::Stale)));
        assert_eq!(store.role_mappings(&acme).await.unwrap(), Some(user.clone()));
        put(Some(&user), &owner).await.unwrap();
        assert!(matches!(put(Some(&user), &none).await, Err(StoreError::Stale)));
        put(Some(&owner), &none).await.unwrap();
        assert_eq!(store.role_mappings(&acme).await.unwrap(), None);
    }
}
