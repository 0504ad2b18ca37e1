//! One thing that somebody does at a server or at the gateway, by the dice.

use serde_json::{Value, json};

use super::crowd::{FORBIDDEN, NARROW, Tenant};
use super::dice::Dice;
use super::ledger::End;
use super::player::{Ask, By, Expect, Line, Person, Player};
use crate::client::Client;
use crate::jsonrpc::LEGACY;
use crate::upstream::Fault;

/// Most that a tool is asked to send, bytes; past what is read whole.
const MOST: usize = 300_000;
/// The longest that a tool is asked to take, milliseconds.
const LONGEST: usize = 40;

/// An open session of MCP.
pub struct Open {
    /// Of which tenant.
    pub tenant: usize,
    /// Of whom.
    pub person: Person,
    /// The client that holds it.
    pub client: Client,
    /// Where it was opened.
    pub path: String,
}

/// Where somebody speaks to the server of a tenant.
struct Place<'a> {
    tenant: &'a Tenant,
    person: &'a Person,
    line: Line<'a>,
}

impl Place<'_> {
    fn at_one(&self) -> bool {
        self.line.path != "/mcp"
    }

    /// What a tool or prompt is called there.
    fn name(&self, name: &str) -> String {
        if self.at_one() { name.to_owned() } else { format!("{}__{name}", self.tenant.slug) }
    }

    async fn call(
        &self,
        player: &mut Player,
        tool: &str,
        arguments: Value,
        end: End,
        waited: u64,
    ) -> anyhow::Result<()> {
        let params = json!({"name": self.name(tool), "arguments": arguments});
        let expect = Expect { end, server: &self.tenant.slug, name: tool, waited };
        self.say(player, "tools/call", params, expect).await
    }

    async fn say(&self, player: &mut Player, method: &str, params: Value, expect: Expect<'_>) -> anyhow::Result<()> {
        let (by, gateway) = (By::Somebody(self.person), self.person.gateway);
        player.say(by, gateway, self.line, (method, params), expect).await.map(drop)
    }
}

/// Somebody of the tenant does something; `sessions` are those that are open.
pub async fn step(
    player: &mut Player,
    dice: &mut Dice,
    (at, tenant): (usize, &Tenant),
    sessions: &mut Vec<Open>,
) -> anyhow::Result<()> {
    match dice.throw(20) {
        0 => return opens(player, dice, (at, tenant), sessions).await,
        1 => return closes(player, dice, at, sessions).await,
        2 | 3 => return at_the_door(player, dice, tenant).await,
        _ => {}
    }
    let own = format!("/mcp/{}", tenant.slug);
    let open = sessions.iter().filter(|open| open.tenant == at).collect::<Vec<_>>();
    if !open.is_empty() && dice.one_in(2) {
        let open = *dice.of(&open);
        let line = Line { path: &open.path, session: Some(&open.client) };
        return says(player, dice, &Place { tenant, person: &open.person, line }).await;
    }
    let person = dice.of(&tenant.people);
    let path = *dice.of(&["/mcp", &own]);
    if dice.one_in(12) {
        return with_a_narrow_key(player, dice, tenant, &own).await;
    }
    says(player, dice, &Place { tenant, person, line: Line { path, session: None } }).await
}

async fn says(player: &mut Player, dice: &mut Dice, place: &Place<'_>) -> anyhow::Result<()> {
    let slug = place.tenant.slug.as_str();
    let well = |server| Expect { end: End::Success, server, name: "", waited: 0 };
    match dice.throw(16) {
        0 => place.call(player, "fail", json!({}), End::ToolError, 0).await,
        1 => place.call(player, "error", json!({"code": -32_000}), End::of_server("rpc_error"), 0).await,
        2 => {
            let ms = dice.throw(LONGEST);
            place.call(player, "slow", json!({"ms": ms}), End::Success, 1_000 * u64::try_from(ms)?).await
        }
        3 => place.call(player, "big", json!({"bytes": dice.throw(MOST)}), End::Success, 0).await,
        4 => {
            place.tenant.server.fail_times("tools/call", 1, Fault::Status(500));
            place.call(player, "echo", json!({}), End::of_server("status"), 0).await
        }
        5 => {
            let params = json!({"name": place.name("nowhere"), "arguments": {}});
            // The server says what it does not have.
            let end = End::of_server("rpc_error");
            place.say(player, "tools/call", params, Expect { end, server: slug, name: "", waited: 0 }).await
        }
        6 | 7 => {
            let method = *dice.of(&["tools/list", "prompts/list", "resources/list"]);
            // Where there are rules the gateway answers.
            let server = if place.at_one() && !place.tenant.ruled { slug } else { "" };
            place.say(player, method, json!({}), well(server)).await
        }
        8 => place.say(player, "resources/read", json!({"uri": "stand-in://note"}), well(slug)).await,
        9 => {
            let params = json!({"name": place.name("greet"), "arguments": {"who": "x"}});
            place.say(player, "prompts/get", params, well(slug)).await
        }
        10 if place.tenant.ruled => place.call(player, FORBIDDEN, json!({}), End::Denied("policy".to_owned()), 0).await,
        _ => {
            let tool = *dice.of(&["echo", "log", "progress"]);
            let tool = if tool == FORBIDDEN && place.tenant.ruled { "echo" } else { tool };
            place.call(player, tool, json!({"message": "x", "steps": 1, "ms": 0}), End::Success, 0).await
        }
    }
}

