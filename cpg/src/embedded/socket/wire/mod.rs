//! Protocol between hub and clients.
//!
//! A frame consists of its length (excluding the length itself), its kind and its fields. All
//! numbers are little-endian. Nothing is trusted: lengths and lists are limited, and a frame must
//! have no excess bytes. A [`ProtocolError`] ends the connection of the peer that caused it and
//! affects no other.

mod fields;
pub(super) mod frame_reader;
#[cfg(fuzzing)]
mod fuzz;
pub(super) mod output_queue;

use bytes::{BufMut, Bytes, BytesMut};

use super::ClientId;
use crate::{Change, Error, GroupEntry, GroupName, Iteration, Member, NodeId, Pid, Reason};
use fields::open;
#[cfg(fuzzing)]
pub use fuzz::fuzz;

/// Magic at the start of every connection.
const MAGIC: u32 = u32::from_be_bytes(*b"CPGe");
pub(super) const VERSION: u16 = 1;

/// Maximum length of a frame: a message with its fields, or the rows of all groups.
pub(super) const FRAME_BYTES_MAX: usize = 2 << 20;

/// The only node of this transport.
pub(super) const NODE: NodeId = NodeId(1);

/// Maximum sequence of an entry. No group gets that far, and incrementing it cannot overflow.
const SEQUENCE_MAX: u64 = u64::MAX / 2;

/// Number of bytes of a frame before its fields: length and kind.
const HEAD: usize = 5;

/// A violation of the protocol by the peer, with a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct ProtocolError(pub(super) &'static str);

type Result<T> = std::result::Result<T, ProtocolError>;

/// A client as a member: its id and its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Participant {
    pub(super) id: ClientId,
    pub(super) pid: Pid,
}

impl Participant {
    pub(super) fn member(self) -> Member {
        Member { node: NODE, pid: self.pid }
    }
}

/// The entries that a client holds of its group; its report to a new hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) group: GroupName,
    /// Sequence of the first entry kept.
    pub(super) first: u64,
    /// Sequence of the last entry received.
    pub(super) last: u64,
    /// The members after `last`.
    pub(super) members: Vec<Participant>,
}

/// A frame from a client to the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ToHub {
    Hello {
        version: u16,
        who: Participant,
        held: Option<Held>,
    },
    Ask(Iteration),
    Join(GroupName),
    Leave,
    Multicast {
        op: u64,
        message: Bytes,
    },
    /// One of the entries asked for by `Fetch`, and the frame in which it was received.
    Entry {
        entry: Entry,
        frame: Bytes,
    },
    FetchEnd,
    Bye,
}

/// A frame from the hub to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ToClient {
    /// The hub is ready for requests. `ring` is the sequence of its ring.
    Welcome {
        ring: u64,
    },
    Refused(Error),
    Entry(Entry),
    Fetch {
        from: u64,
        to: u64,
    },
    Answer(Vec<GroupEntry>),
}

/// An entry of a group: something with a position in the group's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) sequence: u64,
    pub(super) what: EntryContent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EntryContent {
    /// `op` counts the operations of the sender.
    Message {
        from: Participant,
        op: u64,
        message: Bytes,
    },
    /// `members` after the change; those who came or went, and why.
    Change {
        members: Vec<Participant>,
        joined: Vec<MemberChange>,
        left: Vec<MemberChange>,
    },
    Ring {
        ring: u64,
    },
}

/// A member that joined or left, with the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemberChange {
    pub(super) who: Participant,
    pub(super) reason: Reason,
}

impl MemberChange {
    pub(super) fn change(self) -> Change {
        Change { member: self.who.member(), reason: self.reason }
    }
}

mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const ASK: u8 = 2;
    pub(super) const JOIN: u8 = 3;
    pub(super) const LEAVE: u8 = 4;
    pub(super) const MULTICAST: u8 = 5;
    pub(super) const FETCH_END: u8 = 6;
    pub(super) const BYE: u8 = 7;
    pub(super) const MESSAGE: u8 = 32;
    pub(super) const CHANGE: u8 = 33;
    pub(super) const RING_ENTRY: u8 = 34;
    pub(super) const WELCOME: u8 = 64;
    pub(super) const REFUSED: u8 = 65;
    pub(super) const FETCH: u8 = 66;
    pub(super) const ANSWER: u8 = 67;
}

