use std::time::Duration;

use cpg::sim::Faults;

use super::Random;

/// The kind of situation that a run is tuned for. Some situations hardly ever arise from
/// independent faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Theme {
    /// A mixture of all faults.
    Mixture,
    /// Logs that are compacted at once, and minorities that order many entries: a lagging replica's
    /// log parts from the base before all entries that are kept, and is longer than the base.
    ShortLogs,
    /// Large states and slow disks: transfers that outlast their epoch and their donor, and several
    /// concurrent transfers.
    Transfers,
    /// Slow disks in a network that often splits: epochs open while some replicas are still in an
    /// earlier one, and reads and acks arrive very late.
    Stragglers,
}

/// The parameters of a run. [`drawn`](Self::drawn) draws all of them from a seed.
///
/// Rates are strikes per thousand *moments*, unless noted otherwise; a moment is 10 ms long.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Parameters {
    /// Seed of every random choice in the run.
    pub seed: u64,
    /// Number of replicas that form the group.
    pub voters: u32,
    /// Number of replicas that join later and do not vote.
    pub learners: u32,
    /// Number of machines. With fewer machines than replicas, some replicas share one.
    pub machines: u32,
    /// Faults of the transport and the network.
    pub network: Faults,
    /// Duration of the phase with faults.
    pub faulty_for: Duration,
    /// Longest simulated time between two steps of the simulation.
    pub step_max: Duration,

    /// Number of clients of each replica. Each client has one command in progress.
    pub clients: u32,
    /// Longest time that a client waits between an answer and its next command.
    pub think_max: Duration,
    /// Longest time that a client waits for an answer.
    pub patience: Duration,

    /// Replicas keep their stores in memory: a restarted replica has a new store.
    pub in_memory: bool,
    /// Longest time that a sync takes.
    pub sync_max: Duration,
    /// Syncs that take up to a hundred times as long, per thousand syncs.
    pub slow_syncs: u32,
    /// Longest time that applying one batch of committed entries takes.
    pub apply_max: Duration,
    /// Longest time that writing the state as a snapshot takes. While one is being written, the
    /// next is skipped, so replicas come to hold different snapshots.
    pub capture_max: Duration,
    /// Longest time that reading or writing a chunk of a snapshot takes.
    pub chunk_max: Duration,
    /// Longest time that a process is not scheduled.
    pub turn_max: Duration,
    /// Maximum number of events that a process takes from its group at once.
    pub events_at_once: u32,

    /// Kills of a process. Its unsynced writes may survive or be lost.
    pub kills: u32,
    /// Epochs whose opening at a process kills it, per thousand.
    pub kills_at_open: u32,
    /// Promises of a process that kill it, per thousand.
    pub kills_at_promise: u32,
    /// Epochs whose opening at a process splits the network in two, per thousand; four times as
    /// many where the epoch changes the voters.
    pub splits_at_open: u32,
    /// Epochs whose opening at a process heals a split network, per thousand.
    pub heals_at_open: u32,
    /// Staged faults: a machine is cut off until the others have lost a sequencer and open an epoch
    /// while all disks stall.
    pub staged_faults: u32,
    /// Deaths of a process that also lose its disk, per thousand; only where the group can bear the
    /// loss.
    pub wipes: u32,
    /// Deaths of a process after which a bit on its disk is flipped, per thousand; only where the
    /// group can bear the loss. The store detects the damage when it is read, and an operator gives
    /// the replica an empty store.
    pub flips: u32,
    /// Longest time until a dead process is started again.
    pub restart_max: Duration,
    /// Hangs of a process. It resumes with a backlog of events and the state that it had before.
    pub hangs: u32,
    /// Longest duration of a hang.
    pub hang_max: Duration,
    /// Orderly shutdowns of a process.
    pub stops: u32,
    /// Snapshots whose installation at a process kills it, per thousand.
    pub kills_at_restore: u32,
    /// Failures of a disk: its writes fail for some time.
    pub disk_failures: u32,
    /// Changes of the voters that an operator asks for.
    pub voter_changes: u32,
    /// If true, a majority of the stores is lost at the end of the faults, an operator forces a new
    /// cluster at one replica, and the others come back afterwards. Commands acknowledged before
    /// may be lost, which a workload has to handle ([`Workload::forced`](super::Workload::forced));
    /// so this is never drawn.
    pub disaster: bool,
    /// If true, some voters stay dead at the end of the faults, as many as the group can bear.
    pub some_stay_dead: bool,

    /// Largest initial error of a wall clock.
    pub wall_error_max: Duration,
    /// Jumps of a wall clock.
    pub wall_jumps: u32,
    /// Largest drift of a clock, in millionths, in either direction.
    pub drift_max: u32,

    /// See [`Config`](crate::engine::Config).
    pub election_timeout: Duration,
    /// See [`Config`](crate::engine::Config).
    pub resend_timeout: Duration,
    /// See [`Config`](crate::engine::Config).
    pub read_timeout: Duration,
    /// Timeout of proposals, if they have one.
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
    /// See [`Config`](crate::engine::Config); applies to the log in memory and to the stored log.
    pub log_bytes_max: u64,
    /// See [`Config`](crate::engine::Config).
    pub writing_bytes_max: usize,
    /// The kind of situation that the run is tuned for.
    pub theme: Theme,
}

impl Parameters {
    /// Draws the parameters of a run from its seed. Most kinds of faults are absent in some runs,
    /// rare in others and frequent in a few, so that over many seeds every combination occurs.
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
            staged_faults: 0,
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
        // A separate random stream, so that the values drawn above do not change.
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
            // With many replicas, each message costs more: it is delivered to all of them.
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
        // Short, so that clients of a cut-off replica stop waiting and start reads.
        self.patience = ms(random.pick(&[100, 500]));
        self.turn_max = Duration::from_micros(random.pick(&[0, 500]));
        self.kills = random.pick(&[4, 15]);
        self.kills_at_open = random.pick(&[0, 100]);
        self.restart_max = ms(random.pick(&[10, 300]));
        self.splits_at_open = random.pick(&[100, 400]);
        self.heals_at_open = random.pick(&[0, 100, 300]);
        self.staged_faults = random.pick(&[0, 20, 100]);
        self.read_timeout = ms(10_000);
        self.proposal_timeout = None;
        self.network.partitions = random.pick(&[0, 4]);
        self.network.partition_max = ms(random.pick(&[500, 2000]));
        self.network.detection_max = ms(10);
        // Messages sent while a ring agrees on its members are the first that it delivers.
        self.network.sync_max = ms(random.pick(&[1, 20, 100]));
        self
    }
}
