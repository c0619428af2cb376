use std::fmt::Display;
use std::io::{IsTerminal, Write, stderr};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Human-readable lines.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging on stderr, filtered by `RUST_LOG`, or by `level` if it is not set. Lines that
/// cannot be written, for example because the disk is full, are dropped.
pub fn init_logging(level: LevelFilter, format: LogFormat) {
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr)
        // Otherwise a failed write would be reported on stderr, which panics if that fails, too.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// Prints a line on stderr. Unlike `eprintln!`, it does not panic if the line cannot be written.
pub fn print_stderr(line: impl Display) {
    let _ = writeln!(stderr(), "{line}");
}
