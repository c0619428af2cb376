//! The hub: the thread that orders the messages of all groups of a ring.

mod assembly;
mod order;
mod peer;
mod recovery;
mod worker;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, eventfd};

use super::files::keeper::Keeper;
use super::files::roster::Roster;
use crate::limits::RING_STEP;
use worker::Worker;

/// Id of a connection to this hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Token(u64);

/// The hub's thread. Dropping this stops the thread and releases the lock.
pub(super) struct Hub {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

/// Signal for the thread to stop.
struct Stop {
    flag: AtomicBool,
    bell: OwnedFd,
}

impl Hub {
    /// Starts a hub. The lock is held and the listener is ready. Forms a new ring, which includes
    /// the clients of the last hub, if any.
    pub(super) fn start(keeper: Keeper, listener: OwnedFd, mut roster: Roster) -> io::Result<Self> {
        roster.set_ring(roster.ring() + RING_STEP)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let stop = Arc::new(Stop { flag: AtomicBool::new(false), bell });
        let seen = stop.clone();
        let thread = thread::Builder::new().name("cpg-hub".into()).spawn(move || {
            // The lock is released last: the process that gets it finds no listener.
            drop(Worker::new(listener, roster, keeper, &seen).run());
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.flag.store(true, Ordering::Release);
        let _ = rustix::io::write(&self.stop.bell, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the hub of an embedded ring panicked");
        }
    }
}
