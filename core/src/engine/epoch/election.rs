use std::time::Duration;

use crate::engine::epoch::coordinator::Coordination;
use crate::engine::epoch::discovery::EpochDiscovery;
use crate::engine::membership::peers::Peer;
use crate::engine::{Engine, Output};
use crate::wire::message::Message;
use crate::wire::types::{Ballot, Nonce, ReplicaId};

/// Number of failed ballots after which the delay stops growing.
const DOUBLINGS_MAX: u32 = 5;
/// Number of election timeouts for which configuration changes may protect a sequencer that shows
/// no other sign of life (rule E3).
const CHANGES_COUNT_FOR: u32 = 4;

/// State that decides when this replica starts a ballot of its own (rules E1 to E3).
#[derive(Debug)]
pub(crate) struct Election {
    /// The ballot that this replica coordinates, if any.
    pub(crate) coordination: Option<Coordination>,
    /// Highest counter of any ballot that this replica has believed (rule B10).
    pub(crate) counter_seen: u64,
    /// Set once this run has promised a ballot. A promise of an earlier run does not show which
    /// incarnation coordinates now.
    promised_in_this_run: bool,
    /// Start of the current period without an open epoch at or above the promise.
    pub(crate) unsettled_since: Duration,
    /// Time at which the commit index last advanced.
    pub(crate) commit_advanced_at: Duration,
    /// Start of the current period with work and without a commit; `None` if there is no work.
    work_since: Option<Duration>,
    /// Time at which the sequencer was last heard from.
    pub(crate) sequencer_heard_at: Duration,
    /// First and last configuration change since the last commit or message of the sequencer,
    /// counting only changes that have the sequencer both before and after.
    changes_since_sign: Option<(Duration, Duration)>,
    /// Time since which this sequencer orders nothing, so that a successor can catch up (rule B7).
    pub(crate) draining_since: Option<Duration>,
    /// Epochs that are not open here and may be open elsewhere (rule B9).
    pub(crate) discovery: EpochDiscovery,
    /// Number of ballots that this replica has started since an epoch last opened.
    failures: u32,
    /// Time at which this replica last sent the first `Begin` of a ballot.
    begun_at: Option<Duration>,
    /// Time at which it last sent a `Report`.
    pub(crate) reported_at: Option<Duration>,
    /// Set while a `Report` is due but has to wait until the previous one has left this replica.
    pub(crate) report_due: bool,
    /// Time before which this replica starts no ballot.
    held_until: Duration,
    /// Reason for the next ballot, and the time at which it is due.
    due: Option<(Reason, Duration)>,
    /// State of the random number generator. Seeded with the nonce: the delays of two replicas
    /// differ, and those of one run can be reproduced.
    random: u64,
}

/// Reason to start a ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A group has to be formed, or no epoch is open in this one.
    Start,
    /// The sequencer has left the configuration.
    SequencerGone,
    /// The coordinator of the promised ballot has left before it opened an epoch.
    CoordinatorGone,
    /// There is work, but the commit index does not advance.
    Stalled,
    /// The promised ballot has not opened an epoch in time.
    NotOpened,
    /// This sequencer has learned of a replica with a higher promise.
    Outbid,
    /// This sequencer has to change the voters (rules V1 and V2).
    Voters,
    /// This sequencer does not vote, and a voter could sequence instead (rule B7).
    HandOver,
}

impl Election {
    pub(crate) fn new(nonce: Nonce, now: Duration) -> Self {
        Self {
            coordination: None,
            counter_seen: 0,
            promised_in_this_run: false,
            unsettled_since: now,
            commit_advanced_at: now,
            work_since: None,
            sequencer_heard_at: now,
            changes_since_sign: None,
            draining_since: None,
            discovery: EpochDiscovery::default(),
            failures: 0,
            begun_at: None,
            reported_at: None,
            report_due: false,
            held_until: Duration::ZERO,
            due: None,
            random: nonce.0 | 1,
        }
    }

    /// Records that an epoch has opened.
    pub(crate) fn opened(&mut self, now: Duration) {
        self.failures = 0;
        self.due = None;
        self.draining_since = None;
        self.commit_advanced(now);
        self.sequencer_heard(now);
    }

