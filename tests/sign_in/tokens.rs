//! The token endpoint: each way to tokens, and everything that can be wrong on it.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use mcp_registry_gateway::protocol::oauth::CLIENT_ASSERTION;
use mcp_registry_gateway::store::now;
use serde_json::{Value, json};
use testkit::sign_in::{VERIFIER, with_password};

use crate::world::{Answer, PASSWORD, REDIRECT, World, browser};

fn error(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_code_gives_tokens_that_are_kept_by_nobody_on_the_way() {
    let world = World::start().await;
    let answer = world.redeem(&world.code("/mcp", "mcp offline_access").await).await.expect(200);
    assert_eq!((answer.header("cache-control"), answer.header("pragma")), ("no-store", "no-cache"));
    let given = answer.json();
    assert_eq!((&given["token_type"], &given["scope"]), (&json!("Bearer"), &json!("mcp offline_access")));
    assert!((890..=900).contains(&given["expires_in"].as_i64().unwrap()), "{given}");
    let text = |name: &str| given[name].as_str().unwrap().to_owned();
    assert!(text("access_token").starts_with("mcpg_at_") && text("refresh_token").starts_with("mcpg_rt_"));

    let without = world.redeem(&world.code("/mcp", "mcp").await).await.expect(200).json();
    assert_eq!(without.get("refresh_token"), None);
}

#[tokio::test]
async fn a_code_that_was_sent_where_its_client_is_no_longer_answered_is_none() {
    let world = World::start().await;
    let client = |uris: &[&str]| json!({"client_id": "desk", "name": "Desk", "kind": "public", "redirect_uris": uris});
    world.rest("POST", "/oauth-clients", client(&[REDIRECT, "https://desk.example/cb"])).await.expect(201);
    let redeem = async |code: &str| {
        let form =
            [("grant_type", "authorization_code"), ("client_id", "desk"), ("code", code), ("code_verifier", VERIFIER)];
        world.token(&form).await.error()
    };
    let codes = [world.code_of("desk", "/mcp", "mcp").await, world.code_of("desk", "/mcp", "mcp").await];
    assert_eq!(redeem(&codes[0]).await, error(200, ""));
    let fewer = json!({"redirect_uris": ["https://desk.example/cb"]});
    world.rest("PATCH", "/oauth-clients/desk", fewer).await.expect(200);
    assert_eq!(redeem(&codes[1]).await, error(400, "invalid_grant"));
}

#[tokio::test]
async fn a_code_is_good_once_for_whom_it_was_made() {
    let world = World::start().await;
    let mine = world.uri("/mcp");
    let other = world.uri("/mcp/files");
    let too_long = "v".repeat(129);
    for (field, value, expected) in [
        ("code", "", error(400, "invalid_request")),
        ("code", "mcpg_ac_nonsense", error(400, "invalid_grant")),
        ("code_verifier", "", error(400, "invalid_request")),
        ("code_verifier", too_long.as_str(), error(400, "invalid_grant")),
        ("redirect_uri", "http://127.0.0.1:7778/callback", error(400, "invalid_grant")),
        ("resource", other.as_str(), error(400, "invalid_target")),
        ("resource", "https://other.example/mcp", error(400, "invalid_target")),
        ("resource", mine.as_str(), error(200, "")),
    ] {
        let code = world.code("/mcp", "mcp").await;
        let fields = [
            ("grant_type", "authorization_code"),
            ("client_id", &world.client),
            ("code", &code),
            ("code_verifier", VERIFIER),
            ("redirect_uri", REDIRECT),
        ];
        let mut fields: Vec<(&str, &str)> = fields.into_iter().filter(|(name, _)| *name != field).collect();
        fields.push((field, value));
        assert_eq!(world.token(&fields).await.error(), expected, "{field}={value}");
    }
    let code = world.code("/api/v1", "mcp").await;
    let access = world.redeem(&code).await.expect(200).json()["access_token"].as_str().unwrap().to_owned();
    world.get("/api/v1/me", &access).await.expect(200);
    assert_eq!(world.redeem(&code).await.error(), error(400, "invalid_grant"));
    world.get("/api/v1/me", &access).await.expect(401);
    let counted =
        "mcp_auth_events_total{tenant_id=\"default\",method=\"login\",result=\"failure\",reason=\"code_reuse\"} 1";
    assert!(world.metrics().await.contains(counted));
}

#[tokio::test]
async fn details_of_an_authorization_are_refused_and_never_left_out() {
    let world = World::start().await;
    let details = ("authorization_details", r#"[{"type":"calendar"}]"#);
    let code = world.code("/mcp", "mcp offline_access").await;
    let shown = [
        ("grant_type", "authorization_code"),
        ("client_id", world.client.as_str()),
        ("code", code.as_str()),
        ("code_verifier", VERIFIER),
        ("redirect_uri", REDIRECT),
    ];
    let invalid = error(400, "invalid_authorization_details");
    let refused = world.token(&[&shown[..], &[details]].concat()).await;
    assert_eq!(refused.error(), invalid);
    assert!(refused.text.contains("by scope and resource"), "{}", refused.text);
    let given = world.token(&shown).await.expect(200).json();
    let refresh = given["refresh_token"].as_str().unwrap();
    assert_eq!(world.refresh(refresh, &[details]).await.error(), invalid);
    world.refresh(refresh, &[]).await.expect(200);

    let secret = world.service("night", &["mcp"]).await;
    let own = [("grant_type", "client_credentials"), ("client_id", "night"), ("client_secret", secret.as_str())];
    assert_eq!(world.token(&[&own[..], &[details]].concat()).await.error(), invalid);
    world.token(&[&own[..], &[("authorization_details", "")]].concat()).await.expect(200);
}

#[tokio::test]
async fn a_session_goes_on_by_its_newest_token() {
    let world = World::start().await;
    let (first_access, first) = world.tokens("/api/v1", "mcp admin offline_access").await;
    let next = world.refresh(&first, &[]).await.expect(200).json();
    assert_eq!(world.refresh(&first, &[]).await.expect(200).json()["refresh_token"], next["refresh_token"]);
    let second = next["refresh_token"].as_str().unwrap();

    for (more, expected) in [
        (("resource", world.uri("/mcp")), error(400, "invalid_target")),
        (("resource", "https://other.example".to_owned()), error(400, "invalid_target")),
        (("scope", "nothing known".to_owned()), error(400, "invalid_scope")),
    ] {
        assert_eq!(world.refresh(second, &[(more.0, &more.1)]).await.error(), expected, "{more:?}");
    }
    let narrow = world.refresh(second, &[("scope", "mcp"), ("resource", &world.uri("/api/v1/"))]).await;
    let narrow = narrow.expect(200).json();
    assert_eq!(narrow["scope"], "mcp");
    let third = narrow["refresh_token"].as_str().unwrap();
    assert_eq!(world.refresh(third, &[]).await.expect(200).json()["scope"], "mcp admin offline_access");

    // Somebody else has the first one.
    assert_eq!(world.refresh(&first, &[]).await.error(), error(400, "invalid_grant"));
    world.get("/api/v1/me", &first_access).await.expect(401);
    assert_eq!(world.refresh(&first_access, &[]).await.error(), error(400, "invalid_grant"));
    let text = world.metrics().await;
    for (result, reason) in [("success", ""), ("failure", "reuse"), ("failure", "malformed"), ("failure", "resource")] {
        let line = format!("method=\"refresh\",result=\"{result}\",reason=\"{reason}\"}}");
        assert!(text.contains(&line), "{line}: {text}");
    }
}

#[tokio::test]
async fn a_service_gets_a_token_for_itself_and_no_more_than_it_was_given() {
    let world = World::start().await;
    let secret = world.service("night", &["mcp", "admin"]).await;
    let api = world.uri("/api/v1");
    let ask = async |more: &[(&str, &str)]| -> Answer {
        let own = [("grant_type", "client_credentials"), ("client_id", "night"), ("client_secret", secret.as_str())];
        world.token(&[&own, more].concat()).await
    };
    let given = ask(&[]).await.expect(200).json();
    assert_eq!((&given["scope"], given.get("refresh_token")), (&json!("mcp"), None), "for /mcp");
    let given = ask(&[("resource", &api), ("scope", "mcp offline_access")]).await.expect(200).json();
    assert_eq!((&given["scope"], given.get("refresh_token")), (&json!("mcp"), None));
    let given = ask(&[("resource", &api)]).await.expect(200).json();
    assert_eq!(given["scope"], "mcp admin");
    let me = world.get("/api/v1/me", given["access_token"].as_str().unwrap()).await.expect(200).json();
    assert_eq!((&me["name"], &me["session_type"]), (&json!("night"), &json!("service")));
    for (more, expected) in [
        (("scope", "admin"), error(400, "invalid_scope")),
        (("scope", "offline_access"), error(400, "invalid_scope")),
        (("scope", "unknown"), error(400, "invalid_scope")),
        (("resource", "https://other.example/mcp"), error(400, "invalid_target")),
        (("client_secret", "x"), error(400, "invalid_request")),
        (("client_assertion", "x"), error(400, "invalid_request")),
    ] {
        assert_eq!(ask(&[more]).await.error(), expected, "{more:?}");
    }
    let text = world.metrics().await;
    let sessions = "mcp_user_sessions_active{tenant_id=\"default\",session_type=\"service\",activity=\"active\"} 3";
    assert!(text.contains(sessions), "{text}");
    assert!(text.contains("mcp_token_cache_entries 1\n") && text.contains("mcp_token_cache_limit "), "{text}");
}

#[tokio::test]
async fn a_client_proves_who_it_is_by_one_method_and_learns_nothing_from_failing() {
    let world = World::start().await;
    let secret = world.service("night", &["mcp"]).await;
    let basic = |id: &str, secret: &str| {
        use base64::Engine as _;
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{id}:{secret}")))
    };
    let kind = ("grant_type", "client_credentials");
    let by_header = async |value: &str| world.form("/oauth/token", &[("authorization", value)], &[kind]).await;
    by_header(&basic("night", &secret)).await.expect(200);
    let wrong = by_header(&basic("night", "mcpg_cs_wrong")).await;
    let unknown = by_header(&basic("nobody", "mcpg_cs_wrong")).await;
    assert_eq!(wrong.text, unknown.text, "who is there is not told");
    for answer in [wrong, unknown] {
        assert_eq!(answer.error(), error(401, "invalid_client"));
        assert!(answer.header("www-authenticate").starts_with("Basic realm="), "{answer:?}");
    }
    let by_form =
        async |id: &str, more: &[(&str, &str)]| world.token(&[&[kind, ("client_id", id)], more].concat()).await;
    for (id, more) in [("night", vec![("client_secret", "wrong")]), ("nobody", vec![]), ("night", vec![])] {
        let answer = by_form(id, &more).await;
        assert_eq!((answer.error(), answer.header("www-authenticate")), (error(401, "invalid_client"), ""), "{id}");
    }
    assert_eq!(by_header("Bearer x").await.error(), error(400, "invalid_request"));
    assert_eq!(by_form(&world.client, &[]).await.error(), error(400, "unauthorized_client"));
    let refused = "method=\"client_credentials\",result=\"failure\",reason=\"invalid_client\"} 5";
    assert!(world.metrics().await.contains(refused));
}

#[tokio::test]
async fn what_is_no_request_for_tokens_is_told_what_is_wrong_with_it() {
    let world = World::start().await;
    let form = "application/x-www-form-urlencoded";
    let large = format!("grant_type=refresh_token&refresh_token={}", "x".repeat(17_000));
    for (kind, body, expected) in [
        (form, "", error(400, "invalid_request")),
        (form, "grant_type=", error(400, "invalid_request")),
        (form, "grant_type=refresh_token", error(400, "invalid_request")),
        (form, "grant_type=password&client_id=x", error(400, "unsupported_grant_type")),
        (form, "grant_type=implicit", error(400, "unsupported_grant_type")),
        (form, "grant_type=refresh_token&grant_type=refresh_token", error(400, "invalid_request")),
        (form, "grant_type=refresh_token&resource=a&resource=b", error(400, "invalid_target")),
        ("application/json", "{\"grant_type\":\"refresh_token\"}", error(400, "invalid_request")),
        (form, &large, error(413, "invalid_request")),
    ] {
        let answer = world.send("POST", "/oauth/token", &[("content-type", kind)], body).await;
        assert_eq!(answer.error(), expected, "{body:.60}");
        assert_eq!((answer.header("cache-control"), answer.header("content-type")), ("no-store", "application/json"));
        assert!(answer.json()["error_description"].as_str().is_some_and(str::is_ascii), "{}", answer.text);
    }
    world.send("GET", "/oauth/token?grant_type=refresh_token", &[], "").await.expect(405);
    let own = [("grant_type", "refresh_token"), ("client_id", world.client.as_str())];
    assert_eq!(world.token(&own).await.error(), error(400, "invalid_request"));
    assert_eq!(world.form("/oauth/revoke", &[], &own).await.error(), error(400, "invalid_request"));
}

#[tokio::test]
async fn a_token_of_another_client_is_neither_refreshed_nor_ended() {
    let world = World::start().await;
    let (access, refresh) = world.tokens("/api/v1", "mcp offline_access").await;
    let other = world.registered(&json!({"redirect_uris": [REDIRECT], "client_name": "Another"})).await;
    let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str()), ("client_id", &other)];
    assert_eq!(world.token(&fields).await.error(), error(400, "invalid_grant"));
    let fields = [("token", access.as_str()), ("client_id", &other)];
    assert_eq!(world.form("/oauth/revoke", &[], &fields).await.error(), error(400, "invalid_grant"));
    world.get("/api/v1/me", &access).await.expect(200);
    world.refresh(&refresh, &[]).await.expect(200);
    assert_ne!(world.get("/api/v1/me", &access).await.expect(200).json()["credential_id"], Value::Null);
}

