//! What people's identity provider gave the gateway for them, put to use at servers that want to see the person: Entra ID gives a token
//! for the application behind the server (on-behalf-of). It stands on the login of the session that calls, and on no other. Nobody is
//! signed out for it: who has to show more is told so, and asked at the next sign-in.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::vouching::Answer;
use super::{App, Parts};
use crate::access::Caller;
use crate::fault::{Fault, Kind};
use crate::grants::{ALONE, Kind as RefreshKind, Login, LoginState, Refusal};
use crate::idp::{AccessToken, Class, IdpError, ProviderTokens};
use crate::secret::Secret;
use crate::store::now;
use crate::upstream::credentials::People;

/// A token that ends sooner is renewed first: it must still be good when it arrives.
const SPARE: Duration = Duration::from_secs(30);
/// How long somebody waits while another process has a login's tokens renewed, and how often it is looked.
const PATIENCE: Duration = Duration::from_secs(8);
const LOOK: Duration = Duration::from_millis(100);
/// What Entra says of an assertion that has ended.
const ENDED: &str = "AADSTS500133";

/// The application, for as long as it is there.
pub(super) struct Entrusted(Weak<Parts>);

impl Entrusted {
    pub(super) fn to(app: &App) -> Self {
        Self(Arc::downgrade(&app.0))
    }

    fn app(&self) -> Result<App, Fault> {
        self.0.upgrade().map(App).ok_or_else(|| Fault::gateway(Kind::NoCredential, "the gateway is stopping"))
    }
}

impl People for Entrusted {
    fn on_behalf_of(
        &self,
        caller: Caller,
        scopes: String,
        claims: Option<String>,
    ) -> BoxFuture<'static, Result<AccessToken, Fault>> {
        let app = self.app();
        async move { app?.on_behalf_of(&caller, &scopes, claims.as_deref()).await }.boxed()
    }

    fn access_token(&self, caller: Caller, provider: String) -> BoxFuture<'static, Result<Secret, Fault>> {
        let app = self.app();
        let other = move |login: &Login| {
            let text =
                format!("the person signed in with `{}`, and the server wants a token of `{provider}`", login.provider);
            let told = "the server knows people of another identity provider than the one with which you signed in";
            if login.provider == provider { Ok(()) } else { Err(lack(Kind::NoCredential, text).telling(told)) }
        };
        async move {
            let (login, token) = app?.entrusted(&caller, false).await?;
            other(&login).map(|()| token)
        }
        .boxed()
    }
}

impl App {
    async fn on_behalf_of(&self, caller: &Caller, scopes: &str, claims: Option<&str>) -> Result<AccessToken, Fault> {
        let mut renewed = false;
        loop {
            let (login, token) = self.entrusted(caller, renewed).await?;
            let provider = self.providers.get(&login.provider).ok_or_else(|| gone(&login))?;
            let issuer = &caller.principal().issuer;
            match provider.on_behalf_of(issuer, &token, scopes, claims, now()).await {
                Ok(given) => return Ok(given),
                Err(error) if error.code.as_deref() == Some(ENDED) && !renewed => renewed = true,
                Err(error) => return Err(self.not_given(caller, &login, &error, scopes).await),
            }
        }
    }

    /// The login that the caller's session rests on, with an access token of its provider that is good; with `anew`, another one than
    /// there is.
    async fn entrusted(&self, caller: &Caller, anew: bool) -> Result<(Login, Secret), Fault> {
        let grant = caller.grant_id().ok_or_else(|| {
            if caller.key_id().is_none() {
                return unknown("the call came with a token of the identity provider's own");
            }
            let told = "the server wants to see who you are at your identity provider, which an API key does not say; sign in instead";
            lack(Kind::NoCredential, "the call came with an API key").telling(told)
        })?;
        let waited = Instant::now();
        let (mut anew, mut asked) = (anew, false);
        loop {
            let found = self.grants.login_of_grant(caller.tenant(), grant).await.map_err(|error| unread(&error))?;
            // To sign in again helps only who has signed in so: a service would be sent round and round.
            let login = found.ok_or_else(|| unknown("the session rests on no sign-in at an identity provider"))?;
            let (LoginState::Active, Some(kept)) = (login.state, &login.tokens) else {
                let detail = "the identity provider gave nothing that lasts, or does not vouch any longer";
                return Err(lack(Kind::NoCredential, detail).telling(
                    "your identity provider gave the gateway nothing with which it could come to the server for you",
                ));
            };
            let tokens: ProviderTokens = serde_json::from_slice(kept)
                .map_err(|error| lack(Kind::SignIn, format!("what is kept of the sign-in cannot be read: {error}")))?;
            // What came just now and does not last longer is as good as it gets.
            let good = |tokens: &ProviderTokens| !anew && tokens.expires_at > if asked { now() } else { now() + SPARE };
            if let Some(access) = tokens.access.as_ref().filter(|_| good(&tokens)) {
                let access = access.clone();
                return Ok((login, access));
            }
            if asked {
                return Err(later(None, "the identity provider gave no access token that lasts"));
            }
            match self.grants.login_to_ask(&login, now()).await.map_err(|error| unread(&error))? {
                // Whatever comes of it is stored before this is read again.
                Some(login) => match self.asking(login, RefreshKind::OnDemand).await {
                    Ok(Answer::Good | Answer::Heard(_)) => (anew, asked) = (false, true),
                    Ok(Answer::Unheard(_) | Answer::NotAsked) => {
                        return Err(later(None, "the identity provider could not be asked"));
                    }
                    Err(refusal) if refusal.is_of_database() => return Err(unread(&refusal)),
                    Err(refusal) => return Err(lack(Kind::SignIn, refusal.detail)),
                },
                None if waited.elapsed() > PATIENCE => {
                    return Err(later(None, "another is asking the identity provider"));
                }
                None if !is_being_asked(login.until, now()) => {
                    let wait = Duration::try_from(login.until - now()).ok();
                    return Err(later(wait, "the identity provider could not be asked a moment ago"));
                }
                None => {
                    tokio::time::sleep(LOOK).await;
                    anew = anew && self.is_same(&login).await;
                }
            }
        }
    }