impl ToHub {
    pub(super) fn encode(&self) -> Bytes {
        match self {
            Self::Hello { version, who, held } => frame(kind::HELLO, |out| {
                out.put_u32_le(MAGIC);
                out.put_u16_le(*version);
                put_participant(out, *who);
                out.put_u8(held.is_some().into());
                if let Some(held) = held {
                    put_name(out, &held.group);
                    out.put_u64_le(held.first);
                    out.put_u64_le(held.last);
                    put_participants(out, &held.members);
                }
            }),
            Self::Ask(iteration) => frame(kind::ASK, |out| match iteration {
                Iteration::NamesOnly => out.put_u8(1),
                Iteration::OneGroup(name) => {
                    out.put_u8(2);
                    put_name(out, name);
                }
                Iteration::All => out.put_u8(3),
            }),
            Self::Join(name) => frame(kind::JOIN, |out| put_name(out, name)),
            Self::Leave => frame(kind::LEAVE, |_| ()),
            Self::Multicast { op, message } => multicast(*op, message.len(), |out| {
                out.extend_from_slice(message);
            }),
            Self::Entry { frame, .. } => frame.clone(),
            Self::FetchEnd => frame(kind::FETCH_END, |_| ()),
            Self::Bye => frame(kind::BYE, |_| ()),
        }
    }

    pub(super) fn decode(frame: &Bytes) -> Result<Self> {
        let (kind, mut fields) = open(frame)?;
        let said = match kind {
            kind::HELLO => {
                if fields.u32()? != MAGIC {
                    return Err(ProtocolError("another protocol"));
                }
                let version = fields.u16()?;
                if version != VERSION {
                    // The remaining fields may differ.
                    let who = Participant { id: ClientId(0), pid: Pid(0) };
                    return Ok(Self::Hello { version, who, held: None });
                }
                let who = fields.participant()?;
                let held = match fields.u8()? {
                    0 => None,
                    1 => Some(fields.held()?),
                    _ => return Err(ProtocolError("a hello with an invalid flag")),
                };
                Self::Hello { version, who, held }
            }
            kind::ASK => Self::Ask(match fields.u8()? {
                1 => Iteration::NamesOnly,
                2 => Iteration::OneGroup(fields.name()?),
                3 => Iteration::All,
                _ => return Err(ProtocolError("an unknown query")),
            }),
            kind::JOIN => Self::Join(fields.name()?),
            kind::LEAVE => Self::Leave,
            kind::MULTICAST => {
                let op = fields.u64()?;
                Self::Multicast { op, message: fields.message(frame)? }
            }
            kind::MESSAGE | kind::CHANGE | kind::RING_ENTRY => {
                let sequence = fields.sequence()?;
                let entry = Entry { sequence, what: fields.what(kind, frame)? };
                Self::Entry { entry, frame: frame.clone() }
            }
            kind::FETCH_END => Self::FetchEnd,
            kind::BYE => Self::Bye,
            _ => return Err(ProtocolError("a frame of a kind that no client sends")),
        };
        fields.end().map(|()| said)
    }
}

impl ToClient {
    pub(super) fn encode(&self) -> Bytes {
        match self {
            Self::Welcome { ring } => frame(kind::WELCOME, |out| out.put_u64_le(*ring)),
            Self::Refused(error) => frame(kind::REFUSED, |out| out.put_i32_le(error.code())),
            Self::Entry(entry) => {
                let mut out = BytesMut::new();
                entry.put(&mut out);
                out.freeze()
            }
            Self::Fetch { from, to } => frame(kind::FETCH, |out| {
                out.put_u64_le(*from);
                out.put_u64_le(*to);
            }),
            Self::Answer(rows) => frame(kind::ANSWER, |out| {
                out.put_u32_le(u32::try_from(rows.len()).unwrap_or(u32::MAX));
                for row in rows {
                    put_name(out, &row.group);
                    out.put_u8(row.member.is_some().into());
                    out.put_u32_le(row.member.map_or(0, |member| member.pid.0));
                }
            }),
        }
    }

