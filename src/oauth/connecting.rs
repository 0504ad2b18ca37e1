//! The way to a server's own authorization server and back, and the end of what came of it: by forms of the page, in the browser that is
//! signed in here. How the gateway describes itself to who asks on the way.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery};
use axum::response::{IntoResponse, Json, Response};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use uuid::Uuid;

use super::account::proven;
use super::back::see_other;
use super::connections::{Here, failed, here, named, show_one, unknown, with_caller};
use super::failure::Failure;
use super::fields::Fields;
use super::finish::came;
use super::form::LARGEST;
use super::visitor::Visitor;
use crate::app::App;
use crate::connections::{Answer, ConnectError, PAGE, Person, Site};
use crate::id::Slug;
use crate::store::now;
use crate::telemetry::Event;
use crate::web::problem::no_such_path;

/// In place of a server's name: those that the person does not see any more. No server has it.
pub(super) const LOST: &str = "-";
/// How long others may keep the description.
const KEPT: &str = "public, max-age=3600";

/// `POST /connections/{server}`.
pub(super) async fn decided(visitor: Visitor, path: Result<Path<String>, PathRejection>, fields: Fields) -> Response {
    let slug = path.map(|Path(slug)| slug).unwrap_or_default();
    Box::pin(decide(&visitor, &slug, &fields)).await.unwrap_or_else(|failure| failure.show(&visitor))
}

async fn decide(visitor: &Visitor, slug: &str, fields: &Fields) -> Result<Response, Failure> {
    let app = &visitor.app;
    let here = with_caller(visitor, proven(visitor, fields).await?).await?.ok_or_else(signed_out)?;
    if slug == LOST {
        return give_up(visitor, &here, fields).await;
    }
    let slug = Slug::parse(slug).map_err(|_| unknown())?;
    let site = named(visitor, &here, &slug)?;
    let who = person(&here);
    match fields.text("decision") {
        "connect" => {
            app.may_begin(visitor.address, now()).map_err(Failure::too_many)?;
            match app.connections().begin(&site, who, fields.text("leads"), now()).await {
                Ok(url) => Ok(see_other(url.as_str())),
                // It is another place than the page named, or could not be named then.
                Err(ConnectError::NotShown) => show_one(visitor, &here, &site, true).await,
                Err(error) => Err(failed(visitor, &error, Some(&site))),
            }
        }
        "disconnect" => {
            let done = app.connections().disconnect(&site, who, now()).await;
            done.map_err(|error| failed(visitor, &error, Some(&site)))?;
            recorded(visitor, &here, Some(&site), "connection.end");
            followed(visitor, Some(&site)).await?;
            Ok(to_page(visitor, &site))
        }
        _ => Err(Failure::bad("Nothing was chosen", "Go back and press one of the buttons.")),
    }
}

/// Ends what somebody connected to a server that they do not see any more.
async fn give_up(visitor: &Visitor, here: &Here<'_>, fields: &Fields) -> Result<Response, Failure> {
    if let Ok(id) = Uuid::parse_str(fields.text("connection")) {
        let done = visitor.app.connections().give_up(person(here), id, now()).await;
        done.map_err(|error| failed(visitor, &error, None))?;
        recorded(visitor, here, None, "connection.end");
        followed(visitor, None).await?;
    }
    Ok(see_other(&format!("{}{PAGE}", visitor.app.issuer.path())))
}

/// `GET /connections/callback/{key}`.
pub(super) async fn callback(
    visitor: Visitor,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Response {
    let Ok(Path(key)) = path else { return unknown().show(&visitor) };
    let query = query.filter(|query| query.len() <= LARGEST).unwrap_or_default();
    let fields = Fields::of(query.as_bytes());
    Box::pin(come_back(&visitor, &key, &fields)).await.unwrap_or_else(|failure| failure.show(&visitor))
}

async fn come_back(visitor: &Visitor, key: &str, fields: &Fields) -> Result<Response, Failure> {
    let app = &visitor.app;
    let here = here(visitor).await?.ok_or_else(signed_out)?;
    // Of a parameter that comes twice, another reader may take the other one.
    let one = |name| fields.one(name).map_err(|_| failed(visitor, &ConnectError::Lost, None));
    let answer = Answer {
        key,
        state: one("state")?.unwrap_or_default(),
        iss: one("iss")?,
        code: one("code")?,
        error: one("error")?,
        description: one("error_description")?,
    };
    let mut at = None;
    let site_of = |id| app.site(&here.caller, id);
    let done = app.connections().finish(answer, person(&here), site_of, now(), &mut at).await;
    done.map_err(|error| failed(visitor, &error, at.as_ref()))?;
    let site = at.ok_or_else(|| failed(visitor, &ConnectError::Lost, None))?;
    recorded(visitor, &here, Some(&site), "connection.begin");
    followed(visitor, Some(&site)).await?;
    Ok(to_page(visitor, &site))
}

/// Has it recorded what somebody did about their account at a server; which, where that is known.
fn recorded(visitor: &Visitor, here: &Here<'_>, site: Option<&Site>, action: &'static str) {
    let server = site.map(|site| site.slug.as_str().into());
    let event = Event { server, ..came(visitor, None, &here.session.about.account, action) };
    visitor.app.recorder.tell(event);
}

/// What was changed holds here before the person reads that it does.
async fn followed(visitor: &Visitor, site: Option<&Site>) -> Result<(), Failure> {
    let followed = visitor.app.follow_connections().await;
    followed.map_err(|error| failed(visitor, &error, site))
}

pub(super) fn person<'a>(here: &'a Here<'_>) -> Person<'a> {
    let account = &here.session.about.account;
    Person { tenant: &account.tenant, user: account.id, cookie: here.session.cookie }
}

fn to_page(visitor: &Visitor, site: &Site) -> Response {
    see_other(&format!("{}{PAGE}/{}", visitor.app.issuer.path(), site.slug))
}

fn signed_out() -> Failure {
    let text = "You are not signed in here any more, so that nobody knows for whom this is.";
    Failure::new(
        StatusCode::FORBIDDEN,
        "Please sign in again",
        text,
        "Open the server under “Connections” and begin again.",
    )
}

/// `GET /connections/client/{key}`: how the gateway describes itself to one authorization server.
pub(super) async fn description(app: App, path: Result<Path<String>, PathRejection>) -> Response {
    let found = path.ok().and_then(|Path(key)| app.connections().description(&key));
    match found {
        Some(description) => ([(CACHE_CONTROL, KEPT)], Json(description)).into_response(),
        None => no_such_path().await.into_response(),
    }
}
