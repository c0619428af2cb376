use std::path::{Path, PathBuf};

use plainsong_benches::load::Work;
use plainsong_benches::{Load, Series};
use plainsong_tests::rig::{self, Cluster, Program};

use crate::Arguments;

/// Bytes of a message.
const BYTES: [usize; 4] = [64, 1024, 8192, 65536];
/// Messages under way.
const WINDOWS: [usize; 3] = [4, 16, 64];

/// Two-step commit on libcpg alone.
pub(crate) struct Raw {
    program: PathBuf,
    /// Those who ack; killed when this is dropped.
    _ackers: Vec<Program>,
}

/// The most that two-step commit did, round by round.
pub(crate) struct Best {
    /// Bytes a second, of any size and window.
    bytes: Series,
    /// Microseconds, of one small message at a time.
    p50_us: Series,
}

impl Raw {
    pub(crate) fn start(cluster: &Cluster, program: &Path) -> rig::Result<Self> {
        let ack = |id| {
            let mut command = cluster.node(id).command(program);
            command.arg("ack");
            cluster.node(id).spawn("ack", command)
        };
        Ok(Self { program: program.into(), _ackers: vec![ack(2)?, ack(3)?] })
    }

    /// Messages a second, and the median time to commit.
    fn run(
        &self,
        cluster: &Cluster,
        bytes: usize,
        window: usize,
        seconds: f64,
    ) -> rig::Result<(f64, f64)> {
        let program = self.program.to_string_lossy();
        let arguments = [bytes.to_string(), window.to_string(), seconds.to_string()];
        let said = cluster.node(1).run(&program, &arguments.each_ref().map(String::as_str))?;
        let numbers: Vec<f64> = said.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let [rate, p50_us, _] = numbers[..] else { panic!("{program} says {said:?}") };
        Ok((rate, p50_us))
    }

    /// Measures all sizes and windows, and prints them.
    pub(crate) fn measure(&self, cluster: &Cluster, arguments: &Arguments) -> rig::Result<Best> {
        let Arguments { rounds, seconds, .. } = *arguments;
        let mut best = Best { bytes: Series::default(), p50_us: Series::default() };
        for _ in 0..rounds {
            best.p50_us.push(self.run(cluster, 64, 1, seconds)?.1);
        }
        println!("two-step commit on libcpg: one of 64 bytes at a time, p50 {} us", best.p50_us);
        for bytes in BYTES {
            for window in WINDOWS {
                let (mut rate, mut p50_us) = (Series::default(), Series::default());
                for _ in 0..rounds {
                    let (messages, p50) = self.run(cluster, bytes, window, seconds)?;
                    rate.push(messages * bytes as f64);
                    p50_us.push(p50);
                }
                println!(
                    "  {bytes:>6} bytes, {window:>3} under way: {:>9.0}/s, {:>9.0}/s of 64 bytes, p50 {:.0} us",
                    rate.median() / bytes as f64,
                    rate.median() / 64.0,
                    p50_us.median(),
                );
                best.bytes = best.bytes.or_more(&rate);
            }
        }
        println!("  at best {} MB/s", best.bytes.times(1e-6));
        Ok(best)
    }
}

impl Best {
    /// A load's results beside it.
    pub(crate) fn beside(&self, load: Load, rate: &Series, p50_us: &Series) -> String {
        match load.work {
            Work::Propose(_) if load.callers == 1 => {
                format!(" p50 to raw {}", p50_us.per(&self.p50_us))
            }
            Work::Propose(bytes) => {
                format!(" rate to raw {}", rate.times(bytes as f64).per(&self.bytes))
            }
            Work::Read(_) => String::new(),
        }
    }
}
