//! A whole run at the most verbose level of logging, with tokens where they belong and where they do not; and then no secret of it
//! stands in what the process said, in its metrics, in a report, in an error, or in the clear in its data.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testkit::client::Client;
use testkit::entra::{CONTOSO, Entra, GATEWAY, SECRETS};
use testkit::sign_in::{VERIFIER, with_password, with_provider};
use testkit::upstream::{Eras, Plain};

use crate::assertions::{GRANT, ISSUER, JAG, client, foreign, jag, key, public, show, signed};
use crate::door::{KEY, PASSWORD, REDIRECT, browser};
use crate::entra::{ALICE, comes_back};
use crate::exchange::{broker, exchange};
use crate::process::Gateway;

/// What only the gateway has, so that not even who sends it in a wrong place could be answered with it.
const OF_THE_GATEWAY: [&str; 4] = [
    "the gateway's secret at Entra",
    "token that Entra gave the gateway",
    "header for a server",
    "token shown to a server",
];

const WRONG_PASSWORD: &str = "a-guess-that-was-typed-and-is-wrong";
/// Where nobody would look for a password: in the field of the name.
const SLIPPED_PASSWORD: &str = "a-password-in-the-wrong-field";

/// Every secret that this run knows, with what it is.
#[derive(Default)]
struct Known(Vec<(&'static str, String)>);

impl Known {
    fn add(&mut self, what: &'static str, secret: impl Into<String>) -> String {
        let secret = secret.into();
        assert!(secret.len() >= 8, "{what} is no secret: {secret}");
        self.0.push((what, secret.clone()));
        secret
    }

    /// Of an answer of the token endpoint.
    fn tokens(&mut self, given: &Value) -> (String, String) {
        let mut of = |what, name: &str| given[name].as_str().map(|text| self.add(what, text)).unwrap_or_default();
        (of("access token", "access_token"), of("refresh token", "refresh_token"))
    }

    /// Of an address that a browser was sent to.
    fn address(&mut self, url: &url::Url) {
        for (name, value) in url.query_pairs() {
            match &*name {
                "code" => _ = self.add("code", value),
                "state" if value.len() == 43 => _ = self.add("state for the provider", value),
                "nonce" => _ = self.add("nonce", value),
                _ => {}
            }
        }
    }

    /// Of cookies as a browser sends them.
    fn cookies(&mut self, header: Option<&str>) {
        for cookie in header.iter().flat_map(|header| header.split("; ")) {
            self.add("cookie", cookie.split_once('=').unwrap().1);
        }
    }

    /// Which of them stand in `bytes`, each with what stands before it.
    fn found_in(&self, place: &str, bytes: &[u8]) -> Vec<String> {
        let find = |secret: &str| bytes.windows(secret.len()).position(|text| text == secret.as_bytes());
        let told = |(what, secret): &(&str, String)| {
            let at = find(secret)?;
            let before = String::from_utf8_lossy(&bytes[at.saturating_sub(300)..at]);
            Some(format!("a secret ({what}) stands in {place} behind: {before}"))
        };
        self.0.iter().filter_map(told).collect()
    }
}

impl Known {
    fn of_the_gateway(&self) -> Self {
        Self(self.0.iter().filter(|(what, _)| OF_THE_GATEWAY.contains(what)).cloned().collect())
    }
}

/// Calls go through to servers with what the gateway shows there: a header of their own, and tokens for the person.
async fn through_to_servers(gateway: &Gateway, access: &str, known: &mut Known) {
    let header = known.add("header for a server", "a-header-that-every-call-carries");
    let mut servers = Vec::new();
    let own = json!({"kind": "headers", "headers": {"Authorization": format!("Bearer {header}")}});
    let behalf = json!({"kind": "on_behalf_of", "audience": "api://orders"});
    for (slug, mut spec) in
        [("plain", json!({"headers": {"X-Key": header}})), ("orders", json!({"auth": behalf, "discovery_auth": own}))]
    {
        let server = Plain::with(Eras::Dual).await.unwrap();
        spec["slug"] = slug.into();
        spec["replicas"] = json!([{"url": server.url()}]);
        gateway.rest("POST", "/servers", spec).await.expect(201);
        let client = Client::new(&format!("{}/mcp", gateway.url)).bearer(access);
        let called = client.tool(&format!("{slug}__echo"), json!({})).await.unwrap();
        assert!(called.result().is_object(), "{called:?}");
        servers.push((slug, server, client));
    }
    let shown = servers[1].1.calls("echo").last().unwrap().header("authorization").to_owned();
    known.add("token shown to a server", shown.trim_start_matches("Bearer "));
    // They go away, and what callers and administrators are told of it is scanned too.
    for (slug, server, client) in servers {
        drop(server);
        let failed = client.tool(&format!("{slug}__echo"), json!({})).await.unwrap();
        let found = known.found_in("an error of a call", failed.response.to_string().as_bytes());
        assert!(found.is_empty(), "{found:?}");
        gateway.rest("POST", &format!("/servers/{slug}/refresh"), Value::Null).await;
    }
}

/// What an administrator can read of everything, by its path.
async fn reports(gateway: &Gateway) -> Vec<(String, String)> {
    let mut paths: Vec<String> = [
        "/servers",
        "/users",
        "/keys",
        "/oauth-clients",
        "/trusted-issuers",
        "/sign-ins",
        "/me",
        "/discovery/tools",
        "/discovery/resources",
        "/admin/tenants",
        "/admin/tenants/default",
        "/admin/tenant-limits/default",
        "/admin/tenant-fairness/default",
        "/admin/rate-limit-analytics",
        "/admin/diagnostics/rate-limits",
        "/admin/diagnostics/resources",
        "/admin/diagnostics/network",
        "/admin/token-refresh-status",
        "/admin/connection-pool-status",
        "/admin/bans?state=all",
        "/admin/policies/default",
        "/admin/sealing-keys",
        "/admin/sealing-keys/default",
    ]
    .map(Into::into)
    .into();
    for (list, name, below) in [
        ("/servers", "slug", &["/servers/{}", "/servers/{}/tools"][..]),
        ("/users", "id", &["/users/{}", "/admin/user-token-status/{}"]),
        ("/oauth-clients", "client_id", &["/oauth-clients/{}"]),
        ("/trusted-issuers", "name", &["/trusted-issuers/{}"]),
        ("/sign-ins", "id", &["/sign-ins/{}"]),
    ] {
        let items = gateway.rest("GET", &format!("{list}?limit=100"), Value::Null).await.expect(200).json();
        let named = items["items"].as_array().unwrap().iter().map(|item| item[name].as_str().unwrap().to_owned());
        for named in named {
            paths.extend(below.iter().map(|path| path.replace("{}", &named)));
        }
    }
    let mut read = Vec::new();
    for path in paths {
        let answer = gateway.rest("GET", &path, Value::Null).await.expect(200);
        read.push((path, answer.text));
    }
    read
}

/// The audit trail, as an administrator reads it: whole, and each text of it as it was before it was written as JSON.
async fn trail(gateway: &Gateway) -> Vec<String> {
    fn texts(value: &Value, all: &mut Vec<String>) {
        match value {
            Value::String(text) => all.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| texts(item, all)),
            Value::Object(members) => members.values().for_each(|member| texts(member, all)),
            _ => {}
        }
    }
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page =
            gateway.rest("GET", &format!("/admin/audit?limit=500{cursor}"), Value::Null).await.expect(200).json();
        texts(&page["items"], &mut all);
        let Some(next) = page["next_cursor"].as_str() else { return all };
        cursor = format!("&cursor={next}");
    }
}

