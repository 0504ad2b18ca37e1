//! A provider that is not Entra.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use url::Url;

use super::super::{Claimed, Class, Hints, IdpError, Person, SignedIn};
use super::fake::Reply;
use super::world::{CALLBACK, NONCE, Signer, World, now, pem, unsigned, with};
use crate::access::Role;

const ROLES: [&str; 6] =
    ["--oidc-roles-claim", "realm_access.roles", "--oidc-role-admin", "ops", "--oidc-role-user", "staff"];

fn claims(world: &World) -> Value {
    let now = now().unix_timestamp();
    json!({
        "iss": format!("{}/realm", world.fake.base), "aud": "gateway", "sub": "u-1", "nonce": NONCE,
        "iat": now, "exp": now + 300, "email": "ada@example.com", "name": "Ada",
        "realm_access": {"roles": ["staff", "ops"]},
    })
}

fn elliptic() -> Signer {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    signer(pair.to_pkcs8v1().unwrap().as_ref(), EncodingKey::from_ec_pem, Algorithm::ES256)
}

fn edwards() -> Signer {
    let pair = Ed25519KeyPair::generate().unwrap();
    signer(pair.to_pkcs8v1().unwrap().as_ref(), EncodingKey::from_ed_pem, Algorithm::EdDSA)
}

fn signer(
    der: &[u8],
    read: impl Fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>,
    algorithm: Algorithm,
) -> Signer {
    let pem = pem("PRIVATE KEY", der);
    let key = read(pem.as_bytes()).unwrap();
    Signer::of("first", pem, key, algorithm)
}

async fn sign_in(world: &World, claims: &Value) -> Result<SignedIn, IdpError> {
    world.sign_in(&world.signer.sign(claims)).await
}

#[tokio::test]
async fn each_algorithm_that_is_taken_lets_people_in() {
    for signer in [Signer::rsa("first"), elliptic(), edwards()] {
        let world = World::oidc(&ROLES, signer).await;
        let person = sign_in(&world, &claims(&world)).await.unwrap().person;
        let expected = Person {
            issuer: format!("{}/realm", world.fake.base),
            subject: "u-1".to_owned(),
            directory: None,
            username: "ada@example.com".to_owned(),
            display_name: Some("Ada".to_owned()),
            role: Some(Role::Admin),
            claimed: person.claimed.clone(),
            guest: false,
            app_only: false,
            authenticated_at: None,
        };
        assert_eq!(person, expected);
        assert!(!person.app_roles.is_empty(), "the values of the roles claim");
    }
    let world = World::oidc(&ROLES, Signer::rsa("first")).await;
    let mut pss = world.signer.header();
    pss.alg = Algorithm::PS256;
    world.sign_in(&world.signer.sign_as(&pss, &claims(&world))).await.unwrap();
}

#[tokio::test]
async fn no_other_algorithm_issuer_audience_or_answer_lets_anybody_in() {
    let world = World::oidc(&ROLES, Signer::rsa("first")).await;
    let good = claims(&world);
    let mut other = world.signer.header();
    other.alg = Algorithm::RS512;
    let mut symmetric = Header::new(Algorithm::HS256);
    symmetric.kid = Some("first".to_owned());
    let by_secret = jsonwebtoken::encode(&symmetric, &good, &EncodingKey::from_secret(world.signer.pem.as_bytes()));
    let issuer = format!("{}/realm/", world.fake.base);
    for (token, why) in [
        (world.signer.sign_as(&other, &good), "`RS512`"),
        (by_secret.unwrap(), "`HS256`"),
        (unsigned(&json!({"alg": "none"}), &good, ""), "`none`"),
        (world.signer.sign(&with(good.clone(), json!({"iss": issuer}))), "the token is of"),
        (world.signer.sign(&with(good.clone(), json!({"aud": "other"}))), "not for this gateway"),
        (world.signer.sign(&with(good.clone(), json!({"aud": ["gateway", "other"]}))), "for several"),
        (world.signer.sign(&with(good.clone(), json!({"azp": "other"}))), "another client"),
        (world.signer.sign(&with(good.clone(), json!({"nonce": "other"}))), "nonce"),
        (world.signer.sign(&with(good.clone(), json!({"sub": ""}))), "names nobody"),
        (Signer::rsa("first").sign(&good), "signature"),
        (elliptic().sign(&good), "in the way of a key"),
    ] {
        let error = world.sign_in(&token).await.unwrap_err();
        assert_eq!(error.class, Class::Forged, "{error:?}");
        assert!(error.detail.contains(why), "`{why}` is missing in: {}", error.detail);
    }
    let several = with(good, json!({"aud": ["gateway", "other"], "azp": "gateway"}));
    sign_in(&world, &several).await.unwrap();
}

