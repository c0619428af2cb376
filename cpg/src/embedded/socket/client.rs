use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{EventfdFlags, eventfd};

use super::follower::Follower;
use super::hub::Hub;
use super::meeting::meet;
use super::outbox::Outbox;
use super::reader::Reader;
use super::wire::{self, Participant, ToClient, ToHub};
use super::{ClientId, GREETING_TIME_MAX, MEETING_TIME_MAX};
use crate::connection::{Backend, Connection, Options};
use crate::embedded::{MESSAGE_BYTES_MAX, Mailbox};
use crate::{Error, GroupEntry, GroupName, Iteration, Member, Pid, Result};

/// Opens a connection to the ring of the processes that meet at the Unix socket `path`.
pub(crate) fn connect(path: &Path, options: Options) -> Result<Connection> {
    let id = ClientId(getrandom::u64().map_err(|_| Error::NoResources)?);
    let who = Participant { id, pid: Pid(std::process::id()) };
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|_| Error::NoResources)?;
    let client = Arc::new(Client {
        path: path.to_owned(),
        who,
        mailbox: Mailbox::new(who.member()),
        state: Mutex::default(),
        changed: Condvar::new(),
        bell,
    });
    // Here, and not in the thread, so that a wrong path is told at once.
    let deadline = Instant::now() + MEETING_TIME_MAX;
    let met = meet(path, deadline)?;
    let follower = Follower::new(client.clone(), options, met);
    let thread = thread::Builder::new()
        .name("cpg-client".into())
        .spawn(move || follower.run())
        .map_err(|_| Error::NoResources)?;
    let remote = Remote { client, thread: Some(thread) };
    remote.client.await_phase(Some(deadline), |phase| *phase != Phase::Connecting)?;
    Ok(Connection::new(remote))
}

/// What a connection and its thread share.
pub(super) struct Client {
    pub(super) path: PathBuf,
    pub(super) who: Participant,
    pub(super) mailbox: Mailbox,
    state: Mutex<State>,
    /// The phase has changed.
    changed: Condvar,
    /// Wakes the thread, to write what is left or to close.
    pub(super) bell: OwnedFd,
}

/// Where a connection is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// No hub has welcomed it yet.
    #[default]
    Connecting,
    /// A member of no group yet. With the answer to the last join, if that was no.
    New(Option<Error>),
    Joining(GroupName),
    Member,
    /// Asked to leave, and still hears the group.
    Leaving,
    /// Has heard its last event.
    Left,
    /// Cut off from the ring for ever.
    Dead(Error),
}

#[derive(Default)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// The way to the hub; `None` while there is none.
    pub(super) socket: Option<Arc<UnixStream>>,
    /// The hub has welcomed us: operations may go out.
    pub(super) is_welcome: bool,
    pub(super) output: Outbox,
    /// Operations that were taken over and not yet seen at their place in the order. They
    /// are sent again to a hub that takes over.
    pub(super) pending: VecDeque<(u64, Bytes)>,
    last_op: u64,
    pub(super) is_closing: bool,
    /// The thread was told that there is output left.
    is_told: bool,
    /// The hub of this process, left here by a thread that ended before the connection.
    pub(super) hub: Option<Arc<Hub>>,
}

