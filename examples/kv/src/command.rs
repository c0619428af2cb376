//! What is asked of the group, and what it answers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::keys::Keys;

/// What is asked of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To be proposed to the group, and carried out by every replica.
    Propose(Proposal),
    /// To be answered by this replica, once it is known to be up to date.
    Read(Query),
}

impl Ask {
    /// Returns the channel that a message is published on.
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
    /// Whether it changes nothing.
    pub(crate) fn is_read(&self) -> bool {
        matches!(self, Self::Read(_))
    }
}

/// What the log holds.
///
/// Byte strings are [`Bytes`], which the codec moves as whole slices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proposal {
    /// A single command.
    Command(Command),
    /// Several steps, with nothing between them.
    Transaction(Transaction),
}

impl From<Command> for Proposal {
    fn from(command: Command) -> Self {
        Self::Command(command)
    }
}

/// Steps that are carried out one after the other at one place of the log, or not at all
/// (`EXEC`). A step that is refused keeps none of the others from being carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Keys, and their versions as [`Query::Versions`] told them. Nothing is done if one of
    /// them has another version now.
    pub watched: Vec<(Bytes, u64)>,
    /// What is to be done.
    pub steps: Vec<Step>,
}

impl Transaction {
    /// A query that is carried out at its place in the log, as a single step.
    pub(crate) fn of_query(query: Query) -> Self {
        Self { watched: Vec::new(), steps: vec![Step::Read(query)] }
    }
}

/// A step of a [`Transaction`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Changes something.
    Write(Command),
    /// Changes nothing; sees what the steps before it have done.
    Read(Query),
}

/// A command that may change something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The value of a key, which is then given another expiry.
    GetAndExpire {
        /// Whose value.
        key: Bytes,
        /// The expiry it is given.
        expiry: Expiry,
    },
    /// The value of a key, which is then deleted.
    GetAndDelete {
        /// Whose value.
        key: Bytes,
    },
    /// Gives a key a value.
    Set {
        /// Whose value.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// When to do it at all.
        condition: Condition,
        /// When the key goes.
        expiry: Expiry,
        /// Whether to answer the old value instead of whether it was done.
        get: bool,
    },
    /// Gives several keys their values, all at once.
    SetMany(Vec<(Bytes, Bytes)>),
    /// Deletes keys; answers how many there were.
    Delete(Vec<Bytes>),
    /// Adds to a decimal number.
    Add {
        /// Whose value; an absent key counts as zero.
        key: Bytes,
        /// What is added.
        delta: i64,
    },
    /// Appends to a value; answers the new length.
    Append {
        /// Whose value; an absent key counts as empty.
        key: Bytes,
        /// What is appended.
        tail: Bytes,
    },
    /// Gives a key another expiry.
    Expire {
        /// Which key.
        key: Bytes,
        /// When it goes.
        deadline: Deadline,
        /// When to do it at all.
        condition: ExpireCondition,
    },
    /// Takes the expiry from a key.
    Persist {
        /// Which key.
        key: Bytes,
    },
    /// Overwrites a part of a value, with zeros before it where the value was shorter; answers
    /// the new length.
    SetRange {
        /// Whose value; an absent key counts as empty.
        key: Bytes,
        /// Where the part begins.
        first: u32,
        /// What is there then.
        part: Bytes,
    },
    /// Deletes a key on a condition; answers how many there were.
    DeleteIf {
        /// Which key.
        key: Bytes,
        /// When to do it at all.
        condition: Condition,
    },
    /// Gives several keys their values if none of them is there; answers whether it was done.
    SetManyIfAbsent(Vec<(Bytes, Bytes)>),
    /// Deletes all keys.
    Clear,
    /// Adds to a floating point number; answers the sum.
    AddFloat {
        /// Whose value; an absent key counts as zero.
        key: Bytes,
        /// What is added, as the client wrote it: see [`crate::extended`].
        delta: Bytes,
    },
    /// Gives a key another name, and its expiry with it.
    Rename {
        /// Which key.
        key: Bytes,
        /// Its new name. A key that has it is replaced.
        to: Bytes,
        /// Do nothing if there is a key of that name, and answer whether it was done.
        if_absent: bool,
    },
    /// Gives another key the same value and expiry; answers whether it was done.
    Copy {
        /// Which key.
        key: Bytes,
        /// The other key.
        to: Bytes,
        /// Whether to replace a key that is there.
        replace: bool,
    },
    /// Sends a message to the clients that listen to a channel, at all replicas. Changes nothing.
    Publish {
        /// The channel.
        channel: Bytes,
        /// The message.
        message: Bytes,
    },
}

