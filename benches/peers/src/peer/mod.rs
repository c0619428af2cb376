//! Log engines, and a plain file as the limit of the disk.

mod fjall;
mod plain;
mod plainsong;
mod raft_engine;
mod redb;

use std::path::Path;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// One write, made durable by one sync. Its parts are executed in the order of the fields.
pub struct Write<'a> {
    /// New facts to store.
    pub facts: Option<&'a [u8]>,
    /// Removes every record after this index.
    pub cut: Option<u64>,
    /// New records with consecutive indices, after the existing ones.
    pub append: &'a [(u64, &'a [u8])],
    /// Removes every record up to this index.
    pub compact: Option<u64>,
}

/// The content of a reopened log.
#[derive(Debug, Default)]
pub struct Held {
    pub first: u64,
    pub last: u64,
    pub records: u64,
    pub bytes: u64,
}

impl Held {
    /// Adds the next record, after verifying the checksum before it.
    fn add(&mut self, index: u64, stored: &[u8]) -> Result<()> {
        let (checksum, bytes) = stored.split_first_chunk().ok_or("a record without checksum")?;
        if crc32c::crc32c(bytes) != u32::from_le_bytes(*checksum) {
            return Err(format!("record {index} is damaged").into());
        }
        if self.records > 0 && index != self.last + 1 {
            return Err(format!("record {index} follows {}", self.last).into());
        }
        if self.records == 0 {
            self.first = index;
        }
        self.last = index;
        self.records += 1;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// Returns a record as all peers store it: its checksum and its bytes.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(4 + bytes.len());
    stored.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
    stored.extend_from_slice(bytes);
    stored
}

pub trait Peer {
    fn write(&mut self, write: &Write<'_>) -> Result<()>;
    /// Reads and checks every record.
    fn held(&mut self) -> Result<Held>;
}

pub const NAMES: [&str; 6] = ["plain", "raft-engine", "fjall", "redb", "redb-2pc", "plainsong"];

/// Opens a peer's log in a directory. `room` is the maximum number of bytes that it will hold.
pub fn open(name: &str, folder: &Path, room: u64) -> Result<Box<dyn Peer>> {
    Ok(match name {
        "plain" => Box::new(plain::Plain::open(folder, room)?),
        "raft-engine" => Box::new(raft_engine::RaftEngine::open(folder)?),
        "fjall" => Box::new(fjall::Fjall::open(folder)?),
        "redb" => Box::new(redb::Redb::open(folder, false)?),
        "redb-2pc" => Box::new(redb::Redb::open(folder, true)?),
        "plainsong" => Box::new(plainsong::Plainsong::open(folder)?),
        other => return Err(format!("unknown peer {other}; known are {NAMES:?}").into()),
    })
}
