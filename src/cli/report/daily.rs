//! The daily report as a table.

use std::fmt::Write as _;

use serde_json::Value;

use super::super::figures::{plain, target};
use super::super::screen::{Table, Tone, clean, text_at};

pub(super) fn render(report: &Value) -> String {
    let (before, today) = (text_at(report, "/yesterday"), text_at(report, "/today"));
    let mut table = Table::new(&["FIGURE", "TARGET", &before, "", &today, "", "CHANGE"]);
    for kpi in report["kpis"].as_array().into_iter().flatten() {
        let of = |day: &str| {
            let (word, tone) = met(&kpi[day]["met"]);
            [(plain(&kpi[day]["value"]), tone), (word.to_owned(), tone)]
        };
        let (wanted, _) = target(&kpi["target"], &Value::Null);
        let change = kpi["change"].as_f64().map_or_else(|| "-".to_owned(), |change| format!("{change:+.4}"));
        let first = [(text_at(kpi, "/name").replace('_', " "), Tone::Plain), (wanted, Tone::Dim)];
        table.row(first.into_iter().chain(of("yesterday")).chain(of("today")).chain([(change, Tone::Dim)]));
    }
    let mut out = table.render("no figure is told");
    let incidents = report["incidents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let _ = writeln!(out, "\nincidents{}", if incidents.is_empty() { ": none that is known" } else { "" });
    for incident in incidents {
        let of = |name: &str| clean(&text_at(incident, name));
        let _ = writeln!(out, "  {} to {}  {}", of("/from"), of("/until"), of("/what"));
    }
    out
}

fn met(met: &Value) -> (&'static str, Tone) {
    match met.as_bool() {
        None => ("", Tone::Plain),
        Some(true) => ("ok", Tone::Good),
        Some(false) => ("not met", Tone::Warn),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_of_both_days_are_told_with_what_they_should_be() {
        let report = json!({
            "yesterday": "2026-07-05", "today": "2026-07-06",
            "kpis": [
                {"name": "uptime", "target": ">0.999", "yesterday": {"value": 0.8, "met": false}, "today": {"value": 1.0, "met": true}, "change": 0.2},
                {"name": "tenants_active", "target": null, "yesterday": {"value": null, "met": null}, "today": {"value": 3.0, "met": null}, "change": null},
            ],
            "incidents": [{"kind": "ban", "what": "203.0.113.9/32 was banned", "from": "2026-07-06T03:11:09Z", "until": "2026-07-06T04:11:09Z"}],
        });
        let text = anstream::adapter::strip_str(&render(&report)).to_string();
        assert_eq!(
            text,
            "FIGURE          TARGET  2026-07-05           2026-07-06      CHANGE\n\
             uptime          >0.999  0.8         not met  1           ok  +0.2000\n\
             tenants active  -       -                    3               -\n\
             \nincidents\n  2026-07-06T03:11:09Z to 2026-07-06T04:11:09Z  203.0.113.9/32 was banned\n"
        );
        assert!(render(&json!({})).ends_with("incidents: none that is known\n"));
    }
}
