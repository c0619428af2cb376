//! The transport of several hosts: the Corosync daemon of this host, through libcpg.
//!
//! # Behavior to know
//!
//! - The daemon decides which processes may connect: those of root, and of the users and groups
//!   named by a file in `/etc/corosync/uidgid.d`. Others get [`Error::Access`].
//! - [`Connection::multicast`] puts the message into shared memory. It is lost if this process or
//!   the daemon dies before the daemon has read it. Dropping the [`Connection`] first waits until
//!   the daemon has read everything.
//! - While a ring is forming, [`Connection::multicast`] either accepts the message, which may then
//!   be delivered seconds later in another configuration, or returns [`Error::TryAgain`]. All other
//!   requests, and closing, block until the daemon answers, without a limit.
//! - As on the embedded transport, messages of this member that were sent and not yet dispatched
//!   count against [`OWN_BYTES_MAX`]; above it, sending returns [`Error::TryAgain`]. Messages on
//!   their way and messages waiting to be dispatched count separately, so up to twice as many bytes
//!   can be outstanding. If none of the messages on their way is delivered for a second, they count
//!   as lost.
//! - A connection with more than [`BACKLOG_BYTES_MAX`](crate::embedded::BACKLOG_BYTES_MAX) of
//!   events not yet dispatched is closed.
//! - A group has at most 127 members; the next one gets [`Error::TooManyGroups`]. With more than
//!   128 the daemon writes past the end of its arrays without a check. This crate cannot prevent
//!   that when two parts of a ring that have more members together merge.
//! - The departure of a process can overtake messages that it sent before, and a member that no
//!   longer exists can stay listed. Never wait for an answer from all members without a limit.
//! - After the daemon has died, every call fails with [`Error::Library`]. Open a new connection and
//!   join as a new member; until the daemon runs again, that fails with [`Error::Library`] or
//!   [`Error::TryAgain`].
//! - After `fork` without `exec`, the child must not use a connection of its parent.

mod ffi;
mod raw;

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use self::ffi::{Dispatcher, Requests};
use crate::connection::Backend;
use crate::limits::OWN_BYTES_MAX;
use crate::mailbox::{Mailbox, Overflow};
use crate::{
    Configuration, Connection, Error, Event, GroupEntry, GroupName, Iteration, Member, Options,
    Pid, Quorum, Reason, Result,
};

/// Stack of the thread that dispatches. `cpg_dispatch` keeps a message of up to 1 MiB on the stack.
const STACK_BYTES: usize = 8 << 20;
/// Number of events taken from libcpg before they are passed to the mailbox. Small, so that a
/// waiter proceeds with the first event while the thread receives the rest.
const EVENTS_AT_ONCE: usize = 8;
/// Number of batches after which the thread checks whether it must stop.
const ROUNDS_MAX: usize = 32;
/// Maximum number of members for which a join is requested. The daemon and libcpg write past the
/// end of their arrays above 128; one less leaves room for another process that joins at the same
/// time.
const MEMBERS_MAX: usize = 127;
/// Time without a delivery after which messages on their way count as lost. They may merely be
/// delayed while a ring is forming, which does no harm: then as many bytes again may be sent.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// Time limit for an answer of the quorum service, which answers at once unless the daemon hangs.
const QUORUM_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens a connection to the daemon of this host.
pub(crate) fn connect(options: Options) -> Result<Connection> {
    let (mut requests, dispatcher) = ffi::open(options.initial_ring)?;
    let local = Member {
        node: requests.local_node()?,
        pid: Pid(rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()),
    };
    let message_bytes_max = requests.max_atomic_message_size()?;
    let mailbox = Arc::new(Mailbox::without_lingering(local));
    let requester =
        Requester { requests: Some(requests), phase: Phase::New, underway: Underway::default() };
    let requester = Arc::new(Mutex::new(requester));
    let delivered_bytes = Arc::new(AtomicUsize::new(0));
    let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|_| Error::NoResources)?;
    let event_thread = EventThread {
        dispatcher,
        finish: Finish { mailbox: Arc::clone(&mailbox), requester: Arc::clone(&requester) },
        delivered_bytes: Arc::clone(&delivered_bytes),
        stop: stop.try_clone().map_err(|_| Error::NoResources)?,
        local,
        has_left: false,
    };
    let thread = thread::Builder::new()
        .name("cpg-corosync".into())
        .stack_size(STACK_BYTES)
        .spawn(move || event_thread.run())
        .map_err(|_| Error::NoResources)?;
    let thread = Some(thread);
    Ok(Connection::new(Corosync {
        requester,
        delivered_bytes,
        mailbox,
        local,
        message_bytes_max,
        stop,
        thread,
    }))
}

