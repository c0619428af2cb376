use std::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::types::{Digest, Index, Position};

/// Size in bytes of each chunk of a snapshot, except the last one. A chunk with its headers fits
/// into a frame of less than 64 KiB.
pub const CHUNK_BYTES: usize = 60 << 10;

/// The name of a snapshot: its position, digest and length. It identifies the bytes of the snapshot
/// at every replica, so a transfer can continue in another epoch and from another donor (rule L5).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SnapshotName {
    /// The position of the last entry whose effect the snapshot contains.
    pub position: Position,
    /// The hash of the bytes.
    pub digest: Digest,
    /// The number of bytes.
    pub bytes: u64,
}

impl SnapshotName {
    /// Returns the index of the last entry whose effect the snapshot contains.
    pub fn index(&self) -> Index {
        self.position.index
    }

    /// Returns the number of chunks in which the snapshot is sent and stored.
    pub fn chunks(&self) -> u64 {
        self.bytes.div_ceil(CHUNK_BYTES as u64)
    }

    /// Returns the length of a chunk in bytes; zero if there is no chunk with this number.
    pub fn chunk_bytes(&self, chunk: u64) -> u64 {
        let before = chunk.saturating_mul(CHUNK_BYTES as u64);
        self.bytes.saturating_sub(before).min(CHUNK_BYTES as u64)
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot at index {} ({})", self.position.index, self.digest)
    }
}
