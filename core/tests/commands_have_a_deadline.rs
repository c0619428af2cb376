//! Commands that are not answered within the proposal timeout (rule N10).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use cpg::embedded::{LocalRing, Node};
use plainsong::{Context, ProposeError, Replica, ReplicaId, Role, StateMachine};

const DEADLINE: Duration = Duration::from_secs(20);

/// Records every command in order.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Journal(Vec<u64>);

impl StateMachine for Journal {
    type Command = u64;
    type Output = Vec<u64>;

    fn apply(&mut self, _: &Context, command: u64) -> Vec<u64> {
        self.0.push(command);
        self.0.clone()
    }

    plainsong::snapshot_by_clone!();
}

fn start(node: &Node, id: u32, timeout: Duration) -> Replica<Journal> {
    Replica::builder(ReplicaId(id), Journal::default())
        .transport(node.clone())
        .group("journal")
        .bootstrap([1, 2].map(ReplicaId))
        .proposal_timeout(timeout)
        .start()
        .unwrap()
}

fn answer(replica: &Replica<Journal>, command: u64) -> Result<Vec<u64>, ProposeError> {
    replica.propose(command).wait_timeout(DEADLINE)
}

#[test]
fn an_unsent_command_is_withdrawn_and_takes_no_effect() {
    let ring = LocalRing::new();
    let (node, other) = (ring.node(), ring.node());
    let first = start(&node, 1, Duration::from_millis(100));
    let error = answer(&first, 1).unwrap_err();
    assert!(matches!(&error, ProposeError::Withdrawn(why) if why.contains("waiting")), "{error}");
    assert!(!error.may_still_take_effect());
    let second = start(&other, 2, DEADLINE);
    assert_eq!(answer(&second, 2).unwrap(), [2]);
}

#[test]
fn a_sent_command_still_takes_effect_and_its_outcome_is_unknown() {
    let ring = LocalRing::new();
    let nodes = [ring.node(), ring.node()];
    let timeout = Duration::from_secs(1);
    let replicas = [start(&nodes[0], 1, timeout), start(&nodes[1], 2, timeout)];
    let until = Instant::now() + DEADLINE;
    while answer(&replicas[0], 1).is_err() {
        assert!(Instant::now() < until, "no group has formed");
    }
    let stays = usize::from(replicas[1].status().role == Role::Sequencer);
    nodes[1 - stays].stop();
    while replicas[stays].status().waiting.is_none() {
        assert!(Instant::now() < until, "the replica does not report that it waits");
        std::thread::yield_now();
    }
    let error = answer(&replicas[stays], 7).unwrap_err();
    assert_eq!(error, ProposeError::OutcomeUnknown);
    nodes[1 - stays].start();
    loop {
        let Ok(journal) = answer(&replicas[stays], 8) else {
            assert!(Instant::now() < until, "the group does not continue");
            continue;
        };
        let places = journal.iter().filter(|command| **command == 7).count();
        assert_eq!(places, 1, "{journal:?}");
        break;
    }
}
