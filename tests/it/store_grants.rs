//! Codes, tokens and their families over a database: what is given once, what is given again, and what ends a family.

use std::time::Duration;

use mcp_registry_gateway::crypto::{MasterKey, Sealer, TokenKind, hash_token, is_token, new_token};
use mcp_registry_gateway::grants::redirect::{RedirectUri, Schemes};
use mcp_registry_gateway::grants::{
    CodeTerms, End, EndReason, GrantKind, Grants, Ids, Issue, Made, OauthCode, Order, Possession, Redemption, Refresh,
    Refusal, Schedule, Scope, ScopeSet, Terms, Tokens, challenge_of,
};
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::secret::Secret;
use mcp_registry_gateway::store::users::{UserChange, UserRow};
use mcp_registry_gateway::store::{Store, micros, now};
use mcp_registry_gateway::telemetry::Metrics;
use mcp_registry_gateway::vault::Vault;
use sqlx::{Connection as _, Executor as _};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::store_databases::Database;

pub const VERIFIER: &str = "a-verifier-of-more-than-forty-three-characters";
pub const REDIRECT: &str = "http://127.0.0.1:7777/callback";
/// How old a provider's word is that is asked for again.
pub const RECHECK: Duration = Duration::from_mins(15);
pub const RESOURCE: &str = "https://gateway.example.com/mcp";

/// An authorization server with one account on a database.
pub struct House {
    pub store: Store,
    pub grants: Grants,
    pub tenant: TenantId,
    pub user: Uuid,
    pub now: OffsetDateTime,
}

pub fn terms() -> Terms {
    Terms {
        access_token: Duration::from_mins(15),
        grant: Duration::from_hours(90 * 24),
        grant_idle: Duration::from_hours(30 * 24),
        schedule: Schedule {
            recheck: Duration::from_mins(15),
            proactive: Duration::from_mins(10),
            margin: Duration::from_mins(5),
            max_retries: 4,
        },
    }
}

impl House {
    pub async fn open(db: &Database) -> Self {
        let store = db.open().await;
        let grants = Grants::new(
            store.clone(),
            Vault::new(store.clone(), Sealer::new(&MasterKey::generate())),
            terms(),
            &Metrics::new(10),
        );
        let (tenant, now) = (TenantId::default_tenant(), now());
        let row = UserRow {
            id: Uuid::now_v7(),
            username: "ada".into(),
            role: "user".into(),
            state: "active".into(),
            created_at: micros(now),
            updated_at: micros(now),
            ..UserRow::default()
        };
        store.insert_user(&tenant, &row).await.unwrap();
        Self { store, grants, tenant, user: row.id, now }
    }

    pub fn after(&self, seconds: u64) -> OffsetDateTime {
        self.now + Duration::from_secs(seconds)
    }

    pub fn order(&self, scopes: &str) -> Order {
        Order {
            tenant: self.tenant.clone(),
            user: self.user,
            client_id: "client".into(),
            client_name: Some("A client".into()),
            resource: RESOURCE.into(),
            scopes: ScopeSet::parse(scopes).unwrap(),
            login_method: "local".into(),
            login: None,
        }
    }

    pub async fn code(&self, scopes: &str) -> Secret {
        let terms =
            CodeTerms { redirect_uri: REDIRECT.into(), code_challenge: challenge_of(VERIFIER), key: None, trace: None };
        self.grants.grant(&self.order(scopes), &terms, self.now).await.unwrap().code
    }

    /// The first tokens of a new grant.
    pub async fn tokens(&self, scopes: &str) -> Tokens {
        let code = self.code(scopes).await;
        self.grants.redeem(&redemption(&code), self.now).await.unwrap()
    }

    pub async fn refresh(&self, token: &Secret, seconds: u64) -> Result<Tokens, Refusal> {
        self.grants.refresh(&refresh(token), self.after(seconds)).await
    }

    /// Whether an access token would be let in.
    pub async fn is_live(&self, access: &Secret, seconds: u64) -> bool {
        let grant = self.store.grant_of_token(&hash_token(access.expose()), false).await.unwrap();
        let now = micros(self.after(seconds));
        grant.is_some_and(|grant| grant.ended_at.is_none() && grant.expires_at > now)
    }

