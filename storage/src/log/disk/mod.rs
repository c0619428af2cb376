//! The log on disk: records and hard state in redb, and a watermark beside them.

mod frame;
mod scan;
mod state;
#[cfg(test)]
mod tests;
mod watched;
mod watermark;

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, StorageBackend, Table, TableDefinition};

use super::as_many_as;
use crate::folder::{Lock, create_new_file};
use crate::{LogOp, LogStore, Record, StorageError, StoredLog};
use state::State;
use watched::Watched;
use watermark::Watermark;

/// Decodes the input of a fuzzer.
#[cfg(fuzzing)]
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Some(record) = frame::decode(bytes) {
        let mut again = vec![0; frame::length(&record)];
        frame::encode(&record, &mut again);
        assert_eq!(again, bytes);
    }
    if let Some(state) = State::decode(bytes) {
        assert_eq!(State::decode(&state.encode()), Some(state));
    }
    watermark::decode(bytes);
    scan::damaged_records(bytes);
}

const NAME: &str = "log.redb";
/// Maps the index of each record to its frame, and [`STATE`] to the state.
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// Key of the state. It follows the last record, so that a write changes as few pages as possible.
const STATE: u64 = u64::MAX;
/// Size of redb's cache. Small, because records are mostly written, in order, and rarely read.
const CACHE_BYTES: usize = 16 << 20;

/// The log on disk.
///
/// Every [`write`](LogStore::write) is one redb transaction, made durable by one `fdatasync`: after
/// a crash, the store contains all of it or nothing. Transactions are numbered, and a watermark in
/// a separate file records the number of the last synced one. This distinguishes, when the log is
/// opened:
///
/// | last intact transaction | meaning |
/// | --- | --- |
/// | newer than the watermark | It was not acknowledged before the crash. It is kept. |
/// | the one in the watermark | A later transaction that the crash cut short was not acknowledged. |
/// | older than the watermark | Acknowledged writes are lost: the log is rejected as damaged. |
///
/// One case cannot be distinguished. The last transaction was synced and acknowledged, the power
/// failed before the kernel had written the watermark (within about 30 s), and the pages of that
/// transaction were damaged as well. It is then treated as cut short.
#[derive(Debug)]
pub struct DiskLog {
    path: PathBuf,
    database: Database,
    state: State,
    watermark: Watermark,
    /// The reason why a write failed, if one did. No further write is made.
    failed: Option<String>,
    /// Held while this store is open.
    lock: Option<Arc<Lock>>,
}

impl DiskLog {
    /// Creates an empty log. It is durable once the folder is synced, too.
    pub(crate) fn format(folder: &Path) -> Result<(), StorageError> {
        let path = folder.join(NAME);
        let refused = |reason: String| StorageError::io("make", &path, reason);
        let file = create_new_file(&path).map_err(|e| refused(e.to_string()))?;
        let state = State::new();
        format_on(FileBackend::new(file).map_err(|e| refused(e.to_string()))?, &state)
            .map_err(|e| refused(e.to_string()))?;
        Watermark::format(folder, state.serial)
    }

    pub(crate) fn open(folder: &Path, lock: Arc<Lock>) -> Result<Self, StorageError> {
        let path = folder.join(NAME);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(StorageError::damaged(&path, "it is missing"));
            }
            Err(e) => return Err(StorageError::io("open", &path, e)),
        };
        // Reports an error of an earlier write that no sync has returned yet.
        file.sync_all().map_err(|e| StorageError::sync(&path, e))?;
        let backend = FileBackend::new(file).map_err(|e| StorageError::io("open", &path, e))?;
        let backend = Watched { backend, path: path.clone(), lock: Arc::clone(&lock) };
        let mut log = Self::open_on(path, backend, Watermark::open(folder)?)?;
        log.lock = Some(lock);
        Ok(log)
    }

    /// Opens the log on this file, or on its replacement in a test, and checks all of it.
    fn open_on(
        path: PathBuf,
        backend: impl StorageBackend,
        mut watermark: Watermark,
    ) -> Result<Self, StorageError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let database = match builder.create_with_backend(backend) {
            Ok(database) => database,
            Err(e) => return Err(broken(&path, e)),
        };
        let state = read_state(&database).map_err(|e| broken(&path, e))?;
        let state = state
            .as_deref()
            .and_then(State::decode)
            .ok_or_else(|| StorageError::damaged(&path, "its state is not what was written"))?;
        let synced = watermark.synced();
        if state.serial < synced {
            let what = format!(
                "it ends with write {}, but write {synced} was synced, and may have been \
                 acknowledged",
                state.serial
            );
            return Err(StorageError::damaged(&path, what));
        }
        // redb has synced what it recovered.
        watermark.raise(state.serial)?;
        watermark.settle()?;
        Ok(Self { path, database, state, watermark, failed: None, lock: None })
    }

    /// Decodes the frame of a row, which must be the record at index `expected`.
    fn record(&self, expected: u64, index: u64, frame: &[u8]) -> Result<Record, StorageError> {
        let record = frame::decode(frame).filter(|record| record.index == expected);
        record.filter(|_| index == expected).ok_or_else(|| self.damaged(expected))
    }

    fn damaged(&self, index: u64) -> StorageError {
        StorageError::damaged(&self.path, format!("record {index} is not what was written"))
    }

    /// Performs all operations in one transaction. Returns the state after it.
    fn transact(&self, ops: Vec<LogOp>) -> Result<State, WriteError> {
        let mut state = self.state.clone();
        state.serial += 1;
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(LOG)?;
            for op in ops {
                carry_out(op, &mut state, &mut table)?;
            }
            table.insert(STATE, state.encode().as_slice())?;
        }
        transaction.commit()?;
        Ok(state)
    }
}

