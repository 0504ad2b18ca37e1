//! The page: figures of the whole, one table, and which keys there are.

use std::cmp::Ordering;
use std::fmt::Write as _;

use serde_json::Value;

use super::super::figures::{bytes, percent};
use super::super::screen::{Table, Tone, clean, text_at};
use super::figures::{Figures, Kind, Row, Unit};
use super::keys::Key;

/// Which table is shown, and how it is sorted.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Which of [`Kind::ALL`].
    table: usize,
    sorts: [Sort; 3],
}

#[derive(Debug, Clone, Copy)]
struct Sort {
    column: usize,
    turned: bool,
    /// Rows that are above.
    above: usize,
}

impl Default for Sort {
    /// The busiest first.
    fn default() -> Self {
        Self { column: usize::MAX, turned: false, above: 0 }
    }
}

impl Sort {
    /// The column that it goes by: at first that of requests.
    fn column(self, kind: Kind) -> usize {
        let columns = kind.columns();
        let requests = columns.iter().position(|column| column.unit == Unit::Rate).unwrap_or_default();
        if self.column < columns.len() { self.column } else { requests }
    }

    /// The rows in their order. What is unknown comes last however it is turned, and equal ones by name.
    fn sorted(self, kind: Kind, rows: &[Row]) -> Vec<&Row> {
        let column = self.column(kind);
        let mut rows: Vec<&Row> = rows.iter().collect();
        rows.sort_by(|one, other| {
            let order = compare(&one[column], &other[column], self.turned);
            order.then_with(|| one[0].as_str().cmp(&other[0].as_str()))
        });
        rows
    }
}

/// Texts ascending, numbers descending.
fn compare(one: &Value, other: &Value, turned: bool) -> Ordering {
    let order = match (one, other) {
        (Value::Null, Value::Null) => return Ordering::Equal,
        (Value::Null, _) => return Ordering::Greater,
        (_, Value::Null) => return Ordering::Less,
        (Value::String(one), Value::String(other)) => one.cmp(other),
        (one, other) => other.as_f64().unwrap_or_default().total_cmp(&one.as_f64().unwrap_or_default()),
    };
    if turned { order.reverse() } else { order }
}

impl Page {
    fn kind(&self) -> Kind {
        Kind::ALL[self.table]
    }

    /// What a key does.
    pub(super) fn press(&mut self, key: Key, figures: &Figures) {
        let (kind, count) = (self.kind(), Kind::ALL.len());
        let columns = kind.columns().len();
        let last = figures.table(kind).len().saturating_sub(1);
        let sort = &mut self.sorts[self.table];
        match key {
            Key::NextTable => self.table = (self.table + 1) % count,
            Key::TableBefore => self.table = (self.table + count - 1) % count,
            Key::Right => sort.column = (sort.column(kind) + 1) % columns,
            Key::Left => sort.column = (sort.column(kind) + columns - 1) % columns,
            Key::Down => sort.above = (sort.above + 1).min(last),
            Key::Up => sort.above = sort.above.saturating_sub(1),
            Key::Turn => sort.turned = !sort.turned,
            Key::End => {}
        }
    }

    /// Lines as many and as long as fit.
    pub(super) fn render(
        &self,
        gateway: &str,
        figures: &Figures,
        trouble: Option<&str>,
        (columns, rows): (usize, usize),
    ) -> Vec<String> {
        let mut lines = head(gateway, figures);
        if let Some(trouble) = trouble {
            lines.push(Tone::Bad.paint(&format!("what is shown is old: {}", clean(trouble))));
        }
        lines.push(String::new());
        let (kind, sort) = (self.kind(), self.sorts[self.table]);
        let mut table = table(kind, figures, sort).lines().map(str::to_owned).collect::<Vec<_>>().into_iter();
        lines.extend(table.next());
        // What went out of the table while it was scrolled leaves its last row.
        let above = sort.above.min(table.len().saturating_sub(1));
        let room = rows.saturating_sub(lines.len() + 1);
        let mut body: Vec<String> = table.skip(above).take(room).collect();
        body.resize(room, String::new());
        lines.append(&mut body);
        lines.push(self.help());
        lines.truncate(rows);
        lines.iter().map(|line| cut(line, columns)).collect()
    }

    fn help(&self) -> String {
        let of =
            |kind: &Kind| if *kind == self.kind() { Tone::Good.paint(kind.name()) } else { kind.name().to_owned() };
        let tables = Kind::ALL.iter().map(of).collect::<Vec<_>>().join(" ");
        let dim = |text: &str| Tone::Dim.paint(text);
        format!("{} {tables}  {}", dim("tab:"), dim("←→: sort by  r: turn round  ↑↓: scroll  q: end"))
    }
}

