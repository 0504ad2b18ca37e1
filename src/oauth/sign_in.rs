//! Signing in on our own pages: the choice where no client waits, and the password form of accounts of this gateway. Passwords are
//! checked by `access`, which also makes who guesses wait.

use askama::Template;
use axum::extract::RawQuery;
use axum::response::Response;
use http::header::{RETRY_AFTER, SET_COOKIE};
use http::{HeaderValue, StatusCode};
use uuid::Uuid;

use super::connections;
use super::consent::{bound, lost};
use super::failure::{Failure, counted, sentence, whole_seconds};
use super::fields::Fields;
use super::finish::{Arrival, client_of, finish, is_own, own_request};
use super::leave::{Along, send};
use super::pages::{Frame, form_action, show};
use super::trail::Trail;
use super::visitor::Visitor;
use crate::access::{AccessError, Role};
use crate::app::App;
use crate::grants::{Account, Begun, UnderWay};
use crate::idp::ProviderInfo;
use crate::secret::Secret;
use crate::store::now;
use crate::store::tenants::tenant_of;
use crate::store::users::UserRow;

/// The login method of accounts of this gateway.
pub(super) const LOCAL: &str = "local";

#[derive(Template)]
#[template(path = "sign_in.html")]
struct Page<'a> {
    frame: Frame<'a>,
    id: String,
    csrf: &'a str,
    /// The program that waits, if one does.
    client: Option<&'a str>,
    providers: Vec<ProviderInfo>,
    local: bool,
    username: &'a str,
    trouble: Option<String>,
    help: Option<&'a str>,
}

/// What people call a provider.
pub(super) fn title_of(app: &App, name: &str) -> String {
    let found = app.providers.names().into_iter().find(|provider| provider.name == name);
    found.map_or_else(|| "The identity provider".to_owned(), |provider| provider.title)
}

/// Fails where nobody can sign in.
pub(super) fn there_is_a_way(app: &App) -> Result<(), Failure> {
    if !app.providers.names().is_empty() || app.settings.sign_in.local_sign_in {
        return Ok(());
    }
    let text = "Nobody can sign in here: no identity provider is set up, and sign-in by password is off.";
    Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "Sign-in is not set up", text, "").with_help())
}

fn form(visitor: &Visitor, under: &Form<'_>, username: &str, trouble: Option<String>, status: StatusCode) -> Response {
    let app = &visitor.app;
    let settings = &app.settings.sign_in;
    let page = Page {
        frame: Frame::of(app),
        id: under.id.simple().to_string(),
        csrf: under.csrf,
        client: under.client,
        // Where somebody agreed, the way was chosen on that page.
        providers: if under.chosen { Vec::new() } else { app.providers.names() },
        local: settings.local_sign_in,
        username,
        help: trouble.as_ref().and(settings.sign_in_help.as_deref()),
        trouble,
    };
    show(&page, status, &form_action(app, under.redirect_uri))
}

/// What the form is for.
struct Form<'a> {
    id: Uuid,
    csrf: &'a str,
    client: Option<&'a str>,
    redirect_uri: Option<&'a str>,
    /// Whether the way was chosen before.
    chosen: bool,
}

impl<'a> Form<'a> {
    fn of(under: &'a UnderWay) -> Self {
        let own = is_own(&under.request);
        let name = under.request.client_name.as_deref().unwrap_or(&under.request.client_id);
        Self {
            id: under.id,
            csrf: under.csrf.expose(),
            client: (!own).then_some(name),
            redirect_uri: (!own).then_some(under.request.redirect_uri.as_str()),
            chosen: under.consented,
        }
    }
}

pub(super) async fn page(visitor: Visitor, RawQuery(query): RawQuery) -> Response {
    let fields = Fields::of(query.unwrap_or_default().as_bytes());
    let shown =
        if fields.text("id").is_empty() { begin(&visitor, &fields).await } else { go_on(&visitor, &fields).await };
    shown.unwrap_or_else(|failure| failure.show(&visitor))
}

/// Where no client waits.
async fn begin(visitor: &Visitor, fields: &Fields) -> Result<Response, Failure> {
    let app = &visitor.app;
    there_is_a_way(app)?;
    app.may_begin(visitor.address, now()).map_err(Failure::too_many)?;
    let detail = format!("somebody signs in at the gateway's own pages; the browser is at {}", visitor.address);
    let trail = Trail::begin(app, visitor.address, None, "sign_in", detail);
    let begun = app
        .grants
        .begin(own_request(trail.id(), connections::page_of(fields.text(connections::WANTED))), visitor.address, now())
        .await;
    let begun = begun.map_err(|refusal| Failure::of_refusal(&refusal))?;
    let under = Form { id: begun.id, csrf: begun.csrf.expose(), client: None, redirect_uri: None, chosen: false };
    Ok(visitor.with_cookie(&begun, form(visitor, &under, "", None, StatusCode::OK)))
}

/// Where a client waits and the person is asked afterwards, if at all: to the only way to sign in, or the choice.
pub(super) async fn first(visitor: &Visitor, begun: &Begun) -> Result<Response, Failure> {
    let (app, cookie) = (&visitor.app, begun.cookie.expose());
    there_is_a_way(app)?;
    let under = app.grants.under_way(begun.id, cookie, now()).await;
    let under = under.map_err(|refusal| Failure::of_refusal(&refusal))?;
    match &*app.providers.names() {
        [only] if !app.settings.sign_in.local_sign_in => {
            send(visitor, &under, cookie, only.name, Along::default()).await
        }
        _ => {
            let hint = under.request.login_hint.as_deref().unwrap_or_default();
            Ok(form(visitor, &Form::of(&under), hint, None, StatusCode::OK))
        }
    }
}

