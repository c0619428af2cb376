//! Serves the metrics of a replica to Prometheus at `/metrics`, with the minimum of HTTP/1.1 that
//! this needs.

use std::fmt::{Display, Write};
use std::time::Duration;

use plainsong::{Role, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::{ListenAddress, ListenError};

/// Maximum size of a request's head in bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Maximum duration of a connection, from accept to the end of the response.
const BOUND: Duration = Duration::from_secs(5);
/// Maximum number of connections served at once. Further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 16;

/// Listens for metrics requests.
///
/// # Errors
///
/// Returns an error if the address cannot be listened on.
pub async fn listen(address: &ListenAddress) -> Result<Vec<TcpListener>, ListenError> {
    let bound = address.bind().await;
    bound.map_err(|why| ListenError::Metrics { address: address.to_string(), why })
}

/// Answers metrics requests until the future is dropped.
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
                // Most likely there are no free descriptors at the moment.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection for metrics");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// Answers one request. Errors of the connection are ignored: they concern only its client.
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

/// Returns the HTTP response to a request with this head.
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

/// Renders a status in Prometheus's text format.
fn text(status: &Status) -> String {
    let mut text = Metrics(String::new());
    for role in [Role::Sequencer, Role::Voter, Role::Learner, Role::Waiting, Role::Stopped] {
        let labels = format!("{{role=\"{role}\"}}");
        text.put(
            "role",
            "1 for the current role of the replica, 0 for the others.",
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
            "Counter of the epoch that is open at this replica, 0 if none is.",
            status.epoch.map_or(0, |epoch| epoch.counter),
        ),
        ("last_index", "Index of the last log entry.", status.last.0),
        ("committed_index", "Index of the last committed entry.", status.committed.0),
        ("applied_index", "Index of the last applied entry.", status.applied.0),
        (
            "snapshot_index",
            "Index of the newest snapshot, 0 if there is none.",
            status.snapshot.map_or(0, |index| index.0),
        ),
        ("members", "Number of processes in the group.", status.members.len() as u64),
        ("voters", "Number of voters.", status.voters.len() as u64),
        ("voters_here", "Number of voters that are in the group now.", here as u64),
        (
            "waiting",
            "1 while the replica cannot make progress; its log and status say why.",
            u64::from(status.waiting.is_some()),
        ),
        (
            "diverged",
            "Index at which this replica's state was found to differ from another's, 0 if never.",
            status.diverged.map_or(0, |index| index.0),
        ),
        (
            "transfer_received_bytes",
            "Bytes received so far of the snapshot that is being received.",
            transfer.map_or(0, |t| t.0),
        ),
        (
            "transfer_size_bytes",
            "Size in bytes of the snapshot that is being received.",
            transfer.map_or(0, |t| t.1),
        ),
    ] {
        text.put(name, help, "", value);
    }
    for (name, help) in [
        ("member_acked_index", "Index up to which a member has last reported to have acked."),
        ("member_applied_index", "Index up to which a member has last reported to have applied."),
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
        // The description of a metric appears once, before its first value.
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
    fn only_get_and_head_of_the_metrics_path_succeed() {
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
