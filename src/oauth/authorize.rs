//! `GET /oauth/authorize`: what a client asks for (RFC 6749 section 4.1.1, RFC 7636, RFC 8707). Until the client and its redirect
//! URI are both known to be right, whatever is wrong is a page and the browser is sent nowhere. Afterwards the client is told; but
//! nobody is sent to a web site that vouches for itself before having done anything here ([`is_trusted`]).

use std::sync::Arc;

use axum::extract::RawQuery;
use axum::response::Response;
use http::StatusCode;

use super::back::Back;
use super::failure::Failure;
use super::fields::Fields;
use super::form::LARGEST;
use super::prompt::{Wish, wish};
use super::remembered::{Memory, lasts};
use super::trail::{Trail, quoted, told};
use super::visitor::Visitor;
use super::{consent, sign_in};
use crate::crypto::dpop::{Thumbprint, thumbprint_of};
use crate::grants::client::{Client, ClientError, GrantType, Known};
use crate::grants::redirect::{Place, RedirectUri};
use crate::grants::resource::Resource;
use crate::grants::{DETAILS, OauthCode, Prompt, Refusal, Request, ScopeSet};
use crate::store::now;

/// Most bytes of a client's own `state`, which is kept and given back.
const LONGEST_STATE: usize = 2_048;
/// Most characters of a hint that is passed on.
const LONGEST_HINT: usize = 320;
/// Parameters of which there is one at most.
const ONCE: [&str; 11] = [
    "response_type",
    "response_mode",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
    "prompt",
    "max_age",
    "login_hint",
    "nonce",
    "dpop_jkt",
];

/// What is checked and shown to the person.
pub(super) struct Asked {
    pub(super) client: Arc<Client>,
    pub(super) redirect: RedirectUri,
    pub(super) resource: Resource,
    pub(super) scopes: ScopeSet,
    pub(super) login_hint: Option<String>,
    pub(super) prompt: Prompt,
    /// The key that the code is to be bound to.
    pub(super) key: Option<Thumbprint>,
}

pub(super) async fn authorize(visitor: Visitor, RawQuery(query): RawQuery) -> Response {
    // Before anything is written.
    if let Err(exceeded) = visitor.app.may_begin(visitor.address, now()) {
        return Failure::too_many(exceeded).show(&visitor);
    }
    let query = query.unwrap_or_default();
    if query.len() > LARGEST {
        return Failure::of_client(format!("It is longer than {LARGEST} bytes.")).show(&visitor);
    }
    let fields = Fields::of(query.as_bytes());
    let id = fields.text("client_id");
    let app = &visitor.app;
    let asks = format!("a program asks as {}; the browser is at {}", quoted(id), visitor.address);
    let trail = Trail::begin(app, visitor.address, Some(id), "authorize", asks);
    let (client, redirect) = match whose(&visitor, &fields).await {
        Ok(found) => found,
        Err((failure, reason, detail)) => {
            let claimed = Some(id).filter(|id| !id.is_empty());
            trail.failed("client", detail, visitor.turned_away(claimed, None, reason), None);
            return failure.show(&visitor);
        }
    };
    trail.is_of(&client, format!("{}; answered at {}", known_how(&client), redirect.shown()));
    let state = fields.one("state").ok().flatten().map(ToOwned::to_owned);
    let back = Back { redirect_uri: redirect.as_str().to_owned(), state, issuer: app.issuer.clone() };
    let trusted = is_trusted(&client, &redirect);
    let tell = |code: &'static str, text: &str| {
        if trusted { back.error(code, text) } else { Failure::of_stranger(&back, code, text).show(&visitor) }
    };
    let (asked, challenge) = match what(&visitor, &fields, client, redirect).await {
        Ok(asked) => asked,
        Err((code, text)) => {
            trail.failed("request", format!("{code}: {text}"), visitor.turned_away(Some(id), None, code), None);
            return tell(code, &text);
        }
    };
    let request = Request {
        client_id: asked.client.id.to_string(),
        client_name: Some(asked.client.name.to_string()),
        redirect_uri: back.redirect_uri.clone(),
        state: back.state.clone(),
        code_challenge: challenge,
        resource: app.issuer.uri(&asked.resource),
        scopes: asked.scopes,
        login_hint: asked.login_hint.clone(),
        prompt: asked.prompt,
        ask_later: visitor.unsent && !asked.prompt.consent && lasts(&asked.client, &asked.redirect),
        key: asked.key,
        trace: trail.id(),
    };
    let bound = if request.key.is_some() { "; its code is bound to a key of the program" } else { "" };
    trail.went("request", format!("{} for {}{bound}", request.scopes, request.resource));
    let ask_later = request.ask_later;
    match app.grants.begin(request, visitor.address, now()).await {
        Ok(begun) => {
            let page = if ask_later {
                sign_in::first(&visitor, &begun).await.unwrap_or_else(|failure| failure.show(&visitor))
            } else {
                consent::page(&visitor, &asked, &begun)
            };
            visitor.with_cookie(&begun, page)
        }
        Err(refusal) => {
            trail.failed("request", told(&refusal), visitor.turned_away(Some(id), None, refusal.reason), None);
            tracing::warn!(request_id = visitor.request_id.as_str(), %refusal, detail = refusal.detail, "no sign-in begun");
            tell(refusal.code.as_str(), refusal.text)
        }
    }
}

