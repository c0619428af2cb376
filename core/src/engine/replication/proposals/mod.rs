use std::collections::VecDeque;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::engine::log::Log;
use crate::engine::replication::outbox::Outbox;
use crate::engine::{StepResult, ensure};
use crate::wire::entry::{Batch, BatchKind, Commands};
use crate::wire::types::{Incarnation, Origin};

/// Maximum number of full batches in flight.
const FULL_IN_FLIGHT: usize = 3;

/// Commands that callers at this replica propose, from the queue to the commit (rules N1 and N10).
#[derive(Debug)]
pub(crate) struct Proposals<T> {
    /// Origin of this run's batches. Chosen when the replica is caught up for the first time.
    origin: Option<Origin>,
    /// Number of the next batch.
    next_number: u64,
    /// Commands that are not in a batch yet.
    queue: VecDeque<Queued<T>>,
    /// Bytes that the queued commands take in a batch.
    queued_bytes: usize,
    /// Number of commands ever queued.
    taken: u64,
    /// Operators' requests that are not in a batch yet, by ticket.
    requests: VecDeque<(u64, Bytes)>,
    /// Batches that are not known to be committed, by number.
    sent: VecDeque<Sent<T>>,
    /// Number of this origin's last batch in the log.
    ordered: u64,
    /// Time at which one of the batches was last delivered here for the first time.
    heard_at: Duration,
}

#[derive(Debug)]
struct Queued<T> {
    ticket: T,
    command: Bytes,
    /// Number of the command, counting all that were ever queued from one.
    place: u64,
    /// Time at which the caller gets an answer, whatever is known then.
    deadline: Option<Duration>,
}

#[derive(Debug)]
struct Sent<T> {
    batch: Batch,
    callers: Callers<T>,
    /// Number of the first of its commands; `None` if it holds an operator's request.
    place: Option<u64>,
    /// Time by which the deadlines of all its callers have passed; `None` if one of them has none.
    deadline: Option<Duration>,
    /// Time at which it was last sent.
    sent_at: Duration,
    /// Set if it has to be sent again at once.
    again: bool,
    /// Set once it was delivered here.
    heard: bool,
}

/// Callers that wait for the commands of a batch.
#[derive(Debug)]
pub(crate) enum Callers<T> {
    /// One caller for each command.
    Application(Vec<T>),
    /// Ticket of an operator.
    Operator(u64),
}

/// Callers whose batches a snapshot has replaced.
#[derive(Debug)]
pub(crate) struct Overtaken<T> {
    /// Callers whose commands are in the snapshot.
    pub(crate) taken: Vec<T>,
    /// Callers whose commands may be in the snapshot.
    pub(crate) unknown: Vec<T>,
    /// Operators whose requests are or may be in the snapshot. The voters in it show the outcome.
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
    /// Queues a command.
    pub(crate) fn queue(&mut self, ticket: T, command: Bytes, deadline: Option<Duration>) {
        self.taken += 1;
        self.queued_bytes += command.len() + 4;
        self.queue.push_back(Queued { ticket, command, place: self.taken, deadline });
    }

    /// Queues an operator's request.
    pub(crate) fn queue_request(&mut self, ticket: u64, request: Bytes) {
        self.requests.push_back((ticket, request));
    }

    /// Returns the number of commands ever proposed here.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Returns the number of commands at the front of these that are settled: applied, withdrawn or
    /// given up.
    pub(crate) fn settled(&self) -> u64 {
        let sent = self.sent.iter().find_map(|sent| sent.place);
        let first = sent.or(self.queue.front().map(|queued| queued.place));
        first.map_or(self.taken, |place| place - 1)
    }

    /// Removes the callers whose deadline has passed (rule N10): those whose commands were never
    /// sent, which are withdrawn, and those whose outcome is unknown. Batches already sent stay in
    /// flight.
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

    /// Returns the bytes that the queued commands take in a batch.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Returns true if any command or request is not in the log yet.
    pub(crate) fn has_unordered(&self) -> bool {
        !self.queue.is_empty()
            || !self.requests.is_empty()
            || self.sent.back().is_some_and(|sent| sent.batch.number > self.ordered)
    }

