use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use cpg::{GroupName, Transport};
use plainsong_storage::{
    Folder, LogStore, MemoryLog, MemorySnapshots, SnapshotStore, StorageError,
};

use crate::engine::{Config, RestartError};
use crate::runtime::{GroupJoiner, Runtime};
use crate::snapshot::SnapshotManager;
use crate::wire::types::{Incarnation, Nonce, ReplicaId, StoreId};
use crate::{Replica, StateMachine, record, runtime};

/// Default number of log entries kept on disk for lagging replicas.
const KEPT_ENTRIES_ON_DISK: usize = 1 << 18;

/// Maximum length of the name of an application, in bytes.
const APPLICATION_BYTES_MAX: usize = 64;

/// Configuration of a replica. Created by [`Replica::builder`], consumed by [`start`](Self::start).
///
/// Only [`transport`](Self::transport) is required. A group that is formed for the first time also
/// needs [`bootstrap`](Self::bootstrap), and replicas whose data must survive a restart need
/// [`folder`](Self::folder).
#[must_use = "the replica does not run before `start`"]
pub struct Builder<M> {
    id: ReplicaId,
    machine: M,
    transport: Option<Transport>,
    group: String,
    bootstrap: Vec<ReplicaId>,
    proposal_timeout: Option<Duration>,
    snapshot_entries: Option<u64>,
    kept_entries: Option<usize>,
    /// True if the stores are lost when the process ends.
    volatile: bool,
    folder: Option<PathBuf>,
    log: Box<dyn LogStore>,
    snapshots: Box<dyn SnapshotStore>,
}

impl<M> fmt::Debug for Builder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("id", &self.id)
            .field("transport", &self.transport)
            .field("group", &self.group)
            .field("bootstrap", &self.bootstrap)
            .finish_non_exhaustive()
    }
}

impl<M: StateMachine> Builder<M> {
    pub(crate) fn new(id: ReplicaId, machine: M) -> Self {
        Self {
            id,
            machine,
            transport: None,
            group: "plainsong".into(),
            bootstrap: Vec::new(),
            proposal_timeout: None,
            snapshot_entries: None,
            kept_entries: None,
            volatile: true,
            folder: None,
            log: Box::new(MemoryLog::new()),
            snapshots: Box::new(MemorySnapshots::new()),
        }
    }

    /// Sets the transport that connects the replicas. Required; there is no default.
    ///
    /// Accepts a node of a [`cpg::embedded::LocalRing`] for replicas in one process, or a
    /// [`cpg::Transport`] parsed from text such as `embedded`, `embedded:/run/counter.sock` or
    /// `corosync`.
    pub fn transport(mut self, transport: impl Into<Transport>) -> Self {
        self.transport = Some(transport.into());
        self
    }

