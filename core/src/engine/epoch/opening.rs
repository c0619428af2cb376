//! Opening an epoch (protocol §4): how a replica handles `Begin`, `Report` and `Open`.

use cpg::Member;

use crate::engine::membership::cluster::cluster_of;
use crate::engine::transfer::offers::Offers;
use crate::engine::{Engine, Epoch, Now, Output, StepResult, StopReason, ensure};
use crate::wire::entry::EntryPayload;
use crate::wire::message::{Message, Open, Report};
use crate::wire::types::{Ballot, ClusterId, Index};

impl<T> Engine<T> {
    /// Promises the ballot, freezes the log, and reports once the promise is durable (rules B2 and
    /// B3). Answers a lower ballot with the higher promise. Ignores the ballot while the open epoch
    /// is healthy (rule E3).
    pub(crate) fn on_begin(&mut self, ballot: Ballot, out: &mut Vec<Output<T>>) {
        self.believe(ballot);
        if ballot < self.promised {
            self.progress.schedule();
        } else if ballot == self.promised {
            // A repeated `Begin`. The log is frozen, so the report is the same. If the promise is
            // not durable yet, the report follows as soon as it is.
            if self.live().is_none() && self.write_queue.promise_durable() >= ballot {
                self.send_report(out);
            }
        } else if !self.is_epoch_healthy() || self.is_sequencers(ballot) {
            tracing::debug!(replica = %self.me().replica, %ballot, "promising a ballot");
            self.promise(ballot);
        }
    }

    /// Sends the report for the promised ballot, or notes that one is due while the previous report
    /// still waits to be sent.
    pub(crate) fn send_report(&mut self, out: &mut Vec<Output<T>>) {
        self.election.report_due = self.election.reported_at.is_some_and(|at| self.is_unsent(at));
        if !self.election.report_due {
            self.election.reported_at = Some(self.now.monotonic);
            out.push(Output::Send(Message::Report(self.report(self.promised))));
        }
    }

    /// Sends a report that is due, once the previous one has left this replica.
    pub(crate) fn report_when_sent(&mut self, out: &mut Vec<Output<T>>) {
        if self.election.report_due
            && self.live().is_none()
            && self.write_queue.promise_durable() == self.promised
        {
            self.send_report(out);
        }
    }

    /// Returns true if the sequencer itself started this ballot; its `Begin` is exempt from rule
    /// E3.
    fn is_sequencers(&self, ballot: Ballot) -> bool {
        self.live().is_some_and(|epoch| {
            let sequencer = epoch.open.sequencer;
            sequencer.replica.0 == ballot.replica && sequencer.nonce == ballot.nonce
        })
    }

    /// Stores a promise. From here on the log is frozen (rule B3).
    fn promise(&mut self, ballot: Ballot) {
        self.promised = ballot;
        if self.election.coordination.as_ref().is_some_and(|own| own.ballot < ballot) {
            self.election.coordination = None;
        }
        self.election.promised(self.now.monotonic);
        let hard_state = self.hard_state();
        self.write_queue.promise(ballot, hard_state);
    }

    fn report(&self, ballot: Ballot) -> Report {
        Report {
            ballot,
            incarnation: self.me(),
            store: self.config.store,
            last: self.log.last(),
            digest: self.log.digest(),
            time: self.log_time(),
            knows_time: self.clock.knows_time(),
            commit: self.commit.index,
            first_kept: self.log.first_kept(),
            history: self.log.history().to_vec(),
            voters: self.log.voters().clone(),
        }
    }

    /// Adds a report to the ballot that this replica coordinates, if it belongs to that.
    pub(crate) fn on_report(
        &mut self,
        from: Member,
        cluster: Option<ClusterId>,
        report: Report,
        out: &mut Vec<Output<T>>,
    ) {
        self.identify(from, report.incarnation, report.store);
        let believed = self.believe(report.ballot);
        if let Some(peer) = self.peers.peer_mut(from) {
            peer.last = report.last;
            if believed {
                peer.promised = peer.promised.max(report.ballot);
            }
        }
        let Some(coordination) = &mut self.election.coordination else { return };
        if coordination.ballot != report.ballot || coordination.open.is_some() {
            return;
        }
        coordination.add(cluster, report);
        self.decide(out);
    }

    /// Sends `Open` as soon as the reports received allow it.
    pub(crate) fn decide(&mut self, out: &mut Vec<Output<T>>) {
        let (me, Now { wall, monotonic: now }) = (self.me(), self.now);
        let Some(coordination) = &mut self.election.coordination else { return };
        let patient = now.saturating_sub(coordination.since) < self.config.election_timeout / 4;
        let decided = coordination.decide(me, &self.config, wall, patient).cloned();
        if let Some(open) = decided {
            coordination.sent_at = now;
            out.push(Output::Send(Message::Open(open)));
        }
    }

