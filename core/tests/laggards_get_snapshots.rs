//! Replicas that lag too far for the logs of the others receive a snapshot while the group commits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::gate::Gate;
use common::ledger::{Command, DEADLINE, Ledger, SNAPSHOT_EVERY, add, builder, read, wait_until};
use cpg::embedded::{LocalRing, Node};
use cpg::{Dispatch, Event, GroupName, Options, Transport};
use plainsong::{Index, Replica, Role};
use plainsong_storage::MemoryLog;

const CHUNK_KIND: [u8; 2] = 11_u16.to_le_bytes();

/// Starts three replicas that hold the same snapshot and have compacted their logs. Also returns
/// the next number to add.
///
/// A replica takes a snapshot at each multiple of `SNAPSHOT_EVERY` unless it is still writing the
/// previous one, so this waits for all replicas at each multiple.
fn group(ring: &LocalRing, ballast: u64) -> (Vec<Node>, Vec<Replica<Ledger>>, u64) {
    let nodes: Vec<_> = (0..3).map(|_| ring.node()).collect();
    let replicas: Vec<_> = (1..)
        .zip(&nodes)
        .map(|(id, node)| builder(node, id, &[1, 2, 3]).start().unwrap())
        .collect();
    replicas[0].propose(Command::Grow(ballast)).wait_timeout(DEADLINE).unwrap();
    wait_until("the status of the first replica", || replicas[0].status().applied.0 >= 2);
    let mut next = 0;
    for multiple in (1..=4).map(|count| count * SNAPSHOT_EVERY) {
        let entries = multiple - replicas[0].status().last.0;
        add(&replicas[0], next..next + entries);
        next += entries;
        wait_until("the same snapshot everywhere", || {
            replicas.iter().all(|replica| replica.status().snapshot == Some(Index(multiple)))
        });
    }
    wait_until("the log to be compacted everywhere", || {
        replicas.iter().all(|replica| replica.status().first_kept.0 > SNAPSHOT_EVERY)
    });
    (nodes, replicas, next)
}

fn has_caught_up(replica: &Replica<Ledger>) -> bool {
    let status = replica.status();
    status.role == Role::Learner && status.waiting.is_none()
}

#[test]
fn a_joiner_catches_up_while_the_group_commits() {
    let ring = LocalRing::new();
    let (_nodes, replicas, mut next) = group(&ring, 20_000_000);
    let gate = Gate::until(40);
    let joiner =
        builder(&ring.node(), 4, &[]).stores(MemoryLog::new(), gate.snapshots()).start().unwrap();
    let mut seen = None;
    wait_until("the joiner to catch up", || {
        add(&replicas[1], next..next + 1);
        next += 1;
        let status = joiner.status();
        if let Some(transfer) = status.transfer {
            let waiting = status.waiting.unwrap();
            assert!(waiting.contains("bytes are here"), "{waiting}");
            seen = Some(transfer);
            gate.open_until(u64::MAX);
        }
        has_caught_up(&joiner)
    });
    let transfer = seen.expect("the status showed the progress of the transfer");
    assert!(transfer.of_bytes > 20_000_000, "{transfer:?}");
    let (numbers, sum) = read(&joiner);
    assert!(numbers.into_iter().eq(0..next));
    assert_eq!(sum, read(&replicas[0]).1);
    // The joiner proposes like the others.
    add(&joiner, next..next + 100);
    wait_until("all replicas to have applied the same entries", || {
        replicas.iter().all(|replica| replica.status().applied == joiner.status().applied)
    });
}

#[test]
fn another_donor_continues_the_transfer_when_the_first_dies() {
    let ring = LocalRing::new();
    let (nodes, replicas, _) = group(&ring, 20_000_000);
    let gate = Gate::until(40);
    let joiner =
        builder(&ring.node(), 4, &[]).stores(MemoryLog::new(), gate.snapshots()).start().unwrap();
    let mut had = None;
    wait_until("the chunks that the gate lets through", || {
        had = joiner.status().transfer.filter(|transfer| transfer.bytes > 2_000_000);
        had.is_some()
    });
    let had = had.unwrap();
    let donor = had.donor.0 as usize - 1;
    nodes[donor].stop();
    gate.open_until(80);
    wait_until("another donor to continue", || {
        let transfer = joiner.status().transfer.unwrap();
        assert!(transfer.bytes >= had.bytes, "the transfer started again: {transfer:?}");
        transfer.donor != had.donor && transfer.bytes > had.bytes
    });
    gate.open_until(u64::MAX);
    wait_until("the joiner to catch up", || has_caught_up(&joiner));
    assert_eq!(read(&joiner), read(&replicas[(donor + 1) % 3]));
}

#[test]
fn one_stream_serves_two_joiners() {
    let ring = LocalRing::new();
    let (_nodes, replicas, _) = group(&ring, 30_000_000);
    let chunks = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let observer = Transport::from(ring.node()).connect(Options::default()).unwrap();
    observer.join(&GroupName::new("ledger").unwrap()).unwrap();
    let listener = {
        let (chunks, stop) = (Arc::clone(&chunks), Arc::clone(&stop));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                observer.wait(Some(Duration::from_millis(20))).unwrap();
                observer
                    .dispatch(Dispatch::All, |event| {
                        if let Event::Deliver { message, .. } = event {
                            let is_chunk = message[6..8] == CHUNK_KIND;
                            chunks.fetch_add(u64::from(is_chunk), Ordering::Relaxed);
                        }
                    })
                    .unwrap();
            }
        })
    };
    let gates = [Gate::until(1), Gate::until(1)];
    let joiners = [(4, &gates[0]), (5, &gates[1])].map(|(id, gate)| {
        let stores = builder(&ring.node(), id, &[]).stores(MemoryLog::new(), gate.snapshots());
        stores.start().unwrap()
    });
    wait_until("both to receive", || {
        joiners.iter().all(|joiner| joiner.status().transfer.is_some())
    });
    gates.iter().for_each(|gate| gate.open_until(u64::MAX));
    wait_until("both joiners to catch up", || joiners.iter().all(has_caught_up));
    let expected = read(&replicas[0]);
    assert!(joiners.iter().all(|joiner| read(joiner) == expected));
    stop.store(true, Ordering::Relaxed);
    listener.join().unwrap();
    let (sent, needed) = (chunks.load(Ordering::Relaxed), 30_000_000 / 61_440);
    let enough = sent >= needed && sent < needed * 5 / 4;
    assert!(enough, "{sent} chunks were sent to two joiners that need {needed}");
}
