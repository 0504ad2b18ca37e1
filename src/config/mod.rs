//! Settings: one definition each gives the flag, the variable, the default, the unit, the help and the check. Servers,
//! tenants and rules are no settings: they are data, kept in the database.
//!
//! A value comes from the first of: flag, `MREG_*` variable, `.env` in the working directory, default. Nothing here reads
//! or writes the environment behind clap's back; a `.env` file enters as a default that is remembered as such.

mod analytics;
mod audit;
mod clients;
mod effective;
mod environment;
mod guard;
mod identity;
mod otlp;
mod parse;
mod refresh;
mod sections;
mod sign_in;

pub use analytics::Analytics;
pub use audit::{Audit, Durability, Syslog, WhenFull};
pub use clients::{BROWSER_SCHEMES, Clients, PrivateHost, Registration, is_scheme};
pub use effective::{Effective, Origin, effective};
pub use environment::{DotEnv, Unknown, check_names};
pub use guard::Guard;
pub use identity::{AllowedTenant, Azure, AzureTenant, LetIn, Oidc};
pub use otlp::{Batches, Collector, Export, Otlp, SamplerKind};
pub use parse::{BURST_FACTORS, Program, is_guarded, is_loopback, life, program};
pub use refresh::Refresh;
pub use sections::{Access, Data, Limits, Listen, Log, LogFormat, Metrics, Pools, RateLimits};
pub use sign_in::SignIn;

use std::ffi::OsString;

/// All settings of one process.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// Where it listens and who may speak to it.
    #[command(flatten)]
    pub listen: Listen,
    /// Where it keeps its data.
    #[command(flatten)]
    pub data: Data,
    /// How the first administrator and the sealing key come to be.
    #[command(flatten)]
    pub access: Access,
    /// How people sign in and what programs get for it.
    #[command(flatten)]
    pub sign_in: SignIn,
    /// When the tokens of identity providers are refreshed.
    #[command(flatten)]
    pub refresh: Refresh,
    /// Sign-in with Microsoft Entra ID.
    #[command(flatten)]
    pub azure: Azure,
    /// Sign-in with another provider.
    #[command(flatten)]
    pub oidc: Oidc,
    /// Which OAuth clients may come.
    #[command(flatten)]
    pub clients: Clients,
    /// What bounds it.
    #[command(flatten)]
    pub limits: Limits,
    /// How much tenants and people may call.
    #[command(flatten)]
    pub rate_limits: RateLimits,
    /// From where nothing is taken for a while.
    #[command(flatten)]
    pub guard: Guard,
    /// Connections to databases and upstreams, and threads.
    #[command(flatten)]
    pub pools: Pools,
    /// What becomes of the audit trail.
    #[command(flatten)]
    pub audit: Audit,
    /// What it writes about itself.
    #[command(flatten)]
    pub log: Log,
    /// What it counts.
    #[command(flatten)]
    pub metrics: Metrics,
    /// What is counted of what was done, and for how long.
    #[command(flatten)]
    pub analytics: Analytics,
    /// Where traces, metrics and audit records go.
    #[command(flatten)]
    pub otlp: Otlp,
}

/// Why the process does not start.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A flag or variable cannot be read.
    #[error(transparent)]
    Parse(#[from] clap::Error),
    /// A variable that nobody knows.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// `.env` exists and cannot be read.
    #[error("the file .env: {0}")]
    DotEnv(String),
    /// Settings that do not go together; every mistake at once.
    #[error("{}", .0.join("\n"))]
    Conflict(Vec<String>),
}

impl Settings {
    /// The settings that `args` (without the program's name), this process's environment and `dotenv` give, checked. For tests
    /// and embedding; the command line flattens [`Settings`] into its own commands instead.
    pub fn from_args<I, A>(args: I, dotenv: &DotEnv) -> Result<Self, SettingsError>
    where
        I: IntoIterator<Item = A>,
        A: Into<OsString> + Clone,
    {
        use clap::{Args as _, FromArgMatches as _};
        let command = dotenv.apply(Self::augment_args(clap::Command::new("mcp-gateway").no_binary_name(true)));
        let settings = Self::from_arg_matches(&command.try_get_matches_from(args)?)?;
        settings.check()?;
        Ok(settings)
    }

