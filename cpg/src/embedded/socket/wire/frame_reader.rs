use std::io;
use std::os::fd::AsFd;

use bytes::{Bytes, BytesMut};

use super::{self as wire, ProtocolError};

/// Maximum number of bytes of one read. The rest stays for the next turn, so that one busy peer
/// does not delay the others.
pub(in crate::embedded::socket) const READ_BYTES_MAX: usize = 256 * 1024;

/// Splits the bytes of a socket into frames.
#[derive(Default)]
pub(in crate::embedded::socket) struct FrameReader {
    buffer: BytesMut,
}

impl FrameReader {
    /// Reads once, using `scratch` as a buffer. `Ok(0)` is the end of the stream.
    pub(in crate::embedded::socket) fn fill(
        &mut self,
        socket: impl AsFd,
        scratch: &mut [u8],
    ) -> io::Result<usize> {
        let count = rustix::io::read(socket, &mut *scratch)?;
        self.buffer.extend_from_slice(scratch.get(..count).unwrap_or_default());
        Ok(count)
    }

    /// Returns the next complete frame, including its length.
    pub(in crate::embedded::socket) fn next(&mut self) -> Result<Option<Bytes>, ProtocolError> {
        let Some(length) = wire::frame_length(&self.buffer)? else { return Ok(None) };
        if self.buffer.len() < length {
            self.buffer.reserve(length - self.buffer.len());
            return Ok(None);
        }
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// Returns a read buffer for all readers of a thread.
pub(in crate::embedded::socket) fn scratch() -> Vec<u8> {
    vec![0; READ_BYTES_MAX]
}
