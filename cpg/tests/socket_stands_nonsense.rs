//! Whatever a process says on the socket, it harms nobody but itself.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::Meeting;
use cpg::conformance::{Local, Member as _};
use cpg::{Dispatch, Error, Event, GroupName, Guarantee, Options, Reason};

const HELLO: u8 = 1;
const JOIN: u8 = 3;
const MULTICAST: u8 = 5;
const ENTRY: u8 = 32;
const FETCH_END: u8 = 6;

#[test]
fn child() {
    common::be_child();
}

/// A member whose group must not notice.
fn witness(meeting: &Meeting) -> Local {
    let mut witness =
        Local(cpg::Transport::Socket(meeting.path()).connect(Options::default()).unwrap());
    witness.join(&group()).unwrap();
    assert!(matches!(next(&mut witness), Event::Configuration(_)));
    witness
}

fn group() -> GroupName {
    GroupName::new("witness").unwrap()
}

fn next(member: &mut Local) -> Event {
    member.next(Duration::from_secs(20)).unwrap().expect("an event")
}

/// Checks that the ring goes on and that nothing of the nonsense was heard.
fn assert_unharmed(witness: &mut Local) {
    witness.multicast(Guarantee::Agreed, &[b"unharmed"]).unwrap();
    let event = next(witness);
    assert!(matches!(&event, Event::Deliver { message, .. } if message == "unharmed"), "{event:?}");
}

fn frame(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let fields = fields.concat();
    let length = u32::try_from(fields.len() + 1).unwrap();
    [&length.to_le_bytes()[..], &[kind], &fields].concat()
}

fn hello(version: u16, pid: u32, held: &[u8]) -> Vec<u8> {
    let fields: [&[u8]; 5] =
        [b"eGPC", &version.to_le_bytes(), &77_u64.to_le_bytes(), &pid.to_le_bytes(), held];
    frame(HELLO, &fields)
}

/// Says something, and waits until the hub has closed the connection. Returns what it said.
fn say_and_await_end(meeting: &Meeting, what: &[u8]) -> Vec<u8> {
    let mut socket = UnixStream::connect(meeting.path()).unwrap();
    // The hub may close before all is written.
    let _ = socket.write_all(what);
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut said = Vec::new();
    match socket.read_to_end(&mut said) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the hub does not close: {error}"),
    }
    said
}

#[test]
fn bytes_that_are_no_frames() {
    let meeting = Meeting::new();
    let mut witness = witness(&meeting);
    let own = std::process::id();
    let stranger = frame(JOIN, &[&[3], b"abc"]);
    let noise: Vec<u8> =
        (0..100_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let all_said: [&[u8]; 10] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 64],
        &[0xff; 64],
        &noise,
        // Not even a hello.
        &stranger,
        &frame(MULTICAST, &[&1_u64.to_le_bytes(), b"closed group"]),
        // Another's pid; a kind that does not exist; a hello that is too long.
        &hello(1, own + 1, &[0]),
        &frame(200, &[]),
        &hello(1, own, &[0, 0]),
        // Entries held that cannot be: the last before the first.
        &hello(
            1,
            own,
            &[&[1, 1, b'x'][..], &5_u64.to_le_bytes(), &4_u64.to_le_bytes(), &[0]].concat(),
        ),
    ];
    for said in all_said {
        say_and_await_end(&meeting, said);
        assert_unharmed(&mut witness);
    }
}

#[test]
fn half_a_frame_that_never_ends() {
    let meeting = Meeting::new();
    let mut witness = witness(&meeting);
    let whole = hello(1, std::process::id(), &[0]);
    let start = Instant::now();
    say_and_await_end(&meeting, &whole[..whole.len() - 1]);
    assert!(start.elapsed() < Duration::from_secs(8), "it is not waited for for ever");
    assert_unharmed(&mut witness);
    drop(UnixStream::connect(meeting.path()).unwrap());
    UnixStream::connect(meeting.path()).unwrap().write_all(&whole[..7]).unwrap();
    assert_unharmed(&mut witness);
}

#[test]
fn another_version_is_told_so() {
    let meeting = Meeting::new();
    let mut witness = witness(&meeting);
    let said = say_and_await_end(&meeting, &hello(99, std::process::id(), &[1, 2, 3]));
    assert_eq!(said[5..], Error::Version.code().to_le_bytes());
    assert_unharmed(&mut witness);
}

