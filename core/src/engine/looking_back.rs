//! Entries that have left memory are read from the store, for whoever lacks them (rule L3).

use std::collections::BTreeMap;

use super::catching_up::{PIECE_BYTES_MAX, PIECE_ENTRIES_MAX};
use super::{Checked, Engine, Output, ensure};
use crate::entry::{Entry, EntryHead};
use crate::message::{Entries, Message};
use crate::types::{Incarnation, Position};

/// What is to be read for whom, one piece at a time.
#[derive(Debug, Default)]
pub(crate) struct LookingBack {
    /// Behind that position.
    under_way: Option<Position>,
    waiting: BTreeMap<Incarnation, Position>,
}

impl<T> Engine<T> {
    /// Has the next piece read for somebody whose log ends there, and sends it then.
    pub(crate) fn look_back(
        &mut self,
        laggard: Incarnation,
        after: Position,
        out: &mut Vec<Output<T>>,
    ) {
        self.looking_back.waiting.insert(laggard, after);
        if self.looking_back.under_way.is_none() {
            self.read_next(out);
        }
    }

    fn read_next(&mut self, out: &mut Vec<Output<T>>) {
        if let Some((_, after)) = self.looking_back.waiting.pop_first() {
            self.looking_back.under_way = Some(after);
            out.push(Output::ReadLog { first: after.index.next(), bytes_max: PIECE_BYTES_MAX });
        }
    }

    /// A piece of the log comes from the store; nothing if it is not there any more.
    pub(crate) fn on_log_read(
        &mut self,
        mut entries: Vec<Entry>,
        out: &mut Vec<Output<T>>,
    ) -> Checked {
        let Some(after) = self.looking_back.under_way.take() else { return Ok(()) };
        // What is in memory may have been cut since.
        let start = self.log.start().position.index;
        entries.retain(|entry| entry.index() <= start);
        entries.truncate(PIECE_ENTRIES_MAX);
        let fits = after.epoch == self.log.epoch_at(after.index)
            && entries.first().is_some_and(|first| first.index() == after.index.next());
        if let Some(last) = entries.last().filter(|_| fits && self.is_in_step()) {
            let (index, epoch) = (last.index(), last.position.epoch);
            let known = self.log.epoch_at(index);
            ensure(epoch == known || index <= self.log.gone(), || {
                format!("entry {index} of the store is of epoch {epoch}, and should be of {known}")
            })?;
            let digest = last.digest;
            let heads = entries.iter().map(|e| (EntryHead::of(e), e.content.commands())).collect();
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
