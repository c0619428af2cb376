//! The transport of several hosts: this host's Corosync daemon, by libcpg.
//!
//! # What to know
//!
//! - The daemon decides who may connect: root, and the users and groups that a file in
//!   `/etc/corosync/uidgid.d` names. Others get [`Error::Access`].
//! - A message is taken over into shared memory, and is lost if this process or the daemon
//!   dies before the daemon has read it. Dropping the [`Connection`] in order hands over
//!   everything first.
//! - While the ring is being formed, [`Connection::multicast`] may be taken over and
//!   ordered seconds later, in another configuration, or answer [`Error::TryAgain`]. All
//!   other calls, and closing, wait for the daemon, as long as it takes.
//! - Messages of this member that were sent and not yet dispatched count against
//!   [`OWN_BYTES_MAX`], as with the embedded transport: above it, sending answers
//!   [`Error::TryAgain`]. What is on its way and what waits to be dispatched count each for
//!   itself, so that twice as much can be under way; and where nothing of it is heard for a
//!   second, what is on its way counts as lost. Above
//!   [`BACKLOG_BYTES_MAX`](crate::embedded::BACKLOG_BYTES_MAX) of events not dispatched
//!   the connection is cut off.
//! - A group has 127 members at most: [`Error::TooManyGroups`]. With more the daemon would
//!   write beyond its arrays, and it does not check; neither can this crate when two
//!   parts of a ring with so many between them merge.
//! - A departure can overtake messages sent before it, and members can be listed that will
//!   never answer: wait for none of them without a limit.
//! - When the daemon dies, every call fails with [`Error::Library`]: open a new connection
//!   and join again, as a new member. Until the daemon is back that fails with
//!   [`Error::Library`] or [`Error::TryAgain`].
//! - A child after `fork` without `exec` must not use a connection of its parent.

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

/// libcpg keeps a message of up to a megabyte on the stack of whoever dispatches.
const STACK_BYTES: usize = 8 << 20;
/// Events taken before they are handed on, so that who waits for the first goes on while the
/// rest is heard.
const EVENTS_AT_ONCE: usize = 8;
/// Times that events are handed on before the thread looks whether it is to stop.
const ROUNDS_MAX: usize = 32;
/// The daemon and libcpg write beyond their arrays with more than 128 members. One less, as
/// two may join at the same time.
const MEMBERS_MAX: usize = 127;
/// While a ring is formed, what was sent is on its way this long and longer. To take it for
/// lost does no harm: as much again may be sent.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// The quorum service answers at once, unless the daemon hangs.
const QUORUM_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens a connection to this host's daemon.
pub(crate) fn connect(options: Options) -> Result<Connection> {
    let (mut requests, dispatcher) = ffi::open(options.initial_ring)?;
    let local = Member {
        node: requests.local_node()?,
        pid: Pid(rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()),
    };
    let message_bytes_max = requests.max_atomic_message_size()?;
    let mailbox = Arc::new(Mailbox::without_lingering(local));
    let asking =
        Asking { requests: Some(requests), phase: Phase::New, underway: Underway::default() };
    let asking = Arc::new(Mutex::new(asking));
    let heard_bytes = Arc::new(AtomicUsize::new(0));
    let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|_| Error::NoResources)?;
    let hearing = Hearing {
        dispatcher,
        last: Last { mailbox: Arc::clone(&mailbox), asking: Arc::clone(&asking) },
        heard_bytes: Arc::clone(&heard_bytes),
        stop: stop.try_clone().map_err(|_| Error::NoResources)?,
        local,
        has_left: false,
    };
    let thread = thread::Builder::new()
        .name("cpg-corosync".into())
        .stack_size(STACK_BYTES)
        .spawn(move || hearing.run())
        .map_err(|_| Error::NoResources)?;
    let thread = Some(thread);
    Ok(Connection::new(Corosync {
        asking,
        heard_bytes,
        mailbox,
        local,
        message_bytes_max,
        stop,
        thread,
    }))
}

