//! What replicas say to each other (protocol §4 and §5, "Messages").

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::entry::{Batch, BatchHead, Entry, EntryHead, EntryPayload, MembersChanged};
use crate::wire::snapshot_name::SnapshotName;
use crate::wire::types::Timestamp;
use crate::wire::types::{
    Ballot, Digest, Incarnation, Index, Nonce, Origin, Position, StoreId, Voters,
};

/// One multicast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Who is behind a CPG member.
    Announce(Announce),
    /// A coordinator asks for promises and reports (rule B1).
    Begin(Ballot),
    /// A promise kept and what the replica has (rule B2).
    Report(Report),
    /// An epoch begins (rule B5).
    Open(Open),
    /// Commands, with the sender's progress where it has any to tell (rule N1).
    Batch(Batch, Option<Progress>),
    /// The sender's whole state in an epoch (rule N7).
    Progress(Progress),
    /// A reader asks who has promised nothing higher (rule R1).
    Read(Read),
    /// Something is missing here.
    Fetch(Fetch),
    /// A piece of the log, for who asked.
    Entries(Entries),
    /// The sequencer tells laggards where they get what they lack (rule L2).
    Offer(Offer),
    /// A piece of a snapshot (rule L3).
    Chunk(Chunk),
    /// What a laggard has of a snapshot (rule L3).
    Received(Received),
}

/// Sent on joining the group, when someone new joins, and when a snapshot was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce {
    /// Who it is.
    pub incarnation: Incarnation,
    /// Its store.
    pub store: StoreId,
    /// The end of its log.
    pub last: Position,
    /// The highest ballot that it has answered.
    pub promised: Ballot,
    /// The first entry that it still holds.
    pub first_kept: Index,
    /// The snapshots that it holds, oldest first. Of the same position they are the same
    /// everywhere, or a state machine is not deterministic.
    pub snapshots: Vec<SnapshotName>,
    /// Whether this run announces itself for the first time.
    pub first: bool,
    /// Said by a replica that had announced itself before, when another process comes with
    /// the same replica id: that run must stop.
    pub refused: Option<Nonce>,
    /// The name of its application; empty without one.
    pub application: String,
}

/// The answer to a `Begin`: durable entries only, computed after every write queued
/// before it was synced (rules P1 and P3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which ballot it answers.
    pub ballot: Ballot,
    /// Who reports.
    pub incarnation: Incarnation,
    /// Its store.
    pub store: StoreId,
    /// The end of its log.
    pub last: Position,
    /// The digest there.
    pub digest: Digest,
    /// The log's time now, as far as the replica can tell (rule N11c).
    pub time: Timestamp,
    /// Whether it has counted from a stamp that was given during its run.
    pub knows_time: bool,
    /// Its commit index.
    pub commit: Index,
    /// The first entry that it still holds.
    pub first_kept: Index,
    /// Its epochs and where each begins.
    pub history: Vec<(Ballot, Index)>,
    /// The voters in force at the end of its log.
    pub voters: Voters,
}

/// Begins an epoch. Repeated unchanged to whoever asks (rule B9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Which epoch.
    pub ballot: Ballot,
    /// The end of the log that it goes on from.
    pub base: Position,
    /// The digest there.
    pub digest: Digest,
    /// The epochs of that log and where each begins.
    pub history: Vec<(Ballot, Index)>,
    /// Whose order is the order of the epoch.
    pub sequencer: Incarnation,
    /// The voters that its `EpochStart` names.
    pub voters: Voters,
    /// The log's time of its `EpochStart`.
    pub time: Timestamp,
}

/// One entry named by the sequencer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The log's time of the entry.
    pub time: Timestamp,
    /// What the entry is.
    pub what: Marked,
}

/// What a [`Mark`] names: a batch that comes from its origin, or the whole of an entry
/// that is the sequencer's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Marked {
    /// A batch.
    Batch {
        /// Whose.
        origin: Origin,
        /// Which of them.
        number: u64,
    },
    /// A membership notice.
    Notice(MembersChanged),
    /// A time.
    Time,
}

impl Mark {
    /// The mark of an entry; `None` for an `EpochStart`, which is known from its `Open`.
    pub(crate) fn of(entry: &Entry) -> Option<Self> {
        let what = match &entry.payload {
            EntryPayload::EpochStart(_) => return None,
            EntryPayload::Batch(Batch { origin, number, .. }) => {
                Marked::Batch { origin: *origin, number: *number }
            }
            EntryPayload::Notice(notice) => Marked::Notice(notice.clone()),
            EntryPayload::Time => Marked::Time,
        };
        Some(Self { time: entry.time, what })
    }

    /// The bytes that it takes in a message, at most.
    pub(crate) fn bytes(&self) -> usize {
        let what = match &self.what {
            Marked::Notice(notice) => notice.bytes(),
            Marked::Batch { .. } | Marked::Time => 0,
        };
        40 + what
    }
}

