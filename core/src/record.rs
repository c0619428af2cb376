//! The encoding of log entries and of the hard state in the log store, and their recovery.

use bytes::Bytes;
use plainsong_storage::{LogOp, LogStore, Record, StoredLog};
use serde::{Deserialize, Serialize};

use crate::engine::{HardState, Op, Recovered, RestartError};
use crate::snapshot::SnapshotManager;
use crate::wire::codec;
use crate::wire::entry::{Entry, EntryHead};
use crate::wire::types::{Digest, Index, Position};

/// The head of a record: an entry without its commands and its index. The record holds these.
#[derive(Serialize, Deserialize)]
struct LogHead {
    entry: EntryHead,
    digest: Digest,
}

/// Encodes a write of the engine as an operation of the store.
pub(crate) fn encode(op: Op) -> Result<LogOp, bincode::Error> {
    Ok(match op {
        Op::HardState(hard_state) => LogOp::HardState(codec::encode(&hard_state)?.into()),
        Op::Append(entry) => {
            let (head, body) = (head(&entry)?, entry.payload.commands());
            LogOp::Append(Record { index: entry.position.index.0, head, body })
        }
        Op::Truncate(after) => LogOp::Truncate(after.0),
        Op::Compact(through) => LogOp::Compact(through.0),
        Op::Reset(through) => LogOp::Reset(through.0),
    })
}

/// Encodes the head of an entry's record.
pub(crate) fn head(entry: &Entry) -> Result<Bytes, bincode::Error> {
    let head = LogHead { entry: EntryHead::of(entry), digest: entry.digest };
    Ok(codec::encode(&head)?.into())
}

/// Reads the state of a replica from its stores.
pub(crate) fn recover(
    log: &mut dyn LogStore,
    manager: &mut SnapshotManager,
) -> Result<Recovered, RestartError> {
    let unreadable = |reason: String| RestartError::Unreadable(reason);
    let snapshots = manager.names();
    // Entries before the newest snapshot are not needed, except the last one that it contains.
    let from = snapshots.last().map_or(0, |name| name.index().0);
    let StoredLog { hard_state, records, .. } =
        log.recover(from).map_err(|e| unreadable(e.to_string()))?;
    let hard_state: Option<HardState> = hard_state
        .map(|hard_state| codec::decode(&hard_state))
        .transpose()
        .map_err(|error| unreadable(format!("its hard state does not decode: {error}")))?;
    let mut entries = Vec::with_capacity(records.len());
    for record in records {
        let index = record.index;
        let entry = decode(record).map_err(|reason| {
            unreadable(format!("record {index} of the log does not decode: {reason}"))
        })?;
        entries.push(entry);
    }
    let head = snapshots.last().map(|name| manager.head(*name)).transpose();
    let head = head.map_err(|error| unreadable(error.to_string()))?;
    Ok(Recovered { hard_state, snapshots, head, entries })
}

/// Reads entries from `first` on, up to `bytes_max` bytes, but at least one. Returns none if the
/// first is not in the store.
pub(crate) fn read(
    log: &mut dyn LogStore,
    first: Index,
    bytes_max: usize,
) -> Result<Vec<Entry>, String> {
    let records = log.read(first.0, bytes_max).map_err(|error| error.to_string())?;
    let entry = |record: Record| {
        let index = record.index;
        decode(record).map_err(|reason| format!("record {index} does not decode: {reason}"))
    };
    records.into_iter().map(entry).collect()
}

/// Decodes the record of an entry.
pub(crate) fn decode(record: Record) -> Result<Entry, String> {
    let head: LogHead = codec::decode(&record.head).map_err(|error| error.to_string())?;
    let LogHead { entry: EntryHead { epoch, time, payload }, digest } = head;
    let payload = payload.with(record.body).ok_or("its commands do not match its head")?;
    Ok(Entry { position: Position { epoch, index: Index(record.index) }, time, payload, digest })
}

#[cfg(test)]
mod tests {
    use plainsong_storage::{MemoryLog, MemorySnapshots};

    use super::*;
    use crate::Timestamp;
    use crate::wire::entry::{Batch, BatchKind, EntryPayload};
    use crate::wire::types::{Ballot, Nonce, Origin, ReplicaId, StoreId, Voters};

    fn entries() -> Vec<Entry> {
        let origin = Origin { replica: ReplicaId(1), counter: 1, nonce: Nonce(1) };
        let (kind, commands) = (BatchKind::Application, Bytes::from_static(b"\x02\0\0\0hi"));
        let payloads = [
            EntryPayload::EpochStart(Voters::default()),
            EntryPayload::Batch(Batch { origin, number: 1, kind, count: 1, commands }),
        ];
        let mut before = Digest(0);
        (1..)
            .zip(payloads)
            .map(|(index, payload)| {
                let position = Position { epoch: Ballot::default(), index: Index(index) };
                let entry = Entry::new(before, position, Timestamp(index), payload);
                before = entry.digest;
                entry
            })
            .collect()
    }

    #[test]
    fn written_entries_and_hard_state_are_recovered() {
        let hard_state = HardState {
            replica: ReplicaId(1),
            store: StoreId(2),
            promised: Ballot { counter: 3, ..Ballot::default() },
            cluster: None,
            commit: Index(1),
        };
        let mut log = MemoryLog::new();
        let ops = entries().into_iter().map(Op::Append).chain([Op::HardState(hard_state)]);
        log.write(ops.map(|op| encode(op).unwrap()).collect()).unwrap();
        let mut manager = SnapshotManager::open(Box::new(MemorySnapshots::new())).unwrap();
        let recovered = recover(&mut log, &mut manager).unwrap();
        assert_eq!(recovered.hard_state, Some(hard_state));
        assert_eq!(recovered.entries, entries());
        assert!(recovered.snapshots.is_empty() && recovered.head.is_none());
    }

    #[test]
    fn the_error_names_the_unreadable_record() {
        let mut log = MemoryLog::new();
        let head = Bytes::from_static(b"?");
        let record = Record { index: 1, head, body: Bytes::new() };
        log.write(vec![LogOp::Append(record)]).unwrap();
        let mut manager = SnapshotManager::open(Box::new(MemorySnapshots::new())).unwrap();
        let error = recover(&mut log, &mut manager).unwrap_err().to_string();
        assert!(error.contains("record 1 of the log does not decode"), "{error}");
    }
}
