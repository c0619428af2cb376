//! Writes snapshots of the store, and reads them back.

use std::io::{self, Read, Write};

use bytes::Bytes;
use plainsong::Snapshot;

use crate::keys::Keys;
use crate::limits::{COMMAND_BYTES_MAX, VALUE_BYTES_MAX};
use crate::store::{Entry, Place};

/// Start of every snapshot: identifies the format and its version.
const MAGIC: &[u8; 8] = b"PSNGKV\x02\x00";

/// Stands for "never expires".
const NEVER: u64 = u64::MAX;

/// A snapshot: the keys of a store at one moment in hash order, the log time, and the newest
/// version of any key. `docs/formats.md` describes the bytes.
pub struct Frozen {
    pub(crate) keys: Keys,
    pub(crate) now: u64,
    pub(crate) version: u64,
}

impl Snapshot for Frozen {
    fn write(self, to: &mut dyn Write) -> io::Result<()> {
        to.write_all(MAGIC)?;
        to.write_all(&self.now.to_le_bytes())?;
        to.write_all(&self.version.to_le_bytes())?;
        to.write_all(&(self.keys.len() as u64).to_le_bytes())?;
        for (place, entry) in self.keys.from(0) {
            write_bytes(to, &place.key)?;
            to.write_all(&entry.deadline.unwrap_or(NEVER).to_le_bytes())?;
            to.write_all(&entry.version.to_le_bytes())?;
            write_bytes(to, &entry.value)?;
        }
        Ok(())
    }
}

/// Reads a snapshot and passes every entry to `take`. Returns the log time and the newest version.
pub(crate) fn thaw(
    from: &mut dyn Read,
    mut take: impl FnMut(Place, Entry),
) -> io::Result<(u64, u64)> {
    let mut magic = [0; 8];
    from.read_exact(&mut magic)?;
    if magic != *MAGIC {
        let what = "this is not a snapshot of kv, or one of an incompatible version; start this \
                    replica with an empty data directory, and it receives the state from the others";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let (now, newest) = (read_number(from)?, read_number(from)?);
    for _ in 0..read_number(from)? {
        let key = read_bytes(from, COMMAND_BYTES_MAX)?;
        let deadline = Some(read_number(from)?).filter(|deadline| *deadline != NEVER);
        let version = read_number(from)?;
        let value = read_bytes(from, VALUE_BYTES_MAX)?;
        take(Place::of(key), Entry { value, deadline, version });
    }
    Ok((now, newest))
}

fn write_bytes(to: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&(bytes.len() as u32).to_le_bytes())?;
    to.write_all(bytes)
}

fn read_bytes(from: &mut dyn Read, bytes_max: usize) -> io::Result<Bytes> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > bytes_max {
        let what = format!("a key or value has {length} bytes, above the limit of {bytes_max}");
        return Err(io::Error::other(what));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(bytes.into())
}

fn read_number(from: &mut dyn Read) -> io::Result<u64> {
    let mut number = [0; 8];
    from.read_exact(&mut number)?;
    Ok(u64::from_le_bytes(number))
}
