//! Which OAuth clients may come that nobody registered, and where their documents may lie.

use ipnet::IpNet;

use super::parse;
use crate::secret::Secret;

/// Fewest bytes of a token that an operator makes up.
pub(super) const SHORTEST_TOKEN: usize = 16;

/// Schemes that a browser acts on itself; nothing is ever sent there, and nobody can allow it.
pub const BROWSER_SCHEMES: [&str; 12] = [
    "about",
    "blob",
    "chrome",
    "data",
    "file",
    "filesystem",
    "ftp",
    "javascript",
    "vbscript",
    "view-source",
    "ws",
    "wss",
];

/// Whether a text, in lower case, is a scheme (RFC 3986 section 3.1) of at most 64 bytes.
pub fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.'))
}

/// Who may register a client of its own (RFC 7591).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Registration {
    /// Anybody, within limits of rate.
    Open,
    /// Whoever shows the registration token.
    Token,
    /// Nobody.
    Off,
}

/// A host whose client metadata documents may lie inside a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateHost {
    /// Lower case, without port.
    pub host: String,
    /// The network that its address must be in; any when none.
    pub network: Option<IpNet>,
}

/// Which OAuth clients may come.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "OAuth clients")]
pub struct Clients {
    /// Who may register an OAuth client: anybody, whoever shows the registration token, nobody
    #[arg(
        id = "client_registration",
        long = "client-registration",
        env = "MREG_CLIENT_REGISTRATION",
        default_value = "open",
        value_name = "WHO",
        value_enum
    )]
    pub registration: Registration,
    /// Token that registering a client takes, with --client-registration token
    #[arg(id = "client_registration_token", long = "client-registration-token", env = "MREG_CLIENT_REGISTRATION_TOKEN", value_name = "TOKEN", hide_env_values = true, value_parser = parse::secret)]
    pub registration_token: Option<Secret>,
    /// Schemes of programs to which an authorization may be sent back, besides those of well-known editors (comma-separated)
    #[arg(long, env = "MREG_ALLOWED_REDIRECT_SCHEMES", value_name = "SCHEME", value_delimiter = ',', value_parser = parse::scheme)]
    pub allowed_redirect_schemes: Vec<String>,
    /// Hosts inside your network whose client metadata documents are fetched, as HOST or HOST=CIDR (comma-separated)
    #[arg(id = "client_metadata_hosts", long = "client-metadata-hosts", env = "MREG_CLIENT_METADATA_HOSTS", value_name = "HOST", value_delimiter = ',', value_parser = parse::private_host)]
    pub metadata_hosts: Vec<PrivateHost>,
}

impl Clients {
    /// Adds what does not go together.
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        match (self.registration, &self.registration_token) {
            (Registration::Token, None) => {
                wrong.push("MREG_CLIENT_REGISTRATION=token needs MREG_CLIENT_REGISTRATION_TOKEN".to_owned());
            }
            (Registration::Token, Some(token)) if token.expose().len() < SHORTEST_TOKEN => {
                wrong.push(format!(
                    "MREG_CLIENT_REGISTRATION_TOKEN can be guessed: give at least {SHORTEST_TOKEN} bytes"
                ));
            }
            (Registration::Open | Registration::Off, Some(_)) => {
                wrong.push("MREG_CLIENT_REGISTRATION_TOKEN is for MREG_CLIENT_REGISTRATION=token only".to_owned());
            }
            _ => {}
        }
    }
}
