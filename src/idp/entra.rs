//! The rules of Microsoft Entra ID: which issuer goes with which directory, who is let in, what is read from ID tokens and
//! from access tokens of both versions. It decides about tokens; asking and fetching is the business of [`super::provider`].

use arc_swap::ArcSwap;
use jsonwebtoken::Algorithm;
use url::Url;
use uuid::Uuid;

use super::classify::shown;
use super::error::IdpError;
use super::jwt::{Claims, Unverified};
use super::roles::RoleMap;
use super::{Claimed, OwnRules, Person};
use crate::access::Role;
use crate::config::{AllowedTenant, Azure, AzureTenant};
use crate::crypto::jwk::PublicKey;

/// Entra signs with this and nothing else; its keys do not say so.
pub(super) const ALGORITHMS: &[Algorithm] = &[Algorithm::RS256];
/// What stands for the directory in the issuer of a document or key that is for many.
const TEMPLATE: &str = "{tenantid}";
/// The directory of personal accounts, which `organizations` does not mean.
const PERSONAL: Uuid = Uuid::from_u128(0x9188_040d_6c67_4c5b_b112_36a3_04b6_6dad);
/// What tokens for Microsoft Graph say they are for, besides its configured address.
const GRAPH: [&str; 2] = ["00000003-0000-0000-c000-000000000000", "https://graph.microsoft.com"];
/// What helps where a token of version 1.0 does not fit.
const WRONG_VERSION: &str =
    "; it is of version 1.0: set requestedAccessTokenVersion to 2 in the manifest of the gateway's application";

/// See the module.
#[derive(Debug)]
pub(super) struct Entra {
    /// Without a slash at its end.
    authority: String,
    v1_issuer_prefix: String,
    tenant: AzureTenant,
    allowed: Vec<AllowedTenant>,
    client: String,
    /// For whom access tokens are; the client id first, which is what version 2.0 says.
    audiences: Vec<String>,
    scope: String,
    roles: RoleMap,
    /// Where tenants have rules of their own.
    pub(super) own_rules: ArcSwap<OwnRules>,
    pub(super) graph: Url,
}

/// A token's person, but for the groups that the token does not hold.
pub(super) struct Known {
    pub(super) person: Person,
    /// Groups could raise the role, and the token leaves them to be asked for.
    pub(super) groups_missing: bool,
}

impl Entra {
    pub(super) fn new(settings: &Azure, tenant: AzureTenant, client: Uuid) -> Self {
        let client = client.to_string();
        let uri = settings.audience.clone().unwrap_or_else(|| format!("api://{client}"));
        let roles =
            [&settings.role_admin, &settings.role_tenant_admin, &settings.role_server_owner, &settings.role_user];
        Self {
            authority: settings.authority.as_str().trim_end_matches('/').to_owned(),
            v1_issuer_prefix: settings.v1_issuer_prefix.to_string(),
            tenant,
            allowed: settings.allowed_tenants.clone(),
            audiences: vec![client.clone(), uri],
            client,
            scope: settings.scope.clone(),
            roles: RoleMap::new(roles.map(Vec::as_slice), true, true),
            own_rules: ArcSwap::default(),
            graph: settings.graph_url.clone(),
        }
    }

    /// Where the discovery document is found.
    pub(super) fn base(&self) -> String {
        let tenant = match &self.tenant {
            AzureTenant::Id(id) => id.to_string(),
            AzureTenant::Domain(name) => name.clone(),
            AzureTenant::Organizations => "organizations".to_owned(),
        };
        format!("{}/{tenant}/v2.0", self.authority)
    }

    /// What is asked for at sign-in.
    pub(super) fn scopes(&self) -> String {
        format!("openid profile offline_access {}/{}", self.resource(), self.scope)
    }

    /// The gateway's own, for which its access tokens are.
    pub(super) fn resource(&self) -> &str {
        &self.audiences[1]
    }

    /// The issuer of version 2.0 for a directory, which also names its people here.
    fn issuer(&self, directory: Uuid) -> String {
        format!("{}/{directory}/v2.0", self.authority)
    }

    /// Where a person's own directory, the one of this issuer, gives tokens: the endpoint of many directories does not know whose the
    /// person is. `known` is the endpoint of the discovery document.
    pub(super) fn tokens_of(&self, issuer: &str, known: &Url) -> Result<Url, IdpError> {
        let directory = self
            .directory_of(issuer)
            .ok_or_else(|| IdpError::configuration("Entra gives tokens on behalf of its own people only"))?;
        let mut own = known.clone();
        if self.tenant == AzureTenant::Organizations {
            own.set_path(&known.path().replacen("/organizations/", &format!("/{directory}/"), 1));
        }
        Ok(own)
    }

