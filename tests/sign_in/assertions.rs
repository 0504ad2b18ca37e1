//! Assertions of trusted issuers, shown for tokens: of an identity provider about people, of a platform about programs. The issuers
//! are keys of this test; an administrator gives their public halves.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use mcp_registry_gateway::grants::authenticate::JWT_BEARER as CLIENT_PROOF;
use mcp_registry_gateway::store::now;
use serde_json::{Value, json};

use crate::world::{Answer, World};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ISSUER: &str = "https://idp.example";
const CLUSTER: &str = "https://cluster.example";
const POD: &str = "system:serviceaccount:build:runner";

/// The key of the issuers here.
fn key() -> EncodingKey {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/net/testdata/server.key");
    EncodingKey::from_ec_pem(&std::fs::read(file).unwrap()).unwrap()
}

fn public() -> Value {
    serde_json::to_value(Jwk::from_encoding_key(&key(), Algorithm::ES256).unwrap()).unwrap()
}

/// A key that nobody trusts.
fn foreign() -> EncodingKey {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref())
}

fn with(mut value: Value, more: Value) -> Value {
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    value
}

/// What an identity provider says that introduces `sam` to the client `editor`.
fn jag(world: &World, more: Value) -> Value {
    let at = now().unix_timestamp();
    let said = json!({
        "iss": ISSUER, "sub": "sam-1", "aud": world.url, "client_id": "editor", "resource": world.uri("/api/v1"),
        "jti": uuid::Uuid::now_v7().to_string(), "iat": at, "exp": at + 300, "scope": "mcp", "email": "sam@idp.example",
    });
    with(said, more)
}

fn signed(typ: Option<&str>, claims: &Value, key: &EncodingKey) -> String {
    encode(&Header { typ: typ.map(str::to_owned), ..Header::new(Algorithm::ES256) }, claims, key).unwrap()
}

const JAG: Option<&str> = Some("oauth-id-jag+jwt");

/// A gateway that trusts `ISSUER`, and a client for which it introduces people.
struct Desk {
    world: World,
    secret: String,
}

impl Desk {
    async fn open(trust: Value) -> Self {
        let world = World::start().await;
        let order = json!({"name": "corp", "issuer": ISSUER, "profiles": ["id_jag"], "jwks": {"keys": [public()]}});
        world.rest("POST", "/trusted-issuers", with(order, trust)).await.expect(201);
        let secret = client(&world, "editor", json!({"grant_types": [GRANT]})).await;
        Self { world, secret }
    }

    async fn show(&self, assertion: &str, more: &[(&str, &str)]) -> Answer {
        show(&self.world, ("editor", &self.secret), assertion, more).await
    }

    async fn introduce(&self, change: Value, more: &[(&str, &str)]) -> Answer {
        self.show(&signed(JAG, &jag(&self.world, change), &key()), more).await
    }
}

async fn client(world: &World, id: &str, more: Value) -> String {
    let order = with(json!({"client_id": id, "name": id, "kind": "confidential"}), more);
    let made = world.rest("POST", "/oauth-clients", order).await.expect(201).json();
    made["client_secret"].as_str().unwrap_or_default().to_owned()
}

async fn show(world: &World, (id, secret): (&str, &str), assertion: &str, more: &[(&str, &str)]) -> Answer {
    let own = [("grant_type", GRANT), ("client_id", id), ("client_secret", secret), ("assertion", assertion)];
    world.token(&[&own, more].concat()).await
}

fn invalid(code: &str) -> (u16, String) {
    (400, code.to_owned())
}