    pub async fn was_used(&self, access: &Secret, seconds: u64) {
        let (hash, at) = (hash_token(access.expose()), micros(self.after(seconds)));
        // One that is no longer good is not used by being shown.
        if let Some(shown) = self.store.show_access_token(&hash, at).await.unwrap() {
            self.store.touch_grants(&[(shown.grant_id, at)], RECHECK).await.unwrap();
        }
    }
}

pub fn redemption(code: &Secret) -> Redemption {
    Redemption {
        code: code.clone(),
        client_id: "client".into(),
        redirect_uri: Some(REDIRECT.into()),
        redirects: Some(vec![RedirectUri::parse(REDIRECT, &Schemes::default()).unwrap()]),
        verifier: Secret::new(VERIFIER),
        resource: Some(RESOURCE.into()),
        possession: Possession::default(),
    }
}

pub fn refresh(token: &Secret) -> Refresh {
    Refresh {
        token: token.clone(),
        client_id: "client".into(),
        scopes: None,
        resource: None,
        possession: Possession::default(),
    }
}

/// The word for our logs of an `invalid_grant`.
fn no_good<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (&'static str, bool) {
    let refusal = result.unwrap_err();
    assert_eq!(refusal.code, OauthCode::InvalidGrant, "{refusal:?}");
    (refusal.reason, refusal.ended.is_some())
}

on_both! {
    async fn a_code_gives_tokens_once_and_a_second_showing_ends_them(db) {
        let house = House::open(db).await;
        let revision = house.store.revision().await.unwrap();
        let code = house.code("mcp offline_access").await;
        let tokens = house.grants.redeem(&redemption(&code), house.after(59)).await.unwrap();
        assert!(is_token(TokenKind::Code, code.expose()) && is_token(TokenKind::Access, tokens.access.expose()));
        assert!(is_token(TokenKind::Refresh, tokens.refresh.as_ref().unwrap().expose()));
        assert_eq!(tokens.expires_at, house.after(59 + 15 * 60));
        assert!(house.is_live(&tokens.access, 60).await);

        assert_eq!(no_good(house.grants.redeem(&redemption(&code), house.after(60)).await), ("code_reuse", true));

        assert!(!house.is_live(&tokens.access, 60).await);
        assert_eq!(no_good(house.refresh(&tokens.refresh.unwrap(), 61).await), ("ended", false));
        assert_eq!(no_good(house.grants.redeem(&redemption(&code), house.after(60)).await), ("ended", false));
        assert_eq!(house.store.revision().await.unwrap(), revision, "the registry is another matter");
    }
}

on_both! {
    async fn a_code_that_does_not_fit_is_burnt(db) {
        let house = House::open(db).await;
        let other = |change: fn(&mut Redemption)| move |code: &Secret| {
            let mut shown = redemption(code);
            change(&mut shown);
            shown
        };
        let wrong: [(&str, fn(&mut Redemption)); 6] = [
            ("other_client", |shown| shown.client_id = "another".into()),
            ("redirect_uri", |shown| shown.redirect_uri = Some("http://127.0.0.1:7778/callback".into())),
            ("verifier", |shown| shown.verifier = Secret::new(format!("{VERIFIER}x"))),
            ("verifier", |shown| shown.verifier = Secret::new(challenge_of(VERIFIER))),
            ("verifier", |shown| shown.verifier = Secret::new("")),
            ("resource", |shown| shown.resource = Some("https://gateway.example.com/mcp/files".into())),
        ];
        for (reason, change) in wrong {
            let code = house.code("mcp").await;
            let refused = house.grants.redeem(&other(change)(&code), house.now).await;
            assert_eq!(no_good(refused), (reason, true));
            assert_eq!(no_good(house.grants.redeem(&redemption(&code), house.now).await), ("ended", false));
        }
        let code = house.code("mcp").await;
        assert_eq!(no_good(house.grants.redeem(&redemption(&code), house.after(60)).await), ("expired", true));
        let unknown = new_token(TokenKind::Code);
        assert_eq!(no_good(house.grants.redeem(&redemption(&unknown), house.now).await), ("unknown", false));
        let key = new_token(TokenKind::ApiKey);
        assert_eq!(no_good(house.grants.redeem(&redemption(&key), house.now).await), ("malformed", false));
        assert!(house.grants.of_user(&house.tenant, house.user, house.now).await.unwrap().is_empty());
    }
}

