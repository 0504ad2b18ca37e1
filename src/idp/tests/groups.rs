//! People in more groups than a token holds.

use serde_json::json;

use super::super::{Class, OwnRules};
use super::fake::Reply;
use super::world::{SECRET, TENANT, World, now, with};
use crate::access::{Role, RoleMapping};

const GROUP: &str = "aaaaaaaa-1111-4000-8000-000000000001";
const GRAPH: &str = "/graph/v1.0/me/getMemberObjects";

/// A world in which a group makes administrators, and the claims of somebody with too many groups.
async fn crowded() -> (World, String) {
    let world = World::entra_with(TENANT, &["--azure-client-secret", SECRET, "--azure-role-admin", GROUP]).await;
    let elsewhere = format!("{}/stolen", world.fake.base);
    let claims = json!({"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": elsewhere}}});
    let token = world.signer.sign(&with(world.id_claims(), claims));
    (world, token)
}

#[tokio::test]
async fn groups_that_the_token_leaves_out_are_asked_of_graph_at_its_configured_address() {
    let (world, token) = crowded().await;
    world.fake.always(GRAPH, Reply::json(200, &json!({"value": [GROUP, "aaaaaaaa-1111-4000-8000-000000000002"]})));
    assert_eq!(world.sign_in(&token).await.unwrap().person.role, Some(Role::Admin));
    let asked = world.fake.asked(GRAPH);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].headers["authorization"], "Bearer entra-at");
    let tokens = world.fake.asked(&world.token_path());
    assert_eq!(tokens[1].field("grant_type").as_deref(), Some("refresh_token"));
    assert_eq!(tokens[1].field("scope").as_deref(), Some("GroupMember.Read.All"));
    assert!(world.fake.asked("/stolen").is_empty(), "the address in the token is never called");
}

#[tokio::test]
async fn a_refresh_token_that_is_good_once_is_kept_when_groups_are_asked_for() {
    let (world, token) = crowded().await;
    let answer = |number: usize| {
        let refresh = format!("refresh-token-{number}");
        json!({"id_token": token, "access_token": "entra-at", "refresh_token": refresh, "expires_in": 4000})
    };
    let answers: Vec<_> = (0..6).map(answer).collect();
    let mut given = 0;
    world.fake.on(&world.token_path(), move |asked| {
        let shown = asked.field("refresh_token");
        if given > 0 && shown.as_deref() != answers[given - 1]["refresh_token"].as_str() {
            return Reply::json(400, &json!({"error": "invalid_grant", "error_description": "it was shown before"}));
        }
        given += 1;
        Reply::json(200, &answers[given - 1])
    });
    world.fake.always(GRAPH, Reply::json(200, &json!({"value": [GROUP]})));
    let tokens = world.redeem().await.unwrap().tokens.unwrap();
    let again = world.provider().recheck(&tokens, now()).await.unwrap();
    assert_eq!(again.person.unwrap().unwrap().role, Some(Role::Admin));
    world.fake.always(GRAPH, Reply::json(503, &json!({})));
    let again = world.provider().recheck(&again.tokens, now()).await.unwrap();
    assert_eq!(again.person.unwrap_err().class, Class::Temporary { retry_after: None });
    assert_eq!(again.tokens.refresh.expose(), "refresh-token-5", "also if nothing comes of asking");
}

#[tokio::test]
async fn without_an_answer_of_graph_nobody_signs_in_as_less_than_they_are() {
    let (world, token) = crowded().await;
    let challenge = vec![(
        "www-authenticate",
        r#"Bearer error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnt9fQ==""#.to_owned(),
    )];
    let answer = |status, headers| Reply::Answer { status, headers, body: "{}".to_owned() };
    for (reply, class) in [
        (answer(403, vec![]), Class::ConsentMissing),
        (answer(503, vec![]), Class::Temporary { retry_after: None }),
        (answer(200, vec![]), Class::Temporary { retry_after: None }),
        (answer(401, challenge), Class::NeedsInteraction { claims: Some(r#"{"access_token":{}}"#.to_owned()) }),
    ] {
        world.fake.always(GRAPH, reply);
        assert_eq!(world.sign_in(&token).await.unwrap_err().class, class);
    }
}

#[tokio::test]
async fn graph_is_not_asked_where_groups_could_give_nothing_more() {
    let (world, _) = crowded().await;
    let claims = json!({"roles": ["Mcp.TenantAdmin"], "groups": [GROUP], "_claim_names": {"groups": "src1"}});
    let token = world.signer.sign(&with(world.id_claims(), claims));
    assert_eq!(world.sign_in(&token).await.unwrap().person.role, Some(Role::Admin));

    let by_app_roles = World::entra().await;
    let claims = with(by_app_roles.id_claims(), json!({"_claim_names": {"groups": "src1"}}));
    let signed_in = by_app_roles.sign_in(&by_app_roles.signer.sign(&claims)).await.unwrap();
    assert_eq!(signed_in.person.role, Some(Role::User));
    assert!(world.fake.asked(GRAPH).is_empty() && by_app_roles.fake.asked(GRAPH).is_empty());
}

#[tokio::test]
async fn where_a_tenant_has_rules_of_its_own_they_say_whether_graph_is_asked() {
    let (world, token) = crowded().await;
    world.fake.always(GRAPH, Reply::json(200, &json!({"value": [GROUP]})));
    let directory = TENANT.parse().unwrap();
    let own = |groups| OwnRules { of: [(directory, groups)].into_iter().collect(), others: None };
    world.provider().follow(own(false));
    let person = world.sign_in(&token).await.unwrap().person;
    assert!(world.fake.asked(GRAPH).is_empty());
    let by_group = [RoleMapping { value: GROUP.to_owned(), role: Role::ServerOwner }];
    assert_eq!(person.claimed.role_by(&by_group), Some(Role::User), "fewer groups never give more");

    let by_app_roles = World::entra().await;
    by_app_roles.fake.always(GRAPH, Reply::json(200, &json!({"value": [GROUP]})));
    let claims = json!({"_claim_names": {"groups": "src1"}, "roles": ["Mcp.TenantAdmin"]});
    let token = by_app_roles.signer.sign(&with(by_app_roles.id_claims(), claims));
    for rules in [own(true), OwnRules { others: Some(true), ..OwnRules::default() }] {
        by_app_roles.provider().follow(rules);
        let person = by_app_roles.sign_in(&token).await.unwrap().person;
        assert_eq!(person.role, Some(Role::TenantAdmin), "by the settings");
        assert_eq!(person.claimed.role_by(&by_group), Some(Role::ServerOwner), "and by the tenant");
    }
    let users = [RoleMapping { value: "Mcp.User".to_owned(), role: Role::User }];
    assert_eq!(person.claimed.role_by(&users), None, "rules for users say who comes in");
    let all = [users[0].clone(), RoleMapping { value: "*".to_owned(), role: Role::User }];
    assert_eq!(person.claimed.role_by(&all), Some(Role::User));
}
