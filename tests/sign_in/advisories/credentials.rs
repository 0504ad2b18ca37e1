//! What is done with tokens and secrets.

use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::grants::{CodeTerms, Order, ScopeSet, challenge_of};
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::serve;
use mcp_registry_gateway::store::now;
use mcp_registry_gateway::store::users::UserRow;
use serde_json::{Value, json};
use testkit::sign_in::{CHALLENGE, VERIFIER};
use uuid::Uuid;

use crate::opens::knock;
use crate::world::{KEY, PASSWORD, REDIRECT, World, browser};

async fn server(world: &World, slug: &str) {
    let spec = json!({"slug": slug, "replicas": [{"url": "http://127.0.0.1:9/mcp"}]});
    world.rest("POST", "/servers", spec).await.expect(201);
}

/// Audience confusion: a token for one server, shown to its neighbour and to the whole. CVE-2025-69196.
#[tokio::test]
async fn audience_confusion() {
    let world = World::start().await;
    server(&world, "files").await;
    server(&world, "mail").await;
    let places = ["/mcp/files", "/mcp/mail", "/mcp", "/api/v1"];
    for own in places {
        let (access, refresh) = world.tokens(own, "mcp offline_access").await;
        for place in places {
            assert_eq!(knock(&world, place, &access).await != 401, place == own, "for {own}, shown at {place}");
        }
        // Nor does its refresh token become one for the neighbour.
        for other in places.into_iter().filter(|place| *place != own) {
            let told = world.refresh(&refresh, &[("resource", &world.uri(other))]).await;
            assert_eq!(told.error(), (400, "invalid_target".to_owned()), "{own} to {other}");
        }
    }
}

/// A code with a challenge is redeemed with its verifier or not at all. CVE-2025-4144.
#[tokio::test]
async fn code_without_its_verifier() {
    let world = World::start().await;
    let wrong = format!("{VERIFIER}x");
    for verifier in [None, Some(""), Some(CHALLENGE), Some(wrong.as_str())] {
        let code = world.code("/mcp", "mcp").await;
        let mut fields =
            vec![("grant_type", "authorization_code"), ("code", code.as_str()), ("client_id", &world.client)];
        fields.extend(verifier.map(|verifier| ("code_verifier", verifier)));
        assert_eq!(world.token(&fields).await.status, 400, "{verifier:?}");
    }
    for method in ["plain", ""] {
        let end = browser().open(&world.authorize(&[("code_challenge_method", method)])).await.unwrap();
        assert_eq!(end.param("error").as_deref(), Some("invalid_request"), "{method}: {}", end.url);
    }
}

/// Fall-through: what is wrong with one credential is not made up for by another, or by none.
#[tokio::test]
async fn bad_credential_beside_a_good_one() {
    let world = World::start().await;
    let mut person = browser();
    let page = person.open(&world.uri("/access")).await.unwrap();
    let page = person.submit(&page, "username", &[("username", "ada"), ("password", PASSWORD)]).await.unwrap();
    let cookie = person.jar().header(&page.url).unwrap();
    let good = format!("Bearer {KEY}");
    let cookie = ("cookie", cookie.as_str());
    let wrong = |value| ("authorization", value);
    let paths =
        ["/api/v1/me".to_owned(), format!("/api/v1/me?access_token={KEY}"), format!("/api/v1/me?api_key={KEY}")];
    for headers in [
        vec![cookie],
        vec![("x-api-key", KEY), cookie],
        vec![wrong("Bearer mcpg_at_unknown"), cookie],
        vec![wrong("Bearer mcpg_at_unknown"), wrong(&good)],
        vec![wrong(&good), wrong("Bearer mcpg_at_unknown")],
        vec![wrong("Bearer mcpg_at_unknown"), ("x-api-key", KEY), ("proxy-authorization", &good)],
        vec![wrong("Bearer "), ("x-forwarded-user", "admin")],
        vec![wrong("Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiIsInJvbGUiOiJhZG1pbiJ9."), cookie],
        vec![wrong("Basic YWRtaW46YWRtaW4="), cookie],
        vec![wrong(KEY)],
    ] {
        for path in &paths {
            world.send("GET", path, &headers, "").await.expect(401);
        }
    }
    // A client that has a secret shows it, and one proof only.
    let secret = world.service("night", &["mcp"]).await;
    let own = [("grant_type", "client_credentials"), ("client_id", "night")];
    for (more, status) in [
        (vec![], 401),
        (vec![("client_secret", "")], 401),
        (vec![("client_secret", "wrong")], 401),
        (vec![("client_secret", secret.as_str()), ("client_assertion", "x")], 400),
        (vec![("client_assertion", "x")], 400),
    ] {
        world.token(&[&own, more.as_slice()].concat()).await.expect(status);
    }
    world.token(&[&own[..], &[("client_secret", secret.as_str())]].concat()).await.expect(200);
}

