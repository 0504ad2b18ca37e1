//! Who comes in by an ID token of Entra, and which tokens are refused.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use time::Duration;

use super::super::{Claimed, Class, IdpError, Person};
use super::world::{CLIENT, OTHER_TENANT, PERSON, SECRET, Signer, TENANT, World, now, unsigned, with};
use crate::access::Role;

fn refused(outcome: Result<impl std::fmt::Debug, IdpError>, class: &Class, why: &str) {
    let error = outcome.unwrap_err();
    assert_eq!(&error.class, class, "{error:?}");
    assert!(error.detail.contains(why), "`{why}` is missing in: {}", error.detail);
}

#[tokio::test]
async fn a_good_id_token_says_who_it_is_and_with_which_role() {
    let world = World::entra().await;
    let claims = with(world.id_claims(), json!({"roles": ["Mcp.ServerOwner", "Other"]}));
    let signed_in = world.sign_in(&world.signer.sign(&claims)).await.unwrap();
    let expected = Person {
        issuer: world.issuer(TENANT),
        subject: PERSON.to_owned(),
        directory: Some(TENANT.parse().unwrap()),
        username: "ada@contoso.example".to_owned(),
        display_name: Some("Ada".to_owned()),
        role: Some(Role::ServerOwner),
        claimed: Claimed {
            names: vec!["Mcp.ServerOwner".to_owned(), "Other".to_owned()],
            groups: Vec::new(),
            groups_missing: false,
            everybody: true,
        },
        guest: false,
        app_only: false,
        authenticated_at: None,
    };
    assert_eq!(signed_in.person, expected);
    let tokens = signed_in.tokens.unwrap();
    assert_eq!(tokens.refresh.expose(), "entra-rt");
    assert!(tokens.expires_at > now() + Duration::minutes(60));
}

#[tokio::test]
async fn a_token_that_entra_did_not_sign_is_forged() {
    let world = World::entra().await;
    let claims = world.id_claims();
    let header = |alg: &str| json!({"alg": alg, "typ": "JWT", "kid": world.signer.id});
    let public = world.signer.published(None)["n"].as_str().unwrap().to_owned();
    let mut symmetric = Header::new(Algorithm::HS256);
    symmetric.kid = Some(world.signer.id.clone());
    let by_public_key = jsonwebtoken::encode(&symmetric, &claims, &EncodingKey::from_secret(public.as_bytes()));
    let stranger = Signer::rsa("first");
    let mut pss = world.signer.header();
    pss.alg = Algorithm::PS256;
    let good = world.signer.sign(&claims);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other_claims = unsigned(&header("RS256"), &with(claims.clone(), json!({"oid": CLIENT})), signature);
    for (token, why) in [
        (unsigned(&header("none"), &claims, ""), "algorithm `none`"),
        (unsigned(&header("NONE"), &claims, ""), "algorithm `NONE`"),
        (by_public_key.unwrap(), "algorithm `HS256`"),
        (stranger.sign(&claims), "signature"),
        (world.signer.sign_as(&pss, &claims), "algorithm `PS256`"),
        (other_claims, "signature"),
        (format!("{signed}."), "signature"),
        (signed.to_owned(), "no signed JWT"),
        (format!("{good}.x"), "no signed JWT"),
        ("a".repeat(70_000), "longer than any"),
        (unsigned(&json!({"alg": "RS256", "crit": ["b64"]}), &claims, signature), "crit"),
        (unsigned(&json!({"alg": "RS256", "typ": "at+jwt"}), &claims, signature), "type `at+jwt`"),
    ] {
        refused(world.sign_in(&token).await, &Class::Forged, why);
    }
    world.sign_in(&good).await.unwrap();
}

#[tokio::test]
async fn a_token_for_another_moment_client_or_sign_in_is_forged() {
    let world = World::entra().await;
    let now = now().unix_timestamp();
    for (changes, why) in [
        (json!({"aud": "22222222-2222-4222-8222-222222222222"}), "not for this gateway"),
        (json!({"aud": [CLIENT, "other"]}), "for several"),
        (json!({"azp": "other"}), "another client"),
        (json!({"iss": world.issuer(OTHER_TENANT)}), "the token is of"),
        (json!({"iss": null}), "lacks `iss`"),
        (json!({"nonce": "another"}), "nonce"),
        (json!({"nonce": null}), "nonce"),
        (json!({"tid": "contoso"}), "no directory"),
        (json!({"tid": null}), "no directory"),
        (json!({"exp": now - 301}), "expired"),
        (json!({"exp": null}), "lacks `exp`"),
        (json!({"exp": "soon"}), "lacks `exp`"),
        (json!({"nbf": "soon"}), "no time"),
        (json!({"nbf": now + 330}), "not valid yet"),
        (json!({"ver": "1.0", "iss": format!("{}/sts/{TENANT}/", world.fake.base)}), "version 2.0"),
        (json!({"ver": null}), "neither 1.0 nor 2.0"),
    ] {
        let token = world.signer.sign(&with(world.id_claims(), changes));
        refused(world.sign_in(&token).await, &Class::Forged, why);
    }
    let late = with(world.id_claims(), json!({"exp": now - 270, "nbf": now + 270}));
    world.sign_in(&world.signer.sign(&late)).await.expect("clocks may be five minutes apart");
}

