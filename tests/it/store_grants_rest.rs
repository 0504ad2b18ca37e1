//! What surrounds tokens, over a database: authorizations under way, the accounts of people, browsers, providers, consents,
//! assertions and traces.

use std::net::IpAddr;
use std::time::Duration;

use mcp_registry_gateway::access::Role;
use mcp_registry_gateway::crypto::{MasterKey, Sealer};
use mcp_registry_gateway::grants::{
    Arrived, Begun, Consent, End, EndReason, GivenTokens, GrantKind, Grants, Ids, Issue, Kind, Leg, LoginState,
    NewLogin, NotVouched, OauthCode, Outcome, Person, Prompt, Refusal, Request, ScopeSet, Step, TraceFilter, TraceNote,
    Unanswered, challenge_of,
};
use mcp_registry_gateway::secret::Secret;
use mcp_registry_gateway::store::authorizations::{AuthorizationRow, Inserted, Room};
use mcp_registry_gateway::store::users::UserChange;
use mcp_registry_gateway::store::{Store, micros};
use mcp_registry_gateway::telemetry::{Counter, Metrics};
use mcp_registry_gateway::vault::Vault;
use uuid::Uuid;

use crate::store_grants::{House, RECHECK, RESOURCE, VERIFIER, terms};

fn request() -> Request {
    Request {
        client_id: "client".into(),
        client_name: Some("<b>A client</b>".into()),
        redirect_uri: "http://127.0.0.1:7777/callback".into(),
        state: Some("theirs".into()),
        code_challenge: challenge_of(VERIFIER),
        resource: RESOURCE.into(),
        scopes: ScopeSet::DEFAULT,
        login_hint: None,
        prompt: Prompt::default(),
        ask_later: false,
        key: None,
        trace: None,
    }
}

fn leg() -> Leg {
    Leg { provider: "entra".into(), nonce: Secret::new("nonce"), verifier: Secret::new("ours"), claims: None }
}

fn reason<T: std::fmt::Debug>(result: Result<T, Refusal>) -> &'static str {
    result.unwrap_err().reason
}

impl House {
    async fn begun(&self) -> Begun {
        self.grants.begin(request(), IpAddr::from([192, 0, 2, 1]), self.now).await.unwrap()
    }

    /// Agreed to, and sent to a provider with that state.
    async fn sent(&self, state: &str) -> Begun {
        let begun = self.begun().await;
        let (id, cookie) = (begun.id, begun.cookie.expose());
        self.grants.consent(id, cookie, begun.csrf.expose(), self.now).await.unwrap();
        self.grants.send(id, cookie, None, &Secret::new(state), leg(), self.now).await.unwrap();
        begun
    }
}

on_both! {
    async fn an_authorization_goes_on_in_the_browser_that_began_it_and_comes_back_once(db) {
        let house = House::open(db).await;
        let (grants, now) = (&house.grants, house.now);
        let begun = house.begun().await;
        let (id, cookie, csrf) = (begun.id, begun.cookie.expose(), begun.csrf.expose());
        let seen = grants.under_way(id, cookie, now).await.unwrap();
        assert_eq!((seen.request, seen.csrf.expose(), seen.consented, seen.leg), (request(), csrf, false, None));

        assert_eq!(reason(grants.send(id, cookie, None, &Secret::new("s"), leg(), now).await), "consent");
        assert_eq!(reason(grants.consent(id, cookie, "forged", now).await), "csrf");
        assert_eq!(reason(grants.consent(id, "", csrf, now).await), "gone");
        let other = house.begun().await;
        assert_eq!(reason(grants.consent(id, other.cookie.expose(), csrf, now).await), "gone");
        assert_eq!(reason(grants.consent(id, cookie, other.csrf.expose(), now).await), "csrf");
        let by = async |csrf| grants.send(id, cookie, Some(csrf), &Secret::new("s"), leg(), now).await;
        assert_eq!(reason(by(other.csrf.expose()).await), "csrf");
        assert!(!grants.under_way(id, cookie, now).await.unwrap().consented);
        by(csrf).await.unwrap();
        assert!(grants.under_way(id, cookie, now).await.unwrap().consented, "by the form that sent the browser on");
        assert!(grants.consent(id, cookie, csrf, now).await.unwrap().consented);
        assert!(grants.consent(id, cookie, csrf, now).await.unwrap().consented, "a form that is sent twice");

        grants.send(id, cookie, None, &Secret::new("first"), leg(), now).await.unwrap();
        grants.send(id, cookie, None, &Secret::new("second"), leg(), now).await.unwrap();
        let ours = |asked: Uuid| (asked == id).then(|| cookie.to_owned());
        assert_eq!(reason(grants.at_callback("first", ours, now).await), "state");
        assert_eq!(reason(grants.at_callback("second", |_| None, now).await), "other_browser");
        assert_eq!(reason(grants.at_callback("second", |_| Some(other.cookie.expose().into()), now).await), "gone");
        let back = grants.at_callback("second", ours, now).await.unwrap();
        assert_eq!((back.request, back.leg), (request(), Some(leg())));
        assert_eq!(reason(grants.at_callback("second", ours, now).await), "state");
        assert_eq!(reason(grants.under_way(id, cookie, now).await), "gone");
    }
}

