use cpg::Member;

use crate::wire::types::{Digest, Index, ReplicaId};

/// Why a replica stopped for good.
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
        "the group runs {}, as its process {other} says, and this replica runs {}: give one of \
         the two another group name",
        name_of(theirs),
        name_of(mine)
    )]
    OtherApplication {
        /// The name of this replica's application.
        mine: String,
        /// The name of the group's.
        theirs: String,
        /// A process of the group.
        other: Member,
    },
    /// Something that cannot be was seen: a bug or damaged memory. The replica stops
    /// before it does harm.
    #[error("{0}; this replica stopped before it could do harm: keep its logs and report this")]
    Invariant(String),
    /// The log could not be written.
    #[error("the log could not be written: {0}; mend the cause and start the replica again")]
    WriteFailed(String),
    /// The log could not be read.
    #[error("the log could not be read: {0}; mend the cause and start the replica again")]
    ReadFailed(String),
    /// A snapshot could not be written or read.
    #[error("a snapshot failed: {0}; mend the cause and start the replica again")]
    SnapshotFailed(String),
    /// This replica's state is another than that of a majority.
    #[error(
        "the state machine is not deterministic, or this machine errs: at index {index} the \
         digest of the state is {mine} here and {theirs} at a majority; the snapshot is kept \
         for comparison, and once the cause is mended, this replica starts with an empty store"
    )]
    Diverged {
        /// Where they differ, or before.
        index: Index,
        /// The digest of this replica's snapshot.
        mine: Digest,
        /// That of the majority's.
        theirs: Digest,
    },
    /// `apply` of the application panicked.
    #[error("the state machine panicked: {0}; every replica will meet the same command")]
    ApplyPanicked(String),
    /// The transport refuses what this replica does.
    #[error("the transport refused: {0}")]
    Group(cpg::Error),
    /// Asked to.
    #[error("stopped as asked")]
    Asked,
}

/// An application in a sentence.
pub(super) fn name_of(application: &str) -> String {
    if application.is_empty() {
        "an application without a name".into()
    } else {
        format!("the application {application:?}")
    }
}
