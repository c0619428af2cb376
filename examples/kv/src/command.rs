//! Commands and queries of the store, and their outputs.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::keys::Keys;

/// A request to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Proposed to the group, and applied by every replica.
    Propose(Proposal),
    /// Answered by this replica, once it is known to be up to date.
    Read(Query),
}

impl Ask {
    /// Returns the channel if this publishes a message.
    pub(crate) fn channel(&self) -> Option<&Bytes> {
        match self {
            Self::Propose(Proposal::Command(Command::Publish { channel, .. })) => Some(channel),
            _ => None,
        }
    }
}

impl From<Command> for Ask {
    fn from(command: Command) -> Self {
        Self::Propose(Proposal::Command(command))
    }
}

impl From<Proposal> for Ask {
    fn from(proposal: Proposal) -> Self {
        Self::Propose(proposal)
    }
}

impl From<Query> for Ask {
    fn from(query: Query) -> Self {
        Self::Read(query)
    }
}

impl Ask {
    /// Returns true if this changes nothing.
    pub(crate) fn is_read(&self) -> bool {
        matches!(self, Self::Read(_))
    }
}

/// A command of the replicated log.
///
/// Byte strings are [`Bytes`], which the codec copies as whole slices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proposal {
    /// A single command.
    Command(Command),
    /// Several steps that are applied together.
    Transaction(Transaction),
}

impl From<Command> for Proposal {
    fn from(command: Command) -> Self {
        Self::Command(command)
    }
}

/// Steps that are applied in order at one position of the log, or not at all (`EXEC`). A rejected
/// step does not keep the others from being applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Keys and their versions, as returned by [`Query::Versions`]. No step is applied if the
    /// current version of one of them differs.
    pub watched: Vec<(Bytes, u64)>,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl Transaction {
    /// Creates a transaction that runs a query at its position in the log.
    pub(crate) fn of_query(query: Query) -> Self {
        Self { watched: Vec::new(), steps: vec![Step::Read(query)] }
    }
}

/// A step of a [`Transaction`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Runs a command.
    Write(Command),
    /// Runs a query, which sees the effects of the steps before it.
    Read(Query),
}

/// A command that may change the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Returns the value of a key and changes its expiry.
    GetAndExpire {
        /// The key.
        key: Bytes,
        /// The new expiry.
        expiry: Expiry,
    },
    /// Returns the value of a key and deletes the key.
    GetAndDelete {
        /// The key.
        key: Bytes,
    },
    /// Sets the value of a key.
    Set {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// Condition under which to set it.
        condition: Condition,
        /// The expiry.
        expiry: Expiry,
        /// True to return the old value instead of whether the value was set.
        get: bool,
    },
    /// Sets the values of several keys at once.
    SetMany(Vec<(Bytes, Bytes)>),
    /// Deletes keys. Returns the number of keys deleted.
    Delete(Vec<Bytes>),
    /// Adds to a decimal integer.
    Add {
        /// The key. An absent key counts as zero.
        key: Bytes,
        /// The number to add.
        delta: i64,
    },
    /// Appends to a value. Returns the new length.
    Append {
        /// The key. An absent key counts as empty.
        key: Bytes,
        /// The bytes to append.
        tail: Bytes,
    },
    /// Changes the expiry of a key.
    Expire {
        /// The key.
        key: Bytes,
        /// The new expiry.
        deadline: Deadline,
        /// Condition under which to change it.
        condition: ExpireCondition,
    },
    /// Removes the expiry of a key.
    Persist {
        /// The key.
        key: Bytes,
    },
    /// Overwrites a part of a value, and pads a shorter value with zeros before it. Returns the new
    /// length.
    SetRange {
        /// The key. An absent key counts as empty.
        key: Bytes,
        /// Offset of the part in bytes.
        first: u32,
        /// The new bytes.
        part: Bytes,
    },
    /// Deletes a key if a condition holds. Returns the number of keys deleted, 0 or 1.
    DeleteIf {
        /// The key.
        key: Bytes,
        /// Condition under which to delete it.
        condition: Condition,
    },
    /// Sets the values of several keys if none of them exists. Returns whether they were set.
    SetManyIfAbsent(Vec<(Bytes, Bytes)>),
    /// Deletes all keys.
    Clear,
    /// Adds to a floating point number. Returns the sum.
    AddFloat {
        /// The key. An absent key counts as zero.
        key: Bytes,
        /// The number to add, as text from the client; see [`crate::extended`].
        delta: Bytes,
    },
    /// Renames a key. Its expiry stays the same.
    Rename {
        /// The key.
        key: Bytes,
        /// The new name. An existing key of that name is replaced.
        to: Bytes,
        /// True to do nothing if a key of the new name exists, and to return whether the key was
        /// renamed.
        if_absent: bool,
    },
    /// Copies the value and expiry of a key to another key. Returns whether it was copied.
    Copy {
        /// The key.
        key: Bytes,
        /// The other key.
        to: Bytes,
        /// True to replace the other key if it exists.
        replace: bool,
    },
    /// Sends a message to the subscribers of a channel at all replicas. Changes nothing in the
    /// store.
    Publish {
        /// The channel.
        channel: Bytes,
        /// The message.
        message: Bytes,
    },
}

