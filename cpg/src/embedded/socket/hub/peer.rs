use std::os::unix::net::UnixStream;
use std::time::Instant;

use bytes::Bytes;

use crate::embedded::socket::outbox::Outbox;
use crate::embedded::socket::reader::Reader;
use crate::embedded::socket::wire::{Participant, ToClient};
use crate::embedded::socket::{GREETING_TIME_MAX, OUTPUT_BYTES_HIGH, OUTPUT_BYTES_MAX, PATIENCE};
use crate::{Error, GroupName, Pid};

/// One connection to the hub.
pub(super) struct Peer {
    pub(super) socket: UnixStream,
    /// As the kernel says.
    pub(super) pid: Pid,
    pub(super) phase: Phase,
    pub(super) reader: Reader,
    output: Outbox,
    /// Its last write failed: it is gone, but what it has sent before is still read.
    is_deaf: bool,
    /// When it last took something, or had nothing to take.
    progress: Instant,
}

/// Where a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Has to say hello, or ask, until then.
    Greeting(Instant),
    /// Said hello while the hub takes over.
    Reported(Participant),
    /// Is a client and in no group.
    Idle(Participant),
    /// Is a member.
    In(Participant, GroupName),
    /// Has left its group, and nothing more is said to it.
    Left(Participant),
    /// Is closed as soon as it has read why, or then.
    Parting(Instant),
}

impl Peer {
    pub(super) fn new(socket: UnixStream, pid: Pid, now: Instant) -> Self {
        Self {
            socket,
            pid,
            phase: Phase::Greeting(now + GREETING_TIME_MAX),
            reader: Reader::default(),
            output: Outbox::default(),
            is_deaf: false,
            progress: now,
        }
    }

    pub(super) fn say(&mut self, what: &ToClient) {
        self.send(what.encode());
    }

    pub(super) fn send(&mut self, frames: Bytes) {
        if !self.is_deaf {
            self.output.push(frames);
        }
    }

    /// Says no, and closes once that is read.
    pub(super) fn refuse(&mut self, error: Error, now: Instant) {
        self.say(&ToClient::Refused(error));
        self.part(now);
    }

    pub(super) fn part(&mut self, now: Instant) {
        self.phase = Phase::Parting(now + GREETING_TIME_MAX);
    }

    pub(super) fn client(&self) -> Option<Participant> {
        match &self.phase {
            Phase::Reported(who) | Phase::Idle(who) | Phase::In(who, _) | Phase::Left(who) => {
                Some(*who)
            }
            Phase::Greeting(_) | Phase::Parting(_) => None,
        }
    }

    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Has more to read than it ever will.
    pub(super) fn is_overdue(&self) -> bool {
        self.output.bytes() > OUTPUT_BYTES_MAX
    }

    /// Is behind and reads on, so that it is worth waiting for.
    pub(super) fn is_behind(&self, now: Instant) -> bool {
        self.output.bytes() > OUTPUT_BYTES_HIGH && now.duration_since(self.progress) < PATIENCE
    }

    /// Writes what the socket takes.
    pub(super) fn flush(&mut self, now: Instant) {
        match self.output.flush(&self.socket) {
            Ok(0) if self.has_output() => {}
            Ok(_) => self.progress = now,
            Err(_) => {
                self.is_deaf = true;
                self.output.clear();
            }
        }
    }

    /// The time is over in which something had to happen, or it has happened.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        match &self.phase {
            Phase::Greeting(until) => now >= *until,
            Phase::Parting(until) => now >= *until || !self.has_output(),
            _ => false,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Greeting(until) | Phase::Parting(until) => Some(*until),
            _ => None,
        }
    }
}
