//! Snapshots of a state machine: their names, format, storage, and how they are written and read.
//!
//! A snapshot lets a replica drop old log entries, restart without applying the whole log, and
//! bring a lagging replica up to date.
//!
//! # Format
//!
//! A snapshot is one stream of bytes: the length of the head (four bytes, little endian), the head,
//! which is the state of the protocol at that position, and the state as the application writes it.
//! The stream is stored and sent in chunks of [`CHUNK_BYTES`], so neither part has a size limit.
//! All bytes follow from the log alone, so all replicas produce the same.

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

/// A point-in-time view of a state machine, which can be written in the background.
///
/// Implemented for everything that implements [`Serialize`], so `type Snapshot = Self` and a clone
/// suffice for a small state. Keep a large state in persistent maps, which are cheap to clone, or
/// behind `Arc`s.
pub trait Snapshot: Send + 'static {
    /// Writes the state. Called once, on the thread for writing snapshots, while the state machine
    /// applies further commands. The writer blocks while the disk is slow.
    ///
    /// The bytes must depend on the state alone, because replicas compare them and one that differs
    /// from the majority stops. Do not write hash maps in iteration order, times, or addresses. All
    /// versions of the application that run in one group must write the same bytes.
    ///
    /// # Errors
    ///
    /// Errors of the writer and of the application. Any error stops the replica.
    fn write(self, to: &mut dyn io::Write) -> io::Result<()>;
}

impl<S: Serialize + Send + 'static> Snapshot for S {
    fn write(self, to: &mut dyn io::Write) -> io::Result<()> {
        codec::write(to, &self)
    }
}

/// Reads a state that was written by the [`Snapshot`] implementation for serializable types. For
/// use in [`StateMachine::restore`](crate::StateMachine::restore).
///
/// # Errors
///
/// Errors of the reader; also fails if the bytes do not decode as `S`, or if more bytes follow.
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

    #[test]
    fn a_head_larger_than_a_frame_is_split_and_read() {
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
    fn a_head_whose_length_exceeds_the_snapshot_is_rejected() {
        let bytes = Bytes::from(u32::MAX.to_le_bytes().repeat(5));
        let name = SnapshotName { bytes: bytes.len() as u64, ..SnapshotName::default() };
        assert!(SnapshotReader::open(name, |_| Ok(bytes.clone())).is_err());
    }
}