/// A person allows a program and signs in with a password, mistyped once; the program gets, refreshes and loses its tokens.
async fn with_a_password(gateway: &Gateway, known: &mut Known) -> (String, String) {
    let mut person = browser();
    let consent = gateway.consent(&mut person, &[("resource", &gateway.uri("/api/v1")), ("scope", "mcp admin")]).await;
    known.add("form token", consent.form("decision").unwrap().field("csrf").unwrap());
    known.cookies(person.jar().header(&consent.url).as_deref());
    let page = person.submit(&consent, "decision", &[("decision", "allow:local")]).await.unwrap();
    for (name, word) in [("ada", WRONG_PASSWORD), (SLIPPED_PASSWORD, "")] {
        person.submit(&page, "username", &[("username", name), ("password", word)]).await.unwrap();
    }
    let end = with_password(&mut person, &consent, "ada", PASSWORD).await.unwrap();
    known.address(&end.url);
    let code = end.param("code").unwrap();
    let (_, first) = known.tokens(&gateway.redeem(&code).await.expect(200).json());
    let (_, second) = known.tokens(&gateway.refresh(&first, &[]).await.expect(200).json());
    let (access, third) = known.tokens(&gateway.refresh(&second, &[]).await.expect(200).json());
    gateway.get("/api/v1/me", &access).await.expect(200);
    // The code and a token once more: what was given for them ends.
    gateway.redeem(&code).await.expect(400);
    gateway.refresh(&first, &[]).await.expect(400);
    gateway.get("/api/v1/me", &access).await.expect(401);

    let page = person.open(&gateway.uri("/access")).await.unwrap();
    let page = person.submit(&page, "username", &[("username", "ada"), ("password", PASSWORD)]).await.unwrap();
    known.cookies(person.jar().header(&page.url).as_deref());
    (access, third)
}

