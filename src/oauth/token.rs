//! The token endpoint (RFC 6749 section 3.2): proves the client, reads what it shows for tokens, and asks `grants`. Before a
//! session goes on, the identity provider is asked again whether the person may still come in, if that is due; a provider that
//! is ill ends nobody's session.

mod noting;

use axum::response::Response;
use http::HeaderMap;
use time::OffsetDateTime;

use super::answer::{Denied, tokens};
use super::client::authenticate;
use super::form::Form;
use super::source::Source;
use crate::app::App;
use crate::crypto::{TokenKind, hash_token, is_token};
use crate::grants::client::{Client, GrantType, Known};
use crate::grants::resource::Resource;
use crate::grants::{OauthCode, Order, Redemption, Refresh, Refusal, Scope, ScopeSet, Tokens};
use crate::id::TenantId;
use crate::secret::Secret;
use crate::store::now;

/// What may be shown for tokens.
pub(super) const GRANT_TYPES: [&str; 3] = ["authorization_code", "refresh_token", "client_credentials"];

/// `POST /oauth/token`.
pub(super) async fn token(
    app: App,
    Source(source): Source,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Denied> {
    let now = now();
    let kind = match form.required("grant_type", "name what is shown: grant_type").map(named) {
        Ok(Some(kind)) => kind,
        Ok(None) => {
            let text = "this gateway takes authorization_code, refresh_token and client_credentials";
            return Err(Refusal::new(OauthCode::UnsupportedGrantType, "unsupported_grant_type", text).into());
        }
        Err(refusal) => return Err(refusal.into()),
    };
    let (tenant, given) = give(&app, &headers, &form, kind, now).await;
    noting::note(&app, source, &form, kind, &given).await;
    let tenant = tenant.as_ref().map_or("", |tenant| tenant.as_str());
    let method = match kind {
        GrantType::AuthorizationCode => "login",
        GrantType::RefreshToken => "refresh",
        GrantType::ClientCredentials => "client_credentials",
    };
    // That somebody signed in was counted when they did.
    if given.is_err() || kind != GrantType::AuthorizationCode {
        let reason = given.as_ref().err().map_or("", Denied::reason);
        app.recorder.metrics().auth(tenant, method, given.is_ok(), reason);
    }
    given.map(|given| tokens(given, now)).inspect_err(|denied| denied.note(&app))
}

fn named(kind: &str) -> Option<GrantType> {
    let kinds = [GrantType::AuthorizationCode, GrantType::RefreshToken, GrantType::ClientCredentials];
    kinds.into_iter().find(|own| own.as_str() == kind)
}

/// The tokens, and whose they are as far as that was seen.
async fn give(
    app: &App,
    headers: &HeaderMap,
    form: &Form,
    kind: GrantType,
    now: OffsetDateTime,
) -> (Option<TenantId>, Result<Tokens, Denied>) {
    let client = match authenticate(app, headers, form, now).await {
        Ok(client) => client,
        Err(denied) => return (None, Err(denied)),
    };
    if !client.may(kind) {
        let text = "the client is not registered for this grant_type";
        return (None, Err(Refusal::new(OauthCode::UnauthorizedClient, "unauthorized_client", text).into()));
    }
    let mut tenant = None;
    let given = match kind {
        GrantType::AuthorizationCode => of_code(app, &client, form, &mut tenant, now).await,
        GrantType::RefreshToken => of_refresh(app, &client, form, &mut tenant, now).await,
        GrantType::ClientCredentials => of_itself(app, &client, form, &mut tenant, now).await,
    };
    (tenant, given.map_err(Denied::from))
}

/// For a code (RFC 6749 section 4.1.3, RFC 7636 section 4.5).
async fn of_code(
    app: &App,
    client: &Client,
    form: &Form,
    tenant: &mut Option<TenantId>,
    now: OffsetDateTime,
) -> Result<Tokens, Refusal> {
    let shown = Redemption {
        code: Secret::new(form.required("code", "show the code: code")?),
        verifier: Secret::new(form.required("code_verifier", "show the code's verifier: code_verifier (RFC 7636)")?),
        client_id: client.id.to_string(),
        redirect_uri: form.get("redirect_uri").map(str::to_owned),
        resource: resource(app, form)?.map(|resource| app.issuer.uri(&resource)),
    };
    app.grants.redeem(&shown, now).await.map_err(|refusal| {
        *tenant = refusal.ended.as_ref().map(|ended| ended.tenant.clone());
        if refusal.reason != "resource" {
            return refusal;
        }
        let text = "the code is for another resource; begin again with the one that is wanted";
        Refusal { code: OauthCode::InvalidTarget, text, ..refusal }
    })
}

/// For a refresh token (RFC 6749 section 6).
async fn of_refresh(
    app: &App,
    client: &Client,
    form: &Form,
    tenant: &mut Option<TenantId>,
    now: OffsetDateTime,
) -> Result<Tokens, Refusal> {
    let token = form.required("refresh_token", "show the refresh token: refresh_token")?;
    let shown = Refresh {
        token: Secret::new(token),
        client_id: client.id.to_string(),
        scopes: form.get("scope").map(|scope| ScopeSet::asked(Some(scope))).transpose()?,
        resource: resource(app, form)?.map(|resource| app.issuer.uri(&resource)),
    };
    if is_token(TokenKind::Refresh, token)
        && let Some(grant) = app.store.grant_of_token(&hash_token(token), true).await?
        && grant.client_id.as_deref() == Some(&client.id)
    {
        let own = tenant.insert(grant.tenant()?);
        if let (Some(login), None) = (grant.login_id, grant.ended_at) {
            app.vouch(own, login, now).await?;
        }
    }
    app.grants.refresh(&shown, now).await
}

/// For nothing but the client's own proof (RFC 6749 section 4.4): it acts as its own account.
async fn of_itself(
    app: &App,
    client: &Client,
    form: &Form,
    tenant: &mut Option<TenantId>,
    now: OffsetDateTime,
) -> Result<Tokens, Refusal> {
    let Known::Registered { tenant: own, service: Some(user) } = &client.known else {
        let text = "only a service that an administrator registered acts on its own";
        return Err(Refusal::new(OauthCode::UnauthorizedClient, "unauthorized_client", text));
    };
    *tenant = Some(own.clone());
    let resource = resource(app, form)?.unwrap_or(Resource::All);
    let possible = client.scopes.and(resource.offers()).without(Scope::OfflineAccess);
    let scopes = match form.get("scope") {
        None => possible,
        // It needs no refresh token: it can come again.
        Some(scope) => ScopeSet::asked(Some(scope))?.without(Scope::OfflineAccess),
    };
    if scopes.is_empty() || !possible.covers(scopes) {
        let text = "the client may not have these scopes for this resource";
        return Err(Refusal::new(OauthCode::InvalidScope, "scope", text));
    }
    let order = Order {
        tenant: own.clone(),
        user: user.uuid(),
        client_id: client.id.to_string(),
        client_name: Some(client.name.to_string()),
        resource: app.issuer.uri(&resource),
        scopes,
        login_method: GrantType::ClientCredentials.as_str().to_owned(),
        login: None,
    };
    app.grants.issue(&order, now).await
}

/// The resource that is asked for (RFC 8707 section 2.2).
fn resource(app: &App, form: &Form) -> Result<Option<Resource>, Refusal> {
    let Some(asked) = form.get("resource") else { return Ok(None) };
    let found = app.issuer.resource(asked).map_err(|_| {
        let text =
            "no resource of this gateway: name the URL that is called, which ends in /mcp, /mcp/{server} or /api/v1";
        Refusal::new(OauthCode::InvalidTarget, "resource", text)
    })?;
    Ok(Some(found))
}