#[tokio::test]
async fn who_is_introduced_to_a_client_gets_a_token_for_what_the_introduction_says() {
    let desk = Desk::open(json!({"role": "server_owner"})).await;
    let world = &desk.world;
    let answer = desk.introduce(json!({}), &[]).await.expect(200);
    assert_eq!(answer.header("cache-control"), "no-store");
    let given = answer.json();
    assert_eq!((&given["token_type"], &given["scope"]), (&json!("Bearer"), &json!("mcp")));
    assert_eq!((given.get("refresh_token"), given.get("issued_token_type")), (None, None));
    let token = given["access_token"].as_str().unwrap();
    let me = world.get("/api/v1/me", token).await.expect(200).json();
    let found = (&me["name"], &me["role"], &me["session_type"]);
    assert_eq!(found, (&json!("sam@idp.example"), &json!("server_owner"), &json!("oauth")));
    world.get("/mcp", token).await.expect(401);

    // The same person the next time, whatever the person is called by then.
    let again = desk.introduce(json!({"email": "samuel@idp.example", "aud": [&world.url]}), &[]).await.expect(200);
    let again = again.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(world.get("/api/v1/me", &again).await.expect(200).json()["user_id"], me["user_id"]);

    // Who is disabled here is not let in by anybody's word, and who is not trusted any longer ends what rested on it.
    let user = format!("/users/{}", me["user_id"].as_str().unwrap());
    world.rest("PATCH", &user, json!({"state": "disabled"})).await.expect(200);
    let refused = desk.introduce(json!({}), &[]).await;
    assert_eq!(refused.error(), invalid("invalid_grant"));
    assert!(refused.text.contains("disabled here"), "{}", refused.text);
    world.rest("PATCH", &user, json!({"state": "active"})).await.expect(200);
    let last = desk.introduce(json!({}), &[]).await.expect(200).json()["access_token"].as_str().unwrap().to_owned();
    world.get("/api/v1/me", &last).await.expect(200);
    world.rest("DELETE", "/trusted-issuers/corp", Value::Null).await.expect(204);
    world.get("/api/v1/me", &last).await.expect(401);
    assert_eq!(desk.introduce(json!({}), &[]).await.error(), invalid("invalid_grant"));

    let counted = world.metrics().await;
    for (result, reason) in [("success", ""), ("failure", "disabled"), ("failure", "untrusted")] {
        let line = format!("{{tenant_id=\"default\",method=\"login\",result=\"{result}\",reason=\"{reason}\"}}");
        assert!(counted.contains(&line), "{line}: {counted}");
    }
}

#[tokio::test]
async fn an_introduction_that_is_not_whole_lets_nobody_in() {
    let desk = Desk::open(json!({"role": "user"})).await;
    let world = &desk.world;
    let at = now().unix_timestamp();
    for (change, told) in [
        (json!({"iss": "https://other.example"}), "nobody here trusts"),
        (json!({"iss": format!("{ISSUER}/")}), "nobody here trusts"),
        (json!({"aud": "https://other.example"}), "aud must be"),
        (json!({"aud": world.uri("/oauth/token")}), "aud must be"),
        (json!({"aud": format!("{}/", world.url)}), "aud must be"),
        (json!({"aud": [&world.url, "https://other.example"]}), "aud must be"),
        (json!({"aud": []}), "aud must be"),
        (json!({"exp": at - 61}), "expired"),
        (json!({"exp": at + 720}), "ten minutes"),
        (json!({"iat": at + 120}), "compare the clocks"),
        (json!({"nbf": at + 120}), "compare the clocks"),
        (json!({"iat": null}), "lacks iat"),
        (json!({"jti": null}), "lacks iat, or a jti"),
        (json!({"jti": ""}), "lacks iat, or a jti"),
        (json!({"client_id": "another"}), "for another client"),
        (json!({"client_id": null}), "for another client"),
        (json!({"client_id": ["editor"]}), "for another client"),
        (json!({"resource": "https://other.example/mcp"}), "one resource of this gateway"),
        (json!({"resource": null}), "one resource of this gateway"),
        (json!({"resource": [world.uri("/mcp"), world.uri("/api/v1")]}), "one resource of this gateway"),
        (json!({"scope": "chat.read"}), "names nothing"),
        (json!({"scope": ["mcp"]}), "names nothing"),
        (json!({"sub": ""}), "does not name the person"),
    ] {
        let refused = desk.introduce(change.clone(), &[]).await;
        assert_eq!(refused.error(), invalid("invalid_grant"), "{change}");
        assert!(refused.text.contains(told), "{change}: {}", refused.text);
    }
    let whole = jag(world, json!({}));
    for typ in [None, Some("JWT"), Some("at+jwt")] {
        let refused = desk.show(&signed(typ, &whole, &key()), &[]).await;
        assert_eq!(refused.error(), invalid("invalid_grant"), "{typ:?}");
        assert!(refused.text.contains("oauth-id-jag+jwt"), "{}", refused.text);
    }
    assert_eq!(desk.show("", &[]).await.error(), invalid("invalid_request"));
    for garbage in ["x", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", &"a".repeat(9_000)] {
        assert_eq!(desk.show(garbage, &[]).await.error(), invalid("invalid_grant"), "{garbage:.20}");
    }
    desk.show(&signed(JAG, &whole, &key()), &[]).await.expect(200);
}

