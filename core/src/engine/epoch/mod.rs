//! Opening of epochs: ballots, reports, and `Open` (docs/protocol.md §4).

pub(super) mod coordinator;
pub(super) mod discovery;
pub(super) mod election;
pub(super) mod handover;
pub(super) mod opening;
