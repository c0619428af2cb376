use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use service_lib::testing::{Process, until};

use super::TestClient;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_kv");

pub fn kv(arguments: &[&str]) -> Process {
    Process::start(PROGRAM, arguments)
}

/// Waits for `count` lines `replica N: ADDRESS` on stdout, and returns the addresses.
fn addresses(process: &mut Process, count: usize) -> Vec<SocketAddr> {
    until("addresses on stdout", || {
        if let Some(status) = process.status() {
            panic!("kv ended with {status}: {:?} {:?}", process.out(), process.err());
        }
        let lines = process.out();
        let address = |line: &String| line.trim().split_once(": ")?.1.parse().ok();
        let found: Vec<SocketAddr> = lines.iter().filter_map(address).collect();
        (found.len() == count).then_some(found)
    })
}

/// The demo on free ports, after its group has formed.
pub struct Demo {
    pub process: Process,
    pub addresses: Vec<SocketAddr>,
}

impl Demo {
    pub fn start() -> Self {
        let mut process = kv(&["--port", "0"]);
        let addresses = addresses(&mut process, 3);
        for address in &addresses {
            ready(*address);
        }
        Self { process, addresses }
    }
}

/// One replica on a free port.
pub struct Serve {
    pub id: u32,
    pub process: Process,
    pub address: SocketAddr,
}

impl Serve {
    /// Starts a replica of a group of three that use this socket.
    pub fn start(id: u32, socket: &Path, more: &[impl AsRef<str>]) -> Self {
        Self::start_by(Command::new(PROGRAM), id, socket, more)
    }

    /// Starts a replica that is the only voter of its group.
    pub fn start_alone(socket: &Path, more: &[impl AsRef<str>]) -> Self {
        Self::start_among("1", Command::new(PROGRAM), 1, socket, more)
    }

    /// Starts a replica under `strace`, which makes system calls of one kind on one file fail, and
    /// writes a trace of them to the file `trace`.
    pub fn start_failing(
        id: u32,
        socket: &Path,
        more: &[impl AsRef<str>],
        (call, file, fault): (&str, &Path, &str),
        trace: &Path,
    ) -> Self {
        let mut command = Command::new("strace");
        // The tracer is a separate process, so that the child process is kv itself.
        command.args(["-D", "-f", "-qq", "-o"]).arg(trace).arg("-P").arg(file);
        command.args(["-e", &format!("inject={call}:{fault}")]);
        command.arg(PROGRAM);
        Self::start_by(command, id, socket, more)
    }

    /// Starts a replica by a command that becomes kv (`exec`).
    pub fn start_by(command: Command, id: u32, socket: &Path, more: &[impl AsRef<str>]) -> Self {
        Self::start_among("1,2,3", command, id, socket, more)
    }

    fn start_among(
        voters: &str,
        mut command: Command,
        id: u32,
        socket: &Path,
        more: &[impl AsRef<str>],
    ) -> Self {
        let engine = format!("embedded:{}", socket.display());
        let id_text = id.to_string();
        let mut arguments = vec!["serve", "--id", &id_text, "--voters", voters];
        arguments.extend(["--listen", "127.0.0.1:0", "--engine", &engine]);
        arguments.extend(more.iter().map(AsRef::as_ref));
        command.args(arguments);
        let mut process = Process::by(command);
        let address = addresses(&mut process, 1)[0];
        Self { id, process, address }
    }

    pub fn client(&self) -> TestClient {
        TestClient::connect(self.address).expect("a connection")
    }

    /// Returns a field of `INFO replication`.
    pub fn info(&self, field: &str) -> String {
        info(&mut self.client(), field)
    }
}

/// Returns a field of `INFO replication`.
pub fn info(client: &mut TestClient, field: &str) -> String {
    let reply = client.call(&["INFO", "replication"]).expect("INFO");
    let kv::resp::Reply::BulkString(text) = reply else { panic!("INFO says {reply:?}") };
    let text = String::from_utf8(text.to_vec()).unwrap();
    let prefix = format!("{field}:");
    let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
    value.unwrap_or_else(|| panic!("no {field} in {text}")).to_owned()
}

/// Waits until the replica at this address commits commands.
pub fn ready(address: SocketAddr) {
    until("a replica that commits", || {
        let mut client = TestClient::connect(address).ok()?;
        (info(&mut client, "obstacle").is_empty()).then_some(())?;
        (client.ask("DBSIZE").starts_with(':')).then_some(())
    });
}

/// Creates a self-signed certificate for 127.0.0.1 and its key.
pub fn certificate(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (cert, key) =
        (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", &format!("/CN={name}")])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-out")
        .arg(&cert)
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (cert, key)
}