/// The same with Entra: as it should be, with faults, and with tokens of its own.
async fn with_entra(gateway: &Gateway, entra: &Entra, known: &mut Known) {
    comes_back(entra, gateway, "entra").await;
    let sign_in = async |known: &mut Known| {
        let mut person = browser();
        let consent = gateway.consent(&mut person, &[]).await;
        let end = with_provider(&mut person, &consent, "entra", entra, ALICE).await.unwrap();
        end.redirects.iter().chain([&end.url]).for_each(|url| known.address(url));
        end
    };
    let end = sign_in(known).await;
    let (access, refresh) = known.tokens(&gateway.redeem(&end.param("code").unwrap()).await.expect(200).json());
    gateway.get("/mcp", &access).await;
    through_to_servers(gateway, &access, known).await;
    let fault = |action: Value| entra.post("/_sim/faults", json!({"match": {"endpoint": "token"}, "action": action}));
    for action in [
        json!({"status": 503}),
        json!({"drop": true}),
        json!({"aadsts": 50_076}),
        json!({"aadsts": 7_000_222}),
        json!({"aadsts": 700_082}),
    ] {
        fault(action).await.unwrap();
        assert!(!sign_in(known).await.stopped);
    }
    fault(json!({"aadsts": 700_082})).await.unwrap();
    gateway.refresh(&refresh, &[]).await;
    for more in [json!({}), json!({"attack": "alg-none"}), json!({"claims": {"aud": "api://orders"}})] {
        let token = known.add("token of Entra", entra.token(ALICE, more).await.unwrap());
        gateway.get("/api/v1/me", &token).await;
        gateway.get(&format!("/mcp?access_token={token}"), &token).await;
    }
    let given = entra.given().await.unwrap();
    assert!(given.len() >= 3, "of a sign-in: access, refresh and id token");
    for token in given {
        known.add("token that Entra gave the gateway", token);
    }
}