on_both! {
    async fn a_callback_that_comes_many_times_at_once_is_one(db) {
        let house = House::open(db).await;
        let begun = house.sent("state").await;
        let all = futures_util::future::join_all((0..20).map(|_| {
            let (grants, now, cookie) = (house.grants.clone(), house.now, begun.cookie.expose().to_owned());
            tokio::spawn(async move { grants.at_callback("state", |_| Some(cookie), now).await.is_ok() })
        }));
        assert_eq!(all.await.into_iter().filter(|done| *done.as_ref().unwrap()).count(), 1);
    }
}

on_both! {
    async fn an_authorization_is_over_after_ten_minutes(db) {
        let house = House::open(db).await;
        let begun = house.sent("state").await;
        let (cookie, end) = (begun.cookie.expose(), house.after(600));
        assert!(house.grants.under_way(begun.id, cookie, house.after(599)).await.is_ok());
        assert_eq!(reason(house.grants.under_way(begun.id, cookie, end).await), "gone");
        assert_eq!(reason(house.grants.at_callback("state", |_| Some(cookie.into()), end).await), "state");
        assert_eq!(reason(house.grants.take(begun.id, cookie, end).await), "gone");
        assert_eq!(house.grants.sweep(end, |_| {}).await.unwrap().removed, 1);
    }
}

on_both! {
    async fn who_signs_in_here_takes_what_was_agreed_to(db) {
        let house = House::open(db).await;
        let begun = house.begun().await;
        let (id, cookie) = (begun.id, begun.cookie.expose());
        house.grants.consent(id, cookie, begun.csrf.expose(), house.now).await.unwrap();
        assert_eq!(house.grants.take(id, cookie, house.now).await.unwrap().request, request());
        assert_eq!(reason(house.grants.take(id, cookie, house.now).await), "gone");
        // Saying no takes no agreement; going on does.
        let begun = house.begun().await;
        assert_eq!(reason(house.grants.take(begun.id, begun.cookie.expose(), house.now).await), "consent");
        let begun = house.begun().await;
        assert!(house.grants.give_up(begun.id, begun.cookie.expose(), house.now).await.is_ok());
    }
}

on_both! {
    async fn of_too_many_authorizations_the_oldest_that_nobody_acted_on_give_way(db) {
        let store = &House::open(db).await.store;
        let (browser, room) = ([7; 32], Room { all: 5, of_one: 3 });
        let put = async |source: &str, stage, second: i64| {
            let id = Uuid::now_v7();
            let row = AuthorizationRow {
                id, browser_hash: browser.to_vec(), state_hash: None, request: vec![1], source: source.into(), stage,
                created_at: second, expires_at: second + 600,
            };
            (id, store.insert_authorization(&row, room).await.unwrap())
        };
        let there = async |id| store.authorization(id, &browser, 100).await.unwrap().is_some();
        let (one, fits) = (async |stage, second| put("192.0.2.1/32", stage, second).await, Inserted::For(0));
        let [agreed, first, second] = [one(1, 1).await, one(0, 2).await, one(0, 3).await];
        let other = put("2001:db8::/48", 0, 4).await;
        assert_eq!([agreed.1, first.1, second.1, other.1], [fits; 4]);
        // As many of one network as there may be: its own give way, the oldest that nobody acted on.
        let third = one(0, 5).await;
        assert_eq!(third.1, Inserted::For(1));
        assert_eq!([there(agreed.0).await, there(first.0).await, there(second.0).await], [true, false, true]);
        // As many in all: of all of them.
        assert_eq!([put("a", 2, 6).await.1, put("b", 2, 7).await.1], [fits, Inserted::For(1)]);
        assert_eq!([there(second.0).await, there(other.0).await], [false, true]);
        for n in 8..11 {
            assert_eq!(put("c", 2, n).await.1, Inserted::For(1));
        }
        assert_eq!([there(other.0).await, there(third.0).await, there(agreed.0).await], [false; 3]);
        // Who has signed in does not give way, but for those whose time is over.
        assert_eq!(put("d", 2, 20).await.1, Inserted::Full);
        assert_eq!(put("d", 2, 607).await.1, Inserted::For(1));
        assert_eq!(store.purge_authorizations(10_000).await.unwrap(), 5);
    }
}