/// One kind of token shown as another: a refresh token as access token, and every other pair.
#[tokio::test]
async fn one_kind_of_token_for_another() {
    let world = World::start().await;
    let (access, refresh) = world.tokens("/api/v1", "mcp offline_access").await;
    let code = world.code("/api/v1", "mcp").await;
    let secret = world.service("night", &["mcp"]).await;
    for wrong in [&refresh, &code, &secret, &world.client] {
        let told = world.get("/api/v1/me", wrong).await.expect(401);
        assert!(told.header("www-authenticate").contains("error=\"invalid_token\""), "{told:?}");
    }
    for wrong in [access.as_str(), &code, KEY, &secret] {
        assert_eq!(world.refresh(wrong, &[]).await.error().1, "invalid_grant");
    }
    for wrong in [access.as_str(), &refresh, KEY] {
        assert_eq!(world.redeem(wrong).await.error().1, "invalid_grant");
    }
    world.get("/api/v1/me", &access).await.expect(200);
}

/// Default and weak secrets: there is none to begin with, and a start with one that can be guessed is refused.
#[tokio::test]
async fn default_secret() {
    let azure = ["--azure-tenant-id=contoso.example", "--azure-client-id=11111111-1111-4111-8111-111111111111"];
    let with = |more: String| azure.iter().map(|arg| (*arg).to_owned()).chain([more]).collect::<Vec<_>>();
    let token = |text| vec!["--client-registration=token".into(), format!("--client-registration-token={text}")];
    for args in [
        vec!["--bootstrap-admin-key=mcpg_change-me".to_owned()],
        vec!["--bootstrap-admin-key=mcpg_00000000000000000000000000000000".to_owned()],
        vec![format!("--bootstrap-admin-key=mcpg_at_{}", &KEY[5..])],
        vec!["--master-key=changeme".to_owned()],
        vec!["--master-key=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned()],
        token("changeme"),
        token(""),
        with("--azure-client-secret=changeme".to_owned()),
        with("--azure-client-secret=your-client-secret-here".to_owned()),
        with("--azure-client-secret=aaaaaaaaaaaaaaaa".to_owned()),
        with("--azure-client-secret=11111111-1111-4111-8111-111111111111".to_owned()),
    ] {
        let folder = std::env::temp_dir().join(format!("mcp-gateway-weak-{}", Uuid::now_v7()));
        let own = ["--port=0".to_owned(), format!("--data-dir={}", folder.display())];
        let args: Vec<String> = own.into_iter().chain(args).collect();
        let refused = match Settings::from_args(&args, &DotEnv::default()) {
            Ok(settings) => match serve::start(settings).await {
                Ok(_) => panic!("it started with {args:?}"),
                Err(error) => format!("{error:#}"),
            },
            Err(error) => error.to_string(),
        };
        assert!(refused.contains("MREG_") || refused.contains("--"), "it names the setting: {refused}");
        assert!(!folder.exists(), "nothing was written: {args:?}");
    }
    // What is made at a first start is another each time.
    let [one, two] = [World::start().await, World::start().await];
    assert_eq!(two.send("GET", &path_of(&two.authorize(&[("client_id", &one.client)])), &[], "").await.status, 400);
}

fn path_of(url: &str) -> String {
    url::Url::parse(url).unwrap()[url::Position::BeforePath..].to_owned()
}

/// Another tenant's things, by their ids: what Obot's gateway gave to whoever knew an id, before 0.21.1.
#[tokio::test]
async fn objects_of_another_tenant() {
    let world = World::start().await;
    let acme = world.app.store.add_tenant("acme", "Acme").await.unwrap();
    let eve = UserRow {
        id: Uuid::now_v7(),
        username: "eve".into(),
        role: "admin".into(),
        state: "active".into(),
        ..UserRow::default()
    };
    world.app.store.insert_user(&acme, &eve).await.unwrap();
    let token_of = async |tenant: TenantId, user: Uuid, path: &str| {
        let order = Order {
            tenant,
            user,
            client_id: world.client.clone(),
            client_name: None,
            resource: world.uri(path),
            scopes: ScopeSet::ALL,
            login_method: "local".to_owned(),
            login: None,
        };
        let terms = CodeTerms {
            redirect_uri: REDIRECT.to_owned(),
            code_challenge: challenge_of(VERIFIER),
            key: None,
            trace: None,
        };
        let code = world.app.grants.grant(&order, &terms, now()).await.unwrap().code;
        world.redeem(code.expose()).await.expect(200).json()["access_token"].as_str().unwrap().to_owned()
    };
    let eves = token_of(acme.clone(), eve.id, "/api/v1").await;
    world.get("/api/v1/users", &eves).await.expect(200);

    server(&world, "files").await;
    let service = world.service("night", &["mcp"]).await;
    let key = json!({"name": "hers", "username": "ada", "servers": ["*"], "tools": ["*"]});
    let key = world.rest("POST", "/keys", key).await.expect(201).json();
    let bearer = format!("Bearer {eves}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let (user, key_id) = (world.user.to_string(), key["id"].as_str().unwrap());
    for (method, path, body) in [
        ("GET", "/servers/files".to_owned(), Value::Null),
        ("PATCH", "/servers/files".to_owned(), json!({"enabled": true})),
        ("DELETE", "/servers/files".to_owned(), Value::Null),
        ("GET", format!("/users/{user}"), Value::Null),
        ("GET", "/users/ada".to_owned(), Value::Null),
        ("PATCH", format!("/users/{user}"), json!({"state": "disabled"})),
        ("POST", format!("/users/{user}/password"), json!({"password": "another long pass phrase"})),
        ("DELETE", format!("/users/{user}"), Value::Null),
        ("DELETE", format!("/keys/{key_id}"), Value::Null),
        ("GET", "/oauth-clients/night".to_owned(), Value::Null),
        ("PATCH", "/oauth-clients/night".to_owned(), json!({"name": "mine"})),
        ("POST", "/oauth-clients/night/secrets".to_owned(), Value::Null),
        ("DELETE", "/oauth-clients/night".to_owned(), Value::Null),
    ] {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let told = world.send(method, &format!("/api/v1{path}"), &headers, &body).await;
        assert_eq!(told.status, 404, "{method} {path}: {}", told.text);
        // In the words for what is not there at all.
        let nowhere = path.replace("files", "nowhere").replace("night", "nobody").replace(key_id, &user);
        let nowhere = nowhere.replace("/users/ada", "/users/nobody").replace(&user, &Uuid::now_v7().to_string());
        let unknown = world.send(method, &format!("/api/v1{nowhere}"), &headers, &body).await.json();
        assert_eq!((&told.json()["code"], &told.json()["detail"]), (&unknown["code"], &unknown["detail"]), "{path}");
    }
    for path in ["/servers", "/users", "/keys", "/oauth-clients"] {
        let text = world.get(&format!("/api/v1{path}"), &eves).await.expect(200).text;
        for theirs in ["files", "ada", "hers", "night", &user, key_id] {
            assert!(!text.contains(&format!("\"{theirs}\"")), "{path}: {text}");
        }
    }
    // At the gateway a server of another tenant is one that is not there.
    let eves_mcp = token_of(acme.clone(), eve.id, "/mcp/files").await;
    let adas_mcp = token_of(TenantId::default_tenant(), world.user, "/mcp/files").await;
    let nowhere = token_of(acme, eve.id, "/mcp/nowhere").await;
    let (theirs, none) = (knock(&world, "/mcp/files", &eves_mcp).await, knock(&world, "/mcp/nowhere", &nowhere).await);
    assert_eq!((theirs, none), (404, 404));
    assert_ne!(knock(&world, "/mcp/files", &adas_mcp).await, 404);
    assert!(world.app.keyring.authenticate(key["key"].as_str().unwrap(), now()).is_ok() && !service.is_empty());
}
