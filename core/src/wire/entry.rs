//! Log entries, and the batches of commands in them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::wire::types::Timestamp;
use crate::wire::types::{Ballot, Digest, Incarnation, Index, Origin, Position, Voters};

/// A batch of commands of one origin. It never changes once it has been sent: a batch that is sent
/// again is byte-identical.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The origin that proposed the commands.
    pub origin: Origin,
    /// The number of the batch. Each origin counts its batches from one, without gaps.
    pub number: u64,
    /// The recipient of the commands.
    pub kind: BatchKind,
    /// The number of commands.
    pub count: u32,
    /// The commands, each preceded by its length (four bytes, little endian).
    pub commands: Bytes,
}

/// The recipient of the commands of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchKind {
    /// Commands for the state machine.
    Application,
    /// Commands for the framework, requested by an operator.
    Operator,
}

/// The payload of a log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryPayload {
    /// The first entry of an epoch, which replicas derive from its `Open` (rule B8).
    EpochStart(Voters),
    /// A batch of commands.
    Batch(Batch),
    /// A membership notice: incarnations joined or left (rule N9).
    Notice(MembersChanged),
    /// A time without any other content (rule N11d).
    Time,
}

/// The incarnations that joined and left the group at one position of the log (rule N9).
///
/// A restarted replica is a new incarnation. An incarnation that was cut off and returns has left
/// and joins again, and receives both notices: treat whatever it held as released in between.
/// Commands that it had proposed but that were not ordered before it left are applied, if at all,
/// after it has joined again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersChanged {
    /// The incarnations that have become members, sorted.
    pub joined: Vec<Incarnation>,
    /// The incarnations that are no longer members, sorted.
    pub left: Vec<Incarnation>,
}

/// A log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The epoch and index of the entry.
    pub position: Position,
    /// The log time assigned by the sequencer (rule N11).
    pub time: Timestamp,
    /// The payload.
    pub payload: EntryPayload,
    /// The hash of the whole log up to and including this entry.
    pub digest: Digest,
}

impl Entry {
    /// Creates the entry that follows a log with the digest `before`.
    pub(crate) fn new(
        before: Digest,
        position: Position,
        time: Timestamp,
        payload: EntryPayload,
    ) -> Self {
        let digest = digest(before, position, time, &payload);
        Self { position, time, payload, digest }
    }

    pub(crate) fn index(&self) -> Index {
        self.position.index
    }
}

impl EntryPayload {
    /// Returns the commands of a batch; empty for other entries.
    pub(crate) fn commands(&self) -> Bytes {
        match self {
            Self::Batch(batch) => batch.commands.clone(),
            Self::EpochStart(_) | Self::Notice(_) | Self::Time => Bytes::new(),
        }
    }

    /// Returns the approximate size in bytes, in memory or encoded, without a head of fixed size.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::EpochStart(voters) => 12 * (voters.now.len() + voters.previous.len()),
            Self::Batch(batch) => batch.commands.len(),
            Self::Notice(notice) => notice.bytes(),
            Self::Time => 0,
        }
    }
}

/// The encoded form of an entry, followed by its commands. The index follows from the position in
/// the stream, and the digest from all entries before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryHead {
    pub(crate) epoch: Ballot,
    pub(crate) time: Timestamp,
    pub(crate) payload: EntryPayloadHead,
}

/// The part of [`EntryHead`] that depends on the kind of the entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EntryPayloadHead {
    EpochStart(Voters),
    Batch(BatchHead),
    Notice(MembersChanged),
    Time,
}

impl EntryHead {
    pub(crate) fn of(entry: &Entry) -> Self {
        let payload = match &entry.payload {
            EntryPayload::EpochStart(voters) => EntryPayloadHead::EpochStart(voters.clone()),
            EntryPayload::Batch(batch) => EntryPayloadHead::Batch(batch.head()),
            EntryPayload::Notice(notice) => EntryPayloadHead::Notice(notice.clone()),
            EntryPayload::Time => EntryPayloadHead::Time,
        };
        Self { epoch: entry.position.epoch, time: entry.time, payload }
    }
}

