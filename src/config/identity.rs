//! The section of identity providers: Microsoft Entra ID, and any other that speaks OpenID Connect. A provider is on when its
//! tenant or issuer is named. Only what the settings alone can tell is checked here; nobody is asked.

use std::path::PathBuf;

use url::Url;
use uuid::Uuid;

use super::parse;
use crate::id::TenantId;
use crate::secret::Secret;

/// Whose accounts the Entra application takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AzureTenant {
    /// One directory, by its id.
    Id(Uuid),
    /// One directory, by a domain name of it, lower case.
    Domain(String),
    /// Work accounts of several directories.
    Organizations,
}

/// An entry of the list of directories let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowedTenant {
    /// This one.
    Id(Uuid),
    /// Every one (`*`).
    Any,
}

/// How many directories the settings let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetIn {
    /// None: Entra is not set up.
    None,
    /// One; with its id, unless the settings name it by a domain.
    One(Option<Uuid>),
    /// Several, or every one.
    Several,
}

/// Microsoft Entra ID.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Sign-in: identity providers")]
pub struct Azure {
    /// Entra directory whose people sign in: its id, a domain name of it, or `organizations` for those of several
    #[arg(id = "azure_tenant_id", long = "azure-tenant-id", env = "MREG_AZURE_TENANT_ID", value_name = "TENANT", value_parser = azure_tenant)]
    pub tenant_id: Option<AzureTenant>,
    /// Application (client) id of the gateway in Entra
    #[arg(id = "azure_client_id", long = "azure-client-id", env = "MREG_AZURE_CLIENT_ID", value_name = "GUID", value_parser = guid)]
    pub client_id: Option<Uuid>,
    /// Client secret of the application: its value, not its id
    #[arg(id = "azure_client_secret", long = "azure-client-secret", env = "MREG_AZURE_CLIENT_SECRET", value_name = "SECRET", hide_env_values = true, value_parser = parse::client_secret)]
    pub client_secret: Option<Secret>,
    /// Client secret that is to replace the other: tried when Entra refuses that one, so that neither end needs a stop
    #[arg(id = "azure_client_secret_next", long = "azure-client-secret-next", env = "MREG_AZURE_CLIENT_SECRET_NEXT", value_name = "SECRET", hide_env_values = true, value_parser = parse::client_secret)]
    pub client_secret_next: Option<Secret>,
    /// Certificate of the application and its private RSA key in one PEM file, instead of a secret; read at each use
    #[arg(
        id = "azure_client_certificate",
        long = "azure-client-certificate",
        env = "MREG_AZURE_CLIENT_CERTIFICATE",
        value_name = "FILE"
    )]
    pub client_certificate: Option<PathBuf>,
    /// File with a token that Entra takes for the application (workload identity), instead of a secret; read at each use
    #[arg(
        id = "azure_federated_token_file",
        long = "azure-federated-token-file",
        env = "MREG_AZURE_FEDERATED_TOKEN_FILE",
        value_name = "FILE"
    )]
    pub federated_token_file: Option<PathBuf>,
    /// Directories whose people are let in, by id (comma-separated); * for every one. One directory needs none
    #[arg(id = "azure_allowed_tenants", long = "azure-allowed-tenants", env = "MREG_AZURE_ALLOWED_TENANTS", value_name = "GUID", value_delimiter = ',', value_parser = allowed_tenant)]
    pub allowed_tenants: Vec<AllowedTenant>,
    /// Where Entra is; another one for a national cloud
    #[arg(id = "azure_authority", long = "azure-authority", env = "MREG_AZURE_AUTHORITY", default_value = "https://login.microsoftonline.com", value_name = "URL", value_parser = parse::endpoint)]
    pub authority: Url,
    /// Where Microsoft Graph is; asked for the groups of people who are in more than a token holds
    #[arg(id = "azure_graph_url", long = "azure-graph-url", env = "MREG_AZURE_GRAPH_URL", default_value = "https://graph.microsoft.com", value_name = "URL", value_parser = parse::endpoint)]
    pub graph_url: Url,
    /// What the issuer of an access token of version 1.0 begins with; the directory's id follows
    #[arg(id = "azure_v1_issuer_prefix", long = "azure-v1-issuer-prefix", env = "MREG_AZURE_V1_ISSUER_PREFIX", default_value = "https://sts.windows.net/", value_name = "URL", value_parser = parse::folder)]
    pub v1_issuer_prefix: Url,
    /// Application ID URI of the gateway; api:// and the client id when absent
    #[arg(id = "azure_audience", long = "azure-audience", env = "MREG_AZURE_AUDIENCE", value_name = "URI", value_parser = parse::word)]
    pub audience: Option<String>,
    /// Scope of the application that people's clients ask for
    #[arg(id = "azure_scope", long = "azure-scope", env = "MREG_AZURE_SCOPE", default_value = "access_as_user", value_name = "SCOPE", value_parser = parse::word)]
    pub scope: String,
    /// App roles, or ids of groups, that make somebody `admin` (comma-separated)
    #[arg(
        id = "azure_role_admin",
        long = "azure-role-admin",
        env = "MREG_AZURE_ROLE_ADMIN",
        default_value = "Mcp.Admin",
        value_name = "ROLE",
        value_delimiter = ','
    )]
    pub role_admin: Vec<String>,
    /// App roles, or ids of groups, that make somebody `tenant_admin` (comma-separated)
    #[arg(
        id = "azure_role_tenant_admin",
        long = "azure-role-tenant-admin",
        env = "MREG_AZURE_ROLE_TENANT_ADMIN",
        default_value = "Mcp.TenantAdmin",
        value_name = "ROLE",
        value_delimiter = ','
    )]
    pub role_tenant_admin: Vec<String>,
    /// App roles, or ids of groups, that make somebody `server_owner` (comma-separated)
    #[arg(
        id = "azure_role_server_owner",
        long = "azure-role-server-owner",
        env = "MREG_AZURE_ROLE_SERVER_OWNER",
        default_value = "Mcp.ServerOwner",
        value_name = "ROLE",
        value_delimiter = ','
    )]
    pub role_server_owner: Vec<String>,
    /// App roles, or ids of groups, that make somebody `user` (comma-separated); everybody of a directory let in when absent
    #[arg(
        id = "azure_role_user",
        long = "azure-role-user",
        env = "MREG_AZURE_ROLE_USER",
        value_name = "ROLE",
        value_delimiter = ','
    )]
    pub role_user: Vec<String>,
}