/// A query, which changes nothing. A single replica answers it once it is up to date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// Value of a key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Values of several keys.
    GetMany(Vec<Bytes>),
    /// Number of these keys that exist. A key listed several times counts several times.
    Exists(Vec<Bytes>),
    /// Length of a value in bytes; 0 for an absent key.
    Length {
        /// The key.
        key: Bytes,
    },
    /// Part of a value; empty for an absent key.
    Range {
        /// The key.
        key: Bytes,
        /// Offset of the first byte. Counts from the end if negative.
        first: i64,
        /// Offset of the last byte. Counts from the end if negative.
        last: i64,
    },
    /// Expiry of a key.
    Lifetime {
        /// The key.
        key: Bytes,
        /// Form of the answer.
        form: LifetimeForm,
    },
    /// Number of keys, and of keys with an expiry.
    Count,
    /// Part of all keys.
    Scan {
        /// Place at which to resume; 0 to start.
        cursor: u64,
        /// Approximate number of keys to look at.
        count: u32,
        /// Pattern of the keys to return; see [`crate::glob`].
        pattern: Option<Bytes>,
    },
    /// Versions of keys, for [`Transaction::watched`]. Each change of a key gives it a version that
    /// no key had before. The version of an absent key is 0.
    Versions(Vec<Bytes>),
    /// A random key: the first one in hash order from this number on.
    Random(u64),
    /// Property of a key.
    Property {
        /// The key.
        key: Bytes,
        /// The property.
        property: Property,
    },
    /// All keys at this moment, for the server to search.
    Keys,
    /// Index of the last applied command.
    Position,
}

/// A property of a key, as `OBJECT` and `MEMORY` report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Property {
    /// Internal encoding that Redis uses for such a value.
    Encoding,
    /// Number of references that Redis has to such a value.
    References,
    /// Seconds since the last access. Accesses are not recorded, so always 0.
    IdleTime,
    /// Access frequency. Accesses are not recorded, so this is rejected as by Redis without LFU.
    Frequency,
    /// Approximate size in bytes.
    Bytes,
}

/// Condition under which a key is set or deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Always.
    #[default]
    Always,
    /// Only if the key is absent (`NX`).
    Absent,
    /// Only if the key exists (`XX`).
    Present,
    /// Only if the key has this value (`IFEQ`).
    // Boxed, because it is rare and would make every command larger.
    Equal(Box<Bytes>),
    /// Only if the key has another value or is absent (`IFNE`).
    NotEqual(Box<Bytes>),
}

/// New expiry of a key that is being set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expiry {
    /// The key never expires.
    #[default]
    Never,
    /// The expiry stays the same (`KEEPTTL`).
    Keep,
    /// The key expires at this time.
    At(Deadline),
}

/// A point of log time, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deadline {
    /// Relative to the log time at which the command is applied. Zero and negative numbers mean
    /// immediately.
    In(i64),
    /// Since the Unix epoch. Zero and negative numbers mean immediately.
    At(i64),
}

impl Query {
    /// Returns an upper bound of the number of bytes that the query takes in the log.
    pub(crate) fn log_bytes(&self) -> usize {
        let keys: &[Bytes] = match self {
            Self::Get { key }
            | Self::Length { key }
            | Self::Range { key, .. }
            | Self::Lifetime { key, .. } => std::slice::from_ref(key),
            Self::GetMany(keys) | Self::Exists(keys) | Self::Versions(keys) => keys,
            Self::Scan { pattern, .. } => pattern.as_slice(),
            Self::Property { key, .. } => std::slice::from_ref(key),
            Self::Count | Self::Random(_) | Self::Keys | Self::Position => &[],
        };
        keys.iter().map(|key| key.len() + 8).sum::<usize>() + 128
    }
}

