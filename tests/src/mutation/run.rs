use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Check, Mutation, Scratch};

/// Timeout of a check. A mutation that makes the check hang is detected, too.
const CHECK_MAX: Duration = Duration::from_secs(300);
/// Timeout of a build, generous enough for a slow and busy machine.
const BUILD_MAX: Duration = Duration::from_secs(3600);

/// Maximum number of characters kept of a check's message.
const WHAT_MAX: usize = 160;

/// The result of running a mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A check detected it.
    Caught {
        /// The seed, test or scenario that failed.
        by: String,
        /// The first line of its message.
        what: String,
    },
    /// The check passed.
    Missed,
    /// The patch does not apply, or the code does not compile.
    Broken(String),
}

/// Applies a mutation and runs the check that it names. The simulation first runs the seed that the
/// mutation names, if any, and then seeds 0 to `seeds`.
///
/// # Errors
///
/// If a program cannot be run or a file cannot be written.
pub fn run(scratch: &Scratch, mutation: &Mutation, seeds: u64) -> io::Result<Outcome> {
    scratch.restore()?;
    if let Err(error) = scratch.apply(mutation) {
        return Ok(Outcome::Broken(error.to_string()));
    }
    let outcome = match &mutation.caught_by {
        Check::Simulation(named) => {
            // The same build as in `tests/simulate`.
            let simulate_bin = ["-p", "plainsong-tests", "--bin", "simulate"];
            let arguments = [&["build", "--quiet", "--profile", "simulation"], &simulate_bin[..]];
            if let Some(broken) = build(scratch, &arguments.concat())? {
                return Ok(broken);
            }
            let named = named.map(|seed| simulate(scratch, seed, 1));
            match named.transpose()? {
                Some(outcome) if outcome != Outcome::Missed => Ok(outcome),
                _ => simulate(scratch, 0, seeds),
            }
        }
        Check::Test(arguments) => test(scratch, arguments),
        Check::Scenario(name) => {
            let arguments = ["-p", "plainsong-tests", "--test", "scenarios", name];
            test(scratch, &arguments.map(String::from))
        }
    };
    scratch.restore()?;
    outcome
}

fn simulate(scratch: &Scratch, first: u64, seeds: u64) -> io::Result<Outcome> {
    let mut command = scratch.program("simulation/simulate");
    command.args(["--first", &first.to_string(), "--seeds", &seeds.to_string()]);
    let Ended { status, text } = end(command, CHECK_MAX)?;
    let violation = text.lines().find_map(|line| line.strip_prefix("seed ")?.split_once(": "));
    Ok(match (status, violation) {
        (Some(status), None) if status.success() => Outcome::Missed,
        (Some(_), Some((seed, what))) => Outcome::Caught {
            by: format!("seed {seed}"),
            what: what.chars().take(WHAT_MAX).collect(),
        },
        (None, _) => Outcome::Caught { by: "a seed".into(), what: "hangs".into() },
        _ => Outcome::Broken(last_lines(&text)),
    })
}

/// Builds with cargo. Returns an outcome if the build fails.
fn build(scratch: &Scratch, arguments: &[&str]) -> io::Result<Option<Outcome>> {
    let mut command = scratch.command("cargo");
    command.args(arguments);
    let built = end(command, BUILD_MAX)?;
    let is_built = built.status.is_some_and(|status| status.success());
    Ok((!is_built).then(|| Outcome::Broken(last_lines(&built.text))))
}

fn test(scratch: &Scratch, arguments: &[String]) -> io::Result<Outcome> {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    // A mutation that does not compile is not detected by any check.
    if let Some(broken) =
        build(scratch, &[&["test", "--quiet", "--no-run"], &arguments[..]].concat())?
    {
        return Ok(broken);
    }
    let mut command = scratch.command("cargo");
    command.arg("test").args(&arguments);
    let Ended { status, text } = end(command, CHECK_MAX)?;
    let failed = |line: &str| {
        let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
        Some(name.to_owned())
    };
    let by = text.lines().find_map(failed);
    let panic = text.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
    let what = panic.unwrap_or_default().trim().chars().take(WHAT_MAX).collect();
    Ok(match (status, by) {
        (Some(status), _) if status.success() => Outcome::Missed,
        (Some(_), Some(by)) => Outcome::Caught { by: format!("test {by}"), what },
        (Some(status), None) => {
            let what = format!("the tests ended with {status}");
            Outcome::Caught { by: arguments.join(" "), what }
        }
        (None, _) => Outcome::Caught { by: arguments.join(" "), what: "hangs".into() },
    })
}

struct Ended {
    /// `None` if it was killed because it took too long.
    status: Option<ExitStatus>,
    text: String,
}

/// Runs a command to its end, or kills it after `most`, with all processes that it started.
fn end(mut command: Command, most: Duration) -> io::Result<Ended> {
    let (mut reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer).process_group(0);
    let mut child = command.spawn()?;
    // The pipe ends with the last process that writes to it.
    drop(command);
    let text = thread::spawn(move || {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if began.elapsed() > most {
            break None;
        }
        thread::sleep(Duration::from_millis(20));
    };
    // Also kills processes that it has left behind.
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    child.wait()?;
    let text = text.join().map_err(|_| io::Error::other("the output could not be read"))??;
    Ok(Ended { status, text })
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