impl LogStore for DiskLog {
    fn recover(&mut self, from: u64) -> Result<StoredLog, StorageError> {
        let mut records = Vec::new();
        let mut expected = self.state.compacted;
        let transaction = self.database.begin_read().map_err(|e| broken(&self.path, e))?;
        let table = transaction.open_table(LOG).map_err(|e| broken(&self.path, e))?;
        for row in table.range(..STATE).map_err(|e| broken(&self.path, e))? {
            expected += 1;
            let (index, frame) = row.map_err(|e| broken(&self.path, e))?;
            let record = self.record(expected, index.value(), frame.value())?;
            if expected >= from {
                records.push(record);
            }
        }
        if expected != self.state.last {
            return Err(self.damaged(expected + 1));
        }
        let State { hard_state, compacted, .. } = self.state.clone();
        Ok(StoredLog { hard_state, compacted, records })
    }

    fn read(&mut self, first: u64, bytes_max: usize) -> Result<Vec<Record>, StorageError> {
        if first <= self.state.compacted || first > self.state.last {
            return Ok(Vec::new());
        }
        let transaction = self.database.begin_read().map_err(|e| broken(&self.path, e))?;
        let table = transaction.open_table(LOG).map_err(|e| broken(&self.path, e))?;
        let rows = table.range(first..STATE).map_err(|e| broken(&self.path, e))?;
        let (mut records, mut fits) = (Vec::new(), as_many_as(bytes_max));
        for (expected, row) in (first..=self.state.last).zip(rows) {
            let (index, frame) = row.map_err(|e| broken(&self.path, e))?;
            let record = self.record(expected, index.value(), frame.value())?;
            if !fits(&record) {
                break;
            }
            records.push(record);
        }
        if records.is_empty() { Err(self.damaged(first)) } else { Ok(records) }
    }

    fn write(&mut self, ops: Vec<LogOp>) -> Result<(), StorageError> {
        if let Some(reason) = &self.failed {
            return Err(StorageError::Failed { reason: reason.clone() });
        }
        let written = self.transact(ops).map_err(|error| match error {
            WriteError::Refused(refused) => refused,
            WriteError::Redb(e) if self.lock.as_ref().is_some_and(|lock| lock.is_marked()) => {
                StorageError::sync(&self.path, e)
            }
            WriteError::Redb(e) => StorageError::io("write", &self.path, e),
        });
        let noted = written.and_then(|state| {
            self.watermark.raise(state.serial)?;
            self.state = state;
            Ok(())
        });
        if let Err(error) = &noted {
            self.failed = Some(error.to_string());
        }
        noted
    }
}

fn carry_out(
    op: LogOp,
    state: &mut State,
    table: &mut Table<'_, u64, &'static [u8]>,
) -> Result<(), WriteError> {
    match op {
        LogOp::HardState(hard_state) => state.hard_state = Some(hard_state),
        LogOp::Append(record) => {
            let (index, last) = (record.index, state.last);
            if index != last + 1 {
                return Err(StorageError::Gap { index, last }.into());
            }
            let mut room = table.insert_reserve(index, frame::length(&record))?;
            frame::encode(&record, room.as_mut());
            state.last = index;
        }
        LogOp::Truncate(after) => {
            let compacted = state.compacted;
            if after < compacted {
                return Err(StorageError::Compacted { after, compacted }.into());
            }
            if after < state.last {
                table.retain_in(after + 1..STATE, |_, _| false)?;
                state.last = after;
            }
        }
        LogOp::Compact(through) => {
            let through = through.min(state.last);
            if through > state.compacted {
                table.retain_in(..=through, |_, _| false)?;
                state.compacted = through;
            }
        }
        LogOp::Reset(through) => {
            table.retain_in(..STATE, |_, _| false)?;
            (state.compacted, state.last) = (through, through);
        }
    }
    Ok(())
}

/// Reason why a transaction failed.
enum WriteError {
    Refused(StorageError),
    Redb(redb::Error),
}

impl From<StorageError> for WriteError {
    fn from(error: StorageError) -> Self {
        Self::Refused(error)
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for WriteError {
            fn from(error: $error) -> Self {
                Self::Redb(error.into())
            }
        }
    )*};
}

from_redb!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);

fn format_on(backend: impl StorageBackend, state: &State) -> Result<(), redb::Error> {
    let database = Database::builder().create_with_backend(backend)?;
    let transaction = database.begin_write()?;
    transaction.open_table(LOG)?.insert(STATE, state.encode().as_slice())?;
    transaction.commit()?;
    database.close()?;
    Ok(())
}

fn read_state(database: &Database) -> Result<Option<Vec<u8>>, redb::Error> {
    let transaction = database.begin_read()?;
    let row = transaction.open_table(LOG)?.get(STATE)?;
    Ok(row.map(|row| row.value().to_vec()))
}

/// Converts an error of opening or reading the log.
fn broken(path: &Path, error: impl Into<redb::Error>) -> StorageError {
    match error.into() {
        redb::Error::Io(e) if !is_about_content(e.kind()) => StorageError::io("read", path, e),
        other => StorageError::damaged(path, scan::explain(path, &other.to_string())),
    }
}

/// Returns true for I/O errors by which redb reports that the file is not one of its own.
fn is_about_content(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
}