    /// Refuses a discovery document of another issuer.
    pub(super) fn check_issuer(&self, found: &str) -> Result<(), IdpError> {
        let right = match &self.tenant {
            AzureTenant::Id(id) => found == self.issuer(*id),
            AzureTenant::Domain(_) => self.directory_of(found).is_some(),
            AzureTenant::Organizations => found == format!("{}/{TEMPLATE}/v2.0", self.authority),
        };
        if right {
            return Ok(());
        }
        Err(IdpError::configuration(format!(
            "the discovery document is of `{}`, which is not the issuer at {}",
            shown(found),
            self.base()
        )))
    }

    /// The directory in an issuer of version 2.0.
    pub(super) fn directory_of(&self, issuer: &str) -> Option<Uuid> {
        let id = issuer.strip_prefix(&self.authority)?.strip_prefix('/')?.strip_suffix("/v2.0")?;
        Uuid::try_parse(id).ok().filter(|id| issuer == self.issuer(*id))
    }

    /// Fails unless people of the directory are let in. `issuer` is the discovery document's.
    fn let_in(&self, directory: Uuid, issuer: &str) -> Result<(), IdpError> {
        let own = match &self.tenant {
            AzureTenant::Id(id) => *id == directory,
            AzureTenant::Domain(_) => self.directory_of(issuer) == Some(directory),
            AzureTenant::Organizations => directory != PERSONAL,
        };
        let listed = self.allowed.is_empty()
            || self.allowed.contains(&AllowedTenant::Any)
            || self.allowed.contains(&AllowedTenant::Id(directory));
        if own && listed {
            return Ok(());
        }
        Err(IdpError::refused(format!("the directory {directory} is not let in (MREG_AZURE_ALLOWED_TENANTS)")))
    }

    /// The directory that a token says it is of, and the issuer that it must have then.
    pub(super) fn expected(&self, claims: &Claims) -> Result<(Uuid, String), IdpError> {
        let directory = claims
            .text("tid")
            .and_then(|id| Uuid::try_parse(id).ok())
            .ok_or_else(|| IdpError::forged("the token names no directory (tid)"))?;
        let issuer = match claims.text("ver") {
            Some("2.0") => self.issuer(directory),
            Some("1.0") => format!("{}{directory}/", self.v1_issuer_prefix),
            _ => return Err(IdpError::forged("the token's version (ver) is neither 1.0 nor 2.0")),
        };
        Ok((directory, issuer))
    }

    /// Fails unless the key may sign for the directory: one of personal accounts must not sign for a company.
    pub(super) fn may_sign(&self, key: &PublicKey, directory: Uuid) -> Result<(), IdpError> {
        let right = match &key.issuer {
            Some(issuer) => issuer.replace(TEMPLATE, &directory.to_string()) == self.issuer(directory),
            // Keys that one directory publishes by itself sign for nobody else.
            None => self.tenant != AzureTenant::Organizations,
        };
        if right { Ok(()) } else { Err(IdpError::forged("the token is signed by a key of another issuer")) }
    }

    /// Says why a shown access token cannot be one of ours before its signature is looked at: some cannot be verified by
    /// anybody, and whoever shows one should learn why.
    pub(super) fn foreign(&self, token: &Unverified<'_>) -> Result<(), IdpError> {
        let claims = token.claims();
        let audience = claims.texts("aud");
        let graph = |one: &&str| {
            let one = one.trim_end_matches('/');
            GRAPH.contains(&one) || one == self.graph.as_str().trim_end_matches('/')
        };
        if token.is_for_graph() || audience.iter().any(graph) {
            return Err(IdpError::forged(
                "the token is for Microsoft Graph (or another service of Microsoft), which alone can verify it; ask for a \
                 token with the scope of the gateway",
            ));
        }
        let (_, issuer) = self.expected(claims)?;
        let hint = if claims.text("ver") == Some("1.0") { WRONG_VERSION } else { "" };
        let ours = self.audiences(claims);
        if audience.len() != 1 || !ours.iter().any(|own| own == audience[0]) {
            return Err(IdpError::forged(token.foreign_audience(ours) + hint));
        }
        if claims.text("iss") != Some(&issuer) {
            return Err(IdpError::forged(token.foreign_issuer(&issuer) + hint));
        }
        Ok(())
    }

    /// For whom an access token of this version may be.
    pub(super) fn audiences(&self, claims: &Claims) -> &[String] {
        if claims.text("ver") == Some("2.0") { &self.audiences[..1] } else { &self.audiences }
    }

