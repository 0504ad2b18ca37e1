//! The end of every sign-in: somebody is known, and gets what was asked for. A client gets a code, for what the person allowed,
//! here or before and then remembered; nobody else decides that. Where no client waits, the browser gets a session of its own for
//! "my access".

use axum::response::Response;
use http::header::SET_COOKIE;
use uuid::Uuid;

use super::back::{Back, see_other};
use super::failure::Failure;
use super::remembered::Memory;
use super::trail::{Trail, told};
use super::visitor::Visitor;
use super::{consent, handed};
use crate::grants::client::Known;
use crate::grants::{
    Account, BROWSER_SESSION_LASTS, CodeTerms, Made, OauthCode, Order, Outcome, Prompt, Refusal, Request, ScopeSet,
    UnderWay,
};
use crate::store::now;
use crate::telemetry::Event;

/// Where somebody goes who signs in and wants nowhere else.
pub(super) const ACCESS: &str = "/access";

/// What is kept of a sign-in at our own pages, on the way to one of them: a request of nobody. No client has an empty id.
pub(super) fn own_request(trace: Option<Uuid>, page: String) -> Request {
    Request {
        client_id: String::new(),
        client_name: None,
        redirect_uri: page,
        state: None,
        code_challenge: String::new(),
        resource: String::new(),
        scopes: ScopeSet::EMPTY,
        login_hint: None,
        prompt: Prompt::default(),
        // There is nothing to agree to.
        ask_later: true,
        key: None,
        trace,
    }
}

/// Where the browser goes then. A sign-in that began before there was a choice says nothing.
fn page_after(request: &Request) -> &str {
    if request.redirect_uri.is_empty() { ACCESS } else { &request.redirect_uri }
}

/// Whether no client waits.
pub(super) fn is_own(request: &Request) -> bool {
    request.client_id.is_empty()
}

/// The client that waits, if one does.
pub(super) fn client_of(request: &Request) -> Option<&str> {
    Some(&*request.client_id).filter(|id| !id.is_empty())
}

/// Who signed in, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival<'a> {
    /// The account.
    pub(super) account: &'a Account,
    /// `local`, or the identity provider's name.
    pub(super) method: &'a str,
    /// What the provider gave us for the person, if it is kept.
    pub(super) login: Option<Uuid>,
}

/// Gives what was asked for to who arrived, or asks first whether it is allowed, if nobody has.
pub(super) async fn finish(
    visitor: &Visitor,
    under: &UnderWay,
    trail: &Trail,
    arrival: Arrival<'_>,
) -> Result<Response, Failure> {
    let tenant = &arrival.account.tenant;
    let done = if is_own(&under.request) {
        open(visitor, trail, arrival, page_after(&under.request)).await.map(Done::Given)
    } else {
        give(visitor, under, trail, arrival).await
    };
    match done {
        Ok(Done::Given(response)) => {
            visitor.app.recorder.signed_in(
                arrival.method,
                now(),
                Event {
                    name: Some(arrival.method.into()),
                    ..came(visitor, client_of(&under.request), arrival.account, "auth.login")
                },
            );
            Ok(response)
        }
        Ok(Done::Asked(response)) => Ok(response),
        Err(refusal) => {
            let who = visitor.turned_away(client_of(&under.request), Some(tenant.as_str()), refusal.reason);
            trail.failed("code", told(&refusal), Event { user: Some(arrival.account.id), ..who }, None);
            if !refusal.detail.is_empty() {
                tracing::error!(request_id = visitor.request_id.as_str(), detail = refusal.detail, "nothing was given");
            }
            let back = (!is_own(&under.request)).then(|| Back::of(&under.request, &visitor.app.issuer));
            Err(Failure::of_refusal(&refusal).with_back(back.as_ref(), refusal.code.as_str(), refusal.text))
        }
    }
}

