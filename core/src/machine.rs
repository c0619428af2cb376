use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Index;

/// A deterministic state machine: what an application writes.
///
/// Every replica applies the same commands in the same order to its own copy, so all
/// copies stay equal *if `apply` depends on nothing but the state, the context and the
/// command*: no clock (use [`Context::time`]), no randomness, no environment, no order of
/// a hash map.
///
/// # Threads
///
/// One thread of the replica owns the machine and calls it, one command after the other.
/// A slow `apply` slows the replica down but nothing else of the group.
pub trait StateMachine: Send + 'static {
    /// What is proposed. Encoded once, by the replica that proposes it; decoded once at
    /// each replica.
    type Command: Serialize + DeserializeOwned + Send + 'static;
    /// What a command answers to who proposed it. Computed everywhere, given to the
    /// caller at the proposing replica, dropped elsewhere.
    type Output: Send + 'static;

    /// Applies a committed command: never twice, never undone.
    fn apply(&mut self, context: &Context, command: Self::Command) -> Self::Output;
}

/// What a command may know besides the state: the same at every replica.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    pub(crate) index: Index,
    pub(crate) time: Timestamp,
}

impl Context {
    /// For tests of a state machine without a replica.
    pub fn new(index: Index, time: Timestamp) -> Self {
        Self { index, time }
    }

    /// The position in the log of the batch that holds the command. Grows, but the
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

/// A moment of the log's time in milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize,
)]
pub struct Timestamp(pub u64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}
