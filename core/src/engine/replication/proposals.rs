use std::collections::VecDeque;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::engine::log::Log;
use crate::engine::replication::outbox::Outbox;
use crate::engine::{Config, Engine, Output, StepResult, ensure};
use crate::entry::{Batch, BatchKind, Commands, Content};
use crate::message::Message;
use crate::types::{Incarnation, Origin};

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
    fn overdue(&mut self, now: Duration, timeout: Duration, outbox: &Outbox) -> Vec<Batch> {
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
    fn is_due(&self, bytes_max: usize, in_flight_max: usize) -> bool {
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
    fn fill(&mut self, bytes_max: usize, now: Duration) -> Option<Batch> {
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

impl<T> Engine<T> {
    /// Rule N1: a bounded number of batches is under way, and the next is filled meanwhile
    /// until it is worth a message; so batches grow with load, and a lone command goes at
    /// once.
    pub(crate) fn send_batches(&mut self, out: &mut Vec<Output<T>>) -> StepResult {
        let Config { batch_bytes_max, batches_in_flight_max, .. } = self.config;
        // A lone voter commits what it has not sent yet, so what is in flight is no bound for it.
        while self.is_in_sync()
            && self.proposals.is_due(batch_bytes_max, batches_in_flight_max)
            && self.outbox.has_room()
        {
            let Some(batch) = self.proposals.fill(batch_bytes_max, self.now.monotonic) else {
                break;
            };
            self.send_batch(batch, out)?;
        }
        Ok(())
    }

    /// Rule N4: the sequencer positions its own batch when it hands it over to be sent;
    /// the batch carries the marks for all before it and for itself.
    fn send_batch(&mut self, batch: Batch, out: &mut Vec<Output<T>>) -> StepResult {
        if self.may_order() && self.log.is_next(&batch.origin, batch.number) {
            self.order(Content::Batch(batch.clone()));
            self.write(out)?;
        }
        let progress = self.progress();
        out.push(Output::Send(Message::Batch(batch, Some(progress))));
        Ok(())
    }

    /// At a tick: whose time is over is answered. What was never sent never will be.
    pub(crate) fn expire_proposals(&mut self, out: &mut Vec<Output<T>>) {
        let (unsent, unknown) = self.proposals.expire(self.now.monotonic);
        if !unsent.is_empty() {
            out.push(Output::Fail { tickets: unsent, may_take_effect: false });
        }
        if !unknown.is_empty() {
            out.push(Output::Fail { tickets: unknown, may_take_effect: true });
        }
    }

    /// Sends again, in order, what has had no effect for a while.
    pub(crate) fn resend_batches(&mut self, out: &mut Vec<Output<T>>) -> StepResult {
        if !self.is_in_sync() {
            return Ok(());
        }
        let origin = self.proposals.origin;
        let ordered = origin.map_or(0, |origin| {
            let last = self.log.last_batch(origin.replica);
            last.filter(|last| last.counter == origin.counter).map_or(0, |last| last.number)
        });
        self.proposals.ordered = self.proposals.ordered.max(ordered);
        let timeout = self.config.resend_timeout;
        let again = self.proposals.overdue(self.now.monotonic, timeout, &self.outbox);
        again.into_iter().try_for_each(|batch| self.send_batch(batch, out))
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
        proposals.get_in_sync(ME, &Log::default());
        for caller in 1..=3 {
            proposals.queue(caller, Bytes::from_static(b"a command"), None);
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

    #[test]
    fn n1_a_batch_waits_until_it_is_as_large_as_all_under_way() {
        let mut proposals = Proposals::default();
        proposals.get_in_sync(ME, &Log::default());
        let mut sizes = Vec::new();
        let send = |proposals: &mut Proposals<u32>, bytes_max| {
            let due = proposals.is_due(bytes_max, 4);
            let batch = due.then(|| proposals.fill(bytes_max, Duration::ZERO)).flatten();
            batch.map(|batch| batch.count)
        };
        for caller in 0..16 {
            proposals.queue(caller, Bytes::from_static(b"a command"), None);
            sizes.extend(send(&mut proposals, 1000));
        }
        // The last eight wait, since four are under way already.
        assert_eq!(sizes, [1, 1, 2, 4]);
        let first = proposals.sent[0].batch.clone();
        proposals.committed(&first).unwrap();
        assert_eq!(send(&mut proposals, 1000), Some(8));
        proposals.sent.truncate(1);
        proposals.sent[0].batch.count = 100;
        proposals.queue(16, Bytes::from_static(b"a command"), None);
        assert_eq!(send(&mut proposals, 1000), None, "one, beside a hundred");
        assert_eq!(send(&mut proposals, 13), Some(1), "as much as a batch may hold");
    }

    #[test]
    fn n1_full_batches_go_at_once_and_few_are_under_way() {
        let mut proposals = Proposals::default();
        proposals.get_in_sync(ME, &Log::default());
        (0..16).for_each(|caller| proposals.queue(caller, Bytes::from_static(b"a command"), None));
        while proposals.is_due(13, 100) {
            assert_eq!(proposals.fill(13, Duration::ZERO).unwrap().count, 1);
        }
        assert_eq!(proposals.sent.len(), FULL_IN_FLIGHT + 1);
    }

    #[test]
    fn n1_what_is_late_is_sent_again_unless_the_ring_is_only_slow() {
        let second = Duration::from_secs;
        let mut proposals = under_way();
        let numbers = |proposals: &mut Proposals<u32>, now| {
            let overdue = proposals.overdue(now, second(1), &Outbox::default());
            overdue.iter().map(|batch| batch.number).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&mut proposals, second(1)), []);
        let first = proposals.sent[0].batch.clone();
        proposals.heard(&first, second(2));
        proposals.ordered = 1;
        assert_eq!(numbers(&mut proposals, second(3)), []);
        // A second copy tells nothing about the others.
        proposals.heard(&first, second(3));
        assert_eq!(numbers(&mut proposals, second(4)), [2, 3]);
        assert_eq!(numbers(&mut proposals, second(4)), []);
        // A new epoch waits for nothing.
        proposals.heard_at = second(4);
        proposals.get_in_sync(ME, &Log::default());
        assert_eq!(numbers(&mut proposals, second(4)), [1, 2, 3]);
    }

    #[test]
    fn n12_what_still_waits_for_the_group_is_not_sent_again() {
        let second = Duration::from_secs;
        let mut proposals = under_way();
        let mut outbox = Outbox::default();
        let numbers = |proposals: &mut Proposals<u32>, outbox: &Outbox, now| {
            let overdue = proposals.overdue(now, second(1), outbox);
            overdue.iter().map(|batch| batch.number).collect::<Vec<_>>()
        };
        (0..3).for_each(|_| outbox.add(100, Duration::ZERO));
        outbox.report(3, 300, second(1));
        assert_eq!(numbers(&mut proposals, &outbox, second(500)), []);
        // Not in a new epoch either.
        proposals.get_in_sync(ME, &Log::default());
        assert_eq!(numbers(&mut proposals, &outbox, second(501)), []);
        outbox.report(0, 0, second(600));
        assert_eq!(numbers(&mut proposals, &outbox, second(600)), [1, 2, 3]);
        // The timeout counts from when the group took them.
        (0..3).for_each(|_| outbox.add(100, second(600)));
        outbox.report(3, 300, second(600));
        outbox.report(0, 0, second(700));
        assert_eq!(numbers(&mut proposals, &outbox, second(701)), []);
        assert_eq!(numbers(&mut proposals, &outbox, second(702)), [1, 2, 3]);
    }

    #[test]
    fn n10_at_its_deadline_what_was_never_sent_is_withdrawn_and_the_rest_goes_on() {
        let at = |seconds| Some(Duration::from_secs(seconds));
        let mut proposals = Proposals::default();
        proposals.get_in_sync(ME, &Log::default());
        for (caller, deadline) in [(1, at(1)), (2, at(2)), (3, None), (4, at(1)), (5, at(3))] {
            proposals.queue(caller, Bytes::from_static(b"a command"), deadline);
            if caller % 2 == 0 {
                // One and two together, three and four too; five stays.
                proposals.fill(100, Duration::ZERO).unwrap();
            }
        }
        let expired = |proposals: &mut Proposals<u32>, seconds| {
            proposals.expire(Duration::from_secs(seconds))
        };
        assert_eq!(expired(&mut proposals, 1), (vec![], vec![]), "not before all of a batch are");
        assert_eq!(expired(&mut proposals, 2), (vec![], vec![1, 2]));
        assert_eq!(expired(&mut proposals, 9), (vec![5], vec![]), "one has all the time there is");
        assert_eq!((proposals.queued_bytes(), proposals.settled()), (0, 0), "both batches go on");
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
