use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use super::disk::Digests;
use super::log_time::{KnownTime, LogTime};
use crate::engine::{Entry, EntryPayload};
use crate::wire::entry::{Batch, MembersChanged};
use crate::wire::message::{Open, Report};
use crate::wire::types::{Ballot, Digest, Incarnation, Index, Nonce, Position, ReplicaId, Voters};
use crate::{Consistency, Timestamp};

/// What must never be, and was: a rule of `docs/protocol.md` and what broke it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

pub(super) type Checked<V = ()> = Result<V, Violation>;

pub(super) fn check(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation(what())) }
}

/// A command as a run names it; the bytes that are proposed begin with it, so two places in
/// the order of one proposal show, whoever put it there.
pub(super) type ProposalId = u64;

/// What is known of all replicas together, for all time.
///
/// The maps with an order of their own are only ever asked, never walked.
#[derive(Debug)]
pub(super) struct Checker<O> {
    /// Every entry that ever was in a log, by place and digest: the digest before it.
    before: HashMap<(Index, Digest), Digest>,
    /// One digest for each position, whoever holds it.
    positions: HashMap<Position, Digest>,
    /// What was committed, from index 1.
    committed: Vec<Fact<O>>,
    /// The greatest index that some replica knows committed.
    known_commit: Index,
    /// Where each proposal was committed.
    places: HashMap<ProposalId, (Index, usize)>,
    /// Proposals whose callers were told that they will never take effect.
    refused: BTreeSet<ProposalId>,
    /// Proposals that a read did not see which was to wait for them: so they never come.
    missed: BTreeSet<ProposalId>,
    /// The greatest index that anybody has had an answer from.
    answered: Index,
    /// Reads under way, and what each has to see at least.
    reads: BTreeMap<ProposalId, (Consistency, Index)>,
    /// The last batch of each replica in the committed order.
    origins: BTreeMap<ReplicaId, (u64, Nonce, u64)>,
    /// Members by the committed order.
    members: BTreeSet<Incarnation>,
    /// What the coordinator of each ballot held itself.
    held: BTreeMap<Ballot, Position>,
    /// What each epoch goes on from, and who sequences it.
    opens: BTreeMap<Ballot, Open>,
    /// Who forms the group.
    listed: Vec<ReplicaId>,
    pub(super) log_time: LogTime,
    /// The log of whoever forced this cluster (rule V4).
    inherited: Digests,
}

/// What is known of a committed index.
#[derive(Clone, Debug)]
struct Fact<O> {
    digest: Digest,
    /// The epoch in which it was first known to be committed.
    known_in: Ballot,
    /// Of its commands, at the first replica that applied it.
    outputs: Option<Vec<O>>,
    /// Whether the state machine was woken before it, at the first replica that applied it.
    woken: Option<bool>,
    /// What it is, without its commands.
    payload: EntryPayload,
}

impl<O: Clone + PartialEq + fmt::Debug> Checker<O> {
    pub(super) fn new(listed: Vec<ReplicaId>) -> Self {
        Self {
            listed,
            before: HashMap::new(),
            positions: HashMap::new(),
            committed: Vec::new(),
            known_commit: Index(0),
            places: HashMap::new(),
            refused: BTreeSet::new(),
            missed: BTreeSet::new(),
            answered: Index(0),
            reads: BTreeMap::new(),
            origins: BTreeMap::new(),
            members: BTreeSet::new(),
            held: BTreeMap::new(),
            opens: BTreeMap::new(),
            log_time: LogTime::default(),
            inherited: Digests::default(),
        }
    }

