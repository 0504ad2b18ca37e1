//! The guard of addresses behind the door: who is banned for what, who is not, and what administrators do about it.

use std::time::Duration;

use mcp_registry_gateway::store::now;
use serde_json::{Value, json};

use crate::store_databases::Database;
use crate::store_rest::{Answer, World, request};

const WRONG: &str = "mcpg_wrong_00000000000000000000000000000000000";
/// Who connects from this machine is a proxy, and five refusals are too many.
const GUARDED: &[&str] = &["--behind-proxy", "--ddos-detection-threshold=5"];
const PASSWORD: &str = "a long pass phrase";

impl World {
    /// What somebody at `forwarded` sees, through a proxy.
    async fn me(&self, forwarded: &str, key: &str) -> Answer {
        self.me_of("127.0.0.1", forwarded, key).await
    }

    async fn me_of(&self, peer: &str, forwarded: &str, key: &str) -> Answer {
        let mut request = request("GET", "/api/v1/me", key, &Value::Null);
        request.headers_mut().insert("x-forwarded-for", forwarded.parse().unwrap());
        self.send_of(peer, request).await
    }

    async fn shows_wrong(&self, forwarded: &str, times: usize) {
        for _ in 0..times {
            self.me(forwarded, WRONG).await.expect(401);
        }
    }

    /// The addresses that are banned, in a row.
    async fn banned(&self) -> Vec<String> {
        let list = self.call("GET /admin/bans", Value::Null).await.expect(200).json();
        list["items"].as_array().unwrap().iter().map(|ban| ban["address"].as_str().unwrap().to_owned()).collect()
    }

    /// The same database under a new process, when all is stored.
    async fn again(self) -> Self {
        self.app.guard.write(&self.app.store).await.unwrap();
        self.restarted().await
    }
}

fn is_barred(answer: &Answer, code: &str) -> bool {
    let seconds: u64 = answer.header("retry-after").parse().unwrap_or_default();
    answer.status == 429 && (1..=3600).contains(&seconds) && answer.text.contains(code)
}

on_both! {
    async fn wrong_keys_ban_an_address_and_a_restart_forgives_nothing(db) {
        let world = World::with(db, GUARDED).await;
        world.shows_wrong("192.0.2.1", 5).await;
        let told = world.me("192.0.2.1", WRONG).await;
        assert!(is_barred(&told, "ADDRESS_BANNED"), "{told:?}");
        assert_eq!(told.header("content-type"), "application/problem+json");
        assert!(!told.header("x-request-id").is_empty());
        assert_eq!(told.header("connection"), "", "the connection is the proxy's");
        let mut message = request("POST", "/mcp", WRONG, &json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}));
        message.headers_mut().insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
        let told = world.send(message).await.expect(429).json();
        assert!(told["jsonrpc"] == "2.0" && told["error"]["message"].as_str().unwrap().contains("nothing is taken"), "{told}");
        world.me("192.0.2.2", &world.admin).await.expect(200);

        let world = world.again().await;
        assert!(is_barred(&world.me("192.0.2.1", WRONG).await, "ADDRESS_BANNED"));
        let ban = world.call("GET /admin/bans/192.0.2.1", Value::Null).await.expect(200).json();
        let told = [&ban["state"], &ban["reason"], &ban["refusals"], &ban["earlier_bans"], &ban["false_positive"]];
        assert_eq!(told, [&json!("active"), &json!("refusals"), &json!(5), &json!(0), &json!(false)]);

        world.call("POST /admin/bans/192.0.2.1/lift", json!({"reason": "served"})).await.expect(200);
        world.me("192.0.2.1", &world.admin).await.expect(200);
        let twice = world.call("POST /admin/bans/192.0.2.1/lift", json!({"reason": "wrong"})).await.expect(409).json();
        assert_eq!(twice["code"], "ALREADY_LIFTED");
        let world = world.again().await;
        world.me("192.0.2.1", &world.admin).await.expect(200);
        // A good account was seen there since: more is borne.
        world.shows_wrong("192.0.2.1", 4).await;
        for _ in 0..60 {
            world.me("192.0.2.1", WRONG).await;
        }
        let ban = world.call("GET /admin/bans/192.0.2.1", Value::Null).await.expect(200).json();
        assert_eq!((&ban["state"], &ban["earlier_bans"], &ban["lifted"]), (&json!("active"), &json!(1), &Value::Null));
    }
}

