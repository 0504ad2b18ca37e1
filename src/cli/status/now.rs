//! The multi-user status within `status`: an administrator of a tenant sees its tenant.

use std::fmt::Write as _;

use serde_json::Value;

use super::super::failure::Failure;
use super::super::figures::{bytes, percent, target_of};
use super::super::gateway::Gateway;
use super::super::screen::{Table, Tone, text_at};

/// Reads it; none for who may not.
pub(super) async fn read(gateway: &Gateway) -> anyhow::Result<Option<Value>> {
    match gateway.get(&["admin", "multi-user-status"]).await {
        Ok(report) => Ok(Some(report.value)),
        Err(error) => match Failure::of(error) {
            // A gateway of an older version has no such report.
            failure if matches!(failure.status, Some(403 | 404)) => Ok(None),
            failure => Err(failure.into()),
        },
    }
}

/// As lines and a table of tenants, for people.
pub(super) fn render(report: &Value) -> String {
    let at = |pointer: &str| text_at(report, pointer);
    let mut out = String::from("\n");
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "{name:<9}{text}");
    };
    line("people", format!("{} active within five minutes", at("/active_users")));
    if let Some(used) = report["resource_utilization"].as_object() {
        let of = |name: &str| used.get(name).map_or_else(|| "-".to_owned(), percent);
        line(
            "uses",
            format!(
                "processors {}, memory {} ({}), connections {}, file descriptors {}",
                of("cpu"),
                of("memory"),
                used.get("memory_bytes").map_or_else(|| "-".to_owned(), bytes),
                of("connections"),
                of("file_descriptors")
            ),
        );
    }
    if report["rate_limiting"].is_object() {
        let hits = report["rate_limiting"]["hits"].as_object().into_iter().flatten();
        let hits = hits.filter(|(_, count)| **count != 0).map(|(limit, count)| format!("{count} by {limit}"));
        let hits: Vec<String> = hits.collect();
        line(
            "limits",
            format!(
                "{} of {} requests in the last minute; refused: {}; banned addresses: {}",
                at("/rate_limiting/used_last_minute"),
                at("/rate_limiting/global_rpm"),
                if hits.is_empty() { "none".to_owned() } else { hits.join(", ") },
                at("/rate_limiting/banned_addresses")
            ),
        );
    }
    line(
        "pools",
        format!(
            "{} of {} connections to servers in use, {} on average{}",
            at("/connection_pool/in_use"),
            at("/connection_pool/limit"),
            percent(&report["connection_pool"]["pool_utilization"]),
            aim(report, "connection_pool.pool_utilization")
        ),
    );
    line(
        "tokens",
        format!(
            "{} refreshed, {} failed, {}{}",
            at("/token_refresh/successful"),
            at("/token_refresh/failed"),
            percent(&report["token_refresh"]["success_rate"]),
            aim(report, "token_refresh.success_rate")
        ),
    );
    let mut table = Table::new(&["TENANT", "PEOPLE", "SESSIONS", "REQUESTS LAST MINUTE"]);
    for tenant in report["tenants"].as_array().into_iter().flatten() {
        table.row(
            ["/tenant_id", "/active_users", "/sessions", "/requests_last_minute"]
                .map(|field| (text_at(tenant, field), Tone::Plain)),
        );
    }
    out.push('\n');
    out.push_str(&table.render("nobody is there"));
    out
}

/// What a figure should be, in brackets.
fn aim(report: &Value, field: &str) -> String {
    let (text, tone) = target_of(report, field);
    if text == "-" { String::new() } else { format!(" ({})", tone.paint(&text)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Value {
        json!({
            "active_users": 41, "tenants": [{"tenant_id": "acme", "active_users": 41, "sessions": 55, "requests_last_minute": 318}],
            "resource_utilization": {"cpu": null, "memory_bytes": 68_157_440, "memory": 0.03, "connections": 0.004, "file_descriptors": 0.01},
            "rate_limiting": {"global_rpm": 10000, "used_last_minute": 318, "hits": {"global": 0, "tenant": 2}, "banned_addresses": 0},
            "connection_pool": {"pool_utilization": 0.21, "in_use": 4, "limit": 20},
            "token_refresh": {"success_rate": null, "successful": 0, "failed": 0},
            "targets": {"connection_pool.pool_utilization": {"target": "<0.8", "met": true},
                        "token_refresh.success_rate": {"target": ">0.95", "met": null}},
        })
    }

    #[test]
    fn everything_is_told_and_what_is_unknown_is_no_number() {
        let text = anstream::adapter::strip_str(&render(&report())).to_string();
        for line in [
            "people   41 active within five minutes\n",
            "uses     processors -, memory 3 % (65.0 MiB), connections 0 %, file descriptors 1 %\n",
            "limits   318 of 10000 requests in the last minute; refused: 2 by tenant; banned addresses: 0\n",
            "pools    4 of 20 connections to servers in use, 21 % on average (<0.8 ok)\n",
            "tokens   0 refreshed, 0 failed, - (>0.95)\n",
            "acme    41      55        318\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

    #[test]
    fn an_administrator_of_a_tenant_sees_nothing_of_the_gateway() {
        let mut report = report();
        (report["resource_utilization"], report["rate_limiting"]) = (Value::Null, Value::Null);
        let text = anstream::adapter::strip_str(&render(&report)).to_string();
        assert!(!text.contains("uses") && !text.contains("limits") && text.contains("pools"), "{text}");
    }
}
