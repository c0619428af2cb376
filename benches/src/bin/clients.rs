//! Clients of other replicated stores, like `redis-benchmark` for kv. Each connection sends a
//! number of writes or linearizable reads of 64 bytes together and waits for all answers. Prints
//! the operations per second, and the median and 99th percentile of the latency of such a round in
//! milliseconds.
//!
//! ```text
//! clients zookeeper|etcd set|get HOST:PORT CONNECTIONS PIPELINE SECONDS
//! ```
//!
//! ZooKeeper is accessed by its own protocol (`setData`; `sync` and `getData`), etcd by its gateway
//! for JSON over HTTP, which is slower than gRPC.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use plainsong_benches::percentile;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Number of keys or nodes.
const KEYS: usize = 1000;
const WARM: Duration = Duration::from_millis(500);
/// A value of 64 bytes, plain and in base 64.
const VALUE: [u8; 64] = [b'v'; 64];
const VALUE_BASE64: &str =
    "dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dg==";

/// Options of a measurement.
struct Load<'a> {
    reads: bool,
    address: &'a str,
    connections: usize,
    pipeline: usize,
    seconds: f64,
}

trait Client: Sized {
    fn connect(address: &str) -> Result<Self>;

    /// Creates the keys.
    fn prepare(&mut self) -> Result<()>;

    /// Sends writes to these keys and waits for all answers.
    fn write(&mut self, keys: &[usize]) -> Result<()>;

    /// Sends linearizable reads and waits for all answers.
    fn read(&mut self, keys: &[usize]) -> Result<()>;
}

struct ZooKeeper {
    stream: BufReader<TcpStream>,
    next: i32,
}

/// A packet of ZooKeeper. Numbers are big endian; variable fields are preceded by their length.
#[derive(Default)]
struct Packet(Vec<u8>);

impl Packet {
    fn int(mut self, number: i32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn long(mut self, number: i64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        let mut with = self.int(bytes.len() as i32);
        with.0.extend_from_slice(bytes);
        with
    }
}

impl ZooKeeper {
    const CREATE: i32 = 1;
    const GET_DATA: i32 = 4;
    const SET_DATA: i32 = 5;
    const SYNC: i32 = 9;
    const EXISTS_ALREADY: i32 = -110;

    fn path(key: usize) -> Vec<u8> {
        format!("/key{key}").into_bytes()
    }

    /// Begins a request for a node.
    fn request(&mut self, kind: i32, key: usize) -> Packet {
        self.next = self.next.wrapping_add(1).max(1);
        Packet::default().int(self.next).int(kind).bytes(&Self::path(key))
    }

    /// Sends requests and waits for `count` answers.
    fn ask(&mut self, all: &Packet, count: usize) -> Result<()> {
        self.stream.get_mut().write_all(&all.0)?;
        for _ in 0..count {
            match self.outcome()? {
                0 => {}
                code => return Err(format!("ZooKeeper returned error {code}").into()),
            }
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut packet = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut packet)?;
        Ok(packet)
    }

    /// Reads an answer and returns its error code.
    fn outcome(&mut self) -> Result<i32> {
        let answer = self.answer()?;
        let code = answer.get(12..16).and_then(|code| code.try_into().ok());
        Ok(i32::from_be_bytes(code.ok_or("a short answer")?))
    }
}

impl Client for ZooKeeper {
    fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let hello = Packet::default().int(0).long(0).int(30_000).long(0).bytes(&[0; 16]);
        let mut client = Self { stream: BufReader::new(stream), next: 0 };
        client.stream.get_mut().write_all(&Packet::default().bytes(&hello.0).0)?;
        client.answer()?;
        Ok(client)
    }

    fn prepare(&mut self) -> Result<()> {
        for key in 0..KEYS {
            let create = Packet::default().int(0).int(Self::CREATE).bytes(&Self::path(key));
            let anyone = create.bytes(&VALUE).int(1).int(31).bytes(b"world").bytes(b"anyone");
            self.stream.get_mut().write_all(&Packet::default().bytes(&anyone.int(0).0).0)?;
            let code = self.outcome()?;
            if code != 0 && code != Self::EXISTS_ALREADY {
                return Err(format!("ZooKeeper cannot create a node: error {code}").into());
            }
        }
        Ok(())
    }

    fn write(&mut self, keys: &[usize]) -> Result<()> {
        let mut all = Packet::default();
        for key in keys {
            let set = self.request(Self::SET_DATA, *key);
            all = all.bytes(&set.bytes(&VALUE).int(-1).0);
        }
        self.ask(&all, keys.len())
    }