/// A libcpg handle together with the thread that dispatches it.
struct Corosync {
    requester: Arc<Mutex<Requester>>,
    /// Total bytes of own messages that were delivered.
    delivered_bytes: Arc<AtomicUsize>,
    mailbox: Arc<Mailbox>,
    local: Member,
    message_bytes_max: usize,
    /// Readable once the thread must stop.
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

/// The state behind the requests to the daemon, which run one after the other.
struct Requester {
    /// `None` once the connection has ended.
    requests: Option<Requests>,
    phase: Phase,
    underway: Underway,
}

/// Own messages that the daemon accepted and that were not delivered yet. The daemon would queue
/// them without a limit for a member that sends faster than it receives.
#[derive(Default)]
struct Underway {
    /// Total bytes sent, without those that count as lost.
    sent_bytes: usize,
    /// While nothing may be sent: the delivered bytes when this began or last changed, and the
    /// time.
    stalled: Option<(usize, Instant)>,
}

impl Underway {
    /// Returns true if this member may send more, and false if [`Error::TryAgain`] is due.
    fn may_grow(&mut self, delivered_bytes: usize, now: Instant) -> bool {
        // More is delivered than was sent if this process has another handle in the group.
        self.sent_bytes = self.sent_bytes.max(delivered_bytes);
        let is_stalled = self.sent_bytes - delivered_bytes >= OWN_BYTES_MAX;
        let since = self.stalled.filter(|(then, _)| is_stalled && *then == delivered_bytes);
        self.stalled = is_stalled.then(|| since.unwrap_or((delivered_bytes, now)));
        let is_lost =
            since.is_some_and(|(_, then)| now.saturating_duration_since(then) >= LOST_AFTER);
        if is_lost {
            (self.sent_bytes, self.stalled) = (delivered_bytes, None);
        }
        !is_stalled || is_lost
    }
}

/// Phase of a handle, which serves one membership. After `cpg_leave`, libcpg keeps delivering the
/// group's events, silently discards what is sent, and spins forever if it joins another group; so
/// this crate makes none of these calls.
enum Phase {
    New,
    In(GroupName),
    Left,
}

impl Corosync {
    fn requester(&self) -> MutexGuard<'_, Requester> {
        self.requester.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Requester {
    /// Returns the parts of an open connection.
    fn open(&mut self) -> Result<(&mut Requests, &mut Phase, &mut Underway)> {
        let requests = self.requests.as_mut().ok_or(Error::Library)?;
        Ok((requests, &mut self.phase, &mut self.underway))
    }
}

impl Backend for Corosync {
    fn join(&self, group: &GroupName) -> Result<()> {
        let mut requester = self.requester();
        let (requests, phase, _) = requester.open()?;
        match phase {
            Phase::New => {}
            Phase::In(_) => return Err(Error::Exist),
            Phase::Left => return Err(Error::BadHandle),
        }
        if requests.members(group)?.len() >= MEMBERS_MAX {
            return Err(Error::TooManyGroups);
        }
        requests.join(group)?;
        *phase = Phase::In(group.clone());
        Ok(())
    }

    fn leave(&self) -> Result<()> {
        let mut requester = self.requester();
        let (requests, phase, _) = requester.open()?;
        let Phase::In(group) = phase else { return Err(Error::NotExist) };
        requests.leave(group)?;
        *phase = Phase::Left;
        Ok(())
    }

    fn multicast(&self, message: &[IoSlice<'_>]) -> Result<()> {
        let mut requester = self.requester();
        let (requests, phase, underway) = requester.open()?;
        // libcpg would return `CS_OK` to a process that is not a member, and discard the message.
        if !matches!(phase, Phase::In(_)) {
            return Err(Error::NotExist);
        }
        let delivered_bytes = self.delivered_bytes.load(Ordering::Relaxed);
        if !self.mailbox.may_send() || !underway.may_grow(delivered_bytes, Instant::now()) {
            return Err(Error::TryAgain);
        }
        requests.multicast(message)?;
        underway.sent_bytes += message.iter().map(|part| part.len()).sum::<usize>();
        Ok(())
    }

    fn local(&self) -> Member {
        self.local
    }

    fn members(&self, group: &GroupName) -> Result<Vec<Member>> {
        self.requester().open()?.0.members(group)
    }

    fn groups(&self, iteration: &Iteration) -> Result<Vec<GroupEntry>> {
        self.requester().open()?.0.groups(iteration)
    }

    fn quorum(&self) -> Result<Quorum> {
        let deadline = Instant::now() + QUORUM_TIMEOUT;
        ffi::quorum(|fd| {
            let left = deadline.saturating_duration_since(Instant::now());
            match readable([fd], Some(left))? {
                [true] => Ok(()),
                [false] => Err(Error::Timeout),
            }
        })
    }

    fn max_atomic_message_size(&self) -> usize {
        self.message_bytes_max
    }

    fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }
}

impl Drop for Corosync {
    /// Stops the thread, which then closes the handle. (Closing the handle first would not wake a
    /// thread that waits for it.)
    fn drop(&mut self) {
        // Cannot fail: the counter is far from its maximum.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // A panic was already reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// The thread that receives events from the daemon. It never waits for a handler, so a slow handler
/// does not fill the daemon's memory: the events go to the mailbox, which has a limit.
struct EventThread {
    /// Dropped before `finish`.
    dispatcher: Dispatcher,
    finish: Finish,
    delivered_bytes: Arc<AtomicUsize>,
    stop: OwnedFd,
    local: Member,
    has_left: bool,
}

/// Runs when the thread ends, for any reason: closes the handle, so that the daemon stops queueing
/// events for it and the group sees this member leave, and then closes the mailbox.
struct Finish {
    mailbox: Arc<Mailbox>,
    requester: Arc<Mutex<Requester>>,
}

impl Drop for Finish {
    fn drop(&mut self) {
        // Waits for a request in progress. The dispatcher is gone already, so this closes the
        // handle.
        self.requester.lock().unwrap_or_else(PoisonError::into_inner).requests = None;
        // Last, so that a caller that sees the end finds that every request fails.
        self.mailbox.close(Error::Library);
    }
}

impl EventThread {
    fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS_AT_ONCE);
        for round in 1.. {
            let dispatched = self.dispatcher.dispatch(&mut events, EVENTS_AT_ONCE);
            if self.forward(&mut events).is_err() {
                tracing::warn!(
                    member = %self.local,
                    "closing a connection that did not dispatch its events"
                );
                return;
            }
            let keep_running = match dispatched {
                Ok(true) if round % ROUNDS_MAX != 0 => continue,
                dispatched => dispatched.and_then(|may_be_more| self.keep_running(may_be_more)),
            };
            match keep_running {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::debug!(member = %self.local, %error, "a connection has ended");
                    return;
                }
            }
        }
    }

