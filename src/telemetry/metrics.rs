//! The one list of metrics. The doc comment of a field is the help text that Prometheus shows; adding a metric is adding a
//! line here: plain text, no markup. No label holds a user: per-user figures are the admin API's.

use super::exposition::{Format, Page};
use super::family::{Counter, Family, Gauge, Histogram, Spec};
use super::operation::{Operation, Outcome};
use super::process;
use super::reading::{Kind, Reader, Reading};

const MS: u64 = 1_000_000;
/// 0.5 ms to 5 min.
const REQUEST: &[u64] = &[
    MS / 2,
    MS,
    5 * MS / 2,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    1_000 * MS,
    2_500 * MS,
    10_000 * MS,
    60_000 * MS,
    300_000 * MS,
];
/// 25 µs to 100 ms: what the gateway itself takes.
const OVERHEAD: &[u64] =
    &[MS / 40, MS / 20, MS / 10, MS / 4, MS / 2, MS, 5 * MS / 2, 5 * MS, 10 * MS, 25 * MS, 100 * MS];
/// 0.1 to 60 s, as the operators' dashboards expect.
const TOOL: &[u64] = &[100 * MS, 500 * MS, 1_000 * MS, 2_000 * MS, 5_000 * MS, 10_000 * MS, 30_000 * MS, 60_000 * MS];

/// 0.1 ms to 10 s: what it takes to come to a connection.
pub const POOL: &[u64] = &[
    MS / 10,
    MS / 4,
    MS / 2,
    MS,
    5 * MS / 2,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    1_000 * MS,
    2_500 * MS,
    5_000 * MS,
    10_000 * MS,
];

/// 1 minute to 8 hours.
const SESSION: &[u64] = &[
    60_000 * MS,
    300_000 * MS,
    900_000 * MS,
    1_800_000 * MS,
    3_600_000 * MS,
    7_200_000 * MS,
    14_400_000 * MS,
    28_800_000 * MS,
];

