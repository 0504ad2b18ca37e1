//! What a run found, as a table and as JSON, and which promises were broken.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::scenario::Case;
use crate::simulation::Outcome;

/// One case and what came of it.
pub struct Row {
    pub case: Case,
    pub efficiency: f64,
    efficiency_of_whole: f64,
    jain_index: f64,
    false_positives: f64,
    false_negatives: f64,
    violations: u64,
    busiest_minute: Option<f64>,
    convergence: Option<f64>,
    decision: f64,
}

impl Row {
    pub fn new(case: Case, outcome: &Outcome) -> Self {
        let closeness = outcome.judge.closeness();
        let whole = outcome.judge.closeness_to_whole(&outcome.tenants);
        // Nobody asked for anything: nothing was wrong, and nothing was shown.
        let or_nothing = |ratio: Option<f64>| ratio.unwrap_or(f64::NAN);
        Self {
            case,
            efficiency: or_nothing(closeness.efficiency()),
            efficiency_of_whole: or_nothing(whole.efficiency()),
            jain_index: or_nothing(closeness.jain_index()),
            false_positives: or_nothing(closeness.wrongly_refused()),
            false_negatives: or_nothing(closeness.wrongly_given()),
            violations: outcome.judge.violations(),
            busiest_minute: outcome.busiest_minute,
            convergence: outcome.convergence,
            decision: outcome.decision,
        }
    }

    /// The efficiency that is promised.
    pub fn least(&self) -> f64 {
        if self.case.away { 0.97 } else { 0.99 }
    }

    /// Promises that it breaks, each in a sentence.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut promise = |holds: bool, what: String| {
            if !holds {
                broken.push(format!("Broken: {}: {what}", self.name()));
            }
        };
        let least = self.least();
        promise(self.efficiency > least, format!("an efficiency of {:.4}, not above {least}", self.efficiency));
        if let Some(busiest) = self.busiest_minute {
            promise(busiest <= 1.0, format!("{busiest:.4} of the capacity in one minute"));
        }
        if let Some(seconds) = self.convergence {
            promise(seconds < 1.0, format!("{seconds:.1} s until a lender had its share again"));
        }
        broken
    }

    fn name(&self) -> String {
        let Case { kind, tenants, replicas, .. } = self.case;
        format!("{}, {tenants} tenants, {replicas} replicas, board {}", kind.name(), self.board())
    }

    fn board(&self) -> &'static str {
        match (self.case.replicas, self.case.away) {
            (1, _) => "–",
            (_, false) => "there",
            (_, true) => "away",
        }
    }

    /// Its figures as text, without the time that depends on the machine.
    pub fn figures(&self) -> Vec<String> {
        let or_dash =
            |value: Option<f64>, digits: usize| value.map_or_else(|| "–".into(), |value| format!("{value:.digits$}"));
        vec![
            self.case.kind.name().into(),
            self.case.tenants.to_string(),
            self.case.replicas.to_string(),
            self.board().into(),
            format!("{:.4}", self.efficiency),
            format!("{:.4}", self.jain_index),
            format!("{:.4}", self.false_positives),
            format!("{:.4}", self.false_negatives),
            self.violations.to_string(),
            or_dash(self.busiest_minute, 4),
            or_dash(self.convergence, 1),
        ]
    }

    pub fn json(&self) -> Value {
        json!({
            "scenario": self.case.kind.name(),
            "tenants": self.case.tenants,
            "replicas": self.case.replicas,
            "board_away": self.case.away,
            "fairness_efficiency": self.efficiency,
            "efficiency_of_whole_window": self.efficiency_of_whole,
            "jain_index": self.jain_index,
            "false_positive_rate": self.false_positives,
            "false_negative_rate": self.false_negatives,
            "violations": self.violations,
            "busiest_minute_of_capacity": self.busiest_minute,
            "convergence_seconds": self.convergence,
            "decision_ns": self.decision.round(),
        })
    }
}

const COLUMNS: [&str; 12] = [
    "scenario",
    "tenants",
    "replicas",
    "board",
    "efficiency",
    "Jain",
    "false +",
    "false −",
    "violations",
    "minute/C",
    "back in s",
    "ns",
];

/// The table, as Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut lines: Vec<Vec<String>> = vec![COLUMNS.map(Into::into).into()];
    for row in rows {
        let mut line = row.figures();
        line.push(format!("{:.0}", row.decision));
        lines.push(line);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let width = *width;
            _ = if column == 0 || column == 3 {
                write!(text, "| {cell:width$} ")
            } else {
                write!(text, "| {cell:>width$} ")
            };
        }
        text.push_str("|\n");
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let (dashes, end) = ("-".repeat(width + 1), if column == 0 || column == 3 { '-' } else { ':' });
                _ = write!(text, "|{dashes}{end}");
            }
            text.push_str("|\n");
        }
    }
    text
}
