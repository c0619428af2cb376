//! Rejection of impossible messages (rules B10 and N13), before their numbers are used in any
//! computation, so that nothing overflows, and no forged number stops a group.

use cpg::Member;

use super::Engine;
use crate::Timestamp;
use crate::wire::entry::Batch;
use crate::wire::message::{
    Entries, Fetch, Marks, Message, Missing, Offered, Open, Progress, Report,
};
use crate::wire::snapshot_name::SnapshotName;
use crate::wire::types::{Ballot, Incarnation, Index, Position};

/// Maximum of every counter: log indices, numbers of batches and rounds, bytes, milliseconds. No
/// replica reaches it by counting, and sums of a few such counters do not overflow.
pub(super) const COUNT_MAX: u64 = 1 << 62;

/// Maximum distance of a ballot's counter above the highest that a replica has promised or
/// believed, for the replica to believe it (rule B10): in a promise that a peer claims, in a
/// `Begin`, and in an opened epoch. At one ballot a second, 2³² of them take over a century.
pub(super) const CLAIMED_AHEAD: u64 = 1 << 31;
pub(super) const BEGUN_AHEAD: u64 = 1 << 32;
pub(super) const OPENED_AHEAD: u64 = 1 << 48;

/// Maximum distance of an origin's counter above the last counter of its replica in the order (rule
/// N2).
pub(super) const ORIGIN_AHEAD: u64 = 1 << 32;

/// Maximum number of members whose impossible messages are remembered, so that each is reported
/// once.
const REPORTED_MAX: usize = 256;

/// Result of a check; the error is the reason why a message is impossible.
type Doubt = Result<(), &'static str>;

fn hold(holds: bool, otherwise: &'static str) -> Doubt {
    if holds { Ok(()) } else { Err(otherwise) }
}

fn count(number: u64) -> Doubt {
    hold(number <= COUNT_MAX, "a number exceeds the maximum")
}

fn index(index: Index) -> Doubt {
    count(index.0)
}

fn time(time: Timestamp) -> Doubt {
    count(time.0)
}

fn snapshot(name: &SnapshotName) -> Doubt {
    count(name.bytes)?;
    index(name.position.index)
}

/// Checks that an epoch history increases in both columns, and begins at index 1 or later.
fn history(history: &[(Ballot, Index)]) -> Doubt {
    let grows = history.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
    let begins = history.first().is_none_or(|(_, first)| *first >= Index(1));
    hold(grows && begins, "its epoch history does not increase")?;
    history.last().map_or(Ok(()), |(_, first)| index(*first))
}

fn batch(batch: &Batch) -> Doubt {
    count(batch.origin.counter)?;
    count(batch.number)?;
    hold(batch.origin.counter > 0 && batch.number > 0, "its batch has number or counter zero")
}

fn marks(marks: &Marks) -> Doubt {
    index(marks.first)?;
    marks.entries.iter().try_for_each(|mark| time(mark.time))
}

impl<T> Engine<T> {
    /// Checks that a message is possible, and that it speaks for its own sender.
    fn doubt_from(&self, from: Member, message: &Message) -> Doubt {
        let speaker = match message {
            Message::Read(read) => Some(read.incarnation),
            Message::Fetch(fetch) => Some(fetch.incarnation),
            Message::Received(received) => Some(received.incarnation),
            Message::Chunk(chunk) => Some(chunk.donor),
            _ => None,
        };
        let is_of = speaker.is_none_or(|speaker| self.is_of(from, speaker));
        hold(is_of, "it speaks for a replica other than its sender")
            .and_then(|()| self.doubt(message))
    }

    /// Returns true if the message would be ignored.
    #[cfg(feature = "testing")]
    pub(crate) fn doubts(&self, from: Member, message: &Message) -> bool {
        self.doubt_from(from, message).is_err()
    }

    /// Returns true if the message is impossible. It is then ignored, and reported once for each
    /// member.
    pub(crate) fn is_refused(&mut self, from: Member, message: &Message) -> bool {
        let Err(reason) = self.doubt_from(from, message) else { return false };
        if self.peers.implausible.len() < REPORTED_MAX && self.peers.implausible.insert(from) {
            tracing::warn!(
                replica = %self.me().replica, %from, reason,
                "a member of the group sends impossible messages, which are ignored; this is \
                 reported once: check that all replicas run the same version, and check their \
                 memory and disks"
            );
        }
        true
    }

    /// Returns true if the member is that run of a replica, or has not identified itself.
    pub(crate) fn is_of(&self, from: Member, incarnation: Incarnation) -> bool {
        self.peers.peer(from).is_none_or(|peer| peer.incarnation == incarnation)
    }

