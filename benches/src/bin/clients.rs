//! Clients of other replicated stores, as `redis-benchmark` is one of kv: so many connections,
//! each with so many writes of 64 bytes under way, which are sent together and waited for
//! together. Prints writes a second, and the median and 99th percentile of what such a round
//! took, in milliseconds.
//!
//! ```text
//! clients zookeeper|etcd HOST:PORT CONNECTIONS PIPELINE SECONDS
//! ```
//!
//! ZooKeeper is spoken to by its own protocol (`setData`), etcd by its gateway for JSON over
//! HTTP, which costs it more than gRPC would.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use plainsong_benches::percentile;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How many keys, or nodes, are written to.
const KEYS: usize = 1000;
const WARM: Duration = Duration::from_millis(500);
/// Sixty-four bytes, as they are and in base 64.
const VALUE: [u8; 64] = [b'v'; 64];
const VALUE_BASE64: &str =
    "dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dg==";

trait Client: Sized {
    fn connect(address: &str) -> Result<Self>;

    /// Makes what is written to.
    fn prepare(&mut self) -> Result<()>;

    /// Sends so many writes and waits for all answers.
    fn write(&mut self, keys: &[usize]) -> Result<()>;
}

struct ZooKeeper {
    stream: BufReader<TcpStream>,
    next: i32,
}

/// A packet of ZooKeeper: numbers are big endian, what is long stands behind its length.
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
    const SET_DATA: i32 = 5;
    const EXISTS_ALREADY: i32 = -110;

    fn path(key: usize) -> Vec<u8> {
        format!("/key{key}").into_bytes()
    }

    fn answer(&mut self) -> Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut packet = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut packet)?;
        Ok(packet)
    }

    /// The error code of an answer.
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
                return Err(format!("ZooKeeper creates nothing: {code}").into());
            }
        }
        Ok(())
    }

    fn write(&mut self, keys: &[usize]) -> Result<()> {
        let mut all = Packet::default();
        for key in keys {
            self.next = self.next.wrapping_add(1).max(1);
            let set = Packet::default().int(self.next).int(Self::SET_DATA);
            all = all.bytes(&set.bytes(&Self::path(*key)).bytes(&VALUE).int(-1).0);
        }
        self.stream.get_mut().write_all(&all.0)?;
        for _ in keys {
            match self.outcome()? {
                0 => {}
                code => return Err(format!("ZooKeeper sets nothing: {code}").into()),
            }
        }
        Ok(())
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
        Ok(())
    }

    fn write(&mut self, keys: &[usize]) -> Result<()> {
        let mut all = String::new();
        for key in keys {
            // Twelve characters of base 64, whatever they stand for.
            let body = format!(r#"{{"key":"keyA{key:08}","value":"{VALUE_BASE64}"}}"#);
            all += &format!(
                "POST /v3/kv/put HTTP/1.1\r\nHost: etcd\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
        self.0.get_mut().write_all(all.as_bytes())?;
        keys.iter().try_for_each(|_| self.answer())
    }
}

impl Etcd {
    fn answer(&mut self) -> Result<()> {
        let (mut line, mut length, mut ok) = (String::new(), 0, false);
        while line != "\r\n" {
            line.clear();
            if self.0.read_line(&mut line)? == 0 {
                return Err("etcd hangs up".into());
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

/// What each round of a connection took once all are warm, in milliseconds.
fn keep_busy<C: Client>(
    address: &str,
    first: usize,
    pipeline: usize,
    counts: &AtomicBool,
    stop: &AtomicBool,
) -> Result<Vec<f64>> {
    let mut client = C::connect(address)?;
    let (mut took, mut key) = (Vec::new(), first * 7919);
    while !stop.load(Ordering::Relaxed) {
        let keys: Vec<usize> = (key..key + pipeline).map(|key| key % KEYS).collect();
        key += pipeline;
        let since = Instant::now();
        client.write(&keys)?;
        if counts.load(Ordering::Relaxed) {
            took.push(since.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(took)
}

fn measure<C: Client>(
    address: &str,
    connections: usize,
    pipeline: usize,
    seconds: f64,
) -> Result<()> {
    C::connect(address)?.prepare()?;
    let (counts, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let (mut took, elapsed) = thread::scope(|scope| {
        let (counts, stop) = (&counts, &stop);
        let busy = |first| keep_busy::<C>(address, first, pipeline, counts, stop);
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
    let [which, address, connections, pipeline, seconds] = &arguments[..] else {
        return Err("usage: clients zookeeper|etcd HOST:PORT CONNECTIONS PIPELINE SECONDS".into());
    };
    let (connections, pipeline) = (connections.parse()?, pipeline.parse()?);
    match &which[..] {
        "zookeeper" => measure::<ZooKeeper>(address, connections, pipeline, seconds.parse()?),
        "etcd" => measure::<Etcd>(address, connections, pipeline, seconds.parse()?),
        other => Err(format!("clients of {other} are not here").into()),
    }
}