/// Programs with secrets of their own, one that tells its secret in every wrong way.
async fn with_secrets(gateway: &Gateway, known: &mut Known) -> Vec<String> {
    let metadata = json!({"redirect_uris": [REDIRECT], "token_endpoint_auth_method": "client_secret_post"});
    let made = gateway.register(&metadata, &[]).await.expect(201).json();
    let dynamic = known.add("secret of a client that registered itself", made["client_secret"].as_str().unwrap());
    let service = known.add("secret of a service", gateway.service("night", &["mcp", "admin"]).await);
    let basic = |secret: &str| format!("Basic {}", STANDARD.encode(format!("night:{secret}")));
    known.add("Basic credential", basic(&service).split_at(6).1);
    let kind = [("grant_type", "client_credentials")];
    let own = [&kind[..], &[("client_id", "night"), ("client_secret", service.as_str())]].concat();
    let (access, _) = known.tokens(&gateway.token(&own).await.expect(200).json());
    let shown = gateway.form("/oauth/token", &[("authorization", &basic(&service))], &kind).await.expect(200).json();
    known.tokens(&shown);
    for wrong in [format!("night:{service}"), format!("Bearer {service}"), service.clone()] {
        gateway.form("/oauth/token", &[("authorization", &wrong)], &kind).await.expect(400);
    }
    let swapped = [&kind[..], &[("client_id", service.as_str()), ("client_secret", "night")]].concat();
    gateway.token(&swapped).await.expect(401);
    let swapped = [("grant_type", service.as_str()), ("client_id", "night"), ("scope", &dynamic)];
    gateway.token(&swapped).await.expect(400);
    gateway
        .form("/oauth/revoke", &[], &[("token", &access), ("client_id", "night"), ("client_secret", &service)])
        .await
        .expect(200);
    let order = json!({"name": "a script", "username": "ada", "servers": ["*"], "tools": ["*"]});
    let key = gateway.rest("POST", "/keys", order).await.expect(201).json();
    let key = known.add("API key", key["key"].as_str().unwrap());
    gateway.get("/api/v1/me", &key).await.expect(200);
    let login = json!({"username": "ada", "password": PASSWORD}).to_string();
    let login =
        gateway.send("POST", "/api/v1/login", &[("content-type", "application/json")], &login).await.expect(200);
    known.add("key of a sign-in", login.json()["key"].as_str().unwrap());
    let header = known.add("header for a server", "an-upstream-header-secret");
    let server = json!({"slug": "away", "replicas": [{"url": "http://127.0.0.1:9/mcp"}], "headers": {"X-Key": header}});
    gateway.rest("POST", "/servers", server).await.expect(201);
    vec![dynamic, service, access, key]
}

/// What others signed, shown for tokens, rightly and wrongly; and tokens exchanged for others.
async fn with_assertions(gateway: &Gateway, known: &mut Known) -> Vec<String> {
    let trust =
        json!({"name": "corp", "issuer": ISSUER, "profiles": ["id_jag"], "role": "user", "jwks": {"keys": [public()]}});
    gateway.rest("POST", "/trusted-issuers", trust).await.expect(201);
    let secret = client(gateway, "editor", json!({"grant_types": [GRANT]})).await;
    let editor = ("editor", known.add("secret of a client", secret));
    let broker = ("broker", known.add("secret of a broker", broker(gateway, "broker", &["mcp", "admin"]).await));
    let (editor, broker) = ((editor.0, editor.1.as_str()), (broker.0, broker.1.as_str()));
    let assertion = known.add("assertion", signed(JAG, &jag(gateway, json!({})), &key()));
    let (token, _) = known.tokens(&show(gateway, editor, &assertion, &[]).await.expect(200).json());
    show(gateway, editor, &assertion, &[]).await.expect(400);
    for (claims, key) in
        [(json!({}), foreign()), (json!({"iss": "https://other.example"}), key()), (json!({"exp": 1}), key())]
    {
        let wrong = known.add("wrong assertion", signed(JAG, &jag(gateway, claims), &key));
        show(gateway, editor, &wrong, &[]).await.expect(400);
    }
    let (narrower, _) = known.tokens(&exchange(gateway, broker, &token, &[]).await.expect(200).json());
    for wrong in [("subject_token_type", GRANT), ("actor_token", token.as_str()), ("scope", token.as_str())] {
        exchange(gateway, broker, &token, &[wrong]).await.expect(400);
    }
    exchange(gateway, broker, &assertion, &[]).await.expect(400);
    vec![assertion, token, narrower]
}

