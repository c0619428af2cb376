//! Hostile programs that run beside the replicas.

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

/// Size of a message, larger than one internal message of Corosync.
const FLOOD_BYTES: usize = 150_000;
/// A user id that no file in `uidgid.d` names.
const UNPRIVILEGED_USER: u32 = 4321;
/// Pause between two messages or attempts.
const PAUSE: Duration = Duration::from_millis(2);

/// Starts a program that sends large messages in a group of its own, until it is killed.
pub(super) fn flood(node: &Node) -> Result<Program> {
    spawn(node, "flood", &["--become-flood"])
}

/// Starts a program that joins the replicas' group and sends damaged frames, until it is killed.
pub(super) fn noise(node: &Node, seed: u64) -> Result<Program> {
    spawn(node, "noise", &["--become-noise", &seed.to_string()])
}

/// Copies this program to a place where every user may run it. Must be called before other threads
/// exist: a process started meanwhile would inherit the file open for writing, and the copy could
/// not be executed.
pub(super) fn prepare(node: &Node) -> Result<()> {
    let copy = copy_in(node);
    fs::copy(program("torture")?, &copy)
        .and_then(|_| fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)))
        .map_err(|error| wrong(format!("{}: {error}", copy.display())))
}

fn copy_in(node: &Node) -> PathBuf {
    node.directory().join("uninvited")
}

/// Starts a program whose user has no permission to use the daemon. It tries to connect again and
/// again, until it is killed.
pub(super) fn uninvited(node: &Node) -> Result<Program> {
    let mut command = node.command_as(UNPRIVILEGED_USER, UNPRIVILEGED_USER, copy_in(node));
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

/// The main function of `flood`.
///
/// # Errors
///
/// Any error of the transport, for example if the daemon is gone.
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

/// The main function of `uninvited`: prints the first rejection.
///
/// # Errors
///
/// If the daemon accepts the connection.
pub fn be_uninvited() -> std::result::Result<(), Box<dyn Error>> {
    let mut has_printed = false;
    loop {
        match Transport::Corosync.connect(Options::default()) {
            Ok(_) => return Err("the daemon accepted a user without permission".into()),
            Err(error @ cpg::Error::Access) if !has_printed => {
                println!("{error}");
                has_printed = true;
            }
            Err(_) => {}
        }
        std::thread::sleep(PAUSE);
    }
}

/// The main function of `noise`: receives the replicas' messages and sends damaged copies of them,
/// or random bytes.
///
/// # Errors
///
/// Any error of the transport, for example if the daemon is gone.
pub fn be_noise(seed: u64) -> std::result::Result<(), Box<dyn Error>> {
    let connection = join("kv")?;
    let mut random = Random::new(seed);
    let mut received = Vec::new();
    loop {
        connection.wait(Some(PAUSE))?;
        connection.dispatch(Dispatch::All, |event| {
            if let Event::Deliver { message, .. } = event {
                received = message.to_vec();
            }
        })?;
        let message = damaged(&received, &mut random);
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