#[tokio::test]
async fn an_introduction_that_is_forged_lets_nobody_in() {
    let desk = Desk::open(json!({"role": "user"})).await;
    let whole = jag(&desk.world, json!({}));
    let good = signed(JAG, &whole, &key());
    let (rest, signature) = good.rsplit_once('.').unwrap();
    let claims = rest.split('.').nth(1).unwrap();
    let header = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
    };
    let unsigned = header(r#"{"alg":"none","typ":"oauth-id-jag+jwt"}"#);
    let mut by_public_key = Header::new(Algorithm::HS256);
    by_public_key.typ = JAG.map(str::to_owned);
    let secret = EncodingKey::from_secret(public().to_string().as_bytes());
    let mut own_key = Header::new(Algorithm::ES256);
    own_key.typ = JAG.map(str::to_owned);
    own_key.jwk = Some(Jwk::from_encoding_key(&foreign(), Algorithm::ES256).unwrap());
    for (what, forged) in [
        ("no algorithm", format!("{unsigned}.{claims}.")),
        ("no algorithm, but a signature", format!("{unsigned}.{claims}.{signature}")),
        ("no signature", format!("{rest}.")),
        ("the public key as a secret", encode(&by_public_key, &whole, &secret).unwrap()),
        ("a foreign key", signed(JAG, &whole, &foreign())),
        ("a key that it brings along", encode(&own_key, &whole, &foreign()).unwrap()),
    ] {
        assert_eq!(desk.show(&forged, &[]).await.error(), invalid("invalid_grant"), "{what}");
    }
    desk.show(&good, &[]).await.expect(200);
    let again = desk.show(&good, &[]).await;
    assert!(again.error() == invalid("invalid_grant") && again.text.contains("shown before"), "{}", again.text);
    let text = desk.world.metrics().await;
    for reason in ["malformed", "algorithm", "signature", "replayed"] {
        let line = format!("method=\"login\",result=\"failure\",reason=\"{reason}\"}}");
        assert!(text.contains(&line), "{line}: {text}");
    }
}

#[tokio::test]
async fn of_many_who_show_one_introduction_at_once_one_gets_a_token() {
    let desk = Desk::open(json!({"role": "user"})).await;
    let one = signed(JAG, &jag(&desk.world, json!({})), &key());
    let answers = futures_util::future::join_all((0..12).map(|_| desk.show(&one, &[]))).await;
    let mut got: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    got.sort_unstable();
    assert_eq!((got[0], got[1], got.len()), (200, 400, 12), "{got:?}");
}

#[tokio::test]
async fn scopes_are_what_the_introduction_its_issuer_the_client_and_the_resource_all_allow() {
    let desk = Desk::open(json!({"role": "admin", "scopes": ["mcp", "admin"]})).await;
    let world = &desk.world;
    let widest = client(world, "widest", json!({"grant_types": [GRANT], "scopes": ["mcp", "admin"]})).await;
    let all = json!({"client_id": "widest", "scope": "mcp admin offline_access chat.read"});
    let scope = async |change: &Value, more: &[(&str, &str)]| {
        let said = jag(world, with(all.clone(), change.clone()));
        let answer = show(world, ("widest", &widest), &signed(JAG, &said, &key()), more).await;
        if answer.status == 200 {
            let given = answer.json();
            assert_eq!(given.get("refresh_token"), None, "{given}");
            given["scope"].as_str().unwrap().to_owned()
        } else {
            answer.error().1
        }
    };
    let (mcp, nothing) = (json!({"resource": world.uri("/mcp")}), json!({}));
    for (change, more, expected) in [
        (&nothing, &[][..], "mcp admin"),
        (&nothing, &[("scope", "mcp")], "mcp"),
        (&nothing, &[("scope", "mcp offline_access openid")], "mcp"),
        (&nothing, &[("scope", "offline_access")], "invalid_scope"),
        (&nothing, &[("scope", "chat.read")], "invalid_scope"),
        (&mcp, &[], "mcp"),
        (&mcp, &[("scope", "admin")], "invalid_scope"),
        (&json!({"scope": "mcp"}), &[("scope", "mcp admin")], "mcp"),
        (&json!({"scope": "mcp"}), &[("scope", "admin")], "invalid_scope"),
        (&json!({"scope": null}), &[], "invalid_grant"),
    ] {
        assert_eq!(scope(change, more).await, expected, "{change} {more:?}");
    }
    // The client that was registered for less gets less; and what is asked for must be what the introduction is for.
    assert_eq!(desk.introduce(json!({"scope": "mcp admin"}), &[]).await.expect(200).json()["scope"], "mcp");
    desk.introduce(json!({}), &[("resource", &world.uri("/api/v1/"))]).await.expect(200);
    for other in [world.uri("/mcp"), "https://other.example".to_owned()] {
        assert_eq!(desk.introduce(json!({}), &[("resource", &other)]).await.error(), invalid("invalid_target"));
    }
    let narrow = Desk::open(json!({"role": "admin"})).await;
    let said = json!({"scope": "admin"});
    assert_eq!(narrow.introduce(said, &[]).await.error(), invalid("invalid_scope"), "the issuer may give mcp only");
}

