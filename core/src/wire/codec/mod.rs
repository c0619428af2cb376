//! The wire format of messages, called frames, and the encoding of commands and log entries.
//!
//! A frame consists of a header, a body and, for some kinds, the commands of a batch or of entries,
//! or the bytes of a chunk. All numbers are little endian.
//!
//! | bytes | field |
//! | --- | --- |
//! | 4 | magic `PSNG` |
//! | 2 | version of the format, currently 3 |
//! | 2 | kind of the message |
//! | 16 | cluster id, zero while it is unknown |
//! | 8 | application id, zero for an application without a name |
//! | 4 | length of the body in bincode |
//! | 4 | length of the part after the body (commands or chunk) |
//! | 4 | CRC32C of the header before this field, of the body, and of the part after it |
//!
//! bincode uses fixed-width integers and a size limit, and rejects trailing bytes. No other module
//! uses bincode directly.

mod stream;
#[cfg(test)]
mod tests;

use std::io::IoSlice;

use bincode::Options;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use self::stream::{read, read_first, write};
use crate::wire::entry::Commands;
use crate::wire::message::{BatchMessage, Chunk, ChunkMessage, Entries, EntriesMessage, Message};
use crate::wire::types::{ApplicationId, ClusterId};

/// The version of frames that this build writes and reads. Frames of other versions are rejected.
pub const VERSION: u16 = 3;

const MAGIC: [u8; 4] = *b"PSNG";
const HEADER: usize = 44;
/// Offset of the length of the body; the length of the commands follows.
const LENGTHS_AT: usize = HEADER - 12;
const CRC_AT: usize = HEADER - 4;
/// Maximum length of an encoded value, in bytes: more than fits into any CPG message.
const BODY_MAX: u64 = 1 << 20;

/// An error of decoding a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame is shorter than a header, or its length does not match the lengths in the header.
    #[error("a frame of {0} bytes is truncated or too long")]
    Length(usize),
    /// The first bytes are not those of a frame.
    #[error(
        "not a Plainsong frame: it begins with {0:02x?}; if another program uses this group, give \
         one of the two another group name"
    )]
    Magic([u8; 4]),
    /// The frame has another version.
    #[error(
        "the frame has version {found}, but this build uses version {VERSION}: run the same \
         version at all replicas"
    )]
    Version {
        /// The version of the frame.
        found: u16,
    },
    /// The checksum does not match: the frame is damaged.
    #[error("the frame is damaged: its checksum is {found:08x} instead of {expected:08x}")]
    Checksum {
        /// The checksum in the header.
        found: u32,
        /// The checksum computed from the frame.
        expected: u32,
    },
    /// This version has no such kind of message.
    #[error("the frame has the unknown kind {0}")]
    Kind(u16),
    /// The body or the commands do not decode as this kind.
    #[error("the frame of kind {kind} does not decode: {reason}")]
    Body {
        /// The kind of the frame.
        kind: u16,
        /// The reason.
        reason: String,
    },
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_limit(BODY_MAX)
}

/// Encodes a value into a new buffer.
pub(crate) fn encode(value: &impl Serialize) -> Result<Vec<u8>, bincode::Error> {
    options().serialize(value)
}

/// Appends an encoded value to `into`.
pub(crate) fn encode_into(
    into: &mut Vec<u8>,
    value: &impl Serialize,
) -> Result<(), bincode::Error> {
    options().serialize_into(into, value)
}

/// Decodes a value encoded by [`encode`].
pub(crate) fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, bincode::Error> {
    options().deserialize(bytes)
}

/// An encoded message. Header and body share one allocation; the commands of a batch are not
/// copied.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    head: Vec<u8>,
    commands: Bytes,
}

