use std::time::Duration;

use cpg::sim::Faults;

use super::Random;
#[cfg(feature = "canaries")]
use crate::engine::Canary;

/// What a run is like. [`drawn`](Self::drawn) draws all of it from a seed.
///
/// Rates are per mille of the *moments*, which are 10 ms long.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Parameters {
    /// Of everything that the run draws.
    pub seed: u64,
    /// Replicas that form the group.
    pub voters: u32,
    /// Replicas that come later and do not vote.
    pub learners: u32,
    /// Machines that the replicas are spread over: with fewer of them than replicas, some
    /// share one.
    pub machines: u32,
    /// What the group engine and the network do.
    pub network: Faults,
    /// How long there are faults.
    pub faulty_for: Duration,
    /// The simulated time between two looks at what is to be done, at most.
    pub step_max: Duration,

    /// Clients of each replica; each has one command under way.
    pub clients: u32,
    /// The longest time a client waits between an answer and its next command.
    pub think_max: Duration,
    /// The longest time a client waits for an answer.
    pub patience: Duration,

    /// Replicas keep their stores in memory: whoever is started again has a new one.
    pub in_memory: bool,
    /// The longest time a sync takes.
    pub sync_max: Duration,
    /// Of the syncs: one takes a hundred times as long.
    pub slow_syncs: u32,
    /// The longest time it takes to apply what was handed out.
    pub apply_max: Duration,
    /// The longest time that a process does not get to run.
    pub turn_max: Duration,
    /// Events that a process takes from its group at once.
    pub events_at_once: u32,

    /// A process is killed; what it had written may be there or not.
    pub kills: u32,
    /// Of the epochs that open at a process: it is killed right then.
    pub kills_at_open: u32,
    /// Of the promises of a process: it is killed right then.
    pub kills_at_promise: u32,
    /// Of the epochs that open at a process: the network falls into two parts right then; four
    /// times as often where they change the voters.
    pub splits_at_open: u32,
    /// Of the processes that die: the disk is lost as well, where the group can bear it.
    pub wipes: u32,
    /// Of the processes that die: a bit of what is on the disk flips, where the group can bear
    /// it. The store finds it out when it reads it, and an operator gives the replica another.
    pub flips: u32,
    /// The longest time until a dead process is started again.
    pub restart_max: Duration,
    /// A process stands still, and wakes up with a backlog, believing what it did.
    pub hangs: u32,
    /// The longest such time.
    pub hang_max: Duration,
    /// A process stops in order.
    pub stops: u32,
    /// A disk refuses a write.
    pub disk_failures: u32,
    /// An operator asks for other voters.
    pub voter_changes: u32,
    /// At the end of the faults so many stores are lost that no majority is left, and an
    /// operator forces a replica to go on alone; then others come back. What was acknowledged
    /// before may be lost, which a workload has to know
    /// ([`Workload::forced`](super::Workload::forced)); so this is never drawn.
    pub disaster: bool,
    /// At the end of the faults some voters stay dead, as many as the group can bear.
    pub some_stay_dead: bool,

    /// How far wall clocks are from the truth at most.
    pub wall_error_max: Duration,
    /// A wall clock jumps.
    pub wall_jumps: u32,
    /// How many millionths clocks are too fast or too slow at most.
    pub drift_max: u32,

    /// See [`Config`](crate::engine::Config).
    pub election_timeout: Duration,
    /// See [`Config`](crate::engine::Config).
    pub resend_timeout: Duration,
    /// See [`Config`](crate::engine::Config).
    pub read_timeout: Duration,
    /// How long a command may wait, if there is an end to that.
    pub proposal_timeout: Option<Duration>,
    /// See [`Config`](crate::engine::Config).
    pub batches_in_flight_max: usize,
    /// See [`Config`](crate::engine::Config).
    pub batch_bytes_max: usize,
    /// See [`Config`](crate::engine::Config).
    pub applying_max: u64,
    /// See [`Config`](crate::engine::Config).
    pub kept_entries_max: usize,
    /// See [`Config`](crate::engine::Config).
    pub snapshot_entries: u64,
    /// See [`Config`](crate::engine::Config).
    pub log_bytes_max: usize,
    /// See [`Config`](crate::engine::Config).
    pub writing_bytes_max: usize,
    /// A rule that all replicas break.
    #[cfg(feature = "canaries")]
    pub canary: Option<Canary>,
}

