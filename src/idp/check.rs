//! Whether the gateway's registration at Entra is as the gateway needs it, as far as that can be seen from here: with the
//! gateway's own credential, and with Microsoft Graph where an administrator lets it read applications. It changes nothing.
//!
//! What cannot be seen is said to be so, with where a person sees it: a check that guessed would be worse than none.

mod certificate;
mod registration;

use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use super::aadsts;
use super::credential::Credential;
use super::discovery::Described;
use super::endpoint::{Given, TokenEndpoint};
use super::entra::Entra;
use super::error::{Class, IdpError};
use super::http::Http;
use super::jwt::Unverified;
use super::keys::KeyStore;
use crate::config::{AllowedTenant, Azure, AzureTenant};
use crate::net::Outbound;
use crate::secret::Secret;

pub use certificate::not_after;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Right,
    /// It cannot be seen from here.
    NotVisible,
    /// It will be wrong, or may be.
    Doubtful,
    /// Nobody signs in like that, or not as was meant.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What, in a few words.
    pub what: &'static str,
    /// How it is.
    pub state: State,
    /// In one sentence.
    pub text: String,
    /// What to do, or where it can be seen; empty where nothing is to be done.
    pub advice: String,
}

fn seen(what: &'static str, state: State, text: impl Into<String>, advice: impl Into<String>) -> Seen {
    Seen { what, state, text: text.into(), advice: advice.into() }
}

/// Microsoft Graph, by the id that it has in every cloud.
const GRAPH: &str = "00000003-0000-0000-c000-000000000000";
/// How long before its end a credential is worth a word.
pub(super) const SOON: time::Duration = time::Duration::days(30);

/// What the checks need.
pub(super) struct Asked<'a> {
    pub(super) azure: &'a Azure,
    pub(super) client: Uuid,
    /// Where Entra sends browsers back to.
    pub(super) callback: &'a Url,
    pub(super) http: Http,
    pub(super) now: OffsetDateTime,
}

/// Looks at everything, in the order in which a sign-in needs it. `callback` is the gateway's redirect URI. Empty when Entra is not
/// set up.
pub async fn check(azure: &Azure, callback: &Url, outbound: &Outbound, now: OffsetDateTime) -> Vec<Seen> {
    let (Some(tenant), Some(client)) = (&azure.tenant_id, azure.client_id) else { return Vec::new() };
    let asked = Asked { azure, client, callback, http: Http::new(outbound), now };
    let mut found = Vec::new();
    if !directory(&asked, tenant, &mut found).await {
        return found;
    }
    found.extend(ends_of_files(&asked).await);
    let Some(home) = home(azure, tenant) else {
        let text = "the credential is shown to one directory, and MREG_AZURE_TENANT_ID names several";
        let advice = "name one in MREG_AZURE_ALLOWED_TENANTS, or run this once with MREG_AZURE_TENANT_ID set to its id";
        found.push(seen("credential", State::NotVisible, text, advice));
        return found;
    };
    let taken = credentials(&asked, &home, &mut found).await;
    let Some((_, working)) = taken.first() else {
        found.push(registration::probed(&asked, &home).await);
        return found;
    };
    let own = token(&asked, &home, working, &asked.client.to_string()).await;
    found.push(version_of_token(own.as_ref()));
    let graph = match token(&asked, &home, working, GRAPH).await {
        Ok(given) => given.access_token,
        Err(_) => None,
    };
    let secrets: Vec<_> = taken.iter().filter_map(|(what, showing)| Some((*what, showing.as_secret()?))).collect();
    registration::look(&asked, &home, graph.as_ref(), &secrets, &mut found).await;
    found
}

