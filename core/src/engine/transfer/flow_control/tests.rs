use bytes::Bytes;

use super::*;
use crate::engine::Input;
use crate::engine::SnapshotEvent;
use crate::engine::solo::{Solo, member, run};
use crate::wire::entry::{Batch, BatchKind};
use crate::wire::message::{Message, Progress};
use crate::wire::snapshot_name::{CHUNK_BYTES, SnapshotName};
use crate::wire::types::{Digest, Origin, Position, StoreId};

const LOG_BYTES_MAX: u64 = 4 << 20;
const EIGHTH: u64 = LOG_BYTES_MAX / 8;
const SLACK: u64 = LOG_BYTES_MAX / 64;
/// Maximum cost of a batch.
const BATCH: u64 = 20_500;
/// Chunks of the snapshot that is received.
const CHUNKS: u64 = 100;

/// A sequencer, and replica 2, which receives a snapshot of the whole log.
struct Pair {
    solo: Solo,
    name: SnapshotName,
    /// Number of batches proposed by replica 3.
    proposed: u64,
    /// Current run of replica 2.
    run: Incarnation,
}

impl Pair {
    fn new() -> Self {
        let mut solo = Solo::new();
        let config = &mut solo.engine.config;
        (config.stored_bytes_max, config.kept_bytes_max) = (LOG_BYTES_MAX, LOG_BYTES_MAX / 2);
        config.kept_entries_max = 4;
        let members = [member(1, 1), member(2, 2), member(3, 3)];
        solo.configure(&members, &members[1..]);
        solo.announce(member(2, 2), run(2, 2));
        solo.announce(member(3, 3), run(3, 3));
        let position = solo.engine.log.last();
        let name = SnapshotName { position, digest: Digest(1), bytes: CHUNKS * CHUNK_BYTES as u64 };
        solo.input(Input::Snapshot(SnapshotEvent::Taken(name)));
        let mut pair = Self { solo, name, proposed: 0, run: run(2, 2) };
        pair.received(CHUNKS);
        pair
    }

    fn received(&mut self, missing: u64) {
        let (incarnation, name, donor) = (self.run, self.name, run(1, 1));
        let gap = (missing > 0).then_some((CHUNKS - missing, CHUNKS));
        let received = Received { incarnation, name, donor, seen: 0, gap, missing };
        self.solo.deliver(member(2, 2), Message::Received(received));
    }

    fn fetches(&mut self, after: u64) {
        let log = &self.solo.engine.log;
        let after = Position { epoch: log.epoch_at(Index(after)), index: Index(after) };
        let missing = Missing::Entries { after, digest: Digest(0), donor: None, partial: None };
        let fetch = Fetch { epoch: self.solo.engine.open_epoch(), incarnation: run(2, 2), missing };
        self.solo.deliver(member(2, 2), Message::Fetch(fetch));
    }

    /// Has replica 3 propose more than may be ordered. Returns the bytes of the entries after the
    /// snapshot.
    fn propose(&mut self) -> u64 {
        self.propose_some(250)
    }

    /// Proposes the batches again that were not ordered, and others, `count` in all.
    fn propose_again(&mut self, count: usize) -> u64 {
        let ordered = self.solo.engine.log.last_batch(ReplicaId(3));
        self.proposed = ordered.map_or(0, |last| last.number);
        self.propose_some(count)
    }

    fn propose_some(&mut self, count: usize) -> u64 {
        let origin = Origin { replica: ReplicaId(3), counter: 1, nonce: run(3, 3).nonce };
        for _ in 0..count {
            self.proposed += 1;
            let (number, kind) = (self.proposed, BatchKind::Application);
            let commands = Bytes::from(vec![0; 20_000]);
            let batch = Batch { origin, number, kind, count: 0, commands };
            self.solo.deliver(member(3, 3), Message::Batch(batch, None));
        }
        self.grown()
    }