on_both! {
    async fn an_authorization_that_somebody_acted_on_says_so(db) {
        let house = House::open(db).await;
        let begun = house.sent("state").await;
        let stage = async |id| house.store.any_authorization(id, 0).await.unwrap().map(|row| (row.source, row.stage));
        let (own, source) = (house.begun().await, "192.0.2.1/32".to_owned());
        assert_eq!(stage(own.id).await, Some((source.clone(), 0)));
        assert_eq!(stage(begun.id).await, Some((source.clone(), 1)));
        let back = house.grants.at_callback("state", |_| Some(begun.cookie.expose().into()), house.now).await.unwrap();
        let arrived = Arrived { user: Uuid::nil(), tenant: "default".into(), method: "entra".into(), login: None };
        let asked = house.grants.begin_again(&back, Some(arrived), house.now).await.unwrap();
        assert_eq!(stage(asked.id).await, Some((source, 2)));
    }
}

const ADA: Person<'static> = Person {
    issuer: "https://login.example.com/t/v2.0",
    subject: "oid-1",
    username: "Grace@Example.com",
    display_name: Some("Grace Hopper\n"),
    directory: None,
    guest: false,
    role: Role::User,
    believed: true,
};

on_both! {
    async fn a_person_gets_one_account_and_the_role_that_the_provider_gives(db) {
        let house = House::open(db).await;
        let (grants, tenant) = (&house.grants, &house.tenant);
        let made = grants.account_for(tenant, &ADA, house.now).await.unwrap();
        assert_eq!((made.username.as_str(), made.role, made.is_new), ("grace@example.com", Role::User, true));
        assert_eq!(made.display_name.as_deref(), Some("Grace Hopper"));
        let revision = house.store.revision().await.unwrap();
        let again = grants.account_for(tenant, &Person { username: "renamed", ..ADA }, house.now).await.unwrap();
        assert_eq!((again.id, again.username.as_str(), again.is_new), (made.id, "grace@example.com", false));
        assert_eq!(house.store.revision().await.unwrap(), revision, "nothing new moves nothing");
        let raised = grants.account_for(tenant, &Person { role: Role::Admin, ..ADA }, house.now).await.unwrap();
        assert_eq!((raised.id, raised.role), (made.id, Role::Admin));
        assert!(house.store.revision().await.unwrap() > revision);
        let kept = grants.account_for(tenant, &ADA, house.now).await.unwrap();
        assert_eq!(kept.role, Role::Admin, "nobody else could give it to anybody again");
        let raise = UserChange { role: Some("admin"), ..UserChange::default() };
        house.store.update_user(tenant, house.user, raise, false, micros(house.now)).await.unwrap();
        let lowered = grants.account_for(tenant, &ADA, house.now).await.unwrap();
        assert_eq!(lowered.role, Role::User);

        let acme = house.store.add_tenant("acme", "Acme").await.unwrap();
        assert_eq!(reason(grants.account_for(&acme, &ADA, house.now).await), "other_tenant");
        let disable = UserChange { state: Some("disabled"), ..UserChange::default() };
        house.store.update_user(tenant, made.id, disable, true, 1).await.unwrap();
        let refused = grants.account_for(tenant, &ADA, house.now).await.unwrap_err();
        assert_eq!((refused.code, refused.reason), (OauthCode::AccessDenied, "disabled"));
    }
}

on_both! {
    async fn nobody_comes_into_an_account_by_being_called_like_it(db) {
        let house = House::open(db).await;
        let (grants, tenant) = (&house.grants, &house.tenant);
        let called = Person { username: "ada", ..ADA };
        let made = grants.account_for(tenant, &called, house.now).await.unwrap();
        assert!(made.id != house.user && made.username.starts_with("ada-"), "{}", made.username);
        let other = grants.account_for(tenant, &Person { subject: "oid-2", ..called }, house.now).await.unwrap();
        let elsewhere = grants.account_for(tenant, &Person { issuer: "https://other", ..called }, house.now).await.unwrap();
        assert!(made.id != other.id && other.id != elsewhere.id && made.id != elsewhere.id);
        let all = futures_util::future::join_all((0..8).map(|_| async {
            grants.account_for(tenant, &Person { subject: "oid-3", ..called }, house.now).await.unwrap().id
        }));
        let mut ids = all.await;
        ids.dedup();
        assert_eq!(ids.len(), 1, "one person in many windows");
    }
}

