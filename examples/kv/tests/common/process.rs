use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use service_lib::testing::{Process, until};

use super::TestClient;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_kv");

pub fn kv(arguments: &[&str]) -> Process {
    Process::start(PROGRAM, arguments)
}

/// The addresses of the lines `replica N: ADDRESS`, once there are so many.
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

/// The demonstration, on free ports, with its group formed.
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
    /// Starts a replica of a group of three that meet at a socket.
    pub fn start(id: u32, socket: &Path, more: &[impl AsRef<str>]) -> Self {
        Self::start_by(Command::new(PROGRAM), id, socket, more)
    }

    /// Starts a replica that is a group by itself.
    pub fn start_alone(socket: &Path, more: &[impl AsRef<str>]) -> Self {
        Self::start_among("1", Command::new(PROGRAM), 1, socket, more)
    }

    /// Starts it so that the calls of one kind that concern this file fail as told, as
    /// `strace` injects it; what it sees of these calls is in the file `trace`.
    pub fn start_failing(
        id: u32,
        socket: &Path,
        more: &[impl AsRef<str>],
        (call, file, fault): (&str, &Path, &str),
        trace: &Path,
    ) -> Self {
        let mut command = Command::new("strace");
        // The tracer is a process beside, so that the child is the program itself.
        command.args(["-D", "-f", "-qq", "-o"]).arg(trace).arg("-P").arg(file);
        command.args(["-e", &format!("inject={call}:{fault}")]);
        command.arg(PROGRAM);
        Self::start_by(command, id, socket, more)
    }

    /// Starts it by a command that becomes the program.
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

    /// A field of `INFO replication`.
    pub fn info(&self, field: &str) -> String {
        info(&mut self.client(), field)
    }
}

/// A field of `INFO replication`.
pub fn info(client: &mut TestClient, field: &str) -> String {
    let reply = client.call(&["INFO", "replication"]).expect("INFO");
    let kv::resp::Reply::BulkString(text) = reply else { panic!("INFO says {reply:?}") };
    let text = String::from_utf8(text.to_vec()).unwrap();
    let prefix = format!("{field}:");
    let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
    value.unwrap_or_else(|| panic!("no {field} in {text}")).to_owned()
}

/// Waits until a replica commits.
pub fn ready(address: SocketAddr) {
    until("a replica that commits", || {
        let mut client = TestClient::connect(address).ok()?;
        (info(&mut client, "obstacle").is_empty()).then_some(())?;
        (client.ask("DBSIZE").starts_with(':')).then_some(())
    });
}

/// A certificate for 127.0.0.1 that hangs on nothing else, and its key.
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
