//! SURFACE: the authorization server over HTTP: what it says of itself, registration of clients, the way of a person through the
//! browser, tokens and their end. What is decided is decided in `grants`; here requests are read, and answers and pages written,
//! in the forms that OAuth and browsers give them.

mod account;
mod answer;
mod assertion;
mod authorize;
mod back;
mod callback;
mod client;
mod connecting;
mod connections;
mod consent;
mod cookies;
mod exchange;
mod failure;
mod fields;
mod finish;
mod form;
mod handed;
mod leave;
mod metadata;
mod pages;
mod possession;
mod prompt;
mod register;
mod remembered;
mod revoke;
mod sign_in;
mod token;
mod trail;
mod visitor;

use axum::routing::{MethodRouter, get, post};

use crate::app::App;
use crate::web::open;

/// Every path of the surface, with what answers there.
pub fn table() -> Vec<(&'static str, MethodRouter<App>)> {
    let mut table = programs_table();
    table.extend(pages_table());
    table
}

/// The paths that programs come to.
fn programs_table() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/.well-known/oauth-protected-resource", get(metadata::resource)),
        ("/.well-known/oauth-protected-resource/{*path}", get(metadata::resource)),
        ("/.well-known/oauth-authorization-server", get(metadata::server)),
        ("/.well-known/oauth-authorization-server/{*path}", get(metadata::server)),
        ("/.well-known/openid-configuration", get(metadata::server)),
        ("/.well-known/openid-configuration/{*path}", get(metadata::server)),
        (open::TOKEN, post(token::token)),
        (open::REVOKE, post(revoke::revoke)),
        (open::KEYS, get(metadata::keys)),
        (open::REGISTER, post(register::register)),
        ("/connections/client/{key}", get(connecting::description)),
    ]
}

/// The paths that browsers come to.
fn pages_table() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/oauth/authorize", get(authorize::authorize)),
        ("/oauth/consent", post(consent::consent)),
        ("/oauth/callback/{provider}", get(callback::callback)),
        ("/oauth/sign-in", get(sign_in::page).post(sign_in::sign_in)),
        ("/oauth/sign-out", post(account::sign_out)),
        ("/oauth/assets/{file}", get(pages::asset)),
        ("/access", get(account::access)),
        ("/access/revoke", post(account::revoke)),
        ("/connections", get(connections::list)),
        ("/connections/{server}", get(connections::one).post(connecting::decided)),
        ("/connections/callback/{key}", get(connecting::callback)),
    ]
}