on_both! {
    async fn a_browser_is_signed_in_until_it_signs_out_or_its_time_is_over(db) {
        let house = House::open(db).await;
        let account = house.grants.account_for(&house.tenant, &ADA, house.now).await.unwrap();
        let cookie = house.grants.open_session(&account, "entra", None, house.now).await.unwrap();
        let session = house.grants.session(cookie.expose(), house.after(8 * 3_600 - 1)).await.unwrap().unwrap();
        assert_eq!((session.account.id, session.login_method.as_str()), (account.id, "entra"));
        assert_eq!(house.grants.session(cookie.expose(), house.after(8 * 3_600)).await.unwrap(), None);
        assert_eq!(house.grants.session("another", house.now).await.unwrap(), None);
        let ended = house.grants.close_session(cookie.expose(), house.now).await.unwrap().unwrap();
        assert_eq!((ended.kind.as_str(), ended.reason.as_str()), ("browser", "logout"));
        assert_eq!(house.grants.session(cookie.expose(), house.now).await.unwrap(), None);
        assert_eq!(house.grants.close_session(cookie.expose(), house.now).await.unwrap(), None);
    }
}

on_both! {
    async fn what_a_provider_gave_is_sealed_and_asked_about_when_it_was_used(db) {
        let house = House::open(db).await;
        let (grants, tenant) = (&house.grants, &house.tenant);
        let given = |text, seconds| GivenTokens { text, expires_at: house.after(seconds) };
        let new = NewLogin { tenant, user: house.user, provider: "entra", tokens: Some(given(b"upstream", 3_600)) };
        let id = grants.keep_login(&new, house.now).await.unwrap();
        let row = house.store.login_row(tenant, id).await.unwrap().unwrap();
        assert!(!row.tokens.unwrap().windows(8).any(|part| part == b"upstream"));
        let strangers = Grants::new(house.store.clone(), Vault::new(house.store.clone(), Sealer::new(&MasterKey::generate())), terms(), &Metrics::new(10));
        assert_eq!(reason(strangers.login(tenant, id).await), "internal");

        let order = mcp_registry_gateway::grants::Order { login: Some(id), ..house.order("mcp") };
        let tokens = grants.issue(&order, Issue::alone(GrantKind::Service), house.now).await.unwrap();
        let login = async || grants.login(tenant, id).await.unwrap().unwrap();
        let ask_after = async |at: u64| grants.ask_login_after(&login().await, house.after(at)).await.unwrap();
        let due = async |at: u64| {
            grants.logins_due("entra", &[], 10, house.after(at)).await.unwrap()
        };
        assert!(due(899).await.is_empty(), "it is early");
        assert!(due(901).await.is_empty(), "nobody used it");
        house.was_used(&tokens.access, 400).await;
        assert!(due(899).await.is_empty(), "the word is young");
        assert_eq!(grants.next_due("entra").await.unwrap(), Some(house.after(900)));
        let asked = due(901).await;
        assert_eq!((asked.len(), asked[0].id, asked[0].tokens.as_ref().unwrap().as_slice()), (1, id, &b"upstream"[..]));
        assert_eq!((due(902).await.len(), due(1_200).await.len()), (0, 0), "one asks");
        assert!(grants.login_now(tenant, id, house.after(1_200)).await.unwrap().is_none(), "whoever wants it");
        assert_eq!(grants.logins_due("oidc", &[], 10, house.after(1_201)).await.unwrap().len(), 0);
        let mut again = due(1_201).await;
        assert_eq!((again.len(), again[0].cut_off_at), (1, None), "whoever wanted to ask has gone");
        assert!(grants.hold_login(&mut again[0], house.after(1_202)).await.unwrap());
        let again = due(1_502).await;
        assert_eq!((again.len(), again[0].cut_off_at), (1, Some(house.after(1_502))), "whoever asked has gone");
        ask_after(1_400).await;
        assert!(grants.login_due(tenant, id, house.after(1_399)).await.unwrap().is_none());
        assert_eq!((due(1_399).await.len(), due(1_400).await.len()), (0, 1), "it could not be asked");
        ask_after(9_000).await;
        assert!(grants.login_now(tenant, id, house.after(1_401)).await.unwrap().is_some(), "who wants it now has it");

        let (mut late, mut later) = (login().await, login().await);
        let mut asked = grants.login_due(tenant, id, house.after(1_702)).await.unwrap().unwrap();
        let at = house.after(1_710);
        assert!(grants.login_renewed(&mut late, given(b"late", 5_000), at).await.unwrap(), "nobody has newer ones");
        assert_eq!(login().await.tokens.unwrap().as_slice(), b"late");
        assert!(grants.login_renewed(&mut asked, given(b"renewed", 4_503), house.after(903)).await.unwrap());
        assert!(!grants.login_renewed(&mut later, given(b"too late", 5_000), at).await.unwrap(), "others took their place");
        let word = Unanswered { failures: 1, again_at: at, is_firm: false, kind: Kind::Forced, code: "temporary" };
        let ends = NotVouched { state: LoginState::Dead, reason: "late", claims: None, kind: Kind::Forced, code: "late" };
        for late in [&mut late, &mut later] {
            assert!(!grants.hold_login(late, at).await.unwrap(), "it is another's question now");
            assert!(!grants.login_checked(late, Kind::Forced, at).await.unwrap());
            assert!(!grants.login_unanswered(late, &word, at).await.unwrap());
            assert!(!grants.login_refused(late, &ends, at).await.unwrap());
            grants.ask_login_after(late, at).await.unwrap();
            grants.login_is_mute(late, at).await.unwrap();
        }
        assert_eq!((login().await.state, login().await.failures), (LoginState::Active, 0));
        assert!(grants.login_now(tenant, id, house.after(2_001)).await.unwrap().is_none(), "who asks has it alone");
        assert!(grants.login_checked(&asked, Kind::OnDemand, house.after(903)).await.unwrap());
        assert_eq!((due(1_703).await.len(), grants.login(tenant, id).await.unwrap().unwrap().state), (0, LoginState::Active));
        let kept = login().await;
        assert_eq!((kept.tokens.unwrap().as_slice(), kept.checked_at), (&b"renewed"[..], house.after(903)));
        assert_eq!((kept.life.expires_at, kept.cut_off_at), (house.after(4_503), None));

        // Nobody used it for longer than its provider's word is good, but in the last days: ten minutes before its end, as luck has it.
        assert_eq!((due(903 + 2_939).await.len(), due(903 + 3_061).await.len()), (0, 1));
        ask_after(4_000).await;
        grants.rest_unused("entra", house.after(400 + 7 * 86_400 - 1)).await.unwrap();
        assert!(grants.next_due("entra").await.unwrap().is_some());
        grants.rest_unused("entra", house.after(400 + 7 * 86_400 + 1)).await.unwrap();
        assert_eq!(grants.next_due("entra").await.unwrap(), None, "who does not come is not asked about");
        let use_again = async |at: u64| house.store.touch_grants(&[(tokens.grant, micros(house.after(at)))], RECHECK).await.unwrap();
        use_again(500_000).await;
        assert_eq!(grants.next_due("entra").await.unwrap(), Some(house.after(4_000)), "and who comes back is, at once");

        let unanswered = Unanswered { failures: 5, again_at: house.after(600_000), is_firm: true, kind: Kind::Emergency, code: "temporary" };
        assert!(grants.login_unanswered(&login().await, &unanswered, house.after(500_040)).await.unwrap());
        use_again(500_050).await;
        assert_eq!(grants.next_due("entra").await.unwrap(), Some(house.after(600_000)), "not before its time");
        assert!(grants.login_now(tenant, id, house.after(599_999)).await.unwrap().is_none(), "nor for an administrator");
        let shown = grants.credentials(tenant, house.user, house.after(500_050)).await.unwrap();
        assert_eq!((shown[0].failing, shown[0].last.last_code.as_deref()), (true, Some("temporary")));

        let (state, mut asked) = (LoginState::NeedsInteraction, login().await);
        let said = NotVouched { state, reason: "AADSTS50076", claims: Some("{}"), kind: Kind::Forced, code: "AADSTS50076" };
        assert!(grants.login_refused(&login().await, &said, house.after(904)).await.unwrap());
        let ended = login().await;
        assert_eq!((ended.state, ended.claims.as_deref(), ended.tokens.is_some()), (state, Some("{}"), false));
        assert!(!grants.login_renewed(&mut asked, given(b"too late", 5_000), at).await.unwrap(), "it has ended");
        let dead = NotVouched { state: LoginState::Dead, claims: None, ..said };
        assert!(grants.login_refused(&login().await, &dead, house.after(905)).await.unwrap());
        assert!(grants.login(tenant, id).await.unwrap().unwrap().tokens.is_none());
        assert_eq!(grants.next_due("entra").await.unwrap(), None);

        let end = End { reason: EndReason::Error, detail: "provider" };
        assert_eq!(grants.end(tenant, Ids::Login(id), end, house.after(906)).await.unwrap().len(), 1);
        grants.sweep(house.after(4_000), |_| {}).await.unwrap();
        let queue = grants.refresh_figures(Some(tenant), false, 0, house.now).await.unwrap().queue;
        assert_eq!((queue.watched, queue.parked), (0, 1), "the person has not come back");
        let new = NewLogin { tokens: Some(given(b"another", 3_600)), ..new };
        grants.keep_login(&new, house.after(4_001)).await.unwrap();
        grants.sweep(house.after(4_002), |_| {}).await.unwrap();
        assert!(grants.login(tenant, id).await.unwrap().is_none(), "nothing rests on it");
    }
}

