//! Telling and hearing progress (rule N7).

use std::time::Duration;

use cpg::Member;

use crate::engine::replication::outbox::Outbox;
use crate::engine::transfer::fetch::Unopened;
use crate::engine::{Canary, Checked, Engine, Output};
use crate::message::{Message, Progress};
use crate::types::{Ballot, Incarnation, Index, Voter};

/// What this replica has to tell, what it has told, and what it waits for.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// There is news to tell.
    news: bool,
    /// When a `Progress` was sent that has not come back: one is under way at a time.
    under_way: Option<Duration>,
    /// When anything was last told.
    sent_at: Duration,
    /// The sequencer has told marks up to here.
    pub(crate) told: Index,
    /// When it last told marks.
    pub(crate) told_at: Duration,
    /// It has heard its own marks up to here.
    pub(crate) heard: Index,
    /// The order reaches up to here at least.
    pub(crate) known: Index,
    /// Since when a marked batch, or a mark, is missing here.
    pub(crate) missing_since: Option<Duration>,
    /// It has been asked for.
    pub(crate) fetched: bool,
    /// When this replica last asked for entries.
    pub(crate) fetched_at: Option<Duration>,
    /// What came was not taken, for want of room.
    pub(crate) refused: bool,
    /// Whom the sequencer has named to give entries.
    pub(crate) donor: Option<Incarnation>,
    /// Epochs that are not open here and may be elsewhere (rule B9).
    pub(crate) unopened: Unopened,
    /// When this replica last asked for an `Open`.
    pub(crate) asked_at: Option<Duration>,
}

impl Pace {
    /// There is something to tell.
    pub(crate) fn tell(&mut self) {
        self.news = true;
    }

    /// Marks up to there cannot be told again.
    pub(crate) fn left_memory(&mut self, through: Index) {
        self.told = self.told.max(through);
        self.heard = self.heard.max(through);
    }

    /// A new epoch goes on from `base`.
    pub(crate) fn opened(&mut self, base: Index, outbox: &Outbox) {
        // The `EpochStart` behind the base is known from `Open` itself (rule B8).
        let told = base.next();
        *self = Self {
            news: true,
            told,
            heard: told,
            sent_at: self.sent_at,
            // These may still wait for the group.
            under_way: self.under_way.filter(|at| outbox.is_waiting(*at)),
            fetched_at: self.fetched_at,
            asked_at: self.asked_at.filter(|at| outbox.is_waiting(*at)),
            ..Self::default()
        };
    }
}

impl<T> Engine<T> {
    /// This replica's whole state, with marks where it sequences.
    pub(crate) fn progress(&mut self) -> Progress {
        self.pace.news = false;
        self.pace.sent_at = self.now.monotonic;
        let marks = self.next_marks();
        // Who has promised something higher has nothing to say to readers (rule R1).
        let echo = if self.live().is_some() { self.reads.take_echoes() } else { Vec::new() };
        // What did not fit into this piece is told with the next.
        self.pace.news |= self.is_sequencing() && self.pace.told < self.log.last().index;
        Progress {
            epoch: self.epoch.as_ref().map_or(Ballot::default(), |epoch| epoch.open.ballot),
            incarnation: self.me(),
            store: self.config.store,
            marks,
            acked: self.acked,
            applied: self.applied,
            echo,
            promised: self.promised,
        }
    }

    /// One is under way at a time, so acks and marks gather while the ring is busy. The
    /// gate also opens after a timeout, because a send can vanish.
    pub(crate) fn send_progress(&mut self, out: &mut Vec<Output<T>>) {
        let now = self.now.monotonic;
        let for_ever = self.is_broken(Canary::GateStaysShut);
        let closed = self
            .pace
            .under_way
            .is_some_and(|at| self.unanswered(at) < self.config.resend_timeout || for_ever);
        if self.pace.news && !closed {
            self.pace.under_way = Some(now);
            let progress = self.progress();
            out.push(Output::Send(Message::Progress(progress)));
        }
    }

