//! People connect to servers whose own authorization server knows them.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use mcp_registry_gateway::access::Caller;
use mcp_registry_gateway::connections::{Change, Connections, Not, Person as OnTheWay, Site};
use mcp_registry_gateway::id::{ServerId, TenantId};
use mcp_registry_gateway::net::{AddressPolicy, Outbound};
use mcp_registry_gateway::store::now;
use serde_json::{Value, json};
use testkit::browser::{Browser, Page};
use testkit::client::{Client, Outcome};
use testkit::jsonrpc::MODERN;
use testkit::people_server::PeopleServer;
use testkit::upstream::{Eras, Plain};

use crate::world::{PASSWORD, World, new_browser};

/// A person with an account here and a key of theirs.
struct Person {
    name: &'static str,
    key: String,
    /// The id of the key.
    id: String,
}

struct House {
    world: World,
    there: PeopleServer,
    server: Plain,
}

impl House {
    async fn new() -> Self {
        Self::with(json!({"kind": "authorization_code"})).await
    }

    async fn with(auth: Value) -> Self {
        let (world, there) = (World::new().await, PeopleServer::start().await.unwrap());
        let server = Plain::with(Eras::Dual).await.unwrap();
        server.takes_tokens_of(&there);
        let house = Self { world, there, server };
        house.register("tracker", &house.server, auth).await;
        house
    }

    async fn register(&self, slug: &str, server: &Plain, auth: Value) -> Value {
        let spec = json!({"slug": slug, "title": "The tracker", "replicas": [{"url": server.url()}], "auth": auth});
        self.world.rest(Method::POST, "/servers", &spec).await
    }

    async fn person(&self, name: &'static str) -> Person {
        self.world.rest(Method::POST, "/users", &json!({"username": name, "password": PASSWORD})).await;
        self.key_of(name).await
    }

    async fn key_of(&self, name: &'static str) -> Person {
        let order = json!({"name": "test", "username": name, "servers": "*"});
        let made = self.world.rest(Method::POST, "/keys", &order).await;
        let text = |member: &str| made[member].as_str().unwrap().to_owned();
        Person { name, key: text("key"), id: text("id") }
    }

    fn link(&self) -> String {
        self.world.url("/connections/tracker")
    }

    /// Opens the page of the server and signs in on the way to it.
    async fn opened(&self, name: &str) -> (Browser, Page) {
        let mut browser = new_browser();
        let page = browser.open(&self.link()).await.unwrap();
        let page = browser.submit(&page, "username", &[("username", name), ("password", PASSWORD)]).await.unwrap();
        assert!(
            page.url.path() == "/connections/tracker" && page.text().contains(name),
            "{} {}",
            page.url,
            page.text()
        );
        (browser, page)
    }

    async fn connect(&self, browser: &mut Browser, page: &Page) -> Page {
        browser.submit(page, "decision", &[("decision", "connect")]).await.unwrap()
    }

    /// Connects somebody who is called so there.
    async fn connected(&self, name: &str) -> (Browser, Page) {
        self.there.set(|manners| manners.person = format!("{name}@there"));
        let (mut browser, page) = self.opened(name).await;
        let page = self.connect(&mut browser, &page).await;
        assert!(page.text().contains(&format!("Connected as {name}@there")), "{} {}", page.url, page.text());
        (browser, page)
    }

    async fn call(&self, person: &Person) -> Outcome {
        let client = Client::new(&format!("{}/mcp/tracker", self.world.running.url())).bearer(&person.key);
        client.tool("echo", json!({"who": person.name})).await.unwrap()
    }

    /// So many calls wait for their user.
    async fn wait(&self, count: usize) {
        until(|| self.world.app.connections().waiting() == count).await;
    }

    /// Whose each call of the tool was there, and who said to call.
    fn seen(&self) -> Vec<(String, String)> {
        let calls = self.server.calls("echo").into_iter();
        let with_token = calls.filter_map(|call| {
            let who = call.json()["params"]["arguments"]["who"].as_str().unwrap_or_default().to_owned();
            Some((who, self.there.person_of(&call.headers)?))
        });
        with_token.collect()
    }
}

/// Fails where that does not come true.
async fn until(is_so: impl Fn() -> bool) {
    let coming = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), coming).await.expect("it does not come true");
}

