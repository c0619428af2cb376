//! The words of the protocol that must not be mixed up, as types of their own.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The configured, stable number of a replica. At most one live process has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId(pub u32);

/// A position in the log: dense over the whole history, from 1. Zero is before the first.
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

/// Random, drawn at each start of a replica.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Nonce(pub u64);

/// Random, drawn when a store is formatted. A store in memory draws one at each start.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct StoreId(pub u64);

/// One run of a replica: CPG's node and process ids are labels only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    /// Whose run.
    pub replica: ReplicaId,
    /// Which run.
    pub nonce: Nonce,
}

/// Who votes: a replica *with its store*, so that a replica whose store was lost is not
/// the voter it was (rule V2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Voter {
    /// The replica.
    pub replica: ReplicaId,
    /// Its store.
    pub store: StoreId,
}

/// What a coordinator asks the others to promise, ordered field by field. An incarnation
/// uses each counter once, so no two ballots are equal.
///
/// An *epoch* is the ballot of an opened period of normal operation.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Ballot {
    /// Grows with each ballot that a replica starts.
    pub counter: u64,
    /// Whose ballot.
    pub replica: u32,
    /// Which run of that replica.
    pub nonce: Nonce,
}

/// Hash of a log from index 1 up to and including an entry.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Digest(pub u128);

/// The identity of a group: the digest of its first `EpochStart` (rule V4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

/// Which application a replica runs: the hash of its name
/// ([`StateMachine::application`](crate::StateMachine::application)), zero without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApplicationId(pub u64);

impl ApplicationId {
    /// The id of the application of that name.
    pub fn of(name: &str) -> Self {
        Self(if name.is_empty() { 0 } else { xxh3_64(name.as_bytes()) })
    }
}

/// Who sends batches: an incarnation with the counter it drew. A higher counter of the
/// same replica supersedes (rule N2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// Whose batches.
    pub replica: ReplicaId,
    /// Drawn one above the last in the origin table.
    pub counter: u64,
    /// Which run of that replica.
    pub nonce: Nonce,
}

impl Origin {
    /// The run that sends them.
    pub(crate) fn incarnation(&self) -> Incarnation {
        Incarnation { replica: self.replica, nonce: self.nonce }
    }
}

/// A place in the history: which epoch, which index.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// The epoch of the entry; the zero ballot before the first.
    pub epoch: Ballot,
    /// Its index.
    pub index: Index,
}

/// The voters in force, as the last `EpochStart` that changed them says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voters {
    /// The voters, sorted.
    pub now: Vec<Voter>,
    /// The voters before them, sorted; equal to `now` once the change is known committed.
    pub previous: Vec<Voter>,
    /// The index of the `EpochStart` that changed them; zero before the first.
    pub since: Index,
}

impl Voters {
    /// Whether `granted` holds a majority: of both sets while their change is not known
    /// committed, and that is told by `commit`, the greatest index known committed
    /// (rule V1).
    pub fn majority(&self, commit: Index, granted: impl Fn(&Voter) -> bool) -> bool {
        let has = |set: &[Voter]| set.iter().filter(|voter| granted(voter)).count() * 2 > set.len();
        has(&self.now) && (commit >= self.since || has(&self.previous))
    }

    /// The greatest index that a majority has acked, of both sets up to where their change
    /// is committed (rule V1).
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

    /// Whether the last change of the voters is known committed, by `commit`.
    pub fn is_settled(&self, commit: Index) -> bool {
        commit >= self.since
    }

    /// Whether that store is a voter of either set.
    pub fn contains(&self, voter: &Voter) -> bool {
        self.now.contains(voter) || self.previous.contains(voter)
    }
}

/// A moment of the log's time in milliseconds since the Unix epoch.
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
