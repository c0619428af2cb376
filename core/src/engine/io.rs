//! Inputs and outputs of an engine.

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

/// The current time, as an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Time since some moment before the replica started; never decreases.
    pub monotonic: Duration,
    /// Wall clock, which may jump.
    pub wall: Timestamp,
}

/// An event for an engine. `T` identifies a caller; the engine only passes it on.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "moved once, into the engine")]
pub enum Input<T> {
    /// A message from the group, in delivery order.
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
    /// The members of the group after a change, in delivery order.
    Configuration {
        /// This replica's own member.
        local: Member,
        /// All members.
        members: Vec<Member>,
        /// Members that are new.
        joined: Vec<Member>,
    },
    /// The connection to the group is lost; a `Configuration` follows when it is back.
    Disconnected {
        /// Reason, in words.
        reason: String,
    },
    /// A command that a caller proposes.
    Propose {
        /// Caller, to be returned with the answer.
        ticket: T,
        /// The command as bytes.
        command: Bytes,
        /// Time on the monotonic clock at which the caller wants an answer, whatever is known then;
        /// `None` if it waits indefinitely.
        deadline: Option<Duration>,
    },
    /// An operator's request to change the voters.
    ChangeVoters {
        /// Identifies the request in [`Output::Answer`]; used once.
        ticket: u64,
        /// The change.
        change: VoterChange,
    },
    /// An operator's request to continue with this replica alone, after a majority was lost for
    /// good.
    ForceNewCluster {
        /// Identifies the request in [`Output::Answer`]; used once.
        ticket: u64,
    },
    /// A linearizable read, or several that are carried out together (rule R1).
    Read {
        /// Identifies the read in [`Output::Read`] or [`Output::FailReads`]; increases.
        ticket: u64,
        /// True if the read has to see every command that was proposed here before it.
        after_proposals: bool,
    },
    /// The log thread has done a write, and all before it, durably.
    Written {
        /// Ticket of the [`Output::Write`].
        ticket: u64,
    },
    /// The log thread could not write. Nothing later will be written.
    WriteFailed {
        /// Reason.
        reason: String,
    },
    /// Entries that were read from the store; empty if the first one was not there.
    LogRead {
        /// Answer to [`Output::ReadLog`], in order.
        entries: Vec<Entry>,
    },
    /// The log in the store cannot be read.
    ReadFailed {
        /// Reason.
        reason: String,
    },
    /// The apply thread has applied all entries up to here.
    Applied {
        /// Index of the last entry applied.
        index: Index,
        /// Time at which the state machine asks to be woken (rule N11).
        wake_at: Option<Timestamp>,
    },
    /// A report of the snapshot manager.
    Snapshot(SnapshotEvent),
    /// The transport has not taken the last `frames` frames that it was given. Expected after each
    /// attempt to send.
    Unsent {
        /// Number of frames.
        frames: usize,
        /// Sum of their lengths.
        bytes: usize,
    },
    /// Time has passed. Expected a few times per election timeout.
    Tick,
    /// No more input is at hand: everything that has gathered is put out.
    Drained,
}

/// An action that the engine requests. Actions have to be executed in order.
#[derive(Debug)]
pub enum Output<T> {
    /// Multicast a message, first in, first out. The caller deals with `TryAgain`.
    Send(Message),
    /// Execute these operations on the log, in order, with one sync, after all earlier writes.
    Write {
        /// Ticket for [`Input::Written`].
        ticket: u64,
        /// Operations.
        ops: Vec<Op>,
    },
    /// Read the log in the store from an entry on, up to `bytes_max` but at least one entry, after
    /// all earlier writes. Answered by [`Input::LogRead`]; one read is in flight at a time. Never
    /// requested with a store in memory.
    ReadLog {
        /// Index of the first entry.
        first: Index,
        /// Maximum number of bytes.
        bytes_max: usize,
    },
    /// Apply these committed entries, in order.
    Apply(Vec<Committed<T>>),
    /// Once everything handed out before is applied, take a view of the state and write it as a
    /// snapshot with this head. Answered by [`SnapshotEvent::Taken`].
    Capture(Box<SnapshotHead>),
    /// Restore the state machine from this snapshot, which is complete and replaces everything
    /// handed out before. Answered by [`Input::Applied`] with its index.
    Restore(SnapshotName),
    /// A command for the snapshot manager. Commands have to be executed in order.
    Snapshot(SnapshotCommand),
    /// Answer these callers: their commands took effect, but their outputs are not known here (rule
    /// N10).
    Forgo {
        /// The callers.
        tickets: Vec<T>,
    },
    /// Answer these callers: their commands will not be answered from the log.
    Fail {
        /// The callers.
        tickets: Vec<T>,
        /// True if the commands may still take effect.
        may_take_effect: bool,
    },
    /// Answer an operator.
    Answer {
        /// Ticket of the request.
        ticket: u64,
        /// Success once the request is in effect, or the reason for the failure.
        result: Result<(), AdminError>,
    },
    /// Run these reads as soon as everything handed out before is applied (rule R2).
    Read {
        /// Tickets of the [`Input::Read`]s.
        tickets: Vec<u64>,
    },
    /// Fail these reads; the status shows why.
    FailReads {
        /// Tickets of the [`Input::Read`]s.
        tickets: Vec<u64>,
    },
    /// Leave the group for good. The reason is in the status.
    Stop,
}

/// A committed entry, and the callers that wait for it here.
#[derive(Debug)]
pub struct Committed<T> {
    /// The entry.
    pub entry: Entry,
    /// One caller for each command of the batch, in order; empty if no caller here waits.
    pub callers: Vec<T>,
}

/// An operation on the log, as a part of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Replace the hard state.
    HardState(HardState),
    /// Append an entry.
    Append(Entry),
    /// Remove all entries after this index.
    Truncate(Index),
    /// Remove all entries up to this index.
    Compact(Index),
    /// Remove all entries. The log continues after this index, which a snapshot reaches.
    Reset(Index),
}

/// Durable state of a replica besides its log (protocol §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HardState {
    /// Replica that the store belongs to.
    pub replica: ReplicaId,
    /// Id of the store.
    pub store: StoreId,
    /// Highest ballot answered (rule P1).
    pub promised: Ballot,
    /// Cluster that the log belongs to.
    pub cluster: Option<ClusterId>,
    /// Index up to which the log is committed at least.
    pub commit: Index,
}
