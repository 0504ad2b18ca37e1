//! What is kept of attempts to sign in, as an administrator reads it: whole ones, broken ones, ones that nobody came back to; and
//! that nothing in them opens anything.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use mcp_registry_gateway::grants::TraceFilter;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use testkit::client::{Client, Request};
use testkit::entra::CONTOSO;
use url::form_urlencoded::Serializer;

use crate::entra::{house, leave};
use crate::world::{KEY, PASSWORD, REDIRECT, VERIFIER, World, new_browser};

/// A request without a credential; its status and JSON.
async fn send(world: &World, method: Method, path: &str, kind: &str, body: String) -> (u16, Value) {
    let request = Request::new(method, body.into()).path(path).header("content-type", kind);
    let request = request.header("accept", "application/json, text/event-stream");
    let reply = Client::new(&world.running.url()).send(request).await.unwrap();
    let status = reply.status.as_u16();
    (status, serde_json::from_str(&reply.text().await.unwrap()).unwrap_or(Value::Null))
}

async fn form(world: &World, fields: &[(&str, &str)]) -> (u16, Value) {
    let body = Serializer::new(String::new()).extend_pairs(fields).finish();
    send(world, Method::POST, "/oauth/token", "application/x-www-form-urlencoded", body).await
}

async fn redeem(world: &World, client: &str, code: &str, verifier: &str) -> (u16, Value) {
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("code_verifier", verifier),
        ("client_id", client),
        ("redirect_uri", REDIRECT),
    ];
    form(world, &fields).await
}

async fn call(world: &World, path: &str, token: &str) -> u16 {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let request =
        Request::new(Method::POST, body.to_string().into()).path(path).header("content-type", "application/json");
    let request = request.header("accept", "application/json, text/event-stream");
    Client::new(&world.running.url()).bearer(token).send(request).await.unwrap().status.as_u16()
}

/// Lets time pass for what is noted later.
async fn after(world: &World, minutes: u64) {
    let then = mcp_registry_gateway::store::now() + Duration::from_secs(minutes * 60);
    world.app.grants.sweep(then, |_| {}).await.unwrap();
}

/// The attempts that a search finds.
async fn list(world: &World, search: &str) -> Vec<Value> {
    let found = world.rest(Method::GET, &format!("/sign-ins{search}"), &Value::Null).await;
    found["items"].as_array().unwrap().clone()
}

/// The last of them, whole.
async fn last(world: &World) -> Value {
    let id = list(world, "?limit=1").await[0]["id"].as_str().unwrap().to_owned();
    world.rest(Method::GET, &format!("/sign-ins/{id}"), &Value::Null).await
}

/// Its steps in a line, as [`World::steps`] writes them, with `?` behind what is a guess.
fn line(whole: &Value) -> String {
    let step = |step: &Value| {
        let mark = if step["ok"] == true { "" } else { "!" };
        let guess = if step["inferred"] == true { "?" } else { "" };
        format!("{mark}{}{guess}", step["step"].as_str().unwrap())
    };
    let steps: Vec<_> = whole["steps"].as_array().unwrap().iter().map(step).collect();
    format!("{} → {}", steps.join(" "), whole["outcome"].as_str().unwrap())
}

fn code(page: &testkit::browser::Page) -> String {
    page.param("code").unwrap_or_else(|| panic!("no code at {}: {}", page.url, page.text()))
}

