//! Reading of entries that have left memory from the store, for replicas that lack them (rule L3).

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::engine::transfer::fetch::{PIECE_BYTES_MAX, PIECE_ENTRIES_MAX};
use crate::engine::{Engine, Output, StepResult, ensure};
use crate::wire::entry::{Entry, EntryHead};
use crate::wire::message::{Entries, Message};
use crate::wire::types::{Incarnation, Position};

/// Reads for lagging replicas: one piece at a time, for each replica in turn.
#[derive(Debug, Default)]
pub(crate) struct LogReader {
    /// Position after which a piece is being read.
    under_way: Option<Position>,
    /// Replicas that wait for a piece, with the position that each log ends at.
    waiting: BTreeMap<Incarnation, Position>,
    /// Replica that was served last.
    served: Option<Incarnation>,
}

#[cfg(feature = "testing")]
impl LogReader {
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

impl<T> Engine<T> {
    /// Reads the next piece after `after` for a lagging replica. The piece is sent when it has been
    /// read, after those of other replicas that wait.
    pub(crate) fn read_from_log(
        &mut self,
        laggard: Incarnation,
        after: Position,
        out: &mut Vec<Output<T>>,
    ) {
        self.transfer.log_reader.waiting.insert(laggard, after);
        if self.transfer.log_reader.under_way.is_none() {
            self.read_next(out);
        }
    }

    /// Starts the next read, if any replica waits.
    fn read_next(&mut self, out: &mut Vec<Output<T>>) {
        let LogReader { waiting, served, .. } = &mut self.transfer.log_reader;
        let later = served.map_or(Bound::Unbounded, Bound::Excluded);
        let mut in_turn = waiting.range((later, Bound::Unbounded)).chain(waiting.iter());
        let next = in_turn.next().map(|(laggard, _)| *laggard);
        if let Some((laggard, after)) = next.and_then(|laggard| waiting.remove_entry(&laggard)) {
            *served = Some(laggard);
            self.transfer.log_reader.under_way = Some(after);
            out.push(Output::ReadLog { first: after.index.next(), bytes_max: PIECE_BYTES_MAX });
        }
    }

