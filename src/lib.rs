//! MCP Registry Gateway: a registry of Model Context Protocol servers, a gateway in front of them, and the operations of
//! both for many tenants. `ARCHITECTURE.md` shows the house; the page to read first is `mcp::exchange`.
//!
//! Look down, never sideways: `cli` and `serve` → surfaces (`mcp`, `oauth`, `admin`, `ops`) → `web` → `app` → engines (`registry`,
//! `upstream`, `balance`, `connections`, `grants`, `idp`, `policy`, `access`, `analytics`, `audit`, `limit`, `vault`) → `store`, `telemetry` → ground.

pub mod admin;
pub mod app;
pub mod cli;
pub mod jobs;
pub mod mcp;
pub mod oauth;
pub mod ops;
pub mod router;
pub mod serve;
pub mod web;

pub mod access;
pub mod analytics;
pub mod audit;
pub mod balance;
pub mod connections;
pub mod grants;
pub mod idp;
pub mod limit;
pub mod policy;
pub mod registry;
pub mod upstream;
pub mod vault;

pub mod store;
pub mod telemetry;

pub mod clock;
pub mod config;
pub mod crypto;
pub mod fault;
pub mod field;
pub mod id;
pub mod json;
pub mod net;
pub mod place;
pub mod protocol;
pub mod reuse;
pub mod secret;
pub mod sketch;