/// One handle on the daemon.
struct Corosync {
    asking: Arc<Mutex<Asking>>,
    /// Of own messages, ever.
    heard_bytes: Arc<AtomicUsize>,
    mailbox: Arc<Mailbox>,
    local: Member,
    message_bytes_max: usize,
    /// Readable once the thread is to stop.
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

/// What asks the daemon, one request after the other.
struct Asking {
    /// None once the connection has ended.
    requests: Option<Requests>,
    phase: Phase,
    underway: Underway,
}

/// Own messages that the daemon took over and that were not heard yet. The daemon would
/// collect them without a limit for who sends faster than it hears.
#[derive(Default)]
struct Underway {
    /// Ever, without what counts as lost.
    sent_bytes: usize,
    /// While no more may be sent: what was heard last, and when.
    stalled: Option<(usize, Instant)>,
}

impl Underway {
    /// Whether more may be sent, or [`Error::TryAgain`] is due.
    fn may_grow(&mut self, heard_bytes: usize, now: Instant) -> bool {
        // More is heard than was sent where this process has another handle in the group.
        self.sent_bytes = self.sent_bytes.max(heard_bytes);
        let is_stalled = self.sent_bytes - heard_bytes >= OWN_BYTES_MAX;
        let since = self.stalled.filter(|(then, _)| is_stalled && *then == heard_bytes);
        self.stalled = is_stalled.then(|| since.unwrap_or((heard_bytes, now)));
        let is_lost =
            since.is_some_and(|(_, then)| now.saturating_duration_since(then) >= LOST_AFTER);
        if is_lost {
            (self.sent_bytes, self.stalled) = (heard_bytes, None);
        }
        !is_stalled || is_lost
    }
}

/// A handle serves one membership. After `cpg_leave` the library leaves it in a state in
/// which it still hears the group, drops what is sent without a word, and spins for ever
/// when it joins another group; so none of that is asked of it.
enum Phase {
    New,
    In(GroupName),
    Left,
}

impl Corosync {
    fn ask(&self) -> MutexGuard<'_, Asking> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asking {
    /// The way to the daemon, what it may be used for, and what is on its way.
    fn open(&mut self) -> Result<(&mut Requests, &mut Phase, &mut Underway)> {
        let requests = self.requests.as_mut().ok_or(Error::Library)?;
        Ok((requests, &mut self.phase, &mut self.underway))
    }
}

impl Backend for Corosync {
    fn join(&self, group: &GroupName) -> Result<()> {
        let mut asking = self.ask();
        let (requests, phase, _) = asking.open()?;
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
        let mut asking = self.ask();
        let (requests, phase, _) = asking.open()?;
        let Phase::In(group) = phase else { return Err(Error::NotExist) };
        requests.leave(group)?;
        *phase = Phase::Left;
        Ok(())
    }

