//! Tests of what dead, faulty or lying peers cannot do to a replica.

use std::time::Duration;

use bytes::Bytes;

use super::{EntryPayload, Input, Output, SnapshotHead};
use crate::Timestamp;
use crate::engine::solo::{Solo, ballot, member, run};
use crate::engine::{SnapshotCommand, SnapshotEvent};
use crate::wire::codec::Frame;
use crate::wire::entry::{Batch, BatchKind, EntryHead, EntryPayloadHead};
use crate::wire::message::{
    Announce, Chunk, Entries, Fetch, Message, Missing, Offer, Offered, Open, Progress, Read,
};
use crate::wire::snapshot_name::SnapshotName;
use crate::wire::types::{
    Ballot, Digest, Index, Nonce, Origin, Position, ReplicaId, StoreId, Voter, Voters,
};

fn batch_of(replica: u32, counter: u64, number: u64, bytes: usize) -> Message {
    let origin = Origin { replica: ReplicaId(replica), counter, nonce: Nonce(replica.into()) };
    let (kind, commands) = (BatchKind::Application, Bytes::from(vec![0; bytes]));
    Message::Batch(Batch { origin, number, kind, count: 0, commands }, None)
}

fn batches_ordered(solo: &mut Solo) -> usize {
    solo.new_entries().iter().filter(|payload| matches!(payload, EntryPayload::Batch(_))).count()
}

fn commits_a_command(solo: &mut Solo) -> bool {
    solo.new_entries();
    let command = Bytes::from_static(b"a command");
    solo.input(Input::Propose { ticket: 1, command, deadline: None });
    for _ in 0..100 {
        solo.wait(Duration::from_millis(50));
    }
    solo.new_entries().iter().any(|payload| matches!(payload, EntryPayload::Batch(_)))
}

#[test]
fn n5_batches_of_runs_that_are_gone_give_way_to_those_of_live_runs() {
    let mut solo = Solo::new();
    let mut all = vec![member(1, 1)];
    // Batches that cannot be ordered, because the ones before them are missing.
    for id in 10..80 {
        let from = member(id, id);
        all.push(from);
        solo.configure(&all, &[from]);
        solo.announce(from, run(id, id.into()));
        solo.deliver(from, batch_of(id, 1, 2, 1_000_000));
        all.pop();
        solo.configure(&all, &[]);
    }
    let from = member(5, 5);
    all.push(from);
    solo.configure(&all, &[from]);
    solo.announce(from, run(5, 5));
    solo.new_entries();
    // Small batches, of which the one that can be ordered comes last.
    solo.deliver(from, batch_of(5, 1, 2, 200_000));
    solo.deliver(from, batch_of(5, 1, 1, 200_000));
    assert_eq!(batches_ordered(&mut solo), 2);
}

#[test]
fn n5_a_live_run_that_fills_the_pool_does_not_exclude_others() {
    let mut solo = Solo::new();
    let all: Vec<_> = (1..=3).map(|id| member(id, id)).collect();
    solo.configure(&all, &all[1..]);
    for id in 2..=3 {
        solo.announce(member(id, id), run(id, id.into()));
    }
    solo.new_entries();
    for number in 2..100 {
        solo.deliver(member(2, 2), batch_of(2, 1, number, 1_000_000));
    }
    solo.deliver(member(3, 3), batch_of(3, 1, 2, 100_000));
    solo.deliver(member(3, 3), batch_of(3, 1, 1, 100_000));
    assert_eq!(batches_ordered(&mut solo), 2);
}

#[test]
fn n5_batches_are_accepted_only_from_their_origin() {
    let mut solo = Solo::with_member();
    solo.deliver(member(2, 2), batch_of(3, 1, 1, 10));
    solo.configure(&[member(1, 1), member(2, 2), member(3, 3)], &[member(3, 3)]);
    solo.announce(member(3, 3), run(3, 3));
    assert_eq!(batches_ordered(&mut solo), 0);
    solo.deliver(member(3, 3), batch_of(3, 1, 1, 10));
    assert_eq!(batches_ordered(&mut solo), 1);
}

