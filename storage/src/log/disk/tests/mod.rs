mod crash_images;
mod damage;
mod tape;

use std::path::Path;

use super::watermark::Watermark;
use super::*;
use crate::{MemoryLog, Record};
use tape::{Image, Tape};

/// Opens a log on this image, with a watermark of `synced`.
fn open(folder: &Path, image: Vec<u8>, synced: u64) -> Result<(DiskLog, StoredLog), StorageError> {
    open_on(folder, Image::new(image), synced)
}

fn open_on(
    folder: &Path,
    backend: impl StorageBackend,
    synced: u64,
) -> Result<(DiskLog, StoredLog), StorageError> {
    let _ = std::fs::remove_file(folder.join("log.synced"));
    Watermark::format(folder, synced)?;
    let mut log = DiskLog::open_on(folder.join(NAME), backend, Watermark::open(folder)?)?;
    let recovered = log.recover(0)?;
    Ok((log, recovered))
}

/// Returns the number of cases: `PLAINSONG_IMAGES` if set, or else the default.
fn cases(default: u64) -> u64 {
    std::env::var("PLAINSONG_IMAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}
