use std::collections::VecDeque;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::engine::log::Log;
use crate::engine::replication::outbox::Outbox;
use crate::engine::{StepResult, ensure};
use crate::wire::entry::{Batch, BatchKind, Commands};
use crate::wire::types::{Incarnation, Origin};

/// As many full batches may be under way before another one is sent.
const FULL_IN_FLIGHT: usize = 3;

/// What this replica's callers propose, from the queue to the commit (rules N1 and N10).
#[derive(Debug)]
pub(crate) struct Proposals<T> {
    /// Drawn when the replica gets in step.
    origin: Option<Origin>,
    next_number: u64,
    /// Not in a batch yet.
    queue: VecDeque<Queued<T>>,
    queued_bytes: usize,
    /// How many commands were ever queued.
    taken: u64,
    /// What operators asked for, by ticket, and is not in a batch yet.
    requests: VecDeque<(u64, Bytes)>,
    /// In batches that are not known committed, by number.
    sent: VecDeque<Sent<T>>,
    /// The first of `sent` that is not in the log, by number.
    ordered: u64,
    /// When one of them was last delivered here.
    heard_at: Duration,
}

#[derive(Debug)]
struct Queued<T> {
    ticket: T,
    command: Bytes,
    /// Which of all that were ever queued, from one.
    place: u64,
    /// When its caller is answered, whatever is known then.
    deadline: Option<Duration>,
}

#[derive(Debug)]
struct Sent<T> {
    batch: Batch,
    callers: Callers<T>,
    /// Of the first of its commands, if they are of callers here.
    place: Option<u64>,
    /// When all its callers have waited for too long.
    deadline: Option<Duration>,
    /// When it was last sent.
    sent_at: Duration,
    /// It is to be sent again at once.
    again: bool,
    /// Delivered here, so it has its place in the group's order.
    heard: bool,
}

/// Who waits for the commands of a batch.
#[derive(Debug)]
pub(crate) enum Callers<T> {
    /// One for each command.
    Application(Vec<T>),
    /// An operator, by ticket.
    Operator(u64),
}

/// What a snapshot has overtaken.
#[derive(Debug)]
pub(crate) struct Overtaken<T> {
    /// Callers whose commands are in it.
    pub(crate) taken: Vec<T>,
    /// Callers whose commands may be in it.
    pub(crate) unknown: Vec<T>,
    /// Operators whose requests are or may be in it: the log tells them the rest.
    pub(crate) requests: Vec<u64>,
}

impl<T> Default for Callers<T> {
    fn default() -> Self {
        Self::Application(Vec::new())
    }
}

impl<T> Default for Proposals<T> {
    fn default() -> Self {
        Self {
            origin: None,
            next_number: 1,
            queue: VecDeque::new(),
            queued_bytes: 0,
            taken: 0,
            requests: VecDeque::new(),
            sent: VecDeque::new(),
            ordered: 0,
            heard_at: Duration::ZERO,
        }
    }
}

impl<T> Proposals<T> {
    pub(crate) fn queue(&mut self, ticket: T, command: Bytes, deadline: Option<Duration>) {
        self.taken += 1;
        self.queued_bytes += command.len() + 4;
        self.queue.push_back(Queued { ticket, command, place: self.taken, deadline });
    }

    pub(crate) fn queue_request(&mut self, ticket: u64, request: Bytes) {
        self.requests.push_back((ticket, request));
    }

    /// How many commands were ever proposed here.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// How many of them, the first ones, are done with.
    pub(crate) fn settled(&self) -> u64 {
        let sent = self.sent.iter().find_map(|sent| sent.place);
        let first = sent.or(self.queue.front().map(|queued| queued.place));
        first.map_or(self.taken, |place| place - 1)
    }

    /// Rule N10: gives up the callers whose time is over. Those whose commands were never sent
    /// are withdrawn with them; what was sent goes on, and its callers do not hear of it.
    pub(crate) fn expire(&mut self, now: Duration) -> (Vec<T>, Vec<T>) {
        let is_over = |deadline: &Option<Duration>| deadline.is_some_and(|at| at <= now);
        let (mut unsent, mut unknown) = (Vec::new(), Vec::new());
        if self.queue.iter().any(|queued| is_over(&queued.deadline)) {
            for queued in std::mem::take(&mut self.queue) {
                if is_over(&queued.deadline) {
                    self.queued_bytes -= queued.command.len() + 4;
                    unsent.push(queued.ticket);
                } else {
                    self.queue.push_back(queued);
                }
            }
        }
        for sent in self.sent.iter_mut().filter(|sent| is_over(&sent.deadline)) {
            if let Callers::Application(callers) = &mut sent.callers {
                unknown.append(callers);
            }
        }
        (unsent, unknown)
    }

    #[cfg(feature = "testing")]
    pub(crate) fn unordered(&self) -> Vec<(Origin, u64)> {
        let sent = self.sent.iter().map(|sent| (sent.batch.origin, sent.batch.number));
        sent.filter(|(_, number)| *number > self.ordered).collect()
    }