/// The sequencer's word: from `first` on, the entries are these, and the digest after
/// them is `digest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The index of the first.
    pub first: Index,
    /// The entries, in order.
    pub entries: Vec<Mark>,
    /// After the last of them.
    pub digest: Digest,
}

/// A replica's whole state in an epoch: a later one replaces an earlier one, but for the
/// marks, which are pieces of a sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The last epoch open here; the zero ballot if none is.
    pub epoch: Ballot,
    /// Who tells.
    pub incarnation: Incarnation,
    /// Its store.
    pub store: StoreId,
    /// From the sequencer: what it has ordered since it last said so.
    pub marks: Option<Marks>,
    /// Confirmed and durable up to here; zero if its log does not end in this epoch.
    pub acked: Index,
    /// Applied up to here.
    pub applied: Index,
    /// The highest round heard of each reader that asked since this was last told.
    pub echo: Vec<(Nonce, u64)>,
    /// The highest ballot answered.
    pub promised: Ballot,
}

/// Asks the voters of an epoch for an echo in their next `Progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Which epoch.
    pub epoch: Ballot,
    /// Who reads.
    pub incarnation: Incarnation,
    /// Which of its rounds; each serves all reads that had gathered.
    pub round: u64,
}

/// Asks for an `Open` that was not seen, or for entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// Which epoch it is about.
    pub epoch: Ballot,
    /// Who asks.
    pub incarnation: Incarnation,
    /// What is missing.
    pub missing: Missing,
}

/// What a [`Fetch`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missing {
    /// The epoch's `Open`.
    Open,
    /// Everything after the end of the asker's log, which is a part of the base (rule L1).
    Entries {
        /// Where that log ends; before the first entry, where it is not a part of the base.
        after: Position,
        /// Its digest there.
        digest: Digest,
        /// Who is asked, after an [`Offer`]; otherwise it is the sequencer.
        donor: Option<Incarnation>,
        /// A snapshot of which the asker has some chunks (rule L5).
        partial: Option<SnapshotName>,
    },
}

/// Names a donor (rule L2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Which epoch it is about.
    pub epoch: Ballot,
    /// Who lags.
    pub laggards: Vec<Incarnation>,
    /// Who gives.
    pub donor: Incarnation,
    /// What it gives.
    pub what: Offered,
}

/// What an [`Offer`] offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Offered {
    /// Entries of the log after the end of the laggard's, as it asks for them.
    Entries,
    /// A snapshot, in chunks to all who need it.
    Snapshot(SnapshotName),
}

/// One chunk of a snapshot. Taken by whoever needs it, in whichever epoch and from whichever
/// donor (rule L5): the name tells which bytes they must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Of which snapshot.
    pub name: SnapshotName,
    /// Which chunk.
    pub number: u64,
    /// Who gives it.
    pub donor: Incarnation,
    /// How many the donor has sent, this one included.
    pub sent: u64,
    /// The chunk.
    pub bytes: Bytes,
}

/// [`Chunk`] as it is written down; the bytes stand behind.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChunkMessage {
    pub(crate) name: SnapshotName,
    pub(crate) number: u64,
    pub(crate) donor: Incarnation,
    pub(crate) sent: u64,
}

/// How far a laggard is with a snapshot; paces its donor (rule L3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Who tells.
    pub incarnation: Incarnation,
    /// Of which snapshot.
    pub name: SnapshotName,
    /// Whose chunks it counts.
    pub donor: Incarnation,
    /// Of those the donor has sent, as many were delivered here, and dealt with.
    pub seen: u64,
    /// The first chunks missing: from one, before another; `None` when it has all.
    pub gap: Option<(u64, u64)>,
    /// How many chunks are missing or not written yet.
    pub missing: u64,
}

/// Consecutive entries, of this epoch and those before it. Taken only in the epoch that
/// they were sent in (rule L5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries {
    /// The epoch open at the donor.
    pub epoch: Ballot,
    /// The index of the first.
    pub first: Index,
    /// The entries, each with its commands, which are empty but for batches.
    pub entries: Vec<(EntryHead, Bytes)>,
    /// Of the log after the last of them.
    pub digest: Digest,
    /// There are more behind these.
    pub more: bool,
}

/// [`Entries`] as they are written down: all commands stand behind, one after the other.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EntriesMessage {
    pub(crate) epoch: Ballot,
    pub(crate) first: Index,
    pub(crate) entries: Vec<(EntryHead, u32)>,
    pub(crate) digest: Digest,
    pub(crate) more: bool,
}

/// The head of a batch message, as it is written down.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BatchMessage {
    pub(crate) head: BatchHead,
    pub(crate) progress: Option<Progress>,
}