    /// Of the cluster that is forced with that log (rule V4): whatever it holds is kept, and
    /// nothing else. Beyond what it knew to be committed it may hold what never was, in the
    /// place of what was.
    pub(super) fn forked(&mut self, open: &Open, log: &Digests) -> Checked<Self> {
        let facts = (1..).map(Index).zip(&self.committed);
        let shared = facts.take_while(|(index, fact)| log.holds(*index, fact.digest)).count();
        let ends = Index(shared as u64);
        let mut fork = Self::new(self.listed.clone());
        fork.before.clone_from(&self.before);
        fork.positions.clone_from(&self.positions);
        fork.refused.clone_from(&self.refused);
        // What was answered before may be lost.
        fork.reads = self.reads.iter().map(|(id, (how, _))| (*id, (*how, Index(0)))).collect();
        fork.places = self.places.clone();
        fork.places.retain(|_, (index, _)| *index <= ends);
        fork.opens = self.opens.range(..=open.base.epoch).map(|(b, o)| (*b, o.clone())).collect();
        fork.opens.insert(open.ballot, open.clone());
        (fork.log_time, fork.inherited) = (self.log_time.clone(), log.clone());
        for (index, fact) in (1..=ends.0).map(Index).zip(&self.committed) {
            match &fact.payload {
                EntryPayload::Batch(batch) => fork.ordered(index, batch)?,
                EntryPayload::Notice(change) => fork.noticed(index, change)?,
                EntryPayload::EpochStart(_) | EntryPayload::Time => {}
            }
            fork.committed.push(fact.clone());
        }
        fork.known_commit = self.known_commit.min(ends);
        Ok(fork)
    }

    /// Whether whoever forced this cluster held that.
    pub(super) fn inherits(&self, index: Index, digest: Digest) -> bool {
        self.inherited.holds(index, digest)
    }

