use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{Client, until};

const START: Duration = Duration::from_secs(20);

/// A `kv` process. It is killed when this is dropped, also by a failing test.
pub struct Process {
    child: Child,
    out: Lines,
    err: Lines,
}

/// What a process has printed so far.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn collect(from: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let shared = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                shared.0.lock().unwrap().push(line);
            }
        });
        lines
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Process {
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_kv")), arguments)
    }

    /// Starts the program by a command that becomes it.
    fn start_by(mut command: Command, arguments: &[&str]) -> Self {
        let mut child = command
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the kv binary");
        let out = Lines::collect(child.stdout.take().unwrap());
        let err = Lines::collect(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    pub fn out(&self) -> Vec<String> {
        self.out.all()
    }

    pub fn err(&self) -> Vec<String> {
        self.err.all()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        kill_process(pid, signal).expect("a process to signal");
    }

    /// Kills it as the power does.
    pub fn kill(&mut self) {
        self.child.kill().expect("a process to kill");
        self.child.wait().expect("its end");
    }

    #[track_caller]
    pub fn ended(&mut self, bound: Duration) -> ExitStatus {
        until("the end of the process", bound, || self.child.try_wait().unwrap())
    }

    /// The addresses of the lines `replica N: ADDRESS`, once there are so many.
    fn addresses(&mut self, count: usize) -> Vec<SocketAddr> {
        until("addresses on stdout", START, || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("kv ended with {status}: {:?} {:?}", self.out(), self.err());
            }
            let lines = self.out();
            let address = |line: &String| line.trim().split_once(": ")?.1.parse().ok();
            let found: Vec<SocketAddr> = lines.iter().filter_map(address).collect();
            (found.len() == count).then_some(found)
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- a kv process printed:");
            for line in self.out().iter().chain(&self.err()) {
                eprintln!("{line}");
            }
        }
    }
}

/// The demonstration, on free ports, with its group formed.
pub struct Demo {
    pub process: Process,
    pub addresses: Vec<SocketAddr>,
}

impl Demo {
    pub fn start() -> Self {
        let mut process = Process::start(&["--port", "0"]);
        let addresses = process.addresses(3);
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
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_kv")), id, socket, more)
    }

    /// Starts a replica that is a group by itself.
    pub fn start_alone(socket: &Path, more: &[impl AsRef<str>]) -> Self {
        Self::start_among("1", Command::new(env!("CARGO_BIN_EXE_kv")), 1, socket, more)
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
        command.arg(env!("CARGO_BIN_EXE_kv"));
        Self::start_by(command, id, socket, more)
    }

    fn start_by(command: Command, id: u32, socket: &Path, more: &[impl AsRef<str>]) -> Self {
        Self::start_among("1,2,3", command, id, socket, more)
    }

    fn start_among(
        voters: &str,
        command: Command,
        id: u32,
        socket: &Path,
        more: &[impl AsRef<str>],
    ) -> Self {
        let engine = format!("embedded:{}", socket.display());
        let id_text = id.to_string();
        let mut arguments = vec!["serve", "--id", &id_text, "--voters", voters];
        arguments.extend(["--listen", "127.0.0.1:0", "--engine", &engine]);
        arguments.extend(more.iter().map(AsRef::as_ref));
        let mut process = Process::start_by(command, &arguments);
        let address = process.addresses(1)[0];
        Self { id, process, address }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address).expect("a connection")
    }

    /// A field of `INFO replication`.
    pub fn info(&self, field: &str) -> String {
        info(&mut self.client(), field)
    }
}

/// A field of `INFO replication`.
pub fn info(client: &mut Client, field: &str) -> String {
    let reply = client.call(&["INFO", "replication"]).expect("INFO");
    let kv::resp::Reply::BulkString(text) = reply else { panic!("INFO says {reply:?}") };
    let text = String::from_utf8(text.to_vec()).unwrap();
    let prefix = format!("{field}:");
    let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
    value.unwrap_or_else(|| panic!("no {field} in {text}")).to_owned()
}

/// Waits until a replica commits.
pub fn ready(address: SocketAddr) {
    until("a replica that commits", START, || {
        let mut client = Client::connect(address).ok()?;
        (info(&mut client, "obstacle").is_empty()).then_some(())?;
        (client.ask("DBSIZE").starts_with(':')).then_some(())
    });
}
