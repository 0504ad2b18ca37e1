//! `tenants`: organisations that share the gateway, and the directories of Entra whose people are theirs.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::Verdict;
use super::failure::{Failure, unknown};
use super::gateway::Gateway;
use super::screen::{Screen, Table, Tone, clean, text_at};

/// Manage tenants: organisations that share the gateway
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mcp-gateway tenants list\n  mcp-gateway tenants add acme --name 'Acme Ltd' --directory 11111111-1111-4111-8111-111111111111"
)]
pub struct Tenants {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, read from the command line")]
enum Action {
    /// Add a tenant
    #[command(
        after_help = "With the first directory that any tenant names, people of directories that none names are refused; those whose \
                      people have accounts already stay with their tenant.\n\nExamples:\n  mcp-gateway tenants add acme\n  \
                      mcp-gateway tenants add acme --name 'Acme Ltd' --directory 11111111-1111-4111-8111-111111111111"
    )]
    Add {
        /// Short name: lower-case letters, digits and hyphens
        id: String,
        /// Name for people [default: the short one]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Directory of Entra whose people are the tenant's; may be given several times
        #[arg(long = "directory", value_name = "GUID", value_parser = directory)]
        directories: Vec<String>,
        /// Refuse guests of these directories, who are at home in another
        #[arg(long)]
        no_guests: bool,
        #[command(flatten)]
        limits: LimitFlags,
        #[command(flatten)]
        features: FeatureFlags,
        /// App role or group id of these directories, and the role that it gives; takes the place of the settings' rules; several times
        #[arg(long = "role-mapping", value_name = "VALUE=ROLE", value_parser = mapping)]
        mappings: Vec<Value>,
        #[command(flatten)]
        retention: RetentionFlags,
    },
    /// List the tenants
    #[command(after_help = "Examples:\n  mcp-gateway tenants list\n  mcp-gateway tenants list --json")]
    List,
    /// Show a tenant
    #[command(after_help = "Examples:\n  mcp-gateway tenants show acme")]
    Show {
        /// Which tenant
        id: String,
    },
    /// Change a tenant; --resume lets a suspended one in again
    #[command(after_help = "Examples:\n  mcp-gateway tenants edit acme --name 'Acme plc'\n  \
                      mcp-gateway tenants edit acme --directory 11111111-1111-4111-8111-111111111111\n  \
                      mcp-gateway tenants edit acme --no-directories\n  mcp-gateway tenants edit acme --no-guests\n  \
                      mcp-gateway tenants edit acme --resume")]
    Edit {
        /// Which tenant
        id: String,
        /// New name for people
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Directory of Entra whose people are the tenant's; those given take the place of all before
        #[arg(long = "directory", value_name = "GUID", value_parser = directory)]
        directories: Vec<String>,
        /// Take every directory away
        #[arg(long, conflicts_with = "directories")]
        no_directories: bool,
        /// Let guests of its directories in, who are at home in another
        #[arg(long)]
        guests: bool,
        /// Refuse them
        #[arg(long, conflicts_with = "guests")]
        no_guests: bool,
        /// Let the people, keys, tokens and clients of a suspended tenant in again
        #[arg(long)]
        resume: bool,
        #[command(flatten)]
        features: FeatureFlags,
        /// App role or group id of its directories, and the role that it gives; those given take the place of all before
        #[arg(long = "role-mapping", value_name = "VALUE=ROLE", value_parser = mapping)]
        mappings: Vec<Value>,
        /// Take every role mapping away: the rules of the settings hold
        #[arg(long, conflicts_with = "mappings")]
        no_role_mappings: bool,
        #[command(flatten)]
        retention: RetentionFlags,
    },
    /// Show how much a tenant may call, as it is in force; with options change it
    #[command(after_help = "Examples:\n  mcp-gateway tenants limits acme\n  \
                      mcp-gateway tenants limits acme --weight 2 --base-rpm 6000\n  \
                      mcp-gateway tenants limits acme --base-rpm none")]
    Limits {
        /// Which tenant
        id: String,
        #[command(flatten)]
        limits: LimitFlags,
    },
    /// Suspend a tenant, so that nobody of it comes in; with --purge remove it for good
    #[command(
        after_help = "Examples:\n  mcp-gateway tenants remove acme\n  mcp-gateway tenants remove acme --purge --confirm acme"
    )]
    Remove {
        /// Which tenant
        id: String,
        /// Remove it with all its accounts, keys, servers and clients; this cannot be undone
        #[arg(long)]
        purge: bool,
        /// The tenant once more, for --purge
        #[arg(long, value_name = "TENANT", requires = "purge")]
        confirm: Option<String>,
    },
}

