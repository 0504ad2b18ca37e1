//! Who there is: tenants with their servers, and people in them. All of it is made over the REST API, as an administrator would.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::dice::Dice;
use super::ledger::{Happening, Time};
use super::player::{Ask, By, Person, Player};
use crate::upstream::Faulty;

/// Everybody's password.
pub const PASSWORD: &str = "a pass phrase of the workload";
/// What one tenant may ask for in a minute.
const TIGHT_RPM: u32 = 60;
/// The tool that the rules of one tenant forbid.
pub const FORBIDDEN: &str = "log";
/// The tool that narrow keys are for.
pub const NARROW: &str = "echo";
/// How often it is looked whether another gateway has heard of something.
const LOOK: Duration = Duration::from_millis(50);
/// And how often at most.
const LOOKS: usize = 400;

/// An organisation.
pub struct Tenant {
    /// Its id.
    pub id: String,
    /// What it weighs against others.
    pub weight: f64,
    /// What it may ask for in a minute at most.
    pub base_rpm: Option<u32>,
    /// Whether each of its tools is measured apart.
    pub monitored: bool,
    /// Whether it has rules.
    pub ruled: bool,
    /// What its server is called.
    pub slug: String,
    /// Its server.
    pub server: Faulty,
    /// Its administrator.
    pub head: Person,
    /// The others.
    pub people: Vec<Person>,
    /// Somebody whose key is for one tool.
    pub narrow: Person,
}

/// How tenants differ from each other: the first is watched closely, the second has rules, the last may not do much.
pub async fn tenants(player: &mut Player, dice: &mut Dice, admin: &Person) -> anyhow::Result<Vec<Tenant>> {
    let names = ["acme", "borealis", "cobalt"];
    let mut all = Vec::new();
    for (at, name) in names.into_iter().enumerate() {
        let weight = [0.5, 1.0, 2.0, 4.0][dice.throw(4)];
        let base_rpm = (at == names.len() - 1).then_some(TIGHT_RPM);
        let slug = *dice.of(&["files", "notes"]);
        all.push(
            tenant(player, dice, admin, (name, slug), (weight, base_rpm), (at == 0, at == 1)).await.context(name)?,
        );
    }
    Ok(all)
}

async fn tenant(
    player: &mut Player,
    dice: &mut Dice,
    admin: &Person,
    (id, slug): (&str, &str),
    (weight, base_rpm): (f64, Option<u32>),
    (monitored, ruled): (bool, bool),
) -> anyhow::Result<Tenant> {
    let mut limits = json!({"fairness_weight": weight});
    if let Some(rpm) = base_rpm {
        limits["base_rpm"] = rpm.into();
    }
    let order = json!({"tenant_id": id, "rate_limits": limits, "features": {"enhanced_monitoring": monitored}});
    player.ask(Ask::new(By::Somebody(admin), "POST /admin/tenants").body(order)).await?.expect(201)?;
    let head = json!({"username": "head", "tenant_id": id, "role": "tenant_admin", "password": PASSWORD});
    player.ask(Ask::new(By::Somebody(admin), "POST /users").body(head)).await?.expect(201)?;
    let head = signs_in(player, 0, id, "head").await?;

    let server = Faulty::start().await?;
    let spec = json!({"slug": slug, "replicas": [{"url": server.url()}]});
    let made = player.ask(Ask::new(By::Somebody(&head), "POST /servers").body(spec)).await?.expect(201)?;
    anyhow::ensure!(made["status"]["state"] == "ready", "{made}");
    if ruled {
        let text = format!(
            "permit(principal, action, resource);\n@id(\"forbidden\")\nforbid(principal, action, resource == Tool::\"{slug}/{FORBIDDEN}\");"
        );
        let put =
            Ask::new(By::Somebody(&head), "PUT /admin/policies/{tenant_id}").fill(&[id]).body(json!({"text": text}));
        player.ask(put).await?.expect(200)?;
    }
    let mut people = Vec::new();
    for at in 0..2 + dice.throw(2) {
        let (name, role) = (format!("person{at}"), *dice.of(&["user", "server_owner"]));
        let order = json!({"username": name, "role": role, "password": PASSWORD});
        player.ask(Ask::new(By::Somebody(&head), "POST /users").body(order)).await?.expect(201)?;
        let key = key_of(player, &head, &name, role, Value::Null).await?;
        people.push(player.meet(&key, "api_key", 0).await?);
    }
    let key = key_of(player, &head, "person0", "user", json!([NARROW])).await?;
    let narrow = player.meet(&key, "api_key", 0).await?;
    let (id, slug) = (id.to_owned(), slug.to_owned());
    Ok(Tenant { id, weight, base_rpm, monitored, ruled, slug, server, head, people, narrow })
}

async fn key_of(player: &mut Player, head: &Person, name: &str, role: &str, tools: Value) -> anyhow::Result<String> {
    let mut order = json!({"name": "workload", "username": name, "role": role, "servers": "*"});
    if !tools.is_null() {
        order["tools"] = tools;
    }
    let made = player.ask(Ask::new(By::Somebody(head), "POST /keys").body(order)).await?.expect(201)?;
    Ok(made["key"].as_str().context("a key is a text")?.to_owned())
}

/// Signs in with the password; a key of hours.
pub async fn signs_in(player: &mut Player, gateway: usize, tenant: &str, name: &str) -> anyhow::Result<Person> {
    let login = json!({"username": format!("{tenant}/{name}"), "password": PASSWORD});
    let began = Time::now();
    let made = player.ask_at(gateway, Ask::new(By::Nobody, "POST /login").body(login)).await?.expect(200)?;
    let (tenant, user) = (tenant.to_owned(), made["user_id"].as_str().unwrap_or_default().to_owned());
    let signed_in = Happening::SignIn { tenant, user, method: "local", refused: None };
    player.happened(gateway, Time::since(began), signed_in);
    player.meet(made["key"].as_str().unwrap_or_default(), "password", gateway).await
}

impl Tenant {
    /// Everybody, the administrator last.
    pub fn everybody(&mut self) -> impl Iterator<Item = &mut Person> {
        self.people.iter_mut().chain([&mut self.narrow, &mut self.head])
    }

    /// Waits until this gateway too knows its server and its people.
    pub async fn is_known_at(&self, player: &mut Player, gateway: usize) -> anyhow::Result<()> {
        for person in self.people.iter().chain([&self.narrow, &self.head]) {
            let person = Person { gateway, ..person.clone() };
            let mut known = false;
            for _ in 0..LOOKS {
                let read = Ask::new(By::Somebody(&person), "GET /servers/{slug}").fill(&[&self.slug]);
                let told = player.ask(read).await?;
                if told.status == 401
                    && let Some(deed) = player.ledger.deeds.last_mut()
                {
                    (deed.who, deed.end) = (None, super::ledger::End::Denied("unknown".to_owned()));
                }
                known = told.status == 200 && told.body["status"]["state"] == "ready";
                if known {
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
            anyhow::ensure!(known, "gateway {gateway} never heard of {} in {}", person.who.name, self.id);
        }
        Ok(())
    }
}
