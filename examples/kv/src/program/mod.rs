//! The program: the demonstration and the single replica.

mod arguments;
mod demo;
mod failure;
mod serve;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use arguments::{Action, Arguments};
use failure::Failure;

/// Runs the program as the command line says.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let level = match arguments.action {
        None => LevelFilter::WARN,
        Some(Action::Serve(_)) => LevelFilter::INFO,
    };
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let outcome = match arguments.action {
        None => demo::run(&arguments.demo),
        Some(Action::Serve(serve)) => serve::run(serve),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("kv: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The threads that serve clients.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::Runtime)
}
