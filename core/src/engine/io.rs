//! What goes into an engine, and what comes out.

use std::time::Duration;

use bytes::Bytes;
use cpg::Member;

use crate::Timestamp;
use crate::engine::membership::voters::{AdminError, VoterChange};
use crate::engine::{SnapshotCommand, SnapshotEvent, SnapshotHead};
use crate::wire::entry::Entry;
use crate::wire::message::{Announce, Message};
use crate::wire::snapshot_name::SnapshotName;
use crate::wire::types::{Ballot, ClusterId, Index, ReplicaId, StoreId};

/// The time, as an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Since some moment before the replica started; never goes back.
    pub monotonic: Duration,
    /// The wall clock, which may jump.
    pub wall: Timestamp,
}

/// What happens to an engine. `T` is how callers are answered; the engine only carries
/// it.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "moved once, into the engine")]
pub enum Input<T> {
    /// A message from the group, in its order.
    Delivered {
        /// The CPG member that sent it.
        from: Member,
        /// The cluster id on its frame.
        cluster: Option<ClusterId>,
        /// The message.
        message: Message,
    },
    /// A message from a member of the group that runs another application (rule V5).
    OtherApplication {
        /// The CPG member that sent it.
        from: Member,
        /// The message, if it is an announcement.
        announce: Option<Announce>,
    },
    /// The members of the group after a change, in the group's order.
    Configuration {
        /// Oneself.
        local: Member,
        /// All members.
        members: Vec<Member>,
        /// Who of them is new.
        joined: Vec<Member>,
    },
    /// The transport is gone; a `Configuration` follows when it is back.
    Disconnected {
        /// Why, for people.
        reason: String,
    },
    /// A command of a caller.
    Propose {
        /// To answer by.
        ticket: T,
        /// The command as bytes.
        command: Bytes,
        /// When the caller wants to be answered, by the monotonic clock, whatever is known
        /// then; `None` if it waits however long it takes.
        deadline: Option<Duration>,
    },
    /// An operator asks for other voters.
    ChangeVoters {
        /// To be named by [`Output::Answer`]; used once.
        ticket: u64,
        /// The change.
        change: VoterChange,
    },
    /// An operator has this replica go on alone, after a majority was lost for good.
    ForceNewCluster {
        /// To be named by [`Output::Answer`]; used once.
        ticket: u64,
    },
    /// A linearizable read, or several that go together (rule R1).
    Read {
        /// To be named by [`Output::Read`] or [`Output::FailReads`]. Grows.
        ticket: u64,
        /// Whether it has to see every command that was proposed here before.
        after_proposals: bool,
    },
    /// The log thread has done this write, and all before it, durably.
    Written {
        /// Of [`Output::Write`].
        ticket: u64,
    },
    /// The log thread could not write; nothing later will be written.
    WriteFailed {
        /// Why.
        reason: String,
    },
    /// These entries were read from the store; none if the first was not there.
    LogRead {
        /// Of [`Output::ReadLog`], in order.
        entries: Vec<Entry>,
    },
    /// The log in the store cannot be read.
    ReadFailed {
        /// Why.
        reason: String,
    },
    /// The apply thread has applied all entries up to here.
    Applied {
        /// The last.
        index: Index,
        /// When the state machine wants to be woken (rule N11).
        wake_at: Option<Timestamp>,
    },
    /// What has become of snapshots.
    Snapshot(SnapshotEvent),
    /// The group has not taken the last frames that it was given to send, so many, with so many
    /// bytes together. Wanted after each attempt to send.
    Unsent {
        /// How many there are.
        frames: usize,
        /// Sum of their lengths.
        bytes: usize,
    },
    /// Time passed; wanted a few times per election timeout.
    Tick,
    /// No more input is at hand: what was gathered goes out now.
    Drained,
}

/// What an engine wants done, in order.
#[derive(Debug)]
pub enum Output<T> {
    /// Multicast it, first in, first out. `TryAgain` is the runtime's business.
    Send(Message),
    /// Write these to the log, in order, with one sync, behind all earlier writes.
    Write {
        /// To be named by [`Input::Written`].
        ticket: u64,
        /// What.
        ops: Vec<Op>,
    },
    /// Read the log in the store, from that entry on, as many as have so many bytes but one at
    /// least, behind all earlier writes. Answered by [`Input::LogRead`]; one is under way at a
    /// time. Never with a store in memory.
    ReadLog {
        /// The first entry.
        first: Index,
        /// In bytes.
        bytes_max: usize,
    },
    /// Apply these committed entries, in order.
    Apply(Vec<Committed<T>>),
    /// When all that was handed out before is applied: take a view of the state and write it,
    /// behind this head, as a snapshot. Answered by [`SnapshotEvent::Taken`].
    Capture(Box<SnapshotHead>),
    /// Bring the state machine to this snapshot, which is complete; what was handed out before
    /// is overtaken. Answered by [`Input::Applied`] with its index.
    Restore(SnapshotName),
    /// To be done with snapshots, in order.
    Snapshot(SnapshotCommand),
    /// Answer these callers: their commands took effect, and with which outputs is not known
    /// here (rule N10).
    Forgo {
        /// The callers.
        tickets: Vec<T>,
    },
    /// Answer these callers: their commands will not be answered from the log.
    Fail {
        /// The callers.
        tickets: Vec<T>,
        /// Whether the commands may still take effect.
        may_take_effect: bool,
    },
    /// Answer an operator.
    Answer {
        /// Of the request.
        ticket: u64,
        /// Done and in force, or why not.
        result: Result<(), AdminError>,
    },
    /// These reads may look at the state as soon as all is applied that was handed out
    /// before (rule R2).
    Read {
        /// Of [`Input::Read`].
        tickets: Vec<u64>,
    },
    /// Tell these readers that their reads cannot be carried out; the status tells why.
    FailReads {
        /// Of [`Input::Read`].
        tickets: Vec<u64>,
    },
    /// Leave the group for good; the reason is in the status.
    Stop,
}

/// A committed entry and who waits for it here.
#[derive(Debug)]
pub struct Committed<T> {
    /// The entry.
    pub entry: Entry,
    /// One for each command of the batch, in order, if it was proposed here; else none.
    pub callers: Vec<T>,
}

/// One step of a write to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The hard state, as a whole.
    HardState(HardState),
    /// One more entry.
    Append(Entry),
    /// No entry after this index.
    Truncate(Index),
    /// No entry up to this index.
    Compact(Index),
    /// No entry at all: the log goes on after this index, behind a snapshot.
    Reset(Index),
}

/// What a replica must not forget besides its log (protocol §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HardState {
    /// Whose store it is.
    pub replica: ReplicaId,
    /// Which store it is.
    pub store: StoreId,
    /// The highest ballot answered (rule P1).
    pub promised: Ballot,
    /// The group that the log belongs to.
    pub cluster: Option<ClusterId>,
    /// The log is committed up to here at least.
    pub commit: Index,
}
