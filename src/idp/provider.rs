//! One identity provider: sends a browser there, redeems what comes back, asks later whether the person may still come in,
//! and verifies access tokens. It is the only part of the room that knows the order of these steps.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use url::Url;

use super::classify::at_callback;
use super::credential::Credential;
use super::discovery::{Described, Discovery};
use super::endpoint::{Given, Place, TokenEndpoint};
use super::entra::{self, Entra, Known};
use super::error::IdpError;
use super::graph;
use super::http::Http;
use super::jwt::{Claims, Expected, Unverified};
use super::kept::Aged;
use super::keys::KeyStore;
use super::oidc::{self, Oidc};
use super::{AccessToken, Hints, Leg, OwnRules, Person, ProviderTokens, Rechecked, Renewed, SignedIn, Who};
use crate::clock;
use crate::crypto::jwk::PublicKey;
use crate::protocol::oauth::JWT_BEARER;
use crate::secret::Secret;

/// Of how many directories it is remembered at most whether they are to be left alone.
const MOST_DIRECTORIES: usize = 1_000;

/// See the module. Clones share what was fetched.
#[derive(Clone)]
pub struct Provider(Arc<Inner>);

pub(super) struct Inner {
    pub(super) name: &'static str,
    pub(super) title: String,
    pub(super) http: Http,
    described: Described,
    keys: KeyStore,
    tokens: TokenEndpoint,
    /// The same for tokens on behalf of people, of each directory by itself: what is refused there stops no sign-in.
    behalf: Mutex<HashMap<Url, Arc<TokenEndpoint>>>,
    rules: Rules,
}

/// Whose rules hold.
pub(super) enum Rules {
    Entra(Entra),
    Oidc(Oidc),
}

impl Provider {
    pub(super) fn new(
        name: &'static str,
        title: String,
        http: Http,
        client: String,
        credential: Credential,
        rules: Rules,
    ) -> Result<Self, IdpError> {
        let described = match &rules {
            Rules::Entra(entra) => Described::at(&entra.base())?,
            Rules::Oidc(oidc) => Described::at(&oidc.issuer)?,
        };
        let tokens = TokenEndpoint::new(client, credential, "nobody can sign in");
        let (keys, behalf) = (KeyStore::default(), Mutex::default());
        Ok(Self(Arc::new(Inner { name, title, http, described, keys, tokens, behalf, rules })))
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }

    /// Where to send the browser, and what to keep, sealed, until it comes back to `redirect_uri`.
    pub async fn begin(&self, redirect_uri: &Url, hints: &Hints) -> Result<Leg, IdpError> {
        let inner = &*self.0;
        let about = inner.about(clock::instant()).await?;
        let (state, nonce, verifier) = (random(), random(), random());
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.expose()));
        let mut url = about.value.authorization_endpoint.clone();
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("response_mode", "query")
            .append_pair("client_id", &inner.tokens.client)
            .append_pair("redirect_uri", redirect_uri.as_str())
            .append_pair("scope", &inner.scopes())
            .append_pair("state", state.expose())
            .append_pair("nonce", nonce.expose())
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        for (name, value) in [("login_hint", &hints.login_hint), ("prompt", &hints.prompt), ("claims", &hints.claims)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        drop(query);
        Ok(Leg { url, state, nonce, verifier })
    }

    /// What an error means that the provider sent to the callback, in `error` and `error_description`.
    pub fn at_callback(&self, error: &str, description: Option<&str>) -> IdpError {
        at_callback(error, description)
    }

    /// Redeems the code of the callback and verifies who signed in. `nonce` and `verifier` are those of the [`Leg`].
    pub async fn finish(
        &self,
        redirect_uri: &Url,
        code: &str,
        nonce: &Secret,
        verifier: &Secret,
        now: OffsetDateTime,
    ) -> Result<SignedIn, IdpError> {
        let inner = &*self.0;
        let about = inner.about(clock::instant()).await?;
        let scopes = inner.scopes();
        let grant = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri.as_str()),
            ("code_verifier", verifier.expose()),
            ("scope", &scopes),
        ];
        let given = inner.tokens.ask(&inner.http, about.value.tokens(), &grant, now).await?;
        let token = given.id_token.as_ref().ok_or_else(|| {
            IdpError::configuration("the identity provider gave no ID token: it is asked for with the scope `openid`")
        })?;
        let mut refresh = given.refresh_token.clone();
        let person = inner.person(&about.value, token, nonce, refresh.as_mut(), now).await?;
        let tokens = refresh.map(|refresh| inner.tokens_of(given, refresh, &person.subject, now));
        Ok(SignedIn { person, tokens })
    }

    /// Refreshes the tokens. Those given back take the place of the old, whatever becomes of the rest, and are to be stored before anything
    /// else is done with them: some providers take the old ones only once.
    pub async fn refresh(&self, tokens: &ProviderTokens, now: OffsetDateTime) -> Result<Renewed, IdpError> {
        let inner = &*self.0;
        let about = inner.about(clock::instant()).await?;
        let given = inner.refresh(&about.value, &tokens.refresh, &inner.scopes(), now).await?;
        let id_token = given.id_token.clone();
        let refresh = given.refresh_token.clone().unwrap_or_else(|| tokens.refresh.clone());
        Ok(Renewed { tokens: inner.tokens_of(given, refresh, &tokens.subject, now), id_token })
    }

    /// Whether the person may still come in, and as who, by the answer to a refresh.
    pub async fn who(&self, renewed: &Renewed, now: OffsetDateTime) -> Result<Who, IdpError> {
        let Some(token) = &renewed.id_token else { return Ok(Who::Unsaid) };
        let inner = &*self.0;
        let about = inner.about(clock::instant()).await?;
        let Known { person, groups_missing } = inner.known(&about.value, token, None, now).await?;
        if person.subject != renewed.tokens.subject {
            return Err(IdpError::forged("the identity provider answered a refresh with somebody else's identity"));
        }
        let person = Box::new(person);
        Ok(if groups_missing { Who::LacksGroups(person) } else { Who::Person(person) })
    }

    /// A token with which the directory tells the groups of who is lacking them. The refresh token is another one afterwards, also if
    /// nothing comes of it, and to be stored before anything else is done.
    pub async fn directory_token(
        &self,
        tokens: &mut ProviderTokens,
        now: OffsetDateTime,
    ) -> Result<AccessToken, IdpError> {
        let about = self.0.about(clock::instant()).await?;
        self.0.directory_token(&about.value, &mut tokens.refresh, now).await
    }

    /// Who it is, with the groups that the directory tells.
    pub async fn with_groups(
        &self,
        person: Person,
        token: &AccessToken,
        now: OffsetDateTime,
    ) -> Result<Person, IdpError> {
        match &self.0.rules {
            Rules::Entra(entra) => self.0.with_groups(entra, person, token, now).await,
            Rules::Oidc(_) => Ok(person),
        }
    }

    /// All of it, where nothing is lost if the tokens are.
    pub async fn recheck(&self, tokens: &ProviderTokens, now: OffsetDateTime) -> Result<Rechecked, IdpError> {
        let mut renewed = self.refresh(tokens, now).await?;
        let person = match self.who(&renewed, now).await {
            Ok(Who::Unsaid) => Ok(None),
            Ok(Who::Person(person)) => Ok(Some(*person)),
            Ok(Who::LacksGroups(person)) => match self.directory_token(&mut renewed.tokens, now).await {
                Ok(token) => self.with_groups(*person, &token, now).await.map(Some),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        Ok(Rechecked { tokens: renewed.tokens, person })
    }

    /// A token of the person for another application. `assertion` is the person's access token for the gateway, which the directory of
    /// this issuer gave; `claims` are what the other application wants to see in the token.
    pub async fn on_behalf_of(
        &self,
        issuer: &str,
        assertion: &Secret,
        scopes: &str,
        claims: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<AccessToken, IdpError> {
        let inner = &*self.0;
        let Rules::Entra(entra) = &inner.rules else {
            return Err(IdpError::configuration("only Microsoft Entra ID gives tokens on behalf of people"));
        };
        let about = inner.about(clock::instant()).await?;
        let place = about.value.tokens();
        let url = entra.tokens_of(issuer, place.url)?;
        let mut grant = vec![
            ("grant_type", JWT_BEARER),
            ("assertion", assertion.expose()),
            ("scope", scopes),
            ("requested_token_use", "on_behalf_of"),
        ];
        grant.extend(claims.map(|claims| ("claims", claims)));
        let given = inner.on_behalf_at(&url).ask(&inner.http, Place { url: &url, ..place }, &grant, now).await?;
        given.access(now)
    }

    /// Verifies an access token that the provider made for the gateway. Only Entra's can be: other providers' tokens have
    /// no form that all agree on.
    pub async fn verify_access_token(&self, token: &str, now: OffsetDateTime) -> Result<Person, IdpError> {
        let inner = &*self.0;
        let Rules::Entra(entra) = &inner.rules else {
            return Err(IdpError::refused("access tokens of this identity provider are not taken"));
        };
        let token = Unverified::read(token)?;
        entra.foreign(&token)?;
        let about = inner.about(clock::instant()).await?;
        let audiences = entra.audiences(token.claims()).to_vec();
        let (claims, directory) =
            inner.verified_by_entra(&about.value, token, entra, &audiences, &["JWT", "at+jwt"], now).await?;
        let known = entra.of_access_token(&claims, directory, &about.value.issuer)?;
        if known.groups_missing {
            return Err(IdpError::refused(
                "the person is in more groups than the token holds, and the gateway's roles go by groups: sign in at the \
                 gateway, or use app roles",
            ));
        }
        Ok(known.person)
    }

    pub(super) fn follow(&self, rules: OwnRules) {
        if let Rules::Entra(entra) = &self.0.rules {
            entra.own_rules.store(Arc::new(rules));
        }
    }

    /// Looks at the provider's keys again; to be called about once an hour.
    pub async fn refresh_keys(&self) -> Result<(), IdpError> {
        let (inner, now) = (&*self.0, clock::instant());
        let about = inner.about(now).await?;
        inner.keys.refresh(&inner.http, &about.value.jwks_uri, now).await
    }

    /// For which resource its access tokens are, where that is known: other providers than Entra do not say.
    pub fn audience(&self) -> Option<&str> {
        match &self.0.rules {
            Rules::Entra(entra) => Some(entra.resource()),
            Rules::Oidc(_) => None,
        }
    }

    /// How long the provider wants to be left alone still, if it said so (429).
    pub fn pause(&self) -> Option<Duration> {
        self.0.tokens.pause(clock::instant())
    }

    /// Why the provider refuses the gateway's own credential, if it did the last time: nobody can sign in then.
    pub fn credential_refused(&self) -> Option<Arc<IdpError>> {
        self.0.tokens.refused()
    }
}

impl Inner {
    /// Where the directory of this token endpoint gives tokens on behalf of its people.
    fn on_behalf_at(&self, url: &Url) -> Arc<TokenEndpoint> {
        let mut all = self.behalf.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(url) {
            return Arc::clone(known);
        }
        if all.len() >= MOST_DIRECTORIES {
            // They are asked, and say it again.
            all.clear();
        }
        let (client, credential) = (self.tokens.client.clone(), Arc::clone(&self.tokens.credential));
        let new =
            Arc::new(TokenEndpoint::new(client, credential, "no call reaches the servers that want to see people"));
        all.insert(url.clone(), Arc::clone(&new));
        new
    }

    /// Whether people who sign in with it are people of this issuer.
    pub(super) fn is_of(&self, issuer: &str) -> bool {
        match &self.rules {
            Rules::Entra(entra) => entra.directory_of(issuer).is_some(),
            Rules::Oidc(oidc) => oidc.issuer == issuer,
        }
    }

    async fn about(&self, now: Instant) -> Result<Arc<Aged<Discovery>>, IdpError> {
        let right = |issuer: &str| match &self.rules {
            Rules::Entra(entra) => entra.check_issuer(issuer),
            Rules::Oidc(oidc) => oidc.check_issuer(issuer),
        };
        self.described.get(&self.http, now, right).await
    }

    fn scopes(&self) -> String {
        match &self.rules {
            Rules::Entra(entra) => entra.scopes(),
            Rules::Oidc(oidc) => oidc.scopes.clone(),
        }
    }

    async fn refresh(
        &self,
        about: &Discovery,
        token: &Secret,
        scopes: &str,
        now: OffsetDateTime,
    ) -> Result<Given, IdpError> {
        let grant = [("grant_type", "refresh_token"), ("refresh_token", token.expose()), ("scope", scopes)];
        self.tokens.ask(&self.http, about.tokens(), &grant, now).await
    }

    fn tokens_of(&self, given: Given, refresh: Secret, subject: &str, now: OffsetDateTime) -> ProviderTokens {
        let scopes = given.scope.clone().unwrap_or_else(|| self.scopes());
        ProviderTokens {
            expires_at: given.expires_at(now),
            scopes: scopes.split_ascii_whitespace().map(str::to_owned).collect(),
            access: given.access_token,
            refresh,
            subject: subject.to_owned(),
        }
    }

    /// Who the ID token of a sign-in is about. If a refresh token has to be used for it, the one that came of that takes its place.
    async fn person(
        &self,
        about: &Discovery,
        token: &Secret,
        nonce: &Secret,
        refresh: Option<&mut Secret>,
        now: OffsetDateTime,
    ) -> Result<Person, IdpError> {
        let Known { person, groups_missing } = self.known(about, token, Some(nonce), now).await?;
        let Rules::Entra(entra) = &self.rules else { return Ok(person) };
        if !groups_missing {
            return Ok(person);
        }
        let refresh = refresh.ok_or_else(|| {
            IdpError::configuration("the person's groups cannot be asked for: Entra gave no refresh token")
        })?;
        let token = self.directory_token(about, refresh, now).await?;
        self.with_groups(entra, person, &token, now).await
    }

    /// Who an ID token is about, as far as it says. At a refresh there is no nonce (OpenID Connect Core 1.0 section 12.2).
    async fn known(
        &self,
        about: &Discovery,
        token: &Secret,
        nonce: Option<&Secret>,
        now: OffsetDateTime,
    ) -> Result<Known, IdpError> {
        let token = Unverified::read_from_provider(token.expose())?;
        let client = std::slice::from_ref(&self.tokens.client);
        match &self.rules {
            Rules::Entra(entra) => {
                let (claims, directory) = self.verified_by_entra(about, token, entra, client, &["JWT"], now).await?;
                nonce.map_or(Ok(()), |nonce| claims.answers(nonce))?;
                entra.of_id_token(&claims, directory, &about.issuer)
            }
            Rules::Oidc(oidc) => {
                let algorithm = token.algorithm(oidc::ALGORITHMS, &["JWT"])?;
                let key = self.key(about, &token, algorithm).await?;
                let expected = Expected { audience: client, issuer: &oidc.issuer };
                let claims = token.verify(&key, algorithm, &expected, now)?;
                nonce.map_or(Ok(()), |nonce| claims.answers(nonce))?;
                Ok(Known { person: oidc.of_id_token(&claims)?, groups_missing: false })
            }
        }
    }

    async fn verified_by_entra(
        &self,
        about: &Discovery,
        token: Unverified<'_>,
        entra: &Entra,
        audience: &[String],
        types: &[&str],
        now: OffsetDateTime,
    ) -> Result<(Claims, uuid::Uuid), IdpError> {
        let (directory, issuer) = entra.expected(token.claims())?;
        let algorithm = token.algorithm(entra::ALGORITHMS, types)?;
        let key = self.key(about, &token, algorithm).await?;
        let claims = token.verify(&key, algorithm, &Expected { audience, issuer: &issuer }, now)?;
        entra.may_sign(&key, directory)?;
        Ok((claims, directory))
    }

    async fn key(
        &self,
        about: &Discovery,
        token: &Unverified<'_>,
        algorithm: Algorithm,
    ) -> Result<Arc<PublicKey>, IdpError> {
        let found = self.keys.find(&self.http, &about.jwks_uri, token.key_id(), algorithm, clock::instant()).await?;
        found.ok_or_else(|| token.unknown_key())
    }

    async fn directory_token(
        &self,
        about: &Discovery,
        refresh: &mut Secret,
        now: OffsetDateTime,
    ) -> Result<AccessToken, IdpError> {
        let given = self.refresh(about, refresh, graph::SCOPE, now).await?;
        if let Some(next) = &given.refresh_token {
            *refresh = next.clone();
        }
        let expires_at = given.expires_at(now);
        let token = given.access_token.ok_or_else(|| IdpError::temporary("Entra gave no token for Microsoft Graph"))?;
        Ok(AccessToken { token, expires_at })
    }

    async fn with_groups(
        &self,
        entra: &Entra,
        person: Person,
        token: &AccessToken,
        now: OffsetDateTime,
    ) -> Result<Person, IdpError> {
        let groups = graph::groups(&self.http, &entra.graph, &token.token, now).await?;
        Ok(entra.with_groups(person, groups))
    }
}

/// 256 random bits, 43 characters.
fn random() -> Secret {
    Secret::new(URL_SAFE_NO_PAD.encode(crate::crypto::random_bytes::<32>()))
}