on_both! {
    async fn what_the_next_sign_in_must_show_waits_for_it_and_ends_nothing(db) {
        let house = House::open(db).await;
        let (grants, tenant) = (&house.grants, &house.tenant);
        let tokens = GivenTokens { text: b"upstream", expires_at: house.after(3600) };
        let new = NewLogin { tenant, user: house.user, provider: "entra", tokens: Some(tokens) };
        let id = grants.keep_login(&new, house.now).await.unwrap();
        let order = mcp_registry_gateway::grants::Order { login: Some(id), ..house.order("mcp") };
        let grant = grants.issue(&order, Issue::alone(GrantKind::Service), house.now).await.unwrap().grant;
        let login = grants.login_of_grant(tenant, grant).await.unwrap().unwrap();
        assert_eq!((login.id, login.tokens.as_ref().unwrap().as_slice()), (id, &b"upstream"[..]));
        assert!(grants.login_of_grant(tenant, Uuid::now_v7()).await.unwrap().is_none());

        assert!(grants.login_to_ask(&login, house.after(1)).await.unwrap().is_some(), "whenever it was asked about");
        assert!(grants.login_to_ask(&login, house.after(2)).await.unwrap().is_none(), "one asks");
        let login = grants.login(tenant, id).await.unwrap().unwrap();
        assert!(grants.login_checked(&login, Kind::OnDemand, house.after(3)).await.unwrap());
        assert!(grants.login_to_ask(&login, house.after(4)).await.unwrap().is_none(), "somebody has asked since it was read");

        let other = grants.issue(&order, Issue::alone(GrantKind::Service), house.now).await.unwrap().grant;
        let below = Issue { parent: Some(grant), ..Issue::alone(GrantKind::Service) };
        let below = grants.issue(&order, below, house.now).await.unwrap().grant;
        let wants = async |grant| grants.wants_person(tenant, id, grant).await.unwrap();
        let park = async |grant, claims: &str| {
            let login = grants.login(tenant, id).await.unwrap().unwrap();
            grants.park_claims(&login, grant, claims).await.unwrap();
        };
        let checked = async || {
            let login = grants.login(tenant, id).await.unwrap().unwrap();
            assert!(grants.login_checked(&login, Kind::OnDemand, house.after(5)).await.unwrap());
        };
        assert!(!wants(grant).await);
        park(grant, "{}").await;
        checked().await;
        assert!(!wants(other).await, "nothing that was called on another grant wants anything");
        assert!(wants(grant).await, "that the provider vouches does not meet it");
        checked().await;
        park(grant, "{}").await;
        assert!(!wants(grant).await, "it is said once, however often it is wanted");
        park(other, "{}").await;
        assert!(wants(other).await && !wants(grant).await, "to each who is concerned");
        park(below, "{\"more\":1}").await;
        assert!(wants(grant).await, "something else is wanted, of what was given on this one");
        assert!(!wants(other).await);
        park(grant, &"x".repeat(2_001)).await;
        assert!(!wants(grant).await, "what no address can hold is left out");
        grants.claims_are_tried(tenant, house.user, "entra").await.unwrap();
        assert!(grants.parked_claims(tenant, house.user, "entra").await.unwrap().is_none(), "it is asked for once");
        park(grant, "{}").await;
        let kept = grants.login(tenant, id).await.unwrap().unwrap();
        assert_eq!((kept.state, kept.tokens.is_some()), (LoginState::Active, true));
        assert_eq!(grants.parked_claims(tenant, house.user, "entra").await.unwrap().as_deref(), Some("{}"));
        grants.claims_were_met(tenant, house.user, "entra").await.unwrap();
        assert!(!wants(grant).await);

        let end = End { reason: EndReason::Logout, detail: "revoked" };
        grants.end(tenant, Ids::Login(id), end, house.after(6)).await.unwrap();
        assert!(grants.login_of_grant(tenant, grant).await.unwrap().is_none(), "the session has ended");
    }
}

