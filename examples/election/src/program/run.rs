//! `election run`: a member of a group.

use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use plainsong::Replica;
use rustix::process::Signal;
use service_lib::arguments::check_listen;
use service_lib::{
    Ended, Guarding, Job, Lifeline, Line, Listener, ReplicaStatus, Signals, Stop, answer_requests,
    metrics, reap_orphans, watch,
};
use tokio::time::{Instant, timeout};

use super::arguments::Run;
use super::control;
use super::failure::Failure;
use crate::{Campaign, ElectionMachine, Term, Terms};

/// Extra time that the guard may take, beyond the time that the command has to stop.
const GUARD_BOUND: Duration = Duration::from_millis(200);

/// A signal within this time after the command has ended is taken as the cause of that end.
const TOGETHER: Duration = Duration::from_millis(100);

/// Timeout for reporting an orderly stop to the group.
const STOP_BOUND: Duration = Duration::from_secs(5);

pub(super) async fn run(arguments: Run) -> Result<ExitCode, Failure> {
    arguments.start.check()?;
    check_listen(arguments.listen.as_ref(), arguments.allow_remote)?;
    reap_orphans().map_err(Failure::System)?;
    let mut stop = Stop::listen().map_err(Failure::System)?;
    let listeners = Listener::bind(arguments.socket.clone(), arguments.listen.as_ref()).await?;
    let metrics = match &arguments.start.metrics {
        Some(address) => Some(metrics::listen(address).await?),
        None => None,
    };
    let replica = arguments.start.replica(&arguments.group, ElectionMachine::default())?;
    let replica = Arc::new(replica);
    if let Some(listeners) = metrics {
        let replica = Arc::clone(&replica);
        tokio::spawn(metrics::serve(listeners, move || replica.status()));
    }
    for listener in listeners {
        let replica = Arc::clone(&replica);
        let answer = move |words| control::answer(Arc::clone(&replica), words);
        tokio::spawn(answer_requests(listener, answer));
    }
    tokio::spawn(log_status(Arc::clone(&replica)));
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
    tracing::info!("stopping; a second signal stops this member at once");
    stop.insist();
    let _ = timeout(STOP_BOUND, campaign.withdraw()).await;
    Listener::remove(None);
    // Leaves the group before the process ends.
    drop(replica);
    outcome
}

/// Logs changes of the replica's status.
async fn log_status(replica: Arc<Replica<ElectionMachine>>) {
    let watchers = vec![replica.subscribe()];
    let statuses = || vec![ReplicaStatus::of(&replica.status())];
    watch(std::future::pending(), watchers, statuses, Line::log).await;
}

/// Runs the command while this member leads. Returns the exit status if the program has to end, and
/// `None` if the member is to wait for its next election.
async fn serve(
    arguments: &Run,
    mut term: Term,
    stop: &mut Stop,
) -> Result<Option<ExitCode>, Failure> {
    let token = term.token();
    let mut until = term.until();
    let (mut job, lifeline) = match start_job(arguments, &term).await {
        Ok(started) => started,
        Err(Failure::Command { why, .. }) if why.kind() == io::ErrorKind::TimedOut => {
            tracing::warn!(token, "the lease expired before the command could start");
            term.over();
            return Ok(None);
        }
        Err(failure) => {
            let _ = timeout(STOP_BOUND, term.tell_over()).await;
            return Err(failure);
        }
    };
    tracing::info!(token, "elected leader: the command has started");
    let mut signals = Signals::none();
    let renew = async {
        while until.changed().await.is_ok() {
            let until = *until.borrow_and_update();
            lifeline.extend(until);
        }
        std::future::pending().await
    };
    let end = tokio::select! {
        ended = job.ended(&mut signals) => match ended.map_err(Failure::System)? {
            Ended::Command(_) if *term.until().borrow() <= Instant::now() => End::Lost,
            Ended::Command(status) => End::Ended(status),
            Ended::Guard => End::Unguarded,
        },
        why = term.lost() => {
            tracing::warn!(token, "{why}; stopping the command");
            End::Lost
        }
        signal = stop.signal() => End::Asked(signal),
        () = renew => End::Lost,
    };
    let end = match end {
        // Ctrl-C at a terminal, or a signal to the whole service, reaches the command and this
        // member.
        End::Ended(_) => match timeout(TOGETHER, stop.signal()).await {
            Ok(signal) => End::Asked(signal),
            Err(_) => end,
        },
        end => end,
    };
    let asked = match end {
        End::Asked(signal) => Some(signal),
        _ => None,
    };
    job.stop(asked).await.map_err(Failure::System)?;
    tracing::info!(token, reason = %end, "the command has stopped");
    if end == End::Lost {
        term.over();
        return Ok(None);
    }
    let _ = timeout(STOP_BOUND, term.tell_over()).await;
    match end {
        End::Lost => Ok(None),
        End::Ended(status) => Ok(Some(service_lib::exit_code(status).into())),
        End::Unguarded => Err(Failure::GuardKilled),
        End::Asked(_) => Ok(Some(ExitCode::SUCCESS)),
    }
}

/// The reason why the command has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Ended(ExitStatus),
    Unguarded,
    Lost,
    Asked(Signal),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(status) => write!(f, "it ended by itself, {status}"),
            Self::Unguarded => f.write_str("its guard was killed"),
            Self::Lost => f.write_str("this member is no longer the leader"),
            Self::Asked(signal) => write!(f, "this member got signal {}", signal.as_raw()),
        }
    }
}

async fn start_job(arguments: &Run, term: &Term) -> Result<(Job, Lifeline), Failure> {
    let variables = [
        ("ELECTION_TOKEN", term.token().to_string()),
        ("ELECTION_GROUP", arguments.group.clone()),
        ("ELECTION_ID", arguments.start.id.to_string()),
    ];
    let until = Some(*term.until().borrow());
    let guarding = Guarding {
        kill_after: arguments.kill_after,
        until,
        connection: None,
        move_within: Duration::ZERO,
    };
    let started = Job::start(&arguments.command, &variables, guarding).await;
    started.map_err(|why| {
        let command = arguments.command.first().cloned().unwrap_or_default();
        Failure::Command { command, why }
    })
}
