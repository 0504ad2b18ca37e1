//! The end of every sign-in: somebody is known, and gets what was asked for. A client gets a code, for what the person allowed;
//! where no client waits, the browser gets a session of its own for "my access".

use axum::response::Response;
use http::header::SET_COOKIE;
use uuid::Uuid;

use super::back::{Back, see_other};
use super::failure::Failure;
use super::trail::{Trail, told};
use super::visitor::Visitor;
use crate::grants::client::Known;
use crate::grants::{
    Account, BROWSER_SESSION_LASTS, CodeTerms, OauthCode, Order, Outcome, Refusal, Request, ScopeSet, UnderWay,
};
use crate::store::now;

/// What is kept of a sign-in at our own pages: a request of nobody. No client has an empty id.
pub(super) fn own_request(trace: Option<Uuid>) -> Request {
    Request {
        client_id: String::new(),
        client_name: None,
        redirect_uri: String::new(),
        state: None,
        code_challenge: String::new(),
        resource: String::new(),
        scopes: ScopeSet::EMPTY,
        login_hint: None,
        trace,
    }
}

/// Whether no client waits.
pub(super) fn is_own(request: &Request) -> bool {
    request.client_id.is_empty()
}

/// Gives what was asked for to `account`, which signed in by `method`.
pub(super) async fn finish(
    visitor: &Visitor,
    under: &UnderWay,
    trail: &Trail,
    account: &Account,
    method: &str,
    login: Option<Uuid>,
) -> Result<Response, Failure> {
    let tenant = account.tenant.as_str();
    let done = if is_own(&under.request) {
        open(visitor, trail, account, method, login).await
    } else {
        give(visitor, under, trail, account, method, login).await
    };
    match done {
        Ok(response) => {
            let metrics = visitor.app.recorder.metrics();
            metrics.auth(tenant, "login", true, "");
            metrics.login(tenant, method, now());
            Ok(response)
        }
        Err(refusal) => {
            trail.failed("code", told(&refusal), tenant, refusal.reason, None).await;
            if !refusal.detail.is_empty() {
                tracing::error!(request_id = visitor.request_id.as_str(), detail = refusal.detail, "nothing was given");
            }
            let back = (!is_own(&under.request)).then(|| Back::of(&under.request, &visitor.app.issuer));
            Err(Failure::of_refusal(&refusal).with_back(back.as_ref(), refusal.code.as_str(), refusal.text))
        }
    }
}

async fn open(
    visitor: &Visitor,
    trail: &Trail,
    account: &Account,
    method: &str,
    login: Option<Uuid>,
) -> Result<Response, Refusal> {
    let app = &visitor.app;
    // Never the same session for the next person, nor one that somebody else may have put there.
    if let Some(old) = visitor.cookies.session() {
        app.told_of(app.grants.close_session(old, now()).await?.as_slice());
    }
    let cookie = app.grants.open_session(account, method, login, now()).await?;
    trail.known("session", "a session of this browser begins", account, Some(Outcome::Success)).await;
    let mut response = see_other(&format!("{}/access", app.issuer.path()));
    let cookie = visitor.cookies.open_session(cookie.expose(), BROWSER_SESSION_LASTS);
    response.headers_mut().append(SET_COOKIE, cookie);
    Ok(response)
}

async fn give(
    visitor: &Visitor,
    under: &UnderWay,
    trail: &Trail,
    account: &Account,
    method: &str,
    login: Option<Uuid>,
) -> Result<Response, Refusal> {
    let app = &visitor.app;
    let request = &under.request;
    let client = app.clients.recall(&request.client_id, now()).await.map_err(|error| {
        let text = "the program is not known here any more; begin again";
        Refusal::new(OauthCode::UnauthorizedClient, error.reason(), text)
    })?;
    if let Known::Registered { tenant, .. } = &client.known
        && *tenant != account.tenant
    {
        let text = "the program is for people of another organisation only";
        return Err(Refusal::new(OauthCode::AccessDenied, "other_tenant", text));
    }
    let order = Order {
        tenant: account.tenant.clone(),
        user: account.id,
        client_id: request.client_id.clone(),
        client_name: request.client_name.clone(),
        resource: request.resource.clone(),
        scopes: request.scopes,
        login_method: method.to_owned(),
        login,
    };
    let terms =
        CodeTerms { redirect_uri: request.redirect_uri.clone(), code_challenge: request.code_challenge.clone() };
    let granted = app.grants.grant(&order, &terms, now()).await?;
    let detail = format!("a code is given, and the browser sent back with it; grant {}", granted.id);
    trail.granted(detail, account, granted.id).await;
    Ok(Back::of(request, &app.issuer).with_code(granted.code.expose()))
}