    /// So that the others know who is here and that the sequencer lives, and hear again
    /// what got lost.
    pub(crate) fn heartbeat(&mut self) {
        let interval = self.config.election_timeout / if self.is_sequencing() { 4 } else { 1 };
        if self.epoch.is_some() && self.ago(self.pace.sent_at) >= interval {
            self.pace.tell();
        }
        // Before there is an epoch, nothing but the announcement tells who is here.
        let unknown = self.epoch.is_none() || !self.members.settled;
        if unknown && self.ago(self.members.announced_at) >= self.config.election_timeout {
            self.members.announce_due = true;
        }
    }

    /// `alone` tells a message of its own from one that rode on a batch.
    pub(crate) fn on_progress(&mut self, from: Member, progress: Progress, alone: bool) -> Checked {
        if alone && progress.incarnation == self.me() {
            self.pace.under_way = None;
        }
        self.identify(from, progress.incarnation, progress.store);
        let believed = self.believe(progress.promised);
        if let Some(peer) = self.members.peer_mut(from) {
            if believed {
                peer.promised = progress.promised;
            }
            peer.epoch = progress.epoch;
            peer.acked = progress.acked;
            peer.applied = progress.applied;
        }
        let Some(epoch) = self.epoch.as_ref().filter(|e| e.open.ballot == progress.epoch) else {
            self.on_other_epoch(progress.epoch, progress.promised);
            if self.is_broken(Canary::EchoesOfOtherEpochs) {
                let replica = progress.incarnation.replica;
                let voter = Voter { replica, store: progress.store };
                self.on_echoes(voter, progress.acked, &progress.echo);
            }
            if self.is_broken(Canary::AcksOfOtherEpochs) {
                let replica = progress.incarnation.replica;
                self.on_ack(Voter { replica, store: progress.store }, progress.acked);
            }
            return self.confirm();
        };
        let from_sequencer = epoch.open.sequencer == progress.incarnation;
        if from_sequencer {
            self.election.sequencer_heard(self.now.monotonic);
        }
        let Progress { incarnation, store, acked, echo, .. } = progress;
        self.hear_laggard(incarnation, acked);
        let voter = Voter { replica: incarnation.replica, store };
        if progress.promised == progress.epoch {
            self.on_echoes(voter, acked, &echo);
        }
        if let Some(marks) = progress.marks.filter(|_| from_sequencer && self.live().is_some()) {
            self.on_marks(&marks)?;
        }
        self.on_ack(voter, acked);
        self.confirm()
    }

    /// Rules B3 and B9. Who knows the promise is not told again, or two frozen replicas
    /// would answer each other for ever.
    pub(crate) fn on_other_epoch(&mut self, epoch: Ballot, promised: Ballot) {
        if epoch < self.promised {
            if promised < self.promised {
                self.pace.tell();
            }
        } else {
            self.pace.unopened.seen(epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::engine::Input;
    use crate::engine::solo::Solo;

    /// What a lone proposal of the sequencer makes it send: of each message whether it is a
    /// batch, and how much it says is acked.
    fn sent_for_one_command(mut solo: Solo) -> Vec<(bool, Index)> {
        solo.sent.clear();
        let command = Bytes::from_static(b"a command");
        solo.input(Input::Propose { ticket: 1, command, deadline: None });
        let told = solo.sent.iter().filter_map(|message| match message {
            Message::Batch(_, progress) => progress.as_ref().map(|told| (true, told.acked)),
            Message::Progress(told) => Some((false, told.acked)),
            _ => None,
        });
        told.collect()
    }

    #[test]
    fn n7_the_ack_of_a_sequencer_in_memory_rides_on_its_batch() {
        let solo = Solo::new();
        let last = solo.engine.log.last().index;
        let written = sent_for_one_command(solo);
        assert_eq!(written, [(true, last), (false, last.next())], "after the write");
        assert_eq!(sent_for_one_command(Solo::volatile()), [(true, last.next())]);
    }
}
