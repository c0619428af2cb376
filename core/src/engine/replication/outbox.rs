//! Frames that the transport has not taken yet (rule N12). Nothing is sent again while it is still
//! queued there.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::{Engine, Output};
use crate::wire::message::Message;

/// Number of queued frames from which a replica sends no new batch and answers no other replica.
const FRAMES_MAX: u64 = 64;
/// Number of queued bytes from which it does so.
const BYTES_MAX: usize = 4 << 20;
/// Maximum number of send times that are remembered, and of waits that are over.
const MOMENTS_MAX: usize = 1024;
/// Time for which a wait that is over is remembered; longer than any timeout after which something
/// is sent again.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Tracks which frames the transport has taken, by the time at which they were sent.
///
/// The transport takes frames in order, so the number of those left identifies them. Frames that
/// were never reported as queued count as taken at once.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Number of frames ever sent.
    sent: u64,
    /// Times at which frames were sent, each with the value of [`sent`](Self::sent) then, starting
    /// with the first that may still be queued.
    moments: VecDeque<(u64, Duration)>,
    /// Times at which the first and the last queued frame were sent, as of the last report.
    waiting: Option<(Duration, Duration)>,
    /// Frames that had to wait: the time at which each was sent, and the time at which it was
    /// taken.
    taken: VecDeque<(Duration, Duration)>,
    /// Number of frames queued as of the last report, plus those sent since.
    frames: u64,
    /// The same in bytes.
    bytes: usize,
    /// Set once the transport has reported its queue.
    reported: bool,
}

impl Outbox {
    /// Records a frame of about `bytes` bytes that is sent at `now`.
    pub(crate) fn add(&mut self, bytes: usize, now: Duration) {
        self.sent += 1;
        self.frames += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        match self.moments.back_mut() {
            Some((sent, at)) if *at == now => *sent = self.sent,
            _ => self.moments.push_back((self.sent, now)),
        }
        if self.moments.len() > MOMENTS_MAX {
            self.moments.pop_front();
        }
    }

    /// Records that the transport has not taken the last `frames` frames.
    pub(crate) fn report(&mut self, frames: usize, bytes: usize, now: Duration) {
        let taken = self.sent.saturating_sub(frames as u64);
        while let Some((_, at)) = self.moments.front().copied().filter(|next| next.0 <= taken) {
            self.moments.pop_front();
            if self.is_waiting(at) {
                self.taken.push_back((at, now));
            }
        }
        while self.taken.len() > MOMENTS_MAX
            || self.taken.front().is_some_and(|(_, at)| now.saturating_sub(*at) > REMEMBERED)
        {
            self.taken.pop_front();
        }
        let ends = self.moments.front().zip(self.moments.back());
        self.waiting = ends.filter(|_| frames > 0).map(|(first, last)| (first.1, last.1));
        (self.frames, self.bytes, self.reported) = (frames as u64, bytes, true);
    }

    /// Returns true if a frame sent at `at` is still queued.
    pub(crate) fn is_waiting(&self, at: Duration) -> bool {
        self.waiting.is_some_and(|(first, last)| first <= at && at <= last)
    }

    /// Returns the time at which the transport took the frames sent at `at`; `None` while they are
    /// queued.
    pub(crate) fn taken_at(&self, at: Duration) -> Option<Duration> {
        if self.is_waiting(at) {
            return None;
        }
        let next = self.taken.partition_point(|(sent, _)| *sent < at);
        let known = self.taken.get(next).filter(|(sent, _)| *sent == at);
        Some(known.map_or(at, |(_, taken)| *taken))
    }

    /// Returns true if a new batch may be sent and other replicas answered.
    pub(crate) fn has_room(&self) -> bool {
        !self.reported || self.frames < FRAMES_MAX && self.bytes < BYTES_MAX
    }
}

/// Returns the approximate size of a message's frame, in bytes.
fn bytes(message: &Message) -> usize {
    const SMALL: usize = 256;
    SMALL
        + match message {
            Message::Batch(batch, _) => batch.commands.len(),
            Message::Entries(piece) => piece.entries.iter().map(|(_, c)| SMALL + c.len()).sum(),
            Message::Chunk(chunk) => chunk.bytes.len(),
            Message::Report(report) => size_of_val(&report.history[..]),
            Message::Open(open) => size_of_val(&open.history[..]),
            _ => 0,
        }
}

impl<T> Engine<T> {
    /// Records the messages in `out`, which are about to be sent.
    pub(crate) fn note_sent(&mut self, out: &[Output<T>]) {
        for output in out {
            if let Output::Send(message) = output {
                self.outbox.add(bytes(message), self.now.monotonic);
            }
        }
    }

    /// Returns true if a frame sent at `at` is still queued in the transport.
    pub(crate) fn is_unsent(&self, at: Duration) -> bool {
        self.outbox.is_waiting(at)
    }

    /// Returns the time for which a message sent at `at` could have had an effect: since the
    /// transport took it.
    pub(crate) fn unanswered(&self, at: Duration) -> Duration {
        self.outbox.taken_at(at).map_or(Duration::ZERO, |at| self.ago(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn frames_are_taken_in_order() {
        let mut outbox = Outbox::default();
        outbox.add(100, at(1));
        outbox.add(100, at(1));
        assert_eq!(outbox.taken_at(at(1)), Some(at(1)), "no queue was reported");
        outbox.report(1, 100, at(1));
        outbox.add(100, at(2));
        assert_eq!((outbox.taken_at(at(1)), outbox.is_waiting(at(2))), (None, false));
        outbox.report(2, 200, at(3));
        assert!(outbox.is_waiting(at(1)) && outbox.is_waiting(at(2)));
        outbox.report(1, 100, at(4));
        assert_eq!((outbox.taken_at(at(1)), outbox.taken_at(at(2))), (Some(at(4)), None));
        outbox.report(0, 0, at(6));
        assert_eq!(outbox.taken_at(at(2)), Some(at(6)));
        assert_eq!(outbox.taken_at(at(5)), Some(at(5)), "the frame did not have to wait");
        outbox.report(0, 0, at(100));
        assert!(outbox.taken.is_empty());
    }

    #[test]
    fn a_replica_answers_others_while_there_is_room() {
        let mut outbox = Outbox::default();
        outbox.add(BYTES_MAX, at(1));
        assert!(outbox.has_room(), "no queue was reported");
        outbox.report(1, BYTES_MAX, at(1));
        assert!(!outbox.has_room());
        outbox.report(0, 0, at(1));
        assert!(outbox.has_room());
        (0..FRAMES_MAX).for_each(|_| outbox.add(1, at(2)));
        assert!(!outbox.has_room());
        outbox.report(5, 5, at(2));
        assert!(outbox.has_room());
        assert!(outbox.is_waiting(at(2)), "some of the frames");
    }
}
