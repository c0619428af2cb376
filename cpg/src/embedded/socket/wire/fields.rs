use bytes::Bytes;

use super::{
    EntryContent, Held, MemberChange, NODE, Participant, ProtocolError, Result, SEQUENCE_MAX, kind,
};
use crate::embedded::socket::ClientId;
use crate::limits::{MEMBERS_MAX, MESSAGE_BYTES_MAX};
use crate::{GroupEntry, GroupName, Member, Pid, Reason};

/// Returns the kind of a frame, and its fields.
pub(super) fn open(frame: &Bytes) -> Result<(u8, Fields<'_>)> {
    match frame.get(4..) {
        Some([kind, fields @ ..]) => Ok((*kind, Fields(fields))),
        _ => Err(ProtocolError("a frame without a kind")),
    }
}

/// The fields of a frame that have not been read yet.
pub(super) struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (array, rest) =
            self.0.split_first_chunk().ok_or(ProtocolError("a frame that ends early"))?;
        self.0 = rest;
        Ok(*array)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads the sequence of an entry.
    pub(super) fn sequence(&mut self) -> Result<u64> {
        let sequence = self.u64()?;
        if sequence > SEQUENCE_MAX {
            return Err(ProtocolError("a sequence out of range"));
        }
        Ok(sequence)
    }

    pub(super) fn name(&mut self) -> Result<GroupName> {
        let length = self.u8()?;
        let (name, rest) = self
            .0
            .split_at_checked(length.into())
            .ok_or(ProtocolError("a frame that ends early"))?;
        self.0 = rest;
        let name = std::str::from_utf8(name).ok().and_then(|name| GroupName::new(name).ok());
        name.ok_or(ProtocolError("an invalid group name"))
    }

    pub(super) fn participant(&mut self) -> Result<Participant> {
        Ok(Participant { id: ClientId(self.u64()?), pid: Pid(self.u32()?) })
    }

    fn count(&mut self) -> Result<u8> {
        let count = self.u8()?;
        if usize::from(count) > MEMBERS_MAX {
            return Err(ProtocolError("more members than a group can have"));
        }
        Ok(count)
    }

    fn participants(&mut self) -> Result<Vec<Participant>> {
        (0..self.count()?).map(|_| self.participant()).collect()
    }

    pub(super) fn gone(&mut self) -> Result<Vec<MemberChange>> {
        (0..self.count()?)
            .map(|_| {
                let who = self.participant()?;
                let reason = match self.u8()? {
                    1 => Reason::Join,
                    2 => Reason::Leave,
                    5 => Reason::ProcessDown,
                    _ => return Err(ProtocolError("an unknown reason")),
                };
                Ok(MemberChange { who, reason })
            })
            .collect()
    }

    pub(super) fn held(&mut self) -> Result<Held> {
        let (group, first, last) = (self.name()?, self.sequence()?, self.sequence()?);
        if first == 0 || first > last {
            return Err(ProtocolError("an invalid range of held entries"));
        }
        Ok(Held { group, first, last, members: self.participants()? })
    }

    pub(super) fn what(&mut self, kind: u8, frame: &Bytes) -> Result<EntryContent> {
        Ok(match kind {
            kind::MESSAGE => {
                let (from, op) = (self.participant()?, self.u64()?);
                EntryContent::Message { from, op, message: self.message(frame)? }
            }
            kind::CHANGE => {
                let (members, joined) = (self.participants()?, self.gone()?);
                EntryContent::Change { members, joined, left: self.gone()? }
            }
            _ => EntryContent::Ring { ring: self.u64()? },
        })
    }

    pub(super) fn row(&mut self) -> Result<GroupEntry> {
        let (group, has_member, pid) = (self.name()?, self.u8()?, Pid(self.u32()?));
        let member = (has_member != 0).then_some(Member { node: NODE, pid });
        Ok(GroupEntry { group, member })
    }

    /// Returns the rest of the frame, sharing its memory.
    pub(super) fn message(&mut self, frame: &Bytes) -> Result<Bytes> {
        if self.0.len() > MESSAGE_BYTES_MAX {
            return Err(ProtocolError("a message that is too big"));
        }
        let message = frame.slice(frame.len() - self.0.len()..);
        self.0 = &[];
        Ok(message)
    }

    pub(super) fn end(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(ProtocolError("a frame with excess bytes")) }
    }
}
