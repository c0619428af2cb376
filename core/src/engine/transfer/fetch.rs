//! What a replica lacks, it fetches (rules N5, B9 and L1): an `Open`, a mark, a batch, or
//! entries of earlier epochs.

use std::collections::BTreeSet;

use crate::engine::{Canary, Checked, Engine, Output, StopReason, ensure};
use crate::entry::EntryHead;
use crate::message::{Entries, Fetch, Message, Missing};
use crate::types::{Ballot, Digest, Incarnation, Position};

/// Bytes of contents in one `Entries`: less than a frame carries.
pub(crate) const PIECE_BYTES_MAX: usize = 256 << 10;
/// Entries in one, so that their heads fit beside the commands.
pub(crate) const PIECE_ENTRIES_MAX: usize = 1024;

/// The next piece of a log for somebody who has it up to some position.
pub(crate) enum Piece {
    /// It is in memory.
    Here(Entries),
    /// It is in the store, and there is more behind it.
    Stored,
    /// That position is not in this log, or compacted, or its end.
    Nowhere,
}

/// Epochs kept of each kind in [`Unopened`]: more than there are clusters in one CPG group.
const UNOPENED_MAX: usize = 16;

/// Epochs that were heard of and are not open here (rule B9). Nobody may ever answer for some of
/// them: they are of a cluster that is no more, and must not hide the one that is open.
#[derive(Debug, Default)]
pub(crate) struct Unopened {
    /// Of which traffic was seen.
    seen: BTreeSet<Ballot>,
    /// That somebody has promised, and that nobody may have opened.
    promised: BTreeSet<Ballot>,
    /// That were asked for since all of them were.
    asked: BTreeSet<Ballot>,
}

impl Unopened {
    pub(crate) fn seen(&mut self, epoch: Ballot) {
        keep(&mut self.seen, epoch);
    }

    pub(crate) fn promised(&mut self, epoch: Ballot) {
        keep(&mut self.promised, epoch);
    }

    /// The epoch to ask for: the greatest not asked for yet, those with traffic first.
    fn next(&self, may_open: impl Fn(Ballot) -> bool, greatest: bool) -> Option<Ballot> {
        let epochs = || self.seen.iter().rev().chain(self.promised.iter().rev()).copied();
        let mut possible = epochs().filter(|epoch| may_open(*epoch));
        let first = possible.next()?;
        if greatest || !self.asked.contains(&first) {
            return Some(first);
        }
        Some(possible.find(|epoch| !self.asked.contains(epoch)).unwrap_or(first))
    }

    /// It is asked for again once it was heard of again.
    fn asked(&mut self, epoch: Ballot) {
        self.seen.remove(&epoch);
        self.promised.remove(&epoch);
        if !self.asked.insert(epoch) {
            self.asked = BTreeSet::from([epoch]);
        }
        keep(&mut self.asked, epoch);
    }
}

/// Adds an epoch, and drops the lowest of too many.
fn keep(epochs: &mut BTreeSet<Ballot>, epoch: Ballot) {
    epochs.insert(epoch);
    if epochs.len() > UNOPENED_MAX {
        epochs.pop_first();
    }
}

impl<T> Engine<T> {
    /// Rule N5: what is missing is fetched; nobody else is disturbed.
    pub(crate) fn fetch_missing(&mut self, out: &mut Vec<Output<T>>) {
        if self.is_broken(Canary::NoFetch) || !self.takes_entries() {
            return;
        }
        let lags = self.live().is_some_and(|epoch| !epoch.in_step);
        if lags {
            self.pace.missing_since.get_or_insert(self.now.monotonic);
        }
        let Some(since) = self.pace.missing_since.filter(|_| !self.is_receiving()) else { return };
        // At once, for it will not come: a mark is behind its batch in the order of the group.
        let is_due = !self.pace.fetched || self.unanswered(since) > self.config.resend_timeout;
        if self.live().is_some() && is_due {
            // Whoever was asked has not answered.
            self.pace.donor = None;
            self.fetch_entries(out);
        }
    }

    /// There is room again: what was not taken is asked for again.
    pub(crate) fn fetch_refused(&mut self, out: &mut Vec<Output<T>>) {
        if self.pace.refused && self.takes_entries() {
            self.fetch_entries(out);
        }
    }

    /// Rule L1.
    pub(crate) fn fetch_entries(&mut self, out: &mut Vec<Output<T>>) {
        // One question waits for the group at a time; the next tick asks again.
        if self.pace.fetched_at.is_some_and(|at| self.is_unsent(at)) {
            self.pace.missing_since.get_or_insert(self.now.monotonic);
            self.pace.fetched = false;
            return;
        }
        let Some(epoch) = self.live() else { return };
        // Only a snapshot helps a log that is not a part of the base.
        let last = if epoch.shares { self.log.last() } else { Position::default() };
        let missing = Missing::Entries {
            after: last,
            digest: self.log.digest(),
            donor: self.pace.donor,
            partial: self.receiving.as_ref().map(|receiving| receiving.name),
        };
        (self.pace.fetched, self.pace.refused) = (true, false);
        self.pace.missing_since = Some(self.now.monotonic);
        self.pace.fetched_at = self.pace.missing_since;
        self.fetch(self.promised, missing, out);
    }

