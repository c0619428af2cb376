//! What a replica keeps in memory is bounded by bytes, and who is too slow lags.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use common::ledger::{DEADLINE, wait_until};
use cpg::embedded::{Node, Ring};
use plainsong::{Builder, Busy, Context, Replica, ReplicaId, StateMachine};
use plainsong_storage::{
    LogStore, MemoryLog, MemorySnapshots, Op, Record, Recovered, StorageError,
};

const LARGE: usize = 900_000;

/// Counts the bytes it is given.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Sink(u64);

impl StateMachine for Sink {
    type Command = bytes::Bytes;
    type Output = u64;

    fn apply(&mut self, _: &Context, command: bytes::Bytes) -> u64 {
        self.0 += command.len() as u64;
        self.0
    }

    plainsong::snapshot_by_clone!();
}

fn large() -> bytes::Bytes {
    vec![7; LARGE].into()
}

fn builder(node: &Node, id: u32) -> Builder<Sink> {
    let builder = Replica::builder(ReplicaId(id), Sink::default()).engine(node.clone());
    builder.group("sink").bootstrap([1, 2, 3].map(ReplicaId))
}

#[test]
fn commands_that_nobody_takes_wait_outside() {
    let ring = Ring::new();
    let one = builder(&ring.node(), 1).start().unwrap();
    // There is no group yet.
    let mut taken = 0;
    let refused = loop {
        match one.try_propose(large()) {
            Ok(pending) => drop(pending),
            Err(Busy(command)) => break command,
        }
        taken += 1;
        assert!(taken < 40, "36 MB are taken in");
    };
    assert!(refused == large(), "the command comes back");
    thread::scope(|scope| {
        let waits = scope.spawn(|| one.propose(large()).wait_timeout(DEADLINE));
        let others = [2, 3].map(|id| builder(&ring.node(), id).start().unwrap());
        let sum = waits.join().unwrap().unwrap();
        assert_eq!(sum, (taken + 1) * LARGE as u64);
        drop(others);
    });
}

/// A log whose disk stands still as long as a test wants it.
struct Stalling {
    log: MemoryLog,
    stalls: Arc<(Mutex<bool>, Condvar)>,
}

impl LogStore for Stalling {
    fn recover(&mut self, from: u64) -> Result<Recovered, StorageError> {
        self.log.recover(from)
    }

    fn read(&mut self, first: u64, bytes_max: usize) -> Result<Vec<Record>, StorageError> {
        self.log.read(first, bytes_max)
    }

    fn write(&mut self, ops: Vec<Op>) -> Result<(), StorageError> {
        let (stalls, changed) = &*self.stalls;
        let lock = stalls.lock().unwrap();
        drop(changed.wait_timeout_while(lock, DEADLINE, |stalls| *stalls).unwrap());
        self.log.write(ops)
    }
}

#[test]
fn a_replica_whose_disk_stands_still_lags_and_catches_up() {
    let ring = Ring::new();
    let stalls = Arc::new((Mutex::new(false), Condvar::new()));
    let [one, _two] = [1, 2].map(|id| builder(&ring.node(), id).start().unwrap());
    let log = Stalling { log: MemoryLog::new(), stalls: Arc::clone(&stalls) };
    let three = builder(&ring.node(), 3).stores(log, MemorySnapshots::new()).start().unwrap();
    one.propose(large()).wait_timeout(DEADLINE).unwrap();
    *stalls.0.lock().unwrap() = true;
    for _ in 0..120 {
        one.propose(large()).wait_timeout(DEADLINE).unwrap();
    }
    wait_until("a word on what it waits for", || {
        three.status().waiting.is_some_and(|waiting| waiting.contains("for the disk"))
    });
    let last = three.status().last.0;
    assert!(last < 100, "{last} entries of 900 kB are taken in by a disk that stands still");
    *stalls.0.lock().unwrap() = false;
    stalls.1.notify_all();
    wait_until("it to have caught up", || three.status().applied == one.status().committed);
    assert_eq!(three.propose(large()).wait_timeout(DEADLINE).unwrap(), 122 * LARGE as u64);
}
