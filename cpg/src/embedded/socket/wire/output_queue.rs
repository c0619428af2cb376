use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use bytes::{Buf, Bytes};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

/// Maximum number of pieces per system call.
const PIECES_MAX: usize = 64;

/// Bytes to be written to a nonblocking socket.
#[derive(Default)]
pub(in crate::embedded::socket) struct OutputQueue {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl OutputQueue {
    pub(in crate::embedded::socket) fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        self.pieces.push_back(piece);
    }

    pub(in crate::embedded::socket) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(in crate::embedded::socket) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(in crate::embedded::socket) fn clear(&mut self) {
        self.pieces.clear();
        self.bytes = 0;
    }

    /// Writes until the socket is full or the queue is empty. Returns the number of bytes written.
    pub(in crate::embedded::socket) fn flush(&mut self, socket: impl AsFd) -> io::Result<usize> {
        let mut total = 0;
        while !self.pieces.is_empty() {
            let slices: Vec<_> =
                self.pieces.iter().take(PIECES_MAX).map(|piece| IoSlice::new(piece)).collect();
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(&socket, &slices, &mut SendAncillaryBuffer::default(), flags) {
                Ok(count) => {
                    self.advance(count);
                    total += count;
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(total)
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes -= count;
        while let Some(piece) = self.pieces.front_mut() {
            if count < piece.len() {
                piece.advance(count);
                break;
            }
            count -= piece.len();
            self.pieces.pop_front();
        }
    }
}