/// How much a tenant may call; the gateway checks the ranges.
#[derive(Debug, Args)]
struct LimitFlags {
    /// Most requests a minute, 1 to 10000000, or `none` for no cap of its own
    #[arg(long, value_name = "COUNT", value_parser = number_or_none)]
    base_rpm: Option<Value>,
    /// Weight when tenants share, 0.01 to 1000
    #[arg(long, value_name = "WEIGHT", value_parser = number)]
    weight: Option<Value>,
    /// How many times its share it may call while others leave theirs, 1 to 10, or `none` for that of the settings
    #[arg(long, value_name = "FACTOR", value_parser = number_or_none)]
    burst: Option<Value>,
    /// Most requests under way at once, 1 to 100000, or `none` for no cap of its own
    #[arg(long, value_name = "COUNT", value_parser = number_or_none)]
    max_concurrent: Option<Value>,
}

impl LimitFlags {
    /// As the gateway reads it; empty when nothing is given.
    fn body(self) -> Map<String, Value> {
        given([
            ("base_rpm", self.base_rpm),
            ("fairness_weight", self.weight),
            ("burst_factor", self.burst),
            ("max_concurrent_requests", self.max_concurrent),
        ])
    }
}

/// What is done for a tenant beyond the rest.
#[derive(Debug, Args)]
struct FeatureFlags {
    /// Measure each of its tools apart
    #[arg(long, value_name = "BOOL")]
    enhanced_monitoring: Option<bool>,
    /// Let its requests that wait go before others of the same share
    #[arg(long, value_name = "BOOL")]
    priority_support: Option<bool>,
    /// Show in its audit trail what tools are called with, without what looks like a secret
    #[arg(long, value_name = "BOOL")]
    recorded_arguments: Option<bool>,
}

impl FeatureFlags {
    fn body(self) -> Map<String, Value> {
        given([
            ("enhanced_monitoring", self.enhanced_monitoring.map(Value::from)),
            ("priority_support", self.priority_support.map(Value::from)),
            ("recorded_arguments", self.recorded_arguments.map(Value::from)),
        ])
    }
}

/// For how long what is recorded of a tenant is kept; the gateway checks the ranges.
#[derive(Debug, Args)]
struct RetentionFlags {
    /// Days for which its audit trail is kept, 30 to 3650
    #[arg(long, value_name = "DAYS", value_parser = number)]
    audit_days: Option<Value>,
    /// Days for which its analytics are kept, 1 to 1096
    #[arg(long, value_name = "DAYS", value_parser = number)]
    analytics_days: Option<Value>,
}

impl RetentionFlags {
    fn body(self) -> Map<String, Value> {
        given([("audit_days", self.audit_days), ("analytics_days", self.analytics_days)])
    }
}

fn given<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// Says in `body` what is given.
fn say(body: &mut Value, name: &str, given: Map<String, Value>) {
    if !given.is_empty() {
        body[name] = given.into();
    }
}

fn number(text: &str) -> Result<Value, &'static str> {
    text.trim().parse::<serde_json::Number>().map(Value::from).map_err(|_| "give a number")
}

fn number_or_none(text: &str) -> Result<Value, &'static str> {
    if text.trim() == "none" { Ok(Value::Null) } else { number(text).map_err(|_| "give a number, or `none`") }
}

fn mapping(text: &str) -> Result<Value, &'static str> {
    let parts = text.rsplit_once('=').filter(|(value, role)| !value.is_empty() && !role.is_empty());
    let (value, role) = parts.ok_or("give an app role or group id and what it gives, such as Mcp.Ops=server_owner")?;
    Ok(json!({ "value": value, "role": role }))
}

