//! Assertions of an identity provider that introduces people to a client, shown for tokens. The provider is a key of this test, of
//! which an administrator gives the public half.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use mcp_registry_gateway::protocol::oauth::CLIENT_ASSERTION as CLIENT_PROOF;
use mcp_registry_gateway::store::now;
use serde_json::{Value, json};

use crate::world::{Answer, Door, World};

pub const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
pub const ISSUER: &str = "https://idp.example";

/// The key of the issuers here.
pub fn key() -> EncodingKey {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/net/testdata/server.key");
    EncodingKey::from_ec_pem(&std::fs::read(file).unwrap()).unwrap()
}

pub fn public() -> Value {
    serde_json::to_value(Jwk::from_encoding_key(&key(), Algorithm::ES256).unwrap()).unwrap()
}

/// A key that nobody trusts.
pub fn foreign() -> EncodingKey {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref())
}

pub fn with(mut value: Value, more: Value) -> Value {
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

/// What an identity provider says that introduces `sam` to the client `editor`.
pub fn jag(world: &Door, more: Value) -> Value {
    let at = now().unix_timestamp();
    let said = json!({
        "iss": ISSUER, "sub": "sam-1", "aud": world.url, "client_id": "editor", "resource": world.uri("/api/v1"),
        "jti": uuid::Uuid::now_v7().to_string(), "iat": at, "exp": at + 300, "scope": "mcp", "email": "sam@idp.example",
    });
    with(said, more)
}

pub fn signed(typ: Option<&str>, claims: &Value, key: &EncodingKey) -> String {
    encode(&Header { typ: typ.map(str::to_owned), ..Header::new(Algorithm::ES256) }, claims, key).unwrap()
}

pub const JAG: Option<&str> = Some("oauth-id-jag+jwt");

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

pub async fn client(world: &Door, id: &str, more: Value) -> String {
    let order = with(json!({"client_id": id, "name": id, "kind": "confidential"}), more);
    let made = world.rest("POST", "/oauth-clients", order).await.expect(201).json();
    made["client_secret"].as_str().unwrap_or_default().to_owned()
}

pub async fn show(world: &Door, (id, secret): (&str, &str), assertion: &str, more: &[(&str, &str)]) -> Answer {
    let own = [("grant_type", GRANT), ("client_id", id), ("client_secret", secret), ("assertion", assertion)];
    world.token(&[&own, more].concat()).await
}

pub fn invalid(code: &str) -> (u16, String) {
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
        (json!({"authorization_details": [{"type": "calendar"}]}), "by scope and resource"),
        (json!({"authorization_details": []}), "by scope and resource"),
        (json!({"authorization_details": null}), "by scope and resource"),
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
    for garbage in ["x", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", &"a".repeat(13_000)] {
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
async fn what_the_gateway_says_of_people_is_not_taken_by_itself() {
    let desk = Desk::open(json!({"role": "user"})).await;
    let own = desk.world.url.clone();
    let order =
        json!({"name": "own", "issuer": own, "profiles": ["id_jag"], "jwks": {"keys": [public()]}, "role": "user"});
    desk.world.rest("POST", "/trusted-issuers", order).await.expect(201);
    desk.introduce(json!({}), &[]).await.expect(200);
    assert_eq!(desk.introduce(json!({"iss": own}), &[]).await.error(), invalid("invalid_grant"));
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
        json!({"client_id": "x", "name": "x", "kind": "public", "redirect_uris": ["https://a.example/"], "scopes": ["mcp"],
            "grant_types": ["authorization_code", "refresh_token"]}),
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
