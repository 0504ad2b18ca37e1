//! The page on which a person allows a program to act, or does not, and the form that says so. Whoever allows goes on to sign in,
//! always: an earlier sign-in in the same browser spares nobody this page, and this page spares nobody the sign-in.

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use http::header::SET_COOKIE;
use url::Url;
use uuid::Uuid;

use super::authorize::Asked;
use super::back::{Back, see_other};
use super::callback::send;
use super::failure::Failure;
use super::fields::Fields;
use super::pages::{Frame, form_action, show};
use super::trail::{Trail, told};
use super::visitor::Visitor;
use crate::grants::client::Known;
use crate::grants::redirect::Place;
use crate::grants::resource::{Resource, shown_host};
use crate::grants::{Begun, Refusal, Scope};
use crate::idp::ProviderInfo;
use crate::store::now;

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
    providers: Vec<ProviderInfo>,
    local: bool,
}

impl Page<'_> {
    fn is_local_only(&self) -> bool {
        self.local && self.providers.is_empty()
    }
}

/// The page for what was asked.
pub(super) fn page(visitor: &Visitor, asked: &Asked, begun: &Begun) -> Response {
    let app = &visitor.app;
    let (providers, local) = (app.providers.names(), app.settings.sign_in.local_sign_in);
    if providers.is_empty() && !local {
        let text = "Nobody can sign in here: no identity provider is set up, and sign-in by password is off.";
        return Failure::new(StatusCode::SERVICE_UNAVAILABLE, "Sign-in is not set up", text, "")
            .with_help()
            .show(visitor);
    }
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
        providers,
        local,
    };
    show(&page, StatusCode::OK, &form_action(app, Some(asked.redirect.as_str())))
}

/// What somebody pressed.
#[derive(Debug, PartialEq, Eq)]
enum Decision<'a> {
    Deny,
    Local,
    Provider { name: &'a str, another: bool },
}

fn decision(text: &str) -> Option<Decision<'_>> {
    match text.split(':').collect::<Vec<_>>()[..] {
        ["deny"] => Some(Decision::Deny),
        ["allow", "local"] => Some(Decision::Local),
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
    let under = match app.grants.consent(id, cookie, fields.text("csrf"), now()).await {
        Ok(under) => under,
        Err(refusal) => {
            app.recorder.metrics().auth("", "login", false, refusal.reason);
            trail_of(visitor, app.grants.trace_under_way(id, now()).await)
                .stumbled("consent", refusal.reason, told(&refusal))
                .await;
            return Err(Failure::of_refusal(&refusal));
        }
    };
    let trail = Trail::of(app, under.request.trace);
    let back = Back::of(&under.request, &app.issuer);
    match decision {
        Decision::Deny => {
            app.grants.give_up(id, cookie, now()).await.map_err(|refusal| Failure::of_refusal(&refusal))?;
            trail.failed("consent", "the person did not allow it", "", "denied", None).await;
            let mut response = back.denied();
            response.headers_mut().append(SET_COOKIE, visitor.cookies.end(id));
            Ok(response)
        }
        Decision::Local if app.settings.sign_in.local_sign_in => {
            trail.went("consent", "the person allows it and goes on with a password").await;
            Ok(see_other(&format!("{}/oauth/sign-in?id={}", app.issuer.path(), id.simple())))
        }
        Decision::Local => Err(Failure::bad("Not here", "Sign-in by password is off at this gateway.")),
        Decision::Provider { name, another } => {
            trail.went("consent", format!("the person allows it and goes on with `{name}`")).await;
            send(visitor, &under, cookie, name, another).await
        }
    }
}

/// The authorization that a form is about, and the cookie of the browser that began it. `step` is what the form is for.
pub(super) async fn bound<'a>(visitor: &'a Visitor, fields: &Fields, step: &str) -> Result<(Uuid, &'a str), Failure> {
    let id = Uuid::try_parse(fields.text("id")).ok();
    if let Some(found) = id.and_then(|id| Some((id, visitor.cookies.under_way(id)?))) {
        return Ok(found);
    }
    visitor.app.recorder.metrics().auth("", "login", false, "other_browser");
    if let Some(id) = id {
        let trail = trail_of(visitor, visitor.app.grants.trace_under_way(id, now()).await);
        let detail = "the page was sent by a browser that shows no cookie of this sign-in";
        trail.stumbled(step, "other_browser", detail).await;
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
        for text in ["", "allow", "yes", "deny:entra", "allow:entra:x", "allow:a:other:b"] {
            assert_eq!(decision(text), None, "{text}");
        }
    }
}
