use std::io;
use std::os::fd::AsFd;

use bytes::{Bytes, BytesMut};

use super::wire::{self, Nonsense};

/// How much one read takes at most, in bytes; more stays for the next turn, so that one
/// loud peer does not keep the others waiting.
pub(super) const READ_BYTES_MAX: usize = 256 * 1024;

/// Cuts what a socket gives into frames.
#[derive(Default)]
pub(super) struct Reader {
    buffer: BytesMut,
}

impl Reader {
    /// Reads once, by way of `scratch`. `Ok(0)` is the end.
    pub(super) fn fill(&mut self, socket: impl AsFd, scratch: &mut [u8]) -> io::Result<usize> {
        let count = rustix::io::read(socket, &mut *scratch)?;
        self.buffer.extend_from_slice(scratch.get(..count).unwrap_or_default());
        Ok(count)
    }

    /// The next whole frame, its length included.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Nonsense> {
        let Some(length) = wire::frame_length(&self.buffer)? else { return Ok(None) };
        if self.buffer.len() < length {
            self.buffer.reserve(length - self.buffer.len());
            return Ok(None);
        }
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// A place to read to, shared by all readers of a thread.
pub(super) fn scratch() -> Vec<u8> {
    vec![0; READ_BYTES_MAX]
}
