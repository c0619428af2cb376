//! Bringing lagging replicas up to date with entries and snapshots (docs/protocol.md §6).

pub(super) mod fetch;
pub(super) mod flow_control;
pub(super) mod log_reader;
pub(super) mod offers;
pub(super) mod snapshot_receiver;
pub(super) mod snapshot_sender;

use self::fetch::FetchState;
use self::flow_control::FlowControl;
use self::log_reader::LogReader;
use self::offers::Offers;
use self::snapshot_receiver::SnapshotReceiver;
use self::snapshot_sender::SnapshotSender;
use crate::engine::log::snapshots::Snapshots;

/// State of all transfers of entries and snapshots, to this replica and from it.
#[derive(Debug, Default)]
pub(crate) struct Transfer {
    /// Snapshots that this replica holds.
    pub(crate) snapshots: Snapshots,
    /// What this replica lacks and has asked for.
    pub(crate) fetch: FetchState,
    /// Donors that this sequencer has named to lagging replicas.
    pub(crate) offers: Offers,
    /// The snapshot that this replica sends.
    pub(crate) sender: Option<SnapshotSender>,
    /// The snapshot that this replica receives.
    pub(crate) receiver: Option<SnapshotReceiver>,
    pub(crate) flow_control: FlowControl,
    pub(crate) log_reader: LogReader,
}
