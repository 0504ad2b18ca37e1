//! The audit trail of a real gateway, as its administrator looks at it.

use std::time::Duration;

use serde_json::Value;
use sqlx::{Connection as _, Executor as _};
use testkit::command::Ran;

use crate::real::{PATIENCE, Real};

/// Asks until something is there; a record comes a moment after its operation.
async fn until(gateway: &Real, args: &[&str], there: impl Fn(&Ran) -> bool) -> Ran {
    let asking = async {
        loop {
            let ran = gateway.run(args).await.expect(0);
            if there(&ran) {
                return ran;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{args:?} never showed it"))
}

#[tokio::test]
async fn the_trail_is_looked_at_exported_and_verified() {
    let gateway = Real::start().await;
    gateway.sample("tools").await;
    gateway.run(&["servers", "call", "tools", "add", "a=2", "b=40"]).await.expect(0);
    let query = ["audit", "query", "--action", "tools/call", "--user", "admin", "--from", "1h"];
    let list = until(&gateway, &query, |ran| ran.out.contains("tools/add")).await.out;
    assert!(list.contains("REQUEST") && list.contains("success"), "{list}");
    let json = [&query[..], &["--json"]].concat();
    let item = gateway.run(&json).await.expect(0).json()["items"][0].clone();
    assert_eq!((&item["record"]["server"], &item["record"]["name"]), (&"tools".into(), &"add".into()), "{item}");
    let none = gateway.run(&["audit", "query", "--user", "nobody"]).await.expect(0).out;
    assert_eq!(none, "no record is like that\n");

    let lines = gateway.run(&["audit", "export", "--tenant", "default"]).await.expect(0).out;
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["chain"], "default");
    let csv = gateway.run(&["audit", "export", "--format", "csv", "--action", "tools/call"]).await.expect(0).out;
    assert!(csv.starts_with("time,id,chain,seq,hash,") && csv.lines().count() == 2, "{csv}");

    let whole = gateway.run(&["audit", "verify"]).await.expect(0).out;
    assert!(whole.starts_with("the trail is whole: "), "{whole}");
    let file = format!("sqlite://{}", gateway.folder.join("data").join("gateway.sqlite").display());
    let mut database = sqlx::SqliteConnection::connect(&file).await.unwrap();
    database.execute("UPDATE audit_records SET username = 'eve' WHERE chain = 'default' AND seq = 1").await.unwrap();
    database.close().await.unwrap();
    let changed = gateway.run(&["audit", "verify", "--tenant", "default"]).await.expect(1).out;
    assert!(changed.contains("default: the columns of record 1 say something else than its text"), "{changed}");
    let told = gateway.run(&["audit", "verify", "--json"]).await.expect(1).json();
    assert_eq!((&told["findings"][0]["kind"], &told["findings"][0]["seq"]), (&"columns".into(), &1.into()), "{told}");
    assert_eq!(told["keys_checked"], true, "{told}");

    gateway.run(&["audit", "accept", "--chain", "default", "--reason", " "]).await.expect(1);
    let nobody = gateway.run(&["audit", "accept", "--chain", "nobody", "--reason", "a test"]).await.expect(1).err;
    assert!(nobody.contains("there is no chain of that name"), "{nobody}");
    let accept = ["audit", "accept", "--chain", "default", "--reason", "it was a test", "--by", "ada"];
    let accepted = gateway.run(&accept).await.expect(0).out;
    assert!(accepted.starts_with("default: 1 findings were accepted"), "{accepted}");
    let told = gateway.run(&["audit", "verify"]).await.expect(0).out;
    assert!(told.contains("record 1 say something else than its text; accepted by ada, up to record"), "{told}");
    assert!(told.contains("because: it was a test\nthe trail is whole but for what was accepted"), "{told}");
    let again = gateway.run(&accept).await.expect(0).out;
    assert_eq!(again, "default: nothing is wrong, and nothing was accepted\n");
}
