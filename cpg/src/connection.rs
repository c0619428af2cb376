use std::any::Any;
use std::fmt;
use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::mailbox::Mailbox;
use crate::{Error, Event, GroupName, Member, NodeId, Result, RingId};

/// What is asked of the order of a message (`cpg_guarantee_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guarantee {
    /// No order. Not offered by any transport: [`Error::NotSupported`].
    Unordered,
    /// The order of each sender. What is given is [`Guarantee::Agreed`].
    Fifo,
    /// One order for all members, and within it that of each sender.
    Agreed,
    /// Agreed, and delivered to nobody before all have it. Not offered by any transport,
    /// though Corosync's library says `CS_OK` to it: [`Error::NotSupported`].
    Safe,
}

/// How many events a [`Connection::dispatch`] takes, and whether it blocks
/// (`cs_dispatch_flags_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dispatch {
    /// Waits for one event.
    One,
    /// All events that are there now, none if there are none. What arrives meanwhile is
    /// left for the next call, so that a loop is not starved.
    All,
    /// Goes on until an error or a [`Connection::wake`].
    Blocking,
    /// One event, or [`Error::TryAgain`] if there is none.
    OneNonblocking,
}

/// How a connection is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Ask for the ring of the moment right after one's own join
    /// (`CPG_MODEL_V1_DELIVER_INITIAL_TOTEM_CONF`).
    pub initial_ring: bool,
}

/// What [`Connection::groups`] goes over (`cpg_iteration_type_t`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Iteration {
    /// The names of all groups, each once.
    NamesOnly,
    /// The members of one group.
    OneGroup(GroupName),
    /// The members of all groups.
    All,
}

/// One row of [`Connection::groups`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEntry {
    /// The group.
    pub group: GroupName,
    /// A member of it; `None` for [`Iteration::NamesOnly`].
    pub member: Option<Member>,
}

/// What the quorum service of a transport says. For people to look at, not for decisions: it
/// counts nodes and not the processes of a group, comes by a way of its own that is not
/// ordered with any event, and may change within a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// Whether the nodes that this node sees have the votes, as the transport is configured.
    pub quorate: bool,
    /// The ring that it speaks of.
    pub ring: RingId,
    /// The nodes of that ring, sorted.
    pub nodes: Vec<NodeId>,
}

/// What a transport does for one connection. Events come to the [`Mailbox`].
pub(crate) trait Backend: Send + Sync {
    fn join(&self, group: &GroupName) -> Result<()>;
    fn leave(&self) -> Result<()>;
    fn multicast(&self, message: &[IoSlice<'_>]) -> Result<()>;
    fn local(&self) -> Member;
    fn members(&self, group: &GroupName) -> Result<Vec<Member>>;
    fn groups(&self, iteration: &Iteration) -> Result<Vec<GroupEntry>>;
    /// The embedded transport is one host, which has no quorum to reach.
    fn quorum(&self) -> Result<Quorum> {
        Err(Error::NotSupported)
    }

    fn max_atomic_message_size(&self) -> usize;
    fn mailbox(&self) -> &Mailbox;
}

/// One handle on a transport, member of at most one group, once.
///
/// All calls may be made from any thread; calls that ask the transport are done one after
/// the other, and one thread at a time may dispatch. Dropping the connection closes it;
/// the group hears [`Reason::ProcessDown`](crate::Reason::ProcessDown) if it had not
/// left. With Corosync that waits until the daemon has taken over what was sent.
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

    /// Joins a group. The first event afterwards that concerns the group is the
    /// configuration in which this member joined, itself among the members.
    ///
    /// Returns when the transport has taken the wish over, which may be before it is
    /// carried out; that takes as long as a ring is being formed. Messages may be sent at
    /// once: they are ordered after the join.
    ///
    /// # Errors
    ///
    /// [`Error::Exist`] when this connection, or another of this process in the same
    /// group, is a member; [`Error::BadHandle`] after [`leave`](Self::leave);
    /// [`Error::TryAgain`] while an earlier membership of this process is being ended.
    pub fn join(&self, group: &GroupName) -> Result<()> {
        self.backend.join(group)
    }

    /// Leaves the group. Events go on until the configuration in which this member left,
    /// which is the last. The connection cannot join again: open a new one.
    ///
    /// # Errors
    ///
    /// [`Error::NotExist`] when not a member.
    pub fn leave(&self) -> Result<()> {
        self.backend.leave()
    }

    /// Sends one message, the slices one after the other, to all members of the group,
    /// oneself included. Zero length is a message too.
    ///
    /// `Ok` means that the transport has taken it over, in the order of this connection's
    /// calls. It may still be lost when this process or the transport dies; the proof of
    /// its place in the order is to see it delivered.
    ///
    /// # Errors
    ///
    /// [`Error::TryAgain`] as back-pressure: nothing was taken over, send the same
    /// message again, before any later one. [`Error::TooBig`] above
    /// [`max_atomic_message_size`](Self::max_atomic_message_size); [`Error::NotExist`]
    /// when not a member; [`Error::NotSupported`] for guarantees that no transport gives.
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

    /// Hands events to `handler`, in order, as `mode` says. Returns how many.
    ///
    /// The handler may call anything on this connection but `dispatch`.
    ///
    /// # Errors
    ///
    /// [`Error::TryAgain`] for [`Dispatch::OneNonblocking`] when there is none;
    /// [`Error::Busy`] while another dispatch is under way; [`Error::Library`] once the
    /// transport is gone and what had been received is handed out.
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

    /// Waits until there is an event (`true`), or until the time is over or
    /// [`wake`](Self::wake) is called (`false`). Takes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Library`] once the transport is gone and nothing is left to hand out.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        self.backend.mailbox().wait(timeout)
    }

