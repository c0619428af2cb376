//! Durable storage of a Plainsong replica: its log, its hard state and its snapshots.
//!
//! This crate stores plain records and knows no protocol. The caller defines the content of a
//! record.
//!
//! | type | purpose |
//! | --- | --- |
//! | [`LogStore`] | The log and the hard state: written in order, with one sync for many operations. |
//! | [`DiskLog`] | A log on disk, in the [`Folder`] of a replica. |
//! | [`MemoryLog`] | A log in memory, for `Durability::Memory` and tests. |
//! | `FaultyLog` | A log that loses unsynced writes when it crashes (feature `testing`). |
//! | [`SnapshotStore`] | Snapshots in chunks. A snapshot counts once it is complete. |
//! | [`DiskSnapshots`] | Snapshots on disk, in the [`Folder`] of a replica. |
//! | [`MemorySnapshots`] | Snapshots in memory. |
//! | `FaultySnapshots` | Snapshots that lose drafts when they crash (feature `testing`). |
//!
//! ```
//! use plainsong_storage::{Folder, LogOp, LogStore, Record};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path();
//! let folder = Folder::open(path, b"replica 1")?;
//! let mut log = folder.log()?;
//! let stored = log.recover(0)?;
//! let index = stored.compacted + stored.records.len() as u64 + 1;
//! let record = Record { index, head: "head".into(), body: "body".into() };
//! log.write(vec![LogOp::Append(record), LogOp::HardState("ballot 7".into())])?;
//! # Ok(())
//! # }
//! ```

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

/// Stores that lose unsynced writes, for simulations and tests (feature `testing`).
#[cfg(any(test, feature = "testing"))]
pub mod faulty {
    pub use crate::log::FaultyLog;
    pub use crate::snapshots::FaultySnapshots;
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