fn announces(promised: Ballot) -> Message {
    Message::Announce(Announce {
        incarnation: run(2, 2),
        store: StoreId(2),
        application: String::new(),
        last: Position::default(),
        promised,
        first_kept: Index(1),
        snapshots: Vec::new(),
        first: false,
        refused: None,
    })
}

fn progress(epoch: Ballot, promised: Ballot, acked: u64) -> Progress {
    Progress {
        epoch,
        incarnation: run(2, 2),
        store: StoreId(2),
        marks: None,
        acked: Index(acked),
        applied: Index(acked),
        echo: Vec::new(),
        promised,
    }
}

#[test]
fn b10_a_forged_ballot_does_not_block_later_ballots() {
    for counter in [u64::MAX, u64::MAX - 1, 1 << 62, 1 << 40] {
        let forged = ballot(counter, 2);
        let solo = Solo::with_member();
        let epoch = solo.engine.open_epoch();
        let base = solo.engine.log.last();
        let voter = Voter { replica: ReplicaId(2), store: StoreId(2) };
        let open = Open {
            ballot: forged,
            base,
            digest: Digest(5),
            history: vec![(base.epoch, Index(1)), (forged, Index(2))],
            sequencer: run(2, 2),
            voters: Voters { now: vec![voter], previous: vec![voter], since: Index(1) },
            time: Timestamp(0),
        };
        let mut messages = vec![
            Message::Begin(forged),
            announces(forged),
            Message::Progress(progress(epoch, forged, 0)),
            Message::Progress(progress(forged, forged, 0)),
            Message::Read(Read { epoch: forged, incarnation: run(2, 2), round: 1 }),
            Message::Fetch(Fetch { epoch: forged, incarnation: run(2, 2), missing: Missing::Open }),
        ];
        if counter > 1 << 48 {
            messages.push(Message::Open(open));
        }
        for message in messages {
            let mut solo = Solo::with_member();
            // While its epoch is healthy a replica ignores the ballots of others.
            solo.forget_health();
            solo.deliver(member(2, 2), message.clone());
            assert!(commits_a_command(&mut solo), "{message:?}");
            assert!(solo.engine.promised.counter < 1 << 33, "{message:?}");
        }
    }
}

#[test]
fn b10_a_slightly_higher_ballot_is_believed_and_outbid() {
    let mut solo = Solo::with_member();
    solo.deliver(member(2, 2), announces(ballot(1_000_000, 2)));
    assert!(commits_a_command(&mut solo));
    assert!(solo.engine.promised.counter > 1_000_000, "{}", solo.engine.promised);
}

#[test]
fn n2_an_origin_with_a_forged_counter_or_number_is_not_ordered() {
    let mut solo = Solo::with_member();
    for (counter, number) in [(u64::MAX, 1), (1 << 40, 1), (1, u64::MAX), (1, 0), (0, 0)] {
        solo.deliver(member(2, 2), batch_of(2, counter, number, 10));
    }
    assert_eq!(batches_ordered(&mut solo), 0);
    solo.deliver(member(2, 2), batch_of(2, 7, 1, 10));
    assert_eq!(batches_ordered(&mut solo), 1);
    solo.deliver(member(2, 2), batch_of(2, 7, u64::MAX, 10));
    solo.deliver(member(2, 2), batch_of(2, 7, 2, 10));
    assert_eq!(batches_ordered(&mut solo), 1);
}

fn name(index: u64, bytes: u64) -> SnapshotName {
    let position = Position { epoch: ballot(1, 1), index: Index(index) };
    SnapshotName { position, digest: Digest(3), bytes }
}

