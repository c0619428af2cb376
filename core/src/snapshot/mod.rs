//! Snapshots of a state machine: how they are named, cut into chunks, kept and read.
//!
//! The bytes of a snapshot are the length of the head (four bytes, little endian), the head,
//! which is what the protocol knows at that position, and the state as the application
//! writes it. The head is part of the stream, so no frame limits its size. All three follow from the log alone, so all replicas have the same bytes.

mod manager;
mod reader;
mod writer;

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::manager::{SnapshotError, SnapshotManager};
pub use self::reader::SnapshotReader;
pub use self::writer::SnapshotWriter;
pub use crate::engine::{SnapshotCommand, SnapshotEvent, SnapshotHead};
use crate::wire::codec;
pub use crate::wire::snapshot_name::{CHUNK_BYTES, SnapshotName};

/// A state as it was at one moment, to be written while the state machine goes on.
///
/// Everything that can be serialised is one, so `type Snapshot = Self` and a clone will do
/// for a small state. A large one is best kept in persistent maps, whose clones cost
/// nothing, or behind `Arc`s.
pub trait Snapshot: Send + 'static {
    /// Writes the state. Called once, on a thread of its own, while the state machine
    /// applies further commands.
    ///
    /// The bytes must follow from the state alone: replicas compare them, and one that
    /// differs from the majority stops. So no order of a hash map, no time, no addresses, and
    /// the same bytes from all versions of the application that run together.
    ///
    /// # Errors
    ///
    /// Those of the writer, and the application's own. Any stops the replica.
    fn write(self, to: &mut dyn io::Write) -> io::Result<()>;
}

impl<S: Serialize + Send + 'static> Snapshot for S {
    fn write(self, to: &mut dyn io::Write) -> io::Result<()> {
        codec::write(to, &self)
    }
}

/// Reads a state that was written by serialising it, as [`Snapshot`] does for whatever can
/// be serialised.
///
/// # Errors
///
/// Those of the reader, and when the bytes are not of that type.
pub fn read<S: DeserializeOwned>(from: &mut dyn io::Read) -> io::Result<S> {
    codec::read(from).map_err(|error| {
        let state = std::any::type_name::<S>();
        io::Error::new(error.kind(), format!("a state of type {state} cannot be decoded: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use bytes::Bytes;

    use super::*;

    /// A head of any size stands in the stream like the state: its size has no limit of its own.
    #[test]
    fn a_head_that_no_frame_could_carry_is_cut_and_read() {
        let head = SnapshotHead::of_origins(40_000);
        let mut chunks: Vec<Bytes> = Vec::new();
        let name = SnapshotWriter::write_chunks(&head, "a state", |chunk| {
            chunks.push(chunk);
            Ok(())
        });
        let name = name.unwrap();
        assert!(name.bytes > 1 << 20, "{name:?}");
        let source = |chunk: u64| Ok(chunks[chunk as usize].clone());
        let (read, mut rest) = SnapshotReader::open(name, source).unwrap();
        assert_eq!(read, head);
        let mut state = Vec::new();
        rest.read_to_end(&mut state).unwrap();
        assert_eq!(state, crate::wire::codec::encode(&"a state").unwrap());
    }

    #[test]
    fn a_head_that_claims_to_be_longer_than_its_snapshot_is_refused() {
        let bytes = Bytes::from(u32::MAX.to_le_bytes().repeat(5));
        let name = SnapshotName { bytes: bytes.len() as u64, ..SnapshotName::default() };
        assert!(SnapshotReader::open(name, |_| Ok(bytes.clone())).is_err());
    }
}