    /// Whether the tokens of a login are those that it had.
    async fn is_same(&self, login: &Login) -> bool {
        let found = self.grants.login(&login.tenant, login.id).await;
        found.is_ok_and(|found| found.is_some_and(|found| found.sealed == login.sealed))
    }

    /// What the caller is told when no token is given for the application behind the server.
    async fn not_given(&self, caller: &Caller, login: &Login, error: &IdpError, scopes: &str) -> Fault {
        let code = error.code.as_deref().unwrap_or(error.class.label());
        let detail = format!("no token on behalf of the person ({code}): {error}");
        tracing::info!(login = %login.id, class = error.class.label(), code, trace = error.trace_id, "{detail}");
        let application =
            scopes.split(' ').next().and_then(|scope| scope.rsplit_once('/')).map_or(scopes, |(app, _)| app);
        match &error.class {
            Class::NeedsInteraction { claims: wanted } => {
                // Only what the provider itself wrote: a server's own words could be anything, and nobody could meet them.
                if let (Some(wanted), Some(grant)) = (wanted.as_deref(), caller.grant_id())
                    && let Err(error) = self.grants.park_claims(login, grant, wanted).await
                {
                    tracing::error!(login = %login.id, error = error.detail, "what a sign-in is to show could not be noted");
                }
                let told = "your identity provider wants to see you again before it lets you use this server; sign in again";
                lack(Kind::SignIn, detail).telling(told)
            }
            Class::ConsentMissing => lack(Kind::NoCredential, detail).telling(format!(
                "nobody has agreed that the gateway uses `{application}` for you; an administrator of your directory consents to it"
            )),
            Class::Temporary { retry_after } => later(*retry_after, detail),
            Class::Loop => later(Some(Duration::from_mins(5)), detail),
            Class::OurCredential | Class::Configuration | Class::Forged => lack(Kind::NoCredential, detail).telling(format!(
                "the gateway is not set up so that it can use `{application}` for you; an administrator must mend it"
            )),
            Class::Dead | Class::Refused => Fault::client(Kind::NoCredential, detail)
                .telling(format!("your identity provider does not let you use `{application}`")),
        }
    }
}

/// Whether somebody began just now to ask the provider about the login, and may come back with something soon. Otherwise it could not be
/// asked, and is not due yet.
fn is_being_asked(ask_after: OffsetDateTime, now: OffsetDateTime) -> bool {
    ask_after > now + ALONE - PATIENCE || ask_after <= now
}

fn lack(kind: Kind, detail: impl Into<String>) -> Fault {
    let whose = if kind == Kind::SignIn { Fault::client } else { Fault::gateway };
    whose(kind, detail)
}

/// Of whom nothing is kept.
fn unknown(detail: &str) -> Fault {
    let told = "the server wants to see who you are at your identity provider, with which you are not signed in here";
    lack(Kind::NoCredential, detail).telling(told)
}

fn later(retry_after: Option<Duration>, detail: impl Into<String>) -> Fault {
    let fault = lack(Kind::NoCredential, detail).telling("your identity provider does not answer now; try again");
    Fault { retry_after: retry_after.or(Some(Duration::from_secs(2))), ..fault }
}

fn gone(login: &Login) -> Fault {
    lack(Kind::NoCredential, format!("the identity provider `{}` is not set up any more", login.provider))
}

fn unread(error: &Refusal) -> Fault {
    later(None, format!("what a sign-in gave could not be read: {}", error.detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_just_now_is_waited_for_and_nobody_else() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let asked = |after: Duration| is_being_asked(now + after, now);
        assert!(asked(ALONE) && asked(ALONE.saturating_sub(PATIENCE / 2)) && asked(Duration::ZERO));
        assert!(!asked(ALONE.saturating_sub(PATIENCE)) && !asked(Duration::from_secs(30)), "it could not be asked");
    }
}
