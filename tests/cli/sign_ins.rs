//! `signins` and `doctor oauth`: against a real gateway, with a person at a browser, and against something in front of one that
//! spoils a step.

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::routing::any;
use serde_json::{Value, json};
use testkit::browser::Browser;
use testkit::entra::{CONTOSO, Entra, GATEWAY, SECRETS};
use testkit::process::Start;

use crate::real::{PATIENCE, Real};
use crate::{BINARY, Folder, run};

/// What a check says: its result, its words and its advice.
fn check<'a>(shown: &'a Value, name: &str) -> &'a Value {
    let found = shown["checks"].as_array().unwrap().iter().find(|check| check["check"] == name);
    found.unwrap_or_else(|| panic!("no check `{name}`: {shown:#}"))
}

#[tokio::test]
async fn each_client_comes_as_far_as_the_page_that_a_person_sees() {
    let gateway = Real::start().await;
    for (client, named) in [("claude", "Claude Code"), ("vscode", "Visual Studio Code"), ("cursor", "Cursor")] {
        let args = ["doctor", "oauth", "--as", client, "--known-by=register", "--server=files"];
        let ran = gateway.run(&args).await.expect(0);
        assert!(ran.out.contains(&format!("Allow {named} (mcp-gateway doctor) to act for you?")), "{}", ran.out);
    }
    let last = gateway.run(&["signins", "show", "last", "--client=cursor"]).await.expect(0).out;
    for part in
        ["under way", "program   Cursor (mcp-gateway doctor)", "register", "answered at cursor", "waits", "consent"]
    {
        assert!(last.contains(part), "{part}: {last}");
    }
    let hosted = gateway.run(&["doctor", "oauth", "--as=chatgpt", "--json"]).await.expect(1).json();
    assert_eq!(hosted["broken"], "address");
    let wrong = gateway.run(&["doctor", "oauth", "--as=chatgpt", "--sign-in"]).await.expect(2).err;
    assert!(wrong.contains("its own site"), "{wrong}");

    let url = gateway.folder.read("data/cli.json")["gateway"].as_str().unwrap().replace("127.0.0.1", "localhost");
    let other = gateway.run(&["doctor", "oauth", "--as=cursor", "--json", "--gateway", &url]).await.expect(1).json();
    assert_eq!(other["broken"], "resource metadata");
    let advice = check(&other, "resource metadata")["advice"].as_str().unwrap();
    assert!(
        advice.contains("two hosts to a client") && advice.contains("MREG_PUBLIC_URL=http://localhost"),
        "{advice}"
    );
}

#[tokio::test]
async fn where_no_client_may_register_that_is_what_it_says() {
    let folder = Folder::default();
    let _process = crate::real::start(&folder, &["serve", "--port=0", "--client-registration=off"]).await;
    let ran = run(&folder, &["doctor", "oauth", "--as", "cursor"], &[], "").await.expect(1).out;
    assert!(ran.contains("Cursor stops at: registration") && ran.contains("MREG_CLIENT_REGISTRATION=open"), "{ran}");
}

#[tokio::test]
async fn a_client_with_a_document_need_not_register() {
    let base = spoiled(|_, document| {
        if document["issuer"].is_string() {
            document["registration_endpoint"] = Value::Null;
            document["client_id_metadata_document_supported"] = true.into();
            document["token_endpoint_auth_methods_supported"] = json!(["none"]);
        }
    })
    .await;
    let url = format!("--url={base}/mcp");
    let args = ["doctor", "oauth", "--as=claude", "--known-by=register", "--json", &url];
    let shown = run(&Folder::default(), &args, &[], "").await.expect(1).json();
    let told = check(&shown, "registration").to_string();
    assert!(
        told.contains("need not") && told.contains("leave --known-by away") && !told.contains("no other way"),
        "{told}"
    );
}

#[tokio::test]
async fn a_public_url_that_does_not_answer_from_here_is_named() {
    let folder = Folder::default();
    let args = ["serve", "--port=0", "--public-url=https://gateway.invalid"];
    let _process = crate::real::start(&folder, &args).await;
    let url = format!("--url={}/mcp", folder.read("data/cli.json")["gateway"].as_str().unwrap());
    let shown = run(&folder, &["doctor", "oauth", "--as=claude", "--json", &url], &[], "").await.expect(1).json();
    let advice = check(&shown, shown["broken"].as_str().unwrap())["advice"].as_str().unwrap();
    for told in [&url["--url=".len()..], "https://gateway.invalid", "MREG_PUBLIC_URL"] {
        assert!(advice.contains(told), "{told}: {shown:#}");
    }
    assert!(!advice.contains("mcp-gateway serve"), "it runs: {advice}");
}