    fn read(&mut self, keys: &[usize]) -> Result<()> {
        let mut all = Packet::default();
        for key in keys {
            all = all.bytes(&self.request(Self::SYNC, *key).0);
            let mut get = self.request(Self::GET_DATA, *key);
            let no_watch = 0;
            get.0.push(no_watch);
            all = all.bytes(&get.0);
        }
        self.ask(&all, 2 * keys.len())
    }
}

struct Etcd(BufReader<TcpStream>);

impl Client for Etcd {
    fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    fn prepare(&mut self) -> Result<()> {
        (0..KEYS).try_for_each(|key| self.write(&[key]))
    }

    fn write(&mut self, keys: &[usize]) -> Result<()> {
        let body =
            |key: &usize| format!(r#"{{"key":"{}","value":"{VALUE_BASE64}"}}"#, Self::key(*key));
        self.ask("put", keys.iter().map(body))
    }

    fn read(&mut self, keys: &[usize]) -> Result<()> {
        self.ask("range", keys.iter().map(|key| format!(r#"{{"key":"{}"}}"#, Self::key(*key))))
    }
}

impl Etcd {
    /// Returns a key of twelve valid characters of base 64.
    fn key(key: usize) -> String {
        format!("keyA{key:08}")
    }

    /// Sends requests and waits for their answers.
    fn ask(&mut self, what: &str, bodies: impl Iterator<Item = String>) -> Result<()> {
        let (mut all, mut count) = (String::new(), 0);
        for body in bodies {
            let length = body.len();
            all += &format!(
                "POST /v3/kv/{what} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            count += 1;
        }
        self.0.get_mut().write_all(all.as_bytes())?;
        (0..count).try_for_each(|_| self.answer())
    }

    fn answer(&mut self) -> Result<()> {
        let (mut line, mut length, mut ok) = (String::new(), 0, false);
        while line != "\r\n" {
            line.clear();
            if self.0.read_line(&mut line)? == 0 {
                return Err("etcd has closed the connection".into());
            }
            ok |= line.starts_with("HTTP/1.1 200");
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        if ok { Ok(()) } else { Err(String::from_utf8_lossy(&body).into()) }
    }
}

/// Returns the latency of each round of a connection, after a warm-up, in milliseconds.
fn keep_busy<C: Client>(
    load: &Load<'_>,
    first: usize,
    counts: &AtomicBool,
    stop: &AtomicBool,
) -> Result<Vec<f64>> {
    let Load { address, pipeline, .. } = *load;
    let mut client = C::connect(address)?;
    let (mut took, mut key) = (Vec::new(), first * 7919);
    while !stop.load(Ordering::Relaxed) {
        let keys: Vec<usize> = (key..key + pipeline).map(|key| key % KEYS).collect();
        key += pipeline;
        let since = Instant::now();
        match load.reads {
            true => client.read(&keys)?,
            false => client.write(&keys)?,
        }
        if counts.load(Ordering::Relaxed) {
            took.push(since.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(took)
}

fn measure<C: Client>(load: &Load<'_>) -> Result<()> {
    let Load { address, connections, pipeline, seconds, .. } = *load;
    C::connect(address)?.prepare()?;
    let (counts, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let (mut took, elapsed) = thread::scope(|scope| {
        let (counts, stop) = (&counts, &stop);
        let busy = |first| keep_busy::<C>(load, first, counts, stop);
        let all: Vec<_> = (0..connections).map(|first| scope.spawn(move || busy(first))).collect();
        thread::sleep(WARM);
        let since = Instant::now();
        counts.store(true, Ordering::Relaxed);
        thread::sleep(Duration::from_secs_f64(seconds));
        stop.store(true, Ordering::Relaxed);
        let elapsed = since.elapsed();
        let mut took = Vec::new();
        for one in all {
            took.extend(one.join().map_err(|_| "a client panicked")??);
        }
        Result::Ok((took, elapsed))
    })?;
    took.sort_by(f64::total_cmp);
    let at = |share: f64| percentile(&took, share).unwrap_or(f64::NAN);
    println!(
        "{:.0} {:.3} {:.3}",
        (took.len() * pipeline) as f64 / elapsed.as_secs_f64(),
        at(0.5),
        at(0.99),
    );
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [which, what, address, connections, pipeline, seconds] = &arguments[..] else {
        let usage = "clients zookeeper|etcd set|get HOST:PORT CONNECTIONS PIPELINE SECONDS";
        return Err(format!("usage: {usage}").into());
    };
    let load = Load {
        reads: what == "get",
        address,
        connections: connections.parse()?,
        pipeline: pipeline.parse()?,
        seconds: seconds.parse()?,
    };
    match &which[..] {
        "zookeeper" => measure::<ZooKeeper>(&load),
        "etcd" => measure::<Etcd>(&load),
        other => Err(format!("unknown store {other}").into()),
    }
}
