//! Simulated groups with a small number of seeds. `tests/simulate` runs many more.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};

use plainsong_tests::simulation::{Failure, run_seed, trace_seed};

/// Number of seeds. A debug build runs about ten per second.
const SEEDS: u64 = 40;

fn holds(seed: u64) {
    if let Err(Failure(what)) = run_seed(seed) {
        panic!("seed {seed}: {what}\nto trace it: tests/simulate --first {seed} --trace");
    }
}

#[test]
fn no_seed_violates_the_protocol() {
    (1000..1000 + SEEDS).for_each(holds);
}

#[test]
fn seeds_that_once_found_a_bug_pass() {
    let lines = include_str!("../simulation/seeds.txt").lines();
    let seeds = lines.filter(|line| !line.starts_with('#'));
    for line in seeds {
        let (seed, what) = line.split_once(' ').expect("a seed and its finding");
        assert!(!what.is_empty());
        holds(seed.parse().expect("a seed"));
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 5, 8] {
        let runs = [(), ()].map(|()| {
            let lines = Arc::new(Mutex::new(Vec::new()));
            let to = Arc::clone(&lines);
            let report = trace_seed(seed, move |line| to.lock().unwrap().push(line.to_owned()));
            let lines = std::mem::take(&mut *lines.lock().unwrap());
            assert!(lines.len() > 100, "only {} lines for seed {seed}", lines.len());
            (report, lines)
        });
        let [(report, lines), (again, lines_again)] = runs;
        for (line, other) in lines.iter().zip(&lines_again) {
            assert_eq!(line, other, "seed {seed}");
        }
        assert_eq!((report, lines.len()), (again, lines_again.len()), "seed {seed}");
    }
}
