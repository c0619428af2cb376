//! Programs beside the replicas that a group has to bear.

use std::error::Error;
use std::fs;
use std::io::IoSlice;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use cpg::{Connection, Dispatch, Event, GroupName, Guarantee, Options, Transport};
use plainsong::testing::Random;

use super::{Result, program, wrong};
use crate::rig::{Node, Program};

/// More than one message of Corosync's own carries.
const FLOOD_BYTES: usize = 150_000;
/// A user whom no `uidgid.d` names.
const STRANGER: u32 = 4321;
/// Between two messages of the noise.
const PAUSE: Duration = Duration::from_millis(2);

/// A program that sends large messages in a group of its own, until it is killed.
pub(super) fn flood(node: &Node) -> Result<Program> {
    spawn(node, "flood", &["--become-flood"])
}

/// A program that is a member of the replicas' group and sends damaged frames, until it is
/// killed.
pub(super) fn noise(node: &Node, seed: u64) -> Result<Program> {
    spawn(node, "noise", &["--become-noise", &seed.to_string()])
}

/// Puts this program where anybody may run it. Before there are other threads: a process that one
/// of them starts meanwhile would hold the file open for writing, and it could not be run.
pub(super) fn prepare(node: &Node) -> Result<()> {
    let copy = copy_in(node);
    fs::copy(program("torture")?, &copy)
        .and_then(|_| fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)))
        .map_err(|error| wrong(format!("{}: {error}", copy.display())))
}

fn copy_in(node: &Node) -> PathBuf {
    node.directory().join("uninvited")
}

/// A program of a user who may not use the daemon, and tries without pause, until it is killed.
pub(super) fn uninvited(node: &Node) -> Result<Program> {
    let mut command = node.command_as(STRANGER, STRANGER, copy_in(node));
    command.arg("--become-uninvited");
    Ok(node.spawn("uninvited", command)?)
}

fn spawn(node: &Node, name: &str, arguments: &[&str]) -> Result<Program> {
    let mut command = node.command(program("torture")?);
    command.args(arguments);
    Ok(node.spawn(name, command)?)
}

fn join(group: &str) -> std::result::Result<Connection, Box<dyn Error>> {
    let connection = Transport::Corosync.connect(Options::default())?;
    connection.join(&GroupName::new(group)?)?;
    Ok(connection)
}

/// What `flood` runs.
///
/// # Errors
///
/// When the daemon is gone, among others.
pub fn be_flood() -> std::result::Result<(), Box<dyn Error>> {
    let connection = join("flood")?;
    let message = vec![0x5a; FLOOD_BYTES];
    loop {
        match connection.multicast(Guarantee::Agreed, &[IoSlice::new(&message)]) {
            Ok(()) | Err(cpg::Error::TryAgain) => {}
            Err(error) => return Err(error.into()),
        }
        connection.wait(Some(PAUSE))?;
        connection.dispatch(Dispatch::All, |_| ())?;
    }
}

/// What `uninvited` runs: tells the first refusal, and ends only if it is let in.
///
/// # Errors
///
/// When it is let in.
pub fn be_uninvited() -> std::result::Result<(), Box<dyn Error>> {
    let mut told = false;
    loop {
        match Transport::Corosync.connect(Options::default()) {
            Ok(_) => return Err("the daemon let in who has no permission".into()),
            Err(error @ cpg::Error::Access) if !told => {
                println!("{error}");
                told = true;
            }
            Err(_) => {}
        }
        std::thread::sleep(PAUSE);
    }
}

/// What `noise` runs: listens to the replicas, and sends what they sent, damaged; or nonsense.
///
/// # Errors
///
/// When the daemon is gone, among others.
pub fn be_noise(seed: u64) -> std::result::Result<(), Box<dyn Error>> {
    let connection = join("kv")?;
    let mut random = Random::new(seed);
    let mut heard = Vec::new();
    loop {
        connection.wait(Some(PAUSE))?;
        connection.dispatch(Dispatch::All, |event| {
            if let Event::Deliver { message, .. } = event {
                heard = message.to_vec();
            }
        })?;
        let message = damaged(&heard, &mut random);
        match connection.multicast(Guarantee::Agreed, &[IoSlice::new(&message)]) {
            Ok(()) | Err(cpg::Error::TryAgain) => {}
            Err(error) => return Err(error.into()),
        }
        std::thread::sleep(PAUSE);
    }
}

fn damaged(frame: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let at = random.below(bytes.len() as u64) as usize;
    match random.below(4) {
        0 => bytes.truncate(at),
        1 => bytes.extend_from_slice(&random.number().to_le_bytes()),
        2 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        _ => bytes = (0..random.below(300)).map(|_| random.number() as u8).collect(),
    }
    bytes
}
