use std::collections::BTreeMap;

/// Reads that may wait for their turn; what comes then waits in its channel.
const WAITING_MAX: usize = 64 << 10;
/// Messages with reads that the apply thread may have before it.
pub(super) const HANDED_OUT_MAX: usize = 8;

/// What the group thread keeps of reads: the engine knows them by tickets, one for all that
/// came together.
pub(crate) struct Reads<R> {
    next_ticket: u64,
    /// Came since the engine was last told.
    linearizable: Vec<R>,
    in_order: Vec<R>,
    waiting: BTreeMap<u64, Vec<R>>,
    /// May be handed out to the apply thread.
    ready: Vec<R>,
    count: usize,
    handed_out: usize,
}

impl<R> Default for Reads<R> {
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

impl<R> Reads<R> {
    pub(crate) fn has_room(&self) -> bool {
        self.count < WAITING_MAX
    }

    pub(crate) fn gather(&mut self, read: R, in_order: bool) {
        self.count += 1;
        if in_order { self.in_order.push(read) } else { self.linearizable.push(read) }
    }

    /// The next ticket that the engine has to know, and whether its reads go in order.
    pub(crate) fn next_ticket(&mut self) -> Option<(u64, bool)> {
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
    pub(crate) fn are_ready(&mut self, tickets: &[u64]) {
        for ticket in tickets {
            self.ready.extend(self.waiting.remove(ticket).into_iter().flatten());
        }
    }

    /// What is to be handed out now.
    pub(crate) fn hand_out(&mut self) -> Option<Vec<R>> {
        if self.ready.is_empty() || self.handed_out == HANDED_OUT_MAX {
            return None;
        }
        self.handed_out += 1;
        self.count -= self.ready.len();
        Some(std::mem::take(&mut self.ready))
    }

    /// The apply thread has done what was handed out first.
    pub(crate) fn done(&mut self) {
        self.handed_out -= 1;
    }

    /// Those will not be carried out.
    pub(crate) fn give_up(&mut self, tickets: &[u64]) -> Vec<R> {
        let given_up = tickets.iter().filter_map(|ticket| self.waiting.remove(ticket));
        let given_up: Vec<R> = given_up.flatten().collect();
        self.count -= given_up.len();
        given_up
    }
}
