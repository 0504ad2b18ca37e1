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