/// Any other provider that speaks OpenID Connect.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Sign-in: identity providers")]
pub struct Oidc {
    /// Issuer of an OpenID Connect provider, exactly as the provider writes it
    #[arg(id = "oidc_issuer", long = "oidc-issuer", env = "MREG_OIDC_ISSUER", value_name = "URL", value_parser = issuer)]
    pub issuer: Option<String>,
    /// Client id of the gateway at the provider
    #[arg(id = "oidc_client_id", long = "oidc-client-id", env = "MREG_OIDC_CLIENT_ID", value_name = "ID", value_parser = parse::word)]
    pub client_id: Option<String>,
    /// Tenant whose people those of the provider are
    #[arg(id = "oidc_tenant", long = "oidc-tenant", env = "MREG_OIDC_TENANT", default_value = "default", value_name = "TENANT", value_parser = parse::tenant)]
    pub tenant: TenantId,
    /// Client secret of the gateway at the provider; none for a public client
    #[arg(id = "oidc_client_secret", long = "oidc-client-secret", env = "MREG_OIDC_CLIENT_SECRET", value_name = "SECRET", hide_env_values = true, value_parser = parse::client_secret)]
    pub client_secret: Option<Secret>,
    /// What the provider is called on the sign-in page
    #[arg(
        id = "oidc_name",
        long = "oidc-name",
        env = "MREG_OIDC_NAME",
        default_value = "Single sign-on",
        value_name = "NAME"
    )]
    pub name: String,
    /// Scopes to ask the provider for (separated by spaces); `offline_access` where it gives refresh tokens for that
    #[arg(
        id = "oidc_scopes",
        long = "oidc-scopes",
        env = "MREG_OIDC_SCOPES",
        default_value = "openid profile email",
        value_name = "SCOPES"
    )]
    pub scopes: String,
    /// Claim of the ID token that holds a person's roles; dots lead into objects, as in `realm_access.roles`
    #[arg(id = "oidc_roles_claim", long = "oidc-roles-claim", env = "MREG_OIDC_ROLES_CLAIM", value_name = "CLAIM", value_parser = parse::word)]
    pub roles_claim: Option<String>,
    /// Values of the roles claim that make somebody `admin` (comma-separated)
    #[arg(
        id = "oidc_role_admin",
        long = "oidc-role-admin",
        env = "MREG_OIDC_ROLE_ADMIN",
        value_name = "ROLE",
        value_delimiter = ','
    )]
    pub role_admin: Vec<String>,
    /// Values of the roles claim that make somebody `tenant_admin` (comma-separated)
    #[arg(
        id = "oidc_role_tenant_admin",
        long = "oidc-role-tenant-admin",
        env = "MREG_OIDC_ROLE_TENANT_ADMIN",
        value_name = "ROLE",
        value_delimiter = ','
    )]
    pub role_tenant_admin: Vec<String>,
    /// Values of the roles claim that make somebody `server_owner` (comma-separated)
    #[arg(
        id = "oidc_role_server_owner",
        long = "oidc-role-server-owner",
        env = "MREG_OIDC_ROLE_SERVER_OWNER",
        value_name = "ROLE",
        value_delimiter = ','
    )]
    pub role_server_owner: Vec<String>,
    /// Values of the roles claim that make somebody `user` (comma-separated); * for everybody the provider knows
    #[arg(
        id = "oidc_role_user",
        long = "oidc-role-user",
        env = "MREG_OIDC_ROLE_USER",
        value_name = "ROLE",
        value_delimiter = ','
    )]
    pub role_user: Vec<String>,
}

