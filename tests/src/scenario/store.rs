use std::io;

use plainsong::engine::{Entry, HardState, Op, Recovered};
use plainsong::snapshot::{
    SnapshotCommand, SnapshotEvent, SnapshotHead, SnapshotManager, SnapshotName, SnapshotReader,
    SnapshotWriter, read,
};
use plainsong_storage::faulty::FaultySnapshots;

use super::state::State;

/// The durable state of a replica.
pub(super) struct Store {
    hard_state: Option<HardState>,
    entries: Vec<Entry>,
    snapshots: FaultySnapshots,
    manager: SnapshotManager,
    /// Number of earlier stores of the same replica.
    formats: u64,
}

impl Store {
    pub(super) fn formatted(formats: u64) -> Result<Self, String> {
        let snapshots = FaultySnapshots::new();
        let manager = open(&snapshots)?;
        Ok(Self { hard_state: None, entries: Vec::new(), snapshots, manager, formats })
    }

    pub(super) fn formats(&self) -> u64 {
        self.formats
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn write(&mut self, op: Op) {
        match op {
            Op::HardState(hard_state) => self.hard_state = Some(hard_state),
            Op::Append(entry) => self.entries.push(entry),
            Op::Truncate(after) => self.entries.retain(|entry| entry.position.index <= after),
            Op::Reset(_) => self.entries.clear(),
            Op::Compact(through) => self.entries.retain(|entry| entry.position.index > through),
        }
    }

    /// Returns the state that a starting process finds. A snapshot that was only partly received is
    /// dropped.
    pub(super) fn recover(&mut self) -> Result<Recovered, String> {
        self.snapshots.crash();
        self.manager = open(&self.snapshots)?;
        let snapshots = self.manager.names();
        let head = snapshots.last().map(|name| self.manager.head(*name)).transpose();
        let head = head.map_err(|error| error.to_string())?;
        Ok(Recovered {
            hard_state: self.hard_state,
            snapshots,
            head,
            entries: self.entries.clone(),
        })
    }

    pub(super) fn copied(&self) -> Result<Self, String> {
        if !self.manager.names().is_empty() {
            return Err("a scenario cannot copy a store that has snapshots".into());
        }
        let (hard_state, entries) = (self.hard_state, self.entries.clone());
        Ok(Self { hard_state, entries, ..Self::formatted(self.formats)? })
    }

    /// Takes a snapshot of a state.
    pub(super) fn take(
        &mut self,
        head: &SnapshotHead,
        state: &State,
    ) -> Result<SnapshotEvent, String> {
        let sink = |chunk| self.manager.take(chunk).map_err(io::Error::other);
        let name = SnapshotWriter::write_chunks(head, state.clone(), sink)
            .map_err(|error| error.to_string())?;
        self.manager.taken(name).map_err(|error| error.to_string())
    }

    /// Returns the state in a complete snapshot.
    pub(super) fn restore(&mut self, name: SnapshotName) -> Result<State, String> {
        let chunk = |chunk| self.manager.read(name, chunk).map_err(io::Error::other);
        let state = SnapshotReader::open(name, chunk).and_then(|(_, mut rest)| read(&mut rest));
        state.map_err(|error| format!("{name} cannot be restored: {error}"))
    }

    pub(super) fn run_snapshot_command(
        &mut self,
        op: SnapshotCommand,
    ) -> Result<Option<SnapshotEvent>, String> {
        self.manager.carry_out(op).map_err(|error| error.to_string())
    }
}

fn open(snapshots: &FaultySnapshots) -> Result<SnapshotManager, String> {
    SnapshotManager::open(Box::new(snapshots.clone())).map_err(|error| error.to_string())
}
