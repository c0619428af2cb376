//! Metrics of a replica for Prometheus at `/metrics`, over as much of HTTP as that needs.

use std::fmt::{Display, Write};
use std::time::Duration;

use plainsong::{Role, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::{ListenAddress, ListenError};

/// The most of a request's head.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// How long asking and answering may take.
const BOUND: Duration = Duration::from_secs(5);
/// Who may ask at once; others wait.
const CONNECTIONS_MAX: usize = 16;

/// Listens for who asks for metrics.
///
/// # Errors
///
/// The address is not to be had.
pub async fn listen(address: &ListenAddress) -> Result<Vec<TcpListener>, ListenError> {
    let bound = address.bind().await;
    bound.map_err(|why| ListenError::Metrics { address: address.to_string(), why })
}

/// Answers until it is dropped.
pub async fn serve(
    listeners: Vec<TcpListener>,
    status: impl Fn() -> Status + Clone + Send + Sync + 'static,
) {
    let mut servers = JoinSet::new();
    for listener in listeners {
        servers.spawn(serve_at(listener, status.clone()));
    }
    while servers.join_next().await.is_some() {}
}

async fn serve_at(
    listener: TcpListener,
    status: impl Fn() -> Status + Clone + Send + Sync + 'static,
) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = clients.join_next() => {}
            accepted = listener.accept(), if clients.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    let status = status.clone();
                    clients.spawn(timeout(BOUND, async move { answer(stream, status).await }));
                }
                // Out of descriptors, most likely; it may pass.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection for metrics");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// What is wrong with a connection is its client's affair.
async fn answer(mut stream: TcpStream, status: impl Fn() -> Status) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read_buf(&mut head).await;
        if !matches!(read, Ok(1..)) || head.len() > HEAD_BYTES_MAX {
            return;
        }
    }
    let _ = stream.write_all(response(&head, || text(&status())).as_bytes()).await;
    let _ = stream.flush().await;
    let _ = stream.shutdown().await;
}

/// Returns the response to a request with this head.
fn response(head: &[u8], metrics: impl FnOnce() -> String) -> String {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let (state, body) = match (method, path) {
        ("GET" | "HEAD", "/metrics") => ("200 OK", metrics()),
        (_, "/metrics") => ("405 Method Not Allowed\r\nAllow: GET, HEAD", String::new()),
        _ => ("404 Not Found", "not found: the metrics are at /metrics\n".into()),
    };
    let head = format!(
        "HTTP/1.1 {state}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    if method == "HEAD" { head } else { head + &body }
}

/// In Prometheus' text format.
fn text(status: &Status) -> String {
    let mut text = Metrics(String::new());
    for role in [Role::Sequencer, Role::Voter, Role::Learner, Role::Waiting, Role::Stopped] {
        let labels = format!("{{role=\"{role}\"}}");
        text.put(
            "role",
            "What the replica does in its group: 1 for that.",
            &labels,
            u8::from(role == status.role),
        );
    }
    let is_here = |id: &&_| status.members.iter().any(|m| m.votes && m.replica == Some(**id));
    let here = status.voters.iter().filter(is_here).count();
    let transfer = status.transfer.map(|transfer| (transfer.bytes, transfer.of_bytes));
    for (name, help, value) in [
        (
            "epoch",
            "Counter of the epoch that is open here.",
            status.epoch.map_or(0, |epoch| epoch.counter),
        ),
        ("last_index", "The end of the log.", status.last.0),
        ("committed_index", "Committed up to here.", status.committed.0),
        ("applied_index", "Applied up to here.", status.applied.0),
        ("snapshot_index", "The newest snapshot held.", status.snapshot.map_or(0, |index| index.0)),
        ("members", "Processes in the group.", status.members.len() as u64),
        ("voters", "Replicas that vote.", status.voters.len() as u64),
        ("voters_here", "Voters that are in the group.", here as u64),
        (
            "waiting",
            "Whether it waits for something to go on.",
            u64::from(status.waiting.is_some()),
        ),
        (
            "diverged",
            "Where the state of another was found not to be the same.",
            status.diverged.map_or(0, |index| index.0),
        ),
        (
            "transfer_received_bytes",
            "Bytes received so far of the snapshot that it receives.",
            transfer.map_or(0, |t| t.0),
        ),
        (
            "transfer_size_bytes",
            "Size in bytes of the snapshot that it receives.",
            transfer.map_or(0, |t| t.1),
        ),
    ] {
        text.put(name, help, "", value);
    }
    for (name, help) in [
        ("member_acked_index", "What a member has last said to have acked."),
        ("member_applied_index", "What a member has last said to have applied."),
    ] {
        for member in &status.members {
            let Some(id) = member.replica else { continue };
            let value = if name == "member_acked_index" { member.acked } else { member.applied };
            text.put(name, help, &format!("{{replica=\"{id}\"}}"), value);
        }
    }
    text.0
}

struct Metrics(String);

impl Metrics {
    fn put(&mut self, name: &str, help: &str, labels: &str, value: impl Display) {
        let head = format!("# HELP plainsong_{name} {help}\n# TYPE plainsong_{name} gauge\n");
        // Each metric is described once.
        if !self.0.contains(&head) {
            self.0 += &head;
        }
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "plainsong_{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(request: &str) -> String {
        let response = response(request.as_bytes(), || "metrics\n".into());
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        format!("{} {body}", head.lines().next().unwrap().trim_start_matches("HTTP/1.1 "))
    }

    #[test]
    fn only_metrics_are_found() {
        let nothing = "404 Not Found not found: the metrics are at /metrics\n";
        for (request, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK metrics\n"),
            ("GET /metrics?name=x HTTP/1.1\r\n\r\n", "200 OK metrics\n"),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", "200 OK "),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed "),
            ("GET / HTTP/1.1\r\n\r\n", nothing),
            ("GET /metricsx HTTP/1.1\r\n\r\n", nothing),
            ("GET /favicon.ico HTTP/1.1\r\n\r\n", nothing),
            ("\r\n\r\n", nothing),
        ] {
            assert_eq!(state(request), expected, "{request:?}");
        }
    }
}
