//! The sections. A doc comment here is the help text that people read on the command line and in the reference.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use ipnet::IpNet;
use url::Url;

use super::clients::SHORTEST_TOKEN;
use super::parse;
use crate::secret::Secret;

/// Where it listens and who may speak to it.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Listening")]
pub struct Listen {
    /// Address to listen on. Other than loopback needs TLS or --behind-proxy
    #[arg(long, env = "MREG_HOST", default_value = "127.0.0.1", value_name = "ADDRESS", value_parser = parse::host)]
    pub host: IpAddr,
    /// Port to listen on; 0 takes any free one
    #[arg(long, env = "MREG_PORT", default_value_t = 8001, value_name = "PORT")]
    pub port: u16,
    /// URL under which clients reach the gateway, if that is not the address it listens on
    #[arg(long, env = "MREG_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<Url>,
    /// Certificate chain to serve HTTPS with, PEM
    #[arg(long, env = "MREG_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, env = "MREG_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// A proxy in front ends TLS and names the client in X-Forwarded-For or Forwarded
    #[arg(
        long,
        env = "MREG_BEHIND_PROXY",
        value_name = "BOOL",
        default_value = "false",
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        value_parser = BoolishValueParser::new()
    )]
    pub behind_proxy: bool,
    /// Networks whose forwarding headers are believed when --behind-proxy is set (CIDR, comma-separated)
    #[arg(
        long,
        env = "MREG_TRUSTED_PROXIES",
        value_name = "CIDR",
        value_delimiter = ',',
        default_value = "127.0.0.0/8,::1/128"
    )]
    pub trusted_proxies: Vec<IpNet>,
    /// Host names that requests may name besides loopback names and the public URL's (comma-separated)
    #[arg(long, env = "MREG_ALLOWED_HOSTS", value_name = "HOST", value_delimiter = ',', value_parser = parse::host_name)]
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may call the gateway (comma-separated)
    #[arg(long, env = "MREG_ALLOWED_ORIGINS", value_name = "ORIGIN", value_delimiter = ',', value_parser = parse::origin)]
    pub allowed_origins: Vec<String>,
}

impl Listen {
    /// Whether the listener itself speaks TLS.
    pub fn has_tls(&self) -> bool {
        self.tls_cert.is_some() && self.tls_key.is_some()
    }
}

/// Where it keeps its data.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Data")]
pub struct Data {
    /// Folder for the database, keys and local state; made when absent
    #[arg(long, env = "MREG_DATA_DIR", default_value = "./data", value_name = "FOLDER")]
    pub data_dir: PathBuf,
    /// Database, sqlite:// or postgres://; a SQLite file in the data folder when absent
    #[arg(long, env = "MREG_DATABASE_URL", value_name = "URL", hide_env_values = true, value_parser = parse::secret)]
    pub database_url: Option<Secret>,
    /// Redis through which several gateways on one PostgreSQL database share their limits, redis:// or rediss://
    #[arg(long, env = "MREG_REDIS_URL", value_name = "URL", hide_env_values = true, value_parser = parse::secret)]
    pub redis_url: Option<Secret>,
}

/// How the first administrator and the sealing key come to be.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Keys")]
pub struct Access {
    /// API key of the first administrator, for unattended installs; made and printed once when absent
    #[arg(long, env = "MREG_BOOTSTRAP_ADMIN_KEY", value_name = "KEY", hide_env_values = true, value_parser = parse::secret)]
    pub bootstrap_admin_key: Option<Secret>,
    /// Key that seals stored secrets, 32 bytes in base64; made in the data folder when absent
    #[arg(long, env = "MREG_MASTER_KEY", value_name = "KEY", hide_env_values = true, value_parser = parse::secret)]
    pub master_key: Option<Secret>,
    /// File that holds the key that seals stored secrets
    #[arg(long, env = "MREG_MASTER_KEY_FILE", value_name = "FILE")]
    pub master_key_file: Option<PathBuf>,
    /// Program that prints the key that seals stored secrets, run at the start without a shell: words, or a JSON list of them
    #[arg(long, env = "MREG_MASTER_KEY_COMMAND", value_name = "COMMAND", hide_env_values = true, value_parser = parse::secret)]
    pub master_key_command: Option<Secret>,
    /// Keys that open what they sealed and seal nothing any more, while the key is changed (comma-separated)
    #[arg(long, env = "MREG_PREVIOUS_MASTER_KEY", value_name = "KEY", hide_env_values = true, value_parser = parse::secret)]
    pub previous_master_key: Option<Secret>,
    /// File that holds such keys, one in a line
    #[arg(long, env = "MREG_PREVIOUS_MASTER_KEY_FILE", value_name = "FILE")]
    pub previous_master_key_file: Option<PathBuf>,
    /// Program that prints such keys, one in a line
    #[arg(long, env = "MREG_PREVIOUS_MASTER_KEY_COMMAND", value_name = "COMMAND", hide_env_values = true, value_parser = parse::secret)]
    pub previous_master_key_command: Option<Secret>,
}

