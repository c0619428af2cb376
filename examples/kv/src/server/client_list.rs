//! The connected clients of a server, as `CLIENT LIST` shows them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use service_lib::Rights;

use crate::resp::Protocol;

/// All connected clients of a server, by id.
#[derive(Debug, Default)]
pub(super) struct ClientList(Mutex<BTreeMap<u64, Arc<ConnectedClient>>>);

/// A connected client.
#[derive(Debug)]
pub(super) struct ConnectedClient {
    pub(super) id: u64,
    /// True if it needs no password.
    pub(super) is_trusted: bool,
    pub(super) rights: Rights,
    address: String,
    local: String,
    since: Instant,
    state: Mutex<ClientState>,
}

/// The variable part of a client's line in `CLIENT LIST`.
#[derive(Clone, Debug)]
pub(super) struct ClientState {
    pub(super) name: Bytes,
    pub(super) library: Bytes,
    pub(super) library_version: Bytes,
    pub(super) command: Cow<'static, str>,
    pub(super) active: Instant,
    pub(super) channels: usize,
    pub(super) patterns: usize,
    /// Number of commands queued since `MULTI`.
    pub(super) queued: Option<usize>,
    pub(super) protocol: Protocol,
}

/// Keeps a client in the list. Dropping it removes the client.
pub(super) struct Entered {
    clients: Arc<ClientList>,
    client: Arc<ConnectedClient>,
}

impl ClientList {
    /// Adds a client. `address` and `local` are the client's and the server's end of the
    /// connection.
    pub(super) fn enter(
        self: &Arc<Self>,
        id: u64,
        is_trusted: bool,
        rights: Rights,
        address: String,
        local: String,
    ) -> Entered {
        let since = Instant::now();
        let state = Mutex::new(ClientState::new(since));
        let client =
            Arc::new(ConnectedClient { id, is_trusted, rights, address, local, since, state });
        lock(&self.0).insert(id, Arc::clone(&client));
        Entered { clients: Arc::clone(self), client }
    }

    /// Returns one line for each client that satisfies `is_asked_for`.
    pub(super) fn list(&self, is_asked_for: impl Fn(&ConnectedClient) -> bool) -> String {
        // Copies the list, so that clients can connect while the lines are formatted.
        let clients: Vec<_> = lock(&self.0).values().cloned().collect();
        clients.iter().filter(|client| is_asked_for(client)).map(|client| client.line()).collect()
    }
}

impl Deref for Entered {
    type Target = Arc<ConnectedClient>;

    fn deref(&self) -> &Arc<ConnectedClient> {
        &self.client
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        lock(&self.clients.0).remove(&self.client.id);
    }
}

impl ConnectedClient {
    /// Locks the variable part.
    pub(super) fn state(&self) -> MutexGuard<'_, ClientState> {
        lock(&self.state)
    }

    pub(super) fn is_listening(&self) -> bool {
        let state = self.state();
        state.channels + state.patterns > 0
    }

    /// Returns the client's line in `CLIENT LIST`, with the fields of Redis in the order of Redis.
    /// Buffer sizes are not measured and always 0.
    pub(super) fn line(&self) -> String {
        let state = self.state().clone();
        let flags = match (state.queued, state.channels + state.patterns) {
            (Some(_), _) => "x",
            (None, 0) => "N",
            (None, _) => "P",
        };
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db=0 sub={} \
             psub={} ssub=0 multi={} qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 \
             oll=0 omem=0 tot-mem=0 events=r cmd={} user=default redir=-1 resp={} lib-name={} \
             lib-ver={}\n",
            self.id,
            self.address,
            self.local,
            String::from_utf8_lossy(&state.name),
            self.since.elapsed().as_secs(),
            state.active.elapsed().as_secs(),
            state.channels,
            state.patterns,
            state.queued.map_or(-1, |queued| queued as i64),
            state.command,
            state.protocol.number(),
            String::from_utf8_lossy(&state.library),
            String::from_utf8_lossy(&state.library_version),
        )
    }
}

impl ClientState {
    /// Clears what `RESET` clears: everything but the name and version of the client library.
    pub(super) fn reset(&mut self) {
        let (library, library_version) =
            (std::mem::take(&mut self.library), std::mem::take(&mut self.library_version));
        *self = Self { library, library_version, ..Self::new(self.active) };
    }

    fn new(active: Instant) -> Self {
        Self {
            name: Bytes::new(),
            library: Bytes::new(),
            library_version: Bytes::new(),
            command: Cow::Borrowed("NULL"),
            active,
            channels: 0,
            patterns: 0,
            queued: None,
            protocol: Protocol::default(),
        }
    }
}

/// Locks a value. Poisoning is ignored: no panic under these locks can leave a value inconsistent.
fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
