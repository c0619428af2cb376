use std::collections::BTreeMap;

use crate::read::{Read, ReadError};

/// Reads that may wait for their turn; what comes then waits in its channel.
const WAITING_MAX: usize = 64 << 10;
/// Messages with reads that the apply thread may have before it.
pub(super) const HANDED_OUT_MAX: usize = 8;

/// What the group thread keeps of reads: the engine knows them by tickets, one for all that
/// came together.
pub(super) struct Reads<M> {
    next_ticket: u64,
    /// Came since the engine was last told.
    linearizable: Vec<Read<M>>,
    in_order: Vec<Read<M>>,
    waiting: BTreeMap<u64, Vec<Read<M>>>,
    /// May be handed out to the apply thread.
    ready: Vec<Read<M>>,
    count: usize,
    handed_out: usize,
}

impl<M> Default for Reads<M> {
    fn default() -> Self {
        Self {
            next_ticket: 0,
            linearizable: Vec::new(),
            in_order: Vec::new(),
            waiting: BTreeMap::new(),
            ready: Vec::new(),
            count: 0,
            handed_out: 0,
        }
    }
}

impl<M> Reads<M> {
    pub(super) fn has_room(&self) -> bool {
        self.count < WAITING_MAX
    }

    pub(super) fn gather(&mut self, read: Read<M>, in_order: bool) {
        self.count += 1;
        if in_order { self.in_order.push(read) } else { self.linearizable.push(read) }
    }

    /// The next ticket that the engine has to know, and whether its reads go in order.
    pub(super) fn next_ticket(&mut self) -> Option<(u64, bool)> {
        let in_order = self.linearizable.is_empty();
        let gathered = if in_order { &mut self.in_order } else { &mut self.linearizable };
        if gathered.is_empty() {
            return None;
        }
        self.next_ticket += 1;
        self.waiting.insert(self.next_ticket, std::mem::take(gathered));
        Some((self.next_ticket, in_order))
    }

    /// These may run behind all that was handed out before.
    pub(super) fn are_ready(&mut self, tickets: &[u64]) {
        for ticket in tickets {
            self.ready.extend(self.waiting.remove(ticket).into_iter().flatten());
        }
    }

    /// What is to be handed out now.
    pub(super) fn hand_out(&mut self) -> Option<Vec<Read<M>>> {
        if self.ready.is_empty() || self.handed_out == HANDED_OUT_MAX {
            return None;
        }
        self.handed_out += 1;
        self.count -= self.ready.len();
        Some(std::mem::take(&mut self.ready))
    }

    /// The apply thread has done what was handed out first.
    pub(super) fn done(&mut self) {
        self.handed_out -= 1;
    }

    pub(super) fn fail(&mut self, tickets: &[u64], error: &ReadError) {
        for read in tickets.iter().filter_map(|ticket| self.waiting.remove(ticket)).flatten() {
            self.count -= 1;
            read(Err(error.clone()));
        }
    }
}
