//! The way back from an identity provider. What comes back counts only in the browser that was sent, only once, and only at the
//! callback of the provider that it was sent to. A provider that wants to see more of the person gets the browser once more.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery};
use axum::response::Response;
use http::StatusCode;
use http::header::SET_COOKIE;
use uuid::Uuid;

use super::back::Back;
use super::consent::lost;
use super::failure::Failure;
use super::fields::Fields;
use super::finish::{Arrival, client_of, finish, is_own};
use super::form::LARGEST;
use super::leave::{Along, address, send};
use super::prompt::is_anew;
use super::sign_in::title_of;
use super::trail::{Trail, told};
use super::visitor::Visitor;
use crate::grants::{Account, GivenTokens, NewLogin, OauthCode, Prompt, Refusal, Step, TraceNote, UnderWay};
use crate::id::TenantId;
use crate::idp::{Class, IdpError, Person, Provider, SignedIn};
use crate::store::now;

/// How a provider names a person's no.
const NO: &str = "access_denied";
/// The same as Entra numbers it.
const ENTRA_NO: &str = "AADSTS65004";

pub(super) async fn callback(
    visitor: Visitor,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Response {
    let name = path.map(|Path(name)| name).unwrap_or_default();
    let query = query.filter(|query| query.len() <= LARGEST).unwrap_or_default();
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
            visitor.app.recorder.not_signed_in(visitor.turned_away(None, None, refusal.reason));
            let why = refusal.reason;
            no_place(&visitor, &name, fields.text("state"), &refusal).await;
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

/// Notes an answer of a provider that belongs to no sign-in of this browser: at the one that it is of, which may still go on in
/// the right browser, else by itself.
async fn no_place(visitor: &Visitor, name: &str, state: &str, refusal: &Refusal) {
    let app = &visitor.app;
    let found = app.grants.trace_of_state(state, now()).await;
    if let Ok(Some(id)) = found {
        let detail = "the provider's answer came with a browser that shows no cookie of this sign-in";
        return Trail::of(app, Some(id)).stumbled("callback", refusal.reason, detail);
    }
    let detail = format!(
        "{} sent a browser at {} with an answer to no sign-in that is under way: it is over, was answered before, or began at \
         another gateway",
        title_of(app, name),
        visitor.address
    );
    Trail::alone(app, visitor.address, TraceNote::default(), Step::bad("callback", refusal.reason, detail, now()));
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
    let away = |tenant: Option<&TenantId>, reason| {
        visitor.turned_away(client_of(&under.request), tenant.map(TenantId::as_str), reason)
    };
    let Some(leg) = under.leg.as_ref().filter(|leg| leg.provider == name) else {
        trail.failed("callback", "another provider answered than was asked", away(None, "mix_up"), None);
        return Err(lost());
    };
    if let Some(error) = fields.one("error").map_err(|_| lost())? {
        let error_of = provider.at_callback(error, fields.one("error_description").ok().flatten());
        if error == NO && error_of.code.as_deref().is_none_or(|code| code == ENTRA_NO) {
            trail.failed("callback", "the person did not agree at the provider", away(None, "denied"), None);
            return if is_own(&under.request) {
                Err(Failure::bad("You are not signed in", "The sign-in was cancelled.").with_help())
            } else {
                Ok(Back::of(&under.request, &app.issuer).denied())
            };
        }
        return Err(refused(visitor, under, &trail, name, &error_of, ("callback", None)));
    }
    let Some(code) = fields.one("code").map_err(|_| lost())? else {
        trail.failed("callback", "there is neither a code nor an error", away(None, "no_code"), None);
        return Err(lost());
    };
    trail.went("callback", "the provider answers with a code");
    let done = provider.finish(&address(visitor, name)?, code, &leg.nonce, &leg.verifier, now()).await;
    let signed_in = match done {
        Ok(signed_in) => signed_in,
        Err(IdpError { class: Class::NeedsInteraction { claims: Some(claims) }, .. }) if leg.claims.is_none() => {
            let along = Along { claims: Some(claims), ..Along::default() };
            return once_more(visitor, under, &trail, name, along).await;
        }
        Err(error) => return Err(refused(visitor, under, &trail, name, &error, ("provider", None))),
    };
    if !is_anew(under.request.prompt, signed_in.person.authenticated_at, now()) {
        let tenant = is_by(visitor, &trail, &signed_in.person).await;
        trail.failed("provider", "the person did not sign in anew", away(tenant.as_ref(), "not_anew"), None);
        let text = "The program asks that you sign in anew, and you were signed in already.";
        let back = way_back(visitor, under);
        return Err(Failure::bad("You are not signed in", text).with_back(back.as_ref(), "login_required", text));
    }
    let account = known(visitor, under, &trail, name, &signed_in).await?;
    let refuse = |refusal| Failure::of_refusal(&refusal);
    // Nothing is wanted yet of an account that is new.
    let parked = if account.is_new {
        None
    } else {
        app.grants.parked_claims(&account.tenant, account.id, name).await.map_err(refuse)?
    };
    // Met only if it is what was asked at this leg: another person may have come back than the one of whom it was wanted.
    match parked {
        Some(claims) if leg.claims.as_ref() == Some(&claims) => {
            app.grants.claims_were_met(&account.tenant, account.id, name).await.map_err(refuse)?;
        }
        Some(claims) => {
            app.grants.claims_are_tried(&account.tenant, account.id, name).await.map_err(refuse)?;
            let along = Along { claims: Some(claims), login_hint: Some(signed_in.person.username), ..Along::default() };
            return once_more(visitor, under, &trail, name, along).await;
        }
        None => {}
    }
    let login = keep(visitor, &account, name, &signed_in).await.map_err(refuse)?;
    finish(visitor, under, &trail, Arrival { account: &account, method: name, login }).await
}

/// Sends the browser to the provider again, with what the provider wants to see. What the person agreed to before still holds: it is
/// the same browser, which had the cookie a moment ago.
async fn once_more(
    visitor: &Visitor,
    under: &UnderWay,
    trail: &Trail,
    name: &str,
    along: Along,
) -> Result<Response, Failure> {
    trail.stumbled("provider", "more_wanted", "the provider wants to see more of the person");
    let begun = visitor.app.grants.begin_again(under, None, now()).await;
    let begun = begun.map_err(|refusal| Failure::of_refusal(&refusal))?;
    let again = visitor.app.grants.under_way(begun.id, begun.cookie.expose(), now()).await;
    let mut again = again.map_err(|refusal| Failure::of_refusal(&refusal))?;
    // Whoever was to sign in anew did so a moment ago.
    again.request.prompt = Prompt::default();
    let response = send(visitor, &again, begun.cookie.expose(), name, along).await?;
    Ok(visitor.with_cookie(&begun, response))
}

/// The account of who signed in.
async fn known(
    visitor: &Visitor,
    under: &UnderWay,
    trail: &Trail,
    name: &str,
    signed_in: &SignedIn,
) -> Result<Account, Failure> {
    let app = &visitor.app;
    let person = &signed_in.person;
    let role = match app.role_of(person).await {
        Ok(Some(role)) if !person.app_only => role,
        Err(refusal) => return Err(no_account(visitor, under, trail, person, &refusal).await),
        _ => {
            let detail = format!("{} has no role here, and nobody is let in without one", person.username);
            let tenant = is_by(visitor, trail, person).await;
            let (error, at) = (IdpError::new(Class::Refused, detail), ("account", tenant.as_ref()));
            return Err(refused(visitor, under, trail, name, &error, at));
        }
    };
    let account = match app.account_at_sign_in(person, role, now()).await {
        Ok(account) => account,
        Err(refusal) => return Err(no_account(visitor, under, trail, person, &refusal).await),
    };
    let new = if account.is_new { ", for the first time" } else { "" };
    let withheld = account.withheld(role, person.directory).map(|why| format!("; {why}")).unwrap_or_default();
    let detail = format!("{} signs in as {}{new}{withheld}", account.username, account.role.as_str());
    trail.known("account", detail, &account, None);
    Ok(account)
}

/// Notes who it is, for the tenant whose the person is, if it is any's, and says which.
async fn is_by(visitor: &Visitor, trail: &Trail, person: &Person) -> Option<TenantId> {
    let tenant = visitor.app.home_of(person).await.ok().map(|home| home.tenant);
    trail.is_by(tenant.as_ref(), &person.username);
    tenant
}

/// The page for somebody who is known and does not come in. Whoever is asked finds the directory on it.
async fn no_account(visitor: &Visitor, under: &UnderWay, trail: &Trail, person: &Person, refusal: &Refusal) -> Failure {
    let tenant = is_by(visitor, trail, person).await;
    let who = visitor.turned_away(client_of(&under.request), tenant.as_ref().map(TenantId::as_str), refusal.reason);
    trail.failed("account", told(refusal), who, None);
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
    let given = GivenTokens { text: &text, expires_at: tokens.expires_at };
    let login = NewLogin { tenant: &account.tenant, user: account.id, provider, tokens: Some(given) };
    visitor.app.grants.keep_login(&login, now()).await.map(Some)
}

/// The page about a provider's no, noted at a step and counted for the tenant, where it is known.
pub(super) fn refused(
    visitor: &Visitor,
    under: &UnderWay,
    trail: &Trail,
    name: &str,
    error: &IdpError,
    (step, tenant): (&str, Option<&TenantId>),
) -> Failure {
    let class = error.class.label();
    let number = error.code.as_deref().map(|code| format!("{code}: ")).unwrap_or_default();
    let detail = format!("{class}: {number}{}", error.detail);
    let who = visitor.turned_away(client_of(&under.request), tenant.map(TenantId::as_str), class);
    trail.failed(step, detail, who, error.code.as_deref());
    let request_id = visitor.request_id.as_str();
    tracing::warn!(request_id, provider = name, class, detail = error.detail, "a sign-in failed at the provider");
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
