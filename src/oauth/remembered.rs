//! What a person allowed once and need not be asked again: for clients that an administrator registered and that nobody else can
//! pass for, and only where the browser was not sent here by a page of another site.
//!
//! Whoever describes or registers itself is asked about each time: its id proves nothing of who uses it. So is a public client whose
//! answer goes to the person's own computer, where any program could take it (RFC 8252 section 8.6).

use crate::app::App;
use crate::grants::client::{Client, Known, Proof};
use crate::grants::redirect::{Place, RedirectUri};
use crate::grants::{Account, Consent, Refusal, Request, ScopeSet};
use crate::store::now;

/// What would be remembered.
pub(super) struct Memory {
    client_id: String,
    /// As it is registered: the port of the person's own computer is another each time.
    redirect_uri: String,
    resource: String,
    scopes: ScopeSet,
}

/// Whether what is allowed to a client is remembered.
pub(super) fn lasts(client: &Client, redirect: &RedirectUri) -> bool {
    let sure = redirect.place() == Place::Web || !matches!(client.proof, Proof::None);
    sure && matches!(client.known, Known::Registered { .. })
}

impl Memory {
    /// For what a client asks for; none where nothing is remembered.
    pub(super) fn of(client: &Client, redirect: &RedirectUri, resource: String, scopes: ScopeSet) -> Option<Self> {
        let own = client.redirect(redirect.as_str())?;
        lasts(client, redirect).then(|| Self {
            client_id: client.id.to_string(),
            redirect_uri: own.as_str().to_owned(),
            resource,
            scopes,
        })
    }

    /// The same for an authorization under way.
    pub(super) fn of_request(app: &App, client: &Client, request: &Request) -> Option<Self> {
        let redirect = RedirectUri::parse(&request.redirect_uri, app.clients.schemes()).ok()?;
        Self::of(client, &redirect, request.resource.clone(), request.scopes)
    }

    fn consent<'a>(&'a self, account: &'a Account) -> Consent<'a> {
        Consent {
            tenant: &account.tenant,
            user: account.id,
            client_id: &self.client_id,
            redirect_uri: &self.redirect_uri,
            resource: &self.resource,
            scopes: self.scopes,
        }
    }

    /// Whether the account allowed all of it before.
    pub(super) async fn holds(&self, app: &App, account: &Account) -> Result<bool, Refusal> {
        app.grants.has_consent(&self.consent(account)).await
    }

    /// Remembers it, from now on.
    pub(super) async fn keep(&self, app: &App, account: &Account) -> Result<(), Refusal> {
        app.grants.remember_consent(&self.consent(account), now()).await
    }
}
