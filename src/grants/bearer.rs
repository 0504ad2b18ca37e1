//! Assertions of trusted issuers, shown for a token (RFC 7523 section 2.1). Which profile holds says the client's registration and
//! never the assertion: a service is the program that a platform vouches for, any other client brings a person for whom an
//! identity provider vouches to it (draft-ietf-oauth-identity-assertion-authz-grant; MCP extension "enterprise-managed
//! authorization").

use std::time::Duration;

use time::OffsetDateTime;

use super::assertion::{Kind, Proved, Rules, Unproved};
use super::client::{Client, Clients, Proof, Workload};
use super::fetch::{Chosen, FetchError};
use super::scope::{Scope, ScopeSet};
use super::trusted::{Profile, Trust, login_method};
use super::{DETAILS, OauthCode, Refusal};
use crate::access::Role;
use crate::crypto::dpop::Thumbprint;
use crate::id::TenantId;

/// Somebody for whom a trusted issuer vouches.
#[derive(Debug)]
pub enum Vouched {
    /// A person, to the client that shows it.
    Person(Box<Introduced>),
    /// The program that the client is.
    Itself {
        /// As what the session is known.
        login_method: String,
        /// No longer than until then.
        until: OffsetDateTime,
        /// Only if its account has no greater role: that of who trusts the issuer.
        at_most: Role,
    },
}

/// A person for whom an identity provider vouches to one client.
#[derive(Debug)]
pub struct Introduced {
    /// Who vouches.
    pub issuer: String,
    /// The person's name there, which never changes.
    pub subject: String,
    /// The name that people know.
    pub username: String,
    /// For pages.
    pub display_name: Option<String>,
    /// The role that the issuer's word gives.
    pub role: Role,
    /// As what the session is known.
    pub login_method: String,
    /// The resource that it is for, as the assertion names it.
    pub resource: String,
    /// The most that the assertion and the trust in its issuer allow.
    pub scopes: ScopeSet,
    /// By which it is remembered that it was shown.
    pub jti: String,
    /// For how long.
    pub until: OffsetDateTime,
}

impl Clients {
    /// Whom an assertion is about that `client`, of `tenant`, shows for a token; `issuer` is our own name, `key` the one that was
    /// proved with it. Whether an assertion about a person was shown before is the caller's to ask.
    pub async fn vouched(
        &self,
        client: &Client,
        tenant: &TenantId,
        shown: &str,
        issuer: &str,
        key: Option<Thumbprint>,
        now: OffsetDateTime,
    ) -> Result<Vouched, Refusal> {
        match &client.proof {
            // Nobody proved to be this client yet: all that may be wrong is told alike.
            Proof::Workload(own) => self.workload(own, tenant, shown, issuer, key, now).await.map_err(|refusal| {
                let text = "the assertion is none that this client may show: of a trusted issuer, about one of the client's \
                            workloads, for this gateway, and good now";
                if refusal.code == OauthCode::InvalidGrant { Refusal { text, ..refusal } } else { refusal }
            }),
            Proof::None => {
                let text = "a client that cannot prove who it is brings nobody by an assertion; use authorization_code";
                Err(Refusal::new(OauthCode::UnauthorizedClient, "public_client", text))
            }
            Proof::Secret(_) | Proof::Keys(_) => self.person(client, tenant, shown, issuer, key, now).await,
        }
    }

    async fn workload(
        &self,
        own: &[Workload],
        tenant: &TenantId,
        shown: &str,
        issuer: &str,
        key: Option<Thumbprint>,
        now: OffsetDateTime,
    ) -> Result<Vouched, Refusal> {
        let (trust, proved) = self.proved(Profile::Workload, tenant, shown, issuer, key, now).await?;
        let named = |workload: &Workload| workload.issuer == proved.claims.iss && workload.subject == proved.claims.sub;
        if !own.iter().any(named) {
            return Err(no_good("other_workload").because(format!("of the trusted issuer {}", trust.name)));
        }
        Ok(Vouched::Itself { login_method: login_method(&trust.name), until: proved.until, at_most: trust.trusted_by })
    }

    async fn person(
        &self,
        client: &Client,
        tenant: &TenantId,
        shown: &str,
        issuer: &str,
        key: Option<Thumbprint>,
        now: OffsetDateTime,
    ) -> Result<Vouched, Refusal> {
        let (trust, proved) = self.proved(Profile::IdJag, tenant, shown, issuer, key, now).await?;
        let claims = &proved.claims;
        if claims.text("client_id") != Some(&client.id) {
            return Err(no_good("other_client"));
        }
        let [resource] = claims.texts("resource")[..] else { return Err(no_good("resource")) };
        let subject = trust.subject(claims).ok_or_else(|| no_good("subject"))?;
        let allowed = match claims.text("scope") {
            Some(scope) => ScopeSet::asked(Some(scope)).map_err(|_| no_good("scope"))?,
            // One that is no text must not count as none.
            None if claims.has("scope") => return Err(no_good("scope")),
            None => ScopeSet::DEFAULT,
        };
        let role = trust.role(claims).ok_or_else(|| no_good("no_role"))?;
        let username = claims.text("preferred_username").or(claims.text("email")).unwrap_or(subject);
        Ok(Vouched::Person(Box::new(Introduced {
            username: username.to_owned(),
            display_name: claims.text("name").map(str::to_owned),
            role,
            login_method: login_method(&trust.name),
            resource: resource.to_owned(),
            scopes: allowed.and(trust.scopes).without(Scope::OfflineAccess),
            jti: claims.jti.clone().unwrap_or_default(),
            until: proved.until,
            subject: subject.to_owned(),
            issuer: proved.claims.iss,
        })))
    }