/// Whether an answer may go there before the person has done anything: to where an administrator registered it, or to a program
/// on the person's own machine. A web site of a client that registered or describes itself may be anybody's, who would send people
/// there by an address of ours (RFC 9700 section 4.11.2).
fn is_trusted(client: &Client, redirect: &RedirectUri) -> bool {
    client.is_registered() || redirect.place() != Place::Web
}

type NotKnown = (Failure, &'static str, String);

/// The client and where it is answered.
async fn whose(visitor: &Visitor, fields: &Fields) -> Result<(Arc<Client>, RedirectUri), NotKnown> {
    let wrong = |reason, text: &str| Err((Failure::of_client(text), reason, text.to_owned()));
    let id = match fields.one("client_id") {
        Ok(Some(id)) => id,
        Ok(None) => return wrong("no_client", "It does not say which program asks (client_id)."),
        Err(_) => return wrong("no_client", "It says twice which program asks (client_id)."),
    };
    let clients = &visitor.app.clients;
    let client = clients.find(id, visitor.address, now()).await.map_err(|error| not_found(visitor, id, &error))?;
    let uri = match fields.one("redirect_uri") {
        Ok(Some(uri)) => uri.to_owned(),
        Ok(None) => match &*client.redirects {
            [only] => only.as_str().to_owned(),
            _ => return wrong("redirect_uri", "It does not say where the answer goes (redirect_uri)."),
        },
        Err(_) => return wrong("redirect_uri", "It says twice where the answer goes (redirect_uri)."),
    };
    let own = client.redirect(&uri).is_some();
    match RedirectUri::parse(&uri, clients.schemes()) {
        Ok(redirect) if own => Ok((client, redirect)),
        _ => {
            let text = "It wants the answer sent to an address that is not registered for it (redirect_uri).";
            let uri = uri.chars().take(300).collect::<String>();
            let detail = format!("{text} `{uri}`");
            Err((Failure::of_client(text).with_fact("Address", uri), "redirect_uri", detail))
        }
    }
}

fn not_found(visitor: &Visitor, id: &str, error: &ClientError) -> NotKnown {
    let shown = id.chars().take(300).collect::<String>();
    let failure = match error {
        ClientError::Unknown => {
            let text = "This gateway does not know the program: its registration has ended, or was made elsewhere.";
            let advice =
                "In the program, remove the connection to this gateway and add it anew; it then registers again.";
            Failure::new(StatusCode::BAD_REQUEST, "The program is not known here", text, advice)
        }
        ClientError::Invalid(why) => {
            Failure::of_client("What the program says of itself cannot be used.").with_fact("Reason", why.clone())
        }
        ClientError::Unreachable { temporary: true, .. } => Failure::new(
            StatusCode::BAD_REQUEST,
            "The program cannot be looked up",
            "The document in which it describes itself cannot be fetched at present.",
            "Try again in a minute.",
        ),
        ClientError::Unreachable { .. } => {
            Failure::of_client("The document in which the program describes itself cannot be fetched.")
        }
        ClientError::TooMany(exceeded) => {
            visitor.app.throttled("", exceeded.limit);
            Failure::too_many(*exceeded)
        }
        ClientError::Busy | ClientError::Store(_) => Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Please try again in a moment",
            "The gateway cannot look the program up at present.",
            "Go back to the program and try again.",
        ),
    };
    let detail = match error {
        ClientError::Unreachable { detail, .. } => detail.clone(),
        other => other.to_string(),
    };
    if let ClientError::Store(error) = error {
        tracing::error!(request_id = visitor.request_id.as_str(), %error, "a client cannot be looked up");
    }
    (failure.with_fact("Program", shown), error.reason(), detail)
}