    /// Returns the highest counter of a ballot that this replica has promised or believed.
    fn highest_counter(&self) -> u64 {
        self.election.counter_seen.max(self.promised.counter).max(self.log.last().epoch.counter)
    }

    /// Returns true if the ballot is at most `ahead` above the highest counter known (rule B10).
    pub(crate) fn is_believed(&self, ballot: Ballot, ahead: u64) -> bool {
        ballot.counter <= self.highest_counter().saturating_add(ahead)
    }

    /// Records a ballot that a peer has promised, if it is believed. Returns true if it is.
    pub(crate) fn believe(&mut self, ballot: Ballot) -> bool {
        let believed = self.is_believed(ballot, CLAIMED_AHEAD);
        if believed {
            self.election.counter_seen = self.election.counter_seen.max(ballot.counter);
        }
        believed
    }

    /// Takes the next counter above all that are known; `None` if the highest possible one is in
    /// use.
    pub(crate) fn next_counter(&mut self) -> Option<u64> {
        let next = self.highest_counter().checked_add(1)?;
        self.election.counter_seen = next;
        Some(next)
    }

    fn doubt(&self, message: &Message) -> Doubt {
        match message {
            Message::Announce(announce) => {
                self.ballot(announce.promised)?;
                self.position(announce.last)?;
                index(announce.first_kept)?;
                announce.snapshots.iter().try_for_each(snapshot)
            }
            Message::Begin(ballot) => {
                hold(self.is_believed(*ballot, BEGUN_AHEAD), "its ballot is too far ahead")
            }
            Message::Report(report) => self.doubt_report(report),
            Message::Open(open) => self.doubt_open(open),
            Message::Batch(one, progress) => {
                batch(one)?;
                progress.as_ref().map_or(Ok(()), |progress| self.doubt_progress(progress))
            }
            Message::Progress(progress) => self.doubt_progress(progress),
            Message::Read(read) => {
                self.ballot(read.epoch)?;
                count(read.round)
            }
            Message::Fetch(fetch) => self.doubt_fetch(fetch),
            Message::Entries(piece) => self.doubt_entries(piece),
            Message::Offer(offer) => match &offer.what {
                Offered::Snapshot(name) => snapshot(name),
                Offered::Entries => Ok(()),
            },
            Message::Chunk(chunk) => {
                snapshot(&chunk.name)?;
                count(chunk.sent)?;
                hold(chunk.number < chunk.name.chunks(), "its snapshot has no such chunk")
            }
            Message::Received(received) => {
                snapshot(&received.name)?;
                count(received.seen)?;
                let chunks = received.name.chunks();
                let gap = received.gap.is_none_or(|(first, end)| first < end && end <= chunks);
                hold(gap && received.missing <= chunks, "its snapshot has no such chunks")
            }
        }
    }

    fn ballot(&self, ballot: Ballot) -> Doubt {
        let believed = self.is_believed(ballot, OPENED_AHEAD);
        hold(believed, "its ballot is too far ahead")
    }

    fn position(&self, position: Position) -> Doubt {
        self.ballot(position.epoch)?;
        index(position.index)
    }

    fn doubt_report(&self, report: &Report) -> Doubt {
        self.ballot(report.ballot)?;
        self.position(report.last)?;
        history(&report.history)?;
        time(report.time)?;
        index(report.commit)?;
        index(report.first_kept)?;
        index(report.voters.since)
    }

    fn doubt_open(&self, open: &Open) -> Doubt {
        self.ballot(open.ballot)?;
        self.position(open.base)?;
        history(&open.history)?;
        time(open.time)?;
        index(open.voters.since)
    }

    fn doubt_progress(&self, progress: &Progress) -> Doubt {
        self.ballot(progress.epoch)?;
        self.ballot(progress.promised)?;
        index(progress.acked)?;
        index(progress.applied)?;
        progress.marks.as_ref().map_or(Ok(()), marks)?;
        progress.echo.iter().try_for_each(|(_, round)| count(*round))
    }

    fn doubt_fetch(&self, fetch: &Fetch) -> Doubt {
        self.ballot(fetch.epoch)?;
        match &fetch.missing {
            Missing::Open => Ok(()),
            Missing::Entries { after, partial, .. } => {
                self.position(*after)?;
                partial.as_ref().map_or(Ok(()), snapshot)
            }
        }
    }

    fn doubt_entries(&self, piece: &Entries) -> Doubt {
        self.ballot(piece.epoch)?;
        index(piece.first)?;
        hold(piece.first >= Index(1), "its first entry has index zero")?;
        piece.entries.iter().try_for_each(|(head, _)| time(head.time))
    }
}
