//! Telling and hearing progress (rule N7).

use std::time::Duration;

use cpg::Member;

use crate::engine::replication::outbox::Outbox;
use crate::engine::{Engine, Output, StepResult};
use crate::wire::message::{Message, Progress};
use crate::wire::types::{Ballot, Voter};

/// Opens when this replica has progress to report and no earlier report is in flight.
#[derive(Debug, Default)]
pub(crate) struct ProgressGate {
    /// There is something to report.
    pending: bool,
    /// When the `Progress` was sent that has not come back: one is in flight at a time.
    in_flight_since: Option<Duration>,
    /// When progress was last sent, alone or with a batch.
    sent_at: Duration,
}

impl ProgressGate {
    /// There is something to report.
    pub(crate) fn schedule(&mut self) {
        self.pending = true;
    }

    /// An epoch opened, of which the others are told.
    pub(crate) fn epoch_opened(&mut self, outbox: &Outbox) {
        self.pending = true;
        // It may still wait for the transport.
        self.in_flight_since = self.in_flight_since.filter(|at| outbox.is_waiting(*at));
    }
}

impl<T> Engine<T> {
    /// This replica's whole state, with marks where it sequences.
    pub(crate) fn progress(&mut self) -> Progress {
        self.progress.pending = false;
        self.progress.sent_at = self.now.monotonic;
        let marks = self.next_marks();
        // Who has promised something higher has nothing to say to readers (rule R1).
        let echo = if self.live().is_some() { self.reads.take_echoes() } else { Vec::new() };
        // What did not fit into this piece is told with the next.
        self.progress.pending |=
            self.is_sequencing() && self.ordering.cursor.sent < self.log.last().index;
        Progress {
            epoch: self.epoch.as_ref().map_or(Ballot::default(), |epoch| epoch.open.ballot),
            incarnation: self.me(),
            store: self.config.store,
            marks,
            acked: self.commit.acked,
            applied: self.commit.applied,
            echo,
            promised: self.promised,
        }
    }

    /// One is under way at a time, so acks and marks gather while the ring is busy. The
    /// gate also opens after a timeout, because a send can vanish.
    pub(crate) fn send_progress(&mut self, out: &mut Vec<Output<T>>) {
        let now = self.now.monotonic;
        let in_flight = self.progress.in_flight_since;
        let closed = in_flight.is_some_and(|at| self.unanswered(at) < self.config.resend_timeout);
        if self.progress.pending && !closed {
            self.progress.in_flight_since = Some(now);
            let progress = self.progress();
            out.push(Output::Send(Message::Progress(progress)));
        }
    }

    /// So that the others know who is here and that the sequencer lives, and hear again
    /// what got lost.
    pub(crate) fn heartbeat(&mut self) {
        let interval = self.config.election_timeout / if self.is_sequencing() { 4 } else { 1 };
        if self.epoch.is_some() && self.ago(self.progress.sent_at) >= interval {
            self.progress.schedule();
        }
        // Before there is an epoch, nothing but the announcement tells who is here.
        let unknown = self.epoch.is_none() || !self.peers.settled;
        if unknown && self.ago(self.peers.announced_at) >= self.config.election_timeout {
            self.peers.announce_due = true;
        }
    }

    /// `alone` tells a message of its own from one that rode on a batch.
    pub(crate) fn on_progress(
        &mut self,
        from: Member,
        progress: Progress,
        alone: bool,
    ) -> StepResult {
        if alone && progress.incarnation == self.me() {
            self.progress.in_flight_since = None;
        }
        self.identify(from, progress.incarnation, progress.store);
        let believed = self.believe(progress.promised);
        if let Some(peer) = self.peers.peer_mut(from) {
            if believed {
                peer.promised = progress.promised;
            }
            peer.epoch = progress.epoch;
            peer.acked = progress.acked;
            peer.applied = progress.applied;
        }
        let Some(epoch) = self.epoch.as_ref().filter(|e| e.open.ballot == progress.epoch) else {
            self.on_other_epoch(progress.epoch, progress.promised);
            return self.confirm();
        };
        let from_sequencer = epoch.open.sequencer == progress.incarnation;
        if from_sequencer {
            self.election.sequencer_heard(self.now.monotonic);
        }
        let Progress { incarnation, store, acked, echo, .. } = progress;
        self.note_progress(incarnation, acked);
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
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::engine::Input;
    use crate::engine::solo::Solo;
    use crate::wire::types::Index;

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
