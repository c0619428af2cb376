use std::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::types::{Digest, Index, Position};

/// Bytes in each chunk of a snapshot but the last: with its head a frame of less than
/// 64 KiB.
pub const CHUNK_BYTES: usize = 60 << 10;

/// The name of a snapshot: what it is of, and of which bytes. The same at all replicas that
/// hold it, so it outlives the epoch and the donor it came from (rule L5).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SnapshotName {
    /// The last entry that is in it.
    pub position: Position,
    /// Of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub bytes: u64,
}

impl SnapshotName {
    /// The index of the last entry that is in it.
    pub fn index(&self) -> Index {
        self.position.index
    }

    /// In how many chunks it goes over the wire and into the store.
    pub fn chunks(&self) -> u64 {
        self.bytes.div_ceil(CHUNK_BYTES as u64)
    }

    /// How long that chunk is; zero if there is none of that number.
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