on_both! {
    async fn a_code_shown_many_times_at_once_is_spent_once(db) {
        let house = House::open(db).await;
        let code = house.code("mcp offline_access").await;
        let all = futures_util::future::join_all((0..20).map(|_| {
            let (grants, shown, now) = (house.grants.clone(), redemption(&code), house.now);
            tokio::spawn(async move { grants.redeem(&shown, now).await })
        }));
        let given: Vec<Tokens> = all.await.into_iter().filter_map(|done| done.unwrap().ok()).collect();
        assert_eq!(given.len(), 1);
        assert!(!house.is_live(&given[0].access, 0).await, "somebody else has it too");
    }
}

on_both! {
    async fn a_refresh_token_is_given_only_to_who_may_stay(db) {
        let house = House::open(db).await;
        let tokens = house.tokens("mcp").await;
        assert!(tokens.refresh.is_none());
        let listed = house.grants.of_user(&house.tenant, house.user, house.now).await.unwrap();
        assert_eq!(listed[0].expires_at, tokens.expires_at, "the grant ends with its only token");
        assert!(house.grants.of_user(&house.tenant, house.user, tokens.expires_at).await.unwrap().is_empty());
    }
}

on_both! {
    async fn of_many_refreshes_at_once_one_gives_a_successor(db) {
        let house = House::open(db).await;
        for count in [2, 50] {
            let first = house.tokens("mcp offline_access").await.refresh.unwrap();
            let all = futures_util::future::join_all((0..count).map(|_| {
                let (grants, shown, now) = (house.grants.clone(), refresh(&first), house.after(1));
                tokio::spawn(async move { grants.refresh(&shown, now).await })
            }));
            let mut given: Vec<Tokens> = all.await.into_iter().map(|done| done.unwrap().unwrap()).collect();
            assert_eq!(given.len(), count);
            given.dedup();
            assert_eq!(given.len(), 1, "all of them hear the same");
            let next = given[0].refresh.clone().unwrap();
            assert!(house.refresh(&next, 2).await.is_ok());
        }
    }
}

on_both! {
    async fn a_lost_answer_is_given_again_and_then_replaced_as_long_as_nobody_used_it(db) {
        let house = House::open(db).await;
        let first = house.tokens("mcp offline_access").await.refresh.unwrap();
        let second = house.refresh(&first, 1).await.unwrap();
        assert_eq!(house.refresh(&first, 60).await.unwrap(), second, "within a minute the same");

        let third = house.refresh(&first, 61).await.unwrap();
        assert_ne!(third, second);
        assert!(!house.is_live(&second.access, 61).await && house.is_live(&third.access, 61).await);
        // Swept or not: it is known that nobody used the answer, long after its access token expired.
        house.grants.sweep(house.after(3_600), |_| {}).await.unwrap();
        let fourth = house.refresh(&first, 3_600).await.unwrap();
        assert!(house.refresh(fourth.refresh.as_ref().unwrap(), 3_601).await.is_ok());
        assert_eq!(no_good(house.refresh(&second.refresh.unwrap(), 3_602).await), ("reuse", true));
    }
}

