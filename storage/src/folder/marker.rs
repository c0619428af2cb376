//! The marker file of a store: its format version and its identity.

use std::fs;
use std::io::Write;
use std::path::Path;

use bytes::Bytes;

use crate::StorageError;

const NAME: &str = "marker";
const MAGIC: &[u8; 8] = b"PSNGSTOR";
/// Version of the format of everything in the folder.
const VERSION: u16 = 1;
const IDENTITY: usize = 10;

/// Writes the marker. It is durable once the folder is synced, too.
pub(super) fn write(folder: &Path, identity: &[u8]) -> Result<(), StorageError> {
    let path = folder.join(NAME);
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(identity);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    let written =
        super::create_new_file(&path).and_then(|mut file| file.write_all(&bytes).map(|()| file));
    let file = written.map_err(|e| StorageError::io("write", &path, e))?;
    file.sync_all().map_err(|e| StorageError::sync(&path, e))
}

/// Reads the marker, and returns its identity.
pub(super) fn read(folder: &Path) -> Result<Bytes, StorageError> {
    let path = folder.join(NAME);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(StorageError::damaged(&path, "it is missing"));
        }
        Err(e) => return Err(StorageError::io("read", &path, e)),
    };
    let damaged = |what: &str| StorageError::damaged(&path, what);
    let (head, checksum) = bytes.split_last_chunk().ok_or_else(|| damaged("it is cut short"))?;
    if crc32c::crc32c(head) != u32::from_le_bytes(*checksum) {
        // A later format may have another checksum, but starts with the same magic and version.
        return Err(match version(&bytes) {
            Some(found) if found > VERSION => {
                StorageError::Version { path: folder.to_owned(), found, known: VERSION }
            }
            _ => damaged("it does not match its checksum"),
        });
    }
    let found = version(head).ok_or_else(|| damaged("it is not a marker file"))?;
    if found != VERSION {
        return Err(StorageError::Version { path: folder.to_owned(), found, known: VERSION });
    }
    let identity = head.get(IDENTITY..).ok_or_else(|| damaged("it is cut short"))?;
    Ok(Bytes::copy_from_slice(identity))
}

fn version(bytes: &[u8]) -> Option<u16> {
    let rest = bytes.strip_prefix(MAGIC)?;
    rest.first_chunk().map(|version| u16::from_le_bytes(*version))
}