impl Azure {
    /// How many directories are let in.
    pub fn lets_in(&self) -> LetIn {
        match (&self.tenant_id, self.allowed_tenants.as_slice()) {
            (None, _) => LetIn::None,
            (Some(AzureTenant::Id(id)), _) | (Some(AzureTenant::Organizations), [AllowedTenant::Id(id)]) => {
                LetIn::One(Some(*id))
            }
            (Some(AzureTenant::Domain(_)), _) => LetIn::One(None),
            (Some(AzureTenant::Organizations), _) => LetIn::Several,
        }
    }

    /// Adds what does not go together to `wrong`.
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        let credentials = [
            ("MREG_AZURE_CLIENT_SECRET", self.client_secret.is_some()),
            ("MREG_AZURE_CLIENT_CERTIFICATE", self.client_certificate.is_some()),
            ("MREG_AZURE_FEDERATED_TOKEN_FILE", self.federated_token_file.is_some()),
        ];
        let given: Vec<_> = credentials.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        let on = self.tenant_id.is_some() && self.client_id.is_some();
        if self.tenant_id.is_some() != self.client_id.is_some() {
            wrong.push("MREG_AZURE_TENANT_ID and MREG_AZURE_CLIENT_ID go together: give both or none".to_owned());
        } else if !on && (!given.is_empty() || self.client_secret_next.is_some() || !self.allowed_tenants.is_empty()) {
            wrong.push(
                "Entra is not set up: give MREG_AZURE_TENANT_ID and MREG_AZURE_CLIENT_ID, or take its other settings away"
                    .to_owned(),
            );
        }
        if given.len() > 1 {
            wrong.push(format!("{} exclude each other: give one", given.join(" and ")));
        }
        if on && given.is_empty() {
            let names = credentials.map(|(name, _)| name).join(", ");
            wrong.push(format!("the gateway cannot prove to Entra who it is: give one of {names}"));
        }
        if self.client_secret_next.is_some() && self.client_secret.is_none() {
            wrong.push(
                "MREG_AZURE_CLIENT_SECRET_NEXT comes after an MREG_AZURE_CLIENT_SECRET: give that one".to_owned(),
            );
        }
        let allowed = &self.allowed_tenants;
        match &self.tenant_id {
            Some(AzureTenant::Organizations) if allowed.is_empty() => wrong.push(
                "MREG_AZURE_TENANT_ID=organizations takes people of any directory: say in MREG_AZURE_ALLOWED_TENANTS whose \
                 are let in, or * for all"
                    .to_owned(),
            ),
            Some(AzureTenant::Id(own))
                if !allowed.is_empty()
                    && !allowed.contains(&AllowedTenant::Id(*own))
                    && !allowed.contains(&AllowedTenant::Any) =>
            {
                wrong.push(format!(
                    "MREG_AZURE_ALLOWED_TENANTS lacks {own}, the only directory that signs in: nobody could come in"
                ));
            }
            _ => {}
        }
    }
}