#[test]
fn n13_the_claimed_size_of_a_snapshot_takes_no_memory() {
    let mut solo = Solo::lagging();
    let (name, donor) = (name(800, 1 << 60), run(2, 2));
    let offer = Offer {
        epoch: ballot(50, 2),
        laggards: vec![run(1, 1)],
        donor,
        what: Offered::Snapshot(name),
    };
    solo.deliver(member(2, 2), Message::Offer(offer));
    for number in [0, u64::MAX, 1 << 40] {
        let bytes = Bytes::from(vec![0; name.chunk_bytes(number) as usize]);
        let chunk = Chunk { name, number, donor, sent: 1, bytes };
        solo.deliver(member(2, 2), Message::Chunk(chunk));
    }
    let written = solo
        .snapshot_commands
        .iter()
        .filter(|op| matches!(op, SnapshotCommand::Write { .. }))
        .count();
    assert!(written >= 1 && solo.engine.transfer.receiver.is_some(), "{written}");
}

#[test]
fn n13_impossible_entries_and_indices_are_ignored() {
    let mut solo = Solo::lagging();
    let epoch = ballot(50, 2);
    let head = EntryHead {
        epoch: ballot(1, 1),
        time: Timestamp(u64::MAX),
        payload: EntryPayloadHead::Time,
    };
    let last = solo.engine.log.last();
    for first in [0, 1, last.index.0 + 1, u64::MAX - 1, u64::MAX] {
        let entries = vec![(head.clone(), Bytes::new()); 3];
        let piece = Entries { epoch, first: Index(first), entries, digest: Digest(0), more: true };
        solo.deliver(member(2, 2), Message::Entries(piece));
    }
    assert_eq!(solo.engine.log.last(), last);
    let missing = Missing::Entries {
        after: Position { epoch, index: Index(u64::MAX) },
        digest: Digest(0),
        donor: Some(run(1, 1)),
        partial: Some(name(u64::MAX, u64::MAX)),
    };
    solo.deliver(member(2, 2), Message::Fetch(Fetch { epoch, incarnation: run(2, 2), missing }));
    let mut forged = progress(epoch, epoch, u64::MAX);
    forged.acked = Index(u64::MAX);
    solo.deliver(member(2, 2), Message::Progress(forged));
    assert!(solo.engine.ordering.cursor.known < Index(u64::MAX));
}

#[test]
fn n13_an_impossible_history_opens_no_epoch() {
    let before = Solo::with_member();
    let (last, now) = (before.engine.log.last(), before.engine.promised);
    let epoch = ballot(50, 2);
    let histories = [
        vec![(last.epoch, Index(0))],
        vec![(ballot(49, 2), Index(1)), (last.epoch, Index(2))],
        vec![(last.epoch, Index(5)), (ballot(49, 2), Index(5))],
        vec![(last.epoch, Index(u64::MAX))],
    ];
    for history in histories {
        let mut solo = Solo::with_member();
        solo.open_far_ahead(epoch, last.epoch, history);
        assert_eq!(solo.engine.promised, now);
    }
}

#[test]
fn n13_an_echo_of_a_round_that_has_not_begun_is_not_counted() {
    let mut solo = Solo::with_member();
    let epoch = solo.engine.open_epoch();
    // Replica 2 sends a read in the name of replica 3.
    let read = Read { epoch, incarnation: run(3, 3), round: 5 };
    solo.deliver(member(2, 2), Message::Read(read));
    assert!(
        solo.engine.reads.take_echoes().is_empty(),
        "the read names a replica other than its sender"
    );
    let Some(live) = &mut solo.engine.epoch else { panic!("an epoch is open") };
    let other = Voter { replica: ReplicaId(2), store: StoreId(2) };
    live.open.voters.now.push(other);
    live.open.voters.previous.push(other);
    solo.input(Input::Read { ticket: 7, after_proposals: false });
    let mut echo = progress(epoch, epoch, 0);
    echo.echo = vec![(Nonce(1), u64::MAX)];
    solo.deliver(member(2, 2), Message::Progress(echo.clone()));
    echo.echo = vec![(Nonce(1), 9)];
    solo.deliver(member(2, 2), Message::Progress(echo.clone()));
    assert!(solo.read.is_empty());
    echo.echo = vec![(Nonce(1), 1)];
    solo.deliver(member(2, 2), Message::Progress(echo));
    assert_eq!(solo.read, [7]);
}

