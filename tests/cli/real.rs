//! Commands against a real gateway, run in the folder beside its data as its administrator runs them.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::command::Ran;
use testkit::process::{Process, Start};

use crate::{BINARY, Folder, run};

/// Long enough for a loaded machine; nothing waits that long when it works.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway with its data in a folder of the test's own.
pub struct Real {
    pub folder: Folder,
    _process: Process,
}

/// Starts the binary in `folder` until it listens.
pub async fn start(folder: &Folder, args: &[&str]) -> Process {
    Start::new(BINARY).args(args).folder(&**folder).ready("listening on").start().await.unwrap()
}

impl Real {
    pub async fn start() -> Self {
        let folder = Folder::default();
        let process = start(&folder, &["serve", "--port=0"]).await;
        Self { folder, _process: process }
    }

    /// As the administrator: gateway and key come from the data folder.
    pub async fn run(&self, args: &[&str]) -> Ran {
        run(&self.folder, args, &[], "").await
    }

    /// With somebody's key.
    pub async fn run_as(&self, key: &str, args: &[&str]) -> Ran {
        run(&self.folder, args, &[("MREG_API_KEY", key)], "").await
    }

    /// Registers the sample server.
    pub async fn sample(&self, slug: &str) {
        let ran = self.run(&["servers", "add", slug, "--tag", "own", "--", BINARY, "sample-server"]).await.expect(0);
        assert!(ran.out.contains(&format!("registered {slug}: ready")), "{}", ran.out);
    }
}

/// An address at which nobody listens.
fn nowhere() -> String {
    format!("http://127.0.0.1:{}/mcp", testkit::process::free_port().unwrap())
}

