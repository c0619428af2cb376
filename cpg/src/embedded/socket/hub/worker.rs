use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt::socket_peercred};
use rustix::process::{Pid as ProcessId, PidfdFlags, geteuid, pidfd_open};

use super::order::{Known, Order};
use super::peer::{Peer, PeerPhase};
use super::recovery::Recovery;
use super::{Stop, Token};
use crate::embedded::socket::files::keeper::{Keeper, Kept};
use crate::embedded::socket::files::roster::Roster;
use crate::embedded::socket::wire::frame_reader::scratch;
use crate::embedded::socket::wire::output_queue::OutputQueue;
use crate::embedded::socket::wire::{Held, Participant, ProtocolError, ToClient, ToHub, VERSION};
use crate::embedded::socket::{ClientId, PEERS_MAX, REPORT_TIME_MAX, until};
use crate::{Error, Pid, Reason};

/// Time for which a hub that stops waits until its clients have read their output.
const PARTING_TIME_MAX: Duration = Duration::from_millis(200);

/// State of the hub's thread.
pub(super) struct Worker<'a> {
    stop: &'a Stop,
    listener: OwnedFd,
    roster: Roster,
    keeper: Keeper,
    peers: BTreeMap<Token, Peer>,
    order: Order,
    takeover: Option<Takeover>,
    last_token: u64,
    now: Instant,
    scratch: Vec<u8>,
}

/// State while the hub takes over.
struct Takeover {
    recovery: Recovery,
    /// Descriptors of the awaited processes. Readable when the process dies.
    processes: BTreeMap<ClientId, OwnedFd>,
    /// Time at which clients that did not answer are given up.
    until: Instant,
}

/// A descriptor that a poll found readable.
enum Ready {
    Listener,
    Bell,
    Process(ClientId),
    Peer(Token),
}

impl<'a> Worker<'a> {
    pub(super) fn new(listener: OwnedFd, roster: Roster, keeper: Keeper, stop: &'a Stop) -> Self {
        let now = Instant::now();
        let mut recovery = Recovery::new(roster.clients().clone());
        let processes = watch(&mut recovery);
        tracing::info!(
            ring = roster.ring(),
            clients = recovery.waiting().len(),
            "this process is the hub of an embedded ring"
        );
        let takeover = Some(Takeover { recovery, processes, until: now + REPORT_TIME_MAX });
        Self {
            stop,
            listener,
            roster,
            keeper,
            peers: BTreeMap::new(),
            order: Order::default(),
            takeover,
            last_token: 0,
            now,
            scratch: scratch(),
        }
    }

