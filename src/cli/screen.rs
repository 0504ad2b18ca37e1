//! What a command shows: tables and lines for people on standard output, or, under `--json`, one JSON document and nothing
//! else. Notes and progress go to standard error. Colours follow the terminal and `NO_COLOR`. Text that came from a server is
//! cleaned before a terminal sees it, so that no server can send escape sequences to it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

/// Where a command writes.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    json: bool,
}

impl Screen {
    /// A screen for people, or for programs when `json`.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether one JSON document is wanted.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Shows `value` under `--json`, else what `human` makes.
    pub fn show(self, value: &Value, human: impl FnOnce() -> String) -> std::io::Result<()> {
        if self.json {
            let mut out = std::io::stdout().lock();
            serde_json::to_writer_pretty(&mut out, value)?;
            out.write_all(b"\n")?;
            out.flush()
        } else {
            self.print(&human())
        }
    }

    /// The same in one line, for a command that goes on.
    pub fn say(self, value: &Value, human: impl FnOnce() -> String) -> std::io::Result<()> {
        if self.json {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{value}")?;
            out.flush()
        } else {
            self.print(&human())
        }
    }

    /// Writes `text` to standard output, for people only; colours are taken out when it is no terminal.
    pub fn print(self, text: &str) -> std::io::Result<()> {
        if self.json {
            return Ok(());
        }
        let mut out = anstream::stdout().lock();
        out.write_all(text.as_bytes())?;
        if !text.is_empty() && !text.ends_with('\n') {
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Standard error draws only when it is a terminal; a program that reads JSON is spared it there too.
    fn progress(self) -> ProgressDrawTarget {
        if self.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() }
    }

    /// A bar over `length` steps, on standard error and only on a terminal.
    pub fn steps(self, length: usize, label: &str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(length as u64), self.progress());
        if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:24}] {pos}/{len} {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(label.to_owned());
        bar
    }

    /// A spinner for work of unknown length, on standard error and only on a terminal.
    pub fn wait(self, label: &str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(None, self.progress());
        // Without a template of its own it would be drawn as a bar.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
            bar.set_style(style);
        }
        bar.set_message(label.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }
}

/// One line on standard error. Nothing can be done about a standard error that is closed.
pub fn note(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// `text` on one line without control characters, direction marks included: what a server may show on a terminal.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            c if is_unsafe(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// The same, keeping line breaks and tabs.
pub fn clean_block(text: &str) -> String {
    text.chars().map(|c| if !matches!(c, '\n' | '\t') && is_unsafe(c) { '\u{fffd}' } else { c }).collect()
}

fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most `most` characters of `text`, with an ellipsis where it was cut.
pub fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// How a cell is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// Good.
    Good,
    /// To be looked at.
    Warn,
    /// Broken.
    Bad,
    /// Of less weight.
    Dim,
}

impl Tone {
    /// The style of the tone.
    pub fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warn => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Dim => Style::new().dimmed(),
        }
    }

    /// `text` in the style of the tone.
    pub fn paint(self, text: &str) -> String {
        let style = self.style();
        format!("{style}{text}{style:#}")
    }
}

/// Rows of cells under headings, in columns as wide as their widest cell.
#[derive(Debug)]
pub struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<(String, Tone)>>,
}

impl Table {
    /// An empty table.
    pub fn new<T: ToString>(heads: &[T]) -> Self {
        Self { heads: heads.iter().map(T::to_string).collect(), rows: Vec::new() }
    }

    /// Adds a row; each cell is cleaned.
    pub fn row(&mut self, cells: impl IntoIterator<Item = (String, Tone)>) {
        self.rows.push(cells.into_iter().map(|(text, tone)| (clean(&text), tone)).collect());
    }

    /// The table, or `empty` when it has no rows.
    pub fn render(&self, empty: &str) -> String {
        if self.rows.is_empty() {
            return format!("{empty}\n");
        }
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|(text, _)| text.chars().count());
            cells.chain([self.heads[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let mut out = String::new();
        let heads: Vec<_> = self.heads.iter().map(|head| (clean(head), Tone::Dim)).collect();
        for row in std::iter::once(&heads).chain(&self.rows) {
            for (column, (text, tone)) in row.iter().enumerate() {
                let last = column + 1 == row.len();
                let room = if last { 0 } else { widths[column] - text.chars().count() + 2 };
                let _ = write!(out, "{}{:room$}", tone.paint(text), "");
            }
            out.push('\n');
        }
        out
    }
}

/// The text at a JSON pointer of `value`; a number or truth value as written; `-` when there is none.
pub fn text_at(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_cells_are_cleaned() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.row([("files".to_owned(), Tone::Plain), ("ready".to_owned(), Tone::Good)]);
        table.row([("a\u{1b}[31m\nb".to_owned(), Tone::Plain), ("x".to_owned(), Tone::Bad)]);
        let text = anstream::adapter::strip_str(&table.render("none")).to_string();
        assert_eq!(text, "NAME      STATE\nfiles     ready\na\u{fffd}[31m b  x\n");
        assert_eq!(Table::new(&["NAME"]).render("no servers yet"), "no servers yet\n");
    }

    #[test]
    fn a_long_text_is_cut_with_an_ellipsis() {
        assert_eq!(shorten("abcdef", 6), "abcdef");
        assert_eq!(shorten("abcdefg", 6), "abcde…");
    }
}
