mod applier;

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use self::applier::Applier;
use crate::snapshot::Snapshot;
use crate::wire::entry::MembersChanged;
use crate::{Incarnation, Index, Timestamp};

/// A deterministic state machine, implemented by the application.
///
/// # Determinism
///
/// Every replica applies the same commands in the same order to its own copy of the state. The
/// copies stay equal only if all methods depend on nothing but the state, the [`Context`] and the
/// command. Do not use clocks (use [`Context::time`]), random numbers, the environment, or the
/// iteration order of hash maps. Replicas compare their snapshots; one that differs from the
/// majority stops ([`StopReason::Diverged`](crate::StopReason::Diverged)).
///
/// Report errors of the application as part of [`Output`](Self::Output). A panic in `apply` stops
/// the replica, and since all replicas apply the same command, all of them.
///
/// # Threads
///
/// One thread of the replica changes the state machine, one command at a time. Reads run between
/// commands, possibly on several threads at once. A slow `apply` on one host does not delay the
/// other replicas.
///
/// # Snapshots
///
/// Every replica takes snapshots of its state at the same log positions, drops older log entries,
/// and sends the snapshot to replicas that lag too far behind. A state that implements `Clone` and
/// serde's traits needs one line: [`snapshot_by_clone`](crate::snapshot_by_clone).
pub trait StateMachine: Send + Sync + 'static {
    /// The type of commands. A command is encoded once, at the proposing replica, and decoded once
    /// at each replica.
    ///
    /// The encoding is bincode, which is not self-describing: untagged and internally tagged enums,
    /// `skip_serializing_if` and types such as `serde_json::Value` do not work. A command that does
    /// not decode is rejected when it is proposed
    /// ([`ProposeError::Unreadable`](crate::ProposeError::Unreadable)).
    type Command: Serialize + DeserializeOwned + Send + 'static;
    /// The type of the result of a command. Every replica computes it; only the proposing replica
    /// returns it, to the caller.
    type Output: Send + 'static;

    /// A point-in-time view of the state, written while further commands are applied.
    type Snapshot: Snapshot;

    /// Returns the name of the application, up to 64 bytes. Default: empty, for no name.
    ///
    /// The name protects against mixing applications: replicas with different names in one CPG
    /// group ignore each other, and a replica does not start in the folder of an application with
    /// another name. Applications without a name are not protected from each other. Never change
    /// the name, not even in a new version.
    fn application() -> String {
        String::new()
    }

    /// Applies a committed command and returns its output. Each command is applied once and never
    /// undone. After a restart, a replica applies again the commands after its newest snapshot, to
    /// the state of that snapshot, so side effects outside the state may happen more than once.
    fn apply(&mut self, context: &Context, command: Self::Command) -> Self::Output;

    /// Captures the current state. `apply` waits for this call, so it should be fast: leave the
    /// expensive work to [`Snapshot::write`], which runs in the background.
    fn snapshot(&self) -> Self::Snapshot;

    /// Replaces the whole state with one that [`Snapshot::write`] wrote, at this or another
    /// replica, with this or an earlier version of the application.
    ///
    /// # Errors
    ///
    /// Errors of the reader and of the application. Any error stops the replica, so the state may
    /// be left incomplete.
    fn restore(&mut self, from: &mut dyn io::Read) -> io::Result<()>;

    /// Checks that [`restore`](Self::restore) could read a snapshot that was just written. Called
    /// on the thread that writes snapshots. A snapshot that fails the check is dropped and the log
    /// is kept instead; [`Status::snapshot_refused`](crate::Status::snapshot_refused) shows the
    /// reason.
    ///
    /// The default implementation checks nothing. [`snapshot_by_clone`](crate::snapshot_by_clone)
    /// reads the whole state back.
    ///
    /// # Errors
    ///
    /// Fails if `restore` would fail.
    fn check_snapshot(from: &mut dyn io::Read) -> io::Result<()> {
        let _ = from;
        Ok(())
    }

    /// Called when incarnations of replicas joined or left the group, at the same position in the
    /// order of commands at every replica (rule N9).
    ///
    /// No command of an incarnation is applied before it has joined or after it has left. So
    /// anything held on behalf of the proposer of a command ([`Context::proposer`]) can be released
    /// here, such as a lock or the role of a leader, without leases.
    ///
    /// A replica that left may still be running, cut off from the group and unaware of it. Fence
    /// its effects outside the group, for example with the log index at which it acquired the lock.
    fn members_changed(&mut self, context: &Context, change: &MembersChanged) {
        let _ = (context, change);
    }

    /// Returns the log time at which [`wake`](Self::wake) is to be called next, or `None`, the
    /// default, for never. Called before and after each log entry, so it should be fast.
    ///
    /// The result must depend on the state alone, so that it is the same at all replicas. It may
    /// lie in the past.
    fn wake_at(&self) -> Option<Timestamp> {
        None
    }

    /// Called once before the first entry whose time is at or after [`wake_at`](Self::wake_at),
    /// with the context of that entry (rule N11d).
    ///
    /// If the group is idle, it orders an entry for this purpose, usually within 100 ms. So timers
    /// need no clock of the application. A wake-up is never early in log time, whatever the clocks
    /// of the hosts do.
    ///
    /// If `wake_at` still returns a time in the past afterwards, `wake` is called again before the
    /// next entry. A state machine can split long work into parts this way.
    fn wake(&mut self, context: &Context) {
        let _ = context;
    }
}

