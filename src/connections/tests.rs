//! Whole ways of one account to one server, with an authorization server in the process.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::sealed::{Kept, of_connection};
use super::{Answer, Came, Change, ConnectError, Connections, Not, Person, Site, State, of};
use crate::crypto::{MasterKey, Sealer};
use crate::fault::{Fault, Kind};
use crate::id::{ServerId, TenantId};
use crate::idp::tests::fake::{Asked, Fake, Reply};
use crate::net::{AddressPolicy, Outbound};
use crate::registry::model::Server;
use crate::store::connections::{ConnectionRow, RenewedColumns};
use crate::store::servers::ServerRow;
use crate::store::users::UserRow;
use crate::store::{Json, Store, micros, now, run};
use crate::telemetry::Metrics;
use crate::vault::Vault;

/// Shorter than what a token must last to be shown: each is renewed at once.
const SHORT: u64 = 10;

struct House {
    folder: std::path::PathBuf,
    store: Store,
    tasks: TaskTracker,
    connections: Connections,
    there: Fake,
    server: Uuid,
    site: Site,
    user: Uuid,
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn describe(fake: &Fake) {
    let base = &fake.base;
    let about = json!({
        "issuer": base, "authorization_endpoint": format!("{base}/authorize"), "token_endpoint": format!("{base}/token"),
        "registration_endpoint": format!("{base}/register"), "revocation_endpoint": format!("{base}/revoke"),
        "code_challenge_methods_supported": ["S256"],
    });
    fake.always("/.well-known/oauth-authorization-server", Reply::json(200, &about));
}

/// Turns each refresh token into the next; who shows another than the last gets nothing.
fn rotate(lasts: u64) -> impl FnMut(&Asked) -> Reply + Send {
    let mut number = 0;
    move |asked| {
        let shown = asked.field("refresh_token");
        if shown.is_some_and(|shown| shown != format!("refresh-{number}")) {
            return Reply::json(400, &json!({"error": "invalid_grant"}));
        }
        number += 1;
        let given = json!({"access_token": format!("access-{number}"), "refresh_token": format!("refresh-{number}"),
            "token_type": "Bearer", "expires_in": lasts});
        Reply::json(200, &given)
    }
}

/// The nth answer waits: says that it came to that, and goes on when it is told.
fn hold(nth: usize, mut route: impl FnMut(&Asked) -> Reply + Send) -> (impl FnMut(&Asked) -> Reply + Send, Held) {
    let ((came, has_come), (go, may_go)) = (mpsc::channel(), mpsc::channel());
    let mut count = 0;
    let route = move |asked: &Asked| {
        let reply = route(asked);
        count += 1;
        if count == nth {
            came.send(()).unwrap();
            tokio::task::block_in_place(|| may_go.recv().unwrap());
        }
        reply
    };
    (route, Held { has_come, go })
}

struct Held {
    has_come: mpsc::Receiver<()>,
    go: mpsc::Sender<()>,
}

impl Held {
    fn wait(&self) {
        tokio::task::block_in_place(|| self.has_come.recv().unwrap());
    }
}

impl House {
    /// Where an administrator named the authorization server, and registered the gateway there.
    async fn new() -> Self {
        let there = Fake::start().await;
        let auth = json!({"kind": "authorization_code", "issuer": there.base, "client_id": "us"});
        Self::with(there, auth).await
    }

    /// Where the server says who its authorization server is, which registers whoever comes.
    async fn found() -> Self {
        let there = Fake::start().await;
        let auth = json!({"kind": "authorization_code"});
        let house = Self::with(there, auth).await;
        house.believes(&house.there.base.clone());
        let mut number = 0;
        house.there.on("/register", move |_| {
            number += 1;
            Reply::json(201, &json!({"client_id": format!("client-{number}"), "client_secret": "a long enough secret"}))
        });
        house
    }

