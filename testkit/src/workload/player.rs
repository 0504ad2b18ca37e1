//! The one way from the workload to a gateway: what goes through here is in the ledger, and nothing goes another way.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use http::Method;
use serde_json::{Value, json};

use super::ledger::{Deed, Door, End, Event, Happening, Ledger, Time, Who};
use crate::client::{Client, Outcome, Request};

/// What the REST API stands below.
const BASE: &str = "/api/v1";

/// Somebody with a credential.
#[derive(Clone, Debug)]
pub struct Person {
    /// Who it is.
    pub who: Arc<Who>,
    /// The credential.
    pub key: String,
    /// Which gateway this one goes to.
    pub gateway: usize,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum By<'a> {
    /// Somebody who is known.
    Somebody(&'a Person),
    /// Whoever shows this, which is no good for that reason.
    Wrong(&'a str, &'static str),
    /// Whoever shows nothing.
    Nobody,
}

/// One call of the REST API.
pub struct Ask<'a> {
    by: By<'a>,
    verb: &'a str,
    route: &'a str,
    fill: Vec<String>,
    query: &'a str,
    body: Value,
    from: Option<&'a str>,
}

impl<'a> Ask<'a> {
    /// Of a verb and a route, as in `GET /users/{id}`.
    pub fn new(by: By<'a>, what: &'a str) -> Self {
        let (verb, route) = what.split_once(' ').unwrap_or(("GET", what));
        Self { by, verb, route, fill: Vec::new(), query: "", body: Value::Null, from: None }
    }

    /// What stands in the braces of the route.
    #[must_use]
    pub fn fill(self, fill: &[&str]) -> Self {
        Self { fill: fill.iter().map(|part| (*part).to_owned()).collect(), ..self }
    }

    /// Parameters, with their question mark.
    #[must_use]
    pub fn query(self, query: &'a str) -> Self {
        Self { query, ..self }
    }

    /// What is sent.
    #[must_use]
    pub fn body(self, body: Value) -> Self {
        Self { body, ..self }
    }

    /// As the proxy in front says where it comes from.
    #[must_use]
    pub fn from(self, address: &'a str) -> Self {
        Self { from: Some(address), ..self }
    }

    fn path(&self) -> String {
        let mut parts = self.fill.iter();
        let filled = self
            .route
            .split('/')
            .map(|part| if part.starts_with('{') { parts.next().map_or("", String::as_str) } else { part });
        format!("{BASE}{}", filled.collect::<Vec<_>>().join("/"))
    }
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Told {
    /// The status.
    pub status: u16,
    /// The body; null where there is none.
    pub body: Value,
}

impl Told {
    /// The same, if the status is this one.
    pub fn expect(self, status: u16) -> anyhow::Result<Value> {
        if self.status == status { Ok(self.body) } else { bail!("{} instead of {status}: {}", self.status, self.body) }
    }
}

/// Where and as what a message of MCP is sent.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    /// `/mcp`, or that of a server.
    pub path: &'a str,
    /// A client that shook hands; else each message stands by itself.
    pub session: Option<&'a Client>,
}

/// What comes of a message, unless a limit is reached.
#[derive(Clone, Debug)]
pub struct Expect<'a> {
    /// How it comes out.
    pub end: End,
    /// At which server.
    pub server: &'a str,
    /// Which tool.
    pub name: &'a str,
    /// How long the server takes at least, microseconds.
    pub waited: u64,
}

/// See the module.
pub struct Player {
    /// Addresses; a gateway that starts anew is another one.
    gateways: Vec<String>,
    /// What was done so far.
    pub ledger: Ledger,
}

impl Player {
    /// Of gateways at these addresses.
    pub fn new(gateways: Vec<String>) -> Self {
        Self { gateways, ledger: Ledger::default() }
    }

    /// Goes on with another gateway too; its number.
    pub fn knows(&mut self, gateway: String) -> usize {
        self.gateways.push(gateway);
        self.gateways.len() - 1
    }

    /// The address of a gateway.
    pub fn url(&self, gateway: usize) -> &str {
        &self.gateways[gateway]
    }

    /// Something happened beside a request.
    pub fn happened(&mut self, gateway: usize, time: Time, what: Happening) {
        self.ledger.events.push(Event { what, time, gateway });
    }

