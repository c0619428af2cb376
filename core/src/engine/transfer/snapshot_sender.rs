//! Sending of a snapshot to all replicas that need it (rule L3).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::engine::SnapshotCommand;
use crate::engine::transfer::Transfer;
use crate::engine::{Engine, Output};
use crate::wire::message::{Chunk, Message, Received};
use crate::wire::snapshot_name::SnapshotName;
use crate::wire::types::Incarnation;

/// Maximum number of chunks in flight that some receiver has not acknowledged. If too low, the ring
/// idles between them; if too high, commands wait behind them.
pub(crate) const WINDOW: u64 = 8;
/// The same while commands are in flight, so that they keep most of the ring.
const WINDOW_BESIDE_COMMANDS: u64 = 2;
/// Divisor of the log's limit: once the entries after the snapshot take this fraction, commands no
/// longer have priority.
const PRESSES_FROM: u64 = 4;
/// Number of election timeouts after which a silent receiver is no longer waited for, neither by
/// its donor nor by commands.
pub(crate) const SILENT_TIMEOUTS: u32 = 4;

/// A snapshot that this replica sends.
#[derive(Debug)]
pub(crate) struct SnapshotSender {
    /// Name of the snapshot.
    pub(crate) name: SnapshotName,
    /// Replicas that receive it.
    takers: BTreeMap<Incarnation, Taker>,
    /// Next chunk in this pass over the chunks that some receiver lacks.
    cursor: u64,
    /// Number of chunks sent, or being read to be sent.
    sent: u64,
    /// Chunks being read, each with the value of `sent` that goes with it.
    reading: VecDeque<(u64, u64)>,
    /// Time at which a chunk was last sent, or a receiver last made progress.
    moved_at: Duration,
}

/// A replica that receives the snapshot.
#[derive(Debug)]
struct Taker {
    /// Number of the chunks sent that it has dealt with.
    seen: u64,
    /// First chunks that it lacks, as a half-open range.
    gap: (u64, u64),
    /// Time at which its last message arrived.
    heard_at: Duration,
}

impl SnapshotSender {
    fn new(name: SnapshotName, sent: u64, now: Duration) -> Self {
        Self {
            name,
            takers: BTreeMap::new(),
            cursor: 0,
            sent,
            reading: VecDeque::new(),
            moved_at: now,
        }
    }

    /// Returns the next chunk that some receiver lacks. A pass ends when no receiver lacks a later
    /// chunk. Chunks lost on the way are known once all receivers have dealt with everything sent;
    /// then the next pass begins.
    fn next(&mut self) -> Option<u64> {
        for _ in 0..2 {
            let gaps = self.takers.values().map(|taker| taker.gap);
            let later = gaps.filter(|gap| gap.1 > self.cursor).map(|gap| gap.0.max(self.cursor));
            if let Some(chunk) = later.min() {
                self.cursor = chunk + 1;
                return Some(chunk);
            }
            if self.takers.values().any(|taker| taker.seen < self.sent) {
                return None;
            }
            self.cursor = 0;
        }
        None
    }

    #[cfg(feature = "testing")]
    pub(crate) fn takers(&self) -> usize {
        self.takers.len()
    }

    #[cfg(feature = "testing")]
    pub(crate) fn reading(&self) -> usize {
        self.reading.len()
    }

    /// Returns the number of chunks sent that the slowest receiver has not dealt with.
    fn under_way(&self) -> u64 {
        let seen = self.takers.values().map(|taker| taker.seen).min();
        self.sent - seen.unwrap_or(self.sent).min(self.sent)
    }
}

impl<T> Engine<T> {
    /// Prepares to send a snapshot, because this replica was named as the donor. Sending begins
    /// when a receiver reports what it lacks.
    pub(crate) fn donate(&mut self, name: SnapshotName) {
        if !self.transfer.snapshots.held().contains(&name) {
            return;
        }
        self.transfer.snapshots.pin(name, self.now.monotonic);
        if self.transfer.sender.as_ref().is_none_or(|donating| donating.name != name) {
            // The count continues over all snapshots that this replica sends, so that an
            // acknowledgement of an earlier chunk never counts for a later one.
            let sent = self.transfer.sender.as_ref().map_or(0, |donating| donating.sent);
            self.transfer.sender = Some(SnapshotSender::new(name, sent, self.now.monotonic));
        }
    }

