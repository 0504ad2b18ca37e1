"""Writes the dashboards, one for each section of operations: `python3 dashboards.py`. With `--check` it says which of them are not
what it would write."""

import json
import sys
from pathlib import Path

from panels import COLUMNS, above, below, dashboard, graph, heatmap, note, row, stat, table

FOLDER = Path(__file__).parent / "dashboards"
JOB = 'job=~"$job"'
TENANT = f'{JOB},tenant_id=~"$tenant"'
SERVER = f'{JOB},server=~"$server"'
SERVED = f'{TENANT},status!="rate_limited"'
# What shows a credential; a request without one is how every sign-in of a program begins.
SHOWN = 'reason!~"missing|too_many_bare"'
# Streams last as long as the client wants.
ANSWERED = 'method!~"GET|subscriptions/listen"'


def of(labels, **wanted):
    """Labels, and these besides."""
    return ",".join([labels, *(f'{name}="{value}"' for name, value in wanted.items())])


def share(part, whole, by=""):
    """One sum over another; 0 where nothing was counted of the part, nothing where there is no whole."""
    by = f"by ({by}) " if by else ""
    return f"(sum {by}({part}) or 0 * sum {by}({whole})) / (sum {by}({whole}) > 0)"


def mean(histogram, labels, by="", window="$__rate_interval"):
    by = f"by ({by}) " if by else ""
    return f"sum {by}(rate({histogram}_sum{{{labels}}}[{window}])) / (sum {by}(rate({histogram}_count{{{labels}}}[{window}])) > 0)"


def quantiles(histogram, labels, *wanted):
    buckets = f"sum by (le) (rate({histogram}_bucket{{{labels}}}[$__rate_interval]))"
    return {f"p{wanted:g}": f"histogram_quantile({wanted / 100:g}, {buckets})" for wanted in wanted}


def rate(counter, labels, by):
    return f"sum by ({by}) (rate({counter}{{{labels}}}[$__rate_interval]))"


def grown(counter, labels):
    """What a counter grew by in the time that is shown. A series that begins in it has not increased, and has all that it says."""
    one = f"{counter}{{{labels}}}"
    return f"({one} unless {one} offset $__range or increase({one}[$__range]))"


def logins(labels):
    """What refreshes of logins grew by: all but those of tokens for servers."""
    whole, servers = (grown(counter, labels) for counter in ("mcp_token_refresh_total", "mcp_upstream_token_renewals_total"))
    return f"({whole} - ({servers} or 0 * {whole}))"