async fn with_a_narrow_key(player: &mut Player, dice: &mut Dice, tenant: &Tenant, own: &str) -> anyhow::Result<()> {
    let place = Place { tenant, person: &tenant.narrow, line: Line { path: own, session: None } };
    if dice.one_in(2) {
        return place.call(player, NARROW, json!({}), End::Success, 0).await;
    }
    place.call(player, "slow", json!({"ms": 0}), End::Denied("scope".to_owned()), 0).await
}

async fn opens(
    player: &mut Player,
    dice: &mut Dice,
    (at, tenant): (usize, &Tenant),
    sessions: &mut Vec<Open>,
) -> anyhow::Result<()> {
    let (person, own) = (dice.of(&tenant.people).clone(), format!("/mcp/{}", tenant.slug));
    let (path, server) = if dice.one_in(2) { ("/mcp".to_owned(), "") } else { (own, tenant.slug.as_str()) };
    let version = *dice.of(&LEGACY);
    let client = player.open(&person, &path, server, version).await?;
    sessions.push(Open { tenant: at, person, client, path });
    Ok(())
}

async fn closes(player: &mut Player, dice: &mut Dice, at: usize, sessions: &mut Vec<Open>) -> anyhow::Result<()> {
    let own = (0..sessions.len()).filter(|open| sessions[*open].tenant == at).collect::<Vec<_>>();
    if own.is_empty() {
        return Ok(());
    }
    let open = sessions.remove(*dice.of(&own));
    player.close(&open.person, &open.client).await
}

/// What concerns no server: who one is, what there is not, whom one may not look at; and credentials that are none.
pub async fn at_the_door(player: &mut Player, dice: &mut Dice, tenant: &Tenant) -> anyhow::Result<()> {
    let person = dice.of(&tenant.people);
    let nothing = || Expect { end: End::Success, server: "", name: "", waited: 0 };
    let line = Line { path: "/mcp", session: None };
    match dice.throw(7) {
        0 => player.ask(Ask::new(By::Somebody(person), "GET /me")).await.map(drop),
        1 => {
            let missing = Ask::new(By::Somebody(&tenant.head), "GET /users/{id}").fill(&["nobody"]);
            player.ask(missing).await?.expect(404).map(drop)
        }
        2 => {
            let foreign = Ask::new(By::Somebody(&tenant.head), "GET /admin/tenants/{id}").fill(&["default"]);
            let told = player.ask(foreign).await?;
            anyhow::ensure!([403, 404].contains(&told.status), "{told:?}");
            Ok(())
        }
        3 => {
            let own =
                Ask::new(By::Somebody(&tenant.head), "GET /admin/tenant-analytics/{tenant_id}").fill(&[&tenant.id]);
            player.ask(own).await?.expect(200).map(drop)
        }
        4 => {
            let wrong = By::Wrong("mcpg_wrong", "malformed");
            let expect = Expect { end: End::Denied("malformed".to_owned()), ..nothing() };
            player.say(wrong, person.gateway, line, ("tools/list", json!({})), expect).await.map(drop)
        }
        5 => {
            let expect = Expect { end: End::Denied("missing".to_owned()), ..nothing() };
            player.say(By::Nobody, person.gateway, line, ("tools/list", json!({})), expect).await.map(drop)
        }
        _ => {
            let told = player.ask_at(person.gateway, Ask::new(By::Wrong("mcpg_wrong", "malformed"), "GET /me")).await?;
            told.expect(401).map(drop)
        }
    }
}

/// Somebody asks for more than the tenant may have.
pub async fn presses(player: &mut Player, tenant: &Tenant, times: usize) -> anyhow::Result<()> {
    let own = format!("/mcp/{}", tenant.slug);
    let place = Place { tenant, person: &tenant.people[0], line: Line { path: &own, session: None } };
    for _ in 0..times {
        place.call(player, "echo", json!({}), End::Success, 0).await?;
    }
    Ok(())
}

/// A program does something for the person who signed in.
pub async fn works(player: &mut Player, dice: &mut Dice, tenant: &Tenant, person: &Person) -> anyhow::Result<()> {
    for _ in 0..3 + dice.throw(3) {
        says(player, dice, &Place { tenant, person, line: Line { path: "/mcp", session: None } }).await?;
    }
    Ok(())
}
