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
use crate::limit::guard::Wrong;
use crate::web::Source;
use crate::web::direct;
use crate::web::problem::Problem;
use crate::web::proof::{self, Address, Sent};
use crate::web::record::Trail;

/// How a credential is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    /// By itself (RFC 6750).
    Bearer,
    /// With a proof of the key that it is bound to (RFC 9449 section 7.1).
    Dpop,
}

/// The text behind the one `Authorization`, and how it is shown. No other place is looked at.
fn credential(headers: &HeaderMap) -> Result<(Scheme, &str), AuthError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(AuthError::Missing)?;
    if values.next().is_some() {
        // Whoever reads the other one would see another caller.
        return Err(AuthError::Malformed);
    }
    let text = value.to_str().map_err(|_| AuthError::Malformed)?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    let scheme = if scheme.eq_ignore_ascii_case("bearer") {
        Scheme::Bearer
    } else if scheme.eq_ignore_ascii_case("dpop") {
        Scheme::Dpop
    } else {
        return Err(AuthError::Malformed);
    };
    Ok((scheme, token.trim()))
}

/// The text that is shown by itself (RFC 6750), for what no account stands behind.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    credential(headers).ok().filter(|(scheme, _)| *scheme == Scheme::Bearer).map(|(_, shown)| shown)
}

/// Who sent a request with these headers to this resource. What kind of credential it is, its first characters say;
/// one kind never stands in for another, and one that is bound to a key never for one that is not. `sent` is what a proof of the
/// key must be of.
pub async fn authenticate(
    app: &App,
    headers: &HeaderMap,
    what: Opening<'_>,
    sent: Sent<'_>,
) -> Result<Caller, AuthError> {
    let ((scheme, shown), now) = (credential(headers)?, OffsetDateTime::now_utc());
    match TokenKind::of(shown) {
        Some(TokenKind::Access) => {}
        Some(TokenKind::Refresh | TokenKind::Code) => return Err(AuthError::WrongKind),
        // Nothing else is bound to a key.
        _ if scheme == Scheme::Dpop => return Err(AuthError::NotBound),
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
    let proved = match (scheme, caller.key()) {
        (Scheme::Bearer, None) => Ok(()),
        (Scheme::Bearer, Some(_)) => Err(AuthError::Bound),
        (Scheme::Dpop, None) => Err(AuthError::NotBound),
        (Scheme::Dpop, Some(key)) => proof::check(app, headers, sent, (shown, key), now).map_err(AuthError::Proof),
    };
    let error = match proved {
        Err(error) => error,
        Ok(()) if !caller.opens(what) => AuthError::WrongResource,
        // At the REST API each call says what it takes.
        Ok(()) if what == Opening::Api || caller.may_use_mcp() => return Ok(caller),
        Ok(()) => AuthError::LacksScope { bound: caller.key().is_some() },
    };
    if let Some(grant) = caller.grant_id() {
        let detail = format!("the program called {what} with its access token: {error}");
        app.grants.preludes().misused(grant, Step::bad("call", error.reason(), detail, now));
    }
    Err(error)
}

/// Whether a good credential is shown, as far as this process knows without asking anybody. Whether a key that it is bound to was
/// proved is not looked at: it lets nobody in.
pub(super) fn is_known(app: &App, headers: &HeaderMap, now: OffsetDateTime) -> bool {
    let Ok((_, shown)) = credential(headers) else { return false };
    match TokenKind::of(shown) {
        Some(TokenKind::Access) => app.tokens.known(shown, now).is_some(),
        None if direct::is_one(app, shown) => app.tokens.known(shown, now).is_some(),
        Some(TokenKind::ApiKey) | None => app.keyring.authenticate(shown, now).is_ok(),
        Some(TokenKind::Refresh | TokenKind::Code) => false,
    }
}

/// What came of it, for the guard of the address that it came from.
fn tell(app: &App, source: Source, headers: &HeaderMap, who: &Result<Caller, AuthError>) {
    let now = OffsetDateTime::now_utc();
    let wrong = match who {
        Ok(caller) => return app.guard.let_in(source.0, caller.user_id(), now),
        Err(AuthError::Missing) => Wrong::Bare,
        // Counted by its status; or the credential is good, or could not be looked at.
        Err(
            AuthError::TooManyBare { .. }
            | AuthError::LacksScope { .. }
            | AuthError::WrongResource
            | AuthError::ProviderAway
            | AuthError::Unavailable
            | AuthError::NotLetIn,
        ) => return,
        Err(_) => Wrong::Credential(headers.get(AUTHORIZATION).map(|shown| app.guard.fingerprint(shown.as_bytes()))),
    };
    app.guard.refused(source.0, wrong, now);
}

/// What is said where no credential was shown.
fn without_any(app: &App, source: Source) -> AuthError {
    let Err(exceeded) = app.attempts.shows_none(source.0, OffsetDateTime::now_utc()) else { return AuthError::Missing };
    app.throttled("", exceeded.limit);
    AuthError::TooManyBare {
        rpm: app.settings.rate_limits.anonymous_rpm,
        seconds: u32::try_from(exceeded.retry_after.as_secs()).unwrap_or(60) + 1,
    }
}

/// The same, with the outcome counted: in metrics, and for or against where it came from.
pub async fn admit(
    app: &App,
    headers: &HeaderMap,
    what: Opening<'_>,
    sent: Sent<'_>,
    source: Source,
) -> Result<Caller, AuthError> {
    let who = authenticate(app, headers, what, sent).await;
    let who = if matches!(who, Err(AuthError::Missing)) { Err(without_any(app, source)) } else { who };
    tell(app, source, headers, &who);
    let (tenant, reason) = match &who {
        Ok(caller) => (caller.tenant().as_str(), ""),
        Err(error) => ("", error.reason()),
    };
    let method = match &who {
        Ok(caller) if caller.grant_id().is_some() => "validate",
        Err(
            AuthError::WrongKind
            | AuthError::EndedToken
            | AuthError::ComeBack
            | AuthError::Gone
            | AuthError::WrongResource
            | AuthError::LacksScope { .. }
            | AuthError::Bound
            | AuthError::NotBound
            | AuthError::Proof(_)
            | AuthError::Foreign
            | AuthError::OfPerson
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
        if let Some(caller) = parts.extensions.get::<Self>() {
            // A layer before has asked.
            return Ok(caller.clone());
        }
        // The router has taken off what the surface stands below.
        let sent = Sent { method: parts.method.as_str(), to: Address::Api(parts.uri.path()) };
        let admitted = admit(app, &parts.headers, Opening::Api, sent, Source::of(&parts.extensions)).await;
        let caller = admitted.map_err(|error| Problem::unauthenticated(app, Opening::Api, error))?;
        if let Some(trail) = parts.extensions.get::<Trail>() {
            trail.leave(&caller);
        }
        app.limits.admit_user(app.who(&caller)).map_err(|refused| {
            app.throttled(caller.tenant().as_str(), refused.limit);
            Problem::from(refused)
        })?;
        Ok(caller)
    }
}

impl FromRequestParts<App> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Ok(Self::prove(&Caller::from_request_parts(parts, app).await?)?)
    }
}