/// What is asked for, and the challenge; else the error that the client is told.
async fn what(
    visitor: &Visitor,
    fields: &Fields,
    client: Arc<Client>,
    redirect: RedirectUri,
) -> Result<(Asked, String), (&'static str, String)> {
    let invalid = |text: String| Err((OauthCode::InvalidRequest.as_str(), text));
    if let Some(name) = ONCE.into_iter().find(|name| fields.one(name).is_err()) {
        return invalid(format!("{name} is there more than once"));
    }
    // All else that is kept is bounded where it is read.
    if fields.text("state").len() > LONGEST_STATE {
        return invalid(format!("state is longer than {LONGEST_STATE} bytes"));
    }
    match fields.text("response_type") {
        "code" => {}
        "" => return invalid("response_type is missing; it is code".to_owned()),
        _ => {
            let text = "the only response_type is code".to_owned();
            return Err((OauthCode::UnsupportedResponseType.as_str(), text));
        }
    }
    if !matches!(fields.text("response_mode"), "" | "query") {
        return invalid("the only response_mode is query".to_owned());
    }
    if !client.may(GrantType::AuthorizationCode) {
        let text =
            "this client may not ask for somebody's access: the grant type authorization_code is not among its own";
        return Err((OauthCode::UnauthorizedClient.as_str(), text.to_owned()));
    }
    let challenge = challenge(fields).map_err(|text| (OauthCode::InvalidRequest.as_str(), text.to_owned()))?;
    let issuer = &visitor.app.issuer;
    let mut resources = fields.all("resource");
    let resource = match (resources.next(), resources.next()) {
        (None, _) => Resource::All,
        (Some(text), None) => {
            issuer.resource(text).map_err(|error| (OauthCode::InvalidTarget.as_str(), error.to_string()))?
        }
        _ => return Err((OauthCode::InvalidTarget.as_str(), "ask for one resource at a time".to_owned())),
    };
    if fields.all(DETAILS).next().is_some() {
        return Err(told_back(&Refusal::of_details()));
    }
    let asked = ScopeSet::asked(fields.one("scope").ok().flatten()).map_err(|error| told_back(&error.into()))?;
    let scopes = client.scopes_of(asked.and(resource.offers()));
    if scopes.is_empty() {
        let text =
            format!("none of the scopes is for this client at this resource, which offers {}", resource.offers());
        return Err((OauthCode::InvalidScope.as_str(), text));
    }
    let prompt = match wish(fields) {
        Ok(Wish::Asked(prompt)) => prompt,
        Ok(Wish::Silent) => {
            let memory = Memory::of(&client, &redirect, issuer.uri(&resource), scopes);
            return Err(silent(visitor, memory).await);
        }
        Err(text) => return invalid(text),
    };
    let key = match fields.text("dpop_jkt") {
        "" => None,
        text => match thumbprint_of(text) {
            Some(key) => Some(key),
            None => return invalid("dpop_jkt is the SHA-256 thumbprint of a key: 43 characters (RFC 9449)".to_owned()),
        },
    };
    let hint = fields.text("login_hint");
    let hint = (!hint.is_empty() && hint.chars().count() <= LONGEST_HINT && !hint.contains(char::is_control))
        .then(|| hint.to_owned());
    Ok((Asked { client, redirect, resource, scopes, login_hint: hint, prompt, key }, challenge))
}

/// A refusal as the client is told of it.
fn told_back(refusal: &Refusal) -> (&'static str, String) {
    (refusal.code.as_str(), refusal.text.to_owned())
}

/// S256 and nothing else (RFC 7636 section 4.3; a method that is not named would be `plain`).
fn challenge(fields: &Fields) -> Result<String, &'static str> {
    let challenge = fields.text("code_challenge");
    if challenge.is_empty() {
        return Err("code_challenge is missing: PKCE is required (RFC 7636)");
    }
    if fields.text("code_challenge_method") != "S256" {
        return Err("the only code_challenge_method is S256");
    }
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    if !(43..=128).contains(&challenge.len()) || !challenge.bytes().all(good) {
        return Err("code_challenge has 43 to 128 letters, digits or - . _ ~");
    }
    Ok(challenge.to_owned())
}

/// Nobody is let through unseen (OpenID Connect Core 1.0 section 3.1.2.6): what is missing first.
async fn silent(visitor: &Visitor, memory: Option<Memory>) -> (&'static str, String) {
    let app = &visitor.app;
    let session = match visitor.cookies.session() {
        Some(cookie) => app.grants.session(cookie, now()).await.ok().flatten(),
        None => None,
    };
    let Some(session) = session else {
        return ("login_required", "the person has to sign in on a page of this gateway".to_owned());
    };
    let allowed = match memory {
        Some(memory) => memory.holds(app, &session.account).await.unwrap_or(false),
        None => false,
    };
    if allowed {
        return ("interaction_required", "the person has to come by way of a page of this gateway".to_owned());
    }
    ("consent_required", "the person has to allow it on a page of this gateway".to_owned())
}

/// How a client is known, for the trace.
fn known_how(client: &Client) -> String {
    match &client.known {
        // Not of which tenant: whose the person is, and so who reads this, is not known yet.
        Known::Registered { .. } => "registered by an administrator".to_owned(),
        Known::Document => "known by its document".to_owned(),
        Known::Dynamic { issued_at } => format!("registered itself on {}", issued_at.date()),
    }
}
