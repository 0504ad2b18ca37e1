//! The way to an identity provider and back. What comes back counts only in the browser that was sent, only once, and only at the
//! callback of the provider that it was sent to; each provider has one of its own, so that none answers for another.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery};
use axum::response::Response;
use http::StatusCode;
use http::header::SET_COOKIE;
use url::Url;
use uuid::Uuid;

use super::back::{Back, see_other};
use super::consent::lost;
use super::failure::Failure;
use super::fields::{Fields, LONGEST};
use super::finish::{self, is_own};
use super::sign_in::title_of;
use super::trail::Trail;
use super::visitor::Visitor;
use crate::grants::{Account, Leg, NewLogin, OauthCode, Refusal, UnderWay};
use crate::idp::{Class, Hints, IdpError, Person, Provider, SignedIn};
use crate::store::now;

/// How a provider names a person's no.
const NO: &str = "access_denied";
/// The same as Entra numbers it.
const ENTRA_NO: &str = "AADSTS65004";

fn address(visitor: &Visitor, provider: &str) -> Result<Url, Failure> {
    let text = visitor.app.issuer.join(&format!("/oauth/callback/{provider}"));
    Url::parse(&text).map_err(|_| Failure::bad("Not set up", "The public URL of this gateway cannot be read."))
}

/// Sends the browser to a provider. `another` asks the provider not to take whoever is signed in there.
pub(super) async fn send(
    visitor: &Visitor,
    under: &UnderWay,
    cookie: &str,
    name: &str,
    another: bool,
) -> Result<Response, Failure> {
    let app = &visitor.app;
    let trail = Trail::of(app, under.request.trace);
    let Some(provider) = app.providers.get(name) else {
        return Err(Failure::bad("There is no such way to sign in", "Go back and choose another one."));
    };
    let hints = Hints {
        login_hint: under.request.login_hint.clone().filter(|_| !another),
        prompt: another.then(|| "select_account".to_owned()),
        claims: None,
    };
    let leg = match provider.begin(&address(visitor, name)?, &hints).await {
        Ok(leg) => leg,
        Err(error) => return Err(refused(visitor, under, &trail, name, &error, "provider").await),
    };
    let kept = Leg { provider: name.to_owned(), nonce: leg.nonce, verifier: leg.verifier };
    let sent = app.grants.send(under.id, cookie, &leg.state, kept, now()).await;
    sent.map_err(|refusal| Failure::of_refusal(&refusal))?;
    trail.went("provider", format!("the browser is sent to {}", leg.url.host_str().unwrap_or_default())).await;
    Ok(see_other(leg.url.as_str()))
}

