//! ENGINE: access rules, one set for each tenant: who may see and call which server, tool, resource and prompt. A set is Cedar text,
//! read once into [`Rules`]; [`decide()`] is the one decision for lists and for calls. What nothing permits is denied, a `forbid`
//! wins, and a set that cannot be read denies everything.
//!
//! Visibility of servers and scopes of keys narrow besides; nothing here widens them. What the text may speak of is said in
//! `schema.cedarschema`.

pub mod arguments;
pub mod aside;
mod cache;
mod compile;
mod decide;
pub mod kept;
pub mod observed;
mod patterns;
mod plain;
mod text;
mod words;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

pub use compile::Rules;
pub use decide::{Decided, Given, Standing, Verdict, Why, decide, decide_shorter};
pub use text::Mistake;

use crate::id::ServerId;
use crate::json;

/// The set that a tenant has for which nobody wrote one.
pub const DEFAULT: &str = include_str!("default.cedar");
/// What rules may speak of, as Cedar writes it.
pub const SCHEMA: &str = include_str!("schema.cedarschema");
/// Most bytes of a set.
pub const MOST_TEXT: usize = 256 * 1024;
/// Most rules of a set.
pub const MOST_RULES: usize = 1_000;

/// Longest name or URI that is judged, bytes; rules may compare it with patterns.
pub const LONGEST_NAME: usize = 2_048;

/// A rule by the name that people gave it (`@id`), or else its place: `rule 3`.
pub type RuleName = Arc<str>;

/// What a tool says of itself (MCP 2025-11-25, schema, `ToolAnnotations`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hints {
    /// It changes nothing.
    pub read_only_hint: bool,
    /// It may destroy something.
    pub destructive_hint: bool,
    /// Calling it once more with the same arguments changes nothing more.
    pub idempotent_hint: bool,
    /// It reaches out to a world that the server does not know whole.
    pub open_world_hint: bool,
}

impl Default for Hints {
    /// Of a tool that says nothing (the specification's defaults).
    fn default() -> Self {
        Self { read_only_hint: false, destructive_hint: true, idempotent_hint: false, open_world_hint: true }
    }
}

impl Hints {
    /// Of a tool as its server describes it. One that only reads destroys nothing unless it says so.
    pub fn of(tool: &[u8]) -> Self {
        let hints = json::get(tool, "annotations").unwrap_or_default();
        let said = |name: &str, otherwise: bool| match json::get(hints, name) {
            Some(b"true") => true,
            Some(b"false") => false,
            _ => otherwise,
        };
        let none = Self::default();
        let read_only_hint = said("readOnlyHint", none.read_only_hint);
        Self {
            read_only_hint,
            destructive_hint: said("destructiveHint", !read_only_hint),
            idempotent_hint: said("idempotentHint", none.idempotent_hint),
            open_world_hint: said("openWorldHint", none.open_world_hint),
        }
    }

    fn bits(self) -> u8 {
        let all = [self.read_only_hint, self.destructive_hint, self.idempotent_hint, self.open_world_hint];
        all.into_iter().fold(0, |bits, hint| bits << 1 | u8::from(hint))
    }
}

/// A server, as far as rules may speak of it.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Which.
    pub id: ServerId,
    /// Of its description.
    pub revision: i64,
    /// Its name.
    pub slug: &'a str,
    /// Its tags.
    pub tags: &'a [String],
}

/// What is seen or called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<'a> {
    /// The server itself.
    Server,
    /// A tool, by the server's own name for it.
    Tool(&'a str, Hints),
    /// A resource by its URI, or a template by its text.
    Resource(&'a str),
    /// A prompt, by the server's own name for it.
    Prompt(&'a str),
}

impl<'a> What<'a> {
    /// In one word: `server`, `tool`, `resource` or `prompt`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Tool(..) => "tool",
            Self::Resource(_) => "resource",
            Self::Prompt(_) => "prompt",
        }
    }

    /// Its name; of the server none.
    pub fn name(self) -> &'a str {
        match self {
            Self::Server => "",
            Self::Tool(name, _) | Self::Resource(name) | Self::Prompt(name) => name,
        }
    }

    fn hints(self) -> Option<Hints> {
        match self {
            Self::Tool(_, hints) => Some(hints),
            _ => None,
        }
    }
}

/// Something that a rule decides about.
#[derive(Debug, Clone, Copy)]
pub struct Thing<'a> {
    /// At which server.
    pub place: Place<'a>,
    /// What there.
    pub what: What<'a>,
}

#[cfg(test)]
mod tests;
