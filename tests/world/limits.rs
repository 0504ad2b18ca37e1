//! What a caller may have: of its own and of its tenant, and how it is told that it had it.

use http::Method;
use serde_json::{Value, json};
use testkit::client::{Client, Reply, Request};
use testkit::upstream::Plain;

use crate::world::{World, until, within};

async fn call(client: &Client) -> Reply {
    let request = client.request("7", "tools/call", json!({"name": "echo", "arguments": {"message": "x"}}));
    within(client.send(request)).await.unwrap()
}

/// The next call is refused for this limit; the answer as a whole.
async fn refused(client: &Client, limit: &str, rpm: u64) -> Value {
    let reply = call(client).await;
    assert_eq!(reply.status, 429);
    let wait: u64 = reply.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(reply.header("ratelimit-policy").to_owned(), format!("\"{limit}\";q={rpm};w=60"));
    assert_eq!(reply.header("ratelimit").to_owned(), format!("\"{limit}\";r=0;t={wait}"));
    assert_eq!(
        [reply.header("ratelimit-limit").to_owned(), reply.header("ratelimit-remaining").to_owned()],
        [rpm.to_string(), "0".into()]
    );
    assert_eq!(reply.header("ratelimit-reset").to_owned(), wait.to_string());
    let said: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
    assert_eq!((&said["id"], &said["error"]["code"]), (&json!(7), &json!(-31014)), "{said}");
    assert_eq!(
        (&said["error"]["data"]["limit"], &said["error"]["data"]["rpm"]),
        (&json!(limit), &json!(rpm)),
        "{said}"
    );
    assert!(said["error"]["data"]["retryAfterMs"].as_u64().unwrap() <= wait * 1000, "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_one_limit_whatever_sessions_and_keys_it_opens() {
    let server = Plain::start().await.unwrap();
    let world = World::with(&["--rate-limit-user-rpm=7"]).await;
    world.register("it", &server.url()).await;
    let ann = world.person("ann", "user").await;
    let other = world.key("ann", json!("*"), Value::Null).await;
    let bob = world.person("bob", "user").await;

    let legacy = world.client_of("/mcp/it", &ann);
    legacy.initialize("2025-11-25").await.unwrap();
    for _ in 0..5 {
        assert_eq!(call(&legacy).await.status, 200);
    }
    // Shaking hands takes two.
    refused(&legacy, "user", 7).await;
    let again = world.client_of("/mcp/it", &ann);
    let init = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}});
    assert_eq!(
        within(again.send(Request::post(init.to_string()))).await.unwrap().status,
        429,
        "a new session has no new limit"
    );
    refused(&world.client_of("/mcp", &other), "user", 7).await;
    assert_eq!(call(&world.client_of("/mcp/it", &bob)).await.status, 200, "others are not touched");

    let metrics = within(world.client("/metrics").send(Request::get())).await.unwrap().text().await.unwrap();
    let line = r#"mcp_rate_limit_hits_total{tenant_id="default",limit_type="user",action="throttled"} 3"#;
    assert!(metrics.contains(line), "{metrics}");
    let held = world.app().limits.buckets().len();
    assert!(held >= 2, "ann's and bob's, at least: {held}");
    let lines = [format!("\nmcp_limit_buckets {held}\n"), "\nmcp_limit_buckets_shed_total 0\n".to_owned()];
    assert!(lines.iter().all(|line| metrics.contains(line)), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_again_when_it_was_told_to_is_served() {
    let server = Plain::start().await.unwrap();
    let world = World::with(&["--rate-limit-user-rpm=40"]).await;
    world.register("it", &server.url()).await;
    for (limit, rpm, cap) in [("user", 40, Value::Null), ("tenant", 30, json!(30))] {
        world.rest(Method::POST, "/admin/tenant-limits/default", &json!({"base_rpm": cap})).await;
        let client = world.client_of("/mcp/it", &world.person(limit, "user").await);
        while call(&client).await.status == 200 {}
        for _ in 0..2 {
            let told = refused(&client, limit, rpm).await["error"]["data"]["retryAfterMs"].as_u64().unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(told + 1)).await;
            assert_eq!(call(&client).await.status, 200, "{limit}: told to wait {told} ms");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_api_has_the_limit_of_the_user() {
    let world = World::with(&["--rate-limit-user-rpm=2"]).await;
    let ann = world.person("ann", "user").await;
    let client = world.client_of("/api/v1/me", &ann);
    for _ in 0..2 {
        assert_eq!(within(client.send(Request::get())).await.unwrap().status, 200);
    }
    let reply = within(client.send(Request::get())).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (429, "30"));
    assert_eq!(
        ["ratelimit-policy", "ratelimit", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"]
            .map(|name| reply.header(name).to_owned()),
        [r#""user";q=2;w=60"#, r#""user";r=0;t=30"#, "2", "0", "30"]
    );
    let said: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
    assert_eq!(said["code"], "RATE_LIMITED", "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_s_cap_holds_from_the_answer_on_and_goes_with_it() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    let ann = world.client_of("/mcp/it", &world.person("ann", "user").await);
    let bob = world.client_of("/mcp/it", &world.person("bob", "user").await);
    let limits = "/admin/tenant-limits/default";
    let (status, said) = world.rest(Method::POST, limits, &json!({"base_rpm": 3})).await;
    assert_eq!((status, &said["limits"]["base_rpm"]), (200, &json!(3)), "{said}");
    for client in [&ann, &bob, &ann] {
        assert_eq!(call(client).await.status, 200);
    }
    let said = refused(&bob, "tenant", 3).await;
    assert!(said["error"]["message"].as_str().unwrap().contains("the tenant `default`"), "{said}");
    world.rest(Method::POST, limits, &json!({"base_rpm": null})).await;
    for _ in 0..9 {
        assert_eq!(call(&bob).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_so_many_served_at_once_and_gives_each_place_back() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    world.rest(Method::POST, "/admin/tenant-limits/default", &json!({"max_concurrent_requests": 2})).await;
    let client = world.client("/mcp/it");
    // More than there is room for, one after the other and at once: each is given back.
    let calls = futures_util::future::join_all((0..4).map(|_| call(&client))).await;
    assert!(calls.iter().all(|reply| reply.status == 200));
    for reply in calls {
        reply.text().await.unwrap();
    }
    for _ in 0..10 {
        let reply = call(&client).await;
        assert_eq!(reply.status, 200);
        reply.text().await.unwrap();
    }
    let share = world.app().limits.share(&mcp_registry_gateway::id::TenantId::default_tenant()).unwrap();
    assert_eq!(share.at_once(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_place_even_in_line_is_told_of_no_rate() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    world.rest(Method::POST, "/admin/tenant-limits/default", &json!({"max_concurrent_requests": 1})).await;
    let client = world.client("/mcp/it");
    let gate = client.request("8", "tools/call", json!({"name": "gate", "arguments": {}}));
    let held = async { within(client.send(gate)).await.unwrap().finish("8").await.unwrap() };
    let story = async {
        server.host().wait_for(|request| request.rpc() == "tools/call").await.unwrap();
        // One of both is in line, the other one finds no place there.
        let both = [Box::pin(call(&client)), Box::pin(call(&client))];
        let (reply, _, waiting) = futures_util::future::select_all(both).await;
        assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (429, "1"));
        let rates = ["ratelimit-policy", "ratelimit", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"];
        assert_eq!(rates.map(|name| reply.headers.contains_key(name)), [false; 5]);
        let said: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
        let data = json!({"limit": "tenant", "rpm": null, "retryAfterMs": 1000});
        assert_eq!((&said["error"]["code"], &said["error"]["data"]), (&json!(-31014), &data), "{said}");
        assert!(said["error"]["message"].as_str().unwrap().contains("1 requests served at once"), "{said}");
        server.open_gate(true);
        waiting
    };
    let (gone, mut waiting) = within(Box::pin(async { tokio::join!(held, story) })).await;
    assert_eq!(gone.code(), None, "{gone:?}");
    assert_eq!(waiting.remove(0).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_gateway_has_no_more_than_its_capacity() {
    let server = Plain::start().await.unwrap();
    let world = World::with(&["--rate-limit-global-rpm=60"]).await;
    world.register("it", &server.url()).await;
    let client = world.client("/mcp/it");
    let calls = futures_util::future::join_all((0..12).map(|_| call(&client))).await;
    let through = calls.iter().filter(|reply| reply.status == 200).count();
    assert!((4..8).contains(&through), "what may come at once, and what comes while the rest waits: {through}");
    let told = calls.iter().filter(|reply| reply.status == 429).all(|reply| reply.header("ratelimit-limit") == "60");
    assert!(told);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_say_what_was_asked_for_and_given() {
    let server = Plain::start().await.unwrap();
    let world = World::with(&["--rate-limit-global-rpm=6000", "--tenant-fairness-window=60"]).await;
    world.register("it", &server.url()).await;
    let read = async |path: &str| {
        let (status, said) = world.rest(Method::GET, &format!("/admin/{path}"), &Value::Null).await;
        assert_eq!(status, 200, "{said}");
        said
    };
    let before = read("rate-limit-analytics").await;
    assert_eq!((&before["fairness_efficiency"], &before["jain_index"]), (&Value::Null, &Value::Null), "{before}");
    assert_eq!(before["targets"]["fairness_efficiency"], json!({"target": ">0.99", "met": null}));
    assert_eq!((&before["window_seconds"], &before["scope"]), (&json!(60), &json!("cluster")), "{before}");

    world.rest(Method::POST, "/admin/tenant-limits/default", &json!({"base_rpm": 12, "fairness_weight": 3})).await;
    let client = world.client("/mcp/it");
    let calls = futures_util::future::join_all((0..20).map(|_| call(&client))).await;
    let given = calls.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(given, 12);
    let fairness = until(|| async {
        let said = read("tenant-fairness/default").await;
        (said["usage"]["requests"] == 12).then_some(said)
    })
    .await;
    assert_eq!(fairness["fair_share"], json!({"ratio": 1.0, "rpm": 12.0}), "no more than its cap: {fairness}");
    // Of its cap a minute's worth came at once, and what came while it was asked.
    let share = |part: &str, field: &str| fairness[part][field].as_f64().unwrap();
    assert!((12.0..13.5).contains(&share("usage", "quota")), "{fairness}");
    assert!((0.85..=1.0).contains(&share("usage", "ratio")), "{fairness}");
    assert_eq!((share("burst", "allowed"), share("burst", "used")), (0.0, 0.0), "its cap leaves none: {fairness}");
    assert_eq!(fairness["burst"]["utilization"], Value::Null, "{fairness}");
    assert_eq!(
        fairness["active_tenants"],
        json!([{"tenant_id": "default", "weight": 3.0, "share": 1.0}]),
        "{fairness}"
    );
    assert_eq!((&fairness["limits"]["base_rpm"], &fairness["limits"]["burst_factor"]), (&json!(12), &json!(1.5)));

    let analytics = read("rate-limit-analytics").await;
    assert_eq!(
        analytics["hits_by_type"],
        json!({"global": 0, "tenant": 8, "user": 0, "ip": 0, "ddos": 0, "server": 0, "tool": 0}),
        "{analytics}"
    );
    let throttled = json!([{"tenant_id": "default", "requests": 20, "refused": 8}]);
    assert_eq!(analytics["top_throttled_tenants"], throttled, "{analytics}");
    // Between the judge's seconds and the request's moment lies what comes of the cap in a second or two.
    assert!(analytics["fairness_efficiency"].as_f64().unwrap() > 0.95, "{analytics}");
    let accuracy = &analytics["rate_limit_accuracy"];
    assert!(accuracy["false_negative_rate"].as_f64().unwrap() < 0.05, "{analytics}");
    assert!(accuracy["false_positive_rate"].as_f64().unwrap() < 0.05, "{analytics}");
    assert_eq!(analytics["jain_index"], 1.0, "of one tenant");
    let (status, made) = world.rest(Method::POST, "/admin/tenants", &json!({"tenant_id": "acme"})).await;
    assert_eq!(status, 201, "{made}");
    let head =
        json!({"username": "ada", "tenant_id": "acme", "role": "tenant_admin", "password": "a long pass phrase"});
    world.rest(Method::POST, "/users", &head).await;
    let login = json!({"username": "acme/ada", "password": "a long pass phrase"});
    let key = world.rest(Method::POST, "/login", &login).await.1["key"].as_str().unwrap().to_owned();
    let acme = world.client_of("/mcp", &key);
    within(acme.call("tools/list", json!({}))).await.unwrap();
    let seen = until(|| async {
        let report = Request::get().path("/api/v1/admin/tenant-fairness/acme");
        let told = within(world.client_of("/", &key).send(report)).await.unwrap().text().await.unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        (told["usage"]["requests"] == 1).then_some(told)
    })
    .await;
    let others = json!([{"weight": 3.0, "share": 0.75}, {"weight": 1.0, "share": 0.25}]);
    assert_eq!(seen["active_tenants"], others, "who administers one tenant is not told who the others are");
    let named = &read("tenant-fairness/acme").await["active_tenants"];
    assert_eq!((&named[0]["tenant_id"], &named[1]["tenant_id"]), (&json!("default"), &json!("acme")), "{named}");

    let diagnostics = read("diagnostics/rate-limits").await;
    assert_eq!(diagnostics["tenant_fairness_violations"], 0, "{diagnostics}");
    assert_eq!(diagnostics["global_quota_exhaustion"], 0, "the tenant's own cap is not the gateway's capacity");
    assert_eq!(diagnostics["findings"], json!([]), "8 of 20 is less than half");

    let (status, said) = world.rest(Method::GET, "/admin/tenant-fairness/nobody", &Value::Null).await;
    assert_eq!(status, 404, "{said}");
    let (status, said) = world.rest(Method::GET, "/admin/rate-limit-analytics?scope=moon", &Value::Null).await;
    assert_eq!(status, 422, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_shows_no_credential_is_told_so_only_so_often() {
    let world = World::with(&["--rate-limit-anonymous-rpm=2", "--behind-proxy=true"]).await;
    let from = |address: &str| Client::new(&format!("{}/mcp", world.url())).header("x-forwarded-for", address);
    let ask = async |client: &Client, path: &str| {
        within(client.send(Request::post(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).path(path))).await.unwrap()
    };
    let here = from("203.0.113.9");
    for _ in 0..2 {
        assert_eq!(ask(&here, "/mcp").await.status, 401);
    }
    let reply = ask(&here, "/mcp").await;
    assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (429, "30"));
    let fields = ["ratelimit-policy", "ratelimit"].map(|name| reply.header(name).to_owned());
    assert_eq!(fields, [r#""ip";q=2;w=60"#, r#""ip";r=0;t=30"#]);
    assert!(reply.text().await.unwrap().contains("without a credential"));
    let rest = within(here.send(Request::get().path("/api/v1/me"))).await.unwrap();
    assert_eq!((rest.status.as_u16(), rest.header("ratelimit-policy")), (429, r#""ip";q=2;w=60"#));
    assert_eq!(ask(&from("203.0.113.10"), "/mcp").await.status, 401, "others are not touched");
    let good = from("203.0.113.9").bearer(crate::world::KEY);
    assert_eq!(within(good.send(Request::get().path("/api/v1/me"))).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_wants_no_answer_and_streams_have_the_limit_of_the_user_but_for_signs_of_life() {
    let server = Plain::start().await.unwrap();
    let world = World::with(&["--rate-limit-user-rpm=5"]).await;
    world.register("it", &server.url()).await;
    let key = world.person("ann", "user").await;
    let ann = world.client_of("/mcp/it", &key);
    // Shaking hands takes two, and the call one.
    ann.initialize("2025-11-25").await.unwrap();
    let call = async {
        let gate = ann.request("7", "tools/call", json!({"name": "gate", "arguments": {}}));
        within(ann.send(gate)).await.unwrap().finish("7").await.unwrap()
    };
    let story = async {
        server.host().wait_for(|request| request.rpc() == "tools/call").await.unwrap();
        for expected in [202, 202, 429] {
            assert_eq!(ann.notify("notifications/roots/list_changed", json!({})).await.unwrap(), expected);
        }
        assert_eq!(ann.respond(&json!({"id": 9}), &json!({})).await.unwrap(), 429);
        let stream = within(ann.listen(None)).await.unwrap();
        assert_eq!((stream.status.as_u16(), stream.header("ratelimit-policy")), (429, r#""user";q=5;w=60"#));
        let stream = within(ann.send(Request::get().path("/sse/it"))).await.unwrap();
        assert_eq!((stream.status.as_u16(), stream.header("ratelimit-limit")), (429, "5"));
        let modern = world.client_of("/mcp", &key);
        assert_eq!(modern.notify("notifications/of/tomorrow", json!({})).await.unwrap(), 429);

        for _ in 0..3 {
            assert_eq!(within(ann.call("ping", json!({}))).await.unwrap().code(), None, "it would seem dead");
        }
        let cancel = async |id: Value| ann.notify("notifications/cancelled", json!({"requestId": id})).await.unwrap();
        assert_eq!(cancel(json!("nothing")).await, 429);
        assert_eq!(cancel(json!(7)).await, 202, "what is under way");
        assert_eq!(cancel(json!(7)).await, 429, "and that once");
    };
    let (gone, ()) = within(Box::pin(async { tokio::join!(call, story) })).await;
    assert!(gone.response.is_null(), "{gone:?}");
    assert_eq!(ann.end().await.unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_which_nothing_is_taken_says_so() {
    let world = World::with(&["--rate-limit-user-rpm=3"]).await;
    let ann = world.client_of("/mcp", &world.person("ann", "user").await);
    ann.initialize("2025-03-26").await.unwrap();
    let note = json!({"jsonrpc": "2.0", "method": "notifications/of/tomorrow"});
    for (count, expected) in [(1, 202), (2, 429)] {
        let batch = json!(vec![note.clone(); count]).to_string();
        let request = Request::post(batch).header("mcp-session-id", &ann.session().unwrap());
        assert_eq!(within(ann.send(request)).await.unwrap().status, expected);
    }
}