    /// Passes events to the mailbox, up to the departure of this member: libcpg keeps delivering
    /// the group's events after it.
    fn forward(&mut self, events: &mut Vec<Event>) -> Result<(), Overflow> {
        if events.is_empty() {
            return Ok(());
        }
        let (local, mailbox) = (self.local, &self.finish.mailbox);
        let dispatched = events.drain(..).take_while(|event| {
            let had_left = self.has_left;
            match event {
                Event::Deliver { sender, message } if *sender == local => {
                    mailbox.charge(message.len());
                    self.delivered_bytes.fetch_add(message.len(), Ordering::Relaxed);
                }
                Event::Configuration(change) => self.has_left |= is_leave_of(local, change),
                _ => {}
            }
            !had_left
        });
        mailbox.push_all(dispatched)
    }

    /// Waits until there may be events. Returns false if the thread must stop.
    fn keep_running(&self, may_be_more: bool) -> Result<bool> {
        let timeout = may_be_more.then_some(Duration::ZERO);
        let [is_stopped, _] = readable([self.stop.as_fd(), self.dispatcher.fd()?], timeout)?;
        Ok(!is_stopped)
    }
}

fn is_leave_of(member: Member, change: &Configuration) -> bool {
    change.left.iter().any(|change| change.member == member && change.reason == Reason::Leave)
}

/// Waits until one of the descriptors is readable or the timeout has passed. Returns which are
/// readable.
fn readable<const COUNT: usize>(
    fds: [BorrowedFd<'_>; COUNT],
    timeout: Option<Duration>,
) -> Result<[bool; COUNT]> {
    let mut fds = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    loop {
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Err(Error::NoResources),
        }
    }
    let fds = fds.map(|fd| fd.revents());
    // libcpg would treat a closed descriptor as one without events.
    if fds.iter().any(|events| events.contains(PollFlags::NVAL)) {
        return Err(Error::Library);
    }
    Ok(fds.map(|events| !events.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sending_is_limited_until_undelivered_messages_count_as_lost() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut underway = Underway::default();
        assert!(underway.may_grow(0, at(0)));
        underway.sent_bytes += OWN_BYTES_MAX;
        assert!(!underway.may_grow(0, at(5_000)), "the second begins with the first rejection");
        assert!(!underway.may_grow(0, at(5_999)));
        assert!(underway.may_grow(0, at(6_000)), "nothing was delivered for a second");

        underway.sent_bytes += OWN_BYTES_MAX + 1;
        assert!(!underway.may_grow(0, at(6_000)));
        assert!(!underway.may_grow(1, at(6_900)), "something was delivered, but not enough");
        assert!(!underway.may_grow(1, at(7_500)), "so the second began again");
        assert!(underway.may_grow(2, at(7_500)));
    }

    #[test]
    fn messages_of_other_handles_of_the_process_do_not_count() {
        let now = Instant::now();
        let mut underway = Underway::default();
        assert!(underway.may_grow(10 * OWN_BYTES_MAX, now));
        underway.sent_bytes += OWN_BYTES_MAX;
        assert!(
            !underway.may_grow(10 * OWN_BYTES_MAX, now),
            "other handles' messages do not raise the limit"
        );
    }
}