/// Everything once, where nothing stays.
pub(super) fn once(gateway: &str, figures: &Figures) -> String {
    let mut out = head(gateway, figures).join("\n") + "\n";
    for kind in Kind::ALL {
        let _ = write!(out, "\n{}", table(kind, figures, Sort::default()));
    }
    out
}

fn head(gateway: &str, figures: &Figures) -> Vec<String> {
    let whole = &figures.whole;
    let at = |pointer: &str| text_at(whole, pointer);
    let window = match whole["window_seconds"].as_f64() {
        Some(seconds) => format!("rates of the last {seconds:.0} s"),
        None => figures.without.as_deref().map_or_else(|| "counting".to_owned(), clean),
    };
    let of = |name: &str| percent(&whole["resource_utilization"][name]);
    let errors = &whole["errors_per_second"];
    let mut lines = vec![
        format!("{}  {}  {}", clean(gateway), at("/at").get(11..19).unwrap_or("-"), Tone::Dim.paint(&window)),
        format!(
            "requests {}/s   errors {}   refused {}/s   people {}   sessions {}",
            rate(&whole["requests_per_second"]),
            tone(Unit::Rate, "ERR/S", errors).paint(&format!("{}/s", rate(errors))),
            rate(&whole["refused_per_second"]),
            at("/active_users"),
            at("/sessions"),
        ),
        format!(
            "servers {} in flight of {}, {} waiting, {} used   processors {}   memory {} ({})",
            at("/connection_pool/in_flight"),
            at("/connection_pool/limit"),
            at("/connection_pool/waiting"),
            percent(&whole["connection_pool"]["pool_utilization"]),
            of("cpu"),
            bytes(&whole["resource_utilization"]["memory_bytes"]),
            of("memory"),
        ),
    ];
    if whole["rate_limiting"].is_object() {
        lines.push(format!(
            "limits {} of {} requests in the last minute   banned addresses {}",
            at("/rate_limiting/used_last_minute"),
            at("/rate_limiting/global_rpm"),
            at("/rate_limiting/banned_addresses"),
        ));
    }
    lines
}

fn table(kind: Kind, figures: &Figures, sort: Sort) -> String {
    let (columns, by) = (kind.columns(), sort.column(kind));
    let mark = if sort.turned { "▴" } else { "▾" };
    let head = |(at, head): (usize, &str)| if at == by { format!("{head}{mark}") } else { head.to_owned() };
    let heads: Vec<String> = columns.iter().map(|column| column.head).enumerate().map(head).collect();
    let mut table = Table::new(&heads);
    for row in sort.sorted(kind, figures.table(kind)) {
        table.row(
            columns
                .iter()
                .zip(row)
                .map(|(column, cell)| (shown(column.unit, cell), tone(column.unit, column.head, cell))),
        );
    }
    table.render(&format!("no {}", kind.name()))
}

fn rate(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))
}

fn shown(unit: Unit, cell: &Value) -> String {
    match unit {
        Unit::Text | Unit::Count => text_at(cell, ""),
        Unit::Rate => rate(cell),
        Unit::Millis => super::super::figures::millis(cell),
        Unit::Part => percent(cell),
    }
}

/// What is to be looked at.
fn tone(unit: Unit, head: &str, cell: &Value) -> Tone {
    let some = cell.as_f64().is_some_and(|number| number > 0.0);
    match (unit, head) {
        (_, "ERR/S") if some => Tone::Bad,
        (_, "REFUSED/S" | "WAITING") if some => Tone::Warn,
        (Unit::Part, _) if cell.as_f64().is_some_and(|part| part >= 0.8) => Tone::Warn,
        _ => Tone::Plain,
    }
}