on_both! {
    async fn what_was_agreed_to_is_remembered_for_exactly_that(db) {
        let house = House::open(db).await;
        let consent = Consent {
            tenant: &house.tenant, user: house.user, client_id: "client", redirect_uri: "https://a.example.com/cb",
            resource: RESOURCE, scopes: ScopeSet::parse("mcp offline_access").unwrap(),
        };
        assert!(!house.grants.has_consent(&consent).await.unwrap());
        house.grants.remember_consent(&consent, house.now).await.unwrap();
        let has = async |consent: Consent<'_>| house.grants.has_consent(&consent).await.unwrap();
        assert!(has(consent).await && has(Consent { scopes: ScopeSet::DEFAULT, ..consent }).await);
        for other in [
            Consent { scopes: ScopeSet::parse("mcp admin").unwrap(), ..consent },
            Consent { client_id: "other", ..consent },
            Consent { redirect_uri: "https://a.example.com/cb/", ..consent },
            Consent { resource: "https://gateway.example.com/api/v1", ..consent },
            Consent { user: Uuid::nil(), ..consent },
        ] {
            assert!(!has(other).await, "{other:?}");
        }
        house.grants.forget_consents(&house.tenant, house.user, Some("client")).await.unwrap();
        assert!(!has(consent).await);
    }
}

