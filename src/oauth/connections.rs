//! "Connections": the servers whose own authorization server wants to know the person, and how that stands. A page tells who is signed in
//! here, and to what it connects, before anything goes out.

use std::time::Duration;

use askama::Template;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::Response;
use http::StatusCode;
use url::Url;

use super::account::{Session, session, shown};
use super::back::see_other;
use super::connecting::{LOST, person};
use super::failure::Failure;
use super::finish::ACCESS;
use super::pages::{Frame, show};
use super::visitor::Visitor;
use crate::access::Caller;
use crate::connections::{ConnectError, Leads, PAGE, Site, State, View};
use crate::id::Slug;

/// How long the page waits until it is known where it leads.
const PATIENCE: Duration = Duration::from_secs(5);

/// The parameter of the sign-in page that names the server to which somebody connects then.
pub(super) const WANTED: &str = "connect";

/// A server and how the person stands there.
struct One {
    slug: String,
    title: String,
    /// Where it is.
    host: String,
    /// Where people go, as it was found the last time.
    issuer: Option<String>,
    state: State,
    since: Option<String>,
    ends: Option<String>,
    person: Option<String>,
    scopes: Vec<String>,
    wanted: Vec<String>,
}

impl One {
    fn of(site: &Site, view: View) -> Self {
        let words = |text: &str| text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let slug = site.slug.to_string();
        Self {
            title: if site.title.is_empty() { slug.clone() } else { site.title.clone() },
            slug,
            host: host_of(site.url.as_str()),
            issuer: view.issuer.as_deref().map(place_of),
            state: view.state,
            since: view.since.map(shown),
            ends: view.ends.map(shown),
            person: view.person,
            scopes: words(&view.scopes),
            wanted: words(&view.wanted),
        }
    }

    fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected | State::WantsMore)
    }

    /// Whether there is something to end.
    fn is_there(&self) -> bool {
        self.state != State::None
    }

    fn in_words(&self) -> &'static str {
        match self.state {
            State::None => "Not connected",
            State::Connected | State::WantsMore => "Connected",
            State::NeedsPerson => "Over: connect again",
        }
    }
}

fn host_of(url: &str) -> String {
    let read = Url::parse(url).ok();
    let host = read.as_ref().and_then(|url| Some((url.host_str()?.to_owned(), url.port())));
    match host {
        Some((host, Some(port))) => format!("{host}:{port}"),
        Some((host, None)) => host,
        None => url.to_owned(),
    }
}

/// Where it is, with the part of the path that tells tenants of one host from each other.
fn place_of(url: &str) -> String {
    let path = Url::parse(url).map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default();
    format!("{}{path}", host_of(url))
}

/// Where the person goes who connects.
struct Way {
    issuer: String,
    /// Where the browser goes, if that is another host.
    at: Option<String>,
    scopes: Vec<String>,
    /// What tokens are good for, if that is more than the server.
    resource: Option<String>,
    mark: String,
}

impl Way {
    fn of(site: &Site, leads: Leads) -> Self {
        let at = host_of(leads.at.as_str());
        Self {
            at: (at != host_of(&leads.issuer)).then_some(at),
            resource: leads.is_wider(site).then(|| leads.resource.clone()),
            mark: leads.mark(),
            issuer: place_of(&leads.issuer),
            scopes: leads.scopes,
        }
    }
}

/// What the person connected to a server that they do not see any more.
struct LostOne {
    id: String,
    issuer: String,
    since: String,
}

#[derive(Template)]
#[template(path = "connections.html")]
struct ListPage<'a> {
    frame: Frame<'a>,
    csrf: String,
    lost_at: &'a str,
    lost: Vec<LostOne>,
    name: &'a str,
    username: &'a str,
    all: Vec<One>,
}

#[derive(Template)]
#[template(path = "connection.html")]
struct OnePage<'a> {
    frame: Frame<'a>,
    csrf: String,
    name: &'a str,
    username: &'a str,
    one: One,
    way: Option<Way>,
    /// Whether it is shown again because the way has become another.
    again: bool,
}

/// Somebody who is signed in in this browser.
pub(super) struct Here<'a> {
    pub(super) session: Session<'a>,
    pub(super) caller: Caller,
}

impl Here<'_> {
    pub(super) fn name(&self) -> &str {
        let account = &self.session.about.account;
        account.display_name.as_deref().unwrap_or(&account.username)
    }
}