#[tokio::test]
async fn an_attempt_is_one_line_from_the_first_metadata_to_the_first_call() {
    let world = World::new().await;
    assert_eq!(call(&world, "/mcp", "").await, 401);
    for path in ["/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"] {
        assert_eq!(send(&world, Method::GET, path, "", String::new()).await.0, 200);
    }
    let body = json!({"client_name": "Zed", "redirect_uris": [REDIRECT]}).to_string();
    let (status, made) = send(&world, Method::POST, "/oauth/register", "application/json", body).await;
    assert_eq!(status, 201, "{made}");
    let client = made["client_id"].as_str().unwrap();

    let mut browser = new_browser();
    let asked = world.authorize(&[("client_id", client), ("scope", "mcp offline_access")]);
    let page = browser.open(&asked).await.unwrap();
    assert_eq!(list(&world, "").await[0]["stopped_at"]["step"], "consent", "what is waited for");
    let end = world.sign_in(&mut browser, &page).await;
    let code = code(&end);
    let (status, given) = redeem(&world, client, &code, VERIFIER).await;
    assert_eq!(status, 200, "{given}");
    let (access, refresh) = (given["access_token"].as_str().unwrap(), given["refresh_token"].as_str().unwrap());
    assert_eq!(last(&world).await["stopped_at"]["step"], "call");
    assert_eq!(call(&world, "/mcp", access).await, 200);

    let whole = last(&world).await;
    assert_eq!(
        line(&whole),
        "challenge? metadata? metadata? register authorize client request consent account code token call → success"
    );
    assert_eq!((&whole["username"], &whole["client_name"]), (&json!("ada"), &json!("Zed")));
    assert_eq!((&whole["stopped_at"], &whole["advice"]), (&Value::Null, &Value::Null));
    for (search, found) in [
        ("?user=ADA", 1),
        ("?user=nobody", 0),
        ("?client=zed", 1),
        ("?client=%25", 0),
        ("?outcome=failure,abandoned", 0),
        ("?outcome=success&since=2026-01-01T00:00:00Z", 1),
        ("?since=2199-01-01T00:00:00Z", 0),
    ] {
        assert_eq!(list(&world, search).await.len(), found, "{search}");
    }
    assert_eq!(list(&world, &format!("?client={client}")).await.len(), 1, "by the whole id");

    let cookies = format!("{:?}", browser.jar());
    let state = "the client's & own";
    let everything = format!("{whole}{}", json!(list(&world, "").await));
    let cookie = cookies.split('"').filter(|text| text.len() == 43).map(str::to_owned);
    let secrets = [access, refresh, &code, client, VERIFIER, PASSWORD, KEY, state].map(str::to_owned);
    for secret in secrets.into_iter().chain(cookie) {
        assert!(!everything.contains(&secret), "{secret} in {everything}");
    }
}

#[tokio::test]
async fn what_fails_before_there_is_a_client_or_a_page_is_there_with_advice() {
    let world = World::new().await;
    let mut browser = new_browser();
    for (changes, stopped, advice) in [
        ([("client_id", "mcpg_dc_none")], ("client", "unknown_client"), "add it anew"),
        ([("redirect_uri", "http://127.0.0.1/elsewhere?code=s3cr3t")], ("client", "redirect_uri"), "clients edit"),
        ([("code_challenge", "")], ("request", "invalid_request"), "PKCE"),
    ] {
        browser.open(&world.authorize(&changes)).await.unwrap();
        let whole = last(&world).await;
        let stop = &whole["stopped_at"];
        assert_eq!((stop["step"].as_str().unwrap(), stop["reason"].as_str().unwrap()), stopped, "{whole}");
        assert!(whole["advice"].as_str().unwrap().contains(advice), "{whole}");
        assert!(!whole.to_string().contains("s3cr3t"), "{whole}");
    }
    assert_eq!(list(&world, "?outcome=failure").await.len(), 3);
    let refused = form(&world, &[("grant_type", "authorization_code"), ("code", "x"), ("client_id", "nobody")]).await;
    assert_eq!(refused.0, 401);
    let whole = last(&world).await;
    assert_eq!((line(&whole).as_str(), &whole["client_id"]), ("!token → failure", &json!("nobody")));
}

#[tokio::test]
async fn the_step_that_never_came_is_named() {
    let world = World::new().await;
    let mut browser = new_browser();
    browser.open(&world.authorize(&[])).await.unwrap();
    after(&world, 5).await;
    assert_eq!(last(&world).await["outcome"], "under_way", "a person has ten minutes");
    after(&world, 12).await;
    let whole = last(&world).await;
    assert_eq!(line(&whole), "authorize client request !consent → abandoned");
    assert!(whole["stopped_at"]["what"].as_str().unwrap().contains("never answered the page"), "{whole}");
    assert!(whole["advice"].as_str().unwrap().contains("press Allow"), "{whole}");

    let page = browser.open(&world.authorize(&[])).await.unwrap();
    let code = code(&world.sign_in(&mut browser, &page).await);
    after(&world, 12).await;
    assert_eq!(last(&world).await["stopped_at"]["step"], "token");
    let late = redeem(&world, &world.client_id, &code, VERIFIER).await;
    assert_eq!(late.1["error"], "invalid_grant");

    let of_older = "/.well-known/oauth-protected-resource/sse/files";
    for path in [of_older].into_iter().chain(["/.well-known/oauth-authorization-server"; 3]) {
        assert_eq!(send(&world, Method::GET, path, "", String::new()).await.0, 200);
    }
    after(&world, 6).await;
    let whole = last(&world).await;
    assert_eq!(line(&whole), "metadata metadata !authorize → abandoned");
    assert_eq!(whole["steps"][0]["detail"], "the program read what /sse/files says of itself");
}

