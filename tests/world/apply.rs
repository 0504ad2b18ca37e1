//! `apply` as people run it, the binary against a gateway: all of a file or nothing of it, and a dry run that says what the
//! real one does.

use http::Method;
use serde_json::{Value, json};
use testkit::command::{self, Ran};
use testkit::upstream::Plain;

use crate::world::{KEY, World};

/// What is to happen to which server.
fn steps(ran: &Ran) -> Vec<(String, String)> {
    let document = ran.json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let changes = document["changes"].as_array().unwrap().iter();
    changes.map(|change| (text(&change["action"]), text(&change["slug"]))).collect()
}

/// Somebody at a terminal, with a key and a token in the environment.
struct Terminal<'a> {
    world: &'a World,
    key: String,
    token: &'a str,
}

impl Terminal<'_> {
    async fn run(&self, args: &[&str], input: &str) -> Ran {
        let env = [
            ("MREG_GATEWAY_URL", self.world.url()),
            ("MREG_API_KEY", self.key.as_str()),
            ("TOKEN", self.token),
            ("SEARCH_AUTHORIZATION", "Bearer exported"),
        ];
        command::run(env!("CARGO_BIN_EXE_mcp-gateway"), &std::env::temp_dir(), args, env, input).await.unwrap()
    }

    async fn apply(&self, file: &str, more: &[&str]) -> Ran {
        self.run(&[&["apply", "-f", "-"], more].concat(), file).await
    }
}

fn admin<'a>(world: &'a World, token: &'a str) -> Terminal<'a> {
    Terminal { world, key: KEY.to_owned(), token }
}

fn file(url: &str) -> String {
    format!(
        "servers:\n  - slug: search\n    replicas: [{{url: {url}}}]\n    headers: {{Authorization: 'Bearer ${{TOKEN}}'}}\n  - slug: plain\n    \
         replicas: [{{url: {url}}}]\n"
    )
}