on_both! {
    async fn a_token_that_comes_back_after_its_successor_was_used_ends_the_family(db) {
        let house = House::open(db).await;
        // By its refresh token, whenever that was.
        let first = house.tokens("mcp offline_access").await.refresh.unwrap();
        let second = house.refresh(&first, 1).await.unwrap().refresh.unwrap();
        let third = house.refresh(&second, 2).await.unwrap();
        assert_eq!(no_good(house.refresh(&first, 3).await), ("reuse", true));
        assert_eq!(no_good(house.refresh(third.refresh.as_ref().unwrap(), 4).await), ("ended", false));
        assert!(!house.is_live(&third.access, 4).await);

        // By its access token.
        let first = house.tokens("mcp offline_access").await.refresh.unwrap();
        let second = house.refresh(&first, 1).await.unwrap();
        house.was_used(&second.access, 2).await;
        assert_eq!(house.refresh(&first, 60).await.unwrap(), second, "two processes of one client");
        let ended = house.refresh(&first, 61).await.unwrap_err().ended.unwrap();
        assert_eq!((ended.reason.as_str(), ended.detail.as_str(), ended.id), ("error", "reuse", second.grant));
        let known = house.store.grants_ended_since(micros(house.now), Uuid::nil(), 9).await.unwrap();
        assert!(known.contains(&(micros(house.after(61)), second.grant)) && known.len() == 2, "{known:?}");
        assert!(house.store.grants_ended_since(micros(house.after(61)), Uuid::max(), 9).await.unwrap().is_empty());
        // The same when what was used is forgotten.
        let first = house.tokens("mcp offline_access").await.refresh.unwrap();
        let second = house.refresh(&first, 1).await.unwrap();
        house.was_used(&second.access, 2).await;
        house.grants.sweep(house.after(86_400), |_| {}).await.unwrap();
        assert_eq!(no_good(house.refresh(&first, 86_401).await), ("reuse", true));
    }
}

on_both! {
    async fn scopes_get_narrower_for_a_token_and_never_wider(db) {
        let house = House::open(db).await;
        let first = house.tokens("mcp offline_access").await.refresh.unwrap();
        let with = |token: &Secret, scopes: &str| Refresh {
            scopes: Some(ScopeSet::parse(scopes).unwrap()), ..refresh(token)
        };
        let refused = house.grants.refresh(&with(&first, "mcp admin"), house.now).await.unwrap_err();
        assert_eq!((refused.code, refused.ended.is_none()), (OauthCode::InvalidScope, true));
        let second = house.grants.refresh(&with(&first, "mcp"), house.now).await.unwrap();
        assert_eq!(second.scopes, ScopeSet::DEFAULT);
        assert_eq!(house.grants.refresh(&with(&first, "mcp"), house.now).await.unwrap(), second);
        let other = house.grants.refresh(&with(&first, "offline_access"), house.now).await.unwrap_err();
        assert_eq!(other.code, OauthCode::InvalidScope, "the answer that is given again is not more than asked for");
        let third = house.refresh(&second.refresh.unwrap(), 1).await.unwrap();
        assert!(third.scopes.has(Scope::OfflineAccess), "the grant keeps its own");
        let elsewhere = Refresh { resource: Some("https://other.example.com/mcp".into()), ..refresh(&third.refresh.unwrap()) };
        assert_eq!(house.grants.refresh(&elsewhere, house.after(2)).await.unwrap_err().code, OauthCode::InvalidTarget);
    }
}

on_both! {
    async fn a_family_is_its_keys_where_nothing_else_proves_the_client(db) {
        let house = House::open(db).await;
        let with = |key: Option<u8>, is_public| Possession { key: key.map(|byte| [byte; 32]), is_public };
        for is_public in [true, false] {
            let terms = CodeTerms { redirect_uri: REDIRECT.into(), code_challenge: challenge_of(VERIFIER), key: Some([1; 32]), trace: None };
            for wrong in [None, Some(2)] {
                let code = house.grants.grant(&house.order("mcp"), &terms, house.now).await.unwrap().code;
                let shown = Redemption { possession: with(wrong, is_public), ..redemption(&code) };
                assert_eq!(no_good(house.grants.redeem(&shown, house.now).await), ("other_key", true));
            }
            let code = house.grants.grant(&house.order("mcp offline_access"), &terms, house.now).await.unwrap().code;
            let shown = Redemption { possession: with(Some(1), is_public), ..redemption(&code) };
            let first = house.grants.redeem(&shown, house.now).await.unwrap();
            assert_eq!(first.key, Some([1; 32]));
            let live = house.store.show_access_token(&hash_token(first.access.expose()), micros(house.now)).await.unwrap();
            assert_eq!(live.unwrap().jkt, Some(vec![1; 32]));
            let token = first.refresh.unwrap();
            let shown = |key| Refresh { possession: with(key, is_public), ..refresh(&token) };
            if is_public {
                let refused = house.grants.refresh(&shown(None), house.now).await.unwrap_err();
                assert_eq!((refused.code, refused.ended.is_none()), (OauthCode::InvalidDpopProof, true));
                assert_eq!(no_good(house.grants.refresh(&shown(Some(2)), house.now).await), ("other_key", false));
                let next = house.grants.refresh(&shown(Some(1)), house.now).await.unwrap();
                assert_eq!(next.key, Some([1; 32]));
                assert_eq!(house.grants.refresh(&shown(Some(1)), house.now).await.unwrap(), next);
            } else {
                let next = house.grants.refresh(&shown(Some(2)), house.now).await.unwrap();
                assert_eq!(next.key, Some([2; 32]));
                assert_eq!(house.grants.refresh(&shown(Some(2)), house.now).await.unwrap(), next);
                assert_eq!(no_good(house.grants.refresh(&shown(Some(1)), house.now).await), ("other_key", false), "the same answer is not theirs");
            }
        }
    }
}