pub(super) async fn callback(
    visitor: Visitor,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Response {
    let name = path.map(|Path(name)| name).unwrap_or_default();
    let query = query.filter(|query| query.len() <= LONGEST).unwrap_or_default();
    let fields = Fields::of(query.as_bytes());
    let Some(provider) = visitor.app.providers.get(&name) else {
        return Failure::new(StatusCode::NOT_FOUND, "There is nothing here", "No such provider is set up.", "")
            .show(&visitor);
    };
    let cookies = visitor.cookies.clone();
    let cookie_of = move |id: Uuid| cookies.under_way(id).map(ToOwned::to_owned);
    let under = match visitor.app.grants.at_callback(fields.text("state"), cookie_of, now()).await {
        Ok(under) => under,
        Err(refusal) => {
            visitor.app.recorder.metrics().auth("", "login", false, refusal.reason);
            let why = refusal.reason;
            tracing::info!(request_id = visitor.request_id.as_str(), why, "an answer of a provider has no place");
            return lost().show(&visitor);
        }
    };
    let mut response = match back(&visitor, provider, &name, &fields, &under).await {
        Ok(response) => response,
        Err(failure) => failure.show(&visitor),
    };
    response.headers_mut().append(SET_COOKIE, visitor.cookies.end(under.id));
    response
}

async fn back(
    visitor: &Visitor,
    provider: &Provider,
    name: &str,
    fields: &Fields,
    under: &UnderWay,
) -> Result<Response, Failure> {
    let app = &visitor.app;
    let trail = Trail::of(app, under.request.trace);
    let Some(leg) = under.leg.as_ref().filter(|leg| leg.provider == name) else {
        trail.failed("callback", "another provider answered than was asked", "", "mix_up").await;
        return Err(lost());
    };
    if let Some(error) = fields.one("error").map_err(|_| lost())? {
        let error_of = provider.at_callback(error, fields.one("error_description").ok().flatten());
        if error == NO && error_of.code.as_deref().is_none_or(|code| code == ENTRA_NO) {
            trail.failed("callback", "the person did not agree at the provider", "", "denied").await;
            return if is_own(&under.request) {
                Err(Failure::bad("You are not signed in", "The sign-in was cancelled.").with_help())
            } else {
                Ok(Back::of(&under.request, &app.issuer).denied())
            };
        }
        return Err(refused(visitor, under, &trail, name, &error_of, "callback").await);
    }
    let Some(code) = fields.one("code").map_err(|_| lost())? else {
        trail.failed("callback", "there is neither a code nor an error", "", "no_code").await;
        return Err(lost());
    };
    trail.went("callback", "the provider answers with a code").await;
    let done = provider.finish(&address(visitor, name)?, code, &leg.nonce, &leg.verifier, now()).await;
    let signed_in = match done {
        Ok(signed_in) => signed_in,
        Err(error) => return Err(refused(visitor, under, &trail, name, &error, "provider").await),
    };
    let (account, login) = known(visitor, under, &trail, name, &signed_in).await?;
    finish::finish(visitor, under, &trail, &account, name, login).await
}

/// The account of who signed in, and what is kept of the provider's word.
async fn known(
    visitor: &Visitor,
    under: &UnderWay,
    trail: &Trail,
    name: &str,
    signed_in: &SignedIn,
) -> Result<(Account, Option<Uuid>), Failure> {
    let app = &visitor.app;
    let person = &signed_in.person;
    let role = match person.role {
        Some(role) if !person.app_only => role,
        _ => {
            let detail = format!("{} has no role here, and nobody is let in without one", person.username);
            return Err(refused(visitor, under, trail, name, &IdpError::new(Class::Refused, detail), "account").await);
        }
    };
    let account = match app.account_of(person, role, now()).await {
        Ok(account) => account,
        Err(refusal) => return Err(no_account(visitor, under, trail, person, &refusal).await),
    };
    let new = if account.is_new { ", for the first time" } else { "" };
    let detail = format!("{} signs in as {}{new}", account.username, account.role.as_str());
    trail.known("account", detail, &account, None).await;
    let login = keep(visitor, &account, name, signed_in).await.map_err(|refusal| Failure::of_refusal(&refusal))?;
    Ok((account, login))
}

/// The page for somebody who is known and does not come in. Whoever is asked finds the directory on it.
async fn no_account(
    visitor: &Visitor,
    under: &UnderWay,
    trail: &Trail,
    person: &Person,
    refusal: &Refusal,
) -> Failure {
    trail.failed("account", refusal.to_string(), "", refusal.reason).await;
    let (request_id, reason, detail) = (visitor.request_id.as_str(), refusal.reason, &refusal.detail);
    if refusal.code == OauthCode::AccessDenied {
        tracing::info!(request_id, reason, detail, "somebody is not let in");
    } else {
        tracing::error!(request_id, reason, detail, "no account");
    }
    let back = way_back(visitor, under);
    let failure = Failure::of_refusal(refusal).with_back(back.as_ref(), refusal.code.as_str(), refusal.text);
    match person.directory.filter(|_| refusal.code == OauthCode::AccessDenied) {
        Some(directory) => {
            failure.with_fact("Account", person.username.clone()).with_fact("Directory", directory.to_string())
        }
        None => failure,
    }
}

async fn keep(
    visitor: &Visitor,
    account: &Account,
    provider: &str,
    signed_in: &SignedIn,
) -> Result<Option<Uuid>, Refusal> {
    let Some(tokens) = &signed_in.tokens else { return Ok(None) };
    let text = serde_json::to_vec(tokens).map(zeroize::Zeroizing::new).map_err(|error| {
        let text = "the gateway failed; its log says why";
        Refusal::new(OauthCode::ServerError, "internal", text).because(error.to_string())
    })?;
    let login = NewLogin { tenant: &account.tenant, user: account.id, provider, tokens: Some(&text) };
    visitor.app.grants.keep_login(&login, now()).await.map(Some)
}

/// The page about a provider's no, noted and counted.
async fn refused(
    visitor: &Visitor,
    under: &UnderWay,
    trail: &Trail,
    name: &str,
    error: &IdpError,
    step: &str,
) -> Failure {
    let label = error.class.label();
    let number = error.code.as_deref().map(|code| format!("{code}: ")).unwrap_or_default();
    trail.failed(step, format!("{label}: {number}{}", error.detail), "", label).await;
    let request_id = visitor.request_id.as_str();
    tracing::warn!(
        request_id,
        provider = name,
        class = label,
        detail = error.detail,
        "a sign-in failed at the provider"
    );
    let (code, text) = match error.class {
        Class::Temporary { .. } | Class::Loop => {
            (OauthCode::TemporarilyUnavailable, "the identity provider does not answer at present")
        }
        Class::OurCredential | Class::Configuration => (OauthCode::ServerError, "sign-in is not set up correctly"),
        _ => (OauthCode::AccessDenied, "the person was not let in"),
    };
    let back = way_back(visitor, under);
    Failure::of_provider(error, &title_of(&visitor.app, name)).with_back(back.as_ref(), code.as_str(), text)
}

fn way_back(visitor: &Visitor, under: &UnderWay) -> Option<Back> {
    (!is_own(&under.request)).then(|| Back::of(&under.request, &visitor.app.issuer))
}
