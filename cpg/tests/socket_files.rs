//! The files where processes meet: what is left behind, what is in the way, and who may.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::time::Duration;

use common::{Meeting, hub_of, until};
use cpg::conformance::{Local, Member as _, Remote};
use cpg::{Connection, Engine, Error, Event, GroupName, Options, Result};

#[test]
fn child() {
    common::be_child();
}

fn connect(path: PathBuf) -> Result<Connection> {
    Engine::Socket(path).connect(Options::default())
}

fn group() -> GroupName {
    GroupName::new("choir").unwrap()
}

fn mode(meeting: &Meeting) -> u32 {
    fs::metadata(meeting.path()).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_socket_left_behind_is_no_obstacle() {
    let meeting = Meeting::new();
    drop(UnixListener::bind(meeting.path()).unwrap());
    fs::write(meeting.directory().join("ring.ring"), "ring 40\n+ 5 4194304\n+ zz\nnonsense\n+ 7")
        .unwrap();
    let mut member =
        Local(Engine::Socket(meeting.path()).connect(Options { initial_ring: true }).unwrap());
    member.join(&group()).unwrap();
    let mut events = (0..2).map(|_| member.next(Duration::from_secs(10)).unwrap());
    assert!(matches!(events.next().unwrap(), Some(Event::Configuration(_))));
    assert!(matches!(events.next().unwrap(), Some(Event::Ring(ring)) if ring.id.sequence == 44));
}

#[test]
fn what_is_not_a_socket_is_left_alone() {
    let meeting = Meeting::new();
    fs::write(meeting.path(), "precious").unwrap();
    assert_eq!(connect(meeting.path()).err(), Some(Error::InvalidParameter));
    assert_eq!(fs::read_to_string(meeting.path()).unwrap(), "precious");
}

#[test]
fn a_path_that_cannot_be_is_told_at_once() {
    let meeting = Meeting::new();
    let nowhere = meeting.directory().join("not/there");
    assert_eq!(connect(nowhere).err(), Some(Error::InvalidParameter));
    let long = meeting.directory().join("x".repeat(120));
    assert_eq!(connect(long).err(), Some(Error::InvalidParameter));
}

#[test]
fn two_paths_are_two_rings() {
    let (here, there) = (Meeting::new(), Meeting::new());
    let (first, second) = (connect(here.path()).unwrap(), connect(there.path()).unwrap());
    first.join(&group()).unwrap();
    second.join(&group()).expect("the same process, in another ring");
    assert_eq!(first.members(&group()).unwrap().len(), 1);
    assert_eq!(second.members(&group()).unwrap().len(), 1);
}

#[test]
fn only_the_owner_may_take_part_unless_allowed() {
    let meeting = Meeting::new();
    let first = meeting.child(Options::default());
    assert_eq!(mode(&meeting), 0o600);
    // What an administrator has set stays when another process takes over.
    fs::set_permissions(meeting.path(), Permissions::from_mode(0o660)).unwrap();
    let second = meeting.child(Options::default());
    assert_eq!(hub_of(&meeting.path()), Some(first.pid()));
    Box::new(first).close();
    until("another hub", || hub_of(&meeting.path()) == Some(second.pid()));
    assert_eq!(mode(&meeting), 0o660);
}

#[test]
fn without_permission_there_is_no_access() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can start a process of another user");
        return;
    }
    let meeting = Meeting::new();
    let _first = connect(meeting.path()).unwrap();
    let mut command = meeting.child_command("child");
    command.uid(65_534).gid(65_534);
    // The other user may have no way to this program.
    if command.get_program().to_str().is_none() || command.status().is_err() {
        println!("skipped: another user cannot run {:?}", command.get_program());
        return;
    }
    assert_eq!(Remote::start(&mut command, Options::default()).err(), Some(Error::Access));
}
