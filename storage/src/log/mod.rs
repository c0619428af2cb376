//! The log and the hard state: the trait and its implementations.

mod disk;
#[cfg(any(test, feature = "testing"))]
mod faulty;
mod memory;

use bytes::Bytes;

use crate::StorageError;

pub use disk::DiskLog;
#[cfg(fuzzing)]
pub(crate) use disk::fuzz;
#[cfg(any(test, feature = "testing"))]
pub use faulty::FaultyLog;
pub use memory::MemoryLog;

/// A record of the log. Its content has two parts, so that a large body need not be copied to
/// follow a small head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Index of the record. The indices of a log have no gaps.
    pub index: u64,
    /// First part of the content.
    pub head: Bytes,
    /// Second part of the content. May be empty.
    pub body: Bytes,
}

/// An operation of [`LogStore::write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOp {
    /// Replaces the hard state as a whole.
    HardState(Bytes),
    /// Appends a record at the index after the last one.
    Append(Record),
    /// Removes all records after this index.
    Truncate(u64),
    /// Removes all records up to and including this index, or the last record if that comes first.
    Compact(u64),
    /// Removes all records, and makes this index the last one before the next record. Used when a
    /// replica installs a snapshot from another one.
    Reset(u64),
}

/// Returns a predicate that accepts records up to `bytes_max` bytes in total. The first record is
/// always accepted.
fn as_many_as(bytes_max: usize) -> impl FnMut(&Record) -> bool {
    let mut bytes: usize = 0;
    move |record| {
        let is_first = bytes == 0;
        bytes += (record.head.len() + record.body.len()).max(1);
        is_first || bytes <= bytes_max
    }
}

/// Content of a log when it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredLog {
    /// The last hard state written; `None` if there was none.
    pub hard_state: Option<Bytes>,
    /// Index through which records have been removed by compaction; 0 if none have.
    pub compacted: u64,
    /// The records in order, without gaps, starting after `compacted` or at the requested index.
    pub records: Vec<Record>,
}

/// Stores the log and the hard state of one replica. Used by one thread.
pub trait LogStore: Send {
    /// Returns the content of the store. Called once, before any write. Records before index `from`
    /// are checked like all others, but not returned.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or is damaged.
    fn recover(&mut self, from: u64) -> Result<StoredLog, StorageError>;

    /// Returns records starting at index `first`: up to `bytes_max` bytes in total, but at least
    /// one. Returns none if there is no record at `first`. Sees all earlier writes.
    ///
    /// # Errors
    ///
    /// A record cannot be read, or is damaged.
    fn read(&mut self, first: u64, bytes_max: usize) -> Result<Vec<Record>, StorageError>;

    /// Performs the operations in order. When it returns, all of them are durable, as the store
    /// defines it, with a single sync.
    ///
    /// # Errors
    ///
    /// After an error, any of the operations may or may not be durable. The caller must not write
    /// to this store again: it opens the store anew, after a restart, and sees what
    /// [`recover`](Self::recover) returns.
    fn write(&mut self, ops: Vec<LogOp>) -> Result<(), StorageError>;
}
