//! What a test says to a stand-in, and hears from it.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use serde_json::{Value, json};

use super::tools;
use crate::jsonrpc::{LEGACY, MODERN};

/// Which protocol versions a stand-in speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Eras {
    /// Only this version, with a handshake.
    Legacy(String),
    /// Only the stateless era.
    Modern,
    /// All of them.
    Dual,
}

impl Eras {
    /// Whether requests of the stateless era are served.
    pub fn modern(&self) -> bool {
        !matches!(self, Self::Legacy(_))
    }

    /// Whether the handshake is served.
    pub fn legacy(&self) -> bool {
        !matches!(self, Self::Modern)
    }

    /// Every version spoken, newest first.
    pub fn versions(&self) -> Vec<String> {
        match self {
            Self::Legacy(version) => vec![version.clone()],
            Self::Modern => vec![MODERN.to_owned()],
            Self::Dual => std::iter::once(MODERN).chain(LEGACY).map(str::to_owned).collect(),
        }
    }
}

/// What a scripted tool is called with.
#[derive(Clone, Debug)]
pub struct Call {
    /// The parameters of `tools/call`.
    pub params: Value,
    /// The headers of the request that carried it.
    pub headers: HeaderMap,
    /// Whether it came in the stateless era.
    pub modern: bool,
    /// The legacy session it came in.
    pub session: Option<String>,
}

/// What a scripted tool answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A result: this JSON text goes out byte for byte.
    Result(String),
    /// A JSON-RPC error.
    Error(i64, String, Option<Value>),
    /// Nothing, ever.
    Nothing,
}

impl Answer {
    /// A result that is one text.
    pub fn text(text: &str) -> Self {
        Self::Result(json!({ "content": [{ "type": "text", "text": text }] }).to_string())
    }
}

pub(crate) type Script = Arc<dyn Fn(&Call) -> Answer + Send + Sync>;

/// How a call was given up by the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// With `notifications/cancelled`.
    Notification,
    /// By closing the connection that the answer was expected on.
    Disconnect,
}

/// A call that the client gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancelled {
    /// The id of the request, as it was written.
    pub id: String,
    /// The tool, where a running call was hit.
    pub tool: Option<String>,
    /// How the client said so.
    pub how: How,
}

/// What can be changed while the server runs. Change notifications are separate.
#[derive(Clone)]
pub struct Settings {
    /// The tools, as `tools/list` shows them. A call is answered by a tool of the same name, shown or not.
    pub tools: Vec<Value>,
    /// The prompts, as `prompts/list` shows them.
    pub prompts: Vec<Value>,
    /// The resources, as `resources/list` shows them.
    pub resources: Vec<Value>,
    /// The templates, as `resources/templates/list` shows them.
    pub templates: Vec<Value>,
    /// How many items a page of a list has; `None` for all.
    pub page: Option<usize>,
    /// The name of the server.
    pub name: String,
    /// What the server says it can do.
    pub capabilities: Value,
    /// What the server tells of itself.
    pub instructions: Option<String>,
    /// How long a list may be taken for fresh, in milliseconds; said in the stateless era only.
    pub ttl_ms: u64,
    /// How long every request waits before it is looked at.
    pub delay: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tools: tools::definitions(),
            prompts: vec![json!({
                "name": "greet", "description": "Says hello",
                "arguments": [{ "name": "who", "description": "Whom to greet", "required": true }],
            })],
            resources: vec![json!({
                "uri": "stand-in://note", "name": "note", "description": "A note", "mimeType": "text/plain",
            })],
            templates: vec![json!({
                "uriTemplate": "stand-in://notes/{id}", "name": "notes", "description": "Any note",
            })],
            page: None,
            name: "stand-in".to_owned(),
            capabilities: json!({
                "tools": { "listChanged": true },
                "prompts": { "listChanged": true },
                "resources": { "listChanged": true, "subscribe": true },
                "completions": {},
                "logging": {},
            }),
            instructions: None,
            ttl_ms: 0,
            delay: Duration::ZERO,
        }
    }
}

/// In which form a request is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyForm {
    /// One JSON object where nothing precedes the answer, else events.
    #[default]
    Auto,
    /// Always one JSON object; what would precede the answer is lost.
    Json,
    /// Always events.
    Sse,
}
