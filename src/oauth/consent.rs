//! The page on which a person allows a program to act, or does not, and the form that says so. It comes before the sign-in; only
//! where what was allowed before may be remembered, which takes knowing who it is, it comes behind, if at all. An earlier sign-in in
//! the same browser spares nobody this page, and this page spares nobody the sign-in.

use std::sync::Arc;

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use http::header::SET_COOKIE;
use url::Url;
use uuid::Uuid;

use super::authorize::Asked;
use super::back::{Back, see_other};
use super::failure::Failure;
use super::fields::Fields;
use super::finish::{Arrival, client_of, finish};
use super::leave::{Along, send};
use super::pages::{Frame, form_action, show};
use super::sign_in::there_is_a_way;
use super::trail::{Trail, told};
use super::visitor::Visitor;
use crate::grants::client::{Client, Known};
use crate::grants::redirect::{Place, RedirectUri};
use crate::grants::resource::{Resource, shown_host};
use crate::grants::{Arrived, Begun, OauthCode, Refusal, Scope, UnderWay};
use crate::idp::ProviderInfo;
use crate::store::now;
use crate::telemetry::Event;

/// What people read of who asks.
enum Kind {
    Registered,
    Document { host: String },
    Itself { when: String },
}

#[derive(Template)]
#[template(path = "consent.html")]
struct Page<'a> {
    frame: Frame<'a>,
    id: String,
    csrf: &'a str,
    name: &'a str,
    kind: Kind,
    host: &'a str,
    redirect_uri: &'a str,
    loopback: bool,
    app: bool,
    resource: String,
    server: Option<String>,
    api: bool,
    scopes: Vec<&'static str>,
    days: u64,
    hint: Option<&'a str>,
    /// Who has signed in already.
    arrived: Option<&'a str>,
    providers: Vec<ProviderInfo>,
    local: bool,
}

impl Page<'_> {
    fn is_local_only(&self) -> bool {
        self.local && self.providers.is_empty()
    }
}

/// The page for what was asked, before anybody signs in.
pub(super) fn page(visitor: &Visitor, asked: &Asked, begun: &Begun) -> Response {
    match there_is_a_way(&visitor.app) {
        Ok(()) => show_page(visitor, asked, begun, None),
        Err(failure) => failure.show(visitor),
    }
}

/// The page for who has signed in, in the browser that began it and goes on with it.
pub(super) async fn ask(
    visitor: &Visitor,
    under: &UnderWay,
    client: &Arc<Client>,
    arrival: Arrival<'_>,
) -> Result<Response, Refusal> {
    let (app, request, account) = (&visitor.app, &under.request, arrival.account);
    let gone =
        |_| Refusal::new(OauthCode::InvalidRequest, "redirect_uri", "the program changed meanwhile; begin again");
    let asked = Asked {
        client: Arc::clone(client),
        redirect: RedirectUri::parse(&request.redirect_uri, app.clients.schemes()).map_err(gone)?,
        resource: app.issuer.resource(&request.resource).map_err(|_| {
            Refusal::new(OauthCode::InvalidTarget, "resource", "the resource is none of this gateway any more")
        })?,
        scopes: request.scopes,
        login_hint: None,
        prompt: request.prompt,
        key: request.key,
    };
    let arrived = Arrived {
        user: account.id,
        tenant: account.tenant.as_str().to_owned(),
        method: arrival.method.to_owned(),
        login: arrival.login,
    };
    let begun = app.grants.begin_again(under, Some(arrived), now()).await?;
    Ok(visitor.with_cookie(&begun, show_page(visitor, &asked, &begun, Some(&account.username))))
}

