//! How one server wants to be shown in whose name the gateway comes, made of its description once; and how that is got.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use http::header::HeaderName;
use url::Url;

use super::Credentials;
use super::counted::Renewal;
use super::kept::{Holder, Key, Slot};
use super::refused::Asked;
use super::shown::{Shown, sensitive};
use super::word::{Grant, Word};
use crate::access::{Caller, SessionType};
use crate::connections::{Not, Site};
use crate::fault::{Fault, Kind};
use crate::id::{ServerId, Slug, TenantId};
use crate::idp::{Client, ClientPlace, Endpoint};
use crate::protocol::oauth::{ACCESS_TOKEN, JWT, JWT_BEARER, TOKEN_EXCHANGE};
use crate::registry::model::{Auth, AuthKind, ClientAuth, Server, SubjectToken};
use crate::store::now;

/// See the module.
pub struct Plan {
    number: u64,
    slug: Slug,
    /// Whose server it is.
    tenant: TenantId,
    engine: Credentials,
    calls: Source,
    own: Source,
    /// Whether each person comes with something of their own.
    personal: bool,
    /// Whether calls come with something else than the gateway itself.
    apart: bool,
}

/// Where something to show comes from.
#[derive(Clone)]
enum Source {
    /// Nothing is shown.
    Nothing,
    /// It stands in the description.
    Fixed(Arc<Shown>),
    /// The gateway says it.
    Word(Arc<Word>),
    /// A token that the gateway has as a client.
    Client(Arc<AsClient>),
    /// A token that Entra ID gives for the person, with these scopes.
    Behalf(Arc<str>),
    /// A token in exchange for this one.
    Exchange(Arc<AsClient>, Subject),
    /// A token for whom the gateway vouches.
    Vouched(Arc<AsClient>, Arc<Word>, Arc<str>),
    /// A token that the server's own authorization server gives for the person.
    Connection(Arc<Site>),
}

/// Why something is got.
#[derive(Clone)]
enum Want {
    /// There is nothing.
    First,
    /// This ends soon.
    Ending(Arc<Shown>),
    /// The server refuses this, and may say what it wants to see in a token.
    Refused(Arc<Shown>, Option<String>),
}

impl Want {
    fn shown(&self) -> Option<&Arc<Shown>> {
        match self {
            Self::First => None,
            Self::Ending(shown) | Self::Refused(shown, _) => Some(shown),
        }
    }
}

/// What is exchanged.
#[derive(Clone)]
enum Subject {
    /// The gateway's word.
    Word(Arc<Word>),
    /// The access token of the provider of this name.
    Provider(Arc<str>),
}

/// The gateway as a client somewhere, and what it asks for.
struct AsClient {
    client: Client,
    id: Box<str>,
    scopes: String,
    /// Further fields.
    fields: Vec<(&'static str, String)>,
}

impl AsClient {
    fn new(engine: &Credentials, auth: &Auth) -> Result<Arc<Self>, Fault> {
        let setup = |text: &str| Fault::gateway(Kind::Setup, format!("its credential: {text}"));
        let url = |text: &str| Url::parse(text).map_err(|_| setup("the authorization server is named by no URL"));
        let place = match (&auth.token_endpoint, &auth.issuer) {
            (Some(endpoint), _) => ClientPlace::Endpoint(url(endpoint)?),
            (None, Some(issuer)) => ClientPlace::Issuer(url(issuer)?),
            (None, None) => return Err(setup("no authorization server is named")),
        };
        let in_body = auth.client_auth.map(|how| how == ClientAuth::Post);
        let id: Box<str> = auth.client_id.as_deref().unwrap_or_default().into();
        let said = [("audience", &auth.audience), ("resource", &auth.resource)];
        let fields = said.into_iter().filter_map(|(name, text)| Some((name, text.clone()?))).collect();
        let mut client = Client::new(&engine.0.outbound, place, id.clone().into(), auth.client_secret.clone(), in_body);
        if auth.signs_as_client() {
            let signer = engine.signer().clone();
            client = client.signing(Box::new(move |kind, claims, now| signer.sign(kind, claims, now)));
        }
        Ok(Arc::new(Self { client, id, scopes: auth.scopes.join(" "), fields }))
    }

    async fn endpoint(&self) -> Result<Endpoint, Fault> {
        self.client.endpoint().await.map_err(|error| Asked::AsClient.failed(&error))
    }