impl Oidc {
    /// Adds what does not go together to `wrong`.
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        if self.issuer.is_some() != self.client_id.is_some() {
            wrong.push("MREG_OIDC_ISSUER and MREG_OIDC_CLIENT_ID go together: give both or none".to_owned());
        }
        if self.issuer.is_none() {
            return;
        }
        if !self.scopes.split(' ').any(|scope| scope == "openid") {
            wrong.push("MREG_OIDC_SCOPES lacks openid: the provider would not say who signed in".to_owned());
        }
        let greater = [&self.role_admin, &self.role_tenant_admin, &self.role_server_owner];
        let named = greater.iter().any(|values| !values.is_empty()) || self.role_user.iter().any(|value| value != "*");
        if named && self.roles_claim.is_none() {
            wrong.push(
                "MREG_OIDC_ROLE_* name roles, but MREG_OIDC_ROLES_CLAIM does not say where they stand".to_owned(),
            );
        }
        if !named && self.role_user.is_empty() {
            wrong.push(
                "nobody could come in through MREG_OIDC_ISSUER: say in MREG_OIDC_ROLE_USER which roles may, or * for \
                 everybody that the provider knows"
                    .to_owned(),
            );
        }
    }
}

fn azure_tenant(text: &str) -> Result<AzureTenant, String> {
    let text = text.trim().to_ascii_lowercase();
    if let Ok(id) = Uuid::try_parse(&text) {
        return Ok(AzureTenant::Id(id));
    }
    match text.as_str() {
        "organizations" => Ok(AzureTenant::Organizations),
        "common" | "consumers" => {
            Err("personal accounts are not let in: use the directory's id or organizations".into())
        }
        _ if text.contains('.') => parse::host_name(&text).map(AzureTenant::Domain),
        _ => Err("give the directory's id (a GUID), a domain name of it, or organizations".into()),
    }
}

fn allowed_tenant(text: &str) -> Result<AllowedTenant, String> {
    if text.trim() == "*" { Ok(AllowedTenant::Any) } else { guid(text).map(AllowedTenant::Id) }
}

fn guid(text: &str) -> Result<Uuid, String> {
    let form = "give a GUID such as 11111111-1111-4111-8111-111111111111";
    let text = text.trim();
    // The other ways of writing one are not what Entra shows.
    if text.len() == 36 { Uuid::try_parse(text).map_err(|_| form.to_owned()) } else { Err(form.into()) }
}

