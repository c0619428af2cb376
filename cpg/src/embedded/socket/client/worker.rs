use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, poll};

use super::shared::{Client, ClientPhase, ClientState};
use super::track::Track;
use crate::connection::Options;
use crate::embedded::socket::hub::Hub;
use crate::embedded::socket::hub_discovery::{HubLink, find_hub};
use crate::embedded::socket::wire::frame_reader::{FrameReader, scratch};
use crate::embedded::socket::wire::{
    Entry, EntryContent, MemberChange, NODE, ToClient, ToHub, VERSION,
};
use crate::embedded::socket::{CLOSING_TIME_MAX, MEETING_TIME_MAX, until};
use crate::{Configuration, Error, Event, Reason, Ring, RingId};

/// The thread of a connection: reads from the hub, and finds or becomes the next hub.
pub(super) struct ClientWorker {
    client: Arc<Client>,
    options: Options,
    socket: Arc<UnixStream>,
    /// Keeps the hub running if it is in this process.
    hub: Option<Arc<Hub>>,
    reader: FrameReader,
    track: Option<Track>,
    /// Sequence of the ring, once welcomed.
    ring: Option<u64>,
    /// Events that have been read but are not in the mailbox yet.
    events: Vec<Event>,
    /// The last own operation among the events read.
    seen_op: u64,
    /// Time limit of closing, once it has begun.
    closing: Option<Instant>,
    bye_sent: bool,
    /// Set once our own departure was delivered, which is the last event.
    has_left: bool,
    /// Set once the mailbox has overflowed.
    is_full: bool,
    scratch: Vec<u8>,
}

/// Reason why a connection to a hub ended.
enum End {
    /// The hub is gone or has disconnected us; the next hub decides.
    Lost,
    /// The connection is over.
    Dead(Error),
    /// Closing is complete.
    Closed,
}

impl ClientWorker {
    pub(super) fn new(client: Arc<Client>, options: Options, link: HubLink) -> Self {
        Self {
            client,
            options,
            socket: Arc::new(link.socket),
            hub: link.hub,
            reader: FrameReader::default(),
            track: None,
            ring: None,
            events: Vec::new(),
            seen_op: 0,
            closing: None,
            bye_sent: false,
            has_left: false,
            is_full: false,
            scratch: scratch(),
        }
    }

    /// Runs until the connection is closed or dead.
    pub(super) fn run(mut self) {
        loop {
            self.greet();
            let end = self.follow();
            self.flush_events();
            self.disconnect();
            match end {
                End::Lost if self.bye_sent => break,
                End::Lost => {
                    if let Err(error) = self.find_hub() {
                        self.die(error);
                        break;
                    }
                }
                End::Dead(error) => {
                    self.die(error);
                    break;
                }
                End::Closed => break,
            }
        }
        self.client.lock().hub = self.hub.take();
    }

    /// Sends the hello on a new connection, with the report for a hub that takes over.
    fn greet(&mut self) {
        self.reader = FrameReader::default();
        let held = self.track.as_ref().map(Track::held);
        let hello = ToHub::Hello { version: VERSION, who: self.client.who, held };
        let mut state = self.client.lock();
        state.socket = Some(self.socket.clone());
        state.output.clear();
        state.output.push(hello.encode());
        state.flush();
    }

    fn disconnect(&mut self) {
        let mut state = self.client.lock();
        state.socket = None;
        state.is_welcome = false;
        state.output.clear();
    }