    /// Sets the name of the CPG group. Default: `plainsong`. Different applications on the same
    /// transport need different group names.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = group.into();
        self
    }

    /// Sets the replicas that form the group when it starts for the first time. Pass the same list
    /// at each of them; it must contain this replica.
    ///
    /// The group commits nothing before all listed replicas have joined. From then on the voters
    /// are part of the replicated state and the list has no effect: change them with
    /// [`Replica::admin`]. A replica that joins an existing group later needs no list.
    ///
    /// With stores in memory, only listed replicas may ever vote, because a group that lost all its
    /// stores forms anew from this list (rule V3).
    pub fn bootstrap(mut self, replicas: impl IntoIterator<Item = ReplicaId>) -> Self {
        self.bootstrap = replicas.into_iter().collect();
        self
    }

    /// Sets custom stores for the log and the snapshots. The two belong together: always pass the
    /// same pair. Most applications use [`folder`](Self::folder) instead, which takes precedence.
    ///
    /// By default both are in memory. Then a restarted replica begins with a new, empty store, and
    /// all data is lost once a majority of the voters has stopped.
    ///
    /// A replica resumes from the contents of its stores. Never restore them from an older copy:
    /// the replica would break promises that it made after the copy was taken, and acknowledged
    /// commands could be lost.
    pub fn stores(
        mut self,
        log: impl LogStore + 'static,
        snapshots: impl SnapshotStore + 'static,
    ) -> Self {
        self.volatile = false;
        self.log = Box::new(log);
        self.snapshots = Box::new(snapshots);
        self
    }

    /// Keeps the log and the snapshots on disk, in this folder. It is created if it does not exist,
    /// and belongs to this replica alone.
    ///
    /// A restarted replica resumes from the folder. If all voters use folders, an acknowledged
    /// command has been written and synced to the disks of a majority of them.
    ///
    /// Never start a replica from a copy of its folder, nor from a backup. A replica whose disk is
    /// lost starts with an empty folder and receives the state from the others.
    pub fn folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.folder = Some(path.into());
        self
    }

    /// Sets how long a command may wait for its answer, counted from the call of `propose`.
    /// Default: no limit, so commands wait until a majority is back.
    ///
    /// A command that has not been sent when its time is over, for example because there is no
    /// majority, is withdrawn and never takes effect
    /// ([`ProposeError::Withdrawn`](crate::ProposeError::Withdrawn)). A command that has been sent
    /// cannot be withdrawn: it may still take effect, and its caller receives
    /// [`ProposeError::OutcomeUnknown`](crate::ProposeError::OutcomeUnknown). Commands that were
    /// sent in one message share the latest of their deadlines.
    ///
    /// Too low: commands fail during an epoch change, which takes one to two seconds after the
    /// sequencer crashes.
    pub fn proposal_timeout(mut self, timeout: Duration) -> Self {
        self.proposal_timeout = Some(timeout);
        self
    }

    /// Sets the distance between snapshots, in log entries. Default: 16,384. A value of zero counts
    /// as one. Pass the same value at all replicas, because they compare their snapshots.
    ///
    /// A replica takes a snapshot at the indices that are multiples of this number, and whenever
    /// another 64 MiB of entries have been logged. Large states are captured less often, and a
    /// snapshot is skipped while the previous one is still being written.
    ///
    /// Too low: replicas are busy writing snapshots. Too high: a restart has to apply many entries.
    pub fn snapshot_every(mut self, entries: u64) -> Self {
        self.snapshot_entries = Some(entries.max(1));
        self
    }

    /// Sets how many log entries before the newest snapshot are kept for lagging replicas. Default:
    /// 8,192 with stores in memory, 262,144 on disk. At most 256 MiB of entries are kept in any
    /// case.
    ///
    /// A replica that lags further behind receives the snapshot instead, as does one for which the
    /// snapshot is smaller than the missing entries.
    pub fn keep_entries(mut self, entries: usize) -> Self {
        self.kept_entries = Some(entries);
        self
    }

    /// Opens the stores, connects, joins the group and starts the threads of the replica.
    ///
    /// Blocks for disk I/O and for the transport, but does not wait for other replicas:
    /// [`Replica::status`] shows what the replica waits for. Commands may be proposed at once.
    ///
    /// # Errors
    ///
    /// See [`StartError`]. After an error no thread is running and the group has not been joined.
    pub fn start(self) -> Result<Replica<M>, StartError> {
        let transport = self.transport.ok_or(StartError::NoTransport)?;
        let group = GroupName::new(&self.group)
            .map_err(|reason| StartError::GroupName { name: self.group.clone(), reason })?;
        let mut bootstrap = self.bootstrap;
        bootstrap.sort_unstable();
        if let Some(twice) = bootstrap.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(StartError::TwiceInBootstrap(twice[0]));
        }
        if !bootstrap.is_empty() && !bootstrap.contains(&self.id) {
            return Err(StartError::NotInBootstrap { id: self.id, bootstrap });
        }
        let application = M::application();
        if application.len() > APPLICATION_BYTES_MAX {
            return Err(StartError::ApplicationName(application));
        }
        let volatile = self.volatile && self.folder.is_none();
        let (mut log, mut snapshots) = (self.log, self.snapshots);
        if let Some(path) = self.folder {
            (log, snapshots) = open_folder(self.id, &application, path)?;
        }
        let mut manager = SnapshotManager::open(snapshots)
            .map_err(|error| RestartError::Unreadable(error.to_string()))?;
        let recovered = record::recover(&mut *log, &mut manager)?;
        let incarnation = Incarnation { replica: self.id, nonce: Nonce(random()?) };
        let mut config = Config::new(incarnation, StoreId(random()?), bootstrap);
        config.application = application;
        config.volatile = volatile;
        config.snapshot_entries = self.snapshot_entries.unwrap_or(config.snapshot_entries);
        let kept_entries = if volatile { config.kept_entries_max } else { KEPT_ENTRIES_ON_DISK };
        config.kept_entries_max = self.kept_entries.unwrap_or(kept_entries);
        let replica = runtime::restart(config, recovered)?;
        let joiner = GroupJoiner::new(transport.clone(), group);
        let connection = joiner.join().map_err(|error| match transport.check() {
            Err(why) => StartError::Socket(why.to_string()),
            Ok(()) => StartError::Transport(error),
        })?;
        let runtime = Runtime::start(self.machine, replica, joiner, connection, log, manager)
            .map_err(|error| StartError::Thread(error.to_string()))?;
        Ok(Replica { runtime, proposal_timeout: self.proposal_timeout })
    }
}

