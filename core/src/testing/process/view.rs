//! Checks of ballots and departures against the events that a process has received.

use std::collections::BTreeMap;
use std::time::Duration;

use cpg::Member;

use crate::engine::{Engine, Entry, EntryPayload, MembersChanged};
use crate::testing::checker::{Checked, ProposalId, check};
use crate::wire::message::{Message, Progress};
use crate::wire::types::{Ballot, ClusterId, Incarnation, Index, StoreId, Voter};

/// Fraction of each time that is checked, because clocks run at different speeds.
const MARGIN: f64 = 0.9;

/// Facts about the members of the group, from the events that a process has received.
#[derive(Debug, Default)]
pub(super) struct View {
    members: BTreeMap<Member, Seen>,
    /// The last ballot that the process began.
    begun: Ballot,
    /// Rule E2: time at which the process, which had no majority, met others again.
    met_others_at: Option<Duration>,
    /// Rule E3: times of the first and the last configuration since the last sign of the sequencer
    /// in which the sequencer stayed.
    stayed: Option<(Duration, Duration)>,
}

/// A member as the process knows it.
#[derive(Debug)]
struct Seen {
    came_at: Duration,
    /// True if its last message was of another cluster.
    is_foreign: bool,
    /// Its incarnation and store, with the time of the last message that named them.
    run: Option<(Incarnation, StoreId, Duration)>,
}

impl View {
    /// Notes a configuration that the process is about to receive.
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

    /// Notes that the process has lost its connection to the group.
    pub(super) fn lose(&mut self) {
        self.members.clear();
    }

    /// Notes a message that the process is about to receive.
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

    /// Notes that the process has learned of a commit or of an epoch.
    pub(super) fn advanced(&mut self) {
        self.stayed = None;
    }

    /// Notes that the configuration has changed and contains the sequencer both before and after.
    pub(super) fn sequencer_stayed(&mut self, now: Duration) {
        self.stayed = Some((self.stayed.map_or(now, |(first, _)| first), now));
    }

    /// Returns true if the configuration changed around the sequencer a moment ago (rule E3).
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

    /// Returns true if a member joined a moment ago and has not identified itself yet.
    fn has_unidentified(&self, now: Duration, timeout: Duration) -> bool {
        self.members.values().any(|seen| {
            let is_new = now - seen.came_at < timeout.mul_f64(MARGIN);
            is_new && seen.run.is_none() && !seen.is_foreign
        })
    }

    /// Checks rules E1, E2 and V3 for a ballot that the process begins.
    pub(super) fn check_ballot(
        &mut self,
        engine: &Engine<ProposalId>,
        ballot: Ballot,
        now: Duration,
    ) -> Checked {
        // A repeated `Begin` was checked the first time.
        if std::mem::replace(&mut self.begun, ballot) == ballot {
            return Ok(());
        }
        let config = engine.config();
        let (replica, timeout) = (config.incarnation.replica, config.election_timeout);
        if engine.last() == Index(0) {
            return check(!self.has_unidentified(now, timeout), || {
                format!("V3: {replica} forms a group before all members have identified themselves")
            });
        }
        check(self.has_majority(engine), || {
            format!("E1: {replica} begins a ballot without a majority")
        })?;
        let waits = timeout.mul_f64(MARGIN / 2.0);
        check(self.met_others_at.is_none_or(|at| now - at >= waits), || {
            format!("E2: {replica} begins a ballot too soon after it met others again")
        })
    }

    /// Checks rule N9 for an entry that the process has ordered as the sequencer.
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
        check(left.is_empty() || !self.has_unidentified(now, timeout), || {
            format!(
                "N9: {replica} orders the departures at {index} before all members have \
                 identified themselves"
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
            format!("N9: {replica} orders at {index} the departure of {alive:?}, which still sends")
        })
    }
}