    /// Handles a receiver's report, and sends on.
    pub(crate) fn on_received(&mut self, received: &Received, out: &mut Vec<Output<T>>) {
        let Received { incarnation, name, donor, seen, gap, .. } = *received;
        let now = self.now.monotonic;
        self.transfer.snapshots.pin(name, now);
        self.note_received(received);
        let me = self.me();
        let Some(donating) = self.transfer.sender.as_mut().filter(|donating| donating.name == name)
        else {
            return;
        };
        let is_here = self.peers.has(incarnation);
        // A gap of chunks that the snapshot does not have was rejected with its message (rule N13).
        match gap.filter(|_| donor == me && is_here) {
            Some(gap) => {
                let sent = donating.sent;
                // A receiver that joins later owes nothing for chunks sent before.
                let taker = donating.takers.entry(incarnation).or_insert_with(|| Taker {
                    seen: sent,
                    gap,
                    heard_at: now,
                });
                if seen > taker.seen {
                    donating.moved_at = now;
                }
                taker.seen = taker.seen.max(seen.min(sent));
                taker.gap = gap;
                taker.heard_at = now;
            }
            // It has all chunks, or another donor.
            None => {
                donating.takers.remove(&incarnation);
            }
        }
        self.send_chunks(out);
    }

    /// Sends as many chunks as the window allows. If newer snapshots have displaced this one, sends
    /// nothing: the receivers ask for another.
    fn send_chunks(&mut self, out: &mut Vec<Output<T>>) {
        // Once many entries follow the snapshot, commands wait for it, and no longer the other way
        // round.
        let presses = |donating: &SnapshotSender| {
            self.log.bytes_after(donating.name.index()) > self.log_bytes_max() / PRESSES_FROM
        };
        let busy = self.has_work() && !self.transfer.sender.as_ref().is_some_and(presses);
        let Self { transfer: Transfer { sender, snapshots, .. }, outbox, .. } = self;
        let is_held = |donating: &&mut SnapshotSender| snapshots.held().contains(&donating.name);
        let Some(donating) = sender.as_mut().filter(is_held) else { return };
        let window = if busy { WINDOW_BESIDE_COMMANDS } else { WINDOW };
        // Chunks being read will be sent too.
        let has_room = |reading: usize| outbox.has_room() && reading < WINDOW as usize;
        while !donating.takers.is_empty()
            && donating.under_way() < window
            && has_room(donating.reading.len())
        {
            let Some(chunk) = donating.next() else { break };
            donating.sent += 1;
            donating.reading.push_back((chunk, donating.sent));
            out.push(Output::Snapshot(SnapshotCommand::Read { name: donating.name, chunk }));
        }
    }

    /// Sends a chunk that was read from the store.
    pub(crate) fn on_chunk_read(
        &mut self,
        name: SnapshotName,
        chunk: u64,
        bytes: Bytes,
        out: &mut Vec<Output<T>>,
    ) {
        let donor = self.me();
        let Some(donating) = self.transfer.sender.as_mut().filter(|donating| donating.name == name)
        else {
            return;
        };
        if let Some((_, sent)) = donating.reading.front().copied().filter(|next| next.0 == chunk) {
            donating.reading.pop_front();
            donating.moved_at = self.now.monotonic;
            let chunk = Chunk { name, number: chunk, donor, sent, bytes };
            out.push(Output::Send(Message::Chunk(chunk)));
        }
    }