/// The first characters of a line that a terminal shows, with the styles between them.
fn cut(line: &str, most: usize) -> String {
    let (mut out, mut shown, mut style) = (String::with_capacity(line.len()), 0, false);
    for c in line.chars() {
        match c {
            '\u{1b}' => style = true,
            _ if style => style = c != 'm',
            _ if shown == most => continue,
            _ => shown += 1,
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::look::Lately;
    use super::super::scrape::Calls;
    use super::*;

    fn figures() -> Figures {
        let status = json!({
            "active_users": 2, "resource_utilization": {"cpu": null, "memory_bytes": 1_048_576, "memory": 0.5},
            "rate_limiting": {"used_last_minute": 60, "global_rpm": 10_000, "banned_addresses": 0},
            "tenants": [{"tenant_id": "acme", "active_users": 2, "sessions": 3, "requests_last_minute": 60},
                        {"tenant_id": "quiet", "active_users": 0, "sessions": 0, "requests_last_minute": 0}],
        });
        let pools = json!({"limit": 10, "in_flight": 9, "waiting": 1, "pool_utilization": 0.9,
            "pools": [{"server": "files", "limit": 10, "in_flight": 9, "waiting": 1, "pool_utilization": 0.9}]});
        let calls = |all: f64, errors: f64| Calls { all, errors, limited: 0.0, times: vec![(0.1, all)] };
        let lately = Lately {
            seconds: 10.0,
            tenants: [("acme".to_owned(), calls(100.0, 5.0))].into(),
            servers: [("files".to_owned(), calls(60.0, 5.0)), ("notes".to_owned(), calls(80.0, 0.0))].into(),
            tools: [(("files".to_owned(), "read".to_owned()), calls(60.0, 5.0))].into(),
        };
        Figures::of(&status, &pools, Some(&lately), None)
    }

    fn plain(lines: &[String]) -> Vec<String> {
        lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    #[test]
    fn a_page_has_as_many_lines_as_fit_and_none_is_too_long() {
        let (page, figures) = (Page::default(), figures());
        for size in [(1, 1), (40, 5), (80, 24), (300, 100)] {
            let lines = plain(&page.render("http://here", &figures, Some("gone"), size));
            assert_eq!(lines.len(), size.1, "{size:?}");
            assert!(lines.iter().all(|line| line.chars().count() <= size.0), "{lines:?}");
        }
        let lines = plain(&page.render("http://here", &figures, None, (120, 24)));
        assert_eq!(lines[1], "requests 10.0/s   errors 0.5/s   refused 0.0/s   people 2   sessions 3");
        assert_eq!(lines[2], "servers 9 in flight of 10, 1 waiting, 90 % used   processors -   memory 1.0 MiB (50 %)");
        assert_eq!(lines[5], "TENANT  REQ/S▾  ERR/S  REFUSED/S  P95      PEOPLE  SESSIONS  LAST MINUTE");
        assert_eq!(lines[6], "acme    10.0    0.5    0.0        95.0 ms  2       3         60");
        assert_eq!(lines[7], "quiet   0.0     0.0    0.0        -        0       0         0");
        assert!(lines[23].contains("q: end"));
    }

    #[test]
    fn keys_choose_table_column_direction_and_rows() {
        let (mut page, figures) = (Page::default(), figures());
        let first = |page: &Page| {
            let lines = plain(&page.render("http://here", &figures, None, (120, 24)));
            lines[6].split("  ").next().unwrap().to_owned()
        };
        page.press(Key::NextTable, &figures);
        assert_eq!(first(&page), "notes", "the busiest");
        page.press(Key::Turn, &figures);
        assert_eq!(first(&page), "files");
        page.press(Key::Turn, &figures);
        page.press(Key::Right, &figures);
        assert_eq!(first(&page), "files", "by errors");
        page.press(Key::Down, &figures);
        assert_eq!(first(&page), "notes", "the first row is above");
        page.press(Key::Down, &figures);
        assert_eq!(first(&page), "notes", "one row stays");
        page.press(Key::Up, &figures);
        for _ in 0..2 {
            page.press(Key::Left, &figures);
        }
        assert_eq!(first(&page), "files", "by name");
        page.press(Key::TableBefore, &figures);
        assert_eq!(first(&page), "acme");
        page.press(Key::TableBefore, &figures);
        assert_eq!(first(&page), "read");
    }

    #[test]
    fn without_rates_nothing_is_said_of_them() {
        let figures = Figures::of(
            &json!({"active_users": 0, "tenants": [{"tenant_id": "acme"}]}),
            &json!({}),
            None,
            Some("no".into()),
        );
        let text = anstream::adapter::strip_str(&once("http://here", &figures)).to_string();
        assert!(text.contains("requests -/s   errors -/s") && text.contains("acme    -       -"), "{text}");
        assert!(text.contains("  no\n") && text.contains("no tools"), "{text}");
        let nobody = Figures::of(&json!({}), &json!({}), Some(&Lately { seconds: 2.0, ..Lately::default() }), None);
        assert_eq!(
            plain(&head("http://here", &nobody))[1],
            "requests 0.0/s   errors 0.0/s   refused 0.0/s   people -   sessions 0"
        );
        let document = figures.document("http://here");
        assert_eq!((&document["requests_per_second"], &document["tenants"][0]["p95"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn a_style_goes_on_where_a_line_is_cut() {
        let line = format!("{} tail", Tone::Bad.paint("error"));
        assert!(cut(&line, 3).contains("err\u{1b}["), "{:?}", cut(&line, 3));
    }
}