impl EntryPayloadHead {
    /// Combines the head with the commands; `None` if the commands do not match the head.
    pub(crate) fn with(self, commands: Bytes) -> Option<EntryPayload> {
        let alone = |payload| commands.is_empty().then_some(payload);
        match self {
            Self::EpochStart(voters) => alone(EntryPayload::EpochStart(voters)),
            Self::Batch(head) => Commands::are_well_formed(&commands, head.count)
                .then(|| EntryPayload::Batch(head.with(commands))),
            Self::Notice(notice) => alone(EntryPayload::Notice(notice)),
            Self::Time => alone(EntryPayload::Time),
        }
    }
}

fn digest(before: Digest, position: Position, time: Timestamp, payload: &EntryPayload) -> Digest {
    let mut input = Fields::<128>::default();
    input.put(&before.0.to_le_bytes());
    put_ballot(&mut input, position.epoch);
    input.put(&position.index.0.to_le_bytes());
    input.put(&time.0.to_le_bytes());
    match payload {
        EntryPayload::EpochStart(voters) => {
            input.put(&[1]);
            input.put(&voters_hash(voters).to_le_bytes());
        }
        EntryPayload::Batch(batch) => {
            input.put(&[match batch.kind {
                BatchKind::Application => 2,
                BatchKind::Operator => 5,
            }]);
            input.put(&batch.origin.replica.0.to_le_bytes());
            input.put(&batch.origin.counter.to_le_bytes());
            input.put(&batch.origin.nonce.0.to_le_bytes());
            input.put(&batch.number.to_le_bytes());
            input.put(&batch.count.to_le_bytes());
            input.put(&xxh3_128(&batch.commands).to_le_bytes());
        }
        EntryPayload::Notice(notice) => {
            input.put(&[3]);
            input.put(&notice_hash(notice).to_le_bytes());
        }
        EntryPayload::Time => input.put(&[4]),
    }
    Digest(xxh3_128(input.bytes()))
}

fn put_ballot(input: &mut Fields<128>, ballot: Ballot) {
    input.put(&ballot.counter.to_le_bytes());
    input.put(&ballot.replica.to_le_bytes());
    input.put(&ballot.nonce.0.to_le_bytes());
}

fn voters_hash(voters: &Voters) -> u128 {
    let mut bytes = Vec::with_capacity(24 + 12 * (voters.now.len() + voters.previous.len()));
    for set in [&voters.now, &voters.previous] {
        bytes.extend_from_slice(&(set.len() as u64).to_le_bytes());
        for voter in set {
            bytes.extend_from_slice(&voter.replica.0.to_le_bytes());
            bytes.extend_from_slice(&voter.store.0.to_le_bytes());
        }
    }
    bytes.extend_from_slice(&voters.since.0.to_le_bytes());
    xxh3_128(&bytes)
}

fn notice_hash(notice: &MembersChanged) -> u128 {
    let mut bytes = Vec::with_capacity(16 + notice.bytes());
    for set in [&notice.joined, &notice.left] {
        bytes.extend_from_slice(&(set.len() as u64).to_le_bytes());
        for incarnation in set {
            bytes.extend_from_slice(&incarnation.replica.0.to_le_bytes());
            bytes.extend_from_slice(&incarnation.nonce.0.to_le_bytes());
        }
    }
    xxh3_128(&bytes)
}

impl MembersChanged {
    pub(crate) fn bytes(&self) -> usize {
        12 * (self.joined.len() + self.left.len())
    }
}

/// A buffer on the stack for the input of a hash.
struct Fields<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Default for Fields<N> {
    fn default() -> Self {
        Self { bytes: [0; N], length: 0 }
    }
}

