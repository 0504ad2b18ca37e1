//! How `serve` starts, or does not: what it leaves behind, what it finds again, and that `doctor` says the same beforehand.

use serde_json::json;
use testkit::process::{Start, free_port};

use crate::real::{PATIENCE, start};
use crate::{BINARY, Folder, run};

#[tokio::test]
async fn a_first_start_that_fails_leaves_nothing_and_the_second_shows_its_key() {
    let folder = Folder::default();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("--port={}", taken.local_addr().unwrap().port());
    let refused = run(&folder, &["serve", &port], &[], "").await.expect(1);
    assert!(refused.err.contains("is another gateway running?"), "{}", refused.err);
    let tls = ["serve", "--port=0", "--tls-cert=none.pem", "--tls-key=none.key"];
    assert!(run(&folder, &tls, &[], "").await.expect(1).err.contains("cannot read none.pem"));
    assert!(!folder.join("data").exists(), "no key is made that nobody is shown");

    let mut process = start(&folder, &["serve", "--port=0"]).await;
    let shown = process.stdout().iter().find_map(|line| line.trim().strip_prefix("mcpg_").map(str::to_owned));
    assert_eq!(folder.read("data/cli.json")["key"], format!("mcpg_{}", shown.unwrap()));
    run(&folder, &["servers", "list"], &[], "").await.expect(0);
    assert!(process.stop(PATIENCE).await.unwrap().success());
}