    #[cfg(feature = "testing")]
    pub(crate) fn under_way(&self) -> usize {
        self.sent.len()
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Whether anything is not in the log yet.
    pub(crate) fn has_unordered(&self) -> bool {
        !self.queue.is_empty()
            || !self.requests.is_empty()
            || self.sent.back().is_some_and(|sent| sent.batch.number > self.ordered)
    }

    /// Rule N2: an origin's counter is one above the last in the origin table, drawn when
    /// the replica gets in step for the first time.
    pub(crate) fn get_in_sync(&mut self, me: Incarnation, log: &Log) {
        let last = log.last_batch(me.replica);
        let origin = *self.origin.get_or_insert_with(|| {
            let counter = last.map_or(1, |last| last.counter.saturating_add(1));
            Origin { replica: me.replica, counter, nonce: me.nonce }
        });
        self.ordered =
            last.filter(|last| last.counter == origin.counter).map_or(0, |last| last.number);
        // Whatever the new order does not hold is sent again, at once.
        for sent in &mut self.sent {
            if sent.batch.number > self.ordered {
                sent.heard = false;
                sent.again = true;
            }
        }
    }

    /// Takes note of how far the log has this replica's batches.
    pub(crate) fn note_ordered(&mut self, log: &Log) {
        let ordered = self.origin.map_or(0, |origin| {
            let last = log.last_batch(origin.replica);
            last.filter(|last| last.counter == origin.counter).map_or(0, |last| last.number)
        });
        self.ordered = self.ordered.max(ordered);
    }

    pub(crate) fn heard(&mut self, batch: &Batch, now: Duration) {
        let mine = self.origin == Some(batch.origin);
        if let Some(sent) = self.sent.iter_mut().find(|s| mine && s.batch.number == batch.number)
            && !sent.heard
        {
            sent.heard = true;
            self.heard_at = now;
        }
    }

    /// An entry is committed: the callers of its commands, if they are here.
    pub(crate) fn committed(&mut self, batch: &Batch) -> StepResult<Callers<T>> {
        let Some(mine) = self.origin.filter(|mine| mine.replica == batch.origin.replica) else {
            return Ok(Callers::default());
        };
        if mine != batch.origin {
            if batch.origin.counter >= mine.counter {
                self.superseded_by(mine, batch.origin.counter);
            }
            return Ok(Callers::default());
        }
        let sent = self.sent.pop_front();
        let number = sent.as_ref().map(|sent| sent.batch.number);
        ensure(number == Some(batch.number), || {
            format!("own batch {} is committed, and {number:?} is the next", batch.number)
        })?;
        self.ordered = self.ordered.max(batch.number);
        Ok(sent.map(|sent| sent.callers).unwrap_or_default())
    }

    /// Rule N2: an earlier run of this replica, unknown when the counter was drawn, has a
    /// counter that is not lower, and that is committed. So nothing of what is still in
    /// `sent` was ordered or ever can be: it goes out again under a higher counter.
    fn superseded_by(&mut self, mine: Origin, counter: u64) {
        self.origin = Some(Origin { counter: counter.saturating_add(1), ..mine });
        self.next_number = 1;
        self.ordered = 0;
        for sent in self.sent.drain(..).rev() {
            let commands: Vec<Bytes> =
                Commands(&sent.batch.commands).map(|c| sent.batch.commands.slice_ref(c)).collect();
            match sent.callers {
                Callers::Application(callers) => {
                    let deadline = sent.deadline;
                    let place = sent.place.unwrap_or_default();
                    for (ticket, command) in callers.into_iter().zip(commands).rev() {
                        self.queued_bytes += command.len() + 4;
                        self.queue.push_front(Queued { ticket, command, place, deadline });
                    }
                }
                Callers::Operator(ticket) => {
                    for command in commands {
                        self.requests.push_front((ticket, command));
                    }
                }
            }
        }
    }

    /// A snapshot took the place of entries (rule N10). What is under way goes on where the
    /// origin table shows that it is not in it.
    pub(crate) fn overtaken(&mut self, log: &Log) -> Overtaken<T> {
        let mut overtaken =
            Overtaken { taken: Vec::new(), unknown: Vec::new(), requests: Vec::new() };
        let Some(mine) = self.origin else { return overtaken };
        let Some(last) = log.last_batch(mine.replica) else { return overtaken };
        let is_mine = (last.counter, last.nonce) == (mine.counter, mine.nonce);
        let superseded = last.counter > mine.counter;
        let goes = |sent: &Sent<T>| superseded || is_mine && sent.batch.number <= last.number;
        let count = self.sent.iter().take_while(|sent| goes(sent)).count();
        for sent in self.sent.drain(..count) {
            match sent.callers {
                Callers::Operator(ticket) => overtaken.requests.push(ticket),
                Callers::Application(callers) if is_mine => overtaken.taken.extend(callers),
                // Some of it may have been ordered before it was superseded.
                Callers::Application(callers) => overtaken.unknown.extend(callers),
            }
        }
        if is_mine {
            self.ordered = self.ordered.max(last.number);
        } else if last.counter >= mine.counter {
            self.superseded_by(mine, last.counter);
        }
        overtaken
    }

    /// What has had no effect for so long: it is not ordered, or was ordered by this sequencer
    /// and not heard. While earlier ones are still heard for the first time the ring is only
    /// slow, and more of the same would make it slower.
    pub(crate) fn overdue(
        &mut self,
        now: Duration,
        timeout: Duration,
        outbox: &Outbox,
    ) -> Vec<Batch> {
        let (ordered, heard_at) = (self.ordered, self.heard_at);
        let is_overdue = |sent: &&mut Sent<T>| {
            let settled = sent.heard && sent.batch.number <= ordered;
            // What still waits for the group is not sent a second time (rule N12).
            let Some(taken_at) = outbox.taken_at(sent.sent_at) else { return false };
            let late = now.saturating_sub(taken_at.max(heard_at)) > timeout;
            !settled && (sent.again || late)
        };
        let overdue = self.sent.iter_mut().filter(is_overdue);
        let send = |sent: &mut Sent<T>| {
            (sent.sent_at, sent.again) = (now, false);
            sent.batch.clone()
        };
        overdue.map(send).collect()
    }

    /// Gives up everything: the callers never sent, and those whose outcome is unknown.
    pub(crate) fn abandon(&mut self) -> (Vec<T>, Vec<T>) {
        let unsent = self.queue.drain(..).map(|queued| queued.ticket).collect();
        let sent = self.sent.drain(..).flat_map(|sent| match sent.callers {
            Callers::Application(callers) => callers,
            Callers::Operator(_) => Vec::new(),
        });
        self.queued_bytes = 0;
        (unsent, sent.collect())
    }

    /// Whether the next batch is to be sent now (rule N1). While others are under way, one
    /// that is smaller than all of them together gains little by going at once, and costs
    /// the ring as much as a large one. Throttle ones gain nothing by waiting, but queue up
    /// before the ring.
    pub(crate) fn is_due(&self, bytes_max: usize, in_flight_max: usize) -> bool {
        let count = |sent: &Sent<T>| sent.batch.count as usize;
        let bytes = |sent: &Sent<T>| sent.batch.commands.len();
        let has_room = self.sent.len() < in_flight_max
            && self.sent.iter().map(bytes).sum::<usize>() <= bytes_max * FULL_IN_FLIGHT;
        has_room
            && (self.queue.len() >= self.sent.iter().map(count).sum()
                || self.queued_bytes >= bytes_max
                || !self.requests.is_empty())
    }

    /// Makes the next batch of what is queued.
    pub(crate) fn fill(&mut self, bytes_max: usize, now: Duration) -> Option<Batch> {
        let origin = self.origin?;
        let request = self.requests.pop_front();
        let place = self.queue.front().filter(|_| request.is_none()).map(|queued| queued.place);
        let mut deadline = None;
        let (kind, callers, count, commands) = match request {
            Some((ticket, request)) => {
                let mut commands = BytesMut::with_capacity(request.len() + 4);
                put_command(&mut commands, &request);
                (BatchKind::Operator, Callers::Operator(ticket), 1, commands)
            }
            None => {
                let (callers, commands, latest) = self.take_queued(bytes_max)?;
                deadline = latest;
                let count = callers.len() as u32;
                (BatchKind::Application, Callers::Application(callers), count, commands)
            }
        };
        let number = self.next_number;
        self.next_number += 1;
        let batch = Batch { origin, number, kind, count, commands: commands.freeze() };
        let kept = batch.clone();
        let (sent_at, again, heard) = (now, false, false);
        let sent = Sent { batch: kept, callers, place, deadline, sent_at, again, heard };
        self.sent.push_back(sent);
        Some(batch)
    }

    /// Takes as many commands off the queue as go into a batch, one at least.
    /// Also tells the last deadline of them all.
    fn take_queued(&mut self, bytes_max: usize) -> Option<(Vec<T>, BytesMut, Option<Duration>)> {
        let mut taken = 0;
        let mut bytes = 0;
        for Queued { command, .. } in &self.queue {
            let with = bytes + command.len() + 4;
            if taken > 0 && with > bytes_max {
                break;
            }
            taken += 1;
            bytes = with;
        }
        if taken == 0 {
            return None;
        }
        let mut commands = BytesMut::with_capacity(bytes);
        let mut callers = Vec::with_capacity(taken);
        let mut deadline = Some(Duration::ZERO);
        for queued in self.queue.drain(..taken) {
            put_command(&mut commands, &queued.command);
            callers.push(queued.ticket);
            deadline = deadline.zip(queued.deadline).map(|(one, other)| one.max(other));
        }
        self.queued_bytes -= bytes;
        Some((callers, commands, deadline))
    }
}

/// Adds a command to those of a batch: its length, then itself.
pub(crate) fn put_command(into: &mut BytesMut, command: &[u8]) {
    into.put_u32_le(command.len() as u32);
    into.extend_from_slice(command);
}

#[cfg(test)]
mod tests;
