//! The keys that seal secrets, as an operator replaces them.

use serde_json::json;
use testkit::process::{Process, Start, free_port};

use crate::real::{PATIENCE, start};
use crate::{BINARY, Folder, run};

async fn keep_a_secret(folder: &Folder, slug: &str) {
    let url = format!("http://127.0.0.1:{}/mcp", free_port().unwrap());
    run(folder, &["servers", "add", slug, "--url", &url, "--header", "X-Key: s3cret"], &[], "").await.expect(0);
}

/// The commands of a section of a page of the manual, block by block.
fn commands(page: &str, section: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("{}/docs/{page}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (_, after) = text.split_once(&format!("## {section}\n")).unwrap();
    let own = after.split("\n## ").next().unwrap();
    let blocks = own.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().trim().to_owned()).collect()
}

/// Types these lines into a shell in the folder, where the gateway is found by its name.
async fn typed(folder: &Folder, lines: &str) -> String {
    let programs = std::path::Path::new(BINARY).parent().unwrap().display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    let ran = testkit::command::run("/bin/sh", folder, &["-ec", lines], [("PATH", path.as_str())], "").await.unwrap();
    assert_eq!(ran.code, 0, "{lines}: {}{}", ran.out, ran.err);
    ran.out
}

async fn restarted(process: &mut Process, folder: &Folder, line: &str) -> Process {
    process.stop(PATIENCE).await.unwrap();
    let args: Vec<&str> = line.split_whitespace().skip(1).chain(["--port=0"]).collect();
    start(folder, &args).await
}

#[tokio::test]
async fn the_master_key_is_changed_as_the_manual_says() {
    let folder = Folder::default();
    let mut process = start(&folder, &["serve", "--port=0"]).await;
    keep_a_secret(&folder, "away").await;
    let first = std::fs::read(folder.join("data/master.key")).unwrap();
    let mut said = String::new();
    let mut serves = 0;
    for block in commands("sealing-keys.md", "Change the master key") {
        if block.starts_with("mcp-gateway serve") {
            process = restarted(&mut process, &folder, &block).await;
            serves += 1;
            let shown = run(&folder, &["servers", "show", "away", "--json"], &[], "").await.expect(0).json();
            assert_eq!(shown["headers"], json!({"X-Key": "***"}), "its secrets open: {shown}");
        } else {
            said = typed(&folder, &block).await + &said;
        }
    }
    assert!(serves == 2 && said.contains("previous master keys"), "{said}");
    assert_ne!(std::fs::read(folder.join("data/master.key")).unwrap(), first);
    assert!(!folder.join("data/previous.key").exists());
    let status = run(&folder, &["keys", "status", "--json"], &[], "").await.expect(0).json();
    assert_eq!((&status["master"]["stale"], &status["master"]["previous"]), (&json!(0), &json!([])), "{status}");
    assert!(status["master"]["resealed_at"].is_string(), "{status}");
    let refused = run(&folder, &["keys", "rotate", "--master"], &[], "").await.expect(1);
    assert!(refused.err.contains("MREG_PREVIOUS_MASTER_KEY"), "{}", refused.err);
    process.stop(PATIENCE).await.unwrap();
    std::fs::write(folder.join("data/master.key"), &first).unwrap();
    let refused = run(&folder, &["serve", "--port=0"], &[], "").await.expect(1);
    assert!(refused.err.contains("another master key") && refused.err.contains("previous"), "{}", refused.err);
}

