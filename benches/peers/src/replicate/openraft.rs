//! openraft as an application uses it: three nodes on one tokio runtime, with logs in memory,
//! requests passed without encoding, and callers as tasks at the leader.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Cursor;
use std::ops::RangeBounds;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use openraft::error::{InstallSnapshotError, RPCError, RaftError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::storage::{LogFlushed, RaftLogStorage, RaftStateMachine};
use openraft::{
    BasicNode, Config, Entry, EntryPayload, LogId, LogState, OptionalSend, Raft, RaftLogReader,
    RaftNetwork, RaftNetworkFactory, RaftSnapshotBuilder, Snapshot, SnapshotMeta, SnapshotPolicy,
    StorageError, StoredMembership, Vote,
};

use super::{Map, Put, TIME, WARM};
use crate::peer::Result;

openraft::declare_raft_types!(Types: D = Put, R = usize, NodeId = u64, Node = BasicNode);

type Stored<V> = std::result::Result<V, StorageError<u64>>;
type Group = Arc<OnceLock<Vec<Raft<Types>>>>;

pub fn run(callers: usize) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let rate = runtime.block_on(measure(callers));
    runtime.shutdown_background();
    rate
}

async fn measure(callers: usize) -> Result<f64> {
    let config = Config {
        heartbeat_interval: 500,
        election_timeout_min: 2000,
        election_timeout_max: 4000,
        snapshot_policy: SnapshotPolicy::Never,
        max_payload_entries: 4096,
        ..Config::default()
    };
    let config = Arc::new(config.validate()?);
    let group = Group::default();
    let mut nodes = Vec::new();
    for id in 1..=3 {
        let (network, log) = (Router(group.clone()), Log::default());
        nodes.push(Raft::new(id, config.clone(), network, log, State::default()).await?);
    }
    let leader = nodes[0].clone();
    group.set(nodes.clone()).map_err(|_| "set twice")?;
    leader.initialize(BTreeMap::from([1, 2, 3].map(|id| (id, BasicNode::default())))).await?;
    leader.wait(None).current_leader(1, "the first node leads").await?;

    let (answers, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    for caller in 0..callers as u64 {
        let (leader, answers, stop) = (leader.clone(), answers.clone(), stop.clone());
        tokio::spawn(async move {
            let mut key = caller << 32;
            while !stop.load(Ordering::Relaxed) && leader.client_write(Put::of(key)).await.is_ok() {
                key += 1;
                answers.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(WARM).await;
    let (from, before) = (Instant::now(), answers.load(Ordering::Relaxed));
    tokio::time::sleep(TIME).await;
    let rate = (answers.load(Ordering::Relaxed) - before) as f64 / from.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for node in nodes {
        node.shutdown().await?;
    }
    Ok(rate)
}

#[derive(Clone)]
struct Router(Group);

struct Way {
    group: Group,
    to: u64,
}

impl RaftNetworkFactory<Types> for Router {
    type Network = Way;

    async fn new_client(&mut self, to: u64, _: &BasicNode) -> Way {
        Way { group: self.0.clone(), to }
    }
}

type Failed<E> = RPCError<u64, BasicNode, RaftError<u64, E>>;
type Plain = openraft::error::Infallible;

impl Way {
    fn peer<E: std::error::Error>(&self) -> std::result::Result<&Raft<Types>, Failed<E>> {
        let peer = self.group.get().and_then(|nodes| nodes.get(self.to as usize - 1));
        peer.ok_or_else(|| RPCError::Unreachable(Unreachable::new(&std::io::Error::other("early"))))
    }
}

fn failed<E: std::error::Error>(error: impl std::error::Error + 'static) -> Failed<E> {
    RPCError::Unreachable(Unreachable::new(&error))
}

impl RaftNetwork<Types> for Way {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> std::result::Result<AppendEntriesResponse<u64>, Failed<Plain>> {
        self.peer()?.append_entries(rpc).await.map_err(failed)
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        _: RPCOption,
    ) -> std::result::Result<InstallSnapshotResponse<u64>, Failed<InstallSnapshotError>> {
        self.peer()?.install_snapshot(rpc).await.map_err(failed)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        _: RPCOption,
    ) -> std::result::Result<VoteResponse<u64>, Failed<Plain>> {
        self.peer()?.vote(rpc).await.map_err(failed)
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<LogInner>>);

#[derive(Default)]
struct LogInner {
    entries: BTreeMap<u64, Entry<Types>>,
    purged: Option<LogId<u64>>,
    vote: Option<Vote<u64>>,
}

impl Log {
    fn lock(&self) -> std::sync::MutexGuard<'_, LogInner> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Stored<Vec<Entry<Types>>> {
        Ok(self.lock().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Stored<LogState<Types>> {
        let log = self.lock();
        let last_log_id = log.entries.values().next_back().map(|entry| entry.log_id).or(log.purged);
        Ok(LogState { last_purged_log_id: log.purged, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Stored<()> {
        self.lock().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Stored<Option<Vote<u64>>> {
        Ok(self.lock().vote)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Stored<()>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.lock().entries.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId<u64>) -> Stored<()> {
        self.lock().entries.split_off(&from.index);
        Ok(())
    }

    async fn purge(&mut self, through: LogId<u64>) -> Stored<()> {
        let mut log = self.lock();
        log.entries = log.entries.split_off(&(through.index + 1));
        log.purged = Some(through);
        Ok(())
    }
}

#[derive(Clone, Default)]
struct State {
    map: Map,
    applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, BasicNode>,
}

impl RaftStateMachine<Types> for State {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Stored<(Option<LogId<u64>>, StoredMembership<u64, BasicNode>)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Stored<Vec<usize>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut answers = Vec::new();
        for entry in entries {
            self.applied = Some(entry.log_id);
            answers.push(match entry.payload {
                EntryPayload::Normal(put) => self.map.apply(put),
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    0
                }
                EntryPayload::Blank => 0,
            });
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    // No replica lags, so no snapshot is needed.
    async fn begin_receiving_snapshot(&mut self) -> Stored<Box<Cursor<Vec<u8>>>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        _: &SnapshotMeta<u64, BasicNode>,
        _: Box<Cursor<Vec<u8>>>,
    ) -> Stored<()> {
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Stored<Option<Snapshot<Types>>> {
        Ok(None)
    }
}

impl RaftSnapshotBuilder<Types> for State {
    async fn build_snapshot(&mut self) -> Stored<Snapshot<Types>> {
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: String::new(),
        };
        Ok(Snapshot { meta, snapshot: Box::default() })
    }
}
