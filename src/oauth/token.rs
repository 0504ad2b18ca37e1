//! The token endpoint (RFC 6749 section 3.2): proves the client, reads what it shows for tokens, and asks `grants`. Before a
//! session goes on, the identity provider is asked again whether the person may still come in, if that is due; a provider that
//! is ill ends nobody's session.

mod noting;
mod told;

use std::net::IpAddr;
use std::sync::Arc;

use axum::response::Response;
use http::HeaderMap;
use time::OffsetDateTime;

use super::answer::{Denied, THROTTLED, tokens};
use super::assertion::of_assertion;
use super::client::{authenticate, claimed};
use super::exchange::of_token;
use super::form::Form;
use super::possession::proved;
use crate::app::App;
use crate::crypto::{TokenKind, hash_token, is_token};
use crate::grants::client::{Client, GrantType, Known};
use crate::grants::resource::Resource;
use crate::grants::{
    DETAILS, GrantKind, Issue, OauthCode, Order, Possession, Redemption, Refresh, Refusal, Scope, ScopeSet, Tokens,
};
use crate::id::TenantId;
use crate::protocol::oauth::ACCESS_TOKEN;
use crate::secret::Secret;
use crate::store::{self, now};
use crate::web::Origin;
use noting::Asker;

/// `POST /oauth/token`.
pub(super) async fn token(app: App, origin: Origin, headers: HeaderMap, form: Form) -> Result<Response, Denied> {
    let (source, now) = (origin.address, now());
    let kind = match form.required("grant_type", "name what is shown: grant_type").map(GrantType::named) {
        Ok(Some(kind)) => kind,
        Ok(None) => {
            let text = "this gateway takes authorization_code, refresh_token, client_credentials, and of RFC 7523 and RFC 8693 \
                        urn:ietf:params:oauth:grant-type:jwt-bearer and urn:ietf:params:oauth:grant-type:token-exchange";
            return Err(Refusal::new(OauthCode::UnsupportedGrantType, "unsupported_grant_type", text).into());
        }
        Err(refusal) => return Err(refusal.into()),
    };
    let method = match kind {
        GrantType::AuthorizationCode | GrantType::JwtBearer => "login",
        GrantType::RefreshToken => "refresh",
        GrantType::ClientCredentials => "client_credentials",
        GrantType::TokenExchange => "validate",
    };
    let mut seen = Seen { client: None, tenant: None, method, possession: Possession::default() };
    let given = Box::pin(give(&app, (&headers, source), &form, kind, &mut seen, now)).await;
    let given = app.judged(source, now, given, Denied::is_wrong);
    let asker = Asker { source, claimed: claimed(&headers, &form), proved: seen.client.as_deref() };
    let of = noting::note(&app, &asker, &form, kind, &given).await;
    // Of who has to wait the request's own record says enough.
    if given.as_ref().err().is_none_or(|denied| denied.reason() != THROTTLED) {
        app.recorder.tell(told::told(&origin, &asker, &seen, kind, &given, of.as_ref()));
    }
    // That somebody signed in was counted when they did.
    if given.is_err() || kind != GrantType::AuthorizationCode {
        let reason = given.as_ref().err().map_or("", Denied::reason);
        let tenant = seen.tenant.as_ref().map_or("", |tenant| tenant.as_str());
        app.recorder.metrics().auth(tenant, seen.method, given.is_ok(), reason);
    }
    let issued = (kind == GrantType::TokenExchange).then_some(ACCESS_TOKEN);
    given.map(|given| tokens(given, issued, now)).inspect_err(|denied| denied.note(&app))
}

/// What was seen of who asks: which client it is, for the count whose tenant, and by which method; and which key was proved.
pub(super) struct Seen {
    pub(super) client: Option<Arc<Client>>,
    pub(super) tenant: Option<TenantId>,
    pub(super) method: &'static str,
    pub(super) possession: Possession,
}

async fn give(
    app: &App,
    (headers, source): (&HeaderMap, IpAddr),
    form: &Form,
    kind: GrantType,
    seen: &mut Seen,
    now: OffsetDateTime,
) -> Result<Tokens, Denied> {
    let client = authenticate(app, headers, form, source, now).await?;
    seen.client = Some(Arc::clone(&client));
    if !client.may(kind) {
        let text = "the client is not registered for this grant_type";
        return Err(Refusal::new(OauthCode::UnauthorizedClient, "unauthorized_client", text).into());
    }
    seen.possession = proved(app, headers, &client, now)?;
    if form.get(DETAILS).is_some() {
        return Err(Refusal::of_details().into());
    }
    // The client's document or keys may have been fetched.
    let now = store::now();
    let given = match kind {
        GrantType::AuthorizationCode => of_code(app, &client, form, seen, now).await,
        GrantType::RefreshToken => of_refresh(app, &client, form, seen, now).await,
        GrantType::ClientCredentials => of_itself(app, &client, form, seen, now).await,
        GrantType::JwtBearer => Box::pin(of_assertion(app, &client, form, seen, now)).await,
        GrantType::TokenExchange => Box::pin(of_token(app, &client, form, seen, now)).await,
    };
    Ok(given?)
}

