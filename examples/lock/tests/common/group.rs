use std::path::{Path, PathBuf};

use service_lib::testing::{Process, lock_holder, until};

use super::{TestClient, lock};

/// A group of three `lock serve` processes.
pub struct Group {
    directory: tempfile::TempDir,
    pub servers: Vec<Serve>,
}

/// One `lock serve` process.
pub struct Serve {
    pub id: u32,
    pub socket: PathBuf,
    pub process: Process,
}

impl Group {
    pub fn start() -> Self {
        Self::start_with(false)
    }

    /// Starts a group with its logs on disk if `folders`, or in memory.
    pub fn start_with(folders: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut group = Self { directory, servers: Vec::new() };
        group.servers(folders);
        group
    }

    /// Starts all servers. None of them may be running.
    pub fn servers(&mut self, folders: bool) {
        let path = self.directory.path();
        self.servers = [1, 2, 3].map(|id| Serve::start(id, path, folders)).into_iter().collect();
        for server in &self.servers {
            server.is_ready();
        }
    }

    /// Restarts the server with index `at`, which must not be running.
    pub fn restart(&mut self, at: usize, folders: bool) {
        let id = self.servers[at].id;
        self.servers[at] = Serve::start(id, self.directory.path(), folders);
    }

    /// Returns a path in the group's temporary directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Connects a client to the server with index `at`.
    #[track_caller]
    pub fn client(&self, at: usize) -> TestClient {
        self.servers[at].client()
    }

    /// Starts `lock` as a client of the server with index `at`.
    pub fn lock(&self, at: usize, verb: &str, arguments: &[&str]) -> Process {
        let socket = self.servers[at].socket.to_str().unwrap();
        lock(&[&[verb, "--at", socket], arguments].concat())
    }

    /// Starts a shell script with `lock run`.
    pub fn run(&self, at: usize, arguments: &[&str], script: &str) -> Process {
        self.lock(at, "run", &[arguments, &["--", "sh", "-c", script]].concat())
    }

    /// Starts a shell script with `lock run`, with the addresses of several servers.
    pub fn run_at(&self, at: &[usize], arguments: &[&str], script: &str) -> Process {
        let sockets: Vec<&str> =
            at.iter().map(|at| self.servers[*at].socket.to_str().unwrap()).collect();
        let run = ["run", "--at", &sockets.join(",")];
        lock(&[&run[..], arguments, &["--", "sh", "-c", script]].concat())
    }

    /// Returns the token of a lock that is held and not lost, as the server with index `at` lists
    /// it.
    pub fn held(&self, at: usize, name: &str) -> Option<u64> {
        let list = self.client(at).ask("LIST");
        let lock = list.split_once(&format!("[\"{name}\" :1 "))?.1;
        let holder = lock.split_once("[[:")?.1;
        let (holder, _) = holder.split_once(']')?;
        holder.ends_with("\"held\"").then(|| holder.split(' ').next()?.parse().ok())?
    }

    /// Waits until the lock has this number of waiters.
    #[track_caller]
    pub fn waiters(&self, name: &str, waiters: usize) {
        let row = format!("\"{name}\" :");
        until("waiters in the queue", || {
            let list = self.servers.last()?.client().ask("LIST");
            let lock = list.split_once(&row)?.1;
            let count = lock.split_once(" :")?.1.split(' ').next()?;
            (count == waiters.to_string()).then_some(())
        });
    }

    /// Returns the index of the server whose process carries the ring. It holds the file lock
    /// beside the ring's socket.
    pub fn hub(&self) -> usize {
        let pid = lock_holder(&self.path("ring.lock")).expect("a process should carry the ring");
        self.servers
            .iter()
            .position(|server| server.process.pid() == pid)
            .expect("one of the servers should carry the ring")
    }
}

impl Serve {
    fn start(id: u32, directory: &Path, folder: bool) -> Self {
        let socket = directory.join(format!("{id}.sock"));
        let engine = format!("embedded:{}", directory.join("ring").display());
        let (number, path) = (id.to_string(), socket.to_str().unwrap().to_owned());
        let data = directory.join(format!("data{id}")).to_str().unwrap().to_owned();
        let data = if folder { &["--data-dir", &data][..] } else { &[] };
        let serve = [
            "serve",
            "--id",
            &number,
            "--voters",
            "1,2,3",
            "--engine",
            &engine,
            "--socket",
            &path,
            "--timeout",
            "5",
        ];
        let process = lock(&[&serve, data].concat());
        Self { id, socket, process }
    }

    #[track_caller]
    pub fn client(&self) -> TestClient {
        TestClient::connect(&self.socket).expect("a connection")
    }

    /// Waits until the server commits.
    #[track_caller]
    pub fn is_ready(&self) {
        until("a server that commits", || {
            let mut client = TestClient::connect(&self.socket).ok()?;
            client.send("INFO");
            client.try_reply().ok()?.contains("obstacle:\\r\\n").then_some(())?;
            client.send("LIST");
            client.try_reply().ok()?.starts_with('[').then_some(())
        });
    }
}
