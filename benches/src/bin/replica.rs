//! A replica that runs loads on itself. It reads requests, one per line, from a port of the
//! loopback interface, and answers each with a line.
//!
//! | request | answer |
//! | --- | --- |
//! | `role` | `sequencer`, `follower` or another role |
//! | `processor` | processor time of this process, in seconds |
//! | `WORK CALLERS SECONDS` | answers per second, median and 99th percentile of the latency in
//! microseconds |
//!
//! `WORK` is a number of bytes, `local`, `linearizable` or `in-order`.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;

use clap::Parser;
use plainsong::{Replica, ReplicaId};
use plainsong_benches::load::processor_time;
use plainsong_benches::{Load, Map};

#[derive(Parser)]
struct Arguments {
    /// Number of the replica, 1 to 3.
    #[arg(long)]
    id: u32,
    /// Transport.
    #[arg(long, default_value = "corosync")]
    engine: cpg::Transport,
    /// Name of the group.
    #[arg(long, default_value = "benches")]
    group: String,
    /// Port on 127.0.0.1.
    #[arg(long)]
    port: u16,
    /// Directory of the stores; in memory if it is missing.
    #[arg(long)]
    folder: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { id, engine, group, port, folder } = Arguments::parse();
    let mut builder = Replica::builder(ReplicaId(id), Map::default())
        .transport(engine)
        .group(group)
        .bootstrap([1, 2, 3].map(ReplicaId));
    if let Some(folder) = folder {
        builder = builder.folder(folder);
    }
    let replica = builder.start()?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    // A thread for each connection: both sides of a comparison have their own.
    thread::scope(|scope| {
        for stream in listener.incoming().filter_map(Result::ok) {
            let replica = &replica;
            scope.spawn(move || {
                // The client has disconnected.
                let _ = serve(replica, &stream);
            });
        }
    });
    Ok(())
}

fn serve(replica: &Replica<Map>, mut stream: &TcpStream) -> Result<(), Box<dyn Error>> {
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next().transpose()? {
        let answer = match &line[..] {
            "role" => format!("{:?}", replica.status().role).to_lowercase(),
            "processor" => processor_time().as_secs_f64().to_string(),
            load => {
                let load: Load = load.parse()?;
                let found = load.put_on(replica);
                format!("{:.1} {:.1} {:.1}", found.rate, found.p50_us, found.p99_us)
            }
        };
        writeln!(stream, "{answer}")?;
    }
    Ok(())
}