#[test]
fn l6_a_snapshot_waiting_for_installation_compacts_only_entries_handed_out() {
    let mut solo = Solo::with_member();
    for ticket in 0..20 {
        let command = Bytes::from_static(b"a command");
        solo.input(Input::Propose { ticket, command, deadline: None });
    }
    let engine = &mut solo.engine;
    (engine.config.kept_entries_max, engine.commit.handed_out) = (2, Index(5));
    // The snapshot is complete before the log that it replaces may be touched.
    engine.promised = ballot(60, 2);
    let name = name(800, 100);
    let mut tables = engine.log.end().clone();
    tables.position = name.position;
    let head = Box::new(SnapshotHead { tables });
    let event = SnapshotEvent::Received { name, head };
    engine.step(solo.now, Input::Snapshot(event), &mut Vec::new());
    assert!(engine.log.compacted_through() <= Index(5), "{}", engine.log.compacted_through());
    assert!(engine.log.compacted_through() > Index(0), "applied entries are compacted");
}

/// An engine whose transport takes nothing, and the frames and bytes that wait.
struct Stuck {
    solo: Solo,
    frames: usize,
    bytes: usize,
}

impl Stuck {
    /// Steps the engine. Returns the number of frames that it sends.
    fn step(&mut self, input: Input<u64>) -> usize {
        let Self { solo, frames, bytes } = self;
        let before = *frames;
        for input in [input, Input::Drained] {
            let mut out = Vec::new();
            solo.engine.step(solo.now, input, &mut out);
            for output in out {
                match output {
                    Output::Send(message) => {
                        *frames += 1;
                        let (application, cluster) =
                            (solo.engine.application(), solo.engine.cluster());
                        *bytes += Frame::new(application, cluster, &message).len();
                    }
                    Output::Write { ticket, .. } => {
                        solo.engine.step(solo.now, Input::Written { ticket }, &mut Vec::new());
                    }
                    _ => {}
                }
            }
        }
        let unsent = Input::Unsent { frames: *frames, bytes: *bytes };
        solo.engine.step(solo.now, unsent, &mut Vec::new());
        *frames - before
    }

    fn hear(&mut self, message: Message) {
        let cluster = self.solo.engine.cluster();
        self.step(Input::Delivered { from: member(2, 2), cluster, message });
    }

    fn tick(&mut self) -> usize {
        self.solo.now.monotonic += Duration::from_millis(50);
        self.solo.now.wall.0 += 50;
        self.step(Input::Tick)
    }
}

#[test]
fn n12_little_is_sent_while_the_transport_takes_nothing() {
    let mut stuck = Stuck { solo: Solo::with_member(), frames: 0, bytes: 0 };
    for ticket in 0..200 {
        let command = Bytes::from(vec![0; 60_000]);
        stuck.step(Input::Propose { ticket, command, deadline: None });
    }
    stuck.step(Input::Read { ticket: 1, after_proposals: false });
    let epoch = stuck.solo.engine.open_epoch();
    let mut after = Position::default();
    for tick in 0..600 * 20 {
        stuck.tick();
        if tick % 20 == 0 {
            let missing = Missing::Entries { after, digest: Digest(0), donor: None, partial: None };
            stuck.hear(Message::Fetch(Fetch { epoch, incarnation: run(2, 2), missing }));
            let missing = Missing::Open;
            stuck.hear(Message::Fetch(Fetch { epoch, incarnation: run(2, 2), missing }));
            stuck.hear(announces(ballot(2, 2)));
            stuck.hear(Message::Read(Read { epoch, incarnation: run(2, 2), round: tick }));
            after = Position { epoch, index: Index(1) };
        }
    }
    assert!(stuck.frames < 100 && stuck.bytes < 6 << 20, "{} {}", stuck.frames, stuck.bytes);
    // Now the transport takes all of it, and what has waited for room is sent.
    (stuck.frames, stuck.bytes) = (0, 0);
    let now = stuck.solo.now;
    stuck.solo.engine.step(now, Input::Unsent { frames: 0, bytes: 0 }, &mut Vec::new());
    let at_once: usize = (0..4).map(|_| stuck.tick()).sum();
    assert!(at_once > 0);
}
