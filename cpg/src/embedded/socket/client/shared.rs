use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{EventfdFlags, eventfd};

use crate::embedded::socket::GREETING_TIME_MAX;
use crate::embedded::socket::hub::Hub;
use crate::embedded::socket::hub_discovery::find_hub;
use crate::embedded::socket::wire::frame_reader::FrameReader;
use crate::embedded::socket::wire::output_queue::OutputQueue;
use crate::embedded::socket::wire::{Participant, ToClient, ToHub};
use crate::mailbox::Mailbox;
use crate::{Error, GroupEntry, GroupName, Iteration, Result};

/// State shared by a connection and its thread.
pub(super) struct Client {
    pub(super) path: PathBuf,
    pub(super) who: Participant,
    pub(super) mailbox: Mailbox,
    state: Mutex<ClientState>,
    /// Signaled when the phase changes.
    changed: Condvar,
    /// Wakes the thread, to write the remaining output or to close.
    pub(super) bell: OwnedFd,
}

/// Phase of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum ClientPhase {
    /// No hub has welcomed it yet.
    #[default]
    Connecting,
    /// Not a member of a group yet. Contains the error of the last join, if it was rejected.
    New(Option<Error>),
    Joining(GroupName),
    Member,
    /// Has asked to leave, and still receives the group's events.
    Leaving,
    /// Has received its last event.
    Left,
    /// Disconnected from the ring for good.
    Dead(Error),
}

#[derive(Default)]
pub(super) struct ClientState {
    pub(super) phase: ClientPhase,
    /// Connection to the hub; `None` while there is none.
    pub(super) socket: Option<Arc<UnixStream>>,
    /// Set once the hub has welcomed this client: operations may be written.
    pub(super) is_welcome: bool,
    pub(super) output: OutputQueue,
    /// Accepted operations that have not been seen in the order yet. They are sent again to a new
    /// hub.
    pub(super) pending: VecDeque<(u64, Bytes)>,
    last_op: u64,
    pub(super) is_closing: bool,
    /// Set once the thread has been woken for the remaining output.
    is_told: bool,
    /// The hub of this process, left here by a thread that ended before the connection.
    pub(super) hub: Option<Arc<Hub>>,
}

impl ClientState {
    /// Accepts an operation and writes it as far as possible without waiting.
    pub(super) fn submit(&mut self, client: &Client, encode: impl FnOnce(u64) -> Bytes) {
        self.last_op += 1;
        let frame = encode(self.last_op);
        self.pending.push_back((self.last_op, frame.clone()));
        if self.is_welcome {
            self.output.push(frame);
            self.flush();
            if !self.output.is_empty() && !self.is_told {
                self.is_told = true;
                client.ring();
            }
        }
    }

    /// Writes as much output as the socket accepts. The thread notices errors when it reads.
    pub(super) fn flush(&mut self) {
        if let Some(socket) = &self.socket
            && self.output.flush(socket).is_err()
        {
            self.output.clear();
        }
        self.is_told &= !self.output.is_empty();
    }
}

impl Client {
    pub(super) fn new(path: &Path, who: Participant) -> Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|_| Error::NoResources)?;
        Ok(Self {
            path: path.to_owned(),
            who,
            mailbox: Mailbox::new(who.member()),
            state: Mutex::default(),
            changed: Condvar::new(),
            bell,
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ClientState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_phase(&self, state: &mut ClientState, phase: ClientPhase) {
        state.phase = phase;
        self.changed.notify_all();
    }

    /// Waits until the phase matches `is_wanted`. Returns an error if the client is dead.
    pub(super) fn await_phase(
        &self,
        deadline: Option<Instant>,
        is_wanted: impl Fn(&ClientPhase) -> bool,
    ) -> Result<ClientPhase> {
        let mut state = self.lock();
        loop {
            match &state.phase {
                ClientPhase::Dead(error) => return Err(*error),
                phase if is_wanted(phase) => return Ok(phase.clone()),
                _ => {}
            }
            state = match deadline {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Error::Timeout);
                    }
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Wakes the thread.
    pub(super) fn ring(&self) {
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Queries the hub through a separate connection, so that nothing on this one waits for the
    /// answer.
    pub(super) fn ask(&self, iteration: &Iteration) -> Result<Vec<GroupEntry>> {
        let deadline = Instant::now() + GREETING_TIME_MAX;
        loop {
            if let ClientPhase::Dead(error) = self.lock().phase {
                return Err(error);
            }
            match self.ask_once(iteration, deadline) {
                // Another hub is taking over.
                Err(Error::TryAgain) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(5));
                }
                answer => return answer,
            }
        }
    }

    fn ask_once(&self, iteration: &Iteration, deadline: Instant) -> Result<Vec<GroupEntry>> {
        let link = find_hub(&self.path, deadline)?;
        let socket = &link.socket;
        let mut output = OutputQueue::default();
        output.push(ToHub::Ask(iteration.clone()).encode());
        output.flush(socket).map_err(|_| Error::TryAgain)?;
        socket.set_nonblocking(false).map_err(|_| Error::TryAgain)?;
        let left = deadline.saturating_duration_since(Instant::now());
        socket
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))
            .map_err(|_| Error::TryAgain)?;
        let (mut reader, mut scratch) = (FrameReader::default(), vec![0; 16 * 1024]);
        loop {
            if let Some(frame) = reader.next().map_err(|_| Error::Library)? {
                return match ToClient::decode(&frame) {
                    Ok(ToClient::Answer(rows)) => Ok(rows),
                    Ok(ToClient::Refused(error)) => Err(error),
                    _ => Err(Error::Library),
                };
            }
            match reader.fill(socket, &mut scratch) {
                Ok(1..) => {}
                // The hub is gone; there will be another.
                Ok(0) | Err(_) => return Err(Error::TryAgain),
            }
        }
    }
}
