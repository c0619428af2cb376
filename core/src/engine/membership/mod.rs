//! Who is in the group, who votes, and to which cluster and application members belong
//! (docs/protocol.md §4 and rule N9).

pub(super) mod announcements;
pub(super) mod applications;
pub(super) mod cluster;
pub(super) mod notices;
pub(super) mod peers;
pub(super) mod silence;
pub(super) mod voters;
