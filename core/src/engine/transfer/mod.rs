//! Transfer of entries and snapshots to lagging replicas (docs/protocol.md §6).

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
    /// Entries that this replica lacks and has requested.
    pub(crate) fetch: FetchState,
    /// Donors that this sequencer has named to lagging replicas.
    pub(crate) offers: Offers,
    /// Snapshot that this replica sends.
    pub(crate) sender: Option<SnapshotSender>,
    /// Snapshot that this replica receives.
    pub(crate) receiver: Option<SnapshotReceiver>,
    /// Lagging replicas, and the limits that they set to ordering.
    pub(crate) flow_control: FlowControl,
    /// Entries that are read from the store for lagging replicas.
    pub(crate) log_reader: LogReader,
}
