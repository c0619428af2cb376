use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::{LogOp, LogStore, MemoryLog, Record, StorageError, StoredLog};

/// A log on a disk whose machine can lose power at any moment.
///
/// What is [`submit`](Self::submit)ted is on its way to the disk and durable only after
/// [`sync`](Self::sync). A [`crash`](Self::crash) in between leaves any number of the first
/// operations that were under way, and nothing of the others: one that was torn is lost as
/// a whole, because stores check the sums of what they read.
#[derive(Debug, Default)]
pub struct FaultyLog {
    synced: MemoryLog,
    unsynced: VecDeque<LogOp>,
    /// Records whose sums are wrong.
    damaged: Vec<u64>,
}

impl FaultyLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends operations on their way to the disk, behind all before them.
    pub fn submit(&mut self, ops: Vec<LogOp>) {
        self.unsynced.extend(ops);
    }

    /// Waits until everything submitted is durable.
    ///
    /// # Errors
    ///
    /// When an operation does not fit what is there.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        self.synced.write(self.unsynced.drain(..).collect())
    }

    /// The power fails: of the operations under way the first `kept` are on the disk.
    ///
    /// # Errors
    ///
    /// When an operation does not fit what is there.
    pub fn crash(&mut self, kept: usize) -> Result<(), StorageError> {
        self.unsynced.truncate(kept);
        self.sync()
    }

    /// A bit of a record flips, which shows when the log is read; `which` draws one of those
    /// that are there. Its index, if there are any.
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
            let what = format!("the sum of record {index} is wrong");
            Err(StorageError::damaged(Path::new("a simulated log"), what))
        })
    }

    /// How many operations are under way.
    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// What no crash can take away.
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
    fn every_prefix_of_what_was_under_way_may_be_there_after_a_crash() {
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
    fn a_damaged_record_is_named_while_it_is_there() {
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
    fn what_was_synced_survives() {
        let mut log = FaultyLog::new();
        log.submit(vec![append(1), hard_state("a")]);
        log.sync().unwrap();
        log.crash(0).unwrap();
        assert_eq!(found(&mut log), (Some(Bytes::from_static(b"a")), vec![1]));
    }
}