    /// Starts to propose in an epoch. The origin's counter is one above the last in the origin
    /// table, chosen when the replica is caught up for the first time (rule N2).
    pub(crate) fn get_in_sync(&mut self, me: Incarnation, log: &Log) {
        let last = log.last_batch(me.replica);
        let origin = *self.origin.get_or_insert_with(|| {
            let counter = last.map_or(1, |last| last.counter.saturating_add(1));
            Origin { replica: me.replica, counter, nonce: me.nonce }
        });
        self.ordered =
            last.filter(|last| last.counter == origin.counter).map_or(0, |last| last.number);
        // Batches that the new order does not hold are sent again at once.
        for sent in &mut self.sent {
            if sent.batch.number > self.ordered {
                sent.heard = false;
                sent.again = true;
            }
        }
    }

    /// Records how many of this replica's batches are in the log.
    pub(crate) fn note_ordered(&mut self, log: &Log) {
        let ordered = self.origin.map_or(0, |origin| {
            let last = log.last_batch(origin.replica);
            last.filter(|last| last.counter == origin.counter).map_or(0, |last| last.number)
        });
        self.ordered = self.ordered.max(ordered);
    }

    /// Records that a batch was delivered.
    pub(crate) fn heard(&mut self, batch: &Batch, now: Duration) {
        let mine = self.origin == Some(batch.origin);
        if let Some(sent) = self.sent.iter_mut().find(|s| mine && s.batch.number == batch.number)
            && !sent.heard
        {
            sent.heard = true;
            self.heard_at = now;
        }
    }

    /// Handles a committed batch. Returns the callers of its commands, if they are here.
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
            format!(
                "this replica's batch {} is committed, but {number:?} was the next one expected",
                batch.number
            )
        })?;
        self.ordered = self.ordered.max(batch.number);
        Ok(sent.map(|sent| sent.callers).unwrap_or_default())
    }

    /// Takes a higher counter, because an earlier run of this replica, unknown when the counter was
    /// chosen, has one that is not lower and is committed (rule N2). Nothing in `sent` was ordered
    /// or ever can be, so all of it goes out again under the new counter.
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

    /// Handles a snapshot that has replaced entries (rule N10). Batches that the origin table does
    /// not contain stay in flight.
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
                // Some of these may have been ordered before the origin was superseded.
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

    /// Returns the batches to send again: those not ordered in time, or ordered by this sequencer
    /// and not delivered. While earlier batches are still being delivered for the first time, the
    /// ring is only slow, and copies would make it slower.
    pub(crate) fn overdue(
        &mut self,
        now: Duration,
        timeout: Duration,
        outbox: &Outbox,
    ) -> Vec<Batch> {
        let (ordered, heard_at) = (self.ordered, self.heard_at);
        let is_overdue = |sent: &&mut Sent<T>| {
            let settled = sent.heard && sent.batch.number <= ordered;
            // A frame that is still queued in the transport is not sent a second time (rule N12).
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

    /// Gives up everything. Returns the callers whose commands were never sent, and those whose
    /// outcome is unknown.
    pub(crate) fn abandon(&mut self) -> (Vec<T>, Vec<T>) {
        let unsent = self.queue.drain(..).map(|queued| queued.ticket).collect();
        let sent = self.sent.drain(..).flat_map(|sent| match sent.callers {
            Callers::Application(callers) => callers,
            Callers::Operator(_) => Vec::new(),
        });
        self.queued_bytes = 0;
        (unsent, sent.collect())
    }

    /// Returns true if the next batch should be sent now (rule N1). While others are in flight, a
    /// batch smaller than all of them together gains little by being sent at once, and costs the
    /// ring as much as a large one. Full batches gain nothing by waiting, but are limited in
    /// number, because they would queue up in front of the ring.
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

    /// Makes the next batch of what is queued; `None` if there is nothing, or no origin yet.
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

    /// Takes as many commands off the queue as fit into a batch, at least one. Returns their
    /// callers, their bytes, and the latest of their deadlines.
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

/// Adds a command to those of a batch: its length, then its bytes.
pub(crate) fn put_command(into: &mut BytesMut, command: &[u8]) {
    into.put_u32_le(command.len() as u32);
    into.extend_from_slice(command);
}

#[cfg(test)]
mod tests;
