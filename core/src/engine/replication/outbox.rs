//! What the group has not taken yet (rule N12): nothing is sent again while it still waits there.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::{Engine, Output};
use crate::wire::message::Message;

/// Maximum number of frames that wait before a replica sends no new batch, and answers nobody.
const FRAMES_MAX: u64 = 64;
/// Maximum number of bytes that wait before that.
const BYTES_MAX: usize = 4 << 20;
/// Moments that are remembered.
const MOMENTS_MAX: usize = 1024;
/// How long a wait that is over is remembered: longer than any timeout after which something is
/// sent again.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Which frames the group has taken, by the moment in which they were sent.
///
/// The group takes frames in order, so a count of those left over tells which they are. Frames that
/// were never reported left over count as taken at once.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Number of frames ever sent.
    sent: u64,
    /// The moments in which frames were sent, with [`sent`](Self::sent) as of then, from the first
    /// that may not have been taken.
    moments: VecDeque<(u64, Duration)>,
    /// When the first and the last frame that wait were sent, as last reported.
    waiting: Option<(Duration, Duration)>,
    /// When frames that had to wait were sent, and when they were taken.
    taken: VecDeque<(Duration, Duration)>,
    /// Frames that wait, and those sent since that was reported.
    frames: u64,
    bytes: usize,
    /// Whether it is ever reported what waits.
    reported: bool,
}

impl Outbox {
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

    /// The group has not taken the last so many frames.
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

    /// Whether a frame that was sent then has not been taken yet.
    pub(crate) fn is_waiting(&self, at: Duration) -> bool {
        self.waiting.is_some_and(|(first, last)| first <= at && at <= last)
    }

    /// When the group took what was sent then; `None` if it still waits.
    pub(crate) fn taken_at(&self, at: Duration) -> Option<Duration> {
        if self.is_waiting(at) {
            return None;
        }
        let next = self.taken.partition_point(|(sent, _)| *sent < at);
        let known = self.taken.get(next).filter(|(sent, _)| *sent == at);
        Some(known.map_or(at, |(_, taken)| *taken))
    }

    /// Whether a new batch may be sent, and others answered.
    pub(crate) fn has_room(&self) -> bool {
        !self.reported || self.frames < FRAMES_MAX && self.bytes < BYTES_MAX
    }
}

/// About the bytes that a message takes in its frame.
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
    /// Notes what was added to `out` to be sent.
    pub(crate) fn note_sent(&mut self, out: &[Output<T>]) {
        for output in out {
            if let Output::Send(message) = output {
                self.outbox.add(bytes(message), self.now.monotonic);
            }
        }
    }

    /// Whether a frame that was sent then still waits for the group to take it.
    pub(crate) fn is_unsent(&self, at: Duration) -> bool {
        self.outbox.is_waiting(at)
    }

    /// For how long something that was sent then could have had an effect: since the group took it.
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
        assert_eq!(outbox.taken_at(at(1)), Some(at(1)), "nothing else was said");
        outbox.report(1, 100, at(1));
        outbox.add(100, at(2));
        assert_eq!((outbox.taken_at(at(1)), outbox.is_waiting(at(2))), (None, false));
        outbox.report(2, 200, at(3));
        assert!(outbox.is_waiting(at(1)) && outbox.is_waiting(at(2)));
        outbox.report(1, 100, at(4));
        assert_eq!((outbox.taken_at(at(1)), outbox.taken_at(at(2))), (Some(at(4)), None));
        outbox.report(0, 0, at(6));
        assert_eq!(outbox.taken_at(at(2)), Some(at(6)));
        assert_eq!(outbox.taken_at(at(5)), Some(at(5)), "it did not have to wait");
        outbox.report(0, 0, at(100));
        assert!(outbox.taken.is_empty());
    }

    #[test]
    fn others_are_answered_while_there_is_room() {
        let mut outbox = Outbox::default();
        outbox.add(BYTES_MAX, at(1));
        assert!(outbox.has_room(), "nobody has said that it waits");
        outbox.report(1, BYTES_MAX, at(1));
        assert!(!outbox.has_room());
        outbox.report(0, 0, at(1));
        assert!(outbox.has_room());
        (0..FRAMES_MAX).for_each(|_| outbox.add(1, at(2)));
        assert!(!outbox.has_room());
        outbox.report(5, 5, at(2));
        assert!(outbox.has_room());
        assert!(outbox.is_waiting(at(2)), "some of them");
    }
}
