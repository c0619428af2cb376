//! The messages between replicas (see "Messages" in section 5 of `docs/protocol.md`).
//!
//! Every message is multicast to the whole CPG group. A receiver checks each of them and ignores
//! those that are implausible (rule N13), of another cluster (V4) or of another application (V5).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::entry::{Batch, BatchHead, Entry, EntryHead, EntryPayload, MembersChanged};
use crate::wire::snapshot_name::SnapshotName;
use crate::wire::types::Timestamp;
use crate::wire::types::{
    Ballot, Digest, Incarnation, Index, Nonce, Origin, Position, StoreId, Voters,
};

/// A message to the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Identifies the replica behind a CPG member.
    Announce(Announce),
    /// A coordinator asks for promises and reports (rule B1).
    Begin(Ballot),
    /// A replica has promised a ballot and describes its log (rule B2).
    Report(Report),
    /// Opens an epoch (rule B5).
    Open(Open),
    /// Commands, with the sender's progress if there is news (rule N1).
    Batch(Batch, Option<Progress>),
    /// The sender's whole state in an epoch (rule N7).
    Progress(Progress),
    /// A reader asks for echoes of replicas that have not promised a higher ballot (rule R1).
    Read(Read),
    /// Asks for an `Open` or for entries that are missing.
    Fetch(Fetch),
    /// Entries of the log for a replica that asked for them.
    Entries(Entries),
    /// The sequencer names the donor from which lagging replicas receive what they lack (rule L2).
    Offer(Offer),
    /// A chunk of a snapshot (rule L3).
    Chunk(Chunk),
    /// The progress of a lagging replica that receives a snapshot (rule L3).
    Received(Received),
}

/// Identifies a replica. Sent when it joins the group, when another member joins, and when it has
/// taken a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce {
    /// The sender.
    pub incarnation: Incarnation,
    /// The sender's store.
    pub store: StoreId,
    /// The position of the last entry in the sender's log.
    pub last: Position,
    /// The highest ballot that the sender has promised.
    pub promised: Ballot,
    /// The index of the first entry that the sender still holds.
    pub first_kept: Index,
    /// The snapshots that the sender holds, oldest first. Two snapshots of one position must be
    /// equal; otherwise the state machine is not deterministic.
    pub snapshots: Vec<SnapshotName>,
    /// True in the first announcement of an incarnation.
    pub first: bool,
    /// The nonce of an incarnation that must stop, because it has the same replica id as the
    /// sender, which had announced itself before.
    pub refused: Option<Nonce>,
    /// The name of the sender's application; empty without a name.
    pub application: String,
}

/// The answer to a `Begin`. It names durable entries only: it is computed after every write queued
/// before it has been synced (rules P1 and P3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The ballot that is answered.
    pub ballot: Ballot,
    /// The sender.
    pub incarnation: Incarnation,
    /// The sender's store.
    pub store: StoreId,
    /// The position of the last entry in the sender's log.
    pub last: Position,
    /// The digest of the log up to that position.
    pub digest: Digest,
    /// The sender's estimate of the current log time (rule N11c).
    pub time: Timestamp,
    /// True if the sender knows the time (rule N11c).
    pub knows_time: bool,
    /// The sender's commit index.
    pub commit: Index,
    /// The index of the first entry that the sender still holds.
    pub first_kept: Index,
    /// The epochs in the sender's log, each with its first index.
    pub history: Vec<(Ballot, Index)>,
    /// The voters in force at the end of the sender's log.
    pub voters: Voters,
}

/// Opens an epoch. Repeated unchanged for every replica that asks (rule B9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The epoch.
    pub ballot: Ballot,
    /// The base: the last position of the log that the epoch continues.
    pub base: Position,
    /// The digest of the log up to the base.
    pub digest: Digest,
    /// The epochs in that log, each with its first index.
    pub history: Vec<(Ballot, Index)>,
    /// The incarnation that orders the entries of the epoch.
    pub sequencer: Incarnation,
    /// The voters that the `EpochStart` of the epoch states.
    pub voters: Voters,
    /// The log time of the `EpochStart`.
    pub time: Timestamp,
}

/// The sequencer's description of one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The log time of the entry.
    pub time: Timestamp,
    /// The content of the entry.
    pub what: Marked,
}

/// The content of a marked entry: a reference to a batch, which its origin sends, or the whole
/// content of an entry created by the sequencer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Marked {
    /// A batch.
    Batch {
        /// The origin of the batch.
        origin: Origin,
        /// The number of the batch at its origin.
        number: u64,
    },
    /// A membership notice.
    Notice(MembersChanged),
    /// A time without any other content.
    Time,
}

impl Mark {
    /// Returns the mark of an entry; `None` for an `EpochStart`, which is known from its `Open`.
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

    /// Returns the maximum number of bytes that the mark takes in a message.
    pub(crate) fn bytes(&self) -> usize {
        let what = match &self.what {
            Marked::Notice(notice) => notice.bytes(),
            Marked::Batch { .. } | Marked::Time => 0,
        };
        40 + what
    }
}

