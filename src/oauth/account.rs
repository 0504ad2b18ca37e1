//! "My access": who one is here, which programs act in one's name, which keys are good, and the end of each. It shows and ends what
//! is the own account's and nothing else, for a browser with a session, by forms that only this page can have made.

use askama::Template;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use http::header::SET_COOKIE;
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;
use time::macros::format_description;
use uuid::Uuid;

use super::back::see_other;
use super::failure::Failure;
use super::fields::Fields;
use super::pages::{Frame, show};
use super::sign_in::{LOCAL, title_of};
use super::visitor::Visitor;
use crate::access::Role;
use crate::crypto::hash_token;
use crate::grants::{BrowserSession, End, EndReason, GrantView, Ids, Refusal, Scope};
use crate::store::consents::NamedConsentRow;
use crate::store::keys::HeldKeyRow;
use crate::store::{StoreError, at, micros, now};

/// Most keys that are shown.
const MOST_KEYS: i64 = 500;

/// A program, a browser or a key on the page.
struct Row {
    id: String,
    name: String,
    /// What it may, or where it is from.
    about: String,
    since: String,
    used: String,
    ends: String,
    /// Whether it is this very browser.
    here: bool,
}

/// A program that was signed out because the identity provider wants to see the person.
struct Parted {
    name: String,
    provider: String,
    when: String,
}

#[derive(Template)]
#[template(path = "access.html")]
struct Page<'a> {
    frame: Frame<'a>,
    csrf: String,
    name: &'a str,
    username: &'a str,
    role: &'static str,
    method: String,
    programs: Vec<Row>,
    /// Programs that have to be signed in to anew.
    parted: Vec<Parted>,
    browsers: Vec<Row>,
    keys: Vec<Row>,
    /// What is not asked again.
    allowed: Vec<Row>,
}

#[derive(Template)]
#[template(path = "signed_out.html")]
struct SignedOut<'a> {
    frame: Frame<'a>,
    everywhere: bool,
}

/// A browser that is signed in.
pub(super) struct Session<'a> {
    pub(super) cookie: &'a str,
    pub(super) about: BrowserSession,
}

impl Session<'_> {
    /// For forms of this session: nobody without its cookie can know it, and it does not give the cookie away.
    pub(super) fn csrf(&self) -> String {
        URL_SAFE_NO_PAD.encode(hash_token(&format!("forms of {}", self.cookie)))
    }
}

/// That of the browser, if it is signed in.
pub(super) async fn session(visitor: &Visitor) -> Result<Option<Session<'_>>, Refusal> {
    let Some(cookie) = visitor.cookies.session() else { return Ok(None) };
    let about = visitor.app.grants.session(cookie, now()).await?;
    Ok(about.map(|about| Session { cookie, about }))
}

pub(super) async fn access(visitor: Visitor) -> Response {
    match look(&visitor).await {
        Ok(response) => response,
        Err(failure) => failure.show(&visitor),
    }
}

async fn look(visitor: &Visitor) -> Result<Response, Failure> {
    let app = &visitor.app;
    let Some(session) = session(visitor).await.map_err(|refusal| Failure::of_refusal(&refusal))? else {
        return Ok(see_other(&format!("{}/oauth/sign-in", app.issuer.path())));
    };
    let BrowserSession { account, grant, login_method, .. } = &session.about;
    let grants = app.grants.of_user(&account.tenant, account.id, now()).await;
    let grants = grants.map_err(|refusal| Failure::of_refusal(&refusal))?;
    let parted = app.grants.parted(&account.tenant, account.id, now()).await;
    let parted = parted.map_err(|refusal| Failure::of_refusal(&refusal))?;
    let keys = app.store.keys(&account.tenant, Some(account.id), Uuid::nil(), MOST_KEYS).await;
    let keys = keys.map_err(|error| Failure::of_refusal(&error.into()))?;
    let allowed = app.grants.consents_of(&account.tenant, account.id).await;
    let allowed = allowed.map_err(|refusal| Failure::of_refusal(&refusal))?;
    let (browsers, programs): (Vec<_>, Vec<_>) = grants.into_iter().partition(|grant| grant.kind == "browser");
    let row = |view: GrantView| row_of(visitor, view, *grant);
    let page = Page {
        frame: Frame::of(app),
        csrf: session.csrf(),
        name: account.display_name.as_deref().unwrap_or(&account.username),
        username: &account.username,
        role: role_in_words(account.role),
        method: method_in_words(visitor, login_method),
        programs: programs.into_iter().map(row).collect(),
        parted: parted.into_iter().map(|(view, end)| parted_of(visitor, view, end)).collect(),
        browsers: browsers.into_iter().map(row).collect(),
        keys: keys.into_iter().filter(is_live).map(key_row).collect(),
        allowed: allowed.into_iter().map(|row| allowed_row(visitor, row)).collect(),
    };
    Ok(show(&page, StatusCode::OK, "'self'"))
}

