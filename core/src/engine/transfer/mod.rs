//! Bringing lagging replicas up to date with entries and snapshots (docs/protocol.md §6).

pub(super) mod fetch;
pub(super) mod flow_control;
pub(super) mod log_reader;
pub(super) mod offers;
pub(super) mod snapshot_receiver;
pub(super) mod snapshot_sender;
