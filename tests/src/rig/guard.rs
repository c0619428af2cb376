use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Error, Result, output};

/// The variable in the environment of every process of a cluster. Its value is the
/// cluster's directory.
pub(super) const MARK: &str = "PLAINSONG_RIG";

/// A process that removes a cluster when its owner drops it or dies.
#[derive(Debug)]
pub(super) struct Guard {
    home: PathBuf,
    /// None once it has been waited for.
    child: Option<Child>,
    id: u32,
}

impl Guard {
    /// From now on the cluster in this directory ends with this process.
    pub(super) fn over(home: &Path) -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", include_str!("guard.sh"), "plainsong-rig-guard"]).arg(home);
        command.env_remove(MARK).current_dir("/");
        // Its standard input is the pipe that closes with this process. It must not be in the
        // process group that a terminal or a test runner kills.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        let child = command.spawn().map_err(Error::system("start a cluster's guard"))?;
        let id = child.id();
        Ok(Self { home: home.to_owned(), child: Some(child), id })
    }

    /// The process id.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Removes the cluster and waits until it is gone.
    pub(super) fn remove(mut self) -> Result<()> {
        let what = format!("remove {}", self.home.display());
        let Some(child) = self.child.take() else { return Ok(()) };
        // Closes its standard input first.
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
        // Of a cluster that was not completed.
        if let Some(mut child) = self.child.take() {
            // Closes its standard input first.
            let _ = child.wait();
        }
    }
}