#[tokio::test]
async fn a_servers_life_from_registration_to_removal() {
    let gateway = Real::start().await;
    gateway.sample("tools").await;
    let list = gateway.run(&["servers", "list"]).await.expect(0).out;
    assert!(list.contains("tools   ready  stdio"), "{list}");
    assert_eq!(gateway.run(&["servers", "list", "--tag", "own", "--json"]).await.json()["items"][0]["slug"], "tools");
    assert_eq!(gateway.run(&["servers", "list", "--tag", "none"]).await.out, "no server has the tag `none`\n");
    let shown = gateway.run(&["servers", "show", "tools"]).await.expect(0).out;
    assert!(shown.contains("command") && shown.contains("sample-server"), "{shown}");
    let tools = gateway.run(&["servers", "tools", "tools"]).await.expect(0).out;
    assert!(tools.contains("add") && tools.contains("a, b"), "{tools}");
    assert_eq!(gateway.run(&["servers", "call", "tools", "add", "a=2", "b=40"]).await.expect(0).out, "42\n");
    let wrong = gateway.run(&["servers", "call", "tools", "add", "a=two"]).await.expect(2);
    assert!(wrong.err.contains("a must be"), "{}", wrong.err);

    gateway.run(&["servers", "edit", "tools", "--title", "My tools", "--visible-to", "role:user"]).await.expect(0);
    let view = gateway.run(&["servers", "show", "tools", "--json"]).await.json();
    assert_eq!((&view["title"], &view["visibility"]["roles"]), (&json!("My tools"), &json!(["user"])));
    let refused = gateway.run(&["servers", "edit", "tools", "--visible-to", "role:dev"]).await.expect(2);
    assert!(refused.err.contains("use one of user, server_owner, tenant_admin, admin"), "{}", refused.err);

    gateway.run(&["servers", "disable", "tools"]).await.expect(0);
    let none = gateway.run(&["servers", "tools", "tools"]).await.expect(0).out;
    assert!(none.contains("`mcp-gateway servers enable tools`") && !none.contains("refresh"), "{none}");
    let refused = gateway.run(&["servers", "refresh", "tools"]).await.expect(1);
    assert!(refused.err.contains("the server is disabled; enable it first"), "{}", refused.err);
    gateway.run(&["servers", "enable", "tools"]).await.expect(0);
    let fresh = gateway.run(&["servers", "refresh", "--all"]).await.expect(0).out;
    assert!(fresh.starts_with("refreshed tools: 4 tools"), "{fresh}");
    gateway.run(&["servers", "remove", "tools"]).await.expect(0);
    assert!(gateway.run(&["servers", "show", "tools"]).await.expect(1).err.contains("there is no server `tools`"));
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_kept_and_said_so() {
    let gateway = Real::start().await;
    let added = gateway.run(&["servers", "add", "away", "--url", &nowhere()]).await.expect(0).out;
    assert!(added.contains("registered away: unreachable\nit is kept and tried again: "), "{added}");
    let ran = gateway.run(&["servers", "refresh", "away"]).await.expect(1);
    assert!(ran.out.starts_with("not refreshed away: unreachable, "), "{}", ran.out);
    let ran = gateway.run(&["servers", "refresh", "away", "--json"]).await.expect(1);
    assert_eq!(ran.json()["items"][0]["result"], "not_refreshed");
    assert!(gateway.run(&["servers", "tools", "away"]).await.out.contains("the server cannot be reached: "));
    let pools = gateway.run(&["servers", "pools"]).await.expect(0).out;
    assert!(pools.contains("IN FLIGHT") && pools.lines().any(|line| line.starts_with("away ")), "{pools}");
    let pool = gateway.run(&["servers", "pools", "--json"]).await.expect(0).json()["pools"][0].take();
    assert_eq!((&pool["server"], &pool["limit"]), (&json!("away"), &json!(10)), "{pool}");
    let checks = gateway.run(&["doctor", "--json"]).await.expect(1).json();
    let of = |name: &str| checks["checks"].as_array().unwrap().iter().find(|one| one["check"] == name).cloned();
    assert_eq!(of("server away").unwrap()["result"], "fail", "{checks}");
    for name in ["database", "sealing key", "key"] {
        assert_eq!(of(name).unwrap()["result"], "ok", "{checks}");
    }
    let status = gateway.run(&["status"]).await.expect(0).out;
    assert!(status.contains("1 unreachable") && status.contains("(admin)"), "{status}");
}

#[tokio::test]
async fn a_file_is_applied_once_exported_and_applied_again() {
    let gateway = Real::start().await;
    gateway.sample("extra").await;
    let file = format!(
        "servers:\n  - slug: away\n    replicas: [{{url: {}}}]\n    headers: {{X-Key: s3cret}}\n  - slug: tools\n    \
         transport: stdio\n    command: {{program: {BINARY}, args: [sample-server]}}\n",
        nowhere()
    );
    gateway.folder.write("gateway.yaml", &file);
    let plan = gateway.run(&["apply", "-f", "gateway.yaml", "--dry-run"]).await.expect(0).out;
    assert!(plan.contains("would create 2, change 0, remove 0") && !plan.contains("s3cret"), "{plan}");
    gateway.run(&["servers", "show", "tools"]).await.expect(1);
    let applied = gateway.run(&["apply", "-f", "gateway.yaml", "--json"]).await.expect(0).json();
    assert_eq!(applied["changes"].as_array().unwrap().len(), 2, "{applied}");
    let again = gateway.run(&["apply", "-f", "gateway.yaml", "--json"]).await.expect(0).json();
    assert_eq!((&again["changes"], &again["unchanged"]), (&json!([]), &json!(2)));

    let exported = gateway.run(&["export"]).await.expect(0).out;
    assert!(exported.contains("X-Key: ${AWAY_X_KEY}") && !exported.contains("s3cret"), "{exported}");
    let secret = [("AWAY_X_KEY", "s3cret")];
    let same = run(&gateway.folder, &["apply", "-f", "-", "--json"], &secret, &exported).await.expect(0).json();
    assert_eq!((&same["changes"], &same["unchanged"]), (&json!([]), &json!(3)), "{same}");

    for nothing in ["# to come\n", "", "servers:\n"] {
        gateway.folder.write("empty.yaml", nothing);
        let refused = gateway.run(&["apply", "-f", "empty.yaml", "--prune", "--yes"]).await.expect(2);
        assert!(refused.err.contains("no list `servers`"), "{nothing:?}: {}", refused.err);
    }
    gateway.folder.write("empty.yaml", "servers: []\n");
    let refused = gateway.run(&["apply", "-f", "empty.yaml", "--prune"]).await.expect(2);
    assert!(refused.err.contains("3 servers are not in the file: away, extra, tools"), "{}", refused.err);
    let pruned = gateway.run(&["apply", "-f", "gateway.yaml", "--prune", "--yes", "--json"]).await.expect(0).json();
    let removed = &pruned["changes"][0];
    assert_eq!((&removed["slug"], &removed["action"]), (&json!("extra"), &json!("remove")), "{pruned}");
}

#[tokio::test]
async fn a_clients_file_is_imported_and_its_servers_answer() {
    let gateway = Real::start().await;
    let file = json!({"mcpServers": {"My Tools": {"command": BINARY, "args": ["sample-server"]}}});
    gateway.folder.write(".mcp.json", &file.to_string());
    let dry = gateway.run(&["import", ".mcp.json", "--dry-run", "--json"]).await.expect(0).json();
    assert_eq!((&dry["items"][0]["slug"], &dry["items"][0]["result"]), (&json!("my-tools"), &json!("would_register")));
    let done = gateway.run(&["import", ".mcp.json", "--json"]).await.expect(0).json();
    assert_eq!((&done["items"][0]["result"], &done["items"][0]["reason"]), (&json!("registered"), &json!("ready")));
    assert_eq!(gateway.run(&["servers", "call", "my-tools", "echo", "text=hi"]).await.expect(0).out, "hi\n");
    let again = gateway.run(&["import", ".mcp.json", "--json"]).await.expect(0).json();
    assert_eq!(again["items"][0]["result"], "exists");
    gateway.folder.write("two.json", r#"{"mcpServers": {"a": {"url": "https://x"}, "a": {"url": "https://y"}}}"#);
    let refused = gateway.run(&["import", "two.json"]).await.expect(1);
    assert!(refused.err.contains("two.json:1:45: the name \"a\" stands twice"), "{}", refused.err);
    assert_eq!(gateway.run(&["servers", "list", "--json"]).await.json()["items"].as_array().map(Vec::len), Some(1));
}

/// The item of a list whose `field` is `value`.
#[track_caller]
pub fn find(list: &Value, field: &str, value: &str) -> Value {
    let items = list["items"].as_array().unwrap();
    items.iter().find(|item| item[field] == value).unwrap_or_else(|| panic!("no {value} in {list}")).clone()
}