impl Access {
    /// What does not go together.
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        let sources = |name: &str, given: [bool; 3]| {
            let given = given.into_iter().zip(["", "_FILE", "_COMMAND"]).filter(|(given, _)| *given);
            let given: Vec<_> = given.map(|(_, kind)| format!("MREG_{name}{kind}")).collect();
            (given.len() > 1).then(|| format!("{} exclude each other: give one", given.join(" and ")))
        };
        let of = |text: &Option<Secret>, file: &Option<PathBuf>, command: &Option<Secret>| {
            [text.is_some(), file.is_some(), command.is_some()]
        };
        let now = of(&self.master_key, &self.master_key_file, &self.master_key_command);
        let before = of(&self.previous_master_key, &self.previous_master_key_file, &self.previous_master_key_command);
        wrong.extend(sources("MASTER_KEY", now));
        wrong.extend(sources("PREVIOUS_MASTER_KEY", before));
        // Not by clap, which would quote what may hold the key.
        let commands = [("", &self.master_key_command), ("PREVIOUS_", &self.previous_master_key_command)];
        for (which, command) in commands {
            let refused = command.as_ref().and_then(|command| parse::program(command.expose()).err());
            wrong.extend(refused.map(|why| format!("MREG_{which}MASTER_KEY_COMMAND: {why}")));
        }
    }
}

/// What bounds it.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Largest body of a request
    #[arg(id = "request_body", long = "request-body-limit", env = "MREG_REQUEST_BODY_LIMIT", default_value = "4MiB", value_name = "BYTES", value_parser = parse::bytes)]
    pub request_body: usize,
    /// Largest single message of an upstream, held whole or passed on as it comes
    #[arg(id = "response_body", long = "response-limit", env = "MREG_RESPONSE_LIMIT", default_value = "64MiB", value_name = "BYTES", value_parser = parse::bytes)]
    pub response_body: usize,
    /// Largest head of a request, at least 8KiB
    #[arg(id = "header_size", long = "header-size-limit", env = "MREG_HEADER_SIZE_LIMIT", default_value = "64KiB", value_name = "BYTES", value_parser = parse::bytes)]
    pub header_size: usize,
    /// Time for a client to send the head of a request
    #[arg(long, env = "MREG_HEADER_READ_TIMEOUT", default_value = "10s", value_name = "DURATION", value_parser = parse::positive)]
    pub header_read_timeout: Duration,
    /// Time for a client to send the body of a request
    #[arg(long, env = "MREG_BODY_READ_TIMEOUT", default_value = "30s", value_name = "DURATION", value_parser = parse::positive)]
    pub body_read_timeout: Duration,
    /// Time without progress after which a client that does not read its answer is cut off
    #[arg(long, env = "MREG_WRITE_TIMEOUT", default_value = "60s", value_name = "DURATION", value_parser = parse::positive)]
    pub write_timeout: Duration,
    /// Time after which a connection without a request is closed
    #[arg(long, env = "MREG_KEEP_ALIVE", default_value = "75s", value_name = "DURATION", value_parser = parse::positive)]
    pub keep_alive: Duration,
    /// Most client connections at once
    #[arg(long, env = "MREG_MAX_CONNECTIONS", default_value_t = 20_000, value_name = "COUNT", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub max_connections: usize,
    /// Most client sessions at once
    #[arg(long, env = "MREG_MAX_SESSIONS", default_value_t = 20_000, value_name = "COUNT", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000_000))]
    pub max_sessions: usize,
    /// Time after which an unused session ends
    #[arg(long, env = "MREG_SESSION_IDLE_TIMEOUT", default_value = "30m", value_name = "DURATION", value_parser = parse::positive)]
    pub session_idle_timeout: Duration,
    /// Most access tokens that are remembered so that showing one reads no database; some 400 bytes each
    #[arg(long, env = "MREG_MAX_TOKENS", default_value_t = 200_000, value_name = "COUNT", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1000..=10_000_000))]
    pub max_tokens: usize,
    /// Most event streams to clients at once
    #[arg(long, env = "MREG_MAX_STREAMS", default_value_t = 20_000, value_name = "COUNT", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub max_streams: usize,
    /// Most child processes of stdio servers at once
    #[arg(long, env = "MREG_MAX_CHILDREN", default_value_t = 256, value_name = "COUNT", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub max_children: usize,
    /// Most child processes of one stdio server at once; a server whose sessions each have their own needs one for each
    #[arg(long, env = "MREG_MAX_CHILDREN_PER_SERVER", default_value_t = 64, value_name = "COUNT", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub max_children_per_server: usize,
    /// Time after which a child process that nobody uses is stopped; the next call starts it again
    #[arg(long, env = "MREG_CHILD_IDLE_TIMEOUT", default_value = "10m", value_name = "DURATION", value_parser = parse::positive)]
    pub child_idle_timeout: Duration,
    /// Age at which the list of what an upstream offers is asked for again
    #[arg(long, env = "MREG_CATALOGUE_TTL", default_value = "300s", value_name = "DURATION", value_parser = parse::positive)]
    pub catalogue_ttl: Duration,
    /// Pause between checks of each replica of an upstream that has several
    #[arg(long, env = "MREG_HEALTH_CHECK_INTERVAL", default_value = "15s", value_name = "DURATION", value_parser = parse::positive)]
    pub health_check_interval: Duration,
    /// Pause after which an event stream sends a comment to stay alive
    #[arg(long, env = "MREG_SSE_KEEP_ALIVE", default_value = "15s", value_name = "DURATION", value_parser = parse::positive)]
    pub sse_keep_alive: Duration,
    /// Time that running requests get to finish when the process is told to stop
    #[arg(long, env = "MREG_SHUTDOWN_GRACE", default_value = "30s", value_name = "DURATION", value_parser = parse::duration)]
    pub shutdown_grace: Duration,
}