/// What a replica answers alone, when it is up to date. Changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// The value of a key.
    Get {
        /// Whose value.
        key: Bytes,
    },
    /// The values of several keys.
    GetMany(Vec<Bytes>),
    /// How many of the keys exist, each counted as often as it is named.
    Exists(Vec<Bytes>),
    /// The length of a value in bytes; 0 for an absent key.
    Length {
        /// Whose value.
        key: Bytes,
    },
    /// A part of a value; empty for an absent key.
    Range {
        /// Whose value.
        key: Bytes,
        /// Its first byte, counted from zero, or from the end if negative.
        first: i64,
        /// Its last byte, likewise.
        last: i64,
    },
    /// When a key goes.
    Lifetime {
        /// Which key.
        key: Bytes,
        /// In which form to answer.
        form: LifetimeForm,
    },
    /// How many keys there are, and how many of them have an expiry.
    Count,
    /// A part of all keys.
    Scan {
        /// Where to go on; 0 at first.
        cursor: u64,
        /// About how many keys to look at.
        count: u32,
        /// Which of them to answer: a pattern, see [`crate::glob`].
        pattern: Option<Bytes>,
    },
    /// The versions of keys, to be compared by a [`Transaction`]. Each change of a key gives it
    /// a version that no key had before; 0 is an absent key's.
    Versions(Vec<Bytes>),
    /// One of the keys, chosen by a random number: the first one in the order of the hashes from
    /// there on.
    Random(u64),
    /// A property of a key.
    Property {
        /// Which key.
        key: Bytes,
        /// What is asked.
        property: Property,
    },
    /// All keys as they are now, for the server to search.
    Keys,
    /// The place in the log of the last command that was carried out.
    Position,
}

/// What `OBJECT` and `MEMORY` tell of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Property {
    /// The form in which Redis keeps such a value.
    Encoding,
    /// How many references Redis has to such a value.
    References,
    /// The seconds since the last access, which are not counted: 0.
    IdleTime,
    /// How often it is accessed, which is not counted: refused as by Redis without LFU.
    Frequency,
    /// About how many bytes it takes.
    Bytes,
}

/// When to set or delete a key at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// In any case.
    #[default]
    Always,
    /// Only a key that is absent (`NX`).
    Absent,
    /// Only a key that is there (`XX`).
    Present,
    /// Only a key that has this value (`IFEQ`).
    // Boxed: few commands have one, and each would be larger.
    Equal(Box<Bytes>),
    /// Only a key that has another value or is absent (`IFNE`).
    NotEqual(Box<Bytes>),
}

/// What becomes of a key's expiry when it is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expiry {
    /// It stays until it is deleted.
    #[default]
    Never,
    /// What it was before (`KEEPTTL`).
    Keep,
    /// It goes then.
    At(Deadline),
}

/// A moment of log time, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deadline {
    /// So long after the command is applied; what is not positive is at once.
    In(i64),
    /// At this time since the Unix epoch; what is not positive is long ago.
    At(i64),
}

impl Query {
    /// About how many bytes it takes in the log; no less.
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

/// When to change an expiry at all. A key without one counts as living for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireCondition {
    /// Only if there is none (`NX`) or only if there is one (`XX`).
    pub present: Option<bool>,
    /// Only if the key then lives longer (`GT`) or only if it lives less long (`LT`).
    pub longer: Option<bool>,
}

