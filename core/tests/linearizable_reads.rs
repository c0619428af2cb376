//! Reads without log entries, on three replicas with their real threads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use cpg::embedded::{LocalRing, Node};
use plainsong::{Consistency, Context, ReadError, Replica, ReplicaId, Role, StateMachine};

const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Sum(u64);

impl StateMachine for Sum {
    type Command = u64;
    type Output = u64;

    fn apply(&mut self, _: &Context, add: u64) -> u64 {
        self.0 += add;
        self.0
    }

    plainsong::snapshot_by_clone!();
}

fn group() -> (Vec<Node>, Vec<Replica<Sum>>) {
    let ring = LocalRing::new();
    let nodes: Vec<_> = (0..3).map(|_| ring.node()).collect();
    let start = |(id, node): (u32, &Node)| {
        Replica::builder(ReplicaId(id), Sum::default())
            .transport(node.clone())
            .bootstrap([1, 2, 3].map(ReplicaId))
            .start()
            .unwrap()
    };
    let replicas = (1..).zip(&nodes).map(start).collect();
    (nodes, replicas)
}

fn read(replica: &Replica<Sum>, consistency: Consistency) -> Result<u64, ReadError> {
    replica.read(consistency, |sum| sum.0).wait_timeout(DEADLINE)
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::yield_now();
    }
}

#[test]
fn every_replica_reads_all_answered_commands_and_the_log_does_not_grow() {
    let (_, replicas) = group();
    for round in 1..=300 {
        let proposer = &replicas[round % 3];
        let sum = proposer.propose(1).wait_timeout(DEADLINE).unwrap();
        for replica in &replicas {
            assert_eq!(read(replica, Consistency::Linearizable), Ok(sum));
        }
    }
    // A status is up to 50 ms old.
    let last = |at: usize| replicas[at].status().last;
    wait_until("all to have the same log", || last(0) == last(1) && last(1) == last(2));
    assert!(last(0).0 < 310, "more entries than commands: {}", last(0));
}

#[test]
fn a_lone_read_does_not_wait_for_a_timer() {
    let (_, replicas) = group();
    replicas[0].propose(1).wait_timeout(DEADLINE).unwrap();
    let begun = Instant::now();
    for round in 0..200 {
        assert_eq!(read(&replicas[round % 3], Consistency::Linearizable), Ok(1));
    }
    // The shortest timer is a tick of 50 ms.
    let each = begun.elapsed() / 200;
    assert!(each < Duration::from_millis(20), "{each:?} each");
}

#[test]
fn a_read_your_writes_read_sees_unanswered_commands_proposed_before_it() {
    let (_, replicas) = group();
    let mut pending = Vec::new();
    for number in 1..=2000 {
        let replica = &replicas[1];
        pending.push((
            number,
            replica.propose(1),
            replica.read(Consistency::ReadYourWrites, |s| s.0),
        ));
    }
    for (number, proposed, read) in pending {
        let seen = read.wait_timeout(DEADLINE).unwrap();
        assert!(seen >= number, "{seen} after {number} proposals");
        assert_eq!(proposed.wait_timeout(DEADLINE), Ok(number));
    }
}

#[test]
fn without_a_majority_only_local_reads_are_answered() {
    let (nodes, replicas) = group();
    replicas[0].propose(5).wait_timeout(DEADLINE).unwrap();
    let stays = replicas.iter().position(|r| read(r, Consistency::Linearizable) == Ok(5)).unwrap();
    let others: Vec<_> = (0..3).filter(|at| *at != stays).collect();
    others.iter().for_each(|at| nodes[*at].stop());
    let alone = format!("waiting for a majority of 1 2 3: have {}", stays + 1);
    wait_until("the blocked status", || replicas[stays].status().waiting.as_ref() == Some(&alone));
    let waits = replicas[stays].read(Consistency::Linearizable, |sum| sum.0);
    assert_eq!(read(&replicas[stays], Consistency::Local), Ok(5));
    let given_up = replicas[stays].read(Consistency::Linearizable, |sum| sum.0);
    assert_eq!(given_up.wait_timeout(Duration::from_millis(50)), Err(ReadError::Timeout));
    assert_eq!(waits.wait_timeout(DEADLINE), Err(ReadError::NoMajority(alone)));
    // A read that waits when the majority returns is answered.
    let waits = replicas[stays].read(Consistency::Linearizable, |sum| sum.0);
    others.iter().for_each(|at| nodes[*at].start());
    assert_eq!(waits.wait_timeout(DEADLINE), Ok(5));
}

#[test]
fn reads_are_answered_when_the_sequencer_dies() {
    let (nodes, replicas) = group();
    replicas[0].propose(7).wait_timeout(DEADLINE).unwrap();
    let sequences = |replica: &Replica<Sum>| replica.status().role == Role::Sequencer;
    wait_until("a sequencer", || replicas.iter().any(sequences));
    let gone = replicas.iter().position(sequences).unwrap();
    let reader = &replicas[(gone + 1) % 3];
    let before: Vec<_> =
        (0..100).map(|_| reader.read(Consistency::Linearizable, |sum| sum.0)).collect();
    nodes[gone].stop();
    for pending in before {
        assert_eq!(pending.wait_timeout(DEADLINE), Ok(7));
    }
    assert_eq!(read(reader, Consistency::Linearizable), Ok(7));
}

#[test]
fn a_read_that_panics_fails_without_stopping_the_replica() {
    let (_, mut replicas) = group();
    replicas[0].propose(1).wait_timeout(DEADLINE).unwrap();
    let bad = replicas[0].read(Consistency::Linearizable, |_| -> u64 { panic!("of the reader") });
    assert_eq!(bad.wait_timeout(DEADLINE), Err(ReadError::Panicked("of the reader".into())));
    assert_eq!(read(&replicas[0], Consistency::Local), Ok(1));
    let stopped = replicas.remove(0);
    let last = stopped.read(Consistency::Local, |sum| sum.0);
    stopped.stop();
    assert!(matches!(last.wait(), Ok(1) | Err(ReadError::Lost)));
}