macro_rules! list {
    ($(#[doc = $help:literal] $field:ident: $kind:ident[$($label:ident),*] = $name:literal $(by $bounds:ident)?;)*) => {
        /// Every metric of the process.
        #[expect(clippy::doc_markdown, reason = "help texts are read where no markup is")]
        pub struct Metrics {
            $(#[doc = $help] pub $field: Family<$kind, { <[&str]>::len(&[$(stringify!($label)),*]) }>,)*
        }

        impl Metrics {
            /// All at zero. `most` bounds the label sets of each family.
            pub fn new(most: usize) -> Self {
                Self {
                    $($field: Family::new(
                        Spec { name: $name, help: $help.trim_ascii(), bounds: list!(@bounds $($bounds)?) },
                        [$(stringify!($label)),*],
                        most,
                    ),)*
                }
            }

            fn read_list(&self, reader: &mut dyn Reader) {
                $(self.$field.read(reader);)*
                let name = "mcp_metrics_series_dropped_total";
                reader.family(name, "Measurements counted under `other` because the family was full.", Kind::Counter);
                $(reader.series(&[("family", self.$field.name())], None, Reading::Count(self.$field.folded()));)*
            }
        }
    };
    (@bounds) => { &[] };
    (@bounds $bounds:ident) => { $bounds };
}

list! {
    /// Whole request, seconds.
    request_duration: Histogram[tenant_id, method, server, status] = "mcp_request_duration_seconds" by REQUEST;
    /// Whole request less the time spent waiting on the upstream, seconds.
    gateway_overhead: Histogram[tenant_id, method] = "mcp_gateway_overhead_seconds" by OVERHEAD;
    /// Tool calls by how they ended: success, tool_error, error, denied, rate_limited.
    tool_calls: Counter[tenant_id, server, tool, result] = "mcp_tool_calls_total";
    /// Time of a tool call as its user sees it, seconds; the tool is empty unless the tenant has enhanced_monitoring.
    tool_usage: Histogram[tenant_id, server, tool] = "mcp_tool_usage_duration_seconds" by TOOL;
    /// Errors by type and by whose they are: client, gateway, upstream.
    errors: Counter[tenant_id, error_type, context] = "mcp_errors_total";
    /// Every authentication outcome; the tenant is empty where the credential names none.
    auth_events: Counter[tenant_id, method, result, reason] = "mcp_auth_events_total";
    /// Interactive sign-ins, by hour of the day, UTC.
    user_logins: Counter[tenant_id, login_method, hour] = "mcp_user_logins_total";
    /// Refreshes of what identity providers gave for people, and of tokens for upstream servers, by why they were asked for (proactive, emergency, forced, on_demand) and how that came out, retries included: success, failure, reauth_required.
    token_refresh: Counter[tenant_id, kind, result] = "mcp_token_refresh_total";
    /// Logins that are due for a refresh, of all processes on the database; as this one last saw it.
    token_refresh_queue: Gauge[] = "mcp_token_refresh_queue";
    /// Open connections: of clients, and to upstreams.
    active_connections: Gauge[side, server] = "mcp_active_connections";
    /// Client connections that were refused or cut off, and why.
    connections_cut: Counter[reason] = "mcp_connections_cut_total";
    /// Requests refused before they reached a surface: foreign host or origin, too large a head or body, unrecorded: there is no room for their record.
    requests_refused: Counter[reason] = "mcp_requests_refused_total";
    /// What was refused because a limit of rate was reached, by whose limit it was: global, tenant, user, ip, server, tool; ddos: by the address guard.
    rate_limit_hits: Counter[tenant_id, limit_type, action] = "mcp_rate_limit_hits_total";
    /// Users, servers and tools that this process counts for because they do not have all that they may at once.
    limit_buckets: Gauge[] = "mcp_limit_buckets";
    /// Requests of users, servers and tools for which there was no room, so that they shared what one of them has.
    limit_buckets_shed: Counter[] = "mcp_limit_buckets_shed_total";
    /// Times that this process told the other replicas what is asked of it, and heard them, by how that ended: success, failure.
    limit_exchanges: Counter[result] = "mcp_limit_exchanges_total";
    /// How long such an exchange took, seconds.
    limit_exchange_duration: Histogram[] = "mcp_limit_exchange_duration_seconds" by OVERHEAD;
    /// Replicas that share the capacity, this one among them, as far as is known.
    replicas: Gauge[] = "mcp_replicas";
    /// Bytes of records of the audit trail that wait in journals until the database takes them.
    audit_journal_bytes: Gauge[] = "mcp_audit_journal_bytes";
    /// For how long the database has not had all that waited for it, seconds; 0 where it has.
    audit_lag: Gauge[] = "mcp_audit_lag_seconds";
    /// Records of the audit trail by what became of them: drained, in the database; unreadable, left in the log; refused, set aside in a file because the database does not take what is in it; damaged, a file of a journal of which not all can be read; unsigned, in the database behind a head that was changed there; lost, neither disk nor memory took it and its answer was not given out.
    audit_records: Counter[result] = "mcp_audit_records_total";
    /// Addresses and networks that are banned now.
    guard_bans: Gauge[] = "mcp_guard_bans";
    /// Addresses and networks that the guard remembers for what came from them within the last hour.
    guard_entries: Gauge[] = "mcp_guard_entries";
    /// Addresses that the guard forgot early, or did not ban, because there were too many.
    guard_shed: Counter[] = "mcp_guard_shed_total";
    /// Steps of sign-ins that are missing in their traces, by why: full, more were to be noted than the database took; database, it failed.
    sign_in_notes_dropped: Counter[reason] = "mcp_sign_in_notes_dropped_total";
    /// Sessions open now, by kind of credential and whether used within 5 minutes. Those of kind api_key are this process's MCP sessions; oauth and service are what is signed in at the whole gateway, the same on every replica.
    user_sessions: Gauge[tenant_id, session_type, activity] = "mcp_user_sessions_active";
    /// Distinct users seen within 5 minutes.
    concurrent_users: Gauge[tenant_id] = "mcp_concurrent_users";
    /// Signed-in sessions that ended, by why: logout, timeout, error; seconds.
    session_duration: Histogram[tenant_id, end_reason] = "mcp_session_duration_seconds" by SESSION;
    /// How tools are used, from the last three steps of a session: repetitive_usage, browse_then_action, diverse_exploration, standard_workflow.
    behavior_patterns: Counter[tenant_id, pattern] = "mcp_user_behavior_patterns_total";
    /// What tenants do: login, logout, tool_call, resource_read, prompt_get, admin; and with what.
    tenant_activity: Counter[tenant_id, activity, resource_type] = "mcp_tenant_activity_total";
    /// Records of the audit trail that this process counted.
    analytics_records: Counter[] = "mcp_analytics_records_total";
    /// Calls and reasons that were counted under `other`, because a tenant had more names in a day than are told apart.
    analytics_names_shed: Counter[] = "mcp_analytics_names_shed_total";
    /// Access tokens that this process knows without asking the database.
    token_cache: Gauge[] = "mcp_token_cache_entries";
    /// The most that it keeps of them.
    token_cache_limit: Gauge[] = "mcp_token_cache_limit";
    /// Proofs of possession (DPoP) that were forgotten before they were too old, because too many came; each could have been shown again.
    proofs_forgotten: Counter[] = "mcp_dpop_proofs_forgotten_total";
    /// MCP sessions held for clients.
    sessions: Gauge[] = "mcp_gateway_sessions";
    /// Event streams open to clients.
    streams: Gauge[] = "mcp_gateway_streams";
    /// Connections of the upstream pools: in_use, idle.
    upstream_pool: Gauge[server, replica, state] = "mcp_upstream_pool_connections";
    /// Credentials for upstream servers that are kept: tokens and the gateway's own words about who calls.
    upstream_credentials: Gauge[] = "mcp_upstream_credentials";
    /// Those of them that gave way because there were too many.
    upstream_credentials_shed: Counter[] = "mcp_upstream_credentials_shed_total";
    /// Tokens for upstream servers that were asked for, by kind (client_credentials, on_behalf_of, token_exchange, id_jag, authorization_code) and by how that ended: success, refused (it is about the person), failure.
    upstream_credential_requests: Counter[kind, result] = "mcp_upstream_credential_requests_total";
    /// What of mcp_token_refresh_total is tokens for upstream servers: the rest is what identity providers gave.
    upstream_renewals: Counter[tenant_id, kind, result] = "mcp_upstream_token_renewals_total";
    /// People at servers' own authorization servers: connected, denied (they did not agree), failed, disconnected, needs_person (they have to connect again).
    upstream_connections: Counter[event] = "mcp_upstream_connections_total";
    /// Requests that one replica may have in flight now.
    upstream_limit: Gauge[server, replica] = "mcp_upstream_pool_limit";
    /// Requests to one replica: in_flight, waiting for their turn.
    upstream_load: Gauge[server, replica, state] = "mcp_upstream_pool_requests";
    /// Changes of the limit of one replica: grow, shrink.
    upstream_resizes: Counter[server, replica, action] = "mcp_upstream_pool_resizes_total";
    /// How long requests waited for their turn, also those that did not wait or gave up, seconds.
    upstream_wait: Histogram[server, replica] = "mcp_upstream_pool_wait_seconds" by POOL;
    /// Requests that found no room to wait for their turn.
    upstream_turned_away: Counter[server, replica] = "mcp_upstream_pool_turned_away_total";
    /// Requests that have ended, by the connection that they went out on: new, reused.
    upstream_requests: Counter[server, replica, connection] = "mcp_upstream_requests_total";
    /// Connections that were to be opened, by how that ended: connected, timeout, failure, given_up.
    upstream_dials: Counter[server, replica, result] = "mcp_upstream_dials_total";
    /// TCP handshakes with one replica, seconds.
    upstream_connect: Histogram[server, replica] = "mcp_upstream_connect_seconds" by POOL;
    /// TLS handshakes with one replica, seconds.
    upstream_tls: Histogram[server, replica] = "mcp_upstream_tls_seconds" by POOL;
    /// Circuit breakers: 0 closed, 1 half open, 2 open.
    breaker_state: Gauge[server, replica] = "mcp_upstream_breaker_state";
    /// Connections to the database: in_use, idle, and the limit of both.
    database_connections: Gauge[state] = "mcp_database_connections";
    /// Sealed values that name an older key, as the last look of this process at them left them: under keys of tenants (data) or the master key (master), and whether they wait to be sealed anew or do not open: waiting, unreadable.
    stale_sealed_values: Gauge[key, state] = "mcp_stale_sealed_values";
    /// What a collector of OpenTelemetry took: spans, points of metrics, audit records.
    otlp_sent: Counter[signal] = "mcp_otlp_sent_total";
    /// Spans, points of metrics and audit records that a collector did not get, and will not: queue_full, refused (it does not take them), given_up (it was away for too long).
    otlp_dropped: Counter[signal, reason] = "mcp_otlp_dropped_total";
    /// Running child processes of stdio servers.
    stdio_children: Gauge[server] = "mcp_stdio_children";
    /// Runs of background jobs by how they ended: success, failure, panic.
    job_runs: Counter[task, result] = "mcp_job_runs_total";
    /// Always 1; the labels say what is running.
    build_info: Gauge[version, profile] = "mcp_gateway_build_info";
}

impl Metrics {
    /// Counts one finished operation.
    pub(super) fn operation(&self, operation: &Operation) {
        let tenant = operation.tenant().map_or("", |tenant| tenant.as_str());
        let method = operation.method_label();
        let server = operation.server.as_ref().map_or("", |slug| slug.as_str());
        let status = operation.outcome.label();
        let times = operation.times;
        self.request_duration.on([tenant, method, server, status], |all| all.observe(times.total));
        self.gateway_overhead.on([tenant, method], |all| all.observe(times.total.saturating_sub(times.upstream)));
        if method == "tools/call" {
            let tool = operation.name.as_deref().unwrap_or_default();
            self.tool_calls.on([tenant, server, tool, status], Counter::inc);
            let apart = if operation.tool_apart { tool } else { "" };
            self.tool_usage.on([tenant, server, apart], |all| all.observe(times.total));
        }
        if let Outcome::Error { whose, kind } = operation.outcome {
            self.errors.on([tenant, kind, whose.label()], Counter::inc);
        }
    }

    /// Counts one authentication. `method` is `login`, `api_key` …; `reason` a stable word, empty on success.
    pub fn auth(&self, tenant: &str, method: &str, success: bool, reason: &str) {
        let result = if success { "success" } else { "failure" };
        self.auth_events.on([tenant, method, result, reason], Counter::inc);
    }

    /// Counts one refusal because a limit was reached, by whose it was; the tenant is empty where there is none.
    pub fn throttled(&self, tenant: &str, limit: &str) {
        self.rate_limit_hits.on([tenant, limit, "throttled"], Counter::inc);
    }

    /// Counts one interactive sign-in that happened `at` this time.
    pub fn login(&self, tenant: &str, method: &str, at: time::OffsetDateTime) {
        let hour = at.to_offset(time::UtcOffset::UTC).hour();
        self.user_logins.on([tenant, method, &format!("{hour:02}")], Counter::inc);
    }

    /// Everything, as text.
    pub fn render(&self, format: Format) -> String {
        let mut page = Page::new(format);
        self.read(&mut page);
        page.finish()
    }

    /// Everything, one family after the other.
    pub(super) fn read(&self, reader: &mut dyn Reader) {
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        self.build_info.with([env!("CARGO_PKG_VERSION"), profile]).set(1);
        self.read_list(reader);
        process::read(reader);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    fn measured() -> Metrics {
        let metrics = Metrics::new(2);
        for tool in ["read", "write\"\\\n", "more", "even more"] {
            metrics.tool_calls.on(["default", "files", tool, "success"], Counter::inc);
            metrics.tool_usage.on(["default", "files", tool], |all| all.observe(Duration::from_millis(120)));
        }
        metrics.auth("default", "api_key", false, "unknown_key");
        metrics.sessions.with([]).set(3);
        metrics
    }

    #[test]
    fn promtool_finds_nothing_to_say_about_the_text() {
        let tool =
            Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let Ok(mut tool) = tool else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "promtool is not installed");
            eprintln!("skipped: promtool (Debian package prometheus) is not installed");
            return;
        };
        tool.stdin.take().unwrap().write_all(measured().render(Format::Text).as_bytes()).unwrap();
        let said = tool.wait_with_output().unwrap();
        assert!(said.status.success() && said.stderr.is_empty(), "{}", String::from_utf8_lossy(&said.stderr));
    }

    #[test]
    fn every_sample_belongs_to_the_family_above_it() {
        for format in [Format::Text, Format::OpenMetrics] {
            let text = measured().render(format);
            let mut family = "";
            let mut seen = std::collections::BTreeSet::new();
            for line in text.lines() {
                if let Some(rest) = line.strip_prefix("# TYPE ") {
                    family = rest.split(' ').next().unwrap();
                    assert!(seen.insert(family), "{family} occurs twice");
                } else if !line.starts_with('#') {
                    assert!(line.starts_with(family), "`{line}` under {family}");
                    assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
                }
            }
            assert_eq!(text.ends_with("# EOF\n"), format == Format::OpenMetrics);
            assert!(text.contains("mcp_metrics_series_dropped_total{family=\"mcp_tool_calls_total\"} 2"), "{text}");
            assert!(text.contains("mcp_gateway_sessions 3\n"), "{text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_is_measured() {
        let text = Metrics::new(1).render(Format::Text);
        let value = |name: &str| -> f64 {
            let line =
                text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name}"));
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") > value("process_open_fds"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - value("process_start_time_seconds");
        assert!((-2.0..3600.0).contains(&age), "{age}");
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }
}