#[tokio::test]
async fn with_a_person_it_goes_on_to_the_first_call_and_leaves_a_success() {
    let gateway = Real::start().await;
    gateway.sample("tools").await;
    let made = gateway.run(&["users", "add", "ada", "--json"]).await.expect(0).json();
    let args = ["doctor", "oauth", "--as", "claude", "--known-by", "register", "--server", "tools", "--sign-in"];
    let mut doctor =
        Start::new(BINARY).args(args).folder(&*gateway.folder).ready("/oauth/authorize?").start().await.unwrap();
    let mut browser = Browser::new();
    let page = browser.open(doctor.ready_line().trim()).await.unwrap();
    let page = browser.submit(&page, "decision", &[("decision", "allow:local")]).await.unwrap();
    let password = made["password"].as_str().unwrap();
    let page = browser.submit(&page, "username", &[("username", "ada"), ("password", password)]).await.unwrap();
    assert!(page.body.contains("can be closed"), "{}", page.body);
    assert!(doctor.line("signs in and calls").await.is_some(), "{}", doctor.said());
    let said = doctor.said();
    assert!(doctor.wait().await.unwrap().success(), "{said}");
    for line in ["the browser came back with a code", "an access token for mcp", "tools/list", "signs in and calls"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("mcpg_at_") && !said.contains("mcpg_rt_"), "{said}");

    // The first call is noted a moment later.
    let found = async {
        loop {
            let list = gateway.run(&["signins", "--user", "ada", "--json"]).await.expect(0).json();
            if list["items"][0]["outcome"] == "success" {
                return list["items"][0]["id"].as_str().unwrap().to_owned();
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    let id = tokio::time::timeout(2 * PATIENCE, found).await.unwrap();
    let shown = gateway.run(&["signins", "show", &id]).await.expect(0).out;
    assert!(shown.starts_with("success,") && shown.contains("person    ada"), "{shown}");
    // What came before it registered itself is known by the address only.
    let order = ["challenge?", "metadata?", "register", "authorize", "consent", "account", "code", "token", "call"];
    let places: Vec<_> =
        order.map(|step| shown.find(&format!("  {step} ")).unwrap_or_else(|| panic!("{step}: {shown}"))).into();
    assert!(places.is_sorted(), "{shown}");
    let none = gateway.run(&["signins", "--failed", "--since=1h"]).await.expect(0).out;
    assert!(none.contains("no sign-ins here"), "{none}");
    let gone = gateway.run(&["signins", "show", "00000000-0000-7000-8000-000000000000"]).await.expect(1).err;
    assert!(gone.contains("there is no sign-in") && gone.contains("kept for a week"), "{gone}");
    gateway.run(&["signins", "--since", "yesterday"]).await.expect(2);
}

#[tokio::test]
async fn the_registration_in_entra_is_checked_line_by_line() {
    let folder = Folder::default();
    let unset = run(&folder, &["entra", "check"], &[], "").await.expect(2).err;
    assert!(unset.contains("Entra ID is not set up here") && unset.contains("MREG_AZURE_CLIENT_ID"), "{unset}");
    let Some(entra) = Entra::start(&["https://gateway.example/oauth/callback/entra"]).await.unwrap() else { return };
    let graph = entra.graph_url();
    let check = async |url: &str, secret: &str, args: &[&str]| {
        let env = [
            ("MREG_PUBLIC_URL", url),
            ("MREG_AZURE_TENANT_ID", CONTOSO),
            ("MREG_AZURE_CLIENT_ID", GATEWAY),
            ("MREG_AZURE_CLIENT_SECRET", secret),
            ("MREG_AZURE_AUTHORITY", entra.base_url()),
            ("MREG_AZURE_GRAPH_URL", &graph),
        ];
        run(&folder, &[&["entra", "check"], args].concat(), &env, "").await
    };
    let fine = check("https://gateway.example", SECRETS[0], &["--json"]).await.expect(0).json();
    assert_eq!(
        (&fine["result"], self::check(&fine, "scope")["result"].as_str()),
        (&json!("not_visible"), Some("not_visible"))
    );
    assert_eq!(self::check(&fine, "redirect URI")["result"], "ok");
    let other = check("https://other.example", SECRETS[0], &[]).await.expect(1).out;
    assert!(
        other.contains("FAIL") && other.contains("https://other.example/oauth/callback/entra is not registered"),
        "{other}"
    );
    let wrong = check("https://gateway.example", "not-the-secret-at-all", &[]).await.expect(1).out;
    assert!(wrong.contains("AADSTS7000215") && !wrong.contains("not-the-secret"), "{wrong}");
}

/// Answers as a gateway does whose description `spoil` changes, and as no page.
async fn spoiled(spoil: impl Fn(&str, &mut Value) + Clone + Send + Sync + 'static) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let own = base.clone();
    let answer = move |uri: axum::http::Uri| {
        let (base, spoil) = (own.clone(), spoil.clone());
        async move {
            let prm = "/.well-known/oauth-protected-resource/mcp";
            let (status, mut document) = match uri.path() {
                "/mcp" => {
                    (StatusCode::UNAUTHORIZED, json!({"header": format!("Bearer resource_metadata=\"{base}{prm}\"")}))
                }
                path if path == prm => {
                    let resource = format!("{base}/mcp");
                    (
                        StatusCode::OK,
                        json!({"resource": resource, "authorization_servers": [base], "scopes_supported": ["mcp"]}),
                    )
                }
                "/.well-known/oauth-authorization-server" => (
                    StatusCode::OK,
                    json!({
                        "issuer": base,
                        "authorization_endpoint": format!("{base}/authorize"),
                        "token_endpoint": format!("{base}/token"),
                        "registration_endpoint": format!("{base}/register"),
                        "code_challenge_methods_supported": ["S256"],
                        "authorization_response_iss_parameter_supported": true,
                    }),
                ),
                "/register" => (
                    StatusCode::CREATED,
                    json!({"client_id": "x", "redirect_uris": ["http://localhost:3118/callback"]}),
                ),
                _ => (StatusCode::FOUND, json!({"to": "https://login.proxy.example/start?x=1"})),
            };
            spoil(uri.path(), &mut document);
            let mut response = (status, document.to_string()).into_response();
            for (name, from) in [("www-authenticate", "header"), ("location", "to")] {
                if let Some(value) = document[from].as_str() {
                    response.headers_mut().insert(name, value.parse().unwrap());
                }
            }
            response
        }
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(answer))).await });
    base
}

