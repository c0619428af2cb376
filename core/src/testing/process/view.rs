//! Ballots and departures that should not have happened, by what a process was told.

use std::collections::BTreeMap;
use std::time::Duration;

use cpg::Member;

use crate::engine::{Engine, Entry, EntryPayload, MembersChanged};
use crate::testing::checker::{Checked, ProposalId, check};
use crate::wire::message::{Message, Progress};
use crate::wire::types::{Ballot, ClusterId, Incarnation, Index, StoreId, Voter};

/// Clocks run at different speeds: so much of each time is checked.
const MARGIN: f64 = 0.9;

/// What a process has heard of the members of its group.
#[derive(Debug, Default)]
pub(super) struct View {
    members: BTreeMap<Member, Seen>,
    /// The ballot that it began last.
    begun: Ballot,
    /// Rule E2: the process was without a majority, and met others again then.
    met_others_at: Option<Duration>,
    /// Rule E3: the first and the last configuration since a sign of the sequencer in which the
    /// sequencer stayed.
    stayed: Option<(Duration, Duration)>,
}

/// A member as a process knows it.
#[derive(Debug)]
struct Seen {
    came_at: Duration,
    /// It has said that it is of another cluster.
    is_foreign: bool,
    /// What it said last of itself, and when.
    run: Option<(Incarnation, StoreId, Duration)>,
}

impl View {
    /// The process is about to learn of a configuration.
    pub(super) fn configure(
        &mut self,
        engine: &Engine<ProposalId>,
        members: &[Member],
        joined: &[Member],
        now: Duration,
    ) {
        if engine.last() > Index(0) && !self.has_majority(engine) && !joined.is_empty() {
            self.met_others_at = Some(now);
        }
        self.members.retain(|member, _| members.contains(member) && !joined.contains(member));
        for member in members {
            let new = || Seen { came_at: now, is_foreign: false, run: None };
            self.members.entry(*member).or_insert_with(new);
        }
    }

    /// The process has lost its connection to the group.
    pub(super) fn lose(&mut self) {
        self.members.clear();
    }

    /// The process is about to take in a message.
    pub(super) fn hear(
        &mut self,
        engine: &Engine<ProposalId>,
        from: Member,
        cluster: Option<ClusterId>,
        message: &Message,
        now: Duration,
    ) {
        let Some(seen) = self.members.get_mut(&from) else { return };
        if engine.doubts(from, message) {
            return;
        }
        if engine.cluster().zip(cluster).is_some_and(|(mine, theirs)| mine != theirs) {
            seen.is_foreign = true;
            seen.run = None;
            return;
        }
        let run = match message {
            Message::Announce(announce) => (announce.incarnation, announce.store),
            Message::Report(report) => (report.incarnation, report.store),
            Message::Progress(progress) | Message::Batch(_, Some(progress)) => {
                self.note_sign(engine, progress);
                (progress.incarnation, progress.store)
            }
            _ => return,
        };
        if let Some(seen) = self.members.get_mut(&from) {
            (seen.is_foreign, seen.run) = (false, Some((run.0, run.1, now)));
        }
    }

    fn note_sign(&mut self, engine: &Engine<ProposalId>, progress: &Progress) {
        let sequencer = engine.open().map(|open| open.sequencer);
        if sequencer == Some(progress.incarnation) && progress.epoch == engine.last_epoch() {
            self.stayed = None;
        }
    }

    /// The process has learnt of a commit, or of an epoch.
    pub(super) fn advanced(&mut self) {
        self.stayed = None;
    }

    /// The configuration has changed, and the sequencer is in it as before.
    pub(super) fn sequencer_stayed(&mut self, now: Duration) {
        self.stayed = Some((self.stayed.map_or(now, |(first, _)| first), now));
    }

    /// Rule E3: whether the configuration changed around the sequencer a moment ago.
    pub(super) fn has_just_changed(&self, now: Duration, timeout: Duration) -> bool {
        self.stayed.is_some_and(|(first, last)| {
            now - last < timeout.mul_f64(0.4) && now - first < timeout.mul_f64(3.5)
        })
    }

    fn has(&self, voter: &Voter) -> bool {
        let mut runs = self.members.values().filter_map(|seen| seen.run);
        runs.any(|(run, store, _)| run.replica == voter.replica && store == voter.store)
    }

    fn has_majority(&self, engine: &Engine<ProposalId>) -> bool {
        engine.voters().majority(engine.commit(), |voter| self.has(voter))
    }

    /// Members that came a moment ago and have not said who they are.
    fn has_stranger(&self, now: Duration, timeout: Duration) -> bool {
        self.members.values().any(|seen| {
            let is_new = now - seen.came_at < timeout.mul_f64(MARGIN);
            is_new && seen.run.is_none() && !seen.is_foreign
        })
    }

    /// Rules E1, E2 and V3: the process begins a ballot.
    pub(super) fn check_ballot(
        &mut self,
        engine: &Engine<ProposalId>,
        ballot: Ballot,
        now: Duration,
    ) -> Checked {
        // Sent again, whoever is here by now.
        if std::mem::replace(&mut self.begun, ballot) == ballot {
            return Ok(());
        }
        let config = engine.config();
        let (replica, timeout) = (config.incarnation.replica, config.election_timeout);
        if engine.last() == Index(0) {
            return check(!self.has_stranger(now, timeout), || {
                format!("V3: {replica} forms a group before all members have said who they are")
            });
        }
        check(self.has_majority(engine), || {
            format!("E1: {replica} begins a ballot without a majority")
        })?;
        let waits = timeout.mul_f64(MARGIN / 2.0);
        check(self.met_others_at.is_none_or(|at| now - at >= waits), || {
            format!("E2: {replica} begins a ballot as soon as it meets others again")
        })
    }

    /// Rule N9: the process has ordered that as the sequencer.
    pub(super) fn check_ordered(
        &self,
        engine: &Engine<ProposalId>,
        entry: &Entry,
        now: Duration,
    ) -> Checked {
        let EntryPayload::Notice(MembersChanged { left, .. }) = &entry.payload else {
            return Ok(());
        };
        let config = engine.config();
        let (replica, timeout) = (config.incarnation.replica, config.election_timeout);
        let index = entry.position.index;
        check(left.is_empty() || !self.has_stranger(now, timeout), || {
            format!(
                "N9: {replica} orders the departures at {index} before all members have said who \
                 they are"
            )
        })?;
        let is_alive = |run: &&Incarnation| {
            let silence = timeout.mul_f64(4.0 * MARGIN);
            self.members.values().any(|seen| {
                seen.run.is_some_and(|(known, _, at)| known == **run && now - at < silence)
            })
        };
        let alive = left.iter().find(is_alive);
        check(alive.is_none(), || {
            format!("N9: {replica} orders at {index} that {alive:?} left, which it hears")
        })
    }
}
