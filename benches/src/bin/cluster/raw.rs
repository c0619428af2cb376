use std::path::{Path, PathBuf};
use std::time::Duration;

use plainsong_benches::load::Work;
use plainsong_benches::{Load, Series};
use plainsong_tests::rig::{self, Cluster, Program};

/// Sizes of a message, in bytes.
const BYTES: [usize; 4] = [64, 1024, 8192, 65536];
/// Numbers of messages in flight.
const WINDOWS: [usize; 3] = [4, 16, 64];

/// Two-step commit on libcpg alone.
pub(crate) struct Raw<'a> {
    cluster: &'a Cluster,
    program: PathBuf,
    /// The acknowledging processes, which are killed when this is dropped.
    _ackers: Vec<Program>,
    /// The message size and number of messages in flight that commit the most bytes.
    best: (usize, usize),
}

impl<'a> Raw<'a> {
    /// Measures all sizes and windows, prints the results, and selects the best.
    pub(crate) fn start(
        cluster: &'a Cluster,
        program: &Path,
        rounds: usize,
        time: Duration,
    ) -> rig::Result<Self> {
        let ack = |id| {
            let mut command = cluster.node(id).command(program);
            command.arg("ack");
            cluster.node(id).spawn("ack", command)
        };
        let _ackers = vec![ack(2)?, ack(3)?];
        let mut raw = Self { cluster, program: program.into(), _ackers, best: (64, 1) };
        let mut most = 0.0;
        println!("two-step commit on libcpg:");
        for (bytes, window) in BYTES.iter().flat_map(|bytes| WINDOWS.map(|window| (*bytes, window)))
        {
            let (mut rate, mut p50_us) = (Series::default(), Series::default());
            for _ in 0..rounds {
                let (messages, p50) = raw.run(bytes, window, time)?;
                rate.push(messages * bytes as f64);
                p50_us.push(p50);
            }
            println!(
                "  {bytes:>6} bytes, {window:>3} in flight: {:>9.0}/s, {:>9.0}/s of 64 bytes, p50 {:.0} us",
                rate.median() / bytes as f64,
                rate.median() / 64.0,
                p50_us.median(),
            );
            if rate.median() > most {
                most = rate.median();
                raw.best = (bytes, window);
            }
        }
        Ok(raw)
    }

    /// Returns messages per second, and the median time to commit.
    fn run(&self, bytes: usize, window: usize, time: Duration) -> rig::Result<(f64, f64)> {
        let program = self.program.to_string_lossy();
        let arguments = [bytes.to_string(), window.to_string(), time.as_secs_f64().to_string()];
        let arguments = arguments.each_ref().map(String::as_str);
        let said = self.cluster.node(1).run(&program, &arguments)?;
        let numbers: Vec<f64> = said.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let [rate, p50_us, _] = numbers[..] else {
            panic!("unexpected output of {program}: {said:?}")
        };
        Ok((rate, p50_us))
    }

    /// Returns the limit for a load: for one caller, the microseconds to commit one small message;
    /// otherwise the maximum number of commands of that size per second.
    pub(crate) fn limit(&self, load: Load) -> rig::Result<f64> {
        let Work::Propose(command) = load.work else { return Ok(f64::NAN) };
        if load.callers == 1 {
            return Ok(self.run(command, 1, load.time)?.1);
        }
        let (bytes, window) = self.best;
        Ok(self.run(bytes, window, load.time)?.0 * bytes as f64 / command as f64)
    }
}
