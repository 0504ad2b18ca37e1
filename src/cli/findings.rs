//! What checks find: a line each, with a mark and what to do, for people as a table and for programs as a document.

use serde_json::{Value, json};

use super::Verdict;
use super::screen::{Screen, Table, Tone, clean};

/// How a check went, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// As it should be.
    Ok,
    /// It could not be looked at from here.
    NotVisible,
    /// To be looked at.
    Warn,
    /// Broken.
    Fail,
}

impl Mark {
    /// The word in documents.
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotVisible => "not_visible",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    fn shown(self) -> (&'static str, Tone) {
        match self {
            Self::Ok => ("OK", Tone::Good),
            Self::NotVisible => ("not visible", Tone::Dim),
            Self::Warn => ("WARN", Tone::Warn),
            Self::Fail => ("FAIL", Tone::Bad),
        }
    }
}

/// One line.
#[derive(Debug)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How it went.
    pub mark: Mark,
    /// What was seen.
    pub what: String,
    /// What to do; empty where there is nothing to be done.
    pub advice: String,
}

/// Lines in the order in which they were found.
#[derive(Debug, Default)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    /// Adds a line.
    pub fn say(&mut self, check: &str, mark: Mark, what: impl Into<String>, advice: impl Into<String>) {
        self.0.push(Finding { check: check.to_owned(), mark, what: what.into(), advice: advice.into() });
    }

    /// Adds a line about what is as it should be.
    pub fn fine(&mut self, check: &str, what: impl Into<String>) {
        self.say(check, Mark::Ok, what, "");
    }

    /// The first line that says that something is broken.
    pub fn broken(&self) -> Option<&Finding> {
        self.0.iter().find(|finding| finding.mark == Mark::Fail)
    }

    /// Shows them; bad when a line says FAIL.
    pub fn show(&self, screen: Screen) -> anyhow::Result<Verdict> {
        self.show_with(screen, &json!({}), "")
    }

    /// The same with more members of the document, an object, and a text for people behind the table.
    pub fn show_with(&self, screen: Screen, more: &Value, text: &str) -> anyhow::Result<Verdict> {
        let mut document = self.document();
        for (name, value) in more.as_object().into_iter().flatten() {
            document[name] = value.clone();
        }
        screen.show(&document, || self.render() + text)?;
        Ok(if self.broken().is_some() { Verdict::Bad } else { Verdict::Fine })
    }

    fn document(&self) -> Value {
        let worst = self.0.iter().map(|finding| finding.mark).max().unwrap_or(Mark::Ok);
        let check = |finding: &Finding| {
            json!({ "check": finding.check, "result": finding.mark.word(), "what": finding.what,
                "advice": Some(&finding.advice).filter(|advice| !advice.is_empty()) })
        };
        json!({ "result": worst.word(), "checks": self.0.iter().map(check).collect::<Vec<_>>() })
    }

    fn render(&self) -> String {
        let mut table = Table::new(&["", "CHECK", "WHAT"]);
        for finding in &self.0 {
            let (word, tone) = finding.mark.shown();
            let mut what = clean(&finding.what);
            if !finding.advice.is_empty() {
                what.push_str(" → ");
                what.push_str(&clean(&finding.advice));
            }
            table.row([(word.to_owned(), tone), (finding.check.clone(), Tone::Plain), (what, Tone::Plain)]);
        }
        table.render("")
    }
}
