//! A token for one that may less (RFC 8693): who holds a token for everything gets one for a single server, to hand it on.
//! Nothing grows on the way: neither the resource, nor the scopes, nor how long it is good.

use time::OffsetDateTime;
use uuid::Uuid;

use super::form::Form;
use super::token::{Seen, resource};
use crate::access::AuthError;
use crate::app::App;
use crate::crypto::TokenKind;
use crate::crypto::dpop::Thumbprint;
use crate::grants::client::{Client, Known};
use crate::grants::resource::Resource;
use crate::grants::{GrantKind, Issue, OauthCode, Order, Refusal, Scope, ScopeSet, Tokens, bad_subject};
use crate::id::TenantId;
use crate::idp::ENTRA;
use crate::protocol::oauth::{ACCESS_TOKEN, JWT};
use crate::web::direct;

/// `grant_type=urn:ietf:params:oauth:grant-type:token-exchange`.
pub(super) async fn of_token(
    app: &App,
    client: &Client,
    form: &Form,
    seen: &mut Seen,
    now: OffsetDateTime,
) -> Result<Tokens, Refusal> {
    let Known::Registered { tenant, .. } = &client.known else {
        let text = "only a client that an administrator registered for it exchanges tokens";
        return Err(Refusal::new(OauthCode::UnauthorizedClient, "unauthorized_client", text));
    };
    seen.tenant = Some(tenant.clone());
    let token = form.required("subject_token", "show the token that is to be exchanged: subject_token")?;
    let kind = form.required("subject_token_type", "name the type of the token: subject_token_type")?;
    check(form, kind)?;
    let shown = match TokenKind::of(token) {
        Some(_) if kind != ACCESS_TOKEN => return Err(bad_subject("type")),
        Some(_) => of_own(app, tenant, (token, seen.possession.key), now).await?,
        None => of_provider(app, tenant, token, now).await?,
    };
    let wanted = resource(app, form)?.or_else(|| shown.resource.clone()).unwrap_or(Resource::All);
    if shown.resource.is_some_and(|all| !all.covers(&wanted)) {
        let text = "the subject_token is not good for this resource; exchange one that is";
        return Err(Refusal::new(OauthCode::InvalidTarget, "resource", text));
    }
    let possible = client.scopes.and(wanted.offers()).and(shown.scopes).without(Scope::OfflineAccess);
    let scopes = match form.get("scope") {
        None => possible,
        Some(scope) => ScopeSet::asked(Some(scope))?.without(Scope::OfflineAccess),
    };
    if scopes.is_empty() || !possible.covers(scopes) {
        let text = "these scopes are more than the subject_token, the client and the resource allow";
        return Err(Refusal::new(OauthCode::InvalidScope, "scope", text));
    }
    let order = Order {
        tenant: tenant.clone(),
        user: shown.user,
        client_id: client.id.to_string(),
        client_name: Some(client.name.to_string()),
        resource: app.issuer.uri(&wanted),
        scopes,
        login_method: shown.login_method,
        login: shown.login,
    };
    let how = Issue { key: seen.possession.key, ..shown.how };
    app.issue(&order, how, now).await.map_err(|refusal| match refusal.code {
        OauthCode::InvalidGrant => bad_subject("ended"),
        _ => refusal,
    })
}

/// Refuses what is asked for besides, of which nothing is done here.
fn check(form: &Form, kind: &str) -> Result<(), Refusal> {
    let refuse = |code, reason, text| Err(Refusal::new(code, reason, text));
    // An identity provider's token may be called either.
    if kind != ACCESS_TOKEN && kind != JWT {
        let text = "subject_token_type must be urn:ietf:params:oauth:token-type:access_token, or of a token of the identity \
                    provider urn:ietf:params:oauth:token-type:jwt";
        return refuse(OauthCode::InvalidRequest, "type", text);
    }
    if form.get("requested_token_type").is_some_and(|wanted| wanted != ACCESS_TOKEN) {
        let text = "requested_token_type must be urn:ietf:params:oauth:token-type:access_token, or absent";
        return refuse(OauthCode::InvalidRequest, "requested_type", text);
    }
    if form.get("actor_token").is_some() || form.get("actor_token_type").is_some() {
        let text = "an actor_token is not taken: the actor is the client that asks";
        return refuse(OauthCode::InvalidRequest, "actor", text);
    }
    if form.get("audience").is_some() {
        let text = "name what the token is for by its URL: resource";
        return refuse(OauthCode::InvalidTarget, "audience", text);
    }
    Ok(())
}

/// What the token that is shown allows, for whom and for how long.
struct Shown {
    user: Uuid,
    /// Where it is good; none: everywhere.
    resource: Option<Resource>,
    scopes: ScopeSet,
    login_method: String,
    login: Option<Uuid>,
    how: Issue,
}

/// One of our own tokens.
async fn of_own(
    app: &App,
    tenant: &TenantId,
    (token, key): (&str, Option<Thumbprint>),
    now: OffsetDateTime,
) -> Result<Shown, Refusal> {
    let shown = app.grants.exchangeable(token, key, now).await?;
    if shown.tenant != *tenant {
        return Err(bad_subject("other_tenant"));
    }
    Ok(Shown {
        user: shown.user,
        resource: Some(app.issuer.resource(&shown.resource).map_err(|_| bad_subject("resource"))?),
        scopes: shown.scopes,
        login_method: shown.login_method,
        login: shown.login,
        how: Issue { until: Some(shown.expires_at), parent: Some(shown.grant), ..Issue::alone(shown.kind) },
    })
}

/// A token that Entra made for this gateway.
async fn of_provider(app: &App, tenant: &TenantId, token: &str, now: OffsetDateTime) -> Result<Shown, Refusal> {
    if !direct::is_one(app, token) {
        return Err(bad_subject("malformed"));
    }
    let shown = Box::pin(direct::whose(app, token, now)).await.map_err(|error| match error {
        AuthError::Unavailable | AuthError::ProviderAway => {
            let text = "the identity provider's keys cannot be had now; try again in a moment";
            Refusal::new(OauthCode::TemporarilyUnavailable, error.reason(), text)
        }
        error => bad_subject(error.reason()),
    })?;
    if shown.account.tenant != *tenant {
        return Err(bad_subject("other_tenant"));
    }
    if shown.expires_at <= now {
        return Err(bad_subject("expired"));
    }
    let kind = if shown.person.app_only { GrantKind::Service } else { GrantKind::Client };
    Ok(Shown {
        user: shown.account.id,
        resource: None,
        scopes: ScopeSet::DEFAULT.with(Scope::Admin),
        login_method: ENTRA.to_owned(),
        login: None,
        how: Issue { until: Some(shown.expires_at), ..Issue::alone(kind) },
    })
}