    /// Records that the commit index has advanced.
    pub(crate) fn commit_advanced(&mut self, now: Duration) {
        self.commit_advanced_at = now;
        self.work_since = None;
        self.changes_since_sign = None;
    }

    /// Records a message from the sequencer.
    pub(crate) fn sequencer_heard(&mut self, now: Duration) {
        self.sequencer_heard_at = now;
        self.changes_since_sign = None;
    }

    /// Records a configuration change after which the sequencer is still a member (rule E3).
    pub(crate) fn sequencer_stayed(&mut self, now: Duration) {
        let first = self.changes_since_sign.map_or(now, |(first, _)| first);
        self.changes_since_sign = Some((first, now));
    }

    /// Starts no ballot before `held_until`: this replica was without a majority and meets others
    /// again, which may have an epoch that it does not know (rule E2).
    pub(crate) fn met_others(&mut self, held_until: Duration) {
        self.held_until = held_until;
        self.due = None;
    }

    /// Records a promise. A higher `Begin` restarts the wait (rule E2).
    pub(crate) fn promised(&mut self, now: Duration) {
        self.promised_in_this_run = true;
        self.unsettled_since = now;
        self.due = None;
    }

    /// Returns a random duration below `span`.
    fn jitter(&mut self, span: Duration) -> Duration {
        // xorshift64 suffices: the delays only have to differ.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        span.mul_f64((self.random >> 11) as f64 / (1u64 << 53) as f64)
    }
}

impl<T> Engine<T> {
    /// Starts a ballot if one is due, or continues the one in progress.
    pub(crate) fn consider_ballot(&mut self, out: &mut Vec<Output<T>>) {
        if self.has_work() || self.is_wake_overdue() {
            self.election.work_since.get_or_insert(self.now.monotonic);
        } else {
            self.election.work_since = None;
        }
        if self.election.coordination.is_some() {
            self.tend_coordination(out);
            return;
        }
        let Some(reason) = self.ballot_reason() else {
            self.election.due = None;
            self.election.draining_since = None;
            return;
        };
        let Some(rank) = self.rank() else { return };
        let now = self.now.monotonic;
        let at = match self.election.due {
            Some((known, at)) if known == reason => at,
            _ => {
                let at = now + self.ballot_delay(reason, rank);
                self.election.due = Some((reason, at));
                at
            }
        };
        let is_due = now >= at.max(self.election.held_until) && self.sees_majority();
        if is_due && self.may_give_way(reason) {
            self.begin(reason, out);
        }
    }

    /// Starts a ballot: chooses its counter and sends `Begin`.
    fn begin(&mut self, reason: Reason, out: &mut Vec<Output<T>>) {
        // The previous `Begin` has not left this replica yet.
        if self.election.begun_at.is_some_and(|at| self.is_unsent(at)) {
            return;
        }
        let Some(counter) = self.next_counter() else { return };
        self.election.begun_at = Some(self.now.monotonic);
        let ballot = Ballot { counter, replica: self.me().replica.0, nonce: self.me().nonce };
        tracing::info!(replica = %self.me().replica, %ballot, ?reason, "starting a ballot");
        let wanted = self.wanted_voters();
        self.election.coordination = Some(Coordination::new(ballot, wanted, self.now.monotonic));
        self.election.failures += 1;
        self.election.due = None;
        out.push(Output::Send(Message::Begin(ballot)));
    }

    /// Repeats `Begin`, or `Open` once decided, until it is answered or superseded. Gives the
    /// ballot up after four election timeouts.
    fn tend_coordination(&mut self, out: &mut Vec<Output<T>>) {
        let now = self.now.monotonic;
        if self.election.coordination.as_ref().is_some_and(|own| own.open.is_none()) {
            self.decide(out);
        }
        let sent_at = self.election.coordination.as_ref().map(|own| own.sent_at);
        let waited = sent_at.map_or(Duration::ZERO, |at| self.unanswered(at));
        let Some(coordination) = &mut self.election.coordination else { return };
        if coordination.ballot < self.promised
            || now.saturating_sub(coordination.since) > self.config.election_timeout * 4
        {
            self.election.coordination = None;
            self.election.unsettled_since = now;
        } else if waited > self.config.resend_timeout {
            coordination.sent_at = now;
            out.push(Output::Send(match &coordination.open {
                Some(open) => Message::Open(open.clone()),
                None => Message::Begin(coordination.ballot),
            }));
        }
    }

