use std::collections::VecDeque;

use bytes::Bytes;

use crate::GroupName;
use crate::embedded::socket::KEPT_BYTES_MAX;
use crate::embedded::socket::wire::{Entry, EntryContent, Held, Participant};

/// A client's position in the order of its group: the last sequence, the members at that point, and
/// the latest entries, kept for a new hub.
pub(super) struct Track {
    group: GroupName,
    last: u64,
    members: Vec<Participant>,
    /// The frames of the latest entries up to `last`.
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
}

/// An entry does not follow the previous one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap;

impl Track {
    /// Starts before entry `first`, the configuration in which the client joined.
    pub(super) fn new(group: GroupName, first: u64) -> Self {
        let last = first.saturating_sub(1);
        Self { group, last, members: Vec::new(), kept: VecDeque::new(), kept_bytes: 0 }
    }

    /// Adds the next entry.
    pub(super) fn follow(&mut self, entry: &Entry, frame: Bytes) -> Result<(), Gap> {
        if entry.sequence != self.last + 1 {
            return Err(Gap);
        }
        self.last = entry.sequence;
        if let EntryContent::Change { members, .. } = &entry.what {
            self.members.clone_from(members);
        }
        self.kept_bytes += frame.len();
        self.kept.push_back(frame);
        while self.kept_bytes > KEPT_BYTES_MAX {
            let Some(frame) = self.kept.pop_front() else { break };
            self.kept_bytes -= frame.len();
        }
        Ok(())
    }

    /// Returns the report to a new hub.
    pub(super) fn held(&self) -> Held {
        Held {
            group: self.group.clone(),
            first: self.first(),
            last: self.last,
            members: self.members.clone(),
        }
    }

    /// Returns the kept entries from `from` through `to`.
    pub(super) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = &Bytes> {
        let skipped = usize::try_from(from.saturating_sub(self.first())).unwrap_or(usize::MAX);
        let count = usize::try_from((to + 1).saturating_sub(from)).unwrap_or(usize::MAX);
        self.kept.iter().skip(skipped).take(count)
    }

    fn first(&self) -> u64 {
        self.last + 1 - self.kept.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pid;
    use crate::embedded::socket::ClientId;
    use crate::embedded::socket::wire::ToClient;

    fn follow(track: &mut Track, sequence: u64, length: usize) -> Result<(), Gap> {
        let from = Participant { id: ClientId(1), pid: Pid(1) };
        let what = EntryContent::Message { from, op: 1, message: vec![0; length].into() };
        let entry = Entry { sequence, what };
        let frame = ToClient::Entry(entry.clone()).encode();
        track.follow(&entry, frame)
    }

    #[test]
    fn the_latest_entries_are_kept_and_gaps_are_rejected() {
        let mut track = Track::new(GroupName::new("group").unwrap(), 5);
        assert_eq!(follow(&mut track, 4, 1), Err(Gap));
        assert_eq!(follow(&mut track, 6, 1), Err(Gap));
        for sequence in 5..45 {
            follow(&mut track, sequence, 1_000_000).unwrap();
        }
        let held = track.held();
        assert_eq!(held.last, 44);
        assert_eq!(held.first, 29, "16 entries of a million bytes fit");
        assert_eq!(track.range(40, 42).count(), 3);
        assert_eq!(track.range(29, 44).count(), 16);
    }
}
