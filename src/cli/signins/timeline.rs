//! One attempt as people read it: who and what, its steps with the time between them, where it stopped, and what to do.

use std::fmt::Write as _;

use serde_json::Value;

use super::super::screen::{Table, Tone, clean, text_at};
use super::{client, moment};

/// How an outcome is coloured.
pub(super) fn tone(outcome: &str) -> Tone {
    match outcome {
        "success" => Tone::Good,
        "failure" => Tone::Bad,
        "abandoned" => Tone::Warn,
        _ => Tone::Plain,
    }
}

/// The whole of it.
pub(super) fn render(view: &Value) -> String {
    let outcome = text_at(view, "/outcome");
    let mut out =
        format!("{}, {}\n", tone(&outcome).paint(&outcome.replace('_', " ")), moment(&text_at(view, "/started_at")));
    for (name, text) in
        [("program", client(view)), ("client id", text_at(view, "/client_id")), ("person", text_at(view, "/username"))]
    {
        if text != "-" {
            let _ = writeln!(out, "{} {}", Tone::Dim.paint(&format!("{name:<9}")), clean(&text));
        }
    }
    out.push('\n');
    out.push_str(&steps(view, &outcome));
    if let Some(advice) = view["advice"].as_str() {
        let _ = writeln!(out, "\nwhat to do: {}", clean(advice));
    }
    out
}

fn steps(view: &Value, outcome: &str) -> String {
    let mut table = Table::new(&["", "AFTER", "STEP", "WHAT"]);
    let mut guessed = false;
    for step in view["steps"].as_array().into_iter().flatten() {
        let missing = step["reason"] == "never_came";
        let (mark, tone) = match (step["ok"] == true, missing) {
            (true, _) => ("ok", Tone::Good),
            (false, true) => ("never", Tone::Warn),
            (false, false) => ("FAILED", Tone::Bad),
        };
        let inferred = step["inferred"] == true;
        guessed |= inferred;
        let name = format!("{}{}", text_at(step, "/step"), if inferred { "?" } else { "" });
        let after = if missing { "-".to_owned() } else { lasted(step["after_ms"].as_i64().unwrap_or_default()) };
        let reason = match text_at(step, "/reason").as_str() {
            "-" | "never_came" => String::new(),
            reason => format!("{reason}: "),
        };
        let what = format!("{reason}{}", text_at(step, "/detail"));
        table.row([(mark.to_owned(), tone), (after, Tone::Dim), (name, Tone::Plain), (what, Tone::Plain)]);
    }
    if outcome == "under_way" && view["stopped_at"].is_object() {
        let cells = [("waits", Tone::Warn), ("-", Tone::Dim)].map(|(text, tone)| (text.to_owned(), tone));
        let more =
            [text_at(view, "/stopped_at/step"), text_at(view, "/stopped_at/what")].map(|text| (text, Tone::Plain));
        table.row(cells.into_iter().chain(more));
    }
    let mut text = table.render("no steps");
    if guessed {
        text.push_str("? came from the same address shortly before, and may be another program's\n");
    }
    text
}

/// A time in the unit that suits it.
fn lasted(milliseconds: i64) -> String {
    match milliseconds {
        ..1_000 => format!("{milliseconds} ms"),
        1_000..120_000 => format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        120_000..7_200_000 => format!("{} min", milliseconds / 60_000),
        _ => format!("{} h", milliseconds / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(view: &Value) -> String {
        anstream::adapter::strip_str(&render(view)).to_string()
    }

    #[test]
    fn steps_stand_in_a_line_of_time_with_the_one_that_never_came() {
        let text = shown(&json!({
            "outcome": "abandoned", "client_name": "Editor\u{1b}[2J", "client_id": "mcpg_dc_x…", "username": null,
            "started_at": "2026-01-31T08:00:00.5Z", "advice": "Register the redirect URI.",
            "stopped_at": {"step": "callback", "what": "x", "reason": "never_came"},
            "steps": [
                {"step": "metadata", "ok": true, "detail": "read", "inferred": true, "after_ms": 0},
                {"step": "account", "ok": false, "detail": "no", "reason": "wrong_password", "after_ms": 1_250},
                {"step": "callback", "ok": false, "detail": "never came back", "reason": "never_came", "after_ms": 660_000},
            ],
        }));
        assert_eq!(
            text,
            "abandoned, 2026-01-31T08:00:00Z\nprogram   Editor\u{fffd}[2J\nclient id mcpg_dc_x…\n\n\
             \x20       AFTER  STEP       WHAT\n\
             ok      0 ms   metadata?  read\n\
             FAILED  1.2 s  account    wrong_password: no\n\
             never   -      callback   never came back\n\
             ? came from the same address shortly before, and may be another program's\n\n\
             what to do: Register the redirect URI.\n"
        );
    }

    #[test]
    fn what_is_waited_for_stands_at_the_end() {
        let text = shown(&json!({
            "outcome": "under_way", "started_at": "2026-01-31T08:00:00Z", "steps": [],
            "stopped_at": {"step": "consent", "what": "not yet: the person never answered", "reason": "awaited"},
        }));
        assert!(text.ends_with("waits  -      consent  not yet: the person never answered\n"), "{text}");
    }
}
