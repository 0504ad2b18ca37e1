//! Two identity providers at once: what one answers counts at its own callback and at no other (RFC 9700 section 4.4).

use http::Method;
use mcp_registry_gateway::grants::TraceFilter;
use serde_json::{Value, json};
use testkit::entra::{CONTOSO, Entra, GATEWAY, SECRETS};

use crate::world::{World, new_browser};

#[tokio::test]
async fn an_answer_at_the_callback_of_another_provider_is_refused() {
    let Some(entra) = Entra::start(&[]).await.unwrap() else { return };
    let issuer = format!("{}/{CONTOSO}/v2.0", entra.base_url());
    let world = World::with(&[
        "--azure-tenant-id",
        CONTOSO,
        "--azure-client-id",
        GATEWAY,
        "--azure-client-secret",
        SECRETS[0],
        "--azure-authority",
        entra.base_url(),
        "--oidc-issuer",
        &issuer,
        "--oidc-client-id",
        GATEWAY,
        "--oidc-client-secret",
        SECRETS[0],
        "--oidc-role-user=*",
    ])
    .await;
    for provider in ["entra", "oidc"] {
        let uri = json!({ "uri": world.url(&format!("/oauth/callback/{provider}")) });
        entra.post(&format!("/_sim/apps/{GATEWAY}/redirect-uris"), uri).await.unwrap();
    }
    for (asked, answers) in [("entra", "oidc"), ("oidc", "entra")] {
        let (own, other) = [asked, answers].map(|name| world.url(&format!("/oauth/callback/{name}"))).into();
        let mut browser = new_browser().stop_at(&own);
        let consent = browser.open(&world.authorize(&[])).await.unwrap();
        let page = browser.submit(&consent, "decision", &[("decision", &format!("allow:{asked}"))]).await.unwrap();
        let back = entra.sign_in(&mut browser, page, "bob@contoso.onmicrosoft.com").await.unwrap();
        assert!(back.stopped && back.param("code").is_some(), "{asked}: {} {}", back.url, back.text());

        let given = entra.log("/token").await.unwrap().len();
        let elsewhere = format!("{other}?{}", back.url.query().unwrap());
        let mut same = new_browser();
        *same.jar() = browser.jar().clone();
        let refused = same.open(&elsewhere).await.unwrap();
        assert_eq!((refused.status.as_u16(), refused.stopped), (400, false), "{asked} → {answers}: {}", refused.text());
        assert_eq!(entra.log("/token").await.unwrap().len(), given, "its code is shown to nobody");
        let trace = &world.app.grants.traces(TraceFilter::default(), None, 1).await.unwrap()[0];
        let last = trace.steps.last().unwrap();
        assert_eq!((trace.outcome.as_str(), last.reason.as_str()), ("failure", "mix_up"), "{last:?}");

        let late = same.open(back.url.as_str()).await.unwrap();
        assert_eq!(late.status.as_u16(), 400, "and it is over: {}", late.text());
    }
    let users = world.rest(Method::GET, "/users", &Value::Null).await.to_string();
    assert!(!users.contains("bob@"), "{users}");
}
