//! `capacity`: what of what there is is used, what runs out first and when, and what to do about it.

use std::fmt::Write as _;

use serde_json::Value;

use super::Verdict;
use super::figures::{bytes, percent, plain};
use super::gateway::Gateway;
use super::screen::{Screen, Table, Tone, clean, note, text_at};

/// Carries out `capacity`.
pub async fn run(gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    let report = gateway.get(&["admin", "capacity-status"]).await?.value;
    screen.show(&report, || render(&report))?;
    if let Some(next) = next(&report) {
        note(&next);
    }
    Ok(Verdict::Fine)
}

fn render(report: &Value) -> String {
    let recommendation = text_at(report, "/scaling_recommendation");
    let tone = match recommendation.as_str() {
        "scale_up" => Tone::Warn,
        "maintain" => Tone::Good,
        _ => Tone::Plain,
    };
    let most = text_at(report, "/bottleneck_analysis/0/resource");
    let most = if most == "-" { String::new() } else { format!(", the most of {}", clean(&most)) };
    let mut out = String::new();
    let _ = writeln!(out, "used            {}{most}", percent(&report["current_utilization"]));
    let _ = writeln!(out, "recommendation  {}\n", tone.paint(&clean(&recommendation)));
    let mut table =
        Table::new(&["RESOURCE", "USED", "LIMIT", "FREE", "EACH HOUR", "80 % IS REACHED", "AT TWICE THE LOAD"]);
    let list = |name: &str| report[name].as_array().map(Vec::as_slice).unwrap_or_default();
    for projection in list("resource_projections") {
        let resource = text_at(projection, "/resource");
        let now = list("bottleneck_analysis").iter().find(|one| one["resource"] == projection["resource"]);
        let now = now.unwrap_or(&Value::Null);
        let size = |value: &Value| if resource == "memory" { bytes(value) } else { rounded(value) };
        let used = &now["utilization"];
        table.row([
            (resource.clone(), Tone::Plain),
            (percent(used), if used.as_f64().is_some_and(|used| used > 0.8) { Tone::Warn } else { Tone::Plain }),
            (size(&now["limit"]), Tone::Plain),
            (size(&now["headroom"]), Tone::Plain),
            (slope(&projection["slope_per_hour"]), Tone::Dim),
            (text_at(projection, "/reaches_80_percent_at"), Tone::Plain),
            (size(&projection["needed_at_double_load"]), Tone::Plain),
        ]);
    }
    out.push_str(&table.render("nothing is measured yet"));
    out
}

fn rounded(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |value| plain(&((value * 10.0).round() / 10.0).into()))
}

/// How the part that is used changes.
fn slope(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |slope| format!("{:+.2} %", slope * 100.0))
}

/// What to do next.
fn next(report: &Value) -> Option<String> {
    if report["current_utilization"].is_null() {
        return Some("no process has told yet how it is; that comes each minute, or as MREG_FASTMCP_METRICS_EXPORT_INTERVAL says".into());
    }
    match report["scaling_recommendation"].as_str()? {
        "scale_up" => {
            let most = report["bottleneck_analysis"][0]["resource"].as_str()?;
            let advice = match most {
                "requests" => "raise MREG_RATE_LIMIT_GLOBAL_RPM if the servers behind can take more",
                "users" => "raise MREG_MAX_SESSIONS, or start another gateway on the same database",
                "pool" => {
                    "`mcp-gateway servers pools` says which server is busy; add replicas, or raise MREG_FASTMCP_MAX_POOL_SIZE"
                }
                "database" => "raise MREG_DATABASE_POOL_SIZE if the database can take more",
                "file_descriptors" => "raise the limit of open files (ulimit -n, LimitNOFILE=)",
                _ => "give the gateway more of it, or start another one on the same database",
            };
            Some(format!("{most} runs out first: {advice}"))
        }
        "scale_down" => {
            Some("little was used for half an hour; one process less, or a smaller machine, would do".into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_resource_is_a_row_and_what_is_unknown_is_no_number() {
        let report = json!({
            "current_utilization": 0.91, "scaling_recommendation": "scale_up",
            "bottleneck_analysis": [{"resource": "memory", "utilization": 0.91, "limit": 2_147_483_648.0, "headroom": 193_273_528.0}],
            "resource_projections": [
                {"resource": "requests", "slope_per_hour": null, "reaches_80_percent_at": null, "needed_at_double_load": null},
                {"resource": "memory", "slope_per_hour": 0.0004, "reaches_80_percent_at": "2026-08-16T02:10:00Z", "needed_at_double_load": 1_213_000_000.0},
            ],
        });
        let text = anstream::adapter::strip_str(&render(&report)).to_string();
        assert!(text.starts_with("used            91 %, the most of memory\nrecommendation  scale_up\n\n"), "{text}");
        assert!(
            text.contains("memory    91 %  2.0 GiB  184.3 MiB  +0.04 %    2026-08-16T02:10:00Z  1.1 GiB\n"),
            "{text}"
        );
        assert!(text.contains("requests  -     -        -          -          -"), "{text}");
        assert!(next(&report).unwrap().starts_with("memory runs out first: "));
    }

    #[test]
    fn what_nobody_measured_is_said_so() {
        let report = json!({"current_utilization": null, "scaling_recommendation": null, "bottleneck_analysis": [], "resource_projections": []});
        assert!(
            render(&report).contains("used            -\n") && render(&report).ends_with("nothing is measured yet\n")
        );
        assert!(next(&report).unwrap().contains("MREG_FASTMCP_METRICS_EXPORT_INTERVAL"));
    }
}