/// Implements the snapshot methods of a [`StateMachine`] that is `Clone`, `Serialize` and
/// `Deserialize`. Use it inside the `impl` block.
///
/// A snapshot is a clone of the state, made while `apply` waits. This suits states that are fast to
/// clone: small ones, or large ones in persistent maps or behind `Arc`s.
///
/// ```
/// # use plainsong::{Context, StateMachine};
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Counter(u64);
///
/// impl StateMachine for Counter {
///     type Command = u64;
///     type Output = u64;
///
///     fn apply(&mut self, _: &Context, add: u64) -> u64 {
///         self.0 += add;
///         self.0
///     }
///
///     plainsong::snapshot_by_clone!();
/// }
/// ```
#[macro_export]
macro_rules! snapshot_by_clone {
    () => {
        type Snapshot = Self;

        fn snapshot(&self) -> Self {
            self.clone()
        }

        fn restore(&mut self, from: &mut dyn ::std::io::Read) -> ::std::io::Result<()> {
            *self = $crate::snapshot::read(from)?;
            Ok(())
        }

        fn check_snapshot(from: &mut dyn ::std::io::Read) -> ::std::io::Result<()> {
            $crate::snapshot::read::<Self>(from).map(drop)
        }
    };
}

/// The circumstances of a log entry: its index, time and proposer. The same at every replica.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    pub(crate) index: Index,
    pub(crate) time: Timestamp,
    pub(crate) proposer: Option<Incarnation>,
}

impl Context {
    /// Creates a context without a proposer, for tests of a state machine without a replica.
    pub fn new(index: Index, time: Timestamp) -> Self {
        Self { index, time, proposer: None }
    }

    /// Returns the context with this proposer.
    #[must_use]
    pub fn proposed_by(self, proposer: Incarnation) -> Self {
        Self { proposer: Some(proposer), ..self }
    }

    /// Returns the incarnation that proposed the command. It is a member of the group at this
    /// position of the log. `None` in [`StateMachine::wake`] and
    /// [`StateMachine::members_changed`].
    pub fn proposer(&self) -> Option<Incarnation> {
        self.proposer
    }

    /// Returns the log index of the entry. It never decreases; the commands of one batch share it.
    pub fn index(&self) -> Index {
        self.index
    }

    /// Returns the log time of the entry in milliseconds since the Unix epoch. The sequencer
    /// assigns it, it is the same at all replicas, and it never decreases along the log (rule N11).
    /// It follows the wall clock of the sequencer but may differ from it.
    pub fn time(&self) -> Timestamp {
        self.time
    }
}
