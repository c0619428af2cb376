use std::io;
use std::os::fd::AsFd;

use bytes::{Bytes, BytesMut};

use super::{self as wire, Nonsense};

/// How much one read takes at most, in bytes; more stays for the next turn, so that one
/// loud peer does not keep the others waiting.
pub(in crate::embedded::socket) const READ_BYTES_MAX: usize = 256 * 1024;

/// Cuts what a socket gives into frames.
#[derive(Default)]
pub(in crate::embedded::socket) struct FrameReader {
    buffer: BytesMut,
}

impl FrameReader {
    /// Reads once, by way of `scratch`. `Ok(0)` is the end.
    pub(in crate::embedded::socket) fn fill(
        &mut self,
        socket: impl AsFd,
        scratch: &mut [u8],
    ) -> io::Result<usize> {
        let count = rustix::io::read(socket, &mut *scratch)?;
        self.buffer.extend_from_slice(scratch.get(..count).unwrap_or_default());
        Ok(count)
    }

    /// The next whole frame, its length included.
    pub(in crate::embedded::socket) fn next(&mut self) -> Result<Option<Bytes>, Nonsense> {
        let Some(length) = wire::frame_length(&self.buffer)? else { return Ok(None) };
        if self.buffer.len() < length {
            self.buffer.reserve(length - self.buffer.len());
            return Ok(None);
        }
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// A place to read to, shared by all readers of a thread.
pub(in crate::embedded::socket) fn scratch() -> Vec<u8> {
    vec![0; READ_BYTES_MAX]
}
