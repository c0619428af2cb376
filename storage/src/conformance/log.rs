use bytes::Bytes;

use super::Draw;
use crate::{LogOp, LogStore, MemoryLog, Record, StorageError, StoredLog};

/// Opens logs of the implementation under test.
pub trait Logs {
    /// Type of the logs.
    type Log: LogStore;

    /// Creates an empty log; another one at each call.
    fn empty(&mut self) -> Self::Log;

    /// Closes the log, and opens it again.
    fn reopen(&mut self, log: Self::Log) -> Self::Log;
}

/// Runs every case.
pub fn check_log(logs: &mut impl Logs) {
    records_are_kept_in_order(logs);
    the_last_hard_state_wins(logs);
    a_truncation_removes_the_end(logs);
    compaction_removes_the_beginning(logs);
    a_reset_removes_all_records(logs);
    operations_that_do_not_fit_are_rejected(logs);
    records_may_have_any_length(logs);
    reads_return_written_records(logs);
    for seed in 0..8 {
        check_writes(logs, seed, 60);
    }
}

fn record(index: u64) -> Record {
    let (head, body) = (format!("head {index}").into(), format!("body {index}").into());
    Record { index, head, body }
}

fn append(indices: impl IntoIterator<Item = u64>) -> Vec<LogOp> {
    indices.into_iter().map(|index| LogOp::Append(record(index))).collect()
}

/// Closes and opens the log, checks that it contains these records, and returns the hard state.
fn holds<L: Logs>(logs: &mut L, log: L::Log, records: &[Record]) -> (L::Log, Option<Bytes>) {
    let mut log = logs.reopen(log);
    let held = log.recover(0).unwrap();
    assert_eq!(held.records, records);
    (log, held.hard_state)
}

fn records(indices: impl IntoIterator<Item = u64>) -> Vec<Record> {
    indices.into_iter().map(record).collect()
}

fn records_are_kept_in_order(logs: &mut impl Logs) {
    let mut log = logs.empty();
    assert_eq!(log.recover(0), Ok(StoredLog::default()));
    log.write(append(1..=3)).unwrap();
    log.write(append([4])).unwrap();
    let (mut log, hard_state) = holds(logs, log, &records(1..=4));
    assert_eq!(hard_state, None);
    log.write(vec![]).unwrap();
    log.write(append(5..=6)).unwrap();
    holds(logs, log, &records(1..=6));
}

fn the_last_hard_state_wins(logs: &mut impl Logs) {
    let hard_state = |text: &'static str| LogOp::HardState(Bytes::from_static(text.as_bytes()));
    let mut log = logs.empty();
    log.write(vec![hard_state("first"), LogOp::Append(record(1)), hard_state("second")]).unwrap();
    let (mut log, found) = holds(logs, log, &records([1]));
    assert_eq!(found, Some(Bytes::from_static(b"second")));
    log.write(append([2])).unwrap();
    let (mut log, found) = holds(logs, log, &records([1, 2]));
    assert_eq!(found, Some(Bytes::from_static(b"second")), "a write without a hard state keeps it");
    log.write(vec![hard_state("")]).unwrap();
    let (_, found) = holds(logs, log, &records([1, 2]));
    assert_eq!(found, Some(Bytes::new()), "an empty hard state is a hard state");
}

fn a_truncation_removes_the_end(logs: &mut impl Logs) {
    let mut log = logs.empty();
    log.write(append(1..=5)).unwrap();
    log.write(vec![LogOp::Truncate(9), LogOp::Truncate(3)]).unwrap();
    let (mut log, _) = holds(logs, log, &records(1..=3));
    let other = Record { body: Bytes::from_static(b"another"), ..record(3) };
    log.write(vec![LogOp::Truncate(2), LogOp::Append(other.clone())]).unwrap();
    let (mut log, _) = holds(logs, log, &[record(1), record(2), other]);
    log.write(vec![LogOp::Truncate(0)]).unwrap();
    let (mut log, _) = holds(logs, log, &[]);
    log.write(append([1])).unwrap();
    holds(logs, log, &records([1]));
}

fn compaction_removes_the_beginning(logs: &mut impl Logs) {
    let mut log = logs.empty();
    log.write(append(1..=5)).unwrap();
    log.write(vec![LogOp::Compact(2)]).unwrap();
    let (mut log, _) = holds(logs, log, &records(3..=5));
    let mut ops = vec![LogOp::Compact(1), LogOp::Compact(5)];
    ops.extend(append([6]));
    log.write(ops).unwrap();
    let (mut log, _) = holds(logs, log, &records([6]));
    log.write(vec![LogOp::Compact(6)]).unwrap();
    let (mut log, _) = holds(logs, log, &[]);
    log.write(append([7])).unwrap();
    holds(logs, log, &records([7]));
}

fn a_reset_removes_all_records(logs: &mut impl Logs) {
    let mut log = logs.empty();
    log.write(append(1..=5)).unwrap();
    log.write(vec![LogOp::Reset(20)]).unwrap();
    let (mut log, _) = holds(logs, log, &[]);
    log.write(append(21..=22)).unwrap();
    let (mut log, _) = holds(logs, log, &records(21..=22));
    let mut ops = vec![LogOp::Reset(7)];
    ops.extend(append([8]));
    log.write(ops).unwrap();
    holds(logs, log, &records([8]));
}

