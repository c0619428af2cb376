use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::until;

/// An interactive shell that runs a script on its own pseudo-terminal. On drop it is killed, with
/// everything that it has started.
#[derive(Debug)]
pub struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    shell: Child,
}

impl Terminal {
    /// Starts a script with these environment variables. The program under test is in `PATH`.
    pub fn start(program: &str, script: &str, variables: &[(&str, &str)]) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&keyboard).expect("a terminal");
        unlockpt(&keyboard).expect("a terminal");
        let name = ptsname(&keyboard, Vec::new()).expect("a terminal's name");
        let name = PathBuf::from(name.to_str().expect("a path"));
        let mut open = OpenOptions::new();
        open.read(true).write(true).custom_flags(OFlags::NOCTTY.bits().cast_signed());
        let side = || open.open(&name).expect("the other side");
        let folder = std::path::Path::new(program).parent().expect("a folder").display();
        let path = std::env::var("PATH").unwrap_or_default();
        // `setsid --ctty` makes the standard input its controlling terminal.
        let shell = Command::new("setsid")
            .args(["--ctty", "bash", "--norc", "-i", "-c", script])
            .env("PATH", format!("{folder}:{path}"))
            .envs(variables.iter().copied())
            .env_remove("RUST_LOG")
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .expect("a shell");
        let keyboard = File::from(keyboard);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (shared, mut from) = (Arc::clone(&screen), keyboard.try_clone().expect("a copy"));
        thread::spawn(move || {
            let mut part = [0; 4096];
            // Reading fails once every descriptor of the other side is closed.
            while let Ok(length) = from.read(&mut part) {
                shared.lock().unwrap().extend_from_slice(&part[..length]);
            }
        });
        Self { keyboard, screen, shell }
    }

    /// Types `keys`.
    pub fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("a keyboard");
    }

    /// Waits until the screen contains `part`.
    #[track_caller]
    pub fn shows(&self, part: &str) {
        until(part, || self.screen().contains(part).then_some(()));
    }

    /// Returns everything shown so far.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the terminal showed:\n{}", self.screen());
        }
        let session = self.shell.id().to_string();
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let stats = processes.filter_map(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let fields = stat.rsplit_once(") ")?.1;
            let fields: Vec<&str> = fields.split(' ').collect();
            let [_, _, group, of, ..] = fields[..] else { return None };
            (of == session).then(|| group.parse().ok().and_then(Pid::from_raw))?
        });
        for group in stats {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