    /// Opens an epoch: cuts the log back to what it shares with the base, and appends the
    /// `EpochStart` if the log ends at the base (rules B6 to B8).
    pub(crate) fn on_open(&mut self, open: Open) -> StepResult {
        let ballot = open.ballot;
        self.believe(ballot);
        if ballot < self.promised {
            self.progress.schedule();
            return Ok(());
        }
        if self.epoch.as_ref().is_some_and(|epoch| epoch.open.ballot == ballot) {
            return Ok(());
        }
        if ballot > self.promised {
            self.promise(ballot);
        }
        self.election.coordination = None;
        self.election.opened(self.now.monotonic);
        if open.base.index == Index(0) {
            let cluster = cluster_of(&open);
            // The group that this replica knew may have formed anew, if nothing of it was ever
            // written.
            ensure(self.cluster().is_none_or(|known| known == cluster), || {
                format!(
                    "an epoch with an empty base opens in the existing cluster {:?}",
                    self.cluster
                )
            })?;
            self.adopt_cluster(cluster);
        }
        let already_in = self.log.last().epoch == ballot;
        let fit = if already_in { Some(false) } else { self.cut_to(&open)? };
        let at_base = fit == Some(true);
        self.forget_epoch();
        let sequencing = at_base && open.sequencer == self.me();
        if at_base {
            self.append(ballot, open.time, EntryPayload::EpochStart(open.voters.clone()));
        } else if already_in {
            self.clock.saw_in_epoch(self.log.time(), self.now.monotonic);
        }
        if sequencing {
            self.take_over_time();
            self.peers.membership_dirty = true;
        }
        let in_sync = at_base || already_in;
        tracing::info!(
            replica = %self.me().replica, epoch = %ballot, base = %open.base.index,
            sequencer = %open.sequencer.replica, in_sync, "epoch opened"
        );
        self.epoch = Some(Epoch { open, in_sync, sequencing, shares: fit.is_some() });
        if in_sync {
            self.get_in_sync();
        }
        // The notice has to come before any batch (rule N9).
        self.order_notice();
        Ok(())
    }

    /// Cuts the log back to what it shares with the base. Returns whether the log then ends at the
    /// base, or `None` if the shared part is unknown.
    fn cut_to(&mut self, open: &Open) -> StepResult<Option<bool>> {
        let Some(shared) = self.shared_with(open)? else { return Ok(None) };
        if shared < self.log.last().index {
            ensure(shared >= self.commit.index, || {
                format!("epoch {} would cut committed entries after index {shared}", open.ballot)
            })?;
            // Batches that lose their position may be ordered again in this epoch.
            for entry in self.log.cut(shared) {
                if let EntryPayload::Batch(batch) = entry.payload {
                    let members = &self.peers;
                    self.ordering.pool.insert(&self.log, batch, |run| members.has(run));
                }
            }
            self.write_queue.cut(shared);
        }
        let at_base = self.log.last() == open.base;
        if at_base && self.log.digest() != open.digest {
            return Err(StopReason::Invariant(format!(
                "two logs differ at position {}: digest {} here, {} in the base",
                open.base,
                self.log.digest(),
                open.digest
            )));
        }
        Ok(Some(at_base))
    }

    /// Returns the last index that this log shares with the base. `None` if it cannot be
    /// determined, because the base begins after the place where the two part: then this log stays
    /// as it is until a snapshot replaces it. It must not be cut at the commit index known here:
    /// entries acked beyond it may be committed, and must stay in the reports (rule P3).
    fn shared_with(&self, open: &Open) -> StepResult<Option<Index>> {
        let last = self.log.last().index;
        if let Some(shared) = self.log.shared_with(&open.history, open.base.index) {
            return Ok(Some(shared));
        }
        let begins = open.history.first().map_or(Index(0), |(_, first)| *first);
        ensure(begins > self.commit.index, || {
            format!("the base of epoch {} lacks entries that are committed here", open.ballot)
        })?;
        // If the whole log is committed, the base holds all of it.
        Ok((self.commit.index == last).then_some(self.commit.index))
    }

    /// Discards the state of the previous epoch.
    fn forget_epoch(&mut self) {
        self.clock.forget_epoch();
        self.ordering.marks.clear();
        self.ordering.expected.clear();
        self.commit.acks.clear();
        self.commit.acked = Index(0);
        self.reads.restart(self.commit.index);
        self.transfer.offers = Offers::default();
        self.ordering.pool.prune(&self.log);
        self.ordering.cursor.epoch_opened(self.log.last().index);
        self.transfer.fetch.epoch_opened();
        self.election.discovery.epoch_opened(&self.outbox);
        self.progress.epoch_opened(&self.outbox);
    }