def overview():
    auth = "mcp_auth_events_total"
    return dashboard("mcp-overview", "MCP gateway: overview", "The key figures of the gateways, with their targets.", ["job"], [
        row("Key figures of the time that is shown"),
        stat("Uptime", "Time in which at least one gateway answered Prometheus. Target: more than 0.999.",
             f"avg(avg_over_time(job:mcp_up:max{{{JOB}}}[$__range]))", "percentunit", below(0.999)),
        stat("Authentication success", "Of the credentials that were shown, how many were good. Target: more than 0.995.",
             share(grown(auth, of(JOB, result="success")), grown(auth, f"{JOB},{SHOWN}")), "percentunit", below(0.995)),
        stat("Token refresh success", "Refreshes of what identity providers gave, with their retries. Target: more than 0.95.",
             share(logins(of(JOB, result="success")), logins(JOB)), "percentunit", below(0.95)),
        stat("Mean response", "From the head of the request to the end of the answer, servers included, streams left out. Target: less than 100 ms.",
             mean("mcp_request_duration_seconds", f"{JOB},{ANSWERED}", window="$__range"), "s", above(0.1)),
        stat("Mean overhead", "What the gateway itself adds to a call of a tool. Target: less than 100 ms.",
             mean("mcp_gateway_overhead_seconds", of(JOB, method="tools/call"), window="$__range"), "s", above(0.1)),
        stat("Satisfaction", "1 + 4 · Apdex over an hour, T = 1 s; what did not succeed frustrates. A little less than it is: 4 s is no bucket, so 2.5 s are tolerated. Target: more than 4.5.",
             f"min(job:mcp_satisfaction:score_rate1h{{{JOB}}})", "none", below(4.5)),
        stat("Pool utilization", "Requests in flight to servers, of all that may be. Target: less than 0.8.",
             f"max(job:mcp_upstream_pool_utilization:ratio{{{JOB}}})", "percentunit", above(0.8)),
        stat("Concurrent users", "Users seen within 5 minutes; who came to two gateways counts twice. Planned for: 500.",
             f"sum(job_tenant:mcp_concurrent_users:sum{{{JOB}}})", "short", above(500)),
        stat("Tenants active", "Tenants with requests within 5 minutes.",
             f"count(job_tenant:mcp_requests:rate5m{{{JOB}}} > 0)"),
        stat("Mean session", "Signed-in sessions that ended within a day. Usual: 2 to 4 hours.",
             mean("mcp_session_duration_seconds", JOB, window="1d"), "s"),
        stat("Banned now", "Addresses and networks. Every gateway knows all of them.", f"max(mcp_guard_bans{{{JOB}}})"),
        stat("Alerts", "That fire now, of all gateways.", 'count(ALERTS{alertname=~"Mcp.*",alertstate="firing"}) or vector(0)', "short", above(1)),
        row("Over time"),
        graph("Requests", "Finished requests a second, by how they ended.",
              {"{{status}}": rate("mcp_request_duration_seconds_count", JOB, "status")}, "reqps", stacked=True),
        graph("Errors", "By whose they are: the caller's, the gateway's, a server's.",
              {"{{context}}": rate("mcp_errors_total", JOB, "context")}, "reqps"),
        graph("Response times", "Servers included, streams left out.",
              quantiles("mcp_request_duration_seconds", f"{JOB},{ANSWERED}", 50, 95, 99), "s"),
        graph("Error budget used", "Of what an objective of 99.9 % allows, in the last hour: at 1 it is used as fast as it comes.",
              {"{{job}} {{slo}}": f"job_slo:mcp_bad:ratio_1h{{{JOB}}} / 0.001"}, "none", above(1)),
        row("Processes"),
        graph("Answers Prometheus", "1 while a gateway answers.", {"{{instance}}": f"up{{{JOB}}}"}, "none", width=6),
        graph("Memory", "In RAM.", {"{{instance}}": f"process_resident_memory_bytes{{{JOB}}}"}, "bytes", width=6),
        graph("Processor", "Processors' worth.", {"{{instance}}": f"rate(process_cpu_seconds_total{{{JOB}}}[$__rate_interval])"}, "none", width=6),
        graph("File descriptors", "Open, of those that may be.",
              {"{{instance}}": f"process_open_fds{{{JOB}}} / process_max_fds{{{JOB}}}"}, "percentunit", above(0.8), width=6),
        table("What runs", "Versions, and when each gateway began.",
              f"process_start_time_seconds{{{JOB}}} * 1000 * on (job, instance) group_left (version, profile) mcp_gateway_build_info{{{JOB}}}", "dateTimeAsIso"),
        graph("Jobs that fail", "Runs in the background that failed or panicked, a second.",
              {"{{task}} {{result}}": rate("mcp_job_runs_total", f'{JOB},result!="success"', "task, result")}, "none"),
    ])