    /// Returns the reason to start a ballot, if there is one now.
    fn ballot_reason(&self) -> Option<Reason> {
        let now = self.now.monotonic;
        let timeout = self.config.election_timeout;
        let Some(epoch) = self.live() else {
            if self.log.is_empty() && self.waits_for_unidentified() {
                return None;
            }
            if self.promised == Ballot::default() {
                return self.may_start().then_some(Reason::Start);
            }
            let coordinator_here = self.peers.identified().any(|peer| {
                peer.incarnation.replica.0 == self.promised.replica
                    && peer.incarnation.nonce == self.promised.nonce
            });
            if self.election.promised_in_this_run && !coordinator_here {
                return Some(Reason::CoordinatorGone);
            }
            let waited = now.saturating_sub(self.election.unsettled_since);
            return (waited >= timeout).then_some(Reason::NotOpened);
        };
        if !self.peers.has(epoch.open.sequencer) {
            return Some(Reason::SequencerGone);
        }
        if epoch.sequencing && self.peers.highest_promise() > self.promised {
            return Some(Reason::Outbid);
        }
        if self.wanted_voters().is_some() {
            return Some(Reason::Voters);
        }
        if self.is_to_hand_over() {
            return Some(Reason::HandOver);
        }
        // The work of a lagging replica is no reason: a ballot would not help it, and would disturb
        // the replicas that commit without it.
        let lags = !epoch.in_sync || self.log.last().index < self.acked_by_majority();
        let waits = self.election.work_since.is_some_and(|at| now.saturating_sub(at) >= timeout);
        let reads_wait =
            self.reads.waiting_since().is_some_and(|at| now.saturating_sub(at) >= timeout);
        ((waits || reads_wait) && !lags).then_some(Reason::Stalled)
    }

    /// Returns true if a first ballot makes sense. For a new group, every listed replica has to be
    /// here, and none may have a log (rule V3).
    fn may_start(&self) -> bool {
        !self.log.is_empty() || self.may_form_group() && self.sees_majority()
    }

    /// Returns true if this replica may help to form a new group (rule V3). It may not if it has a
    /// log or knows of a replica with one. A peer with an open epoch has a log, even if it has not
    /// reported its length yet.
    fn may_form_group(&self) -> bool {
        let has_none = |peer: &Peer| peer.last.index.0 == 0 && peer.epoch == Ballot::default();
        self.log.is_empty()
            && self.config.bootstrap.contains(&self.me().replica)
            && self.peers.identified().all(has_none)
            && self.peers.applications.with_log().is_none()
    }

    /// Returns true while a member has not identified itself: it may belong to an existing group
    /// (rule V3). Waits for each such member for at most an election timeout, because some never
    /// answer.
    fn waits_for_unidentified(&self) -> bool {
        let recent = self.now.monotonic.saturating_sub(self.config.election_timeout);
        self.peers.has_unidentified(recent)
    }

    /// Returns true if a majority of the voters is in the configuration. No `Begin` is sent without
    /// one (rule E1). A group that is yet to be formed needs every listed replica.
    pub(crate) fn sees_majority(&self) -> bool {
        if self.log.is_empty() {
            let listed = &self.config.bootstrap;
            let here = listed.iter().filter(|replica| self.peers.has_replica(**replica)).count();
            return here == listed.len();
        }
        self.log.voters().majority(self.commit.index, |voter| self.peers.has_voter(voter))
    }

