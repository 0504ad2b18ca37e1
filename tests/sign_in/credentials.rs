//! Each way in which the gateway proves itself to a provider, and a provider that is not called Entra: one whole sign-in.

use std::path::PathBuf;

use serde_json::{Value, json};
use testkit::client::{Client, Request};
use testkit::entra::{CONTOSO, Entra, GATEWAY};
use testkit::sign_in::with_provider;
use uuid::Uuid;

use crate::entra::{ALICE, house_as, house_with};
use crate::world::{World, browser};

/// A file of this test, gone with it.
struct File(PathBuf);

impl File {
    fn with(text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mcp-gateway-credential-{}", Uuid::now_v7()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}

/// Alice signs in by this provider, her program gets tokens, uses and refreshes them; who she is.
async fn whole(world: &World, entra: &Entra, provider: &str) -> Value {
    let mut browser = browser();
    let resource = world.uri("/api/v1");
    let consent = world.consent(&mut browser, &[("resource", &resource), ("scope", "mcp admin")]).await;
    let end = with_provider(&mut browser, &consent, provider, entra, ALICE).await.unwrap();
    let code = end.param("code").unwrap_or_else(|| panic!("{} {}", end.url, end.text()));
    let given = world.redeem(&code).await.expect(200).json();
    let next = world.refresh(given["refresh_token"].as_str().unwrap(), &[]).await.expect(200).json();
    world.get("/api/v1/me", next["access_token"].as_str().unwrap()).await.expect(200).json()
}

/// How the gateway proved itself at the token endpoint.
async fn proofs(entra: &Entra) -> Vec<Value> {
    entra.log("/token").await.unwrap()
}

#[tokio::test]
async fn with_a_certificate() {
    let Some(entra) = Entra::start(&[]).await.unwrap() else { return };
    let made = entra.post(&format!("/_sim/apps/{GATEWAY}/certificate"), json!({})).await.unwrap();
    let file = File::with(made["pem"].as_str().unwrap());
    let world = house_with(&entra, &[&format!("--azure-client-certificate={}", file.0.display())]).await;
    assert_eq!(whole(&world, &entra, "entra").await["role"], "admin");
    assert!(proofs(&entra).await.iter().all(|asked| asked["status"] == 200), "{:?}", proofs(&entra).await);
}

#[tokio::test]
async fn with_a_federated_token() {
    let Some(entra) = Entra::start(&[]).await.unwrap() else { return };
    // The platform's token: that of a managed identity, as the metadata service of a machine gives it.
    let path = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=api%3A%2F%2FAzureADTokenExchange";
    let asked = Request::get().path(path).header("metadata", "true");
    let text = Client::new(entra.base_url()).send(asked).await.unwrap().text().await.unwrap();
    let given: Value = serde_json::from_str(&text).unwrap();
    let rule = json!({"issuerTid": CONTOSO, "subject": given["client_id"], "audience": "api://AzureADTokenExchange"});
    entra.post(&format!("/_sim/apps/{GATEWAY}/fic"), rule).await.unwrap();
    let file = File::with(given["access_token"].as_str().unwrap());
    let world = house_with(&entra, &[&format!("--azure-federated-token-file={}", file.0.display())]).await;
    assert_eq!(whole(&world, &entra, "entra").await["role"], "admin");
    std::fs::write(&file.0, "no token at all").unwrap();
    let mut browser = browser();
    let consent = world.consent(&mut browser, &[]).await;
    let page = with_provider(&mut browser, &consent, "entra", &entra, ALICE).await.unwrap();
    assert_eq!((page.status.as_u16(), page.stopped), (502, false), "{}", page.text());
    assert!(page.text().contains("Sign-in is not set up correctly"), "{}", page.text());
}

#[tokio::test]
async fn with_a_provider_of_openid_connect() {
    let Some(entra) = Entra::start(&[]).await.unwrap() else { return };
    let world = house_as(&entra, "oidc").await;
    let me = whole(&world, &entra, "oidc").await;
    assert_eq!((&me["role"], &me["session_type"]), (&json!("server_owner"), &json!("oauth")), "{me}");
}
