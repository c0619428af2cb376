use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cpg::GroupName;
use cpg::embedded::{LocalRing, Node};
use plainsong_storage::{
    LogOp, LogStore, MemoryLog, MemorySnapshots, Record, SnapshotKey, SnapshotStore, StorageError,
    StoredLog, StoredSnapshot,
};

use super::{GroupJoiner, Proposal, Runtime, restart};
use crate::engine::{Config, Recovered, Role, StopReason};
use crate::pending::{Pending, ProposeError};
use crate::snapshot::SnapshotManager;
use crate::wire::codec;
use crate::wire::types::{Incarnation, Nonce, ReplicaId, StoreId};
use crate::{Context, StateMachine};

const DEADLINE: Duration = Duration::from_secs(120);

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Counter(u64);

impl StateMachine for Counter {
    type Command = u64;
    type Output = u64;

    fn apply(&mut self, _: &Context, add: u64) -> u64 {
        self.0 += add;
        self.0
    }

    crate::snapshot_by_clone!();
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::yield_now();
    }
}

/// Starts the only replica of a group.
fn start(
    joiner: GroupJoiner,
    log: impl LogStore + 'static,
    snapshots: impl SnapshotStore + 'static,
) -> Runtime<Counter> {
    let incarnation = Incarnation { replica: ReplicaId(1), nonce: Nonce(1) };
    let mut config = Config::new(incarnation, StoreId(1), vec![ReplicaId(1)]);
    config.snapshot_entries = 10;
    let engine = restart(config, Recovered::default()).unwrap();
    let manager = SnapshotManager::open(Box::new(snapshots)).unwrap();
    let connection = joiner.join().unwrap();
    let runtime = Runtime::start(
        Counter::default(),
        engine,
        joiner,
        connection,
        Box::new(log) as Box<dyn LogStore>,
        manager,
    );
    runtime.unwrap()
}

fn propose(replica: &Runtime<Counter>, timeout: Option<Duration>) -> Pending<u64> {
    let (caller, pending) = Pending::new();
    let command = Bytes::from(codec::encode(&1_u64).unwrap());
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let _ = replica.propose(Proposal { caller, command, deadline }, true);
    pending
}

fn stop_reason(replica: &Runtime<Counter>) -> String {
    wait_until("the stop of the replica", || replica.shared.status().stopped.is_some());
    let reason = replica.shared.status().stopped.clone().unwrap();
    assert!(matches!(reason, StopReason::Invariant(_) | StopReason::SnapshotFailed(_)), "{reason}");
    reason.to_string()
}

/// A transport that joins only while it is open.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    changed: Condvar,
    /// Number of blocked joins.
    waiting: AtomicU64,
}

impl Gate {
    fn pass(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut is_open = self.is_open.lock().unwrap();
        while !*is_open {
            is_open = self.changed.wait(is_open).unwrap();
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    fn set(&self, is_open: bool) {
        *self.is_open.lock().unwrap() = is_open;
        self.changed.notify_all();
    }

    fn joiner(self: &Arc<Self>, node: &Node) -> GroupJoiner {
        let (gate, node) = (Arc::clone(self), node.clone());
        GroupJoiner::from_fn(move || {
            gate.pass();
            let connection = node.connect(cpg::Options::default())?;
            connection.join(&GroupName::new("gated").unwrap())?;
            Ok(connection)
        })
    }
}

#[test]
fn deadlines_are_kept_while_the_transport_does_not_answer() {
    let node = LocalRing::new().node();
    let gate = Arc::new(Gate::default());
    gate.set(true);
    let replica = start(gate.joiner(&node), MemoryLog::new(), MemorySnapshots::new());
    assert_eq!(propose(&replica, None).wait_timeout(DEADLINE), Ok(1));
    gate.set(false);
    node.stop();
    node.start();
    wait_until("a join that gets no answer", || gate.waiting.load(Ordering::SeqCst) > 0);
    let refused = propose(&replica, Some(Duration::from_millis(10))).wait_timeout(DEADLINE);
    assert!(matches!(refused, Err(ProposeError::Withdrawn(_))), "{refused:?}");
    assert_eq!(gate.waiting.load(Ordering::SeqCst), 1, "one try at a time");
    assert_eq!(replica.shared.status().role, Role::Waiting);
    gate.set(true);
    assert_eq!(propose(&replica, None).wait_timeout(DEADLINE), Ok(2));
    // A stop does not wait for the transport either.
    gate.set(false);
    node.stop();
    wait_until("a join that gets no answer", || gate.waiting.load(Ordering::SeqCst) > 0);
    drop(replica);
    gate.set(true);
}

/// A store that panics while the flag is set.
struct Panicking<S>(S, Arc<AtomicBool>);

impl<S> Panicking<S> {
    fn check(&self) {
        assert!(!self.1.load(Ordering::SeqCst), "a store panics on purpose");
    }
}

impl LogStore for Panicking<MemoryLog> {
    fn recover(&mut self, from: u64) -> Result<StoredLog, StorageError> {
        self.0.recover(from)
    }

    fn read(&mut self, first: u64, bytes_max: usize) -> Result<Vec<Record>, StorageError> {
        self.0.read(first, bytes_max)
    }

    fn write(&mut self, ops: Vec<LogOp>) -> Result<(), StorageError> {
        self.check();
        self.0.write(ops)
    }
}

impl SnapshotStore for Panicking<MemorySnapshots> {
    fn complete(&mut self) -> Result<Vec<StoredSnapshot>, StorageError> {
        self.0.complete()
    }

    fn begin(&mut self) -> Result<SnapshotKey, StorageError> {
        self.check();
        self.0.begin()
    }

    fn write(&mut self, key: SnapshotKey, chunk: u64, bytes: Bytes) -> Result<(), StorageError> {
        self.0.write(key, chunk, bytes)
    }

    fn commit(&mut self, key: SnapshotKey, about: Bytes) -> Result<(), StorageError> {
        self.0.commit(key, about)
    }

    fn read(&mut self, key: SnapshotKey, chunk: u64) -> Result<Bytes, StorageError> {
        self.0.read(key, chunk)
    }

    fn remove(&mut self, key: SnapshotKey) -> Result<(), StorageError> {
        self.0.remove(key)
    }
}

fn joiner() -> GroupJoiner {
    GroupJoiner::new(LocalRing::new().node().into(), GroupName::new("alone").unwrap())
}

#[test]
fn a_log_thread_that_panics_stops_the_replica() {
    let panics = Arc::new(AtomicBool::new(false));
    let log = Panicking(MemoryLog::new(), Arc::clone(&panics));
    let replica = start(joiner(), log, MemorySnapshots::new());
    assert_eq!(propose(&replica, None).wait_timeout(DEADLINE), Ok(1));
    panics.store(true, Ordering::SeqCst);
    let answer = propose(&replica, None).wait_timeout(DEADLINE);
    assert_eq!(answer, Err(ProposeError::OutcomeUnknown));
    let reason = stop_reason(&replica);
    assert!(reason.contains("log"), "{reason}");
}

#[test]
fn a_snapshot_thread_that_panics_stops_the_replica() {
    let panics = Arc::new(AtomicBool::new(true));
    let snapshots = Panicking(MemorySnapshots::new(), Arc::clone(&panics));
    let replica = start(joiner(), MemoryLog::new(), snapshots);
    wait_until("the stop of the replica", || {
        drop(propose(&replica, None).wait_timeout(DEADLINE));
        replica.shared.status().stopped.is_some()
    });
    let reason = stop_reason(&replica);
    assert!(reason.contains("snapshot"), "{reason}");
}