    fn grown(&self) -> u64 {
        self.solo.engine.log.bytes_after(self.name.index())
    }

    fn wait(&mut self, time: Duration) -> u64 {
        self.solo.wait(time);
        self.grown()
    }
}

/// Asserts that two sizes differ by a few batches at most.
fn assert_about(found: u64, expected: u64) {
    assert!(found.abs_diff(expected) < 3 * BATCH, "{found} instead of {expected}");
}

#[test]
fn l7_ordering_keeps_within_the_room_left_until_the_snapshot_has_arrived() {
    let mut pair = Pair::new();
    assert_about(pair.propose(), SLACK);
    assert_about(pair.propose(), SLACK);
    pair.received(CHUNKS / 2);
    assert_about(pair.propose(), GROWS_TO * EIGHTH / 2);
    pair.received(CHUNKS / 4);
    assert_about(pair.propose(), GROWS_TO * EIGHTH / 4 * 3);
    pair.received(1);
    assert_about(pair.propose(), GROWS_TO * EIGHTH);
    pair.received(0);
    assert_about(pair.propose(), FOLLOWED_FROM * EIGHTH);
}

#[test]
fn l7_a_replica_that_follows_a_snapshot_comes_closer() {
    let mut pair = Pair::new();
    pair.received(0);
    pair.propose();
    pair.fetches(pair.name.index().0);
    let before = pair.propose();
    assert_about(before, FOLLOWED_FROM * EIGHTH);
    let after = pair.name.index().0 + 10;
    let taken = before - pair.solo.engine.log.bytes_after(Index(after));
    pair.fetches(after);
    let now = pair.propose();
    assert!(now > before && now <= before + taken / 2 + BATCH, "{before} {now} {taken}");
}

#[test]
fn l7_a_replica_within_one_piece_of_the_end_is_not_waited_for() {
    let mut pair = Pair::new();
    pair.received(0);
    let before = pair.propose();
    pair.fetches(pair.name.index().0);
    assert!(!pair.solo.engine.transfer.flow_control.known.is_empty());
    pair.fetches(pair.solo.engine.log.last().index.0 - 5);
    assert!(pair.solo.engine.transfer.flow_control.known.is_empty());
    assert!(pair.propose() > before + 100 * 20_000);
}

#[test]
fn l7_commands_never_stop_for_a_receiver() {
    let mut pair = Pair::new();
    let mut before = pair.propose();
    let pause = pair.solo.engine.config.election_timeout / ORDERED_PER_TIMEOUT;
    for _ in 0..3 {
        pair.received(CHUNKS);
        assert_eq!(pair.wait(pause / 2), before);
        let now = pair.wait(pause / 2);
        assert!(now > before && now <= before + BATCH, "{before} {now}");
        before = now;
    }
    let said = pair.solo.engine.status().waiting;
    assert!(
        said.as_ref().is_some_and(|said| said.contains("replica 2 receives the state")),
        "{said:?}"
    );
}

#[test]
fn l7_a_silent_absent_or_slow_replica_is_not_waited_for() {
    let second = Duration::from_secs(1);
    let is_free = |pair: &mut Pair| {
        let before = pair.grown();
        pair.propose() > before + 100 * 20_000
    };
    let mut pair = Pair::new();
    pair.propose();
    pair.wait(second * 3);
    assert!(!is_free(&mut pair), "the replica may still be alive");
    pair.wait(second);
    assert!(is_free(&mut pair), "the replica is silent");

    let mut pair = Pair::new();
    pair.solo.configure(&[member(1, 1), member(3, 3)], &[]);
    assert!(is_free(&mut pair), "the replica has left");

    let mut pair = Pair::new();
    pair.propose();
    let mut waited = Duration::ZERO;
    while waited < HELD_BACK_MAX - second * 2 {
        pair.received(CHUNKS);
        pair.wait(second);
        waited += second;
    }
    pair.received(CHUNKS);
    assert!(!is_free(&mut pair), "the time is not used up yet");
    for _ in 0..4 {
        pair.wait(second);
    }
    pair.received(CHUNKS);
    assert!(is_free(&mut pair), "the replica is too slow");
}