#[tokio::test]
async fn an_assertion_for_the_issuer_or_the_endpoint_gets_a_token_once() {
    let world = World::start().await;
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/src/net/testdata/server.key");
    let key = EncodingKey::from_ec_pem(&std::fs::read(key).unwrap()).unwrap();
    let keys = json!({"keys": [Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()]});
    let order = json!({"client_id": "signer", "name": "Signer", "kind": "service", "jwks": keys});
    world.rest("POST", "/oauth-clients", order).await.expect(201);
    let sign = |audience: &str, jti: &str| {
        let ends = now().unix_timestamp() + 60;
        let claims = json!({"iss": "signer", "sub": "signer", "aud": audience, "jti": jti, "exp": ends});
        encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap()
    };
    let show = async |assertion: &str| {
        let kind = ("client_assertion_type", CLIENT_ASSERTION);
        world.token(&[("grant_type", "client_credentials"), kind, ("client_assertion", assertion)]).await
    };
    let good = sign(&world.url, "1");
    show(&good).await.expect(200);
    assert_eq!(show(&good).await.error(), error(401, "invalid_client"), "shown before");
    show(&sign(&world.uri("/oauth/token"), "2")).await.expect(200);
    for audience in ["https://other.example", &world.uri("/oauth/token/"), &world.uri("/mcp")] {
        assert_eq!(show(&sign(audience, "3")).await.error(), error(401, "invalid_client"), "{audience}");
    }
    // What the same key signed for something else is no proof, and that is said whichever client it names.
    for (client, typ, holds) in
        [("signer", "client-authentication+jwt", true), ("signer", "at+jwt", false), ("nobody", "at+jwt", false)]
    {
        let ends = now().unix_timestamp() + 60;
        let claims = json!({"iss": client, "sub": client, "aud": world.url, "jti": typ, "exp": ends});
        let header = Header { typ: Some(typ.to_owned()), ..Header::new(Algorithm::ES256) };
        let answer = show(&encode(&header, &claims, &key).unwrap()).await;
        if holds {
            answer.expect(200);
        } else {
            assert_eq!(answer.error(), error(401, "invalid_client"));
            let text = answer.json()["error_description"].as_str().unwrap().to_owned();
            assert!(text.contains("must say typ"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_client_that_exchanges_refresh_tokens_gets_one_without_asking_and_no_other_does() {
    let world = World::start().await;
    let only_codes = json!({"redirect_uris": [REDIRECT], "grant_types": ["authorization_code"]});
    let only_codes = world.registered(&only_codes).await;
    let both = json!({"redirect_uris": [REDIRECT], "grant_types": ["authorization_code", "refresh_token"]});
    let both = world.registered(&both).await;
    for (id, scopes) in [("desk", json!(["mcp"])), ("lamp", json!(["mcp", "offline_access"]))] {
        let uris = json!(["http://127.0.0.1/callback"]);
        let order = json!({"client_id": id, "name": id, "kind": "public", "redirect_uris": uris, "scopes": scopes});
        world.rest("POST", "/oauth-clients", order).await.expect(201);
    }
    let mut of_lamp = String::new();
    for (client, scope, stays) in [
        (world.client.as_str(), "mcp", true),
        (&both, "mcp", true),
        (&both, "", true),
        (&both, "mcp offline_access", true),
        (&only_codes, "mcp offline_access", false),
        ("desk", "mcp offline_access", false),
        ("lamp", "mcp", true),
    ] {
        let mut person = browser();
        let consent = world.consent(&mut person, &[("client_id", client), ("scope", scope)]).await;
        assert_eq!(consent.text().contains("stay connected"), stays, "{client} {scope}: {}", consent.text());
        let end = with_password(&mut person, &consent, "ada", PASSWORD).await.unwrap();
        let code = end.param("code").unwrap();
        let fields =
            [("grant_type", "authorization_code"), ("code", &code), ("code_verifier", VERIFIER), ("client_id", client)];
        let given = world.token(&fields).await.expect(200).json();
        assert_eq!(given["scope"], if stays { "mcp offline_access" } else { "mcp" }, "{client} {scope}");
        assert_eq!(given.get("refresh_token").is_some(), stays, "{client} {scope}");
        given["refresh_token"].as_str().unwrap_or_default().clone_into(&mut of_lamp);
    }
    let end =
        browser().open(&world.authorize(&[("client_id", &only_codes), ("scope", "offline_access")])).await.unwrap();
    assert_eq!(end.param("error").as_deref(), Some("invalid_scope"), "nothing is left of it");
    // What an administrator takes away is gone for what was given before, too.
    world.rest("PATCH", "/oauth-clients/lamp", json!({"scopes": ["mcp"]})).await.expect(200);
    let again = [("grant_type", "refresh_token"), ("refresh_token", of_lamp.as_str()), ("client_id", "lamp")];
    assert_eq!(world.token(&again).await.error(), error(400, "unauthorized_client"));
}
