use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kv::backend::{Backend, CommandFailure};
use kv::command::{Output, Proposal, Query};
use kv::resp::Reply;
use kv::server::{Server, ServerConfig};
use kv::{KvStore, View};
use plainsong::{Consistency, Context, Index, StateMachine, Timestamp};
use service_lib::ReplicaStatus;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::TestClient;

/// A backend with a store and without a group.
#[derive(Clone, Default)]
pub struct Fake(pub Arc<Inner>);

#[derive(Default)]
pub struct Inner {
    pub store: Mutex<KvStore>,
    /// Accepts no commands, as an overloaded replica.
    pub full: AtomicBool,
    /// Accepts commands and never answers them.
    pub silent: AtomicBool,
    /// Fails every command, because the replica has stopped.
    pub failed: AtomicBool,
    pub proposed: AtomicUsize,
    /// Consistency of each read so far.
    pub reads: Mutex<Vec<Consistency>>,
    pub unanswered: Mutex<Vec<oneshot::Sender<Result<Output, CommandFailure>>>>,
}

type BoxedOutcome =
    std::pin::Pin<Box<dyn Future<Output = Result<Output, CommandFailure>> + Send + 'static>>;

impl Backend for Fake {
    type Pending = BoxedOutcome;

    fn try_propose(&self, proposal: Proposal) -> Result<BoxedOutcome, Proposal> {
        if self.0.full.load(Ordering::SeqCst) {
            return Err(proposal);
        }
        let context = Context::new(Index(1), Timestamp(1));
        Ok(self.outcome(|store| store.apply(&context, proposal)))
    }

    fn try_read(
        &self,
        query: Query,
        consistency: Consistency,
        _: impl Send + 'static,
    ) -> Result<BoxedOutcome, Query> {
        if self.0.full.load(Ordering::SeqCst) {
            return Err(query);
        }
        self.0.reads.lock().unwrap().push(consistency);
        Ok(self.outcome(|store| store.answer(query, Timestamp(1))))
    }

    async fn operate(&self, _: Vec<Bytes>) -> Reply {
        Reply::Null
    }

    fn view(&self) -> View {
        self.0.store.lock().unwrap().view()
    }

    fn replica_status(&self) -> ReplicaStatus {
        let silent = self.0.silent.load(Ordering::SeqCst) || self.0.full.load(Ordering::SeqCst);
        let waiting = silent.then(|| "waiting for a majority of 1 2 3: have 3".into());
        ReplicaStatus { id: "3".into(), role: "voter".into(), waiting, ..ReplicaStatus::default() }
    }
}

impl Fake {
    /// Executes a command on the store at once. Its outcome depends on the state of the backend.
    fn outcome(&self, ask: impl FnOnce(&mut KvStore) -> Output) -> BoxedOutcome {
        let inner = &self.0;
        inner.proposed.fetch_add(1, Ordering::SeqCst);
        let (sender, receiver) = oneshot::channel();
        if inner.failed.load(Ordering::SeqCst) {
            let message = "the replica has stopped: for the test".into();
            let _ = sender.send(Err(CommandFailure { message, may_still_take_effect: false }));
        } else {
            let mut store = inner.store.lock().unwrap();
            let output = ask(&mut store);
            if inner.silent.load(Ordering::SeqCst) {
                inner.unanswered.lock().unwrap().push(sender);
            } else {
                let _ = sender.send(Ok(output));
            }
        }
        Box::pin(async move { receiver.await.unwrap() })
    }
}

/// A server with such a backend.
pub struct Test {
    pub runtime: Runtime,
    pub server: Server,
    pub fake: Fake,
}

impl Test {
    pub fn start(timeout: Duration) -> Self {
        Self::start_with(ServerConfig::new(timeout))
    }

    pub fn start_with(config: ServerConfig) -> Self {
        let fake = Fake::default();
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            Server::start(listener, Vec::new(), fake.clone(), config).unwrap()
        });
        Self { runtime, server, fake }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub fn client(&self) -> TestClient {
        TestClient::connect(self.address()).unwrap()
    }
}