/// Condition under which an expiry is changed. A key without an expiry counts as living forever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireCondition {
    /// `Some(false)`: only if the key has no expiry (`NX`). `Some(true)`: only if it has one
    /// (`XX`).
    pub present: Option<bool>,
    /// `Some(true)`: only if the key then lives longer (`GT`). `Some(false)`: only if it then lives
    /// shorter (`LT`).
    pub longer: Option<bool>,
}

/// Form of the answer to a [`Query::Lifetime`]. In every form -2 stands for an absent key, and -1
/// for a key without expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LifetimeForm {
    /// Remaining time in seconds, rounded.
    LeftS,
    /// Remaining time in milliseconds.
    LeftMs,
    /// Time of the expiry in seconds since the Unix epoch, rounded.
    DeadlineS,
    /// Time of the expiry in milliseconds since the Unix epoch.
    DeadlineMs,
}

/// Output of a command or a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The command was applied.
    Done,
    /// The key is absent, or the condition did not hold.
    Absent,
    /// A number.
    Integer(i64),
    /// A value.
    Value(Bytes),
    /// Several values, in the order of the keys.
    Values(Vec<Option<Bytes>>),
    /// Output of [`Query::Count`].
    Counted {
        /// Number of keys.
        keys: u64,
        /// Number of keys with an expiry.
        expiring: u64,
    },
    /// Output of [`Query::Scan`].
    Scanned {
        /// Cursor of the next call; 0 at the end.
        cursor: u64,
        /// The keys found.
        keys: Vec<Bytes>,
    },
    /// Output of [`Query::Versions`], in the order of the keys.
    Versions(Vec<u64>),
    /// Outputs of the steps of a [`Transaction`]; `None` if a watched key had changed, and no step
    /// was applied.
    Transaction(Option<Vec<Output>>),
    /// The command was rejected, and nothing has changed.
    Refused(Refusal),
    /// Output of [`Query::Keys`].
    Keys(AllKeys),
}

impl Output {
    /// Converts the output of a transaction with a single step to the output of that step.
    pub(crate) fn of_only_step(self) -> Self {
        match self {
            Self::Transaction(Some(mut outputs)) if outputs.len() == 1 => outputs.remove(0),
            other => other,
        }
    }

    /// Returns the total size of the values in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Value(value) => value.len(),
            Self::Values(values) => values.iter().flatten().map(Bytes::len).sum(),
            Self::Scanned { keys, .. } => keys.iter().map(Bytes::len).sum(),
            _ => 0,
        }
    }
}

/// All keys of a store at one moment. Clones share them, and the store copies only the parts that
/// it changes afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllKeys {
    pub(crate) keys: Keys,
    pub(crate) now: u64,
}

impl AllKeys {
    /// Returns the keys that have not expired, in 4,096 parts.
    pub fn parts(&self) -> impl Iterator<Item = impl Iterator<Item = &Bytes>> {
        self.keys.parts().map(|part| {
            let live = part.iter().filter(|(_, entry)| entry.is_live(self.now));
            live.map(|(place, _)| &place.key)
        })
    }
}

/// Reason for which the store rejects a command. The texts are Redis's own where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The value is not a signed 64-bit integer in canonical decimal form.
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    /// The value, or the number to add, is not a number.
    #[error("ERR value is not a valid float")]
    NotAFloat,
    /// The sum is too large for a floating point number, or an operand is infinite.
    #[error("ERR increment would produce NaN or Infinity")]
    NotFinite,
    /// The key to rename does not exist.
    #[error("ERR no such key")]
    NoSuchKey,
    /// Access frequencies are not recorded.
    #[error(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note \
         that when switching between policies at runtime LRU and LFU data will take some time to \
         adjust."
    )]
    NoFrequency,
    /// The sum does not fit into 64 bits.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// The value would exceed [`crate::limits::VALUE_BYTES_MAX`].
    #[error(
        "ERR string exceeds maximum allowed size ({max} bytes)",
        max = crate::limits::VALUE_BYTES_MAX
    )]
    TooLong,
    /// The values requested exceed [`crate::limits::REPLY_BYTES_MAX`].
    #[error(
        "ERR the reply exceeds the maximum allowed size ({max} bytes): request fewer values at once",
        max = crate::limits::REPLY_BYTES_MAX
    )]
    ReplyTooLong,
}