/// What may be done where.
fn reach(visitor: &Visitor, resource: &str, scopes: &str) -> String {
    let path = resource.strip_prefix(visitor.app.issuer.as_str()).unwrap_or(resource);
    let scopes: Vec<_> = scopes.split(' ').filter_map(Scope::named).map(may).collect();
    format!("{path}: {}", scopes.join(", "))
}

fn allowed_row(visitor: &Visitor, row: NamedConsentRow) -> Row {
    let NamedConsentRow { consent, name } = row;
    let about = reach(visitor, &consent.resource, &consent.scopes);
    Row {
        about: format!("{about}; answered at {}", consent.redirect_uri),
        id: consent.client_id,
        name,
        since: shown(at(consent.given_at)),
        used: String::new(),
        ends: String::new(),
        here: false,
    }
}

fn row_of(visitor: &Visitor, view: GrantView, own: Uuid) -> Row {
    let about = match view.resource.as_deref() {
        None => format!("signed in with {}", method_in_words(visitor, &view.login_method)),
        Some(resource) => reach(visitor, resource, &view.scopes),
    };
    Row {
        id: view.id.to_string(),
        name: view.client_name.or(view.client_id).unwrap_or_else(|| "A browser".to_owned()),
        about,
        since: shown(view.created_at),
        used: shown(view.last_used_at),
        ends: shown(view.expires_at),
        here: view.id == own,
    }
}

fn parted_of(visitor: &Visitor, view: GrantView, end: OffsetDateTime) -> Parted {
    let name = view.client_name.or(view.client_id).unwrap_or_default();
    Parted { name, provider: title_of(&visitor.app, &view.login_method), when: shown(end) }
}

fn may(scope: Scope) -> &'static str {
    match scope {
        Scope::Mcp => "use servers",
        Scope::Admin => "manage",
        Scope::OfflineAccess => "stay connected",
    }
}

fn is_live(held: &HeldKeyRow) -> bool {
    held.key.revoked_at.is_none() && held.key.expires_at.is_none_or(|end| end > micros(now()))
}

fn key_row(held: HeldKeyRow) -> Row {
    let key = held.key;
    Row {
        id: key.id.to_string(),
        name: key.name,
        about: format!("begins with {}", key.hint),
        since: shown(at(key.created_at)),
        used: key.last_used_at.map_or_else(|| "never".to_owned(), |used| shown(at(used))),
        ends: key.expires_at.map_or_else(|| "never".to_owned(), |end| shown(at(end))),
        here: false,
    }
}

pub(super) fn shown(time: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    time.format(format).unwrap_or_default()
}

fn role_in_words(role: Role) -> &'static str {
    match role {
        Role::User => "User: uses the servers that are visible to you",
        Role::ServerOwner => "Server owner: registers servers as well",
        Role::TenantAdmin => "Administrator of your organisation",
        Role::Admin => "Administrator of this gateway",
    }
}

fn method_in_words(visitor: &Visitor, method: &str) -> String {
    if method == LOCAL { "a password".to_owned() } else { title_of(&visitor.app, method) }
}

