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

/// A violation of the protocol: names the broken rule of `docs/protocol.md` and the state that
/// broke it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

pub(super) type Checked<V = ()> = Result<V, Violation>;

pub(super) fn check(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation(what())) }
}

/// Identifies one proposal of a run. The bytes of each proposed command begin with this id, so the
/// checker recognizes a proposal that appears twice in the log, wherever the copies came from.
pub(super) type ProposalId = u64;

/// The observed history of one cluster, over all its replicas and the whole run.
///
/// The hash maps are only used for lookups, never iterated, so their order does not affect a run.
#[derive(Debug)]
pub(super) struct Checker<O> {
    /// Digest of the preceding entry, for every entry that was ever in a log, by index and digest.
    before: HashMap<(Index, Digest), Digest>,
    /// The only digest allowed at each position, at any replica.
    positions: HashMap<Position, Digest>,
    /// The committed entries, from index 1.
    committed: Vec<Fact<O>>,
    /// Highest index that any replica knows to be committed.
    known_commit: Index,
    /// Index of each committed proposal, and its offset in the batch.
    places: HashMap<ProposalId, (Index, usize)>,
    /// Proposals that were rejected with the promise that they never take effect.
    refused: BTreeSet<ProposalId>,
    /// Proposals that a read-your-writes read did not see, although they were proposed before it.
    /// They must never be committed later.
    missed: BTreeSet<ProposalId>,
    /// Highest index whose effect a client has seen in any answer.
    answered: Index,
    /// Reads in progress, with their consistency and the lowest index that each of them must see.
    reads: BTreeMap<ProposalId, (Consistency, Index)>,
    /// Counter, nonce and number of each replica's last batch in the committed log.
    origins: BTreeMap<ReplicaId, (u64, Nonce, u64)>,
    /// Members according to the committed log.
    members: BTreeSet<Incarnation>,
    /// The last log position of each ballot's coordinator, from its own report.
    held: BTreeMap<Ballot, Position>,
    /// The `Open` of each epoch.
    opens: BTreeMap<Ballot, Open>,
    /// Replicas listed for the bootstrap of the group.
    listed: Vec<ReplicaId>,
    pub(super) log_time: LogTime,
    /// The log of the replica that forced this cluster (rule V4); empty for the first cluster.
    inherited: Digests,
}

/// The facts about one committed index.
#[derive(Clone, Debug)]
struct Fact<O> {
    digest: Digest,
    /// The epoch in which it was first known to be committed.
    known_in: Ballot,
    /// Outputs of its commands at the first replica that applied them.
    outputs: Option<Vec<O>>,
    /// True if the first replica that applied it woke its state machine before it.
    woken: Option<bool>,
    /// The entry's payload, with the commands removed.
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