    async fn token(&self, at: &Endpoint, asked: Asked, grant: &[(&str, &str)]) -> Result<Shown, Fault> {
        let mut grant = grant.to_vec();
        if !self.scopes.is_empty() {
            grant.push(("scope", &self.scopes));
        }
        grant.extend(self.fields.iter().map(|(name, value)| (*name, value.as_str())));
        let token = self.client.token(at, &grant, now()).await.map_err(|error| asked.failed(&error))?;
        Shown::bearer(&token, now())
    }
}

impl Plan {
    /// None for a server that wants nothing shown but what stands in its headers.
    pub fn of(server: &Server, engine: &Credentials) -> Result<Option<Arc<Self>>, Fault> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (auth, own) = (&server.spec.auth, &server.spec.discovery_auth);
        if auth.kind == AuthKind::None && own.kind == AuthKind::None {
            return Ok(None);
        }
        let calls = Source::of(server, auth, engine)?;
        let (own, apart) = match (own.kind, &calls) {
            // The gateway has no person's token, and asks with none.
            (
                AuthKind::None,
                Source::Behalf(_) | Source::Exchange(..) | Source::Vouched(..) | Source::Connection(_),
            ) => (Source::Nothing, true),
            (AuthKind::None, calls) => (calls.clone(), false),
            _ => (Source::of(server, own, engine)?, true),
        };
        Ok(Some(Arc::new(Self {
            number: NEXT.fetch_add(1, Relaxed),
            slug: server.spec.slug.clone(),
            tenant: server.tenant.clone(),
            engine: engine.clone(),
            calls,
            own,
            personal: auth.is_personal(),
            apart,
        })))
    }

    /// What the server is called.
    pub fn slug(&self) -> &Slug {
        &self.slug
    }

    /// Whether the gateway itself has nothing to show, but people have.
    pub fn is_for_people_only(&self) -> bool {
        self.personal && matches!(self.own, Source::Nothing)
    }

    /// For whom what is shown for this caller, or for the gateway, is. What one holder opened at the server is no other's.
    pub fn holder(&self, caller: Option<&Caller>) -> Holder {
        match caller {
            Some(caller) if self.personal => Holder::of(caller),
            Some(_) if self.apart => Holder::Calls,
            _ => Holder::Gateway,
        }
    }

    fn source(&self, holder: &Holder) -> &Source {
        if *holder == Holder::Gateway { &self.own } else { &self.calls }
    }

    /// What is there to be shown for the caller, or for the gateway: `Ok(None)` where nothing is shown, `Err` with its key where it has
    /// to be got.
    pub fn ready(&self, caller: Option<&Caller>) -> Result<Option<Arc<Shown>>, Key> {
        let holder = self.holder(caller);
        match self.source(&holder) {
            Source::Nothing => Ok(None),
            Source::Fixed(shown) => Ok(Some(shown.clone())),
            _ => {
                let key = Key { plan: self.number, holder };
                let good = self.engine.0.kept.good(&key, caller.filter(|_| self.personal), Instant::now());
                good.map(Some).ok_or(key)
            }
        }
    }

    /// Gets what is not ready. It is got whether the caller waits for it or not.
    pub async fn get(self: &Arc<Self>, key: Key, caller: Option<&Caller>) -> Result<Arc<Shown>, Fault> {
        let slot = self.engine.0.kept.slot(&key, self, caller.filter(|_| self.personal));
        self.in_background(slot, Want::First).await
    }

    /// The server refuses what was shown (401): what to show in its place, once, if there is something. What it never took it would
    /// refuse again, unless it says what it wants to see in a token: `claims`.
    pub async fn instead(
        self: &Arc<Self>,
        refused: &Arc<Shown>,
        caller: Option<&Caller>,
        claims: Option<String>,
    ) -> Result<Option<Arc<Shown>>, Fault> {
        let holder = self.holder(caller);
        let renewable = match self.source(&holder) {
            Source::Nothing | Source::Fixed(_) => false,
            // It is kept for longer than this process knows whether it was ever taken.
            Source::Connection(_) => true,
            _ => claims.is_some() || refused.is_taken(),
        };
        if !renewable {
            return Ok(None);
        }
        let slot = self.engine.0.kept.slot(&Key { plan: self.number, holder }, self, caller.filter(|_| self.personal));
        if !slot.may_replace(refused, Instant::now()) {
            return Ok(None);
        }
        self.in_background(slot, Want::Refused(refused.clone(), claims)).await.map(Some)
    }