/// Marks of consecutive entries. They define the order of the epoch from index `first` on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The index of the first entry.
    pub first: Index,
    /// The entries, in order.
    pub entries: Vec<Mark>,
    /// The digest of the log after the last of these entries.
    pub digest: Digest,
}

/// A replica's whole state in an epoch. A later `Progress` replaces an earlier one, except for the
/// marks, which are pieces of a sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The last epoch opened at the sender; the zero ballot if there is none.
    pub epoch: Ballot,
    /// The sender.
    pub incarnation: Incarnation,
    /// The sender's store.
    pub store: StoreId,
    /// The entries that the sender has ordered since its last `Progress`, if it is the sequencer.
    pub marks: Option<Marks>,
    /// The index up to which the sender's log is confirmed and durable; zero if the log does not
    /// end in this epoch.
    pub acked: Index,
    /// The index of the last entry that the sender has applied.
    pub applied: Index,
    /// The highest round received from each reader since the last `Progress`.
    pub echo: Vec<(Nonce, u64)>,
    /// The highest ballot that the sender has promised.
    pub promised: Ballot,
}

/// Asks the voters of an epoch for an echo in their next `Progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The epoch.
    pub epoch: Ballot,
    /// The reader.
    pub incarnation: Incarnation,
    /// The number of the round at the reader. One round serves all reads that wait when it begins.
    pub round: u64,
}

/// Asks for an `Open` that the sender has not received, or for entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// The epoch.
    pub epoch: Ballot,
    /// The sender.
    pub incarnation: Incarnation,
    /// The missing data.
    pub missing: Missing,
}

/// The data that a [`Fetch`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missing {
    /// The epoch's `Open`.
    Open,
    /// All entries after the end of the sender's log (rule L1).
    Entries {
        /// The position of the last entry in the sender's log; the position before the first entry
        /// if the log is not a prefix of the base.
        after: Position,
        /// The digest of the log up to that position.
        digest: Digest,
        /// The donor named by an [`Offer`]; `None` to ask the sequencer.
        donor: Option<Incarnation>,
        /// A snapshot of which the sender has some chunks (rule L5).
        partial: Option<SnapshotName>,
    },
}

/// Names a donor (rule L2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The epoch.
    pub epoch: Ballot,
    /// The lagging replicas that this message is for.
    pub laggards: Vec<Incarnation>,
    /// The donor.
    pub donor: Incarnation,
    /// The data that the donor sends.
    pub what: Offered,
}

/// The data that a donor sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Offered {
    /// Entries after the end of the lagging replica's log, sent as it asks for them.
    Entries,
    /// A snapshot, sent in chunks to all that need it.
    Snapshot(SnapshotName),
}

/// A chunk of a snapshot. Replicas that need it accept it in any epoch and from any donor (rule
/// L5), because the name identifies the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The snapshot.
    pub name: SnapshotName,
    /// The number of the chunk, from zero.
    pub number: u64,
    /// The sender.
    pub donor: Incarnation,
    /// The number of chunks that the donor has sent, including this one.
    pub sent: u64,
    /// The bytes of the chunk.
    pub bytes: Bytes,
}

/// The encoded form of a [`Chunk`], followed by its bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChunkMessage {
    pub(crate) name: SnapshotName,
    pub(crate) number: u64,
    pub(crate) donor: Incarnation,
    pub(crate) sent: u64,
}

/// The progress of a lagging replica that receives a snapshot. The donor adjusts its pace to it
/// (rule L3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// The sender.
    pub incarnation: Incarnation,
    /// The snapshot.
    pub name: SnapshotName,
    /// The donor whose chunks `seen` counts.
    pub donor: Incarnation,
    /// The number of chunks of this donor that were delivered to the sender and processed.
    pub seen: u64,
    /// The first range of missing chunks, as the first number and the number after the last; `None`
    /// if no chunk is missing.
    pub gap: Option<(u64, u64)>,
    /// The number of chunks that are missing or not written yet.
    pub missing: u64,
}

/// Consecutive entries, of this epoch and earlier ones. Accepted only in the epoch in which they
/// were sent (rule L5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries {
    /// The epoch that is open at the donor.
    pub epoch: Ballot,
    /// The index of the first entry.
    pub first: Index,
    /// The entries, each with its commands, which are empty except for batches.
    pub entries: Vec<(EntryHead, Bytes)>,
    /// The digest of the log after the last of these entries.
    pub digest: Digest,
    /// True if the donor has more entries after these.
    pub more: bool,
}

/// The encoded form of [`Entries`], followed by the commands of all entries.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EntriesMessage {
    pub(crate) epoch: Ballot,
    pub(crate) first: Index,
    pub(crate) entries: Vec<(EntryHead, u32)>,
    pub(crate) digest: Digest,
    pub(crate) more: bool,
}

/// The encoded form of the head of a batch message, followed by its commands.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BatchMessage {
    pub(crate) head: BatchHead,
    pub(crate) progress: Option<Progress>,
}