def authentication():
    auth, refresh = "mcp_auth_events_total", "mcp_token_refresh_total"
    kept = 'kind=~"proactive|emergency",result="success"'
    return dashboard("mcp-authentication", "MCP gateway: authentication and tokens", "Who comes in, who does not and why, and how fresh what identity providers gave is kept.", ["job", "tenant"], [
        row("Authentication"),
        stat("Success", "Of the credentials that were shown. Target: more than 0.995.",
             share(grown(auth, of(JOB, result="success")), grown(auth, f"{JOB},{SHOWN}")), "percentunit", below(0.995), 6),
        stat("Sign-ins", "Interactive ones in the time that is shown.", f"sum({grown('mcp_user_logins_total', TENANT)})", width=6),
        stat("Sessions", "Signed in, or held with a key; now.", f"sum(job_tenant_session_type_activity:mcp_user_sessions:count{{{TENANT}}})", width=6),
        stat("Token cache", "How full that of the fullest gateway is. Target: less than 0.8.",
             f"max(mcp_token_cache_entries{{{JOB}}} / (mcp_token_cache_limit{{{JOB}}} > 0))", "percentunit", above(0.8), 6),
        graph("Success by method", "Target: more than 0.995.", {"{{method}}": f"min by (method) (job_method:mcp_auth_success:ratio_rate5m{{{JOB}}})"}, "percentunit", below(0.995)),
        graph("Refused, by reason", "A second. The tenant is not known of most of them.",
              {"{{method}} {{reason}}": rate(auth, of(JOB, result="failure"), "method, reason")}, "reqps"),
        graph("Sign-ins by method", "Interactive ones, an hour.",
              {"{{login_method}}": f"3600 * {rate('mcp_user_logins_total', TENANT, 'login_method')}"}, "short"),
        graph("Sign-ins by hour of the day", "UTC; in the time that is shown.",
              {"{{hour}}": f"sum by (hour) ({grown('mcp_user_logins_total', TENANT)})"}, "short"),
        row("Token refresh"),
        stat("Success", "Target: more than 0.95.", share(logins(of(TENANT, result="success")), logins(TENANT)), "percentunit", below(0.95)),
        stat("Proactive", "Of what was refreshed by itself. Target: more than 0.8.",
             share(logins(f'{TENANT},kind="proactive",result="success"'), logins(f"{TENANT},{kept}")), "percentunit", below(0.8)),
        stat("Emergency", "Nearly too late. Target: less than 0.1.",
             share(logins(f'{TENANT},kind="emergency",result="success"'), logins(f"{TENANT},{kept}")), "percentunit", above(0.1)),
        stat("Must sign in again", "Refreshes after which the person has to come back, in the time that is shown.",
             f"sum({logins(of(TENANT, result='reauth_required'))}) or vector(0)"),
        stat("Due now", "Logins that wait to be refreshed. All gateways say the same.", f"max(mcp_token_refresh_queue{{{JOB}}})"),
        stat("DPoP proofs forgotten", "Too many came, so each could be shown again.", f"sum({grown('mcp_dpop_proofs_forgotten_total', JOB)}) or vector(0)", "short", above(1)),
        graph("Refreshes", "Also of tokens for servers. A minute, by why and how that came out.",
              {"{{kind}} {{result}}": f"60 * {rate(refresh, TENANT, 'kind, result')}"}, "short", stacked=True),
        graph("Success by tenant", "Of an hour. Target: more than 0.95.",
              {"{{tenant_id}}": f"min by (tenant_id) (job_tenant:mcp_token_refresh_success:ratio_rate1h{{{TENANT}}})"}, "percentunit", below(0.95)),
        row("Credentials for servers"),
        graph("Tokens asked for", "A minute, by kind and how that ended.",
              {"{{kind}} {{result}}": f"60 * {rate('mcp_upstream_credential_requests_total', JOB, 'kind, result')}"}, "short"),
        graph("People at servers' own authorization servers", "Connected, not connected, or to connect again; an hour.",
              {"{{event}}": f"3600 * {rate('mcp_upstream_connections_total', JOB, 'event')}"}, "short"),
    ])