    /// The holder of a key, who says who that is; `kind` is how the key was come by.
    pub async fn meet(&mut self, key: &str, kind: &'static str, gateway: usize) -> anyhow::Result<Person> {
        let unknown = Person { who: Arc::default(), key: key.to_owned(), gateway };
        let told = self.ask(Ask::new(By::Somebody(&unknown), "GET /me")).await?.expect(200)?;
        let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
        let who = Arc::new(Who {
            tenant: text("tenant_id"),
            user: text("user_id"),
            name: text("name"),
            role: text("role"),
            kind,
            credential: text("credential_id"),
        });
        if let Some(deed) = self.ledger.deeds.last_mut() {
            deed.who = Some(Arc::clone(&who));
        }
        Ok(Person { who, ..unknown })
    }

    /// Calls the REST API of the gateway that the person goes to, or of the first.
    pub async fn ask(&mut self, ask: Ask<'_>) -> anyhow::Result<Told> {
        let gateway = if let By::Somebody(person) = ask.by { person.gateway } else { 0 };
        self.ask_at(gateway, ask).await
    }

    /// The same of this gateway.
    pub async fn ask_at(&mut self, gateway: usize, ask: Ask<'_>) -> anyhow::Result<Told> {
        let (path, method): (String, Method) = (ask.path(), ask.verb.parse()?);
        let body = if ask.body.is_null() { String::new() } else { ask.body.to_string() };
        let mut request = Request::new(method, body.into())
            .path(&format!("{path}{}", ask.query))
            .header("content-type", "application/json");
        match ask.by {
            By::Somebody(Person { key, .. }) => request = request.header("authorization", &format!("Bearer {key}")),
            By::Wrong(key, _) => request = request.header("authorization", &format!("Bearer {key}")),
            By::Nobody => {}
        }
        if let Some(from) = ask.from {
            request = request.header("x-forwarded-for", from);
        }
        let began = Time::now();
        let reply = Client::new(&self.gateways[gateway]).send(request).await?;
        let (status, text) = (reply.status.as_u16(), reply.text().await?);
        let time = Time::since(began);
        let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.clone()));
        let told = Told { status, body: if text.is_empty() { Value::Null } else { body } };
        if told.body["code"] == "ADDRESS_BANNED" {
            self.happened(gateway, time, Happening::Barred);
            return Ok(told);
        }
        let who = if let By::Somebody(person) = ask.by { Some(Arc::clone(&person.who)) } else { None };
        if status == 429 {
            let (tenant, limit) = (who.as_ref().map(|who| who.tenant.clone()).unwrap_or_default(), "user".to_owned());
            self.happened(gateway, time, Happening::Throttled { tenant, limit });
        }
        let end = match (status, ask.by) {
            (401, By::Wrong(_, reason)) => End::Denied(reason.to_owned()),
            (401, By::Nobody) if ask.route != "/login" => End::Denied("missing".to_owned()),
            _ => of_status(status),
        };
        let action = format!("{} {BASE}{}", ask.verb, ask.route);
        self.ledger.deeds.push(Deed {
            door: Door::Rest,
            action,
            path,
            who,
            session: None,
            server: String::new(),
            name: String::new(),
            end,
            time,
            waited: 0,
            gateway,
        });
        Ok(told)
    }

    /// Sends one message of MCP, and reads its answer.
    pub async fn say(
        &mut self,
        by: By<'_>,
        gateway: usize,
        line: Line<'_>,
        (method, params): (&str, Value),
        expect: Expect<'_>,
    ) -> anyhow::Result<Outcome> {
        let own;
        let client = match (line.session, by) {
            (Some(client), _) => client,
            (None, By::Somebody(person)) => {
                own = self.client(gateway, line.path).bearer(&person.key);
                &own
            }
            (None, By::Wrong(key, _)) => {
                own = self.client(gateway, line.path).bearer(key);
                &own
            }
            (None, By::Nobody) => {
                own = self.client(gateway, line.path);
                &own
            }
        };
        let began = Time::now();
        let answer = client.call(method, params).await?;
        let time = Time::since(began);
        let who = if let By::Somebody(person) = by { Some(Arc::clone(&person.who)) } else { None };
        let (mut end, mut server, mut name) = (expect.end, expect.server, expect.name);
        if answer.status == 429 {
            let limit = answer.response["error"]["data"]["limit"].as_str().unwrap_or_default().to_owned();
            let tenant = who.as_ref().map(|who| who.tenant.clone()).unwrap_or_default();
            if !["server", "tool"].contains(&&*limit) {
                (server, name) = ("", "");
            }
            self.happened(gateway, time, Happening::Throttled { tenant, limit });
            end = End::RateLimited;
        }
        check(&answer, &end).with_context(|| format!("{method} {name} at {}", line.path))?;
        self.ledger.deeds.push(Deed {
            door: Door::Mcp,
            // What is not let in is not read.
            action: if who.is_some() { method } else { "POST" }.to_owned(),
            path: String::new(),
            who,
            session: client.session(),
            server: server.to_owned(),
            name: name.to_owned(),
            end,
            time,
            waited: expect.waited,
            gateway,
        });
        Ok(answer)
    }

    /// A client of a path that shows nothing yet.
    fn client(&self, gateway: usize, path: &str) -> Client {
        Client::new(&format!("{}{path}", self.gateways[gateway]))
    }

    /// Shakes hands; the client goes on in its session. `server` is that of the path.
    pub async fn open(&mut self, person: &Person, path: &str, server: &str, version: &str) -> anyhow::Result<Client> {
        let client = self.client(person.gateway, path).bearer(&person.key).capabilities(json!({}));
        let began = Time::now();
        client.initialize(version).await?;
        let time = Time::since(began);
        let session = client.session();
        for (action, server) in [("initialize", server), ("notifications/initialized", "")] {
            self.deed_of_session(person, session.as_deref(), action, server, time);
        }
        Ok(client)
    }

    /// Ends a session.
    pub async fn close(&mut self, person: &Person, client: &Client) -> anyhow::Result<()> {
        let (session, began) = (client.session(), Time::now());
        let status = client.end().await?;
        if !status.is_success() {
            bail!("a session is not ended: {status}");
        }
        self.deed_of_session(person, session.as_deref(), "DELETE", "", Time::since(began));
        Ok(())
    }

    fn deed_of_session(&mut self, person: &Person, session: Option<&str>, action: &str, server: &str, time: Time) {
        self.ledger.deeds.push(Deed {
            door: Door::Mcp,
            action: action.to_owned(),
            path: String::new(),
            who: Some(Arc::clone(&person.who)),
            session: session.map(str::to_owned),
            server: server.to_owned(),
            name: String::new(),
            end: End::Success,
            time,
            waited: 0,
            gateway: person.gateway,
        });
    }

    /// Somebody without a name asked for something of the pages or of the token endpoint.
    pub fn asked_at_pages(&mut self, gateway: usize, verb: &str, route: &str, path: &str, status: u16, time: Time) {
        self.ledger.deeds.push(Deed {
            door: Door::Oauth,
            action: format!("{verb} {route}"),
            path: path.to_owned(),
            who: None,
            session: None,
            server: String::new(),
            name: String::new(),
            end: of_status(status),
            time,
            waited: 0,
            gateway,
        });
    }
}

/// Whether the answer is of this kind.
fn check(answer: &Outcome, end: &End) -> anyhow::Result<()> {
    let is_error = !answer.response["error"].is_null();
    let failed = answer.result()["isError"] == true;
    let is = match end {
        End::Success => !is_error && !failed,
        End::ToolError => !is_error && failed,
        End::Error { .. } | End::Denied(_) | End::RateLimited => is_error,
    };
    if is { Ok(()) } else { bail!("{} {} is not {end:?}", answer.status, answer.response) }
}

/// What the status of an answer says.
fn of_status(status: u16) -> End {
    match status {
        401 => End::Denied("unauthenticated".to_owned()),
        403 => End::Denied("forbidden".to_owned()),
        404 => End::of_client("not_found"),
        405 => End::of_client("unknown_method"),
        409 | 412 => End::of_client("conflict"),
        429 => End::RateLimited,
        502 | 504 => End::of_server("unreachable"),
        400..=499 => End::of_client("bad_request"),
        500..=599 => End::Error { kind: "internal", whose: "gateway" },
        _ => End::Success,
    }
}