impl Parameters {
    /// Some of everything: most kinds of faults are away in some runs, rare in others and
    /// frequent in a few, so that over many seeds each meets each other in every mixture.
    pub fn drawn(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed_0fa1_1000);
        let ms = Duration::from_millis;
        let voters = random.pick(&[1, 2, 3, 3, 3, 3, 4, 5, 5, 7]);
        let learners = random.pick(&[0, 0, 0, 1, 2]);
        let replicas = voters + learners;
        let machines =
            if random.chance(250) { 1 + random.below(replicas.into()) as u32 } else { replicas };
        let election_timeout = ms(random.pick(&[100, 300, 1000]));
        Self {
            seed,
            voters,
            learners,
            machines,
            network: if random.chance(100) {
                Faults::default()
            } else {
                Faults::drawn(random.number())
            },
            faulty_for: ms(random.pick(&[2000, 5000, 10_000, 20_000])),
            step_max: Duration::from_micros(random.pick(&[500, 1000, 3000])),
            clients: random.pick(&[1, 1, 2, 4]),
            think_max: ms(random.pick(&[0, 10, 100, 1000])),
            patience: ms(random.pick(&[500, 5000, 60_000])),
            in_memory: random.chance(250),
            sync_max: Duration::from_micros(random.pick(&[0, 500, 5000, 50_000])),
            slow_syncs: random.pick(&[0, 0, 5, 50]),
            apply_max: Duration::from_micros(random.pick(&[0, 100, 5000])),
            turn_max: Duration::from_micros(random.pick(&[0, 500, 20_000])),
            events_at_once: random.pick(&[8, 32, 128]),
            kills: random.pick(&[0, 0, 1, 4, 15]),
            kills_at_open: random.pick(&[0, 0, 0, 50, 300]),
            kills_at_promise: random.pick(&[0, 0, 0, 30, 150]),
            splits_at_open: random.pick(&[0, 0, 0, 50, 200]),
            wipes: random.pick(&[0, 200, 800]),
            restart_max: ms(random.pick(&[10, 300, 3000])),
            hangs: random.pick(&[0, 0, 2, 10]),
            hang_max: ms(random.pick(&[50, 500, 5000])),
            stops: random.pick(&[0, 0, 1, 4]),
            disk_failures: random.pick(&[0, 0, 0, 1]),
            voter_changes: random.pick(&[0, 0, 0, 2, 10]),
            some_stay_dead: random.chance(200),
            wall_error_max: ms(random.pick(&[0, 100, 3_600_000])),
            wall_jumps: random.pick(&[0, 0, 2, 20]),
            drift_max: random.pick(&[0, 100, 500]),
            election_timeout,
            resend_timeout: election_timeout.mul_f64(random.pick(&[0.1, 0.25, 0.5])),
            read_timeout: ms(random.pick(&[300, 2000, 10_000])),
            proposal_timeout: random.pick(&[None, None, Some(100), Some(1000)]).map(ms),
            batches_in_flight_max: random.pick(&[1, 3, 8]),
            batch_bytes_max: random.pick(&[16, 64, 4096]),
            applying_max: random.pick(&[1, 7, 1024]),
            kept_entries_max: random.pick(&[5, 50, 10_000]),
            snapshot_entries: random.pick(&[10, 50, 200, 10_000]),
            log_bytes_max: random.pick(&[2000, 20_000, 1 << 30]),
            writing_bytes_max: random.pick(&[20, 500, 1 << 30]),
            disaster: false,
            flips: random.pick(&[0, 200, 800]),
            #[cfg(feature = "canaries")]
            canary: None,
        }
    }
}