    /// Runs until the stop signal. Returns the lock once nothing listens any more.
    pub(super) fn run(mut self) -> Keeper {
        let mut stop_at = None;
        loop {
            self.take_over();
            self.distribute();
            let is_idle = self.peers.values().all(|peer| !peer.has_output());
            if stop_at.is_some_and(|at| is_idle || self.now >= at) {
                break;
            }
            let ready = match self.poll(stop_at) {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::error!(%error, "the hub of an embedded ring cannot poll and stops");
                    break;
                }
            };
            let before = std::mem::replace(&mut self.now, Instant::now());
            for peer in self.peers.values_mut() {
                peer.waited(self.now - before);
            }
            for ready in ready {
                self.handle(ready);
            }
            self.expire();
            match self.keeper.look(self.now, &mut self.roster) {
                Kept::AsItWas => {}
                Kept::Anew(listener) => {
                    self.accept();
                    self.listener = listener;
                }
                Kept::Lost => {
                    tracing::error!("another hub has taken the path of this ring: this hub stops");
                    break;
                }
            }
            if stop_at.is_none() && self.stop.flag.load(Ordering::Acquire) {
                stop_at = Some(self.now + PARTING_TIME_MAX);
            }
        }
        tracing::info!("this process is no longer the hub of an embedded ring");
        self.keeper
    }

    fn poll(&self, stop_at: Option<Instant>) -> Result<Vec<Ready>, Errno> {
        let held_for = self.peers.values().filter_map(Peer::held_for).min();
        let input = if held_for.is_some() { PollFlags::empty() } else { PollFlags::IN };
        let mut fds = vec![
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&self.stop.bell, PollFlags::IN),
        ];
        let mut whose = vec![Ready::Listener, Ready::Bell];
        for (id, fd) in self.takeover.iter().flat_map(|takeover| &takeover.processes) {
            fds.push(PollFd::new(fd, PollFlags::IN));
            whose.push(Ready::Process(*id));
        }
        for (token, peer) in &self.peers {
            let output = if peer.has_output() { PollFlags::OUT } else { PollFlags::empty() };
            fds.push(PollFd::new(&peer.socket, input | output));
            whose.push(Ready::Peer(*token));
        }
        let timeout = self.deadline(held_for, stop_at).map(until);
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let ready = whose.into_iter().zip(&fds);
        Ok(ready.filter(|(_, fd)| !fd.revents().is_empty()).map(|(whose, _)| whose).collect())
    }

    /// Returns the time of the next event that no descriptor reports.
    fn deadline(&self, held_for: Option<Duration>, stop_at: Option<Instant>) -> Option<Instant> {
        let peers = self.peers.values().filter_map(Peer::deadline);
        peers
            .chain(self.takeover.as_ref().map(|takeover| takeover.until))
            .chain(held_for.map(|left| self.now + left))
            .chain(stop_at)
            .chain([self.keeper.deadline()])
            .min()
    }

    fn handle(&mut self, ready: Ready) {
        match ready {
            Ready::Listener => self.accept(),
            Ready::Bell => {
                let _ = rustix::io::read(&self.stop.bell, &mut [0; 8]);
            }
            Ready::Process(id) => {
                if let Some(takeover) = &mut self.takeover {
                    takeover.processes.remove(&id);
                    takeover.recovery.forget(id);
                }
                self.roster.remove(id);
            }
            Ready::Peer(token) => {
                if let Err(why) = self.read(token) {
                    self.drop_peer(token, why.as_ref());
                }
            }
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        loop {
            let socket = match accept_with(&self.listener, flags) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => break,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to an embedded ring");
                    // Without free descriptors, an immediate retry would fail, too.
                    thread::sleep(Duration::from_millis(1));
                    break;
                }
            };
            let Ok(credentials) = socket_peercred(&socket) else { continue };
            if credentials.uid != geteuid() {
                tracing::warn!(
                    uid = credentials.uid.as_raw(),
                    "rejecting a process of another user"
                );
                // Written as far as possible without waiting; this peer gets nothing else.
                let mut output = OutputQueue::default();
                output.push(ToClient::Refused(Error::Security).encode());
                let _ = output.flush(&socket);
                continue;
            }
            let pid = Pid(credentials.pid.as_raw_nonzero().get().unsigned_abs());
            self.last_token += 1;
            let mut peer = Peer::new(UnixStream::from(socket), pid, self.now);
            if self.peers.len() >= PEERS_MAX {
                peer.refuse(Error::NoResources, self.now);
            }
            self.peers.insert(Token(self.last_token), peer);
        }
    }

    /// Reads once and handles the frames. Returns an error if the peer must be dropped: `None` if
    /// it closed its end.
    fn read(&mut self, token: Token) -> Result<(), Option<ProtocolError>> {
        let Some(peer) = self.peers.get_mut(&token) else { return Ok(()) };
        match peer.reader.fill(&peer.socket, &mut self.scratch) {
            Ok(0) => return Err(None),
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
                ) =>
            {
                return Ok(());
            }
            Err(_) => return Err(None),
        }
        while let Some(peer) = self.peers.get_mut(&token) {
            let Some(frame) = peer.reader.next().map_err(Some)? else { break };
            if !matches!(peer.phase, PeerPhase::Parting(_)) {
                let said = ToHub::decode(&frame).map_err(Some)?;
                self.handle_request(token, said).map_err(Some)?;
            }
        }
        Ok(())
    }

    /// Handles a request of a peer.
    fn handle_request(&mut self, token: Token, said: ToHub) -> Result<(), ProtocolError> {
        let Some(peer) = self.peers.get_mut(&token) else { return Ok(()) };
        match (&peer.phase, said) {
            (PeerPhase::In(who, group), ToHub::Multicast { op, message }) => {
                self.order.multicast(group, *who, op, &message);
            }
            (PeerPhase::In(who, group), ToHub::Leave) => {
                self.order.remove(group, who.id, Reason::Leave);
                peer.phase = PeerPhase::Left(*who);
            }
            (PeerPhase::Idle(who), ToHub::Join(group)) => {
                match self.order.join(&group, *who, token) {
                    Ok(()) => peer.phase = PeerPhase::In(*who, group),
                    Err(error) => peer.send_frame(&ToClient::Refused(error)),
                }
            }
            (PeerPhase::Greeting(_), ToHub::Hello { version, .. }) if version != VERSION => {
                tracing::warn!(pid = %peer.pid, version, "rejecting a process with another protocol version");
                peer.refuse(Error::Version, self.now);
            }
            (PeerPhase::Greeting(_), ToHub::Hello { who, held, .. }) => {
                if who.pid != peer.pid {
                    return Err(ProtocolError("a hello with the pid of another process"));
                }
                let twin = |peer: &Peer| peer.client().is_some_and(|client| client.id == who.id);
                let twin = self.peers.iter().find(|(_, peer)| twin(peer));
                match twin.map(|(token, twin)| (*token, twin.pid)) {
                    Some((_, pid)) if pid != who.pid => {
                        return Err(ProtocolError("a hello with the id of another client"));
                    }
                    // The end of its previous connection has not been read yet.
                    Some((old, _)) => self.drop_peer(old, None),
                    None => {}
                }
                self.greet(token, who, held);
            }
            (PeerPhase::Greeting(_), ToHub::Ask(iteration)) => {
                if self.takeover.is_some() {
                    peer.refuse(Error::TryAgain, self.now);
                } else {
                    peer.send_frame(&ToClient::Answer(self.order.rows(&iteration)));
                    peer.part(self.now);
                }
            }
            (PeerPhase::Reported(_), ToHub::Entry { entry, frame }) => {
                if let Some(takeover) = &mut self.takeover {
                    takeover.recovery.entry(token, &entry, frame)?;
                }
            }
            (PeerPhase::Reported(_), ToHub::FetchEnd) => {
                if let Some(takeover) = &mut self.takeover {
                    takeover.recovery.fetch_end(token)?;
                }
            }
            (PeerPhase::Greeting(_), _) => return Err(ProtocolError("a request before the hello")),
            (_, ToHub::Bye) => self.drop_peer(token, None),
            // An answer to an earlier request, no longer needed.
            (_, ToHub::Entry { .. } | ToHub::FetchEnd) => {}
            _ => return Err(ProtocolError("a request that is not allowed in this phase")),
        }
        Ok(())
    }

    fn greet(&mut self, token: Token, who: Participant, held: Option<Held>) {
        let now = self.now;
        let is_welcome = match &mut self.takeover {
            Some(takeover) => {
                takeover.processes.remove(&who.id);
                takeover.recovery.report(token, who, held)
            }
            // The ring has continued without it.
            None => held.is_none(),
        };
        let Some(peer) = self.peers.get_mut(&token) else { return };
        if !is_welcome {
            tracing::warn!(pid = %who.pid, "rejecting a process that reported too late");
            return peer.refuse(Error::Library, now);
        }
        if let Err(error) = self.roster.add(who.id, who.pid) {
            tracing::error!(%error, "cannot write the ring's file");
            return peer.refuse(Error::NoResources, now);
        }
        if self.takeover.is_some() {
            peer.phase = PeerPhase::Reported(who);
        } else {
            peer.phase = PeerPhase::Idle(who);
            peer.send_frame(&ToClient::Welcome { ring: self.roster.ring() });
        }
    }

    /// Performs the next step of the takeover.
    fn take_over(&mut self) {
        let Some(takeover) = &mut self.takeover else { return };
        let was_asked = !takeover.recovery.asked().is_empty();
        let step = takeover.recovery.step();
        if !step.fetch.is_empty() && !was_asked {
            takeover.until = self.now + REPORT_TIME_MAX;
        }
        for (token, from, to) in step.fetch {
            if let Some(peer) = self.peers.get_mut(&token) {
                peer.send_frame(&ToClient::Fetch { from, to });
            }
        }
        for token in step.lost {
            if let Some(peer) = self.peers.get_mut(&token) {
                tracing::warn!(pid = %peer.pid, "disconnecting a process that is too far behind");
                if let Some(who) = peer.client() {
                    self.roster.remove(who.id);
                }
                peer.refuse(Error::Library, self.now);
            }
        }
        if step.is_done {
            self.resume();
        }
    }

    /// Resumes where the last hub stopped.
    fn resume(&mut self) {
        let Some(takeover) = self.takeover.take() else { return };
        let ring = self.roster.ring();
        for group in takeover.recovery.finish() {
            let known = |who: &Participant| {
                let survivor = group.survivors.iter().find(|(_, survivor, _)| survivor == who);
                Known { who: *who, token: survivor.map(|(token, ..)| *token) }
            };
            let members: Vec<_> = group.members.iter().map(known).collect();
            self.order.restore(group.group.clone(), group.last, &members);
            for (token, who, entries) in group.survivors {
                let Some(peer) = self.peers.get_mut(&token) else { continue };
                for entry in entries {
                    peer.send(entry);
                }
                peer.phase = if group.members.contains(&who) {
                    PeerPhase::In(who, group.group.clone())
                } else {
                    // Its last entry is its own departure.
                    PeerPhase::Left(who)
                };
                peer.send_frame(&ToClient::Welcome { ring });
            }
        }
        for peer in self.peers.values_mut() {
            if let PeerPhase::Reported(who) = peer.phase {
                peer.phase = PeerPhase::Idle(who);
                peer.send_frame(&ToClient::Welcome { ring });
            }
        }
        self.order.settle(ring);
        let present: BTreeSet<_> =
            self.peers.values().filter_map(|peer| peer.client()).map(|who| who.id).collect();
        self.roster.retain(|id| present.contains(&id));
    }

    /// Passes the ordered entries to the peers, and writes them.
    fn distribute(&mut self) {
        loop {
            for (token, entries) in self.order.take() {
                if let Some(peer) = self.peers.get_mut(&token) {
                    peer.send(entries);
                }
            }
            for peer in self.peers.values_mut().filter(|peer| peer.has_output()) {
                peer.flush();
            }
            let overdue = self.peers.iter().find(|(_, peer)| peer.is_overdue());
            let Some(token) = overdue.map(|(token, _)| *token) else { break };
            self.drop_peer(token, Some(&ProtocolError("it does not read its output")));
        }
    }

    /// Drops the peers whose time limits have passed.
    fn expire(&mut self) {
        let over = self.peers.iter().filter(|(_, peer)| peer.is_over(self.now));
        for token in over.map(|(token, _)| *token).collect::<Vec<_>>() {
            self.drop_peer(token, None);
        }
        let Some(takeover) = &mut self.takeover else { return };
        if self.now < takeover.until {
            return;
        }
        takeover.until = self.now + REPORT_TIME_MAX;
        takeover.processes.clear();
        for (id, pid) in takeover.recovery.waiting().clone() {
            tracing::warn!(%pid, "giving up a living process that does not report");
            takeover.recovery.forget(id);
            self.roster.remove(id);
        }
        for token in takeover.recovery.asked() {
            self.drop_peer(token, Some(&ProtocolError("it does not send the requested entries")));
        }
    }

    /// Ends a connection, and its membership.
    fn drop_peer(&mut self, token: Token, why: Option<&ProtocolError>) {
        let Some(peer) = self.peers.remove(&token) else { return };
        if let Some(why) = why {
            tracing::warn!(pid = %peer.pid, %why, "disconnecting a process");
        }
        if let Some(takeover) = &mut self.takeover {
            takeover.recovery.disconnected(token);
        }
        if let Some(who) = peer.client() {
            self.roster.remove(who.id);
        }
        if let PeerPhase::In(who, group) = &peer.phase {
            self.order.remove(group, who.id, Reason::ProcessDown);
        }
    }
}

/// Opens descriptors of the awaited processes. Stops waiting for those that are dead.
fn watch(recovery: &mut Recovery) -> BTreeMap<ClientId, OwnedFd> {
    let mut processes = BTreeMap::new();
    for (id, pid) in recovery.waiting().clone() {
        let pid = i32::try_from(pid.0).ok().and_then(ProcessId::from_raw);
        match pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
            Some(Ok(fd)) => {
                processes.insert(id, fd);
            }
            None | Some(Err(Errno::SRCH)) => recovery.forget(id),
            // An old kernel: only the time limit applies.
            Some(Err(_)) => {}
        }
    }
    processes
}