#[tokio::test]
async fn a_role_is_given_by_name_or_nobody_comes_in() {
    let roles = json!({"roles_claim": "groups", "roles": {"admin": ["ops"], "user": ["staff", "guests"]}});
    let desk = Desk::open(roles).await;
    let role = async |groups: Value| {
        let answer = desk.introduce(json!({"groups": groups}), &[]).await;
        let Some(token) = answer.json()["access_token"].as_str().map(str::to_owned) else { return answer.error().1 };
        desk.world.get("/api/v1/me", &token).await.expect(200).json()["role"].as_str().unwrap().to_owned()
    };
    for (groups, expected) in [
        (json!(["staff"]), "user"),
        (json!(["guests", "ops"]), "admin"),
        (json!("staff"), "user"),
        (json!(["Ops"]), "invalid_grant"),
        (json!([]), "invalid_grant"),
        (json!({"ops": true}), "invalid_grant"),
        (Value::Null, "invalid_grant"),
    ] {
        assert_eq!(role(groups.clone()).await, expected, "{groups}");
    }
    assert!(desk.world.metrics().await.contains("method=\"login\",result=\"failure\",reason=\"no_role\"} 4"));
}

#[tokio::test]
async fn only_a_client_that_was_registered_for_it_and_proves_itself_shows_introductions() {
    let desk = Desk::open(json!({"role": "user"})).await;
    let world = &desk.world;
    let assertion = |id: &str| signed(JAG, &jag(world, json!({"client_id": id})), &key());
    let plain = client(world, "plain", json!({"redirect_uris": ["https://a.example/cb"]})).await;
    let refused = show(world, ("plain", &plain), &assertion("plain"), &[]).await;
    assert_eq!(refused.error(), invalid("unauthorized_client"));
    assert_eq!(
        show(world, ("editor", "wrong"), &assertion("editor"), &[]).await.error(),
        (401, "invalid_client".into())
    );
    let bare = [("grant_type", GRANT), ("client_id", "editor"), ("assertion", &assertion("editor"))];
    assert_eq!(world.token(&bare).await.error(), (401, "invalid_client".into()));
    let own = [("grant_type", GRANT), ("client_id", &world.client), ("assertion", &assertion(&world.client))];
    assert_eq!(world.token(&own).await.error(), invalid("unauthorized_client"));
    for order in [
        json!({"client_id": "x", "name": "x", "kind": "public", "redirect_uris": ["https://a.example/"], "grant_types": [GRANT]}),
        json!({"client_id": "x", "name": "x", "kind": "service", "grant_types": [GRANT]}),
        json!({"client_id": "x", "name": "x", "kind": "confidential", "grant_types": []}),
        json!({"client_id": "x", "name": "x", "kind": "confidential", "grant_types": ["password"]}),
        json!({"client_id": "x", "name": "x", "kind": "confidential", "grant_types": [GRANT, "refresh_token"]}),
    ] {
        let told = world.rest("POST", "/oauth-clients", order.clone()).await.expect(422).json();
        assert!(told["errors"][0]["field"].as_str().unwrap().starts_with("grant_types"), "{order}: {told}");
    }

    // By a signature of its own, which is no introduction and never passes for one.
    let keys = json!({"client_id": "signer", "name": "S", "kind": "confidential", "grant_types": [GRANT], "jwks": {"keys": [public()]}});
    world.rest("POST", "/oauth-clients", keys).await.expect(201);
    let proof = || {
        let (at, jti) = (now().unix_timestamp(), uuid::Uuid::now_v7());
        json!({"iss": "signer", "sub": "signer", "aud": world.url, "jti": jti, "exp": at + 60})
    };
    let by = async |proof: &str, assertion: &str| {
        let kind = ("client_assertion_type", CLIENT_PROOF);
        world.token(&[("grant_type", GRANT), kind, ("client_assertion", proof), ("assertion", assertion)]).await
    };
    by(&signed(Some("JWT"), &proof(), &key()), &assertion("signer")).await.expect(200);
    let as_proof = by(&signed(JAG, &proof(), &key()), &assertion("signer")).await;
    assert_eq!(as_proof.error(), (401, "invalid_client".into()));
    let as_introduction = by(&signed(None, &proof(), &key()), &signed(None, &proof(), &key())).await;
    assert_eq!(as_introduction.error(), invalid("invalid_grant"));
}

