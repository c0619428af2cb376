//! Members of the group, its voters, and the cluster and application of each member
//! (docs/protocol.md §4 and rule N9).

pub(super) mod announcements;
pub(super) mod applications;
pub(super) mod cluster;
pub(super) mod notices;
pub(super) mod peers;
pub(super) mod silence;
pub(super) mod voters;
