use std::fmt::Display;
use std::io::{IsTerminal, Write, stderr};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// How a program logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// An object of JSON in each line.
    Json,
}

/// Logs on stderr from now on: what RUST_LOG says, or all of that level. What cannot be written
/// there, as on a disk that is full, is lost.
pub fn log(level: LevelFilter, format: LogFormat) {
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr)
        // Of these it would complain on stderr, and panic.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// Says a line to whoever runs the program, on stderr. `eprintln!` panics when it cannot be written.
pub fn say(line: impl Display) {
    let _ = writeln!(stderr(), "{line}");
}