#[tokio::test]
async fn keys_are_rotated_and_shown_and_no_api_key_is_meant() {
    let folder = Folder::default();
    let mut process = start(&folder, &["serve", "--port=0"]).await;
    let empty = run(&folder, &["keys", "status", "--tenant", "default"], &[], "").await.expect(0).out;
    assert!(empty.contains("nothing of the tenant is sealed"), "{empty}");
    keep_a_secret(&folder, "away").await;
    let rotated = run(&folder, &["keys", "rotate", "--json"], &[], "").await.expect(0).json();
    assert_eq!((&rotated["data"]["stale"], &rotated["data"]["keys"]), (&json!(0), &json!(2)), "{rotated}");
    assert!(rotated["data"]["rotated_at"].is_string() && rotated["master"]["resealed_at"].is_null(), "{rotated}");
    let rotated = run(&folder, &["keys", "rotate", "--tenant", "default"], &[], "").await.expect(0).out;
    assert!(rotated.contains("GENERATION") && rotated.lines().count() == 4, "{rotated}");
    let keys = run(&folder, &["keys", "status", "--tenant", "default", "--json"], &[], "").await.expect(0).json();
    let values: Vec<_> = keys["keys"].as_array().unwrap().iter().map(|key| key["values"].clone()).collect();
    assert_eq!(values, [1, 0, 0].map(|count| json!(count)), "{keys}");

    let slip = run(&folder, &["keys", "rotate", "ci"], &[], "").await.expect(2).err;
    assert!(slip.contains("keys create") && slip.contains("keys revoke"), "{slip}");
    run(&folder, &["keys", "rotate", "--tenant", "acme", "--master"], &[], "").await.expect(2);
    let unknown = run(&folder, &["keys", "rotate", "--tenant", "acme"], &[], "").await.expect(1).err;
    assert!(unknown.contains("there is no tenant `acme`"), "{unknown}");
    process.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_gateway_that_is_killed_while_keys_are_rotated_goes_on_with_it() {
    let folder = Folder::default();
    let mut process = start(&folder, &["serve", "--port=0"]).await;
    for at in 0..3 {
        keep_a_secret(&folder, &format!("s{at}")).await;
    }
    for _ in 0..3 {
        run(&folder, &["keys", "rotate", "--no-wait"], &[], "").await.expect(0);
        process.kill_and_wait().await.unwrap();
        process = start(&folder, &["serve", "--port=0"]).await;
        let list = run(&folder, &["servers", "list", "--json"], &[], "").await.expect(0).json();
        assert_eq!(list["items"].as_array().unwrap().len(), 3, "each opens: {list}");
    }
    let done = run(&folder, &["keys", "rotate", "--json"], &[], "").await.expect(0).json();
    assert_eq!(done["data"]["stale"], 0, "{done}");
    process.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_gateway_that_sealed_only_keys_of_its_own_is_not_started_with_another_master_key() {
    let folder = Folder::default();
    start(&folder, &["serve", "--port=0"]).await.stop(PATIENCE).await.unwrap();
    let other = [("MREG_MASTER_KEY", "mQ4vJ7x0cK1rT9wZ2bN5yH8uE3fL6sA0dG4jP7kV1oI=")];
    let refused = run(&folder, &["serve", "--port=0"], &other, "").await.expect(1).err;
    assert!(refused.contains("is not the one of this database"), "{refused}");
    std::fs::rename(folder.join("data/master.key"), folder.join("kept.key")).unwrap();
    let refused = run(&folder, &["serve", "--port=0"], &[], "").await.expect(1).err;
    assert!(refused.contains("`id_keys` and `signing_keys`"), "{refused}");
    std::fs::rename(folder.join("kept.key"), folder.join("data/master.key")).unwrap();
    start(&folder, &["serve", "--port=0"]).await.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_program_prints_the_master_key() {
    let folder = Folder::default();
    folder.write("probe", "#!/bin/sh\nenv | grep -q ^MREG_ && exit 7\necho s3cret\n");
    std::fs::set_permissions(folder.join("probe"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let probe = folder.join("probe").display().to_string();
    folder.write("print", "#!/bin/sh\necho 'mQ4vJ7x0cK1rT9wZ2bN5yH8uE3fL6sA0dG4jP7kV1oI='\n");
    std::fs::set_permissions(folder.join("print"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let command = format!("--master-key-command={}", folder.join("print").display());
    let mut process = Start::new(BINARY)
        .args(["serve", "--port=0", "--log=trace", &command])
        .folder(&*folder)
        .ready("listening on")
        .start()
        .await
        .unwrap();
    keep_a_secret(&folder, "away").await;
    assert!(!folder.join("data/master.key").exists());
    process.stop(PATIENCE).await.unwrap();
    assert!(!process.said().contains("mQ4v"), "{}", process.said());
    for (command, says) in [
        ("/bin/false", "ended with exit status: 1"),
        ("/bin/echo s3cret", "32 random bytes"),
        (probe.as_str(), "32 random bytes"),
    ] {
        let refused = run(&folder, &["serve", "--port=0"], &[("MREG_MASTER_KEY_COMMAND", command)], "").await.expect(1);
        assert!(refused.err.contains("MREG_MASTER_KEY_COMMAND") && refused.err.contains(says), "{}", refused.err);
        assert!(!refused.err.contains("s3cret"), "{}", refused.err);
    }
    let command = [("MREG_MASTER_KEY_COMMAND", "curl -H 'X-Token: s3cret' localhost")];
    let refused = run(&folder, &["serve", "--port=0"], &command, "").await;
    assert!(
        refused.code != 0 && refused.err.contains("JSON list") && !refused.err.contains("s3cret"),
        "{}",
        refused.err
    );
    for shown in [&["serve", "--help"][..], &["config", "--json"]] {
        let shown = run(&folder, shown, &command, "").await;
        assert!(!shown.out.contains("s3cret") && !shown.err.contains("s3cret"), "{}{}", shown.out, shown.err);
    }
}