    async fn with(there: Fake, auth: Value) -> Self {
        describe(&there);
        there.on("/token", rotate(SHORT));
        there.always("/revoke", Reply::json(200, &json!({})));
        let folder = std::env::temp_dir().join(format!("mcp-gateway-connections-{}", Uuid::now_v7()));
        std::fs::create_dir_all(&folder).unwrap();
        let store = Store::connect(&format!("sqlite://{}", folder.join("gateway.db").display()), 1).await.unwrap();
        let (tenant, tasks, time) = (TenantId::default_tenant(), TaskTracker::new(), micros(now()));
        let spec = json!({"slug": "tracker", "replicas": [{"url": format!("{}/mcp", there.base)}], "auth": auth});
        let row = ServerRow {
            id: Uuid::now_v7(),
            tenant_id: "default".to_owned(),
            owner_id: None,
            slug: "tracker".to_owned(),
            spec: Json(json!({})),
            secrets: None,
            enabled: true,
            revision: 1,
            created_at: time,
            updated_at: time,
        };
        store.insert_server(&tenant, &row).await.unwrap();
        let vault = Vault::new(store.clone(), Sealer::new(&MasterKey::generate()));
        let outbound = Outbound::new(AddressPolicy::ADMIN, None);
        let metrics = Arc::new(Metrics::new(10));
        let connections = Connections::new(store.clone(), vault, &outbound, "http://127.0.0.1:1", &metrics, &tasks);
        let site = site(row.id, spec);
        let mut house = Self { folder, store, tasks, connections, there, server: row.id, site, user: Uuid::nil() };
        house.user = house.person("ann").await;
        house
    }

    async fn person(&self, name: &str) -> Uuid {
        let row = UserRow {
            id: Uuid::now_v7(),
            username: name.to_owned(),
            role: "user".to_owned(),
            state: "active".to_owned(),
            created_at: micros(now()),
            updated_at: micros(now()),
            ..UserRow::default()
        };
        self.store.insert_user(&TenantId::default_tenant(), &row).await.unwrap();
        row.id
    }

    /// The server takes tokens of this one.
    fn believes(&self, issuer: &str) {
        let about = json!({"resource": format!("{}/mcp", self.there.base), "authorization_servers": [issuer]});
        self.there.always("/.well-known/oauth-protected-resource/mcp", Reply::json(200, &about));
    }

    async fn sql(&self, text: &str) {
        let address = format!("sqlite://{}", self.folder.join("gateway.db").display());
        run(&address, text).await;
    }

    /// Nobody need wait any longer to try again.
    async fn later(&self) {
        self.sql("UPDATE connections SET until = 0").await;
    }

    async fn connect(&self, user: Uuid) -> Result<(), ConnectError> {
        let tenant = TenantId::default_tenant();
        let who = Person { tenant: &tenant, user, cookie: "cookie" };
        let leads = self.connections.leads(&self.site, who).await?;
        let url = self.connections.begin(&self.site, who, &leads.mark(), now()).await?;
        let said = |name: &str| url.query_pairs().find(|(own, _)| own == name).unwrap().1.into_owned();
        let (state, redirect_uri) = (said("state"), said("redirect_uri"));
        let key = redirect_uri.rsplit('/').next().unwrap();
        let answer = Answer { key, state: &state, code: Some("a code"), ..Answer::default() };
        let site = self.site.clone();
        self.connections.finish(answer, who, |_| Some(site), now(), &mut None).await
    }

    async fn token(&self, not: Not<'_>) -> Result<String, Fault> {
        let given = self.connections.token_of(&self.site, &TenantId::default_tenant(), self.user, not).await;
        given.map(|given| given.token.expose().to_owned())
    }

    async fn row(&self) -> Option<ConnectionRow> {
        self.row_of(self.user).await
    }

    async fn row_of(&self, user: Uuid) -> Option<ConnectionRow> {
        self.store.connection(&TenantId::default_tenant(), of(user, ServerId(self.server))).await.unwrap()
    }

    async fn disconnect(&self) {
        let tenant = TenantId::default_tenant();
        let who = Person { tenant: &tenant, user: self.user, cookie: "cookie" };
        self.connections.disconnect(&self.site, who, now()).await.unwrap();
    }

