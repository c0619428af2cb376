//! Changes of the state as server-sent events, which a client resumes at another replica.
//!
//!     cargo run -p plainsong --example change_feed             a demo that ends by itself
//!     cargo run -p plainsong --example change_feed -- serve    prints an address of each replica
//!
//!     curl -d light=on http://ADDRESS/set
//!     curl -N -H 'last-event-id: 2.1' http://ADDRESS/events
//!
//! The id of an event is the same at every replica: `INDEX.N` for the Nth event of that index of
//! the log. The index alone would not do, because all commands of a batch share one.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::{get, post};
use futures_util::stream::unfold;
use plainsong::{Consistency, Context, Feed, Index, News, Replica, ReplicaId, StateMachine};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The settings are the state. The feed of their changes is not.
struct Settings {
    settings: BTreeMap<String, String>,
    changes: Feed<String>,
}

impl StateMachine for Settings {
    type Command = (String, String);
    type Output = ();
    type Snapshot = BTreeMap<String, String>;

    fn apply(&mut self, context: &Context, (name, value): (String, String)) {
        self.changes.push(context.index(), format!("{name}={value}"));
        self.settings.insert(name, value);
    }

    fn snapshot(&self) -> Self::Snapshot {
        self.settings.clone()
    }

    fn restore(&mut self, from: &mut dyn io::Read) -> io::Result<()> {
        self.settings = plainsong::snapshot::read(from)?;
        self.changes.jump(); // Watchers learn that they have missed changes.
        Ok(())
    }
}

type Shared = State<Arc<Replica<Settings>>>;

async fn events(
    State(replica): Shared,
    headers: HeaderMap,
) -> Result<impl IntoResponse, (StatusCode, String)> {
    let last: Option<(u64, u64)> = headers.get("last-event-id").and_then(|id| {
        let (index, number) = id.to_str().ok()?.split_once('.')?;
        Some((index.parse().ok()?, number.parse().ok()?))
    });
    // Watches from the last index itself on: the client may have received a part of its events.
    let watch = move |settings: &Settings| match last {
        None => Ok(settings.changes.watch()),
        Some((index, _)) => settings.changes.watch_after(Index(index.saturating_sub(1))),
    };
    let watcher = replica.read(Consistency::Local, watch).await;
    let watcher = watcher.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let watcher = watcher.map_err(|compacted| (StatusCode::GONE, compacted.to_string()))?;
    let stream = unfold((watcher, (0, 0)), move |(mut watcher, mut place)| async move {
        loop {
            let event = match watcher.next().await? {
                News::Item(Index(index), change) => {
                    place = if index == place.0 { (index, place.1 + 1) } else { (index, 1) };
                    if last.is_some_and(|last| place <= last) {
                        continue;
                    }
                    Event::default().id(format!("{index}.{}", place.1)).data(change)
                }
                // The client reads the state and watches from now on.
                News::Lagged(_) => Event::default().event("lagged"),
            };
            return Some((Ok::<_, Infallible>(event), (watcher, place)));
        }
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

async fn set(State(replica): Shared, body: String) -> Result<StatusCode, StatusCode> {
    let (name, value) = body.split_once('=').ok_or(StatusCode::BAD_REQUEST)?;
    let proposed = replica.try_propose((name.to_owned(), value.to_owned()));
    let pending = proposed.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    pending.await.map_err(|_| StatusCode::GATEWAY_TIMEOUT)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads that many events, and returns the id of the last one.
async fn receive(from: SocketAddr, last: &str, count: usize) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect(from).await?;
    let head = format!("GET /events HTTP/1.0\r\nlast-event-id: {last}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let (mut lines, mut id, mut received) = (BufReader::new(stream).lines(), String::new(), 0);
    while received < count {
        let line = lines.next_line().await?.ok_or("the stream has ended")?;
        if let Some(text) = line.strip_prefix("id: ") {
            id = text.to_owned();
        } else if let Some(change) = line.strip_prefix("data: ") {
            println!("{change}");
            received += 1;
        }
    }
    Ok(id)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let ring = cpg::embedded::LocalRing::new();
    let voters = [1, 2, 3].map(ReplicaId);
    let (mut replicas, mut addresses, mut servers) = (Vec::new(), Vec::new(), Vec::new());
    for id in voters {
        let settings = Settings { settings: BTreeMap::new(), changes: Feed::new(10_000) };
        let builder = Replica::builder(id, settings).transport(ring.node());
        let replica = Arc::new(builder.bootstrap(voters).start()?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?);
        let routes = axum::Router::new().route("/events", get(events)).route("/set", post(set));
        let routes = routes.with_state(Arc::clone(&replica));
        servers.push(tokio::spawn(async { axum::serve(listener, routes).await }));
        replicas.push(replica);
    }
    if std::env::args().nth(1).is_some() {
        println!("listening on {addresses:?}");
        return Ok(servers.remove(0).await??);
    }

    let set = |at: usize, value: &str| replicas[at].propose(("light".into(), value.into()));
    set(0, "on").await?;
    set(0, "off").await?;
    let last = receive(addresses[0], "0.0", 2).await?;
    servers[0].abort();
    set(1, "dim").await?;
    set(2, "on").await?;
    println!("resuming at replica 2");
    receive(addresses[1], &last, 2).await.map(drop)
}