def performance():
    pool, wait = "mcp_upstream_pool", "mcp_upstream_pool_wait_seconds"
    return dashboard("mcp-performance", "MCP gateway: performance and pools", "What the gateway adds to a call, and how its connections to servers and to the database do.", ["job", "server"], [
        row("Latency"),
        graph("Overhead of a call", "What the gateway itself adds to `tools/call`; waiting for a turn at a server is not in it. Above 100 ms it cannot be told apart.",
              quantiles("mcp_gateway_overhead_seconds", of(JOB, method="tools/call"), 50, 95, 99), "s", above(0.1)),
        heatmap("Spread of the overhead", "Calls of tools, by what the gateway added.",
                'sum by (le) (increase(mcp_gateway_overhead_seconds_bucket{' + JOB + ',method="tools/call"}[$__rate_interval]))'),
        graph("Whole calls, by server", "p95 of `tools/call`, the server included.",
              {"{{server}}": f"histogram_quantile(0.95, {rate('mcp_request_duration_seconds_bucket', of(SERVER, method='tools/call'), 'server, le')})"}, "s"),
        graph("Calls, by server", "A second.", {"{{server}} {{result}}": rate("mcp_tool_calls_total", SERVER, "server, result")}, "reqps", stacked=True),
        row("Pools of connections to servers"),
        stat("Utilization", "Requests in flight, of all that may be; of the busiest replica. Target: less than 0.8.",
             f"max(job_server_replica:mcp_upstream_pool_utilization:ratio{{{SERVER}}})", "percentunit", above(0.8)),
        stat("Wait for a turn", "Mean. Target: less than 100 ms.", mean(wait, SERVER, window="5m"), "s", above(0.1)),
        stat("TCP handshake", "Mean of 15 minutes. Target for TCP and TLS together: less than 50 ms.", mean("mcp_upstream_connect_seconds", SERVER, window="15m"), "s", above(0.05)),
        stat("TLS handshake", "Mean of 15 minutes. Target: less than 50 ms.", mean("mcp_upstream_tls_seconds", SERVER, window="15m"), "s", above(0.05)),
        stat("Connections in vain", "Attempts to connect that ran out of time. Target: less than 0.01.",
             f"max(job_server:mcp_upstream_connection_timeouts:ratio_rate15m{{{SERVER}}})", "percentunit", above(0.01)),
        stat("Reuse", "Requests on a connection that carried another before; of the server that does worst. Target: more than 0.9, where calls come often.",
             f"min(job_server:mcp_upstream_connection_reuse:ratio_rate15m{{{SERVER}}})", "percentunit", below(0.9)),
        graph("Utilization by replica", "Of all gateways together. Target: less than 0.8.",
              {"{{server}} {{replica}}": f"job_server_replica:mcp_upstream_pool_utilization:ratio{{{SERVER}}}"}, "percentunit", above(0.8)),
        graph("In flight, waiting, and the limit", "Of all gateways and replicas together.",
              {"{{server}} {{state}}": f"sum by (server, state) ({pool}_requests{{{SERVER}}})", "{{server}} limit": f"sum by (server) ({pool}_limit{{{SERVER}}})"}),
        graph("Wait for a turn, by server", "p99, also of those that did not wait.",
              {"{{server}}": f"histogram_quantile(0.99, {rate(f'{wait}_bucket', SERVER, 'server, le')})"}, "s", above(0.1)),
        graph("Limits that changed, and calls turned away", "A minute.",
              {"{{server}} {{action}}": f"60 * {rate(f'{pool}_resizes_total', SERVER, 'server, action')}", "{{server}} turned away": f"60 * {rate(f'{pool}_turned_away_total', SERVER, 'server')}"}),
        graph("Connections", "Open to servers, in use and at rest.", {"{{server}} {{state}}": f"sum by (server, state) ({pool}_connections{{{SERVER}}})"}),
        graph("Connections opened", "A minute, by how that ended.", {"{{server}} {{result}}": f"60 * {rate('mcp_upstream_dials_total', SERVER, 'server, result')}"}),
        graph("Breakers", "0 closed, 1 half open, 2 open; the worst that any gateway sees.",
              {"{{server}} {{replica}}": f"max by (server, replica) (mcp_upstream_breaker_state{{{SERVER}}})"}, "none", above(2)),
        graph("Reuse by server", "A server that is called seldom has little of it, and nothing wrong. Target: more than 0.9.",
              {"{{server}}": f"min by (server) (job_server:mcp_upstream_connection_reuse:ratio_rate15m{{{SERVER}}})"}, "percentunit", below(0.9)),
        row("The rest"),
        graph("Connections to the database", "In use, of all that may be. Target: less than 0.8.",
              {"{{instance}}": f"instance:mcp_database_connections_utilization:ratio{{{JOB}}}"}, "percentunit", above(0.8), width=8),
        graph("Connections of clients, sessions and streams", "Now.",
              {"connections": f'sum(mcp_active_connections{{{JOB},side="client"}})', "sessions": f"sum(mcp_gateway_sessions{{{JOB}}})", "streams": f"sum(mcp_gateway_streams{{{JOB}}})"}, width=8),
        graph("Programs", "Running children of stdio servers.", {"{{server}}": f"sum by (server) (mcp_stdio_children{{{SERVER}}})"}, width=8),
    ])