/// The password form for a sign-in under way.
async fn go_on(visitor: &Visitor, fields: &Fields) -> Result<Response, Failure> {
    let (id, cookie) = bound(visitor, fields, "account").await?;
    let under = visitor.app.grants.under_way(id, cookie, now()).await;
    let under = under.map_err(|refusal| Failure::of_refusal(&refusal))?;
    may_sign_in(&under)?;
    let hint = under.request.login_hint.as_deref().unwrap_or_default();
    Ok(form(visitor, &Form::of(&under), hint, None, StatusCode::OK))
}

/// A client's sign-in goes on only after its page was agreed to, or where that comes afterwards.
fn may_sign_in(under: &UnderWay) -> Result<(), Failure> {
    if under.consented || under.request.ask_later { Ok(()) } else { Err(lost()) }
}

pub(super) async fn sign_in(visitor: Visitor, fields: Fields) -> Response {
    match signed_in(&visitor, &fields).await {
        Ok(response) => response,
        Err(failure) => failure.show(&visitor),
    }
}

async fn signed_in(visitor: &Visitor, fields: &Fields) -> Result<Response, Failure> {
    let app = &visitor.app;
    let (id, cookie) = bound(visitor, fields, "account").await?;
    let refuse = |refusal| Failure::of_refusal(&refusal);
    let under = app.grants.of_form(id, cookie, fields.text("csrf"), now()).await.map_err(refuse)?;
    may_sign_in(&under)?;
    let trail = Trail::of(app, under.request.trace);
    if let Some((name, another)) = way(fields) {
        return send(visitor, &under, cookie, name, Along { another, ..Along::default() }).await;
    }
    if !app.settings.sign_in.local_sign_in {
        return Err(Failure::bad("Not here", "Sign-in by password is off at this gateway."));
    }
    let (username, password) = (fields.text("username"), Secret::new(fields.text("password")));
    let at = now();
    let look = |count| app.accounts.check(&app.store, username, password, count, at);
    let account = match app.attempt(visitor.address, at, look).await {
        Ok(row) => account(row)?,
        Err(error) => return Ok(wrong(visitor, &under, &trail, username, &error)),
    };
    // Out, and once: of two forms sent at the same time one goes on.
    let under = app.grants.take(id, cookie, now()).await.map_err(refuse)?;
    let detail = format!("{} signs in with a password", account.username);
    trail.known("account", detail, &account, None);
    let arrival = Arrival { account: &account, method: LOCAL, login: None };
    let mut response = match finish(visitor, &under, &trail, arrival).await {
        Ok(response) => response,
        Err(failure) => failure.show(visitor),
    };
    response.headers_mut().append(SET_COOKIE, visitor.cookies.end(id));
    Ok(response)
}

/// The provider that was chosen, and whether another account is to be taken there.
fn way(fields: &Fields) -> Option<(&str, bool)> {
    let text = fields.text("provider");
    let (name, another) = text.strip_suffix(":other").map_or((text, false), |name| (name, true));
    (!name.is_empty()).then_some((name, another))
}

fn account(row: UserRow) -> Result<Account, Failure> {
    let (Some(role), Ok(tenant)) = (Role::parse(&row.role), tenant_of(&row.tenant_id)) else {
        let text = "The account cannot be read.";
        return Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong here", text, ""));
    };
    Ok(Account { tenant, id: row.id, username: row.username, display_name: row.display_name, role, is_new: false })
}

/// The form again, with what was wrong.
fn wrong(visitor: &Visitor, under: &UnderWay, trail: &Trail, username: &str, error: &AccessError) -> Response {
    visitor.app.recorder.not_signed_in(visitor.turned_away(client_of(&under.request), None, error.reason()));
    // What was typed may be a password in the wrong field: it is not noted.
    trail.stumbled("account", error.reason(), error.to_string());
    let (status, wait) = match error {
        AccessError::TooManyAttempts { retry_after } | AccessError::TooManyFromHere { retry_after } => {
            (StatusCode::TOO_MANY_REQUESTS, Some(whole_seconds(*retry_after)))
        }
        AccessError::Busy => (StatusCode::SERVICE_UNAVAILABLE, Some(1)),
        AccessError::WrongPassword => (StatusCode::FORBIDDEN, None),
        other => {
            let request_id = visitor.request_id.as_str();
            tracing::error!(request_id, error = %other, "a password could not be checked");
            (StatusCode::SERVICE_UNAVAILABLE, Some(1))
        }
    };
    let text = match (error, wait) {
        (AccessError::TooManyAttempts { .. }, Some(seconds)) => {
            format!("Too many wrong passwords for this user name. Try again in {}.", counted(seconds))
        }
        (AccessError::TooManyFromHere { .. }, Some(seconds)) => {
            format!("Too many wrong passwords from your network address. Try again in {}.", counted(seconds))
        }
        (AccessError::WrongPassword | AccessError::Busy, _) => sentence(&error.to_string()),
        _ => "The gateway cannot check passwords at present. Try again in a moment.".to_owned(),
    };
    let mut response = form(visitor, &Form::of(under), username, Some(text), status);
    if let Some(seconds) = wait {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
