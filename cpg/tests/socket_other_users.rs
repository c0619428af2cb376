//! A ring belongs to one user: processes and files of others have no part in it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use common::Meeting;
use cpg::{Connection, Error, GroupName, Options, Result, Transport};
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;

const NOBODY: u32 = 65_534;

/// Runs something as another user, which only root can. The kernel keeps the user of each thread.
fn as_nobody<T: Send>(run: impl FnOnce() -> T + Send) -> Option<T> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can act as another user");
        return None;
    }
    let run = || {
        let nobody = Uid::from_raw(NOBODY);
        set_thread_res_uid(nobody, nobody, nobody).unwrap();
        run()
    };
    Some(std::thread::scope(|scope| scope.spawn(run).join().unwrap()))
}

/// A ring in a directory where everybody may make files, as /tmp.
fn shared() -> Meeting {
    let meeting = Meeting::new();
    fs::set_permissions(meeting.directory(), Permissions::from_mode(0o1777)).unwrap();
    meeting
}

fn connect(meeting: &Meeting) -> Result<Connection> {
    Transport::Socket(meeting.path()).connect(Options::default())
}

fn reason(meeting: &Meeting) -> String {
    Transport::Socket(meeting.path()).check().expect_err("the check finds it").to_string()
}

/// Makes the socket accessible to everybody, as an administrator could.
fn open_to_all(meeting: &Meeting) {
    fs::set_permissions(meeting.path(), Permissions::from_mode(0o777)).unwrap();
}

#[test]
fn a_hub_of_another_user_is_not_joined() {
    let meeting = shared();
    let Some(listener) = as_nobody(|| UnixListener::bind(meeting.path()).unwrap()) else { return };
    open_to_all(&meeting);
    assert_eq!(connect(&meeting).err(), Some(Error::Security));
    assert!(reason(&meeting).contains("belongs to user 65534 and not to user 0"));
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "it is not even spoken to");
}

#[test]
fn a_hub_of_another_user_is_not_joined_by_the_name_of_a_socket_of_ours() {
    let meeting = shared();
    // Bound by us, and served by another: the name says nothing about who listens.
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(meeting.path()).unwrap()).unwrap();
    let Some(()) = as_nobody(|| rustix::net::listen(&socket, 8).unwrap()) else { return };
    assert_eq!(connect(&meeting).err(), Some(Error::Security));
    assert!(reason(&meeting).contains("the process that listens"));
}

#[test]
fn a_process_of_another_user_is_refused() {
    let meeting = shared();
    let connection = connect(&meeting).unwrap();
    let Some(denied) = as_nobody(|| UnixStream::connect(meeting.path()).err()) else { return };
    assert_eq!(denied.map(|error| error.kind()), Some(std::io::ErrorKind::PermissionDenied));
    open_to_all(&meeting);
    let answer = as_nobody(|| {
        assert_eq!(connect(&meeting).err(), Some(Error::Security));
        let mut socket = UnixStream::connect(meeting.path()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let hello = [&1_u16.to_le_bytes()[..], &7_u64.to_le_bytes(), &7_u32.to_le_bytes(), &[0]];
        let hello = [&[20, 0, 0, 0, 1][..], b"eGPC", &hello.concat()].concat();
        // The hub may have closed already.
        let _ = socket.write_all(&hello);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        answer
    });
    let refused = [&[5, 0, 0, 0, 65][..], &Error::Security.code().to_le_bytes()].concat();
    assert_eq!(answer, Some(refused));
    connection.join(&GroupName::new("ours").unwrap()).expect("the ring goes on");
}

#[test]
fn files_of_another_user_are_left_alone() {
    for name in ["ring", "ring.lock", "ring.ring"] {
        let meeting = shared();
        let path = meeting.directory().join(name);
        let made = as_nobody(|| {
            if name == "ring" {
                drop(UnixListener::bind(&path).unwrap());
            } else {
                fs::write(&path, "ring 4\n").unwrap();
            }
            fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        });
        let Some(()) = made else { return };
        assert_eq!(connect(&meeting).err(), Some(Error::Security), "{name}");
        assert!(reason(&meeting).contains(&format!("{} belongs to user 65534", path.display())));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o777);
    }
}

#[test]
fn a_directory_of_another_user_is_refused() {
    let meeting = shared();
    let directory = meeting.directory().join("theirs");
    let Some(()) = as_nobody(|| fs::create_dir(&directory).unwrap()) else { return };
    let transport = Transport::Socket(directory.join("ring"));
    assert_eq!(transport.connect(Options::default()).err(), Some(Error::Security));
    assert!(transport.check().unwrap_err().to_string().contains("owner 65534"));
}