on_both! {
    async fn a_good_key_under_a_ban_is_refused_and_says_that_the_ban_is_wrong(db) {
        let world = World::with(db, GUARDED).await;
        world.shows_wrong("192.0.2.1", 5).await;
        for _ in 0..3 {
            assert!(is_barred(&world.me("192.0.2.1", &world.admin).await, "ADDRESS_BANNED"));
        }
        world.shows_wrong("192.0.2.9", 5).await;
        world.call("POST /admin/bans/192.0.2.9/lift", json!({"reason": "wrong", "note": "ours"})).await.expect(200);
        let figures = world.app.guard.figures(now());
        assert_eq!((figures.ddos_bans, figures.ddos_false_positives, figures.ddos_blocks_prevented), (2, 2, 3));
        assert_eq!(figures.hits_by_type.ddos, 3);
        let metrics = world.send(request("GET", "/metrics", &world.admin, &Value::Null)).await.expect(200).text;
        let counted = "mcp_rate_limit_hits_total{tenant_id=\"\",limit_type=\"ddos\",action=\"banned\"} 3";
        assert!(metrics.contains(counted) && metrics.contains("mcp_guard_bans 1"), "{metrics}");
        let world = world.again().await;
        for address in ["192.0.2.1", "192.0.2.9"] {
            let ban = world.call(&format!("GET /admin/bans/{address}"), Value::Null).await.expect(200).json();
            assert_eq!(ban["false_positive"], true, "{ban}");
        }
        // A ban that was wrong makes none longer.
        world.shows_wrong("192.0.2.9", 5).await;
        let ban = world.call("GET /admin/bans/192.0.2.9", Value::Null).await.expect(200).json();
        assert_eq!((&ban["earlier_bans"], &ban["false_positive"]), (&json!(0), &json!(false)));
    }
}

#[tokio::test]
async fn what_a_stranger_says_of_addresses_bans_and_unbans_nobody() {
    let database = Database::sqlite();
    let args = [GUARDED, &["--trusted-proxies=198.51.100.0/24"]].concat();
    let world = World::with(&database, &args).await;
    let (proxy, stranger) = ("198.51.100.1", "203.0.113.5");
    // A stranger who names somebody else is banned itself.
    for _ in 0..5 {
        world.me_of(stranger, "192.0.2.1", WRONG).await.expect(401);
    }
    let told = world.me_of(stranger, "192.0.2.2", WRONG).await.expect(429);
    assert_eq!(told.header("connection"), "close", "the connection is its own");
    assert_eq!(world.banned().await, [stranger]);
    world.me_of(proxy, "192.0.2.1", &world.admin).await.expect(200);
    // Through a proxy it is who the proxy says, whatever stands before.
    for n in 0..5 {
        world.me_of(proxy, &format!("10.0.0.{n}, 192.0.2.7"), WRONG).await.expect(401);
    }
    world.me_of(proxy, "203.0.113.99, 192.0.2.7", &world.admin).await.expect(429);
    world.me_of(proxy, "10.0.0.1", &world.admin).await.expect(200);
    assert_eq!(world.banned().await, ["192.0.2.7", stranger]);
    // And never the proxy, whose own checks come without a name.
    for _ in 0..50 {
        world.send_of(proxy, request("GET", "/api/v1/me", WRONG, &Value::Null)).await.expect(401);
    }
    world.send_of(proxy, request("GET", "/health", "", &Value::Null)).await.expect(200);
    assert_eq!(world.banned().await.len(), 2);
}

#[tokio::test]
async fn this_machine_is_never_banned() {
    let database = Database::sqlite();
    let world = World::with(&database, &["--ddos-detection-threshold=5"]).await;
    for _ in 0..50 {
        world.with_key(WRONG, "GET /me", Value::Null).await.expect(401);
    }
    world.send(request("GET", "/health", "", &Value::Null)).await.expect(200);
    assert!(world.banned().await.is_empty());
    let refused = world.call("POST /admin/bans", json!({"address": "127.0.0.1", "note": "x"})).await.expect(422).json();
    assert!(refused["detail"].as_str().unwrap().contains("never banned"), "{refused}");
}

