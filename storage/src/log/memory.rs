use std::collections::VecDeque;

use bytes::Bytes;

use super::as_many_as;
use crate::{LogOp, LogStore, Record, StorageError, StoredLog};

/// A log in memory. It is lost with the process, so a restarted replica begins with an empty store.
#[derive(Debug, Default)]
pub struct MemoryLog {
    hard_state: Option<Bytes>,
    records: VecDeque<Record>,
    compacted: u64,
}

impl MemoryLog {
    /// Creates an empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the index of the last record; 0 if there was none.
    pub fn last(&self) -> u64 {
        self.compacted + self.records.len() as u64
    }

    /// Returns the number of records.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn len(&self) -> u64 {
        self.records.len() as u64
    }

    /// Returns the record at this index, if there is one.
    pub fn record(&self, index: u64) -> Option<&Record> {
        let offset = index.checked_sub(self.compacted + 1)?;
        self.records.get(usize::try_from(offset).ok()?)
    }

    /// Returns the last hard state written.
    pub fn hard_state(&self) -> Option<&Bytes> {
        self.hard_state.as_ref()
    }

    fn apply(&mut self, op: LogOp) -> Result<(), StorageError> {
        match op {
            LogOp::HardState(hard_state) => self.hard_state = Some(hard_state),
            LogOp::Append(record) => {
                let (index, last) = (record.index, self.last());
                if index != last + 1 {
                    return Err(StorageError::Gap { index, last });
                }
                self.records.push_back(record);
            }
            LogOp::Truncate(after) => {
                let compacted = self.compacted;
                let kept = after
                    .checked_sub(compacted)
                    .ok_or(StorageError::Compacted { after, compacted })?;
                self.records.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
            }
            LogOp::Compact(through) => {
                while self.compacted < through && self.records.pop_front().is_some() {
                    self.compacted += 1;
                }
            }
            LogOp::Reset(through) => {
                self.records.clear();
                self.compacted = through;
            }
        }
        Ok(())
    }
}

impl LogStore for MemoryLog {
    fn recover(&mut self, from: u64) -> Result<StoredLog, StorageError> {
        let records = self.records.iter().filter(|record| record.index >= from).cloned().collect();
        Ok(StoredLog { hard_state: self.hard_state.clone(), compacted: self.compacted, records })
    }

    fn read(&mut self, first: u64, bytes_max: usize) -> Result<Vec<Record>, StorageError> {
        let Some(skipped) = first.checked_sub(self.compacted + 1) else { return Ok(Vec::new()) };
        let records = self.records.iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX));
        let mut fits = as_many_as(bytes_max);
        Ok(records.take_while(|record| fits(record)).cloned().collect())
    }

    fn write(&mut self, ops: Vec<LogOp>) -> Result<(), StorageError> {
        ops.into_iter().try_for_each(|op| self.apply(op))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(index: u64) -> LogOp {
        let head = Bytes::from(index.to_string());
        LogOp::Append(Record { index, head, body: Bytes::new() })
    }

    fn indices(log: &mut MemoryLog) -> Vec<u64> {
        log.recover(0).unwrap().records.iter().map(|record| record.index).collect()
    }

    #[test]
    fn operations_apply_in_order() {
        let mut log = MemoryLog::new();
        assert_eq!(log.recover(0), Ok(StoredLog::default()));
        log.write(vec![
            append(1),
            append(2),
            LogOp::HardState(Bytes::from_static(b"a")),
            append(3),
        ])
        .unwrap();
        log.write(vec![
            LogOp::Truncate(2),
            append(3),
            append(4),
            LogOp::HardState(Bytes::from_static(b"b")),
        ])
        .unwrap();
        assert_eq!(indices(&mut log), [1, 2, 3, 4]);
        assert_eq!(log.recover(0).unwrap().hard_state, Some(Bytes::from_static(b"b")));
        log.write(vec![LogOp::Compact(2), append(5)]).unwrap();
        assert_eq!(indices(&mut log), [3, 4, 5]);
        log.write(vec![LogOp::Compact(5), append(6)]).unwrap();
        assert_eq!(indices(&mut log), [6]);
        log.write(vec![LogOp::Reset(20), append(21)]).unwrap();
        assert_eq!(indices(&mut log), [21]);
        log.write(vec![LogOp::Reset(7)]).unwrap();
        assert_eq!(log.write(vec![append(22)]), Err(StorageError::Gap { index: 22, last: 7 }));
        log.write(vec![append(8)]).unwrap();
        assert_eq!(indices(&mut log), [8]);
    }

    #[test]
    fn gaps_and_truncations_of_compacted_records_are_rejected() {
        let mut log = MemoryLog::new();
        assert_eq!(log.write(vec![append(2)]), Err(StorageError::Gap { index: 2, last: 0 }));
        log.write(vec![append(1), append(2), LogOp::Compact(2)]).unwrap();
        let refused = StorageError::Compacted { after: 1, compacted: 2 };
        assert_eq!(log.write(vec![LogOp::Truncate(1)]), Err(refused));
        assert_eq!(log.write(vec![append(2)]), Err(StorageError::Gap { index: 2, last: 2 }));
    }
}