fn issuer(text: &str) -> Result<String, String> {
    parse::endpoint(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{DotEnv, Settings};

    const TENANT: &str = "c0170000-0000-4000-8000-000000000001";
    const CLIENT: &str = "11111111-1111-4111-8111-111111111111";

    fn settings(args: &[&str]) -> Result<Settings, String> {
        Settings::from_args(args, &DotEnv::default()).map_err(|error| error.to_string())
    }

    fn azure(more: &[&str]) -> Result<Settings, String> {
        settings(&[&["--azure-tenant-id", TENANT, "--azure-client-id", CLIENT], more].concat())
    }

    fn oidc(more: &[&str]) -> Result<Settings, String> {
        settings(&[&["--oidc-issuer", "https://idp.example.com/", "--oidc-client-id", "gateway"], more].concat())
    }

    fn refused(outcome: Result<Settings, String>, why: &str) {
        let error = outcome.unwrap_err();
        assert!(error.contains(why), "`{why}` is missing in: {error}");
    }

    #[test]
    fn entra_needs_a_tenant_a_client_and_exactly_one_way_to_prove_itself() {
        azure(&["--azure-client-secret", "gateway-secret-1"]).unwrap();
        azure(&["--azure-client-secret", "gateway-secret-1", "--azure-client-secret-next", "gateway-secret-2"])
            .unwrap();
        azure(&["--azure-federated-token-file", "/var/run/token"]).unwrap();
        refused(azure(&[]), "cannot prove to Entra");
        refused(azure(&["--azure-client-certificate", "a", "--azure-federated-token-file", "b"]), "exclude each other");
        refused(azure(&["--azure-client-secret-next", "gateway-secret-2"]), "comes after");
        refused(settings(&["--azure-tenant-id", TENANT]), "go together");
        refused(settings(&["--azure-client-secret", "gateway-secret-1"]), "not set up");
    }

    #[test]
    fn who_is_let_in_is_said_and_not_guessed() {
        let organizations = ["--azure-client-id", CLIENT, "--azure-client-secret", "gateway-secret-1"];
        let of =
            |more: &[&str]| settings(&[&organizations[..], &["--azure-tenant-id", "organizations"], more].concat());
        refused(of(&[]), "MREG_AZURE_ALLOWED_TENANTS");
        of(&["--azure-allowed-tenants", TENANT]).unwrap();
        of(&["--azure-allowed-tenants", "*"]).unwrap();
        refused(of(&["--azure-allowed-tenants", "contoso.com"]), "GUID");
        let secret = ["--azure-client-secret", "gateway-secret-1", "--azure-allowed-tenants", CLIENT];
        refused(azure(&secret), "nobody could come in");
        refused(settings(&[&organizations[..], &["--azure-tenant-id", "common"]].concat()), "personal accounts");
        refused(oidc(&[]), "MREG_OIDC_ROLE_USER");
        oidc(&["--oidc-role-user", "*"]).unwrap();
        refused(oidc(&["--oidc-role-admin", "ops"]), "MREG_OIDC_ROLES_CLAIM");
        oidc(&["--oidc-role-admin", "ops", "--oidc-roles-claim", "groups"]).unwrap();
        refused(oidc(&["--oidc-role-user", "*", "--oidc-scopes", "profile"]), "lacks openid");
    }

    #[test]
    fn secrets_cross_only_tls_or_the_loopback() {
        let secret = ["--azure-client-secret", "gateway-secret-1", "--azure-authority"];
        azure(&[&secret[..], &["http://127.0.0.1:4480"]].concat()).unwrap();
        azure(&[&secret[..], &["http://[::1]:4480"]].concat()).unwrap();
        azure(&[&secret[..], &["http://localhost:4480"]].concat()).unwrap();
        refused(azure(&[&secret[..], &["http://login.example.com"]].concat()), "https");
        refused(azure(&[&secret[..], &["https://a:b@login.example.com"]].concat()), "credentials");
        refused(azure(&[&secret[..], &["https://login.example.com/?a=b"]].concat()), "query");
        refused(settings(&["--oidc-issuer", "http://idp.example.com"]), "https");
    }

    #[test]
    fn a_client_secret_that_is_none_is_refused_without_being_shown() {
        for (text, why) in [
            (CLIENT, "id of a secret"),
            ("changeme", "at least"),
            ("your-client-secret", "example"),
            ("<client secret value>", "example"),
            ("aaaaaaaaaaaaaaaaaaaa", "made up"),
        ] {
            let error = parse_error(text);
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(super::parse::client_secret("gateway-secret-1").is_ok());
        let shown = format!("{:?}", azure(&["--azure-client-secret", "gateway-secret-1"]).unwrap());
        assert!(!shown.contains("gateway-secret"), "{shown}");
    }

    fn parse_error(text: &str) -> String {
        super::parse::client_secret(text).unwrap_err()
    }
}