on_both! {
    async fn a_refresh_token_is_its_clients_and_no_other_kinds(db) {
        let house = House::open(db).await;
        let tokens = house.tokens("mcp offline_access").await;
        let token = tokens.refresh.unwrap();
        let stranger = Refresh { client_id: "another".into(), ..refresh(&token) };
        assert_eq!(no_good(house.grants.refresh(&stranger, house.now).await), ("other_client", false));
        assert_eq!(no_good(house.refresh(&tokens.access, 0).await), ("malformed", false));
        assert_eq!(no_good(house.refresh(&new_token(TokenKind::Refresh), 0).await), ("unknown", false));
        assert!(house.store.show_access_token(&hash_token(token.expose()), micros(house.now)).await.unwrap().is_none());
        assert!(house.refresh(&token, 1).await.is_ok(), "none of it hurt the family");
    }
}

on_both! {
    async fn a_grant_ends_when_it_is_not_used_and_at_its_latest(db) {
        let house = House::open(db).await;
        let day = 86_400;
        let idle = house.tokens("mcp offline_access").await.refresh.unwrap();
        assert_eq!(no_good(house.refresh(&idle, 30 * day).await), ("idle", true));
        let mut token = house.tokens("mcp offline_access").await.refresh.unwrap();
        for days in [29, 58, 87] {
            token = house.refresh(&token, days * day).await.unwrap().refresh.unwrap();
        }
        let last = house.refresh(&token, 90 * day - 60).await.unwrap();
        assert_eq!(last.expires_at, house.after(90 * day), "no token outlives its grant");
        assert_eq!(no_good(house.refresh(last.refresh.as_ref().unwrap(), 90 * day).await), ("expired", true));
    }
}

on_both! {
    async fn a_client_gives_its_own_tokens_back(db) {
        let house = House::open(db).await;
        for by_refresh in [false, true] {
            let tokens = house.tokens("mcp offline_access").await;
            let token = if by_refresh { tokens.refresh.clone().unwrap() } else { tokens.access.clone() };
            let foreign = house.grants.revoke(token.expose(), "another", house.now).await;
            assert_eq!(no_good(foreign), ("other_client", false));
            assert!(house.is_live(&tokens.access, 0).await);
            let ended = house.grants.revoke(token.expose(), "client", house.now).await.unwrap().remove(0);
            assert_eq!((ended.reason.as_str(), ended.detail.as_str()), ("logout", "revoked"));
            assert!(!house.is_live(&tokens.access, 0).await);
            assert_eq!(no_good(house.refresh(&tokens.refresh.unwrap(), 1).await), ("ended", false));
            assert_eq!(house.grants.revoke(token.expose(), "client", house.now).await.unwrap(), []);
        }
        for nothing in ["", "mcpg_at_x", new_token(TokenKind::Access).expose(), new_token(TokenKind::ApiKey).expose()] {
            assert_eq!(house.grants.revoke(nothing, "client", house.now).await.unwrap(), []);
        }
    }
}