/// A secret wherever a client could put it by mistake; what that was answered with.
async fn in_wrong_places(gateway: &Gateway, secret: &str) -> Vec<String> {
    let mut answers = Vec::new();
    let bearer = format!("Bearer {secret}");
    let (json, doubled) = (("content-type", "application/json"), format!("{bearer}, {bearer}"));
    for path in [
        format!("/mcp?access_token={secret}"),
        format!("/mcp/{secret}"),
        format!("/api/v1/me?key={secret}"),
        format!("/api/v1/servers/{secret}"),
        format!("/api/v1/users/{secret}"),
        format!("/api/v1/keys/{secret}"),
        format!("/{secret}"),
        format!("/oauth/callback/{secret}?code={secret}&state={secret}"),
        format!("/oauth/callback/entra?code={secret}&state={secret}"),
        format!("/oauth/token?refresh_token={secret}"),
        format!("/oauth/sign-in?id={secret}"),
        format!("/oauth/authorize?access_token={secret}&token={secret}"),
        format!("/oauth/authorize?client_id={secret}"),
        format!("/.well-known/oauth-protected-resource/{secret}"),
        format!("/health?token={secret}"),
        format!("/api/v1/sign-ins?user={secret}"),
        format!("/api/v1/sign-ins?client={secret}&cursor={secret}&since={secret}"),
        format!("/api/v1/sign-ins/{secret}"),
    ] {
        answers.push(gateway.send("GET", &path, &[], "").await);
        answers.push(gateway.send("GET", &path, &[("authorization", KEY)], "").await);
        for method in ["GET", "DELETE"] {
            answers.push(gateway.send(method, &path, &[("authorization", &format!("Bearer {KEY}"))], "").await);
        }
    }
    for name in
        ["assertion", "subject_token", "subject_token_type", "client_assertion", "refresh_token", "code", "token"]
    {
        for kind in [GRANT, "urn:ietf:params:oauth:grant-type:token-exchange", "refresh_token", "authorization_code"] {
            let fields = [("grant_type", kind), ("client_id", "broker"), ("client_secret", secret), (name, secret)];
            answers.push(gateway.token(&fields).await);
        }
    }
    for (name, value) in [
        ("authorization", secret),
        ("authorization", &bearer),
        ("authorization", &doubled),
        ("x-api-key", secret),
        ("mcp-session-id", secret),
        ("mcp-protocol-version", secret),
        ("cookie", &format!("mcpg-session={secret}")),
        ("origin", &format!("https://{secret}.example")),
        ("host", &format!("{secret}.example")),
        ("traceparent", secret),
    ] {
        answers.push(gateway.send("POST", "/mcp", &[(name, value), json], "{}").await);
        answers.push(gateway.send("GET", "/api/v1/me", &[(name, value)], "").await);
    }
    let good = format!("Bearer {KEY}");
    let (headers, accept) =
        ([("authorization", good.as_str()), json], ("accept", "application/json, text/event-stream"));
    for body in [
        json!({"jsonrpc": "2.0", "id": 1, "method": secret}),
        json!({"jsonrpc": "2.0", "id": secret, "method": "tools/call", "params": {"name": "t", "arguments": {"token": secret}}}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"token": secret}}),
        json!({"password": secret}),
        json!(secret),
    ] {
        answers.push(gateway.send("POST", "/mcp", &[headers[0], headers[1], accept], &body.to_string()).await);
        answers.push(gateway.send("POST", "/api/v1/login", &[json], &body.to_string()).await);
        answers.push(gateway.send("POST", "/api/v1/servers", &headers, &body.to_string()).await);
        answers.push(gateway.send("POST", "/oauth/register", &[json], &body.to_string()).await);
    }
    answers.into_iter().map(|answer| answer.text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_whole_run_stands_in_a_log_or_in_the_clear() {
    let entra = Entra::start(&[]).await.unwrap();
    let azure = entra.as_ref().map(|entra| {
        [
            format!("--azure-tenant-id={CONTOSO}"),
            format!("--azure-client-id={GATEWAY}"),
            format!("--azure-authority={}", entra.base_url()),
            format!("--azure-v1-issuer-prefix={}", entra.v1_issuer_prefix()),
            format!("--azure-graph-url={}", entra.graph_url()),
            "--identity-recheck-interval=1ms".to_owned(),
        ]
    });
    let args: Vec<&str> = ["--log=trace"].into_iter().chain(azure.iter().flatten().map(String::as_str)).collect();
    let secrets = [("MREG_AZURE_CLIENT_SECRET", SECRETS[0])];
    let mut gateway = Gateway::start(&args, &secrets[..usize::from(entra.is_some())]).await;
    let mut known = Known::default();
    for (what, secret) in [
        ("the administrator's key", KEY),
        ("the gateway's secret at Entra", SECRETS[0]),
        ("password", PASSWORD),
        ("wrong password", WRONG_PASSWORD),
        ("password in the field of the name", SLIPPED_PASSWORD),
        ("verifier", VERIFIER),
    ] {
        known.add(what, secret);
    }
    gateway.ada().await;
    gateway.door.client = gateway.registered(&json!({"redirect_uris": [REDIRECT], "client_name": "A client"})).await;
    let (access, refresh) = with_a_password(&gateway, &mut known).await;
    if let Some(entra) = &entra {
        with_entra(&gateway, entra, &mut known).await;
    }
    let more = with_secrets(&gateway, &mut known).await;
    let others = with_assertions(&gateway, &mut known).await;
    let mut found = Vec::new();
    for secret in [access, refresh].iter().chain(&more).chain(&others) {
        for answer in in_wrong_places(&gateway, secret).await {
            found.extend(known.of_the_gateway().found_in("an answer", answer.as_bytes()));
        }
    }
    gateway.rest("POST", "/admin/rotate-sealing-keys", json!({"what": "data"})).await.expect(202);
    for (path, text) in reports(&gateway).await {
        found.extend(known.found_in(&path, text.as_bytes()));
    }
    let texts = trail(&gateway).await;
    for action in ["auth.token", "auth.login", "auth.register", "auth.revoke", "POST /oauth/token", "tools/call"] {
        assert!(texts.iter().any(|text| text == action), "nothing is recorded of {action}");
    }
    found.extend(texts.iter().flat_map(|text| known.found_in("the audit trail", text.as_bytes())));
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("mcp_auth_events_total"), "{metrics}");
    gateway.stop().await;

    let master = std::fs::read_to_string(gateway.folder.join("data/master.key")).unwrap();
    known.add("the key that seals", master.trim());
    found.extend(known.found_in("the metrics", metrics.as_bytes()));
    for name in ["stdout", "stderr"] {
        let said = std::fs::read(gateway.folder.join(name)).unwrap();
        found.extend(known.found_in(name, &said));
        let text = String::from_utf8_lossy(&said);
        if let Some(at) = text.find("eyJ") {
            found.push(format!("a signed token stands in {name}: {}", &text[at.saturating_sub(300)..at + 40]));
        }
        assert!(name == "stdout" || text.contains("DEBUG"), "it says all that it can: {text:.500}");
    }
    let data = gateway.data();
    assert!(
        data.iter().any(|(name, bytes)| name.ends_with(".sqlite") && !bytes.is_empty()),
        "the database is looked at"
    );
    for (name, bytes) in data {
        found.extend(known.found_in(&name, &bytes));
    }
    assert!(found.is_empty(), "{found:#?}");
}
