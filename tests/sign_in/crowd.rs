//! Many people sign in at the same time, each with a browser at an address of their own: nobody is turned away.

use std::process::Command;

use serde_json::Value;

#[test]
fn two_hundred_people_who_sign_in_at_once_all_come_in() {
    let bench = testkit::process::binary("bench_sign_in").unwrap();
    let done = Command::new(bench)
        .arg(format!("--gateway={}", env!("CARGO_BIN_EXE_mcp-gateway")))
        .args(["--people=200", "--at-once=200", "--tokens=0", "--registrations=0", "--json"])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&report["sign_ins"]["completed"], &report["sign_ins"]["at_once"]), (&200.into(), &200.into()));
}