on_both! {
    async fn grants_end_by_account_client_and_one_by_one(db) {
        let house = House::open(db).await;
        let end = End { reason: EndReason::Logout, detail: "revoked" };
        let count = async |which: Ids<'_>| house.grants.end(&house.tenant, which, end, house.now).await.unwrap().len();
        let ids: Vec<Uuid> = [house.tokens("mcp").await, house.tokens("mcp").await, house.tokens("mcp").await]
            .iter().map(|tokens| tokens.grant).collect();
        let theirs = house.store.add_tenant("acme", "Acme").await.unwrap();
        assert!(house.grants.end(&theirs, Ids::User(house.user), end, house.now).await.unwrap().is_empty());
        assert_eq!(count(Ids::One(ids[0], Some(Uuid::nil()))).await, 0, "somebody else's");
        assert_eq!(count(Ids::One(ids[0], Some(house.user))).await, 1);
        assert_eq!(count(Ids::One(ids[0], None)).await, 0, "an end is final");
        assert_eq!(count(Ids::Client("client")).await, 2);
        let (one, two) = (house.tokens("mcp").await, house.grants.issue(&house.order("mcp"), Issue::alone(GrantKind::Service), house.now).await.unwrap());
        assert_eq!(count(Ids::User(house.user)).await, 2);
        assert!(!house.is_live(&one.access, 0).await && !house.is_live(&two.access, 0).await);
    }
}

on_both! {
    async fn the_grants_that_were_not_used_for_longest_give_way(db) {
        let house = House::open(db).await;
        let (old, used) = (house.tokens("mcp").await, house.tokens("mcp").await);
        let new = house.tokens("mcp").await;
        house.was_used(&used.access, 5).await;
        let surplus = async |made, most| {
            let (now, store) = (micros(house.after(6)), &house.store);
            let ended = store.end_surplus_grants(&house.tenant, house.user, made, most, now).await.unwrap();
            ended.iter().map(|row| row.id).collect::<Vec<_>>()
        };
        // What programs made at once, however often, is bounded by itself and pushes nobody out.
        let at_once = async |method: &str, parent, seconds| {
            let order = Order { login_method: method.into(), ..house.order("mcp") };
            let how = Issue { parent, ..Issue::alone(GrantKind::Client) };
            house.grants.issue(&order, how, house.after(seconds)).await.unwrap()
        };
        let [first, second, third] = [
            at_once("local", Some(used.grant), 1).await,
            at_once("issuer:corp", None, 2).await,
            at_once("entra", None, 3).await,
        ];
        house.was_used(&first.access, 5).await;
        let listed = house.grants.of_user(&house.tenant, house.user, house.after(5)).await.unwrap();
        assert_eq!(listed.iter().position(|view| view.id == first.grant), Some(3), "behind what a person signed in to");
        assert!(surplus(Made::BySignIn, 3).await.is_empty());
        assert_eq!(surplus(Made::BySignIn, 2).await, [old.grant]);
        assert!(house.is_live(&new.access, 6).await && house.is_live(&used.access, 6).await);
        assert!(surplus(Made::AtOnce, 3).await.is_empty());
        assert_eq!(surplus(Made::AtOnce, 1).await.len(), 2);
        let live = [&first, &second, &third].map(|tokens| house.is_live(&tokens.access, 6));
        assert_eq!(futures_util::future::join_all(live).await, [false, false, true], "the oldest give way");
    }
}

on_both! {
    async fn of_what_a_client_has_as_a_service_the_oldest_give_way(db) {
        let house = House::open(db).await;
        let person = house.tokens("mcp").await;
        let service = async |client: &str, seconds| {
            let order = Order { client_id: client.into(), ..house.order("mcp") };
            house.grants.issue(&order, Issue::alone(GrantKind::Service), house.after(seconds)).await.unwrap()
        };
        let [first, second, broker, third] =
            [service("night", 1).await, service("night", 2).await, service("broker", 3).await, service("night", 4).await];
        house.was_used(&first.access, 5).await;
        let surplus = async |client, most| {
            let (now, store) = (micros(house.after(6)), &house.store);
            let made = Made::ByItself(client);
            let ended = store.end_surplus_grants(&house.tenant, house.user, made, most, now).await.unwrap();
            ended.iter().map(|row| row.id).collect::<Vec<_>>()
        };
        assert!(surplus("night", 3).await.is_empty() && surplus("broker", 1).await.is_empty());
        assert_eq!(surplus("night", 2).await, [first.grant], "used or not");
        for made in [Made::BySignIn, Made::AtOnce] {
            let now = micros(house.after(6));
            let ended = house.store.end_surplus_grants(&house.tenant, house.user, made, 1, now).await.unwrap();
            assert!(ended.is_empty(), "{made:?}");
        }
        for tokens in [&person, &second, &broker, &third] {
            assert!(house.is_live(&tokens.access, 6).await);
        }
    }
}