#[tokio::test]
async fn a_tenants_trust_is_nobody_elses() {
    let desk = Desk::open(json!({"role": "user"})).await;
    let world = &desk.world;
    // The other tenant trusts another issuer, and has a client of its own.
    let acme = world.app.store.add_tenant("acme", "Acme").await.unwrap();
    let mine =
        world.app.store.trusted_issuers(&mcp_registry_gateway::id::TenantId::default_tenant(), "", 10).await.unwrap();
    let mut theirs = mine[0].clone();
    theirs.id = uuid::Uuid::now_v7();
    theirs.issuer = "https://idp.acme.example".to_owned();
    world.app.store.insert_trusted_issuer(&acme, &theirs).await.expect("the same name in another tenant");
    let refused = desk.introduce(json!({"iss": theirs.issuer}), &[]).await;
    let unknown = desk.introduce(json!({"iss": "https://unknown.example"}), &[]).await;
    assert_eq!((refused.error(), &refused.text), (invalid("invalid_grant"), &unknown.text), "no word of who is there");
    let listed = world.rest("GET", "/trusted-issuers", Value::Null).await.expect(200).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
}

/// A gateway that trusts a cluster, and a service that is a program on it.
async fn cluster(trust: Value) -> World {
    let world = World::start().await;
    let order = json!({"name": "cluster", "issuer": CLUSTER, "profiles": ["workload"], "jwks": {"keys": [public()]}});
    world.rest("POST", "/trusted-issuers", with(order, trust)).await.expect(201);
    let order = json!({"client_id": "build", "name": "Build", "kind": "service", "workloads": [{"issuer": CLUSTER, "subject": POD}]});
    let made = world.rest("POST", "/oauth-clients", order).await.expect(201).json();
    assert_eq!((made.get("client_secret"), &made["token_endpoint_auth_method"]), (None, &json!("none")));
    assert_eq!(made["grant_types"], json!([GRANT]));
    world
}

fn pod(world: &World, more: Value) -> Value {
    let at = now().unix_timestamp();
    with(json!({"iss": CLUSTER, "sub": POD, "aud": [&world.url], "iat": at, "exp": at + 3_600}), more)
}

async fn as_build(world: &World, assertion: &str, more: &[(&str, &str)]) -> Answer {
    world.token(&[&[("grant_type", GRANT), ("client_id", "build"), ("assertion", assertion)], more].concat()).await
}

