//! A place to meet for the processes of a test, and child processes that take part.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test uses what it needs, and fails by panicking"
)]

pub(crate) mod loader;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cpg::conformance::{Cluster, Local, Member, Remote, serve};
use cpg::{Options, Transport};

/// Names the socket to a child.
const SOCKET: &str = "CPG_TEST_SOCKET";

/// A directory of its own with a socket's path in it, removed at the end.
pub(crate) struct Meeting {
    directory: PathBuf,
}

impl Meeting {
    pub(crate) fn new() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let name = format!("cpg-test-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        Self { directory }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join("ring")
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A child process with a connection.
    pub(crate) fn child(&self, options: Options) -> Remote {
        Remote::start(&mut self.child_command("child"), options).unwrap()
    }

    /// This program, as the child that the test of that name becomes.
    pub(crate) fn child_command(&self, test: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(SOCKET, self.path())
            .stdout(Stdio::null());
        command
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Cluster for Meeting {
    fn transport(&self) -> Transport {
        Transport::Socket(self.path())
    }

    fn member(&self, node: usize, options: Options) -> Box<dyn Member> {
        if node == 0 {
            Box::new(Local(self.transport().connect(options).unwrap()))
        } else {
            Box::new(self.child(options))
        }
    }
}

/// The transport that a child is to use; `None` in the test's own process.
pub(crate) fn transport_of_child() -> Option<Transport> {
    let path = std::env::var_os(SOCKET)?;
    // Warnings of the transport tell why a child fails.
    let _ = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .try_init();
    Some(Transport::Socket(path.into()))
}

/// Body of the test `child` of each program: does nothing, unless it runs as a child.
pub(crate) fn be_child() {
    if let Some(transport) = transport_of_child() {
        serve(&transport);
    }
}

/// The process that is the hub, as the kernel says.
pub(crate) fn hub_of(path: &Path) -> Option<u32> {
    let socket = UnixStream::connect(path).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(&socket).ok()?;
    u32::try_from(credentials.pid.as_raw_nonzero().get()).ok()
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, is_so: impl FnMut() -> bool) {
    within(Duration::from_secs(20), what, is_so);
}

/// Waits until something is so, but no longer than that.
#[track_caller]
pub(crate) fn within(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
