//! Sending and receiving of progress (rule N7).

use std::time::Duration;

use cpg::Member;

use crate::engine::replication::outbox::Outbox;
use crate::engine::{Engine, Output, StepResult};
use crate::wire::message::{Message, Progress};
use crate::wire::types::{Ballot, Voter};

/// Gate for `Progress`: opens when this replica has something to report and no earlier report is in
/// flight.
#[derive(Debug, Default)]
pub(crate) struct ProgressGate {
    /// Set if there is something to report.
    pending: bool,
    /// Time at which the `Progress` was sent that has not been delivered back. One is in flight at
    /// a time.
    in_flight_since: Option<Duration>,
    /// Time at which progress was last sent, alone or with a batch.
    sent_at: Duration,
}

impl ProgressGate {
    /// Records that there is something to report.
    pub(crate) fn schedule(&mut self) {
        self.pending = true;
    }

    /// Schedules a report because an epoch has opened.
    pub(crate) fn epoch_opened(&mut self, outbox: &Outbox) {
        self.pending = true;
        // The previous `Progress` may still be queued in the transport.
        self.in_flight_since = self.in_flight_since.filter(|at| outbox.is_waiting(*at));
    }
}

impl<T> Engine<T> {
    /// Returns this replica's whole state, with new marks if it sequences. The caller has to send
    /// it.
    pub(crate) fn progress(&mut self) -> Progress {
        self.progress.pending = false;
        self.progress.sent_at = self.now.monotonic;
        let marks = self.next_marks();
        // A replica with a higher promise must not echo reads (rule R1).
        let echo = if self.live().is_some() { self.reads.take_echoes() } else { Vec::new() };
        // Marks that did not fit are sent with the next report.
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

    /// Sends `Progress` if the gate is open. One is in flight at a time, so acks and marks
    /// accumulate while the ring is busy. The gate also opens after a timeout, because a send can
    /// be lost.
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

    /// At a tick: schedules a report after a while without one, so that the others know that this
    /// replica and the sequencer are alive, and receive again what was lost.
    pub(crate) fn heartbeat(&mut self) {
        let interval = self.config.election_timeout / if self.is_sequencing() { 4 } else { 1 };
        if self.epoch.is_some() && self.ago(self.progress.sent_at) >= interval {
            self.progress.schedule();
        }
        // Without an open epoch, only announcements identify this replica.
        let unknown = self.epoch.is_none() || !self.peers.settled;
        if unknown && self.ago(self.peers.announced_at) >= self.config.election_timeout {
            self.peers.announce_due = true;
        }
    }

    /// Handles progress. `alone` is true for a message of its own, false for progress that came
    /// with a batch.
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

    /// Lets the sequencer propose one command. Returns for each message that it sends whether it is
    /// a batch, and the index that it acks.
    fn sent_for_one_command(mut solo: Solo) -> Vec<(bool, Index)> {
        solo.sent.clear();
        let command = Bytes::from_static(b"a command");
        solo.input(Input::Propose { ticket: 1, command, deadline: None });
        let sent = solo.sent.iter().filter_map(|message| match message {
            Message::Batch(_, progress) => progress.as_ref().map(|progress| (true, progress.acked)),
            Message::Progress(progress) => Some((false, progress.acked)),
            _ => None,
        });
        sent.collect()
    }

    #[test]
    fn n7_the_ack_of_a_sequencer_in_memory_rides_on_its_batch() {
        let solo = Solo::new();
        let last = solo.engine.log.last().index;
        let written = sent_for_one_command(solo);
        assert_eq!(written, [(true, last), (false, last.next())], "the ack follows the write");
        assert_eq!(sent_for_one_command(Solo::volatile()), [(true, last.next())]);
    }
}
