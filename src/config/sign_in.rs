//! The section about signing in: how long what people and programs get is good. Identity providers and clients have sections of
//! their own.

use std::time::Duration;

use super::parse;

/// How people sign in and what programs get for it.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Sign-in")]
pub struct SignIn {
    /// Time that an access token is good
    #[arg(long, env = "MREG_ACCESS_TOKEN_LIFETIME", default_value = "15m", value_name = "DURATION", value_parser = parse::token_life)]
    pub access_token_lifetime: Duration,
    /// Time after which a program has to be let in anew, however much it is used
    #[arg(long, env = "MREG_GRANT_LIFETIME", default_value = "90d", value_name = "DURATION", value_parser = parse::life)]
    pub grant_lifetime: Duration,
    /// Time after which a program that is not used has to be let in anew
    #[arg(long, env = "MREG_GRANT_IDLE_TIMEOUT", default_value = "30d", value_name = "DURATION", value_parser = parse::life)]
    pub grant_idle_timeout: Duration,
    /// Time after which the identity provider is asked again whether a person may still come in
    #[arg(long, env = "MREG_IDENTITY_RECHECK_INTERVAL", default_value = "15m", value_name = "DURATION", value_parser = parse::positive)]
    pub identity_recheck_interval: Duration,
    /// Let people with a password of this gateway sign in on its pages
    #[arg(long, env = "MREG_LOCAL_SIGN_IN", default_value = "true", value_name = "BOOL", action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    pub local_sign_in: bool,
    /// Sign-ins that one address may begin in a minute; what a proxy in front hides counts as one
    #[arg(id = "rate_limit_sign_in_rpm", long = "rate-limit-sign-in-rpm", env = "MREG_RATE_LIMIT_SIGN_IN_RPM", default_value_t = 300, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate_limit_sign_in_rpm: u32,
    /// Wrong passwords, client secrets, codes, refresh tokens and assertions that one address may show in a minute
    #[arg(id = "rate_limit_failures_rpm", long = "rate-limit-failures-rpm", env = "MREG_RATE_LIMIT_FAILURES_RPM", default_value_t = 120, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate_limit_failures_rpm: u32,
    /// Text for people who are not let in: whom to ask, and how
    #[arg(long, env = "MREG_SIGN_IN_HELP", value_name = "TEXT", value_parser = parse::notice)]
    pub sign_in_help: Option<String>,
}

impl SignIn {
    /// What does not go together.
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        if self.grant_idle_timeout > self.grant_lifetime {
            wrong.push("MREG_GRANT_IDLE_TIMEOUT is above MREG_GRANT_LIFETIME: it would never be reached".to_owned());
        }
        if self.access_token_lifetime > self.grant_idle_timeout {
            wrong.push("MREG_ACCESS_TOKEN_LIFETIME is above MREG_GRANT_IDLE_TIMEOUT".to_owned());
        }
    }
}
