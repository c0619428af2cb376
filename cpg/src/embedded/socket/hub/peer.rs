use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::embedded::socket::wire::frame_reader::FrameReader;
use crate::embedded::socket::wire::output_queue::OutputQueue;
use crate::embedded::socket::wire::{Participant, ToClient};
use crate::embedded::socket::{
    GREETING_TIME_MAX, OUTPUT_BYTES_HIGH, OUTPUT_BYTES_MAX, PATIENCE, READING_BYTES_PER_SECOND_MIN,
};
use crate::{Error, GroupName, Pid};

/// One connection to the hub.
pub(super) struct Peer {
    pub(super) socket: UnixStream,
    /// As the kernel says.
    pub(super) pid: Pid,
    pub(super) phase: PeerPhase,
    pub(super) reader: FrameReader,
    output: OutputQueue,
    /// Its last write failed: it is gone, but what it has sent before is still read.
    is_deaf: bool,
    patience: Patience,
}

/// Where a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PeerPhase {
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
            phase: PeerPhase::Greeting(now + GREETING_TIME_MAX),
            reader: FrameReader::default(),
            output: OutputQueue::default(),
            is_deaf: false,
            patience: Patience::default(),
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
        self.phase = PeerPhase::Parting(now + GREETING_TIME_MAX);
    }

    pub(super) fn client(&self) -> Option<Participant> {
        match &self.phase {
            PeerPhase::Reported(who)
            | PeerPhase::Idle(who)
            | PeerPhase::In(who, _)
            | PeerPhase::Left(who) => Some(*who),
            PeerPhase::Greeting(_) | PeerPhase::Parting(_) => None,
        }
    }

    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Has more to read than it ever will.
    pub(super) fn is_overdue(&self) -> bool {
        self.output.bytes() > OUTPUT_BYTES_MAX
    }

    /// How long the others wait for it, as it is behind and reads on; `None` if they do not.
    pub(super) fn held_for(&self) -> Option<Duration> {
        let is_behind = self.output.bytes() > OUTPUT_BYTES_HIGH;
        Some(self.patience.0).filter(|left| is_behind && !left.is_zero())
    }

    /// Takes into account that the others have waited for so long.
    pub(super) fn waited(&mut self, time: Duration) {
        if self.held_for().is_some() {
            self.patience.spend(time);
        }
    }

    /// Writes what the socket takes.
    pub(super) fn flush(&mut self) {
        match self.output.flush(&self.socket) {
            Ok(count) => self.patience.earn(count),
            Err(_) => {
                self.is_deaf = true;
                self.output.clear();
            }
        }
    }

    /// The time is over in which something had to happen, or it has happened.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        match &self.phase {
            PeerPhase::Greeting(until) => now >= *until,
            PeerPhase::Parting(until) => now >= *until || !self.has_output(),
            _ => false,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            PeerPhase::Greeting(until) | PeerPhase::Parting(until) => Some(*until),
            _ => None,
        }
    }
}

/// For how long all may still wait for a member that is behind. Waiting uses it up, and what the
/// member reads earns it back: so all wait for one that reads at a good rate, as long as it takes,
/// while one that reads slowly takes little of their time and is soon behind for good.
struct Patience(Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(PATIENCE)
    }
}

impl Patience {
    fn spend(&mut self, time: Duration) {
        self.0 = self.0.saturating_sub(time);
    }

    fn earn(&mut self, bytes: usize) {
        let nanoseconds =
            (bytes as u64).saturating_mul(1_000_000_000) / READING_BYTES_PER_SECOND_MIN;
        self.0 = self.0.saturating_add(Duration::from_nanos(nanoseconds)).min(PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns for how long all have waited in ten seconds for a member that reads so much each
    /// 20 ms.
    fn waited(bytes: usize) -> Duration {
        let (mut patience, mut waited) = (Patience::default(), Duration::ZERO);
        for _ in 0..500 {
            patience.earn(bytes);
            let step = patience.0.min(Duration::from_millis(20));
            patience.spend(step);
            waited += step;
        }
        waited
    }

    #[test]
    fn all_wait_for_a_member_only_while_it_reads_at_a_good_rate() {
        assert_eq!(waited(0), PATIENCE, "one that is stopped");
        let slow = waited(6_400);
        assert!(slow < PATIENCE + Duration::from_millis(250), "320 KB/s: {slow:?}");
        assert_eq!(waited(400_000), Duration::from_secs(10), "20 MB/s");
    }
}
