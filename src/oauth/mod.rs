//! SURFACE: the authorization server over HTTP. What is decided is decided in `grants`; here requests are read, and answers and
//! pages written, in the forms that OAuth and browsers give them.

mod account;
mod authorize;
mod back;
mod callback;
mod consent;
mod cookies;
mod failure;
mod fields;
mod finish;
mod pages;
mod sign_in;
mod trail;
mod visitor;

use axum::routing::{MethodRouter, get, post};

use crate::app::App;

/// Every path of the surface, with what answers there.
pub fn table() -> Vec<(&'static str, MethodRouter<App>)> {
    let mut table = Vec::new();
    table.extend(pages_table());
    table
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
    ]
}