async fn slugs(world: &World) -> Vec<String> {
    let (_, list) = world.rest(Method::GET, "/servers", &Value::Null).await;
    list["items"].as_array().unwrap().iter().map(|server| server["slug"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_applied_and_applying_it_again_changes_nothing() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    let file = file(&server.url());
    let token = async |of: &str| {
        world.client("/mcp/search").tool("echo", json!({})).await.unwrap();
        let sent = server.calls("echo").pop().unwrap();
        assert_eq!(sent.headers["authorization"], format!("Bearer {of}"));
    };
    let dry = admin(&world, "one").apply(&file, &["--dry-run"]).await;
    assert!(dry.code == 0 && dry.out.contains("would create 2, change 0, remove 0"), "{}{}", dry.out, dry.err);
    assert!(dry.out.contains("  + slug: search") && !dry.out.contains("one"), "{}", dry.out);
    assert!(slugs(&world).await.is_empty(), "a dry run changes nothing");

    let done = admin(&world, "one").apply(&file, &["--json"]).await;
    assert_eq!(steps(&done), [("create".into(), "search".into()), ("create".into(), "plain".into())]);
    token("one").await;
    let again = admin(&world, "one").apply(&file, &["--json"]).await;
    assert_eq!((&steps(&again)[..], &again.json()["unchanged"]), (&[][..], &json!(2)));
    assert_eq!(world.server("search").await["revision"], 1, "nothing was written");

    // Another secret is a change, and is not shown.
    for args in [&["--json", "--dry-run"][..], &["--json"]] {
        let rotated = admin(&world, "t2ken").apply(&file, args).await;
        assert_eq!(steps(&rotated), [("change".into(), "search".into())]);
        let diff = rotated.json()["changes"][0]["diff"].as_str().unwrap().to_owned();
        assert!(diff.contains("(another value)") && !diff.contains("t2ken") && !diff.contains("one"), "{diff}");
    }
    token("t2ken").await;
    let (status, _) =
        world.rest(Method::POST, "/servers", &json!({"slug": "more", "replicas": [{"url": server.url()}]})).await;
    assert_eq!(status, 201);
    let renamed = file.replace("slug: search", "slug: find").replace("slug: plain", "slug: plain\n    title: Plain");
    let dry = steps(&admin(&world, "t2ken").apply(&renamed, &["--prune", "--dry-run", "--json"]).await);
    let expected = [("remove", "more"), ("remove", "search"), ("change", "plain"), ("create", "find")];
    assert_eq!(dry, expected.map(|(action, slug)| (action.to_owned(), slug.to_owned())));
    assert_eq!(steps(&admin(&world, "t2ken").apply(&renamed, &["--prune", "--yes", "--json"]).await), dry);
    assert_eq!(slugs(&world).await, ["find", "plain"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_file_with_a_mistake_is_written_and_each_is_told_with_its_place() {
    let world = World::start().await;
    let good = "servers:\n  - slug: good\n    replicas: [{url: https://a.example/}]\n";
    for (bad, told) in [
        (
            "    visibility: {roles: [king]}\n",
            "standard input:6:26: visibility.roles[0]: there is no such role; use user",
        ),
        ("    headers: {A: x, a: y}\n", "headers.a: the same header as `A`"),
        ("    title: \"a\\0b\"\n", "title: holds a NUL character"),
        (
            "    headers: {X-Key: '***'}\n",
            "standard input:6:22: servers[1].headers.X-Key: `***` stands for a stored value",
        ),
        ("    balance: coin\n", "standard input:6:14: `coin` is not possible here; use round_robin"),
    ] {
        let file = format!("{good}  - slug: bad\n    replicas: [{{url: https://b.example/}}]\n{bad}");
        for args in [&["--dry-run"][..], &[]] {
            let ran = admin(&world, "x").apply(&file, args).await;
            assert!(ran.code == 1 && ran.err.contains(told) && ran.err.contains("nothing was changed"), "{}", ran.err);
        }
    }
    assert!(slugs(&world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_so_by_a_dry_run_too() {
    let world = World::start().await;
    world.register_as(&json!({"slug": "theirs", "replicas": [{"url": "http://127.0.0.1:9/mcp"}]})).await;
    let owner = world.person("olga", "server_owner").await;
    let user = world.person("ada", "user").await;
    let file = "servers:\n  - slug: mine\n    replicas: [{url: 'http://127.0.0.1:9/'}]\n  - slug: theirs\n    title: Ours\n    replicas: [{url: 'http://127.0.0.1:9/mcp'}]\n  - slug: program\n    transport: stdio\n    command: {program: sh}\n";
    for args in [&["--dry-run"][..], &[]] {
        let ran = Terminal { world: &world, key: owner.clone(), token: "" }.apply(file, args).await;
        let says = |text: &str| ran.err.contains(text);
        assert!(ran.code == 1 && says("403") && !says("servers[0]"), "{}", ran.err);
        assert!(says("standard input:4:5: servers[1]: only who registered the server"), "{}", ran.err);
        assert!(says("standard input:7:5: servers[2]: a stdio server runs a program"), "{}", ran.err);
        let ran = Terminal { world: &world, key: user.clone(), token: "" }.apply(file, args).await;
        assert!(ran.code == 1 && ran.err.contains("registering servers takes"), "{}", ran.err);
    }
    assert_eq!(slugs(&world).await, ["theirs"]);
    // What is the owner's own, the owner applies; and prunes nothing of others.
    let own = Terminal { world: &world, key: owner, token: "" };
    let file = "servers: [{slug: mine, replicas: [{url: 'http://127.0.0.1:9/'}]}]";
    assert_eq!(
        steps(&own.apply(file, &["--prune", "--yes", "--json"]).await),
        [("create".to_owned(), "mine".to_owned())]
    );
    assert_eq!(
        steps(&own.apply("servers: []", &["--prune", "--yes", "--json"]).await),
        [("remove".to_owned(), "mine".to_owned())]
    );
    assert_eq!(slugs(&world).await, ["theirs"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_nobody_which_servers_are_hidden() {
    let world = World::start().await;
    let hidden =
        json!({"slug": "hidden", "replicas": [{"url": "http://127.0.0.1:9/"}], "visibility": {"everyone": false}});
    world.register_as(&hidden).await;
    let user = Terminal { world: &world, key: world.person("ada", "user").await, token: "" };
    let mut said = Vec::new();
    for slug in ["hidden", "nobody"] {
        let file = format!("servers: [{{slug: {slug}, replicas: [{{url: 'http://127.0.0.1:9/'}}]}}]");
        let ran = user.apply(&file, &["--dry-run"]).await;
        assert_eq!(ran.code, 1);
        let lines = ran.err.lines().filter(|line| !line.contains("request id"));
        said.push(lines.collect::<String>().replace(slug, "SLUG"));
    }
    assert_eq!(said[0], said[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_can_be_applied_elsewhere() {
    let server = Plain::start().await.unwrap();
    let (from, to) = (World::start().await, World::start().await);
    admin(&from, "s3cret").apply(&file(&server.url()), &[]).await;
    let exported = admin(&from, "").run(&["export"], "").await.out;
    assert!(exported.contains("${SEARCH_AUTHORIZATION}") && !exported.contains("s3cret"), "{exported}");
    let ran = admin(&to, "").apply(&exported, &[]).await;
    assert_eq!((ran.code, slugs(&to).await), (0, vec!["plain".to_owned(), "search".to_owned()]), "{}", ran.err);
    let again = admin(&to, "").apply(&exported, &["--json"]).await;
    assert_eq!(steps(&again), [], "the same as it was exported");
    to.client("/mcp/search").tool("echo", json!({})).await.unwrap();
    assert_eq!(server.calls("echo").pop().unwrap().headers["authorization"], "Bearer exported");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_not_there_yet_is_warned_of() {
    let world = World::start().await;
    world.user("ada").await;
    let spec = json!({"slug": "it", "replicas": [{"url": "http://127.0.0.1:9/"}],
        "visibility": {"everyone": false, "users": ["Ada", "nobody-such"]}});
    let made = world.register_as(&spec).await;
    assert_eq!(made["warnings"], json!(["it: visible to `nobody-such`, and there is no such user yet"]));
    let read = world.server("it").await;
    assert_eq!(
        (&read["visibility"]["users"][1], &read["warnings"]),
        (&json!("nobody-such"), &Value::Null),
        "it is kept"
    );
    let file = "servers: [{slug: it, replicas: [{url: 'http://127.0.0.1:9/'}], visibility: {everyone: false, users: [ada, bob]}}]";
    let ran = admin(&world, "").apply(file, &["--dry-run"]).await;
    assert!(ran.code == 0 && ran.err.contains("warning: it: visible to `bob`"), "{}{}", ran.out, ran.err);
}

const FABRIKAM: &str = "fab00000-0000-4000-8000-000000000002";

/// What is to happen to which tenant.
fn tenants(ran: &Ran) -> Vec<String> {
    let document = ran.json();
    let text = |change: &Value, name: &str| change[name].as_str().unwrap().to_owned();
    let changes = document["tenants"].as_array().unwrap().iter();
    changes.map(|change| format!("{} {}", text(change, "action"), text(change, "tenant_id"))).collect()
}

async fn tenant(world: &World, id: &str) -> Value {
    world.rest(Method::GET, &format!("/admin/tenants/{id}"), &Value::Null).await.1
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_of_a_file_are_made_and_changed_and_what_it_does_not_name_stays() {
    let world = World::start().await;
    let file = format!(
        "tenants:\n  - tenant_id: acme\n    display_name: Acme\n    entra_tenant_ids: [{FABRIKAM}]\n    guests: false\n    \
         role_mappings: [{{value: Ops, role: tenant_admin}}]\n    rate_limits: {{fairness_weight: 2.5, base_rpm: 600}}\n    \
         features: {{priority_support: true}}\n    retention: {{audit_days: 30}}\n  - tenant_id: closed\n    state: suspended\n\
         servers:\n  - slug: search\n    replicas: [{{url: 'http://127.0.0.1:9/'}}]\n    offered_to: [acme, nobody]\n"
    );
    let run = async |file: &str, args: &[&str]| admin(&world, "").apply(file, args).await;
    let dry = run(&file, &["--dry-run"]).await;
    assert!(dry.code == 0 && dry.out.contains("would create 3, change 0, remove 0"), "{}{}", dry.out, dry.err);
    assert!(dry.out.contains("create tenant acme") && dry.out.contains("  + display_name: Acme"), "{}", dry.out);
    assert!(dry.err.contains("`nobody`") && !dry.err.contains("`acme`"), "it comes with the file: {}", dry.err);
    assert_eq!(tenant(&world, "acme").await["status"], 404, "a dry run changes nothing");

    let done = run(&file, &["--json"]).await;
    assert_eq!(tenants(&done), ["create acme", "create closed"], "{}", done.err);
    assert_eq!(tenants(&run(&file, &["--json", "--dry-run"]).await), [""; 0]);
    let again = run(&file, &["--json"]).await.json();
    assert_eq!((&again["tenants_unchanged"], &again["unchanged"]), (&json!(2), &json!(1)), "{again}");
    let acme = tenant(&world, "acme").await;
    assert_eq!((&acme["display_name"], &acme["guests"]), (&json!("Acme"), &json!(false)));
    assert_eq!((&acme["entra_tenant_ids"], &acme["state"]), (&json!([FABRIKAM]), &json!("active")));
    assert_eq!((&acme["rate_limits"]["fairness_weight"], &acme["rate_limits"]["base_rpm"]), (&json!(2.5), &json!(600)));
    assert_eq!(acme["role_mappings"], json!([{"value": "Ops", "role": "tenant_admin"}]));
    assert_eq!((&acme["features"]["priority_support"], &acme["retention"]["audit_days"]), (&json!(true), &json!(30)));
    assert_eq!(tenant(&world, "closed").await["state"], "suspended");

    // One thing changes, the rest stays; the directory passes to another, named before who gives it away; and nobody is pruned.
    let less = format!(
        "tenants:\n  - tenant_id: more\n    entra_tenant_ids: [{FABRIKAM}]\n  - tenant_id: acme\n    entra_tenant_ids: []\n    \
         rate_limits: {{base_rpm: null}}\nservers: []\n"
    );
    let done = run(&less, &["--json", "--prune", "--yes"]).await;
    assert_eq!(tenants(&done), ["create more", "change acme"], "{}", done.err);
    let diff = done.json()["tenants"][1]["diff"].as_str().unwrap().to_owned();
    assert!(diff.contains("-   base_rpm: 600") && !diff.contains("- display_name"), "{diff}");
    let now = tenant(&world, "acme").await;
    assert_eq!((&now["rate_limits"]["base_rpm"], &now["rate_limits"]["fairness_weight"]), (&Value::Null, &json!(2.5)));
    assert_eq!(
        (&now["display_name"], &now["state"], &now["guests"]),
        (&json!("Acme"), &json!("active"), &json!(false))
    );
    assert_eq!(tenant(&world, "more").await["entra_tenant_ids"], json!([FABRIKAM]));
    let resumed = run("tenants: [{tenant_id: closed, state: active}]", &["--json", "--dry-run"]).await;
    assert_eq!(tenants(&resumed), ["change closed"]);
    assert_eq!((tenant(&world, "closed").await["state"].clone(), slugs(&world).await.len()), (json!("suspended"), 0));

    let other = World::start().await;
    let exported = admin(&world, "").run(&["export"], "").await.out;
    let ran = admin(&other, "").apply(&exported, &["--json"]).await;
    assert_eq!(tenants(&ran), ["create acme", "create closed", "create more"], "{exported}{}", ran.err);
    for id in ["acme", "closed", "more", "default"] {
        let (mut one, mut two) = (tenant(&world, id).await, tenant(&other, id).await);
        for name in ["created_at", "updated_at"] {
            (one[name], two[name]) = (Value::Null, Value::Null);
        }
        assert_eq!(one, two);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_of_tenants_are_told_with_those_of_servers_and_only_administrators_of_the_gateway_apply_any() {
    let world = World::start().await;
    let made = json!({"tenant_id": "there", "entra_tenant_ids": [FABRIKAM]});
    assert_eq!(world.rest(Method::POST, "/admin/tenants", &made).await.0, 201);
    let file = format!(
        "tenants:\n  - tenant_id: good\n  - tenant_id: Bad One\n  - tenant_id: acme\n    rate_limits: {{base_rpm: 0}}\n    \
         retention: {{audit_days: 1}}\n    role_mappings: [{{value: Ops, role: admin}}]\n  - tenant_id: default\n    \
         state: suspended\n  - tenant_id: taker\n    entra_tenant_ids: [{FABRIKAM}]\nservers:\n  - slug: bad\n    \
         replicas: [{{url: 'http://127.0.0.1:9/'}}]\n    headers: {{X: '***'}}\n"
    );
    for args in [&["--dry-run"][..], &[]] {
        let ran = admin(&world, "x").apply(&file, args).await;
        for told in [
            "standard input:3:16: tenants[1].tenant_id: ",
            "standard input:5:29: tenants[2].rate_limits.base_rpm: must be a whole number from 1",
            "standard input:6:29: tenants[2].retention.audit_days: ",
            "tenants[2].role_mappings[0].role: ",
            "tenants[3].tenant_id: the tenant `default` is that of the gateway's administrators",
            "is that of the tenant `there`",
            "servers[0].headers.X: `***` stands for a stored value",
            "nothing was changed",
        ] {
            assert!(ran.code == 1 && ran.err.contains(told), "{told}: {}", ran.err);
        }
    }
    for (wrong, told) in [
        ("tenants: [{tenant_id: a}, {tenant_id: a}]", "the name `a` is taken by the tenant at line 1"),
        ("tenants: [{tenant_id: a, rpm: 5}]", "unknown field `rpm`"),
    ] {
        let ran = admin(&world, "x").apply(wrong, &[]).await;
        assert!(ran.code == 1 && ran.err.contains(told), "{}", ran.err);
    }
    let twice = json!({"servers": [], "tenants": [{"tenant_id": "a"}, {"tenant_id": "a"}]});
    let (status, told) = world.rest(Method::POST, "/apply", &twice).await;
    assert_eq!((status, &told["errors"][0]["field"]), (422, &json!("tenants[1].tenant_id")), "{told}");

    let head =
        json!({"username": "head", "tenant_id": "there", "role": "tenant_admin", "password": "a long pass phrase"});
    assert_eq!(world.rest(Method::POST, "/users", &head).await.0, 201);
    let login = json!({"username": "there/head", "password": "a long pass phrase"});
    let head = world.rest(Method::POST, "/login", &login).await.1["key"].as_str().unwrap().to_owned();
    for key in [head, world.person("tina", "tenant_admin").await, world.person("olga", "server_owner").await] {
        let who = Terminal { world: &world, key, token: "" };
        for id in ["there", "good", "default"] {
            let ran = who.apply(&format!("tenants: [{{tenant_id: {id}, display_name: Ours}}]"), &[]).await;
            assert!(
                ran.code == 1 && ran.err.contains("403") && ran.err.contains("only an administrator"),
                "{}",
                ran.err
            );
        }
        let exported = who.run(&["export"], "").await;
        assert!(exported.code == 0 && !exported.out.contains("tenant"), "{}{}", exported.out, exported.err);
    }
    let (_, all) = world.rest(Method::GET, "/admin/tenants", &Value::Null).await;
    let ids: Vec<&Value> = all["items"].as_array().unwrap().iter().map(|tenant| &tenant["tenant_id"]).collect();
    assert_eq!(json!([ids, all["items"][1]["display_name"]]), json!([["default", "there"], "there"]));
}
