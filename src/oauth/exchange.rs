//! A token for one that may less (RFC 8693): who holds a token for everything gets one for a single server, to hand it on.
//! Nothing grows on the way: neither the resource, nor the scopes, nor how long it is good.

use time::OffsetDateTime;

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
use crate::web::direct;

/// The type of what is given, and of what may be shown (section 3).
pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// What an identity provider's token may be called as well.
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

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
    let (order, how, all) = match TokenKind::of(token) {
        Some(_) if kind != ACCESS_TOKEN => return Err(bad_subject("type")),
        Some(_) => of_own(app, client, tenant, (token, seen.possession.key), now).await?,
        None => of_provider(app, client, tenant, token, now).await?,
    };
    let wanted = resource(app, form)?.or_else(|| all.clone()).unwrap_or(Resource::All);
    if all.is_some_and(|all| !all.covers(&wanted)) {
        let text = "the subject_token is not good for this resource; exchange one that is";
        return Err(Refusal::new(OauthCode::InvalidTarget, "resource", text));
    }
    let possible = client.scopes.and(wanted.offers()).and(order.scopes).without(Scope::OfflineAccess);
    let scopes = match form.get("scope") {
        None => possible,
        Some(scope) => ScopeSet::asked(Some(scope))?.without(Scope::OfflineAccess),
    };
    if scopes.is_empty() || !possible.covers(scopes) {
        let text = "these scopes are more than the subject_token, the client and the resource allow";
        return Err(Refusal::new(OauthCode::InvalidScope, "scope", text));
    }
    let order = Order { resource: app.issuer.uri(&wanted), scopes, ..order };
    let how = Issue { key: seen.possession.key, ..how };
    app.grants.issue(&order, how, now).await.map_err(|refusal| match refusal.code {
        OauthCode::InvalidGrant => bad_subject("ended"),
        _ => refusal,
    })
}

/// Refuses what is asked for besides, of which nothing is done here.
fn check(form: &Form, kind: &str) -> Result<(), Refusal> {
    let refuse = |code, reason, text| Err(Refusal::new(code, reason, text));
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

/// What one of our own tokens allows, for how long, and where.
async fn of_own(
    app: &App,
    client: &Client,
    tenant: &TenantId,
    (token, key): (&str, Option<Thumbprint>),
    now: OffsetDateTime,
) -> Result<(Order, Issue, Option<Resource>), Refusal> {
    let shown = app.grants.exchangeable(token, key, now).await?;
    if shown.tenant != *tenant {
        return Err(bad_subject("other_tenant"));
    }
    let all = app.issuer.resource(&shown.resource).map_err(|_| bad_subject("resource"))?;
    let how = Issue { until: Some(shown.expires_at), parent: Some(shown.grant), ..Issue::alone(shown.kind) };
    let order = Order {
        tenant: shown.tenant,
        user: shown.user,
        client_id: client.id.to_string(),
        client_name: Some(client.name.to_string()),
        resource: shown.resource,
        scopes: shown.scopes,
        login_method: shown.login_method,
        login: shown.login,
    };
    Ok((order, how, Some(all)))
}

/// The same of a token that Entra made for this gateway: it is good everywhere.
async fn of_provider(
    app: &App,
    client: &Client,
    tenant: &TenantId,
    token: &str,
    now: OffsetDateTime,
) -> Result<(Order, Issue, Option<Resource>), Refusal> {
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
    let order = Order {
        tenant: shown.account.tenant,
        user: shown.account.id,
        client_id: client.id.to_string(),
        client_name: Some(client.name.to_string()),
        resource: String::new(),
        scopes: ScopeSet::DEFAULT.with(Scope::Admin),
        login_method: ENTRA.to_owned(),
        login: None,
    };
    Ok((order, Issue { until: Some(shown.expires_at), ..Issue::alone(kind) }, None))
}