def limits():
    hits = "mcp_rate_limit_hits_total"
    return dashboard("mcp-limits", "MCP gateway: rate limits and fairness", "What was refused, whose limit it was, and how requests are divided among tenants.", ["job", "tenant"], [
        note("How close this is to the exact division (`fairness_efficiency`, target: more than 0.99), and which refusals were wrong, only the gateway knows: "
             "`GET /api/v1/admin/rate-limit-analytics` and `GET /api/v1/admin/tenant-fairness/{tenant_id}`."),
        row("Limits"),
        stat("Refused", "Of all requests, in the time that is shown.",
             share(grown(hits, f'{TENANT},limit_type!="ddos"'), grown("mcp_request_duration_seconds_count", TENANT)), "percentunit", width=6),
        stat("Capacity used up", "Requests refused because all tenants together reached the capacity.",
             f"sum({grown(hits, of(JOB, limit_type='global'))}) or vector(0)", "short", above(1), 6),
        stat("Gateways that share", "As they know of each other.", f"max(mcp_replicas{{{JOB}}})", width=6),
        stat("Exchanges with Redis in vain", "Of 5 minutes. Nothing without Redis.",
             share(f'rate(mcp_limit_exchanges_total{{{JOB},result="failure"}}[5m])', f"rate(mcp_limit_exchanges_total{{{JOB}}}[5m])"), "percentunit", above(0.1), 6),
        graph("Refused, by whose limit", "A second.", {"{{limit_type}} {{action}}": rate(hits, JOB, "limit_type, action")}, "reqps", stacked=True),
        graph("Refused, by tenant", "Of the tenant's own requests.",
              {"{{tenant_id}}": f"max by (tenant_id) (job_tenant:mcp_refused:ratio_rate5m{{{TENANT}}})"}, "percentunit", above(0.1)),
        row("Shares"),
        graph("Share of all requests", "What each tenant asked for, of what all did.",
              {"{{tenant_id}}": f"max by (tenant_id) (job_tenant:mcp_requests:share_rate5m{{{TENANT}}})"}, "percentunit", stacked=True),
        graph("Served, by tenant", "Requests a minute that no limit refused.",
              {"{{tenant_id}}": f"60 * {rate('mcp_request_duration_seconds_count', SERVED, 'tenant_id')}"}),
        graph("Buckets", "Users, servers and tools that are counted for, and requests that shared a bucket for want of room, a second.",
              {"{{instance}}": f"mcp_limit_buckets{{{JOB}}}", "{{instance}} shared": f"rate(mcp_limit_buckets_shed_total{{{JOB}}}[$__rate_interval])"}),
        graph("Time of an exchange with Redis", "p99.", quantiles("mcp_limit_exchange_duration_seconds", JOB, 50, 99), "s"),
        row("The guard of addresses"),
        graph("Banned", "Addresses and networks; every gateway knows all of them.", {"{{job}}": f"max by (job) (mcp_guard_bans{{{JOB}}})"}, width=8),
        graph("Refused by the guard", "Requests and connections of banned addresses, and credentials that were held back; a second.",
              {"{{action}}": rate(hits, of(JOB, limit_type="ddos"), "action")}, "reqps", width=8),
        graph("Remembered by the guard", "Addresses and networks, and those that it forgot for want of room, a second.",
              {"{{instance}}": f"mcp_guard_entries{{{JOB}}}", "{{instance}} forgotten": f"rate(mcp_guard_shed_total{{{JOB}}}[$__rate_interval])"}, width=8),
    ])


