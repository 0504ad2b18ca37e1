//! Figures as people read them. What was not measured is `-`, never 0.

use serde_json::Value;

use super::screen::{Tone, text_at};

/// A part of a whole, `41 %`.
pub fn percent(part: &Value) -> String {
    shown(part, |part| format!("{:.0} %", part * 100.0))
}

/// A time in milliseconds, `12.5 ms`.
pub fn millis(time: &Value) -> String {
    shown(time, |time| format!("{time:.1} ms"))
}

/// A size in bytes, `65.0 MiB`.
pub fn bytes(size: &Value) -> String {
    shown(size, |size| {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        let (mut size, mut unit) = (size, "B");
        for larger in UNITS {
            if size.abs() < 1024.0 {
                break;
            }
            (size, unit) = (size / 1024.0, larger);
        }
        if unit == "B" { format!("{size:.0} B") } else { format!("{size:.1} {unit}") }
    })
}

/// A number with no more than four places behind its point, `0.9871`; texts and truth values as they are.
pub fn plain(value: &Value) -> String {
    match value.as_f64().filter(|_| value.is_f64()) {
        Some(number) => {
            let text = format!("{number:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        None => text_at(value, ""),
    }
}

fn shown(figure: &Value, show: impl FnOnce(f64) -> String) -> String {
    figure.as_f64().map_or_else(|| "-".to_owned(), show)
}

/// What a figure should be and whether it is, `<0.8 ok`; only what it should be where nothing was measured.
pub fn target(wanted: &Value, met: &Value) -> (String, Tone) {
    let wanted = text_at(wanted, "");
    match met.as_bool() {
        _ if wanted == "-" => (wanted, Tone::Dim),
        None => (wanted, Tone::Dim),
        Some(true) => (format!("{wanted} ok"), Tone::Good),
        Some(false) => (format!("{wanted} not met"), Tone::Warn),
    }
}

/// The target that a report has for one of its fields.
pub fn target_of(report: &Value, field: &str) -> (String, Tone) {
    let of = &report["targets"][field];
    target(&of["target"], &of["met"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_unknown_is_no_number() {
        for show in [percent, millis, bytes, plain] {
            assert_eq!(show(&Value::Null), "-");
        }
        assert_eq!(
            (percent(&json!(0)), millis(&json!(0.0)), bytes(&json!(0)), plain(&json!(0.0))),
            ("0 %".into(), "0.0 ms".into(), "0 B".into(), "0".into())
        );
    }

    #[test]
    fn figures_have_units_and_few_places() {
        assert_eq!(
            (bytes(&json!(1023)), bytes(&json!(1024)), bytes(&json!(2_147_483_648_u64))),
            ("1023 B".into(), "1.0 KiB".into(), "2.0 GiB".into())
        );
        assert_eq!(
            (plain(&json!(0.987_654)), plain(&json!(41)), plain(&json!(41.0))),
            ("0.9877".into(), "41".into(), "41".into())
        );
        assert_eq!((plain(&json!("maintain")), plain(&json!(true))), ("maintain".into(), "true".into()));
    }

    #[test]
    fn a_target_is_met_or_not_or_nobody_knows() {
        let report = json!({"targets": {"a": {"target": "<1", "met": true}, "b": {"target": "<1", "met": false}, "c": {"target": "<1", "met": null}}});
        let words = ["a", "b", "c", "d"].map(|field| target_of(&report, field));
        assert_eq!(
            words,
            [
                ("<1 ok".to_owned(), Tone::Good),
                ("<1 not met".to_owned(), Tone::Warn),
                ("<1".to_owned(), Tone::Dim),
                ("-".to_owned(), Tone::Dim),
            ]
        );
    }
}
