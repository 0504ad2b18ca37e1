//! The commands of the operators' guide (`tests/guide/commands.md`), run as they are printed there: by a shell and by curl, against the gateway
//! as a process of its own on its usual port, started with every setting that the guide names.

use std::net::TcpListener;
use std::path::Path;

use serde_json::{Value, json};
use testkit::command;
use testkit::entra::{Entra, SECRETS};
use testkit::sign_in::with_provider;

use crate::door::{KEY, REDIRECT, browser};
use crate::entra::{BOB, azure, comes_back};
use crate::process::{BINARY, Gateway};
use crate::refreshed::until;

const GUIDE: &str = include_str!("../guide/commands.md");
/// Where the guide has the gateway.
const PORT: u16 = 8001;

/// What an answer must have of which the guide speaks only in other words, by what the path holds.
const SPOKEN_OF: [(&str, &[&str]); 9] = [
    (
        "/multi-user-status",
        &[
            "/tenants/0/active_users",
            "/resource_utilization/memory_bytes",
            "/rate_limiting/used_last_minute",
            "/connection_pool/pool_utilization",
            "/token_refresh/success_rate",
        ],
    ),
    (
        "/tenant-fairness/",
        &["/fair_share/rpm", "/usage/quota", "/usage/ratio", "/burst/utilization", "/active_tenants/0/weight"],
    ),
    ("/tenant-limits/", &["/limits/base_rpm", "/limits/fairness_weight", "/limits/burst_factor"]),
    ("/user-token-status/", &["/user_id", "/credentials"]),
    ("/force-token-refresh/", &["/credentials/0/last_refresh/result"]),
    ("/admin/tenants", &["/tenant_id", "/rate_limits/base_rpm", "/features/enhanced_monitoring"]),
    ("/tenant-analytics/", &["/performance_metrics/p95", "/performance_metrics/error_rate"]),
    ("/health", &["/status", "/components"]),
    ("/daily-health-report", &["/kpis/0/today/value", "/incidents"]),
];

/// A block of the guide: its commands, its settings, and the names that its comments speak of.
#[derive(Debug, Default)]
struct Block {
    commands: Vec<String>,
    settings: Vec<(String, String)>,
    names: Vec<String>,
    /// What follows and is for Prometheus.
    snippet: String,
}

fn blocks() -> Vec<Block> {
    let (mut blocks, mut block): (Vec<Block>, Option<Block>) = (Vec::new(), None);
    let mut lines = GUIDE.lines();
    while let Some(line) = lines.next() {
        let Some(open) = &mut block else {
            if line == "```bash" {
                block = Some(Block::default());
            }
            continue;
        };
        let is_setting = |(name, _): &(&str, &str)| name.starts_with("MREG_") && !name.contains(' ');
        if line == "```" {
            blocks.extend(block.take());
        } else if line.starts_with("scrape_configs:") || !open.snippet.is_empty() {
            open.snippet.extend([line, "\n"]);
        } else if line.starts_with("curl ") {
            let mut command = line.to_owned();
            // A line goes on behind a backslash, and within quotation marks.
            while command.ends_with('\\') || command.matches('\'').count() % 2 == 1 {
                command.extend(["\n", lines.next().unwrap()]);
            }
            open.commands.push(command);
        } else if let Some((name, value)) = line.split_once('=').filter(is_setting) {
            open.settings.push((name.to_owned(), value.to_owned()));
        } else if let Some(comment) = line.strip_prefix("# - ") {
            let name = comment.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
            if name.contains('_') && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
                open.names.push(name.to_owned());
            }
        } else {
            assert!(line.is_empty() || line.starts_with("# "), "what is this: {line}");
        }
    }
    blocks
}

/// Whether a field of this name is anywhere in it.
fn has(value: &Value, name: &str) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(field, value)| field == name || has(value, name)),
        Value::Array(items) => items.iter().any(|item| has(item, name)),
        _ => false,
    }
}