#[tokio::test]
async fn what_something_in_front_spoils_is_named_with_its_own_advice() {
    type Spoil = fn(&str, &mut Value);
    let cases: [(&str, &str, Spoil); 8] = [
        ("call without a token", "takes the header away", |path, document| {
            if path == "/mcp" {
                document["header"] = "Bearer".into();
            }
        }),
        ("resource metadata", "the address with https", |_, document| {
            if document["resource"].is_string() {
                document["resource"] = document["resource"].as_str().unwrap().replace("http:", "https:").into();
            }
        }),
        ("resource metadata", "something else than the gateway", |_, document| {
            if document["resource"].is_string() {
                document["authorization_servers"] = json!([]);
            }
        }),
        ("issuer", "give the client https://other.example", |_, document| {
            if document["issuer"].is_string() {
                document["issuer"] = "https://other.example".into();
            }
        }),
        ("server metadata", "--behind-proxy where a proxy ends TLS", |_, document| {
            if document["issuer"].is_string() {
                document["token_endpoint"] = "http://gateway.example/token".into();
            }
        }),
        ("PKCE", "a proxy changes the document", |_, document| {
            if document["issuer"].is_string() {
                document["code_challenge_methods_supported"] = json!(["plain"]);
            }
        }),
        ("registration", "MREG_CLIENT_REGISTRATION=open", |_, document| {
            if document["issuer"].is_string() {
                document["registration_endpoint"] = Value::Null;
                document["authorization_response_iss_parameter_supported"] = Value::Null;
            }
        }),
        ("authorization", "a sign-in of a proxy", |_, _| {}),
    ];
    let folder = Folder::default();
    for (broken, advice, spoil) in cases {
        let url = format!("{}/mcp", spoiled(spoil).await);
        let shown =
            run(&folder, &["doctor", "oauth", "--as=claude", "--json", "--url", &url], &[], "").await.expect(1).json();
        assert_eq!(shown["broken"], broken, "{shown:#}");
        let told = check(&shown, broken)["advice"].as_str().unwrap();
        assert!(told.contains(advice), "{broken}: {told}");
        if broken == "registration" {
            assert_eq!(check(&shown, "iss")["result"], "warn", "{shown:#}");
        }
    }
    let nobody =
        run(&folder, &["doctor", "oauth", "--as=claude", "--url=http://127.0.0.1:1/mcp"], &[], "").await.expect(1);
    assert!(nobody.out.contains("cannot connect to 127.0.0.1:1"), "{}", nobody.out);
}
