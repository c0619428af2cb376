//! Groups of replicas in a simulated world: what a test run does of it. Many more seeds:
//! `tests/simulate`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};

use plainsong_tests::simulation::{Failure, run_seed, trace_seed};

/// Of which a debug build runs some ten a second.
const SEEDS: u64 = 40;

fn holds(seed: u64) {
    if let Err(Failure(what)) = run_seed(seed) {
        panic!("seed {seed}: {what}\nagain: tests/simulate --first {seed} --trace");
    }
}

#[test]
fn nothing_is_lost_and_everybody_agrees_whatever_the_seed() {
    (1000..1000 + SEEDS).for_each(holds);
}

#[test]
fn seeds_that_once_found_something_hold() {
    let lines = include_str!("../simulation/seeds.txt").lines();
    let seeds = lines.filter(|line| !line.starts_with('#'));
    for line in seeds {
        let (seed, what) = line.split_once(' ').expect("a seed and what it found");
        assert!(!what.is_empty());
        holds(seed.parse().expect("a seed"));
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 5, 8] {
        let told = [(), ()].map(|()| {
            let lines = Arc::new(Mutex::new(Vec::new()));
            let to = Arc::clone(&lines);
            let report = trace_seed(seed, move |line| to.lock().unwrap().push(line.to_owned()));
            let lines = std::mem::take(&mut *lines.lock().unwrap());
            assert!(lines.len() > 100, "something happened");
            (report, lines)
        });
        let [(report, lines), (again, lines_again)] = told;
        for (line, other) in lines.iter().zip(&lines_again) {
            assert_eq!(line, other, "seed {seed}");
        }
        assert_eq!((report, lines.len()), (again, lines_again.len()), "seed {seed}");
    }
}