/// For a code (RFC 6749 section 4.1.3, RFC 7636 section 4.5).
async fn of_code(
    app: &App,
    client: &Client,
    form: &Form,
    seen: &mut Seen,
    now: OffsetDateTime,
) -> Result<Tokens, Refusal> {
    let shown = Redemption {
        code: Secret::new(form.required("code", "show the code: code")?),
        verifier: Secret::new(form.required("code_verifier", "show the code's verifier: code_verifier (RFC 7636)")?),
        client_id: client.id.to_string(),
        redirect_uri: form.get("redirect_uri").map(str::to_owned),
        // What a document says is kept here for hours, and the authorization may have gone by a newer one: by what another process
        // fetched, or this one, before it began anew. A code that was sent there within a minute is not ended by an older copy.
        redirects: client.is_registered().then(|| client.redirects.clone()),
        resource: resource(app, form)?.map(|resource| app.issuer.uri(&resource)),
        possession: seen.possession,
    };
    app.grants.redeem(&shown, now).await.map_err(|refusal| {
        seen.tenant = refusal.ended.as_ref().map(|ended| ended.tenant.clone());
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
    seen: &mut Seen,
    now: OffsetDateTime,
) -> Result<Tokens, Refusal> {
    let token = form.required("refresh_token", "show the refresh token: refresh_token")?;
    let shown = Refresh {
        token: Secret::new(token),
        client_id: client.id.to_string(),
        scopes: form.get("scope").map(|scope| ScopeSet::asked(Some(scope))).transpose()?,
        resource: resource(app, form)?.map(|resource| app.issuer.uri(&resource)),
        possession: seen.possession,
    };
    if is_token(TokenKind::Refresh, token)
        && let Some(grant) = app.store.grant_of_token(&hash_token(token), true).await?
        && grant.client_id.as_deref() == Some(&client.id)
    {
        let own = seen.tenant.insert(grant.tenant()?);
        if let (Some(login), None) = (grant.login_id, grant.ended_at) {
            app.ask_back(own, login, grant.id).await?;
            app.vouch(own, login, now).await?;
        }
    }
    // The provider may have taken seconds, and what ends is to end at its time: other processes look for it there.
    app.grants.refresh(&shown, store::now()).await
}

/// For nothing but the client's own proof (RFC 6749 section 4.4): it acts as its own account.
async fn of_itself(
    app: &App,
    client: &Client,
    form: &Form,
    seen: &mut Seen,
    now: OffsetDateTime,
) -> Result<Tokens, Refusal> {
    if let Known::Registered { tenant: own, .. } = &client.known {
        seen.tenant = Some(own.clone());
    }
    let how = Issue { key: seen.possession.key, ..Issue::alone(GrantKind::Service) };
    of_itself_by(app, client, form, GrantType::ClientCredentials.as_str().to_owned(), how, now).await
}

/// For the client itself, however it proved that.
pub(super) async fn of_itself_by(
    app: &App,
    client: &Client,
    form: &Form,
    login_method: String,
    how: Issue,
    now: OffsetDateTime,
) -> Result<Tokens, Refusal> {
    let Known::Registered { tenant, service: Some(user) } = &client.known else {
        let text = "only a service that an administrator registered acts on its own";
        return Err(Refusal::new(OauthCode::UnauthorizedClient, "unauthorized_client", text));
    };
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
        tenant: tenant.clone(),
        user: user.uuid(),
        client_id: client.id.to_string(),
        client_name: Some(client.name.to_string()),
        resource: app.issuer.uri(&resource),
        scopes,
        login_method,
        login: None,
    };
    app.issue(&order, how, now).await
}

/// The resource that is asked for (RFC 8707 section 2.2).
pub(super) fn resource(app: &App, form: &Form) -> Result<Option<Resource>, Refusal> {
    let Some(asked) = form.get("resource") else { return Ok(None) };
    let found = app.issuer.resource(asked).map_err(|_| {
        let text =
            "no resource of this gateway: name the URL that is called, which ends in /mcp, /mcp/{server} or /api/v1";
        Refusal::new(OauthCode::InvalidTarget, "resource", text)
    })?;
    Ok(Some(found))
}
