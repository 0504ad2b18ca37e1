//! The plots of the manual.

use std::path::Path;

use anyhow::Context as _;
use mcp_registry_gateway::limit::bucket::{Nanos, SECOND};

use crate::report::Row;
use crate::scenario::{Case, Change, Kind, Pattern, Plan, Tenant};
use crate::simulation::{self, STEP};
use crate::svg::{Across, Plot, Series};

/// Requests a minute in the plots over time: a thousand a second, nearly.
const CAPACITY_RPM: u32 = 60_000;
const SECONDS: u64 = 25;
/// What is drawn over time is the mean of so many steps.
const SMOOTH: usize = 5;

/// Writes all of them.
pub fn write(folder: &Path, rows: &[Row], seed: u64) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
    let plots = [
        ("return.svg", lender(seed)),
        ("weight.svg", weight(seed)),
        ("attack.svg", attack(seed)),
        ("efficiency.svg", efficiency(rows)),
    ];
    for (name, plot) in plots {
        let path = folder.join(name);
        std::fs::write(&path, plot.draw()).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn lender(seed: u64) -> Plot {
    let mut tenants = vec![Tenant::always(1.0, 600.0); 4];
    tenants[0].pattern = Pattern::Except(5 * SECOND, 15 * SECOND);
    let plan = Plan { tenants, ..plan() };
    let names = ["lends its share", "tenant 2", "tenant 3", "tenant 4"];
    over_time("A share is lent, and comes back at once", plan, &names, seed)
}

fn weight(seed: u64) -> Plot {
    let changes = vec![change(8, 0, 3.0), change(18, 0, 0.5)];
    let plan = Plan { tenants: vec![Tenant::always(1.0, 1000.0); 3], changes, ..plan() };
    over_time(
        "Weight 1, from 8 s on 3, from 18 s on 0.5",
        plan,
        &["the weight changes", "weight 1", "weight 1 too"],
        seed,
    )
}

fn attack(seed: u64) -> Plot {
    let mut tenants = vec![Tenant::always(1.0, 240.0), Tenant::always(1.0, 150.0), Tenant::always(1.0, 90.0)];
    tenants.push(Tenant { pattern: Pattern::From(8 * SECOND), ..Tenant::always(1.0, 25_000.0) });
    let plan = Plan { tenants, ..plan() };
    let names = ["asks for 240", "asks for 150", "asks for 90", "asks for 25,000"];
    over_time("A tenant asks for 100 times its share from 8 s on", plan, &names, seed)
}

fn plan() -> Plan {
    Plan { capacity_rpm: CAPACITY_RPM, seconds: SECONDS, replicas: 1, ..Plan::default() }
}

fn change(seconds: Nanos, tenant: usize, weight: f64) -> Change {
    Change { at: seconds * SECOND, tenant, weight }
}

fn over_time(title: &'static str, plan: Plan, names: &[&str], seed: u64) -> Plot {
    let outcome = simulation::run(plan, names.len(), seed);
    let a_step = STEP as f64 / 1e9;
    let series: Vec<Series> = outcome
        .steps
        .iter()
        .zip(names)
        .map(|(steps, name)| {
            let mean = |(number, steps): (usize, &[u32])| {
                let rate = f64::from(steps.iter().sum::<u32>()) / (steps.len() as f64 * a_step);
                ((number as f64 + 0.5) * SMOOTH as f64 * a_step, rate)
            };
            Series { name: (*name).into(), points: steps.chunks(SMOOTH).enumerate().map(mean).collect(), dots: false }
        })
        .collect();
    let most = series.iter().flat_map(|series| &series.points).map(|point| point.1).fold(1.0, f64::max);
    Plot {
        title,
        across: Across::Number { label: "seconds", to: SECONDS as f64 },
        up: ("requests let through a second", 0.0, (most / 200.0).ceil() * 200.0),
        series,
        marks: Vec::new(),
    }
}

fn efficiency(rows: &[Row]) -> Plot {
    let ways = [(1, false), (3, false), (10, false), (3, true), (10, true)];
    let series = ways.iter().enumerate().map(|(way, (replicas, away))| {
        let of_way = |case: &Case| case.replicas == *replicas && case.away == *away;
        let points = Kind::ALL.iter().enumerate().flat_map(|(number, kind)| {
            let x = number as f64 + (way as f64 - 2.0) * 0.14;
            let rows = rows.iter().filter(move |row| row.case.kind == *kind && of_way(&row.case));
            rows.map(move |row| (x, row.efficiency))
        });
        let name = match (replicas, away) {
            (1, _) => "one replica".into(),
            (_, false) => format!("{replicas} replicas"),
            (_, true) => format!("{replicas}, board away"),
        };
        Series { name, points: points.collect(), dots: true }
    });
    Plot {
        title: "Efficiency by scenario, with 10, 100 and 10,000 tenants",
        across: Across::Names(Kind::ALL.map(Kind::name).into()),
        up: ("fairness_efficiency", 0.96, 1.0),
        series: series.collect(),
        marks: vec![(0.99, "promised"), (0.97, "with the board away")],
    }
}
