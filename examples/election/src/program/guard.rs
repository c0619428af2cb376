//! `election guard`: a process between the program and the command, which stops the command
//! when the program is no more, however it ended. Started by the program itself.

use std::process::ExitCode;

use service::{Job, Signals};
use tokio::io::AsyncReadExt;

use super::arguments::Guard;
use super::failure::Failure;

/// Its standard input is held open by the program, which never writes: where it ends, the
/// command has to stop.
pub(super) async fn run(arguments: Guard) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen().map_err(Failure::System)?;
    let mut job = Job::start(&arguments.command, &[]).map_err(|why| Failure::Command {
        command: arguments.command.first().cloned().unwrap_or_default(),
        why,
    })?;
    let mut lifeline = tokio::io::stdin();
    let mut nothing = [0];
    tokio::select! {
        status = job.ended(&mut signals) => {
            let code = service::exit_code(status.map_err(Failure::System)?);
            // What the command has left behind in its process group.
            job.stop(arguments.kill_after, &mut signals).await.map_err(Failure::System)?;
            Ok(code.into())
        }
        _ = lifeline.read(&mut nothing) => {
            job.stop(arguments.kill_after, &mut signals).await.map_err(Failure::System)?;
            Ok(super::STOPPED.into())
        }
    }
}