impl Frame {
    pub(crate) fn new(
        application: ApplicationId,
        cluster: Option<ClusterId>,
        message: &Message,
    ) -> Self {
        let mut head = Vec::with_capacity(256);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&kind(message).to_le_bytes());
        head.extend_from_slice(&cluster.map_or(0, |cluster| cluster.0).to_le_bytes());
        head.extend_from_slice(&application.0.to_le_bytes());
        head.resize(HEADER, 0);
        let mut commands = Bytes::new();
        let encoded = match message {
            Message::Announce(announce) => encode_into(&mut head, announce),
            Message::Begin(ballot) => encode_into(&mut head, ballot),
            Message::Report(report) => encode_into(&mut head, report),
            Message::Open(open) => encode_into(&mut head, open),
            Message::Batch(batch, progress) => {
                commands = batch.commands.clone();
                let progress = progress.clone();
                encode_into(&mut head, &BatchMessage { head: batch.head(), progress })
            }
            Message::Progress(progress) => encode_into(&mut head, progress),
            Message::Read(read) => encode_into(&mut head, read),
            Message::Fetch(fetch) => encode_into(&mut head, fetch),
            Message::Entries(entries) => {
                let (written, all) = split(entries);
                commands = all;
                encode_into(&mut head, &written)
            }
            Message::Offer(offer) => encode_into(&mut head, offer),
            Message::Chunk(chunk) => {
                let Chunk { name, number, donor, sent, .. } = *chunk;
                commands = chunk.bytes.clone();
                encode_into(&mut head, &ChunkMessage { name, number, donor, sent })
            }
            Message::Received(received) => encode_into(&mut head, received),
        };
        // The message types always encode, and the engine bounds their size.
        assert!(encoded.is_ok(), "a message does not encode: {encoded:?}");
        let body = (head.len() - HEADER) as u32;
        head[LENGTHS_AT..LENGTHS_AT + 4].copy_from_slice(&body.to_le_bytes());
        let commands_length = (commands.len() as u32).to_le_bytes();
        head[LENGTHS_AT + 4..CRC_AT].copy_from_slice(&commands_length);
        let crc = checksum(&head, &commands);
        head[CRC_AT..HEADER].copy_from_slice(&crc.to_le_bytes());
        Self { head, commands }
    }

    /// Returns the length of the frame in bytes.
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.commands.len()
    }

    pub(crate) fn slices(&self) -> [IoSlice<'_>; 2] {
        [IoSlice::new(&self.head), IoSlice::new(&self.commands)]
    }

    #[cfg(any(test, fuzzing, feature = "testing"))]
    pub(crate) fn bytes(&self) -> Bytes {
        [&self.head[..], &self.commands].concat().into()
    }
}

fn checksum(head: &[u8], commands: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&head[..CRC_AT]);
    let crc = crc32c::crc32c_append(crc, &head[HEADER..]);
    crc32c::crc32c_append(crc, commands)
}

fn kind(message: &Message) -> u16 {
    match message {
        Message::Announce(_) => 1,
        Message::Begin(_) => 2,
        Message::Report(_) => 3,
        Message::Open(_) => 4,
        Message::Batch(..) => 5,
        Message::Progress(_) => 6,
        Message::Fetch(_) => 7,
        Message::Entries(_) => 8,
        Message::Read(_) => 9,
        Message::Offer(_) => 10,
        Message::Chunk(_) => 11,
        Message::Received(_) => 12,
    }
}

/// The contents of a decoded frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) application: ApplicationId,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) message: Message,
}

/// Checks and decodes a frame. The commands of a batch are not copied: they share `frame`.
pub(crate) fn decode_frame(frame: &Bytes) -> Result<Decoded, DecodeError> {
    let header: &[u8; HEADER] = frame.first_chunk().ok_or(DecodeError::Length(frame.len()))?;
    let mut fields = Reader(header);
    let magic = fields.take();
    if magic != MAGIC {
        return Err(DecodeError::Magic(magic));
    }
    let version = u16::from_le_bytes(fields.take());
    if version != VERSION {
        return Err(DecodeError::Version { found: version });
    }
    let kind = u16::from_le_bytes(fields.take());
    let cluster = u128::from_le_bytes(fields.take());
    let application = ApplicationId(u64::from_le_bytes(fields.take()));
    let body = u32::from_le_bytes(fields.take()) as usize;
    let commands = u32::from_le_bytes(fields.take()) as usize;
    let found = u32::from_le_bytes(fields.take());
    let head = HEADER.checked_add(body).ok_or(DecodeError::Length(frame.len()))?;
    if head.checked_add(commands) != Some(frame.len()) {
        return Err(DecodeError::Length(frame.len()));
    }
    let expected = checksum(&frame[..head], &frame[head..]);
    if found != expected {
        return Err(DecodeError::Checksum { found, expected });
    }
    let message = decode_body(kind, &frame[HEADER..head], frame.slice(head..))?;
    let cluster = (cluster != 0).then_some(ClusterId(cluster));
    Ok(Decoded { application, cluster, message })
}

