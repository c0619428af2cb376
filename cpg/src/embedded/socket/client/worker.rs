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
use crate::embedded::socket::wire::{Entry, Gone, NODE, ToClient, ToHub, VERSION, What};
use crate::embedded::socket::{CLOSING_TIME_MAX, MEETING_TIME_MAX, until};
use crate::{Configuration, Error, Event, Reason, Ring, RingId};

/// The thread of a connection: reads what the hub says, and finds or becomes the next hub.
pub(super) struct ClientWorker {
    client: Arc<Client>,
    options: Options,
    socket: Arc<UnixStream>,
    /// Keeps the hub going, if it is of this process.
    hub: Option<Arc<Hub>>,
    reader: FrameReader,
    track: Option<Track>,
    /// The ring's sequence, once welcomed.
    ring: Option<u64>,
    /// Read and not yet in the mailbox, and the last own operation among them.
    events: Vec<Event>,
    seen_op: u64,
    /// Until when closing waits, once it has begun.
    closing: Option<Instant>,
    said_bye: bool,
    /// Our own leaving was the last event.
    has_left: bool,
    /// More waits for dispatch than may.
    is_full: bool,
    scratch: Vec<u8>,
}

/// Why a connection to a hub ended.
enum End {
    /// The hub is gone, or has cut us off: the next one will tell.
    Lost,
    /// The connection is over.
    Dead(Error),
    /// All is done.
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
            said_bye: false,
            has_left: false,
            is_full: false,
            scratch: scratch(),
        }
    }

    /// Goes on until the connection is closed or dead.
    pub(super) fn run(mut self) {
        loop {
            self.greet();
            let end = self.follow();
            self.hand_over();
            self.disconnect();
            match end {
                End::Lost if self.said_bye => break,
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

    /// Says hello on a new connection, and what a hub that takes over has to know.
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
        // Lets go of it first: a hub of this process that has stopped is of no more use.
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

    /// Does what closing asks for. The hub answers a bye by closing.
    fn close(&mut self) -> Option<End> {
        let mut state = self.client.lock();
        if !state.is_closing && state.phase != ClientPhase::Left {
            return None;
        }
        let end = *self.closing.get_or_insert_with(|| Instant::now() + CLOSING_TIME_MAX);
        if Instant::now() >= end {
            return Some(End::Closed);
        }
        if state.is_welcome && !self.said_bye {
            self.said_bye = true;
            state.output.push(ToHub::Bye.encode());
            state.flush();
        }
        None
    }

    /// Reads once and does what is said.
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
                Err(why) => return Err(nonsense(&why)),
            };
            let said = ToClient::decode(&frame).map_err(|why| nonsense(&why))?;
            self.hear(said, frame)?;
        }
        self.hand_over();
        if self.is_full { Err(End::Dead(Error::Library)) } else { Ok(()) }
    }

    /// Puts what was read into the mailbox. What is taken off the pending operations is
    /// in the mailbox then.
    fn hand_over(&mut self) {
        if !self.events.is_empty() && self.client.mailbox.push_all(self.events.drain(..)).is_err() {
            tracing::warn!("this process does not dispatch its events and is cut off");
            self.is_full = true;
        }
        let mut state = self.client.lock();
        while state.pending.front().is_some_and(|(op, _)| *op <= self.seen_op) {
            state.pending.pop_front();
        }
    }

    fn hear(&mut self, said: ToClient, frame: Bytes) -> Result<(), End> {
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
            ToClient::Answer(_) => tracing::warn!("an answer without a question"),
        }
        Ok(())
    }

    /// The hub is ready: what it does not know yet goes out, again if need be.
    fn be_welcome(&mut self, ring: u64) {
        // Members hear of a new ring at its place in the order of their group.
        let is_news = self.track.is_none() && self.ring.is_some_and(|old| old != ring);
        if self.track.is_none() {
            self.ring = Some(ring);
        }
        if is_news {
            self.events.push(Event::Ring(event_of_ring(ring)));
        }
        self.hand_over();
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

    /// Goes on by one entry.
    fn follow_entry(&mut self, entry: Entry, frame: Bytes) -> Result<(), End> {
        if self.has_left {
            // What a member that stayed was to be completed by.
            return Ok(());
        }
        if self.track.is_none() {
            self.be_member(&entry)?;
        }
        let Some(track) = &mut self.track else { return Ok(()) };
        if track.follow(&entry, frame).is_err() {
            tracing::error!(sequence = entry.sequence, "the hub left out an entry");
            return Err(End::Dead(Error::Library));
        }
        match entry.what {
            What::Message { from, op, message } => {
                if from.id == self.client.who.id {
                    self.seen_op = op;
                }
                self.events.push(Event::Deliver { sender: from.member(), message });
            }
            What::Ring { ring } => {
                self.ring = Some(ring);
                self.events.push(Event::Ring(event_of_ring(ring)));
            }
            What::Change { members, joined, left } => {
                let own = left.iter().find(|gone| gone.who.id == self.client.who.id).copied();
                if own.is_some_and(|gone| gone.reason != Reason::Leave) {
                    return Err(End::Dead(Error::Library));
                }
                let came = joined.iter().any(|gone| gone.who.id == self.client.who.id);
                self.events.push(Event::Configuration(Configuration {
                    members: members.iter().map(|member| member.member()).collect(),
                    joined: joined.into_iter().map(Gone::change).collect(),
                    left: left.into_iter().map(Gone::change).collect(),
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

    /// The first entry must be the configuration in which we joined.
    fn be_member(&mut self, entry: &Entry) -> Result<(), End> {
        let is_own = matches!(&entry.what, What::Change { joined, .. }
            if joined.iter().any(|gone| gone.who.id == self.client.who.id));
        let phase = self.client.lock().phase.clone();
        match phase {
            ClientPhase::Joining(group) if is_own => {
                self.track = Some(Track::new(group, entry.sequence));
                Ok(())
            }
            _ => {
                tracing::error!(sequence = entry.sequence, "the hub sends what is not for us");
                Err(End::Dead(Error::Library))
            }
        }
    }

    /// Our own coming or leaving is at its place: the join or leave is not pending any more.
    /// Told after the event is in the mailbox.
    fn change_phase(&mut self, has_left: bool) {
        self.hand_over();
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

fn nonsense(why: &crate::embedded::socket::wire::Nonsense) -> End {
    tracing::error!(%why, "the hub of an embedded ring makes no sense");
    End::Dead(Error::Library)
}

fn event_of_ring(sequence: u64) -> Ring {
    Ring { id: RingId { representative: NODE, sequence }, nodes: vec![NODE] }
}
