use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::guard::MARK;
use super::{Error, Result, output};

/// Separate network and mount namespaces, held by a sleeping process. They have no name and end
/// with the last process in them.
#[derive(Debug)]
pub(super) struct Namespace {
    holder: Child,
}

impl Namespace {
    /// Creates namespaces and runs a shell script in them. `name` is shown by `ps`.
    pub(super) fn new(home: &Path, name: &str, script: &str, arguments: &[&Path]) -> Result<Self> {
        let failed = || Error::system(format!("make the namespaces of {name}"));
        let mut command = Command::new("unshare");
        // Slave: a file system that is unmounted outside must not stay mounted here.
        command.args(["--net", "--mount", "--propagation", "slave"]);
        command.args(["sh", "-c", &format!("set -e\n{script}\necho ready\nexec sleep infinity")]);
        command.arg(name).args(arguments).env(MARK, home).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut namespace = Self { holder: command.spawn().map_err(failed())? };
        let mut line = String::new();
        if let Some(stdout) = namespace.holder.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(failed())?;
        }
        if line == "ready\n" {
            return Ok(namespace);
        }
        let mut said = String::new();
        if let Some(mut stderr) = namespace.holder.stderr.take() {
            stderr.read_to_string(&mut said).map_err(failed())?;
        }
        let status = namespace.holder.wait().map_err(failed())?.to_string();
        Err(Error::Failed { command: output::shown(&command), status, said })
    }

    /// Returns the process that holds the namespaces.
    pub(super) fn holder(&self) -> u32 {
        self.holder.id()
    }

    /// Returns the arguments of `nsenter`.
    pub(super) fn entrance(&self) -> [String; 3] {
        [format!("--target={}", self.holder.id()), "--net".into(), "--mount".into()]
    }

    /// Runs `ip -batch`, `tc -batch` or `nft -f` in it, with commands on standard input.
    pub(super) fn configure(&self, program: &[&str], commands: &str) -> Result<()> {
        let mut command = Command::new("nsenter");
        command.args(self.entrance()).arg("--").args(program);
        output::of(&mut command, commands).map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