def tenants():
    both = f'{TENANT},server=~"$server"'
    failed = f'{both},result=~"error|tool_error"'
    calls = "mcp_tool_calls_total"
    return dashboard("mcp-tenants", "MCP gateway: tenants and usage", "Who uses what, how much, and how well that goes.", ["job", "tenant", "server"], [
        row("Tenants"),
        graph("Requests", "A second.", {"{{tenant_id}}": rate("mcp_request_duration_seconds_count", TENANT, "tenant_id")}, "reqps", stacked=True),
        graph("Errors", "Of the tenant's requests, those that are not the caller's fault.",
              {"{{tenant_id}}": f"max by (tenant_id) (job_tenant:mcp_request_errors:ratio_rate5m{{{TENANT}}})"}, "percentunit", above(0.05)),
        graph("Mean response", "Servers included, streams left out. Target: less than 100 ms, where servers let it.",
              {"{{tenant_id}}": f"max by (tenant_id) (job_tenant:mcp_request_duration_seconds:mean5m{{{TENANT}}})"}, "s", above(0.1)),
        graph("Users", "Seen within 5 minutes; who came to two gateways counts twice.",
              {"{{tenant_id}}": f"sum by (tenant_id) (job_tenant:mcp_concurrent_users:sum{{{TENANT}}})"}, stacked=True),
        row("Sessions"),
        graph("Sessions", "By kind of credential, and whether used within 5 minutes.",
              {"{{session_type}} {{activity}}": f"sum by (session_type, activity) (job_tenant_session_type_activity:mcp_user_sessions:count{{{TENANT}}})"}, stacked=True),
        graph("Sessions that ended", "An hour, by why.", {"{{end_reason}}": f"3600 * {rate('mcp_session_duration_seconds_count', TENANT, 'end_reason')}"}, stacked=True),
        graph("How long sessions last", "Mean of those that ended within a day. Usual: 2 to 4 hours.",
              {"{{tenant_id}}": f"max by (tenant_id) (job_tenant:mcp_session_duration_seconds:mean1d{{{TENANT}}})"}, "s"),
        graph("Sign-ins", "In an hour, by tenant.", {"{{tenant_id}}": f"3600 * {rate('mcp_user_logins_total', TENANT, 'tenant_id')}"}),
        row("Behaviour"),
        graph("What tenants do", "A minute, by activity.", {"{{activity}}": f"60 * {rate('mcp_tenant_activity_total', TENANT, 'activity')}"}, stacked=True),
        graph("How tools are used", "Patterns of the last three steps of a session; a minute.",
              {"{{pattern}}": f"60 * {rate('mcp_user_behavior_patterns_total', TENANT, 'pattern')}"}, stacked=True),
        row("Tools"),
        table("Most called tools", "In the time that is shown.", f"topk(20, sum by (tenant_id, server, tool) ({grown(calls, both)}) > 0)"),
        table("Tools that fail most", "Of their calls in the time that is shown: the tool's own errors, and those on the way to it.",
              f"topk(20, {share(grown(calls, failed), grown(calls, both), 'tenant_id, server, tool')} > 0)", "percentunit"),
        graph("Calls, by how they ended", "A second.", {"{{result}}": rate(calls, both, "result")}, "reqps", stacked=True),
        graph("Time of calls", "p95 as users see it, by tool where the tenant has `enhanced_monitoring`, else by server alone.",
              {"{{server}} {{tool}}": f"histogram_quantile(0.95, {rate('mcp_tool_usage_duration_seconds_bucket', both, 'server, tool, le')})"}, "s"),
        graph("Errors of servers", "Of the calls of each server, those that failed on the way. The alert begins at 0.1.",
              {"{{tenant_id}} {{server}}": f"max by (tenant_id, server) (job_tenant_server:mcp_tool_call_errors:ratio_rate5m{{{both}}})"}, "percentunit", above(0.1), COLUMNS),
    ])