    /// Starts to confirm, ack and propose in the open epoch: the log ends in it.
    pub(crate) fn get_in_sync(&mut self) {
        let durable = self.durable();
        if self.log.epoch_at(durable) == self.promised {
            self.commit.acked = durable;
            self.commit.acks.insert(self.voter(), durable);
        }
        self.warn_of_other_voters();
        self.proposals.get_in_sync(self.config.incarnation, &self.log);
        self.progress.schedule();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Input;
    use crate::engine::solo::{Solo, ballot, member, run};
    use crate::wire::message::{Message, Open};
    use crate::wire::types::{ReplicaId, StoreId, Voter, Voters};

    fn begin(counter: u64) -> Input<u64> {
        let message = Message::Begin(ballot(counter, 2));
        Input::Delivered { from: member(2, 2), cluster: None, message }
    }

    fn reports(out: &[Output<u64>]) -> bool {
        out.iter().any(|output| matches!(output, Output::Send(Message::Report(_))))
    }

    #[test]
    fn e3_a_healthy_epoch_is_not_ended_by_another_replica() {
        let mut solo = Solo::with_member();
        let promised = solo.engine.promised;
        solo.input(begin(50));
        assert_eq!((solo.engine.promised, solo.engine.is_sequencing()), (promised, true));
        solo.forget_health();
        solo.input(begin(50));
        assert_eq!((solo.engine.promised, solo.engine.is_sequencing()), (ballot(50, 2), false));
    }

    #[test]
    fn p1_no_report_is_sent_before_the_promise_is_durable() {
        let mut solo = Solo::with_member();
        solo.forget_health();
        let out = solo.step(begin(50));
        let written = out.iter().find_map(|output| match output {
            Output::Write { ticket, .. } => Some(*ticket),
            _ => None,
        });
        assert!(!reports(&out));
        // A repeated `Begin` gets no report either.
        assert!(!reports(&solo.step(begin(50))));
        let Some(ticket) = written else { panic!("the promise is written") };
        assert!(reports(&solo.step(Input::Written { ticket })));
    }

    #[test]
    fn b2_the_same_ballot_gets_the_same_report_and_a_lower_one_the_promise() {
        let mut solo = Solo::with_member();
        solo.forget_health();
        solo.input(begin(50));
        let reports = |solo: &mut Solo, counter| {
            solo.sent.clear();
            solo.input(begin(counter));
            let reports = solo.sent.iter().filter_map(|message| match message {
                Message::Report(report) => Some(report.ballot),
                _ => None,
            });
            reports.collect::<Vec<_>>()
        };
        assert_eq!(reports(&mut solo, 50), [ballot(50, 2)]);
        assert_eq!(reports(&mut solo, 40), []);
        assert_eq!(solo.engine.promised, ballot(50, 2));
    }

    #[test]
    fn p3_a_report_names_what_was_acked_and_not_committed() {
        let mut solo = Solo::with_member();
        let log = &solo.engine.log;
        let voter = |id| Voter { replica: ReplicaId(id), store: StoreId(id.into()) };
        // A majority needs replica 2, which acks nothing.
        let (now, previous) = (vec![voter(1), voter(2)], vec![voter(1)]);
        let open = Open {
            ballot: ballot(50, 2),
            base: log.last(),
            digest: log.digest(),
            history: log.history().to_vec(),
            sequencer: run(2, 2),
            voters: Voters { now, previous, since: log.last().index.next() },
            time: log.time(),
        };
        solo.deliver(member(2, 2), Message::Open(open));
        let acked = solo.engine.commit.acked;
        assert!(acked > solo.engine.commit.index);
        solo.forget_health();
        solo.sent.clear();
        solo.input(begin(51));
        let reported = solo.sent.iter().filter_map(|message| match message {
            Message::Report(report) => Some(report.last.index),
            _ => None,
        });
        assert_eq!(reported.collect::<Vec<_>>(), [acked]);
    }

    #[test]
    fn b3_a_frozen_log_takes_in_nothing() {
        let mut solo = Solo::with_member();
        solo.forget_health();
        solo.input(begin(50));
        let last = solo.engine.log.last();
        solo.batch(member(2, 2), run(2, 2), 1);
        let command = bytes::Bytes::from_static(b"a command");
        solo.input(Input::Propose { ticket: 1, command, deadline: None });
        assert_eq!((solo.engine.log.last(), solo.new_entries().len()), (last, 0));
    }
}
