//! What the provider is asked: the browser's way there, redeeming, refreshing, and the gateway's own proof.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use time::Duration;
use url::Url;

use super::super::{Class, Hints, IdpError};
use super::fake::{Asked, Reply};
use super::world::{CALLBACK, CLIENT, PERSON, SECRET, Signer, TENANT, World, now, pem, with};
use crate::access::Role;

fn asked(world: &World) -> Vec<Asked> {
    world.fake.asked(&world.token_path())
}

#[tokio::test]
async fn the_browser_is_sent_with_a_challenge_a_nonce_and_a_state_of_its_own() {
    let world = World::entra().await;
    let hints = Hints { prompt: Some("select_account".to_owned()), claims: Some("{}".to_owned()), login_hint: None };
    let leg = world.provider().begin(&Url::parse(CALLBACK).unwrap(), &hints).await.unwrap();
    let query = |name: &str| leg.url.query_pairs().find(|(own, _)| own == name).map(|(_, value)| value.into_owned());
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(leg.verifier.expose()));
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", CLIENT),
        ("redirect_uri", CALLBACK),
        ("scope", &format!("openid profile offline_access api://{CLIENT}/access_as_user")),
        ("state", leg.state.expose()),
        ("nonce", leg.nonce.expose()),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("prompt", "select_account"),
        ("claims", "{}"),
    ] {
        assert_eq!(query(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!((query("login_hint"), query("resource")), (None, None));
    let again = world.provider().begin(&Url::parse(CALLBACK).unwrap(), &hints).await.unwrap();
    assert!(again.state != leg.state && again.nonce != leg.nonce && again.verifier != leg.verifier);
    assert_eq!(leg.verifier.expose().len(), 43);
    let discovery = world.fake.asked(&world.path("v2.0/.well-known/openid-configuration"));
    assert_eq!(discovery.len(), 1, "what was read is kept");
}

#[tokio::test]
async fn a_code_is_redeemed_with_verifier_secret_and_an_id_of_the_request() {
    let world = World::entra().await;
    assert_eq!(world.providers.token_latency(), None, "nothing was asked");
    world.sign_in(&world.signer.sign(&world.id_claims())).await.unwrap();
    assert!(world.providers.token_latency().is_some());
    let asked = &asked(&world)[0];
    for (name, value) in [
        ("grant_type", "authorization_code"),
        ("code", "the-code-to-redeem"),
        ("redirect_uri", CALLBACK),
        ("code_verifier", "the-verifier"),
        ("client_id", CLIENT),
        ("client_secret", SECRET),
    ] {
        assert_eq!(asked.field(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(asked.field("resource"), None, "Entra refuses one that is not its own");
    uuid::Uuid::parse_str(asked.headers["client-request-id"].to_str().unwrap()).unwrap();
}

#[tokio::test]
async fn a_refresh_says_who_it_is_now_and_keeps_the_newest_token() {
    let world = World::entra().await;
    let claims = with(world.id_claims(), json!({"roles": ["Mcp.Admin"]}));
    let tokens = world.sign_in(&world.signer.sign(&claims)).await.unwrap().tokens.unwrap();
    let tokens: super::super::ProviderTokens =
        serde_json::from_value(serde_json::to_value(&tokens).unwrap()).expect("what is sealed can be read again");
    let refreshed = |claims: Value| {
        let id_token = world.signer.sign(&with(claims, json!({"nonce": null})));
        world.fake.always(
            &world.token_path(),
            Reply::json(
                200,
                &json!({"id_token": id_token, "access_token": "at-2", "refresh_token": "rt-2", "expires_in": "90"}),
            ),
        );
        world.provider().recheck(&tokens, now())
    };
    let again = refreshed(world.id_claims()).await.unwrap();
    assert_eq!(again.person.unwrap().unwrap().role, Some(Role::User), "the role was taken back");
    assert_eq!(again.tokens.refresh.expose(), "rt-2");
    assert!(again.tokens.expires_at < now() + Duration::minutes(2));
    assert_eq!(asked(&world)[1].field("refresh_token").as_deref(), Some("entra-rt"));

    let somebody_else = with(world.id_claims(), json!({"oid": TENANT}));
    let refused = refreshed(somebody_else).await.unwrap();
    assert_eq!(refused.person.unwrap_err().class, Class::Forged);
    assert_eq!(refused.tokens.refresh.expose(), "rt-2", "the old one may be good once only");

    world.fake.always(&world.token_path(), Reply::json(200, &json!({"access_token": "at-3"})));
    let silent = world.provider().recheck(&tokens, now()).await.unwrap();
    assert_eq!((silent.person.unwrap(), silent.tokens.subject.as_str()), (None, PERSON));
    assert_eq!(silent.tokens.refresh.expose(), "entra-rt", "where no new one comes, the old one stays");
}

/// Answers whoever shows another secret than `good` with `code`.
fn takes_only(world: &World, good: &'static str, code: u64) {
    let token = world.signer.sign(&world.id_claims());
    world.fake.on(&world.token_path(), move |asked| {
        if asked.field("client_secret").as_deref() == Some(good) {
            return Reply::json(200, &json!({"id_token": token}));
        }
        let text = format!("AADSTS{code}: Something about the secret.");
        Reply::json(401, &json!({"error": "invalid_client", "error_codes": [code], "error_description": text}))
    });
}

#[tokio::test]
async fn the_second_secret_is_tried_when_the_first_is_refused_and_shown_first_from_then_on() {
    for code in [7_000_215, 7_000_222] {
        let both = ["--azure-client-secret", SECRET, "--azure-client-secret-next", "gateway-secret-2"];
        let world = World::entra_with(TENANT, &both).await;
        takes_only(&world, "gateway-secret-2", code);
        world.redeem().await.unwrap();
        world.redeem().await.unwrap();
        let shown: Vec<_> = asked(&world).iter().filter_map(|asked| asked.field("client_secret")).collect();
        assert_eq!(shown, [SECRET, "gateway-secret-2", "gateway-secret-2"]);
        assert!(world.provider().credential_refused().is_none());
    }
}

#[tokio::test]
async fn a_refused_credential_is_ours_to_mend_and_stays_known_until_it_is() {
    let world = World::entra().await;
    takes_only(&world, "the-new-secret-1", 7_000_222);
    let IdpError { class, code, .. } = world.redeem().await.unwrap_err();
    assert_eq!((class, code.as_deref()), (Class::OurCredential, Some("AADSTS7000222")));
    assert_eq!(asked(&world).len(), 1);
    assert!(world.provider().credential_refused().unwrap().explained().unwrap().what.contains("expired"));
    takes_only(&world, SECRET, 7_000_222);
    world.redeem().await.unwrap();
    assert!(world.provider().credential_refused().is_none());
}

#[tokio::test]
async fn another_refusal_does_not_try_the_second_secret() {
    let both = ["--azure-client-secret", SECRET, "--azure-client-secret-next", "gateway-secret-2"];
    let world = World::entra_with(TENANT, &both).await;
    takes_only(&world, "gateway-secret-2", 700_016);
    assert_eq!(world.redeem().await.unwrap_err().class, Class::OurCredential);
    assert_eq!(asked(&world).len(), 1);
}

/// A file of this test, gone with it.
struct File(std::path::PathBuf);

impl File {
    fn with(text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("idp-{}", uuid::Uuid::now_v7()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn a_certificate_signs_an_assertion_for_the_token_endpoint_once() {
    let own = Signer::rsa("own");
    let certificate = b"any bytes: only their thumbprint counts";
    let file = File::with(&(pem("CERTIFICATE", certificate) + &own.pem));
    let world = World::entra_with(TENANT, &["--azure-client-certificate", file.path()]).await;
    let token = world.signer.sign(&world.id_claims());
    world.sign_in(&token).await.unwrap();
    world.sign_in(&token).await.unwrap();
    let n = own.published(None);
    let key = DecodingKey::from_rsa_components(n["n"].as_str().unwrap(), n["e"].as_str().unwrap()).unwrap();
    let mut rules = Validation::new(Algorithm::PS256);
    let endpoint = format!("{}{}", world.fake.base, world.token_path());
    rules.set_audience(&[&endpoint]);
    rules.set_issuer(&[CLIENT]);
    let assertions: Vec<_> = asked(&world)
        .iter()
        .map(|asked| {
            let kind = asked.field("client_assertion_type").unwrap();
            assert_eq!(kind, "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
            assert_eq!(asked.field("client_secret"), None);
            jsonwebtoken::decode::<Value>(asked.field("client_assertion").unwrap(), &key, &rules).unwrap()
        })
        .collect();
    let one = &assertions[0];
    assert_eq!(one.header.x5t_s256.as_deref(), Some(&*URL_SAFE_NO_PAD.encode(Sha256::digest(certificate))));
    assert_eq!((&one.claims["sub"], one.header.typ.as_deref()), (&json!(CLIENT), Some("JWT")));
    assert_eq!(one.claims["exp"].as_i64().unwrap() - one.claims["nbf"].as_i64().unwrap(), 300);
    assert_ne!(one.claims["jti"], assertions[1].claims["jti"]);

    std::fs::write(&file.0, own.pem.as_bytes()).unwrap();
    let refused = world.sign_in(&token).await.unwrap_err();
    assert_eq!(refused.class, Class::OurCredential);
    assert!(refused.detail.contains("no certificate"), "{}", refused.detail);
}

#[tokio::test]
async fn a_federated_token_is_read_anew_each_time() {
    let file = File::with("platform-token-1\n");
    let world = World::entra_with(TENANT, &["--azure-federated-token-file", file.path()]).await;
    let token = world.signer.sign(&world.id_claims());
    world.sign_in(&token).await.unwrap();
    std::fs::write(&file.0, "platform-token-2").unwrap();
    world.sign_in(&token).await.unwrap();
    let shown: Vec<_> = asked(&world).iter().filter_map(|asked| asked.field("client_assertion")).collect();
    assert_eq!(shown, ["platform-token-1", "platform-token-2"]);
    std::fs::write(&file.0, "").unwrap();
    assert_eq!(world.sign_in(&token).await.unwrap_err().class, Class::OurCredential);
}

#[tokio::test]
async fn a_discovery_document_of_somebody_else_or_without_https_is_refused() {
    let world = World::entra().await;
    let path = world.path("v2.0/.well-known/openid-configuration");
    world.describe(&path, &world.issuer("{tenantid}"), "/x");
    let begin = || async { world.provider().begin(&Url::parse(CALLBACK).unwrap(), &Hints::default()).await };
    let refused = begin().await.unwrap_err();
    assert_eq!(refused.class, Class::Configuration, "{refused:?}");
    assert_eq!(begin().await.unwrap_err().detail, refused.detail);
    assert_eq!(world.fake.asked(&path).len(), 1, "the failure is remembered for a moment");

    let world = World::entra().await;
    let path = world.path("v2.0/.well-known/openid-configuration");
    let unguarded = json!({
        "issuer": world.issuer(TENANT), "authorization_endpoint": "https://idp.example.com/a",
        "token_endpoint": "http://idp.example.com/t", "jwks_uri": "https://idp.example.com/k",
    });
    world.fake.always(&path, Reply::json(200, &unguarded));
    let refused = world.provider().begin(&Url::parse(CALLBACK).unwrap(), &Hints::default()).await.unwrap_err();
    assert!(refused.detail.contains("no https URL"), "{}", refused.detail);
}
