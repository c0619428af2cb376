use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use super::Mutation;

/// A copy of the repository in which mutations are built, with a target directory of its own.
#[derive(Clone, Debug)]
pub struct Scratch {
    root: PathBuf,
    tree: PathBuf,
    target: PathBuf,
}

impl Scratch {
    /// Copies the repository at `root`, including uncommitted changes. The copy is kept for the
    /// next run, so that only changed files are rebuilt.
    ///
    /// # Errors
    ///
    /// If a file cannot be copied.
    pub fn new(root: &Path) -> io::Result<Self> {
        let root = root.canonicalize()?;
        let target = env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |target| root.join(target));
        let folder = target.join("mutate");
        let scratch = Self { root, tree: folder.join("tree"), target: folder.join("target") };
        scratch.restore()?;
        Ok(scratch)
    }

    /// Makes the copy equal to the repository. Equal files are not touched.
    ///
    /// # Errors
    ///
    /// If a file cannot be copied.
    pub fn restore(&self) -> io::Result<()> {
        let files = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&self.root)
            .output()?;
        let files = String::from_utf8_lossy(&files.stdout).into_owned();
        let exists = |file: &&str| !file.is_empty() && self.root.join(file).is_file();
        let files: BTreeSet<PathBuf> =
            files.split('\0').filter(exists).map(PathBuf::from).collect();
        if files.is_empty() {
            return Err(io::Error::other("git lists no files here"));
        }
        for file in &files {
            let (from, to) = (self.root.join(file), self.tree.join(file));
            let contents = fs::read(&from)?;
            if fs::read(&to).ok().as_ref() != Some(&contents) {
                fs::create_dir_all(to.parent().unwrap_or(&self.tree))?;
                fs::write(&to, contents)?;
            }
            let permissions = fs::metadata(&from)?.permissions();
            if fs::metadata(&to)?.permissions() != permissions {
                fs::set_permissions(&to, permissions)?;
            }
        }
        remove_others(&self.tree, Path::new(""), &files)
    }

    /// Applies the patch of a mutation.
    ///
    /// # Errors
    ///
    /// If the patch does not apply, with the reason.
    pub fn apply(&self, mutation: &Mutation) -> io::Result<()> {
        git_apply(&self.tree, &self.root.join(mutation.path()), &[])
    }

    /// Returns a command for a program that was built in the copy. `path` is relative to the target
    /// directory.
    pub fn program(&self, path: &str) -> Command {
        self.command(self.target.join(path))
    }

    /// Returns a command that runs in the copy, with the copy's target directory.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        command.env("CARGO_TERM_COLOR", "never").stdin(Stdio::null());
        command
    }
}

impl Mutation {
    /// Checks that the patch applies to the repository at `root`.
    ///
    /// # Errors
    ///
    /// If it does not apply, with the reason.
    pub fn applies(&self, root: &Path) -> io::Result<()> {
        let root = root.canonicalize()?;
        git_apply(&root, &root.join(self.path()), &["--check"])
    }
}

fn git_apply(folder: &Path, patch: &Path, options: &[&str]) -> io::Result<()> {
    let mut command = Command::new("git");
    // Prevents git from finding a repository around the directory.
    command.env("GIT_CEILING_DIRECTORIES", folder.parent().unwrap_or(folder));
    let output = command.arg("apply").args(options).arg(patch).current_dir(folder).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Removes files that the repository does not have, except for the output of tests.
fn remove_others(tree: &Path, folder: &Path, files: &BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(tree.join(folder))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            if path != Path::new("tests/out") && path != Path::new("target") {
                remove_others(tree, &path, files)?;
            }
        } else if !files.contains(&path) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