    pub(super) fn decode(frame: &Bytes) -> Result<Self> {
        let (kind, mut fields) = open(frame)?;
        let said = match kind {
            kind::WELCOME => Self::Welcome { ring: fields.u64()? },
            kind::REFUSED => {
                let error = Error::from_code(fields.u32()?.cast_signed());
                Self::Refused(error.ok_or(ProtocolError("a rejection without an error"))?)
            }
            kind::MESSAGE | kind::CHANGE | kind::RING_ENTRY => {
                let sequence = fields.sequence()?;
                Self::Entry(Entry { sequence, what: fields.what(kind, frame)? })
            }
            kind::FETCH => Self::Fetch { from: fields.sequence()?, to: fields.sequence()? },
            kind::ANSWER => {
                let count = fields.u32()?;
                Self::Answer((0..count).map(|_| fields.row()).collect::<Result<_>>()?)
            }
            _ => return Err(ProtocolError("a frame of a kind that no hub sends")),
        };
        fields.end().map(|()| said)
    }
}

impl Entry {
    /// Appends the entry as a frame.
    pub(super) fn put(&self, out: &mut BytesMut) {
        match &self.what {
            EntryContent::Message { from, op, message } => {
                put_message(out, self.sequence, *from, *op, message);
            }
            EntryContent::Change { members, joined, left } => {
                put_frame(out, kind::CHANGE, |out| {
                    out.put_u64_le(self.sequence);
                    put_participants(out, members);
                    put_gone(out, joined);
                    put_gone(out, left);
                });
            }
            EntryContent::Ring { ring } => put_frame(out, kind::RING_ENTRY, |out| {
                out.put_u64_le(self.sequence);
                out.put_u64_le(*ring);
            }),
        }
    }
}

/// Appends a message entry as a frame. This is the most frequent frame.
pub(super) fn put_message(
    out: &mut BytesMut,
    sequence: u64,
    from: Participant,
    op: u64,
    message: &[u8],
) {
    put_frame(out, kind::MESSAGE, |out| {
        out.put_u64_le(sequence);
        put_participant(out, from);
        out.put_u64_le(op);
        out.extend_from_slice(message);
    });
}

/// Returns the frame of a multicast. `fill` appends its content of `length` bytes.
pub(super) fn multicast(op: u64, length: usize, fill: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD + size_of_val(&op) + length);
    put_frame(&mut out, kind::MULTICAST, |out| {
        out.put_u64_le(op);
        fill(out);
    });
    out.freeze()
}

/// Returns the length of the frame that starts with these bytes; `None` if there are too few.
pub(super) fn frame_length(start: &[u8]) -> Result<Option<usize>> {
    let Some(length) = start.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 || length > FRAME_BYTES_MAX {
        return Err(ProtocolError("a frame length out of range"));
    }
    Ok(Some(4 + length))
}

fn frame(kind: u8, fill: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    put_frame(&mut out, kind, fill);
    out.freeze()
}

fn put_frame(out: &mut BytesMut, kind: u8, fill: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32_le(0);
    out.put_u8(kind);
    fill(out);
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

fn put_participant(out: &mut BytesMut, who: Participant) {
    out.put_u64_le(who.id.0);
    out.put_u32_le(who.pid.0);
}

fn put_participants(out: &mut BytesMut, list: &[Participant]) {
    out.put_u8(u8::try_from(list.len()).unwrap_or(u8::MAX));
    list.iter().for_each(|who| put_participant(out, *who));
}

fn put_gone(out: &mut BytesMut, list: &[MemberChange]) {
    out.put_u8(u8::try_from(list.len()).unwrap_or(u8::MAX));
    for gone in list {
        put_participant(out, gone.who);
        out.put_u8(match gone.reason {
            Reason::Join => 1,
            Reason::Leave => 2,
            _ => 5,
        });
    }
}

fn put_name(out: &mut BytesMut, name: &GroupName) {
    let name = name.as_str().as_bytes();
    out.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(name);
}

#[cfg(test)]
mod tests;
