//! The log and the hard state: the contract, and its stores.

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

/// One entry of a log as it is written: its place, and its bytes in two parts, so that a
/// large second part need not be copied behind a small first one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place; the places of a log are dense.
    pub index: u64,
    /// The first part.
    pub head: Bytes,
    /// The second part, which may be empty.
    pub body: Bytes,
}

/// One step of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOp {
    /// The hard state, as a whole, in the place of the earlier ones.
    HardState(Bytes),
    /// One more record, at the index after the last.
    Append(Record),
    /// Takes away every record after this index.
    Truncate(u64),
    /// Takes away every record up to this index, which may be the last but not beyond.
    Compact(u64),
    /// Takes away every record; the next is the one after this index. What a snapshot that
    /// came from elsewhere does to a log.
    Reset(u64),
}

/// Whether one more record may be returned, where as many as have so many bytes are wanted, but
/// one at least.
fn as_many_as(bytes_max: usize) -> impl FnMut(&Record) -> bool {
    let mut bytes: usize = 0;
    move |record| {
        let is_first = bytes == 0;
        bytes += (record.head.len() + record.body.len()).max(1);
        is_first || bytes <= bytes_max
    }
}

/// What a store holds when it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredLog {
    /// The last hard state written, if any were.
    pub hard_state: Option<Bytes>,
    /// Every record up to here is gone.
    pub compacted: u64,
    /// The records, dense and in order, the first behind `compacted`, or the one asked for.
    pub records: Vec<Record>,
}

/// The log and the hard state of one replica. Owned by one thread.
pub trait LogStore: Send {
    /// What the store holds. Called once, before any write. Records before `from` are checked
    /// like all others, and not returned.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, or holds what cannot be believed.
    fn recover(&mut self, from: u64) -> Result<StoredLog, StorageError>;

    /// The records from that index on: as many as have `bytes_max` bytes, but one at least;
    /// none if the first is not there. All that was written before is found.
    ///
    /// # Errors
    ///
    /// When a record cannot be read, or is not what was written.
    fn read(&mut self, first: u64, bytes_max: usize) -> Result<Vec<Record>, StorageError>;

    /// Carries out these operations in order. When it returns, all of them are durable,
    /// as the kind of store defines it, by one sync.
    ///
    /// # Errors
    ///
    /// After an error nothing is known of the operations of this call, and no later call
    /// is made: a failed write is never tried again as if it had not been.
    fn write(&mut self, ops: Vec<LogOp>) -> Result<(), StorageError>;
}