#[tokio::test]
async fn only_people_of_directories_that_are_let_in_come_in() {
    let world = World::entra().await;
    let of = |world: &World, tenant: &str| {
        world.signer.sign(&with(world.id_claims(), json!({"tid": tenant, "iss": world.issuer(tenant)})))
    };
    // A key that is for one directory signs for no other.
    refused(world.sign_in(&of(&world, OTHER_TENANT)).await, &Class::Forged, "another issuer");
    world.publish(&[world.signer.published(None)]);
    world.provider().refresh_keys().await.unwrap();
    refused(world.sign_in(&of(&world, OTHER_TENANT)).await, &Class::Refused, OTHER_TENANT);

    let several = ["--azure-client-secret", SECRET, "--azure-allowed-tenants", TENANT];
    let world = World::entra_with("organizations", &several).await;
    world.sign_in(&of(&world, TENANT)).await.unwrap();
    refused(world.sign_in(&of(&world, OTHER_TENANT)).await, &Class::Refused, OTHER_TENANT);

    let all = ["--azure-client-secret", SECRET, "--azure-allowed-tenants", "*"];
    let world = World::entra_with("organizations", &all).await;
    world.sign_in(&of(&world, OTHER_TENANT)).await.unwrap();
    refused(world.sign_in(&of(&world, "9188040d-6c67-4c5b-b112-36a304b66dad")).await, &Class::Refused, "9188040d");

    let by_name = World::entra_with("contoso.example", &["--azure-client-secret", SECRET]).await;
    by_name.sign_in(&of(&by_name, TENANT)).await.expect("the name stands for the directory of the discovery document");
}

#[tokio::test]
async fn a_key_of_personal_accounts_does_not_sign_for_a_company() {
    let all = ["--azure-client-secret", SECRET, "--azure-allowed-tenants", "*"];
    let world = World::entra_with("organizations", &all).await;
    let token = world.signer.sign(&world.id_claims());
    for issuer in [Some(world.issuer("9188040d-6c67-4c5b-b112-36a304b66dad")), None] {
        world.publish(&[world.signer.published(issuer.as_deref())]);
        world.provider().refresh_keys().await.unwrap();
        refused(world.sign_in(&token).await, &Class::Forged, "another issuer");
    }
    world.publish(&[world.signer.published(Some(&world.issuer("{tenantid}")))]);
    world.provider().refresh_keys().await.unwrap();
    world.sign_in(&token).await.unwrap();
}

#[tokio::test]
async fn a_guest_is_known_as_one() {
    let world = World::entra().await;
    for (changes, guest) in [
        (json!({"acct": 1}), true),
        (json!({"acct": "1"}), true),
        (json!({"idp": format!("https://sts.windows.net/{OTHER_TENANT}/")}), true),
        (json!({"idp": "live.com"}), true),
        (json!({"acct": 0, "idp": format!("https://sts.windows.net/{TENANT}/")}), false),
        (json!({"acct": 0, "idp": format!("https://sts.windows.net/{OTHER_TENANT}/")}), false),
        (json!({"idp": format!("https://sts.windows.net/{TENANT}/")}), false),
    ] {
        let token = world.signer.sign(&with(world.id_claims(), changes.clone()));
        assert_eq!(world.sign_in(&token).await.unwrap().person.guest, guest, "{changes}");
    }
}

#[tokio::test]
async fn who_has_no_role_is_known_and_not_let_in() {
    let roles = ["--azure-client-secret", SECRET, "--azure-role-user", "Mcp.User"];
    let world = World::entra_with(TENANT, &roles).await;
    let signed_in = world.sign_in(&world.signer.sign(&world.id_claims())).await.unwrap();
    assert_eq!(signed_in.person.role, None);
}
