use std::time::Duration;

use cpg::sim::Faults;

use super::Random;

/// What a run is meant to bring about. Some of it needs more than faults that meet by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Theme {
    /// A mixture of everything.
    Mixture,
    /// Logs that are cut at once, and much that a minority orders: laggards whose log parts from
    /// the base before all that is kept, and is longer than it.
    ShortLogs,
    /// Large states and slow disks: transfers that outlive their epoch and their donor, and
    /// several under way at once.
    Transfers,
    /// Slow disks in a restless network: epochs that open where others still believe in one
    /// before, and reads and acks that are as late as can be.
    Stragglers,
}

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
    /// What the transport and the network do.
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
    /// The longest time it takes to write the state down. Where that is not over the next
    /// snapshot is left out, so replicas come to hold different ones.
    pub capture_max: Duration,
    /// The longest time that reading or writing a chunk of a snapshot takes.
    pub chunk_max: Duration,
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
    /// Of the epochs that open at a process: a network in parts is whole again right then.
    pub heals_at_open: u32,
    /// A machine is cut off until the others have lost a sequencer, and open an epoch with disks
    /// that stand still.
    pub ambushes: u32,
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
    /// Of the snapshots that a process goes on from: it is killed right then.
    pub kills_at_restore: u32,
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
    pub snapshot_bytes: u64,
    /// See [`Config`](crate::engine::Config).
    pub cached_bytes_max: u64,
    /// See [`Config`](crate::engine::Config); of the log in memory and in the store.
    pub log_bytes_max: u64,
    /// See [`Config`](crate::engine::Config).
    pub writing_bytes_max: usize,
    /// What the run is meant to bring about.
    pub theme: Theme,
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
        let drawn = Self {
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
            heals_at_open: 0,
            ambushes: 0,
            kills_at_restore: 0,
            capture_max: Duration::ZERO,
            chunk_max: Duration::ZERO,
            theme: Theme::Mixture,
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
            snapshot_bytes: 64 << 20,
            log_bytes_max: random.pick(&[2000, 20_000, 1 << 30]),
            cached_bytes_max: random.pick(&[0, 1000, 10_000, 1 << 30]),
            writing_bytes_max: random.pick(&[20, 500, 1 << 30]),
            disaster: false,
            flips: random.pick(&[0, 200, 800]),
        };
        let drawn = match random.below(8) {
            0 => drawn.with_short_logs(&mut random),
            1 => drawn.with_transfers(&mut random),
            2 => drawn.with_stragglers(&mut random),
            _ => drawn,
        };
        // From numbers of its own, so that all else stays as it is drawn above.
        drawn.with_rarities(&mut Random::new(seed ^ 0x0dd5_1235_0000))
    }

    fn with_rarities(mut self, random: &mut Random) -> Self {
        let ms = Duration::from_millis;
        if random.chance(250) {
            let is_large = self.theme == Theme::Transfers;
            self.snapshot_bytes = if is_large { 10_000 } else { random.pick(&[200, 1000, 5000]) };
        }
        if self.in_memory && random.chance(150) {
            self.voter_changes = random.pick(&[20, 50]);
        }
        if self.theme == Theme::Mixture && random.chance(60) {
            self.voters = random.pick(&[6, 8, 9, 10, 11, 12, 13, 14, 15]);
            self.learners = self.learners.min(1);
            self.machines = self.voters + self.learners;
            // Each message goes to all of them.
            self.faulty_for = self.faulty_for.min(ms(5000));
            self.clients = 1;
        }
        self
    }

    fn with_short_logs(mut self, random: &mut Random) -> Self {
        let ms = Duration::from_millis;
        self.theme = Theme::ShortLogs;
        self.voters = random.pick(&[3, 5, 5, 7]);
        self.learners = random.pick(&[0, 1]);
        self.machines = self.voters + self.learners;
        self.faulty_for = ms(random.pick(&[5000, 10_000]));
        self.clients = 4;
        self.think_max = ms(random.pick(&[10, 100]));
        self.patience = ms(random.pick(&[100, 500]));
        (self.batches_in_flight_max, self.batch_bytes_max) = (8, 16);
        self.election_timeout = ms(random.pick(&[100, 300]));
        self.snapshot_entries = random.pick(&[2, 3, 5]);
        self.kept_entries_max = 1;
        self.kills_at_restore = random.pick(&[0, 100, 400]);
        self.in_memory = false;
        self.kills = random.pick(&[0, 4]);
        self.hangs = random.pick(&[0, 4]);
        self.hang_max = ms(500);
        self.restart_max = ms(300);
        self.splits_at_open = random.pick(&[100, 400]);
        self.network.partitions = 10;
        self.network.partition_max = ms(random.pick(&[200, 1000]));
        self.network.detection_max = ms(10);
        self.network.sync_max = ms(random.pick(&[1, 20]));
        self
    }

    fn with_transfers(mut self, random: &mut Random) -> Self {
        let ms = Duration::from_millis;
        self.theme = Theme::Transfers;
        self.voters = 3;
        self.learners = random.pick(&[2, 3]);
        self.machines = self.voters + self.learners;
        self.faulty_for = ms(random.pick(&[5000, 10_000]));
        self.clients = 1;
        self.think_max = ms(random.pick(&[10, 100]));
        self.election_timeout = ms(random.pick(&[100, 300]));
        self.snapshot_entries = random.pick(&[10, 30]);
        self.kept_entries_max = random.pick(&[1, 5]);
        self.log_bytes_max = random.pick(&[12_000, 30_000, 1 << 30]);
        self.writing_bytes_max = 1 << 30;
        self.capture_max = ms(random.pick(&[0, 50, 300]));
        self.chunk_max = ms(random.pick(&[10, 40]));
        self.kills_at_restore = random.pick(&[0, 100]);
        self.in_memory = false;
        self.sync_max = ms(1);
        self.turn_max = Duration::from_micros(500);
        self.wipes = 800;
        self.kills = random.pick(&[15, 30]);
        self.restart_max = ms(random.pick(&[10, 300]));
        self.network.loss = random.pick(&[0, 0, 20]);
        self.network.partitions = random.pick(&[0, 2]);
        self.network.detection_max = ms(10);
        self.network.sync_max = ms(random.pick(&[1, 20]));
        self
    }

    fn with_stragglers(mut self, random: &mut Random) -> Self {
        let ms = Duration::from_millis;
        self.theme = Theme::Stragglers;
        self.voters = random.pick(&[3, 3, 3, 5]);
        self.machines = self.voters + self.learners;
        self.in_memory = false;
        self.election_timeout = ms(random.pick(&[300, 1000]));
        self.resend_timeout = self.election_timeout / 10;
        self.sync_max = self.election_timeout.mul_f64(random.pick(&[0.2, 0.4]));
        self.clients = random.pick(&[2, 4]);
        self.think_max = ms(random.pick(&[0, 10, 100]));
        // Whoever is cut off reads what it has not waited for before.
        self.patience = ms(random.pick(&[100, 500]));
        self.turn_max = Duration::from_micros(random.pick(&[0, 500]));
        self.kills = random.pick(&[4, 15]);
        self.kills_at_open = random.pick(&[0, 100]);
        self.restart_max = ms(random.pick(&[10, 300]));
        self.splits_at_open = random.pick(&[100, 400]);
        self.heals_at_open = random.pick(&[0, 100, 300]);
        self.ambushes = random.pick(&[0, 20, 100]);
        self.read_timeout = ms(10_000);
        self.proposal_timeout = None;
        self.network.partitions = random.pick(&[0, 4]);
        self.network.partition_max = ms(random.pick(&[500, 2000]));
        self.network.detection_max = ms(10);
        // What is sent while a ring agrees on its members is the first that it delivers.
        self.network.sync_max = ms(random.pick(&[1, 20, 100]));
        self
    }
}
