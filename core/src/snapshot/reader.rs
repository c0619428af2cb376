use std::io;

use bytes::{Buf, Bytes};

use super::{SnapshotHead, SnapshotName};
use crate::wire::codec;

/// Reads the chunks of a snapshot as one stream. Fetches a chunk when it is needed and holds one
/// chunk in memory.
pub struct SnapshotReader<F> {
    name: SnapshotName,
    source: F,
    next: u64,
    chunk: Bytes,
}

impl<F: FnMut(u64) -> io::Result<Bytes>> SnapshotReader<F> {
    /// Reads the head of a snapshot. Returns it with a reader of the rest, which is the state.
    /// `source` returns a chunk by number, counted from zero; it is called in order.
    ///
    /// # Errors
    ///
    /// Errors of the source; also fails if the head does not decode or does not match the name.
    pub fn open(name: SnapshotName, source: F) -> io::Result<(SnapshotHead, Self)> {
        let mut reader = Self { name, source, next: 0, chunk: Bytes::new() };
        let mut length = [0; 4];
        io::Read::read_exact(&mut reader, &mut length)?;
        let length = u64::from(u32::from_le_bytes(length));
        let mut encoded = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(&mut reader, length), &mut encoded)?;
        let head: SnapshotHead = codec::read(&mut &encoded[..])?;
        if head.position() != name.position {
            let text = format!("{name} begins with the head of one at {}", head.position());
            return Err(io::Error::other(text));
        }
        Ok((head, reader))
    }
}

impl<F: FnMut(u64) -> io::Result<Bytes>> io::Read for SnapshotReader<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() && self.next < self.name.chunks() {
            self.chunk = (self.source)(self.next)?;
            self.next += 1;
        }
        let count = into.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}