    /// Proves an assertion by the keys of its issuer, if the tenant trusts that for this.
    async fn proved(
        &self,
        profile: Profile,
        tenant: &TenantId,
        shown: &str,
        issuer: &str,
        key: Option<Thumbprint>,
        now: OffsetDateTime,
    ) -> Result<(Trust, Proved), Refusal> {
        let unproved = Unproved::read(shown).map_err(no_good)?;
        // What vouches for people does not take its own word for it (draft-ietf-oauth-identity-assertion-authz-grant).
        if unproved.issuer == issuer {
            return Err(no_good("untrusted"));
        }
        let trust = Trust::of(&self.0.store, tenant, &unproved.issuer, profile).await?;
        let trust = trust.ok_or_else(|| no_good("untrusted"))?;
        let keys = self.0.keys.of(&trust.keys, unproved.kid.as_deref(), Chosen::ByAdmin, now).await;
        let keys = keys.map_err(|error| no_keys(&trust.name, error))?;
        let (kind, audience) = match profile {
            Profile::IdJag => (Kind::IdJag, issuer),
            Profile::Workload => (Kind::Workload, trust.audience().unwrap_or(issuer)),
        };
        let audiences = [audience];
        let rules = Rules { kind, issuer: &unproved.issuer, audiences: &audiences, algorithms: trust.algorithms() };
        let proved = unproved.prove(&keys, &rules, now).map_err(no_good)?;
        if !proved.claims.is_for(key.as_ref()) {
            return Err(no_good("other_key"));
        }
        if proved.claims.has(DETAILS) {
            return Err(no_good(DETAILS));
        }
        Ok((trust, proved))
    }
}

/// The keys of an issuer cannot be had: nobody's assertion is bad for it.
fn no_keys(name: &str, error: FetchError) -> Refusal {
    let detail = match error {
        FetchError::Busy | FetchError::TooMany(_) => "as many keys are being fetched as may be".to_owned(),
        FetchError::Away(detail) | FetchError::Wrong(detail) => detail,
    };
    let text = "the keys of the assertion's issuer cannot be had now; try again in a minute";
    let refusal = Refusal::new(OauthCode::TemporarilyUnavailable, "issuer_keys", text);
    let detail = format!("the trusted issuer {name}: {detail}");
    Refusal { retry_after: Some(Duration::from_mins(1)), ..refusal.because(detail) }
}

/// What is wrong with an assertion, by its word for metrics.
pub fn no_good(reason: &'static str) -> Refusal {
    let text = match reason {
        "malformed" | "too_long" | "crit" => "the assertion is no signed JWT, or is longer than 12288 bytes",
        "algorithm" => "the assertion is signed by an algorithm that is not taken of its issuer",
        "untrusted" => {
            "nobody here trusts the issuer of the assertion for this; an administrator can: mcp-gateway trust add"
        }
        "type" => "the assertion is of another type: its header must say typ oauth-id-jag+jwt",
        "signature" => "the assertion is not signed by a key of its issuer, or lacks a claim that it must have",
        "issuer" => "the assertion names another issuer than the one that signed it",
        "audience" => "the assertion is not for this gateway alone: aud must be its issuer, exactly, and nothing else",
        "expiry" => "the assertion has expired, or ends more than ten minutes ahead; get a new one",
        "not_yet" => "the assertion is not good yet; compare the clocks of its issuer and of this gateway",
        "iat" | "jti" => "the assertion lacks iat, or a jti of at most 256 bytes",
        "other_client" => "the assertion was made for another client: client_id must be the one that shows it",
        "resource" => {
            "the assertion must name one resource of this gateway: /mcp, /mcp/{server} or /api/v1 below its issuer"
        }
        "subject" => "the assertion does not name the person by the claim that this gateway goes by",
        "scope" => "the assertion's scope names nothing that there is here: mcp, admin",
        "no_role" => {
            "the person is not let in: nothing that the assertion says gives a role here; ask an administrator"
        }
        "other_key" => {
            "the assertion is bound to a key (cnf): show it with a proof of that key in the header DPoP (RFC 9449)"
        }
        DETAILS => {
            "the assertion is for no more than its authorization_details (RFC 9396) say, of which no type is understood here; get one \
             that says it by scope and resource"
        }
        "replayed" => "the assertion was shown before; get a new one",
        _ => "the assertion is not taken; get a new one",
    };
    Refusal::new(OauthCode::InvalidGrant, reason, text)
}
