//! Where what happened is kept. Who keeps it stands above this room, and says here how it wants to be told.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Operation, RequestId, SessionTag};

/// Keeps what happened. Told on the thread that serves a request, before its answer goes out: it returns when what it was told would
/// outlive the process.
pub trait Sink: Send + Sync {
    /// An operation is over.
    fn operation(&self, operation: &Operation);

    /// Something happened that is no request, or more than one.
    fn event(&self, event: Event);
}

/// What happened beside requests, or more of one than its record says: a sign-in, tokens that were given, a ban, the end of a session.
#[derive(Debug, Clone)]
pub struct Event {
    /// A word of the form `auth.login`.
    pub action: &'static str,
    /// Whose tenant, if that is known.
    pub tenant: Option<Arc<str>>,
    /// The account.
    pub user: Option<Uuid>,
    /// What it is called.
    pub username: Option<Arc<str>>,
    /// How it came: `api_key`, `oauth`, `service`, `password`.
    pub session_type: Option<Cow<'static, str>>,
    /// The key, or the grant.
    pub credential: Option<Uuid>,
    /// The OAuth client.
    pub client: Option<Arc<str>>,
    /// The MCP session.
    pub session: Option<SessionTag>,
    /// Where it came from.
    pub address: Option<IpAddr>,
    /// The server that it was of.
    pub server: Option<Arc<str>>,
    /// What it was done to.
    pub name: Option<Arc<str>>,
    /// Whether it went well.
    pub good: bool,
    /// Whether a command did it that works without the API.
    pub commanded: bool,
    /// One stable word.
    pub reason: Option<Cow<'static, str>>,
    /// One sentence, without secrets.
    pub detail: Option<Cow<'static, str>>,
    /// The request in which it happened.
    pub request_id: Option<RequestId>,
    /// How long what is over has lasted.
    pub lasted: Duration,
    /// Bytes to the client, of what is over.
    pub response_bytes: u64,
    /// For how many of its kind it stands.
    pub count: u64,
}

impl Event {
    /// One of which nothing else is known. What begins with `auth` and does not go well was refused; all else failed.
    pub fn new(action: &'static str, good: bool) -> Self {
        Self {
            action,
            tenant: None,
            user: None,
            username: None,
            session_type: None,
            credential: None,
            client: None,
            session: None,
            address: None,
            server: None,
            name: None,
            good,
            commanded: false,
            reason: None,
            detail: None,
            request_id: None,
            lasted: Duration::ZERO,
            response_bytes: 0,
            count: 1,
        }
    }
}
