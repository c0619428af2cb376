//! A log in a store of one's own: a journal in one file.
//!
//!     cargo run -p plainsong --example custom_store
//!
//! A `LogStore` makes all operations of a `write` durable before it returns, and finds them again
//! in `recover`. `plainsong_storage::conformance` (feature `testing`) has tests that every store
//! must pass. Snapshots are kept in the stock store here; log and snapshots belong together,
//! because a log is compacted once a snapshot holds its entries.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes};
use plainsong::{Context, Replica, ReplicaId, StateMachine};
use plainsong_storage::{Folder, LogOp, LogStore, MemoryLog, Record, StorageError, StoredLog};
use serde::{Deserialize, Serialize};

/// One frame for each write: length, checksum, operations. Reads are served from a copy in memory.
/// A real store would also remove compacted records from the file.
struct Journal {
    path: PathBuf,
    file: File,
    log: MemoryLog,
}

impl Journal {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = File::options().read(true).append(true).create(true).open(&path)?;
        // A new file survives a power cut once its folder is synced.
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(Self { path, file, log: MemoryLog::new() })
    }

    fn failed(&self, doing: &'static str, error: io::Error) -> StorageError {
        StorageError::Io { doing, path: self.path.clone(), reason: error.to_string() }
    }

    fn damaged(&self, what: &str) -> StorageError {
        StorageError::Damaged { path: self.path.clone(), what: what.to_owned() }
    }
}

impl LogStore for Journal {
    fn recover(&mut self, from: u64) -> Result<StoredLog, StorageError> {
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes).map_err(|error| self.failed("read", error))?;
        let (mut rest, mut complete) = (Bytes::from(bytes), 0);
        // An incomplete frame at the end was never acknowledged. A wrong one anywhere is damage.
        while let Some(mut frame) = part(&mut rest) {
            complete += 4 + frame.len() as u64;
            if frame.try_get_u32_le().ok() != Some(crc32c::crc32c(&frame)) {
                return Err(self.damaged("a frame has a wrong checksum"));
            }
            while frame.has_remaining() {
                let op = decode(&mut frame).ok_or_else(|| self.damaged("unknown operation"))?;
                self.log.write(vec![op])?;
            }
        }
        let cut = self.file.set_len(complete).and_then(|()| self.file.sync_all());
        cut.map_err(|error| self.failed("cut", error))?;
        self.log.recover(from)
    }

    fn read(&mut self, first: u64, bytes_max: usize) -> Result<Vec<Record>, StorageError> {
        self.log.read(first, bytes_max)
    }

    fn write(&mut self, ops: Vec<LogOp>) -> Result<(), StorageError> {
        let mut encoded = Vec::new();
        ops.iter().for_each(|op| encode(op, &mut encoded));
        self.log.write(ops)?;
        let mut frame = Vec::new();
        frame.put_u32_le(encoded.len() as u32 + 4);
        frame.put_u32_le(crc32c::crc32c(&encoded));
        frame.append(&mut encoded);
        let written = self.file.write_all(&frame).and_then(|()| self.file.sync_data());
        written.map_err(|error| self.failed("write", error))
    }
}

/// Every operation has a tag, a number and two byte strings; some of them are empty.
fn encode(op: &LogOp, into: &mut Vec<u8>) {
    let none = Bytes::new();
    let (tag, number, head, body) = match op {
        LogOp::HardState(state) => (0, 0, state, &none),
        LogOp::Append(record) => (1, record.index, &record.head, &record.body),
        LogOp::Truncate(after) => (2, *after, &none, &none),
        LogOp::Compact(through) => (3, *through, &none, &none),
        LogOp::Reset(through) => (4, *through, &none, &none),
    };
    into.put_u8(tag);
    into.put_u64_le(number);
    for part in [head, body] {
        into.put_u32_le(part.len() as u32);
        into.put_slice(part);
    }
}

fn decode(from: &mut Bytes) -> Option<LogOp> {
    let (tag, number) = (from.try_get_u8().ok()?, from.try_get_u64_le().ok()?);
    let (head, body) = (part(from)?, part(from)?);
    Some(match tag {
        0 => LogOp::HardState(head),
        1 => LogOp::Append(Record { index: number, head, body }),
        2 => LogOp::Truncate(number),
        3 => LogOp::Compact(number),
        4 => LogOp::Reset(number),
        _ => return None,
    })
}

/// Takes a byte string with its length before it, if it is complete.
fn part(from: &mut Bytes) -> Option<Bytes> {
    let length = from.clone().try_get_u32_le().ok()? as usize;
    (from.len() - 4 >= length).then(|| from.split_to(4 + length).slice(4..))
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Counter(u64);

impl StateMachine for Counter {
    type Command = u64;
    type Output = u64;

    fn apply(&mut self, _: &Context, add: u64) -> u64 {
        self.0 += add;
        self.0
    }

    plainsong::snapshot_by_clone!();
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    for round in 1..=2 {
        let path = folder.path().join("replica-1");
        let snapshots = Folder::open(&path, b"replica 1")?.snapshots()?;
        let replica = Replica::builder(ReplicaId(1), Counter::default())
            .transport(cpg::embedded::LocalRing::new().node())
            .bootstrap([ReplicaId(1)])
            .stores(Journal::open(path.join("journal"))?, snapshots)
            .start()?;
        println!("start {round}: adding 5 gives {}", replica.propose(5).wait()?);
        replica.stop();
    }
    Ok(())
}
