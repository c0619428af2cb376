use cpg::Member;

use crate::wire::types::{Digest, Index, ReplicaId};

/// Reason why a replica stopped for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopReason {
    /// Another live process has the same replica id and announced itself earlier.
    #[error(
        "replica {replica} runs already, as process {other} of the group (this is process \
         {mine}): stop one of the two, or give this one another id"
    )]
    Duplicate {
        /// The replica id.
        replica: ReplicaId,
        /// The other process.
        other: Member,
        /// This process.
        mine: Member,
    },
    /// The group runs another application (rule V5).
    #[error(
        "the group runs {}, according to its process {other}, and this replica runs {}: give one \
         of the two another group name",
        name_of(theirs),
        name_of(mine)
    )]
    OtherApplication {
        /// Name of this replica's application.
        mine: String,
        /// Name of the group's application.
        theirs: String,
        /// A process of the group.
        other: Member,
    },
    /// An invariant is broken, by a bug or damaged memory. The replica stops before it does harm.
    #[error("{0}; this replica stopped before it could do harm: keep its logs and report this")]
    Invariant(String),
    /// The log could not be written.
    #[error("the log could not be written: {0}; fix the cause and restart the replica")]
    WriteFailed(String),
    /// The log could not be read.
    #[error("the log could not be read: {0}; fix the cause and restart the replica")]
    ReadFailed(String),
    /// A snapshot could not be written or read.
    #[error("a snapshot failed: {0}; fix the cause and restart the replica")]
    SnapshotFailed(String),
    /// This replica's state differs from that of a majority.
    #[error(
        "the state machine is not deterministic, or this host has faulty memory or disks: at \
         index {index} the digest of the state is {mine} here and {theirs} at a majority; the \
         snapshot is kept for comparison: fix the cause and restart this replica with an empty \
         store"
    )]
    Diverged {
        /// Index at which the difference was found; the states may have differed before.
        index: Index,
        /// The digest of this replica's snapshot.
        mine: Digest,
        /// Digest of the majority's snapshot.
        theirs: Digest,
    },
    /// The application's `apply` panicked.
    #[error("the state machine panicked: {0}; every replica will apply the same command")]
    ApplyPanicked(String),
    /// The transport rejected an operation of this replica.
    #[error("the transport rejected an operation: {0}")]
    Group(cpg::Error),
    /// Stopped on request.
    #[error("stopped on request")]
    Asked,
}

/// Returns a phrase that names an application.
pub(super) fn name_of(application: &str) -> String {
    if application.is_empty() {
        "an application without a name".into()
    } else {
        format!("the application {application:?}")
    }
}