    /// Who an ID token, verified, is about.
    pub(super) fn of_id_token(&self, claims: &Claims, directory: Uuid, issuer: &str) -> Result<Known, IdpError> {
        if claims.text("ver") != Some("2.0") {
            return Err(IdpError::forged("the ID token is not of version 2.0"));
        }
        self.let_in(directory, issuer)?;
        claims.is_made_for(&self.client)?;
        self.known(claims, directory, false)
    }

    /// Who an access token, verified, is about: a person through a client, or an application on its own.
    pub(super) fn of_access_token(&self, claims: &Claims, directory: Uuid, issuer: &str) -> Result<Known, IdpError> {
        self.let_in(directory, issuer)?;
        // ID tokens are for the same audience, and have no client.
        if claims.text("azp").or(claims.text("appid")).is_none() {
            return Err(IdpError::forged("the token names no client: it is no access token"));
        }
        let scopes = claims.text("scp");
        let own_subject = claims.text("oid").is_some() && claims.text("oid") == claims.text("sub");
        // The mark is optional; without it, who has no scope and is nobody's deputy is an application.
        let app_only = claims.text("idtyp").map_or(scopes.is_none() && own_subject, |kind| kind == "app");
        if app_only {
            // Entra gives such tokens to every application of the directory, whether it has a role here or not.
            if claims.texts("roles").is_empty() {
                return Err(IdpError::refused(
                    "the application has no app role of the gateway: an administrator assigns one and grants consent",
                ));
            }
        } else if !scopes.is_some_and(|scopes| scopes.split(' ').any(|scope| scope == self.scope)) {
            return Err(IdpError::refused(format!("the token lacks the scope `{}`", self.scope)));
        }
        self.known(claims, directory, app_only)
    }

    fn known(&self, claims: &Claims, directory: Uuid, app_only: bool) -> Result<Known, IdpError> {
        // `sub` is another for each application; `oid` stays when the registration is replaced.
        let subject = claims.text("oid").and_then(|id| Uuid::try_parse(id).ok()).ok_or_else(|| {
            IdpError::configuration("the token does not name the person (oid): the scope `profile` gives that")
        })?;
        let names: Vec<String> = claims.texts("roles").into_iter().map(str::to_owned).collect();
        let groups: Vec<Uuid> = claims.texts("groups").iter().filter_map(|id| Uuid::try_parse(id).ok()).collect();
        let left_out = claims.value("_claim_names").is_some_and(|names| names.get("groups").is_some())
            || claims.value("hasgroups").is_some();
        let claimed = Claimed { names, groups, groups_missing: left_out, everybody: self.roles.everybody() };
        let role = self.role(&claimed);
        let username = if app_only { claims.text("azp").or(claims.text("appid")) } else { None }
            .or(claims.text("preferred_username"))
            .or(claims.text("upn"))
            .or(claims.text("unique_name"));
        let person = Person {
            issuer: self.issuer(directory),
            subject: subject.to_string(),
            directory: Some(directory),
            username: username.map_or_else(|| subject.to_string(), str::to_owned),
            display_name: claims.text("name").map(str::to_owned),
            role,
            claimed,
            guest: is_guest(claims, directory),
            app_only,
            authenticated_at: claims.time("auth_time"),
        };
        Ok(Known { groups_missing: left_out && self.go_by_groups(directory, role), person })
    }

    /// Whether a group could matter to who has `role` without it.
    fn go_by_groups(&self, directory: Uuid, role: Option<Role>) -> bool {
        let own = self.own_rules.load();
        own.of.get(&directory).copied().or(own.others).unwrap_or_else(|| self.roles.groups_could_raise(role))
    }

    fn role(&self, claimed: &Claimed) -> Option<Role> {
        self.roles.role(&claimed.names.iter().map(String::as_str).collect::<Vec<_>>(), &claimed.groups)
    }

    /// The person, with the groups that were asked for.
    pub(super) fn with_groups(&self, person: Person, groups: Vec<Uuid>) -> Person {
        let claimed = Claimed { groups, groups_missing: false, ..person.claimed };
        Person { role: self.role(&claimed), claimed, ..person }
    }
}

/// Whether the person is a guest: Entra says so (`acct`, an optional claim), or else names another directory as their home (`idp`).
/// Who is of another directory and a member here all the same has both, and is none.
fn is_guest(claims: &Claims, directory: Uuid) -> bool {
    if let Some(acct) = claims.value("acct") {
        return acct.as_u64() == Some(1) || acct.as_str() == Some("1");
    }
    claims.text("idp").is_some_and(|home| !home.to_ascii_lowercase().contains(&directory.to_string()))
}
