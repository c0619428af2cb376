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

/// Describes a replica that is to be started.
#[must_use = "nothing happens before `start`"]
pub struct Builder<M> {
    id: ReplicaId,
    machine: M,
    transport: Option<Transport>,
    group: String,
    bootstrap: Vec<ReplicaId>,
    proposal_timeout: Option<Duration>,
    snapshot_entries: Option<u64>,
    kept_entries: Option<usize>,
    /// The stores are gone with the process.
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

    /// The transport to meet the other replicas by. There is no default.
    pub fn transport(mut self, transport: impl Into<Transport>) -> Self {
        self.transport = Some(transport.into());
        self
    }

    /// The name of the CPG group, `plainsong` by default. Groups of other applications on
    /// the same engine need other names.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = group.into();
        self
    }

    /// The replicas that form the group at its very first start: the same list at each of
    /// them. All must be there before the first command is committed; from then on the
    /// group knows its voters itself, and the list means nothing.
    pub fn bootstrap(mut self, replicas: impl IntoIterator<Item = ReplicaId>) -> Self {
        self.bootstrap = replicas.into_iter().collect();
        self
    }

    /// Where the log and the snapshots are kept; the two belong together. By default in
    /// memory: then a replica that is started again has a new, empty store, and everything
    /// is lost when a majority has stopped.
    ///
    /// A replica that is started with what it had before goes on with it. It must be all of
    /// it: with a store from an older copy it would break promises that it made since.
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

    /// Keeps log and snapshots on disk, in this folder, which is this replica's alone. A
    /// replica that is started again with it goes on with what it had; a command that was
    /// acknowledged is on the disks of a majority of the voters.
    pub fn folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.folder = Some(path.into());
        self
    }

    /// How long a command may wait for its answer, from the call of `propose` on; by default as
    /// long as it takes, through any time without a majority.
    ///
    /// When that is over, a command that was never sent, because there is no majority or others
    /// wait before it, is withdrawn and will not take effect
    /// ([`ProposeError::Withdrawn`](crate::ProposeError::Withdrawn)). One that was sent cannot be called back: its caller hears
    /// [`ProposeError::OutcomeUnknown`](crate::ProposeError::OutcomeUnknown), at the latest when the time of all that were sent
    /// together with it is over, and the command goes on.
    ///
    /// Too low: commands fail while an epoch changes, which takes a second or two after the
    /// sequencer has died.
    pub fn proposal_timeout(mut self, timeout: Duration) -> Self {
        self.proposal_timeout = Some(timeout);
        self
    }

    /// Takes a snapshot of the state at every index of the log that is a multiple of this;
    /// by default of 16,384. The same at all replicas, which compare them. Too low: replicas
    /// are busy writing snapshots. Too high: a restart has many entries to apply.
    pub fn snapshot_every(mut self, entries: u64) -> Self {
        self.snapshot_entries = Some(entries.max(1));
        self
    }

    /// Keeps that many entries of the log behind the newest snapshot, for replicas that lag a
    /// little: by default 8,192 in memory, and 262,144 on disk, but no more than 256 MiB. Who lags
    /// more gets the snapshot, and so does who needs less with it.
    pub fn keep_entries(mut self, entries: usize) -> Self {
        self.kept_entries = Some(entries);
        self
    }

    /// Reads the stores, connects, joins the group and starts the replica's threads. Returns
    /// without waiting for the group; what the replica waits for is told by
    /// [`Replica::status`].
    ///
    /// # Errors
    ///
    /// See [`StartError`]. Nothing is running afterwards.
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

/// The stores in a folder, which is given to this replica where it is new.
fn open_folder(id: ReplicaId, application: &str, path: PathBuf) -> Result<Stores, StartError> {
    let failed = |error: StorageError| RestartError::Unreadable(error.to_string());
    let unnamed = format!("replica {id}");
    let identity = match application {
        "" => unnamed.clone(),
        name => format!("{unnamed} of {name}"),
    };
    let folder = Folder::open(&path, identity.as_bytes()).map_err(failed)?;
    // Folders did not name the application at first.
    if folder.identity() != identity.as_bytes() && folder.identity() != unnamed.as_bytes() {
        let found = String::from_utf8_lossy(folder.identity()).into_owned();
        return Err(StartError::OtherFolder { path, found, expected: identity });
    }
    if let Some(why) = folder.exposed() {
        tracing::warn!(
            folder = %path.display(), why,
            "other users may read the store: it belongs to another user than the one this replica \
             runs as"
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

/// Why a replica could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No transport was named.
    #[error("no transport was given: call `transport` on the builder")]
    NoTransport,
    /// The group's name is not allowed.
    #[error("{name:?} cannot be the name of a group: {reason}")]
    GroupName {
        /// The name.
        name: String,
        /// Why.
        reason: cpg::Error,
    },
    /// The replica is not one of those that are to form the group.
    #[error(
        "replica {id} is not among the replicas that form the group ({}): correct the one or the \
         other",
        bootstrap.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    NotInBootstrap {
        /// The replica.
        id: ReplicaId,
        /// The list.
        bootstrap: Vec<ReplicaId>,
    },
    /// A replica is listed twice.
    #[error("replica {0} is listed twice among those that form the group")]
    TwiceInBootstrap(ReplicaId),
    /// The stores cannot be gone on with.
    #[error(transparent)]
    Store(#[from] RestartError),
    /// The folder is another's.
    #[error("folder {} belongs to {found}, and this is {expected}: give each its own", path.display())]
    OtherFolder {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who was started with it.
        expected: String,
    },
    /// The processes of the embedded transport cannot meet at its socket.
    #[error("cannot meet the other processes: {0}")]
    Socket(String),
    /// The name of the application is too long.
    #[error(
        "the name of the application has {} bytes, and {APPLICATION_BYTES_MAX} are allowed: \
         shorten what `StateMachine::application` returns", .0.len()
    )]
    ApplicationName(String),
    /// The transport refused.
    #[error("cannot join the group: {0}")]
    Transport(cpg::Error),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(String),
    /// The system gave no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}
