use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Error, Result, output};

/// Environment variable of every process of a cluster. Its value is the cluster's directory.
pub(super) const MARK: &str = "PLAINSONG_RIG";

/// A process that removes a cluster when its owner drops it or dies.
#[derive(Debug)]
pub(super) struct Guard {
    home: PathBuf,
    /// `None` once it has been waited for.
    child: Option<Child>,
    id: u32,
}

impl Guard {
    /// Starts a guard for the cluster in this directory. The cluster ends with this process.
    pub(super) fn over(home: &Path) -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", include_str!("guard.sh"), "plainsong-rig-guard"]).arg(home);
        command.env_remove(MARK).current_dir("/");
        // The guard waits for the end of its standard input, a pipe that closes with this process.
        // It runs in a process group of its own, because a terminal or a test runner may kill the
        // group of this process.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        let child = command.spawn().map_err(Error::system("start a cluster's guard"))?;
        let id = child.id();
        Ok(Self { home: home.to_owned(), child: Some(child), id })
    }

    /// Returns its process id.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Removes the cluster and waits until this is done.
    pub(super) fn remove(mut self) -> Result<()> {
        let what = format!("remove {}", self.home.display());
        let Some(child) = self.child.take() else { return Ok(()) };
        // This closes its standard input first.
        let output = child.wait_with_output().map_err(Error::system(what.clone()))?;
        if output.status.success() {
            return Ok(());
        }
        let (status, said) = (output.status.to_string(), output::said(&output));
        Err(Error::Failed { command: what, status, said })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The cluster was not completed.
        if let Some(mut child) = self.child.take() {
            // This closes its standard input first.
            let _ = child.wait();
        }
    }
}