#[tokio::test]
async fn one_bad_program_in_an_office_is_held_back_and_the_office_is_not() {
    let database = Database::sqlite();
    let world = World::with(&database, GUARDED).await;
    let office = "192.0.2.1";
    let mut keys = Vec::new();
    for n in 0..8 {
        let key = world.person(&format!("person{n}"), "user", json!({"servers": "*"})).await;
        world.me(office, &key).await.expect(200);
        keys.push(key);
    }
    world.shows_wrong(office, 9).await;
    for _ in 0..200 {
        assert!(is_barred(&world.me(office, WRONG).await, "CREDENTIAL_HELD_BACK"));
    }
    world.me("192.0.2.2", WRONG).await.expect(401);
    for key in &keys {
        world.me(office, key).await.expect(200);
    }
    assert!(world.banned().await.is_empty());
    let metrics = world.send(request("GET", "/metrics", &world.admin, &Value::Null)).await.expect(200).text;
    let counted = "mcp_rate_limit_hits_total{tenant_id=\"\",limit_type=\"ddos\",action=\"throttled\"} 200";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn passwords_limits_and_what_cannot_be_read_count_too() {
    let database = Database::sqlite();
    let world = World::with(&database, &[GUARDED, &["--rate-limit-failures-rpm=2"]].concat()).await;
    let ask = async |address: &str, path: &str, body: Value| {
        let mut request = request("POST", path, "", &body);
        request.headers_mut().insert("x-forwarded-for", address.parse().unwrap());
        world.send(request).await
    };
    let mut seen = Vec::new();
    for n in 0..6 {
        let body = json!({"username": format!("name{n}"), "password": PASSWORD});
        let told = ask("192.0.2.1", "/api/v1/login", body).await;
        seen.push((told.status, told.text.contains("ADDRESS_BANNED")));
    }
    assert_eq!(seen, [(401, false), (401, false), (429, false), (429, false), (429, false), (429, true)]);
    assert_eq!(world.app.guard.figures(now()).hits_by_type.ip, 3);
    for _ in 0..49 {
        ask("192.0.2.2", "/nothing", Value::Null).await.expect(404);
    }
    // The first request of a program's sign-in comes without a credential.
    ask("192.0.2.2", "/api/v1/servers", Value::Null).await.expect(401);
    ask("192.0.2.2", "/nothing", Value::Null).await.expect(429);
}

on_both! {
    async fn an_administrator_bans_and_lifts_by_hand(db) {
        let world = World::with(db, GUARDED).await;
        let order = json!({"address": "192.0.2.77/24", "note": "asked by the network team", "duration_seconds": 60});
        let made = world.call("POST /admin/bans", order.clone()).await.expect(201);
        assert_eq!(made.header("location"), "/api/v1/admin/bans/192.0.2.0-24");
        let told = [&made.json()["address"], &made.json()["reason"], &made.json()["made_by"]];
        assert_eq!(told, [&json!("192.0.2.0/24"), &json!("hand"), &json!("admin")]);
        assert!(is_barred(&world.me("192.0.2.200", &world.admin).await, "ADDRESS_BANNED"));
        assert_eq!(world.app.guard.figures(now()).ddos_false_positives, 0, "it was meant");
        assert_eq!(world.call("POST /admin/bans", order).await.expect(409).json()["code"], "ALREADY_BANNED");
        for (field, wrong) in [
            ("address", json!({"address": "here", "note": "x"})),
            ("address", json!({"address": "0.0.0.0/0", "note": "x"})),
            ("address", json!({"address": "127.0.0.0/8", "note": "x"})),
            ("note", json!({"address": "198.51.100.1", "note": " "})),
            ("duration_seconds", json!({"address": "198.51.100.1", "note": "x", "duration_seconds": 0})),
        ] {
            let told = world.call("POST /admin/bans", wrong).await.expect(422).json();
            assert_eq!(told["errors"][0]["field"], field, "{told}");
        }
        for n in 1..=4 {
            let order = json!({"address": format!("2001:db8:{n}::1"), "note": "x"});
            world.call("POST /admin/bans", order).await.expect(201);
        }
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = world.call(&format!("GET /admin/bans?limit=2{cursor}"), Value::Null).await.expect(200).json();
            seen.extend(page["items"].as_array().unwrap().iter().map(|ban| ban["address"].as_str().unwrap().to_owned()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let expected = ["2001:db8:4::/64", "2001:db8:3::/64", "2001:db8:2::/64", "2001:db8:1::/64", "192.0.2.0/24"];
        assert_eq!(seen, expected);
        for wrong in ["limit=0", "cursor=*", "state=some", "page=2"] {
            world.call(&format!("GET /admin/bans?{wrong}"), Value::Null).await.expect(422);
        }
        // Of a network either way of writing will do.
        for (path, reason) in [("192.0.2.0%2F24", "wrong"), ("2001:db8:1::-64", "served")] {
            let body = json!({"reason": reason, "note": "over"});
            let told = world.call(&format!("POST /admin/bans/{path}/lift"), body).await.expect(200).json();
            assert_eq!((&told["lifted"]["reason"], &told["lifted"]["by"]), (&json!(reason), &json!("admin")), "{told}");
        }
        world.call("POST /admin/bans/192.0.2.0-24/lift", json!({"reason": "because"})).await.expect(422);
        world.call("GET /admin/bans/198.51.100.9", Value::Null).await.expect(404);
        world.call("GET /admin/bans/nowhere", Value::Null).await.expect(404);
        world.me("192.0.2.200", &world.admin).await.expect(200);
        assert_eq!(world.banned().await.len(), 3);
        let all = world.call("GET /admin/bans?state=all", Value::Null).await.expect(200).json();
        assert_eq!(all["items"].as_array().unwrap().len(), 5);

        let eve = world.acme().await;
        let told = world.with_key(&eve, "GET /admin/bans", Value::Null).await.expect(403).json();
        assert!(told["detail"].as_str().unwrap().contains("administrator of the gateway"), "{told}");
        world.with_key(&eve, "POST /admin/bans", json!({"address": "192.0.2.1", "note": "x"})).await.expect(403);
    }
}

on_both! {
    async fn what_one_process_bans_and_lifts_the_other_does_too(db) {
        let one = World::with(db, GUARDED).await;
        let two = one.beside(db).await;
        one.shows_wrong("192.0.2.1", 5).await;
        one.app.guard.write(&one.app.store).await.unwrap();
        two.me("192.0.2.1", &two.admin).await.expect(200);
        two.app.guard.follow(&two.app.store).await.unwrap();
        two.me("192.0.2.1", &two.admin).await.expect(429);
        // What the other found out is not lost when the ban is lifted here, nor is the ban there again.
        one.call("POST /admin/bans/192.0.2.1/lift", json!({"reason": "served"})).await.expect(200);
        two.app.guard.write(&two.app.store).await.unwrap();
        two.app.guard.follow(&two.app.store).await.unwrap();
        two.me("192.0.2.1", &two.admin).await.expect(200);
        one.app.guard.follow(&one.app.store).await.unwrap();
        let ban = one.call("GET /admin/bans/192.0.2.1", Value::Null).await.expect(200).json();
        assert_eq!((&ban["state"], &ban["false_positive"]), (&json!("lifted"), &json!(true)), "{ban}");
    }
}

#[tokio::test]
async fn a_ban_is_heard_of_by_another_process_without_looking() {
    let Some(database) = Database::postgresql().await else { return };
    let one = World::with(&database, GUARDED).await;
    let two = one.beside(&database).await;
    let listener = two.app.clone();
    two.app.tasks.spawn(async move { listener.hear_changes().await });
    one.shows_wrong("192.0.2.1", 5).await;
    one.app.guard.write(&one.app.store).await.unwrap();
    let heard = async {
        while two.me("192.0.2.1", &two.admin).await.status != 429 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), heard).await.expect("it is heard of");
    two.app.shutdown.cancel();
}
