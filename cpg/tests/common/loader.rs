//! Processes that send as much as they can, and write down what they hear.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{IoSlice, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cpg::{Connection, Dispatch, Error, Event, GroupName, Guarantee, Options};

use super::Meeting;

/// Names the file a loader writes to, and who it is.
const LOG: &str = "CPG_TEST_LOG";
const NAME: &str = "CPG_TEST_NAME";

/// Last message of a loader that is about to end.
const END: u64 = u64::MAX;

/// A child process that loads the ring.
pub(crate) struct Loader {
    pub(crate) name: u64,
    pub(crate) child: Child,
    log: PathBuf,
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A message: whose, and its number.
    Message(u64, u64),
    /// A configuration: the members' processes, and who left for what reason.
    Change(String),
    Ring(u64),
}

impl Loader {
    pub(crate) fn start(meeting: &Meeting, name: u64) -> Self {
        let log = meeting.directory().join(format!("log-{name}"));
        let mut command = meeting.child_command("loader");
        command.env(LOG, &log).env(NAME, name.to_string()).stdin(Stdio::piped());
        Self { name, child: command.spawn().unwrap(), log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lets it end when all it sent was heard by all, which it must do of itself.
    pub(crate) fn finish(&mut self) {
        drop(self.child.stdin.take());
    }

    pub(crate) fn assert_finished(&mut self) {
        let mut status = None;
        super::until("a loader to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "loader {} failed", self.name);
    }

    /// Returns the lines received so far, or until its death.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        lines.map(parse).collect()
    }

    pub(crate) fn length(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |data| data.len())
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parse(line: &str) -> Line {
    let mut words = line.splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some("M"), Some(name), Some(number)) => {
            Line::Message(name.parse().unwrap(), number.parse().unwrap())
        }
        (Some("R"), Some(ring), None) => Line::Ring(ring.parse().unwrap()),
        _ => Line::Change(line.into()),
    }
}

/// Checks what must hold for those who lived to the end, in the order of their joining:
/// each heard the same as the first from its own joining on, and the first heard each
/// number of each of them once and in order.
pub(crate) fn assert_agree(survivors: &[Loader]) {
    let logs: Vec<_> = survivors.iter().map(Loader::lines).collect();
    let first = &logs[0];
    for (log, loader) in logs.iter().zip(survivors) {
        let start = first.len().checked_sub(log.len());
        let start = start.unwrap_or_else(|| panic!("loader {} heard too much", loader.name));
        if let Some(place) = (0..log.len()).find(|place| log[*place] != first[start + place]) {
            panic!(
                "loaders {} and {} differ at {place} of {}: {:?} and {:?}",
                loader.name,
                survivors[0].name,
                log.len(),
                &log[place..log.len().min(place + 3)],
                &first[start + place..first.len().min(start + place + 3)],
            );
        }
    }
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    for line in first {
        if let Line::Message(name, number) = line
            && *number != END
        {
            // Those who were there before are heard from somewhere on.
            let next = next.entry(*name).or_insert(*number);
            assert_eq!(number, next, "a message of {name} came twice or was left out");
            *next += 1;
        }
    }
    for loader in survivors {
        assert!(next.contains_key(&loader.name), "loader {} sent nothing", loader.name);
    }
}

/// Body of the test `loader` in a child process.
pub(crate) fn be_loader() {
    let Some(log) = std::env::var_os(LOG) else { return };
    let name: u64 = std::env::var(NAME).unwrap().parse().unwrap();
    let transport = super::transport_of_child().unwrap();
    let connection = transport.connect(Options::default()).unwrap();
    connection.join(&GroupName::new("load").unwrap()).unwrap();
    let mut log = File::create(log).unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            is_over.store(true, Ordering::Release);
        });
        let (mut number, mut heard) = (0, Heard::default());
        while !is_over.load(Ordering::Acquire) {
            // Several in flight, and of all sizes.
            for _ in 0..50 {
                number += u64::from(send(&connection, name, number));
            }
            heard.hear(&connection, &mut log, Duration::from_millis(1));
        }
        while !send(&connection, name, END) {
            heard.hear(&connection, &mut log, Duration::from_millis(1));
        }
        while !heard.is_over() {
            heard.hear(&connection, &mut log, Duration::from_millis(10));
        }
    });
}

fn send(connection: &Connection, name: u64, number: u64) -> bool {
    let padding = vec![0; usize::try_from(number % 1_000).unwrap()];
    let (name_bytes, number_bytes) = (name.to_le_bytes(), number.to_le_bytes());
    let slices = [&name_bytes[..], &number_bytes, &padding].map(IoSlice::new);
    match connection.multicast(Guarantee::Agreed, &slices) {
        Ok(()) => true,
        Err(Error::TryAgain) => false,
        Err(error) => panic!("loader {name} cannot send: {error}"),
    }
}

/// The messages that a loader has received from the others.
#[derive(Default)]
struct Heard {
    members: usize,
    ends: usize,
}

impl Heard {
    /// All who are there have said their last. What comes after is only their going.
    fn is_over(&self) -> bool {
        self.ends > 0 && self.ends == self.members
    }

    /// Waits, and writes down what is there.
    fn hear(&mut self, connection: &Connection, log: &mut File, timeout: Duration) {
        connection.wait(Some(timeout)).unwrap();
        let mut text = String::new();
        let count = connection.dispatch(Dispatch::All, |event| {
            if !self.is_over() {
                text.push_str(&self.line(&event));
            }
        });
        count.unwrap();
        log.write_all(text.as_bytes()).unwrap();
    }

    fn line(&mut self, event: &Event) -> String {
        match event {
            Event::Deliver { message, .. } => {
                let name = u64::from_le_bytes(message[..8].try_into().unwrap());
                let number = u64::from_le_bytes(message[8..16].try_into().unwrap());
                self.ends += usize::from(number == END);
                format!("M {name} {number}\n")
            }
            Event::Configuration(change) => {
                let members: Vec<_> = change.members.iter().map(|member| member.pid.0).collect();
                let left: Vec<_> =
                    change.left.iter().map(|gone| (gone.member.pid.0, gone.reason)).collect();
                self.members = members.len();
                format!("C {members:?} {left:?}\n")
            }
            Event::Ring(ring) => format!("R {}\n", ring.id.sequence),
        }
    }
}