/// Who is signed in in this browser, if anybody is.
pub(super) async fn here(visitor: &Visitor) -> Result<Option<Here<'_>>, Failure> {
    let found = session(visitor).await.map_err(|refusal| Failure::of_refusal(&refusal))?;
    match found {
        Some(session) => with_caller(visitor, session).await,
        None => Ok(None),
    }
}

/// The same for a session that was found already.
pub(super) async fn with_caller<'a>(visitor: &Visitor, session: Session<'a>) -> Result<Option<Here<'a>>, Failure> {
    let account = &session.about.account;
    let caller = Caller::at_pages(&visitor.app.store, &account.tenant, account.id, session.about.grant).await;
    let caller = caller.map_err(|error| Failure::of_refusal(&error.into()))?;
    Ok(caller.map(|caller| Here { session, caller }))
}

/// The page of a server; the one of all where it is no server's name.
pub(super) fn page_of(slug: &str) -> String {
    match slug {
        "" => ACCESS.to_owned(),
        slug => Slug::parse(slug).map_or_else(|_| PAGE.to_owned(), |slug| format!("{PAGE}/{slug}")),
    }
}

/// Where somebody signs in who wants to this page.
fn to_sign_in(visitor: &Visitor, wanted: &str) -> Response {
    see_other(&format!("{}/oauth/sign-in?{WANTED}={wanted}", visitor.app.issuer.path()))
}

pub(super) async fn list(visitor: Visitor) -> Response {
    shown_all(&visitor).await.unwrap_or_else(|failure| failure.show(&visitor))
}

async fn shown_all(visitor: &Visitor) -> Result<Response, Failure> {
    // No server has this name.
    let Some(here) = here(visitor).await? else { return Ok(to_sign_in(visitor, "-")) };
    let sites = visitor.app.sites(&here.caller);
    let views = views(visitor, &here, &sites).await?;
    let account = &here.session.about.account;
    let lost = visitor.app.connections().lost(&account.tenant, account.id, &sites).await;
    let lost = lost.map_err(|error| failed(visitor, &error, None))?.into_iter();
    let page = ListPage {
        frame: Frame::of(&visitor.app),
        csrf: here.session.csrf(),
        lost_at: LOST,
        lost: lost
            .map(|lost| LostOne { id: lost.id.to_string(), issuer: place_of(&lost.issuer), since: shown(lost.since) })
            .collect(),
        name: here.name(),
        username: &here.session.about.account.username,
        all: sites.iter().zip(views).map(|(site, view)| One::of(site, view)).collect(),
    };
    Ok(show(&page, StatusCode::OK, "'self'"))
}

pub(super) async fn one(visitor: Visitor, path: Result<Path<String>, PathRejection>) -> Response {
    let slug = path.map(|Path(slug)| slug).unwrap_or_default();
    shown_one(&visitor, &slug).await.unwrap_or_else(|failure| failure.show(&visitor))
}

async fn shown_one(visitor: &Visitor, slug: &str) -> Result<Response, Failure> {
    let Ok(slug) = Slug::parse(slug) else { return Err(unknown()) };
    let Some(here) = here(visitor).await? else { return Ok(to_sign_in(visitor, slug.as_str())) };
    let site = named(visitor, &here, &slug)?;
    show_one(visitor, &here, &site, false).await
}

/// The page of a server. `again`: the person was about to go, and it leads elsewhere than they had read.
pub(super) async fn show_one(
    visitor: &Visitor,
    here: &Here<'_>,
    site: &Site,
    again: bool,
) -> Result<Response, Failure> {
    let view = views(visitor, here, std::slice::from_ref(site)).await?.pop().ok_or_else(unknown)?;
    let leads = tokio::time::timeout(PATIENCE, visitor.app.connections().leads(site, person(here))).await;
    let way = match leads {
        Ok(Ok(leads)) => Some(Way::of(site, leads)),
        // Whoever goes on reads why not.
        Ok(Err(error)) => {
            tracing::info!(server = %site.slug, "it is not known where people connect: {error}");
            None
        }
        Err(_) => None,
    };
    let page = OnePage {
        frame: Frame::of(&visitor.app),
        csrf: here.session.csrf(),
        name: here.name(),
        username: &here.session.about.account.username,
        one: One::of(site, view),
        way,
        again,
    };
    // The form leads to the server's authorization server, which may send the browser on: any site with TLS. Where the gateway itself is
    // on this machine alone, so may be that one.
    let leads_to = if visitor.app.issuer.is_plain() { "'self' https: http:" } else { "'self' https:" };
    Ok(show(&page, StatusCode::OK, leads_to))
}

