//! Encoding between a [`Remote`](super::Remote) and its child: lengths and fields, without checks,
//! because both ends are the same program.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use bytes::{Buf, BufMut, Bytes};

use crate::{
    Change, Configuration, Error, Event, GroupEntry, GroupName, Iteration, Member, NodeId, Pid,
    Reason, Result, Ring, RingId,
};

pub(super) fn send(mut socket: &UnixStream, body: &[u8]) -> io::Result<()> {
    socket.write_all(&(body.len() as u64).to_le_bytes())?;
    socket.write_all(body)
}

pub(super) fn receive(mut socket: &UnixStream) -> io::Result<Bytes> {
    let mut length = [0; 8];
    socket.read_exact(&mut length)?;
    let mut body = vec![0; usize::try_from(u64::from_le_bytes(length)).unwrap()];
    socket.read_exact(&mut body)?;
    Ok(body.into())
}

/// Something that can be said.
pub(super) trait Say: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn get(from: &mut Bytes) -> Self;
}

macro_rules! say_number {
    ($($type:ty, $put:ident, $get:ident;)*) => {
        $(impl Say for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.$put(*self);
            }

            fn get(from: &mut Bytes) -> Self {
                from.$get()
            }
        })*
    };
}

say_number! {
    u8, put_u8, get_u8;
    u32, put_u32_le, get_u32_le;
    u64, put_u64_le, get_u64_le;
    i32, put_i32_le, get_i32_le;
}

impl Say for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u64).put(out);
        out.put_slice(self);
    }

    fn get(from: &mut Bytes) -> Self {
        let length = usize::try_from(u64::get(from)).unwrap();
        from.split_to(length)
    }
}

impl<T: Say> Say for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u64).put(out);
        self.iter().for_each(|item| item.put(out));
    }

    fn get(from: &mut Bytes) -> Self {
        (0..u64::get(from)).map(|_| T::get(from)).collect()
    }
}

impl<T: Say> Say for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        u8::from(self.is_some()).put(out);
        self.iter().for_each(|item| item.put(out));
    }

    fn get(from: &mut Bytes) -> Self {
        (u8::get(from) == 1).then(|| T::get(from))
    }
}

impl<T: Say> Say for Result<T> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Ok(value) => {
                1_i32.put(out);
                value.put(out);
            }
            Err(error) => error.code().put(out),
        }
    }

    fn get(from: &mut Bytes) -> Self {
        match Error::from_code(i32::get(from)) {
            None => Ok(T::get(from)),
            Some(error) => Err(error),
        }
    }
}

impl Say for () {
    fn put(&self, _: &mut Vec<u8>) {}

    fn get(_: &mut Bytes) -> Self {}
}

impl Say for GroupName {
    fn put(&self, out: &mut Vec<u8>) {
        Bytes::copy_from_slice(self.as_str().as_bytes()).put(out);
    }

    fn get(from: &mut Bytes) -> Self {
        Self::new(std::str::from_utf8(&Bytes::get(from)).unwrap()).unwrap()
    }
}

impl Say for Member {
    fn put(&self, out: &mut Vec<u8>) {
        self.node.0.put(out);
        self.pid.0.put(out);
    }

    fn get(from: &mut Bytes) -> Self {
        Self { node: NodeId(u32::get(from)), pid: Pid(u32::get(from)) }
    }
}

const REASONS: [Reason; 6] = [
    Reason::Undefined,
    Reason::Join,
    Reason::Leave,
    Reason::NodeDown,
    Reason::NodeUp,
    Reason::ProcessDown,
];

impl Say for Change {
    fn put(&self, out: &mut Vec<u8>) {
        self.member.put(out);
        let number = REASONS.iter().position(|reason| *reason == self.reason).unwrap();
        u8::try_from(number).unwrap().put(out);
    }

    fn get(from: &mut Bytes) -> Self {
        Self { member: Member::get(from), reason: REASONS[usize::from(u8::get(from))] }
    }
}

impl Say for GroupEntry {
    fn put(&self, out: &mut Vec<u8>) {
        self.group.put(out);
        self.member.put(out);
    }

    fn get(from: &mut Bytes) -> Self {
        Self { group: Say::get(from), member: Say::get(from) }
    }
}

impl Say for Iteration {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::NamesOnly => 0_u8.put(out),
            Self::OneGroup(group) => {
                1_u8.put(out);
                group.put(out);
            }
            Self::All => 2_u8.put(out),
        }
    }

    fn get(from: &mut Bytes) -> Self {
        match u8::get(from) {
            0 => Self::NamesOnly,
            1 => Self::OneGroup(Say::get(from)),
            _ => Self::All,
        }
    }
}

impl Say for Event {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Deliver { sender, message } => {
                0_u8.put(out);
                sender.put(out);
                message.put(out);
            }
            Self::Configuration(Configuration { members, joined, left }) => {
                1_u8.put(out);
                members.put(out);
                joined.put(out);
                left.put(out);
            }
            Self::Ring(ring) => {
                2_u8.put(out);
                ring.id.representative.0.put(out);
                ring.id.sequence.put(out);
                ring.nodes.iter().map(|node| node.0).collect::<Vec<_>>().put(out);
            }
        }
    }

    fn get(from: &mut Bytes) -> Self {
        match u8::get(from) {
            0 => Self::Deliver { sender: Say::get(from), message: Say::get(from) },
            1 => Self::Configuration(Configuration {
                members: Say::get(from),
                joined: Say::get(from),
                left: Say::get(from),
            }),
            _ => {
                let representative = NodeId(Say::get(from));
                let id = RingId { representative, sequence: Say::get(from) };
                Self::Ring(Ring { id, nodes: Vec::get(from).into_iter().map(NodeId).collect() })
            }
        }
    }
}