on_both! {
    async fn an_assertion_is_shown_once(db) {
        let house = House::open(db).await;
        let spend = async |issuer, jti| house.grants.spend_assertion(issuer, jti, house.after(60)).await.unwrap();
        assert!(spend("a", "b c").await);
        assert!(!spend("a", "b c").await);
        assert!(spend("a b", "c").await, "names do not run into one another");
        house.grants.sweep(house.after(60), |_| {}).await.unwrap();
        assert!(spend("a", "b c").await, "it has expired by itself");
    }
}

fn step(house: &House, name: &str, seconds: u64) -> Step {
    Step::good(name, "é".repeat(300), house.after(seconds))
}

on_both! {
    async fn a_trace_tells_what_happened_within_its_bounds(db) {
        let house = House::open(db).await;
        let grants = &house.grants;
        let client = TraceNote { client_id: Some("client"), ..TraceNote::default() };
        let id = grants.trace(vec![step(&house, "authorize", 0)], client).unwrap();
        let silent = grants.trace(vec![step(&house, "authorize", 1)], TraceNote::default()).unwrap();
        let again = async |at| {
            grants.trace_steps(id, [step(&house, "again", at)], TraceNote::default());
            grants.write_traces().await;
        };
        futures_util::future::join_all((0..80).map(again)).await;
        let (tenant, user) = (Some(&house.tenant), Some(house.user));
        let note = TraceNote { tenant, user, outcome: Some(Outcome::Success), ..TraceNote::default() };
        grants.trace_steps(id, [step(&house, "token", 90)], note);
        grants.trace_steps(Uuid::nil(), [step(&house, "token", 90)], note);

        let list = async |filter| grants.traces(filter, None, 10).await.unwrap();
        let both = list(TraceFilter::default()).await;
        assert_eq!(both.iter().map(|trace| trace.id).collect::<Vec<_>>(), [id, silent]);
        assert_eq!((both[0].steps.len(), both[0].outcome.as_str(), both[0].user), (64, "success", Some(house.user)));
        assert_eq!((both[0].steps[0].detail.len(), both[0].client_id.as_deref()), (400, Some("client")));
        assert_eq!(list(TraceFilter { tenant: Some(&house.tenant), ..TraceFilter::default() }).await.len(), 1);
        assert_eq!(list(TraceFilter { user: Some("00000000-0000-0000-0000-000000000000"), ..TraceFilter::default() }).await.len(), 0);
        assert_eq!(list(TraceFilter { client: Some("CLIENT"), ..TraceFilter::default() }).await.len(), 1);
        assert_eq!(list(TraceFilter { client: Some("c_ient"), ..TraceFilter::default() }).await.len(), 0);
        assert_eq!(list(TraceFilter { since: Some(house.after(90)), ..TraceFilter::default() }).await.len(), 1);
        let behind = Some((house.after(90), id));
        assert_eq!(grants.traces(TraceFilter::default(), behind, 10).await.unwrap()[0].id, silent);

        grants.sweep(house.after(1_000), |_| {}).await.unwrap();
        let abandoned = TraceFilter { outcomes: &[Outcome::Failure, Outcome::Abandoned], ..TraceFilter::default() };
        assert_eq!(list(abandoned).await[0].id, silent);
        assert_eq!(house.store.purge_traces(0, 1, 0).await.unwrap(), 1);
        assert_eq!(list(TraceFilter::default()).await[0].id, id, "of nobody none stay");
        grants.sweep(house.after(8 * 86_400), |_| {}).await.unwrap();
        assert!(list(TraceFilter::default()).await.is_empty());
    }
}

