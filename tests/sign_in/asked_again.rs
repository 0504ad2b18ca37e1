//! The provider (Entra's stand-in) is asked again about people, and what comes back is not plain.

use mcp_registry_gateway::grants::LoginState;
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::store::now;
use serde_json::json;
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use testkit::entra::{CONTOSO, Entra};
use time::Duration;

use crate::entra::{ALICE, BOB, CALLBACK, behind, signed_in};

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
    for (action, wait) in [(json!({"status": 429, "retry_after": 120}), 120), (json!({"status": 503}), 30)] {
        let world = behind(&entra).await;
        let logins = [signed_in(&world, &entra, ALICE).await.1, signed_in(&world, &entra, BOB).await.1];
        let grants = &world.app.grants;
        let asked = async || entra.log("/token").await.unwrap().len();
        let before = asked().await;
        let fault =
            json!({"match": {"endpoint": "token", "grant_type": "refresh_token"}, "times": 1, "action": action});
        entra.post("/_sim/faults", fault).await.unwrap();
        let begun = now();
        world.app.vouch_for_all().await.unwrap();
        assert!(asked().await - before <= 2, "{action}: one or, on the way to the next run, two were asked about");
        for id in logins {
            let login = grants.login(&tenant, id).await.unwrap().unwrap();
            assert_eq!(login.state, LoginState::Active, "{action}");
        }
        if wait == 120 {
            assert_eq!(asked().await - before, 1, "one question, and then nobody asks for two minutes");
            world.app.vouch_for_all().await.unwrap();
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
        assert!(due(wait - 1).await < 2, "{action}");
        assert!(due(wait + 30).await >= 1, "{action}: soon, and not after another quarter of an hour");
    }

    let world = behind(&entra).await;
    let (refresh, login) = signed_in(&world, &entra, BOB).await;
    entra.post(&format!("/_sim/users/{BOB}/disable"), json!({})).await.unwrap();
    world.app.vouch_for_all().await.unwrap();
    assert_eq!(world.app.grants.login(&tenant, login).await.unwrap().unwrap().state, LoginState::Dead);
    assert_eq!(world.refresh(&refresh, &[]).await.error(), (400, "invalid_grant".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_the_database_breaks_off_is_made_up_for() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let (world, tenant) = (behind(&entra).await, TenantId::default_tenant());
    let (refresh, login) = signed_in(&world, &entra, BOB).await;
    let state = async || world.app.grants.login(&tenant, login).await.unwrap().unwrap().state;
    let file = world.app.settings.data.data_dir.join("gateway.sqlite");
    let mut raw = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    let broken = "CREATE TRIGGER broken BEFORE UPDATE OF ended_at ON grants BEGIN SELECT RAISE(ABORT, 'broken'); END";
    raw.execute(broken).await.unwrap();
    entra.post(&format!("/_sim/users/{BOB}/disable"), json!({})).await.unwrap();
    world.app.vouch(&tenant, login, now()).await.unwrap_err();
    assert_eq!(state().await, LoginState::Active, "sessions go on that nothing else would end");
    raw.execute("DROP TRIGGER broken").await.unwrap();
    let refused = world.app.vouch(&tenant, login, now() + Duration::minutes(6)).await.unwrap_err();
    assert_eq!((refused.reason, state().await), ("disabled", LoginState::Dead));
    assert_eq!(world.refresh(&refresh, &[]).await.error(), (400, "invalid_grant".to_owned()));
}