#[tokio::test]
async fn each_start_says_anew_where_it_listens_and_keeps_the_key() {
    let folder = Folder::default();
    let mut process = start(&folder, &["serve", "--port=0"]).await;
    let first = folder.read("data/cli.json");
    process.stop(PATIENCE).await.unwrap();
    let port = free_port().unwrap();
    let mut process = start(&folder, &["serve", &format!("--port={port}")]).await;
    let second = folder.read("data/cli.json");
    assert_eq!(second, json!({"gateway": format!("http://127.0.0.1:{port}"), "key": first["key"]}));
    assert_ne!(first["gateway"], second["gateway"]);
    run(&folder, &["servers", "list"], &[], "").await.expect(0);
    process.stop(PATIENCE).await.unwrap();

    // The key was moved to a safe place.
    std::fs::remove_file(folder.join("data/cli.json")).unwrap();
    let mut process = start(&folder, &["serve", "--port=0"]).await;
    assert_eq!(folder.read("data/cli.json"), json!({"gateway": process.url().unwrap()}));
    assert!(process.line("MREG_BOOTSTRAP_ADMIN_KEY").await.is_some(), "{}", process.said());
    assert!(run(&folder, &["servers", "list"], &[], "").await.expect(1).err.contains("401"));
    let key = [("MREG_API_KEY", first["key"].as_str().unwrap())];
    run(&folder, &["servers", "list"], &key, "").await.expect(0);
    process.stop(PATIENCE).await.unwrap();

    // Somebody's slip is told, and what may hold the only key is not written over.
    folder.write("data/cli.json", "{\"key\": \"mcpg_");
    let mut process = start(&folder, &["serve", "--port=0"]).await;
    assert!(process.line("move it away").await.is_some());
    assert!(run(&folder, &["servers", "list"], &[], "").await.expect(1).err.contains("move it away"));
    assert_eq!(std::fs::read_to_string(folder.join("data/cli.json")).unwrap(), "{\"key\": \"mcpg_");
    std::fs::remove_file(folder.join("data/cli.json")).unwrap();
    process.stop(PATIENCE).await.unwrap();
    let mut process = start(&folder, &["serve", "--port=0"]).await;
    assert_eq!(folder.read("data/cli.json"), json!({"gateway": process.url().unwrap()}), "it is written anew");
    process.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_second_gateway_on_the_folder_of_one_that_runs_leaves_the_command_line_to_it() {
    let folder = Folder::default();
    let mut first = start(&folder, &["serve", "--port=0"]).await;
    let said = folder.read("data/cli.json");
    let mut second = start(&folder, &["serve", "--port=0"]).await;
    assert!(second.line("another gateway runs on the data folder").await.is_some(), "{}", second.said());
    assert_eq!(folder.read("data/cli.json"), said);
    second.stop(PATIENCE).await.unwrap();
    run(&folder, &["servers", "list"], &[], "").await.expect(0);
    first.stop(PATIENCE).await.unwrap();
    let mut third = start(&folder, &["serve", "--port=0"]).await;
    assert_eq!(folder.read("data/cli.json"), json!({"gateway": third.url().unwrap(), "key": said["key"]}));
    third.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_database_is_not_started_without_the_key_that_sealed_it() {
    let folder = Folder::default();
    let mut process = start(&folder, &["serve", "--port=0"]).await;
    let url = format!("http://127.0.0.1:{}/mcp", free_port().unwrap());
    run(&folder, &["servers", "add", "away", "--url", &url, "--header", "X-Key: s3cret"], &[], "").await.expect(0);
    process.stop(PATIENCE).await.unwrap();
    let (key, kept) = (folder.join("data/master.key"), folder.join("kept.key"));
    std::fs::rename(&key, &kept).unwrap();
    let said = refused_alike(&folder, &[], "is in use, but the key that seals its secrets is not there").await;
    assert!(said.contains("register the servers anew"), "{said}");
    assert!(!key.exists(), "no other key takes its place");
    let other = [("MREG_MASTER_KEY", "mQ4vJ7x0cK1rT9wZ2bN5yH8uE3fL6sA0dG4jP7kV1oI=")];
    refused_alike(&folder, &other, "is not the one of this database").await;
    std::fs::rename(&kept, &key).unwrap();
    start(&folder, &["serve", "--port=0"]).await.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused_before_anything_is_written() {
    let folder = Folder::default();
    for (variable, value, says) in [
        ("MREG_DATABASE_URL", "mysql://u:s3cret@h/db", "no database address"),
        ("MREG_MASTER_KEY", "short", "32 random bytes"),
        ("MREG_BOOTSTRAP_ADMIN_KEY", "mcpg_change-me", "the supplied admin key is refused"),
    ] {
        let said = refused_alike(&folder, &[(variable, value)], says).await;
        assert!(!said.contains("s3cret"), "{said}");
        assert!(!folder.join("data").exists(), "{variable}");
    }
}

/// Neither `doctor` nor `serve` takes the set-up, and both say why in the same words; returns them.
async fn refused_alike(folder: &Folder, env: &[(&str, &str)], says: &str) -> String {
    let doctor = run(folder, &["doctor", "--port=0"], env, "").await.expect(1).out;
    assert!(doctor.contains("FAIL") && doctor.contains(says), "{doctor}");
    let serve = run(folder, &["serve", "--port=0"], env, "").await.expect(1).err;
    assert!(serve.contains(says), "{serve}");
    serve
}

#[tokio::test]
async fn a_database_that_is_away_is_named_at_once_and_waited_for() {
    let folder = Folder::default();
    let port = free_port().unwrap();
    let mut process = Start::new(BINARY)
        .args(["serve", "--port=0"])
        .env("MREG_DATABASE_URL", format!("postgres://u:s3cret@127.0.0.1:{port}/db"))
        .folder(&*folder)
        .ready("it is tried again")
        .start()
        .await
        .unwrap();
    let said = process.ready_line();
    assert!(said.contains(&format!("PostgreSQL at 127.0.0.1:{port} cannot be reached")), "{said}");
    assert!(said.contains("MREG_DATABASE_URL") && !said.contains("s3cret"), "{said}");
    assert!(process.stop(PATIENCE).await.unwrap().success(), "a signal ends the wait");
}

#[tokio::test]
async fn a_program_that_starts_it_reads_one_line_of_json() {
    let folder = Folder::default();
    let mut process = Start::new(BINARY)
        .args(["serve", "--port=0", "--json"])
        .folder(&*folder)
        .ready("first_key")
        .start()
        .await
        .unwrap();
    let line: serde_json::Value = serde_json::from_str(process.ready_line()).unwrap();
    assert_eq!(line, json!({"gateway": process.url().unwrap(), "first_key": folder.read("data/cli.json")["key"]}));
    process.stop(PATIENCE).await.unwrap();
    assert_eq!(process.stdout().len(), 1, "{}", process.said());
}
