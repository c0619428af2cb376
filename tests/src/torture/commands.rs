use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::group::Group;
use super::service::Service;
use super::{RECOVERY_MAX, Result, wrong};
use crate::rig::Cluster;

/// A command that must not run twice at the same time. It locks a file while it runs, and records
/// an overlap if the file is already locked.
const WORK: &str = r#"
    exec 9>"$FOLDER/$NAME.guard"
    flock -n 9 || echo "OVERLAP $NODE $TOKEN" >>"$FOLDER/$NAME.log"
    echo "begin $NODE $TOKEN" >>"$FOLDER/$NAME.log"
    trap 'echo "end $NODE $TOKEN" >>"$FOLDER/$NAME.log"; exit 0' TERM
"#;
const UNTIL_STOPPED: &str = "while :; do sleep 0.1 9>&-; done";
const A_SHORT_WHILE: &str = "for turn in 1 2 3; do sleep 0.1 9>&-; done";
/// Valid exit codes of `lock run`: success, lock not obtained, no server, lock lost.
const EXITS: [i32; 4] = [0, 1, 69, 75];
/// Pause between two runs.
const PAUSE: Duration = Duration::from_millis(50);

/// Commands of `election run` and `lock run`, each of which must run alone.
pub(super) struct Commands {
    folder: PathBuf,
}

impl Commands {
    pub(super) fn new(cluster: &Cluster) -> Result<Self> {
        let folder = cluster.directory().join("commands");
        fs::create_dir(&folder).map_err(|error| wrong(format!("{}: {error}", folder.display())))?;
        Ok(Self { folder })
    }

    /// Returns a command that runs until it is stopped.
    pub(super) fn endless(&self, name: &str, id: u32, token: &str) -> [String; 3] {
        self.command(name, id, token, UNTIL_STOPPED)
    }

    fn command(&self, name: &str, id: u32, token: &str, work: &str) -> [String; 3] {
        let folder = self.folder.display();
        let set = format!("FOLDER='{folder}' NAME={name} NODE={id} TOKEN=${token}");
        ["sh".into(), "-c".into(), format!("{set}\n{WORK}\n{work}")]
    }

    /// Runs a command again and again, under a lock that all nodes contend for.
    pub(super) fn run_under_lock(&self, group: &Group, id: u32, stop: &AtomicBool) -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let mut command = group.node(id).command(Service::Lock.program()?);
            let server = format!("127.0.0.1:{}", Service::Lock.port());
            command.args(["run", "--at", &server, "--timeout", "2", "--kill-after", "1"]);
            command.args(["work", "--"]).args(self.command(
                "lock",
                id,
                "LOCK_TOKEN",
                A_SHORT_WHILE,
            ));
            let run = group.node(id).spawn("lock run", command)?;
            let status = run.wait_exit(RECOVERY_MAX)?;
            if !status.code().is_some_and(|code| EXITS.contains(&code)) {
                return Err(wrong(format!("`lock run` ended with {status}")));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Checks that no two commands ran at the same time, and that each had a higher token than all
    /// before it.
    pub(super) fn judge(&self) -> Result<()> {
        for name in ["lock", "election"] {
            let path = self.folder.join(format!("{name}.log"));
            let log = fs::read_to_string(&path)
                .map_err(|error| wrong(format!("{}: {error}", path.display())))?;
            if let Some(line) = log.lines().find(|line| line.starts_with("OVERLAP")) {
                return Err(wrong(format!(
                    "two commands of {name} ran at the same time: {line}\n{log}"
                )));
            }
            let tokens = log.lines().filter(|line| line.starts_with("begin"));
            let tokens = tokens.filter_map(|line| line.split(' ').nth(2)?.parse::<u64>().ok());
            if !tokens.is_sorted_by(|one, next| one < next) {
                return Err(wrong(format!(
                    "a token of {name} was not higher than the one before:\n{log}"
                )));
            }
        }
        Ok(())
    }
}