/// Opens the stores in a folder. A new folder is marked as belonging to this replica.
fn open_folder(id: ReplicaId, application: &str, path: PathBuf) -> Result<Stores, StartError> {
    let failed = |error: StorageError| RestartError::Unreadable(error.to_string());
    let unnamed = format!("replica {id}");
    let identity = match application {
        "" => unnamed.clone(),
        name => format!("{unnamed} of {name}"),
    };
    let folder = Folder::open(&path, identity.as_bytes()).map_err(failed)?;
    // Folders of early versions do not name the application.
    if folder.identity() != identity.as_bytes() && folder.identity() != unnamed.as_bytes() {
        let found = String::from_utf8_lossy(folder.identity()).into_owned();
        return Err(StartError::OtherFolder { path, found, expected: identity });
    }
    if let Some(why) = folder.exposed() {
        tracing::warn!(
            folder = %path.display(), why,
            "other users may read the store: its owner is not the user that this replica runs as; \
             change the owner of the folder"
        );
    }
    let log = folder.log().map_err(failed)?;
    let snapshots = folder.snapshots().map_err(failed)?;
    Ok((Box::new(log), Box::new(snapshots)))
}

type Stores = (Box<dyn LogStore>, Box<dyn SnapshotStore>);

fn random() -> Result<u64, StartError> {
    getrandom::u64().map_err(|error| StartError::Random(error.to_string()))
}

/// An error of [`Builder::start`]. The replica is not running.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No transport was set.
    #[error("no transport is set: call `transport` on the builder")]
    NoTransport,
    /// The group name is not valid.
    #[error("{name:?} is not a valid group name: {reason}")]
    GroupName {
        /// The rejected name.
        name: String,
        /// The reason.
        reason: cpg::Error,
    },
    /// The bootstrap list does not contain this replica.
    #[error(
        "replica {id} is not in the bootstrap list ({}): correct the id or the list",
        bootstrap.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    NotInBootstrap {
        /// The id of this replica.
        id: ReplicaId,
        /// The bootstrap list, sorted.
        bootstrap: Vec<ReplicaId>,
    },
    /// The bootstrap list contains a replica twice.
    #[error("replica {0} is in the bootstrap list twice: remove one of the two")]
    TwiceInBootstrap(ReplicaId),
    /// The stores cannot be opened, or belong to another replica.
    #[error(transparent)]
    Store(#[from] RestartError),
    /// The folder belongs to another replica or application.
    #[error(
        "folder {} belongs to {found}, and this is {expected}: give each its own",
        path.display()
    )]
    OtherFolder {
        /// The folder.
        path: PathBuf,
        /// The replica and the application that the folder belongs to.
        found: String,
        /// This replica and its application.
        expected: String,
    },
    /// The socket of the embedded transport cannot be used.
    #[error("cannot reach the other processes: {0}")]
    Socket(String),
    /// The name of the application is longer than 64 bytes.
    #[error(
        "the name of the application has {} bytes, more than the maximum of \
         {APPLICATION_BYTES_MAX}: return a shorter one from `StateMachine::application`", .0.len()
    )]
    ApplicationName(String),
    /// The transport could not be connected to, or the group could not be joined.
    #[error("cannot join the group: {0}")]
    Transport(cpg::Error),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(String),
    /// The operating system returned no random numbers.
    #[error("the operating system returned no random numbers: {0}")]
    Random(String),
}
