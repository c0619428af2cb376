//! Fetching of whatever a replica lacks: an `Open`, a mark, a batch, or entries of earlier epochs
//! (rules N5, B9 and L1).

use std::time::Duration;

use crate::engine::{Engine, Output, StepResult, StopReason, ensure};
use crate::wire::entry::EntryHead;
use crate::wire::message::{Entries, Fetch, Message, Missing};
use crate::wire::types::{Ballot, Digest, Incarnation, Position};

/// Maximum number of bytes of payloads in one `Entries`; less than a frame carries.
pub(crate) const PIECE_BYTES_MAX: usize = 256 << 10;
/// Maximum number of entries in one `Entries`, so that their heads fit beside the commands.
pub(crate) const PIECE_ENTRIES_MAX: usize = 1024;

/// The next piece of the log for a replica that has it up to some position.
pub(crate) enum Piece {
    /// The piece is in memory.
    Here(Entries),
    /// The piece is in the store, and more entries follow it.
    Stored,
    /// There is no such piece: the position is not in this log, or is compacted, or is the end.
    Nowhere,
}

/// Entries that this replica lacks, and its request for them (rules N5 and L1).
#[derive(Debug, Default)]
pub(crate) struct FetchState {
    /// Time since which a marked batch, or a mark, is missing here.
    pub(crate) missing_since: Option<Duration>,
    /// Set once it was requested.
    pub(crate) requested: bool,
    /// Time at which this replica last requested entries.
    pub(crate) requested_at: Option<Duration>,
    /// Set if entries arrived and were not taken, for lack of room.
    pub(crate) refused: bool,
    /// Donor of entries that the sequencer has named.
    pub(crate) donor: Option<Incarnation>,
}

impl FetchState {
    /// Starts anew for an epoch that has opened, in which nothing is known to be missing.
    pub(crate) fn epoch_opened(&mut self) {
        *self = Self { requested_at: self.requested_at, ..Self::default() };
    }
}

impl<T> Engine<T> {
    /// At a tick: requests missing entries (rule N5), and again if there was no answer in time.
    pub(crate) fn fetch_missing(&mut self, out: &mut Vec<Output<T>>) {
        if !self.takes_entries() {
            return;
        }
        let lags = self.live().is_some_and(|epoch| !epoch.in_sync);
        if lags {
            self.transfer.fetch.missing_since.get_or_insert(self.now.monotonic);
        }
        let Some(since) = self.transfer.fetch.missing_since.filter(|_| !self.is_receiving()) else {
            return;
        };
        // The first request is sent at once, because a missing entry will not arrive by itself: a
        // mark comes after its batch in CPG's order.
        let is_due =
            !self.transfer.fetch.requested || self.unanswered(since) > self.config.resend_timeout;
        if self.live().is_some() && is_due {
            // The donor has not answered.
            self.transfer.fetch.donor = None;
            self.fetch_entries(out);
        }
    }

    /// Requests entries again that were not taken for lack of room, once there is room.
    pub(crate) fn fetch_refused(&mut self, out: &mut Vec<Output<T>>) {
        if self.transfer.fetch.refused && self.takes_entries() {
            self.fetch_entries(out);
        }
    }

    /// Requests the entries after the end of the log, or a snapshot (rule L1).
    pub(crate) fn fetch_entries(&mut self, out: &mut Vec<Output<T>>) {
        // Only one request waits in the transport at a time; the next tick asks again.
        if self.transfer.fetch.requested_at.is_some_and(|at| self.is_unsent(at)) {
            self.transfer.fetch.missing_since.get_or_insert(self.now.monotonic);
            self.transfer.fetch.requested = false;
            return;
        }
        let Some(epoch) = self.live() else { return };
        // Only a snapshot helps a log that is not a part of the base.
        let last = if epoch.shares { self.log.last() } else { Position::default() };
        let missing = Missing::Entries {
            after: last,
            digest: self.log.digest(),
            donor: self.transfer.fetch.donor,
            partial: self.transfer.receiver.as_ref().map(|receiving| receiving.name),
        };
        (self.transfer.fetch.requested, self.transfer.fetch.refused) = (true, false);
        self.transfer.fetch.missing_since = Some(self.now.monotonic);
        self.transfer.fetch.requested_at = self.transfer.fetch.missing_since;
        self.fetch(self.promised, missing, out);
    }

    /// Sends a `Fetch`.
    pub(crate) fn fetch(&self, epoch: Ballot, missing: Missing, out: &mut Vec<Output<T>>) {
        let fetch = Fetch { epoch, incarnation: self.me(), missing };
        out.push(Output::Send(Message::Fetch(fetch)));
    }

    /// Answers a `Fetch`, if it is this replica's part.
    pub(crate) fn on_fetch(&mut self, fetch: &Fetch, out: &mut Vec<Output<T>>) {
        self.note_fetch(fetch);
        let Some(epoch) = self.live().filter(|epoch| epoch.open.ballot == fetch.epoch) else {
            return;
        };
        // A replica that gets no answer asks again.
        if fetch.incarnation == self.me() || !self.outbox.has_room() {
            return;
        }
        match fetch.missing {
            Missing::Open => {
                let coordinated = epoch.open.ballot.nonce == self.me().nonce;
                if epoch.sequencing || coordinated {
                    out.push(Output::Send(Message::Open(epoch.open.clone())));
                }
            }
            Missing::Entries { after, digest, donor: Some(donor), .. } => {
                if donor == self.me() && epoch.in_sync && self.peers.has(fetch.incarnation) {
                    let piece = self.piece_after(after, digest);
                    self.give(piece, fetch.incarnation, after, out);
                }
            }
            Missing::Entries { after, digest, donor: None, partial } => {
                if epoch.sequencing && self.peers.has(fetch.incarnation) {
                    self.answer_laggard(fetch.incarnation, after, digest, partial, out);
                }
            }
        }
    }

