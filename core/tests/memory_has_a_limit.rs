//! The memory of a replica is bounded in bytes, and a slow replica lags instead of growing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use common::ledger::{DEADLINE, wait_until};
use cpg::embedded::{LocalRing, Node};
use plainsong::{
    Builder, Consistency, Context, Index, Overloaded, Replica, ReplicaId, StateMachine,
};
use plainsong_storage::{
    LogOp, LogStore, MemoryLog, MemorySnapshots, Record, StorageError, StoredLog,
};

const LARGE: usize = 900_000;

/// Counts the bytes of its commands.
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
    let builder = Replica::builder(ReplicaId(id), Sink::default()).transport(node.clone());
    builder.group("sink").bootstrap([1, 2, 3].map(ReplicaId))
}

#[test]
fn proposals_wait_outside_a_full_queue() {
    let ring = LocalRing::new();
    let one = builder(&ring.node(), 1).start().unwrap();
    // There is no group yet, so the queue fills.
    let mut taken = 0;
    let refused = loop {
        match one.try_propose(large()) {
            Ok(pending) => drop(pending),
            Err(Overloaded(command)) => break command,
        }
        taken += 1;
        assert!(taken < 40, "the queue took 36 MB");
    };
    assert!(refused == large(), "the command was not returned");
    thread::scope(|scope| {
        let waits = scope.spawn(|| one.propose(large()).wait_timeout(DEADLINE));
        let others = [2, 3].map(|id| builder(&ring.node(), id).start().unwrap());
        let sum = waits.join().unwrap().unwrap();
        assert_eq!(sum, (taken + 1) * LARGE as u64);
        drop(others);
    });
}

/// Stores all commands.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Hoard(Vec<bytes::Bytes>);

impl StateMachine for Hoard {
    type Command = bytes::Bytes;
    type Output = ();

    fn apply(&mut self, _: &Context, command: bytes::Bytes) {
        self.0.push(command);
    }

    plainsong::snapshot_by_clone!();
}

#[test]
fn a_lagging_replica_receives_entries_from_the_store() {
    // These are more than the 64 MiB that stay in memory, in a store that can be read back. A
    // snapshot would not be smaller.
    const COMMANDS: usize = 80;
    let ring = LocalRing::new();
    let start = |id: u32, voters: &[u32]| {
        let builder = Replica::builder(ReplicaId(id), Hoard::default()).transport(ring.node());
        builder
            .group("hoard")
            .bootstrap(voters.iter().copied().map(ReplicaId))
            .stores(MemoryLog::new(), MemorySnapshots::new())
            .start()
            .unwrap()
    };
    let group = [1, 2, 3].map(|id| start(id, &[1, 2, 3]));
    let pending: Vec<_> = (0..COMMANDS).map(|_| group[0].propose(large())).collect();
    pending.into_iter().for_each(|pending| pending.wait_timeout(DEADLINE).unwrap());
    let joiner = start(4, &[]);
    // This reads the state, because the status is up to one tick old.
    let held = |replica: &Replica<Hoard>| {
        replica.read(Consistency::Local, |hoard| hoard.0.len()).wait_timeout(DEADLINE).unwrap()
    };
    wait_until("the joiner to hold all commands", || held(&joiner) == COMMANDS);
    let state = |replica: &Replica<Hoard>| {
        replica.read(Consistency::Local, |hoard| hoard.0.clone()).wait_timeout(DEADLINE).unwrap()
    };
    assert!(state(&joiner) == state(&group[0]));
    wait_until("the newest status", || joiner.status().applied >= Index(COMMANDS as u64));
    assert_eq!(joiner.status().first_kept, Index(1), "the joiner received a snapshot");
}

/// A log whose disk stalls while the flag is set.
struct Stalling {
    log: MemoryLog,
    stalls: Arc<(Mutex<bool>, Condvar)>,
}

impl LogStore for Stalling {
    fn recover(&mut self, from: u64) -> Result<StoredLog, StorageError> {
        self.log.recover(from)
    }

    fn read(&mut self, first: u64, bytes_max: usize) -> Result<Vec<Record>, StorageError> {
        self.log.read(first, bytes_max)
    }

    fn write(&mut self, ops: Vec<LogOp>) -> Result<(), StorageError> {
        let (stalls, changed) = &*self.stalls;
        let lock = stalls.lock().unwrap();
        drop(changed.wait_timeout_while(lock, DEADLINE, |stalls| *stalls).unwrap());
        self.log.write(ops)
    }
}

#[test]
fn n6_a_replica_with_a_stalled_disk_lags_and_catches_up() {
    let ring = LocalRing::new();
    let stalls = Arc::new((Mutex::new(false), Condvar::new()));
    let [one, _two] = [1, 2].map(|id| builder(&ring.node(), id).start().unwrap());
    let log = Stalling { log: MemoryLog::new(), stalls: Arc::clone(&stalls) };
    let three = builder(&ring.node(), 3).stores(log, MemorySnapshots::new()).start().unwrap();
    one.propose(large()).wait_timeout(DEADLINE).unwrap();
    *stalls.0.lock().unwrap() = true;
    for _ in 0..120 {
        one.propose(large()).wait_timeout(DEADLINE).unwrap();
    }
    wait_until("the reason for waiting", || {
        three.status().waiting.is_some_and(|waiting| waiting.contains("for the disk"))
    });
    let last = three.status().last.0;
    assert!(last < 100, "a replica with a stalled disk took {last} entries of 900 kB");
    *stalls.0.lock().unwrap() = false;
    stalls.1.notify_all();
    wait_until("the replica to catch up", || three.status().applied == one.status().committed);
    assert_eq!(three.propose(large()).wait_timeout(DEADLINE).unwrap(), 122 * LARGE as u64);
}
