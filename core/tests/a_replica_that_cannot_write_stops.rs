//! A replica whose disk fails stops acknowledging at once, leaves the group, reports the reason and
//! does not write again. The other replicas continue, and no acknowledged command is lost.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::atomic::Ordering;

use bytes::Bytes;
use common::disk::Kept;
use common::failing::{Failing, Left};
use common::ledger::{Ledger, add, builder, read, try_add, wait_until};
use cpg::embedded::{LocalRing, Node};
use plainsong::engine::{Config, Engine, Input, Now, Output};
use plainsong::{Incarnation, Nonce, ProposeError, Replica, ReplicaId, StopReason, StoreId};
use plainsong_storage::{LogStore, MemoryLog, MemorySnapshots, SnapshotStore};

#[test]
fn an_engine_that_cannot_write_stops_with_the_reason() {
    let incarnation = Incarnation { replica: ReplicaId(1), nonce: Nonce(1) };
    let config = Config::new(incarnation, StoreId(1), vec![ReplicaId(1)]);
    let mut engine: Engine<u64> = Engine::new(config, Now::default());
    let mut out = Vec::new();
    engine.step(Now::default(), Input::WriteFailed { reason: "disk full".into() }, &mut out);
    assert!(matches!(out.last(), Some(Output::Stop)));
    assert_eq!(engine.status().stopped, Some(StopReason::WriteFailed("disk full".into())));
    out.clear();
    let command = Bytes::new();
    engine.step(Now::default(), Input::Propose { ticket: 7, command, deadline: None }, &mut out);
    assert!(
        matches!(&out[..], [Output::Fail { tickets, may_take_effect: false }] if *tickets == [7])
    );
}

/// The stores of a replica, which outlive it.
#[derive(Default)]
struct Site {
    log: Kept<MemoryLog>,
    snapshots: Kept<MemorySnapshots>,
}

impl Site {
    fn start(
        node: &Node,
        id: u32,
        log: impl LogStore + 'static,
        snapshots: impl SnapshotStore + 'static,
    ) -> Replica<Ledger> {
        builder(node, id, &[1, 2, 3]).stores(log, snapshots).start().unwrap()
    }
}

/// Adds numbers until a proposal fails. Returns the first number that was not acknowledged.
fn add_until_failure(replica: &Replica<Ledger>, from: u64) -> (u64, ProposeError) {
    for number in from.. {
        if let Err(error) = try_add(replica, number) {
            return (number, error);
        }
    }
    unreachable!()
}

/// Lets the disk of replica `victim` fail while it proposes, and checks that the group continues
/// without it and that it can return.
fn survives(
    victim: u32,
    faulty: impl Fn(&Node, &Site) -> (Replica<Ledger>, Box<dyn Fn() -> u64>),
    is_expected: impl Fn(&StopReason) -> bool,
) {
    let ring = LocalRing::new();
    let nodes: Vec<_> = (0..3).map(|_| ring.node()).collect();
    let sites: Vec<_> = (0..3).map(|_| Site::default()).collect();
    let at = victim as usize - 1;
    let mut replicas = Vec::new();
    let mut calls_after = None;
    for (id, (node, site)) in (1..).zip(nodes.iter().zip(&sites)) {
        replicas.push(if id == victim {
            let (replica, calls) = faulty(node, site);
            calls_after = Some(calls);
            replica
        } else {
            Site::start(node, id, site.log.clone(), site.snapshots.clone())
        });
    }
    const EACH: u64 = 1_000_000;
    let (not_acknowledged, error) = add_until_failure(&replicas[at], at as u64 * EACH);
    let stopped = || replicas[at].status().stopped;
    wait_until("the replica to have stopped", || stopped().is_some());
    let reason = stopped().unwrap();
    assert!(is_expected(&reason), "{reason}");
    let why = |error: &ProposeError| matches!(error, ProposeError::Stopped(why) if *why == reason);
    assert!(error == ProposeError::OutcomeUnknown || why(&error), "{error}");
    // The stopped replica reports its status and rejects everything else.
    assert!(why(&add_until_failure(&replicas[at], 7).1));
    let others: Vec<_> = replicas.iter().filter(|r| r.status().stopped.is_none()).collect();
    assert_eq!(others.len(), 2);
    wait_until("the others to see the departure", || {
        others.iter().all(|replica| replica.status().members.len() == 2)
    });
    add(others[0], 7 * EACH..7 * EACH + 100);
    let (expected, _) = read(others[1]);
    let first = at as u64 * EACH;
    let has = |number| expected.contains(&number);
    assert!((first..not_acknowledged).all(has), "an acknowledged command is lost");
    assert_eq!(calls_after.unwrap()(), 0, "writes after the failure");
    // The disk works again.
    drop(replicas.remove(at));
    sites[at].snapshots.with(MemorySnapshots::forget_drafts);
    nodes[at].start();
    let back = Site::start(&nodes[at], victim, sites[at].log.clone(), sites[at].snapshots.clone());
    assert_eq!(read(&back).0, expected);
}

#[test]
fn a_failed_log_write_stops_only_that_replica() {
    for (victim, left) in [(1, Left::Nothing), (2, Left::Half), (3, Left::Everything)] {
        survives(
            victim,
            |node, site| {
                let log = Failing::new(site.log.clone(), 150, left);
                let calls = log.calls_after();
                let replica = Site::start(node, victim, log, site.snapshots.clone());
                (replica, Box::new(move || calls.load(Ordering::SeqCst)))
            },
            |reason| matches!(reason, StopReason::WriteFailed(why) if why.contains("no space")),
        );
    }
}

#[test]
fn a_failed_snapshot_write_stops_only_that_replica() {
    // The failing call begins, writes a chunk of, or commits the second snapshot.
    for (victim, (call, left)) in
        (1..).zip([(4, Left::Nothing), (5, Left::Everything), (6, Left::Nothing)])
    {
        survives(
            victim,
            |node, site| {
                let snapshots = Failing::new(site.snapshots.clone(), call, left);
                let calls = snapshots.calls_after();
                let replica = Site::start(node, victim, site.log.clone(), snapshots);
                (replica, Box::new(move || calls.load(Ordering::SeqCst)))
            },
            |reason| matches!(reason, StopReason::SnapshotFailed(why) if why.contains("no space")),
        );
    }
}
