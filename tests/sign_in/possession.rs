//! Tokens that are bound to a key of the client's (RFC 9449): who has the token and not the key has nothing.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey};
use mcp_registry_gateway::crypto::hash_token;
use mcp_registry_gateway::store::now;
use serde_json::{Value, json};
use testkit::sign_in::{VERIFIER, with_password};

use crate::assertions;
use crate::door::{Answer, Door, PASSWORD, REDIRECT, browser};
use crate::exchange::{broker, exchange};
use crate::process::Gateway;
use crate::world::World;

/// A key of a client's, which it makes itself.
pub struct Key {
    private: EncodingKey,
    public: Value,
}

impl Key {
    pub fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        // An uncompressed point: 4, x, y.
        let point = pair.public_key().as_ref();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        let public = json!({"crv": "P-256", "kty": "EC", "x": part(1..33), "y": part(33..65)});
        Self { private: EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref()), public }
    }

    /// The thumbprint (RFC 7638): the members stand in the order of the alphabet.
    fn jkt(&self) -> String {
        URL_SAFE_NO_PAD.encode(hash_token(&self.public.to_string()))
    }

    /// A new proof for a request, with changes in its header and its claims; null leaves a member out.
    fn bent(&self, sent: (&str, &str), token: Option<&str>, head: Value, claims: Value) -> String {
        let part = |mut value: Value, more: Value| {
            let members = value.as_object_mut().unwrap();
            members.extend(more.as_object().unwrap().clone());
            members.retain(|_, value| !value.is_null());
            URL_SAFE_NO_PAD.encode(value.to_string())
        };
        let own = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.public});
        let (htm, htu) = sent;
        let jti = uuid::Uuid::new_v4().to_string();
        let ath = token.map(|token| URL_SAFE_NO_PAD.encode(hash_token(token)));
        let said = json!({"jti": jti, "htm": htm, "htu": htu, "iat": now().unix_timestamp(), "ath": ath});
        let text = format!("{}.{}", part(own, head), part(said, claims));
        format!("{text}.{}", sign(text.as_bytes(), &self.private, Algorithm::ES256).unwrap())
    }

    fn proof(&self, sent: (&str, &str), token: Option<&str>) -> String {
        self.bent(sent, token, json!({}), json!({}))
    }

    /// What the token endpoint answers, with a proof of this key.
    pub async fn token(&self, door: &Door, fields: &[(&str, &str)]) -> Answer {
        let proof = self.proof(("POST", &door.uri("/oauth/token")), None);
        door.form("/oauth/token", &[("dpop", &proof)], fields).await
    }

    async fn refresh(&self, door: &Door, token: &str) -> Answer {
        let own = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", door.client.as_str())];
        self.token(door, &own).await
    }
}

fn fields_of_code<'a>(door: &'a Door, code: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("code_verifier", VERIFIER),
        ("client_id", door.client.as_str()),
    ]
}

/// A request with a credential and this proof.
async fn knock(door: &Door, (method, path): (&str, &str), credential: &str, proof: &str) -> Answer {
    let mut headers = vec![
        ("authorization", credential),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
    ];
    if !proof.is_empty() {
        headers.push(("dpop", proof));
    }
    let params =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).to_string();
    door.send(method, path, &headers, if method == "POST" { &hello } else { "" }).await
}

/// Scheme and error code of the challenge that came with 401.
#[track_caller]
fn challenged(answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, 401, "{}", answer.text);
    let challenge = answer.header("www-authenticate");
    let code = challenge.split("error=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
    assert!(challenge.contains("resource_metadata=\"") && challenge.contains("algs=\"ES256 "), "{challenge}");
    (challenge.split(' ').next().unwrap().to_owned(), code.to_owned())
}

fn refused(scheme: &str, code: &str) -> (String, String) {
    (scheme.to_owned(), code.to_owned())
}

pub fn text(given: &Value, name: &str) -> String {
    given[name].as_str().unwrap_or_else(|| panic!("{name}: {given}")).to_owned()
}

