//! The settings of the address guard.

use std::time::Duration;

use ipnet::IpNet;

use super::parse;

/// Who sends too much that is refused is not heard for a while.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Address guard")]
pub struct Guard {
    /// Refusals from one address within an hour after which it is banned: too many requests, credentials that are no good
    #[arg(id = "ddos_detection_threshold", long = "ddos-detection-threshold", env = "MREG_DDOS_DETECTION_THRESHOLD", default_value_t = 1000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub threshold: u32,
    /// Time for which it is banned; twice as long each time again, up to 24 times
    #[arg(id = "ddos_ban_duration", long = "ddos-ban-duration", env = "MREG_DDOS_BAN_DURATION_SECONDS", default_value = "3600", value_name = "DURATION", value_parser = parse::positive)]
    pub ban_duration: Duration,
    /// Addresses and networks that are never banned (CIDR, comma-separated)
    #[arg(id = "ddos_allowed_networks", long = "ddos-allowed-networks", env = "MREG_DDOS_ALLOWED_NETWORKS", value_name = "CIDR", value_delimiter = ',', value_parser = parse::network)]
    pub allowed: Vec<IpNet>,
}
