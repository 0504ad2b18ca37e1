//! Access tokens that Entra made for the gateway, shown to it directly.

use serde_json::json;

use super::super::{Class, IdpError, Person};
use super::world::{CLIENT, OTHER_TENANT, PERSON, SECRET, TENANT, World, now, unsigned, with};
use crate::access::Role;

async fn shown(world: &World, token: &str) -> Result<Person, IdpError> {
    world.provider().verify_access_token(token, now()).await
}

async fn refused(world: &World, token: &str, class: Class, why: &str) {
    let error = shown(world, token).await.unwrap_err();
    assert_eq!(error.class, class, "{error:?}");
    assert!(error.detail.contains(why), "`{why}` is missing in: {}", error.detail);
}

fn version_1(world: &World) -> serde_json::Value {
    with(
        world.access_claims(),
        json!({
            "ver": "1.0", "iss": format!("{}/sts/{TENANT}/", world.fake.base), "aud": format!("api://{CLIENT}"),
            "azp": null, "appid": "the-client", "preferred_username": null, "upn": "ada@contoso.example",
        }),
    )
}

fn application(world: &World) -> serde_json::Value {
    with(
        world.access_claims(),
        json!({"scp": null, "sub": PERSON, "azp": "the-daemon", "name": null, "preferred_username": null,
               "roles": ["Mcp.Invoke.All"]}),
    )
}

#[tokio::test]
async fn a_persons_token_of_either_version_gives_the_same_person() {
    let world = World::entra().await;
    let person = shown(&world, &world.signer.sign(&world.access_claims())).await.unwrap();
    assert_eq!((person.subject.as_str(), person.role, person.app_only), (PERSON, Some(Role::User), false));
    assert_eq!(shown(&world, &world.signer.sign(&version_1(&world))).await.unwrap(), person);
    let by_id = with(version_1(&world), json!({"aud": CLIENT}));
    assert_eq!(shown(&world, &world.signer.sign(&by_id)).await.unwrap(), person);
}

#[tokio::test]
async fn an_application_needs_a_role_and_a_person_a_scope() {
    let world = World::entra().await;
    let app = shown(&world, &world.signer.sign(&application(&world))).await.unwrap();
    assert_eq!((app.username.as_str(), app.role, app.app_only), ("the-daemon", Some(Role::User), true));
    let admin = with(application(&world), json!({"idtyp": "app", "roles": ["Mcp.Admin"]}));
    assert_eq!(shown(&world, &world.signer.sign(&admin)).await.unwrap().role, Some(Role::Admin));

    for (claims, why) in [
        (with(application(&world), json!({"roles": null})), "no app role"),
        (with(application(&world), json!({"roles": null, "idtyp": "app"})), "no app role"),
        (with(application(&world), json!({"idtyp": "user"})), "lacks the scope"),
        (with(world.access_claims(), json!({"scp": "access_as_users mcp"})), "lacks the scope"),
        (with(world.access_claims(), json!({"scp": null, "roles": ["Mcp.Admin"]})), "lacks the scope"),
        (with(world.access_claims(), json!({"tid": OTHER_TENANT, "iss": world.issuer(OTHER_TENANT)})), "not let in"),
    ] {
        world.publish(&[world.signer.published(None)]);
        world.provider().refresh_keys().await.unwrap();
        refused(&world, &world.signer.sign(&claims), Class::Refused, why).await;
    }
}

#[tokio::test]
async fn a_token_for_somebody_else_is_refused_with_the_reason() {
    let world = World::entra().await;
    let graph = json!({"alg": "RS256", "typ": "JWT", "kid": "first", "nonce": "abc"});
    let foreign = json!({"aud": "https://graph.microsoft.com"});
    let token = unsigned(&graph, &with(version_1(&world), foreign.clone()), "c2ln");
    refused(&world, &token, Class::Forged, "Microsoft Graph").await;
    let sign = |claims| world.signer.sign(&claims);
    for graph in [format!("{}/graph/", world.fake.base), "00000003-0000-0000-c000-000000000000".to_owned()] {
        let token = sign(with(version_1(&world), json!({"aud": graph})));
        refused(&world, &token, Class::Forged, "Microsoft Graph").await;
    }
    let token = sign(with(world.access_claims(), foreign));
    refused(&world, &token, Class::Forged, "Microsoft Graph").await;
    let token = sign(with(world.access_claims(), json!({"aud": "api://orders"})));
    refused(&world, &token, Class::Forged, "for `api://orders`").await;
    let token = sign(with(world.access_claims(), json!({"aud": format!("api://{CLIENT}")})));
    refused(&world, &token, Class::Forged, "not for this gateway").await;
    let token = sign(with(world.access_claims(), json!({"aud": [CLIENT, "api://orders"]})));
    refused(&world, &token, Class::Forged, "not for this gateway").await;
    refused(&world, &sign(with(world.id_claims(), json!({"nonce": null}))), Class::Forged, "no access token").await;
    refused(&world, "a.b.c", Class::Forged, "no signed JWT").await;
}

#[tokio::test]
async fn a_token_of_version_1_that_does_not_fit_names_what_helps() {
    let world = World::entra().await;
    for changes in [
        json!({"aud": "api://orders"}),
        json!({"iss": format!("https://sts.windows.net/{TENANT}/")}),
        json!({"iss": world.issuer(TENANT)}),
    ] {
        let token = world.signer.sign(&with(version_1(&world), changes));
        refused(&world, &token, Class::Forged, "requestedAccessTokenVersion to 2").await;
    }
}

#[tokio::test]
async fn without_all_groups_nobody_comes_in_by_one() {
    let group = "aaaaaaaa-1111-4000-8000-000000000001";
    let world = World::entra_with(TENANT, &["--azure-client-secret", SECRET, "--azure-role-admin", group]).await;
    let in_it = with(world.access_claims(), json!({"groups": [group]}));
    assert_eq!(shown(&world, &world.signer.sign(&in_it)).await.unwrap().role, Some(Role::Admin));
    let left_out = with(world.access_claims(), json!({"_claim_names": {"groups": "src1"}}));
    refused(&world, &world.signer.sign(&left_out), Class::Refused, "more groups").await;
}
