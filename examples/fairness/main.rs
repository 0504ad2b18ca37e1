//! Simulates the fair limiter and says how fair it is: every scenario with 10, 100 and 10,000 tenants, on one replica and on several,
//! with the board between them and with it away. Ends with an error if a promise is broken. `docs/fairness.md` explains the table.
//!
//! `cargo run --release --example fairness`

#![expect(clippy::print_stdout, reason = "what was found is printed")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and moments of some minutes"
)]

mod dice;
mod judge;
mod plots;
mod report;
mod scenario;
mod simulation;
mod svg;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use self::report::Row;
use self::scenario::{Case, Kind};

/// Simulates the fair limiter and checks what it promises. Without arguments it takes about two minutes on two processors.
#[derive(Parser)]
struct Args {
    /// Ten tenants on one replica and on three, in some seconds.
    #[arg(long)]
    quick: bool,
    /// Only this scenario, also where it takes minutes; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Kind>,
    /// How many tenants; may be given several times. Without it 10, 100 and 10,000.
    #[arg(long)]
    tenants: Vec<usize>,
    /// How many replicas; may be given several times. Without it 1, 3 and 10.
    #[arg(long)]
    replicas: Vec<usize>,
    /// The same seed gives the same figures, but for the time that decisions take.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Write plots to this folder, as SVG.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

impl Args {
    /// Whether it was asked for what takes long.
    fn takes_long(&self) -> bool {
        !self.only.is_empty()
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let rows = run(&args);
    if let Some(folder) = &args.plots {
        plots::write(folder, &rows, args.seed)?;
    }
    let broken: Vec<String> = rows.iter().flat_map(Row::broken).collect();
    if args.json {
        println!("{:#}", json!({ "rows": rows.iter().map(Row::json).collect::<Vec<_>>(), "broken": broken }));
    } else {
        print!("{}", report::table(&rows));
        for promise in &broken {
            println!("{promise}");
        }
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs all cases, as many at once as there are processors.
fn run(args: &Args) -> Vec<Row> {
    let cases = cases(args);
    let bar = ProgressBar::new(cases.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:24}] {pos}/{len} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix("Simulating");
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Relaxed)) {
                    bar.set_message(case.kind.name());
                    let seconds = case.seconds();
                    let row = Row::new(*case, &simulation::run(case.plan(seconds, args.seed), 0, args.seed));
                    rows.lock().unwrap_or_else(PoisonError::into_inner).push(row);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_unstable_by_key(|row| row.case);
    rows
}

/// All cases; those which take long first, so that no processor is idle at the end.
fn cases(args: &Args) -> Vec<Case> {
    fn or<T: Copy>(chosen: &[T], all: &[T]) -> Vec<T> {
        if chosen.is_empty() { all.to_vec() } else { chosen.to_vec() }
    }
    let few = args.quick;
    let mut cases = Vec::new();
    for kind in or(&args.only, &Kind::ALL) {
        for tenants in or(&args.tenants, if few { &[10] } else { &[10, 100, 10_000] }) {
            for replicas in or(&args.replicas, if few { &[1, 3] } else { &[1, 3, 10] }) {
                let ways: &[bool] = if replicas > 1 { &[false, true] } else { &[false] };
                let more = ways.iter().map(|away| Case { kind, tenants, replicas, away: *away });
                cases.extend(more.filter(|case| args.takes_long() || !case.takes_long()));
            }
        }
    }
    cases.sort_by_key(|case| std::cmp::Reverse(case.effort()));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_breaks_no_promise() {
        let rows = run(&Args::parse_from(["fairness", "--quick"]));
        assert_eq!(rows.len(), 18);
        assert_eq!(rows.iter().flat_map(Row::broken).collect::<Vec<_>>(), [""; 0], "{}", report::table(&rows));
    }

    #[test]
    fn the_same_seed_gives_the_same_figures() {
        let args = Args::parse_from(["fairness", "--only", "attack", "--tenants", "10", "--replicas", "3"]);
        let figures = || run(&args).iter().map(Row::figures).collect::<Vec<_>>();
        assert_eq!(figures(), figures());
    }
}
