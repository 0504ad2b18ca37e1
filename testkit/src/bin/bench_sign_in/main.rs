//! Measures the authorization server: people signing in at once, access tokens held in memory, a flood of registrations. It starts
//! the gateway and an identity provider that costs next to nothing, and shares the processors with them; so what it says
//! is an upper bound.
#![expect(clippy::print_stdout, reason = "what was measured is printed")]

mod flood;
mod gateway;
mod provider;
mod sign_ins;
mod tokens;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};

use self::gateway::Gateway;
use self::provider::Provider;

/// Measures sign-ins, tokens and registrations of a gateway.
#[derive(Parser)]
struct Args {
    /// The gateway's binary.
    #[arg(long, default_value = "target/release/mcp-gateway")]
    gateway: PathBuf,
    /// How many people sign in.
    #[arg(long, default_value_t = 200)]
    people: usize,
    /// How many of them at any time.
    #[arg(long, default_value_t = 50)]
    at_once: usize,
    /// How many access tokens are live; 0 leaves it out.
    #[arg(long, default_value_t = 100_000)]
    tokens: usize,
    /// How many registrations flood it; 0 leaves it out.
    #[arg(long, default_value_t = 10_000)]
    registrations: u32,
    /// Within how many seconds these are sent; 0 sends as many as go.
    #[arg(long, default_value_t = 5)]
    registrations_within: u32,
    /// Print JSON only.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let folder = std::env::temp_dir().join(format!("mcp-gateway-bench-{}", std::process::id()));
    let measured = measure(&args, &folder).await;
    _ = std::fs::remove_dir_all(&folder);
    let report = measured?;
    if args.json {
        println!("{report}");
    } else {
        println!("{report:#}");
    }
    Ok(())
}

async fn measure(args: &Args, folder: &std::path::Path) -> anyhow::Result<Value> {
    let provider = Provider::start().await?;
    let mut gateway = Gateway::start(args.gateway.clone(), folder.to_owned(), &provider).await?;
    sign_ins::prepare(&gateway).await?;
    // The first of all asks the provider for its discovery document and its keys.
    sign_ins::run(&gateway, &provider, 1, 1).await?;
    let mut report = json!({ "idle_bytes": gateway.rss()? });

    let began = Instant::now();
    let took = sign_ins::run(&gateway, &provider, args.people, args.at_once).await?;
    let seconds = began.elapsed().as_secs_f64();
    let legs = sign_ins::LEGS.iter().enumerate().map(|(leg, name)| {
        let times = took.iter().map(|took| took[leg]).collect();
        ((*name).to_owned(), spread(times))
    });
    let legs: serde_json::Map<_, _> = legs.collect();
    report["sign_ins"] = json!({
        "completed": took.len(),
        "at_once": args.at_once,
        "seconds": seconds,
        "legs_ms": legs,
    });

    if args.registrations > 0 {
        let quiet = flood::quiet(&gateway, 200).await?;
        let before = gateway.rss()?;
        let began = Instant::now();
        let within = Duration::from_secs(args.registrations_within.into());
        let flood = flood::run(&gateway, args.registrations, within).await?;
        report["registrations"] = json!({
            "sent": args.registrations,
            "seconds": began.elapsed().as_secs_f64(),
            "answers": flood.statuses,
            "bytes_before": before,
            "bytes_after": gateway.rss()?,
            "others_quiet_ms": spread(quiet),
            "others_meanwhile_ms": spread(flood.others),
        });
    }

    if args.tokens > 0 {
        let tokens = tokens::give(&gateway, args.tokens).await?;
        gateway.restart().await?;
        let before = gateway.rss()?;
        tokens::show(&gateway, &tokens).await?;
        report["tokens"] = json!({
            "live": tokens.len(),
            "bytes_before": before,
            "bytes": gateway.rss()?,
        });
    }
    Ok(report)
}

/// Median, 95th percentile and maximum, milliseconds.
fn spread(mut times: Vec<Duration>) -> Value {
    times.sort_unstable();
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let index = ((times.len() as f64 * share).ceil() as usize).saturating_sub(1);
        times.get(index).map(|time| (time.as_secs_f64() * 1e5).round() / 100.0)
    };
    json!({ "p50": at(0.5), "p95": at(0.95), "max": at(1.0) })
}
