//! `entra check`: whether the gateway's registration in Entra ID is as the gateway needs it, line by line, with what to do. It asks
//! Entra with the gateway's own credential, from this machine, and needs no gateway that runs.

use clap::{Args, Subcommand};
use time::OffsetDateTime;
use url::Url;

use super::Verdict;
use super::failure::Failure;
use super::findings::{Findings, Mark};
use super::screen::Screen;
use crate::config::Settings;
use crate::grants::resource::Issuer;
use crate::idp::ENTRA;
use crate::idp::check::{State, check};
use crate::net::{AddressPolicy, Outbound};

const EXAMPLES: &str = "\
Give the flags and variables that the gateway is started with. Each line says OK, WARN, FAIL or `not visible` and what to do. The
exit code is 1 when a line says FAIL. More is visible once the application may read itself: the application permission
Application.Read.All of Microsoft Graph, with admin consent.

Examples:
  mcp-gateway entra check
  MREG_PUBLIC_URL=https://gateway.example.com mcp-gateway entra check --json";

/// Look at the registration of the gateway in Microsoft Entra ID
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcp-gateway entra check")]
pub struct Entra {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Verify what can be reached: credential, redirect URI, token version, scope, consent, and when secrets end
    #[command(after_help = EXAMPLES)]
    Check(Box<Settings>),
}

/// Carries out `entra …`.
pub async fn run(entra: &Entra, screen: Screen) -> anyhow::Result<Verdict> {
    let Action::Check(settings) = &entra.action;
    let azure = &settings.azure;
    if azure.tenant_id.is_none() || azure.client_id.is_none() {
        let advice =
            "set MREG_AZURE_TENANT_ID, MREG_AZURE_CLIENT_ID and a credential; the guide is docs, Setting up Entra ID";
        return Err(Failure::usage("Entra ID is not set up here").advise(advice).into());
    }
    let listen = &settings.listen;
    let issuer = Issuer::new(listen.public_url.as_ref(), listen.has_tls(), (listen.host, listen.port).into());
    let callback = Url::parse(&issuer.join(&format!("/oauth/callback/{ENTRA}")))?;
    let outbound = Outbound::new(AddressPolicy::ADMIN, settings.pools.extra_ca_file.clone());
    let mut found = Findings::default();
    if let Err(error) = settings.check() {
        found.say("settings", Mark::Fail, error.to_string(), "the gateway does not start like this");
    }
    if listen.public_url.is_none() {
        let advice = "set MREG_PUBLIC_URL to the address that people and clients use, unless all are on this machine";
        found.say("public URL", Mark::Warn, format!("none is set; the gateway calls itself {issuer}"), advice);
    }
    let wait = screen.wait("asking Entra ID");
    let all = check(azure, &callback, &outbound, OffsetDateTime::now_utc()).await;
    wait.finish_and_clear();
    for one in all {
        let mark = match one.state {
            State::Right => Mark::Ok,
            State::NotVisible => Mark::NotVisible,
            State::Doubtful => Mark::Warn,
            State::Wrong => Mark::Fail,
        };
        found.say(one.what, mark, one.text, one.advice);
    }
    found.show(screen)
}