    /// Checks across fields: what clap cannot see in one value.
    pub fn check(&self) -> Result<(), SettingsError> {
        let mut wrong = Vec::new();
        let listen = &self.listen;
        if !listen.host.is_loopback() && !listen.behind_proxy && !listen.has_tls() {
            wrong.push(format!(
                "refusing to listen on {} without TLS: keys and data would cross the network readable. Give --tls-cert and \
                 --tls-key, or keep MREG_HOST=127.0.0.1, or, if a proxy in front of it ends TLS, say --behind-proxy",
                listen.host
            ));
        }
        if listen.tls_cert.is_some() != listen.tls_key.is_some() {
            wrong.push("--tls-cert and --tls-key go together: give both or none".to_owned());
        }
        if let Some(url) = &listen.public_url {
            if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
                wrong.push(format!("MREG_PUBLIC_URL must be an absolute http or https URL, not `{url}`"));
            }
            if url.query().is_some() || url.fragment().is_some() {
                wrong.push("MREG_PUBLIC_URL has neither query nor fragment".to_owned());
            }
            if !url.username().is_empty() || url.password().is_some() {
                wrong.push("MREG_PUBLIC_URL holds no credentials: it is shown to everybody".to_owned());
            }
        }
        self.access.check(&mut wrong);
        self.clients.check(&mut wrong);
        self.metrics.check(&mut wrong);
        self.analytics.check(&mut wrong);
        self.audit.check(&mut wrong);
        wrong.extend(self.otlp.export(self.audit.otlp).err().into_iter().flatten());
        if self.pools.min_pool_size > self.pools.max_pool_size {
            wrong.push(format!(
                "MREG_FASTMCP_MIN_POOL_SIZE ({}) is above MREG_FASTMCP_MAX_POOL_SIZE ({})",
                self.pools.min_pool_size, self.pools.max_pool_size
            ));
        }
        self.sign_in.check(&mut wrong);
        self.refresh.check(&mut wrong);
        self.azure.check(&mut wrong);
        self.oidc.check(&mut wrong);
        if wrong.is_empty() { Ok(()) } else { Err(SettingsError::Conflict(wrong)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(args: &[&str]) -> Result<Settings, SettingsError> {
        Settings::from_args(args, &DotEnv::default())
    }

    #[test]
    fn nothing_configured_is_a_loopback_gateway() {
        let settings = settings(&[]).unwrap();
        assert_eq!((settings.listen.host.to_string(), settings.listen.port), ("127.0.0.1".to_owned(), 8001));
        assert_eq!(settings.limits.request_body, 4 << 20);
        assert!(settings.metrics.enabled);
    }

    #[test]
    fn a_public_address_needs_tls_or_a_proxy() {
        let error = settings(&["--host", "0.0.0.0"]).unwrap_err().to_string();
        assert!(error.contains("without TLS") && error.contains("--behind-proxy"), "{error}");
        settings(&["--host", "0.0.0.0", "--behind-proxy"]).unwrap();
        settings(&["--host", "::", "--tls-cert", "a.pem", "--tls-key", "b.pem"]).unwrap();
        settings(&["--host", "127.3.2.1"]).unwrap();
    }

    #[test]
    fn every_conflict_is_said_at_once() {
        let error = settings(&[
            "--min-pool-size",
            "9",
            "--max-pool-size",
            "3",
            "--tls-key",
            "k",
            "--public-url",
            "ftp://a/?q",
            "--master-key",
            "a",
            "--master-key-file",
            "b",
            "--previous-master-key",
            "a",
            "--previous-master-key-command",
            "b",
        ]);
        let error = error.unwrap_err().to_string();
        let keys =
            ["MREG_MASTER_KEY and MREG_MASTER_KEY_FILE exclude", "MREG_PREVIOUS_MASTER_KEY_COMMAND exclude each other"];
        let parts = ["MIN_POOL_SIZE (9)", "go together", "absolute http", "neither query"];
        for part in parts.into_iter().chain(keys) {
            assert!(error.contains(part), "{part} is missing in {error}");
        }
    }

    #[test]
    fn a_command_that_may_hold_a_key_is_quoted_nowhere() {
        for flag in ["--master-key-command", "--previous-master-key-command"] {
            for command in ["curl -H 'X-Vault-Token: hvs.x' localhost", "[\"hvs.x\"", "echo hvs.x | cat"] {
                let error = format!("{:#}", settings(&[flag, command]).unwrap_err());
                let name = format!("MREG_{}: ", flag[2..].replace('-', "_").to_uppercase());
                assert!(error.contains(&name) && error.contains("JSON"), "{error}");
                assert!(!error.contains("hvs"), "{error}");
            }
            let taken = settings(&[flag, "/bin/cat hvs.x"]).unwrap();
            assert!(!format!("{taken:?}").contains("hvs"));
        }
    }

    #[test]
    fn what_signing_in_gives_fits_together() {
        let settings = settings(&[]).unwrap().sign_in;
        assert_eq!(settings.grant_lifetime, std::time::Duration::from_hours(90 * 24));
        let wrong = |args: &[&str]| super::Settings::from_args(args, &DotEnv::default()).unwrap_err().to_string();
        assert!(wrong(&["--grant-lifetime", "1d"]).contains("MREG_GRANT_IDLE_TIMEOUT"));
        assert!(wrong(&["--client-registration", "token"]).contains("needs MREG_CLIENT_REGISTRATION_TOKEN"));
        assert!(wrong(&["--client-registration-token", "x"]).contains("is for MREG_CLIENT_REGISTRATION=token only"));
        let short = ["--client-registration", "token", "--client-registration-token", "hush"];
        let said = wrong(&short);
        assert!(said.contains("guessed") && !said.contains("hush"), "{said}");
        assert!(wrong(&["--access-token-lifetime", "2d"]).contains("1 minute to 1 day"));
    }

    #[test]
    fn a_bad_value_names_the_flag() {
        let error = settings(&["--request-body-limit", "many"]).unwrap_err().to_string();
        assert!(error.contains("--request-body-limit") && error.contains("4MiB"), "{error}");
        for wrong in ["0.9", "10.5", "NaN", "inf", "x"] {
            let error = settings(&["--tenant-burst-factor", wrong]).unwrap_err().to_string();
            assert!(error.contains("--tenant-burst-factor") && error.contains("1 to 10"), "{error}");
        }
        for (flag, wrong, right) in [
            ("--pool-scaling-factor", ["1", "10.1", "NaN"], "above 1, at most 10"),
            ("--pool-utilization-threshold", ["0.05", "1.1", "much"], "0.1 to 1"),
        ] {
            for wrong in wrong {
                let error = settings(&[flag, wrong]).unwrap_err().to_string();
                assert!(error.contains(flag) && error.contains(right), "{error}");
            }
        }
        let error = settings(&["--shutdown-grace", "soon"]).unwrap_err().to_string();
        assert!(error.contains("--shutdown-grace") && error.contains("30s"), "{error}");
    }
}
