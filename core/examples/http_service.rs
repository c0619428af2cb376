//! An HTTP service with axum. A full queue is answered at once, and never grows.
//!
//!     cargo run -p plainsong --example http_service            a demo that ends by itself
//!     cargo run -p plainsong --example http_service -- 127.0.0.1:8080
//!
//!     curl -d 5 http://127.0.0.1:8080/add
//!     curl http://127.0.0.1:8080/total

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use plainsong::{Consistency, Context, Overloaded, ProposeError, Replica, ReplicaId, StateMachine};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type AnyError = Box<dyn Error + Send + Sync>;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Counter(u64);

impl StateMachine for Counter {
    type Command = u64;
    type Output = u64;

    fn apply(&mut self, _: &Context, add: u64) -> u64 {
        self.0 = self.0.saturating_add(add);
        self.0
    }

    plainsong::snapshot_by_clone!();
}

/// The handlers share the replica; nothing else needs a lock.
type Shared = State<Arc<Replica<Counter>>>;

/// `propose` blocks the thread while the queue is full, so async code uses `try_propose`: a full
/// queue is an answer, and the client decides when to try again.
async fn add(State(replica): Shared, body: String) -> Response {
    let Ok(number) = body.trim().parse() else {
        return (StatusCode::BAD_REQUEST, "the body must be a number\n").into_response();
    };
    match replica.try_propose(number) {
        Ok(pending) => match pending.await {
            Ok(total) => format!("{total}\n").into_response(),
            Err(error) => failed(&error),
        },
        Err(Overloaded(_)) => try_again("overloaded"),
    }
}

async fn total(State(replica): Shared) -> Response {
    match replica.try_read(Consistency::Linearizable, |counter| counter.0) {
        Ok(pending) => match pending.await {
            Ok(total) => format!("{total}\n").into_response(),
            Err(error) => try_again(&error.to_string()),
        },
        Err(Overloaded(())) => try_again("overloaded"),
    }
}

/// 503 promises that nothing has happened or will; 504 says that the client has to find out.
fn failed(error: &ProposeError) -> Response {
    if error.may_still_take_effect() {
        return (StatusCode::GATEWAY_TIMEOUT, format!("{error}\n")).into_response();
    }
    match error {
        ProposeError::TooLarge => {
            (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()).into_response()
        }
        _ => try_again(&error.to_string()),
    }
}

fn try_again(why: &str) -> Response {
    let headers = [("retry-after", "1")];
    (StatusCode::SERVICE_UNAVAILABLE, headers, format!("{why}\n")).into_response()
}

/// Sends one request and returns the status code and the body.
async fn request(to: SocketAddr, method: &str, body: &str) -> Result<String, AnyError> {
    let mut connection = TcpStream::connect(to).await?;
    let length = body.len();
    let head = format!("{method} HTTP/1.0\r\ncontent-length: {length}\r\n\r\n");
    connection.write_all((head + body).as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    let status = head.split_whitespace().nth(1).ok_or("no status")?;
    Ok(format!("{status} {}", body.trim()))
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let ring = cpg::embedded::LocalRing::new();
    let voters = [1, 2, 3].map(ReplicaId);
    let mut replicas = Vec::new();
    for id in voters {
        let builder = Replica::builder(id, Counter::default()).transport(ring.node());
        // No request waits longer than this for a majority.
        let builder = builder.bootstrap(voters).proposal_timeout(Duration::from_secs(2));
        replicas.push(Arc::new(builder.start()?));
    }

    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0")).await?;
    let to = listener.local_addr()?;
    let routes = axum::Router::new().route("/add", post(add)).route("/total", get(total));
    let routes = routes.with_state(Arc::clone(&replicas[0]));
    let server = tokio::spawn(async { axum::serve(listener, routes).await });
    if address.is_some() {
        println!("listening on {to}");
        return Ok(server.await??);
    }

    println!("add 5: {}", request(to, "POST /add", "5").await?);
    println!("add x: {}", request(to, "POST /add", "x").await?);
    println!("total: {}", request(to, "GET /total", "").await?);

    // Without a majority nothing is committed: the queue fills, and then every request is refused.
    replicas.truncate(1);
    while replicas[0].try_propose(1).is_ok() {}
    let refused = request(to, "POST /add", "5").await?;
    println!("add 5 without a majority: {}", refused.split_whitespace().next().unwrap_or_default());
    Ok(())
}
