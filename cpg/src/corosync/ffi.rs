//! Bindings to libcpg and libquorum: the only unsafe code of the workspace.
//!
//! The interface to the rest of the crate is safe. Handles are closed when they are dropped.
//! Requests on one handle are serialized by `&mut self`, because libcpg does not lock them itself.
//! Only one thread can dispatch. No panic unwinds into C.

#![allow(unsafe_code, reason = "calls into C; each block says why it is sound")]

use std::ffi::{c_int, c_uint, c_void};
use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;

use bytes::Bytes;

use super::raw::*;
use crate::{
    Configuration, Error, Event, GroupEntry, GroupName, Iteration, Member, NodeId, Pid, Quorum,
    Result, Ring,
};

/// Maximum number of slices of a message. libcpg copies them into an array of 64 without a check,
/// and uses the first element itself.
const SLICES_MAX: usize = 63;
/// Maximum number of members in the daemon's answer, which is more than `CPG_MEMBERS_MAX`. libcpg
/// writes all of them into the caller's array, regardless of its length.
const MEMBERS_ANSWERED_MAX: usize = 384;

#[link(name = "cpg")]
unsafe extern "C" {
    fn cpg_model_initialize(
        handle: *mut u64,
        model: c_int,
        data: *mut CpgModelV1,
        context: *mut c_void,
    ) -> c_int;
    fn cpg_finalize(handle: u64) -> c_int;
    fn cpg_fd_get(handle: u64, fd: *mut c_int) -> c_int;
    fn cpg_max_atomic_msgsize_get(handle: u64, size: *mut u32) -> c_int;
    fn cpg_context_get(handle: u64, context: *mut *mut c_void) -> c_int;
    fn cpg_context_set(handle: u64, context: *mut c_void) -> c_int;
    fn cpg_dispatch(handle: u64, flags: c_int) -> c_int;
    fn cpg_join(handle: u64, group: *const CpgName) -> c_int;
    fn cpg_leave(handle: u64, group: *const CpgName) -> c_int;
    fn cpg_mcast_joined(
        handle: u64,
        guarantee: c_int,
        slices: *const IoSlice<'_>,
        count: c_uint,
    ) -> c_int;
    fn cpg_membership_get(
        handle: u64,
        group: *mut CpgName,
        members: *mut CpgAddress,
        count: *mut c_int,
    ) -> c_int;
    fn cpg_local_get(handle: u64, node: *mut c_uint) -> c_int;
    fn cpg_iteration_initialize(
        handle: u64,
        kind: c_int,
        group: *const CpgName,
        iteration: *mut u64,
    ) -> c_int;
    fn cpg_iteration_next(iteration: u64, row: *mut CpgIterationDescription) -> c_int;
    fn cpg_iteration_finalize(iteration: u64) -> c_int;
}

#[link(name = "quorum")]
unsafe extern "C" {
    fn quorum_model_initialize(
        handle: *mut u64,
        model: c_int,
        data: *mut QuorumModelV1,
        kind: *mut u32,
        context: *mut c_void,
    ) -> c_int;
    fn quorum_finalize(handle: u64) -> c_int;
    fn quorum_fd_get(handle: u64, fd: *mut c_int) -> c_int;
    fn quorum_context_get(handle: u64, context: *mut *const c_void) -> c_int;
    fn quorum_dispatch(handle: u64, flags: c_int) -> c_int;
    fn quorum_trackstart(handle: u64, flags: c_uint) -> c_int;
}

fn check(code: c_int) -> Result<()> {
    if code == CS_OK { Ok(()) } else { Err(Error::from_code(code).unwrap_or(Error::Library)) }
}

/// An open libcpg handle. Closed when the last reference is dropped.
struct Raw(u64);

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: the handle came from `cpg_model_initialize` and is closed only here. No
        // other call is in progress, because both halves have been dropped. After the
        // daemon's death the call returns an error, but frees the handle as well.
        unsafe { cpg_finalize(self.0) };
    }
}

/// Opens a handle. Returns the half for requests and the half for events.
pub(super) fn open(initial_ring: bool) -> Result<(Requests, Dispatcher)> {
    let flags = if initial_ring { CPG_MODEL_V1_DELIVER_INITIAL_TOTEM_CONF } else { 0 };
    let mut data = CpgModelV1 {
        model: CPG_MODEL_V1,
        deliver: on_deliver,
        confchg: on_confchg,
        totem_confchg: on_totem_confchg,
        flags,
    };
    let mut handle = 0;
    // SAFETY: both pointers are valid for the call; libcpg copies `data`. The context is
    // null until `Dispatcher::dispatch` sets it, and callbacks check for that.
    check(unsafe { cpg_model_initialize(&mut handle, CPG_MODEL_V1, &mut data, ptr::null_mut()) })?;
    let raw = Arc::new(Raw(handle));
    Ok((Requests { raw: Arc::clone(&raw) }, Dispatcher { raw }))
}

