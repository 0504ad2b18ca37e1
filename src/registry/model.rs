//! What a registered server is, as people write it (REST, `gateway.yaml`, the command line) and as the store keeps it.
//! `ServerSpec` is the one definition; it is checked by `check`, on the command line as in the gateway, and says every mistake
//! at once, by field.

mod auth;
mod offers;
mod rate_limits;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

pub use auth::{Auth, AuthKind, ClientAuth, IdentityClaim, SubjectToken};
pub use offers::{MOST_OFFERS, Offers};
pub use rate_limits::RateLimits;

use crate::access::{Caller, Role, Visibility};
use crate::field::FieldError;
use crate::id::{ServerId, Slug, TenantId};
use crate::limit::Rates;
use crate::secret::Secret;

/// How the gateway reaches a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransportKind {
    /// Streamable HTTP, every protocol version since 2025-03-26.
    #[default]
    StreamableHttp,
    /// HTTP+SSE of 2024-11-05 (deprecated there, still met).
    Sse,
    /// A child process, newline-delimited JSON on its standard streams.
    Stdio,
}

/// One place where a server can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replica {
    /// Absolute `http` or `https` URL of the MCP endpoint (for `sse`, of the event stream).
    pub url: String,
    /// Share of the calls under the `weighted` policy, 1 to 1000.
    #[serde(default = "one")]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

/// The program of a stdio server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Program, looked up in `PATH` when it holds no slash.
    pub program: String,
    /// Its arguments, passed as they are (no shell).
    #[serde(default)]
    pub args: Vec<String>,
    /// Working directory; the gateway's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
}

/// Who shares one child process of a stdio server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// One child for everybody.
    #[default]
    Shared,
    /// One child for each user.
    PerUser,
    /// One child for each client session.
    PerSession,
}

/// Which replica gets a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "BalancePolicy")]
pub enum Policy {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// In proportion to weight.
    Weighted,
    /// The one with the fewest calls under way.
    LeastInFlight,
    /// Any.
    Random,
    /// By the caller, stable over restarts.
    ConsistentHash,
}

/// Which protocol to speak to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProtocolPreference {
    /// Probe and remember.
    #[default]
    Auto,
    /// Only versions with an `initialize` handshake (up to 2025-11-25).
    Legacy,
    /// Only stateless versions (2026-07-28).
    Modern,
}

/// How long the gateway waits, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// To connect, TLS included: 10 to 60 000.
    pub connect_ms: u64,
    /// For the next byte of an answer: 100 to 3 600 000. Progress starts it anew.
    pub idle_ms: u64,
    /// For a whole call: 100 to 86 400 000.
    pub total_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_ms: 5_000, idle_ms: 120_000, total_ms: 3_600_000 }
    }
}

/// Most users that one server names.
pub const MOST_USERS: usize = 1_000;

/// A server as somebody describes it. Unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "slug": "files", "title": "Files", "replicas": [{ "url": "https://files.example/mcp" }] }))]
pub struct ServerSpec {
    /// Short name, part of `/mcp/{slug}` and of `slug__tool`.
    pub slug: Slug,
    /// Name for people; the slug when empty.
    #[serde(default)]
    pub title: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// How to reach it.
    #[serde(default)]
    pub transport: TransportKind,
    /// Where to reach it (`streamable_http`, `sse`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<Replica>,
    /// What to start (`stdio`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
    /// Who shares the child process (`stdio`).
    #[serde(default)]
    pub sharing: Sharing,
    /// Headers sent with every request, sealed at rest, masked when read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// How the gateway proves in whose name a call is made.
    #[serde(default, skip_serializing_if = "Auth::is_none")]
    pub auth: Auth,
    /// The same for what the gateway itself asks: catalogue and checks. Where it is none, they go with what calls have in common.
    #[serde(default, skip_serializing_if = "Auth::is_none")]
    pub discovery_auth: Auth,
    /// The child's environment, sealed at rest, masked when read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Secret>,
    /// Free words to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Who may see and call it.
    #[serde(default)]
    pub visibility: Visibility,
    /// To which other tenants it is offered; of the gateway's own tenant only.
    #[serde(default, skip_serializing_if = "Offers::is_empty")]
    pub offered_to: Offers,
    /// How long to wait.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How much it takes, of all who call it.
    #[serde(default, skip_serializing_if = "RateLimits::is_empty")]
    pub rate_limits: RateLimits,
    /// Which protocol to speak.
    #[serde(default)]
    pub protocol: ProtocolPreference,
    /// Which replica gets a call.
    #[serde(default)]
    pub balance: Policy,
    /// Whether calls are let through.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

/// A server as the store keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Its id.
    pub id: ServerId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What it is.
    pub spec: ServerSpec,
    /// Counts changes of the row, from 1; the `ETag`.
    pub revision: i64,
    /// When it was registered.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
}

