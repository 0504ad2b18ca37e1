//! Access rules on a real gateway.

use serde_json::json;

use crate::real::Real;

const RULES: &str = "@id(\"all\")\npermit(principal, action, resource);\n";

#[tokio::test]
async fn what_was_called_is_explained_and_tried_on_other_rules() {
    let gateway = Real::start().await;
    gateway.sample("tools").await;
    let explain = async |more: &[&str]| {
        let command = [&["policy", "explain", "--user", "admin", "--tool", "tools/add"], more].concat();
        gateway.run(&command).await.expect(0)
    };
    let told = explain(&[]).await.out;
    assert!(told.starts_with("allowed\nrules: allowed (default)\n") && told.contains("shown in lists: yes"), "{told}");
    gateway.run(&["servers", "call", "tools", "add", "a=2", "b=40"]).await.expect(0);
    gateway.run(&["servers", "call", "tools", "add", "a=2", "b=41"]).await.expect(0);

    let rules = gateway.folder.join("rules.cedar").display().to_string();
    let narrow = "@id(\"no-add\")\nforbid(principal, action, resource is Tool) when { resource.name == \"add\" };\n";
    std::fs::write(&rules, format!("{RULES}{narrow}")).unwrap();
    let tried = gateway.run(&["policy", "dry-run", "-f", &rules]).await.expect(0).out;
    let change = "admin  tool tools/add  allowed  denied  2      no-add\n1 operation ";
    assert!(tried.contains(change), "what was called before anybody wrote rules: {tried}");
    assert_eq!(explain(&["--json"]).await.json()["decision"], "allowed", "it was only tried");

    gateway.run(&["policy", "edit", "-f", &rules]).await.expect(0);
    let told = explain(&["--json"]).await.json();
    assert_eq!(
        (&told["decision"], &told["listed"], &told["rules"]),
        (&json!("denied"), &json!(false), &json!(["no-add"])),
        "{told}"
    );
    let refused = gateway.run(&["servers", "call", "tools", "add", "a=2", "b=40"]).await.expect(1).err;
    assert!(refused.contains("Unknown tool: add"), "{refused}");
    let none = gateway.run(&["policy", "dry-run", "-f", &rules]).await.expect(0).out;
    assert!(none.contains("0 would be decided otherwise") || none.contains("nothing would change"), "{none}");
}

#[tokio::test]
async fn rules_are_checked_put_in_force_looked_at_and_taken_back() {
    let gateway = Real::start().await;
    let folder = std::env::temp_dir().join(format!("mcp-gateway-policy-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&folder).unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.join(name).display().to_string();
        std::fs::write(&path, text).unwrap();
        path
    };
    let (good, bad) = (write("good.cedar", RULES), write("bad.cedar", &format!("{RULES}permit(principal, action);\n")));
    let first = gateway.run(&["policy", "show"]).await.expect(0).out;
    assert!(first.contains("permit(principal, action, resource);"), "{first}");

    assert!(gateway.run(&["policy", "check", "-f", &good]).await.expect(0).out.contains("can be put in force"));
    for command in [["policy", "check", "-f", &bad], ["policy", "edit", "-f", &bad], ["policy", "dry-run", "-f", &bad]]
    {
        let told = gateway.run(&command).await.expect(1).err;
        assert!(told.contains("bad.cedar:3:"), "{command:?}: {told}");
    }
    let told = gateway.run(&["policy", "edit", "-f", &good]).await.expect(0).out;
    assert!(told.contains("version 1 of default is in force") && told.contains("+ @id(\"all\")"), "{told}");
    assert!(gateway.run(&["policy", "edit", "-f", &good]).await.expect(0).out.contains("already"));
    assert_eq!(gateway.run(&["policy", "show"]).await.expect(0).out, RULES);

    let none = write("none.cedar", "");
    let trial = gateway.run(&["policy", "dry-run", "-f", &none, "--json"]).await.expect(0).json();
    assert_eq!(trial["operations"], 0, "{trial}");
    assert!(gateway.run(&["policy", "dry-run", "-f", &none]).await.expect(0).out.contains("nothing would change"));
    let history = gateway.run(&["policy", "history"]).await.expect(0).out;
    assert!(history.contains("in force"), "{history}");
    let back = gateway.run(&["policy", "rollback", "0", "--json"]).await.expect(0).json();
    assert_eq!((&back["version"], back["text"].as_str()), (&json!(2), Some(first.as_str())));
    let told = gateway.run(&["policy", "rollback", "77"]).await.expect(1).err;
    assert!(told.contains("there is no version `77`") && told.contains("policy history"), "{told}");
    let told = gateway.run(&["policy", "show", "--tenant", "nowhere"]).await.expect(1).err;
    assert!(told.contains("there is no tenant `nowhere`"), "{told}");
    gateway.run(&["policy", "explain", "--user", "admin"]).await.expect(2);
    gateway.run(&["policy", "explain", "--user", "admin", "--tool", "x"]).await.expect(2);
    gateway.run(&["policy", "explain", "--tool", "a/b"]).await.expect(2);

    let file = write("gateway.yaml", "policies:\n  default:\n    file: good.cedar\n");
    let told = gateway.run(&["apply", "-f", &file, "--dry-run"]).await.expect(0).out;
    assert!(told.contains("change the access rules of default"), "{told}");
    assert_eq!(gateway.run(&["policy", "show"]).await.expect(0).out, first, "a dry run changes nothing");
    gateway.run(&["apply", "-f", &file]).await.expect(0);
    assert_eq!(gateway.run(&["policy", "show"]).await.expect(0).out, RULES);
    let inline = write("inline.yaml", "servers: []\npolicies:\n  default: |\n    permit(principal, action);\n");
    let told = gateway.run(&["apply", "-f", &inline]).await.expect(1).err;
    assert!(told.contains("inline.yaml:4:5: line 1, column"), "{told}");
    std::fs::remove_dir_all(folder).unwrap();
}
