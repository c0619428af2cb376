//! A replica that restores a snapshot.

use lock::LockMachine;
use lock::command::{Command, Output, SessionEvent};
use plainsong::snapshot::Snapshot;
use plainsong::{Context, Index, StateMachine, Timestamp};
use tokio::sync::mpsc;

use super::{TRY, name, run};

#[test]
fn a_restored_replica_has_the_same_locks_and_notifies_its_server() {
    let (sender, mut events) = mpsc::channel(16);
    let context = |time| Context::new(Index(1), Timestamp(time)).proposed_by(run(1));
    let acquire = |session| Command::Acquire { session, name: name("a"), terms: TRY };
    let mut one = LockMachine::new(sender.clone());
    assert_eq!(one.apply(&context(5), acquire(1)), Output::Granted(5));
    let mut bytes = Vec::new();
    one.snapshot().write(&mut bytes).unwrap();
    let mut other = LockMachine::new(sender);
    other.restore(&mut &bytes[..]).unwrap();
    assert_eq!(events.try_recv(), Ok(SessionEvent::Restored));
    assert_eq!(other.apply(&context(6), acquire(2)), Output::Taken);
    let release = Command::Release { session: 1, name: name("a") };
    assert_eq!(other.apply(&context(7), release), Output::Done(1));
    assert_eq!(
        other.apply(&context(5), acquire(2)),
        Output::Granted(6),
        "the last token is part of the snapshot"
    );
}