fn directory(text: &str) -> Result<String, &'static str> {
    let id = uuid::Uuid::try_parse(text.trim()).ok().filter(|_| text.trim().len() == 36);
    id.map(|id| id.to_string()).ok_or("give a directory's id, a GUID such as 11111111-1111-4111-8111-111111111111")
}

/// What directories that nobody named want, for people.
fn not_named(tenants: &[Value]) {
    if tenants.iter().any(|tenant| tenant["assumed_entra_tenant_ids"].as_array().is_some_and(|ids| !ids.is_empty())) {
        super::screen::note(
            "directories that are marked as not named were written down for people who had accounts; they give no role above \
             `user` until you name them: `mcp-gateway tenants edit` with --directory for each that the tenant is to have",
        );
    }
}

/// What follows from naming directories, for people.
fn follows(view: &Value) {
    if view["entra_tenant_ids"].as_array().is_some_and(|ids| !ids.is_empty()) {
        super::screen::note(
            "people of directories that no tenant names are refused now; `mcp-gateway tenants list` shows those that are named",
        );
    }
}

const PATH: [&str; 2] = ["admin", "tenants"];
/// How it is called, and how to list those there are.
const WHAT: (&str, &str) = ("tenant", "tenants list");

/// Carries out `tenants …`.
pub async fn run(tenants: Tenants, gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    match tenants.action {
        Action::Add { id, name, directories, no_guests, limits, features, mappings, retention } => {
            let mut body = json!({ "tenant_id": id, "entra_tenant_ids": directories, "guests": !no_guests });
            if let Some(name) = name {
                body["display_name"] = name.into();
            }
            say(&mut body, "rate_limits", limits.body());
            say(&mut body, "features", features.body());
            say(&mut body, "retention", retention.body());
            if !mappings.is_empty() {
                body["role_mappings"] = mappings.into();
            }
            let view = gateway.post(&PATH, &body).await?;
            screen.show(&view, || format!("added {}\n{}", clean(&id), lines(&view)))?;
            follows(&view);
        }
        Action::List => {
            let items = gateway.all(&PATH).await?;
            screen.show(&json!({ "items": items }), || table(&items))?;
            not_named(&items);
        }
        Action::Show { id } => {
            let view = call(gateway, Method::GET, PATH[1], &id, None).await?;
            screen.show(&view, || lines(&view))?;
            not_named(&[view]);
        }
        Action::Edit {
            id,
            name,
            directories,
            no_directories,
            guests,
            no_guests,
            resume,
            features,
            mappings,
            no_role_mappings,
            retention,
        } => {
            let mut body = json!({});
            if let Some(name) = name {
                body["display_name"] = name.into();
            }
            if no_directories || !directories.is_empty() {
                body["entra_tenant_ids"] = directories.into();
            }
            if guests || no_guests {
                body["guests"] = guests.into();
            }
            if resume {
                body["state"] = "active".into();
            }
            say(&mut body, "features", features.body());
            say(&mut body, "retention", retention.body());
            if no_role_mappings || !mappings.is_empty() {
                body["role_mappings"] = mappings.into();
            }
            if body == json!({}) {
                let text = "nothing is to change: give one of the options that `mcp-gateway tenants edit --help` shows";
                return Err(Failure::usage(text).into());
            }
            let view = call(gateway, Method::PATCH, PATH[1], &id, Some(&body)).await?;
            screen.show(&view, || format!("changed {}\n{}", clean(&id), lines(&view)))?;
            follows(&view);
        }
        Action::Limits { id, limits } => {
            let body = Value::from(limits.body());
            let (method, body) = if body == json!({}) { (Method::GET, None) } else { (Method::POST, Some(&body)) };
            let view = call(gateway, method, "tenant-limits", &id, body).await?;
            screen.show(&view, || {
                format!("{}in force from: {}\n", limit_lines(&view["limits"]), text_at(&view, "/in_force_from"))
            })?;
        }
        Action::Remove { id, purge, confirm } => remove(gateway, &id, purge, confirm, screen).await?,
    }
    Ok(Verdict::Fine)
}

