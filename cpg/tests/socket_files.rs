//! The files where processes meet: what is left behind, what is in the way, and who may.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Meeting, hub_of, until};
use cpg::conformance::{Local, Member as _};
use cpg::{Connection, Error, Event, GroupName, Options, Result, Transport};

#[test]
fn child() {
    common::be_child();
}

fn connect(path: PathBuf) -> Result<Connection> {
    Transport::Socket(path).connect(Options::default())
}

fn group() -> GroupName {
    GroupName::new("group").unwrap()
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
        Local(Transport::Socket(meeting.path()).connect(Options { initial_ring: true }).unwrap());
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
fn a_path_that_cannot_be_is_rejected_with_its_limit() {
    let meeting = Meeting::new();
    let reason = |path: &Path| {
        let transport = Transport::Socket(path.into());
        let why = transport.check().expect_err("the check finds it").to_string();
        assert_eq!(transport.connect(Options::default()).err(), Some(Error::InvalidParameter));
        why
    };
    let nowhere = meeting.directory().join("not/there");
    assert!(reason(&nowhere).contains(nowhere.parent().unwrap().to_str().unwrap()));
    let long = "x".repeat(120);
    let why = reason(&meeting.directory().join(&long));
    assert!(why.contains(&long) && why.contains("120 bytes: the limit is 82 bytes"), "{why}");
    let why = reason(meeting.directory());
    assert!(why.contains(&format!("{} is a directory", meeting.directory().display())), "{why}");
    reason(Path::new("/"));
}

#[test]
fn a_directory_may_be_deeper_than_the_address_of_a_socket() {
    let meeting = Meeting::new();
    connect(meeting.directory().join("x".repeat(100 - meeting.directory().as_os_str().len())))
        .expect("a long name in a short path");
    let directory = meeting.directory().join("d".repeat(100)).join("e".repeat(100));
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join("ring");
    let first = connect(path.clone()).unwrap();
    first.join(&group()).unwrap();
    let second = connect(path.clone()).unwrap();
    assert_eq!(second.members(&group()).unwrap().len(), 1);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 3, "the socket and two files");
    drop((first, second));
    connect(path).unwrap();
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
fn nobody_but_the_owner_may_use_the_socket() {
    let meeting = Meeting::new();
    drop(UnixListener::bind(meeting.path()).unwrap());
    fs::set_permissions(meeting.path(), Permissions::from_mode(0o777)).unwrap();
    let first = meeting.child(Options::default());
    assert_eq!(mode(&meeting), 0o600, "not that of the socket left behind");
    let second = meeting.child(Options::default());
    assert_eq!(hub_of(&meeting.path()), Some(first.pid()));
    Box::new(first).close();
    until("another hub", || hub_of(&meeting.path()) == Some(second.pid()));
    assert_eq!(mode(&meeting), 0o600);
}

#[test]
fn the_socket_is_bound_under_the_name_that_it_has() {
    let meeting = Meeting::new();
    let _first = connect(meeting.path()).unwrap();
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    let path = meeting.path().display().to_string();
    assert!(sockets.lines().any(|line| line.ends_with(&format!(" {path}"))), "ss shows it");
}

#[test]
fn symbolic_links_are_not_followed() {
    for suffix in ["", ".lock", ".ring", ".ring.new"] {
        let meeting = Meeting::new();
        let precious = meeting.directory().join("precious");
        fs::write(&precious, "precious").unwrap();
        let before = fs::metadata(&precious).unwrap();
        let link = meeting.directory().join(format!("ring{suffix}"));
        std::os::unix::fs::symlink(&precious, &link).unwrap();
        let connected = connect(meeting.path());
        if suffix == ".ring.new" {
            connected.expect("a link left in the place of a new file is replaced");
        } else {
            assert_eq!(connected.err(), Some(Error::InvalidParameter), "{suffix}");
            let why = Transport::Socket(meeting.path()).check().unwrap_err().to_string();
            assert!(why.contains("is a symbolic link"), "{why}");
        }
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious", "{suffix}");
        let after = fs::metadata(&precious).unwrap();
        assert_eq!((before.mode(), before.ino()), (after.mode(), after.ino()), "{suffix}");
    }
}

#[test]
fn a_directory_that_others_may_change_is_refused() {
    let meeting = Meeting::new();
    fs::set_permissions(meeting.directory(), Permissions::from_mode(0o777)).unwrap();
    assert_eq!(connect(meeting.path()).err(), Some(Error::Security));
    let why = Transport::Socket(meeting.path()).check().unwrap_err().to_string();
    assert!(why.contains("mode 777"), "{why}");
    // As /tmp: nobody may remove or rename what is another's.
    fs::set_permissions(meeting.directory(), Permissions::from_mode(0o1777)).unwrap();
    connect(meeting.path()).unwrap();
}

#[test]
fn files_that_are_removed_from_a_live_ring_are_put_back() {
    let meeting = Meeting::new();
    let mut hub = meeting.child(Options::default());
    let mut member = meeting.child(Options::default());
    for member in [&mut hub, &mut member] {
        member.join(&group()).unwrap();
    }
    assert_eq!(hub_of(&meeting.path()), Some(hub.pid()));
    let files = ["ring", "ring.lock", "ring.ring"].map(|name| meeting.directory().join(name));
    for file in &files {
        fs::remove_file(file).unwrap();
    }
    until("the files to be back", || files.iter().all(|file| file.exists()));
    assert_eq!(mode(&meeting), 0o600);
    let mut newcomer = meeting.child(Options::default());
    newcomer.join(&group()).unwrap();
    assert_eq!(newcomer.members(&group()).unwrap().len(), 3, "it has joined the same ring");
    assert_eq!(hub_of(&meeting.path()), Some(hub.pid()));
    // The new lock keeps others out, and is free when the hub is gone.
    Box::new(hub).kill();
    until("another hub", || hub_of(&meeting.path()).is_some());
    until("the next ring", || {
        matches!(newcomer.next(Duration::from_secs(20)), Ok(Some(Event::Ring(_))))
    });
    assert_eq!(newcomer.members(&group()).unwrap().len(), 2, "the other one has come along");
}

/// A process that starts between the removal and the next look makes a ring of its own.
#[test]
fn a_ring_whose_place_another_has_taken_ends() {
    let meeting = Meeting::new();
    let member = connect(meeting.path()).unwrap();
    member.join(&group()).unwrap();
    for name in ["ring", "ring.lock", "ring.ring"] {
        fs::remove_file(meeting.directory().join(name)).unwrap();
    }
    let lock = fs::File::create(meeting.directory().join("ring.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let other = UnixListener::bind(meeting.path()).unwrap();
    let (mut socket, _) = other.accept().unwrap();
    // As a hub says to a member of another ring.
    socket.write_all(&[5, 0, 0, 0, 65, 2, 0, 0, 0]).unwrap();
    until("the member to hear that its ring has ended", || {
        while member.dispatch(cpg::Dispatch::OneNonblocking, drop).is_ok() {}
        member.wait(Some(Duration::from_millis(10))) == Err(Error::Library)
    });
}

#[test]
fn systemd_tmpfiles_leaves_a_live_ring_alone() {
    let meeting = Meeting::new();
    let rules = meeting.directory().join("rules.conf");
    let directory = meeting.directory().join("d");
    fs::create_dir(&directory).unwrap();
    // All files of the directory are old enough to be removed.
    fs::write(&rules, format!("e {} - - - 0\n", directory.display())).unwrap();
    let member = connect(directory.join("ring")).unwrap();
    member.join(&group()).unwrap();
    fs::write(directory.join("old"), "").unwrap();
    let cleaned = Command::new("systemd-tmpfiles").arg("--clean").arg(&rules).status();
    if !cleaned.is_ok_and(|status| status.success()) || directory.join("old").exists() {
        println!("skipped: there is no systemd-tmpfiles that works here");
        return;
    }
    let mut names: Vec<_> =
        fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["ring", "ring.lock", "ring.ring"]);
}