fn decode_body(kind: u16, body: &[u8], commands: Bytes) -> Result<Message, DecodeError> {
    let refused = |reason: String| DecodeError::Body { kind, reason };
    let failed = |error: bincode::Error| refused(error.to_string());
    if !matches!(kind, 5 | 8 | 11) && !commands.is_empty() {
        return Err(refused("this kind has no commands".into()));
    }
    Ok(match kind {
        1 => Message::Announce(decode(body).map_err(failed)?),
        2 => Message::Begin(decode(body).map_err(failed)?),
        3 => Message::Report(decode(body).map_err(failed)?),
        4 => Message::Open(decode(body).map_err(failed)?),
        5 => {
            let BatchMessage { head, progress } = decode(body).map_err(failed)?;
            if !Commands::are_well_formed(&commands, head.count) {
                return Err(refused("the commands do not match their count".into()));
            }
            Message::Batch(head.with(commands), progress)
        }
        6 => Message::Progress(decode(body).map_err(failed)?),
        7 => Message::Fetch(decode(body).map_err(failed)?),
        8 => {
            let written: EntriesMessage = decode(body).map_err(failed)?;
            let entries = join(written, commands);
            Message::Entries(
                entries.ok_or_else(|| refused("the commands do not match the entries".into()))?,
            )
        }
        9 => Message::Read(decode(body).map_err(failed)?),
        10 => Message::Offer(decode(body).map_err(failed)?),
        11 => {
            let ChunkMessage { name, number, donor, sent } = decode(body).map_err(failed)?;
            Message::Chunk(Chunk { name, number, donor, sent, bytes: commands })
        }
        12 => Message::Received(decode(body).map_err(failed)?),
        kind => return Err(DecodeError::Kind(kind)),
    })
}

/// Separates the heads of entries from their commands, which are concatenated.
fn split(entries: &Entries) -> (EntriesMessage, Bytes) {
    let mut all = Vec::new();
    let mut heads = Vec::with_capacity(entries.entries.len());
    for (head, commands) in &entries.entries {
        all.extend_from_slice(commands);
        heads.push((head.clone(), commands.len() as u32));
    }
    let Entries { epoch, first, digest, more, .. } = *entries;
    (EntriesMessage { epoch, first, entries: heads, digest, more }, all.into())
}

/// Reverses [`split`]. Returns `None` if the lengths do not match.
fn join(written: EntriesMessage, mut all: Bytes) -> Option<Entries> {
    let mut entries = Vec::with_capacity(written.entries.len());
    for (head, length) in written.entries {
        let length = length as usize;
        if length > all.len() {
            return None;
        }
        entries.push((head, all.split_to(length)));
    }
    let EntriesMessage { epoch, first, digest, more, .. } = written;
    all.is_empty().then_some(Entries { epoch, first, entries, digest, more })
}

/// Reads fields of known sizes from a header that is long enough for all of them.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        let (head, rest) = self.0.split_at(N);
        field.copy_from_slice(head);
        self.0 = rest;
        field
    }
}

/// Creates a frame with a valid header and arbitrary contents.
#[cfg(any(test, fuzzing))]
pub(crate) fn forged(kind: u16, body: &[u8], commands: &[u8]) -> Bytes {
    let mut head = Vec::new();
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&kind.to_le_bytes());
    head.extend_from_slice(&[0; 24]);
    head.extend_from_slice(&(body.len() as u32).to_le_bytes());
    head.extend_from_slice(&(commands.len() as u32).to_le_bytes());
    head.extend_from_slice(&[0; 4]);
    head.extend_from_slice(body);
    let crc = checksum(&head, commands);
    head[CRC_AT..HEADER].copy_from_slice(&crc.to_le_bytes());
    head.extend_from_slice(commands);
    head.into()
}
