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
use crate::web::record::Trail;

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

/// The caller behind `Authorization: Bearer` (RFC 6750), the outcome counted. No other place is looked at, and one kind of
/// credential never stands in for another.
pub fn admit(app: &App, headers: &HeaderMap) -> Result<Caller, AuthError> {
    let who = authenticate(&app.keyring, headers, OffsetDateTime::now_utc());
    let (tenant, reason) = match &who {
        Ok(caller) => (caller.tenant().as_str(), ""),
        Err(error) => ("", error.reason()),
    };
    app.recorder.metrics().auth(tenant, "api_key", who.is_ok(), reason);
    who
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = admit(app, &parts.headers)?;
        if let Some(trail) = parts.extensions.get::<Trail>() {
            trail.leave(&caller);
        }
        Ok(caller)
    }
}

impl FromRequestParts<App> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Ok(Self::prove(&Caller::from_request_parts(parts, app).await?)?)
    }
}
