use std::any::Any;
use std::fmt;
use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::mailbox::Mailbox;
use crate::{Error, Event, GroupName, Member, NodeId, Result, RingId};

/// Delivery order requested for a message (`cpg_guarantee_t`, `cpg_mcast_joined(3)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guarantee {
    /// No order. No transport offers it: [`Error::NotSupported`].
    Unordered,
    /// Messages of one sender in the order in which they were sent. Treated as
    /// [`Guarantee::Agreed`].
    Fifo,
    /// The same order at all members, which includes the order of each sender. A member may receive
    /// a message that no other member ever receives.
    Agreed,
    /// Agreed order, and delivery only after all members have received the message. No transport
    /// offers it: [`Error::NotSupported`]. (libcpg accepts the request with `CS_OK` and delivers in
    /// agreed order.)
    Safe,
}

/// Number of events that a [`Connection::dispatch`] delivers, and whether it blocks
/// (`cs_dispatch_flags_t`, `cpg_dispatch(3)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dispatch {
    /// Waits for one event.
    One,
    /// Delivers all events that are queued when the call starts, or none. Events that arrive during
    /// the call stay queued for the next one, so a busy group does not keep the call from
    /// returning.
    All,
    /// Delivers events until an error occurs or [`Connection::wake`] is called.
    Blocking,
    /// Delivers one event, or returns [`Error::TryAgain`] if none is queued.
    OneNonblocking,
}

/// Options of a new connection (`cpg_model_initialize(3)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Set to receive the current ring as an [`Event::Ring`] once, right after the configuration in
    /// which this connection joined its group (`CPG_MODEL_V1_DELIVER_INITIAL_TOTEM_CONF`).
    pub initial_ring: bool,
}

/// Selection of rows for [`Connection::groups`] (`cpg_iteration_type_t`,
/// `cpg_iteration_initialize(3)`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Iteration {
    /// The names of all groups, each once.
    NamesOnly,
    /// The members of one group. No rows if the group has no members.
    OneGroup(GroupName),
    /// The members of all groups.
    All,
}

/// A row returned by [`Connection::groups`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEntry {
    /// Name of the group.
    pub group: GroupName,
    /// A member of the group; `None` for [`Iteration::NamesOnly`].
    pub member: Option<Member>,
}

/// State of a transport's quorum service (`quorum_overview(3)`).
///
/// Use it for display only, not for decisions. It counts nodes rather than the processes of a
/// group, it is not ordered relative to any [`Event`], and it may change while the ring stays the
/// same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// True if the nodes of the ring hold enough votes, as configured in the transport.
    pub quorate: bool,
    /// The ring to which this state applies.
    pub ring: RingId,
    /// The nodes of that ring, sorted.
    pub nodes: Vec<NodeId>,
}

