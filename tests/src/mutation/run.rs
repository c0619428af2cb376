use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Check, Mutation, Scratch};

/// A check that takes longer hangs, which is noticed as well.
const CHECK_MAX: Duration = Duration::from_secs(300);
/// Longer than any build takes, on a slow machine that has other work.
const BUILD_MAX: Duration = Duration::from_secs(3600);

/// Characters of what a check said.
const WHAT_MAX: usize = 160;

/// What became of a mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A check noticed it: which, and what it said.
    Caught {
        /// A seed, a test or a scenario.
        by: String,
        /// The first line of what it said.
        what: String,
    },
    /// The check passed.
    Missed,
    /// It does not apply, or does not compile.
    Broken(String),
}

/// Applies a mutation, and runs what it says to be caught by. The simulation runs `seeds` seeds,
/// after the one that the mutation names.
///
/// # Errors
///
/// A program that cannot be run, or a file that cannot be written.
pub fn run(scratch: &Scratch, mutation: &Mutation, seeds: u64) -> io::Result<Outcome> {
    scratch.restore()?;
    if let Err(error) = scratch.apply(mutation) {
        return Ok(Outcome::Broken(error.to_string()));
    }
    let outcome = match &mutation.caught_by {
        Check::Simulation(named) => {
            // As `tests/simulate` does.
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

/// Builds with cargo; returns why that is not possible.
fn build(scratch: &Scratch, arguments: &[&str]) -> io::Result<Option<Outcome>> {
    let mut command = scratch.command("cargo");
    command.args(arguments);
    let built = end(command, BUILD_MAX)?;
    let is_built = built.status.is_some_and(|status| status.success());
    Ok((!is_built).then(|| Outcome::Broken(last_lines(&built.text))))
}

fn test(scratch: &Scratch, arguments: &[String]) -> io::Result<Outcome> {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    // What does not compile is noticed by nobody.
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
    /// `None` if it was stopped because it took too long.
    status: Option<ExitStatus>,
    text: String,
}

/// Runs a command to its end, and everything that it has started.
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
    // Also ends what it has left behind.
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