    fn find_hub(&mut self) -> Result<(), Error> {
        // Dropped first: a hub of this process that has stopped is useless.
        self.hub = None;
        let deadline = self.closing.unwrap_or_else(|| Instant::now() + MEETING_TIME_MAX);
        loop {
            match find_hub(&self.client.path, deadline) {
                Ok(link) => {
                    self.socket = Arc::new(link.socket);
                    self.hub = link.hub;
                    return Ok(());
                }
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn die(&mut self, error: Error) {
        self.client.mailbox.close(error);
        self.client.set_phase(&mut self.client.lock(), ClientPhase::Dead(error));
    }

    /// Reads and writes until the connection ends.
    fn follow(&mut self) -> End {
        loop {
            if let Some(end) = self.close() {
                return end;
            }
            let has_output = !self.client.lock().output.is_empty();
            let output = if has_output { PollFlags::OUT } else { PollFlags::empty() };
            let mut fds = [
                PollFd::new(&*self.socket, PollFlags::IN | output),
                PollFd::new(&self.client.bell, PollFlags::IN),
            ];
            let timeout = self.closing.map(until);
            if let Err(error) = poll(&mut fds, timeout.as_ref())
                && error != rustix::io::Errno::INTR
            {
                tracing::error!(%error, "an embedded connection cannot poll");
                return End::Dead(Error::Library);
            }
            let [socket, bell] = fds.map(|fd| fd.revents());
            if !bell.is_empty() {
                let _ = rustix::io::read(&self.client.bell, &mut [0; 8]);
            }
            if socket.contains(PollFlags::OUT) {
                self.client.lock().flush();
            }
            if !(socket - PollFlags::OUT).is_empty()
                && let Err(end) = self.read()
            {
                return end;
            }
        }
    }

    /// Performs the steps of closing. The hub answers a bye by closing the connection.
    fn close(&mut self) -> Option<End> {
        let mut state = self.client.lock();
        if !state.is_closing && state.phase != ClientPhase::Left {
            return None;
        }
        let end = *self.closing.get_or_insert_with(|| Instant::now() + CLOSING_TIME_MAX);
        if Instant::now() >= end {
            return Some(End::Closed);
        }
        if state.is_welcome && !self.bye_sent {
            self.bye_sent = true;
            state.output.push(ToHub::Bye.encode());
            state.flush();
        }
        None
    }

    /// Reads once and handles the frames.
    fn read(&mut self) -> Result<(), End> {
        match self.reader.fill(&*self.socket, &mut self.scratch) {
            Ok(0) => return Err(End::Lost),
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return Ok(());
            }
            Err(_) => return Err(End::Lost),
        }
        loop {
            let frame = match self.reader.next() {
                Ok(None) => break,
                Ok(Some(frame)) => frame,
                Err(why) => return Err(protocol_error(&why)),
            };
            let said = ToClient::decode(&frame).map_err(|why| protocol_error(&why))?;
            self.handle_frame(said, frame)?;
        }
        self.flush_events();
        if self.is_full { Err(End::Dead(Error::Library)) } else { Ok(()) }
    }

    /// Moves the events to the mailbox. Only then removes their operations from the pending ones.
    fn flush_events(&mut self) {
        if !self.events.is_empty() && self.client.mailbox.push_all(self.events.drain(..)).is_err() {
            tracing::warn!("closing a connection that does not dispatch its events");
            self.is_full = true;
        }
        let mut state = self.client.lock();
        while state.pending.front().is_some_and(|(op, _)| *op <= self.seen_op) {
            state.pending.pop_front();
        }
    }

    fn handle_frame(&mut self, said: ToClient, frame: Bytes) -> Result<(), End> {
        match said {
            ToClient::Welcome { ring } => self.be_welcome(ring),
            ToClient::Entry(entry) => return self.follow_entry(entry, frame),
            ToClient::Fetch { from, to } => {
                let mut state = self.client.lock();
                for frame in self.track.iter().flat_map(|track| track.range(from, to)) {
                    state.output.push(frame.clone());
                }
                state.output.push(ToHub::FetchEnd.encode());
                state.flush();
            }
            ToClient::Refused(error) => {
                let mut state = self.client.lock();
                if !(state.is_welcome && matches!(state.phase, ClientPhase::Joining(_))) {
                    return Err(End::Dead(error));
                }
                state.pending.clear();
                self.client.set_phase(&mut state, ClientPhase::New(Some(error)));
            }
            ToClient::Answer(_) => tracing::warn!("ignoring an answer without a query"),
        }
        Ok(())
    }

    /// Handles the welcome: sends all pending operations, some of them again.
    fn be_welcome(&mut self, ring: u64) {
        // Members receive the new ring at its position in the order of their group.
        let is_news = self.track.is_none() && self.ring.is_some_and(|old| old != ring);
        if self.track.is_none() {
            self.ring = Some(ring);
        }
        if is_news {
            self.events.push(Event::Ring(event_of_ring(ring)));
        }
        self.flush_events();
        let mut state = self.client.lock();
        state.is_welcome = true;
        let ClientState { pending, output, .. } = &mut *state;
        for (_, frame) in pending {
            output.push(frame.clone());
        }
        state.flush();
        if state.phase == ClientPhase::Connecting {
            self.client.set_phase(&mut state, ClientPhase::New(None));
        }
    }

    /// Handles the next entry.
    fn follow_entry(&mut self, entry: Entry, frame: Bytes) -> Result<(), End> {
        if self.has_left {
            // An entry that completes a member that stayed.
            return Ok(());
        }
        if self.track.is_none() {
            self.be_member(&entry)?;
        }
        let Some(track) = &mut self.track else { return Ok(()) };
        if track.follow(&entry, frame).is_err() {
            tracing::error!(sequence = entry.sequence, "the hub has skipped an entry");
            return Err(End::Dead(Error::Library));
        }
        match entry.what {
            EntryContent::Message { from, op, message } => {
                if from.id == self.client.who.id {
                    self.seen_op = op;
                }
                self.events.push(Event::Deliver { sender: from.member(), message });
            }
            EntryContent::Ring { ring } => {
                self.ring = Some(ring);
                self.events.push(Event::Ring(event_of_ring(ring)));
            }
            EntryContent::Change { members, joined, left } => {
                let own = left.iter().find(|gone| gone.who.id == self.client.who.id).copied();
                if own.is_some_and(|gone| gone.reason != Reason::Leave) {
                    return Err(End::Dead(Error::Library));
                }
                let came = joined.iter().any(|gone| gone.who.id == self.client.who.id);
                self.events.push(Event::Configuration(Configuration {
                    members: members.iter().map(|member| member.member()).collect(),
                    joined: joined.into_iter().map(MemberChange::change).collect(),
                    left: left.into_iter().map(MemberChange::change).collect(),
                }));
                if let Some(ring) = self.ring.filter(|_| came && self.options.initial_ring) {
                    self.events.push(Event::Ring(event_of_ring(ring)));
                }
                if came || own.is_some() {
                    self.change_phase(own.is_some());
                }
            }
        }
        Ok(())
    }

    /// Checks that the first entry is the configuration in which we joined.
    fn be_member(&mut self, entry: &Entry) -> Result<(), End> {
        let is_own = matches!(&entry.what, EntryContent::Change { joined, .. }
            if joined.iter().any(|gone| gone.who.id == self.client.who.id));
        let phase = self.client.lock().phase.clone();
        match phase {
            ClientPhase::Joining(group) if is_own => {
                self.track = Some(Track::new(group, entry.sequence));
                Ok(())
            }
            _ => {
                tracing::error!(
                    sequence = entry.sequence,
                    "the hub has sent an unexpected first entry"
                );
                Err(End::Dead(Error::Library))
            }
        }
    }

    /// Handles our own join or departure, which is then no longer pending. Called after its event
    /// is in the mailbox.
    fn change_phase(&mut self, has_left: bool) {
        self.flush_events();
        let mut state = self.client.lock();
        self.has_left = has_left;
        if has_left {
            state.pending.clear();
        } else {
            state.pending.pop_front();
        }
        let phase = if has_left { ClientPhase::Left } else { ClientPhase::Member };
        self.client.set_phase(&mut state, phase);
    }
}

fn protocol_error(why: &crate::embedded::socket::wire::ProtocolError) -> End {
    tracing::error!(%why, "the hub of an embedded ring violates the protocol");
    End::Dead(Error::Library)
}

fn event_of_ring(sequence: u64) -> Ring {
    Ring { id: RingId { representative: NODE, sequence }, nodes: vec![NODE] }
}