on_both! {
    async fn a_disabled_account_loses_what_it_granted(db) {
        let house = House::open(db).await;
        let tokens = house.tokens("mcp offline_access").await;
        let code = house.code("mcp").await;
        let disable = UserChange { state: Some("disabled"), ..UserChange::default() };
        house.store.update_user(&house.tenant, house.user, disable, true, micros(house.after(1))).await.unwrap();
        assert!(!house.is_live(&tokens.access, 1).await);
        assert_eq!(no_good(house.refresh(&tokens.refresh.unwrap(), 2).await), ("ended", false));
        assert_eq!(no_good(house.grants.redeem(&redemption(&code), house.after(2)).await), ("ended", false));
        // A sign-in that was under way gets no further than its code.
        let code = house.code("mcp").await;
        assert_eq!(no_good(house.grants.redeem(&redemption(&code), house.after(2)).await), ("disabled", true));
        let alone = Issue::alone(GrantKind::Service);
        assert_eq!(no_good(house.grants.issue(&house.order("mcp"), alone, house.now).await), ("disabled", false));
        let ended = house.store.grants_ended_since(micros(house.now), Uuid::nil(), 9).await.unwrap();
        let times: Vec<i64> = ended.into_iter().map(|(time, _)| time).collect();
        assert_eq!(times, [1, 1, 2].map(|seconds| micros(house.after(seconds))));
    }
}

#[tokio::test]
async fn what_has_ended_is_told_though_the_rest_of_the_sweep_fails() {
    let db = Database::sqlite();
    let house = House::open(&db).await;
    let short = house.tokens("mcp").await;
    let url = format!("sqlite://{}", db.file().unwrap().display());
    let mut raw = sqlx::SqliteConnection::connect(&url).await.unwrap();
    raw.execute("ALTER TABLE spent_assertions RENAME TO away").await.unwrap();
    let mut told = Vec::new();
    house.grants.sweep(house.after(901), |ended| told.extend(ended.iter().map(|ended| ended.id))).await.unwrap_err();
    assert_eq!(told, [short.grant]);
}

on_both! {
    async fn what_is_over_is_swept(db) {
        let house = House::open(db).await;
        let day = 86_400;
        let lost = house.code("mcp offline_access").await;
        let short = house.tokens("mcp").await;
        let first = house.tokens("mcp offline_access").await;
        let second = house.refresh(first.refresh.as_ref().unwrap(), 1).await.unwrap();
        let swept = house.grants.sweep(house.after(119), |_| {}).await.unwrap();
        assert!(swept.ended.is_empty(), "somebody may have shown it in its last moment: {:?}", swept.ended);
        let swept = house.grants.sweep(house.after(120), |_| {}).await.unwrap();
        let details: Vec<&str> = swept.ended.iter().map(|ended| ended.detail.as_str()).collect();
        assert_eq!((details, swept.more), (vec!["code"], false));
        assert_eq!(no_good(house.grants.redeem(&redemption(&lost), house.after(121)).await), ("unknown", false));
        let swept = house.grants.sweep(house.after(901), |_| {}).await.unwrap();
        assert_eq!((swept.ended.len(), swept.ended[0].id), (1, short.grant));
        let swept = house.grants.sweep(house.after(31 * day), |_| {}).await.unwrap();
        assert_eq!((swept.ended.len(), swept.ended[0].detail.as_str()), (1, "idle"));
        assert!(house.store.grant_of_token(&hash_token(second.refresh.unwrap().expose()), true).await.unwrap().is_some());
        let swept = house.grants.sweep(house.after(62 * day), |_| {}).await.unwrap();
        assert!(swept.removed > 0 && swept.ended.is_empty());
        assert!(house.store.grants_ended_since(0, Uuid::nil(), 9).await.unwrap().is_empty(), "ends are forgotten in the end");
        assert_eq!(house.grants.sweep(house.after(63 * day), |_| {}).await.unwrap().removed, 0);
    }
}