async fn remove(
    gateway: &Gateway,
    id: &str,
    purge: bool,
    confirm: Option<String>,
    screen: Screen,
) -> anyhow::Result<()> {
    let mut query = Vec::new();
    if purge {
        query.push(("purge", "true".to_owned()));
    }
    query.extend(confirm.map(|confirm| ("confirm", confirm)));
    let gone = gateway.delete_with(&[PATH[0], PATH[1], id], &query).await;
    gone.map_err(|error| match Failure::of(error) {
        failure if failure.code.as_deref() == Some("NOT_CONFIRMED") => {
            failure.advise(format!("if that is meant: mcp-gateway tenants remove {id} --purge --confirm {id}")).into()
        }
        failure => unknown(failure.into(), WHAT, id),
    })?;
    let deed = if purge { "removed" } else { "suspended" };
    screen.show(&json!({ deed: id }), || {
        let id = clean(id);
        let hint = format!("; `mcp-gateway tenants edit {id} --resume` lets it in again");
        format!("{deed} {id}{}\n", if purge { "" } else { &hint })
    })?;
    Ok(())
}

async fn call(gateway: &Gateway, method: Method, list: &str, id: &str, body: Option<&Value>) -> anyhow::Result<Value> {
    let body = body.map(serde_json::to_vec).transpose()?;
    let answer = gateway.api(method, &[PATH[0], list, id], body, None).await;
    Ok(answer.map_err(|error| unknown(error, WHAT, id))?.value)
}

fn directories(tenant: &Value) -> String {
    let ids = |name: &str| tenant[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let assumed = ids("assumed_entra_tenant_ids");
    let shown =
        |id: &Value| Some(format!("{}{}", id.as_str()?, if assumed.contains(id) { " (not named)" } else { "" }));
    ids("entra_tenant_ids").iter().filter_map(shown).collect::<Vec<_>>().join(", ")
}

fn table(items: &[Value]) -> String {
    let mut table = Table::new(&["TENANT", "NAME", "STATE", "DIRECTORIES"]);
    for tenant in items {
        table.row([
            (text_at(tenant, "/tenant_id"), Tone::Plain),
            (text_at(tenant, "/display_name"), Tone::Plain),
            (text_at(tenant, "/state"), tone(tenant)),
            (directories(tenant), Tone::Dim),
        ]);
    }
    table.render("no tenants")
}

fn tone(tenant: &Value) -> Tone {
    if tenant["state"] == "active" { Tone::Good } else { Tone::Bad }
}

fn lines(tenant: &Value) -> String {
    let directories = match directories(tenant) {
        none if none.is_empty() => "none".to_owned(),
        some => some,
    };
    let guests = if tenant["guests"] == false { "refused" } else { "let in" };
    let yes = |name: &str| if tenant["features"][name] == true { "yes" } else { "no" };
    format!(
        "name: {}\nstate: {}\ndirectories: {directories}\nguests: {guests}\nroles: {}\n{}enhanced monitoring: {}\npriority support: {}\n\
         recorded arguments: {}\naudit trail kept: {} days\nanalytics kept: {} days\ncreated: {}\n",
        text_at(tenant, "/display_name"),
        text_at(tenant, "/state"),
        role_line(tenant),
        limit_lines(&tenant["rate_limits"]),
        yes("enhanced_monitoring"),
        yes("priority_support"),
        yes("recorded_arguments"),
        tenant["retention"]["audit_days"],
        tenant["retention"]["analytics_days"],
        text_at(tenant, "/created_at")
    )
}

fn role_line(tenant: &Value) -> String {
    let mappings = tenant["role_mappings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let shown = |mapping: &Value| format!("{}={}", text_at(mapping, "/value"), text_at(mapping, "/role"));
    match mappings.iter().map(shown).collect::<Vec<_>>() {
        none if none.is_empty() => "by the rules of the settings".to_owned(),
        some => some.join(", "),
    }
}

fn limit_lines(limits: &Value) -> String {
    let or = |name: &str, absent: &str| match &limits[name] {
        Value::Null => absent.to_owned(),
        number => number.to_string(),
    };
    format!(
        "requests a minute: {}\nweight: {}\nburst factor: {}\nrequests at once: {}\n",
        or("base_rpm", "no cap of its own"),
        limits["fairness_weight"],
        or("burst_factor", "that of the settings"),
        or("max_concurrent_requests", "no cap of its own")
    )
}