#[tokio::test]
async fn what_a_provider_answers_is_there_with_its_number_and_in_whichever_browser_it_came() {
    let Some((world, entra)) = house(CONTOSO, &["--azure-role-user", "Mcp.Reader"]).await else { return };
    let callback = world.url("/oauth/callback/entra");
    let mut stopped = new_browser().stop_at(&callback);
    let page = leave(&world, &mut stopped).await;
    let back = entra.sign_in(&mut stopped, page, "nora@contoso.onmicrosoft.com").await.unwrap();
    assert_eq!(new_browser().open(back.url.as_str()).await.unwrap().status.as_u16(), 400);
    let whole = last(&world).await;
    assert_eq!(line(&whole), "authorize client request consent provider !callback → under_way");
    assert_eq!(whole["steps"][5]["reason"], "other_browser");
    let mut browser = new_browser();
    *browser.jar() = stopped.jar().clone();
    browser.open(back.url.as_str()).await.unwrap();
    let whole = last(&world).await;
    assert!(line(&whole).ends_with("provider !callback callback !account → failure"), "{whole}");
    assert_eq!(whole["username"], "nora@contoso.onmicrosoft.com", "known, though there is no account");
    assert!(whole["advice"].as_str().unwrap().contains("no role of the application"), "{whole}");

    browser.open(&format!("{callback}?state=none&code=x")).await.unwrap();
    let whole = last(&world).await;
    assert_eq!((line(&whole).as_str(), &whole["stopped_at"]["reason"]), ("!callback → failure", &json!("state")));

    let mut browser = new_browser();
    let page = leave(&world, &mut browser).await;
    let sent = page.redirects.iter().find(|url| url.as_str().starts_with(entra.base_url())).unwrap();
    let state = sent.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let failed = "error=access_denied&error_description=AADSTS50105:+not+assigned%0D%0ATrace+ID:+trace-7%0D%0A";
    browser.open(&format!("{callback}?state={state}&{failed}")).await.unwrap();
    let whole = last(&world).await;
    assert_eq!(whole["stopped_at"]["reason"], "AADSTS50105");
    assert!(whole["advice"].as_str().unwrap().contains("assigns the person"), "{whole}");
    assert!(!whole.to_string().contains(&state), "{whole}");

    leave(&world, &mut new_browser()).await;
    after(&world, 12).await;
    let whole = last(&world).await;
    assert_eq!(line(&whole), "authorize client request consent provider !callback → abandoned");
    assert!(whole["stopped_at"]["what"].as_str().unwrap().contains("sent to Microsoft Entra ID"), "{whole}");
}

#[tokio::test]
async fn a_form_of_another_browser_is_noted_where_the_sign_in_is() {
    let world = World::new().await;
    let mut browser = new_browser();
    let page = browser.open(&world.authorize(&[])).await.unwrap();
    let lost = new_browser().submit(&page, "decision", &[("decision", "allow:local")]).await.unwrap();
    assert_eq!(lost.status.as_u16(), 400);
    let whole = last(&world).await;
    assert_eq!(line(&whole), "authorize client request !consent → under_way");
    assert_eq!(whole["steps"][3]["reason"], "other_browser");
    assert!(world.sign_in(&mut browser, &page).await.stopped, "the right one goes on");
}

