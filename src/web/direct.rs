//! Access tokens that Microsoft Entra ID made for the gateway's own application. Applications on their own show theirs directly. A
//! person's is good for an hour and more, whatever becomes of the person meanwhile: it opens nothing, and is only exchanged, by a
//! client that an administrator registered for that. Only tokens of the provider that is set up are looked at, only for this
//! gateway's audience, and they are never passed on.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use time::OffsetDateTime;

use crate::access::{AuthError, Caller, Direct, Memberships};
use crate::app::App;
use crate::grants::{Account, OauthCode, Refusal};
use crate::idp::{self, Class, ENTRA};

/// How often a token is looked at while accounts change.
const TRIES: usize = 5;

/// When a token ends (RFC 7519 section 4.1.4), seconds since 1970.
#[derive(Deserialize)]
struct End {
    exp: f64,
}

/// Whether `shown` has the form of a signed token (RFC 7515 section 3.1), and somebody is set up whose it could be.
pub fn is_one(app: &App, shown: &str) -> bool {
    memchr::memchr_iter(b'.', shown.as_bytes()).count() == 2 && app.providers.get(ENTRA).is_some()
}

/// Whose token it is.
pub struct Shown {
    /// By Entra's word.
    pub person: idp::Person,
    /// The account.
    pub account: Account,
    /// When the token ends.
    pub expires_at: OffsetDateTime,
}

/// Verifies the token and finds the account of whose it is; at the first time it is made, as at a sign-in.
pub async fn whose(app: &App, token: &str, now: OffsetDateTime) -> Result<Shown, AuthError> {
    known(app, token, verified(app, token, now).await?, now).await
}

/// Whose the token is by Entra's word.
async fn verified(app: &App, token: &str, now: OffsetDateTime) -> Result<idp::Person, AuthError> {
    let provider = app.providers.get(ENTRA).ok_or(AuthError::Malformed)?;
    provider.verify_access_token(token, now).await.map_err(|error| {
        tracing::debug!(class = error.class.label(), code = error.code, "a token of Entra is not taken: {error}");
        match error.class {
            Class::Temporary { .. } | Class::Configuration | Class::OurCredential | Class::Loop => {
                AuthError::ProviderAway
            }
            Class::Refused => AuthError::NotLetIn,
            _ => AuthError::Foreign,
        }
    })
}

async fn known(app: &App, token: &str, person: idp::Person, now: OffsetDateTime) -> Result<Shown, AuthError> {
    let refused = |refusal: Refusal| {
        if refusal.code == OauthCode::AccessDenied {
            return match refusal.reason {
                "disabled" => AuthError::Disabled,
                "suspended" => AuthError::Suspended,
                _ => AuthError::NotLetIn,
            };
        }
        tracing::error!(reason = refusal.reason, detail = refusal.detail, "an account could not be looked up");
        AuthError::Unavailable
    };
    let role = app.role_of(&person).await.map_err(refused)?.ok_or(AuthError::NotLetIn)?;
    let account = app.account_of(&person, role, now).await.map_err(refused)?;
    Ok(Shown { account, expires_at: end_of(token).ok_or(AuthError::Foreign)?, person })
}

/// Lets in the application that shows the token.
pub(super) async fn verify(app: &App, token: &str, now: OffsetDateTime) -> Result<Caller, AuthError> {
    for _ in 0..TRIES {
        let reloads = app.tokens.reloads();
        let person = verified(app, token, now).await?;
        if !person.app_only {
            return Err(AuthError::OfPerson);
        }
        let Shown { person, account, expires_at } = known(app, token, person, now).await?;
        let counted = app.store.memberships(&account.tenant, account.id).await.map_err(|error| {
            tracing::error!(%error, "an account could not be looked up");
            AuthError::Unavailable
        })?;
        let memberships = Arc::new(counted.map_or_else(Memberships::unheard, |text| Memberships::read(&text)));
        let who = Direct {
            issuer: &person.issuer,
            subject: &person.subject,
            provider: "Microsoft Entra ID",
            tenant: account.tenant,
            user: account.id,
            username: &account.username,
            role: account.role,
            memberships: &memberships,
            expires_at,
        };
        if let Some(caller) = app.tokens.admit(token, &who, now, reloads) {
            return Ok(caller);
        }
    }
    Err(AuthError::Unavailable)
}

/// When a token ends whose signature was looked at before. (Until then a clock that is a little behind is forgiven.)
fn end_of(token: &str) -> Option<OffsetDateTime> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let End { exp } = serde_json::from_slice(&claims).ok()?;
    #[expect(clippy::cast_possible_truncation, reason = "a cast of a float saturates")]
    OffsetDateTime::from_unix_timestamp(exp as i64).ok()
}
