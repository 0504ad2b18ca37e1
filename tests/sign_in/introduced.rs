//! People whom their identity provider introduces to a client, and tokens of that provider exchanged: from end to end against the
//! stand-in for Entra ID, which plays an identity provider that introduces people.

use http::Method;
use serde_json::{Value, json};
use testkit::browser::Browser;
use testkit::client::{Client, Request};
use testkit::entra::{CONTOSO, Entra, GATEWAY, SECRETS};
use url::form_urlencoded::Serializer;

use crate::assertions::with;
use crate::entra::{ALICE, BOB, CALLBACK, behind, signed_in};
use crate::exchange::{broker, exchange};
use crate::world::World;

const BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// Posts a form to the stand-in's token endpoint.
async fn post(entra: &Entra, fields: &[(&str, &str)]) -> Value {
    let body = Serializer::new(String::new()).extend_pairs(fields).finish();
    let request = Request::new(Method::POST, body.into())
        .path(&format!("/{CONTOSO}/oauth2/v2.0/token"))
        .header("content-type", "application/x-www-form-urlencoded");
    let text = Client::new(entra.base_url()).send(request).await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap()
}

/// An ID token of somebody who signs in to a client at the identity provider; the client is the gateway's application there.
async fn id_token(entra: &Entra, user: &str) -> String {
    let query = Serializer::new(String::new())
        .extend_pairs([
            ("client_id", GATEWAY),
            ("response_type", "code"),
            ("redirect_uri", CALLBACK),
            ("scope", "openid profile email"),
            ("state", "s"),
            ("code_challenge", &mcp_registry_gateway::grants::challenge_of(testkit::sign_in::VERIFIER)),
            ("code_challenge_method", "S256"),
        ])
        .finish();
    let mut browser = Browser::new().stop_at(CALLBACK);
    let page = browser.open(&format!("{}/{CONTOSO}/oauth2/v2.0/authorize?{query}", entra.base_url())).await.unwrap();
    let code = entra.sign_in(&mut browser, page, user).await.unwrap().param("code").unwrap();
    let given = post(
        entra,
        &[
            ("grant_type", "authorization_code"),
            ("client_id", GATEWAY),
            ("client_secret", SECRETS[0]),
            ("code", &code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", testkit::sign_in::VERIFIER),
        ],
    )
    .await;
    given["id_token"].as_str().unwrap_or_else(|| panic!("{given}")).to_owned()
}

/// What the identity provider says when it introduces them (RFC 8693, identity assertion grant section 4.3).
async fn introduction(entra: &Entra, world: &World, user: &str, resource: &str) -> String {
    let token = id_token(entra, user).await;
    let given = post(
        entra,
        &[
            ("grant_type", EXCHANGE),
            ("client_id", GATEWAY),
            ("client_secret", SECRETS[0]),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:id-jag"),
            ("subject_token", &token),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
            ("audience", &world.url),
            ("resource", resource),
            ("scope", "mcp chat.read"),
        ],
    )
    .await;
    assert_eq!(given["issued_token_type"], "urn:ietf:params:oauth:token-type:id-jag", "{given}");
    given["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_of_a_company_is_introduced_to_a_client_without_a_page() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let world = World::start().await;
    let rules = json!({"rules": [{"audience": world.url, "clientId": "editor"}]});
    entra.post("/_sim/idjag-policy", rules).await.unwrap();
    let issuer = format!("{}/{CONTOSO}/v2.0", entra.base_url());
    let trust =
        json!({"name": "corp", "issuer": issuer, "profiles": ["id_jag"], "role": "user", "subject_claim": "oid"});
    world.rest("POST", "/trusted-issuers", trust).await.expect(201);
    let order = json!({"client_id": "editor", "name": "Editor", "kind": "confidential", "grant_types": [BEARER]});
    let made = world.rest("POST", "/oauth-clients", order).await.expect(201).json();
    let secret = made["client_secret"].as_str().unwrap();
    let show = async |assertion: &str| {
        let fields =
            [("grant_type", BEARER), ("client_id", "editor"), ("client_secret", secret), ("assertion", assertion)];
        world.token(&fields).await
    };

    let first = introduction(&entra, &world, BOB, &world.uri("/api/v1")).await;
    let given = show(&first).await.expect(200).json();
    assert_eq!((&given["scope"], given.get("refresh_token")), (&json!("mcp"), None));
    let me = world.get("/api/v1/me", given["access_token"].as_str().unwrap()).await.expect(200).json();
    assert_eq!((&me["role"], &me["session_type"]), (&json!("user"), &json!("oauth")));
    assert_eq!(show(&first).await.error().1, "invalid_grant", "shown before");

    // For somebody else, it is refused there already.
    let rules = json!({"rules": [{"audience": world.url, "clientId": "another"}]});
    entra.post("/_sim/idjag-policy", rules).await.unwrap();
    let third = introduction(&entra, &world, BOB, &world.uri("/mcp")).await;
    assert!(show(&third).await.text.contains("another client"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_in_here_keeps_the_role_of_signing_in_when_introduced() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let world = behind(&entra).await;
    let rules = json!({"rules": [{"audience": world.url, "clientId": "editor"}]});
    entra.post("/_sim/idjag-policy", rules).await.unwrap();
    let issuer = format!("{}/{CONTOSO}/v2.0", entra.base_url());
    let people = json!({"role": "tenant_admin", "subject_claim": "oid"});
    let trust = with(json!({"name": "corp", "issuer": issuer, "profiles": ["id_jag"]}), people);
    world.rest("POST", "/trusted-issuers", trust).await.expect(201);
    let order = json!({"client_id": "editor", "name": "Editor", "kind": "confidential", "grant_types": [BEARER]});
    let made = world.rest("POST", "/oauth-clients", order).await.expect(201).json();
    let secret = made["client_secret"].as_str().unwrap();

    let (refresh, _) = signed_in(&world, &entra, ALICE).await;
    let token = world.refresh(&refresh, &[]).await.expect(200).json()["access_token"].as_str().unwrap().to_owned();
    let direct = world.get("/api/v1/me", &token).await.expect(200).json();
    assert_eq!(direct["role"], "admin");
    let introduced = async |user: &str| {
        let jag = introduction(&entra, &world, user, &world.uri("/api/v1")).await;
        let fields = [("grant_type", BEARER), ("client_id", "editor"), ("client_secret", secret), ("assertion", &jag)];
        world.token(&fields).await
    };
    let bob = introduced(BOB).await;
    assert_eq!(bob.error(), (400, "invalid_grant".to_owned()), "he never signed in");
    assert!(bob.text.contains("sign in at this gateway once"), "{}", bob.text);
    let given = introduced(ALICE).await.expect(200).json();
    let me = world.get("/api/v1/me", given["access_token"].as_str().unwrap()).await.expect(200).json();
    assert_eq!((&me["user_id"], &me["role"]), (&direct["user_id"], &json!("admin")), "one person, one account");
    assert_eq!(world.get("/api/v1/me", &token).await.expect(200).json()["role"], "admin");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_entra_for_the_gateway_is_exchanged_for_one_that_may_less() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let world = behind(&entra).await;
    let secret = broker(&world, "broker", &["mcp"]).await;
    let me = ("broker", secret.as_str());
    let files = world.uri("/mcp/files");
    let token = entra.token(ALICE, json!({"ttl": 120})).await.unwrap();
    let jwt = ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt");
    for more in [&[("resource", files.as_str())][..], &[("resource", &files), jwt]] {
        let given = exchange(&world, me, &token, more).await.expect(200).json();
        assert_eq!((&given["scope"], given.get("refresh_token")), (&json!("mcp"), None));
        assert!((1..=120).contains(&given["expires_in"].as_i64().unwrap()), "no longer than Entra's: {given}");
        let narrow = given["access_token"].as_str().unwrap();
        world.get("/mcp", narrow).await.expect(401);
        assert_ne!(world.get("/mcp/files", narrow).await.status, 401);
    }
    let api = world.uri("/api/v1");
    assert_eq!(
        exchange(&world, me, &token, &[("scope", "admin"), ("resource", &api)]).await.error().1,
        "invalid_scope"
    );
    for wrong in [
        entra.token(ALICE, json!({"claims": {"aud": "api://orders"}})).await.unwrap(),
        entra.token(ALICE, json!({"attack": "alg-none"})).await.unwrap(),
        entra.token(ALICE, json!({"attack": "hs256-public-key"})).await.unwrap(),
        entra.token(ALICE, json!({"attack": "foreign-key"})).await.unwrap(),
        entra.token(ALICE, json!({"ttl": -600})).await.unwrap(),
    ] {
        assert_eq!(exchange(&world, me, &wrong, &[]).await.error(), (400, "invalid_request".to_owned()));
    }
}