/// What somebody did who is known here.
pub(super) fn came(visitor: &Visitor, client: Option<&str>, account: &Account, action: &'static str) -> Event {
    Event {
        tenant: Some(account.tenant.as_str().into()),
        user: Some(account.id),
        username: Some(account.username.as_str().into()),
        client: client.map(Into::into),
        address: Some(visitor.address),
        request_id: Some(visitor.request_id.clone()),
        ..Event::new(action, true)
    }
}

/// What somebody who arrived gets.
enum Done {
    /// What was asked for.
    Given(Response),
    /// A page that asks whether it is allowed.
    Asked(Response),
}

async fn open(visitor: &Visitor, trail: &Trail, arrival: Arrival<'_>, page: &str) -> Result<Response, Refusal> {
    let app = &visitor.app;
    let Arrival { account, method, login } = arrival;
    // Never the same session for the next person, nor one that somebody else may have put there.
    if let Some(old) = visitor.cookies.session() {
        app.told_of(app.grants.close_session(old, now()).await?.as_slice());
    }
    let cookie = app.grants.open_session(account, method, login, now()).await?;
    app.told_of(&app.grants.end_surplus(&account.tenant, account.id, Made::InBrowser, now()).await?);
    trail.known("session", "a session of this browser begins", account, Some(Outcome::Success));
    let mut response = see_other(&format!("{}{page}", app.issuer.path()));
    let cookie = visitor.cookies.open_session(cookie.expose(), BROWSER_SESSION_LASTS);
    response.headers_mut().append(SET_COOKIE, cookie);
    Ok(response)
}

async fn give(visitor: &Visitor, under: &UnderWay, trail: &Trail, arrival: Arrival<'_>) -> Result<Done, Refusal> {
    let app = &visitor.app;
    let (request, Arrival { account, method, login }) = (&under.request, arrival);
    let client = app.clients.recall(&request.client_id, visitor.address, now()).await.map_err(|error| {
        let text = "the program is not known here any more; begin again";
        Refusal::new(OauthCode::UnauthorizedClient, error.reason(), text)
    })?;
    if let Known::Registered { tenant, .. } = &client.known
        && *tenant != account.tenant
    {
        let text = "the program is for people of another organisation only";
        return Err(Refusal::new(OauthCode::AccessDenied, "other_tenant", text));
    }
    let memory = Memory::of_request(app, &client, request);
    if !under.consented {
        let remembered = match &memory {
            Some(memory) if !request.prompt.consent => memory.holds(app, account).await?,
            _ => false,
        };
        if !remembered {
            trail.went("asked", "signed in, and asked whether to allow it");
            return consent::ask(visitor, under, &client, arrival).await.map(Done::Asked);
        }
        trail.went("consent", "the person allowed it before");
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
    let terms = CodeTerms {
        redirect_uri: request.redirect_uri.clone(),
        code_challenge: request.code_challenge.clone(),
        key: request.key,
        trace: request.trace,
    };
    let granted = app.grants.grant(&order, &terms, now()).await?;
    app.told_of(&granted.ended);
    app.recorder.tell(Event {
        credential: Some(granted.id),
        name: Some(request.resource.as_str().into()),
        reason: Some(if under.consented { "allowed" } else { "remembered" }.into()),
        detail: Some(request.scopes.to_string().into()),
        ..came(visitor, client_of(request), account, "auth.consent")
    });
    if let Some(memory) = memory.filter(|_| under.consented) {
        memory.keep(app, account).await?;
    }
    let detail = format!("a code is given, and the browser sent back with it; grant {}", granted.id);
    trail.granted(detail, account, granted.id);
    let url = Back::of(request, &app.issuer).url_with_code(granted.code.expose());
    Ok(Done::Given(handed::over(visitor, request, &url)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_began_to_sign_in_before_there_was_a_choice_comes_to_the_page_that_there_was() {
        assert_eq!(page_after(&own_request(None, String::new())), ACCESS);
        assert_eq!(page_after(&own_request(None, "/connections/tracker".to_owned())), "/connections/tracker");
    }
}