/// What a command printed, with the status and headers of the answer. Nothing is added to the command: curl reads the rest from its
/// configuration in the home folder.
async fn run(home: &Path, command: &str) -> (u16, String, String) {
    let env = [("HOME", home.to_str().unwrap())];
    let ran = command::run("sh", home, &["-c", command], env, "").await.unwrap().expect(0);
    let (body, status) = ran.out.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned(), std::fs::read_to_string(home.join("headers")).unwrap())
}

/// The answer of a command that must succeed, checked against what the guide says of it.
fn check(command: &str, names: &[String], status: u16, body: &str) -> Value {
    let wanted = if command.contains("/admin/tenants\"") { 201 } else { 200 };
    assert_eq!(status, wanted, "{command}\n{body}");
    if command.contains("/metrics") {
        assert!(body.contains("# TYPE mcp_tool_calls_total counter"), "{body}");
        return Value::Null;
    }
    let answer: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{command}: {error}: {body}"));
    for name in names {
        assert!(has(&answer, name), "{command}: no {name}: {answer}");
    }
    for (_, pointers) in SPOKEN_OF.iter().filter(|(path, _)| command.contains(path)) {
        for pointer in *pointers {
            assert!(answer.pointer(pointer).is_some(), "{command}: no {pointer}: {answer}");
        }
    }
    answer
}

/// Bob signs in at the gateway with Entra, and asks it for something.
async fn bob_comes(gateway: &mut Gateway, entra: &Entra) {
    comes_back(entra, &gateway.door, "entra").await;
    let client = json!({"redirect_uris": [REDIRECT], "client_name": "A client"});
    gateway.door.client = gateway.registered(&client).await;
    let mut person = browser();
    let consent = gateway.consent(&mut person, &[]).await;
    let end = with_provider(&mut person, &consent, "entra", entra, BOB).await.unwrap();
    gateway.redeem(&end.param("code").unwrap()).await.expect(200);
}

/// The tenant asks for something, and its share of that second is settled.
async fn is_used(gateway: &Gateway) {
    let authorization = format!("Bearer {KEY}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
    ];
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    gateway.send("POST", "/mcp", &headers, &hello.to_string()).await.expect(200);
    until("its share is settled", async || {
        let told = gateway.rest("GET", "/admin/tenant-fairness/default", json!(null)).await.expect(200).json();
        told["active_tenants"].as_array().is_some_and(|all| !all.is_empty())
    })
    .await;
}

