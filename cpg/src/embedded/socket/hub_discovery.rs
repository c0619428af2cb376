//! Finds the hub, or becomes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::files::keeper::Keeper;
use super::files::ring_path::{Reached, RingPath, SocketError};
use super::files::roster::Roster;
use super::hub::Hub;
use crate::{Error, Result};
use std::os::unix::net::UnixStream;

/// The hubs of this process, by path. A connection to a hub of its own process keeps that hub
/// alive, no matter which connection started it.
static HUBS: Mutex<BTreeMap<PathBuf, Weak<Hub>>> = Mutex::new(BTreeMap::new());

/// A socket connected to a hub, and the hub itself if it runs in this process.
pub(super) struct HubLink {
    pub(super) socket: UnixStream,
    pub(super) hub: Option<Arc<Hub>>,
}

/// Connects to the hub of `path`. If there is none, becomes the hub first. Retries until
/// `deadline`.
pub(super) fn find_hub(path: &Path, deadline: Instant) -> Result<HubLink> {
    try_to_find_hub(path, deadline).map_err(|why| {
        let Some(why) = why else { return Error::Timeout };
        tracing::error!("{why}");
        why.general()
    })
}

/// Like [`find_hub`], with the error `None` at the deadline.
fn try_to_find_hub(path: &Path, deadline: Instant) -> Result<HubLink, Option<SocketError>> {
    super::files::default_path::make_directory(path)?;
    let ring_path = RingPath::open(path)?;
    let mut pause = Duration::from_millis(1);
    loop {
        match ring_path.reach()? {
            Reached::Hub(socket) => return Ok(HubLink { socket, hub: own_hub(ring_path.path()) }),
            Reached::Nobody => {
                // Held until connected: the hub stops when its last reference is dropped.
                if let Some(hub) = become_hub(&ring_path)?
                    && let Reached::Hub(socket) = ring_path.reach()?
                {
                    return Ok(HubLink { socket, hub: Some(hub) });
                }
            }
            Reached::Busy => {}
        }
        // Another process holds the lock and either does not listen yet or is about to exit; or
        // the hub accepts no connections because its process is stopped.
        if Instant::now() >= deadline {
            return Err(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(16));
    }
}

fn own_hub(path: &Path) -> Option<Arc<Hub>> {
    HUBS.lock().unwrap_or_else(PoisonError::into_inner).get(path)?.upgrade()
}

/// Takes the lock, if it is free, and starts the hub.
fn become_hub(ring_path: &RingPath) -> Result<Option<Arc<Hub>>, SocketError> {
    let Some(lock) = ring_path.lock()? else { return Ok(None) };
    let roster = Roster::load(ring_path.beside(".ring"))?;
    let Some((listener, socket)) = ring_path.listen()? else { return Ok(None) };
    let keeper = Keeper::new(ring_path.clone(), lock, socket);
    let hub = Hub::start(keeper, listener, roster)
        .map_err(|why| SocketError::System { path: ring_path.path().to_owned(), why })?;
    let hub = Arc::new(hub);
    let mut hubs = HUBS.lock().unwrap_or_else(PoisonError::into_inner);
    hubs.retain(|_, hub| hub.strong_count() > 0);
    hubs.insert(ring_path.path().to_owned(), Arc::downgrade(&hub));
    Ok(Some(hub))
}