    /// Makes a [`wait`](Self::wait) or a blocking [`dispatch`](Self::dispatch) of another
    /// thread return, or the next one if none is under way. Cheap when nobody sleeps.
    pub fn wake(&self) {
        self.backend.mailbox().wake();
    }

    /// A descriptor that is readable while there are events, for `poll(2)` (`cpg_fd_get`).
    /// Do not read from it; it is only for waiting.
    ///
    /// # Errors
    ///
    /// [`Error::NoResources`] when no descriptor can be had.
    pub fn fd(&self) -> Result<BorrowedFd<'_>> {
        self.backend.mailbox().fd()
    }

    /// Keeps something of the caller's with the connection (`cpg_context_set`), or
    /// clears it.
    pub fn set_context(&self, context: Option<Arc<dyn Any + Send + Sync>>) {
        *self.context.lock().unwrap_or_else(PoisonError::into_inner) = context;
    }

    /// What [`set_context`](Self::set_context) kept (`cpg_context_get`).
    pub fn context(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.context.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The id of this node (`cpg_local_get`).
    pub fn local_node(&self) -> NodeId {
        self.backend.local().node
    }

    /// How this connection is listed as a member of its group.
    pub fn local_member(&self) -> Member {
        self.backend.local()
    }

    /// The members of a group as this node's transport sees them now
    /// (`cpg_membership_get`), sorted. May be ahead of the events not yet dispatched: for
    /// people to look at, not for decisions.
    ///
    /// # Errors
    ///
    /// [`Error::Library`] when the transport is gone; [`Error::TryAgain`] while a ring is being
    /// formed.
    pub fn members(&self, group: &GroupName) -> Result<Vec<Member>> {
        self.backend.members(group)
    }

    /// Goes over the groups of the ring (`cpg_iteration_initialize` and `_next`), as this
    /// node's transport sees them now: for people to look at, not for decisions.
    ///
    /// # Errors
    ///
    /// [`Error::Library`] when the transport is gone; [`Error::TryAgain`] while a ring is being
    /// formed.
    pub fn groups(
        &self,
        iteration: &Iteration,
    ) -> Result<impl Iterator<Item = GroupEntry> + use<>> {
        Ok(self.backend.groups(iteration)?.into_iter())
    }

    /// What the transport's quorum service says now (`quorum_trackstart(3)`).
    ///
    /// # Errors
    ///
    /// [`Error::NotSupported`] where there is none: the embedded transport.
    /// [`Error::Library`] when the transport is gone, [`Error::Timeout`] when the service does
    /// not answer within two seconds. (A daemon that stands still holds this up as any
    /// other request.)
    pub fn quorum(&self) -> Result<Quorum> {
        self.backend.quorum()
    }

    /// The largest message in bytes that is sent as one (`cpg_max_atomic_msgsize_get`).
    /// Larger ones are refused: Corosync would cut them up, and a member that joins
    /// meanwhile would miss them.
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
