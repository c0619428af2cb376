//! Replicas of two applications in one CPG group: a running group continues, and a joiner of
//! another application stops with an error that names both (rule V5).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use cpg::embedded::{LocalRing, Node};
use plainsong::{Builder, Context, ProposeError, Replica, ReplicaId, StateMachine, StopReason};

const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Counter(u64);

impl StateMachine for Counter {
    type Command = u64;
    type Output = u64;

    fn application() -> String {
        "counter".into()
    }

    fn apply(&mut self, _: &Context, add: u64) -> u64 {
        self.0 += add;
        self.0
    }

    plainsong::snapshot_by_clone!();
}

/// A state machine whose commands and state do not decode as those of the counter, and vice versa.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Diary(String);

impl StateMachine for Diary {
    type Command = String;
    type Output = usize;

    fn application() -> String {
        "diary".into()
    }

    fn apply(&mut self, _: &Context, line: String) -> usize {
        self.0 += &line;
        self.0.len()
    }

    plainsong::snapshot_by_clone!();
}

fn builder<M: StateMachine + Default>(node: &Node, id: u32, listed: &[u32]) -> Builder<M> {
    Replica::builder(ReplicaId(id), M::default())
        .transport(node.clone())
        .group("shared")
        .bootstrap(listed.iter().copied().map(ReplicaId))
        .snapshot_every(10)
        .keep_entries(1)
}

fn start<M: StateMachine + Default>(node: &Node, id: u32, listed: &[u32]) -> Replica<M> {
    builder(node, id, listed).start().unwrap()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::yield_now();
    }
}

fn add(replica: &Replica<Counter>, number: u64) -> u64 {
    loop {
        match replica.propose(number).wait_timeout(DEADLINE) {
            // The replica received the effect in a snapshot.
            Err(ProposeError::OutputLost) if number == 0 => {}
            answer => return answer.unwrap(),
        }
    }
}

fn check_rejected(intruder: &Replica<Diary>) {
    wait_until("the intruder to stop", || intruder.status().stopped.is_some());
    let reason = intruder.status().stopped.unwrap();
    assert!(matches!(reason, StopReason::OtherApplication { .. }), "{reason}");
    let text = reason.to_string();
    assert!(text.contains("\"counter\"") && text.contains("\"diary\""), "{text}");
}

#[test]
fn a_replica_of_another_application_stops_and_the_group_continues() {
    let ring = LocalRing::new();
    let nodes = [1, 2, 3].map(|_| ring.node());
    let replicas: Vec<_> =
        (1..).zip(&nodes).map(|(id, node)| start::<Counter>(node, id, &[1, 2, 3])).collect();
    assert_eq!(add(&replicas[0], 1), 1);
    let intruder = start::<Diary>(&ring.node(), 4, &[]);
    let line = intruder.propose("dear diary".into());
    wait_until("a report of the intruder", || {
        let members = replicas[0].status().members;
        members.iter().any(|member| member.to_string().contains("diary"))
    });
    check_rejected(&intruder);
    assert!(line.wait_timeout(DEADLINE).is_err());
    for (replica, sum) in replicas.iter().zip(2..) {
        assert_eq!(add(replica, 1), sum);
        assert_eq!(replica.status().stopped, None);
    }
    drop(intruder);
    wait_until("the intruder's departure", || replicas[0].status().members.len() == 3);
}

#[test]
fn another_application_with_the_id_of_a_voter_does_not_harm_the_group() {
    let folders = [1, 2].map(|_| tempfile::tempdir().unwrap());
    let ring = LocalRing::new();
    let nodes = [1, 2, 3].map(|_| ring.node());
    let open = |id: u32| {
        let index = id as usize - 1;
        let builder = builder::<Counter>(&nodes[index], id, &[1, 2]);
        builder.folder(folders[index].path()).start().unwrap()
    };
    let (first, second) = (open(1), open(2));
    (1..=25).for_each(|sum| assert_eq!(add(&first, 1), sum));
    wait_until("a snapshot", || first.status().snapshot.is_some());
    drop(second);
    // It receives neither log entries nor the snapshot, and its id does not make it a voter.
    let intruder = start::<Diary>(&nodes[2], 2, &[]);
    check_rejected(&intruder);
    drop(intruder);
    let second = open(2);
    assert_eq!(add(&second, 1), 26);
    drop((first, second));
    let (first, second) = (open(1), open(2));
    assert_eq!(add(&second, 1), 27);
    assert_eq!(add(&first, 1), 28);
}

#[test]
fn a_new_group_does_not_form_while_another_application_runs() {
    let ring = LocalRing::new();
    let running = start::<Counter>(&ring.node(), 1, &[1]);
    assert_eq!(add(&running, 1), 1);
    let intruders: Vec<_> = (2..=3).map(|id| start::<Diary>(&ring.node(), id, &[2, 3])).collect();
    intruders.iter().for_each(check_rejected);
    assert_eq!(add(&running, 1), 2);
}

#[test]
fn the_folder_of_another_application_is_rejected_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let node = LocalRing::new().node();
    let counter = builder::<Counter>(&node, 1, &[1]).folder(folder.path()).start().unwrap();
    assert_eq!(add(&counter, 1), 1);
    drop(counter);
    let refused = builder::<Diary>(&node, 1, &[1]).folder(folder.path()).start().unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("replica 1 of counter"), "{text}");
    assert!(text.contains("replica 1 of diary"), "{text}");
    let counter = builder::<Counter>(&node, 1, &[1]).folder(folder.path()).start().unwrap();
    assert_eq!(add(&counter, 1), 2);
}
