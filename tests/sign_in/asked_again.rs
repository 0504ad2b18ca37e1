//! The provider (Entra's stand-in) is asked again about people, and what comes back is not plain.

use mcp_registry_gateway::grants::LoginState;
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::store::now;
use serde_json::json;
use testkit::entra::{CONTOSO, Entra};
use time::Duration;

use crate::entra::{BOB, CALLBACK, behind, signed_in};

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