    /// Returns the number of voters in the configuration that rank before this replica; `None` if
    /// it may not start a ballot because it is no voter. A sequencer always ranks first: one that
    /// does not vote, because no voter was at the base, has to hand over by itself.
    fn rank(&self) -> Option<u32> {
        if self.is_sequencing() {
            return Some(0);
        }
        if self.log.is_empty() {
            // An epoch that is open here and has a base belongs to an existing group (rule V3).
            if self.epoch.is_some() {
                return None;
            }
            let (listed, me) = (&self.config.bootstrap, self.me().replica);
            let before = |replica: &&ReplicaId| **replica < me && self.peers.has_replica(**replica);
            return listed.contains(&me).then(|| listed.iter().filter(before).count() as u32);
        }
        let voters = self.log.voters();
        let ranked = || voters.now.iter().chain(voters.previous.iter());
        let mine = ranked().position(|voter| *voter == self.voter())?;
        let before = ranked().take(mine).filter(|voter| self.peers.has_voter(voter));
        Some(before.count() as u32)
    }

    /// Returns the delay before a ballot (rule E2): none for the best-ranked replica; for others a
    /// random one that grows with each failure.
    fn ballot_delay(&mut self, reason: Reason, rank: u32) -> Duration {
        let step = self.config.election_timeout / 4;
        if reason == Reason::Voters {
            // Give other changes of the voters time to arrive, so that one epoch covers them all.
            return step;
        }
        if matches!(reason, Reason::Outbid | Reason::HandOver)
            || rank == 0 && self.election.failures == 0
        {
            return Duration::ZERO;
        }
        let doublings = self.election.failures.min(DOUBLINGS_MAX);
        step * rank + self.election.jitter(step * (1 << doublings))
    }

    /// Returns true if the open epoch is healthy, so that a `Begin` of another replica is ignored
    /// (rule E3).
    pub(crate) fn is_epoch_healthy(&self) -> bool {
        let timeout = self.config.election_timeout;
        let within = |at: Duration| self.ago(at) < timeout / 2;
        // Nothing is delivered while a ring is formed, so the sequencer's silence means nothing
        // then. The limit keeps peers that come and go from protecting a hung sequencer forever.
        let changed = self.election.changes_since_sign.is_some_and(|(first, last)| {
            within(last) && self.ago(first) < timeout * CHANGES_COUNT_FOR
        });
        self.live().is_some_and(|epoch| {
            self.peers.has(epoch.open.sequencer)
                && (changed
                    || within(self.election.commit_advanced_at)
                    || within(self.election.sequencer_heard_at)
                        // Work that has only just arrived does not make an epoch unhealthy.
                        && self.election.work_since.is_none_or(within)
                        && self.reads.waiting_since().is_none_or(within))
        })
    }