impl Limits {
    /// Most bytes of a request's head: no fewer than the smallest buffer that hyper works with.
    pub fn head(&self) -> usize {
        self.header_size.max(8 << 10)
    }
}

/// How much tenants and people may call.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Rate limits")]
pub struct RateLimits {
    /// Share the capacity among tenants that call, by their weights; off: each has a bucket of its own
    #[arg(id = "tenant_fairness", long = "tenant-fairness", env = "MREG_FASTMCP_ENABLE_TENANT_FAIRNESS_ALGORITHM", default_value = "true", value_name = "BOOL", action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub fairness: bool,
    /// Seconds over which the shares of tenants are told
    #[arg(id = "tenant_fairness_window", long = "tenant-fairness-window", env = "MREG_FASTMCP_TENANT_FAIRNESS_WINDOW_SECONDS", default_value_t = 300, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(30..=3600))]
    pub fairness_window_seconds: u32,
    /// How many times its share a tenant may call while others leave theirs, 1 to 10, unless the tenant has a factor of its own
    #[arg(id = "tenant_burst_factor", long = "tenant-burst-factor", env = "MREG_FASTMCP_TENANT_BURST_ALLOWANCE_FACTOR", default_value_t = 1.5, value_name = "FACTOR", value_parser = parse::burst_factor)]
    pub burst_factor: f64,
    /// Requests a minute that all tenants share
    #[arg(id = "rate_limit_global_rpm", long = "rate-limit-global-rpm", env = "MREG_RATE_LIMIT_GLOBAL_RPM", default_value_t = 10_000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub global_rpm: u32,
    /// Requests a minute of one administrator, of the gateway or of a tenant
    #[arg(id = "rate_limit_admin_rpm", long = "rate-limit-admin-rpm", env = "MREG_RATE_LIMIT_ADMIN_RPM", default_value_t = 1000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub admin_rpm: u32,
    /// Requests a minute of one owner of servers
    #[arg(id = "rate_limit_server_owner_rpm", long = "rate-limit-server-owner-rpm", env = "MREG_RATE_LIMIT_SERVER_OWNER_RPM", default_value_t = 500, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub server_owner_rpm: u32,
    /// Requests a minute of one user
    #[arg(id = "rate_limit_user_rpm", long = "rate-limit-user-rpm", env = "MREG_RATE_LIMIT_USER_RPM", default_value_t = 100, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub user_rpm: u32,
    /// Requests a minute of one address that shows no credential
    #[arg(id = "rate_limit_anonymous_rpm", long = "rate-limit-anonymous-rpm", env = "MREG_RATE_LIMIT_ANONYMOUS_RPM", default_value_t = 20, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub anonymous_rpm: u32,
}