/// Whether the directory answers for itself, with keys.
async fn directory(asked: &Asked<'_>, tenant: &AzureTenant, found: &mut Vec<Seen>) -> bool {
    let entra = Entra::new(asked.azure, tenant.clone(), asked.client);
    let base = entra.base();
    let wrong = |error: &IdpError, advice: &str| seen("directory", State::Wrong, told(error), advised(error, advice));
    let described = match Described::at(&base) {
        Ok(described) => described,
        Err(error) => {
            found.push(wrong(&error, "correct MREG_AZURE_AUTHORITY"));
            return false;
        }
    };
    let now = std::time::Instant::now();
    let about = match described.get(&asked.http, now, |issuer| entra.check_issuer(issuer)).await {
        Ok(about) => about,
        Err(error) => {
            let advice = "correct MREG_AZURE_TENANT_ID or MREG_AZURE_AUTHORITY, or let the gateway reach it over https";
            found.push(wrong(&error, advice));
            return false;
        }
    };
    match KeyStore::default().refresh(&asked.http, &about.value.jwks_uri, now).await {
        Ok(()) => found.push(seen("directory", State::Right, format!("{base} answers, and its keys can be read"), "")),
        Err(error) => {
            found.push(wrong(&error, "let the gateway reach the keys that the directory names"));
            return false;
        }
    }
    true
}

/// The authority of the one directory whose token endpoint can be asked.
fn home(azure: &Azure, tenant: &AzureTenant) -> Option<AzureTenant> {
    match tenant {
        AzureTenant::Organizations => azure.allowed_tenants.iter().find_map(|allowed| match allowed {
            AllowedTenant::Id(id) => Some(AzureTenant::Id(*id)),
            AllowedTenant::Any => None,
        }),
        one => Some(one.clone()),
    }
}

/// A credential that can be shown again.
pub(super) enum Showing {
    Secret(Secret),
    Certificate(std::path::PathBuf),
    Federated(std::path::PathBuf),
}

impl Showing {
    fn credential(&self) -> Credential {
        match self {
            Self::Secret(secret) => Credential::secrets([secret.clone()]),
            Self::Certificate(file) => Credential::Certificate(file.clone()),
            Self::Federated(file) => Credential::Federated(file.clone()),
        }
    }

    fn as_secret(&self) -> Option<&Secret> {
        if let Self::Secret(secret) = self { Some(secret) } else { None }
    }
}

/// Shows each credential to the token endpoint; those that are taken, by the names of their checks.
async fn credentials(asked: &Asked<'_>, home: &AzureTenant, found: &mut Vec<Seen>) -> Vec<(&'static str, Showing)> {
    let azure = asked.azure;
    let secrets = [("first secret", &azure.client_secret), (SECOND, &azure.client_secret_next)];
    let secrets = secrets.into_iter().filter_map(|(what, secret)| Some((what, Showing::Secret(secret.clone()?))));
    let certificate = azure.client_certificate.clone().map(|file| ("certificate", Showing::Certificate(file)));
    let federated = azure.federated_token_file.clone().map(|file| ("federated token", Showing::Federated(file)));
    let mut working = Vec::new();
    for (what, showing) in secrets.chain(certificate).chain(federated) {
        match token(asked, home, &showing, &asked.client.to_string()).await {
            Ok(_) => found.push(seen(what, State::Right, "Entra takes it", "")),
            Err(error) if is_accepted(&error) => found.push(seen(what, State::Right, "Entra takes it", "")),
            Err(error) => {
                let ill = matches!(error.class, Class::Temporary { .. } | Class::Loop);
                let state = if ill { State::NotVisible } else { State::Wrong };
                let advice = advised(&error, "make a new one in the admin centre");
                // What explains the number knows of one secret only.
                let names_first = what == SECOND && !advice.contains(SECOND_SECRET);
                let advice = if names_first { advice.replace(FIRST_SECRET, SECOND_SECRET) } else { advice };
                found.push(seen(what, state, told(&error), advice));
                continue;
            }
        }
        working.push((what, showing));
    }
    working
}

/// What the second secret's check is called, and the settings of both.
const SECOND: &str = "second secret";
const FIRST_SECRET: &str = "MREG_AZURE_CLIENT_SECRET";
const SECOND_SECRET: &str = "MREG_AZURE_CLIENT_SECRET_NEXT";

/// Whether the refusal is about what was asked for, and not about who asks.
fn is_accepted(error: &IdpError) -> bool {
    let codes = ["AADSTS500011", "AADSTS90009", "AADSTS501051", "AADSTS65001", "AADSTS650057", "AADSTS1002012"];
    error.code.as_deref().is_some_and(|code| codes.contains(&code))
}

