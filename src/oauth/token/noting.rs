//! What the token endpoint notes in traces of sign-ins: that a code was redeemed, and whatever was refused. That a session went on
//! is not noted each time.

use std::net::IpAddr;

use uuid::Uuid;

use super::super::answer::Denied;
use super::super::form::Form;
use super::super::trail::{Trail, quoted, told};
use crate::app::App;
use crate::crypto::{TokenKind, hash_token, is_token};
use crate::grants::client::GrantType;
use crate::grants::{OauthCode, Step, Tokens};
use crate::store::{StoreError, now};

/// Notes what came of a request for tokens.
pub(super) async fn note(app: &App, source: IpAddr, form: &Form, kind: GrantType, given: &Result<Tokens, Denied>) {
    let client_id = form.get("client_id").unwrap_or_default();
    match given {
        Ok(tokens) if kind == GrantType::AuthorizationCode => {
            let trail = Trail::of(app, tokens.trace);
            trail.is_from(source, client_id);
            let lasts = if tokens.refresh.is_some() { "access and refresh token" } else { "access token" };
            let bound = if tokens.key.is_some() { ", bound to a key of the program" } else { "" };
            trail.went("token", format!("{lasts} for {}, fetched from {source}{bound}", tokens.scopes));
        }
        // What it read on the way was read for this, and begins no sign-in.
        Ok(_) => drop(app.grants.preludes().take(source, client_id, now())),
        // Who has to wait costs nothing more.
        Err(denied) if denied.reason() == "throttled" => {}
        Err(denied) => refused(app, source, form, kind, denied).await,
    }
}

async fn refused(app: &App, source: IpAddr, form: &Form, kind: GrantType, denied: &Denied) {
    let refusal = denied.refusal();
    let client_id = form.get("client_id").filter(|id| !id.is_empty());
    let name = match kind {
        GrantType::RefreshToken => "refresh",
        GrantType::JwtBearer => "assertion",
        GrantType::TokenExchange => "exchange",
        _ => "token",
    };
    let who = client_id.map_or_else(|| "a program".to_owned(), quoted);
    let detail = format!("{who} at {source} got no token for its {}: {}", shown(kind), told(refusal));
    let step = Step::bad(name, refusal.reason, detail, now());
    let grant = match refusal.ended.as_ref().map(|ended| ended.id) {
        Some(grant) => Some(grant),
        None => match grant_of(app, form, kind).await {
            Ok(grant) => grant,
            // The database does not answer: it would not take the note either.
            Err(_) => return,
        },
    };
    let trail = match grant {
        Some(grant) => Trail::of_grant(app, grant).await,
        None => Trail::of(app, None),
    };
    match (trail.id(), refusal.code) {
        // It may come again with what it has.
        (Some(_), OauthCode::TemporarilyUnavailable | OauthCode::ServerError) => {
            trail.stumbled(name, refusal.reason, step.detail);
        }
        (Some(_), _) => trail.over(step),
        (None, _) => Trail::alone(app, source, client_id, step),
    }
}

/// The grant that what was shown is of, as far as it is one of ours.
async fn grant_of(app: &App, form: &Form, kind: GrantType) -> Result<Option<Uuid>, StoreError> {
    match kind {
        GrantType::AuthorizationCode => match form.get("code").filter(|code| is_token(TokenKind::Code, code)) {
            Some(code) => Ok(app.store.grant_of_code(&hash_token(code)).await?.map(|grant| grant.id)),
            None => Ok(None),
        },
        GrantType::RefreshToken => {
            match form.get("refresh_token").filter(|token| is_token(TokenKind::Refresh, token)) {
                Some(token) => Ok(app.store.grant_of_token(&hash_token(token), true).await?.map(|grant| grant.id)),
                None => Ok(None),
            }
        }
        GrantType::ClientCredentials | GrantType::JwtBearer | GrantType::TokenExchange => Ok(None),
    }
}

fn shown(kind: GrantType) -> &'static str {
    match kind {
        GrantType::AuthorizationCode => "code",
        GrantType::RefreshToken => "refresh token",
        GrantType::ClientCredentials => "own credentials",
        GrantType::JwtBearer => "assertion",
        GrantType::TokenExchange => "token to exchange",
    }
}
