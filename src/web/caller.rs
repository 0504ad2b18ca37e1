//! The door of the HTTP surfaces: reads the credential of a request and asks the key ring who shows it. A handler that
//! takes a `Caller` runs only for somebody who was let in, and one that takes an `Admin` only for an administrator.

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use time::OffsetDateTime;

use crate::access::{Admin, AuthError, Caller, KeyRing};
use crate::app::App;
use crate::web::problem::Problem;

/// Who sent a request with these headers: one `Authorization: Bearer` with a key that is good at `now`.
pub fn authenticate(keys: &KeyRing, headers: &HeaderMap, now: OffsetDateTime) -> Result<Caller, AuthError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(AuthError::Missing)?;
    if values.next().is_some() {
        // Whoever reads the other one would see another caller.
        return Err(AuthError::Malformed);
    }
    let text = value.to_str().map_err(|_| AuthError::Malformed)?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(AuthError::Malformed);
    }
    keys.authenticate(token.trim(), now)
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Ok(authenticate(&app.keyring, &parts.headers, OffsetDateTime::now_utc())?)
    }
}

impl FromRequestParts<App> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Ok(Self::prove(&Caller::from_request_parts(parts, app).await?)?)
    }
}
