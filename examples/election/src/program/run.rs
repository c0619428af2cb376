//! `election run`: a member.

use std::io;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use plainsong::Replica;
use service::arguments::check_listen;
use service::{Line, Listener, Situation, Stop, answer_requests, metrics, watch};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use super::arguments::Run;
use super::control;
use super::failure::Failure;
use crate::{Campaign, Machine, Term, Terms};

/// What the guard may take beyond the time that the command has to stop.
const GUARD_BOUND: Duration = Duration::from_millis(200);

/// How long an orderly stop waits for the group.
const STOP_BOUND: Duration = Duration::from_secs(5);

pub(super) async fn run(arguments: Run) -> Result<ExitCode, Failure> {
    arguments.start.check()?;
    check_listen(arguments.listen, arguments.allow_remote)?;
    let mut stop = Stop::listen().map_err(Failure::System)?;
    let listeners = Listener::bind(arguments.socket.clone(), arguments.listen).await?;
    let metrics = match arguments.start.metrics {
        Some(address) => Some(metrics::listen(address).await?),
        None => None,
    };
    let replica = arguments.start.replica(&arguments.group, Machine::default())?;
    let replica = Arc::new(replica);
    if let Some(listener) = metrics {
        let replica = Arc::clone(&replica);
        tokio::spawn(metrics::serve(listener, move || replica.status()));
    }
    for listener in listeners {
        let replica = Arc::clone(&replica);
        let answer = move |words| control::answer(Arc::clone(&replica), words);
        tokio::spawn(answer_requests(listener, answer));
    }
    tokio::spawn(tell(Arc::clone(&replica)));
    let terms = Terms {
        priority: arguments.priority,
        lease: arguments.lease,
        stop_within: arguments.kill_after + GUARD_BOUND,
    };
    let mut campaign = Campaign::new(Arc::clone(&replica), terms);
    let outcome = loop {
        let term = tokio::select! {
            term = campaign.elected() => term?,
            () = stop.asked() => break Ok(ExitCode::SUCCESS),
        };
        match serve(&arguments, term, &mut stop).await {
            Ok(None) => {}
            Ok(Some(code)) => break Ok(code),
            Err(failure) => break Err(failure),
        }
    };
    tracing::info!("stopping; a second signal ends it at once");
    stop.insist();
    if !matches!(outcome, Err(Failure::GuardKilled)) {
        let _ = timeout(STOP_BOUND, campaign.withdraw()).await;
    }
    Listener::remove(arguments.socket.as_deref());
    // The process ends with it, so the group hears that it has left.
    drop(replica);
    outcome
}

/// Logs what changes about the replica.
async fn tell(replica: Arc<Replica<Machine>>) {
    let watchers = vec![replica.subscribe()];
    let situations = || vec![Situation::of(&replica.status())];
    watch(std::future::pending(), watchers, situations, Line::log).await;
}

/// Runs the command while this member leads. The exit code, if that was the end of it.
async fn serve(
    arguments: &Run,
    mut term: Term,
    stop: &mut Stop,
) -> Result<Option<ExitCode>, Failure> {
    let token = term.token();
    tracing::info!(token, "elected: the command begins");
    let mut guarded = match Guarded::start(arguments, &term) {
        Ok(guarded) => guarded,
        Err(failure) => {
            let _ = timeout(STOP_BOUND, term.tell_over()).await;
            return Err(failure);
        }
    };
    let ended = tokio::select! {
        status = guarded.ended() => Some(status.map_err(Failure::System)?),
        why = term.lost() => {
            tracing::warn!(token, "{why}; stopping the command");
            None
        }
        () = stop.asked() => {
            tracing::info!(token, "stopping the command");
            let status = guarded.stop().await?;
            tracing::debug!(%status, "the command has stopped");
            let _ = timeout(STOP_BOUND, term.tell_over()).await;
            return Ok(Some(ExitCode::SUCCESS));
        }
    };
    let status = match ended {
        Some(status) => status,
        None => guarded.stop().await?,
    };
    if status.code().is_none() {
        return Err(Failure::GuardKilled);
    }
    if ended.is_some() {
        tracing::info!(token, %status, "the command has ended");
        let _ = timeout(STOP_BOUND, term.tell_over()).await;
        return Ok(Some(service::exit_code(status).into()));
    }
    tracing::info!(token, "the command has stopped");
    term.over();
    Ok(None)
}

/// The command, behind its guard: it stops when this process does.
struct Guarded {
    child: Child,
    /// Where it ends, the guard stops the command.
    lifeline: Option<ChildStdin>,
}

impl Guarded {
    fn start(arguments: &Run, term: &Term) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(Failure::System)?;
        let child = Command::new(program)
            .args(["guard", "--kill-after", &arguments.kill_after.as_secs_f64().to_string(), "--"])
            .args(&arguments.command)
            .env("ELECTION_TOKEN", term.token().to_string())
            .env("ELECTION_GROUP", &arguments.group)
            .env("ELECTION_ID", arguments.start.id.to_string())
            .stdin(Stdio::piped())
            // Signals of the terminal are this process' to take.
            .process_group(0)
            .spawn();
        let mut child = child.map_err(Failure::System)?;
        // Waiting for the child would close it.
        let lifeline = child.stdin.take();
        Ok(Self { child, lifeline })
    }

    async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends the guard's input, and waits until the command has stopped.
    async fn stop(&mut self) -> Result<ExitStatus, Failure> {
        drop(self.lifeline.take());
        self.ended().await.map_err(Failure::System)
    }
}
