//! The two text forms in which metrics are read: Prometheus text 0.0.4 and `OpenMetrics` 1.0. They differ in the name of a
//! counter's family, in escapes, units and the end mark; everything else is written once.

use std::fmt::{Display, Write as _};
use std::time::SystemTime;

use super::reading::{Kind, Reader, Reading, seconds, unit};

/// A text form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text exposition format 0.0.4.
    Text,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl Format {
    /// The form that an `Accept` header prefers; text when it names neither or there is none. Of equal weights (RFC 9110
    /// section 12.4.2) `OpenMetrics` wins.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let Some(accept) = accept else { return Self::Text };
        let (mut open, mut text) = (0.0_f32, 0.0_f32);
        for item in accept.split(',') {
            let mut parts = item.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let (mut weight, mut version) = (1.0, true);
            for part in parts {
                match part.split_once('=') {
                    Some(("q", value)) => weight = value.trim().parse().unwrap_or(0.0),
                    Some(("version", value)) => version = matches!(value.trim(), "1.0.0" | "0.0.1" | "0.0.4"),
                    _ => {}
                }
            }
            if kind.eq_ignore_ascii_case("application/openmetrics-text") && version {
                open = open.max(weight);
            } else if kind.eq_ignore_ascii_case("text/plain") {
                text = text.max(weight);
            }
        }
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Text }
    }

    /// The `Content-Type` of the form.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A page being written.
#[derive(Debug)]
pub(super) struct Page {
    format: Format,
    text: String,
    /// Of the family that is being written.
    name: &'static str,
}

impl Page {
    pub(super) fn new(format: Format) -> Self {
        Self { format, text: String::with_capacity(32 * 1024), name: "" }
    }

    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let name = self.name;
        self.put(format_args!("{name}{suffix}"));
        self.labels(labels, None);
        self.put(format_args!(" {value}\n"));
    }

    fn bucket(&mut self, labels: &[(&str, &str)], bound: Option<f64>, count: u64) {
        let name = self.name;
        self.put(format_args!("{name}_bucket"));
        // `{:?}` writes whole bounds as `1.0`, the canonical form of OpenMetrics; text readers take either.
        let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| format!("{bound:?}"));
        self.labels(labels, Some(&bound));
        self.put(format_args!(" {count}\n"));
    }

    fn labels(&mut self, labels: &[(&str, &str)], bucket: Option<&str>) {
        if labels.is_empty() && bucket.is_none() {
            return;
        }
        let mut before = '{';
        for (name, value) in labels {
            self.put(format_args!("{before}{name}=\""));
            self.escaped(value, true);
            self.text.push('"');
            before = ',';
        }
        if let Some(bound) = bucket {
            self.put(format_args!("{before}le=\"{bound}\""));
        }
        self.text.push('}');
    }

    fn escaped(&mut self, text: &str, quotes: bool) {
        for c in text.chars() {
            match c {
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '"' if quotes => self.text.push_str("\\\""),
                other => self.text.push(other),
            }
        }
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing into a String cannot fail.
        let _ = self.text.write_fmt(text);
    }
}

impl Reader for Page {
    fn family(&mut self, name: &'static str, help: &'static str, kind: Kind) {
        self.name = name;
        let open = self.format == Format::OpenMetrics;
        // OpenMetrics names a counter's family without the suffix that its samples carry.
        let family = if open && kind == Kind::Counter { name.strip_suffix("_total").unwrap_or(name) } else { name };
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.put(format_args!("# HELP {family} "));
        self.escaped(help, open);
        self.put(format_args!("\n# TYPE {family} {kind}\n"));
        if let Some(unit) = unit(name).filter(|_| open) {
            self.put(format_args!("# UNIT {family} {unit}\n"));
        }
    }

    fn series(&mut self, labels: &[(&str, &str)], _: Option<SystemTime>, reading: Reading) {
        match reading {
            Reading::Count(count) => self.sample("", labels, count),
            Reading::Level(level) => self.sample("", labels, level),
            Reading::Measured(value) => self.sample("", labels, value),
            Reading::Times(times) => {
                // The count is the sum of what was read, so that it agrees with the last bucket while others observe.
                let mut total = 0;
                for (index, count) in times.buckets.iter().enumerate() {
                    total += count;
                    self.bucket(labels, times.bounds.get(index).map(|nanos| seconds(*nanos)), total);
                }
                self.sample("_sum", labels, seconds(times.sum));
                self.sample("_count", labels, total);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_follows_the_accept_header() {
        use Format::{OpenMetrics, Text};
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;\
                          q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, form) in [
            (None, Text),
            (Some("*/*"), Text),
            (Some("text/plain"), Text),
            (Some("application/openmetrics-text"), OpenMetrics),
            (Some(prometheus), OpenMetrics),
            (Some("application/openmetrics-text;q=0.1, text/plain"), Text),
            (Some("application/openmetrics-text;q=0"), Text),
            (Some("application/openmetrics-text; version=9.0.0"), Text),
        ] {
            assert_eq!(Format::negotiate(accept), form, "{accept:?}");
        }
    }

    #[test]
    fn the_forms_differ_where_their_definitions_do() {
        let write = |format| {
            let mut page = Page::new(format);
            page.family("x_seconds_total", "A \"help\"\\ text.", Kind::Counter);
            page.series(&[("a", "q\"\\\n")], None, Reading::Count(1));
            page.finish()
        };
        assert_eq!(
            write(Format::Text),
            "# HELP x_seconds_total A \"help\"\\\\ text.\n# TYPE x_seconds_total counter\nx_seconds_total{a=\"q\\\"\\\\\\n\"} 1\n"
        );
        assert_eq!(
            write(Format::OpenMetrics),
            "# HELP x_seconds A \\\"help\\\"\\\\ text.\n# TYPE x_seconds counter\n# UNIT x_seconds seconds\n\
             x_seconds_total{a=\"q\\\"\\\\\\n\"} 1\n# EOF\n"
        );
    }
}