impl<const N: usize> Fields<N> {
    fn put(&mut self, field: &[u8]) {
        let end = self.length + field.len();
        self.bytes[self.length..end].copy_from_slice(field);
        self.length = end;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The encoded form of the head of a [`Batch`], followed by its commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BatchHead {
    pub(crate) origin: Origin,
    pub(crate) number: u64,
    pub(crate) kind: BatchKind,
    pub(crate) count: u32,
}

impl BatchHead {
    pub(crate) fn with(self, commands: Bytes) -> Batch {
        let Self { origin, number, kind, count } = self;
        Batch { origin, number, kind, count, commands }
    }
}

impl Batch {
    pub(crate) fn head(&self) -> BatchHead {
        BatchHead { origin: self.origin, number: self.number, kind: self.kind, count: self.count }
    }
}

/// An iterator over the encoded commands of a batch. Each consists of a length (four bytes, little
/// endian) and that many bytes. Ends early if the bytes are malformed.
pub(crate) struct Commands<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Commands<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let (command, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.0 = rest;
        Some(command)
    }
}

impl Commands<'_> {
    /// Returns true if `bytes` contain exactly `count` commands.
    pub(crate) fn are_well_formed(bytes: &[u8], count: u32) -> bool {
        let mut commands = Commands(bytes);
        let found = commands.by_ref().take(count as usize).count();
        found == count as usize && commands.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::types::{Nonce, ReplicaId};

    fn batch(commands: &'static [u8]) -> EntryPayload {
        let origin = Origin { replica: ReplicaId(1), counter: 1, nonce: Nonce(7) };
        EntryPayload::Batch(Batch {
            origin,
            number: 1,
            kind: BatchKind::Application,
            count: 1,
            commands: Bytes::from_static(commands),
        })
    }

    #[test]
    fn digest_depends_on_everything() {
        let position = Position::default();
        let base = Entry::new(Digest(0), position, Timestamp(1), batch(b"a"));
        let others = [
            Entry::new(Digest(1), position, Timestamp(1), batch(b"a")),
            Entry::new(Digest(0), position, Timestamp(2), batch(b"a")),
            Entry::new(Digest(0), position, Timestamp(1), batch(b"b")),
            Entry::new(
                Digest(0),
                position,
                Timestamp(1),
                EntryPayload::EpochStart(Voters::default()),
            ),
            Entry::new(Digest(0), position, Timestamp(1), EntryPayload::Time),
            Entry::new(
                Digest(0),
                position,
                Timestamp(1),
                EntryPayload::Notice(MembersChanged::default()),
            ),
            Entry::new(
                Digest(0),
                Position { index: Index(1), ..position },
                Timestamp(1),
                batch(b"a"),
            ),
            Entry::new(
                Digest(0),
                Position { epoch: Ballot { counter: 1, ..Ballot::default() }, ..position },
                Timestamp(1),
                batch(b"a"),
            ),
        ];
        for other in others {
            assert_ne!(base.digest, other.digest, "{other:?}");
        }
        assert_eq!(base, Entry::new(Digest(0), position, Timestamp(1), batch(b"a")));
    }

    #[test]
    fn digest_of_a_notice_depends_on_the_incarnations_that_joined_and_left() {
        let run = |nonce| Incarnation { replica: ReplicaId(1), nonce: Nonce(nonce) };
        let digest = |joined: &[u64], left: &[u64]| {
            let [joined, left] = [joined, left].map(|runs| runs.iter().copied().map(run).collect());
            let notice = EntryPayload::Notice(MembersChanged { joined, left });
            Entry::new(Digest(0), Position::default(), Timestamp(1), notice).digest
        };
        let digests = [
            digest(&[], &[]),
            digest(&[1], &[]),
            digest(&[], &[1]),
            digest(&[1, 2], &[]),
            digest(&[1], &[2]),
            digest(&[2], &[1]),
        ];
        for (at, one) in digests.iter().enumerate() {
            assert!(!digests[..at].contains(one));
        }
    }

    #[test]
    fn commands_that_do_not_fill_their_batch_are_rejected() {
        assert!(Commands::are_well_formed(b"", 0));
        assert!(Commands::are_well_formed(b"\x01\0\0\0x\0\0\0\0", 2));
        assert!(!Commands::are_well_formed(b"\x01\0\0\0x\0\0\0\0", 1));
        assert!(!Commands::are_well_formed(b"\x01\0\0\0x", 2));
        assert!(!Commands::are_well_formed(b"\x02\0\0\0x", 1));
        assert!(!Commands::are_well_formed(b"\x02\0\0", 1));
        assert_eq!(Commands(b"\x01\0\0\0x\0\0\0\0").collect::<Vec<_>>(), [&b"x"[..], &b""[..]]);
    }
}
