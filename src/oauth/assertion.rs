//! Tokens for an assertion of a trusted issuer (RFC 7523 section 2.1): for a person whom an identity provider introduced to the
//! client, or for the client itself, for which its platform vouches. There is no refresh token: the issuer is to be asked again.

use time::OffsetDateTime;

use super::form::Form;
use super::token::{Seen, of_itself_by, resource};
use crate::access::Role;
use crate::app::App;
use crate::grants::client::{Client, Known};
use crate::grants::{
    GrantKind, Introduced, Issue, OauthCode, Order, Person, Refusal, Scope, ScopeSet, Tokens, Vouched, bad_assertion,
};
use crate::id::TenantId;

/// `grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer`.
pub(super) async fn of_assertion(
    app: &App,
    client: &Client,
    form: &Form,
    seen: &mut Seen,
    now: OffsetDateTime,
) -> Result<Tokens, Refusal> {
    let Known::Registered { tenant, service } = &client.known else {
        let text = "only a client that an administrator registered for it shows assertions";
        return Err(Refusal::new(OauthCode::UnauthorizedClient, "unauthorized_client", text));
    };
    seen.tenant = Some(tenant.clone());
    if service.is_some() {
        seen.method = "client_credentials";
    }
    let key = seen.possession.key;
    let shown = form.required("assertion", "show what the issuer signed: assertion (RFC 7523)")?;
    match app.clients.vouched(client, tenant, shown, app.issuer.as_str(), key, now).await? {
        Vouched::Itself { login_method, until, at_most } => {
            let own = match service {
                Some(account) => app.store.user(tenant, account.uuid()).await?,
                None => None,
            };
            if own.and_then(|row| Role::parse(&row.role)).is_none_or(|role| role > at_most) {
                return Err(bad_assertion("untrusted"));
            }
            let how = Issue { until: Some(until), key, ..Issue::alone(GrantKind::Service) };
            of_itself_by(app, client, form, login_method, how, now).await
        }
        Vouched::Person(who) => {
            let how = Issue { key, ..Issue::alone(GrantKind::Client) };
            introduced(app, client, tenant, form, *who, how, now).await
        }
    }
}

async fn introduced(
    app: &App,
    client: &Client,
    tenant: &TenantId,
    form: &Form,
    who: Introduced,
    how: Issue,
    now: OffsetDateTime,
) -> Result<Tokens, Refusal> {
    let wanted = app.issuer.resource(&who.resource).map_err(|_| bad_assertion("resource"))?;
    if resource(app, form)?.is_some_and(|asked| asked != wanted) {
        let text = "the assertion is for another resource; get one for the resource that is wanted";
        return Err(Refusal::new(OauthCode::InvalidTarget, "resource", text));
    }
    let possible = client.scopes.and(wanted.offers()).and(who.scopes);
    let scopes = match form.get("scope") {
        None => possible,
        Some(scope) => ScopeSet::asked(Some(scope))?.and(possible),
    };
    if scopes.without(Scope::OfflineAccess).is_empty() {
        let text = "none of the scopes that are asked for is allowed by the assertion, its issuer, the client and the resource";
        return Err(Refusal::new(OauthCode::InvalidScope, "scope", text));
    }
    let role = role(app, &who).await?;
    // Last of all that can be wrong with it: what is refused may be mended and shown again.
    if !app.grants.spend_assertion(&who.issuer, &who.jti, who.until).await? {
        return Err(bad_assertion("replayed"));
    }
    let person = Person {
        issuer: &who.issuer,
        subject: &who.subject,
        username: &who.username,
        display_name: who.display_name.as_deref(),
        directory: None,
        guest: false,
        role,
        believed: true,
    };
    let account = app.grants.account_for(tenant, &person, now).await.map_err(|refusal| match refusal.code {
        OauthCode::AccessDenied => Refusal { code: OauthCode::InvalidGrant, ..refusal },
        _ => refusal,
    })?;
    // Another role is in force before the token goes out.
    app.changed().await?;
    let order = Order {
        tenant: tenant.clone(),
        user: account.id,
        client_id: client.id.to_string(),
        client_name: Some(client.name.to_string()),
        resource: app.issuer.uri(&wanted),
        scopes,
        login_method: who.login_method,
        login: None,
    };
    app.issue(&order, how, now).await
}

/// The role of the person's account. Of somebody of a provider with which people sign in here, signing in says it, and an
/// introduction to a client changes nothing of it. Who never did is not known yet: whose the person is, and whether people of that
/// directory are let in, is decided there.
async fn role(app: &App, who: &Introduced) -> Result<Role, Refusal> {
    if !app.providers.sign_in(&who.issuer) {
        return Ok(who.role);
    }
    let known = app.store.user_of_subject(&who.issuer, &who.subject).await?;
    known.and_then(|row| Role::parse(&row.role)).ok_or_else(|| {
        let text = "people of this issuer sign in at this gateway once, before it introduces them to clients";
        Refusal::new(OauthCode::InvalidGrant, "never_signed_in", text)
    })
}
