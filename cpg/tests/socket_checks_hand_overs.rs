//! A new hub checks the entries that a member passes to it before other members get them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::{Meeting, hub_of, until};
use cpg::conformance::{Member as _, Remote};
use cpg::{Event, GroupName, Guarantee, Options, Reason};

const HELLO: u8 = 1;
const JOIN: u8 = 3;
const FETCH_END: u8 = 6;
const MESSAGE: u8 = 32;
const CHANGE: u8 = 33;
const RING: u8 = 34;
const WELCOME: u8 = 64;
const FETCH: u8 = 66;

/// The liar's number, and that of nobody.
const OWN: u64 = 77;
const STRANGER: u64 = 78;

#[test]
fn child() {
    common::be_child();
}

fn group() -> GroupName {
    GroupName::new("group").unwrap()
}

fn next(member: &mut Remote) -> Event {
    member.next(Duration::from_secs(30)).unwrap().expect("an event")
}

fn frame(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let fields = fields.concat();
    let length = u32::try_from(fields.len() + 1).unwrap();
    [&length.to_le_bytes()[..], &[kind], &fields].concat()
}

fn participant(id: u64) -> Vec<u8> {
    [&id.to_le_bytes()[..], &std::process::id().to_le_bytes()].concat()
}

fn hello(held: &[u8]) -> Vec<u8> {
    frame(HELLO, &[b"eGPC", &1_u16.to_le_bytes(), &participant(OWN), held])
}

/// A member that speaks the protocol by hand.
struct Liar(UnixStream);

impl Liar {
    fn connect(meeting: &Meeting, said: &[u8]) -> Self {
        let mut socket = UnixStream::connect(meeting.path()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket.write_all(said).unwrap();
        Self(socket)
    }

    /// Waits for a frame of that kind, and returns its fields.
    fn expect(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let mut length = [0; 4];
            self.0.read_exact(&mut length).unwrap();
            let mut said = vec![0; u32::from_le_bytes(length) as usize];
            self.0.read_exact(&mut said).unwrap();
            if said[0] == kind {
                return said[1..].to_vec();
            }
        }
    }
}

/// A group of two members and the liar loses its hub. The liar reports one entry more than there
/// is, and when it is asked for it, says this.
fn lie(entry: impl FnOnce(u64) -> Vec<u8>) {
    let meeting = Meeting::new();
    let mut hub = meeting.child(Options::default());
    hub.join(&group()).unwrap();
    let mut witness = meeting.child(Options::default());
    witness.join(&group()).unwrap();
    let mut liar = Liar::connect(&meeting, &hello(&[0]));
    liar.expect(WELCOME);
    liar.0.write_all(&frame(JOIN, &[&[5], b"group"])).unwrap();
    let joined = liar.expect(CHANGE);
    let last = u64::from_le_bytes(joined[..8].try_into().unwrap());
    let members = joined[8..9 + usize::from(joined[8]) * 12].to_vec();
    while !matches!(next(&mut witness), Event::Configuration(change) if change.members.len() == 3) {
    }

    Box::new(hub).kill();
    until("another hub", || hub_of(&meeting.path()) == Some(witness.pid()));
    let held = [&[1, 5][..], b"group", &last.to_le_bytes(), &(last + 1).to_le_bytes(), &members];
    let mut liar = Liar::connect(&meeting, &hello(&held.concat()));
    liar.expect(FETCH);
    let _ = liar.0.write_all(&[entry(last + 1), frame(FETCH_END, &[])].concat());

    let mut left = Vec::new();
    loop {
        match next(&mut witness) {
            Event::Configuration(change) => left.extend(change.left),
            Event::Ring(_) => break,
            event => panic!("it was passed on: {event:?}"),
        }
    }
    assert!(left.iter().all(|change| change.reason == Reason::ProcessDown));
    assert_eq!(left.len(), 2, "the hub, and the liar that was cut off");
    witness.multicast(Guarantee::Agreed, &[b"unharmed"]).unwrap();
    assert!(matches!(next(&mut witness), Event::Deliver { message, .. } if message == "unharmed"));
}

#[test]
fn an_entry_that_makes_no_sense() {
    lie(|sequence| frame(CHANGE, &[&sequence.to_le_bytes(), &[200, 1, 2, 3]]));
}

#[test]
fn a_message_of_a_stranger() {
    lie(|sequence| {
        let from = participant(STRANGER);
        frame(MESSAGE, &[&sequence.to_le_bytes(), &from, &1_u64.to_le_bytes(), b"la la"])
    });
}

#[test]
fn a_change_that_removes_the_others() {
    lie(|sequence| {
        let empty = [0_u8; 3];
        frame(CHANGE, &[&sequence.to_le_bytes(), &empty])
    });
}

#[test]
fn a_sequence_that_is_not_the_next() {
    lie(|sequence| frame(RING, &[&(sequence + 1).to_le_bytes(), &4_u64.to_le_bytes()]));
}