    /// Gets anew what is there.
    pub(super) async fn renew(self: &Arc<Self>, slot: &Arc<Slot>, before: Option<&Arc<Shown>>) -> Result<(), Fault> {
        let want = before.cloned().map_or(Want::First, Want::Ending);
        slot.get(before, Box::pin(self.fetch(slot, &want))).await.map(drop)
    }

    async fn in_background(self: &Arc<Self>, slot: Arc<Slot>, want: Want) -> Result<Arc<Shown>, Fault> {
        let plan = self.clone();
        let getting =
            self.engine.0.tasks.spawn(async move { slot.get(want.shown(), Box::pin(plan.fetch(&slot, &want))).await });
        getting.await.unwrap_or_else(|error| {
            tracing::error!(server = %self.slug, "getting a credential failed; this is a bug of the gateway: {error}");
            Err(Fault::gateway(Kind::NoCredential, "getting a credential failed"))
        })
    }

    async fn fetch(&self, slot: &Slot, want: &Want) -> Result<Shown, Fault> {
        let (source, caller) = (if slot.is_own() { &self.own } else { &self.calls }, slot.caller());
        let tenant = caller.as_ref().map_or(&self.tenant, Caller::tenant).clone();
        let (kind, got) = match source {
            Source::Nothing => return Ok(Shown::fixed(Vec::new())),
            Source::Fixed(shown) => return Ok(Shown::fixed(shown.headers.clone())),
            Source::Word(word) => return word.shown(&self.engine, caller.as_ref(), now()),
            Source::Client(client) => {
                let got = match client.endpoint().await {
                    Ok(at) => client.token(&at, Asked::AsClient, &[("grant_type", "client_credentials")]).await,
                    Err(fault) => Err(fault),
                };
                ("client_credentials", got)
            }
            Source::Behalf(scopes) => {
                let claims = if let Want::Refused(_, claims) = want { claims.clone() } else { None };
                ("on_behalf_of", self.on_behalf_of(caller, scopes, claims).await)
            }
            Source::Exchange(client, subject) => ("token_exchange", self.exchange(caller, client, subject).await),
            Source::Vouched(client, word, resource) => ("id_jag", self.vouch(caller, client, word, resource).await),
            Source::Connection(site) => ("authorization_code", self.connected(caller, site, want).await),
        };
        self.engine.count(kind, &got);
        // What has ended meanwhile is still there.
        if let Some(before) = want.shown().cloned().or_else(|| slot.last()) {
            let why = Renewal { ahead: matches!(want, Want::Ending(_)), again: slot.is_stuck() };
            self.engine.count_renewal(&tenant, why, &before, &got);
        }
        got.inspect_err(|fault| {
            tracing::warn!(server = %self.slug, credential = kind, kind = fault.kind.label(), "nothing to show the server: {fault}");
        })
    }

    async fn on_behalf_of(&self, caller: Option<Caller>, scopes: &str, claims: Option<String>) -> Result<Shown, Fault> {
        let caller = caller.ok_or_else(nobody)?;
        let token = self.engine.people()?.on_behalf_of(caller, scopes.to_owned(), claims).await?;
        Shown::bearer(&token, now())
    }

    async fn connected(&self, caller: Option<Caller>, site: &Site, want: &Want) -> Result<Shown, Fault> {
        let caller = caller.ok_or_else(nobody)?;
        let not = match want {
            Want::First => Not::Any,
            Want::Ending(shown) => Not::Ending(shown.token()),
            Want::Refused(shown, _) => Not::Refused(shown.token()),
        };
        Shown::bearer(&self.engine.0.connections.token(site, &caller, not).await?, now())
    }

    /// The server did not let the caller in, also with something new (401), or wants to see more of them than was shown (403, with the
    /// scopes): what the caller is told who can do something about it.
    pub async fn to_connect(&self, caller: Option<&Caller>, more: Option<(&Shown, &str)>) -> Option<Fault> {
        let (Source::Connection(site), Some(caller)) = (&self.calls, caller) else { return None };
        Some(match more {
            Some((shown, scopes)) => self.engine.0.connections.wants(site, caller, shown.token(), scopes).await,
            None => self.engine.0.connections.not_taken(site),
        })
    }

