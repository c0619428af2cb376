use std::collections::VecDeque;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::limits::{BACKLOG_BYTES_MAX, EVENT_BYTES, OWN_BYTES_MAX};
use crate::{Error, Event, Member, Result};

/// The capacity that an emptied queue may keep, in events, so that a burst does not hold
/// its memory for ever.
const SPARE_EVENTS_MAX: usize = 64 * 1024;

/// How often a waiter lets others run before it sleeps. To fall asleep and to be woken
/// costs both sides more than handing a message over; who waits a few microseconds finds
/// several at once instead. Not with a transport that takes much longer than that.
const YIELDS: u32 = 20;

/// What a connection has received and not yet handed out.
///
/// Transports push, in order; the connection pops, drains and waits. No call here waits for
/// a handler, so a transport is never held up by its slowest member.
pub(crate) struct Mailbox {
    /// Whose mailbox this is; its own messages are counted apart.
    member: Member,
    yields: u32,
    state: Mutex<State>,
    awake: Condvar,
    /// Somebody waits on `awake` and was not notified yet.
    sleeping: AtomicBool,
    /// Events are queued, or none will ever be again. For a look without the lock.
    ready: AtomicBool,
    /// A `wake` that no `wait` has answered yet.
    woken: AtomicBool,
    /// Bytes of own messages sent and not yet handed out.
    own_bytes: AtomicUsize,
    /// Made at the first call of `fd`: without one, no system call is made for it.
    fd: OnceLock<OwnedFd>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Event>,
    /// An emptied queue, kept for its capacity.
    spare: VecDeque<Event>,
    /// The sum of `cost` over `queue`, and over those of it that are own messages.
    bytes: usize,
    own_bytes: usize,
    closed: Option<Error>,
    /// The descriptor is readable.
    signalled: bool,
}

/// The mailbox holds more than [`BACKLOG_BYTES_MAX`]: its connection must be cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

impl Mailbox {
    pub(crate) fn new(member: Member) -> Self {
        Self {
            member,
            yields: YIELDS,
            state: Mutex::default(),
            awake: Condvar::new(),
            sleeping: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            own_bytes: AtomicUsize::new(0),
            fd: OnceLock::new(),
        }
    }

    /// One whose waiters sleep at once, for a transport that takes longer than a few yields.
    #[cfg(feature = "corosync")]
    pub(crate) fn without_lingering(member: Member) -> Self {
        Self { yields: 0, ..Self::new(member) }
    }

    /// Whose mailbox this is.
    pub(crate) fn member(&self) -> Member {
        self.member
    }

    /// Counts an own message of `length` bytes that is about to be sent. It is discounted
    /// when it is handed out.
    pub(crate) fn charge(&self, length: usize) {
        self.own_bytes.fetch_add(length + EVENT_BYTES, Ordering::Relaxed);
    }

    /// Whether own messages may be sent, or [`Error::TryAgain`] is due.
    pub(crate) fn may_send(&self) -> bool {
        self.own_bytes.load(Ordering::Relaxed) < OWN_BYTES_MAX
    }

    /// Appends an event. Without effect once closed.
    pub(crate) fn push(&self, event: Event) -> Result<(), Overflow> {
        let mut state = self.lock();
        self.append(&mut state, event);
        self.announce(state)
    }

    /// Appends events under one lock. Without effect once closed.
    pub(crate) fn push_all(&self, events: impl IntoIterator<Item = Event>) -> Result<(), Overflow> {
        let mut state = self.lock();
        for event in events {
            self.append(&mut state, event);
        }
        self.announce(state)
    }

    /// Ends the stream: what is queued is still handed out, then comes `error`, for ever.
    /// The first error stays.
    pub(crate) fn close(&self, error: Error) {
        let mut state = self.lock();
        state.closed.get_or_insert(error);
        self.raise(&mut state);
        drop(state);
        self.notify();
    }

    /// Takes the oldest event.
    pub(crate) fn pop(&self) -> Result<Option<Event>> {
        let mut state = self.lock();
        let Some(event) = state.queue.pop_front() else {
            return state.closed.map_or(Ok(None), Err);
        };
        let cost = cost(&event);
        state.bytes -= cost;
        if self.is_own(&event) {
            state.own_bytes -= cost;
            self.own_bytes.fetch_sub(cost, Ordering::Relaxed);
        }
        self.lower(&mut state);
        Ok(Some(event))
    }

    /// Takes all events of this moment and hands them to `handler`, outside the lock.
    /// When the handler panics, the rest goes back to the front.
    pub(crate) fn drain(&self, handler: &mut impl FnMut(Event)) -> Result<usize> {
        let mut state = self.lock();
        if state.queue.is_empty() {
            return state.closed.map_or(Ok(0), Err);
        }
        let spare = mem::take(&mut state.spare);
        let events = mem::replace(&mut state.queue, spare);
        state.bytes = 0;
        self.own_bytes.fetch_sub(mem::take(&mut state.own_bytes), Ordering::Relaxed);
        self.lower(&mut state);
        drop(state);
        let count = events.len();
        let mut batch = Batch { mailbox: self, events };
        while let Some(event) = batch.events.pop_front() {
            handler(event);
        }
        Ok(count)
    }

