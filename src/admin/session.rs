//! `/login`, `/logout`, `/me`: a key of hours for name and password, its end, and who one is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::access::{Caller, Role, Scopes, UserId, keys};
use crate::app::App;
use crate::grants::{End, EndReason, Ids};
use crate::id::TenantId;
use crate::secret::Secret;
use crate::store::now;
use crate::telemetry::Event;
use crate::web::Source;
use crate::web::answer::{NoContent, Shown, Tagged};
use crate::web::json::Body;
use crate::web::problem::Problem;

/// Who wants in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Login", example = serde_json::json!({ "username": "acme/ada", "password": "correct horse battery staple" }))]
pub(super) struct SignIn {
    /// `name`, or `tenant/name` of another tenant than the first.
    username: String,
    password: Secret,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LoginResult")]
pub(super) struct SignedIn {
    key: Secret,
    #[serde(with = "crate::clock::Moment")]
    expires_at: OffsetDateTime,
    user_id: UserId,
    role: Role,
}

pub(super) async fn login(
    app: App,
    Source(source): Source,
    Body(body): Body<SignIn>,
) -> Result<Shown<SignedIn>, Problem> {
    let at = now();
    let look = |count| app.accounts.sign_in(&app.store, &body.username, body.password, count, at);
    let made = app.attempt(source, at, look).await;
    let event = Event { address: Some(source), name: Some("local".into()), ..Event::new("auth.login", made.is_ok()) };
    let made = match made {
        Ok(made) => made,
        Err(error) => {
            app.recorder.not_signed_in(Event { reason: Some(error.reason().into()), ..event });
            return Err(error.into());
        }
    };
    app.recorder.signed_in(
        "local",
        at,
        Event {
            tenant: Some(made.tenant.as_str().into()),
            user: Some(made.user.uuid()),
            session_type: Some("password".into()),
            ..event
        },
    );
    app.changed().await?;
    let answer = SignedIn { key: made.key, expires_at: made.expires_at, user_id: made.user, role: made.role };
    Ok(Shown(answer))
}

/// Ends the key or the session whose credential is shown.
pub(super) async fn logout(app: App, caller: Caller) -> Result<NoContent, Problem> {
    if let Some(grant) = caller.grant_id() {
        let end = End { reason: EndReason::Logout, detail: "signed_out" };
        app.end_sessions(caller.tenant(), Ids::One(grant, None), end).await?;
    } else {
        keys::revoke_own(&app.store, &caller, now()).await?;
        app.changed().await?;
    }
    Ok(NoContent)
}

/// Who the caller is.
#[derive(Serialize, JsonSchema)]
pub(super) struct Me {
    name: String,
    user_id: UserId,
    tenant_id: TenantId,
    role: Role,
    scopes: Scopes,
    session_type: &'static str,
    /// The key that is shown, or the grant of the token.
    credential_id: Uuid,
    credential_name: String,
}

pub(super) async fn me(caller: Caller) -> Tagged<Me> {
    let me = Me {
        name: caller.username().to_owned(),
        user_id: caller.user_id(),
        tenant_id: caller.tenant().clone(),
        role: caller.role(),
        scopes: caller.scopes().clone(),
        session_type: caller.session_type().label(),
        credential_id: caller.credential(),
        credential_name: caller.credential_name().to_owned(),
    };
    Tagged::content(me)
}