#[test]
fn l7_a_replica_that_restarts_repeatedly_is_waited_for_within_a_limit() {
    let second = Duration::from_secs(1);
    let mut pair = Pair::new();
    pair.solo.engine.config.snapshot_bytes = 1 << 40;
    pair.propose();
    let members = [member(1, 1), member(2, 2), member(3, 3)];
    let mut held_back = Duration::ZERO;
    for restart in 0..5 * 60 {
        // Replica 2 dies, and returns as another run that starts from nothing.
        pair.solo.configure(&[member(1, 1), member(3, 3)], &[]);
        pair.solo.configure(&members, &[member(2, 2)]);
        pair.run = run(2, 1000 + restart);
        pair.solo.announce(member(2, 2), pair.run);
        pair.received(CHUNKS);
        for _ in 0..10 {
            pair.received(CHUNKS);
            pair.propose_again(5);
            if pair.solo.engine.is_held_back() {
                held_back += second;
            }
            pair.solo.wait(second);
        }
    }
    assert!(held_back > HELD_BACK_MAX / 2, "{held_back:?}");
    assert!(held_back < HELD_BACK_MAX * 3 / 2, "{held_back:?}");
}

#[test]
fn l7_a_live_replica_is_remembered_while_it_applies_what_it_has() {
    let mut pair = Pair::new();
    pair.received(0);
    pair.propose();
    pair.fetches(pair.name.index().0);
    let lives = |pair: &mut Pair, acked| {
        let epoch = pair.solo.engine.open_epoch();
        pair.solo.deliver(
            member(2, 2),
            Message::Progress(Progress {
                epoch,
                incarnation: run(2, 2),
                store: StoreId(2),
                marks: None,
                acked,
                applied: Index(0),
                echo: Vec::new(),
                promised: epoch,
            }),
        );
    };
    let timeout = pair.solo.engine.config.election_timeout;
    for _ in 0..KEPT_TIMEOUTS * 2 {
        pair.wait(timeout);
        lives(&mut pair, Index(0));
    }
    let (first, before) = (pair.name.index(), pair.grown());
    assert_eq!(pair.solo.engine.kept_for_laggards(), Some(first));
    assert!(pair.propose() <= before + BATCH, "commands are still held back");
    lives(&mut pair, Index(first.0 + 7));
    assert_eq!(pair.solo.engine.kept_for_laggards(), Some(Index(first.0 + 7)));
    let last = pair.solo.engine.log.last().index;
    lives(&mut pair, last);
    assert!(pair.solo.engine.transfer.flow_control.known.is_empty());
}

#[test]
fn l7_entries_that_a_lagging_replica_needs_are_kept_while_there_is_room() {
    let mut pair = Pair::new();
    let first = pair.name.index();
    pair.received(0);
    pair.propose();
    assert!(pair.grown() > pair.solo.engine.config.kept_bytes_max);
    // A newer snapshot would allow all of them to be dropped.
    let take = |pair: &mut Pair| {
        let position = pair.solo.engine.log.last();
        let name = SnapshotName { position, ..pair.name };
        pair.solo.input(Input::Snapshot(SnapshotEvent::Taken(name)));
        pair.solo.engine.log.compacted_through()
    };
    assert!(take(&mut pair) <= first, "the snapshot is not installed yet");
    let half = Index(first.0 + (pair.solo.engine.log.last().index.0 - first.0) / 2);
    pair.fetches(first.0);
    pair.fetches(half.0);
    let start = take(&mut pair);
    assert!(start > first && start <= half, "{start} is not in {first} to {half}");
    pair.wait(pair.solo.engine.config.election_timeout * (KEPT_TIMEOUTS + 1));
    assert!(take(&mut pair) > half, "nothing was heard from the replica");
}
