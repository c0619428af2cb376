//! The socket from a program to the guard of its command. It carries lines, some with a descriptor;
//! the module `guard` lists them.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::guard::ms;

/// Size of the receive buffer in bytes. More than all lines in flight.
const BUFFER_BYTES: usize = 4096;

/// The program's end of the socket to the guard. When the last clone is dropped, the guard stops
/// the command, unless a connection still holds its lock.
#[derive(Clone, Debug)]
pub struct Lifeline(Arc<StdUnixStream>);

impl Lifeline {
    /// Wraps a non-blocking socket.
    pub(crate) fn new(socket: StdUnixStream) -> Self {
        Self(Arc::new(socket))
    }

    /// Allows the command to run until then. Never blocks: if the guard is frozen and its buffer is
    /// full, the extension is lost and the guard stops the command too early.
    pub fn extend(&self, until: Instant) {
        let _ = self.send(&format!("until {}", ms(until)), None);
    }

    /// Tells the guard that the lock is held by this connection from now on.
    ///
    /// # Errors
    ///
    /// Returns an error if the guard has ended, or is frozen and its buffer is full.
    pub fn move_to(&self, connection: BorrowedFd<'_>) -> io::Result<()> {
        self.send("connection", Some(connection))
    }

    pub(crate) fn send(&self, line: &str, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let line = format!("{line}\n");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&fds));
        }
        // A dead guard is noticed when its process ends. A line is sent whole or not at all.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = sendmsg(&*self.0, &[IoSlice::new(line.as_bytes())], &mut control, flags)?;
        if sent == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// The guard's end: reads lines and descriptors from the program.
#[derive(Debug)]
pub(crate) struct LifelineReader {
    bytes: VecDeque<u8>,
    fds: VecDeque<OwnedFd>,
}

impl LifelineReader {
    pub(crate) fn new() -> Self {
        Self { bytes: VecDeque::new(), fds: VecDeque::new() }
    }

    /// Waits for the next line and returns it, or `None` if the program has ended. Cancel safe.
    pub(crate) async fn line(&mut self, socket: &UnixStream) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
            socket.readable().await?;
            match socket.try_io(Interest::READABLE, || self.receive(socket.as_fd())) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the next descriptor received. Descriptors arrive no later than the lines that announce
    /// them, and in the same order.
    pub(crate) fn fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }

    fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut buffer = [0; BUFFER_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        self.bytes.extend(buffer.iter().take(received.bytes));
        Ok(received.bytes)
    }
}