    /// Sends a piece that was read from the store. Sends nothing if the store no longer has it.
    pub(crate) fn on_log_read(
        &mut self,
        mut entries: Vec<Entry>,
        out: &mut Vec<Output<T>>,
    ) -> StepResult {
        let Some(after) = self.transfer.log_reader.under_way.take() else { return Ok(()) };
        // Entries in memory may have been truncated since the read.
        let start = self.log.start().position.index;
        entries.retain(|entry| entry.index() <= start);
        entries.truncate(PIECE_ENTRIES_MAX);
        let fits = after.epoch == self.log.epoch_at(after.index)
            && entries.first().is_some_and(|first| first.index() == after.index.next());
        if let Some(last) = entries.last().filter(|_| fits && self.is_in_sync()) {
            let (index, epoch) = (last.index(), last.position.epoch);
            let known = self.log.epoch_at(index);
            ensure(epoch == known || index <= self.log.compacted_through(), || {
                format!("entry {index} of the store is of epoch {epoch}, but should be of {known}")
            })?;
            let digest = last.digest;
            let heads = entries.iter().map(|e| (EntryHead::of(e), e.payload.commands())).collect();
            out.push(Output::Send(Message::Entries(Entries {
                epoch: self.promised,
                first: after.index.next(),
                entries: heads,
                digest,
                more: true,
            })));
        }
        self.read_next(out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::engine::Entry;
    use crate::engine::solo::{Solo, member, run};
    use crate::engine::{Input, StopReason};
    use crate::wire::message::{Entries, Fetch, Message, Missing};
    use crate::wire::types::{Index, Position};

    /// Returns a sequencer whose entries have left memory, and all of them as the store has them.
    /// Replicas 2 and 3 are members.
    fn sequencer() -> (Solo, Vec<Entry>) {
        let mut solo = Solo::new();
        let members = [member(1, 1), member(2, 2), member(3, 3)];
        solo.configure(&members, &members[1..]);
        solo.announce(member(2, 2), run(2, 2));
        solo.announce(member(3, 3), run(3, 3));
        for ticket in 0..20 {
            let command = Bytes::from_static(b"a command");
            solo.input(Input::Propose { ticket, command, deadline: None });
        }
        let stored = solo.engine.log.from(Index(1)).cloned().collect();
        solo.engine.config.cached_bytes_max = 0;
        let index = solo.engine.commit.applied;
        solo.input(Input::Applied { index, wake_at: None });
        assert_eq!(solo.engine.log.bytes(), 0);
        solo.sent.clear();
        (solo, stored)
    }

    fn fetches(solo: &mut Solo, replica: u32, after: Position) {
        let incarnation = run(replica, replica.into());
        let donor = Some(solo.engine.me());
        let digest = solo.engine.log.digest();
        let missing = Missing::Entries { after, digest, donor, partial: None };
        let fetch = Fetch { epoch: solo.engine.open_epoch(), incarnation, missing };
        solo.deliver(member(replica, replica), Message::Fetch(fetch));
    }

    fn sent(solo: &mut Solo) -> Vec<Entries> {
        let sent = std::mem::take(&mut solo.sent).into_iter();
        let entries = sent.filter_map(|message| match message {
            Message::Entries(entries) => Some(entries),
            _ => None,
        });
        entries.collect()
    }

    #[test]
    fn l3_entries_that_left_memory_are_read_for_one_replica_after_the_other() {
        let (mut solo, stored) = sequencer();
        let at = |index: usize| stored[index - 1].position;
        fetches(&mut solo, 2, at(3));
        fetches(&mut solo, 3, at(7));
        assert_eq!(solo.log_reads, [Index(4)], "one at a time");
        solo.input(Input::LogRead { entries: stored[3..8].to_vec() });
        assert_eq!(solo.log_reads, [Index(4), Index(8)]);
        let [piece] = &sent(&mut solo)[..] else { panic!("one piece") };
        assert_eq!((piece.first, piece.entries.len(), piece.more), (Index(4), 5, true));
        assert_eq!(piece.digest, stored[7].digest);
        // The entries are gone from the store by now; the replica will ask again.
        solo.input(Input::LogRead { entries: Vec::new() });
        assert!(sent(&mut solo).is_empty());
        fetches(&mut solo, 2, at(8));
        assert_eq!(solo.log_reads[2..], [Index(9)]);
    }

    #[test]
    fn l3_lagging_replicas_are_served_in_turn() {
        let (mut solo, stored) = sequencer();
        let all: Vec<_> = (1..=4).map(|id| member(id, id)).collect();
        solo.configure(&all, &all[3..]);
        solo.announce(member(4, 4), run(4, 4));
        let at = |index: usize| stored[index - 1].position;
        for replica in 2..=4 {
            fetches(&mut solo, replica, at(replica as usize));
        }
        let mut served = Vec::new();
        for _ in 0..6 {
            let first = solo.log_reads.last().unwrap().0 as usize;
            served.push(first - 1);
            solo.input(Input::LogRead { entries: stored[first - 1..first].to_vec() });
            // A replica that was given a piece asks for the next at once.
            fetches(&mut solo, first as u32 - 1, at(first - 1));
        }
        assert_eq!(served, [2, 3, 4, 2, 3, 4]);
    }

    #[test]
    fn entries_still_in_memory_are_not_taken_from_the_store() {
        let (mut solo, mut stored) = sequencer();
        solo.engine.config.cached_bytes_max = 1 << 20;
        let last = stored[stored.len() - 1].clone();
        let command = Bytes::from_static(b"one more");
        solo.input(Input::Propose { ticket: 20, command, deadline: None });
        fetches(&mut solo, 2, stored[17].position);
        // In their place the store may have truncated entries.
        let position = Position { index: last.index().next(), ..last.position };
        stored.push(Entry { position, ..last.clone() });
        solo.input(Input::LogRead { entries: stored[18..].to_vec() });
        let [piece] = &sent(&mut solo)[..] else { panic!("one piece") };
        assert_eq!(piece.digest, last.digest);
    }

    #[test]
    fn a_log_that_cannot_be_read_stops_its_replica() {
        let (mut solo, _) = sequencer();
        let (mut out, reason) = (Vec::new(), "record 4 is damaged".to_owned());
        solo.engine.step(solo.now, Input::ReadFailed { reason: reason.clone() }, &mut out);
        assert_eq!(solo.engine.status().stopped, Some(StopReason::ReadFailed(reason)));
    }
}
