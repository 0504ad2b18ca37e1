//! The door of the HTTP surfaces: reads the credential of a request and asks who shows it. A handler that takes a `Caller` runs
//! only for somebody who was let in, and one that takes an `Admin` only for an administrator.

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use time::OffsetDateTime;

use crate::access::{Admin, AuthError, Caller, Opening};
use crate::app::App;
use crate::crypto::TokenKind;
use crate::grants::Step;
use crate::web::direct;
use crate::web::problem::Problem;
use crate::web::record::Trail;

/// The text behind the one `Authorization: Bearer` (RFC 6750). No other place is looked at.
fn bearer(headers: &HeaderMap) -> Result<&str, AuthError> {
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
    Ok(token.trim())
}

/// Who sent a request with these headers to this resource. What kind of credential it is, its first characters say;
/// one kind never stands in for another.
pub async fn authenticate(app: &App, headers: &HeaderMap, what: Opening<'_>) -> Result<Caller, AuthError> {
    let (shown, now) = (bearer(headers)?, OffsetDateTime::now_utc());
    match TokenKind::of(shown) {
        Some(TokenKind::Access) => {}
        Some(TokenKind::Refresh | TokenKind::Code) => return Err(AuthError::WrongKind),
        None if direct::is_one(app, shown) => {
            return match app.tokens.known(shown, now) {
                Some(caller) => Ok(caller),
                None => Box::pin(direct::verify(app, shown, now)).await,
            };
        }
        Some(TokenKind::ApiKey) | None => return app.keyring.authenticate(shown, now),
    }
    let caller = match app.tokens.known(shown, now) {
        Some(caller) => caller,
        None => Box::pin(app.tokens.find(&app.store, shown, now)).await?,
    };
    let error = if !caller.opens(what) {
        AuthError::WrongResource
    // At the REST API each call says what it takes.
    } else if what == Opening::Api || caller.may_use_mcp() {
        return Ok(caller);
    } else {
        AuthError::LacksScope
    };
    if let Some(grant) = caller.grant_id() {
        let detail = format!("the program called {what} with its access token: {error}");
        app.grants.preludes().misused(grant, Step::bad("call", error.reason(), detail, now));
    }
    Err(error)
}

/// The same, with the outcome counted.
pub async fn admit(app: &App, headers: &HeaderMap, what: Opening<'_>) -> Result<Caller, AuthError> {
    let who = authenticate(app, headers, what).await;
    let (tenant, reason) = match &who {
        Ok(caller) => (caller.tenant().as_str(), ""),
        Err(error) => ("", error.reason()),
    };
    let method = match &who {
        Ok(caller) if caller.grant_id().is_some() => "validate",
        Err(
            AuthError::WrongKind
            | AuthError::EndedToken
            | AuthError::WrongResource
            | AuthError::LacksScope
            | AuthError::Foreign
            | AuthError::NotLetIn
            | AuthError::ProviderAway,
        ) => "validate",
        _ => "api_key",
    };
    app.recorder.metrics().auth(tenant, method, who.is_ok(), reason);
    who
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let admitted = admit(app, &parts.headers, Opening::Api).await;
        let caller = admitted.map_err(|error| Problem::unauthenticated(app, Opening::Api, error))?;
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
