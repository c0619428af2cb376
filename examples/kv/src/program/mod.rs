//! The command line program: the demo, the single replica, and the operator subcommands.

mod arguments;
mod demo;
mod failure;
mod serve;

use std::process::ExitCode;

use clap::Parser;
use service_lib::LogFormat;
use tracing::level_filters::LevelFilter;

use arguments::{Action, Arguments};
use failure::Failure;

/// Parses the command line and runs the program.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match &arguments.action {
        Some(Action::Serve(serve)) => {
            service_lib::init_logging(LevelFilter::INFO, serve.start.log_format)
        }
        _ => service_lib::init_logging(LevelFilter::WARN, LogFormat::Text),
    }
    let outcome = match arguments.action {
        None => demo::run(&arguments.demo),
        Some(Action::Serve(serve)) => serve::run(*serve),
        Some(Action::Operate(operate)) => {
            runtime().and_then(|runtime| Ok(runtime.block_on(service_lib::operator::run(operate))?))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            service_lib::print_stderr(format_args!("kv: {failure}"));
            failure.exit_code().into()
        }
    }
}

/// Starts the runtime whose threads serve clients.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::Runtime)
}
