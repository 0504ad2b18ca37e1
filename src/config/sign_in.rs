//! The section about signing in: how long what people and programs get is good, and who may register. Identity providers have
//! a section of their own.

use std::time::Duration;

use super::parse;
use crate::secret::Secret;

/// Whether programs may make themselves known as OAuth clients (RFC 7591).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ClientRegistration {
    /// Anybody may; what it registers is good only with the consent of a person.
    Open,
    /// Whoever shows the registration token.
    Token,
    /// Nobody may.
    Off,
}

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
    /// Whether programs may register themselves as clients: anybody, who shows a token, or nobody
    #[arg(long, env = "MREG_CLIENT_REGISTRATION", default_value = "open", value_name = "WHO", value_enum)]
    pub client_registration: ClientRegistration,
    /// What programs show to register when that takes a token; at least 32 characters
    #[arg(long, env = "MREG_CLIENT_REGISTRATION_TOKEN", value_name = "TOKEN", hide_env_values = true, value_parser = parse::secret)]
    pub client_registration_token: Option<Secret>,
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
        let token = self.client_registration_token.as_ref();
        match (self.client_registration, token) {
            (ClientRegistration::Token, None) => {
                wrong.push("MREG_CLIENT_REGISTRATION=token needs MREG_CLIENT_REGISTRATION_TOKEN".to_owned());
            }
            (ClientRegistration::Open | ClientRegistration::Off, Some(_)) => {
                wrong.push("MREG_CLIENT_REGISTRATION_TOKEN is for MREG_CLIENT_REGISTRATION=token only".to_owned());
            }
            (ClientRegistration::Token, Some(token)) if token.expose().len() < 32 => {
                wrong.push(
                    "MREG_CLIENT_REGISTRATION_TOKEN is short enough to be guessed: give at least 32 random characters"
                        .to_owned(),
                );
            }
            _ => {}
        }
    }
}