    /// Sends a piece to a replica whose log ends at `after`, or reads it from the store first.
    pub(crate) fn give(
        &mut self,
        piece: Piece,
        laggard: Incarnation,
        after: Position,
        out: &mut Vec<Output<T>>,
    ) {
        match piece {
            Piece::Here(piece) => out.push(Output::Send(Message::Entries(piece))),
            Piece::Stored => self.read_from_log(laggard, after, out),
            Piece::Nowhere => {}
        }
    }

    /// Returns the next piece of the log for a replica that has it up to `after`.
    pub(crate) fn piece_after(&self, after: Position, digest: Digest) -> Piece {
        let first = after.index.next();
        if self.log.epoch_at(after.index) != after.epoch || first < self.log.first_kept() {
            return Piece::Nowhere;
        }
        if first < self.log.first_in_memory() {
            return Piece::Stored;
        }
        let (mut bytes, mut end) = (0, digest);
        let mut entries = Vec::new();
        for entry in self.log.from(first).take(PIECE_ENTRIES_MAX) {
            bytes += entry.payload.bytes();
            if !entries.is_empty() && bytes > PIECE_BYTES_MAX {
                break;
            }
            end = entry.digest;
            entries.push((EntryHead::of(entry), entry.payload.commands()));
        }
        let last = self.log.last().index;
        let more = first.0 + (entries.len() as u64) <= last.0;
        if entries.is_empty() {
            return Piece::Nowhere;
        }
        Piece::Here(Entries { epoch: self.promised, first, entries, digest: end, more })
    }

    /// Takes entries of the epoch open here if they continue the end of the log, and starts to
    /// confirm marks once the log ends in this epoch (rules L4 and L5).
    pub(crate) fn on_entries(&mut self, piece: Entries, out: &mut Vec<Output<T>>) -> StepResult {
        let last = self.log.last().index;
        let count = piece.entries.len() as u64;
        let Some(epoch) = self.live().filter(|epoch| epoch.open.ballot == piece.epoch) else {
            return Ok(());
        };
        // The sequencer never takes entries from others (rule N3).
        if epoch.sequencing
            || !epoch.shares
            || piece.first > last.next()
            || piece.first.0.saturating_add(count) <= last.0 + 1
        {
            return Ok(());
        }
        if !self.takes_entries() {
            self.transfer.fetch.refused = true;
            return Ok(());
        }
        let known = (last.0 + 1 - piece.first.0) as usize;
        for (head, commands) in piece.entries.into_iter().skip(known) {
            ensure(head.epoch >= self.log.last().epoch && head.time >= self.log.time(), || {
                format!(
                    "the epoch or time of fetched entry {} decreases",
                    self.log.last().index.next()
                )
            })?;
            let Some(payload) = head.payload.with(commands) else {
                return Err(StopReason::Invariant("a fetched entry has no commands".into()));
            };
            self.append(head.epoch, head.time, payload);
            // The mark of the entry, if known, is no longer needed.
            self.ordering.marks.pop_front();
            self.meet_expectation()?;
        }
        self.compare(self.log.last().index, self.log.digest(), piece.digest)?;
        self.ordering.pool.prune(&self.log);
        let arrived = self.log.last().epoch == piece.epoch;
        if let Some(epoch) = self.epoch.as_mut().filter(|epoch| arrived && !epoch.in_sync) {
            epoch.in_sync = true;
            tracing::info!(
                replica = %self.me().replica, index = %self.log.last().index,
                "has caught up"
            );
            self.get_in_sync();
        }
        if piece.more {
            self.fetch_entries(out);
        }
        self.advance_commit();
        self.confirm()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::engine::solo::{Solo, ballot, member, run};
    use crate::wire::types::Index;

    fn fetches(solo: &Solo) -> Vec<&Fetch> {
        let fetches = solo.sent.iter().filter_map(|message| match message {
            Message::Fetch(fetch) => Some(fetch),
            _ => None,
        });
        fetches.collect()
    }

    #[test]
    fn l1_a_lagging_replica_requests_the_entries_after_its_log() {
        let mut solo = Solo::lagging();
        solo.wait(Duration::from_millis(50));
        let missing = Missing::Entries {
            after: solo.engine.log.last(),
            digest: solo.engine.log.digest(),
            donor: None,
            partial: None,
        };
        let fetch = Fetch { epoch: ballot(50, 2), incarnation: run(1, 1), missing };
        assert_eq!(fetches(&solo), [&fetch]);
    }

    #[test]
    fn l1_a_lagging_replica_without_an_answer_asks_again() {
        let mut solo = Solo::lagging();
        solo.wait(Duration::from_millis(50));
        solo.sent.clear();
        solo.wait(Duration::from_millis(50));
        assert_eq!(fetches(&solo).len(), 0);
        solo.wait(solo.engine.config().resend_timeout + Duration::from_millis(1));
        assert_eq!(fetches(&solo).len(), 1);
    }

    #[test]
    fn l4_a_lagging_replica_acks_nothing() {
        let mut solo = Solo::lagging();
        let last = solo.engine.log.last().index;
        solo.batch(member(2, 2), run(2, 2), 1);
        for _ in 0..100 {
            solo.wait(Duration::from_millis(50));
        }
        let acked = solo.sent.iter().filter_map(|message| match message {
            Message::Progress(progress) if progress.epoch == ballot(50, 2) => Some(progress.acked),
            _ => None,
        });
        let acked: BTreeSet<_> = acked.collect();
        assert_eq!(acked, BTreeSet::from([Index(0)]));
        assert_eq!(solo.engine.log.last().index, last, "a batch has no position without a mark");
    }
}