#[tokio::test]
async fn a_token_in_the_wrong_place_and_a_refresh_that_is_refused_are_failures_of_their_sign_in() {
    let world = World::new().await;
    let mut browser = new_browser();
    let signed_in = async |browser: &mut testkit::browser::Browser| {
        let page = browser.open(&world.authorize(&[("scope", "mcp offline_access")])).await.unwrap();
        let code = code(&world.sign_in(browser, &page).await);
        redeem(&world, &world.client_id, &code, VERIFIER).await.1
    };
    let given = signed_in(&mut browser).await;
    assert_eq!(call(&world, "/mcp/files", given["access_token"].as_str().unwrap()).await, 401);
    let whole = last(&world).await;
    assert!(line(&whole).ends_with("code token !call → failure"), "{whole}");
    assert_eq!(whole["stopped_at"]["reason"], "wrong_resource");

    let given = signed_in(&mut browser).await;
    let refresh = async |token: &str| {
        let fields =
            [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", world.client_id.as_str())];
        form(&world, &fields).await
    };
    let first = given["refresh_token"].as_str().unwrap();
    let next = refresh(first).await.1;
    assert_eq!(refresh(next["refresh_token"].as_str().unwrap()).await.0, 200);
    assert_eq!(refresh(first).await.1["error"], "invalid_grant", "it came back after its successor was used");
    let whole = last(&world).await;
    assert!(line(&whole).ends_with("token !refresh → failure"), "{whole}");
    assert_eq!(whole["stopped_at"]["reason"], "reuse");
    let shown = whole.to_string();
    assert!(!shown.contains(first) && whole["advice"].as_str().unwrap().contains("two hold it"), "{shown}");

    let page = browser.open(&world.authorize(&[])).await.unwrap();
    let code = code(&world.sign_in(&mut browser, &page).await);
    assert_eq!(redeem(&world, &world.client_id, &code, &"b".repeat(50)).await.0, 400);
    let whole = last(&world).await;
    assert!(line(&whole).ends_with("code !token → failure"), "{whole}");
    assert_eq!(whole["stopped_at"]["reason"], "verifier");
}

#[tokio::test]
async fn a_program_that_is_refused_and_comes_again_goes_on() {
    let world = World::new().await;
    let body =
        json!({"client_name": "Zed", "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "client_secret_post"});
    let made = send(&world, Method::POST, "/oauth/register", "application/json", body.to_string()).await.1;
    let [client, secret] = ["client_id", "client_secret"].map(|name| made[name].as_str().unwrap().to_owned());
    let mut browser = new_browser();
    let asked = world.authorize(&[("client_id", &client), ("scope", "mcp offline_access")]);
    let page = browser.open(&asked).await.unwrap();
    let code = code(&world.sign_in(&mut browser, &page).await);
    let shown =
        [("grant_type", "authorization_code"), ("code", &code), ("code_verifier", VERIFIER), ("client_id", &client)];
    assert_eq!(form(&world, &shown).await.0, 401, "without its secret");
    let whole = last(&world).await;
    assert!(line(&whole).ends_with("code !token → failure"), "{whole}");
    assert_eq!(whole["stopped_at"]["reason"], "invalid_client");

    let with_secret = [("client_secret", secret.as_str())];
    let (status, given) = form(&world, &[&shown[..], &with_secret].concat()).await;
    assert_eq!(status, 200, "{given}");
    let whole = last(&world).await;
    assert!(line(&whole).ends_with("code !token token → under_way"), "{whole}");
    assert_eq!(call(&world, "/mcp", given["access_token"].as_str().unwrap()).await, 200);
    let whole = last(&world).await;
    assert!(line(&whole).ends_with("!token token call → success"), "{whole}");

    let refresh = given["refresh_token"].as_str().unwrap();
    let wider =
        [("grant_type", "refresh_token"), ("refresh_token", refresh), ("scope", "mcp admin"), ("client_id", &client)];
    assert_eq!(form(&world, &[&wider[..], &with_secret].concat()).await.1["error"], "invalid_scope");
    let whole = last(&world).await;
    assert!(line(&whole).ends_with("call !refresh → success"), "the session lives: {whole}");
    assert_eq!(whole["stopped_at"], Value::Null);
}

#[tokio::test]
async fn what_is_kept_is_read_though_the_database_takes_nothing_new() {
    let world = World::new().await;
    let mut browser = new_browser();
    let page = browser.open(&world.authorize(&[("scope", "mcp")])).await.unwrap();
    let code = code(&world.sign_in(&mut browser, &page).await);
    let (status, given) = redeem(&world, &world.client_id, &code, VERIFIER).await;
    assert_eq!(status, 200, "{given}");
    assert_eq!(last(&world).await["stopped_at"]["step"], "call");
    let file = world.app.settings.data.data_dir.join("gateway.sqlite");
    let mut raw = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    let broken = "CREATE TRIGGER broken BEFORE UPDATE ON sign_in_traces BEGIN SELECT RAISE(ABORT, 'broken'); END";
    raw.execute(broken).await.unwrap();
    assert_eq!(call(&world, "/mcp", given["access_token"].as_str().unwrap()).await, 200);
    assert_eq!(last(&world).await["outcome"], "under_way", "of the call nothing is known yet");
    raw.execute("DROP TRIGGER broken").await.unwrap();
    assert_eq!(last(&world).await["outcome"], "success");
}

#[tokio::test]
async fn a_program_on_its_own_is_found_by_its_id_however_it_proves_that() {
    let world = World::new().await;
    let order = json!({"client_id": "night", "name": "Night job", "kind": "service", "scopes": ["mcp"]});
    let secret = world.rest(Method::POST, "/oauth-clients", &order).await["client_secret"].as_str().unwrap().to_owned();
    let ask = async |secret: &str| {
        let body = "grant_type=client_credentials&scope=admin";
        let basic = format!("Basic {}", STANDARD.encode(format!("night:{secret}")));
        let request = Request::new(Method::POST, body.into()).path("/oauth/token").header("authorization", &basic);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        Client::new(&world.running.url()).send(request).await.unwrap().status.as_u16()
    };
    assert_eq!(ask("not its secret").await, 401);
    let tenant = async || world.app.grants.traces(TraceFilter::default(), None, 1).await.unwrap()[0].tenant.clone();
    assert_eq!((list(&world, "?client=night").await.len(), tenant().await), (1, None), "anybody can say so");
    assert_eq!(ask(&secret).await, 400);
    assert_eq!((list(&world, "?client=night").await.len(), tenant().await.as_deref()), (2, Some("default")));
    let whole = last(&world).await;
    assert_eq!((&whole["client_id"], &whole["client_name"]), (&json!("night"), &json!("Night job")));
    assert_eq!(whole["stopped_at"]["reason"], "scope");
    assert!(whole["advice"].as_str().unwrap().contains("clients edit"), "{whole}");
}

#[tokio::test]
async fn an_administrator_of_the_tenant_sees_the_tenants_and_pages_lead_through_all() {
    let world = World::new().await;
    world.rest(Method::POST, "/users", &json!({"username": "tess", "role": "tenant_admin"})).await;
    let order = json!({"name": "k", "servers": "*", "role": "tenant_admin", "username": "tess"});
    let key = world.rest(Method::POST, "/keys", &order).await["key"].as_str().unwrap().to_owned();
    let mut browser = new_browser();
    for _ in 0..3 {
        browser.open(&world.authorize(&[])).await.unwrap();
    }
    // Whoever called this a moment before from the same address may be another tenant's program.
    assert_eq!(call(&world, "/mcp/their-server", "").await, 401);
    let page = browser.open(&world.authorize(&[])).await.unwrap();
    world.sign_in(&mut browser, &page).await;

    let as_tess = async |path: &str| -> Value {
        let request = Request::get().path(path);
        let reply = Client::new(&world.running.url()).bearer(&key).send(request).await.unwrap();
        serde_json::from_str(&reply.text().await.unwrap()).unwrap()
    };
    let own = as_tess("/api/v1/sign-ins").await;
    assert_eq!(own["items"].as_array().unwrap().len(), 1, "{own}");
    assert_eq!(own["items"][0]["username"], "ada");
    let whole = as_tess(&format!("/api/v1/sign-ins/{}", own["items"][0]["id"].as_str().unwrap())).await;
    assert!(line(&whole).starts_with("challenge? authorize client") && !whole.to_string().contains("their"), "{whole}");
    let whole = last(&world).await;
    assert!(whole["steps"][0]["detail"].as_str().unwrap().contains("/mcp/their-server"), "{whole}");
    let nobodys = list(&world, "").await.into_iter().find(|item| item["username"].is_null()).unwrap();
    let request = Request::get().path(&format!("/api/v1/sign-ins/{}", nobodys["id"].as_str().unwrap()));
    assert_eq!(Client::new(&world.running.url()).bearer(&key).send(request).await.unwrap().status.as_u16(), 404);

    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.rest(Method::GET, &format!("/sign-ins?limit=1{cursor}"), &Value::Null).await;
        seen.push(page["items"][0]["id"].as_str().unwrap().to_owned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let all: Vec<_> = list(&world, "").await.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((seen.len(), &seen), (4, &all));
    for bad in ["?outcome=lost", "?since=yesterday", "?cursor=bm9uZQ", "?order=up"] {
        let request = Request::get().path(&format!("/api/v1/sign-ins{bad}"));
        let reply = Client::new(&world.running.url()).bearer(KEY).send(request).await.unwrap();
        assert_eq!(reply.status.as_u16(), 422, "{bad}");
    }
}
