//! Bans on a real gateway.

use serde_json::json;
use testkit::process::Process;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::real::{PATIENCE, Real, find, start};
use crate::{Folder, run};

#[tokio::test]
async fn a_ban_is_made_looked_at_and_lifted() {
    let gateway = Real::start().await;
    let none = gateway.run(&["bans", "list"]).await.expect(0).out;
    assert_eq!(none, "no address is banned\n");
    let made =
        gateway.run(&["bans", "add", "192.0.2.0/24", "--note", "guesses keys", "--seconds", "60"]).await.expect(0);
    assert!(made.out.contains("192.0.2.0/24") && made.out.contains("guesses keys"), "{}", made.out);
    let again = gateway.run(&["bans", "add", "192.0.2.0/24", "--note", "x"]).await.expect(1).err;
    assert!(again.contains("banned already"), "{again}");
    let list = gateway.run(&["bans", "list"]).await.expect(0).out;
    assert!(list.contains("192.0.2.0/24  active") && list.contains("hand"), "{list}");
    let shown = gateway.run(&["bans", "show", "192.0.2.0/24", "--json"]).await.expect(0).json();
    assert_eq!((&shown["state"], &shown["made_by"]), (&json!("active"), &json!("admin")));
    let lifted = ["bans", "lift", "192.0.2.0/24", "--reason", "wrong", "--note", "our own"];
    assert_eq!(gateway.run(&lifted).await.expect(0).out, "lifted the ban of 192.0.2.0/24\n");
    assert_eq!(gateway.run(&["bans", "list"]).await.expect(0).out, none);
    let all = gateway.run(&["bans", "list", "--all", "--json"]).await.expect(0).json();
    assert_eq!(find(&all, "address", "192.0.2.0/24")["lifted"]["note"], "our own");
    let gone = gateway.run(&["bans", "lift", "192.0.2.9", "--reason", "served"]).await.expect(1).err;
    assert!(gone.contains("there is no ban `192.0.2.9`"), "{gone}");
}

/// The status that somebody at this address gets for this key, by way of a proxy on this machine.
async fn status(process: &Process, address: &str, key: &str) -> String {
    let gateway = process.url().unwrap().strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
    let mut stream = TcpStream::connect(gateway).await.unwrap();
    let request = format!(
        "GET /api/v1/me HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: {address}\r\nauthorization: Bearer {key}\r\n\
         connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut said)).await.unwrap().unwrap();
    said.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn a_ban_outlives_the_process_and_ends_when_it_is_lifted() {
    let (folder, key) = (Folder::default(), "mcpg_91d5a0c27be34f8f9b6e1c8d7a2403f5be17c90d4a6f8e2253b7d1096ac4ef80");
    let args = &["serve", "--port=0", "--behind-proxy", "--ddos-detection-threshold=3", "--bootstrap-admin-key", key];
    let wrong = "mcpg_wrong_00000000000000000000000000000000000";
    let mut process = start(&folder, args).await;
    for _ in 0..3 {
        assert_eq!(status(&process, "192.0.2.1", wrong).await, "401");
    }
    assert_eq!(status(&process, "192.0.2.1", key).await, "429");
    assert_eq!(status(&process, "192.0.2.2", key).await, "200");
    assert_eq!(status(&process, "127.0.0.1", key).await, "200");
    process.stop(PATIENCE).await.unwrap();

    let process = start(&folder, args).await;
    assert_eq!(status(&process, "192.0.2.1", key).await, "429", "a restart forgives nothing");
    let env = [("MREG_API_KEY", key), ("MREG_GATEWAY_URL", process.url().unwrap())];
    let list = run(&folder, &["bans", "list", "--json"], &env, "").await.expect(0).json();
    let ban = find(&list, "address", "192.0.2.1");
    assert_eq!((&ban["refusals"], &ban["false_positive"]), (&json!(3), &json!(true)), "{ban}");
    run(&folder, &["bans", "lift", "192.0.2.1", "--reason", "wrong"], &env, "").await.expect(0);
    assert_eq!(status(&process, "192.0.2.1", key).await, "200");
}
