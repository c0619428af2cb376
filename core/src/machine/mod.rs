mod applier;

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use self::applier::Applier;
use crate::snapshot::Snapshot;
use crate::wire::entry::MembersChanged;
use crate::{Incarnation, Index, Timestamp};

/// A deterministic state machine: what an application writes.
///
/// Every replica applies the same commands in the same order to its own copy, so all
/// copies stay equal *if `apply` depends on nothing but the state, the context and the
/// command*: no clock (use [`Context::time`]), no randomness, no environment, no order of
/// a hash map.
///
/// # Threads
///
/// One thread of the replica changes the machine, one command after the other. Reads may look
/// at it from several threads at once, in between. A slow `apply` slows the replica down but nothing else of the group.
///
/// # Snapshots
///
/// Every replica takes a snapshot of its state at the same places of the log, forgets what
/// came before, and gives it to replicas that lag too far. A state that can be cloned and
/// serialised needs one line, [`snapshot_by_clone`](crate::snapshot_by_clone).
pub trait StateMachine: Send + Sync + 'static {
    /// What is proposed. Encoded once, by the replica that proposes it; decoded once at
    /// each replica.
    type Command: Serialize + DeserializeOwned + Send + 'static;
    /// What a command answers to who proposed it. Computed everywhere, given to the
    /// caller at the proposing replica, dropped elsewhere.
    type Output: Send + 'static;

    /// The state at one moment.
    type Snapshot: Snapshot;

    /// The name of the application: what tells its replicas from those of other applications in
    /// the same CPG group and on the same disk. Without one, as by default, they can only be told
    /// from applications that have a name.
    ///
    /// It never changes, across all versions of the application: replicas of two names ignore each
    /// other, and one does not start in the folder of the other.
    fn application() -> String {
        String::new()
    }

    /// Applies a committed command: never twice, never undone.
    fn apply(&mut self, context: &Context, command: Self::Command) -> Self::Output;

    /// Takes the state as it is now. `apply` waits for this, so it should be quick; what
    /// takes long is done by [`Snapshot::write`], meanwhile.
    fn snapshot(&self) -> Self::Snapshot;

    /// Replaces the whole state by one that [`Snapshot::write`] wrote, at this or another
    /// replica, by this or an earlier version of the application.
    ///
    /// # Errors
    ///
    /// Those of the reader, and the application's own. Any stops the replica, so what is
    /// left half done harms nobody.
    fn restore(&mut self, from: &mut dyn io::Read) -> io::Result<()>;

    /// Checks that [`restore`](Self::restore) can read a snapshot that was just written. Called on
    /// the thread that writes snapshots. A snapshot that fails the check is dropped: the log is
    /// kept instead, and [`Status::snapshot_refused`](crate::Status::snapshot_refused) says why.
    ///
    /// By default nothing is checked; [`snapshot_by_clone`](crate::snapshot_by_clone) reads the
    /// whole state back.
    ///
    /// # Errors
    ///
    /// When `restore` would fail.
    fn check_snapshot(from: &mut dyn io::Read) -> io::Result<()> {
        let _ = from;
        Ok(())
    }

    /// Runs of replicas came into the group or left it: at this place among the commands,
    /// the same at every replica. No command of a run is applied before it has joined or
    /// after it has left, so what is kept for the proposer of a command
    /// ([`Context::proposer`]) can be given up here: a lock is released, a leader replaced,
    /// as soon as the group knows, without leases.
    ///
    /// Whoever left may still be alive, cut off, and not know it yet: what it does outside
    /// of the group has to be fenced, say by the index at which it was allowed to.
    fn members_changed(&mut self, context: &Context, change: &MembersChanged) {
        let _ = (context, change);
    }

    /// When the machine wants to be woken next, in the log's time; looked at before and
    /// after each entry of the log. `None`, as by default: not at all.
    ///
    /// What is long due and what lies ahead may both be asked for; only the state may tell
    /// which, as all replicas must ask for the same.
    fn wake_at(&self) -> Option<Timestamp> {
        None
    }

    /// The log's time has reached [`wake_at`](Self::wake_at): called once, before the first
    /// entry that was stamped at or after it. Where nothing else is proposed, the group
    /// orders an entry for it, usually within a tenth of a second, so that what is to
    /// happen at some time needs no clock and happens in an idle group too; and never
    /// early, whatever the clocks do.
    ///
    /// A machine that still wants to be woken at a time that has passed is called again
    /// with the next entry, so much work can be done in parts.
    fn wake(&mut self, context: &Context) {
        let _ = context;
    }
}

/// Inside an `impl StateMachine`: snapshots of a state machine that is `Clone`, `Serialize` and
/// `Deserialize`, by cloning it.
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

/// What a command may know besides the state: the same at every replica.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    pub(crate) index: Index,
    pub(crate) time: Timestamp,
    pub(crate) proposer: Option<Incarnation>,
}

impl Context {
    /// For tests of a state machine without a replica.
    pub fn new(index: Index, time: Timestamp) -> Self {
        Self { index, time, proposer: None }
    }

    /// The same for a command of that run.
    #[must_use]
    pub fn proposed_by(self, proposer: Incarnation) -> Self {
        Self { proposer: Some(proposer), ..self }
    }

    /// Which run of which replica proposed the command: a member of the group at this
    /// place in the order. `None` for what is no command.
    pub fn proposer(&self) -> Option<Incarnation> {
        self.proposer
    }

    /// The position in the log of the entry that holds the command. Grows, but the
    /// commands of one batch share it.
    pub fn index(&self) -> Index {
        self.index
    }

    /// The log's time: stamped by the sequencer, the same at all replicas, never going
    /// back (rule N11).
    pub fn time(&self) -> Timestamp {
        self.time
    }
}