def security():
    return dashboard("mcp-security", "MCP gateway: audit and security", "What was refused before it was heard, what is denied, and what the gateway could not keep.", ["job", "tenant"], [
        row("Refused and denied"),
        graph("Denied", "Requests that a rule, a role or a scope refused, by tenant; a second.",
              {"{{tenant_id}}": rate("mcp_request_duration_seconds_count", of(TENANT, status="denied"), "tenant_id")}, "reqps"),
        graph("Denied calls of tools", "By tenant and server; a second.",
              {"{{tenant_id}} {{server}}": rate("mcp_tool_calls_total", of(TENANT, result="denied"), "tenant_id, server")}, "reqps"),
        graph("Credentials refused", "By reason; a second.", {"{{reason}}": rate("mcp_auth_events_total", f'{JOB},result="failure",{SHOWN}', "reason")}, "reqps"),
        graph("Requests refused at the door", "Foreign host or origin, too large a head or body; a second.",
              {"{{reason}}": rate("mcp_requests_refused_total", JOB, "reason")}, "reqps"),
        graph("Connections cut off", "By why; a second.", {"{{reason}}": rate("mcp_connections_cut_total", JOB, "reason")}, "reqps"),
        graph("The guard of addresses", "What bans refused, and credentials that were held back; a second.",
              {"{{action}}": rate("mcp_rate_limit_hits_total", of(JOB, limit_type="ddos"), "action")}, "reqps"),
        row("The audit trail and sealed values"),
        graph("Records", "Of the audit trail, by what became of them; a second.", {"{{result}}": rate("mcp_audit_records_total", JOB, "result")}, "none", width=8),
        graph("Wait for the database", "Age of the oldest record that is in a journal alone. The alert begins at a minute.", {"{{instance}}": f"mcp_audit_lag_seconds{{{JOB}}}"}, "s", above(60), 8),
        graph("Journals", "What waits in them.", {"{{instance}}": f"mcp_audit_journal_bytes{{{JOB}}}"}, "bytes", width=8),
        graph("Values under older keys", "Waiting to be sealed anew, or not to be opened.",
              {"{{key}} {{state}}": f"max by (key, state) (mcp_stale_sealed_values{{{JOB}}})"}, width=COLUMNS),
        row("What must stay at 0"),
        stat("DPoP proofs forgotten", "In the time that is shown; each could have been shown again.", f"sum({grown('mcp_dpop_proofs_forgotten_total', JOB)}) or vector(0)", "short", above(1)),
        stat("Steps of sign-ins lost", "In the time that is shown.", f"sum({grown('mcp_sign_in_notes_dropped_total', JOB)}) or vector(0)", "short", above(1)),
        stat("Addresses forgotten early", "By the guard, in the time that is shown.", f"sum({grown('mcp_guard_shed_total', JOB)}) or vector(0)", "short", above(1)),
        stat("Credentials for servers thrown away", "For want of room, in the time that is shown.", f"sum({grown('mcp_upstream_credentials_shed_total', JOB)}) or vector(0)", "short", above(1)),
        stat("Metrics under `other`", "Measurements for whose labels there was no room, in the time that is shown.", f"sum({grown('mcp_metrics_series_dropped_total', JOB)}) or vector(0)", "short", above(1)),
        stat("Panics", "Of jobs, in the time that is shown; a bug of the gateway.", f"sum({grown('mcp_job_runs_total', of(JOB, result='panic'))}) or vector(0)", "short", above(1)),
    ])


def main():
    wrong = []
    for one in [overview(), authentication(), performance(), limits(), tenants(), security()]:
        file = FOLDER / f"{one['uid'].removeprefix('mcp-')}.json"
        text = json.dumps(one, indent=1, ensure_ascii=False) + "\n"
        if "--check" not in sys.argv:
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            wrong.append(file.name)
    if wrong:
        sys.exit(f"not what dashboards.py writes: {', '.join(wrong)}; run it again")


main()
