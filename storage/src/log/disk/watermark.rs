use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::StorageError;
use crate::folder::create_new_file;

const NAME: &str = "log.synced";
const MAGIC: &[u8; 8] = b"PSNGSYNC";
/// Size of a slot. Each slot is a sector of its own, which a disk writes atomically.
const SECTOR: usize = 512;
const SLOTS: usize = 2;

/// Number of the last synced write of the log. Distinguishes a write that a crash cut short, which
/// was not acknowledged, from an acknowledged one that was damaged later.
///
/// It is written after each sync of the log, and not synced itself. A killed process leaves it
/// intact. After a power failure it may be about 30 s old, so it can be too low, but never too
/// high.
#[derive(Debug)]
pub(crate) struct Watermark {
    path: PathBuf,
    file: File,
    synced: u64,
}

impl Watermark {
    /// Creates a watermark for this write.
    pub(crate) fn format(folder: &Path, synced: u64) -> Result<(), StorageError> {
        let path = folder.join(NAME);
        let file = create_new_file(&path).map_err(|e| StorageError::io("make", &path, e))?;
        Self { path, file, synced }.settle()
    }

    pub(crate) fn open(folder: &Path) -> Result<Self, StorageError> {
        let path = folder.join(NAME);
        let mut options = OpenOptions::new();
        let file = match options.read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(StorageError::damaged(&path, "it is missing"));
            }
            Err(e) => return Err(StorageError::io("open", &path, e)),
        };
        let mut bytes = vec![0; SLOTS * SECTOR];
        let length = file.metadata().map_err(|e| StorageError::io("read", &path, e))?.len();
        if length != bytes.len() as u64 {
            return Err(StorageError::damaged(&path, format!("it has {length} bytes")));
        }
        file.read_exact_at(&mut bytes, 0).map_err(|e| StorageError::io("read", &path, e))?;
        let mut synced = 0;
        for (number, sector) in bytes.chunks(SECTOR).enumerate() {
            let slot = decode(sector).ok_or_else(|| {
                StorageError::damaged(&path, format!("slot {number} does not match its checksum"))
            })?;
            synced = synced.max(slot);
        }
        Ok(Self { path, file, synced })
    }

    /// Returns the last write known to be synced.
    pub(crate) fn synced(&self) -> u64 {
        self.synced
    }

    /// Records that this write has been synced.
    pub(crate) fn raise(&mut self, synced: u64) -> Result<(), StorageError> {
        self.synced = synced;
        let offset = synced % SLOTS as u64 * SECTOR as u64;
        let written = self.file.write_all_at(&encode(synced), offset);
        written.map_err(|e| StorageError::io("write", &self.path, e))
    }

    /// Writes both slots, and syncs the file.
    pub(crate) fn settle(&self) -> Result<(), StorageError> {
        let bytes = encode(self.synced).repeat(SLOTS);
        let written = self.file.write_all_at(&bytes, 0);
        written.map_err(|e| StorageError::io("write", &self.path, e))?;
        self.file.sync_all().map_err(|e| StorageError::sync(&self.path, e))
    }
}

fn encode(synced: u64) -> Vec<u8> {
    let mut sector = MAGIC.to_vec();
    sector.extend_from_slice(&synced.to_le_bytes());
    sector.extend_from_slice(&crc32c::crc32c(&sector).to_le_bytes());
    sector.resize(SECTOR, 0);
    sector
}

pub(super) fn decode(sector: &[u8]) -> Option<u64> {
    let synced = u64::from_le_bytes(*sector.strip_prefix(MAGIC)?.first_chunk()?);
    (encode(synced) == sector).then_some(synced)
}
