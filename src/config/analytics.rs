//! The section about what is counted of the audit trail, and how long that is kept.

use std::time::Duration;

use clap::builder::BoolishValueParser;

use super::parse;

/// What is counted of what was done, and for how long.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Analytics")]
pub struct Analytics {
    /// Count sessions, logins and what accounts do
    #[arg(id = "user_analytics", long = "user-analytics", env = "MREG_FASTMCP_ENABLE_USER_ANALYTICS", default_value = "true", value_name = "BOOL", action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub users: bool,
    /// Tell patterns of use from the last three steps of each session
    #[arg(id = "behavior_tracking", long = "behavior-tracking", env = "MREG_FASTMCP_ENABLE_BEHAVIOR_TRACKING", default_value = "true", value_name = "BOOL", action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub behaviour: bool,
    /// How often each process stores how it is (load, memory, processors) and pushes metrics over OTLP; 5 s to 1 h
    #[arg(id = "metrics_export_interval", long = "metrics-export-interval", env = "MREG_FASTMCP_METRICS_EXPORT_INTERVAL", default_value = "60s", value_name = "DURATION", value_parser = parse::export_interval)]
    pub export_interval: Duration,
    /// Time for which counts by minutes are kept
    #[arg(id = "analytics_keep_minutes", long = "analytics-keep-minutes", env = "MREG_ANALYTICS_KEEP_MINUTES", default_value = "48h", value_name = "DURATION", value_parser = parse::life)]
    pub keep_minutes: Duration,
    /// Time for which counts by hours are kept, and how processes were
    #[arg(id = "analytics_keep_hours", long = "analytics-keep-hours", env = "MREG_ANALYTICS_KEEP_HOURS", default_value = "90d", value_name = "DURATION", value_parser = parse::life)]
    pub keep_hours: Duration,
    /// Time for which counts by days are kept
    #[arg(id = "analytics_keep_days", long = "analytics-keep-days", env = "MREG_ANALYTICS_KEEP_DAYS", default_value = "1095d", value_name = "DURATION", value_parser = parse::life)]
    pub keep_days: Duration,
}

impl Analytics {
    /// What reports could not be made without.
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        let least = [
            ("MREG_ANALYTICS_KEEP_MINUTES", self.keep_minutes, Duration::from_hours(2), "2h"),
            ("MREG_ANALYTICS_KEEP_HOURS", self.keep_hours, Duration::from_hours(72), "3d"),
            ("MREG_ANALYTICS_KEEP_DAYS", self.keep_days, Duration::from_hours(72), "3d"),
        ];
        for (name, kept, least, said) in least {
            if kept < least {
                wrong.push(format!("{name} is too short for the reports: give at least {said}"));
            }
        }
    }
}