    /// How much is known to be committed.
    pub(super) fn committed(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// Who votes in an epoch.
    pub(super) fn voters(&self, epoch: Ballot) -> Option<&Voters> {
        self.opens.get(&epoch).map(|open| &open.voters)
    }

    /// Where an epoch goes on.
    pub(super) fn base(&self, epoch: Ballot) -> Option<Index> {
        self.opens.get(&epoch).map(|open| open.base.index)
    }

    /// Who sequences an epoch.
    pub(super) fn sequencer(&self, epoch: Ballot) -> Option<Incarnation> {
        self.opens.get(&epoch).map(|open| open.sequencer)
    }

    pub(super) fn epochs(&self) -> usize {
        self.opens.len()
    }

    /// A replica appends an entry; `when` tells from when to when it may have been, and `known_time`
    /// what it knew of the log's time before.
    pub(super) fn appended(
        &mut self,
        entry: &Entry,
        before: Option<Digest>,
        by: Incarnation,
        known_time: &KnownTime,
        when: &Range<Duration>,
    ) -> Checked {
        let index = entry.position.index;
        let known = *self.positions.entry(entry.position).or_insert(entry.digest);
        check(known == entry.digest, || {
            format!("log matching: two entries at {}: {known} and {}", entry.position, entry.digest)
        })?;
        // Behind a snapshot stands what was committed.
        let committed = || Some(self.committed.get(index.0.checked_sub(2)? as usize)?.digest);
        let Some(before) = before.or_else(committed) else { return Ok(()) };
        let news = !self.before.contains_key(&(index, entry.digest));
        let known = *self.before.entry((index, entry.digest)).or_insert(before);
        check(known == before, || {
            format!("log matching: the logs before {} differ: {known} and {before}", entry.position)
        })?;
        let is_start = matches!(entry.payload, EntryPayload::EpochStart(_));
        let sequencer = self.opens.get(&entry.position.epoch).map(|open| open.sequencer);
        if !is_start && sequencer == Some(by) && news {
            known_time.check_stamp(entry.time, when)?;
            self.log_time.check_stamp(entry.position.epoch, entry.time, when)?;
        }
        if news || sequencer == Some(by) {
            self.log_time.came_up(entry.time, when);
        }
        Ok(())
    }

    /// A replica truncates its log to open `epoch`: what was committed in an earlier one is never cut.
    ///
    /// A replica that has not heard of a later epoch may cut what was committed only there, since a
    /// majority without it holds that.
    pub(super) fn cut(&self, after: Index, log: &Digests, epoch: Ballot) -> Checked {
        let cut = after.0 + 1..=log.last().0.min(self.committed().0);
        for index in cut.map(Index) {
            let committed = &self.committed[index.0 as usize - 1];
            let is_later = committed.known_in >= epoch;
            check(is_later || log.at(index) != Some(committed.digest), || {
                format!("B6: entry {index}, which is committed, is cut")
            })?;
        }
        Ok(())
    }

    /// A replica reports the end of its log.
    pub(super) fn reported(&mut self, report: &Report) {
        let (ballot, run) = (report.ballot, report.incarnation);
        if (ballot.replica, ballot.nonce) == (run.replica.0, run.nonce) {
            self.held.insert(ballot, report.last);
        }
    }

    /// A coordinator opens an epoch.
    pub(super) fn opened(&mut self, open: &Open, now: Duration) -> Checked {
        if let Some(known) = self.opens.get(&open.ballot) {
            return check(known == open, || {
                format!("B5: ballot {} has two Opens: {known:?} and {open:?}", open.ballot)
            });
        }
        let first: Vec<_> = open.voters.now.iter().map(|voter| voter.replica).collect();
        check(open.base.index > Index(0) || first == self.listed, || {
            format!("V3: a group is formed by {first:?}, without all of {:?}", self.listed)
        })?;
        if let Some(before) = self.opens.get(&open.base.epoch) {
            let known = before.voters.is_settled(self.known_commit);
            check(known || open.voters == before.voters, || {
                format!("V1: epoch {} changes voters before their last change", open.ballot)
            })?;
            let held = self.held.get(&open.ballot);
            let at_base = held.is_none_or(|held| *held == open.base);
            check(at_base || open.voters.now == before.voters.now, || {
                format!("V1: the coordinator of {} changes voters and is at {held:?}", open.ballot)
            })?;
        }
        let before = self.opens.get(&open.base.epoch).map(|before| before.voters.clone());
        self.log_time.opened(open, before.as_ref(), now)?;
        self.opens.insert(open.ballot, open.clone());
        let earlier = |fact: &Fact<O>| fact.known_in < open.ballot;
        match self.committed.iter().rposition(earlier) {
            Some(at) => self.base_holds(open, Index(at as u64 + 1)),
            None => Ok(()),
        }
    }

    /// Completeness: every committed entry is in every later base.
    fn base_holds(&self, open: &Open, index: Index) -> Checked {
        let committed = self.committed[index.0 as usize - 1].digest;
        check(self.digest_at(open, index) == Some(committed), || {
            format!(
                "completeness: epoch {} goes on from {}, without entry {index}, which was committed",
                open.ballot, open.base
            )
        })
    }

    /// The digest at an index of the log that an epoch goes on from.
    fn digest_at(&self, open: &Open, index: Index) -> Option<Digest> {
        let (mut at, mut digest) = (open.base.index, open.digest);
        while at > index {
            digest = *self.before.get(&(at, digest))?;
            at = Index(at.0 - 1);
        }
        (at == index).then_some(digest)
    }

    /// A replica hands a committed entry out to be applied, in that epoch.
    pub(super) fn handed_out(
        &mut self,
        entry: &Entry,
        epoch: Ballot,
        proposals: &[ProposalId],
    ) -> Checked {
        let index = entry.position.index;
        if let Some(fact) = self.committed.get(index.0 as usize - 1) {
            return check(fact.digest == entry.digest, || {
                format!("two commits at index {index}: {} and {}", fact.digest, entry.digest)
            });
        }
        check(index == self.committed().next(), || {
            format!("entry {index} is committed before {}", self.committed().next())
        })?;
        check(epoch >= entry.position.epoch, || {
            format!("N8: an entry of epoch {} commits in {epoch}", entry.position.epoch)
        })?;
        let expected = self.inherited.at(index);
        check(expected.is_none_or(|digest| digest == entry.digest), || {
            format!(
                "V4: {index} is {}, and whoever forced the cluster had {expected:?}",
                entry.digest
            )
        })?;
        let mut payload = entry.payload.clone();
        if let EntryPayload::Batch(batch) = &mut payload {
            batch.commands = Bytes::new();
        }
        self.committed.push(Fact {
            digest: entry.digest,
            known_in: epoch,
            outputs: None,
            woken: None,
            payload,
        });
        if let Some(open) = self.opens.get(&epoch) {
            check(index > open.base.index || epoch > entry.position.epoch, || {
                format!("N8: entry {index} of epoch {epoch} is not after its base {}", open.base)
            })?;
        }
        for open in self.opens.range(epoch..).map(|(_, open)| open) {
            if open.ballot > epoch {
                self.base_holds(open, index)?;
            }
        }
        match &entry.payload {
            EntryPayload::Batch(batch) => self.ordered(index, batch)?,
            EntryPayload::Notice(change) => self.noticed(index, change)?,
            EntryPayload::EpochStart(_) | EntryPayload::Time => {}
        }
        for (offset, id) in proposals.iter().enumerate() {
            let place = *self.places.entry(*id).or_insert((index, offset));
            check(place == (index, offset), || {
                format!("N2: proposal {id} is committed at {place:?} and at {:?}", (index, offset))
            })?;
            check(!self.refused.contains(id), || {
                format!("N10: proposal {id} was refused for good and is committed at {index}")
            })?;
            check(!self.missed.contains(id), || {
                format!(
                    "R2: proposal {id} is committed at {index}, behind a read that waited for it"
                )
            })?;
        }
        Ok(())
    }

    /// Rule N2: each origin's order is gapless, as a function of the log alone.
    fn ordered(&mut self, index: Index, batch: &Batch) -> Checked {
        let origin = batch.origin;
        let last =
            self.origins.insert(origin.replica, (origin.counter, origin.nonce, batch.number));
        let next = last.map_or(batch.number == 1, |(counter, nonce, number)| {
            if counter == origin.counter {
                nonce == origin.nonce && batch.number == number + 1
            } else {
                counter < origin.counter && batch.number == 1
            }
        });
        check(next, || {
            format!("N2: batch {} of {origin:?} at {index} comes after {last:?}", batch.number)
        })?;
        check(self.members.contains(&origin.incarnation()), || {
            format!("N9: entry {index} is a batch of {origin:?}, which is no member")
        })
    }

    /// Rule N9: nobody joins twice, or leaves without being there.
    fn noticed(&mut self, index: Index, change: &MembersChanged) -> Checked {
        let left = change.left.iter().all(|run| self.members.remove(run));
        let joined = change.joined.iter().all(|run| self.members.insert(*run));
        check(left && joined, || format!("N9: the notice at {index} is wrong: {change:?}"))
    }

    /// A replica knows of commits up to there, in that epoch.
    pub(super) fn commits(&mut self, commit: Index, epoch: Ballot) -> Checked {
        self.known_commit = self.known_commit.max(commit);
        let base = self.opens.get(&epoch).map(|open| open.base.index);
        // What a snapshot holds is known from elsewhere.
        check(commit <= self.committed() || base.is_none_or(|base| commit > base), || {
            format!("N8: {commit} is committed in epoch {epoch}, which goes on from {base:?}")
        })
    }

    /// The last epoch that was opened anywhere, with its voters.
    pub(super) fn last_open(&self) -> Option<&Open> {
        self.opens.last_key_value().map(|(_, open)| open)
    }

    /// A replica has applied an entry: the outputs are the same everywhere.
    pub(super) fn applied(&mut self, index: Index, outputs: Vec<O>) -> Checked {
        let Some(fact) = self.committed.get_mut(index.0 as usize - 1) else {
            return Err(Violation(format!("entry {index} is applied and not committed")));
        };
        match &fact.outputs {
            None => fact.outputs = Some(outputs),
            Some(known) => check(*known == outputs, || {
                format!(
                    "the state machine is not deterministic: at index {index} it answers \
                     {outputs:?}, and {known:?} elsewhere"
                )
            })?,
        }
        Ok(())
    }

    /// Rule N11: a replica applies an entry, before which its state machine `asked` to be
    /// woken: it is woken when its time has come, at the same place everywhere, and a time is
    /// ordered for nobody else.
    pub(super) fn woken(
        &mut self,
        entry: &Entry,
        asked: Option<Timestamp>,
        woken: bool,
    ) -> Checked {
        let (index, time) = (entry.position.index, entry.time);
        let is_due = asked.is_some_and(|at| at <= time);
        check(woken == is_due, || {
            format!(
                "N11: at {index}, {time}, asked for {asked:?}, the state machine was woken: {woken}"
            )
        })?;
        check(is_due || entry.payload != EntryPayload::Time, || {
            format!("N11: the time at {index}, {time}, wakes nobody: asked for {asked:?}")
        })?;
        let fact = self.committed.get_mut(index.0 as usize - 1);
        let known = fact.map_or(woken, |fact| *fact.woken.get_or_insert(woken));
        check(known == woken, || {
            format!("N11: at {index} the state machine is woken: {woken}, and elsewhere: {known}")
        })
    }

    /// How many of the committed entries only tell the time.
    pub(super) fn times(&self) -> u64 {
        self.committed.iter().filter(|fact| fact.payload == EntryPayload::Time).count() as u64
    }

    /// Whether the last entry that was committed only tells the time.
    pub(super) fn ends_in_time(&self) -> bool {
        self.committed.last().is_some_and(|fact| fact.payload == EntryPayload::Time)
    }

    /// Members by the committed order.
    pub(super) fn members(&self) -> &BTreeSet<Incarnation> {
        &self.members
    }

    /// A caller hears that its command will never take effect.
    pub(super) fn refused(&mut self, id: ProposalId) -> Checked {
        self.refused.insert(id);
        check(!self.places.contains_key(&id), || {
            format!("N10: proposal {id} is refused for good and was committed")
        })
    }

    /// A caller hears that its command took effect.
    pub(super) fn forgone(&mut self, id: ProposalId) -> Checked {
        let place = self.places.get(&id);
        self.answered = self.answered.max(place.map_or(Index(0), |(index, _)| *index));
        check(place.is_some(), || {
            format!("N10: proposal {id} is said to have taken effect and was never committed")
        })
    }

    /// A client asks for a read, whatever it is answered.
    pub(super) fn read_began(&mut self, id: ProposalId, consistency: Consistency) {
        self.reads.insert(id, (consistency, self.answered));
    }

    pub(super) fn is_read(&self, id: ProposalId) -> bool {
        self.reads.contains_key(&id)
    }

    /// A read is answered from the state at that index, by a replica where these were proposed.
    pub(super) fn read_answered(
        &mut self,
        id: ProposalId,
        applied: Index,
        proposed: &BTreeSet<ProposalId>,
    ) -> Checked {
        let Some((consistency, least)) = self.reads.remove(&id) else { return Ok(()) };
        if consistency == Consistency::Local {
            return Ok(());
        }
        self.answered = self.answered.max(applied);
        check(applied >= least, || {
            format!("R1: read {id} sees {applied}, and {least} was answered before it was asked")
        })?;
        if consistency == Consistency::ReadYourWrites {
            for earlier in proposed.range(..id) {
                match self.places.get(earlier) {
                    Some((index, _)) => check(*index <= applied, || {
                        format!("R2: read {id} sees {applied}, and {earlier} is at {index}")
                    })?,
                    None => _ = self.missed.insert(*earlier),
                }
            }
        }
        Ok(())
    }

    /// A caller hears the output of its command.
    pub(super) fn acknowledged(&mut self, id: ProposalId, index: Index, offset: usize) -> Checked {
        let place = self.places.get(&id).copied();
        self.answered = self.answered.max(index);
        check(place == Some((index, offset)), || {
            format!("proposal {id} is answered from {:?} and stands at {place:?}", (index, offset))
        })
    }
}
