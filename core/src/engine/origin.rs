use std::collections::VecDeque;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::log::Log;
use super::{Canary, Checked, Engine, Output, ensure};
use crate::entry::{Batch, BatchKind, Commands, Content};
use crate::message::Message;
use crate::types::{Incarnation, Origin};

/// What this replica's callers propose, from the queue to the commit (rules N1 and N10).
#[derive(Debug)]
pub(crate) struct Proposals<T> {
    /// Drawn when the replica gets in step.
    origin: Option<Origin>,
    next_number: u64,
    /// Not in a batch yet.
    queue: VecDeque<(T, Bytes)>,
    queued_bytes: usize,
    /// How many commands were ever queued.
    taken: u64,
    /// What operators asked for, by ticket, and is not in a batch yet.
    requests: VecDeque<(u64, Bytes)>,
    /// In batches that are not known committed, by number.
    sent: VecDeque<Sent<T>>,
    /// The first of `sent` that is not in the log, by number.
    ordered: u64,
}

#[derive(Debug)]
struct Sent<T> {
    batch: Batch,
    callers: Callers<T>,
    sent_at: Duration,
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
        }
    }
}

impl<T> Proposals<T> {
    pub(crate) fn queue(&mut self, ticket: T, command: Bytes) {
        self.taken += 1;
        self.queued_bytes += command.len() + 4;
        self.queue.push_back((ticket, command));
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
        let sent = self.sent.iter().map(|sent| match &sent.callers {
            Callers::Application(callers) => callers.len(),
            Callers::Operator(_) => 0,
        });
        self.taken - (self.queue.len() + sent.sum::<usize>()) as u64
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
    pub(crate) fn get_in_step(&mut self, me: Incarnation, log: &Log) {
        let last = log.last_batch(me.replica);
        let origin = *self.origin.get_or_insert_with(|| {
            let counter = last.map_or(1, |last| last.counter + 1);
            Origin { replica: me.replica, counter, nonce: me.nonce }
        });
        self.ordered =
            last.filter(|last| last.counter == origin.counter).map_or(0, |last| last.number);
        // Whatever the new order does not hold is sent again, at once.
        for sent in &mut self.sent {
            if sent.batch.number > self.ordered {
                sent.heard = false;
                sent.sent_at = Duration::ZERO;
            }
        }
    }

    pub(crate) fn heard(&mut self, batch: &Batch) {
        let mine = self.origin == Some(batch.origin);
        if let Some(sent) = self.sent.iter_mut().find(|s| mine && s.batch.number == batch.number) {
            sent.heard = true;
        }
    }

    /// An entry is committed: the callers of its commands, if they are here.
    /// `broken` is for a canary.
    pub(crate) fn committed(&mut self, batch: &Batch, broken: bool) -> Checked<Callers<T>> {
        let Some(mine) = self.origin.filter(|mine| mine.replica == batch.origin.replica) else {
            return Ok(Callers::default());
        };
        if mine != batch.origin {
            if batch.origin.counter >= mine.counter && !broken {
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
        self.origin = Some(Origin { counter: counter + 1, ..mine });
        self.next_number = 1;
        self.ordered = 0;
        for sent in self.sent.drain(..).rev() {
            let commands: Vec<Bytes> =
                Commands(&sent.batch.commands).map(|c| sent.batch.commands.slice_ref(c)).collect();
            match sent.callers {
                Callers::Application(callers) => {
                    self.queued_bytes += sent.batch.commands.len();
                    for (ticket, command) in callers.into_iter().zip(commands).rev() {
                        self.queue.push_front((ticket, command));
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

    /// Gives up everything: the callers never sent, and those whose outcome is unknown.
    pub(crate) fn abandon(&mut self) -> (Vec<T>, Vec<T>) {
        let unsent = self.queue.drain(..).map(|(ticket, _)| ticket).collect();
        let sent = self.sent.drain(..).flat_map(|sent| match sent.callers {
            Callers::Application(callers) => callers,
            Callers::Operator(_) => Vec::new(),
        });
        self.queued_bytes = 0;
        (unsent, sent.collect())
    }

    /// Makes the next batch of what is queued.
    fn fill(&mut self, bytes_max: usize, now: Duration) -> Option<Batch> {
        let origin = self.origin?;
        let request = self.requests.pop_front();
        let (kind, callers, count, commands) = match request {
            Some((ticket, request)) => {
                let mut commands = BytesMut::with_capacity(request.len() + 4);
                put_command(&mut commands, &request);
                (BatchKind::Operator, Callers::Operator(ticket), 1, commands)
            }
            None => {
                let (callers, commands) = self.take_queued(bytes_max)?;
                let count = callers.len() as u32;
                (BatchKind::Application, Callers::Application(callers), count, commands)
            }
        };
        let number = self.next_number;
        self.next_number += 1;
        let batch = Batch { origin, number, kind, count, commands: commands.freeze() };
        let kept = batch.clone();
        self.sent.push_back(Sent { batch: kept, callers, sent_at: now, heard: false });
        Some(batch)
    }

    /// Takes as many commands off the queue as go into a batch, one at least.
    fn take_queued(&mut self, bytes_max: usize) -> Option<(Vec<T>, BytesMut)> {
        let mut taken = 0;
        let mut bytes = 0;
        for (_, command) in &self.queue {
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
        for (ticket, command) in self.queue.drain(..taken) {
            put_command(&mut commands, &command);
            callers.push(ticket);
        }
        self.queued_bytes -= bytes;
        Some((callers, commands))
    }
}

fn put_command(into: &mut BytesMut, command: &[u8]) {
    into.put_u32_le(command.len() as u32);
    into.extend_from_slice(command);
}

impl<T> Engine<T> {
    /// Rule N1: a bounded number of batches is under way, the next is filled meanwhile;
    /// so batches grow with load, and a lone command goes at once.
    pub(crate) fn send_batches(&mut self, out: &mut Vec<Output<T>>) {
        while self.is_in_step() && self.proposals.sent.len() < self.config.batches_in_flight_max {
            let (bytes_max, now) = (self.config.batch_bytes_max, self.now.monotonic);
            let Some(batch) = self.proposals.fill(bytes_max, now) else { break };
            self.send_batch(batch, out);
        }
    }

    /// Rule N4: the sequencer positions its own batch when it hands it over to be sent;
    /// the batch carries the marks for all before it and for itself.
    fn send_batch(&mut self, batch: Batch, out: &mut Vec<Output<T>>) {
        if self.is_sequencing() && self.log.is_next(&batch.origin, batch.number) {
            self.order(Content::Batch(batch.clone()));
        }
        let progress = self.progress();
        out.push(Output::Send(Message::Batch(batch, Some(progress))));
    }

    /// Sends again, in order, what has had no effect for a while: not ordered, or ordered
    /// by this sequencer and not heard.
    pub(crate) fn resend_batches(&mut self, out: &mut Vec<Output<T>>) {
        if !self.is_in_step() || self.is_broken(Canary::NoResend) {
            return;
        }
        let origin = self.proposals.origin;
        let ordered = origin.map_or(0, |origin| {
            let last = self.log.last_batch(origin.replica);
            last.filter(|last| last.counter == origin.counter).map_or(0, |last| last.number)
        });
        self.proposals.ordered = self.proposals.ordered.max(ordered);
        let now = self.now.monotonic;
        let timeout = self.config.resend_timeout;
        let mut again = Vec::new();
        for sent in &mut self.proposals.sent {
            let settled = sent.heard && sent.batch.number <= ordered;
            if !settled && now.saturating_sub(sent.sent_at) > timeout {
                sent.sent_at = now;
                again.push(sent.batch.clone());
            }
        }
        for batch in again {
            self.send_batch(batch, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::types::{Ballot, Nonce, ReplicaId};

    const ME: Incarnation = Incarnation { replica: ReplicaId(1), nonce: Nonce(9) };

    /// Three batches under way, of one caller each.
    fn under_way() -> Proposals<u32> {
        let mut proposals = Proposals::default();
        proposals.get_in_step(ME, &Log::default());
        for caller in 1..=3 {
            proposals.queue(caller, Bytes::from_static(b"a command"));
            proposals.fill(100, Duration::ZERO).unwrap();
        }
        proposals
    }

    /// A log that ends with a batch of this replica.
    fn log_with(counter: u64, nonce: u64, number: u64) -> Log {
        let mut log = Log::default();
        let origin = Origin { replica: ME.replica, counter, nonce: Nonce(nonce) };
        let kind = BatchKind::Application;
        let batch = Batch { origin, number, kind, count: 0, commands: Bytes::new() };
        log.append(Ballot::default(), Timestamp(0), Content::Batch(batch));
        log
    }

    fn overtaken(log: &Log) -> (Vec<u32>, Vec<u32>, usize, usize) {
        let mut proposals = under_way();
        let Overtaken { taken, unknown, .. } = proposals.overtaken(log);
        (taken, unknown, proposals.sent.len(), proposals.queue.len())
    }

    #[test]
    fn n10_what_a_snapshot_holds_is_known_and_the_rest_goes_on() {
        assert_eq!(overtaken(&Log::default()), (vec![], vec![], 3, 0));
        assert_eq!(overtaken(&log_with(1, 9, 2)), (vec![1, 2], vec![], 1, 0));
        // An earlier run's number was drawn again: nothing of this run was ordered.
        assert_eq!(overtaken(&log_with(1, 5, 7)), (vec![], vec![], 0, 3));
        assert_eq!(overtaken(&log_with(2, 5, 7)), (vec![], vec![1, 2, 3], 0, 0));
    }
}