/// The part of a transport that serves one connection. It puts events into the [`Mailbox`].
pub(crate) trait Backend: Send + Sync {
    fn join(&self, group: &GroupName) -> Result<()>;
    fn leave(&self) -> Result<()>;
    fn multicast(&self, message: &[IoSlice<'_>]) -> Result<()>;
    fn local(&self) -> Member;
    fn members(&self, group: &GroupName) -> Result<Vec<Member>>;
    fn groups(&self, iteration: &Iteration) -> Result<Vec<GroupEntry>>;
    /// The default is for the embedded transport, which has a single host and so counts no quorum.
    fn quorum(&self) -> Result<Quorum> {
        Err(Error::NotSupported)
    }

    fn max_atomic_message_size(&self) -> usize;
    fn mailbox(&self) -> &Mailbox;
}

/// A handle on a transport, which can be a member of one group, once.
///
/// All methods may be called from any thread. Requests to the transport run one after the other,
/// and only one thread at a time may dispatch.
///
/// Dropping the connection closes it (`cpg_finalize(3)`). The other members then see
/// [`Reason::ProcessDown`](crate::Reason::ProcessDown), unless this member left the group before.
/// On Corosync, dropping blocks until the daemon has read every message sent before.
pub struct Connection {
    backend: Box<dyn Backend>,
    dispatching: AtomicBool,
    context: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
}

impl Connection {
    pub(crate) fn new(backend: impl Backend + 'static) -> Self {
        Self {
            backend: Box::new(backend),
            dispatching: AtomicBool::new(false),
            context: Mutex::new(None),
        }
    }

    /// Joins a group (`cpg_join(3)`).
    ///
    /// The first event of the group is the configuration in which this member joined; its member
    /// list includes this member. `Ok` means that the transport accepted the request, which it may
    /// carry out later: on Corosync only after the ring has formed. Messages may be sent at once.
    /// They are ordered after the join.
    ///
    /// Corosync would spin forever on a second `cpg_join` after `cpg_leave`, so a connection serves
    /// one membership only.
    ///
    /// # Errors
    ///
    /// - [`Error::Exist`] if this connection is already a member of a group, or another connection
    ///   of this process is a member of this group.
    /// - [`Error::BadHandle`] after [`leave`](Self::leave): open a new connection.
    /// - [`Error::TooManyGroups`] if the group has its maximum number of members.
    /// - [`Error::TryAgain`] while the transport is still ending an earlier membership of this
    ///   process.
    pub fn join(&self, group: &GroupName) -> Result<()> {
        self.backend.join(group)
    }

    /// Leaves the group (`cpg_leave(3)`).
    ///
    /// Events continue up to the configuration in which this member left, which is the last one.
    /// The connection cannot join again: open a new one. (libcpg would keep delivering the group's
    /// messages and silently discard what is sent; this crate does not let either happen.)
    ///
    /// # Errors
    ///
    /// [`Error::NotExist`] if this connection is not a member.
    pub fn leave(&self) -> Result<()> {
        self.backend.leave()
    }

    /// Sends one message to all members of the group, including the sender (`cpg_mcast_joined(3)`).
    ///
    /// The message is the concatenation of the slices. It may be empty. Messages of one connection
    /// are ordered as they were sent.
    ///
    /// `Ok` means that the transport accepted the message, not that it will be delivered. It may be
    /// lost if this process or the transport dies, and on Corosync it may be delivered seconds
    /// later, in another configuration. Its delivery to the sender is the only proof that it has a
    /// position in the order.
    ///
    /// # Errors
    ///
    /// - [`Error::TryAgain`] as backpressure. The message was not accepted: send it again before
    ///   any later message, after 1 to 10 ms.
    /// - [`Error::TooBig`] above [`max_atomic_message_size`](Self::max_atomic_message_size).
    /// - [`Error::NotExist`] if this connection is not a member. (libcpg would return `CS_OK` and
    ///   discard the message.)
    /// - [`Error::NotSupported`] for a guarantee that no transport offers.
    pub fn multicast(&self, guarantee: Guarantee, message: &[IoSlice<'_>]) -> Result<()> {
        if matches!(guarantee, Guarantee::Unordered | Guarantee::Safe) {
            return Err(Error::NotSupported);
        }
        let length: usize = message.iter().map(|slice| slice.len()).sum();
        if length > self.max_atomic_message_size() {
            return Err(Error::TooBig);
        }
        self.backend.multicast(message)
    }

    /// Passes queued events to `handler`, in order, and returns their number (`cpg_dispatch(3)`).
    ///
    /// Returns 0 if there was no event ([`Dispatch::All`]) or if [`wake`](Self::wake) ended the
    /// wait ([`Dispatch::One`]). The handler may call any method of this connection except
    /// `dispatch`. If it panics, only the event that it was handling is lost.
    ///
    /// # Errors
    ///
    /// - [`Error::TryAgain`] for [`Dispatch::OneNonblocking`] if no event is queued.
    /// - [`Error::Busy`] while another `dispatch` of this connection is in progress.
    /// - [`Error::Library`] after the transport has died and all received events have been
    ///   delivered.
    pub fn dispatch(&self, mode: Dispatch, mut handler: impl FnMut(Event)) -> Result<usize> {
        if self.dispatching.swap(true, Ordering::Acquire) {
            return Err(Error::Busy);
        }
        let _guard = Dispatching(&self.dispatching);
        let mailbox = self.backend.mailbox();
        match mode {
            Dispatch::One => loop {
                if let Some(event) = mailbox.pop()? {
                    handler(event);
                    return Ok(1);
                }
                if !mailbox.wait(None)? {
                    return Ok(0);
                }
            },
            Dispatch::OneNonblocking => {
                handler(mailbox.pop()?.ok_or(Error::TryAgain)?);
                Ok(1)
            }
            Dispatch::All => mailbox.drain(&mut handler),
            Dispatch::Blocking => {
                let mut count = 0;
                while mailbox.wait(None)? {
                    count += mailbox.drain(&mut handler)?;
                }
                Ok(count)
            }
        }
    }

    /// Waits for an event without removing it from the queue. Returns true if an event is queued,
    /// and false if the timeout has passed or [`wake`](Self::wake) was called. `None` waits without
    /// a limit.
    ///
    /// # Errors
    ///
    /// [`Error::Library`] after the transport has died and all received events have been delivered.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        self.backend.mailbox().wait(timeout)
    }

    /// Ends a [`wait`](Self::wait) or a blocking [`dispatch`](Self::dispatch) in another thread, or
    /// else the next one. Makes no system call unless a thread is sleeping.
    pub fn wake(&self) {
        self.backend.mailbox().wake();
    }

    /// Returns a descriptor for `poll(2)` that is readable while events are queued, or once the
    /// transport has died (`cpg_fd_get(3)`). Do not read from it.
    ///
    /// # Errors
    ///
    /// [`Error::NoResources`] if the process has no descriptor left.
    pub fn fd(&self) -> Result<BorrowedFd<'_>> {
        self.backend.mailbox().fd()
    }

    /// Stores a value of the caller in this connection, or clears it (`cpg_context_set(3)`).
    pub fn set_context(&self, context: Option<Arc<dyn Any + Send + Sync>>) {
        *self.context.lock().unwrap_or_else(PoisonError::into_inner) = context;
    }

    /// Returns the value stored by [`set_context`](Self::set_context) (`cpg_context_get(3)`).
    pub fn context(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.context.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the id of this node (`cpg_local_get(3)`).
    pub fn local_node(&self) -> NodeId {
        self.backend.local().node
    }

    /// Returns this connection as the other members see it: this node and this process.
    pub fn local_member(&self) -> Member {
        self.backend.local()
    }

    /// Returns the members of a group, sorted, as the transport of this node sees them now
    /// (`cpg_membership_get(3)`).
    ///
    /// Use it for display only, not for decisions: it may already include changes whose events have
    /// not been dispatched.
    ///
    /// # Errors
    ///
    /// [`Error::Library`] if the transport has died; [`Error::TryAgain`] while a ring is forming.
    pub fn members(&self, group: &GroupName) -> Result<Vec<Member>> {
        self.backend.members(group)
    }

    /// Returns the groups of the ring, or their members, as the transport of this node sees them
    /// now (`cpg_iteration_initialize(3)`, `cpg_iteration_next(3)`).
    ///
    /// Use it for display only, not for decisions: it is not ordered relative to the events.
    ///
    /// # Errors
    ///
    /// [`Error::Library`] if the transport has died; [`Error::TryAgain`] while a ring is forming.
    pub fn groups(
        &self,
        iteration: &Iteration,
    ) -> Result<impl Iterator<Item = GroupEntry> + use<>> {
        Ok(self.backend.groups(iteration)?.into_iter())
    }

    /// Returns the current state of the transport's quorum service (`quorum_trackstart(3)`).
    ///
    /// # Errors
    ///
    /// - [`Error::NotSupported`] on the embedded transport, which has no quorum service.
    /// - [`Error::Library`] if the transport has died.
    /// - [`Error::Timeout`] if the service does not answer within two seconds. (A suspended daemon
    ///   can block this call for longer, like any other request.)
    pub fn quorum(&self) -> Result<Quorum> {
        self.backend.quorum()
    }

    /// Returns the maximum size of a message in bytes (`cpg_max_atomic_msgsize_get` in
    /// `corosync/cpg.h`).
    ///
    /// [`multicast`](Self::multicast) rejects larger messages. Corosync would fragment them, and a
    /// member that joins between two fragments would miss the message.
    pub fn max_atomic_message_size(&self) -> usize {
        self.backend.max_atomic_message_size()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("member", &self.local_member()).finish_non_exhaustive()
    }
}

struct Dispatching<'a>(&'a AtomicBool);

impl Drop for Dispatching<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
