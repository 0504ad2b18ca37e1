//! A report of whatever fields, as people read it: what stands alone as rows with targets, each list as a table below. Figures are those of
//! the API, in its units, so that they are what its description and the targets speak of.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::super::figures::{plain, target_of};
use super::super::screen::{Table, Tone, text_at};

/// What every report carries, told in one line.
const ENVELOPE: [&str; 5] = ["generated_at", "window_seconds", "scope", "instance_id", "targets"];

pub(super) fn render(report: &Value) -> String {
    let mut found = Found::default();
    for (name, value) in report.as_object().into_iter().flatten() {
        if !ENVELOPE.contains(&name.as_str()) {
            found.take(name.clone(), value);
        }
    }
    let window = match report["window_seconds"].as_u64() {
        None | Some(0) => "now".to_owned(),
        Some(seconds) => format!("of {seconds} s"),
    };
    let head = format!("{window}, {}, at {}", text_at(report, "/scope"), text_at(report, "/generated_at"));
    let mut out = format!("{}\n\n", Tone::Dim.paint(&super::super::screen::clean(&head)));
    let mut table = Table::new(&["FIELD", "VALUE", "TARGET"]);
    for (name, value) in &found.figures {
        let (target, tone) = target_of(report, name);
        let target = if target == "-" { String::new() } else { target };
        table.row([(name.clone(), Tone::Plain), (value.clone(), Tone::Plain), (target, tone)]);
    }
    out.push_str(&table.render("no figures"));
    for (name, items) in &found.lists {
        let _ = write!(out, "\n{name}{}", if items.is_empty() { ": none\n" } else { "\n" });
        if !items.is_empty() {
            out.push_str(&list(items));
        }
    }
    out
}

#[derive(Default)]
struct Found<'a> {
    figures: Vec<(String, String)>,
    lists: Vec<(String, &'a [Value])>,
}

impl<'a> Found<'a> {
    /// One field; those within it under its name.
    fn take(&mut self, name: String, value: &'a Value) {
        match value {
            Value::Object(fields) => {
                for (field, value) in fields {
                    self.take(format!("{name}.{field}"), value);
                }
            }
            Value::Array(items) if items.is_empty() || items.iter().any(Value::is_object) => {
                self.lists.push((super::super::screen::clean(&name), items));
            }
            value => self.figures.push((name, one(value))),
        }
    }
}

/// A value in one cell.
fn one(value: &Value) -> String {
    match value {
        Value::Array(items) => items.iter().map(one).collect::<Vec<_>>().join(" "),
        Value::Object(fields) => {
            let of = |(name, value): (&String, &Value)| format!("{name}: {}", one(value));
            fields.iter().map(of).collect::<Vec<_>>().join(", ")
        }
        value => plain(value),
    }
}

/// Objects as rows, under the names of all their fields.
fn list(items: &[Value]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for field in items.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if !names.contains(&field.as_str()) {
            names.push(field);
        }
    }
    let heads: Vec<String> = names.iter().map(|name| name.to_uppercase().replace('_', " ")).collect();
    let mut table = Table::new(&heads);
    for item in items {
        let tone = match item["severity"].as_str() {
            Some("critical") => Tone::Bad,
            Some("warning") => Tone::Warn,
            _ => Tone::Plain,
        };
        table.row(names.iter().map(|name| (one(&item[*name]), tone)));
    }
    table.render("")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_rows_with_their_targets_and_lists_are_tables() {
        let report = json!({
            "generated_at": "2026-07-06T09:12:44Z", "window_seconds": 300, "scope": "cluster", "instance_id": "x",
            "targets": {"accuracy.rate": {"target": "<0.01", "met": false}, "hits": {"target": ">1", "met": null}},
            "hits": null, "accuracy": {"rate": 0.5}, "by_hour": [0, 1],
            "findings": [{"severity": "critical", "what": "a"}, {"what": "\u{1b}[31mb", "advice": "c"}], "top": [],
        });
        let text = anstream::adapter::strip_str(&render(&report)).to_string();
        assert!(text.starts_with("of 300 s, cluster, at 2026-07-06T09:12:44Z\n\nFIELD"), "{text}");
        for line in [
            "hits           -      >1\n",
            "accuracy.rate  0.5    <0.01 not met\n",
            "by_hour        0 1    \n",
            "\ntop: none\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert!(text.contains("findings\n") && text.contains("critical  ") && !text.contains('\u{1b}'), "{text}");
    }
}