#[test]
fn the_guide_is_there_whole() {
    let blocks = blocks();
    let count = |of: &dyn Fn(&Block) -> usize| blocks.iter().map(of).sum::<usize>();
    assert_eq!((count(&|block| block.commands.len()), count(&|block| block.settings.len())), (19, 17));
    assert!(count(&|block| block.names.len()) >= 35, "{blocks:?}");
    assert_eq!(blocks.iter().filter(|block| !block.snippet.is_empty()).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_guide_works_as_it_is_printed() {
    let in_ci = std::env::var("CI").as_deref() == Ok("true");
    let has_curl = std::process::Command::new("curl").arg("--version").stdout(std::process::Stdio::null()).status();
    let is_free = TcpListener::bind(("127.0.0.1", PORT)).is_ok();
    if has_curl.is_err() || !is_free {
        assert!(!in_ci, "there is no curl, or somebody is at port {PORT}, where the guide has the gateway");
        eprintln!("skipped: there is no curl, or somebody is at port {PORT}");
        return;
    }
    let blocks = blocks();
    let settings: Vec<(&str, &str)> =
        blocks.iter().flat_map(|block| &block.settings).map(|(name, value)| (name.as_str(), value.as_str())).collect();

    let entra = Entra::start(&[]).await.unwrap();
    let args = entra.as_ref().map(azure).map(Vec::from).unwrap_or_default();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let secret = entra.is_some().then_some(("MREG_AZURE_CLIENT_SECRET", SECRETS[0]));
    let variables: Vec<(&str, &str)> = settings.iter().copied().chain(secret).collect();
    let mut gateway = Gateway::start_at(PORT, &args, &variables).await;
    let home = gateway.folder.join("home");
    std::fs::create_dir(&home).unwrap();
    let curl = "silent\nshow-error\ndump-header = headers\nwrite-out = \"\\n%{http_code}\"\n";
    std::fs::write(home.join(".curlrc"), curl).unwrap();

    // Each setting is the one in force, and its value is the guide's.
    let told = command::run(BINARY, &home, &["config", "--json"], settings.iter().copied(), "").await.unwrap();
    let told = told.expect(0).json();
    for (name, value) in &settings {
        let one = told["settings"].as_array().unwrap().iter().find(|one| one["variable"] == *name);
        let one = one.unwrap_or_else(|| panic!("no setting {name}"));
        let said = one["value"].as_str().unwrap();
        assert!(one["origin"] == "variable" && said.trim_end_matches('s') == *value, "{name}={value}: {one}");
    }

    let user = match &entra {
        Some(entra) => {
            bob_comes(&mut gateway, entra).await;
            BOB
        }
        None => "admin",
    };
    let user = gateway.rest("GET", &format!("/users/{user}"), json!(null)).await.expect(200).json();
    let user = user["id"].as_str().unwrap().to_owned();
    is_used(&gateway).await;

    for Block { commands, names, .. } in &blocks {
        for command in commands {
            let command =
                command.replace("<admin-token>", KEY).replace("{tenant_id}", "default").replace("{user_id}", &user);
            let (status, body, headers) = run(&home, &command).await;
            // A local account has nothing that could be refreshed, and is told so.
            if entra.is_none() && command.contains("/force-token-refresh/") {
                assert!(status == 409 && body.contains("NOTHING_TO_REFRESH"), "{body}");
                continue;
            }
            // Who shows no token is told where to get one.
            if status == 401 && !command.contains("Authorization") {
                let headers = headers.to_ascii_lowercase();
                assert!(
                    headers.contains("www-authenticate: bearer") && headers.contains("resource_metadata="),
                    "{headers}"
                );
                let (status, body, _) = run(&home, &format!("{command} -H \"Authorization: Bearer {KEY}\"")).await;
                check(&command, names, status, &body);
                continue;
            }
            let is_public = ["/health", "/metrics"].iter().any(|path| command.trim_end_matches('"').ends_with(path));
            assert!(is_public || command.contains("Authorization"), "{command}: {status}");
            let answer = check(&command, names, status, &body);
            if command.contains("/tenant-limits/") {
                let limits = &answer["limits"];
                let told = [&limits["base_rpm"], &limits["fairness_weight"], &limits["burst_factor"]];
                assert_eq!(told, [&json!(500), &json!(2.0), &json!(1.8)]);
            }
            if command.contains("/force-token-refresh/") {
                assert_eq!(answer["credentials"][0]["last_refresh"]["result"], "success", "{answer}");
            }
        }
    }
    let made = gateway.rest("GET", "/admin/tenants/enterprise-client-001", json!(null)).await.expect(200).json();
    assert_eq!((&made["display_name"], &made["rate_limits"]["base_rpm"]), (&json!("Enterprise Client"), &json!(1000)));
}

#[test]
fn promtool_takes_the_configuration_of_the_guide() {
    let snippet = blocks().into_iter().map(|block| block.snippet).collect::<String>();
    let file = std::env::temp_dir().join(format!("mcp-gateway-guide-{}.yml", uuid::Uuid::now_v7()));
    std::fs::write(&file, snippet).unwrap();
    let checked = std::process::Command::new("promtool").args(["check", "config"]).arg(&file).output();
    std::fs::remove_file(&file).unwrap();
    let Ok(checked) = checked else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "promtool is not installed");
        eprintln!("skipped: promtool is not installed");
        return;
    };
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