fn operations_that_do_not_fit_are_rejected(logs: &mut impl Logs) {
    let mut log = logs.empty();
    assert_eq!(log.write(append([2])), Err(StorageError::Gap { index: 2, last: 0 }));
    let mut log = logs.empty();
    log.write(append(1..=2)).unwrap();
    assert_eq!(log.write(append([2])), Err(StorageError::Gap { index: 2, last: 2 }));
    let mut log = logs.empty();
    log.write(append(1..=2)).unwrap();
    log.write(vec![LogOp::Compact(2)]).unwrap();
    let refused = StorageError::Compacted { after: 1, compacted: 2 };
    assert_eq!(log.write(vec![LogOp::Truncate(1)]), Err(refused));
}

fn records_may_have_any_length(logs: &mut impl Logs) {
    let mut draw = Draw::new(1);
    let lengths = [(0, 0), (0, 1), (1, 0), (100, 4000), (60, 8192), (90, 65_536), (3, 1_100_000)];
    let written: Vec<Record> = (1..)
        .zip(lengths)
        .map(|(index, (head, body))| Record {
            index,
            head: draw.bytes(head),
            body: draw.bytes(body),
        })
        .collect();
    let mut log = logs.empty();
    log.write(written.iter().cloned().map(LogOp::Append).collect()).unwrap();
    holds(logs, log, &written);
}

fn reads_return_written_records(logs: &mut impl Logs) {
    let mut log = logs.empty();
    assert_eq!(log.read(1, 1000), Ok(Vec::new()));
    log.write(append(1..=9)).unwrap();
    let each = record(1).head.len() + record(1).body.len();
    assert_eq!(log.read(1, usize::MAX), Ok(records(1..=9)));
    assert_eq!(log.read(3, 2 * each), Ok(records(3..=4)));
    assert_eq!(log.read(3, 2 * each - 1), Ok(records([3])));
    assert_eq!(log.read(9, 0), Ok(records([9])), "at least one record");
    assert_eq!(log.read(10, 1000), Ok(Vec::new()));
    let mut ops = vec![LogOp::Compact(3), LogOp::Truncate(6)];
    ops.extend(append([7]));
    log.write(ops).unwrap();
    assert_eq!(log.read(3, 1000), Ok(Vec::new()));
    assert_eq!(log.read(4, 1000), Ok(records(4..=7)));
    let mut log = logs.reopen(log);
    assert_eq!(log.recover(6).unwrap().records, records(6..=7));
    assert_eq!(log.read(4, 1000), Ok(records(4..=7)));
    log.write(vec![LogOp::Reset(20)]).unwrap();
    assert_eq!(log.read(7, 1000), Ok(Vec::new()));
    assert_eq!(log.read(20, 1000), Ok(Vec::new()));
}

/// Makes random writes from this seed to a log and to a log in memory, and compares the two.
/// Sometimes closes the log and opens it again.
pub fn check_writes(logs: &mut impl Logs, seed: u64, writes: u64) {
    let mut draw = Draw::new(seed);
    let mut model = Model::default();
    let mut log = logs.empty();
    for write in 0..writes {
        let ops = draw_write(&mut draw, &mut model.first, &mut model.last);
        log.write(ops.clone()).unwrap();
        model.log.write(ops).unwrap();
        let first = model.first + draw.below(model.last - model.first + 2);
        let read = draw.length(100_000);
        assert_eq!(
            log.read(first, read),
            model.log.read(first, read),
            "seed {seed}, write {write}"
        );
        if draw.below(10) == 0 || write + 1 == writes {
            log = logs.reopen(log);
            assert_eq!(log.recover(0), model.log.recover(0), "seed {seed}, write {write}");
        }
    }
}

#[derive(Default)]
struct Model {
    log: MemoryLog,
    /// The log has every record after `first` up to `last`.
    first: u64,
    last: u64,
}

/// Returns a random write that fits a log with every record after `first` up to `last`. Updates
/// both to the state after the write.
pub fn draw_write(draw: &mut Draw, first: &mut u64, last: &mut u64) -> Vec<LogOp> {
    let mut ops = Vec::new();
    for _ in 0..=draw.below(4) {
        match draw.below(20) {
            0 => {
                let length = draw.length(300);
                ops.push(LogOp::HardState(draw.bytes(length)));
            }
            1 => {
                *last -= draw.below((*last - *first).min(3) + 1);
                ops.push(LogOp::Truncate(*last));
            }
            2 | 3 => {
                *first += draw.below(*last - *first + 1);
                ops.push(LogOp::Compact(*first));
            }
            4 if draw.below(5) == 0 => {
                *last += draw.below(1000);
                *first = *last;
                ops.push(LogOp::Reset(*last));
            }
            _ => {
                *last += 1;
                let (head, body) = (draw.length(200), draw.length(40_000));
                let (head, body) = (draw.bytes(head), draw.bytes(body));
                ops.push(LogOp::Append(Record { index: *last, head, body }));
            }
        }
    }
    ops
}
