//! Newtypes for the identifiers and numbers of the protocol, which must not be mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The configured number of a replica, stable across restarts. No two live processes of a group may
/// use the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId(pub u32);

/// The index of a log entry. Indices are dense over the whole history and start at 1; zero stands
/// for the position before the first entry.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Index(pub u64);

impl Index {
    /// The index after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A random number drawn at each start of a replica.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Nonce(pub u64);

/// The random identity of a store, drawn when the store is formatted. A store in memory is new at
/// each start.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct StoreId(pub u64);

/// One run of a replica, from its start to its end. CPG's node and process ids do not identify it:
/// they are labels only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    /// The replica.
    pub replica: ReplicaId,
    /// The nonce drawn at the start of this run.
    pub nonce: Nonce,
}

/// A voter: a replica *with its store*. A replica that has lost its store is not the same voter any
/// more (rule V2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Voter {
    /// The replica.
    pub replica: ReplicaId,
    /// The store with which it votes.
    pub store: StoreId,
}

/// The number of an attempt to open an epoch. A coordinator asks the other replicas to promise that
/// they ignore lower ballots. Ballots are ordered field by field; an incarnation uses each counter
/// once, so no two ballots are equal.
///
/// An *epoch* is identified by the ballot that opened it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Ballot {
    /// A counter, greater than that of every ballot known to the replica that starts this one.
    pub counter: u64,
    /// The id of the replica that started the ballot.
    pub replica: u32,
    /// The nonce of the incarnation that started the ballot.
    pub nonce: Nonce,
}

/// The hash of a log from index 1 up to and including an entry; also the hash of the bytes of a
/// snapshot.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Digest(pub u128);

/// The identity of a group: the digest of its first `EpochStart` (rule V4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

/// The identity of the application that a replica runs: the hash of its name
/// ([`StateMachine::application`](crate::StateMachine::application)), or zero without a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApplicationId(pub u64);

impl ApplicationId {
    /// Returns the id of the application with this name.
    pub fn of(name: &str) -> Self {
        Self(if name.is_empty() { 0 } else { xxh3_64(name.as_bytes()) })
    }
}

/// A source of batches: an incarnation with a counter. An origin supersedes those of the same
/// replica that have lower counters (rule N2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The replica that sends the batches.
    pub replica: ReplicaId,
    /// One more than the counter of this replica in the origin table when it was drawn.
    pub counter: u64,
    /// The nonce of the incarnation that sends the batches.
    pub nonce: Nonce,
}

impl Origin {
    /// Returns the incarnation that sends the batches.
    pub(crate) fn incarnation(&self) -> Incarnation {
        Incarnation { replica: self.replica, nonce: self.nonce }
    }
}

/// The position of a log entry: its epoch and index. Positions are ordered by epoch first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// The epoch of the entry; the zero ballot before the first entry.
    pub epoch: Ballot,
    /// The index of the entry.
    pub index: Index,
}

/// The voters in force, as stated by the last `EpochStart` entry that changed them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voters {
    /// The voters, sorted.
    pub now: Vec<Voter>,
    /// The voters before the change, sorted; equal to `now` in epochs that were opened after the
    /// change was known to be committed.
    pub previous: Vec<Voter>,
    /// The index of the `EpochStart` that changed the voters; zero before the first entry.
    pub since: Index,
}

impl Voters {
    /// Returns true if the voters for which `granted` returns true form a majority. While the
    /// change of the voters is not known to be committed, they must form a majority of both the new
    /// and the previous voters (rule V1). `commit` is the greatest index known to be committed.
    pub fn majority(&self, commit: Index, granted: impl Fn(&Voter) -> bool) -> bool {
        let has = |set: &[Voter]| set.iter().filter(|voter| granted(voter)).count() * 2 > set.len();
        has(&self.now) && (commit >= self.since || has(&self.previous))
    }

    /// Returns the greatest index that a majority has acked. Indices before the change of the
    /// voters is committed need a majority of both sets (rule V1).
    pub(crate) fn committed(
        &self,
        commit: Index,
        acked: impl Fn(&Voter) -> Option<Index>,
    ) -> Option<Index> {
        let of = |set: &[Voter]| {
            let mut reached: Vec<Option<Index>> = set.iter().map(&acked).collect();
            reached.sort_unstable_by(|a, b| b.cmp(a));
            reached.get(set.len() / 2).copied().flatten()
        };
        let now = of(&self.now)?;
        if commit >= self.since {
            return Some(now);
        }
        let both = now.min(of(&self.previous)?);
        Some(if both >= self.since { now } else { both })
    }

    /// Returns true if the last change of the voters is known to be committed. `commit` is the
    /// greatest index known to be committed.
    pub fn is_settled(&self, commit: Index) -> bool {
        commit >= self.since
    }

    /// Returns true if either set contains this voter.
    pub fn contains(&self, voter: &Voter) -> bool {
        self.now.contains(voter) || self.previous.contains(voter)
    }
}

/// A point in log time, in milliseconds since the Unix epoch (rule N11).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp(pub u64);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.counter, self.replica)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of epoch {}", self.index, self.epoch)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (run {})", self.replica, self.nonce)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}
