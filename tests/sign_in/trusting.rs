//! Trusting an issuer: what may be asked for, and by whom.

use serde_json::{Value, json};

use crate::assertions::{ISSUER, public, with};
use crate::world::World;

const OTHER: &str = "https://cluster.example";

#[tokio::test]
async fn what_an_administrator_may_trust_is_told_field_by_field() {
    let world = World::start().await;
    let good = json!({"name": "corp", "issuer": ISSUER, "profiles": ["id_jag"], "role": "user"});
    for (more, field) in [
        (json!({"name": "Not a name"}), "name"),
        (json!({"issuer": "http://idp.example"}), "issuer"),
        (json!({"issuer": "idp"}), "issuer"),
        (json!({"issuer": "https://idp.example?x=1"}), "issuer"),
        (json!({"profiles": []}), "profiles"),
        (json!({"profiles": ["everything"]}), "profiles[0]"),
        (json!({"role": null}), "role"),
        (json!({"profiles": ["workload"]}), "role"),
        (json!({"audience": "api://x"}), "audience"),
        (json!({"algorithms": ["HS256"]}), "algorithms[0]"),
        (json!({"algorithms": ["none"]}), "algorithms[0]"),
        (json!({"algorithms": []}), "algorithms"),
        (json!({"roles_claim": "groups"}), "roles_claim"),
        (json!({"roles": {"admin": ["ops"]}}), "roles_claim"),
        (json!({"roles_claim": "groups", "roles": {"admin": []}}), "roles.admin"),
        (json!({"subject_claim": "email"}), "subject_claim"),
        (json!({"scopes": ["mcp", "offline_access"]}), "scopes"),
        (json!({"scopes": ["everything"]}), "scopes[0]"),
        (json!({"jwks": {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}}), "jwks"),
        (json!({"jwks_uri": "http://idp.example/keys"}), "jwks_uri"),
        (json!({"colour": 1}), "colour"),
    ] {
        let told = world.rest("POST", "/trusted-issuers", with(good.clone(), more.clone())).await.expect(422).json();
        assert_eq!(told["errors"][0]["field"], field, "{more}: {told}");
    }
    let made = world.rest("POST", "/trusted-issuers", good.clone()).await.expect(201);
    assert_eq!(made.header("location"), "/api/v1/trusted-issuers/corp");
    assert_eq!((&made.json()["scopes"], &made.json()["subject_claim"]), (&json!(["mcp"]), &json!("sub")));
    world.rest("POST", "/trusted-issuers", with(good.clone(), json!({"name": "again"}))).await.expect(409);
    world.rest("POST", "/trusted-issuers", with(good.clone(), json!({"issuer": OTHER}))).await.expect(409);
    assert_eq!(world.rest("GET", "/trusted-issuers/corp", Value::Null).await.expect(200).json(), made.json());
    world.rest("GET", "/trusted-issuers/none", Value::Null).await.expect(404);

    // `ada` administers the tenant: she gives no role above her own, and speaks in no issuer's name about people.
    let token = world.tokens("/api/v1", "mcp admin").await.0;
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let ask = async |method: &str, path: &str, body: Value| {
        world.send(method, &format!("/api/v1/trusted-issuers{path}"), &headers, &body.to_string()).await.status
    };
    let other = json!({"name": "other", "issuer": "https://other.example", "profiles": ["id_jag"], "role": "user"});
    let (keys, admin) = (json!({"jwks": {"keys": [public()]}}), json!({"role": "admin"}));
    assert_eq!(ask("POST", "", with(other.clone(), admin.clone())).await, 403);
    assert_eq!(ask("POST", "", with(other.clone(), keys.clone())).await, 403);
    assert_eq!(ask("POST", "", other).await, 201);
    let programs = json!({"name": "ci", "issuer": "https://ci.example", "profiles": ["workload"]});
    assert_eq!(ask("POST", "", with(programs, keys)).await, 201, "programs are services of the own tenant");
    world.rest("DELETE", "/trusted-issuers/corp", Value::Null).await.expect(204);
    world.rest("POST", "/trusted-issuers", with(good, admin)).await.expect(201);
    assert_eq!(ask("DELETE", "/corp", Value::Null).await, 403);
    assert_eq!(ask("DELETE", "/ci", Value::Null).await, 204);
}
