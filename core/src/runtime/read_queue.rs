use std::collections::BTreeMap;

/// Maximum number of queued reads. Further reads wait in their channel.
const WAITING_MAX: usize = 64 << 10;
/// Maximum number of read batches in the inbox of the apply thread.
pub(super) const HANDED_OUT_MAX: usize = 8;

/// The reads of the group thread. The engine knows them by tickets, one for all reads that arrived
/// together.
pub(crate) struct ReadQueue<R> {
    next_ticket: u64,
    /// Arrived since the last ticket was issued.
    linearizable: Vec<R>,
    after_proposals: Vec<R>,
    waiting: BTreeMap<u64, Vec<R>>,
    /// May go to the apply thread.
    ready: Vec<R>,
    count: usize,
    handed_out: usize,
}

impl<R> Default for ReadQueue<R> {
    fn default() -> Self {
        Self {
            next_ticket: 0,
            linearizable: Vec::new(),
            after_proposals: Vec::new(),
            waiting: BTreeMap::new(),
            ready: Vec::new(),
            count: 0,
            handed_out: 0,
        }
    }
}

impl<R> ReadQueue<R> {
    pub(crate) fn has_room(&self) -> bool {
        self.count < WAITING_MAX
    }

    pub(crate) fn gather(&mut self, read: R, after_proposals: bool) {
        self.count += 1;
        if after_proposals { self.after_proposals.push(read) } else { self.linearizable.push(read) }
    }

    /// Issues a ticket for the reads that have arrived, for the engine. Also returns true if these
    /// reads must see the commands proposed before them.
    pub(crate) fn next_ticket(&mut self) -> Option<(u64, bool)> {
        let after_proposals = self.linearizable.is_empty();
        let gathered =
            if after_proposals { &mut self.after_proposals } else { &mut self.linearizable };
        if gathered.is_empty() {
            return None;
        }
        self.next_ticket += 1;
        self.waiting.insert(self.next_ticket, std::mem::take(gathered));
        Some((self.next_ticket, after_proposals))
    }

    /// Marks the reads of these tickets as ready to run, after all reads handed out before.
    pub(crate) fn are_ready(&mut self, tickets: &[u64]) {
        for ticket in tickets {
            self.ready.extend(self.waiting.remove(ticket).into_iter().flatten());
        }
    }

    /// Returns the ready reads for the apply thread, unless its inbox is full.
    pub(crate) fn hand_out(&mut self) -> Option<Vec<R>> {
        if self.ready.is_empty() || self.handed_out == HANDED_OUT_MAX {
            return None;
        }
        self.handed_out += 1;
        self.count -= self.ready.len();
        Some(std::mem::take(&mut self.ready))
    }

    /// Notes that the apply thread has run one batch of reads.
    pub(crate) fn done(&mut self) {
        self.handed_out -= 1;
    }

    /// Removes and returns the reads of these tickets, which cannot run.
    pub(crate) fn give_up(&mut self, tickets: &[u64]) -> Vec<R> {
        let given_up = tickets.iter().filter_map(|ticket| self.waiting.remove(ticket));
        let given_up: Vec<R> = given_up.flatten().collect();
        self.count -= given_up.len();
        given_up
    }
}