#[tokio::test]
async fn roles_are_read_from_the_claim_that_the_operator_named() {
    let world = World::oidc(&ROLES, Signer::rsa("first")).await;
    for (changes, role) in [
        (json!({"realm_access": {"roles": ["staff"]}}), Some(Role::User)),
        (json!({"realm_access": {"roles": "ops"}}), Some(Role::Admin)),
        (json!({"realm_access": {"roles": ["ops,staff", "Ops"]}}), None),
        (json!({"realm_access": ["ops"]}), None),
        (json!({"realm_access": null}), None),
        (json!({"realm_access.roles": ["staff"]}), Some(Role::User)),
    ] {
        let person = sign_in(&world, &with(claims(&world), changes.clone())).await.unwrap().person;
        assert_eq!(person.role, role, "{changes}");
    }
    let everybody = World::oidc(&["--oidc-role-user", "*"], Signer::rsa("first")).await;
    let person = sign_in(&everybody, &claims(&everybody)).await.unwrap().person;
    assert_eq!(person.role, Some(Role::User));
}

#[tokio::test]
async fn a_token_without_a_key_id_is_verified_only_where_one_key_could_have_signed_it() {
    let world = World::oidc(&ROLES, Signer::rsa("first")).await;
    let mut header = world.signer.header();
    header.kid = None;
    let token = world.signer.sign_as(&header, &claims(&world));
    world.publish(&[world.signer.published(None), elliptic().published(None)]);
    world.sign_in(&token).await.unwrap();
    world.publish(&[world.signer.published(None), Signer::rsa("second").published(None)]);
    world.provider().refresh_keys().await.unwrap();
    assert_eq!(world.sign_in(&token).await.unwrap_err().class, Class::Forged);
}

#[tokio::test]
async fn the_secret_is_shown_in_the_way_that_the_provider_names() {
    let secret = ["--oidc-client-secret", "s3cret:of the+gateway", "--oidc-role-user", "*"];
    let world = World::oidc(&secret, Signer::rsa("first")).await;
    sign_in(&world, &claims(&world)).await.unwrap();
    let asked = world.fake.asked(&world.token_path());
    assert_eq!(asked[0].field("client_secret").as_deref(), Some("s3cret:of the+gateway"));

    let world = World::oidc(&secret, Signer::rsa("first")).await;
    let at = |name: &str| format!("{}/realm/{name}", world.fake.base);
    let document = json!({
        "issuer": format!("{}/realm", world.fake.base), "authorization_endpoint": at("authorize"),
        "token_endpoint": at("token"), "jwks_uri": at("keys"),
    });
    world.fake.always("/realm/.well-known/openid-configuration", Reply::json(200, &document));
    sign_in(&world, &claims(&world)).await.unwrap();
    let asked = world.fake.asked(&world.token_path());
    // gateway:s3cret%3Aof+the%2Bgateway
    assert_eq!(asked[0].headers["authorization"], "Basic Z2F0ZXdheTpzM2NyZXQlM0FvZit0aGUlMkJnYXRld2F5");
    assert_eq!(asked[0].field("client_secret"), None);

    let public = World::oidc(&["--oidc-role-user", "*"], Signer::rsa("first")).await;
    sign_in(&public, &claims(&public)).await.unwrap();
    let asked = public.fake.asked(&public.token_path());
    assert_eq!((asked[0].field("client_secret"), asked[0].headers.get("authorization")), (None, None));
}

#[tokio::test]
async fn the_issuer_is_exactly_the_configured_one_and_access_tokens_are_not_taken() {
    let world = World::oidc(&ROLES, Signer::rsa("first")).await;
    world.describe("/realm/.well-known/openid-configuration", &format!("{}/realm/", world.fake.base), "/realm");
    let refused = world.provider().begin(&Url::parse(CALLBACK).unwrap(), &Hints::default()).await.unwrap_err();
    assert_eq!(refused.class, Class::Configuration);
    let token = world.signer.sign(&claims(&world));
    assert_eq!(world.provider().verify_access_token(&token, now()).await.unwrap_err().class, Class::Refused);
    let names: Vec<_> = world.providers.names().into_iter().map(|one| (one.name, one.title)).collect();
    assert_eq!(names, [("oidc", "Single sign-on".to_owned())]);
    assert!(world.providers.get("entra").is_none());
}

#[tokio::test]
async fn who_came_in_without_a_refresh_token_is_not_asked_about_again() {
    let world = World::oidc(&ROLES, Signer::rsa("first")).await;
    let id_token = world.signer.sign(&claims(&world));
    let given = json!({"id_token": id_token, "access_token": "at-1", "expires_in": 300});
    world.fake.always(&world.token_path(), Reply::json(200, &given));
    let came = world.redeem().await.unwrap();
    assert!(came.person.role.is_some() && came.tokens.is_none(), "an access token alone asks nobody: {came:?}");
    let came = sign_in(&world, &claims(&world)).await.unwrap();
    assert_eq!(came.tokens.unwrap().refresh.expose(), "entra-rt");
}
