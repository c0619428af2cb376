//! Snapshots reveal a state machine that is not deterministic, and the minority stops.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use cpg::embedded::LocalRing;
use plainsong::{Context, Replica, ReplicaId, Role, StateMachine, StopReason};
use serde::{Deserialize, Serialize};

const DEADLINE: Duration = Duration::from_secs(20);

/// Adds numbers. One replica makes an error at one number.
#[derive(Clone, Serialize, Deserialize)]
struct Sum {
    sum: u64,
    #[serde(skip)]
    slips_at: Option<u64>,
}

impl StateMachine for Sum {
    type Command = u64;
    type Output = u64;

    fn apply(&mut self, _: &Context, number: u64) -> u64 {
        self.sum += number + u64::from(self.slips_at == Some(number));
        self.sum
    }

    plainsong::snapshot_by_clone!();
}

#[test]
fn the_minority_stops_with_the_index_of_the_difference() {
    let ring = LocalRing::new();
    let replicas: Vec<_> = (1..=3)
        .map(|id| {
            let slips_at = (id == 2).then_some(30);
            Replica::builder(ReplicaId(id), Sum { sum: 0, slips_at })
                .transport(ring.node())
                .bootstrap((1..=3).map(ReplicaId))
                .snapshot_every(20)
                .start()
                .unwrap()
        })
        .collect();
    let deadline = Instant::now() + DEADLINE;
    for number in (0..).take_while(|_| replicas[1].status().role != Role::Stopped) {
        assert!(Instant::now() < deadline, "replica 2 has not stopped");
        replicas[0].propose(number).wait_timeout(DEADLINE).unwrap();
    }
    let stopped = replicas[1].status().stopped.unwrap();
    let StopReason::Diverged { index, mine, theirs } = stopped else { panic!("{stopped}") };
    assert!(index.0 % 20 == 0 && index.0 >= 30 && mine != theirs, "{index} {mine} {theirs}");
    for replica in [&replicas[0], &replicas[2]] {
        replica.propose(1).wait_timeout(DEADLINE).unwrap();
        assert_eq!(replica.status().stopped, None);
    }
}
