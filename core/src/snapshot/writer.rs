use std::io;

use bytes::{Bytes, BytesMut};
use xxhash_rust::xxh3::Xxh3;

use super::{CHUNK_BYTES, Snapshot, SnapshotHead, SnapshotName};
use crate::wire::codec;
use crate::wire::types::Digest;

/// Splits a snapshot into chunks and hashes it.
pub struct SnapshotWriter<F> {
    sink: F,
    chunk: BytesMut,
    digest: Box<Xxh3>,
    bytes: u64,
}

impl<F: FnMut(Bytes) -> io::Result<()>> SnapshotWriter<F> {
    /// Writes a whole snapshot. Passes its chunks to `sink`, in order, and returns its name.
    ///
    /// # Errors
    ///
    /// Errors of the application and of the sink.
    pub fn write_chunks(
        head: &SnapshotHead,
        state: impl Snapshot,
        sink: F,
    ) -> io::Result<SnapshotName> {
        let chunk = BytesMut::with_capacity(CHUNK_BYTES);
        let mut writer = Self { sink, chunk, digest: Box::new(Xxh3::new()), bytes: 0 };
        let mut encoded = Vec::new();
        codec::write(&mut encoded, head)?;
        let length = u32::try_from(encoded.len()).map_err(io::Error::other)?;
        io::Write::write_all(&mut writer, &length.to_le_bytes())?;
        io::Write::write_all(&mut writer, &encoded)?;
        state.write(&mut writer)?;
        writer.finish(head)
    }

    fn emit_chunk(&mut self) -> io::Result<()> {
        let next = BytesMut::with_capacity(CHUNK_BYTES);
        let chunk = std::mem::replace(&mut self.chunk, next).freeze();
        self.digest.update(&chunk);
        self.bytes += chunk.len() as u64;
        (self.sink)(chunk)
    }

    fn finish(mut self, head: &SnapshotHead) -> io::Result<SnapshotName> {
        if !self.chunk.is_empty() {
            self.emit_chunk()?;
        }
        let digest = Digest(self.digest.digest128());
        Ok(SnapshotName { position: head.position(), digest, bytes: self.bytes })
    }
}

impl<F: FnMut(Bytes) -> io::Result<()>> io::Write for SnapshotWriter<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK_BYTES - self.chunk.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.chunk.extend_from_slice(taken);
        if self.chunk.len() == CHUNK_BYTES {
            self.emit_chunk()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
