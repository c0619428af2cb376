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

/// Maximum capacity, in events, that an emptied queue keeps, so that a burst does not hold its
/// memory forever.
const SPARE_EVENTS_MAX: usize = 64 * 1024;

/// Number of times that a waiter yields the processor before it sleeps.
///
/// Sleeping and waking cost both sides more than passing a message. A waiter that yields for a few
/// microseconds often finds several messages at once. A transport that takes much longer than that
/// sets 0.
const YIELDS: u32 = 20;

/// Queue of the events that a connection has received and not yet dispatched.
///
/// The transport pushes events in order; the connection pops, drains and waits. No method waits for
/// a handler, so a slow member never blocks the transport.
pub(crate) struct Mailbox {
    /// Owner of this mailbox. Its own messages are counted separately.
    member: Member,
    yields: u32,
    state: Mutex<State>,
    awake: Condvar,
    /// Set while a thread waits on `awake` and has not been notified.
    sleeping: AtomicBool,
    /// Set while events are queued or the mailbox is closed. Read without the lock.
    ready: AtomicBool,
    /// Set by `wake`, cleared by the `wait` that returns because of it.
    woken: AtomicBool,
    /// Bytes of own messages sent and not yet dispatched.
    own_bytes: AtomicUsize,
    /// Created by the first call of `fd`. Without one, no system call is made for it.
    fd: OnceLock<OwnedFd>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Event>,
    /// An emptied queue, kept for its capacity.
    spare: VecDeque<Event>,
    /// The sum of `cost` over `queue`, and over the own messages in it.
    bytes: usize,
    own_bytes: usize,
    closed: Option<Error>,
    /// Set while the descriptor is readable.
    signalled: bool,
}

/// The mailbox holds more than [`BACKLOG_BYTES_MAX`]: the transport must close its connection.
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

    /// Creates a mailbox whose waiters sleep at once, for a transport that takes longer than a few
    /// yields.
    #[cfg(feature = "corosync")]
    pub(crate) fn without_lingering(member: Member) -> Self {
        Self { yields: 0, ..Self::new(member) }
    }

    /// Returns the owner of this mailbox.
    pub(crate) fn member(&self) -> Member {
        self.member
    }

    /// Counts an own message of `length` bytes that is about to be sent. Its dispatch subtracts it
    /// again.
    pub(crate) fn charge(&self, length: usize) {
        self.own_bytes.fetch_add(length + EVENT_BYTES, Ordering::Relaxed);
    }

    /// Returns true if this member may send, and false if [`Error::TryAgain`] is due.
    pub(crate) fn may_send(&self) -> bool {
        self.own_bytes.load(Ordering::Relaxed) < OWN_BYTES_MAX
    }

    /// Appends an event. Has no effect once the mailbox is closed.
    pub(crate) fn push(&self, event: Event) -> Result<(), Overflow> {
        let mut state = self.lock();
        self.append(&mut state, event);
        self.announce(state)
    }

    /// Appends events under one lock. Has no effect once the mailbox is closed.
    pub(crate) fn push_all(&self, events: impl IntoIterator<Item = Event>) -> Result<(), Overflow> {
        let mut state = self.lock();
        for event in events {
            self.append(&mut state, event);
        }
        self.announce(state)
    }

    /// Ends the stream of events. The queued events are still delivered; every later call returns
    /// `error`. If called repeatedly, the first error stays.
    pub(crate) fn close(&self, error: Error) {
        let mut state = self.lock();
        state.closed.get_or_insert(error);
        self.raise(&mut state);
        drop(state);
        self.notify();
    }

    /// Removes and returns the oldest event.
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

    /// Passes all events that are queued now to `handler`, outside the lock. If the handler panics,
    /// the events after the one that it was handling go back to the front of the queue.
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

    /// Waits for an event. Returns true if one is queued, and false after the timeout or a `wake`.
    /// A `wake` takes precedence over queued events, so that it ends a wait under load as well.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        // A timeout that the clock cannot represent is no timeout.
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
            // Set before `woken` is read again, because `wake` accesses the two in the
            // opposite order: at least one side sees the other's write.
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

    /// Makes the current `wait` return false, or else the next one.
    pub(crate) fn wake(&self) {
        if !self.woken.swap(true, Ordering::SeqCst) && self.sleeping.load(Ordering::SeqCst) {
            // A waiter holds the lock between reading `woken` and going to sleep.
            drop(self.lock());
            self.notify();
        }
    }

    /// Returns the descriptor, which is readable while events are queued and once the mailbox is
    /// closed.
    pub(crate) fn fd(&self) -> Result<BorrowedFd<'_>> {
        if self.fd.get().is_none() {
            let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(|_| Error::NoResources)?;
            // If another thread was faster, its descriptor is used.
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

    /// Signals that events were appended, and releases the lock.
    fn announce(&self, mut state: MutexGuard<'_, State>) -> Result<(), Overflow> {
        if !state.queue.is_empty() {
            self.raise(&mut state);
        }
        let overflow = state.bytes > BACKLOG_BYTES_MAX;
        drop(state);
        self.notify();
        if overflow { Err(Overflow) } else { Ok(()) }
    }

    /// Wakes a sleeping thread. Makes no system call if no thread sleeps.
    fn notify(&self) {
        if self.sleeping.load(Ordering::SeqCst) && self.sleeping.swap(false, Ordering::SeqCst) {
            self.awake.notify_all();
        }
    }

    /// Makes the mailbox ready: events are queued, or it is closed.
    fn raise(&self, state: &mut State) {
        self.ready.store(true, Ordering::Relaxed);
        if let Some(fd) = self.fd.get()
            && !state.signalled
        {
            // Cannot fail: the counter never exceeds one.
            state.signalled = rustix::io::write(fd, &1_u64.to_ne_bytes()).is_ok();
        }
    }

    /// Makes the mailbox not ready if no event is queued and it is open.
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

/// Events that are being passed to a handler. Dropping it puts the remaining ones back.
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

/// Returns the number of bytes that an event counts.
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
    fn queued_events_are_delivered_before_the_error() {
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
    fn a_wake_ends_exactly_one_wait() {
        let mailbox = Mailbox::new(ME);
        mailbox.wake();
        mailbox.wake();
        assert_eq!(mailbox.wait(None), Ok(false));
        assert_eq!(mailbox.wait(Some(Duration::from_millis(1))), Ok(false));
        mailbox.push(message(OTHER, 1)).unwrap();
        mailbox.wake();
        assert_eq!(mailbox.wait(None), Ok(false), "a wake ends a wait under load as well");
        assert_eq!(mailbox.wait(None), Ok(true));
    }

    #[test]
    fn a_sleeping_thread_wakes_for_every_push_and_wake() {
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
    fn the_descriptor_is_readable_exactly_while_the_mailbox_is_ready() {
        let mailbox = Mailbox::new(ME);
        mailbox.push(message(OTHER, 1)).unwrap();
        assert!(is_readable(&mailbox), "events queued before the first call count");
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
    fn own_messages_count_until_they_are_dispatched() {
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
    fn a_push_beyond_the_limit_reports_an_overflow() {
        let mailbox = Mailbox::new(ME);
        let big = message(OTHER, 1 << 20);
        let fit = BACKLOG_BYTES_MAX / ((1 << 20) + EVENT_BYTES);
        for _ in 0..fit {
            assert_eq!(mailbox.push(big.clone()), Ok(()));
        }
        assert_eq!(mailbox.push(big), Err(Overflow));
    }

    #[test]
    fn a_panicking_handler_loses_only_its_own_event() {
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
