use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::folder::{create_file, sync_folder};
use crate::{SnapshotKey, StorageError};

const NAME: &str = "snapshots.index";
const DRAFT: &str = "snapshots.index.new";
const MAGIC: &[u8; 8] = b"PSNGSNAP";

/// The list of complete snapshots. Replaced as a whole by an atomic rename.
#[derive(Debug)]
pub(super) struct Index {
    folder: PathBuf,
    /// Key of the next snapshot.
    pub(super) next_key: u64,
    /// Complete snapshots in the order in which they were committed.
    pub(super) complete: Vec<Complete>,
}

/// A committed snapshot.
#[derive(Clone, Debug)]
pub(super) struct Complete {
    pub(super) key: SnapshotKey,
    /// Number of chunks.
    pub(super) chunks: u64,
    pub(super) about: Bytes,
}

impl Index {
    /// Creates an empty index.
    pub(super) fn format(folder: &Path) -> Result<(), StorageError> {
        Self { folder: folder.to_owned(), next_key: 1, complete: Vec::new() }.write()
    }

    pub(super) fn open(folder: &Path) -> Result<Self, StorageError> {
        let path = folder.join(NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(StorageError::damaged(&path, "it is missing"));
            }
            Err(e) => return Err(StorageError::io("read", &path, e)),
        };
        let (next_key, complete) = decode(&bytes)
            .ok_or_else(|| StorageError::damaged(&path, "it is not what was written"))?;
        Ok(Self { folder: folder.to_owned(), next_key, complete })
    }

    /// Replaces the stored index, durably.
    pub(super) fn write(&self) -> Result<(), StorageError> {
        let (path, draft) = (self.folder.join(NAME), self.folder.join(DRAFT));
        let written =
            create_file(&draft).and_then(|mut file| file.write_all(&self.encode()).map(|()| file));
        let file = written.map_err(|e| StorageError::io("write", &draft, e))?;
        file.sync_all().map_err(|e| StorageError::sync(&draft, e))?;
        fs::rename(&draft, &path).map_err(|e| StorageError::io("write", &path, e))?;
        sync_folder(&self.folder)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.next_key.to_le_bytes());
        for Complete { key, chunks, about } in &self.complete {
            for number in [key.0, *chunks, about.len() as u64] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(about);
        }
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }
}

fn decode(bytes: &[u8]) -> Option<(u64, Vec<Complete>)> {
    let (content, checksum) = bytes.split_last_chunk()?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let mut rest = content.strip_prefix(MAGIC)?;
    let next_key = number(&mut rest)?;
    let mut complete = Vec::new();
    while !rest.is_empty() {
        let (key, chunks) = (SnapshotKey(number(&mut rest)?), number(&mut rest)?);
        let length = usize::try_from(number(&mut rest)?).ok()?;
        let (about, behind) = rest.split_at_checked(length)?;
        complete.push(Complete { key, chunks, about: Bytes::copy_from_slice(about) });
        rest = behind;
    }
    Some((next_key, complete))
}

/// Decodes the input of a fuzzer.
#[cfg(fuzzing)]
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Some((next_key, complete)) = decode(bytes) {
        assert_eq!(Index { folder: PathBuf::new(), next_key, complete }.encode(), bytes);
    }
}

fn number(from: &mut &[u8]) -> Option<u64> {
    let (number, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(u64::from_le_bytes(*number))
}