/// A token of the gateway's own for a resource (RFC 6749 section 4.4).
async fn token(asked: &Asked<'_>, home: &AzureTenant, showing: &Showing, resource: &str) -> Result<Given, IdpError> {
    let entra = Entra::new(asked.azure, home.clone(), asked.client);
    let described = Described::at(&entra.base())?;
    let about = described.get(&asked.http, std::time::Instant::now(), |issuer| entra.check_issuer(issuer)).await?;
    let endpoint = TokenEndpoint::new(asked.client.to_string(), showing.credential(), "nobody can sign in");
    let scope = format!("{resource}/.default");
    let grant = [("grant_type", "client_credentials"), ("scope", scope.as_str())];
    endpoint.ask(&asked.http, about.value.tokens(), &grant, asked.now).await
}

/// The version of tokens for the gateway, by one that was made for it.
fn version_of_token(own: Result<&Given, &IdpError>) -> Seen {
    let what = "token version";
    let version = own.ok().and_then(|given| given.access_token.as_ref()).and_then(|token| {
        let token = Unverified::read(token.expose()).ok()?;
        token.claims().text("ver").map(str::to_owned)
    });
    match (version.as_deref(), own.err()) {
        (Some("2.0"), _) => seen(what, State::Right, "tokens for the gateway are of version 2.0", ""),
        (Some(other), _) => {
            let text = format!("tokens for the gateway are of version {other}");
            let advice = "set requestedAccessTokenVersion to 2: App registrations, the gateway, Manifest, in `api`";
            seen(what, State::Doubtful, text, advice)
        }
        (None, error) => {
            let text = error.map_or_else(|| "no token for the gateway itself was given".to_owned(), told);
            let advice = "make the application a resource: App registrations, the gateway, Expose an API; MREG_AZURE_AUDIENCE is \
                          its Application ID URI";
            let advice = error.map_or_else(|| advice.to_owned(), |error| advised(error, advice));
            seen(what, State::NotVisible, text, advice)
        }
    }
}

/// When a certificate in a file ends.
async fn ends_of_files(asked: &Asked<'_>) -> Option<Seen> {
    let file = asked.azure.client_certificate.as_ref()?;
    let what = "certificate's end";
    let pem = match tokio::fs::read(file).await {
        Ok(pem) => pem,
        Err(error) => {
            let text = format!("{} cannot be read: {error}", file.display());
            return Some(seen(what, State::Wrong, text, "correct MREG_AZURE_CLIENT_CERTIFICATE, or the file's rights"));
        }
    };
    let Some(end) = not_after(&pem) else {
        let text = format!("{} holds no certificate that can be read", file.display());
        return Some(seen(what, State::Wrong, text, "put certificate and private key into one PEM file"));
    };
    Some(ends(what, end, asked.now, "upload a new certificate beside the old one, then replace the file"))
}

/// A sentence about an end in time.
pub(super) fn ends(what: &'static str, end: OffsetDateTime, now: OffsetDateTime, advice: &str) -> Seen {
    let day = end.date();
    if end <= now {
        return seen(what, State::Wrong, format!("it ended on {day}"), advice);
    }
    let days = (end - now).whole_days();
    let state = if end - now < SOON { State::Doubtful } else { State::Right };
    let advice = if state == State::Right { "" } else { advice };
    seen(what, state, format!("it ends on {day}, in {days} days"), advice)
}

/// A failure in a sentence, with the provider's own number.
pub(super) fn told(error: &IdpError) -> String {
    match (&error.code, error.code.as_deref().and_then(aadsts::explain)) {
        (Some(code), Some(known)) => format!("{code}: {}", known.what),
        _ => error.detail.clone(),
    }
}

/// What helps: by the number, else what is given.
pub(super) fn advised(error: &IdpError, otherwise: &str) -> String {
    error.explained().map_or_else(|| otherwise.to_owned(), |known| known.advice.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_before_it_comes() {
        let now = time::macros::datetime!(2026-11-27 12:00 UTC);
        let state = |end| ends("x", end, now, "renew").state;
        assert_eq!(state(now + time::Duration::days(31)), State::Right);
        assert_eq!(state(now + time::Duration::days(29)), State::Doubtful);
        assert_eq!(state(now), State::Wrong);
        let soon = ends("x", now + time::Duration::days(3), now, "renew");
        assert_eq!((soon.text.as_str(), soon.advice.as_str()), ("it ends on 2026-11-30, in 3 days", "renew"));
    }
}