/// Connections to databases and upstreams, and threads.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Pools")]
pub struct Pools {
    /// Let the limit of requests in flight to each upstream replica follow the load; off: it is the highest one
    #[arg(id = "adaptive_pools", long = "adaptive-pools", env = "MREG_FASTMCP_ENABLE_ADAPTIVE_CONNECTION_POOLING", default_value = "true", value_name = "BOOL", action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub adaptive: bool,
    /// Change limits; off: they are the highest one, and it is only reported what they should be
    #[arg(id = "pool_scaling", long = "pool-scaling", env = "MREG_FASTMCP_CONNECTION_POOL_SCALING_ENABLED", default_value = "true", value_name = "BOOL", action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub scaling: bool,
    /// Lowest limit of requests in flight to one upstream replica, where it begins
    #[arg(long, env = "MREG_FASTMCP_MIN_POOL_SIZE", default_value_t = 10, value_name = "COUNT", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub min_pool_size: usize,
    /// Highest limit of requests in flight to one upstream replica; ten times as many wait up to 10 s for their turn
    #[arg(long, env = "MREG_FASTMCP_MAX_POOL_SIZE", default_value_t = 100, value_name = "COUNT", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub max_pool_size: usize,
    /// How many times as high, or as low, a limit becomes in one step; above 1, at most 10
    #[arg(id = "pool_scaling_factor", long = "pool-scaling-factor", env = "MREG_FASTMCP_POOL_SCALING_FACTOR", default_value_t = 1.5, value_name = "FACTOR", value_parser = parse::growth_factor)]
    pub scaling_factor: f64,
    /// Part of a limit, 0.1 to 1, above which it grows when requests wait; it shrinks under 0.3
    #[arg(id = "pool_utilization_threshold", long = "pool-utilization-threshold", env = "MREG_FASTMCP_POOL_UTILIZATION_THRESHOLD", default_value_t = 0.8, value_name = "FRACTION", value_parser = parse::threshold)]
    pub utilization_threshold: f64,
    /// Most connections to the database
    #[arg(long, env = "MREG_DATABASE_POOL_SIZE", default_value_t = 10, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_pool_size: u32,
    /// Certificates of authorities to trust besides the system's when a connection is opened, PEM
    #[arg(long, env = "MREG_EXTRA_CA_FILE", value_name = "FILE")]
    pub extra_ca_file: Option<PathBuf>,
    /// Threads that serve requests; one a processor when absent
    #[arg(long, env = "MREG_WORKER_THREADS", value_name = "COUNT", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub worker_threads: Option<usize>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// What it writes about itself, on standard error.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Log")]
pub struct Log {
    /// Which log lines are written: a level, or directives such as info,operation=debug
    #[arg(id = "log_filter", long = "log", env = "MREG_LOG", default_value = "info", value_name = "FILTER", value_parser = parse::filter)]
    pub filter: String,
    /// How log lines are written
    #[arg(
        id = "log_format",
        long = "log-format",
        env = "MREG_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT",
        value_enum
    )]
    pub format: LogFormat,
}

/// What it counts.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Metrics")]
pub struct Metrics {
    /// Serve /metrics; 404 when off
    #[arg(id = "metrics_enabled", long = "metrics", env = "MREG_FASTMCP_ENABLE_PROMETHEUS_METRICS", default_value = "true", value_name = "BOOL", action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub enabled: bool,
    /// Token that reading /metrics takes, besides the key of an administrator, where the gateway is not this machine's alone
    #[arg(id = "metrics_token", long = "metrics-token", env = "MREG_METRICS_TOKEN", value_name = "TOKEN", hide_env_values = true, value_parser = parse::secret)]
    pub token: Option<Secret>,
    /// Most label sets of one metric; more are counted under `other`
    #[arg(id = "metrics_max_series", long = "metrics-max-series", env = "MREG_METRICS_MAX_SERIES", default_value_t = 2000, value_name = "COUNT", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub max_series: usize,
}

impl Metrics {
    /// Adds what would be no protection.
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        if self.token.as_ref().is_some_and(|token| token.expose().len() < SHORTEST_TOKEN) {
            wrong.push(format!("MREG_METRICS_TOKEN can be guessed: give at least {SHORTEST_TOKEN} bytes"));
        }
    }
}
