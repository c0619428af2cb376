use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use super::{Error, Result};

/// Runs a short command of the rig itself, with text on its standard input, and returns
/// what it printed. It is an error if it does not succeed.
pub(super) fn of(command: &mut Command, input: &str) -> Result<String> {
    let shown = shown(command);
    let failed = Error::system(format!("run `{shown}`"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut run = || -> std::io::Result<Output> {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ends without reading its input says why by itself.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    };
    let output = run().map_err(failed)?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let input = if input.is_empty() { String::new() } else { format!(" with input {input:?}") };
        Err(Error::Failed {
            command: shown + &input,
            status: output.status.to_string(),
            said: said(&output),
        })
    }
}

/// What a program printed, for people.
pub(super) fn said(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !text.is_empty() && !stderr.trim().is_empty() {
        text.push('\n');
    }
    text.push_str(stderr.trim());
    if text.is_empty() { "it printed nothing".into() } else { text }
}

/// A command as one would type it.
pub(super) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
