//! The section about what identity providers gave for people, and when it is asked for anew.

use clap::builder::BoolishValueParser;

/// When the tokens of identity providers are refreshed.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Token refresh")]
pub struct Refresh {
    /// Refresh what identity providers gave for people before it ends; off: only when a program asks for tokens of its own
    #[arg(id = "background_token_refresh", long = "background-token-refresh", env = "MREG_FASTMCP_ENABLE_BACKGROUND_TOKEN_REFRESH", default_value = "true", value_name = "BOOL", action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub background: bool,
    /// Minutes before the end of a provider's token at which a refresh counts as an emergency
    #[arg(id = "token_refresh_margin_minutes", long = "token-refresh-margin-minutes", env = "MREG_FASTMCP_TOKEN_REFRESH_MARGIN_MINUTES", default_value_t = 5, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(0..=1440))]
    pub margin_minutes: u32,
    /// Minutes before the end of a provider's token at which its refresh is due
    #[arg(id = "proactive_refresh_minutes", long = "proactive-refresh-minutes", env = "MREG_FASTMCP_PROACTIVE_REFRESH_MINUTES", default_value_t = 10, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=1440))]
    pub proactive_minutes: u32,
    /// Times that a refresh is tried again before it counts as failed; it is tried on, and nobody's session ends for it
    #[arg(id = "token_refresh_max_retries", long = "token-refresh-max-retries", env = "MREG_FASTMCP_TOKEN_REFRESH_MAX_RETRIES", default_value_t = 4, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(0..=20))]
    pub max_retries: u32,
}

impl Refresh {
    /// What does not go together.
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        if self.margin_minutes >= self.proactive_minutes {
            wrong.push(format!(
                "MREG_FASTMCP_TOKEN_REFRESH_MARGIN_MINUTES ({}) is not below MREG_FASTMCP_PROACTIVE_REFRESH_MINUTES ({}): \
                 every refresh would be an emergency",
                self.margin_minutes, self.proactive_minutes
            ));
        }
    }
}
