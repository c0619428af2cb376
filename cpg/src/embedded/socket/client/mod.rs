//! A connection to the hub: its interface for the caller, and the thread that reads from the hub.

mod shared;
mod track;
mod worker;

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use shared::{Client, ClientPhase};
use worker::ClientWorker;

use crate::connection::{Backend, Connection, Options};
use crate::embedded::socket::hub_discovery::find_hub;
use crate::embedded::socket::wire::{self, Participant, ToHub};
use crate::embedded::socket::{ClientId, MEETING_TIME_MAX};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::mailbox::Mailbox;
use crate::{Error, GroupEntry, GroupName, Iteration, Member, Pid, Result};

/// Opens a connection to the ring of the processes that meet at the Unix socket `path`.
pub(crate) fn connect(path: &Path, options: Options) -> Result<Connection> {
    let id = ClientId(getrandom::u64().map_err(|_| Error::NoResources)?);
    let who = Participant { id, pid: Pid(std::process::id()) };
    let client = Arc::new(Client::new(path, who)?);
    // Here and not in the thread, so that an invalid path is reported at once.
    let deadline = Instant::now() + MEETING_TIME_MAX;
    let link = find_hub(path, deadline)?;
    let worker = ClientWorker::new(client.clone(), options, link);
    let thread = thread::Builder::new()
        .name("cpg-client".into())
        .spawn(move || worker.run())
        .map_err(|_| Error::NoResources)?;
    let connection = SocketConnection { client, thread: Some(thread) };
    connection.client.await_phase(Some(deadline), |phase| *phase != ClientPhase::Connecting)?;
    Ok(Connection::new(connection))
}

/// The caller's side of a [`Client`].
struct SocketConnection {
    client: Arc<Client>,
    thread: Option<JoinHandle<()>>,
}

impl Backend for SocketConnection {
    fn join(&self, group: &GroupName) -> Result<()> {
        let client = &*self.client;
        let mut state = client.lock();
        match &state.phase {
            ClientPhase::New(_) => {}
            ClientPhase::Joining(_) | ClientPhase::Member => return Err(Error::Exist),
            ClientPhase::Leaving | ClientPhase::Left => return Err(Error::BadHandle),
            ClientPhase::Dead(error) => return Err(*error),
            ClientPhase::Connecting => return Err(Error::TryAgain),
        }
        state.phase = ClientPhase::Joining(group.clone());
        state.submit(client, |_| ToHub::Join(group.clone()).encode());
        drop(state);
        // The hub either rejects the join or sends the configuration in which we joined.
        match client.await_phase(None, |phase| !matches!(phase, ClientPhase::Joining(_)))? {
            ClientPhase::New(Some(error)) => Err(error),
            _ => Ok(()),
        }
    }

    fn leave(&self) -> Result<()> {
        let mut state = self.client.lock();
        match state.phase {
            ClientPhase::Member => {}
            ClientPhase::Dead(error) => return Err(error),
            _ => return Err(Error::NotExist),
        }
        state.phase = ClientPhase::Leaving;
        state.submit(&self.client, |_| ToHub::Leave.encode());
        Ok(())
    }

    fn multicast(&self, message: &[IoSlice<'_>]) -> Result<()> {
        let mut state = self.client.lock();
        match state.phase {
            ClientPhase::Member => {}
            ClientPhase::Dead(error) => return Err(error),
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

impl Drop for SocketConnection {
    /// Closes the connection after the hub has read what was sent, within a second.
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
