//! Tests of the gateway from outside its modules: the store on both databases, the engines over it, the surfaces over those.

#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity, reason = "a test stops with a message")]

#[macro_use]
mod store_databases;

mod access_rules;
mod analytics_rest;
mod analytics_scale;
mod api;
mod api_changes;
mod api_lists;
mod api_once;
mod api_roles;
mod audit_blocks;
mod audit_chains;
mod audit_kept;
mod audit_scale;
mod bans;
mod connection_crashes;
mod cut_off;
mod idp_entra;
mod isolation;
mod limits_shared;
mod oauth_clients;
mod pools_rest;
mod refresh_crashes;
mod refresh_days;
mod refresh_scale;
mod refresh_world;
mod refreshes;
mod rollups;
mod rooms;
mod routes;
mod rules;
mod sealing_keys;
mod snapshots;
mod store_access;
mod store_authority;
mod store_connections;
mod store_grants;
mod store_grants_exchange;
mod store_grants_family;
mod store_grants_rest;
mod store_look;
mod store_replicas;
mod store_rest;
mod store_rest_errors;
mod store_rows;
mod store_servers;
mod store_tenants;
mod tenants_rest;
mod trusted_issuers;