on_both! {
    async fn attempts_of_nobody_push_out_none_of_people_who_are_known(db) {
        let house = House::open(db).await;
        let begun = |at: u64, note: TraceNote<'static>| {
            house.grants.trace(vec![step(&house, "authorize", at)], note).unwrap()
        };
        let none = TraceNote::default();
        let ada = begun(1, TraceNote { user: Some(house.user), ..none });
        let refused = begun(2, TraceNote { username: Some("bob@example.com"), ..none });
        for at in 3..20 {
            begun(at, none);
        }
        let last = begun(20, none);
        house.grants.write_traces().await;
        assert_eq!(house.store.purge_traces(0, 2, 1).await.unwrap(), 17);
        let left = house.grants.traces(TraceFilter::default(), None, 30).await.unwrap();
        assert_eq!(left.iter().map(|trace| trace.id).collect::<Vec<_>>(), [last, refused, ada]);
        assert_eq!(house.store.purge_traces(0, 1, 1).await.unwrap(), 1);
        assert_eq!(house.store.purge_traces(0, 1, 1).await.unwrap(), 0);
    }
}

on_both! {
    async fn whoever_gives_up_writing_traces_loses_nothing_and_doubles_nothing(db) {
        let house = House::open(db).await;
        let grants = &house.grants;
        let id = grants.trace(vec![step(&house, "authorize", 0)], TraceNote::default()).unwrap();
        for (polls, name) in ["client", "request", "consent", "account", "code", "token"].into_iter().enumerate() {
            grants.trace_steps(id, [step(&house, name, polls as u64 + 1)], TraceNote::default());
            let mut writing = Box::pin(grants.write_traces());
            for _ in 0..polls * 2 {
                if futures_util::poll!(&mut writing).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(writing);
        }
        let tenant = TraceFilter::default();
        let whole = grants.traces(tenant, None, 10).await.unwrap().remove(0);
        let names: Vec<_> = whole.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["authorize", "client", "request", "consent", "account", "code", "token"]);
    }
}

on_both! {
    async fn notes_of_sign_ins_have_room_for_so_many_and_are_counted_when_they_are_lost(db) {
        let house = House::open(db).await;
        let metrics = Metrics::new(10);
        let grants = Grants::new(house.store.clone(), Vault::new(house.store.clone(), Sealer::new(&MasterKey::generate())), terms(), &metrics);
        let begin = || grants.trace(vec![step(&house, "authorize", 0)], TraceNote::default());
        let lost = |reason| Counter::get(&metrics.sign_in_notes_dropped.with([reason]));
        let mut noted = 0;
        while begin().is_some() {
            noted += 1;
        }
        assert_eq!((lost("full"), lost("database")), (1, 0));
        grants.write_traces().await;
        assert_eq!(grants.traces(TraceFilter::default(), None, 10_000).await.unwrap().len(), noted);
        let strange = TraceNote { username: Some("a\0b"), ..TraceNote::default() };
        grants.trace(vec![step(&house, "authorize\0", 0)], strange).unwrap();
        grants.write_traces().await;
        assert_eq!((lost("full"), lost("database")), (1, 0), "there is room again, for whatever somebody writes");
        begin().unwrap();
        house.store.close().await;
        grants.write_traces().await;
        assert_eq!(lost("database"), 1);
    }
}

#[tokio::test]
async fn what_ends_here_is_announced_to_others_and_is_no_change_of_the_registry() {
    let Some(db) = crate::store_databases::Database::postgresql().await else { return };
    let house = House::open(&db).await;
    let other: Store = db.open().await;
    let mut announcements = other.announcements().await.unwrap().unwrap();
    let tokens = house.tokens("mcp").await;
    let end = End { reason: EndReason::Logout, detail: "revoked" };
    house.grants.end(&house.tenant, Ids::One(tokens.grant, None), end, house.now).await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(20), announcements.next()).await.unwrap().unwrap();
    assert_eq!((heard.ends, heard.registry), (true, false));
}