/// The form of a [`Query::Lifetime`] answer. -2 stands for an absent key, -1 for one
/// without expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LifetimeForm {
    /// What is left in seconds, rounded.
    LeftS,
    /// What is left in milliseconds.
    LeftMs,
    /// The time since the Unix epoch in seconds, rounded.
    DeadlineS,
    /// The time since the Unix epoch in milliseconds.
    DeadlineMs,
}

/// What a command or a query answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// It was done.
    Done,
    /// There is no such key, or the condition did not hold.
    Absent,
    /// A number.
    Integer(i64),
    /// A value.
    Value(Bytes),
    /// Several values, in the order of the keys.
    Values(Vec<Option<Bytes>>),
    /// Of [`Query::Count`].
    Counted {
        /// How many keys there are.
        keys: u64,
        /// How many of them have an expiry.
        expiring: u64,
    },
    /// Of [`Query::Scan`].
    Scanned {
        /// Where to go on; 0 at the end.
        cursor: u64,
        /// The keys that were met.
        keys: Vec<Bytes>,
    },
    /// Of [`Query::Versions`], in the order of the keys.
    Versions(Vec<u64>),
    /// Of each step of a [`Transaction`]; `None` if a watched key was not as it had been, and
    /// nothing was done.
    Transaction(Option<Vec<Output>>),
    /// It was refused, and nothing has changed.
    Refused(Refusal),
    /// Of [`Query::Keys`].
    Keys(AllKeys),
}

impl Output {
    /// The output of the only step of a transaction.
    pub(crate) fn of_only_step(self) -> Self {
        match self {
            Self::Transaction(Some(mut outputs)) if outputs.len() == 1 => outputs.remove(0),
            other => other,
        }
    }

    /// The bytes of the values in it.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Value(value) => value.len(),
            Self::Values(values) => values.iter().flatten().map(Bytes::len).sum(),
            Self::Scanned { keys, .. } => keys.iter().map(Bytes::len).sum(),
            _ => 0,
        }
    }
}

/// All keys of a store at one moment. Clones share them, and the store copies only what it
/// changes afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllKeys {
    pub(crate) keys: Keys,
    pub(crate) now: u64,
}

impl AllKeys {
    /// The keys that have not expired, in parts of some hundreds for a million keys.
    pub fn parts(&self) -> impl Iterator<Item = impl Iterator<Item = &Bytes>> {
        self.keys.parts().map(|part| {
            let live = part.iter().filter(|(_, entry)| entry.is_live(self.now));
            live.map(|(place, _)| &place.key)
        })
    }
}

/// Why the store refuses a command: in the words of Redis where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The value is not the decimal form of a number of 64 bits.
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    /// The value, or what is to be added, is not a number.
    #[error("ERR value is not a valid float")]
    NotAFloat,
    /// The sum is too large for a floating point number.
    #[error("ERR increment would produce NaN or Infinity")]
    NotFinite,
    /// The key that is to be renamed is not there.
    #[error("ERR no such key")]
    NoSuchKey,
    /// Accesses are not counted.
    #[error(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note \
         that when switching between policies at runtime LRU and LFU data will take some time to \
         adjust."
    )]
    NoFrequency,
    /// The sum does not fit.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// A value would become longer than [`crate::limits::VALUE_BYTES_MAX`].
    #[error(
        "ERR string exceeds maximum allowed size ({max} bytes)",
        max = crate::limits::VALUE_BYTES_MAX
    )]
    TooLong,
    /// The values that are asked for are more than [`crate::limits::REPLY_BYTES_MAX`].
    #[error(
        "ERR the reply exceeds the maximum allowed size ({max} bytes): ask for less at once",
        max = crate::limits::REPLY_BYTES_MAX
    )]
    ReplyTooLong,
}