/// The server of that name, if the person may see it and people connect to it.
pub(super) fn named(visitor: &Visitor, here: &Here<'_>, slug: &Slug) -> Result<Site, Failure> {
    visitor.app.sites(&here.caller).into_iter().find(|site| site.slug == *slug).ok_or_else(unknown)
}

async fn views(visitor: &Visitor, here: &Here<'_>, sites: &[Site]) -> Result<Vec<View>, Failure> {
    let account = &here.session.about.account;
    let views = visitor.app.connections().views(&account.tenant, account.id, sites).await;
    views.map_err(|error| failed(visitor, &error, None))
}

pub(super) fn unknown() -> Failure {
    let text = "There is no server of that name to which you could connect.";
    Failure::new(StatusCode::NOT_FOUND, "There is nothing here", text, "").with_help()
}

/// Whether it is the name of an error (RFC 6749 section 4.1.2.1) and no message to the person.
fn is_code(text: &str) -> bool {
    text.len() <= 64
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte))
}

/// The page about what went wrong.
pub(super) fn failed(visitor: &Visitor, error: &ConnectError, site: Option<&Site>) -> Failure {
    use crate::idp::Class;
    let name = site.map_or("the server", |site| site.slug.as_str());
    let advice = match error {
        // What was asked for before is asked for again, as long as there is a connection.
        ConnectError::Authority(error) if error.error.as_deref() == Some("invalid_scope") => {
            "Open the server under “Connections”, disconnect there if you are connected, and begin again."
        }
        _ => "Open the server under “Connections” and begin again.",
    };
    let request_id = visitor.request_id.as_str();
    let (status, title, text) = match error {
        ConnectError::Lost => {
            let text = "This way is over: it took more than ten minutes, came to its end before, or began in another browser or as \
                another account.";
            (StatusCode::BAD_REQUEST, "You are not connected", text.to_owned())
        }
        ConnectError::MixedUp(_) => {
            let text = format!("What came back is not from the authorization server of {name}, and was not accepted.");
            (StatusCode::FORBIDDEN, "The answer could not be verified", text)
        }
        ConnectError::Denied => (
            StatusCode::BAD_REQUEST,
            "You are not connected",
            format!("You did not allow it at the sign-in of {name}."),
        ),
        ConnectError::NotShown => {
            let text = format!("It leads elsewhere than the page of {name} said.");
            (StatusCode::CONFLICT, "You are not connected", text)
        }
        ConnectError::Moved => {
            let text = format!("{name} was changed, or is not there for you any more, since you went to its sign-in.");
            (StatusCode::CONFLICT, "You are not connected", text)
        }
        ConnectError::Authority(error) => match error.class {
            Class::Temporary { .. } | Class::Loop => {
                let text = format!("The authorization server of {name} does not answer at present.");
                (StatusCode::SERVICE_UNAVAILABLE, "Please try again in a moment", text)
            }
            Class::OurCredential | Class::Configuration => {
                let text = format!(
                    "The gateway and the authorization server of {name} do not fit. It is nothing that you did."
                );
                (StatusCode::BAD_GATEWAY, "The server is not set up correctly", text)
            }
            _ => {
                let text = format!("The authorization server of {name} gave nothing for you.");
                (StatusCode::FORBIDDEN, "You are not connected", text)
            }
        },
        ConnectError::Vault(_) | ConnectError::Store(_) | ConnectError::Damaged(_) => {
            tracing::error!(request_id, "a connection failed: {error}");
            let text = "The gateway failed; its log says why.".to_owned();
            return Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong here", text, advice);
        }
    };
    tracing::warn!(request_id, server = name, "somebody is not connected: {error}");
    let failure = Failure::new(status, title, text, advice);
    match error {
        // The text is another's, and is in the log.
        ConnectError::Authority(error) => match error.error.as_deref().filter(|code| is_code(code)) {
            Some(code) => failure.with_help().with_fact("Reason", code),
            None => failure.with_help(),
        },
        ConnectError::MixedUp(why) => failure.with_help().with_fact("Reason", *why),
        _ => failure,
    }
}
