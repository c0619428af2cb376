use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{TestClient, have, until};

/// Program of Debian's package `redis-tools` that acts as the server when called `redis-server`.
/// The package `redis-server` adds only a link to it and a service, which is not wanted here.
const SERVER: &str = "redis-check-rdb";

/// A real `redis-server`, to compare replies with.
pub struct Redis {
    child: Child,
    socket: PathBuf,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Redis {
    /// Returns true if it is installed. If not, reports the test as skipped.
    pub fn is_there() -> bool {
        have(SERVER, "redis-tools")
    }

    pub fn start(directory: &Path) -> Self {
        let socket = directory.join("redis.sock");
        let child = Command::new(SERVER)
            .arg0("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&socket)
            .args(["--notify-keyspace-events", "KEA"])
            .current_dir(directory)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server");
        let redis = Self { child, socket };
        until("redis-server", || UnixStream::connect(&redis.socket).ok());
        redis
    }

    pub fn client(&self) -> TestClient<UnixStream> {
        TestClient::over(UnixStream::connect(&self.socket).expect("a connection"))
    }
}