/// The session, if the form is one of its own.
pub(super) async fn proven<'a>(visitor: &'a Visitor, fields: &Fields) -> Result<Session<'a>, Failure> {
    let session = session(visitor).await.map_err(|refusal| Failure::of_refusal(&refusal))?;
    let over = "You are not signed in any more, or the form is not one of this page.";
    let over = Failure::new(StatusCode::FORBIDDEN, "Please sign in again", over, "Open the page again.");
    let Some(session) = session else { return Err(over) };
    if bool::from(session.csrf().as_bytes().ct_eq(fields.text("csrf").as_bytes())) { Ok(session) } else { Err(over) }
}

pub(super) async fn revoke(visitor: Visitor, fields: Fields) -> Response {
    match end(&visitor, &fields).await {
        Ok(response) => response,
        Err(failure) => failure.show(&visitor),
    }
}

/// Ends a program or browser (`grant`), a key (`key`), what is remembered of a program (`allowed`), or everything but keys
/// (`everything`). A program that is ended is asked about when it comes again.
async fn end(visitor: &Visitor, fields: &Fields) -> Result<Response, Failure> {
    let app = &visitor.app;
    let session = proven(visitor, fields).await?;
    let account = &session.about.account;
    let (tenant, user) = (&account.tenant, account.id);
    let end = End { reason: EndReason::Logout, detail: "revoked" };
    let refuse = |refusal| Failure::of_refusal(&refusal);
    let id = |name| Uuid::try_parse(fields.text(name)).ok();
    if fields.text("everything") == "yes" {
        app.grants.forget_consents(tenant, user, None).await.map_err(refuse)?;
        let failed = |error: StoreError| Failure::of_refusal(&error.into());
        app.store.revoke_logins(tenant, user, micros(now())).await.map_err(failed)?;
        app.changed().await.map_err(failed)?;
        app.end_sessions(tenant, Ids::User(user), End { detail: "signed_out", ..end }).await.map_err(refuse)?;
        return Ok(signed_out(visitor, true));
    } else if let Some(id) = id("grant") {
        let grants = app.grants.of_user(tenant, user, now()).await.map_err(refuse)?;
        if let Some(client) = grants.into_iter().find(|grant| grant.id == id).and_then(|grant| grant.client_id) {
            app.grants.forget_consents(tenant, user, Some(&client)).await.map_err(refuse)?;
        }
        app.end_sessions(tenant, Ids::One(id, Some(user)), end).await.map_err(refuse)?;
        if id == session.about.grant {
            return Ok(signed_out(visitor, false));
        }
    } else if let Some(id) = id("key") {
        // One that is not there, or somebody else's, is as good as ended.
        match app.store.revoke_key(tenant, id, Some(user), micros(now())).await {
            Ok(()) | Err(StoreError::Missing) => {}
            Err(error) => return Err(Failure::of_refusal(&error.into())),
        }
        app.changed().await.map_err(|error| Failure::of_refusal(&error.into()))?;
    } else if !fields.text("allowed").is_empty() {
        app.grants.forget_consents(tenant, user, Some(fields.text("allowed"))).await.map_err(refuse)?;
    } else {
        return Err(Failure::bad("Nothing was chosen", "Go back and press one of the buttons."));
    }
    Ok(see_other(&format!("{}/access", app.issuer.path())))
}

pub(super) async fn sign_out(visitor: Visitor, fields: Fields) -> Response {
    let out = async {
        let session = proven(&visitor, &fields).await?;
        let ended = visitor.app.grants.close_session(session.cookie, now()).await;
        let ended = ended.map_err(|refusal| Failure::of_refusal(&refusal))?;
        visitor.app.told_of(ended.as_slice());
        Ok::<_, Failure>(signed_out(&visitor, false))
    };
    match out.await {
        Ok(response) => response,
        Err(failure) => failure.show(&visitor),
    }
}

fn signed_out(visitor: &Visitor, everywhere: bool) -> Response {
    let page = SignedOut { frame: Frame::of(&visitor.app), everywhere };
    let mut response = show(&page, StatusCode::OK, "'none'");
    response.headers_mut().append(SET_COOKIE, visitor.cookies.close_session());
    response
}
