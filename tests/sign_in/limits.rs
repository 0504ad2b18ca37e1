//! Who tries too often waits, and nobody else: how many sign-ins an address may begin, and how much of what it shows may be wrong.

use mcp_registry_gateway::grants::TraceFilter;
use serde_json::json;
use testkit::sign_in::VERIFIER;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::world::{Answer, PASSWORD, World};

/// A gateway that takes a test's word for where it asks from, as it takes a proxy's.
async fn world(limit: &str) -> World {
    World::with(&["--behind-proxy", limit]).await
}

/// As if from this address.
fn from(address: &str) -> [(&'static str, &str); 2] {
    [("x-forwarded-for", address), ("content-type", "application/x-www-form-urlencoded")]
}

async fn shows(world: &World, address: &str, path: &str, fields: &str) -> Answer {
    world.send("POST", path, &from(address), fields).await
}

fn waits(answer: &Answer) -> bool {
    let seconds: u64 = answer.header("retry-after").parse().unwrap_or_default();
    answer.status == 429 && (1..=60).contains(&seconds)
}

#[tokio::test]
async fn an_address_that_shows_too_much_that_is_wrong_waits_and_what_is_right_does_not() {
    let world = world("--rate-limit-failures-rpm=5").await;
    let secret = world.service("night", &["mcp"]).await;
    let client = &world.client;
    let good = format!("grant_type=client_credentials&client_id=night&client_secret={secret}");
    let (one, household) = ("192.0.2.1", ["2001:db8:1::1", "2001:db8:1::ffff:2"]);
    // The good is not counted, and neither is what cannot be read.
    for _ in 0..10 {
        shows(&world, one, "/oauth/token", &good).await.expect(200);
        shows(&world, one, "/oauth/token", "grant_type=x").await.expect(400);
    }
    for wrong in [
        "grant_type=client_credentials&client_id=night&client_secret=guessed".to_owned(),
        format!("grant_type=authorization_code&code=mcpg_ac_guessed&code_verifier=x&client_id={client}"),
        format!("grant_type=refresh_token&refresh_token=mcpg_rt_guessed&client_id={client}"),
        "grant_type=client_credentials&client_id=nobody".to_owned(),
    ] {
        let refused = shows(&world, one, "/oauth/token", &wrong).await;
        assert!(matches!(refused.status, 400 | 401), "{refused:?}");
    }
    shows(&world, one, "/oauth/revoke", "client_id=night&client_secret=guessed&token=x").await.expect(401);
    let guessed = "grant_type=client_credentials&client_id=night&client_secret=guessed";
    for (path, fields) in [("/oauth/token", guessed), ("/oauth/revoke", "client_id=night&token=x")] {
        let told = shows(&world, one, path, fields).await;
        assert!(waits(&told), "{told:?}");
        assert_eq!(told.error().1, "temporarily_unavailable");
        assert_eq!((told.header("cache-control"), told.header("www-authenticate")), ("no-store", ""));
    }
    // A page in somebody's browser may show what is wrong from the same address: nobody else waits for that.
    for address in [one, "192.0.2.2"] {
        shows(&world, address, "/oauth/token", &good).await.expect(200);
    }
    for n in 0..5 {
        let guessed = format!("grant_type=client_credentials&client_id=night&client_secret=guessed{n}");
        shows(&world, household[n % 2], "/oauth/token", &guessed).await.expect(401);
    }
    assert!(waits(&shows(&world, household[0], "/oauth/token", guessed).await), "a household is one");
    shows(&world, "2001:db8:1:1::1", "/oauth/token", &good).await.expect(200);
    let shed = "mcp_rate_limit_hits_total{tenant_id=\"\",limit_type=\"ip\",action=\"throttled\"} 3";
    let metrics = world.metrics().await;
    assert!(metrics.contains(shed), "{metrics}");
    let counted =
        "mcp_auth_events_total{tenant_id=\"\",method=\"client_credentials\",result=\"failure\",reason=\"throttled\"} 2";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn passwords_of_many_names_are_guessed_from_one_address_no_faster() {
    let world = world("--rate-limit-failures-rpm=5").await;
    let login = async |address: &str, name: &str| {
        let headers = [("x-forwarded-for", address), ("content-type", "application/json")];
        let body = json!({"username": name, "password": "guessed"}).to_string();
        world.send("POST", "/api/v1/login", &headers, &body).await
    };
    for n in 0..5 {
        login("192.0.2.1", &format!("name{n}")).await.expect(401);
    }
    let told = login("192.0.2.1", "another").await;
    assert!(waits(&told) && told.text.contains("TOO_MANY_ATTEMPTS") && told.text.contains("your address"), "{told:?}");
    login("192.0.2.2", "another").await.expect(401);
}

#[tokio::test]
async fn passwords_that_are_shown_at_once_are_as_few_as_one_after_another() {
    let world = world("--rate-limit-failures-rpm=20").await;
    let at_once = async |address: &str, name: fn(usize) -> String, password: &str| {
        let headers = [("x-forwarded-for", address), ("content-type", "application/json")];
        let bodies: Vec<_> = (0..40).map(|n| json!({"username": name(n), "password": password}).to_string()).collect();
        let all = bodies.iter().map(|body| world.send("POST", "/api/v1/login", &headers, body));
        let answers = futures_util::future::join_all(all).await;
        let of = |status| answers.iter().filter(|answer| answer.status == status).count();
        [of(200), of(401), of(429)]
    };
    let ada = |_| "ada".to_owned();
    assert_eq!(at_once("192.0.2.1", ada, PASSWORD).await, [40, 0, 0], "what is right is not counted");
    assert_eq!(at_once("192.0.2.1", |n| format!("name{n}"), "guessed").await, [0, 20, 20], "the address waits");
    assert_eq!(at_once("192.0.2.2", ada, "guessed").await, [0, 10, 30], "the name waits after ten");
}

#[tokio::test]
async fn whoever_has_somebodys_session_guesses_the_password_no_faster_than_at_a_sign_in() {
    let world = world("--rate-limit-failures-rpm=12").await;
    let own = json!({"username": "ada", "password": PASSWORD}).to_string();
    let key = world.send("POST", "/api/v1/login", &[("content-type", "application/json")], &own).await.expect(200);
    let bearer = format!("Bearer {}", key.json()["key"].as_str().unwrap());
    let change = async |address: &str, method: &str, path: &str, current: &str| {
        let headers = [("authorization", &*bearer), ("x-forwarded-for", address), ("content-type", "application/json")];
        let body = json!({"password": "another long pass phrase", "current_password": current}).to_string();
        world.send(method, path, &headers, &body).await
    };
    for _ in 0..5 {
        let told = change("192.0.2.1", "POST", "/api/v1/users/ada/password", "guessed").await.expect(422);
        assert!(told.text.contains("this is not the current password"), "{}", told.text);
        change("192.0.2.1", "PATCH", "/api/v1/users/ada", "guessed").await.expect(422);
    }
    let told = change("192.0.2.2", "POST", "/api/v1/users/ada/password", PASSWORD).await;
    assert!(waits(&told) && told.text.contains("for this user name"), "{told:?}");
    // Each name has its patience, and where all of them are guessed from has one, too.
    let login = async |name: &str| {
        let headers = [("x-forwarded-for", "192.0.2.1"), ("content-type", "application/json")];
        world.send("POST", "/api/v1/login", &headers, &json!({"username": name, "password": "x"}).to_string()).await
    };
    login("one").await.expect(401);
    login("two").await.expect(401);
    assert!(waits(&login("three").await), "ten were shown before for the name, two here");
}

#[tokio::test]
async fn sign_ins_that_are_begun_without_end_are_refused_on_a_page_and_leave_nothing() {
    let world = world("--rate-limit-sign-in-rpm=3").await;
    let ask = |client: &str| {
        let url = url::Url::parse(&world.authorize(&[("client_id", client)])).unwrap();
        url[url::Position::BeforePath..].to_owned()
    };
    let (good, own) = (ask(&world.client), "/oauth/sign-in");
    let open = async |address: &str, path: &str| world.send("GET", path, &[("x-forwarded-for", address)], "").await;
    open("192.0.2.1", &good).await.expect(200);
    open("192.0.2.1", &ask("nobody")).await.expect(400);
    open("192.0.2.1", own).await.expect(200);
    let begun = async || world.app.grants.traces(TraceFilter::default(), None, 100).await.unwrap().len();
    let before = begun().await;
    for path in [&good, own] {
        let told = open("192.0.2.1", path).await;
        assert!(waits(&told), "{told:?}");
        assert_eq!(told.header("content-type"), "text/html; charset=utf-8");
        assert!(
            told.text.contains("Please wait a moment") && told.text.contains("Number of this request"),
            "{}",
            told.text
        );
        assert_eq!(told.header("set-cookie"), "");
    }
    assert_eq!(begun().await, before, "nothing is written for who has to wait");
    open("192.0.2.2", &good).await.expect(200);
    // Whoever is no proxy of ours may say what it likes.
    let strict = World::with(&["--behind-proxy", "--trusted-proxies=192.0.2.0/24", "--rate-limit-sign-in-rpm=1"]).await;
    let good = ask(&strict.client);
    let from = async |address: &str| strict.send("GET", &good, &[("x-forwarded-for", address)], "").await.status;
    assert_eq!((from("198.51.100.1").await, from("198.51.100.2").await), (200, 429));
}

/// Hosts of documents that may be on this machine.
const INSIDE: &str = "--client-metadata-hosts=127.0.0.1=127.0.0.0/8";

#[tokio::test]
async fn nobody_makes_the_token_endpoint_fetch_for_a_client_that_was_given_nothing() {
    let world = World::with(&["--behind-proxy", "--rate-limit-failures-rpm=5", INSIDE]).await;
    let site = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let id = format!("https://{}/client.json", site.local_addr().unwrap());
    let code = world.code_of(&id, "/mcp", "mcp").await;
    let others = world.code("/mcp", "mcp").await;
    let redeem = |code: &str| {
        format!("grant_type=authorization_code&client_id={id}&code={code}&code_verifier={VERIFIER}&redirect_uri=x")
    };
    for (path, fields) in [
        ("/oauth/token", redeem("mcpg_ac_guessed")),
        ("/oauth/token", redeem(&others)),
        ("/oauth/token", format!("grant_type=refresh_token&client_id={id}&refresh_token=mcpg_rt_guessed")),
        ("/oauth/token", format!("grant_type=client_credentials&client_id={id}&client_secret=x")),
        ("/oauth/token", redeem("mcpg_ac_guessed")),
    ] {
        let refused = shows(&world, "192.0.2.1", path, &fields).await.expect(400);
        assert_eq!(refused.error().1, "invalid_grant");
    }
    assert!(waits(&shows(&world, "192.0.2.1", "/oauth/token", &redeem("mcpg_ac_guessed")).await));
    // A token that is none of its own is over for it in any case.
    shows(&world, "192.0.2.1", "/oauth/revoke", &format!("client_id={id}&token=x")).await.expect(200);
    assert!(tokio::time::timeout(std::time::Duration::ZERO, site.accept()).await.is_err(), "nobody came");
    // Whose code it is, of that the document is asked for; here it is not to be had.
    let called = async { drop(site.accept().await.unwrap()) };
    let own = redeem(&code);
    let (answer, ()) = tokio::join!(shows(&world, "192.0.2.2", "/oauth/token", &own), called);
    answer.expect(503);
    for _ in 0..4 {
        shows(&world, "192.0.2.2", "/oauth/token", &own).await.expect(503);
    }
    assert!(waits(&shows(&world, "192.0.2.2", "/oauth/token", &own).await), "it counts as wrong");
}

#[tokio::test]
async fn documents_that_never_come_are_waited_for_by_who_names_them_alone() {
    let world = std::sync::Arc::new(World::with(&["--behind-proxy", INSIDE]).await);
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let ask = async move |world: &World, address: &str, name: usize| {
        let url = world.authorize(&[("client_id", &format!("https://127.0.0.1:{port}/{name}"))]);
        let url = url::Url::parse(&url).unwrap();
        world.send("GET", &url[url::Position::BeforePath..], &[("x-forwarded-for", address)], "").await
    };
    let (mut asking, mut held) = (JoinSet::new(), Vec::new());
    for name in 0..4 {
        let world = std::sync::Arc::clone(&world);
        asking.spawn(async move { ask(&world, "192.0.2.1", name).await.status });
        held.push(silent.accept().await.unwrap());
    }
    let told = ask(&world, "192.0.2.1", 4).await;
    assert!(waits(&told) && told.text.contains("Please wait a moment"), "{told:?}");
    // So is who shows a code, in words of its own, and it is counted; the code is still good.
    let id = format!("https://127.0.0.1:{port}/another");
    let code = world.code_of(&id, "/mcp", "mcp").await;
    let redeem = format!("grant_type=authorization_code&client_id={id}&code={code}&code_verifier={VERIFIER}");
    let throttled = "mcp_rate_limit_hits_total{tenant_id=\"\",limit_type=\"ip\",action=\"throttled\"}";
    let hits = async || {
        let metrics = world.metrics().await;
        metrics.lines().find_map(|line| line.strip_prefix(throttled)?.trim().parse::<u64>().ok()).unwrap_or_default()
    };
    let before = hits().await;
    for (path, fields) in [("/oauth/token", redeem.clone()), ("/oauth/revoke", format!("client_id={id}&token={code}"))]
    {
        let told = shows(&world, "192.0.2.1", path, &fields).await;
        assert!(waits(&told) && told.error().1 == "temporarily_unavailable", "{told:?}");
        assert!(told.text.contains("too many documents and keys of clients were fetched"), "{}", told.text);
    }
    assert_eq!(hits().await, before + 2);
    // Another's is fetched, though the host is the same; it goes away here, so as not to be waited for.
    let called = async { drop(silent.accept().await.unwrap()) };
    let (told, ()) = tokio::join!(ask(&world, "192.0.2.2", 5), called);
    assert!(told.status == 400 && told.text.contains("cannot be looked up"), "{told:?}");
}
