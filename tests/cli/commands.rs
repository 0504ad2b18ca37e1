//! What commands send, show and refuse, against the stand-in: every test has its own, and its own folder.

use serde_json::{Value, json};
use testkit::command::Ran;

use crate::stand_in::{Gateway, KEY, ODD};

#[tokio::test]
async fn a_server_is_added_shown_changed_and_removed() {
    let gateway = Gateway::start().await;
    let url = "https://example.com/mcp";
    let ran =
        gateway.run(&["servers", "add", "search", "--url", url, "--header", "Authorization: Bearer s3cret"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert!(ran.out.contains("registered search: ready"), "{}", ran.out);
    assert_eq!(gateway.held()[0]["headers"]["Authorization"], "Bearer s3cret");

    let ran = gateway.run(&["servers", "add", "files", "--env", "A=b=c", "--json", "--", "npx", "-y", "--flag"]).await;
    assert_eq!(ran.json()["slug"], "files");
    let files = &gateway.held()[1];
    assert_eq!((&files["command"]["args"], &files["env"]["A"]), (&json!(["-y", "--flag"]), &json!("b=c")));

    let ran = gateway.run(&["servers", "show", "search"]).await;
    assert!(ran.out.contains("Authorization: ***") && !ran.out.contains("s3cret"), "{}", ran.out);

    let ran = gateway.run(&["servers", "edit", "search", "--title", "New", "--remove-header", "Authorization"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!((&gateway.held()[0]["title"], &gateway.held()[0]["headers"]), (&json!("New"), &json!({})));

    let ran = gateway.run(&["servers", "disable", "search", "none", "--json"]).await;
    let results: Vec<Value> =
        ran.json()["items"].as_array().unwrap().iter().map(|item| item["result"].clone()).collect();
    assert_eq!((ran.code, results), (1, vec![json!("disabled"), json!("failed")]));

    let ran = gateway.run(&["servers", "remove", "search", "files"]).await;
    assert_eq!((ran.code, gateway.held().len()), (0, 0), "{}", ran.err);
}

#[tokio::test]
async fn what_of_a_server_was_left_out_is_told_wherever_it_is_shown() {
    let gateway = Gateway::start().await;
    let left_out = "tool `bad` is left out: its header has no name";
    let added = gateway.run(&["servers", "add", ODD, "--url", "https://example.com/mcp"]).await;
    assert!(added.out.contains(left_out), "{}", added.out);
    for command in [&["servers", "show", ODD][..], &["servers", "refresh", ODD], &["servers", "tools", ODD]] {
        let ran = gateway.run(command).await;
        assert!(ran.code == 0 && ran.out.contains(left_out), "{command:?}: {}{}", ran.out, ran.err);
    }
    let checks = gateway.run(&["doctor", "--json"]).await.json()["checks"].take();
    let warned = |check: &&Value| check["check"] == "server odd" && check["result"] == "warn";
    let check = checks.as_array().unwrap().iter().find(warned).unwrap_or_else(|| panic!("{checks}"));
    assert!(check.to_string().contains(left_out), "{check}");
}

#[tokio::test]
async fn a_server_moves_from_a_url_to_a_program_and_back() {
    let gateway = Gateway::start().await;
    let url = "https://example.com/mcp";
    let ran = gateway.run(&["servers", "add", "it", "--url", url, "--balance", "random", "--header", "X-Key: k"]).await;
    assert_eq!((ran.code, &gateway.held()[0]["headers"]["X-Key"]), (0, &json!("k")), "{}", ran.err);
    let ran = gateway.run(&["servers", "edit", "it", "--sharing", "per_user", "--env", "A=b", "--", "node", "x"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let held = &gateway.held()[0];
    assert_eq!((&held["transport"], &held["command"]["program"]), (&json!("stdio"), &json!("node")), "{held}");
    assert!(held["replicas"] == json!([]) && held.get("balance").is_none(), "{held}");
    assert!(held.get("headers").is_none() && held["env"]["A"] == "b", "{held}");

    let ran = gateway.run(&["servers", "edit", "it", "--", "node", "y"]).await;
    assert_eq!(ran.out, "changed it: command\n", "{}", ran.err);

    let ran = gateway.run(&["servers", "edit", "it", "--url", "https://example.com/sse", "--transport", "sse"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let held = &gateway.held()[0];
    assert_eq!((&held["transport"], &held["replicas"][0]["url"]), (&json!("sse"), &json!("https://example.com/sse")));
    assert!(["command", "sharing", "env"].iter().all(|field| held.get(*field).is_none()), "{held}");
}

#[tokio::test]
async fn a_list_of_many_pages_is_whole_and_plain_in_a_pipe() {
    let gateway = Gateway::start().await;
    for slug in ["a", "b", "c", "d", "e"] {
        gateway.run(&["servers", "add", slug, "--url", "https://example.com/mcp"]).await;
    }
    let ran = gateway.run(&["servers", "list"]).await;
    assert_eq!(ran.out.lines().count(), 6, "{}", ran.out);
    assert!(!ran.out.contains('\u{1b}'), "no colours in a pipe: {}", ran.out);
    assert_eq!(gateway.run(&["servers", "list", "--json"]).await.json()["items"].as_array().unwrap().len(), 5);
    let ran = gateway.run(&["servers", "tools", "a"]).await;
    assert!(ran.out.contains("a, b") && !ran.out.contains('\u{1b}'), "{}", ran.out);
}

#[tokio::test]
async fn mistakes_say_what_to_do_and_have_their_exit_code() {
    let gateway = Gateway::start().await;
    let ran = gateway.run(&["servers", "add", "x", "--url", "ftp://example.com", "--timeout-connect", "1ms"]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("replicas[0].url: only http") && ran.err.contains("timeouts.connect_ms"), "{}", ran.err);
    assert_eq!(gateway.run(&["servers", "add", "Bad_Name", "--url", "https://x"]).await.code, 2);
    assert_eq!(gateway.run(&["servers", "add", "x"]).await.code, 2);
    assert!(gateway.asked("POST /api/v1/servers").is_empty(), "nothing was sent");

    gateway.run(&["servers", "add", "files", "--url", "https://example.com/mcp"]).await;
    let ran = gateway.run(&["servers", "show", "file"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("there is no server `file`") && ran.err.contains("did you mean `files`?"), "{}", ran.err);
    let ran = gateway.run(&["servers", "add", "files", "--url", "https://example.com/mcp", "--json"]).await;
    assert_eq!((ran.code, &ran.json()["error"]["code"]), (1, &json!("SLUG_TAKEN")));

    let ran = gateway.run_with(&["servers", "list", "--gateway", &gateway.url, "--key", "wr0ng"], &[], "").await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("401") && ran.err.contains("MREG_API_KEY") && !ran.err.contains("wr0ng"), "{}", ran.err);

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = gateway.run(&["servers", "list", "--gateway", &format!("http://{closed}")]).await;
    assert!(ran.code == 1 && ran.err.contains("mcp-gateway serve"), "{}", ran.err);
}

#[tokio::test]
async fn the_key_of_the_data_folder_goes_to_its_own_gateway_only() {
    let (own, other) = (Gateway::start().await, Gateway::start().await);
    std::fs::create_dir(own.folder.join("data")).unwrap();
    own.write("data/cli.json", &json!({"gateway": own.url, "key": KEY}).to_string());
    let ran = own.run_with(&["servers", "list"], &[], "").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ran = own.run_with(&["servers", "list", "--gateway", &other.url], &[], "").await;
    assert!(ran.code == 1 && ran.err.contains("401"), "{}", ran.err);
    assert_eq!(own.run_with(&["servers", "list", "--gateway", &own.url], &[], "").await.code, 0);
}

#[tokio::test]
async fn a_tool_is_called_in_either_era() {
    let gateway = Gateway::start().await;
    for slug in ["sample", "legacy"] {
        gateway.run(&["servers", "add", slug, "--url", "https://example.com/mcp"]).await;
    }
    let ran = gateway.run(&["servers", "call", "sample", "add", "a=2", "b=40"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "42 by 2026-07-28\n"), "{}", ran.err);
    let ran = gateway.run(&["servers", "call", "legacy", "add", "--args", r#"{"a": 2, "b": 40}"#, "--json"]).await;
    assert_eq!(ran.json()["result"]["content"][0]["text"], "42 by 2025-06-18", "{}", ran.err);
    assert_eq!(gateway.asked("DELETE mcp -").len(), 1, "the session is ended");
    let ran = gateway.run(&["servers", "call", "sample", "add", "a=-2", "b=1"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, "-1 by 2026-07-28\n"), "{}", ran.err);
    assert!(ran.err.contains("the tool reports an error"), "{}", ran.err);
    let ran = gateway.run(&["servers", "call", "sample", "add", "a=x"]).await;
    assert!(ran.code == 2 && ran.err.contains("a must be integer"), "{}", ran.err);
}

const MANIFEST: &str = "\
servers:
  - slug: search
    replicas: [{url: https://example.com/mcp}]
    headers: {Authorization: 'Bearer ${TOKEN}'}
  - slug: files
    transport: stdio
    command: {program: npx, args: [-y, x]}
";

#[tokio::test]
async fn a_broken_file_is_told_with_its_place_and_nothing_is_half_written() {
    let gateway = Gateway::start().await;
    gateway.write("gateway.yaml", &format!("{MANIFEST}  - slug: third\n    replicsa: []\n"));
    let ran = gateway.run(&["apply", "-f", "gateway.yaml"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("gateway.yaml:9:5: unknown field `replicsa`; did you mean `replicas`?"), "{}", ran.err);
    gateway.write("gateway.yaml", MANIFEST);
    let ran = gateway.run(&["apply", "-f", "gateway.yaml"]).await;
    assert!(ran.err.contains("gateway.yaml:4:30: the environment variable TOKEN is not set"), "{}", ran.err);
    assert!(gateway.held().is_empty());
}

#[tokio::test]
async fn a_clients_file_is_imported_and_what_is_there_is_left_alone() {
    let gateway = Gateway::start().await;
    let file = r#"{ // from VS Code
        "inputs": [{"id": "k"}],
        "servers": {
            "Web": {"type": "http", "url": "https://example.com/mcp"},
            "Ask": {"type": "http", "url": "https://example.com/mcp", "headers": {"K": "${input:k}"}},
        } }"#;
    gateway.write("mcp.json", file);
    let results = |ran: &Ran| -> Vec<(Value, Value)> {
        let document = ran.json();
        let items = document["items"].as_array().unwrap().iter();
        items.map(|item| (item["name"].clone(), item["result"].clone())).collect()
    };
    let dry = gateway.run(&["import", "mcp.json", "--dry-run", "--json"]).await;
    assert!(results(&dry).contains(&(json!("Web"), json!("would_register"))), "{}", dry.out);
    assert!(gateway.held().is_empty());
    let ran = gateway.run(&["import", "mcp.json"]).await;
    assert_eq!(ran.code, 1, "one could not be taken over");
    assert!(ran.out.contains("asks a person for the input `k`"), "{}", ran.out);
    assert_eq!((gateway.held().len(), &gateway.held()[0]["slug"]), (1, &json!("web")));
    let again = gateway.run(&["import", "mcp.json", "--json"]).await;
    assert!(results(&again).contains(&(json!("Web"), json!("exists"))), "{}", again.out);
}

#[tokio::test]
async fn keys_and_users_show_their_secret_once_and_take_none_from_the_command_line() {
    let gateway = Gateway::start().await;
    let ran = gateway.run(&["keys", "create", "ci", "--server", "files", "--expires-in-days", "9"]).await;
    assert_eq!(ran.out, "mcpg_new\n", "only the key, for scripts");
    let sent = &gateway.asked("POST /api/v1/keys")[0];
    assert_eq!(*sent, json!({"name": "ci", "servers": ["files"], "expires_in_days": 9}));
    let made = gateway.run(&["users", "add", "ada", "--json"]).await.json();
    assert_eq!(made["password"].as_str().unwrap().len(), 24);
    let env = [("MREG_GATEWAY_URL", gateway.url.as_str()), ("MREG_API_KEY", KEY)];
    let ran = gateway.run_with(&["users", "add", "bob", "--password-stdin"], &env, "from stdin\n").await;
    assert!(!ran.out.contains("from stdin"), "{}", ran.out);
    assert_eq!(gateway.asked("POST /api/v1/users")[1]["password"], "from stdin");
}

#[tokio::test]
async fn status_and_doctor_say_how_it_is() {
    let gateway = Gateway::start().await;
    gateway.run(&["servers", "add", "files", "--", "no-such-program-here"]).await;
    let ran = gateway.run(&["status"]).await;
    assert!(ran.code == 0 && ran.out.contains("1 ready") && ran.out.contains("ada (admin)"), "{}{}", ran.out, ran.err);
    let checks = gateway.run(&["doctor", "--json"]).await.json();
    let result = |name: &str| -> Vec<Value> {
        let all = checks["checks"].as_array().unwrap().iter().filter(|check| check["check"] == name);
        all.map(|check| check["result"].clone()).collect()
    };
    assert_eq!(
        (result("gateway"), result("server files")),
        (vec![json!("ok")], vec![json!("ok"), json!("warn")]),
        "{checks}"
    );

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    // It takes connections, says nothing that is HTTP, and stays until the test ends.
    std::thread::spawn(move || taken.incoming().for_each(drop));
    let ran = gateway.run_with(&["doctor", "--port", &port], &[("MREG_PROT", "1")], "").await;
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("is taken by something that is no gateway"), "{}", ran.out);
    assert!(ran.out.contains("did you mean MREG_PORT?"), "{}", ran.out);
}

#[tokio::test]
async fn settings_completions_and_manual_are_printed_without_a_gateway() {
    let gateway = Gateway::start().await;
    let ran =
        gateway.run_with(&["config", "--json"], &[("MREG_PORT", "9000"), ("MREG_MASTER_KEY", "s3cret")], "").await;
    let settings = ran.json()["settings"].as_array().unwrap().clone();
    let port = settings.iter().find(|one| one["variable"] == "MREG_PORT").unwrap();
    assert_eq!((&port["value"], &port["origin"]), (&json!("9000"), &json!("variable")));
    assert!(!ran.out.contains("s3cret"), "{}", ran.out);
    assert!(gateway.run_with(&["man"], &[], "").await.out.contains(".TH mcp-gateway"));
    assert_eq!(gateway.run_with(&["nonsense"], &[], "").await.code, 2);
    let help = gateway.run_with(&["servers", "add", "--help"], &[("MREG_API_KEY", "s3cret")], "").await;
    assert!(help.code == 0 && help.out.contains("Examples:") && !help.out.contains("s3cret"), "{}", help.out);
}

#[tokio::test]
async fn the_sample_server_talks_over_its_standard_streams() {
    let gateway = Gateway::start().await;
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}});
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "hi"}}});
    let ran = gateway.run_with(&["sample-server"], &[], &format!("{hello}\n{call}\n")).await;
    let lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((ran.code, &lines[1]["result"]["content"][0]["text"]), (0, &json!("hi")), "{}", ran.err);
}
