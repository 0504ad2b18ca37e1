//! The provider (Entra's stand-in) is asked again about people, and what comes back is not plain.

use mcp_registry_gateway::grants::{LoginState, Refusal};
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::store::now;
use serde_json::json;
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use testkit::entra::{CONTOSO, Entra};
use time::Duration;
use uuid::Uuid;

use crate::entra::{ALICE, BOB, CALLBACK, behind, signed_in};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_is_good_once_is_kept_whatever_comes_with_it() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let (world, tenant) = (behind(&entra).await, TenantId::default_tenant());
    let (_, login) = signed_in(&world, &entra, BOB).await;
    entra.post("/_sim/config", json!({"rotation": "strict"})).await.unwrap();
    // The identity that comes with the new tokens is signed by a key that nobody here knows yet.
    entra.post("/_sim/keys/rotate", json!({"tenant": CONTOSO, "mode": "emergency"})).await.unwrap();
    let mut before = Vec::new();
    for hours in 1..4 {
        world.app.vouch(&tenant, login, now() + Duration::hours(hours)).await.unwrap();
        let kept = world.app.grants.login(&tenant, login).await.unwrap().unwrap();
        assert_eq!((kept.state, kept.reason), (LoginState::Active, None));
        let tokens = kept.tokens.unwrap().to_vec();
        assert!(tokens != before, "those that came the last time");
        before = tokens;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_could_not_be_asked_about_is_due_soon_and_nobody_else_is_asked_about_meanwhile() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let tenant = TenantId::default_tenant();
    // Half a minute, half as much more or less.
    let throttled = json!({"status": 429, "retry_after": 120});
    for (action, not_before, then) in [(throttled, 119, 150), (json!({"status": 503}), 14, 46)] {
        let world = behind(&entra).await;
        let logins = [signed_in(&world, &entra, ALICE).await.1, signed_in(&world, &entra, BOB).await.1];
        let grants = &world.app.grants;
        let asked = async || entra.log("/token").await.unwrap().len();
        let before = asked().await;
        let fault =
            json!({"match": {"endpoint": "token", "grant_type": "refresh_token"}, "times": 1, "action": action});
        entra.post("/_sim/faults", fault).await.unwrap();
        let begun = now();
        world.app.refresh_all().await.unwrap();
        assert!(asked().await - before <= 2, "{action}: one or, on the way to the next run, two were asked about");
        for id in logins {
            let login = grants.login(&tenant, id).await.unwrap().unwrap();
            assert_eq!(login.state, LoginState::Active, "{action}");
        }
        if action["status"] == 429 {
            assert_eq!(asked().await - before, 1, "one question, and then nobody asks for two minutes");
            world.app.refresh_all().await.unwrap();
            assert_eq!(asked().await - before, 1);
        }
        let due = async |seconds| {
            let at = begun + Duration::seconds(seconds);
            let mut due = 0;
            for id in logins {
                due += usize::from(grants.login_due(&tenant, id, at).await.unwrap().is_some());
            }
            due
        };
        // Until then one of them waits for the provider, and afterwards nobody.
        assert!(due(not_before).await < 2, "{action}");
        assert!(due(then).await >= 1, "{action}: soon, and not after another quarter of an hour");
    }

    let world = behind(&entra).await;
    let (refresh, login) = signed_in(&world, &entra, BOB).await;
    entra.post(&format!("/_sim/users/{BOB}/disable"), json!({})).await.unwrap();
    world.app.refresh_all().await.unwrap();
    assert_eq!(world.app.grants.login(&tenant, login).await.unwrap().unwrap().state, LoginState::Dead);
    assert_eq!(world.refresh(&refresh, &[]).await.error(), (400, "invalid_grant".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_of_a_tenant_that_takes_none_any_longer_has_nothing_left() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let (world, tenant) = (behind(&entra).await, TenantId::default_tenant());
    let (refresh, login) = signed_in(&world, &entra, "erin@fabrikam.onmicrosoft.com").await;
    world.rest("PATCH", "/admin/tenants/default", json!({"guests": false})).await.expect(200);
    assert_eq!(world.refresh(&refresh, &[]).await.error(), (400, "invalid_grant".to_owned()));
    assert_eq!(world.app.grants.login(&tenant, login).await.unwrap().unwrap().state, LoginState::Dead);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_who_was_not_written_down_as_one_has_no_key_left_either() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let (world, tenant) = (behind(&entra).await, TenantId::default_tenant());
    let (_, login) = signed_in(&world, &entra, "erin@fabrikam.onmicrosoft.com").await;
    let user = world.app.grants.login(&tenant, login).await.unwrap().unwrap().user;
    let username = world.app.store.user(&tenant, user).await.unwrap().unwrap().username;
    let order = json!({"name": "a script", "username": username, "servers": ["*"], "tools": ["*"]});
    let key = world.rest("POST", "/keys", order).await.expect(201).json()["key"].as_str().unwrap().to_owned();
    // As accounts are that were made before guests were told from others.
    raw(&world).await.execute("UPDATE users SET guest = FALSE").await.unwrap();
    world.rest("PATCH", "/admin/tenants/default", json!({"guests": false})).await.expect(200);
    world.get("/api/v1/me", &key).await.expect(200);
    world.app.refresh_all().await.unwrap();
    assert_eq!(world.app.grants.login(&tenant, login).await.unwrap().unwrap().state, LoginState::Dead);
    world.get("/api/v1/me", &key).await.expect(401);
}

pub async fn raw(world: &World) -> SqliteConnection {
    let file = world.app.settings.data.data_dir.join("gateway.sqlite");
    SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap()
}

/// The database of a gateway, in which a trigger stands in the way of a change.
struct Broken(SqliteConnection);

impl Broken {
    async fn at(world: &World, trigger: &'static str) -> Self {
        let mut raw = raw(world).await;
        raw.execute(trigger).await.unwrap();
        Self(raw)
    }

    async fn mend(mut self) {
        self.0.execute("DROP TRIGGER broken").await.unwrap();
    }
}

const NO_END: &str =
    "CREATE TRIGGER broken BEFORE UPDATE OF ended_at ON grants BEGIN SELECT RAISE(ABORT, 'broken'); END";
const NO_TOKENS: &str =
    "CREATE TRIGGER broken BEFORE UPDATE OF tokens ON logins BEGIN SELECT RAISE(ABORT, 'broken'); END";

/// What comes of asking about a login, as soon as it is due: within seconds, and not when the last question is forgotten.
async fn is_asked_about(world: &World, login: Uuid) -> Result<(), Refusal> {
    let tenant = TenantId::default_tenant();
    let asked = async {
        loop {
            world.app.vouch(&tenant, login, now()).await?;
            let kept = world.app.grants.login(&tenant, login).await?.unwrap();
            if now() - kept.checked_at < Duration::minutes(1) {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), asked).await.expect("it is due soon")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_the_database_breaks_off_is_made_up_for() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let (world, tenant) = (behind(&entra).await, TenantId::default_tenant());
    let (refresh, login) = signed_in(&world, &entra, BOB).await;
    let state = async || world.app.grants.login(&tenant, login).await.unwrap().unwrap().state;
    let broken = Broken::at(&world, NO_END).await;
    entra.post(&format!("/_sim/users/{BOB}/disable"), json!({})).await.unwrap();
    world.app.vouch(&tenant, login, now()).await.unwrap_err();
    assert_eq!(state().await, LoginState::Active, "sessions go on that nothing else would end");
    broken.mend().await;
    let refused = is_asked_about(&world, login).await.unwrap_err();
    assert_eq!((refused.reason, state().await), ("disabled", LoginState::Dead));
    assert_eq!(world.refresh(&refresh, &[]).await.error(), (400, "invalid_grant".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_database_does_not_take_is_kept_until_it_does() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let (world, tenant) = (behind(&entra).await, TenantId::default_tenant());
    let (refresh, login) = signed_in(&world, &entra, BOB).await;
    entra.post("/_sim/config", json!({"rotation": "strict"})).await.unwrap();
    let broken = Broken::at(&world, NO_TOKENS).await;
    let told = world.refresh(&refresh, &[]).await;
    assert_eq!(told.error(), (503, "temporarily_unavailable".to_owned()));
    broken.mend().await;
    is_asked_about(&world, login).await.unwrap();
    let kept = world.app.grants.login(&tenant, login).await.unwrap().unwrap();
    assert_eq!((kept.state, kept.reason), (LoginState::Active, None), "the old token is good no more");
    world.refresh(&refresh, &[]).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_not_asked_about_since_the_database_failed_is_due_as_before() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let world = behind(&entra).await;
    let logins = [signed_in(&world, &entra, ALICE).await.1, signed_in(&world, &entra, BOB).await.1];
    let asked = async || entra.log("/token").await.unwrap().len();
    let (before, broken) = (asked().await, Broken::at(&world, NO_TOKENS).await);
    world.app.refresh_all().await.unwrap_err();
    assert_eq!(asked().await - before, 1, "the provider gives nothing more that cannot be stored");
    broken.mend().await;
    for login in logins {
        is_asked_about(&world, login).await.unwrap();
    }
    assert_eq!(asked().await - before, 3);
}
