//! The program: the replica, and its clients.

mod arguments;
mod ask;
mod failure;
mod run;
mod serve;
mod signals;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use arguments::{Action, Arguments};
use failure::Failure;

/// A wrong command line, as flock(1) has it.
const USAGE: u8 = 64;

/// Runs the program as the command line says.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match arguments.action {
        Action::Serve(arguments) => {
            log();
            serve::run(arguments)
        }
        Action::Run(arguments) => client(run::run(arguments)),
        Action::Try(arguments) => client(run::try_(arguments)),
        Action::Ls(arguments) => client(ask::ls(arguments)),
        Action::Break(arguments) => client(ask::break_lock(arguments)),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("lock: {failure}");
            failure.exit_code().into()
        }
    }
}

fn log() {
    let filter =
        EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

/// A client needs no threads.
fn client(task: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::System)?.block_on(task)
}