fn show_page(visitor: &Visitor, asked: &Asked, begun: &Begun, arrived: Option<&str>) -> Response {
    let app = &visitor.app;
    let kind = match &asked.client.known {
        Known::Registered { .. } => Kind::Registered,
        Known::Document => {
            let host = Url::parse(&asked.client.id).map(|url| shown_host(&url).to_owned());
            Kind::Document { host: host.unwrap_or_default() }
        }
        Known::Dynamic { issued_at } => Kind::Itself { when: issued_at.date().to_string() },
    };
    let place = asked.redirect.place();
    let page = Page {
        frame: Frame::of(app),
        id: begun.id.simple().to_string(),
        csrf: begun.csrf.expose(),
        name: &asked.client.name,
        kind,
        host: asked.redirect.shown(),
        redirect_uri: asked.redirect.as_str(),
        loopback: place == Place::Loopback,
        app: place == Place::App,
        resource: app.issuer.uri(&asked.resource),
        server: match &asked.resource {
            Resource::One(server) => Some(server.to_string()),
            _ => None,
        },
        api: asked.resource == Resource::Api,
        scopes: asked.scopes.iter().map(Scope::as_str).collect(),
        days: app.grants.terms().grant.as_secs().div_ceil(24 * 60 * 60),
        hint: asked.login_hint.as_deref(),
        arrived,
        providers: app.providers.names(),
        local: app.settings.sign_in.local_sign_in,
    };
    show(&page, StatusCode::OK, &form_action(app, Some(asked.redirect.as_str())))
}

/// What somebody pressed.
#[derive(Debug, PartialEq, Eq)]
enum Decision<'a> {
    Deny,
    Local,
    /// Whoever has signed in.
    Arrived,
    Provider {
        name: &'a str,
        another: bool,
    },
}

fn decision(text: &str) -> Option<Decision<'_>> {
    match text.split(':').collect::<Vec<_>>()[..] {
        ["deny"] => Some(Decision::Deny),
        ["allow", "local"] => Some(Decision::Local),
        ["allow", "arrived"] => Some(Decision::Arrived),
        ["allow", name] => Some(Decision::Provider { name, another: false }),
        ["allow", name, "other"] => Some(Decision::Provider { name, another: true }),
        _ => None,
    }
}

pub(super) async fn consent(visitor: Visitor, fields: Fields) -> Response {
    match decide(&visitor, &fields).await {
        Ok(response) => response,
        Err(failure) => failure.show(&visitor),
    }
}

async fn decide(visitor: &Visitor, fields: &Fields) -> Result<Response, Failure> {
    let app = &visitor.app;
    let Some(decision) = decision(fields.text("decision")) else {
        return Err(Failure::bad("Nothing was chosen", "Go back and press one of the buttons."));
    };
    let (id, cookie) = bound(visitor, fields, "consent").await?;
    let (csrf, grants) = (fields.text("csrf"), &app.grants);
    let under = match decision {
        Decision::Local | Decision::Arrived => grants.consent(id, cookie, csrf, now()).await,
        // A no keeps nothing, and a yes is kept with the way to the provider.
        Decision::Deny | Decision::Provider { .. } => grants.of_form(id, cookie, csrf, now()).await,
    };
    let under = match under {
        Ok(under) => under,
        Err(refusal) => {
            app.recorder.not_signed_in(visitor.turned_away(None, None, refusal.reason));
            trail_of(visitor, app.grants.trace_under_way(id, now()).await).stumbled(
                "consent",
                refusal.reason,
                told(&refusal),
            );
            return Err(Failure::of_refusal(&refusal));
        }
    };
    let trail = Trail::of(app, under.request.trace);
    let back = Back::of(&under.request, &app.issuer);
    match decision {
        Decision::Deny => {
            app.grants.give_up(id, cookie, now()).await.map_err(|refusal| Failure::of_refusal(&refusal))?;
            let arrived = under.arrived.as_ref();
            let (tenant, user) = (arrived.map(|arrived| &*arrived.tenant), arrived.map(|arrived| arrived.user));
            let who = Event { user, ..visitor.turned_away(client_of(&under.request), tenant, "denied") };
            app.recorder.tell(Event { action: "auth.consent", ..who.clone() });
            trail.failed("consent", "the person did not allow it", who, None);
            let mut response = back.denied();
            response.headers_mut().append(SET_COOKIE, visitor.cookies.end(id));
            Ok(response)
        }
        Decision::Local if app.settings.sign_in.local_sign_in => {
            trail.went("consent", "the person allows it and goes on with a password");
            Ok(see_other(&format!("{}/oauth/sign-in?id={}", app.issuer.path(), id.simple())))
        }
        Decision::Local => Err(Failure::bad("Not here", "Sign-in by password is off at this gateway.")),
        Decision::Provider { name, another } => {
            trail.went("consent", format!("the person allows it and goes on with `{name}`"));
            send(visitor, &under, cookie, name, Along { another, agreed: true, ..Along::default() }).await
        }
        Decision::Arrived => arrived(visitor, &trail, id, cookie).await,
    }
}

