//! Types that can be encoded but not decoded. Such a command is rejected by `propose`, and such a
//! state is not accepted as a snapshot. In both cases the group continues.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::time::{Duration, Instant};

use cpg::embedded::{LocalRing, Node};
use plainsong::session::{Reply, SessionCommand, SessionError, Sessions};
use plainsong::{Consistency, Context, ProposeError, Replica, ReplicaId, StateMachine};
use serde::{Deserialize, Serialize};

const DEADLINE: Duration = Duration::from_secs(60);

/// bincode writes only the content, so the decoder cannot determine the variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Text(String),
}

/// bincode expects the field that was skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Skipping {
    add: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Serialize, Deserialize)]
enum Command {
    Add(u64),
    Untagged(Untagged),
    Skipping(Skipping),
    /// Puts a value into the state that cannot be decoded.
    Spoil,
    /// Removes it again.
    Mend,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Counter {
    sum: u64,
    spoilt: Option<Untagged>,
}

impl StateMachine for Counter {
    type Command = Command;
    type Output = u64;

    fn apply(&mut self, _: &Context, command: Command) -> u64 {
        match command {
            Command::Add(add) => self.sum += add,
            Command::Untagged(Untagged::Number(add)) => self.sum += add,
            Command::Untagged(Untagged::Text(_)) => {}
            Command::Skipping(skipping) => self.sum += skipping.add,
            Command::Spoil => self.spoilt = Some(Untagged::Number(1)),
            Command::Mend => self.spoilt = None,
        }
        self.sum
    }

    plainsong::snapshot_by_clone!();
}

fn start<M: StateMachine>(node: &Node, id: u32, machine: M) -> plainsong::Builder<M> {
    Replica::builder(ReplicaId(id), machine)
        .transport(node.clone())
        .group("unreadable")
        .bootstrap([1, 2, 3].map(ReplicaId))
        .snapshot_every(10)
        .keep_entries(1)
}

fn add(replica: &Replica<Counter>, number: u64) -> u64 {
    replica.propose(Command::Add(number)).wait_timeout(DEADLINE).unwrap()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::yield_now();
    }
}

#[test]
fn an_unreadable_command_is_rejected_and_the_group_continues() {
    let ring = LocalRing::new();
    let nodes = [1, 2, 3].map(|_| ring.node());
    let replicas: Vec<_> = (1..)
        .zip(&nodes)
        .map(|(id, node)| start(node, id, Counter::default()).start().unwrap())
        .collect();
    assert_eq!(add(&replicas[0], 1), 1);
    let unreadable = || {
        [
            Command::Untagged(Untagged::Number(7)),
            Command::Untagged(Untagged::Text("seven".into())),
            Command::Skipping(Skipping { add: 7, note: None }),
        ]
    };
    for command in unreadable() {
        let refused = replicas[1].propose(command).wait_timeout(DEADLINE).unwrap_err();
        assert!(matches!(refused, ProposeError::Unreadable { .. }), "{refused}");
        assert!(!refused.may_still_take_effect());
        let text = refused.to_string();
        assert!(text.contains("Command") && text.contains("skip_serializing_if"), "{text}");
    }
    for command in unreadable() {
        let pending = replicas[2].try_propose(command).unwrap();
        let refused = pending.wait_timeout(DEADLINE).unwrap_err();
        assert!(matches!(refused, ProposeError::Unreadable { .. }), "{refused}");
    }
    let whole = Command::Skipping(Skipping { add: 2, note: Some("two".into()) });
    assert_eq!(replicas[1].propose(whole).wait_timeout(DEADLINE), Ok(3));
    for (replica, sum) in replicas.iter().zip(4..) {
        assert_eq!(add(replica, 1), sum);
    }
}

#[test]
fn a_replica_with_an_unreadable_state_keeps_its_log_and_can_restart() {
    let folder = tempfile::tempdir().unwrap();
    let ring = LocalRing::new();
    let node = ring.node();
    let open = || {
        let alone = start(&node, 1, Counter::default()).bootstrap([ReplicaId(1)]);
        alone.folder(folder.path()).start().unwrap()
    };
    let replica = open();
    replica.propose(Command::Spoil).wait_timeout(DEADLINE).unwrap();
    (1..=40).for_each(|sum| assert_eq!(add(&replica, 1), sum));
    wait_until("a rejected snapshot", || replica.status().snapshot_refused.is_some());
    let refused = replica.status().snapshot_refused.unwrap();
    assert!(refused.contains("Counter"), "{refused}");
    assert_eq!(replica.status().snapshot, None);
    drop(replica);
    let replica = open();
    assert_eq!(add(&replica, 1), 41);
    // Once the state can be decoded again, a snapshot is taken and the status is cleared.
    replica.propose(Command::Mend).wait_timeout(DEADLINE).unwrap();
    wait_until("a snapshot", || {
        add(&replica, 1);
        let status = replica.status();
        status.snapshot.is_some() && status.snapshot_refused.is_none()
    });
    let sum = add(&replica, 1);
    drop(replica);
    assert_eq!(add(&open(), 1), sum + 1);
}

/// A state machine whose outputs cannot be decoded.
struct Answering;

impl StateMachine for Answering {
    type Command = u64;
    type Output = Untagged;
    type Snapshot = ();

    fn apply(&mut self, _: &Context, command: u64) -> Untagged {
        Untagged::Number(command)
    }

    fn snapshot(&self) {}

    fn restore(&mut self, _: &mut dyn io::Read) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_unreadable_output_of_a_session_is_returned_once() {
    let node = LocalRing::new().node();
    let machine = Sessions::new(Answering);
    let replica = start(&node, 1, machine).bootstrap([ReplicaId(1)]).start().unwrap();
    let opened = replica.propose(SessionCommand::Open).wait_timeout(DEADLINE).unwrap();
    let Ok(Reply::Opened(mut session)) = opened else { panic!("{opened:?}") };
    let command = session.command(5);
    let first = replica.propose(command.clone()).wait_timeout(DEADLINE).unwrap();
    assert_eq!(first, Ok(Reply::Output(Untagged::Number(5))));
    let again = replica.propose(command).wait_timeout(DEADLINE).unwrap();
    assert_eq!(again, Err(SessionError::OutputLost));
    let count = replica.read(Consistency::Local, Sessions::count).wait_timeout(DEADLINE);
    assert_eq!(count, Ok(1));
}