fn told(outcome: &Outcome) -> String {
    outcome.response["error"]["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_connected_calls_with_a_token_of_their_own_and_who_has_not_is_told_where() {
    let house = House::new().await;
    let (ann, bob) = (house.person("ann").await, house.person("bob").await);
    let before = house.call(&ann).await;
    assert_eq!(before.code(), Some(-31_017), "{before:?}");
    assert!(told(&before).contains(&format!("open {} in your browser", house.link())), "{before:?}");
    assert!(house.there.came("/authorize").is_empty(), "nobody is sent there by a call");

    let (_browser, page) = house.connected("ann").await;
    assert!(page.text().contains("read"), "{}", page.text());
    let called = house.call(&ann).await;
    assert!(called.result().is_object(), "{called:?}");
    assert_eq!(house.call(&bob).await.code(), Some(-31_017), "another's connection is nothing to him");
    house.connected("bob").await;
    for _ in 0..3 {
        assert!(house.call(&bob).await.result().is_object() && house.call(&ann).await.result().is_object());
    }
    for (who, there) in house.seen() {
        assert_eq!(there, format!("{who}@there"));
    }
    let sent = house.there.came("/authorize").into_iter().map(|came| came.path).collect::<Vec<_>>();
    assert!(
        sent.iter().all(|path| path.contains("code_challenge_method=S256") && path.contains("&resource=http")),
        "{sent:?}"
    );
    assert_eq!(house.there.came("/register").len(), 1, "one registration for all");
    assert_eq!(house.there.asked("authorization_code").len(), 2);
}

/// A server that tells everybody what it offers, and takes calls of people only.
async fn catalogued(house: &House) {
    let whose = house.there.door();
    house.server.door(move |headers| {
        let catalogue = headers.get("authorization").is_some_and(|value| value == "Bearer catalogue");
        (!catalogue && whose(headers).is_none()).then(|| "Bearer error=\"invalid_token\"".to_owned())
    });
    let auth = json!({"kind": "headers", "headers": {"Authorization": "Bearer catalogue"}});
    house.world.rest(Method::PATCH, "/servers/tracker", &json!({"discovery_auth": auth})).await;
    let asked = house.world.rest(Method::POST, "/servers/tracker/refresh", &Value::Null).await;
    assert_eq!(asked["status"]["state"], "ready", "{asked}");
    let seen = &asked["status"]["connect"];
    assert_eq!((&seen["issuer"], &seen["client"]), (&json!(house.there.issuer()), &json!("registered")), "{asked}");
    assert!(seen["redirect_uri"].as_str().unwrap().starts_with(&house.world.url("/connections/callback/")), "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_can_bring_its_user_there_is_asked_to_as_its_version_says() {
    let house = House::new().await;
    catalogued(&house).await;
    let ann = house.person("ann").await;
    let client = |capabilities: Value| {
        Client::new(&format!("{}/mcp", house.world.running.url())).bearer(&ann.key).capabilities(capabilities)
    };
    let url = json!({"elicitation": {"url": {}}});
    let arguments = || json!({"who": "ann"});
    let old = client(url.clone());
    old.initialize("2025-11-25").await.unwrap();
    let mut stream = old.listen(None).await.unwrap();
    let asked = old.tool("tracker__echo", arguments()).await.unwrap();
    assert_eq!(asked.code(), Some(-32_042), "{asked:?}");
    let elicitation = asked.response["error"]["data"]["elicitations"][0].clone();
    assert_eq!(
        (elicitation["mode"].as_str(), elicitation["url"].as_str()),
        (Some("url"), Some(&*house.link())),
        "{asked:?}"
    );
    let again = old.tool("tracker__echo", arguments()).await.unwrap();
    assert_eq!(again.response["error"]["data"]["elicitations"][0], elicitation, "one question, one id");
    for (version, capabilities) in [
        ("2025-11-25", json!({"elicitation": {}})),
        ("2025-11-25", json!({"elicitation": {"form": {}}})),
        ("2025-06-18", url.clone()),
    ] {
        let other = client(capabilities.clone());
        other.initialize(version).await.unwrap();
        let told = other.tool("tracker__echo", arguments()).await.unwrap();
        assert_eq!(told.code(), Some(-31_017), "{version} {capabilities}: {told:?}");
    }

    let new = client(url.clone());
    let asked = new.tool("tracker__echo", arguments()).await.unwrap();
    assert_eq!(asked.result()["resultType"], "input_required", "{asked:?}");
    let (key, question) = asked.result()["inputRequests"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(question["method"], "elicitation/create");
    assert_eq!(question["params"]["url"], house.link(), "{question}");
    let call = |more: Value| {
        let mut params = json!({"name": "tracker__echo", "arguments": {"who": "ann"}});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let new = client(url.clone());
        async move { new.call("tools/call", params).await.unwrap() }
    };
    let retried = |action: &str| call(json!({"inputResponses": {key: {"action": action}}, "requestState": "s"}));
    let answers = call(json!({"inputResponses": {"theirs": {"action": "accept"}}, "requestState": "s"})).await;
    assert_eq!(answers.result()["requestState"], "s", "the server's own question is not lost: {answers:?}");
    assert_eq!(answers.result()["inputRequests"].as_object().unwrap().len(), 1, "{answers:?}");
    assert_eq!(retried("decline").await.code(), Some(-31_017), "nobody is asked in a circle");
    let other = client(json!({})).tool("tracker__echo", arguments()).await.unwrap();
    assert_eq!(
        (other.code(), other.status.as_u16()),
        (Some(-31_017), 200),
        "it is no matter of the client's own token"
    );
    let listed = client(url.clone()).call("resources/templates/list", json!({})).await.unwrap();
    assert!(listed.result()["resultType"] != "input_required", "{listed:?}");

    let waits = tokio::spawn(retried("accept"));
    house.wait(1).await;
    house.connected("ann").await;
    let came = waits.await.unwrap();
    assert_eq!(came.result()["resultType"], "complete", "it waited: {came:?}");
    let told = loop {
        let message = stream.message().await.unwrap().unwrap();
        if message["method"] == "notifications/elicitation/complete" {
            break message;
        }
    };
    assert_eq!(told["params"]["elicitationId"], elicitation["elicitationId"]);
    let done = retried("accept").await;
    assert_eq!(done.result()["resultType"], "complete", "{done:?}");
    let sent = house.server.calls("echo").last().unwrap().json()["params"].clone();
    assert!(sent.get("inputResponses").is_none() && sent["requestState"] == "s", "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_come_through_in_time_is_told_and_not_asked_again() {
    let house = House::new().await;
    let ann = house.person("ann").await;
    house.world.rest(Method::PATCH, "/servers/tracker", &json!({"timeouts": {"total_ms": 2_000}})).await;
    let client = Client::new(&format!("{}/mcp/tracker", house.world.running.url()));
    let client = client.bearer(&ann.key).capabilities(json!({"elicitation": {"url": {}}}));
    let asked = client.tool("echo", json!({})).await.unwrap();
    let key = asked.result()["inputRequests"].as_object().unwrap().keys().next().unwrap();
    let again = json!({"name": "echo", "inputResponses": {key: {"action": "accept"}}});
    let told = client.call("tools/call", again.clone()).await.unwrap();
    assert_eq!(told.code(), Some(-31_017), "{told:?}");
    let metrics = house.world.metrics().await;
    let sum = |family: &str| -> f64 {
        let of_calls = |line: &&str| line.starts_with(&format!("{family}_sum{{")) && line.contains("\"tools/call\"");
        metrics.lines().filter(of_calls).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    };
    let waited = sum("mcp_request_duration_seconds") - sum("mcp_gateway_overhead_seconds");
    assert!(waited > 0.9, "it waits for half of its time, which is not the gateway's own: {waited}");

    // Nothing waits for who has gone away, and nobody holds up a stop.
    house.world.rest(Method::PATCH, "/servers/tracker", &json!({"timeouts": {"total_ms": 3_600_000}})).await;
    let client = std::sync::Arc::new(client);
    let call = || {
        let (client, again) = (client.clone(), again.clone());
        tokio::spawn(async move { client.call("tools/call", again).await.unwrap() })
    };
    let goes = call();
    house.wait(1).await;
    goes.abort();
    house.wait(0).await;
    // Nobody's own calls take all places.
    let many: Vec<_> = (0..9).map(|_| call()).collect();
    house.wait(8).await;
    many.iter().for_each(tokio::task::JoinHandle::abort);
    house.wait(0).await;
    let stays = call();
    house.wait(1).await;
    house.world.app.shutdown.cancel();
    assert_eq!(stays.await.unwrap().code(), Some(-31_017));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waited_goes_on_as_what_it_may_be_by_then() {
    let house = House::new().await;
    let (ann, bob) = (house.person("ann").await, house.person("bob").await);
    #[expect(clippy::async_yields_async, reason = "it goes on while it is waited for")]
    let waits = async |person: &Person| {
        let client = Client::new(&format!("{}/mcp/tracker", house.world.running.url()));
        let client = client.bearer(&person.key).capabilities(json!({"elicitation": {"url": {}}}));
        let answer = json!({"io.mcp-registry-gateway/connect": {"action": "accept"}});
        let call = json!({"name": "echo", "arguments": {"who": person.name}, "inputResponses": answer});
        let waits = tokio::spawn(async move { client.call("tools/call", call).await.unwrap() });
        house.wait(1).await;
        waits
    };
    // The key is revoked while it waits.
    let stolen = waits(&ann).await;
    house.world.rest(Method::DELETE, &format!("/keys/{}", ann.id), &Value::Null).await;
    let ended = stolen.await.unwrap();
    assert_eq!(ended.code(), Some(-31_010), "{ended:?}");
    house.connected("ann").await;

    // The server is taken away while it waits.
    let late = waits(&bob).await;
    house.world.rest(Method::POST, "/servers/tracker/disable", &Value::Null).await;
    let app = &house.world.app;
    let user = house.world.rest(Method::GET, "/users/bob", &Value::Null).await["id"].as_str().unwrap().parse().unwrap();
    let server = house.world.rest(Method::GET, "/servers/tracker", &Value::Null).await["id"].as_str().unwrap().parse();
    let tenant = TenantId::default_tenant();
    app.connections().tell(Change { tenant, user, server: ServerId(server.unwrap()), connected: true });
    let refused = late.await.unwrap();
    assert!(refused.response["error"].is_object() && refused.code() != Some(-31_017), "{refused:?}");
    assert!(house.server.calls("echo").is_empty(), "nothing went out");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_renewed_once_for_all_and_what_is_revoked_wants_the_person() {
    let house = House::new().await;
    let (ann, bob) = (house.person("ann").await, house.person("bob").await);
    house.connected("ann").await;
    assert!(house.call(&ann).await.result().is_object());
    house.there.end_access();
    let all = join_all((0..50).map(|_| house.call(&ann))).await;
    assert!(all.iter().all(|called| called.result().is_object()), "{all:?}");
    assert_eq!(house.there.asked("refresh_token").len(), 1, "each refresh token is shown once");
    let form = house.there.asked("refresh_token").remove(0);
    assert_eq!(form["resource"], house.server.url());

    house.connected("bob").await;
    assert!(house.call(&bob).await.result().is_object());
    house.there.revoke_all();
    let refused = house.call(&bob).await;
    assert_eq!(refused.code(), Some(-31_017), "{refused:?}");
    assert!(told(&refused).contains("connect your account there again"), "{refused:?}");
    let (mut browser, page) = house.opened("bob").await;
    assert!(!page.text().contains("Connected as"), "{}", page.text());
    let page = house.connect(&mut browser, &page).await;
    assert!(page.text().contains("Connected as bob@there"), "{}", page.text());
    assert!(house.call(&bob).await.result().is_object(), "at once");
    let metrics = house.world.metrics().await;
    for event in ["connected\"} 3", "needs_person\"} 1"] {
        assert!(metrics.contains(&format!("mcp_upstream_connections_total{{event=\"{event}")), "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorization_server_that_is_ill_signs_nobody_out() {
    let house = House::new().await;
    let ann = house.person("ann").await;
    house.connected("ann").await;
    assert!(house.call(&ann).await.result().is_object());
    house.there.end_access();
    house.there.set(|manners| manners.refuses = Some((503, json!({}))));
    for _ in 0..5 {
        let refused = house.call(&ann).await;
        assert_eq!(refused.code(), Some(-31_015), "{refused:?}");
        assert!(told(&refused).contains("does not answer now; try again"), "{refused:?}");
    }
    assert!(house.there.asked("refresh_token").len() < 3, "it is left alone for a while");
    // What is good still is used as long as it is, though it was to be renewed.
    let (caller, site) = anns(&house).await;
    let engine = house.world.app.connections();
    let kept = engine.token(&site, &caller, Not::Any).await.unwrap();
    let same = engine.token(&site, &caller, Not::Ending(kept.token.expose().as_bytes())).await.unwrap();
    assert_eq!(same.token.expose(), kept.token.expose());
    let (_browser, page) = house.opened("ann").await;
    assert!(page.text().contains("Connected as ann@there"), "{}", page.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_once_in_the_browser_and_for_the_account_that_went() {
    let house = House::new().await;
    let (ann, bob) = (house.person("ann").await, house.person("bob").await);
    let (mut browser, page) = house.opened("ann").await;
    let callback = house.world.url("/connections/callback/");
    let mut stopping = browser.clone().stop_at(&callback);
    let stopped = house.connect(&mut stopping, &page).await;
    assert!(stopped.stopped, "{}", stopped.url);
    let answer = stopped.url.to_string();

    // Somebody else gets hold of it, or is brought to open it.
    let nobody = new_browser().open(&answer).await.unwrap();
    assert!(nobody.status == 403 && nobody.text().contains("sign in again"), "{}", nobody.text());
    let (mut bobs, _) = house.opened("bob").await;
    let stolen = bobs.open(&answer).await.unwrap();
    assert!(stolen.status == 400 && stolen.text().contains("You are not connected"), "{}", stolen.text());
    // The same account in another browser is another browser.
    let (mut second, _) = house.opened("ann").await;
    assert_eq!(second.open(&answer).await.unwrap().status, 400);
    assert!(house.there.asked("authorization_code").is_empty(), "nothing was redeemed");
    for person in [&ann, &bob] {
        assert_eq!(house.call(person).await.code(), Some(-31_017), "{}", person.name);
    }

    let done = browser.open(&answer).await.unwrap();
    assert!(done.text().contains("Connected as ann@there"), "{}", done.text());
    let twice = browser.open(&answer).await.unwrap();
    assert_eq!(twice.status, 400, "{}", twice.text());
    assert_eq!(house.call(&bob).await.code(), Some(-31_017));
    assert!(house.call(&ann).await.result().is_object());

    // A form that the page did not make begins nothing.
    let mut form = page.form("decision").unwrap().filled(&[("decision", "disconnect")]);
    form = form.filled(&[("csrf", "guessed")]);
    assert_eq!(browser.send(&page, &form).await.unwrap().status, 403);
    assert!(house.call(&ann).await.result().is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_another_than_was_asked_is_not_taken() {
    let house = House::new().await;
    let ann = house.person("ann").await;
    let other = PeopleServer::start().await.unwrap();
    let (mut browser, page) = house.opened("ann").await;
    for iss in [Some(other.issuer()), None, Some(format!("{}/", house.there.issuer()))] {
        house.there.set(|manners| manners.iss.clone_from(&iss));
        let refused = house.connect(&mut browser, &page).await;
        assert_eq!(refused.status, 403, "{iss:?}: {}", refused.text());
        assert!(refused.text().contains("could not be verified"), "{}", refused.text());
    }
    // At the address of another one, whatever it says.
    let issuer = house.there.issuer();
    house.there.set(|manners| manners.iss = Some(issuer));
    let callback = house.world.url("/connections/callback/");
    let stopped = house.connect(&mut browser.clone().stop_at(&callback), &page).await;
    let key = stopped.url.path().rsplit('/').next().unwrap().to_owned();
    let elsewhere = stopped.url.to_string().replace(&key, "AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(browser.open(&elsewhere).await.unwrap().status, 403);
    // What it says of an error is not told when it is not its own.
    house.there.set(|manners| (manners.iss, manners.error) = (Some(other.issuer()), Some("evil_words".into())));
    let refused = house.connect(&mut browser, &page).await;
    assert!(refused.status == 403 && !refused.text().contains("evil_words"), "{}", refused.text());
    assert!(house.there.asked("authorization_code").is_empty(), "no code was shown to anybody");
    assert_eq!(house.call(&ann).await.code(), Some(-31_017));

    let issuer = house.there.issuer();
    house.there.set(|manners| (manners.iss, manners.error) = (Some(issuer), Some("access_denied".into())));
    let denied = house.connect(&mut browser, &page).await;
    assert!(denied.text().contains("You did not allow it"), "{}", denied.text());
    // What it is called is told, and nothing that it says.
    for (error, is_told) in [("invalid_scope", true), ("Sign in at evil.example", false)] {
        house.there.set(|manners| manners.error = Some(error.into()));
        let refused = house.connect(&mut browser, &page).await;
        assert_eq!(refused.text().contains(error), is_told, "{}", refused.text());
        assert!(!refused.text().contains("what it says"), "{}", refused.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobodys_tokens_follow_a_server_to_another_authorization_server_or_place() {
    let house = House::new().await;
    let (ann, bob) = (house.person("ann").await, house.person("bob").await);
    house.connected("ann").await;
    house.connected("bob").await;
    assert!(house.call(&bob).await.result().is_object());
    let other = PeopleServer::start().await.unwrap();
    house.server.takes_tokens_of(&other);
    // Found when somebody connects the next time.
    let (mut browser, page) = house.opened("ann").await;
    let page = house.connect(&mut browser, &page).await;
    assert!(page.text().contains("Connected as ann@there"), "{}", page.text());
    assert_eq!(other.came("/register").len(), 1, "another registration");
    let refreshed = house.there.asked("refresh_token").len();
    let moved = house.call(&bob).await;
    assert_eq!(moved.code(), Some(-31_017), "{moved:?}");
    assert!(other.asked("refresh_token").is_empty(), "what the first gave is not shown to the second");
    assert!(house.there.asked("refresh_token").len() <= refreshed + 1);
    assert!(house.call(&ann).await.result().is_object());

    // The server is another, under the same name.
    let elsewhere = Plain::with(Eras::Dual).await.unwrap();
    let change = json!({"replicas": [{"url": elsewhere.url()}]});
    house.world.rest(Method::PATCH, "/servers/tracker", &change).await;
    let moved = house.call(&ann).await;
    assert_eq!(moved.code(), Some(-31_017), "{moved:?}");
    let shown = elsewhere.host().requests();
    assert!(shown.iter().all(|request| request.header("authorization").is_empty()), "{shown:?}");
}

/// What the audit trail says of that.
async fn recorded(house: &House, action: &str) -> Value {
    loop {
        let found = house.world.rest(Method::GET, &format!("/admin/audit?action={action}"), &Value::Null).await;
        if let Some(item) = found["items"].as_array().and_then(|items| items.first()) {
            return item["record"].clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_disconnects_is_forgotten_here_and_there() {
    let house = House::new().await;
    let (ann, _bob) = (house.person("ann").await, house.person("bob").await);
    let (mut browser, page) = house.connected("ann").await;
    assert!(house.call(&ann).await.result().is_object() && house.there.good() == 1);
    let page = browser.submit(&page, "decision", &[("decision", "disconnect")]).await.unwrap();
    assert!(page.text().contains("Not connected"), "{}", page.text());
    assert_eq!((house.there.good(), house.there.came("/revoke").len()), (0, 1));
    for action in ["connection.begin", "connection.end"] {
        let record = recorded(&house, action).await;
        assert_eq!((&record["server"], &record["username"]), (&"tracker".into(), &"ann".into()), "{record}");
    }
    let calls = house.server.calls("echo").len();
    assert_eq!(house.call(&ann).await.code(), Some(-31_017));
    assert_eq!(house.server.calls("echo").len(), calls, "nothing goes out");
    let list = browser.open(&house.world.url("/connections")).await.unwrap();
    assert!(list.text().contains("The tracker") && list.text().contains("Not connected"), "{}", list.text());
    // What goes with an account is given back behind it, and what goes with a server.
    house.connected("bob").await;
    house.world.rest(Method::DELETE, "/users/bob", &Value::Null).await;
    let all_back = async || until(|| house.there.good() == 0).await;
    all_back().await;
    house.connected("ann").await;
    house.world.rest(Method::DELETE, "/servers/tracker", &Value::Null).await;
    all_back().await;
    house.register("tracker", &house.server, json!({"kind": "authorization_code"})).await;
    house.connected("ann").await;
    house.world.rest(Method::POST, "/apply", &json!({"servers": [], "prune": true})).await;
    all_back().await;
    // And with a tenant: of its people, wherever the server is.
    house.register("tracker", &house.server, json!({"kind": "authorization_code"})).await;
    house.world.rest(Method::POST, "/admin/tenants", &json!({"tenant_id": "acme"})).await;
    let carl = json!({"username": "carl", "password": PASSWORD, "tenant_id": "acme"});
    house.world.rest(Method::POST, "/users", &carl).await;
    house.world.rest(Method::PATCH, "/servers/tracker", &json!({"offered_to": ["acme"]})).await;
    house.there.set(|manners| manners.person = "carl@there".to_owned());
    let mut theirs = new_browser();
    let page = theirs.open(&house.link()).await.unwrap();
    let page = theirs.submit(&page, "username", &[("username", "acme/carl"), ("password", PASSWORD)]).await.unwrap();
    let page = house.connect(&mut theirs, &page).await;
    assert!(page.text().contains("Connected as carl@there"), "{} {}", page.url, page.text());
    house.world.rest(Method::DELETE, "/admin/tenants/acme?purge=true&confirm=acme", &Value::Null).await;
    all_back().await;
    house.world.rest(Method::DELETE, "/servers/tracker", &Value::Null).await;
    // What nobody connects to, or may see, is no page.
    for path in ["/connections/nothing", "/connections/callback"] {
        assert_eq!(browser.open(&house.world.url(path)).await.unwrap().status, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_is_unknown_there_is_made_anew_and_a_client_of_an_administrator_is_used_as_it_is() {
    let house = House::new().await;
    let ann = house.person("ann").await;
    house.connected("ann").await;
    house.there.forget_clients();
    house.there.end_access();
    let refused = house.call(&ann).await;
    assert_eq!(refused.code(), Some(-31_017), "{refused:?}");
    house.connected("ann").await;
    assert_eq!(house.there.came("/register").len(), 2);
    assert!(house.call(&ann).await.result().is_object());

    house.there.knows("gateway").set(|manners| manners.metadata = json!({"registration_endpoint": null}));
    let more = Plain::with(Eras::Dual).await.unwrap();
    more.takes_tokens_of(&house.there);
    let auth = json!({"kind": "authorization_code", "issuer": house.there.issuer(), "client_id": "gateway", "scopes": ["read", "write"]});
    house.register("more", &more, auth).await;
    let mut browser = new_browser();
    let page = browser.open(&house.world.url("/connections/more")).await.unwrap();
    let page = browser.submit(&page, "username", &[("username", "ann"), ("password", PASSWORD)]).await.unwrap();
    let page = house.connect(&mut browser, &page).await;
    assert!(page.text().contains("read, write"), "{}", page.text());
    assert_eq!(house.there.asked("authorization_code").last().unwrap()["client_id"], "gateway");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_more_of_somebody_gets_it_asked_for() {
    let house = House::new().await;
    let ann = house.person("ann").await;
    house.connected("ann").await;
    assert!(house.call(&ann).await.result().is_object());
    house.server.door(|_| Some("Bearer error=\"insufficient_scope\", scope=\"write\"".to_owned()));
    let refused = house.call(&ann).await;
    assert_eq!(refused.code(), Some(-31_017), "{refused:?}");
    assert!(told(&refused).contains("allow more (write)"), "{refused:?}");
    house.server.takes_tokens_of(&house.there);
    let (mut browser, page) = house.opened("ann").await;
    assert!(page.text().contains("wants you to allow more: write"), "{}", page.text());
    let page = house.connect(&mut browser, &page).await;
    assert!(
        page.text().contains("read, offline_access, write") || page.text().contains("read, write"),
        "{}",
        page.text()
    );
    assert!(!page.text().contains("wants you to allow more"), "{}", page.text());
}

/// Ann as she calls, and the server as the engine knows it.
async fn anns(house: &House) -> (Caller, Site) {
    let app = &house.world.app;
    let tenant = TenantId::default_tenant();
    let user = house.world.rest(Method::GET, "/users/ann", &Value::Null).await;
    let user = user["id"].as_str().unwrap().parse().unwrap();
    let caller = Caller::at_pages(&app.store, &tenant, user, uuid::Uuid::now_v7()).await.unwrap().unwrap();
    let site = app.sites(&caller).remove(0);
    (caller, site)
}

/// A second process on the same database.
fn second(house: &House, home: &str) -> Connections {
    let app = &house.world.app;
    let outbound = Outbound::new(AddressPolicy::ADMIN, None);
    Connections::new(app.store.clone(), app.vault.clone(), &outbound, home, app.recorder.metrics(), &app.tasks)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_processes_one_renews_and_one_registers() {
    let house = House::new().await;
    house.person("ann").await;
    let (caller, site) = anns(&house).await;
    let home = house.world.url("");
    let engines = [second(&house, &home), second(&house, &home), house.world.app.connections().clone()];
    let who = OnTheWay { tenant: caller.tenant(), user: caller.user_id().uuid(), cookie: "c" };
    let mark = engines[0].leads(&site, who).await.unwrap().mark();
    let began = join_all(engines.iter().map(|engine| engine.begin(&site, who, &mark, now()))).await;
    assert!(began.iter().all(Result::is_ok), "{began:?}");
    assert_eq!(house.there.came("/register").len(), 1);

    house.connected("ann").await;
    let first = engines[0].token(&site, &caller, Not::Any).await.unwrap();
    let shown = first.token.expose().as_bytes();
    let many = (0..30).map(|at| engines[at % 3].token(&site, &caller, Not::Refused(shown)));
    let all = join_all(many).await;
    let tokens: Vec<_> = all.iter().map(|given| given.as_ref().unwrap().token.expose()).collect();
    assert!(tokens.iter().all(|token| token == &tokens[0] && *token != first.token.expose()), "{tokens:?}");
    assert_eq!(house.there.asked("refresh_token").len(), 1);
    assert_eq!(house.there.good(), 1, "the line lives");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_metadata_say_so_the_gateway_is_known_by_the_address_of_its_description() {
    let house = House::new().await;
    house.there.set(|manners| manners.metadata = json!({"client_id_metadata_document_supported": true}));
    house.person("ann").await;
    let (caller, site) = anns(&house).await;
    let engine = second(&house, "https://gateway.example");
    let who = OnTheWay { tenant: caller.tenant(), user: caller.user_id().uuid(), cookie: "c" };
    let mark = engine.leads(&site, who).await.unwrap().mark();
    let url = engine.begin(&site, who, &mark, now()).await.unwrap();
    let query = |name: &str| url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
    let id = query("client_id");
    let key = id.strip_prefix("https://gateway.example/connections/client/").unwrap();
    let described = serde_json::to_value(engine.description(key).unwrap()).unwrap();
    assert_eq!((&described["client_id"], &described["redirect_uris"][0]), (&json!(id), &json!(query("redirect_uri"))));
    assert!(house.there.came("/register").is_empty());
    assert!(engine.description("x").is_none() && engine.description(&key[1..]).is_none());
    // A gateway that others cannot reach registers itself.
    house.connected("ann").await;
    assert_eq!(house.there.came("/register").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_description_of_another_place_leads_nowhere() {
    let house = House::new().await;
    house.person("ann").await;
    let (mut browser, page) = house.opened("ann").await;
    let issuer = house.there.issuer();
    for description in [
        json!({"resource": "https://elsewhere.example/mcp", "authorization_servers": [issuer]}),
        json!({"resource": house.server.url(), "authorization_servers": []}),
        json!({"resource": house.server.url(), "authorization_servers": ["http://10.1.2.3/"]}),
        json!({"resource": house.server.url(), "authorization_servers": ["file:///etc/passwd"]}),
    ] {
        house.server.describe(description.clone());
        let refused = house.connect(&mut browser, &page).await;
        assert_eq!(refused.status, 502, "{description}: {}", refused.text());
    }
    assert!(house.there.came("/authorize").is_empty());
    // What its metadata say is read before the page leads there.
    let house = House::new().await;
    house.person("ann").await;
    house.there.set(|manners| manners.metadata = json!({"issuer": "https://elsewhere.example"}));
    let (mut browser, page) = house.opened("ann").await;
    assert_eq!(house.connect(&mut browser, &page).await.status, 502);
    assert!(house.there.came("/authorize").is_empty());
}

/// Every person at every server, in both eras, while tokens end under way: whatever is kept, and by whichever key, a call carries the
/// token of who calls.
#[tokio::test(flavor = "multi_thread")]
async fn nobodys_token_is_ever_on_anothers_call() {
    let house = House::new().await;
    let more = Plain::with(Eras::Legacy("2025-11-25".into())).await.unwrap();
    more.takes_tokens_of(&house.there);
    house.register("more", &more, json!({"kind": "authorization_code"})).await;
    let mut people = Vec::new();
    for name in ["ann", "bob", "cat", "dan"] {
        let person = house.person(name).await;
        // Two keys each: what is kept goes by the credential.
        let second = house.key_of(name).await;
        let (mut browser, _) = house.connected(name).await;
        let page = browser.open(&house.world.url("/connections/more")).await.unwrap();
        house.connect(&mut browser, &page).await;
        people.extend([person, second]);
    }
    for round in 0..2 {
        let calls = people.iter().flat_map(|person| {
            [("tracker", MODERN), ("tracker", "2025-11-25"), ("more", MODERN), ("more", "2025-11-25")].map(
                |(slug, version)| {
                    let client = Client::new(&format!("{}/mcp/{slug}", house.world.running.url())).bearer(&person.key);
                    async move {
                        if version != MODERN {
                            client.initialize(version).await.unwrap();
                        }
                        let called = client.tool("echo", json!({"who": person.name})).await.unwrap();
                        assert!(called.result().is_object(), "{round} {slug} {version}: {called:?}");
                    }
                },
            )
        });
        join_all(calls).await;
        for server in [&house.server, &more] {
            for call in server.calls("echo") {
                let who = call.json()["params"]["arguments"]["who"].as_str().unwrap().to_owned();
                let whose = house.there.person_of(&call.headers);
                assert!(whose.is_none_or(|whose| whose == format!("{who}@there")), "{who}");
            }
            server.host().forget();
        }
        house.there.end_access();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_can_bring_their_user_there_comes_in_at_the_servers_own_endpoint_before_they_connect() {
    let house = House::new().await;
    let server = Plain::with(Eras::Legacy("2025-11-25".into())).await.unwrap();
    server.takes_tokens_of(&house.there);
    house.register("more", &server, json!({"kind": "authorization_code"})).await;
    let ann = house.person("ann").await;
    let client = |capabilities: Value| {
        Client::new(&format!("{}/mcp/more", house.world.running.url())).bearer(&ann.key).capabilities(capabilities)
    };
    for (version, capabilities) in [("2025-06-18", json!({"elicitation": {"url": {}}})), ("2025-11-25", json!({}))] {
        let other = client(capabilities);
        let refused = other.initialize(version).await.unwrap_err().to_string();
        assert!(refused.contains("-31017"), "{version}: {refused}");
    }
    let client = client(json!({"elicitation": {"url": {}}}));
    let about = client.initialize("2025-11-25").await.unwrap();
    let mut stream = client.listen(None).await.unwrap();
    assert!(client.call("ping", json!({})).await.unwrap().result().is_object());
    let asked = client.call("tools/list", json!({})).await.unwrap();
    assert_eq!(asked.code(), Some(-32_042), "{about:?} {asked:?}");
    let elicitation = asked.response["error"]["data"]["elicitations"][0]["elicitationId"].clone();

    house.there.set(|manners| manners.person = "ann@there".to_owned());
    let mut browser = new_browser();
    let page = browser.open(&house.world.url("/connections/more")).await.unwrap();
    let page = browser.submit(&page, "username", &[("username", "ann"), ("password", PASSWORD)]).await.unwrap();
    house.connect(&mut browser, &page).await;
    let done = stream.message().await.unwrap().unwrap();
    assert_eq!(
        (&done["method"], &done["params"]["elicitationId"]),
        (&json!("notifications/elicitation/complete"), &elicitation)
    );
    assert_eq!(stream.message().await.unwrap().unwrap()["method"], "notifications/tools/list_changed");
    let listed = client.call("tools/list", json!({})).await.unwrap();
    assert!(listed.result()["tools"].is_array(), "{listed:?}");
    let called = client.tool("echo", json!({"who": "ann"})).await.unwrap();
    assert!(called.result().is_object(), "{called:?}");
    // What the server says by itself is heard from then on, also that its lists have changed.
    until(|| server.notify("notifications/message", json!({"level": "info", "data": "hello"})) > 0).await;
    let mut heard = stream.message().await.unwrap().unwrap();
    while heard["method"] != "notifications/message" {
        heard = stream.message().await.unwrap().unwrap();
    }
    assert_eq!(heard["params"]["data"], "hello");
    assert!(server.notify("notifications/tools/list_changed", json!({})) > 0);
    let changed = tokio::time::timeout(Duration::from_secs(30), stream.message()).await.expect("it is told");
    assert_eq!(changed.unwrap().unwrap()["method"], "notifications/tools/list_changed");

    // Who comes early when it is known what the server speaks reads a whole answer, without what was told Ann.
    let bob = house.person("bob").await;
    let client = Client::new(&format!("{}/mcp/more", house.world.running.url())).bearer(&bob.key);
    let about = client.capabilities(json!({"elicitation": {"url": {}}})).initialize("2025-11-25").await.unwrap();
    let said = &about.result()["serverInfo"];
    assert_eq!((&said["name"], &said["title"]), (&json!("more"), &json!("The tracker")), "{about:?}");
}
