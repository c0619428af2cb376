//! The command line: the server, and its clients.

mod arguments;
mod ask;
mod failure;
mod held;
mod run;
mod serve;

use std::process::ExitCode;

use clap::Parser;
use tracing::level_filters::LevelFilter;

use arguments::{Action, Arguments};
use failure::Failure;

/// Exit status for wrong arguments, as in flock(1).
const USAGE: u8 = 64;

/// Parses the command line, runs the program and returns its exit status.
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
            service_lib::init_logging(LevelFilter::INFO, arguments.start.log_format);
            serve::run(arguments)
        }
        Action::Run(arguments) => client(run::run(arguments)),
        Action::Try(arguments) => client(run::try_(arguments)),
        Action::Ls(arguments) => client(ask::ls(arguments)),
        Action::Break(arguments) => client(ask::break_lock(arguments)),
        Action::Operate(operate) => client(async {
            service_lib::operator::run(operate).await?;
            Ok(ExitCode::SUCCESS)
        }),
        Action::Guard(arguments) => client(async {
            service_lib::guard(arguments).await.map_err(Failure::System)?;
            Ok(ExitCode::SUCCESS)
        }),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            service_lib::print_stderr(format_args!("lock: {failure}"));
            failure.exit_code().into()
        }
    }
}

/// Runs a client on a single-threaded runtime.
fn client(task: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::System)?.block_on(task)
}
