//! The harnesses of `fuzz/` on a stable compiler: seeds are changed at random and fed to each. Without coverage to guide it a
//! run finds less than a fuzzer does, but it runs everywhere. A short run with a fixed start is part of the tests; a long
//! one, with a start of its own each time, is `./test --only fuzz`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test program through and through")]

#[path = "../fuzz/src/harness.rs"]
mod harness;
#[path = "fuzz/mutate.rs"]
mod mutate;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use harness::{TARGETS, Target};
use mutate::Mutator;

/// Inputs grow by mutation; past this they teach nothing new and cost time.
const LARGEST: usize = 4096;

fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target.seeds);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let seeds: Vec<_> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(!seeds.is_empty(), "{} holds no seeds", folder.display());
    seeds
}

/// Feeds `target` its seeds and then changed ones until `go_on` says no; returns how many inputs it took, and how many of
/// them got as far as what the harness is about.
fn feed(target: &Target, start: u64, mut go_on: impl FnMut(u64) -> bool) -> (u64, u64) {
    let mut pool = seeds(target);
    let originals = pool.len();
    let mut mutator = Mutator::new(start);
    let (mut fed, mut deep) = (0, 0);
    while go_on(fed) {
        let input = match pool.get(usize::try_from(fed).unwrap()) {
            Some(seed) if fed < originals as u64 => seed.clone(),
            _ => mutator.change(&pool, LARGEST),
        };
        let Ok(got_far) = catch_unwind(AssertUnwindSafe(|| (target.run)(&input))) else {
            let shown = String::from_utf8_lossy(&input);
            panic!("{} breaks on {} bytes (start {start}, input {fed}):\n{shown}\n{input:?}", target.name, input.len());
        };
        deep += u64::from(got_far);
        // What got far is changed further, in place of what was made before; of the rest, a little.
        if (got_far || fed % 64 == 0) && !input.is_empty() {
            if pool.len() < originals + 256 {
                pool.push(input);
            } else {
                let slot = originals + mutator.below(pool.len() - originals);
                pool[slot] = input;
            }
        }
        fed += 1;
    }
    (fed, deep)
}

#[test]
fn every_harness_holds_on_its_seeds_and_a_few_thousand_changes_of_them() {
    for target in TARGETS {
        let (fed, deep) = feed(target, 1, |fed| fed < 3_000);
        assert_eq!(fed, 3_000);
        assert!(deep > 150, "{}: only {deep} of {fed} inputs were worth anything", target.name);
    }
}

#[test]
fn a_harness_that_breaks_is_reported_with_its_input() {
    let broken = Target { name: "broken", seeds: "json", run: |data| !data.contains(&b'{') || panic!("broken") };
    let report = catch_unwind(|| feed(&broken, 1, |fed| fed < 100)).unwrap_err();
    let report = report.downcast_ref::<String>().expect("a message");
    assert!(report.contains("broken breaks on") && report.contains('{'), "{report}");
}

#[test]
#[ignore = "runs as long as FUZZ_SECONDS says; ./test --only fuzz"]
fn fuzz_for_a_while() {
    let seconds =
        std::env::var("FUZZ_SECONDS").map_or(60, |text| text.parse().expect("FUZZ_SECONDS is a number of seconds"));
    let start = std::env::var("FUZZ_START")
        .map_or_else(|_| rand::random(), |text| text.parse().expect("FUZZ_START is a number"));
    let share = Duration::from_secs(seconds) / u32::try_from(TARGETS.len()).unwrap();
    for target in TARGETS {
        let end = Instant::now() + share;
        let (fed, deep) = feed(target, start, |fed| fed % 64 != 0 || Instant::now() < end);
        println!("{}: {fed} inputs, {deep} of them deep, none broke it (FUZZ_START={start})", target.name);
        assert!(deep > 100, "too few inputs to say anything");
    }
}