    /// At a tick: forgets receivers that are gone or silent, and stops waiting for the
    /// acknowledgement of lost chunks.
    pub(crate) fn tend_snapshot_sender(&mut self, out: &mut Vec<Output<T>>) {
        let now = self.now.monotonic;
        let resend = self.config.resend_timeout;
        let silent = self.config.election_timeout * SILENT_TIMEOUTS;
        let moved_at = self.transfer.sender.as_ref().map(|donating| donating.moved_at);
        let is_lost = moved_at.is_some_and(|at| self.unanswered(at) > resend * 2);
        let Some(donating) = &mut self.transfer.sender else { return };
        let members = &self.peers;
        donating.takers.retain(|incarnation, taker| {
            members.has(*incarnation) && now.saturating_sub(taker.heard_at) < silent
        });
        // A chunk that the disk has not delivered yet is not lost.
        if donating.reading.is_empty() && is_lost {
            donating.moved_at = now;
            let sent = donating.sent;
            donating.takers.values_mut().for_each(|taker| taker.seen = sent);
        }
        self.send_chunks(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Input;
    use crate::engine::SnapshotEvent;
    use crate::engine::solo::{Solo, member};
    use crate::wire::message::{Offer, Offered};
    use crate::wire::types::{Digest, Index, Nonce, Position, ReplicaId};

    fn run(replica: u32) -> Incarnation {
        Incarnation { replica: ReplicaId(replica), nonce: Nonce(1) }
    }

    fn donating(gaps: &[(u64, u64)]) -> SnapshotSender {
        let mut donating = SnapshotSender::new(SnapshotName::default(), 0, Duration::ZERO);
        for (replica, gap) in (1..).zip(gaps) {
            let taker = Taker { seen: 0, gap: *gap, heard_at: Duration::ZERO };
            donating.takers.insert(run(replica), taker);
        }
        donating
    }

    /// Takes all chunks that may be sent before any receiver has dealt with them.
    fn pass(donating: &mut SnapshotSender) -> Vec<u64> {
        std::iter::from_fn(|| {
            let chunk = donating.next()?;
            donating.sent += 1;
            Some(chunk)
        })
        .collect()
    }

    #[test]
    fn l3_one_pass_sends_each_missing_chunk_once() {
        let mut donating = donating(&[(0, 6), (4, 8)]);
        assert_eq!(pass(&mut donating), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(donating.under_way(), 8);
    }

    #[test]
    fn l3_lost_chunks_are_sent_again_after_all_receivers_have_dealt_with_the_rest() {
        let mut donating = donating(&[(0, 4), (0, 4)]);
        assert_eq!(pass(&mut donating), [0, 1, 2, 3]);
        let sent = donating.sent;
        donating.takers.get_mut(&run(1)).unwrap().seen = sent;
        donating.takers.get_mut(&run(1)).unwrap().gap = (1, 2);
        assert_eq!(pass(&mut donating), [], "the other receiver may still get what is in flight");
        donating.takers.get_mut(&run(2)).unwrap().seen = sent;
        donating.takers.get_mut(&run(2)).unwrap().gap = (3, 4);
        assert_eq!(pass(&mut donating), [1, 3]);
    }

    #[test]
    fn a_later_receiver_gets_the_chunks_it_missed_after_the_rest() {
        let mut donating = donating(&[(0, 6)]);
        assert_eq!((0..3).filter_map(|_| donating.next()).collect::<Vec<_>>(), [0, 1, 2]);
        let taker = Taker { seen: 0, gap: (0, 6), heard_at: Duration::ZERO };
        donating.takers.insert(run(2), taker);
        assert_eq!((0..3).filter_map(|_| donating.next()).collect::<Vec<_>>(), [3, 4, 5]);
        donating.takers.remove(&run(1));
        donating.takers.get_mut(&run(2)).unwrap().gap = (0, 3);
        assert_eq!((0..3).filter_map(|_| donating.next()).collect::<Vec<_>>(), [0, 1, 2]);
    }

    /// Returns the name of a snapshot of a log that ends at `index`.
    fn snapshot(index: u64) -> SnapshotName {
        let position = Position { index: Index(index), ..Position::default() };
        SnapshotName { position, digest: Digest(1), bytes: 1000 }
    }

    /// Returns a sequencer that has taken a snapshot and named itself as its donor to replica 2.
    fn donor_of_its_first_snapshot() -> Solo {
        let mut solo = Solo::new();
        solo.configure(&[member(1, 1), member(2, 2)], &[member(2, 2)]);
        solo.announce(member(2, 2), run(2));
        let (name, donor) = (snapshot(1), solo.engine.me());
        solo.input(Input::Snapshot(SnapshotEvent::Taken(name)));
        let (epoch, what) = (solo.engine.open_epoch(), Offered::Snapshot(name));
        let offer = Offer { epoch, laggards: vec![run(2)], donor, what };
        solo.deliver(member(1, 1), Message::Offer(offer));
        solo
    }

    #[test]
    fn a_chunk_that_does_not_exist_is_not_read() {
        let mut solo = donor_of_its_first_snapshot();
        let (name, donor) = (snapshot(1), solo.engine.me());
        let gaps = [(0, 2), (1, 2), (1, 0), (1, 1), (0, u64::MAX)];
        for gap in gaps.into_iter().chain([(u64::MAX - 1, u64::MAX), (u64::MAX, 0)]) {
            let (incarnation, gap) = (run(2), Some(gap));
            let received = Received { incarnation, name, donor, seen: 0, gap, missing: 1 };
            solo.deliver(member(2, 2), Message::Received(received));
            assert_eq!(solo.snapshot_commands, [], "{gap:?}");
            solo.wait(Duration::from_secs(1));
        }
        assert_eq!(solo.snapshot_commands, []);
    }

    #[test]
    fn a_snapshot_displaced_by_newer_ones_is_no_longer_sent() {
        let mut solo = donor_of_its_first_snapshot();
        let (name, donor) = (snapshot(1), solo.engine.me());
        let received =
            Received { incarnation: run(2), name, donor, seen: 0, gap: Some((0, 1)), missing: 1 };
        solo.deliver(member(2, 2), Message::Received(received.clone()));
        assert_eq!(solo.snapshot_commands, [SnapshotCommand::Read { name, chunk: 0 }]);
        solo.snapshot_commands.clear();
        // Wait until the snapshot is no longer kept for its receiver, because nothing was heard of
        // it.
        solo.wait(Duration::from_secs(100));
        solo.input(Input::Snapshot(SnapshotEvent::Taken(snapshot(2))));
        solo.input(Input::Snapshot(SnapshotEvent::Taken(snapshot(3))));
        solo.deliver(member(2, 2), Message::Received(received));
        assert_eq!(solo.snapshot_commands, [SnapshotCommand::Remove(name)]);
    }
}