    /// Returns the checker of a cluster that is forced by a replica with the log `log` (rule V4).
    /// The new cluster keeps exactly what is in that log. Beyond the commit index of its replica,
    /// the log may hold entries that were never committed, in place of entries that were.
    pub(super) fn forked(&mut self, open: &Open, log: &Digests) -> Checked<Self> {
        let facts = (1..).map(Index).zip(&self.committed);
        let shared = facts.take_while(|(index, fact)| log.holds(*index, fact.digest)).count();
        let ends = Index(shared as u64);
        let mut fork = Self::new(self.listed.clone());
        fork.before.clone_from(&self.before);
        fork.positions.clone_from(&self.positions);
        fork.refused.clone_from(&self.refused);
        // Answers given before the fork may be lost, so pending reads need not see them.
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

    /// Returns true if the replica that forced this cluster held this entry.
    pub(super) fn inherits(&self, index: Index, digest: Digest) -> bool {
        self.inherited.holds(index, digest)
    }

    /// Returns the index of the last committed entry.
    pub(super) fn committed(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// Returns the voters of an epoch.
    pub(super) fn voters(&self, epoch: Ballot) -> Option<&Voters> {
        self.opens.get(&epoch).map(|open| &open.voters)
    }

    /// Returns the index of an epoch's base.
    pub(super) fn base(&self, epoch: Ballot) -> Option<Index> {
        self.opens.get(&epoch).map(|open| open.base.index)
    }

    /// Returns the sequencer of an epoch.
    pub(super) fn sequencer(&self, epoch: Ballot) -> Option<Incarnation> {
        self.opens.get(&epoch).map(|open| open.sequencer)
    }

    pub(super) fn epochs(&self) -> usize {
        self.opens.len()
    }

    /// Checks an entry that replica `by` appends. The entry was ordered at some moment within
    /// `when`; `known_time` is what the replica knew about log time before it.
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
        // The entry before may be only in a snapshot; then it is the committed one.
        let committed = || Some(self.committed.get(index.0.checked_sub(2)? as usize)?.digest);
        let Some(before) = before.or_else(committed) else { return Ok(()) };
        let news = !self.before.contains_key(&(index, entry.digest));
        let known = *self.before.entry((index, entry.digest)).or_insert(before);
        check(known == before, || {
            format!(
                "log matching: the entries before {} differ: {known} and {before}",
                entry.position
            )
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

    /// Checks that a replica which truncates its log to open `epoch` removes nothing that was
    /// committed in an earlier epoch.
    ///
    /// It may remove an entry that was committed only in a later epoch which it does not know yet:
    /// a majority without this replica holds that entry.
    pub(super) fn cut(&self, after: Index, log: &Digests, epoch: Ballot) -> Checked {
        let cut = after.0 + 1..=log.last().0.min(self.committed().0);
        for index in cut.map(Index) {
            let committed = &self.committed[index.0 as usize - 1];
            let is_later = committed.known_in >= epoch;
            check(is_later || log.at(index) != Some(committed.digest), || {
                format!("B6: the committed entry {index} is truncated")
            })?;
        }
        Ok(())
    }

    /// Records the last position that a coordinator reports for its own ballot.
    pub(super) fn reported(&mut self, report: &Report) {
        let (ballot, run) = (report.ballot, report.incarnation);
        if (ballot.replica, ballot.nonce) == (run.replica.0, run.nonce) {
            self.held.insert(ballot, report.last);
        }
    }

    /// Checks and records an `Open` that a coordinator sends.
    pub(super) fn opened(&mut self, open: &Open, now: Duration) -> Checked {
        if let Some(known) = self.opens.get(&open.ballot) {
            return check(known == open, || {
                format!("B5: ballot {} has two Opens: {known:?} and {open:?}", open.ballot)
            });
        }
        let first: Vec<_> = open.voters.now.iter().map(|voter| voter.replica).collect();
        check(open.base.index > Index(0) || first == self.listed, || {
            format!("V3: a group is formed by {first:?} instead of all of {:?}", self.listed)
        })?;
        if let Some(before) = self.opens.get(&open.base.epoch) {
            let known = before.voters.is_settled(self.known_commit);
            check(known || open.voters == before.voters, || {
                format!(
                    "V1: epoch {} changes the voters before their last change is committed",
                    open.ballot
                )
            })?;
            let held = self.held.get(&open.ballot);
            let at_base = held.is_none_or(|held| *held == open.base);
            check(at_base || open.voters.now == before.voters.now, || {
                format!(
                    "V1: the coordinator of {} changes the voters, but its log ends at {held:?}, \
                     not at the base",
                    open.ballot
                )
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

    /// Checks completeness: every base of a later epoch contains every committed entry.
    fn base_holds(&self, open: &Open, index: Index) -> Checked {
        let committed = self.committed[index.0 as usize - 1].digest;
        check(self.digest_at(open, index) == Some(committed), || {
            format!(
                "completeness: the base {} of epoch {} lacks the committed entry {index}",
                open.base, open.ballot
            )
        })
    }

    /// Returns the digest at an index of the log that ends at the base of `open`.
    fn digest_at(&self, open: &Open, index: Index) -> Option<Digest> {
        let (mut at, mut digest) = (open.base.index, open.digest);
        while at > index {
            digest = *self.before.get(&(at, digest))?;
            at = Index(at.0 - 1);
        }
        (at == index).then_some(digest)
    }

    /// Checks a committed entry that a replica, whose current epoch is `epoch`, hands to its state
    /// machine.
    pub(super) fn handed_out(
        &mut self,
        entry: &Entry,
        epoch: Ballot,
        proposals: &[ProposalId],
    ) -> Checked {
        let index = entry.position.index;
        if let Some(fact) = self.committed.get(index.0 as usize - 1) {
            return check(fact.digest == entry.digest, || {
                format!(
                    "two committed entries at index {index}: {} and {}",
                    fact.digest, entry.digest
                )
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
                "V4: entry {index} is {}, but the replica that forced the cluster had {expected:?}",
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
                format!(
                    "N2: proposal {id} is committed twice, at {place:?} and at {:?}",
                    (index, offset)
                )
            })?;
            check(!self.refused.contains(id), || {
                format!("N10: proposal {id} was rejected for good, but is committed at {index}")
            })?;
            check(!self.missed.contains(id), || {
                format!(
                    "R2: proposal {id} is committed at {index}, after a read that had to see it"
                )
            })?;
        }
        Ok(())
    }

    /// Checks rule N2: the batches of each origin are numbered without gaps. Only the log decides
    /// this.
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
            format!("N2: batch {} of {origin:?} at {index} follows {last:?}", batch.number)
        })?;
        check(self.members.contains(&origin.incarnation()), || {
            format!("N9: entry {index} is a batch of {origin:?}, which is not a member")
        })
    }

    /// Checks rule N9: no member joins twice, and only members leave.
    fn noticed(&mut self, index: Index, change: &MembersChanged) -> Checked {
        let left = change.left.iter().all(|run| self.members.remove(run));
        let joined = change.joined.iter().all(|run| self.members.insert(*run));
        check(left && joined, || format!("N9: the notice at {index} is wrong: {change:?}"))
    }

    /// Records that a replica learned in `epoch` that the log is committed up to `commit`.
    pub(super) fn commits(&mut self, commit: Index, epoch: Ballot) -> Checked {
        self.known_commit = self.known_commit.max(commit);
        let base = self.opens.get(&epoch).map(|open| open.base.index);
        // A replica may also learn of commits from a snapshot, without an ack in this epoch.
        check(commit <= self.committed() || base.is_none_or(|base| commit > base), || {
            format!("N8: {commit} is committed in epoch {epoch}, whose base is {base:?}")
        })
    }

    /// Returns the `Open` of the highest epoch that was opened at any replica.
    pub(super) fn last_open(&self) -> Option<&Open> {
        self.opens.last_key_value().map(|(_, open)| open)
    }

    /// Checks that an applied entry gave the same outputs as at every other replica.
    pub(super) fn applied(&mut self, index: Index, outputs: Vec<O>) -> Checked {
        let Some(fact) = self.committed.get_mut(index.0 as usize - 1) else {
            return Err(Violation(format!("entry {index} is applied, but not committed")));
        };
        match &fact.outputs {
            None => fact.outputs = Some(outputs),
            Some(known) => check(*known == outputs, || {
                format!(
                    "the state machine is not deterministic: at index {index} it returns \
                     {outputs:?} at one replica and {known:?} at another"
                )
            })?,
        }
        Ok(())
    }

    /// Checks rule N11 for an applied entry. Before it, the state machine asked to be woken at
    /// `asked`. It must be woken once that time has come, before the same entry at every replica,
    /// and no `Time` entry may be ordered without a wake-up that is due.
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
                "N11: at entry {index}, {time}, with a wake-up due at {asked:?}, woken: {woken}"
            )
        })?;
        check(is_due || entry.payload != EntryPayload::Time, || {
            format!(
                "N11: the time entry {index}, {time}, wakes no state machine: asked for {asked:?}"
            )
        })?;
        let fact = self.committed.get_mut(index.0 as usize - 1);
        let known = fact.map_or(woken, |fact| *fact.woken.get_or_insert(woken));
        check(known == woken, || {
            format!(
                "N11: replicas disagree about the wake-up before entry {index}: {woken} and {known}"
            )
        })
    }

    /// Returns the number of committed `Time` entries.
    pub(super) fn times(&self) -> u64 {
        self.committed.iter().filter(|fact| fact.payload == EntryPayload::Time).count() as u64
    }

    /// Returns true if the last committed entry is a `Time` entry.
    pub(super) fn ends_in_time(&self) -> bool {
        self.committed.last().is_some_and(|fact| fact.payload == EntryPayload::Time)
    }

    /// Members according to the committed log.
    pub(super) fn members(&self) -> &BTreeSet<Incarnation> {
        &self.members
    }

    /// Records that a caller was told that its command will never take effect.
    pub(super) fn refused(&mut self, id: ProposalId) -> Checked {
        self.refused.insert(id);
        check(!self.places.contains_key(&id), || {
            format!("N10: proposal {id} is rejected for good, but was committed")
        })
    }

    /// Records that a caller was told that its command took effect, without its output.
    pub(super) fn forgone(&mut self, id: ProposalId) -> Checked {
        let place = self.places.get(&id);
        self.answered = self.answered.max(place.map_or(Index(0), |(index, _)| *index));
        check(place.is_some(), || {
            format!("N10: proposal {id} is reported to have taken effect, but was never committed")
        })
    }

    /// Records that a client starts a read.
    pub(super) fn read_began(&mut self, id: ProposalId, consistency: Consistency) {
        self.reads.insert(id, (consistency, self.answered));
    }

    pub(super) fn is_read(&self, id: ProposalId) -> bool {
        self.reads.contains_key(&id)
    }

    /// Checks a read that is answered from the state after entry `applied`. `proposed` are the
    /// proposals of the same replica that it does not know to be applied.
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
            format!(
                "R1: read {id} sees {applied}, but {least} was acknowledged before the read began"
            )
        })?;
        if consistency == Consistency::ReadYourWrites {
            for earlier in proposed.range(..id) {
                match self.places.get(earlier) {
                    Some((index, _)) => check(*index <= applied, || {
                        format!(
                            "R2: read {id} sees {applied}, but proposal {earlier} is at {index}"
                        )
                    })?,
                    None => _ = self.missed.insert(*earlier),
                }
            }
        }
        Ok(())
    }

    /// Checks that a caller receives the output of its own command.
    pub(super) fn acknowledged(&mut self, id: ProposalId, index: Index, offset: usize) -> Checked {
        let place = self.places.get(&id).copied();
        self.answered = self.answered.max(index);
        check(place == Some((index, offset)), || {
            format!(
                "proposal {id} is answered from {:?}, but was committed at {place:?}",
                (index, offset)
            )
        })
    }
}
