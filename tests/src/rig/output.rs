use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use super::{Error, Result};

/// Runs a short command of the rig itself, with text on its standard input, and returns its output.
/// A failure of the command is an error.
pub(super) fn of(command: &mut Command, input: &str) -> Result<String> {
    let shown = shown(command);
    let failed = Error::system(format!("run `{shown}`"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut run = || -> std::io::Result<Output> {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // If the program ends without reading its input, its output shows the reason.
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

/// Returns the output of a program, for error messages.
pub(super) fn said(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !text.is_empty() && !stderr.trim().is_empty() {
        text.push('\n');
    }
    text.push_str(stderr.trim());
    if text.is_empty() { "no output".into() } else { text }
}

/// Formats a command as a shell command line.
pub(super) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