impl State {
    /// Takes an operation over and writes it, as far as that goes without waiting.
    fn submit(&mut self, client: &Client, encode: impl FnOnce(u64) -> Bytes) {
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

    /// Writes what the socket takes. The thread finds out about errors by reading.
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
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_phase(&self, state: &mut State, phase: Phase) {
        state.phase = phase;
        self.changed.notify_all();
    }

    /// Waits until the phase is one that `is_wanted`, or death.
    fn await_phase(
        &self,
        deadline: Option<Instant>,
        is_wanted: impl Fn(&Phase) -> bool,
    ) -> Result<Phase> {
        let mut state = self.lock();
        loop {
            match &state.phase {
                Phase::Dead(error) => return Err(*error),
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
    fn ring(&self) {
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Asks the hub by a connection of its own: nothing of this one has to wait for it.
    fn ask(&self, iteration: &Iteration) -> Result<Vec<GroupEntry>> {
        let deadline = Instant::now() + GREETING_TIME_MAX;
        loop {
            if let Phase::Dead(error) = self.lock().phase {
                return Err(error);
            }
            match self.ask_once(iteration, deadline) {
                // Another hub takes over.
                Err(Error::TryAgain) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(5));
                }
                answer => return answer,
            }
        }
    }

    fn ask_once(&self, iteration: &Iteration, deadline: Instant) -> Result<Vec<GroupEntry>> {
        let met = meet(&self.path, deadline)?;
        let socket = &met.socket;
        let mut output = Outbox::default();
        output.push(ToHub::Ask(iteration.clone()).encode());
        output.flush(socket).map_err(|_| Error::TryAgain)?;
        socket.set_nonblocking(false).map_err(|_| Error::TryAgain)?;
        let left = deadline.saturating_duration_since(Instant::now());
        socket
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))
            .map_err(|_| Error::TryAgain)?;
        let (mut reader, mut scratch) = (Reader::default(), vec![0; 16 * 1024]);
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

/// The connection's side of a [`Client`].
struct Remote {
    client: Arc<Client>,
    thread: Option<JoinHandle<()>>,
}

impl Backend for Remote {
    fn join(&self, group: &GroupName) -> Result<()> {
        let client = &*self.client;
        let mut state = client.lock();
        match &state.phase {
            Phase::New(_) => {}
            Phase::Joining(_) | Phase::Member => return Err(Error::Exist),
            Phase::Leaving | Phase::Left => return Err(Error::BadHandle),
            Phase::Dead(error) => return Err(*error),
            Phase::Connecting => return Err(Error::TryAgain),
        }
        state.phase = Phase::Joining(group.clone());
        state.submit(client, |_| ToHub::Join(group.clone()).encode());
        drop(state);
        // The hub says no, or the configuration in which we joined says yes.
        match client.await_phase(None, |phase| !matches!(phase, Phase::Joining(_)))? {
            Phase::New(Some(error)) => Err(error),
            _ => Ok(()),
        }
    }

    fn leave(&self) -> Result<()> {
        let mut state = self.client.lock();
        match state.phase {
            Phase::Member => {}
            Phase::Dead(error) => return Err(error),
            _ => return Err(Error::NotExist),
        }
        state.phase = Phase::Leaving;
        state.submit(&self.client, |_| ToHub::Leave.encode());
        Ok(())
    }

    fn multicast(&self, message: &[IoSlice<'_>]) -> Result<()> {
        let mut state = self.client.lock();
        match state.phase {
            Phase::Member => {}
            Phase::Dead(error) => return Err(error),
            _ => return Err(Error::NotExist),
        }
        if !state.is_welcome || !self.client.mailbox.may_send() {
            return Err(Error::TryAgain);
        }
        let length = message.iter().map(|slice| slice.len()).sum();
        self.client.mailbox.charge(length);
        state.submit(&self.client, |op| {
            wire::multicast(op, length, |out| {
                message.iter().for_each(|slice| out.extend_from_slice(slice));
            })
        });
        Ok(())
    }

    fn local(&self) -> Member {
        self.client.who.member()
    }

    fn members(&self, group: &GroupName) -> Result<Vec<Member>> {
        let rows = self.client.ask(&Iteration::OneGroup(group.clone()))?;
        Ok(rows.into_iter().filter_map(|row| row.member).collect())
    }

    fn groups(&self, iteration: &Iteration) -> Result<Vec<GroupEntry>> {
        self.client.ask(iteration)
    }

    fn max_atomic_message_size(&self) -> usize {
        MESSAGE_BYTES_MAX
    }

    fn mailbox(&self) -> &Mailbox {
        &self.client.mailbox
    }
}

impl Drop for Remote {
    /// Closes in order: what was sent is taken over first, as far as a second is enough.
    fn drop(&mut self) {
        self.client.lock().is_closing = true;
        self.client.ring();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of an embedded connection panicked");
        }
    }
}
