use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::{LogOp, LogStore, MemoryLog, Record, StorageError, StoredLog};

/// A log on the disk of a simulated machine that can lose power at any moment.
///
/// Operations passed to [`submit`](Self::submit) are durable only after [`sync`](Self::sync). A
/// [`crash`](Self::crash) keeps any number of the first unsynced operations and loses the rest. A
/// torn operation is lost as a whole, because stores verify checksums.
#[derive(Debug, Default)]
pub struct FaultyLog {
    synced: MemoryLog,
    unsynced: VecDeque<LogOp>,
    /// Indices of records that no longer match their checksums.
    damaged: Vec<u64>,
}

impl FaultyLog {
    /// Creates an empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends operations to the unsynced ones.
    pub fn submit(&mut self, ops: Vec<LogOp>) {
        self.unsynced.extend(ops);
    }

    /// Makes all submitted operations durable.
    ///
    /// # Errors
    ///
    /// An operation does not fit the log.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        self.synced.write(self.unsynced.drain(..).collect())
    }

    /// Simulates a power failure after which the first `kept` unsynced operations are on the disk.
    ///
    /// # Errors
    ///
    /// An operation does not fit the log.
    pub fn crash(&mut self, kept: usize) -> Result<(), StorageError> {
        self.unsynced.truncate(kept);
        self.sync()
    }

    /// Damages the record selected by `which`, modulo the number of records. Reading it fails from
    /// then on. Returns its index; `None` if the log has no records.
    pub fn damage(&mut self, which: u64) -> Option<u64> {
        let kept = self.synced.len();
        let index = self.synced.last().checked_sub(which.checked_rem(kept)?)?;
        self.damaged.push(index);
        Some(index)
    }

    fn check(&self, indices: RangeInclusive<u64>) -> Result<(), StorageError> {
        let is_there =
            |index: &&u64| indices.contains(*index) && self.synced.record(**index).is_some();
        self.damaged.iter().find(is_there).map_or(Ok(()), |index| {
            let what = format!("record {index} does not match its checksum");
            Err(StorageError::damaged(Path::new("a simulated log"), what))
        })
    }

    /// Returns the number of unsynced operations.
    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// Returns the content that no crash can lose.
    pub fn synced(&self) -> &MemoryLog {
        &self.synced
    }
}

impl LogStore for FaultyLog {
    fn recover(&mut self, from: u64) -> Result<StoredLog, StorageError> {
        self.check(0..=u64::MAX)?;
        self.synced.recover(from)
    }

    fn read(&mut self, first: u64, bytes_max: usize) -> Result<Vec<Record>, StorageError> {
        let records = self.synced.read(first, bytes_max)?;
        records.last().map_or(Ok(()), |last| self.check(first..=last.index))?;
        Ok(records)
    }

    fn write(&mut self, ops: Vec<LogOp>) -> Result<(), StorageError> {
        self.submit(ops);
        self.sync()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn append(index: u64) -> LogOp {
        LogOp::Append(Record { index, head: Bytes::new(), body: Bytes::new() })
    }

    fn hard_state(text: &'static str) -> LogOp {
        LogOp::HardState(Bytes::from_static(text.as_bytes()))
    }

    fn found(log: &mut FaultyLog) -> (Option<Bytes>, Vec<u64>) {
        let StoredLog { hard_state, records, .. } = log.recover(0).unwrap();
        (hard_state, records.iter().map(|record| record.index).collect())
    }

    #[test]
    fn a_crash_keeps_any_prefix_of_the_unsynced_operations() {
        let states: [(Option<&'static str>, &[u64]); 5] = [
            (Some("a"), &[1, 2]),
            (Some("a"), &[1, 2, 3]),
            (Some("b"), &[1, 2, 3]),
            (Some("b"), &[1]),
            (Some("b"), &[1, 2]),
        ];
        for (kept, (text, indices)) in states.into_iter().enumerate() {
            let mut log = FaultyLog::new();
            log.write(vec![append(1), append(2), hard_state("a")]).unwrap();
            log.submit(vec![append(3), hard_state("b")]);
            log.submit(vec![LogOp::Truncate(1), append(2)]);
            assert_eq!((log.unsynced(), log.synced().last()), (4, 2));
            log.crash(kept).unwrap();
            let expected = (text.map(|text| Bytes::from_static(text.as_bytes())), indices.to_vec());
            assert_eq!(found(&mut log), expected);
            assert_eq!(log.unsynced(), 0);
        }
    }

    #[test]
    fn a_damaged_record_is_reported_until_it_is_removed() {
        let mut log = FaultyLog::new();
        assert_eq!(log.damage(7), None);
        log.write(vec![append(1), append(2), append(3)]).unwrap();
        assert_eq!(log.damage(4), Some(2));
        let error = log.recover(0).unwrap_err().to_string();
        assert!(error.contains("record 2"), "{error}");
        log.write(vec![LogOp::Compact(2)]).unwrap();
        assert_eq!(found(&mut log), (None, vec![3]));
    }

    #[test]
    fn synced_operations_survive_a_crash() {
        let mut log = FaultyLog::new();
        log.submit(vec![append(1), hard_state("a")]);
        log.sync().unwrap();
        log.crash(0).unwrap();
        assert_eq!(found(&mut log), (Some(Bytes::from_static(b"a")), vec![1]));
    }
}