    /// Returns true if there is work that a working epoch would carry out.
    pub(crate) fn has_work(&self) -> bool {
        self.log.last().index > self.commit.index
            || !self.ordering.marks.is_empty()
            || self.proposals.has_unordered()
            || self.ordering.pool.has_next(&self.log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::engine::solo::{member, run};
    use crate::engine::{Config, Input, Now};
    use crate::wire::message::{Announce, Progress};
    use crate::wire::types::{ClusterId, Index, Position, StoreId};

    fn announces(replica: u32) -> Message {
        Message::Announce(Announce {
            incarnation: run(replica, replica.into()),
            store: StoreId(replica.into()),
            last: Position::default(),
            promised: Ballot::default(),
            first_kept: Index(1),
            snapshots: Vec::new(),
            first: true,
            refused: None,
            application: String::new(),
        })
    }

    /// Returns true if replica 1 starts a ballot to form a group with replica 2, which announces an
    /// empty log, after replica 3 has sent `said_by_3`.
    fn forms_a_group(said_by_3: Message) -> bool {
        let now = Now { monotonic: Duration::from_secs(100), wall: Timestamp(100_000) };
        let config = Config::new(run(1, 1), StoreId(1), vec![ReplicaId(1), ReplicaId(2)]);
        let mut engine = Engine::<u64>::new(config, now);
        let [local, second, third] = [1, 2, 3].map(|replica| member(replica, replica));
        let members = vec![local, second, third];
        let said = [(third, said_by_3), (local, announces(1)), (second, announces(2))];
        let said = said.map(|(from, message)| Input::Delivered { from, cluster: None, message });
        let joined = members.clone();
        let mut inputs = vec![Input::Configuration { local, members, joined }];
        inputs.extend(said);
        inputs.push(Input::Drained);
        let mut out = Vec::new();
        inputs.into_iter().for_each(|input| engine.step(now, input, &mut out));
        out.iter().any(|output| matches!(output, Output::Send(Message::Begin(_))))
    }

    #[test]
    fn v3_a_group_is_not_formed_before_all_members_identify_themselves() {
        let now = Now { monotonic: Duration::from_secs(100), wall: Timestamp(100_000) };
        let config = Config::new(run(1, 1), StoreId(1), vec![ReplicaId(1)]);
        let timeout = config.election_timeout;
        let mut engine = Engine::<u64>::new(config, now);
        let members = vec![member(1, 1), member(2, 2)];
        let mut begins = |after: Duration, input| {
            let now = Now { monotonic: now.monotonic + after, ..now };
            let mut out = Vec::new();
            engine.step(now, input, &mut out);
            engine.step(now, Input::Drained, &mut out);
            out.iter().any(|output| matches!(output, Output::Send(Message::Begin(_))))
        };
        let local = member(1, 1);
        let joined = members.clone();
        assert!(!begins(Duration::ZERO, Input::Configuration { local, members, joined }));
        let own = Input::Delivered { from: local, cluster: None, message: announces(1) };
        assert!(!begins(timeout / 2, own));
        assert!(begins(timeout, Input::Tick), "the member may never answer");
    }

    /// Returns a voter of a group with logs in memory, after all voters have restarted while
    /// replica 3, a learner, has kept running.
    fn after_all_voters_restarted() -> Engine<u64> {
        let now = Now { monotonic: Duration::from_secs(100), wall: Timestamp(100_000) };
        let mut config = Config::new(run(1, 1), StoreId(1), vec![ReplicaId(1), ReplicaId(2)]);
        config.volatile = true;
        let mut engine = Engine::<u64>::new(config, now);
        let members = [1, 2, 3].map(|replica| member(replica, replica)).to_vec();
        let (local, joined) = (member(1, 1), members.clone());
        engine.step(now, Input::Configuration { local, members, joined }, &mut Vec::new());
        let last = Position { epoch: Ballot { counter: 7, ..Ballot::default() }, index: Index(7) };
        for replica in 1..=3 {
            let Message::Announce(mut announce) = announces(replica) else { unreachable!() };
            let cluster = (replica == 3).then_some(ClusterId(9));
            if cluster.is_some() {
                (announce.last, announce.promised) = (last, last.epoch);
            }
            let (from, message) = (member(replica, replica), Message::Announce(announce));
            engine.step(now, Input::Delivered { from, cluster, message }, &mut Vec::new());
        }
        engine
    }

    #[test]
    fn v3_a_learner_with_a_log_blocks_a_new_group_and_the_status_says_so() {
        let mut engine = after_all_voters_restarted();
        let mut now = engine.now;
        for _ in 0..1000 {
            now.monotonic += Duration::from_millis(50);
            let mut out = Vec::new();
            engine.step(now, Input::Tick, &mut out);
            engine.step(now, Input::Drained, &mut out);
            assert!(!out.iter().any(|output| matches!(output, Output::Send(Message::Begin(_)))));
        }
        let waiting = engine.status().waiting.unwrap_or_default();
        assert!(waiting.contains("force a new cluster at replica 3"), "{waiting}");
    }

    #[test]
    fn v3_a_replica_that_knows_of_an_epoch_forms_no_group() {
        assert!(forms_a_group(announces(3)));
        let epoch = Ballot { counter: 7, ..Ballot::default() };
        assert!(!forms_a_group(Message::Progress(Progress {
            epoch,
            incarnation: run(3, 3),
            store: StoreId(3),
            marks: None,
            acked: Index(5),
            applied: Index(5),
            echo: Vec::new(),
            promised: epoch,
        })));
    }
}