/// Every attempt to sign in, step by step.
async fn traces(door: &Door) -> String {
    let mut told = String::new();
    for trace in door.rest("GET", "/sign-ins", Value::Null).await.expect(200).json()["items"].as_array().unwrap() {
        told += &door.rest("GET", &format!("/sign-ins/{}", text(trace, "id")), Value::Null).await.expect(200).text;
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_sign_in_with_a_key_is_worth_nothing_without_it() {
    let mut gateway = Gateway::start(&[], &[]).await;
    gateway.ada().await;
    gateway.door.client = gateway.registered(&json!({"redirect_uris": [REDIRECT], "client_name": "A client"})).await;
    let door = &gateway.door;
    let (key, thief) = (Key::new(), Key::new());
    let mcp = door.uri("/mcp");
    let sign_in = async || {
        let mut person = browser();
        let asked = [("resource", mcp.as_str()), ("dpop_jkt", &key.jkt())];
        let consent = door.consent(&mut person, &asked).await;
        with_password(&mut person, &consent, "ada", PASSWORD).await.unwrap().param("code").unwrap()
    };

    // The code is no good to whoever sees it, and shown in vain it is burnt.
    let seen = sign_in().await;
    let fields = fields_of_code(door, &seen);
    assert_eq!(thief.token(door, &fields).await.error(), (400, "invalid_grant".to_owned()));
    assert_eq!(key.token(door, &fields).await.error(), (400, "invalid_grant".to_owned()));

    let code = sign_in().await;
    let given = key.token(door, &fields_of_code(door, &code)).await.expect(200).json();
    assert_eq!(given["token_type"], "DPoP", "{given}");
    let first = text(&given, "refresh_token");
    assert_eq!(door.refresh(&first, &[]).await.error(), (400, "invalid_dpop_proof".to_owned()), "without a proof");
    assert_eq!(thief.refresh(door, &first).await.error(), (400, "invalid_grant".to_owned()), "by another key");
    let given = key.refresh(door, &first).await.expect(200).json();
    assert_eq!(given["token_type"], "DPoP", "none of it hurt the session");
    let again = key.refresh(door, &first).await.expect(200).json();
    assert_eq!((&again["access_token"], &again["token_type"]), (&given["access_token"], &json!("DPoP")));
    let access = text(&given, "access_token");
    let (bearer, dpop) = (format!("Bearer {access}"), format!("DPoP {access}"));

    let post = ("POST", mcp.as_str());
    let proof = key.proof(post, Some(&access));
    let hello = knock(door, ("POST", "/mcp"), &dpop, &proof).await.expect(200);
    assert!(!hello.header("mcp-session-id").is_empty());
    assert_eq!(challenged(&knock(door, ("POST", "/mcp"), &dpop, &proof).await), refused("DPoP", "invalid_dpop_proof"));
    knock(door, ("POST", "/mcp?more=1"), &dpop, &key.proof(post, Some(&access))).await.expect(200);
    // The doors that are no POST, and the older transport's, which have addresses of their own.
    for (method, path, expected) in
        [("GET", "/mcp", 400), ("DELETE", "/mcp", 400), ("POST", "/messages?channel=x", 404)]
    {
        let address = door.uri(path.split('?').next().unwrap());
        knock(door, (method, path), &dpop, &key.proof((method, &address), Some(&access))).await.expect(expected);
    }
    let older = [("authorization", dpop.as_str()), ("accept", "application/json")];
    let proof = key.proof(("GET", &door.uri("/sse")), Some(&access));
    door.send("GET", "/sse", &[&older[..], &[("dpop", &proof)]].concat(), "").await.expect(406);

    let stolen = key.proof(post, Some(&access));
    for (sent, credential, proof, expected) in [
        (("POST", "/mcp"), &bearer, String::new(), refused("Bearer", "invalid_token")),
        (("POST", "/mcp"), &bearer, stolen.clone(), refused("Bearer", "invalid_token")),
        (("POST", "/mcp"), &dpop, String::new(), refused("DPoP", "invalid_dpop_proof")),
        (("POST", "/mcp"), &dpop, thief.proof(post, Some(&access)), refused("DPoP", "invalid_token")),
        (("POST", "/mcp"), &dpop, key.proof(post, None), refused("DPoP", "invalid_dpop_proof")),
        (("POST", "/mcp"), &dpop, key.proof(post, Some("another")), refused("DPoP", "invalid_dpop_proof")),
        (("GET", "/mcp"), &dpop, stolen.clone(), refused("DPoP", "invalid_dpop_proof")),
        (("POST", "/mcp/files"), &dpop, stolen.clone(), refused("DPoP", "invalid_dpop_proof")),
        (("POST", "/messages"), &dpop, stolen, refused("DPoP", "invalid_dpop_proof")),
    ] {
        assert_eq!(challenged(&knock(door, sent, credential, &proof).await), expected, "{sent:?} {proof}");
    }

    // A key of the REST API is bound to nothing, and a token that is not bound stays what it is.
    let plain = format!("DPoP {}", crate::door::KEY);
    let proof = key.proof(("GET", &door.uri("/api/v1/me")), Some(crate::door::KEY));
    assert_eq!(challenged(&knock(door, ("GET", "/api/v1/me"), &plain, &proof).await), refused("DPoP", "invalid_token"));
    let mut person = browser();
    let consent = door.consent(&mut person, &[("resource", &mcp)]).await;
    let code = with_password(&mut person, &consent, "ada", PASSWORD).await.unwrap().param("code").unwrap();
    let given = door.redeem(&code).await.expect(200).json();
    assert_eq!(given["token_type"], "Bearer");
    let unbound = text(&given, "access_token");
    let proof = key.proof(post, Some(&unbound));
    let shown = knock(door, ("POST", "/mcp"), &format!("DPoP {unbound}"), &proof).await;
    assert_eq!(challenged(&shown), refused("DPoP", "invalid_token"));
    knock(door, ("POST", "/mcp"), &format!("Bearer {unbound}"), "").await.expect(200);
    // It may be bound from now on, and is then for good.
    let given = key.refresh(door, &text(&given, "refresh_token")).await.expect(200).json();
    assert_eq!(given["token_type"], "DPoP");
    let last = text(&given, "refresh_token");
    assert_eq!(door.refresh(&last, &[]).await.error(), (400, "invalid_dpop_proof".to_owned()));

    let traces = traces(door).await;
    for told in ["its code is bound to a key of the program", ", bound to a key of the program", "\"other_key\""] {
        assert!(traces.contains(told), "{told}: {traces}");
    }
    let metrics = door.metrics().await;
    for reason in ["bound_token", "not_bound", "other_key", "proof_missing", "proof_replayed", "proof_address"] {
        let line = format!("method=\"validate\",result=\"failure\",reason=\"{reason}\"}}");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_proof_that_lacks_one_thing_is_refused_at_the_token_endpoint_and_at_every_resource() {
    let world = World::start().await;
    let key = Key::new();
    let code = world.code("/api/v1", "mcp").await;
    let given = key.token(&world, &fields_of_code(&world, &code)).await.expect(200).json();
    let access = text(&given, "access_token");
    let dpop = format!("DPoP {access}");
    let (endpoint, me) = (world.uri("/oauth/token"), world.uri("/api/v1/me"));
    let secret = world.service("night", &["mcp"]).await;
    let own = [("grant_type", "client_credentials"), ("client_id", "night"), ("client_secret", secret.as_str())];
    let mut private = key.public.clone();
    private["d"] = json!("AAAA");
    let at = now().unix_timestamp();
    let other = Key::new().public;
    for (head, claims) in [
        (json!({"typ": "JWT"}), json!({})),
        (json!({"typ": null}), json!({})),
        (json!({"alg": "none"}), json!({})),
        (json!({"alg": "HS256"}), json!({})),
        (json!({"jwk": null}), json!({})),
        (json!({"jwk": private}), json!({})),
        (json!({}), json!({"jti": null})),
        (json!({}), json!({"htm": null})),
        (json!({}), json!({"htm": "PUT"})),
        (json!({}), json!({"htu": null})),
        (json!({}), json!({"htu": "https://other.example/"})),
        (json!({}), json!({"iat": null})),
        (json!({}), json!({"iat": at - 400})),
        (json!({}), json!({"iat": at + 400})),
    ] {
        let proof = key.bent(("POST", &endpoint), None, head.clone(), claims.clone());
        let answer = world.form("/oauth/token", &[("dpop", &proof)], &own).await;
        assert_eq!(answer.error(), (400, "invalid_dpop_proof".to_owned()), "{head} {claims}");
        let proof = key.bent(("GET", &me), Some(&access), head.clone(), claims.clone());
        let answer = knock(&world, ("GET", "/api/v1/me"), &dpop, &proof).await;
        assert_eq!(challenged(&answer), refused("DPoP", "invalid_dpop_proof"), "{head} {claims}");
        assert_eq!(answer.json()["code"], "INVALID_PROOF");
    }
    // Signed by another key than it names; for another access token; two of them; none that could be read.
    let forged = key.bent(("POST", &endpoint), None, json!({"jwk": other}), json!({}));
    let answer = world.form("/oauth/token", &[("dpop", &forged)], &own).await;
    assert_eq!(answer.error(), (400, "invalid_dpop_proof".to_owned()));
    let [one, two] = [(); 2].map(|()| key.proof(("POST", &endpoint), None));
    for headers in [vec![("dpop", one.as_str()), ("dpop", two.as_str())], vec![("dpop", "x")], vec![("dpop", "")]] {
        let answer = world.form("/oauth/token", &headers, &own).await;
        assert_eq!(answer.error(), (400, "invalid_dpop_proof".to_owned()), "{headers:?}");
    }
    world.form("/oauth/token", &[("dpop", &one)], &own).await.expect(200);
    let answer = world.form("/oauth/token", &[("dpop", &one)], &own).await;
    assert_eq!(answer.error(), (400, "invalid_dpop_proof".to_owned()), "shown before");
    let [one, two] = [(); 2].map(|()| key.proof(("GET", &me), Some(&access)));
    let twice = [("authorization", dpop.as_str()), ("dpop", &one), ("dpop", &two)];
    let answer = world.send("GET", "/api/v1/me", &twice, "").await;
    assert_eq!(challenged(&answer), refused("DPoP", "invalid_dpop_proof"));
    let shown = knock(&world, ("GET", "/api/v1/me"), &dpop, &one).await.expect(200).json();
    assert_eq!(shown["name"], "ada");
}

#[tokio::test]
async fn a_service_and_whoever_exchanges_a_token_get_one_that_is_bound_to_the_key_they_prove() {
    let world = World::start().await;
    let (key, other) = (Key::new(), Key::new());
    let secret = world.service("night", &["mcp"]).await;
    let api = world.uri("/api/v1");
    let own = [("grant_type", "client_credentials"), ("client_id", "night"), ("client_secret", secret.as_str())];
    let own = [&own[..], &[("resource", api.as_str())]].concat();
    assert_eq!(world.token(&own).await.expect(200).json()["token_type"], "Bearer");
    let given = key.token(&world, &own).await.expect(200).json();
    assert_eq!((&given["token_type"], given.get("refresh_token")), (&json!("DPoP"), None));
    let access = text(&given, "access_token");
    let me = world.uri("/api/v1/me");
    world.get("/api/v1/me", &access).await.expect(401);
    let dpop = format!("DPoP {access}");
    let shown = knock(&world, ("GET", "/api/v1/me"), &dpop, &key.proof(("GET", &me), Some(&access))).await.expect(200);
    assert_eq!(shown.json()["session_type"], "service");

    // What is bound does not become something that is not.
    let broker = broker(&world, "broker", &["mcp"]).await;
    let answer = exchange(&world, ("broker", &broker), &access, &[]).await;
    assert_eq!(answer.error(), (400, "invalid_request".to_owned()), "{}", answer.text);
    let fields = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("client_id", "broker"),
        ("client_secret", broker.as_str()),
        ("subject_token", access.as_str()),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
    ];
    assert_eq!(other.token(&world, &fields).await.error(), (400, "invalid_request".to_owned()));
    let given = key.token(&world, &fields).await.expect(200).json();
    assert_eq!(given["token_type"], "DPoP");
    world.get("/api/v1/me", &text(&given, "access_token")).await.expect(401);

    world.rest("PATCH", "/oauth-clients/night", json!({"dpop_bound_access_tokens": true})).await.expect(200);
    assert_eq!(world.token(&own).await.error(), (400, "invalid_dpop_proof".to_owned()));
    key.token(&world, &own).await.expect(200);
}

#[tokio::test]
async fn an_assertion_that_is_bound_to_a_key_takes_the_proof_of_it() {
    let world = World::start().await;
    let keys = json!({"keys": [assertions::public()]});
    let order =
        json!({"name": "corp", "issuer": assertions::ISSUER, "profiles": ["id_jag"], "role": "user", "jwks": keys});
    world.rest("POST", "/trusted-issuers", order).await.expect(201);
    let secret = assertions::client(&world, "editor", json!({"grant_types": [assertions::GRANT]})).await;
    let (key, other) = (Key::new(), Key::new());
    let who = [("grant_type", assertions::GRANT), ("client_id", "editor"), ("client_secret", secret.as_str())];
    for cnf in [json!({"jkt": key.jkt()}), json!({"jkt": 1}), json!({"kid": "x"}), json!("x"), Value::Null] {
        let said = assertions::jag(&world, json!({"cnf": cnf}));
        let shown = assertions::signed(assertions::JAG, &said, &assertions::key());
        let fields = [&who[..], &[("assertion", shown.as_str())]].concat();
        for refused in [world.token(&fields).await, other.token(&world, &fields).await] {
            assert_eq!(refused.error(), (400, "invalid_grant".to_owned()), "{cnf}");
            assert!(refused.text.contains("bound to a key (cnf)"), "{}", refused.text);
        }
        let answer = key.token(&world, &fields).await;
        if cnf["jkt"].is_string() {
            assert_eq!(answer.expect(200).json()["token_type"], "DPoP");
        } else {
            answer.expect(400);
        }
    }
}

#[tokio::test]
async fn a_client_that_wants_only_bound_tokens_gets_no_others_and_one_with_a_secret_may_change_its_key() {
    let world = World::start().await;
    let (key, other) = (Key::new(), Key::new());
    let metadata = json!({"redirect_uris": [REDIRECT], "dpop_bound_access_tokens": true});
    let made = world.register(&metadata, &[]).await.expect(201).json();
    assert_eq!(made["dpop_bound_access_tokens"], true);
    let code = async |client: &str| {
        let mut person = browser();
        let consent = world.consent(&mut person, &[("client_id", client)]).await;
        with_password(&mut person, &consent, "ada", PASSWORD).await.unwrap().param("code").unwrap()
    };
    let strict = text(&made, "client_id");
    let shown = code(&strict).await;
    let fields =
        [("grant_type", "authorization_code"), ("code", &shown), ("code_verifier", VERIFIER), ("client_id", &strict)];
    assert_eq!(world.token(&fields).await.error(), (400, "invalid_dpop_proof".to_owned()));
    assert_eq!(key.token(&world, &fields).await.expect(200).json()["token_type"], "DPoP", "the code is still good");
    let wrong = json!({"redirect_uris": [REDIRECT], "dpop_bound_access_tokens": "yes"});
    assert_eq!(world.register(&wrong, &[]).await.error(), (400, "invalid_client_metadata".to_owned()));

    let metadata = json!({"redirect_uris": [REDIRECT], "token_endpoint_auth_method": "client_secret_post"});
    let made = world.register(&metadata, &[]).await.expect(201).json();
    let (id, secret) = (text(&made, "client_id"), text(&made, "client_secret"));
    let shown = code(&id).await;
    let who = [("client_id", id.as_str()), ("client_secret", secret.as_str())];
    let fields = [("grant_type", "authorization_code"), ("code", &shown), ("code_verifier", VERIFIER)];
    let given = key.token(&world, &[&fields[..], &who].concat()).await.expect(200).json();
    let first = text(&given, "refresh_token");
    let fields = [("grant_type", "refresh_token"), ("refresh_token", first.as_str())];
    let given = other.token(&world, &[&fields[..], &who].concat()).await.expect(200).json();
    let access = text(&given, "access_token");
    let (dpop, mcp) = (format!("DPoP {access}"), world.uri("/mcp"));
    let answer = knock(&world, ("POST", "/mcp"), &dpop, &key.proof(("POST", &mcp), Some(&access))).await;
    assert_eq!(challenged(&answer), refused("DPoP", "invalid_token"));
    world.app.grants.sweep(now(), |_| {}).await.unwrap();
    let told = traces(&world).await;
    assert!(told.contains("the proof is by another key than the one that the token is bound to"), "{told}");
    knock(&world, ("POST", "/mcp"), &dpop, &other.proof(("POST", &mcp), Some(&access))).await.expect(200);

    let end = browser().open(&world.authorize(&[("dpop_jkt", "short")])).await.unwrap();
    assert_eq!(end.param("error").as_deref(), Some("invalid_request"));
}

#[tokio::test]
async fn who_shows_a_bound_token_that_lacks_a_scope_is_told_so_in_the_scheme_of_such_tokens() {
    let world = World::start().await;
    let key = Key::new();
    let bound = async |path: &str, scopes: &str| {
        let code = world.code(path, scopes).await;
        key.token(&world, &fields_of_code(&world, &code)).await.expect(200).json()
    };
    let refresh = text(&bound("/mcp", "mcp offline_access").await, "refresh_token");
    let fields = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh.as_str()),
        ("client_id", world.client.as_str()),
        ("scope", "offline_access"),
    ];
    let narrow = text(&key.token(&world, &fields).await.expect(200).json(), "access_token");
    let few = text(&bound("/api/v1", "mcp").await, "access_token");
    for (path, token, scope, resource) in [
        ("/mcp", &narrow, "mcp", "/mcp"),
        ("/messages", &narrow, "mcp", "/sse"),
        ("/api/v1/users", &few, "admin", "/api/v1"),
    ] {
        let proof = key.proof(("POST", &world.uri(path)), Some(token));
        let told = knock(&world, ("POST", path), &format!("DPoP {token}"), &proof).await.expect(403);
        let metadata = world.uri(&format!("/.well-known/oauth-protected-resource{resource}"));
        let expected = format!(
            "DPoP realm=\"mcp-gateway\", error=\"insufficient_scope\", scope=\"{scope}\", resource_metadata=\"{metadata}\", \
             algs=\"ES256 EdDSA PS256 RS256\""
        );
        assert_eq!(told.header("www-authenticate"), expected, "{path}");
    }
}

#[tokio::test]
async fn a_proof_is_of_the_public_url_whatever_the_host() {
    let world = World::with(&["--public-url=https://gateway.example/gw"]).await;
    let key = Key::new();
    let secret = world.service("night", &["mcp"]).await;
    let own = [("grant_type", "client_credentials"), ("client_id", "night"), ("client_secret", secret.as_str())];
    for (address, expected) in [
        ("https://gateway.example/gw/oauth/token", 200),
        ("https://gateway.example/oauth/token", 400),
        ("https://gateway.example/gw/oauth/token/", 400),
        (&world.uri("/oauth/token"), 400),
    ] {
        let proof = key.proof(("POST", address), None);
        world.form("/oauth/token", &[("dpop", &proof)], &own).await.expect(expected);
    }
}