#[test]
fn members_that_stop_making_sense_are_cut_off() {
    let meeting = Meeting::new();
    let mut witness = witness(&meeting);
    let own = std::process::id();
    let multicast = frame(MULTICAST, &[&2_u64.to_le_bytes(), b"x"]);
    let too_big = frame(MULTICAST, &[&2_u64.to_le_bytes(), &vec![0; 1_047_553]]);
    let other = frame(JOIN, &[&[5], b"other"]);
    let tails: [&[u8]; 6] = [
        // Not a member; twice a member; too big; a name that cannot be; what only a hub says.
        &multicast,
        &[&other[..], &other].concat(),
        &[&other[..], &too_big].concat(),
        &frame(JOIN, &[&[3], b"a\0b"]),
        &frame(64, &[&1_u64.to_le_bytes()]),
        &hello(1, own, &[0]),
    ];
    for tail in tails {
        say_and_await_end(&meeting, &[&hello(1, own, &[0])[..], tail].concat());
        assert_unharmed(&mut witness);
    }
    assert_eq!(witness.members(&GroupName::new("other").unwrap()), Ok(vec![]));
    // Late answers to a question are no nonsense.
    let late =
        [hello(1, own, &[0]), frame(ENTRY, &[&[0; 40]]), frame(FETCH_END, &[]), frame(7, &[])];
    say_and_await_end(&meeting, &late.concat());
    assert_unharmed(&mut witness);
}

#[test]
fn a_member_that_never_reads_is_cut_off() {
    let meeting = Meeting::new();
    // The one that does not read has to be another process than the others.
    let mut child = meeting.child(Options::default());
    child.join(&group()).unwrap();
    let mut deaf = UnixStream::connect(meeting.path()).unwrap();
    deaf.write_all(&hello(1, std::process::id(), &[0])).unwrap();
    deaf.write_all(&frame(JOIN, &[&[7], b"witness"])).unwrap();
    let mut left = Vec::new();
    let message = vec![1; 1_000_000];
    let mut sent = 0;
    let deadline = Instant::now() + Duration::from_secs(30);
    while left.is_empty() {
        assert!(Instant::now() < deadline, "it is still there after {sent} megabytes");
        match child.multicast(Guarantee::Agreed, &[&message]) {
            Ok(()) => sent += 1,
            Err(Error::TryAgain) => {}
            Err(error) => panic!("{error}"),
        }
        while let Some(event) = child.next(Duration::ZERO).unwrap() {
            if let Event::Configuration(change) = event {
                left.extend(change.left);
            }
        }
    }
    assert_eq!(left[0].reason, Reason::ProcessDown);
    assert!(sent >= 60, "what is within the limit is kept for it");
}

/// A member that always reads, and never much.
#[test]
fn a_member_that_reads_slowly_is_cut_off() {
    let meeting = Meeting::new();
    let mut child = meeting.child(Options::default());
    child.join(&group()).unwrap();
    let mut slow = UnixStream::connect(meeting.path()).unwrap();
    slow.write_all(&hello(1, std::process::id(), &[0])).unwrap();
    slow.write_all(&frame(JOIN, &[&[7], b"witness"])).unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        // Its pace is what is tested.
        while slow.read(&mut bytes).is_ok_and(|count| count > 0) {
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    let mut left = Vec::new();
    let message = vec![1; 1_000_000];
    let mut sent = 0;
    // At the pace of the reader it would take four minutes.
    let deadline = Instant::now() + Duration::from_secs(60);
    while left.is_empty() {
        assert!(Instant::now() < deadline, "all have its pace: {sent} megabytes");
        match child.multicast(Guarantee::Agreed, &[&message]) {
            Ok(()) => sent += 1,
            Err(Error::TryAgain) => {}
            Err(error) => panic!("{error}"),
        }
        while let Some(event) = child.next(Duration::ZERO).unwrap() {
            if let Event::Configuration(change) = event {
                left.extend(change.left);
            }
        }
    }
    assert_eq!(left[0].reason, Reason::ProcessDown);
    assert!(sent >= 60, "what is within the limit is kept for it");
    reader.join().unwrap();
}

#[test]
fn a_hub_that_makes_no_sense_ends_the_connection() {
    let meeting = Meeting::new();
    let listener = std::os::unix::net::UnixListener::bind(meeting.path()).unwrap();
    let (go_on, told) = std::sync::mpsc::channel();
    let hub = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.write_all(&frame(64, &[&4_u64.to_le_bytes()])).unwrap();
        told.recv().unwrap();
        socket.write_all(&[0xff; 100]).unwrap();
        socket
    });
    let connection = cpg::Transport::Socket(meeting.path()).connect(Options::default()).unwrap();
    go_on.send(()).unwrap();
    let _socket = hub.join().unwrap();
    assert_eq!(connection.wait(Some(Duration::from_secs(10))), Err(Error::Library));
    assert_eq!(connection.dispatch(Dispatch::All, |_| ()), Err(Error::Library));
    assert_eq!(connection.join(&group()), Err(Error::Library));
}
