//! A panic of the group thread stops its replica only, and every caller is answered.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::thread;
use std::time::Duration;

use common::held;
use cpg::embedded::LocalRing;
use plainsong::{
    Consistency, Context, ProposeError, ReadError, Replica, ReplicaId, StateMachine, StopReason,
};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const DEADLINE: Duration = Duration::from_secs(30);

/// A command that [`held::hold`] holds in `apply`.
const WAITS: u64 = 1;

/// A subscriber that panics in the group thread of the first replica when it reports a new ring.
struct PanicsAtRing;

impl Subscriber for PanicsAtRing {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().ends_with("group::connection")
            && thread::current().name() == Some("replica-1-group")
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        panic!("a subscriber panics on purpose");
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Last(u64);

impl StateMachine for Last {
    type Command = u64;
    type Output = ();

    fn apply(&mut self, _: &Context, command: u64) {
        if command == WAITS {
            held::pass();
        }
        self.0 = command;
    }

    plainsong::snapshot_by_clone!();
}

#[test]
fn a_panic_of_the_group_thread_answers_every_caller() {
    tracing::subscriber::set_global_default(PanicsAtRing).unwrap();
    let ring = LocalRing::new();
    let builder = Replica::builder(ReplicaId(1), Last::default());
    let replica = builder.transport(ring.node()).bootstrap([ReplicaId(1)]).start().unwrap();
    assert_eq!(replica.propose(0).wait_timeout(DEADLINE), Ok(()));

    let (gate, applies) = held::hold();
    let mut commands = vec![replica.propose(WAITS)];
    applies.recv_timeout(DEADLINE).unwrap();
    commands.extend((2..100).map(|command| replica.propose(command)));
    let reads = [Consistency::Linearizable, Consistency::Local]
        .map(|consistency| replica.read(consistency, |last| last.0));
    let removal = replica.admin().remove_voter(ReplicaId(1));
    // The ring changes, and the group thread panics.
    let second = Replica::builder(ReplicaId(2), Last::default());
    let second = second.transport(ring.node()).start().unwrap();

    removal.wait_timeout(DEADLINE).unwrap_err();
    drop(gate);
    // The apply thread still applies what it was given.
    for command in commands {
        let answer = command.wait_timeout(DEADLINE);
        let is_final =
            matches!(answer, Ok(()) | Err(ProposeError::OutcomeUnknown | ProposeError::Stopped(_)));
        assert!(is_final, "{answer:?}");
    }
    for read in reads {
        let answer = read.wait_timeout(DEADLINE);
        assert_ne!(answer, Err(ReadError::Timeout));
    }

    let late = replica.propose(100).wait_timeout(DEADLINE);
    let Err(ProposeError::Stopped(StopReason::Invariant(text))) = late else {
        panic!("not a stopped replica, but {late:?}");
    };
    assert!(text.contains("on purpose"), "{text}");
    drop((second, replica));
}
