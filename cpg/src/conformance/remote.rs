use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::codec::{Say, receive, send};
use super::{Local, Member};
use crate::{Event, GroupEntry, GroupName, Guarantee, Iteration, Options, Result, Transport};

/// Maximum number of message bytes in one answer of a child.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A member in a child process.
#[derive(Debug)]
pub struct Remote {
    child: Child,
    socket: UnixStream,
    events: VecDeque<Event>,
}

/// A request to a child.
enum Request {
    Join(GroupName),
    Leave,
    Multicast(u8, Vec<Bytes>),
    Next(Duration),
    Members(GroupName),
    Groups(Iteration),
    LocalMember,
    MaxSize,
    Close,
}

impl Remote {
    /// Starts a program that calls [`serve`], with its connection to us as standard input,
    /// and opens a connection there.
    pub fn start(program: &mut Command, options: Options) -> Result<Self> {
        let (socket, theirs) = UnixStream::pair().unwrap();
        let child = program.stdin(Stdio::from(OwnedFd::from(theirs))).spawn().unwrap();
        // A program may keep its end open until it is started anew.
        program.stdin(Stdio::null());
        let mut remote = Self { child, socket, events: VecDeque::new() };
        send(&remote.socket, &[options.initial_ring.into()]).unwrap();
        remote.answer::<()>()?;
        Ok(remote)
    }

    /// The process id of the child.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn ask<T: Say>(&mut self, request: &Request) -> Result<T> {
        let mut body = Vec::new();
        request.put(&mut body);
        send(&self.socket, &body).expect("the child lives");
        self.answer()
    }

    fn answer<T: Say>(&mut self) -> Result<T> {
        Result::get(&mut receive(&self.socket).expect("the child lives"))
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Member for Remote {
    fn join(&mut self, group: &GroupName) -> Result<()> {
        self.ask(&Request::Join(group.clone()))
    }

    fn leave(&mut self) -> Result<()> {
        self.ask(&Request::Leave)
    }

    fn multicast(&mut self, guarantee: Guarantee, message: &[&[u8]]) -> Result<()> {
        let guarantee = GUARANTEES.iter().position(|known| *known == guarantee).unwrap();
        let slices = message.iter().map(|slice| Bytes::copy_from_slice(slice)).collect();
        self.ask(&Request::Multicast(u8::try_from(guarantee).unwrap(), slices))
    }

    fn next(&mut self, timeout: Duration) -> Result<Option<Event>> {
        if self.events.is_empty() {
            self.events = self.ask::<Vec<Event>>(&Request::Next(timeout))?.into();
        }
        Ok(self.events.pop_front())
    }

    fn members(&mut self, group: &GroupName) -> Result<Vec<crate::Member>> {
        self.ask(&Request::Members(group.clone()))
    }

    fn groups(&mut self, iteration: &Iteration) -> Result<Vec<GroupEntry>> {
        self.ask(&Request::Groups(iteration.clone()))
    }

    fn local_member(&mut self) -> crate::Member {
        self.ask(&Request::LocalMember).unwrap()
    }

    fn max_atomic_message_size(&mut self) -> usize {
        usize::try_from(self.ask::<u64>(&Request::MaxSize).unwrap()).unwrap()
    }

    fn close(mut self: Box<Self>) {
        self.ask::<()>(&Request::Close).unwrap();
    }

    fn kill(self: Box<Self>) {}
}

/// Serves as a [`Remote`]'s child until it is closed, or the parent is gone.
pub fn serve(transport: &Transport) {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let socket = UnixStream::from(socket);
    let Ok(options) = receive(&socket) else { return };
    let connection = transport.connect(Options { initial_ring: options[0] == 1 });
    reply(&socket, &connection.as_ref().map(|_| ()).map_err(|error| *error));
    let Ok(connection) = connection else { return };
    let mut member = Local(connection);
    while let Ok(mut request) = receive(&socket) {
        let request = Request::get(&mut request);
        if let Request::Close = request {
            drop(member);
            return reply(&socket, &Ok(()));
        }
        obey(&mut member, &socket, request);
    }
}

fn obey(member: &mut Local, socket: &UnixStream, request: Request) {
    match request {
        Request::Join(group) => reply(socket, &member.join(&group)),
        Request::Leave => reply(socket, &member.leave()),
        Request::Multicast(guarantee, slices) => {
            let slices: Vec<_> = slices.iter().map(|slice| &**slice).collect();
            reply(socket, &member.multicast(GUARANTEES[usize::from(guarantee)], &slices));
        }
        Request::Next(timeout) => reply(socket, &next_events(member, timeout)),
        Request::Members(group) => reply(socket, &member.members(&group)),
        Request::Groups(iteration) => reply(socket, &member.groups(&iteration)),
        Request::LocalMember => reply(socket, &Ok(member.local_member())),
        Request::MaxSize => reply(socket, &Ok(member.max_atomic_message_size() as u64)),
        Request::Close => {}
    }
}

/// The next event, and what is there behind it.
fn next_events(member: &mut Local, timeout: Duration) -> Result<Vec<Event>> {
    let deadline = Instant::now() + timeout;
    let (mut events, mut bytes) = (Vec::new(), 0);
    while bytes < ANSWER_BYTES_MAX {
        let left = if events.is_empty() {
            deadline.saturating_duration_since(Instant::now())
        } else {
            Duration::ZERO
        };
        match member.next(left) {
            Ok(Some(event)) => {
                bytes +=
                    if let Event::Deliver { message, .. } = &event { message.len() } else { 0 };
                events.push(event);
            }
            // Events before an error are returned first.
            Err(_) if !events.is_empty() => break,
            Err(error) => return Err(error),
            Ok(None) => break,
        }
    }
    Ok(events)
}

fn reply<T: Say>(socket: &UnixStream, what: &Result<T>) {
    let mut body = Vec::new();
    what.put(&mut body);
    // Without a parent there is nobody to tell.
    let _ = send(socket, &body);
}

const GUARANTEES: [Guarantee; 4] =
    [Guarantee::Unordered, Guarantee::Fifo, Guarantee::Agreed, Guarantee::Safe];

impl Say for Request {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Join(group) => {
                0_u8.put(out);
                group.put(out);
            }
            Self::Leave => 1_u8.put(out),
            Self::Multicast(guarantee, slices) => {
                2_u8.put(out);
                guarantee.put(out);
                slices.put(out);
            }
            Self::Next(timeout) => {
                3_u8.put(out);
                u64::try_from(timeout.as_millis()).unwrap().put(out);
            }
            Self::Members(group) => {
                4_u8.put(out);
                group.put(out);
            }
            Self::Groups(iteration) => {
                5_u8.put(out);
                iteration.put(out);
            }
            Self::LocalMember => 6_u8.put(out),
            Self::MaxSize => 7_u8.put(out),
            Self::Close => 8_u8.put(out),
        }
    }

    fn get(from: &mut Bytes) -> Self {
        match u8::get(from) {
            0 => Self::Join(Say::get(from)),
            1 => Self::Leave,
            2 => Self::Multicast(Say::get(from), Say::get(from)),
            3 => Self::Next(Duration::from_millis(Say::get(from))),
            4 => Self::Members(Say::get(from)),
            5 => Self::Groups(Say::get(from)),
            6 => Self::LocalMember,
            7 => Self::MaxSize,
            _ => Self::Close,
        }
    }
}