    /// Rule B9: whoever sees traffic of an epoch that is not open here, asks.
    pub(crate) fn ask_for_open(&mut self, out: &mut Vec<Output<T>>) {
        if self.is_broken(Canary::NoOpenAsked) {
            return;
        }
        let open = self.epoch.as_ref().map_or(Ballot::default(), |epoch| epoch.open.ballot);
        let asked =
            self.pace.asked_at.is_some_and(|at| self.unanswered(at) < self.config.resend_timeout);
        let greatest = self.is_broken(Canary::GreatestOpenAsked);
        let may_open = |epoch: Ballot| epoch >= self.promised && epoch > open;
        if let Some(next) = self.pace.unopened.next(may_open, greatest).filter(|_| !asked) {
            self.pace.asked_at = Some(self.now.monotonic);
            self.pace.unopened.asked(next);
            if greatest {
                self.pace.unopened = Unopened::default();
            }
            self.fetch(next, Missing::Open, out);
        }
    }

    fn fetch(&self, epoch: Ballot, missing: Missing, out: &mut Vec<Output<T>>) {
        let fetch = Fetch { epoch, incarnation: self.me(), missing };
        out.push(Output::Send(Message::Fetch(fetch)));
    }

    pub(crate) fn on_fetch(&mut self, fetch: &Fetch, out: &mut Vec<Output<T>>) {
        self.hear_fetch(fetch);
        let Some(epoch) = self.live().filter(|epoch| epoch.open.ballot == fetch.epoch) else {
            return;
        };
        // Whoever gets no answer asks again.
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
                if donor == self.me() && epoch.in_step && self.members.has(fetch.incarnation) {
                    let piece = self.piece_after(after, digest);
                    self.give(piece, fetch.incarnation, after, out);
                }
            }
            Missing::Entries { after, digest, donor: None, partial } => {
                if epoch.sequencing && self.members.has(fetch.incarnation) {
                    self.answer_laggard(fetch.incarnation, after, digest, partial, out);
                }
            }
        }
    }

    /// Sends a piece to somebody who has the log up to `after`, or has it read for that.
    pub(crate) fn give(
        &mut self,
        piece: Piece,
        laggard: Incarnation,
        after: Position,
        out: &mut Vec<Output<T>>,
    ) {
        match piece {
            Piece::Here(piece) => out.push(Output::Send(Message::Entries(piece))),
            Piece::Stored => self.look_back(laggard, after, out),
            Piece::Nowhere => {}
        }
    }

    /// The next piece of the log for somebody who has it up to `after`.
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
            bytes += entry.content.bytes();
            if !entries.is_empty() && bytes > PIECE_BYTES_MAX {
                break;
            }
            end = entry.digest;
            entries.push((EntryHead::of(entry), entry.content.commands()));
        }
        let last = self.log.last().index;
        let more = first.0 + (entries.len() as u64) <= last.0;
        if entries.is_empty() {
            return Piece::Nowhere;
        }
        Piece::Here(Entries { epoch: self.promised, first, entries, digest: end, more })
    }

    /// Rules L4 and L5: takes entries of the epoch open here, where they go on from the
    /// end of the log; goes on with the marks once the log ends in this epoch.
    pub(crate) fn on_entries(&mut self, piece: Entries, out: &mut Vec<Output<T>>) -> Checked {
        let last = self.log.last().index;
        let count = piece.entries.len() as u64;
        let any = self.is_broken(Canary::EntriesOfOtherEpochs);
        let Some(epoch) = self.live().filter(|epoch| epoch.open.ballot == piece.epoch || any)
        else {
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
            self.pace.refused = true;
            return Ok(());
        }
        let known = (last.0 + 1 - piece.first.0) as usize;
        for (head, commands) in piece.entries.into_iter().skip(known) {
            ensure(head.epoch >= self.log.last().epoch && head.time >= self.log.time(), || {
                format!("fetched entry {} goes back", self.log.last().index.next())
            })?;
            let Some(content) = head.content.with(commands) else {
                return Err(StopReason::Invariant("a fetched entry has no commands".into()));
            };
            self.append(head.epoch, head.time, content);
            // Its mark, if known, is done with.
            self.marks.pop_front();
            self.meet_expectation()?;
        }
        self.compare(self.log.last().index, self.log.digest(), piece.digest)?;
        self.pool.prune(&self.log);
        let arrived = self.log.last().epoch == piece.epoch;
        if let Some(epoch) = self.epoch.as_mut().filter(|epoch| arrived && !epoch.in_step) {
            epoch.in_step = true;
            tracing::info!(
                replica = %self.me().replica, index = %self.log.last().index,
                "has caught up and is in step"
            );
            self.get_in_step();
        }
        if piece.more {
            self.fetch_entries(out);
        }
        self.advance_commit();
        self.confirm()
    }
}