/// The half of a handle that sends requests to the daemon, one at a time: libcpg's request ring has
/// a single producer.
pub(super) struct Requests {
    raw: Arc<Raw>,
}

impl Requests {
    pub(super) fn join(&mut self, group: &GroupName) -> Result<()> {
        let name = CpgName::new(group);
        // SAFETY: `name` is valid for the call.
        check(unsafe { cpg_join(self.raw.0, &name) })
    }

    pub(super) fn leave(&mut self, group: &GroupName) -> Result<()> {
        let name = CpgName::new(group);
        // SAFETY: `name` is valid for the call.
        check(unsafe { cpg_leave(self.raw.0, &name) })
    }

    pub(super) fn multicast(&mut self, slices: &[IoSlice<'_>]) -> Result<()> {
        if slices.len() > SLICES_MAX {
            let whole: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            return self.multicast(&[IoSlice::new(&whole)]);
        }
        // SAFETY: `IoSlice` is guaranteed to have the layout of `iovec`, the slices are valid
        // for the call, and there are no more than libcpg has room for.
        check(unsafe {
            let count = slices.len() as c_uint;
            cpg_mcast_joined(self.raw.0, CPG_TYPE_AGREED, slices.as_ptr(), count)
        })
    }

    pub(super) fn local_node(&mut self) -> Result<NodeId> {
        let mut node = 0;
        // SAFETY: `node` is valid for the call.
        check(unsafe { cpg_local_get(self.raw.0, &mut node) })?;
        Ok(NodeId(node))
    }

    pub(super) fn max_atomic_message_size(&mut self) -> Result<usize> {
        let mut size = 0;
        // SAFETY: `size` is valid for the call.
        check(unsafe { cpg_max_atomic_msgsize_get(self.raw.0, &mut size) })?;
        Ok(size as usize)
    }

    pub(super) fn members(&mut self, group: &GroupName) -> Result<Vec<Member>> {
        let mut name = CpgName::new(group);
        let mut members = [CpgAddress { nodeid: 0, pid: 0, reason: 0 }; MEMBERS_ANSWERED_MAX];
        let mut count = MEMBERS_ANSWERED_MAX as c_int;
        // SAFETY: all three are valid for the call, and the array holds as many members as a
        // daemon answers with at most.
        check(unsafe {
            cpg_membership_get(self.raw.0, &mut name, members.as_mut_ptr(), &mut count)
        })?;
        let count = usize::try_from(count).unwrap_or(0).min(MEMBERS_ANSWERED_MAX);
        let mut members: Vec<_> = members[..count].iter().map(CpgAddress::member).collect();
        members.sort_unstable();
        Ok(members)
    }

    pub(super) fn groups(&mut self, iteration: &Iteration) -> Result<Vec<GroupEntry>> {
        let (kind, group) = match iteration {
            Iteration::NamesOnly => (CPG_ITERATION_NAME_ONLY, None),
            Iteration::OneGroup(group) => (CPG_ITERATION_ONE_GROUP, Some(CpgName::new(group))),
            Iteration::All => (CPG_ITERATION_ALL, None),
        };
        let name = group.as_ref().map_or(ptr::null(), ptr::from_ref);
        let mut open = 0;
        // SAFETY: `name` is null, as it must be but for one group, or valid for the call.
        let begun = check(unsafe { cpg_iteration_initialize(self.raw.0, kind, name, &mut open) });
        match begun {
            // A group without members has no rows.
            Err(Error::NotExist | Error::NoSections) => return Ok(Vec::new()),
            begun => begun?,
        }
        let iteration_handle = RawIteration(open);
        let mut rows = Vec::new();
        loop {
            let group = CpgName { length: 0, value: [0; NAME_LENGTH] };
            let mut row = CpgIterationDescription { group, nodeid: 0, pid: 0 };
            // SAFETY: the iteration is open, and `row` is valid for the call.
            match check(unsafe { cpg_iteration_next(iteration_handle.0, &mut row) }) {
                Ok(()) => {}
                Err(Error::NoSections) => return Ok(rows),
                Err(error) => return Err(error),
            }
            let Some(group) = row.group.get() else { continue };
            let member = Member { node: NodeId(row.nodeid), pid: Pid(row.pid) };
            rows.push(GroupEntry {
                group,
                member: (kind != CPG_ITERATION_NAME_ONLY).then_some(member),
            });
        }
    }
}

struct RawIteration(u64);

impl Drop for RawIteration {
    fn drop(&mut self) {
        // SAFETY: the iteration is open and closed only here.
        unsafe { cpg_iteration_finalize(self.0) };
    }
}

/// The half of a handle that receives events. Owned by one thread, which needs a stack of several
/// MiB: `cpg_dispatch` keeps a message of up to 1 MiB on it.
pub(super) struct Dispatcher {
    raw: Arc<Raw>,
}

impl Dispatcher {
    /// Returns a descriptor that is readable while there may be events, or once the daemon has
    /// died.
    pub(super) fn fd(&self) -> Result<BorrowedFd<'_>> {
        let mut fd = -1;
        // SAFETY: `fd` is valid for the call.
        check(unsafe { cpg_fd_get(self.raw.0, &mut fd) })?;
        if fd < 0 {
            return Err(Error::Library);
        }
        // SAFETY: libcpg keeps the descriptor open as long as the handle, which outlives the
        // borrow of `self`.
        Ok(unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// Appends up to `at_most` events to `events`. Returns false if there are no more.
    ///
    /// Dispatches one event at a time, because `CS_DISPATCH_ALL` continues for as long as events
    /// arrive. An event of libcpg may be a fragment, which calls no callback.
    pub(super) fn dispatch(&mut self, events: &mut Vec<Event>, at_most: usize) -> Result<bool> {
        let mut collector = Collector { events, has_panicked: false };
        let context: *mut Collector<'_> = &mut collector;
        // SAFETY: the pointer is used by the callbacks only, and those run only inside
        // `cpg_dispatch` below, on this thread, while nothing else touches `collector`.
        check(unsafe { cpg_context_set(self.raw.0, context.cast()) })?;
        let mut outcome = Ok(true);
        for _ in 0..at_most {
            // SAFETY: the handle is open, and its context was set above.
            let code = unsafe { cpg_dispatch(self.raw.0, CS_DISPATCH_ONE_NONBLOCKING) };
            outcome = check(code).map(|()| true);
            // SAFETY: no callback runs now.
            if outcome.is_err() || unsafe { (*context).has_panicked } {
                break;
            }
        }
        // SAFETY: the handle is open. The context must not outlive `collector`.
        unsafe { cpg_context_set(self.raw.0, ptr::null_mut()) };
        match outcome {
            _ if collector.has_panicked => Err(Error::Library),
            Err(Error::TryAgain) => Ok(false),
            outcome => outcome,
        }
    }
}

/// A dispatch in progress.
struct Collector<'a> {
    events: &'a mut Vec<Event>,
    has_panicked: bool,
}

/// Calls `work` with the events of the dispatch in progress. Catches a panic, which must not unwind
/// into C. The event is then lost, so the connection has to end.
fn with_events(handle: u64, work: impl FnOnce(&mut Vec<Event>)) {
    let mut context: *mut c_void = ptr::null_mut();
    // SAFETY: `context` is valid for the call; the handle is the one being dispatched.
    let code = unsafe { cpg_context_get(handle, &mut context) };
    if code != CS_OK || context.is_null() {
        return;
    }
    // SAFETY: set by `Dispatcher::dispatch`, which waits for this callback and does not
    // touch it meanwhile.
    let collector = unsafe { &mut *context.cast::<Collector<'_>>() };
    if collector.has_panicked {
        return;
    }
    collector.has_panicked = catch_unwind(AssertUnwindSafe(|| work(collector.events))).is_err();
}

/// Returns the C array as a slice; an empty slice if the pointer is null or the length is zero.
///
/// # Safety
///
/// Unless `length` is zero or `first` is null, `first` points to `length` valid values that are not
/// changed during `'a`.
unsafe fn slice<'a, V>(first: *const V, length: usize) -> &'a [V] {
    if first.is_null() || length == 0 {
        return &[];
    }
    // SAFETY: as the caller promises.
    unsafe { std::slice::from_raw_parts(first, length) }
}

extern "C" fn on_deliver(
    handle: u64,
    _group: *const CpgName,
    nodeid: u32,
    pid: u32,
    message: *mut c_void,
    length: usize,
) {
    with_events(handle, |events| {
        // SAFETY: libcpg passes the message and its length, valid during the callback.
        let message = unsafe { slice(message.cast::<u8>().cast_const(), length) };
        let sender = Member { node: NodeId(nodeid), pid: Pid(pid) };
        events.push(Event::Deliver { sender, message: Bytes::copy_from_slice(message) });
    });
}

extern "C" fn on_confchg(
    handle: u64,
    _group: *const CpgName,
    members: *const CpgAddress,
    member_count: usize,
    left: *const CpgAddress,
    left_count: usize,
    joined: *const CpgAddress,
    joined_count: usize,
) {
    with_events(handle, |events| {
        // SAFETY: libcpg passes each list and its length, valid during the callback.
        let (members, left, joined) = unsafe {
            (slice(members, member_count), slice(left, left_count), slice(joined, joined_count))
        };
        let mut members: Vec<_> = members.iter().map(CpgAddress::member).collect();
        members.sort_unstable();
        events.push(Event::Configuration(Configuration {
            members,
            joined: joined.iter().map(CpgAddress::change).collect(),
            left: left.iter().map(CpgAddress::change).collect(),
        }));
    });
}

extern "C" fn on_totem_confchg(handle: u64, id: RawRingId, count: u32, nodes: *const u32) {
    with_events(handle, |events| {
        // SAFETY: libcpg passes the list and its length, valid during the callback.
        let nodes = unsafe { slice(nodes, count as usize) };
        events.push(Event::Ring(Ring { id: id.get(), nodes: node_ids(nodes) }));
    });
}

struct RawQuorum(u64);

impl Drop for RawQuorum {
    fn drop(&mut self) {
        // SAFETY: the handle came from `quorum_model_initialize` and is closed only here.
        unsafe { quorum_finalize(self.0) };
    }
}

/// Asks the quorum service for its current state. `wait` must block until the descriptor is
/// readable.
pub(super) fn quorum(wait: impl Fn(BorrowedFd<'_>) -> Result<()>) -> Result<Quorum> {
    let mut answer: Option<Quorum> = None;
    let context: *mut Option<Quorum> = &mut answer;
    let mut data = QuorumModelV1 {
        model: QUORUM_MODEL_V1,
        quorum_notify: on_quorum,
        nodelist_notify: on_nodelist,
    };
    let (mut handle, mut kind) = (0, 0);
    // SAFETY: all pointers are valid for the call, and libquorum copies `data`. The context
    // is used by the callbacks only, which run only inside `quorum_dispatch` below, while
    // nothing else touches `answer`.
    check(unsafe {
        quorum_model_initialize(&mut handle, QUORUM_MODEL_V1, &mut data, &mut kind, context.cast())
    })?;
    let open = RawQuorum(handle);
    // SAFETY: the handle is open.
    check(unsafe { quorum_trackstart(open.0, CS_TRACK_CURRENT) })?;
    loop {
        let mut fd = -1;
        // SAFETY: the handle is open, and `fd` valid for the call.
        check(unsafe { quorum_fd_get(open.0, &mut fd) })?;
        // SAFETY: libquorum keeps the descriptor open as long as the handle.
        wait(unsafe { BorrowedFd::borrow_raw(fd) })?;
        // SAFETY: the handle is open; the callbacks use the context as described above.
        check(unsafe { quorum_dispatch(open.0, CS_DISPATCH_ALL) })?;
        // SAFETY: no callback runs now.
        if let Some(quorum) = unsafe { (*context).take() } {
            return Ok(quorum);
        }
    }
}

extern "C" fn on_quorum(handle: u64, quorate: u32, id: RawRingId, count: u32, nodes: *const u32) {
    let mut context: *const c_void = ptr::null();
    // SAFETY: `context` is valid for the call; the handle is the one being dispatched.
    let code = unsafe { quorum_context_get(handle, &mut context) };
    if code != CS_OK || context.is_null() {
        return;
    }
    // SAFETY: set by `quorum`, which waits for this callback and does not touch it
    // meanwhile; libquorum passes the list and its length, valid during the callback.
    let (answer, nodes) = unsafe {
        (&mut *context.cast_mut().cast::<Option<Quorum>>(), slice(nodes, count as usize))
    };
    // Only allocation can fail here, and that aborts rather than unwinds.
    *answer = Some(Quorum { quorate: quorate != 0, ring: id.get(), nodes: node_ids(nodes) });
}

extern "C" fn on_nodelist(
    _handle: u64,
    _id: RawRingId,
    _members: u32,
    _member_list: *const u32,
    _joined: u32,
    _joined_list: *const u32,
    _left: u32,
    _left_list: *const u32,
) {
}
