//! The command line: a member that runs a command while it leads, and the operator commands.

mod arguments;
mod ask;
mod control;
mod failure;
mod run;

use std::process::ExitCode;

use clap::Parser;
use tracing::level_filters::LevelFilter;

use arguments::{Action, Arguments};
use failure::Failure;

/// Exit status for wrong arguments.
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
        Action::Run(arguments) => {
            service_lib::init_logging(LevelFilter::INFO, arguments.start.log_format);
            block_on(run::run(*arguments))
        }
        Action::Resign(arguments) => block_on(ask::resign(arguments)),
        Action::Operate(operate) => block_on(async {
            service_lib::operator::run(operate).await?;
            Ok(ExitCode::SUCCESS)
        }),
        Action::Guard(arguments) => block_on(async {
            service_lib::guard(arguments).await.map_err(Failure::System)?;
            Ok(ExitCode::SUCCESS)
        }),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            service_lib::print_stderr(format_args!("election: {failure}"));
            failure.exit_code().into()
        }
    }
}

fn block_on(task: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::System)?.block_on(task)
}