    /// Waits for an event: `true`. `false` when the time is over or after a `wake`, which
    /// goes before events so that it is heard under load as well.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        // A timeout beyond what the clock can hold is no timeout.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        if timeout != Some(Duration::ZERO) {
            self.linger();
        }
        let mut state = self.lock();
        loop {
            if self.woken.swap(false, Ordering::SeqCst) {
                return Ok(false);
            }
            if !state.queue.is_empty() {
                return Ok(true);
            }
            if let Some(error) = state.closed {
                return Err(error);
            }
            // Said before `woken` is looked at again, as `wake` looks at the two in the
            // other order: one of the sides sees the other.
            self.sleeping.store(true, Ordering::SeqCst);
            if self.woken.load(Ordering::SeqCst) {
                continue;
            }
            state = match deadline {
                None => self.awake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(false);
                    }
                    self.awake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Makes the `wait` under way return `false`, or else the next one.
    pub(crate) fn wake(&self) {
        if !self.woken.swap(true, Ordering::SeqCst) && self.sleeping.load(Ordering::SeqCst) {
            // A waiter between its look at `woken` and its sleep holds the lock.
            drop(self.lock());
            self.notify();
        }
    }

    /// The descriptor that is readable while there are events, or once closed.
    pub(crate) fn fd(&self) -> Result<BorrowedFd<'_>> {
        if self.fd.get().is_none() {
            let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(|_| Error::NoResources)?;
            // When another thread was quicker, its descriptor is the one.
            let _ = self.fd.set(fd);
            let mut state = self.lock();
            if !state.queue.is_empty() || state.closed.is_some() {
                self.raise(&mut state);
            }
        }
        self.fd.get().map(OwnedFd::as_fd).ok_or(Error::NoResources)
    }

    /// Waits a moment without sleeping.
    fn linger(&self) {
        for _ in 0..self.yields {
            if self.ready.load(Ordering::Relaxed) || self.woken.load(Ordering::Relaxed) {
                break;
            }
            thread::yield_now();
        }
    }

    fn append(&self, state: &mut State, event: Event) {
        if state.closed.is_some() {
            return;
        }
        let cost = cost(&event);
        state.bytes += cost;
        if self.is_own(&event) {
            state.own_bytes += cost;
        }
        state.queue.push_back(event);
    }

    /// Tells of what was appended, and lets go of the lock.
    fn announce(&self, mut state: MutexGuard<'_, State>) -> Result<(), Overflow> {
        if !state.queue.is_empty() {
            self.raise(&mut state);
        }
        let overflow = state.bytes > BACKLOG_BYTES_MAX;
        drop(state);
        self.notify();
        if overflow { Err(Overflow) } else { Ok(()) }
    }

    /// Wakes who sleeps; no system call when nobody does.
    fn notify(&self) {
        if self.sleeping.load(Ordering::SeqCst) && self.sleeping.swap(false, Ordering::SeqCst) {
            self.awake.notify_all();
        }
    }

    /// There is something, or the end.
    fn raise(&self, state: &mut State) {
        self.ready.store(true, Ordering::Relaxed);
        if let Some(fd) = self.fd.get()
            && !state.signalled
        {
            // Cannot fail: the counter is at most one.
            state.signalled = rustix::io::write(fd, &1_u64.to_ne_bytes()).is_ok();
        }
    }

    /// There may be nothing left.
    fn lower(&self, state: &mut State) {
        if !state.queue.is_empty() || state.closed.is_some() {
            return;
        }
        self.ready.store(false, Ordering::Relaxed);
        if state.signalled {
            if let Some(fd) = self.fd.get() {
                let _ = rustix::io::read(fd, &mut [0; 8]);
            }
            state.signalled = false;
        }
    }

    fn is_own(&self, event: &Event) -> bool {
        matches!(event, Event::Deliver { sender, .. } if *sender == self.member)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Events on their way to a handler. What is not handed out when it is dropped goes back.
struct Batch<'a> {
    mailbox: &'a Mailbox,
    events: VecDeque<Event>,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let mut state = self.mailbox.lock();
        if self.events.is_empty() {
            if self.events.capacity() <= SPARE_EVENTS_MAX {
                state.spare = mem::take(&mut self.events);
            }
            return;
        }
        for event in &self.events {
            let cost = cost(event);
            state.bytes += cost;
            if self.mailbox.is_own(event) {
                state.own_bytes += cost;
                self.mailbox.own_bytes.fetch_add(cost, Ordering::Relaxed);
            }
        }
        self.events.append(&mut state.queue);
        mem::swap(&mut state.queue, &mut self.events);
        self.mailbox.raise(&mut state);
    }
}