impl Server {
    /// Whether another tenant's people may see and call it as far as it is visible to them: it is one of the gateway's own tenant, and
    /// offered to theirs.
    pub fn is_offered_to(&self, tenant: &TenantId) -> bool {
        self.tenant.is_default() && self.tenant != *tenant && self.spec.offered_to.includes(tenant)
    }

    /// What it takes, for the limiter; `None` where nothing is limited.
    pub fn rates(&self) -> Option<Rates> {
        self.spec.rate_limits.rates(self.id)
    }

    /// Whether the caller may see and call it. Allocates nothing.
    pub fn may_be_used_by(&self, caller: &Caller) -> bool {
        let (slug, visibility) = (self.spec.slug.as_str(), &self.spec.visibility);
        caller.may_use_server(&self.tenant, slug, visibility)
            || (self.is_offered_to(caller.tenant()) && caller.may_use_offered(slug, visibility))
    }
}

impl ServerSpec {
    /// Every mistake at once; empty when the description can be registered.
    pub fn check(&self) -> Vec<FieldError> {
        let mut found = Vec::new();
        let mut say = |field: String, message: &str| found.push(FieldError::new(field, message));
        if self.transport == TransportKind::Stdio {
            match &self.command {
                None => say("command".into(), "a stdio server needs `command` with a `program`"),
                Some(command) if command.program.trim().is_empty() => {
                    say("command.program".into(), "name the program to start");
                }
                Some(command) => {
                    if command.program.contains('\0') || command.args.iter().any(|arg| arg.contains('\0')) {
                        say("command".into(), "a program and its arguments cannot hold a NUL character");
                    }
                }
            }
            if !self.replicas.is_empty() {
                say("replicas".into(), "a stdio server has no replicas; remove them or choose another transport");
            }
            if !self.headers.is_empty() {
                say("headers".into(), "a stdio server has no headers; use `env`");
            }
            if self.balance != Policy::default() {
                say("balance".into(), "a stdio server has no replicas to share calls among; leave it out");
            }
            for (name, value) in &self.env {
                if name.is_empty() || name.contains(['=', '\0']) || name.contains(char::is_whitespace) {
                    say(format!("env.{name}"), "not a valid name for an environment variable");
                } else if value.expose().contains('\0') {
                    say(format!("env.{name}"), "the value holds a NUL character");
                }
            }
        } else {
            if self.command.is_some() {
                say("command".into(), "only a stdio server has a command; set `transport: stdio`");
            }
            if !self.env.is_empty() {
                say("env".into(), "only a stdio server has an environment; use `headers`");
            }
            if self.sharing != Sharing::default() {
                say("sharing".into(), "only a stdio server has a program to share; leave it out");
            }
            if self.replicas.is_empty() {
                say("replicas".into(), "give at least one replica with a `url`");
            }
            if self.replicas.len() > 64 {
                say("replicas".into(), "at most 64 replicas");
            }
            for (index, replica) in self.replicas.iter().enumerate() {
                if let Err(message) = check_url(&replica.url) {
                    say(format!("replicas[{index}].url"), &message);
                }
                if let Some(other) = self.replicas[..index].iter().position(|other| other.url == replica.url) {
                    let message = format!("the same URL as `replicas[{other}]`; give it once, with a greater `weight`");
                    say(format!("replicas[{index}].url"), &message);
                }
                if !(1..=1000).contains(&replica.weight) {
                    say(format!("replicas[{index}].weight"), "a weight is 1 to 1000");
                }
            }
        }
        if self.transport != TransportKind::Stdio {
            found.extend(auth::check_headers("headers", &self.headers));
        }
        let mut say = |field: String, message: &str| found.push(FieldError::new(field, message));
        let t = &self.timeouts;
        for (name, value, low, high) in [
            ("connect_ms", t.connect_ms, 10, 60_000),
            ("idle_ms", t.idle_ms, 100, 3_600_000),
            ("total_ms", t.total_ms, 100, 86_400_000),
        ] {
            if !(low..=high).contains(&value) {
                say(format!("timeouts.{name}"), &format!("must be {low} to {high} milliseconds"));
            }
        }
        found.extend(self.check_auth());
        found.extend(self.rate_limits.check("rate_limits"));
        let mut say = |field: String, message: &str| found.push(FieldError::new(field, message));
        for (field, length, most) in [
            ("title", self.title.len(), 200),
            ("description", self.description.len(), 4_000),
            ("tags", self.tags.iter().map(|tag| tag.len() + 1).sum(), 2_000),
        ] {
            if length > most {
                say(field.into(), &format!("at most {most} bytes"));
            }
        }
        if self.visibility.users.len() > MOST_USERS {
            say(
                "visibility.users".into(),
                &format!("at most {MOST_USERS} users; a role stands for everybody who has it"),
            );
        }
        if self.offered_to.named().is_some_and(|named| named.len() > MOST_OFFERS) {
            say("offered_to".into(), &format!("at most {MOST_OFFERS} tenants; \"*\" stands for every one"));
        }
        let known = Role::ALL.map(Role::as_str).join(", ");
        if self.visibility.roles.len() > Role::ALL.len() {
            say("visibility.roles".into(), &format!("there are no more roles than {known}; name each once"));
        }
        for (index, role) in self.visibility.roles.iter().enumerate().take(Role::ALL.len()) {
            if Role::parse(role).is_none() {
                say(format!("visibility.roles[{index}]"), &format!("there is no such role; use {known}"));
            }
        }
        let (auth, discovery_auth) = (self.auth.bare(), self.discovery_auth.bare());
        let open = Self { headers: BTreeMap::new(), env: BTreeMap::new(), auth, discovery_auth, ..self.clone() };
        for (field, value) in serde_json::to_value(open).ok().as_ref().and_then(Value::as_object).into_iter().flatten()
        {
            if holds_nul(value) && !found.iter().any(|mistake| mistake.field.starts_with(field.as_str())) {
                // PostgreSQL keeps none in JSON.
                found.push(FieldError::new(field.clone(), "holds a NUL character"));
            }
        }
        found
    }
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(members) => members.values().any(holds_nul),
        _ => false,
    }
}

fn check_url(text: &str) -> Result<(), String> {
    let url = url::Url::parse(text).map_err(|error| format!("not an absolute URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("only http and https URLs can be called".into());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("the URL names no host".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("put credentials into `headers`, where they are sealed, not into the URL".into());
    }
    if url.fragment().is_some() {
        return Err("the URL of an endpoint has no fragment".into());
    }
    // What reads it for a call repairs nothing, as the reader above does with spaces and line breaks.
    if text.parse::<http::Uri>().is_err() {
        return Err("holds a character that no URL may hold; write a space as %20, and leave line breaks out".into());
    }
    Ok(())
}

/// Headers that the transport itself owns (RFC 9110 hop-by-hop, and those MCP gives a meaning).
fn is_reserved_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("mcp-")
        || matches!(
            name.as_str(),
            "host"
                | "connection"
                | "content-length"
                | "content-type"
                | "transfer-encoding"
                | "accept"
                | "te"
                | "upgrade"
                | "trailer"
                | "keep-alive"
                | "last-event-id"
                | "expect"
        )
}