    fn multicast(&self, message: &[IoSlice<'_>]) -> Result<()> {
        let mut asking = self.ask();
        let (requests, phase, underway) = asking.open()?;
        // libcpg says `CS_OK` to who is no member, and drops the message.
        if !matches!(phase, Phase::In(_)) {
            return Err(Error::NotExist);
        }
        let heard_bytes = self.heard_bytes.load(Ordering::Relaxed);
        if !self.mailbox.may_send() || !underway.may_grow(heard_bytes, Instant::now()) {
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
        self.ask().open()?.0.members(group)
    }

    fn groups(&self, iteration: &Iteration) -> Result<Vec<GroupEntry>> {
        self.ask().open()?.0.groups(iteration)
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
    /// Stops the thread, which closes the handle: to close it does not wake who waits for it.
    fn drop(&mut self) {
        // Cannot fail: the counter is far from its end.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// The thread that hears the daemon. It never waits for a handler, so a slow one does not
/// fill the daemon's memory: what it does not take goes to the mailbox, which has a limit.
struct Hearing {
    /// Dropped before `last`.
    dispatcher: Dispatcher,
    last: Last,
    heard_bytes: Arc<AtomicUsize>,
    stop: OwnedFd,
    local: Member,
    has_left: bool,
}

/// What is done when the thread ends, for whatever reason: the connection is closed, so that
/// the daemon does not collect events for it, and the group hears of it.
struct Last {
    mailbox: Arc<Mailbox>,
    asking: Arc<Mutex<Asking>>,
}

impl Drop for Last {
    fn drop(&mut self) {
        // Waits for a request under way. The handle is closed with its last half, this one.
        self.asking.lock().unwrap_or_else(PoisonError::into_inner).requests = None;
        // Who hears of the end finds that nothing can be asked any more.
        self.mailbox.close(Error::Library);
    }
}

impl Hearing {
    fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS_AT_ONCE);
        for round in 1.. {
            let heard = self.dispatcher.dispatch(&mut events, EVENTS_AT_ONCE);
            if self.hand_on(&mut events).is_err() {
                tracing::warn!(
                    member = %self.local,
                    "a connection did not dispatch its events and is cut off"
                );
                return;
            }
            let goes_on = match heard {
                Ok(true) if round % ROUNDS_MAX != 0 => continue,
                heard => heard.and_then(|may_be_more| self.goes_on(may_be_more)),
            };
            match goes_on {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::debug!(member = %self.local, %error, "a connection has ended");
                    return;
                }
            }
        }
    }

    /// Hands events to the mailbox, up to the own departure: the library goes on hearing the
    /// group after it.
    fn hand_on(&mut self, events: &mut Vec<Event>) -> Result<(), Overflow> {
        if events.is_empty() {
            return Ok(());
        }
        let (local, mailbox) = (self.local, &self.last.mailbox);
        let heard = events.drain(..).take_while(|event| {
            let had_left = self.has_left;
            match event {
                Event::Deliver { sender, message } if *sender == local => {
                    mailbox.charge(message.len());
                    self.heard_bytes.fetch_add(message.len(), Ordering::Relaxed);
                }
                Event::Configuration(change) => self.has_left |= is_leave_of(local, change),
                _ => {}
            }
            !had_left
        });
        mailbox.push_all(heard)
    }

    /// Waits until there is something to hear, unless there may be already; `false` when it
    /// is time to stop.
    fn goes_on(&self, may_be_more: bool) -> Result<bool> {
        let timeout = may_be_more.then_some(Duration::ZERO);
        let [is_stopped, _] = readable([self.stop.as_fd(), self.dispatcher.fd()?], timeout)?;
        Ok(!is_stopped)
    }
}

fn is_leave_of(member: Member, change: &Configuration) -> bool {
    change.left.iter().any(|gone| gone.member == member && gone.reason == Reason::Leave)
}

/// Waits until one of these is readable, or the time is over, and says which are.
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
    // libcpg takes a descriptor that is not open for one without events.
    if fds.iter().any(|events| events.contains(PollFlags::NVAL)) {
        return Err(Error::Library);
    }
    Ok(fds.map(|events| !events.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_has_a_limit_until_it_counts_as_lost() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut underway = Underway::default();
        assert!(underway.may_grow(0, at(0)));
        underway.sent_bytes += OWN_BYTES_MAX;
        assert!(!underway.may_grow(0, at(5_000)), "a second counts from the first refusal");
        assert!(!underway.may_grow(0, at(5_999)));
        assert!(underway.may_grow(0, at(6_000)), "nothing was heard for a second");

        underway.sent_bytes += OWN_BYTES_MAX + 1;
        assert!(!underway.may_grow(0, at(6_000)));
        assert!(!underway.may_grow(1, at(6_900)), "something was heard, and not enough");
        assert!(!underway.may_grow(1, at(7_500)), "so the second begins again");
        assert!(underway.may_grow(2, at(7_500)));
    }

    #[test]
    fn what_others_of_this_process_send_does_not_count() {
        let now = Instant::now();
        let mut underway = Underway::default();
        assert!(underway.may_grow(10 * OWN_BYTES_MAX, now));
        underway.sent_bytes += OWN_BYTES_MAX;
        assert!(!underway.may_grow(10 * OWN_BYTES_MAX, now), "no room was gained by it");
    }
}
