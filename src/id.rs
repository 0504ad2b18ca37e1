//! Names of things: tenants, servers, principals, threads. Each is a type of its own, so that one cannot be passed for another.
//! Fields are private; a value exists only after its text was checked or was made here.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A number of this thread, the same as long as it lives: they are counted from 0 as they first ask.
pub fn thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static MINE: usize = NEXT.fetch_add(1, Relaxed));
    MINE.with(|mine| *mine)
}

/// Why a text is no valid slug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a valid name: use 1 to 40 lower-case letters, digits and single hyphens, starting and ending with a letter or digit"
)]
pub struct BadSlug {
    text: String,
}

/// A server's short name: 1 to 40 characters of `a-z`, `0-9` and single inner hyphens. It never holds an underscore, so
/// that `slug__tool` can be split again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(
    description = "A server's short name: 1 to 40 characters of `a-z`, `0-9` and single inner hyphens.",
    extend("pattern" = "^[a-z0-9]+(-[a-z0-9]+)*$", "maxLength" = 40)
)]
pub struct Slug(Arc<str>);

impl Slug {
    /// Checks and keeps `text`.
    pub fn parse(text: &str) -> Result<Self, BadSlug> {
        if is_slug(text, 40) { Ok(Self(text.into())) } else { Err(BadSlug { text: text.chars().take(80).collect() }) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Slug {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

fn is_slug(text: &str, most: usize) -> bool {
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= most
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
        && !text.contains("--")
}

/// A tenant, by its slug (at most 64 characters). Every query on a tenant's table takes one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(
    description = "A tenant, by its slug (at most 64 characters).",
    extend("pattern" = "^[a-z0-9]+(-[a-z0-9]+)*$", "maxLength" = 64)
)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The tenant that exists from the first start.
    pub fn default_tenant() -> Self {
        Self("default".into())
    }

    /// Checks and keeps `text`. For doors only: extractors, the command line, rows of the database.
    pub(crate) fn parse(text: &str) -> Result<Self, BadSlug> {
        if is_slug(text, 64) { Ok(Self(text.into())) } else { Err(BadSlug { text: text.chars().take(80).collect() }) }
    }

    /// Whether it is the tenant of the gateway's administrators, which exists from the first start.
    pub fn is_default(&self) -> bool {
        &*self.0 == "default"
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A registered server. UUID version 7 (RFC 9562), made here, so that ids sort by time of making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(description = "A registered server (UUID version 7, RFC 9562).")]
pub struct ServerId(pub Uuid);

impl ServerId {
    /// A new id.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for ServerId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who somebody is, independent of the credential shown: the issuer that vouches and the subject it names.
/// Sessions are bound to this, never to token bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    /// Who vouches: `local` for accounts of this gateway, later an identity provider's issuer URL.
    pub issuer: Arc<str>,
    /// The subject within the issuer: for `local` the user's id.
    pub subject: Arc<str>,
}