    /// The refresh tokens that were shown, in order.
    fn shown(&self) -> Vec<String> {
        self.there.asked("/token").iter().filter_map(|asked| asked.field("refresh_token")).collect()
    }
}

fn site(id: Uuid, spec: Value) -> Site {
    let server = Server {
        id: ServerId(id),
        tenant: TenantId::default_tenant(),
        spec: serde_json::from_value(spec).unwrap(),
        revision: 1,
        created_at: now(),
        updated_at: now(),
    };
    Site::of(&server).unwrap()
}

fn asks_to_connect<T: std::fmt::Debug>(outcome: &Result<T, Fault>) -> bool {
    outcome.as_ref().is_err_and(|fault| fault.kind == Kind::Connect)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_is_kept_although_the_database_goes_away_before_the_answer() {
    let house = House::new().await;
    house.connect(house.user).await.unwrap();
    let address = format!("sqlite://{}", house.folder.join("gateway.db").display());
    let mut route = rotate(SHORT);
    let _ = route(&Asked { path: String::new(), headers: http::HeaderMap::new(), body: String::new() });
    let mut is_first = true;
    house.there.on("/token", move |asked| {
        if std::mem::take(&mut is_first) {
            let away =
                "ALTER TABLE data_keys RENAME TO data_keys_away; ALTER TABLE connections RENAME TO connections_away";
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(run(&address, away)));
            let address = address.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(300)).await;
                run(&address, "ALTER TABLE connections_away RENAME TO connections").await;
            });
        }
        route(asked)
    });
    assert_eq!(house.token(Not::Any).await.unwrap(), "access-2");
    house.sql("ALTER TABLE data_keys_away RENAME TO data_keys").await;
    assert_eq!(house.token(Not::Any).await.unwrap(), "access-3");
    assert_eq!(house.shown(), ["refresh-1", "refresh-2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_is_kept_when_nobody_waits_for_it_any_more() {
    let house = Arc::new(House::new().await);
    let (route, held) = hold(1, rotate(SHORT));
    house.there.on("/token", route);
    let waits = tokio::spawn({
        let house = house.clone();
        async move { house.connect(house.user).await }
    });
    held.wait();
    waits.abort();
    assert!(waits.await.unwrap_err().is_cancelled());
    held.go.send(()).unwrap();
    house.tasks.close();
    house.tasks.wait().await;
    assert!(house.row().await.is_some(), "the code is spent");

    let (mut route, held) = hold(2, rotate(SHORT));
    let _ = route(&Asked { path: String::new(), headers: http::HeaderMap::new(), body: String::new() });
    house.there.on("/token", route);
    let waits = tokio::spawn({
        let house = house.clone();
        async move { house.token(Not::Any).await }
    });
    held.wait();
    waits.abort();
    assert!(waits.await.unwrap_err().is_cancelled());
    held.go.send(()).unwrap();
    house.tasks.wait().await;
    assert_eq!(house.token(Not::Any).await.unwrap(), "access-3");
    assert_eq!(house.shown(), ["refresh-1", "refresh-2"]);
}

#[tokio::test]
async fn what_comes_late_takes_the_place_of_what_it_was_given_for_and_of_nothing_else() {
    let house = House::new().await;
    house.connect(house.user).await.unwrap();
    let (tenant, time) = (TenantId::default_tenant(), micros(now()));
    let read = house.row().await.unwrap();
    let slow = house.store.claim_connection(&tenant, &read, time, time + 1).await.unwrap().unwrap();
    assert!(house.store.hold_connection(&tenant, &slow, time + 2).await.unwrap());
    let now_there = house.row().await.unwrap();
    assert!(house.store.claim_connection(&tenant, &now_there, time + 1, time + 9).await.unwrap().is_none(), "held");
    let quick = house.store.claim_connection(&tenant, &now_there, time + 2, time + 9).await.unwrap().unwrap();
    assert!(!house.store.hold_connection(&tenant, &slow, time + 9).await.unwrap());
    let new = |tokens| RenewedColumns { tokens, scopes: "", renewed_at: time, expires_at: None };
    assert!(house.store.renew_connection(&tenant, &slow, new(b"new")).await.unwrap());
    assert!(!house.store.connection_needs_person(&tenant, &quick, "refused").await.unwrap());
    assert!(!house.store.renew_connection(&tenant, &quick, new(b"other")).await.unwrap());
    assert_eq!(house.row().await.unwrap().tokens.as_deref(), Some(&b"new"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_the_person_disconnected_is_given_back() {
    let house = Arc::new(House::new().await);
    let (route, held) = hold(2, rotate(SHORT));
    house.there.on("/token", route);
    house.connect(house.user).await.unwrap();
    let renews = tokio::spawn({
        let house = house.clone();
        async move { house.token(Not::Any).await }
    });
    held.wait();
    let ends = tokio::spawn({
        let house = house.clone();
        async move { house.disconnect().await }
    });
    while house.row().await.is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    held.go.send(()).unwrap();
    ends.await.unwrap();
    assert!(asks_to_connect(&renews.await.unwrap()));
    let mut back: Vec<_> = house.there.asked("/revoke").iter().filter_map(|asked| asked.field("token")).collect();
    back.sort();
    assert_eq!(back, ["refresh-1", "refresh-2"]);
}

#[tokio::test]
async fn nobody_loses_what_was_given_for_what_is_said_of_the_client_once() {
    let house = House::found().await;
    let bob = house.person("bob").await;
    house.connect(house.user).await.unwrap();
    house.there.on("/token", rotate(SHORT));
    house.connect(bob).await.unwrap();
    assert_eq!(house.there.asked("/register").len(), 1);
    house.there.always("/token", Reply::json(401, &json!({"error": "invalid_client"})));
    for round in 0..2 {
        let told = house.token(Not::Any).await;
        assert!(asks_to_connect(&told), "{round} {told:?}");
        assert!(house.row().await.unwrap().tokens.is_some());
        house.later().await;
    }
    assert!(asks_to_connect(&house.token(Not::Any).await), "it is repeated");
    assert!(house.row().await.unwrap().tokens.is_none());
    assert!(house.row_of(bob).await.unwrap().tokens.is_some(), "nobody asked about these");

    // Who goes there now goes as another; who is connected is asked about as before.
    house.there.on("/token", rotate(SHORT));
    house.connect(house.user).await.unwrap();
    assert_eq!(house.there.asked("/register").len(), 2);
    let given = house.connections.token_of(&house.site, &TenantId::default_tenant(), bob, Not::Any).await.unwrap();
    assert_eq!(given.token.expose(), "access-2");
    let clients: Vec<_> = house.there.asked("/token").iter().filter_map(|asked| asked.field("client_id")).collect();
    assert_eq!(clients[clients.len() - 2..], ["client-2", "client-1"]);
}

#[tokio::test]
async fn a_registration_is_used_until_it_ends_or_there_is_another() {
    let house = House::found().await;
    let ends = (now() + Duration::from_mins(5)).unix_timestamp();
    let soon = json!({"client_id": "soon", "client_secret": "a long enough secret", "client_secret_expires_at": ends});
    house.there.always("/register", Reply::json(201, &soon));
    house.connect(house.user).await.unwrap();
    house.there.always("/register", Reply::json(503, &json!({})));
    house.there.on("/token", rotate(SHORT));
    house.connect(house.user).await.unwrap();
    assert_eq!(house.there.asked("/register").len(), 2, "it was tried");
    house.there.always("/register", Reply::json(201, &json!({"client_id": "next"})));
    house.sql("UPDATE connection_clients SET until = 0").await;
    let bob = house.person("bob").await;
    house.there.on("/token", rotate(SHORT));
    house.connect(bob).await.unwrap();
    assert_eq!(house.token(Not::Any).await.unwrap(), "access-2", "what the former was given is renewed as the former");
    let clients: Vec<_> = house.there.asked("/token").iter().filter_map(|asked| asked.field("client_id")).collect();
    assert_eq!(clients, ["soon", "soon", "next", "soon"]);
}

#[tokio::test]
async fn what_nothing_renews_is_not_thrown_away_because_the_server_refuses_it_once() {
    let house = House::new().await;
    house.there.always("/token", Reply::json(200, &json!({"access_token": "lasting", "token_type": "Bearer"})));
    house.connect(house.user).await.unwrap();
    assert!(asks_to_connect(&house.token(Not::Refused(b"lasting")).await));
    assert_eq!(house.token(Not::Any).await.unwrap(), "lasting");
    house.sql("UPDATE connections SET expires_at = 1").await;
    assert!(asks_to_connect(&house.token(Not::Any).await));
    assert!(house.row().await.unwrap().tokens.is_none());
}

#[tokio::test]
async fn a_dead_token_is_seen_in_whichever_dialect() {
    let house = House::new().await;
    house.connect(house.user).await.unwrap();
    house.there.always("/token", Reply::json(200, &json!({"error": "bad_refresh_token"})));
    assert!(asks_to_connect(&house.token(Not::Any).await));
    assert!(house.row().await.unwrap().tokens.is_none());

    house.there.on("/token", rotate(SHORT));
    house.connect(house.user).await.unwrap();
    house.sql("UPDATE connections SET expires_at = 1").await;
    house.there.always("/token", Reply::json(400, &json!({"error": "invalid_request"})));
    for _ in 0..2 {
        assert!(!asks_to_connect(&house.token(Not::Any).await));
        house.later().await;
    }
    let tenant = TenantId::default_tenant();
    assert!(asks_to_connect(&house.token(Not::Any).await));
    assert!(asks_to_connect(&house.token(Not::Any).await), "also while it is not tried");
    let views = house.connections.views(&tenant, house.user, std::slice::from_ref(&house.site)).await.unwrap();
    assert_eq!(views[0].state, State::NeedsPerson);
    house.later().await;
    house.there.on("/token", |_| {
        Reply::json(200, &json!({"access_token": "after all", "token_type": "Bearer", "expires_in": 3600}))
    });
    assert_eq!(house.token(Not::Any).await.unwrap(), "after all", "it was kept");
}

#[tokio::test]
async fn who_is_connected_by_another_authorization_server_is_not_served_and_all_processes_hear_of_it() {
    let house = House::found().await;
    house.connect(house.user).await.unwrap();
    let other = Fake::start().await;
    describe(&other);
    house.connections.forget_changes().await.unwrap();
    house.believes(&other.base);
    house.connections.find(&house.site).await.unwrap();
    let changes = house.connections.changes().await.unwrap();
    assert!(changes.len() == 1 && changes[0].user == house.user && !changes[0].connected, "{changes:?}");
    assert!(asks_to_connect(&house.token(Not::Any).await));
    assert!(house.shown().is_empty(), "the former is not asked");
    house.connections.find(&house.site).await.unwrap();
    assert!(house.connections.changes().await.unwrap().is_empty(), "it is said once");
}

#[tokio::test]
async fn a_server_that_refuses_what_was_given_is_asked_whom_it_believes() {
    let house = House::found().await;
    house.connect(house.user).await.unwrap();
    let other = Fake::start().await;
    describe(&other);
    house.believes(&other.base);
    house.connections.not_taken(&house.site);
    house.connections.not_taken(&house.site);
    house.tasks.close();
    house.tasks.wait().await;
    assert_eq!(house.connections.found(&house.site).await.unwrap().unwrap().issuer, other.base);
    assert_eq!(house.there.asked("/.well-known/oauth-protected-resource/mcp").len(), 3, "not each time");
}

#[tokio::test]
async fn nobody_goes_where_the_page_did_not_say() {
    let house = House::found().await;
    let tenant = TenantId::default_tenant();
    let who = Person { tenant: &tenant, user: house.user, cookie: "cookie" };
    let leads = house.connections.leads(&house.site, who).await.unwrap();
    assert_eq!(leads.issuer, house.there.base);
    let other = Fake::start().await;
    describe(&other);
    house.believes(&other.base);
    for shown in ["", &leads.mark()] {
        let went = house.connections.begin(&house.site, who, shown, now()).await;
        assert!(matches!(went, Err(ConnectError::NotShown)), "{went:?}");
    }
    assert!(other.asked("/register").is_empty() && house.there.asked("/register").is_empty());
    let leads = house.connections.leads(&house.site, who).await.unwrap();
    assert_eq!(leads.issuer, other.base);
}

#[tokio::test]
async fn whom_only_the_server_names_sends_nobody_to_anothers_page() {
    let house = House::found().await;
    let base = &house.there.base;
    let about = json!({
        "issuer": base, "authorization_endpoint": "https://good.example/authorize", "token_endpoint": format!("{base}/token"),
        "registration_endpoint": format!("{base}/register"), "code_challenge_methods_supported": ["S256"],
    });
    house.there.always("/.well-known/oauth-authorization-server", Reply::json(200, &about));
    let refused = house.connect(house.user).await.unwrap_err().to_string();
    assert!(refused.contains("name it with `issuer`"), "{refused}");
    assert_eq!(house.connections.look(&house.site).await.problem, Some(refused));
    assert!(house.there.asked("/register").is_empty());
}

#[tokio::test]
async fn what_does_not_open_can_be_connected_anew_and_ended() {
    let house = House::new().await;
    house.connect(house.user).await.unwrap();
    house.sql("UPDATE connections SET tokens = x'00'").await;
    let tenant = TenantId::default_tenant();
    let views = house.connections.views(&tenant, house.user, std::slice::from_ref(&house.site)).await.unwrap();
    assert_eq!(views[0].state, State::NeedsPerson);
    assert!(asks_to_connect(&house.token(Not::Any).await));
    house.disconnect().await;
    assert!(house.row().await.is_none());
}

#[tokio::test]
async fn what_cannot_be_asked_is_let_go() {
    let house = House::new().await;
    house.connect(house.user).await.unwrap();
    let row = house.row().await.unwrap();
    house.sql("ALTER TABLE data_keys RENAME TO away").await;
    assert!(house.token(Not::Any).await.is_err());
    let after = house.row().await.unwrap();
    assert!(!after.asking && after.until == 0 && after.tokens == row.tokens, "{after:?}");
    house.sql("ALTER TABLE away RENAME TO data_keys").await;
    assert_eq!(house.token(Not::Any).await.unwrap(), "access-2");
}

#[tokio::test]
async fn who_lost_sight_of_a_server_ends_what_is_theirs_and_nobody_elses() {
    let house = House::found().await;
    let bob = house.person("bob").await;
    house.connect(house.user).await.unwrap();
    let tenant = TenantId::default_tenant();
    let lost = |user, sites| house.connections.lost(&tenant, user, sites);
    assert!(lost(house.user, std::slice::from_ref(&house.site)).await.unwrap().is_empty());
    let own = lost(house.user, &[]).await.unwrap().remove(0);
    let who = |user| Person { tenant: &tenant, user, cookie: "cookie" };
    house.connections.give_up(who(bob), own.id, now()).await.unwrap();
    assert!(house.row().await.is_some());
    house.connections.give_up(who(house.user), own.id, now()).await.unwrap();
    assert!(house.row().await.is_none());
    assert_eq!(house.there.asked("/revoke")[0].field("token").as_deref(), Some("refresh-1"));
}

#[tokio::test]
async fn what_a_server_wants_is_noted_when_it_is_news_and_asked_for_with_what_was_allowed() {
    let house = House::new().await;
    house.connect(house.user).await.unwrap();
    house
        .sql(
            "CREATE TRIGGER counted AFTER UPDATE ON connections
         BEGIN UPDATE connections SET failures = failures + 1 WHERE id = NEW.id; END",
        )
        .await;
    let tenant = TenantId::default_tenant();
    let who = Person { tenant: &tenant, user: house.user, cookie: "cookie" };
    let wants = async |shown: &str, scopes: &str| {
        house.connections.wants_of(&house.site, (&tenant, house.user), shown.as_bytes(), scopes).await.kind
    };
    let asked_for = async || house.connections.leads(&house.site, who).await.unwrap().scopes;
    for scopes in ["write", "write", "admin write", "write admin"] {
        assert_eq!(wants("access-1", scopes).await, Kind::Connect, "{scopes}");
    }
    let row = house.row().await.unwrap();
    assert_eq!((&*row.wanted, row.failures), ("write admin", 2));
    assert_eq!(asked_for().await, ["write", "admin"]);
    let many = (0..100).map(|number| format!("s{number}")).collect::<Vec<_>>().join(" ");
    wants("access-1", &many).await;
    assert_eq!(house.row().await.unwrap().wanted.split(' ').count(), 16);
    house.sql("UPDATE connections SET wanted = ''").await;
    wants("access-1", &format!("a\"b c\\d e\u{fc} {}", "x".repeat(129))).await;
    assert_eq!(house.row().await.unwrap().wanted, "", "none of them is a scope");

    house.sql("UPDATE connections SET wanted = 'write admin'").await;
    house.there.on("/token", rotate(SHORT));
    house.connect(house.user).await.unwrap();
    assert_eq!(house.row().await.unwrap().scopes, "write admin");
    // Another process shows what was given before they allowed that.
    assert_eq!(wants("access-0", "write").await, Kind::NoCredential);
    assert_eq!(house.row().await.unwrap().wanted, "");
    assert_eq!(wants("access-0", "more").await, Kind::Connect);
    assert_eq!(house.row().await.unwrap().wanted, "more");

    house.sql("UPDATE connections SET wanted = ''").await;
    house.there.always("/token", Reply::json(400, &json!({"error": "invalid_grant"})));
    assert!(asks_to_connect(&house.token(Not::Any).await));
    assert_eq!(asked_for().await, ["write", "admin"], "who connects again keeps what they allowed");
    house.disconnect().await;
    assert!(asked_for().await.is_empty());
}

#[tokio::test]
async fn what_a_server_wants_of_the_authorization_server_that_was_named_is_asked_for() {
    let house = House::new().await;
    let tenant = TenantId::default_tenant();
    let who = Person { tenant: &tenant, user: house.user, cookie: "cookie" };
    let says = |issuers: Value| {
        let about = json!({"resource": format!("{}/mcp", house.there.base), "authorization_servers": issuers,
            "scopes_supported": ["read", "write"]});
        house.there.always("/.well-known/oauth-protected-resource/mcp", Reply::json(200, &about));
    };
    let asked_for = async |site: &Site| house.connections.leads(site, who).await.unwrap().scopes;
    assert!(asked_for(&house.site).await.is_empty(), "it says nothing");
    says(json!(["https://other.example"]));
    assert!(asked_for(&house.site).await.is_empty(), "of another it may want anything");
    says(json!(["https://other.example", house.there.base]));
    assert_eq!(asked_for(&house.site).await, ["read", "write"]);
    let auth = json!({"kind": "authorization_code", "issuer": house.there.base, "scopes": ["mine"]});
    let spec = json!({"slug": "tracker", "replicas": [{"url": format!("{}/mcp", house.there.base)}], "auth": auth});
    assert_eq!(asked_for(&site(house.server, spec)).await, ["mine"]);
}

#[tokio::test]
async fn who_waits_hears_of_the_own_connection_and_of_no_other() {
    let house = House::new().await;
    let (tenant, bob) = (TenantId::default_tenant(), house.person("bob").await);
    let change = |user, server, connected| Change { tenant: tenant.clone(), user, server: ServerId(server), connected };
    let mut coming = house.connections.coming(&tenant, house.user, house.site.id);
    let mut through = std::pin::pin!(coming.through());
    for other in [
        change(bob, house.server, true),
        change(house.user, Uuid::now_v7(), true),
        change(house.user, house.server, false),
    ] {
        house.connections.tell(other);
        assert!(futures_util::poll!(through.as_mut()).is_pending());
    }
    house.connections.tell(change(house.user, house.server, true));
    assert_eq!(through.await, Came::Through);

    // Those who lose a connection are nothing to who waits; of too many who connect it is not known who they are.
    let mut coming = house.connections.coming(&tenant, house.user, house.site.id);
    (0..1_000).for_each(|_| house.connections.tell(change(bob, house.server, false)));
    assert!(futures_util::poll!(std::pin::pin!(coming.through())).is_pending());
    (0..1_000).for_each(|_| house.connections.tell(change(bob, house.server, true)));
    assert_eq!(coming.through().await, Came::Unknown);
    assert!(futures_util::poll!(std::pin::pin!(coming.through())).is_pending());
    house.connections.tell(change(house.user, house.server, true));
    assert_eq!(coming.through().await, Came::Through);
}

#[tokio::test]
async fn what_goes_with_an_account_or_a_server_or_gives_way_to_anothers_is_given_back() {
    let house = House::found().await;
    let tenant = TenantId::default_tenant();
    let back = |fake: &Fake| -> Vec<String> {
        fake.asked("/revoke").iter().filter_map(|asked| asked.field("token")).collect()
    };
    house.connect(house.user).await.unwrap();
    let leaving = house.connections.of_account(&tenant, house.user, |_| None).await.unwrap();
    house.sql("DELETE FROM users").await;
    house.connections.left(leaving, now());
    house.tasks.close();
    house.tasks.wait().await;
    assert_eq!(back(&house.there), ["refresh-1"]);

    let bob = house.person("bob").await;
    house.connect(bob).await.unwrap();
    house.there.on("/token", rotate(SHORT));
    house.connect(bob).await.unwrap();
    house.tasks.wait().await;
    assert_eq!(back(&house.there).len(), 1, "it may be of one grant with what came since");
    let other = House::found().await;
    house.believes(&other.there.base);
    house.connect(bob).await.unwrap();
    house.tasks.wait().await;
    assert_eq!(back(&house.there).len(), 2);

    let leaving = house.connections.of_tenant(&tenant, |_| None).await.unwrap();
    house.connections.left(leaving, now());
    house.tasks.wait().await;
    assert_eq!(back(&other.there), ["refresh-1"]);
    let leaving = house.connections.of_server(&house.site).await.unwrap();
    house.sql("DELETE FROM servers").await;
    house.connections.left(leaving, now());
    house.tasks.wait().await;
    assert_eq!(back(&other.there), ["refresh-1", "refresh-1"]);
}

#[tokio::test]
async fn a_secret_goes_to_the_authorization_server_of_which_it_is_and_to_none_that_was_left() {
    let named = |there: &Fake| json!({"kind": "authorization_code", "issuer": there.base, "client_id": "us", "client_secret": "of this one"});
    let (there, other) = (Fake::start().await, Fake::start().await);
    let auth = named(&there);
    let mut house = House::with(there, auth).await;
    describe(&other);
    other.on("/token", rotate(SHORT));
    other.always("/revoke", Reply::json(200, &json!({})));
    let bob = house.person("bob").await;
    house.connect(house.user).await.unwrap();
    house.there.on("/token", rotate(SHORT));
    house.connect(bob).await.unwrap();

    let spec =
        json!({"slug": "tracker", "replicas": [{"url": format!("{}/mcp", house.there.base)}], "auth": named(&other)});
    house.site = site(house.server, spec);
    house.connect(house.user).await.unwrap();
    let tenant = TenantId::default_tenant();
    let who = Person { tenant: &tenant, user: bob, cookie: "cookie" };
    house.connections.disconnect(&house.site, who, now()).await.unwrap();
    house.tasks.close();
    house.tasks.wait().await;
    assert!(house.there.asked("/revoke").is_empty(), "neither what gave way nor what was ended");
    house.disconnect().await;
    assert_eq!(other.asked("/revoke")[0].field("token").as_deref(), Some("refresh-1"));
}

#[tokio::test]
async fn who_repeats_what_it_was_sent_does_not_bring_it_into_an_error() {
    let house = House::new().await;
    let given = json!({"access_token": "an access token", "refresh_token": "a refresh token", "token_type": "Bearer"});
    house.there.always("/token", Reply::json(200, &given));
    house.connect(house.user).await.unwrap();
    let (row, tenant) = (house.row().await.unwrap(), TenantId::default_tenant());
    let place = row.id.to_string();
    let kept: Kept =
        house.connections.open(of_connection(&place, &tenant, row.user_id), &row.tokens.unwrap()).await.unwrap();
    let heard = Arc::new(Mutex::new(String::new()));
    let hears = heard.clone();
    house.there.on("/revoke", move |asked| {
        let token = asked.field("token").unwrap();
        hears.lock().unwrap().clone_from(&token);
        Reply::json(400, &json!({"error": "invalid_request", "error_description": format!("what is {token}?")}))
    });
    let error = house.connections.revoke(Some(&house.site), &row.issuer, &kept, now()).await.unwrap_err().to_string();
    assert_eq!(*heard.lock().unwrap(), "a refresh token");
    assert!(error.contains("what is ***?"), "{error}");
}

#[test]
fn a_place_is_the_whole_url_but_for_its_query_which_goes_nowhere() {
    let id = Uuid::now_v7();
    let at = |url: &str| {
        let auth = json!({"kind": "authorization_code", "issuer": "https://as.example"});
        site(id, json!({"slug": "tracker", "replicas": [{"url": url}], "auth": auth}))
    };
    let one = at("https://host.example/ann-co/mcp?api_key=secret");
    assert_eq!(one.resource(), "https://host.example/ann-co/mcp");
    assert_eq!(at("https://host.example/?api_key=secret").resource(), "https://host.example");
    assert_eq!(one.place, at("https://host.example/ann-co/mcp?api_key=next").place);
    assert_ne!(one.place, at("https://host.example/evil/mcp").place);
}
