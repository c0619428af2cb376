//! The log, the hard state and the snapshots of a replica.
//!
//! Plain records: this crate knows no protocol. What a record means, and whether its bytes
//! are to be believed, is the business of who wrote it.
//!
//! | type | what it is |
//! | --- | --- |
//! | [`LogStore`] | the log and the hard state, written in order, one sync for many |
//! | [`DiskLog`] | a log on disk, in the [`Folder`] of a replica |
//! | `FaultyLog` | a log that loses what was not synced when it crashes (feature `testing`) |
//! | [`MemoryLog`] | a log that is gone with the process, for `Durability::Memory` and tests |
//! | [`SnapshotStore`] | snapshots, in chunks; each counts once it is complete |
//! | [`DiskSnapshots`] | snapshots on disk, in the [`Folder`] of a replica |
//! | [`MemorySnapshots`] | snapshots that are gone with the process |

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod error;
mod folder;
#[cfg(fuzzing)]
mod fuzz;
mod log;
mod snapshots;

pub use error::StorageError;
pub use folder::Folder;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use fuzz::fuzz;
pub use log::{DiskLog, LogOp, LogStore, MemoryLog, Record, StoredLog};
pub use snapshots::{DiskSnapshots, MemorySnapshots, SnapshotKey, SnapshotStore, StoredSnapshot};

/// Stores that lose what was not synced, for simulations and tests (feature `testing`).
#[cfg(any(test, feature = "testing"))]
pub mod faulty {
    pub use crate::log::FaultyLog;
    pub use crate::snapshots::FaultySnapshots;
}
