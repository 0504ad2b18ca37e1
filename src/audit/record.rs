//! One record: what happened, when, where, from where, how it came out and who it was (NIST SP 800-53, AU-3). Never a payload, never
//! a secret.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// The chain of what administrators of the gateway do that concerns no single tenant. No tenant has such a name.
pub const PLATFORM: &str = "@platform";

/// Through which side of the gateway something was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Surface {
    /// Messages of MCP.
    Mcp,
    /// The authorization server.
    Oauth,
    /// The REST API.
    Admin,
    /// The command line, where it works without the API.
    Cli,
    /// The gateway by itself: a refresh, a ban, the end of a session.
    Background,
}

/// One operation as the trail keeps it. What is unknown or does not apply is left out of its text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Names the record: a UUID of version 7 (RFC 9562), made when it is written.
    pub id: Uuid,
    /// When it began, microseconds since 1970.
    pub at: i64,
    /// The process that did it.
    pub instance: Uuid,
    /// The side of the gateway.
    pub surface: Surface,
    /// What was done: of MCP the method; of REST and OAuth verb and route; of the gateway by itself one of `auth.login`,
    /// `token.refresh`, `session.end`, `ban.begin`, `ban.end` or another word of that form.
    pub action: Cow<'static, str>,
    /// Through which door: `/mcp`, `/mcp/{server}`, a route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Cow<'static, str>>,
    /// In whose trail it stands, where that is not the tenant's of who did it: of the tenant that an administrator of the gateway acted on,
    /// or `@platform`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Arc<str>>,
    /// Whose tenant; none of what concerns none, or of a request that was not let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Arc<str>>,
    /// The account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Uuid>,
    /// What it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<Arc<str>>,
    /// Who says so, and what that one calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Arc<str>>,
    /// See `issuer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Arc<str>>,
    /// The role in which it acted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Cow<'static, str>>,
    /// How it came: `api_key`, `oauth`, `service`, `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_type: Option<Cow<'static, str>>,
    /// The key, or the grant of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Uuid>,
    /// The OAuth client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Arc<str>>,
    /// The MCP session, by a tag that cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Cow<'static, str>>,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The server it went to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Arc<str>>,
    /// Its replica, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<u16>,
    /// How many replicas were tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u16>,
    /// The tool, prompt or resource; of REST the path; of what the gateway did by itself, what it did it to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// SHA-256 of the arguments as they were sent, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments_digest: Option<Cow<'static, str>>,
    /// The arguments of a tool or prompt, where the tenant has them recorded: without what looks like a secret, texts and the whole bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
    /// How it came out: `success`, `tool_error`, `error`, `denied`, `rate_limited`.
    pub outcome: Cow<'static, str>,
    /// The kind of error, the word of the refusal, why a session ended, which kind of refresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// Whose error: `client`, `gateway`, `upstream`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whose: Option<Cow<'static, str>>,
    /// The access rule that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    /// One sentence of the gateway's own, or the code of a problem; never what a server or a caller wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Cow<'static, str>>,
    /// Bytes from the client.
    #[serde(default)]
    pub request_bytes: u64,
    /// Bytes to the client.
    #[serde(default)]
    pub response_bytes: u64,
    /// How long it took, microseconds; of a session, how long it lasted.
    #[serde(default)]
    pub total_us: u64,
    /// Of that, waiting on the upstream, microseconds.
    #[serde(default)]
    pub upstream_us: u64,
    /// Names the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Cow<'static, str>>,
    /// The trace it belongs to, 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Cow<'static, str>>,
    /// Version of MCP spoken with the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_version: Option<Cow<'static, str>>,
    /// Version of MCP spoken with the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_version: Option<Cow<'static, str>>,
    /// For how many of its kind it stands, where that is more than one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u64,
}

impl Record {
    /// The chain that it belongs to: of a tenant, [`PLATFORM`], or of none.
    pub fn belongs_to(&self) -> &str {
        self.chain.as_deref().or(self.tenant.as_deref()).unwrap_or_default()
    }

    /// Reads the text of one. What goes into columns and counts has no control character: PostgreSQL takes no NUL, and the rest is of no
    /// use there. The text itself stays as it is.
    pub fn read(text: &str) -> serde_json::Result<Self> {
        let mut record: Self = serde_json::from_str(text)?;
        for field in [&mut record.action, &mut record.outcome] {
            clean(field);
        }
        for field in [&mut record.role, &mut record.session_type, &mut record.reason, &mut record.request_id] {
            field.iter_mut().for_each(clean);
        }
        let shared = [
            &mut record.chain,
            &mut record.tenant,
            &mut record.username,
            &mut record.client,
            &mut record.server,
            &mut record.name,
        ];
        for field in shared.into_iter().flatten().filter(|field| field.contains(char::is_control)) {
            *field = field.replace(char::is_control, "\u{fffd}").into();
        }
        Ok(record)
    }
}

fn clean(field: &mut Cow<'static, str>) {
    if field.contains(char::is_control) {
        *field = Cow::Owned(field.replace(char::is_control, "\u{fffd}"));
    }
}

fn one() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_one(count: &u64) -> bool {
    *count == 1
}
