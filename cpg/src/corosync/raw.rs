//! C types and constants of `corosync/cpg.h`, `corosync/quorum.h` and `corosync/corotypes.h` of
//! Corosync 3.1, and their conversion to the types of this crate.

use std::ffi::{c_int, c_uint, c_void};

use crate::{Change, GroupName, Member, NodeId, Pid, Reason, RingId};

pub(super) const CS_OK: c_int = 1;
pub(super) const CS_DISPATCH_ALL: c_int = 2;
pub(super) const CS_DISPATCH_ONE_NONBLOCKING: c_int = 4;
pub(super) const CS_TRACK_CURRENT: c_uint = 1;
pub(super) const CPG_MODEL_V1: c_int = 1;
pub(super) const CPG_MODEL_V1_DELIVER_INITIAL_TOTEM_CONF: c_uint = 1;
pub(super) const CPG_ITERATION_NAME_ONLY: c_int = 1;
pub(super) const CPG_ITERATION_ONE_GROUP: c_int = 2;
pub(super) const CPG_ITERATION_ALL: c_int = 3;
pub(super) const CPG_TYPE_AGREED: c_int = 2;
pub(super) const QUORUM_MODEL_V1: c_int = 1;
pub(super) const NAME_LENGTH: usize = 128;

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct CpgName {
    pub(super) length: u32,
    pub(super) value: [u8; NAME_LENGTH],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct CpgAddress {
    pub(super) nodeid: u32,
    pub(super) pid: u32,
    pub(super) reason: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RawRingId {
    pub(super) nodeid: u32,
    pub(super) seq: u64,
}

#[repr(C)]
pub(super) struct CpgIterationDescription {
    pub(super) group: CpgName,
    pub(super) nodeid: u32,
    pub(super) pid: u32,
}

pub(super) type DeliverFn = extern "C" fn(u64, *const CpgName, u32, u32, *mut c_void, usize);
pub(super) type ConfchgFn = extern "C" fn(
    u64,
    *const CpgName,
    *const CpgAddress,
    usize,
    *const CpgAddress,
    usize,
    *const CpgAddress,
    usize,
);
pub(super) type TotemConfchgFn = extern "C" fn(u64, RawRingId, u32, *const u32);

#[repr(C)]
pub(super) struct CpgModelV1 {
    pub(super) model: c_int,
    pub(super) deliver: DeliverFn,
    pub(super) confchg: ConfchgFn,
    pub(super) totem_confchg: TotemConfchgFn,
    pub(super) flags: c_uint,
}

pub(super) type QuorumNotifyFn = extern "C" fn(u64, u32, RawRingId, u32, *const u32);
pub(super) type NodelistNotifyFn =
    extern "C" fn(u64, RawRingId, u32, *const u32, u32, *const u32, u32, *const u32);

#[repr(C)]
pub(super) struct QuorumModelV1 {
    pub(super) model: c_int,
    pub(super) quorum_notify: QuorumNotifyFn,
    pub(super) nodelist_notify: NodelistNotifyFn,
}

impl CpgName {
    /// Fills the rest with zeros, because the daemon's maps of names compare all 128 bytes.
    pub(super) fn new(name: &GroupName) -> Self {
        let bytes = name.as_str().as_bytes();
        let mut value = [0; NAME_LENGTH];
        value[..bytes.len()].copy_from_slice(bytes);
        Self { length: bytes.len() as u32, value }
    }

    /// Returns `None` for a name that this crate does not allow.
    pub(super) fn get(&self) -> Option<GroupName> {
        let bytes = self.value.get(..self.length as usize)?;
        GroupName::new(std::str::from_utf8(bytes).ok()?).ok()
    }
}

pub(super) fn node_ids(nodes: &[u32]) -> Vec<NodeId> {
    let mut nodes: Vec<_> = nodes.iter().copied().map(NodeId).collect();
    nodes.sort_unstable();
    nodes
}

impl RawRingId {
    pub(super) fn get(self) -> RingId {
        RingId { representative: NodeId(self.nodeid), sequence: self.seq }
    }
}

impl CpgAddress {
    pub(super) fn member(&self) -> Member {
        Member { node: NodeId(self.nodeid), pid: Pid(self.pid) }
    }

    pub(super) fn change(&self) -> Change {
        let reason = match self.reason {
            1 => Reason::Join,
            2 => Reason::Leave,
            3 => Reason::NodeDown,
            4 => Reason::NodeUp,
            5 => Reason::ProcessDown,
            _ => Reason::Undefined,
        };
        Change { member: self.member(), reason }
    }
}
