//! Opens a log of about 1 GB after its writer was killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::append::Load;
use crate::peer::{self, NAMES, Result};

const FULL: u64 = 1 << 30;
const ROOM: u64 = FULL + FULL / 4;
const ROUNDS: usize = 3;

pub fn compare(folder: &Path) -> Result<()> {
    for _ in 0..ROUNDS {
        for name in NAMES {
            let folder = folder.join(name);
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder)?;
            let program = std::env::current_exe()?;
            let mut writer = Command::new(&program);
            let writer = writer.args(["fill", name]).arg(&folder).stdout(Stdio::piped());
            let mut writer = writer.spawn()?;
            let said = BufReader::new(writer.stdout.take().ok_or("no pipe")?).lines().next();
            said.ok_or("the writer failed")??;
            writer.kill()?;
            writer.wait()?;
            Command::new(&program).args(["open", name]).arg(&folder).status()?;
            std::fs::remove_dir_all(&folder)?;
        }
    }
    Ok(())
}

/// Writes forever, and prints a line when the log is full.
pub fn fill(name: &str, folder: &Path) -> Result<()> {
    let mut peer = peer::open(name, folder, ROOM)?;
    let mut load = Load::new(8192, 16);
    let mut said = false;
    while load.bytes_written() < FULL + FULL / 8 {
        load.write(peer.as_mut(), usize::MAX)?;
        if !said && load.bytes_written() > FULL {
            println!("full");
            said = true;
        }
    }
    loop {
        std::thread::park();
    }
}

pub fn open(name: &str, folder: &Path) -> Result<()> {
    let begin = Instant::now();
    let mut peer = peer::open(name, folder, ROOM)?;
    let opened = begin.elapsed();
    let held = peer.held()?;
    let read = begin.elapsed();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let memory = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!(
        "{name:<12} open {:.2} s, open and read {:.2} s, {} records, {:.2} GB; {memory}",
        opened.as_secs_f64(),
        read.as_secs_f64(),
        held.records,
        held.bytes as f64 / 1e9,
    );
    Ok(())
}
