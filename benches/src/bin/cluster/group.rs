use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::Instant;

use plainsong_benches::Load;
use plainsong_tests::rig::{self, Cluster, Node, Program};

use crate::PATIENCE;

/// Three replicas of one program, one on each node.
pub(crate) struct Group {
    /// The replicas, beginning with the sequencer.
    replicas: Vec<Replica>,
}

struct Replica {
    stream: TcpStream,
    /// The processes, which are killed when this is dropped.
    _program: Program,
}

/// The results of a load, over all callers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) rate: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Processor time of all three replicas and their callers per answer, in microseconds.
    pub(crate) processor_us: f64,
}

impl Group {
    pub(crate) fn start(
        cluster: &Cluster,
        program: &Path,
        number: usize,
        folder: Option<&Path>,
    ) -> rig::Result<Self> {
        let port = 7100 + number as u16;
        let start = |node: &Node| {
            let mut command = node.command(program);
            let (id, port) = (node.id().to_string(), port.to_string());
            let group = format!("benches{number}");
            command.args(["--id", &id, "--port", &port, "--group", &group]);
            if let Some(folder) = folder {
                command.arg("--folder").arg(folder.join(format!("{number}-{id}")));
            }
            node.spawn(&format!("replica{number}"), command)
        };
        let programs: Vec<Program> =
            cluster.nodes().iter().map(start).collect::<rig::Result<_>>()?;
        let mut replicas = Vec::new();
        for (node, program) in cluster.nodes().iter().zip(programs) {
            let stream = connect(node, port)?;
            replicas.push(Replica { stream, _program: program });
        }
        let deadline = Instant::now() + PATIENCE;
        while !replicas.iter().any(|replica| replica.ask("role") == "sequencer") {
            assert!(Instant::now() < deadline, "there is no sequencer");
            thread::yield_now();
        }
        replicas.sort_by_key(|replica| replica.ask("role") != "sequencer");
        Ok(Self { replicas })
    }

    /// Runs a load at one place; `everywhere` is the same load at each of the three replicas.
    pub(crate) fn measure(&self, load: Load, at: &str) -> rig::Result<Measured> {
        let at = match at {
            "sequencer" => &self.replicas[..1],
            "elsewhere" => &self.replicas[1..2],
            _ => &self.replicas[..],
        };
        let load = Load { callers: load.callers.div_ceil(at.len()), ..load }.to_string();
        let (before, began) = (self.processor_time(), Instant::now());
        let answers: Vec<String> = thread::scope(|scope| {
            let asked: Vec<_> = at.iter().map(|one| scope.spawn(|| one.ask(&load))).collect();
            asked.into_iter().map(|asked| asked.join().unwrap_or_default()).collect()
        });
        let processor = self.processor_time() - before;
        let elapsed = began.elapsed().as_secs_f64();
        let mut all = Measured::default();
        for answer in &answers {
            let numbers: Vec<f64> =
                answer.split(' ').filter_map(|number| number.parse().ok()).collect();
            let [rate, p50_us, p99_us] = numbers[..] else {
                panic!("a replica answers {answer:?}")
            };
            all.rate += rate;
            all.p50_us += p50_us / answers.len() as f64;
            all.p99_us = all.p99_us.max(p99_us);
        }
        // The warm-up counts as well.
        all.processor_us = processor * 1e6 / (all.rate * elapsed);
        Ok(all)
    }

    fn processor_time(&self) -> f64 {
        let of = |one: &Replica| one.ask("processor").parse().unwrap_or(0.0);
        self.replicas.iter().map(of).sum::<f64>()
    }
}

fn connect(node: &Node, port: u16) -> rig::Result<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match node.within_network(|| TcpStream::connect(("127.0.0.1", port)))? {
            Ok(stream) => return Ok(stream),
            Err(error) => assert!(Instant::now() < deadline, "node {}: {error}", node.id()),
        }
        thread::yield_now();
    }
}

impl Replica {
    /// Returns the answer to a request, or an empty string.
    fn ask(&self, question: &str) -> String {
        let mut stream = &self.stream;
        let mut answer = String::new();
        let asked = writeln!(stream, "{question}").and_then(|()| {
            // Only one line is in flight, so nothing is left in the buffer.
            BufReader::new(stream).read_line(&mut answer)
        });
        asked.map(|_| answer.trim().to_owned()).unwrap_or_default()
    }
}