/// Gives what was allowed just now to who signed in before, if they may still come in.
async fn arrived(visitor: &Visitor, trail: &Trail, id: Uuid, cookie: &str) -> Result<Response, Failure> {
    let app = &visitor.app;
    let refuse = |refusal| Failure::of_refusal(&refusal);
    let under = app.grants.take(id, cookie, now()).await.map_err(refuse)?;
    let Some(arrived) = &under.arrived else { return Err(lost()) };
    let account = app.grants.account_again(arrived).await.map_err(refuse)?;
    trail.went("consent", "the person allows it");
    let arrival = Arrival { account: &account, method: &arrived.method, login: arrived.login };
    let mut response = finish(visitor, &under, trail, arrival).await?;
    response.headers_mut().append(SET_COOKIE, visitor.cookies.end(id));
    Ok(response)
}

/// The authorization that a form is about, and the cookie of the browser that began it. `step` is what the form is for.
pub(super) async fn bound<'a>(visitor: &'a Visitor, fields: &Fields, step: &str) -> Result<(Uuid, &'a str), Failure> {
    let id = Uuid::try_parse(fields.text("id")).ok();
    if let Some(found) = id.and_then(|id| Some((id, visitor.cookies.under_way(id)?))) {
        return Ok(found);
    }
    visitor.app.recorder.not_signed_in(visitor.turned_away(None, None, "other_browser"));
    if let Some(id) = id {
        let trail = trail_of(visitor, visitor.app.grants.trace_under_way(id, now()).await);
        let detail = "the page was sent by a browser that shows no cookie of this sign-in";
        trail.stumbled(step, "other_browser", detail);
    }
    Err(lost())
}

/// The trace that was looked for, if there is one.
pub(super) fn trail_of(visitor: &Visitor, found: Result<Option<Uuid>, Refusal>) -> Trail {
    let id = found.inspect_err(|refusal| tracing::warn!(detail = refusal.detail, "a sign-in is not found")).ok();
    Trail::of(&visitor.app, id.flatten())
}

/// A form or an answer that does not belong to this browser, as far as can be told.
pub(super) fn lost() -> Failure {
    Failure::new(
        StatusCode::BAD_REQUEST,
        "This sign-in cannot go on",
        "It was begun in another browser, is over by now, or this browser does not keep cookies.",
        "Close this page and begin again from the program that you came from.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pressed_is_read_exactly() {
        assert_eq!(decision("deny"), Some(Decision::Deny));
        assert_eq!(decision("allow:local"), Some(Decision::Local));
        assert_eq!(decision("allow:entra"), Some(Decision::Provider { name: "entra", another: false }));
        assert_eq!(decision("allow:entra:other"), Some(Decision::Provider { name: "entra", another: true }));
        assert_eq!(decision("allow:arrived"), Some(Decision::Arrived));
        for text in ["", "allow", "yes", "deny:entra", "allow:entra:x", "allow:a:other:b"] {
            assert_eq!(decision(text), None, "{text}");
        }
    }
}