    /// Whether people connect to this server.
    pub fn connects_to(&self, server: ServerId) -> bool {
        matches!(&self.calls, Source::Connection(site) if site.id == server)
    }

    async fn exchange(&self, caller: Option<Caller>, client: &AsClient, subject: &Subject) -> Result<Shown, Fault> {
        let caller = caller.ok_or_else(nobody)?;
        let at = client.endpoint().await?;
        let (token, kind, asked) = match subject {
            Subject::Word(word) => {
                (word.sign(&self.engine, &caller, &at.audience, now())?, JWT, Asked::ByWordInExchange)
            }
            Subject::Provider(name) => {
                let token = self.engine.people()?.access_token(caller, name.to_string()).await?;
                (token, ACCESS_TOKEN, Asked::ByProvider)
            }
        };
        let grant = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", token.expose()),
            ("subject_token_type", kind),
            ("requested_token_type", ACCESS_TOKEN),
        ];
        client.token(&at, asked, &grant).await
    }

    /// The gateway is the identity provider of the person, and vouches for them to the authorization server of the resource.
    async fn vouch(
        &self,
        caller: Option<Caller>,
        client: &AsClient,
        word: &Word,
        resource: &str,
    ) -> Result<Shown, Fault> {
        let caller = caller.ok_or_else(nobody)?;
        if caller.session_type() == SessionType::Service {
            return Err(no_person());
        }
        let at = client.endpoint().await?;
        let scope = Some(&*client.scopes).filter(|scopes| !scopes.is_empty());
        let grant = Grant { client_id: &client.id, resource, scope };
        let assertion = word.vouch(&self.engine, &caller, &at.audience, grant, now())?;
        let grant = [("grant_type", JWT_BEARER), ("assertion", assertion.expose())];
        client.token(&at, Asked::ByWord, &grant).await
    }
}

impl Source {
    fn of(server: &Server, auth: &Auth, engine: &Credentials) -> Result<Self, Fault> {
        Ok(match auth.kind {
            AuthKind::None => Self::Nothing,
            AuthKind::Headers => {
                let bad = |_| Fault::gateway(Kind::Setup, "a header of `discovery_auth` cannot be sent");
                let mut headers = Vec::with_capacity(auth.headers.len());
                for (name, value) in &auth.headers {
                    headers.push((HeaderName::from_bytes(name.as_bytes()).map_err(bad)?, sensitive(value.expose())?));
                }
                Self::Fixed(Arc::new(Shown::fixed(headers)))
            }
            AuthKind::Identity => Self::Word(Arc::new(Word::new(server, auth)?)),
            AuthKind::ClientCredentials => Self::Client(AsClient::new(engine, auth)?),
            AuthKind::OnBehalfOf => {
                let whole =
                    || auth.audience.as_deref().map(|audience| format!("{audience}/.default")).unwrap_or_default();
                Self::Behalf(if auth.scopes.is_empty() { whole() } else { auth.scopes.join(" ") }.into())
            }
            AuthKind::AuthorizationCode => {
                let none =
                    || Fault::gateway(Kind::Setup, "it has no URL of which an authorization server could be found");
                Self::Connection(Arc::new(Site::of(server).ok_or_else(none)?))
            }
            AuthKind::TokenExchange => {
                let subject = match auth.subject {
                    Some(SubjectToken::Provider) => {
                        Subject::Provider(auth.provider.as_deref().unwrap_or_default().into())
                    }
                    Some(SubjectToken::Identity) | None => Subject::Word(Arc::new(Word::new(server, auth)?)),
                };
                Self::Exchange(AsClient::new(engine, auth)?, subject)
            }
            AuthKind::IdJag => {
                let resource = auth.resource.as_deref().or(server.spec.first_url()).unwrap_or_default();
                Self::Vouched(AsClient::new(engine, auth)?, Arc::new(Word::new(server, auth)?), resource.into())
            }
        })
    }
}

fn no_person() -> Fault {
    let told =
        "the server wants a person, and the gateway vouches for no program; ask an administrator for another server";
    Fault::client(Kind::NoCredential, "the call came from a service").telling(told)
}

fn nobody() -> Fault {
    Fault::gateway(Kind::NoCredential, "the gateway itself has no person's token")
}