#[tokio::test]
async fn a_program_is_the_service_that_its_platform_says_it_is() {
    let world = cluster(json!({})).await;
    let token = signed(None, &pod(&world, json!({})), &key());
    let api = world.uri("/api/v1");
    for _ in 0..2 {
        // It is in a file, and is shown as often as the program comes.
        let given = as_build(&world, &token, &[("resource", &api)]).await.expect(200).json();
        assert_eq!((&given["scope"], given.get("refresh_token")), (&json!("mcp"), None));
        let me = world.get("/api/v1/me", given["access_token"].as_str().unwrap()).await.expect(200).json();
        assert_eq!(
            (&me["name"], &me["session_type"], &me["role"]),
            (&json!("build"), &json!("service"), &json!("user"))
        );
    }
    let soon = signed(None, &pod(&world, json!({"exp": now().unix_timestamp() + 100})), &key());
    let given = as_build(&world, &soon, &[]).await.expect(200).json();
    assert!((1..=160).contains(&given["expires_in"].as_i64().unwrap()), "no longer than the platform says: {given}");

    let at = now().unix_timestamp();
    let mut told = std::collections::BTreeSet::new();
    for change in [
        json!({"iss": "https://other.example"}),
        json!({"sub": "system:serviceaccount:build:other"}),
        json!({"aud": "https://other.example"}),
        json!({"aud": [&world.url, "https://other.example"]}),
        json!({"exp": at - 61}),
        json!({"exp": at + 25 * 3_600}),
        json!({"nbf": at + 120}),
    ] {
        let refused = as_build(&world, &signed(None, &pod(&world, change.clone()), &key()), &[]).await;
        assert_eq!(refused.error(), invalid("invalid_grant"), "{change}");
        told.insert(refused.text);
    }
    for (typ, by) in [(JAG, key()), (Some("at+jwt"), key()), (None, foreign())] {
        let refused = as_build(&world, &signed(typ, &pod(&world, json!({})), &by), &[]).await;
        assert_eq!(refused.error(), invalid("invalid_grant"), "{typ:?}");
        told.insert(refused.text);
    }
    assert_eq!(told.len(), 1, "whoever is not the program learns nothing of whom we trust: {told:?}");
    for (more, code) in
        [(("scope", "admin"), "invalid_scope"), (("resource", "https://other.example"), "invalid_target")]
    {
        assert_eq!(as_build(&world, &token, &[more]).await.error(), invalid(code), "{more:?}");
    }
    let bare = [("grant_type", "client_credentials"), ("client_id", "build")];
    assert_eq!(world.token(&bare).await.error(), invalid("unauthorized_client"), "the assertion is all its proof");
    let secret = as_build(&world, &token, &[("client_secret", "x")]).await;
    assert_eq!(secret.error(), (401, "invalid_client".into()));

    let last = as_build(&world, &token, &[("resource", &api)]).await.expect(200).json();
    world.rest("DELETE", "/trusted-issuers/cluster", Value::Null).await.expect(204);
    world.get("/api/v1/me", last["access_token"].as_str().unwrap()).await.expect(401);
    assert_eq!(as_build(&world, &token, &[]).await.error(), invalid("invalid_grant"), "trusted no longer");
    world.rest("PATCH", "/users/build", json!({"state": "disabled"})).await.expect(200);
    assert_eq!(as_build(&world, &token, &[]).await.error(), (401, "invalid_client".into()));
    let text = world.metrics().await;
    for (result, reason) in
        [("success", ""), ("failure", "other_workload"), ("failure", "audience"), ("failure", "untrusted")]
    {
        let line = format!("method=\"client_credentials\",result=\"{result}\",reason=\"{reason}\"}}");
        assert!(text.contains(&line), "{line}: {text}");
    }
}

#[tokio::test]
async fn a_platform_may_say_another_audience_and_vouches_for_no_people() {
    let world = cluster(json!({"audience": "api://gateway"})).await;
    let given = |aud: &str| signed(None, &pod(&world, json!({"aud": aud})), &key());
    as_build(&world, &given("api://gateway"), &[]).await.expect(200);
    assert_eq!(as_build(&world, &given(&world.url), &[]).await.error(), invalid("invalid_grant"));
    let secret = client(&world, "editor", json!({"grant_types": [GRANT]})).await;
    let said = jag(&world, json!({"iss": CLUSTER}));
    let refused = show(&world, ("editor", &secret), &signed(JAG, &said, &key()), &[]).await;
    assert!(
        refused.error() == invalid("invalid_grant") && refused.text.contains("nobody here trusts"),
        "{}",
        refused.text
    );
}

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
    world.rest("POST", "/trusted-issuers", with(good.clone(), json!({"issuer": CLUSTER}))).await.expect(409);
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