/// What an event counts in bytes.
fn cost(event: &Event) -> usize {
    let content = match event {
        Event::Deliver { message, .. } => message.len(),
        Event::Configuration(change) => {
            size_of::<Member>() * (change.members.len() + change.joined.len() + change.left.len())
        }
        Event::Ring(ring) => size_of_val(ring.nodes.as_slice()),
    };
    content + EVENT_BYTES
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;
    use crate::{NodeId, Pid};

    const ME: Member = Member { node: NodeId(1), pid: Pid(7) };
    const OTHER: Member = Member { node: NodeId(2), pid: Pid(7) };

    fn message(sender: Member, length: usize) -> Event {
        Event::Deliver { sender, message: Bytes::from(vec![0; length]) }
    }

    fn is_readable(mailbox: &Mailbox) -> bool {
        let fd = mailbox.fd().unwrap();
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn what_is_queued_comes_before_the_error() {
        let mailbox = Mailbox::new(ME);
        mailbox.push(message(OTHER, 1)).unwrap();
        mailbox.close(Error::Library);
        mailbox.close(Error::BadHandle);
        mailbox.push(message(OTHER, 2)).unwrap();
        assert_eq!(mailbox.wait(None), Ok(true));
        assert_eq!(mailbox.pop(), Ok(Some(message(OTHER, 1))));
        assert_eq!(mailbox.wait(None), Err(Error::Library));
        assert_eq!(mailbox.pop(), Err(Error::Library));
        assert_eq!(mailbox.drain(&mut |_| ()), Err(Error::Library));
    }

    #[test]
    fn a_wake_is_kept_until_it_is_heard_once() {
        let mailbox = Mailbox::new(ME);
        mailbox.wake();
        mailbox.wake();
        assert_eq!(mailbox.wait(None), Ok(false));
        assert_eq!(mailbox.wait(Some(Duration::from_millis(1))), Ok(false));
        mailbox.push(message(OTHER, 1)).unwrap();
        mailbox.wake();
        assert_eq!(mailbox.wait(None), Ok(false), "heard under load as well");
        assert_eq!(mailbox.wait(None), Ok(true));
    }

    #[test]
    fn a_sleeper_hears_every_push_and_wake() {
        let mailbox = Mailbox::new(ME);
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                let (mut events, mut wakes) = (0, 0);
                while events < 1_000 || wakes == 0 {
                    if mailbox.wait(None).unwrap() {
                        events += mailbox.drain(&mut |_| ()).unwrap();
                    } else {
                        wakes += 1;
                    }
                }
                wakes
            });
            for _ in 0..1_000 {
                mailbox.push(message(OTHER, 1)).unwrap();
                thread::yield_now();
            }
            mailbox.wake();
            assert_eq!(sleeper.join().unwrap(), 1);
        });
    }

    #[test]
    fn readable_exactly_while_there_is_something() {
        let mailbox = Mailbox::new(ME);
        mailbox.push(message(OTHER, 1)).unwrap();
        assert!(is_readable(&mailbox), "what came before the first call counts");
        mailbox.push(message(OTHER, 2)).unwrap();
        mailbox.pop().unwrap();
        assert!(is_readable(&mailbox));
        mailbox.pop().unwrap();
        assert!(!is_readable(&mailbox));
        mailbox.push(message(OTHER, 3)).unwrap();
        assert!(is_readable(&mailbox));
        mailbox.drain(&mut |_| ()).unwrap();
        assert!(!is_readable(&mailbox));
        mailbox.close(Error::Library);
        assert!(is_readable(&mailbox));
    }

    #[test]
    fn own_messages_count_until_they_are_handed_out() {
        let mailbox = Mailbox::new(ME);
        let mut sent = 0;
        while mailbox.may_send() {
            mailbox.charge(0);
            mailbox.push(message(ME, 0)).unwrap();
            mailbox.push(message(OTHER, 0)).unwrap();
            sent += 1;
        }
        assert_eq!(sent, OWN_BYTES_MAX / EVENT_BYTES);
        mailbox.pop().unwrap();
        assert!(mailbox.may_send());
        mailbox.drain(&mut |_| ()).unwrap();
        assert_eq!(mailbox.own_bytes.load(Ordering::Relaxed), 0);
        assert_eq!(mailbox.lock().bytes, 0);
    }

    #[test]
    fn too_much_is_told() {
        let mailbox = Mailbox::new(ME);
        let big = message(OTHER, 1 << 20);
        let fit = BACKLOG_BYTES_MAX / ((1 << 20) + EVENT_BYTES);
        for _ in 0..fit {
            assert_eq!(mailbox.push(big.clone()), Ok(()));
        }
        assert_eq!(mailbox.push(big), Err(Overflow));
    }

    #[test]
    fn a_panic_of_the_handler_loses_only_its_own_event() {
        let mailbox = Mailbox::new(ME);
        for length in 0..3 {
            mailbox.charge(length);
            mailbox.push(message(ME, length)).unwrap();
        }
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            mailbox.drain(&mut |_| std::panic::resume_unwind(Box::new(())))
        }));
        assert!(panicked.is_err());
        mailbox.push(message(OTHER, 9)).unwrap();
        let mut rest = Vec::new();
        mailbox.drain(&mut |event| rest.push(event)).unwrap();
        assert_eq!(rest, [message(ME, 1), message(ME, 2), message(OTHER, 9)]);
        assert_eq!(mailbox.own_bytes.load(Ordering::Relaxed), 0);
    }
}
