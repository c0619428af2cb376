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

/// A connection to the hub.
pub(super) struct Peer {
    pub(super) socket: UnixStream,
    /// Process id according to the kernel.
    pub(super) pid: Pid,
    pub(super) phase: PeerPhase,
    pub(super) reader: FrameReader,
    output: OutputQueue,
    /// Set once a write has failed. The peer is gone, but what it sent before is still read.
    write_failed: bool,
    patience: Patience,
}

/// Phase of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PeerPhase {
    /// Must send its hello or query before this time.
    Greeting(Instant),
    /// Sent its hello while the hub takes over.
    Reported(Participant),
    /// A client that is in no group.
    Idle(Participant),
    /// A member of a group.
    In(Participant, GroupName),
    /// Has left its group, and receives nothing more.
    Left(Participant),
    /// Is closed once it has read its output, or at this time.
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
            write_failed: false,
            patience: Patience::default(),
        }
    }

    pub(super) fn send_frame(&mut self, what: &ToClient) {
        self.send(what.encode());
    }

    pub(super) fn send(&mut self, frames: Bytes) {
        if !self.write_failed {
            self.output.push(frames);
        }
    }

    /// Sends a rejection, and closes the connection once it has been read.
    pub(super) fn refuse(&mut self, error: Error, now: Instant) {
        self.send_frame(&ToClient::Refused(error));
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

    /// Returns true if more output is queued than the hub keeps for a client.
    pub(super) fn is_overdue(&self) -> bool {
        self.output.bytes() > OUTPUT_BYTES_MAX
    }

    /// Returns the time for which the others may still wait for this peer, if it is behind and has
    /// time left.
    pub(super) fn held_for(&self) -> Option<Duration> {
        let is_behind = self.output.bytes() > OUTPUT_BYTES_HIGH;
        Some(self.patience.0).filter(|left| is_behind && !left.is_zero())
    }

    /// Subtracts the time for which the others have waited.
    pub(super) fn waited(&mut self, time: Duration) {
        if self.held_for().is_some() {
            self.patience.spend(time);
        }
    }

    /// Writes as much output as the socket accepts.
    pub(super) fn flush(&mut self) {
        match self.output.flush(&self.socket) {
            Ok(count) => self.patience.earn(count),
            Err(_) => {
                self.write_failed = true;
                self.output.clear();
            }
        }
    }

    /// Returns true if a time limit has passed, or if the peer has read everything before parting.
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

/// Time for which all others may still wait for a member that is behind. Waiting uses it up, and
/// reading earns it back. So the others wait for a member that reads at a good rate as long as it
/// takes, while a slow reader costs them little time and is soon on its own.
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

    /// Returns the time for which all have waited, in ten seconds, for a member that reads `bytes`
    /// bytes every 20 ms.
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
        assert_eq!(waited(0), PATIENCE, "a stopped member");
        let slow = waited(6_400);
        assert!(slow < PATIENCE + Duration::from_millis(250), "320 KB/s: {slow:?}");
        assert_eq!(waited(400_000), Duration::from_secs(10), "20 MB/s");
    }
}
