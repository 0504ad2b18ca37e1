//! What the token endpoint notes in traces of sign-ins: that a code was redeemed, and whatever was refused. That a session went on
//! is not noted each time.

use std::net::IpAddr;
use std::sync::Arc;

use super::super::answer::{Denied, THROTTLED};
use super::super::form::Form;
use super::super::trail::{Trail, of_client, quoted, told};
use crate::app::App;
use crate::crypto::{TokenKind, hash_token, is_token};
use crate::grants::client::{Client, GrantType};
use crate::grants::{OauthCode, Step, Tokens, TraceNote, shown_client};
use crate::store::grants::GrantRow;
use crate::store::{StoreError, now};

/// Who asks.
pub(super) struct Asker<'a> {
    /// From where.
    pub(super) source: IpAddr,
    /// The client, as it calls itself.
    pub(super) claimed: Option<String>,
    /// The client, once it has proved that.
    pub(super) proved: Option<&'a Client>,
}

impl Asker<'_> {
    /// The client as records name it.
    pub(super) fn recorded(&self) -> Option<Arc<str>> {
        let claimed = || self.claimed.as_deref().map(|id| shown_client(id).into());
        self.proved.map(|client| client.id.as_ref().into()).or_else(claimed)
    }

    fn id(&self) -> Option<&str> {
        self.proved.map(|client| &*client.id).or(self.claimed.as_deref())
    }

    /// What is known of an attempt by it.
    fn known(&self) -> TraceNote<'_> {
        let claimed = TraceNote { client_id: self.claimed.as_deref(), ..TraceNote::default() };
        self.proved.map_or(claimed, of_client)
    }
}

/// Notes what came of a request for tokens. Says which grant what was shown is of, where it was refused and that is known.
pub(super) async fn note(
    app: &App,
    asker: &Asker<'_>,
    form: &Form,
    kind: GrantType,
    given: &Result<Tokens, Denied>,
) -> Option<GrantRow> {
    let (source, client_id) = (asker.source, asker.id().unwrap_or_default());
    match given {
        Ok(tokens) if kind == GrantType::AuthorizationCode => {
            let trail = Trail::of(app, tokens.trace);
            trail.is_from(source, client_id);
            let lasts = if tokens.refresh.is_some() { "access and refresh token" } else { "access token" };
            let bound = if tokens.key.is_some() { ", bound to a key of the program" } else { "" };
            trail.went("token", format!("{lasts} for {}, fetched from {source}{bound}", tokens.scopes));
            None
        }
        // What it read on the way was read for this, and begins no sign-in.
        Ok(_) => {
            drop(app.grants.preludes().take(source, client_id, now()));
            None
        }
        // Who has to wait costs nothing more.
        Err(denied) if denied.reason() == THROTTLED => None,
        Err(denied) => refused(app, asker, form, kind, denied).await,
    }
}

async fn refused(app: &App, asker: &Asker<'_>, form: &Form, kind: GrantType, denied: &Denied) -> Option<GrantRow> {
    let refusal = denied.refusal();
    let name = match kind {
        GrantType::RefreshToken => "refresh",
        GrantType::JwtBearer => "assertion",
        GrantType::TokenExchange => "exchange",
        _ => "token",
    };
    let who = asker.id().map_or_else(|| "a program".to_owned(), quoted);
    let detail = format!("{who} at {} got no token for its {}: {}", asker.source, shown(kind), told(refusal));
    let step = Step::bad(name, refusal.reason, detail, now());
    let found = match &refusal.ended {
        Some(_) => None,
        // Where the database does not answer, it would not take the note either.
        None => grant_of(app, form, kind).await.ok()?,
    };
    let (grant, ended) = match (&refusal.ended, &found) {
        (Some(ended), _) => (Some(ended.id), true),
        (None, found) => {
            (found.as_ref().map(|grant| grant.id), found.as_ref().is_some_and(|grant| grant.ended_at.is_some()))
        }
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
        (Some(_), _) if ended => trail.over(step),
        // It may be mended and shown again.
        (Some(_), _) => trail.refused(step),
        (None, _) => Trail::alone(app, asker.source, asker.known(), step),
    }
    found
}

/// The grant that what was shown is of, as far as it is one of ours.
async fn grant_of(app: &App, form: &Form, kind: GrantType) -> Result<Option<GrantRow>, StoreError> {
    match kind {
        GrantType::AuthorizationCode => match form.get("code").filter(|code| is_token(TokenKind::Code, code)) {
            Some(code) => app.store.grant_of_code(&hash_token(code)).await,
            None => Ok(None),
        },
        GrantType::RefreshToken => {
            match form.get("refresh_token").filter(|token| is_token(TokenKind::Refresh, token)) {
                Some(token) => app.store.grant_of_token(&hash_token(token), true).await,
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
