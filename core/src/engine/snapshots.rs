use serde::{Deserialize, Serialize};

use super::log::Tables;
use crate::snapshot::SnapshotName;
use crate::types::Position;

/// What the protocol has to know at the position of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHead {
    pub(crate) tables: Tables,
}

impl SnapshotHead {
    /// The last entry that is in the snapshot.
    pub fn position(&self) -> Position {
        self.tables.position
    }
}

/// The snapshots of this replica's own state.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    /// The complete ones that it holds, the newest last.
    held: Vec<SnapshotName>,
    /// What follows from the entries that were handed out.
    tables: Tables,
}

impl Snapshots {
    /// What the store held.
    pub(crate) fn recovered(&mut self, held: Vec<SnapshotName>, tables: Tables) {
        self.held = held;
        self.tables = tables;
    }
}
