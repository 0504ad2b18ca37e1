//! SURFACE: the authorization server over HTTP: what it says of itself, registration of clients, tokens and their end. What is
//! decided is decided in `grants`; here requests are read and answers written, in the forms that OAuth gives them.

mod answer;
mod client;
mod form;
mod metadata;
mod register;
mod revoke;
mod token;

use axum::routing::{MethodRouter, get, post};

use crate::app::App;
use crate::web::open;

/// Every path of the surface, with what answers there.
pub fn table() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/.well-known/oauth-protected-resource", get(metadata::resource)),
        ("/.well-known/oauth-protected-resource/{*path}", get(metadata::resource)),
        ("/.well-known/oauth-authorization-server", get(metadata::server)),
        ("/.well-known/oauth-authorization-server/{*path}", get(metadata::server)),
        ("/.well-known/openid-configuration", get(metadata::server)),
        ("/.well-known/openid-configuration/{*path}", get(metadata::server)),
        (open::TOKEN, post(token::token)),
        (open::REVOKE, post(revoke::revoke)),
        (open::REGISTER, post(register::register)),
    ]
}
