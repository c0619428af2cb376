//! The engine of several hosts: this host's Corosync daemon, by libcpg.
//!
//! # What to know
//!
//! - The daemon decides who may connect: root, and the users that a file in
//!   `/etc/corosync/uidgid.d` names. Others get [`Error::Access`].
//! - A message is taken over into shared memory, and is lost if this process or the daemon
//!   dies before the daemon has read it. Dropping the [`Connection`] in order hands over
//!   everything first.
//! - While the ring is being formed, [`Connection::multicast`] may be taken over and
//!   ordered seconds later, in another configuration, or answer [`Error::TryAgain`].
//! - A departure can overtake messages sent before it, and members can be listed that will
//!   never answer: wait for none of them without a limit.
//! - When the daemon dies, every call fails with [`Error::Library`]: open a new connection
//!   and join again, as a new member.

mod ffi;

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use self::ffi::{Dispatcher, Requests};
use crate::connection::Backend;
use crate::mailbox::Mailbox;
use crate::{
    Connection, Error, Event, GroupEntry, GroupName, Iteration, Member, NodeId, Options, Pid,
    Quorum, Reason, Result,
};

/// libcpg keeps a message of up to a megabyte on the stack of whoever dispatches.
const STACK_BYTES: usize = 8 << 20;
/// Events taken before they are handed on, so that the first does not wait for the last.
const EVENTS_AT_ONCE: usize = 256;
/// The daemon and libcpg write beyond their arrays with 128 members or more.
const MEMBERS_MAX: usize = 127;
/// The quorum service answers at once, unless the daemon hangs.
const QUORUM_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens a connection to this host's daemon.
pub(crate) fn connect(options: Options) -> Result<Connection> {
    let (requests, dispatcher) = ffi::open(options.initial_ring)?;
    let local = Member {
        node: requests.local_node()?,
        pid: Pid(rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()),
    };
    let message_bytes_max = requests.max_atomic_message_size()?;
    // The mailbox counts nobody's messages as its own: that is the embedded engine's way of
    // back-pressure, and Corosync has another.
    let mailbox = Arc::new(Mailbox::new(Member { node: NodeId(0), pid: Pid(0) }));
    let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|_| Error::NoResources)?;
    let hearing = Hearing {
        dispatcher,
        mailbox: Arc::clone(&mailbox),
        stop: stop.try_clone().map_err(|_| Error::NoResources)?,
        local,
    };
    let thread = thread::Builder::new()
        .name("cpg-corosync".into())
        .stack_size(STACK_BYTES)
        .spawn(move || hearing.run())
        .map_err(|_| Error::NoResources)?;
    let phase = Mutex::new(Phase::New);
    let thread = Some(thread);
    Ok(Connection::new(Corosync {
        requests,
        mailbox,
        local,
        message_bytes_max,
        phase,
        stop,
        thread,
    }))
}

/// One handle on the daemon.
struct Corosync {
    requests: Requests,
    mailbox: Arc<Mailbox>,
    local: Member,
    message_bytes_max: usize,
    phase: Mutex<Phase>,
    /// Readable once the thread is to stop.
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
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
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Corosync {
    fn join(&self, group: &GroupName) -> Result<()> {
        let mut phase = self.phase();
        match *phase {
            Phase::New => {}
            Phase::In(_) => return Err(Error::Exist),
            Phase::Left => return Err(Error::BadHandle),
        }
        if self.requests.members(group)?.len() >= MEMBERS_MAX {
            return Err(Error::TooManyGroups);
        }
        self.requests.join(group)?;
        *phase = Phase::In(group.clone());
        Ok(())
    }

    fn leave(&self) -> Result<()> {
        let mut phase = self.phase();
        let Phase::In(group) = &*phase else { return Err(Error::NotExist) };
        self.requests.leave(group)?;
        *phase = Phase::Left;
        Ok(())
    }

    fn multicast(&self, message: &[IoSlice<'_>]) -> Result<()> {
        // libcpg says `CS_OK` to who is no member, and drops the message.
        if !matches!(*self.phase(), Phase::In(_)) {
            return Err(Error::NotExist);
        }
        self.requests.multicast(message)
    }

    fn local(&self) -> Member {
        self.local
    }

    fn members(&self, group: &GroupName) -> Result<Vec<Member>> {
        self.requests.members(group)
    }

    fn groups(&self, iteration: &Iteration) -> Result<Vec<GroupEntry>> {
        self.requests.groups(iteration)
    }

    fn quorum(&self) -> Result<Quorum> {
        ffi::quorum(|fd| match wait_readable(&[fd], Some(QUORUM_TIMEOUT))? {
            true => Ok(()),
            false => Err(Error::Timeout),
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
    /// Stops the thread first: closing a handle does not wake who waits for it.
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
    dispatcher: Dispatcher,
    mailbox: Arc<Mailbox>,
    stop: OwnedFd,
    local: Member,
}

impl Hearing {
    fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS_AT_ONCE);
        let mut left = false;
        loop {
            match self.wait() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.mailbox.close(error),
            }
            let taken = self.take(&mut events);
            // The library goes on hearing the group after its own departure.
            let heard = events.drain(..).take_while(|event| {
                let last = left;
                left |= self.is_own_leave(event);
                !last
            });
            if self.mailbox.push_all(heard).is_err() {
                tracing::warn!(
                    member = %self.local,
                    "a connection did not dispatch its events and is cut off"
                );
                return self.mailbox.close(Error::Library);
            }
            if let Err(error) = taken {
                return self.mailbox.close(error);
            }
        }
    }

    /// Waits for an event; `false` when it is time to stop.
    fn wait(&self) -> Result<bool> {
        let fd = self.dispatcher.fd()?;
        wait_readable(&[fd, self.stop.as_fd()], None)?;
        Ok(!wait_readable(&[self.stop.as_fd()], Some(Duration::ZERO))?)
    }

    fn take(&mut self, events: &mut Vec<Event>) -> Result<()> {
        while events.len() < EVENTS_AT_ONCE && self.dispatcher.dispatch(events)? {}
        Ok(())
    }

    fn is_own_leave(&self, event: &Event) -> bool {
        let Event::Configuration(change) = event else { return false };
        change.left.iter().any(|gone| gone.member == self.local && gone.reason == Reason::Leave)
    }
}

/// Waits until one of these is readable; `false` when the time is over.
fn wait_readable(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> Result<bool> {
    let mut fds: Vec<_> =
        fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    loop {
        match poll(&mut fds, timeout.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Err(Error::NoResources),
        }
    }
}
