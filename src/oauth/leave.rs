//! The way to an identity provider. Each has a callback of its own, so that none answers for another.

use axum::response::Response;
use url::Url;

use super::back::see_other;
use super::callback::refused;
use super::failure::Failure;
use super::prompt;
use super::sign_in::title_of;
use super::trail::Trail;
use super::visitor::Visitor;
use crate::grants::{Leg, UnderWay};
use crate::idp::Hints;
use crate::store::now;

/// What goes along besides what the client asked for.
#[derive(Debug, Default)]
pub(super) struct Along {
    /// The provider is not to take whoever is signed in there.
    pub(super) another: bool,
    /// Who is expected, where the client does not say.
    pub(super) login_hint: Option<String>,
    /// What the provider wants to see (a claims challenge).
    pub(super) claims: Option<String>,
    /// The person agreed just now, by the form of the authorization's page; to be kept with the rest.
    pub(super) agreed: bool,
}

/// Where a provider sends browsers back to.
pub(super) fn address(visitor: &Visitor, provider: &str) -> Result<Url, Failure> {
    let text = visitor.app.issuer.join(&format!("/oauth/callback/{provider}"));
    Url::parse(&text).map_err(|_| Failure::bad("Not set up", "The public URL of this gateway cannot be read."))
}

/// Sends the browser, which holds `cookie`, to a provider.
pub(super) async fn send(
    visitor: &Visitor,
    under: &UnderWay,
    cookie: &str,
    name: &str,
    along: Along,
) -> Result<Response, Failure> {
    let app = &visitor.app;
    let trail = Trail::of(app, under.request.trace);
    let Some(provider) = app.providers.get(name) else {
        return Err(Failure::bad("There is no such way to sign in", "Go back and choose another one."));
    };
    let along = if along.another { along } else { of_session(visitor, name, along).await };
    let request = &under.request;
    let hints = Hints {
        login_hint: request.login_hint.clone().or(along.login_hint).filter(|_| !along.another),
        prompt: prompt::for_provider(request.prompt, along.another),
        claims: along.claims.clone(),
    };
    let leg = match provider.begin(&address(visitor, name)?, &hints).await {
        Ok(leg) => leg,
        Err(error) => return Err(refused(visitor, under, &trail, name, &error, ("provider", None))),
    };
    let kept = Leg { provider: name.to_owned(), nonce: leg.nonce, verifier: leg.verifier, claims: along.claims };
    let csrf = along.agreed.then(|| under.csrf.expose());
    let sent = app.grants.send(under.id, cookie, csrf, &leg.state, kept, now()).await;
    sent.map_err(|refusal| Failure::of_refusal(&refusal))?;
    let why = if hints.claims.is_some() { ", with what the provider wants to see" } else { "" };
    let host = leg.url.host_str().unwrap_or_default();
    trail.went("provider", format!("sent to {} ({host}){why}", title_of(app, name)));
    Ok(see_other(leg.url.as_str()))
}

/// With what the provider wants to see of whoever is signed in at our own pages, so that the person goes there once. Of who is
/// only named by the client nothing is sent along: whoever asks could name anybody, and read it in the address.
async fn of_session(visitor: &Visitor, provider: &str, along: Along) -> Along {
    if along.claims.is_some() {
        return along;
    }
    let Some(cookie) = visitor.cookies.session() else { return along };
    let grants = &visitor.app.grants;
    let Ok(Some(session)) = grants.session(cookie, now()).await else { return along };
    let account = session.account;
    match grants.parked_claims(&account.tenant, account.id, provider).await {
        Ok(Some(claims)) => {
            if let Err(error) = grants.claims_are_tried(&account.tenant, account.id, provider).await {
                tracing::error!(error = error.detail, "what a sign-in was asked to show is asked for again");
            }
            Along { claims: Some(claims), login_hint: Some(account.username), ..along }
        }
        _ => along,
    }
}
