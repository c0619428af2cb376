use std::time::Duration;

use super::random::Random;

/// Rates and durations of the faults of the network, the daemons and CPG. Rates are per mille of
/// the unit that the field names; a *moment* is 10 ms.
///
/// The default has no faults: the ring breaks only when a scenario asks for it, and a new one forms
/// at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Packets, per receiver, that are lost at first. They are sent again unless the ring breaks
    /// before that; then they are holes, or reach only some nodes (S4).
    pub loss: u32,
    /// Moments at which some node begins to lose nearly all packets, for up to
    /// [`burst_max`](Self::burst_max), and falls behind the others of its ring.
    pub bursts: u32,
    /// Maximum duration of such a burst.
    pub burst_max: Duration,
    /// Turns of a node in which it sends nothing, so that its messages wait.
    pub skipped_turns: u32,
    /// Turns after a ring broke in which one more node still orders something. Only the nodes that
    /// it still reaches receive it (S4, S5).
    pub last_words: u32,

    /// Moments at which the network is partitioned, for up to
    /// [`partition_max`](Self::partition_max).
    pub partitions: u32,
    /// Maximum duration of a partition.
    pub partition_max: Duration,
    /// Moments at which a daemon is suspended, for up to [`pause_max`](Self::pause_max).
    pub pauses: u32,
    /// Maximum duration of a pause.
    pub pause_max: Duration,
    /// Moments at which a daemon dies (S15), for up to [`outage_max`](Self::outage_max).
    pub daemon_deaths: u32,
    /// Maximum time before a dead daemon is started again.
    pub outage_max: Duration,
    /// Moments at which a ring loses its token and forms again from the same nodes (S13).
    pub token_losses: u32,

    /// Maximum time until nodes detect that others are gone or back, and have formed a ring.
    pub detection_max: Duration,
    /// Maximum time that a new ring takes to agree on its members. Meanwhile it delivers and
    /// accepts nothing (S3).
    pub sync_max: Duration,
    /// New rings that break again before they have agreed on their members (S8).
    pub aborted_syncs: u32,
    /// New rings that only some of the connected nodes form.
    pub split_rings: u32,
    /// New rings, per node with messages to send, in which its first messages were begun in the old
    /// ring. They are lost at nodes that were not in it (S9).
    pub straddles: u32,
    /// Occasions on which a dead member could stay listed and does (S11).
    pub listed_dead: u32,

    /// Calls that send, join or leave and return [`TryAgain`](crate::Error::TryAgain) (S3).
    pub refusals: u32,
    /// Calls that send and return `Ok`, but whose message is lost (S2).
    pub swallowed: u32,
    /// Closed connections whose messages not yet read by the daemon are lost (S2).
    pub undrained: u32,
}

impl Faults {
    /// Returns only the durations of a ring change, which are not faults.
    pub(super) fn only_spans(self) -> Self {
        let Self { detection_max, sync_max, .. } = self;
        Self { detection_max, sync_max, ..Self::default() }
    }

    /// Returns faults drawn from a seed. Each kind may be absent, occasional or constant, so that
    /// over many seeds all mixtures occur.
    pub fn drawn(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0xfa17_5eed);
        let mut rate = |rates: &[u32]| random.pick(rates);
        let (loss, bursts) = (rate(&[0, 0, 1, 20, 200]), rate(&[0, 0, 2, 10]));
        let (skipped_turns, last_words) = (rate(&[0, 0, 100, 800]), rate(&[0, 300, 900]));
        let (partitions, pauses) = (rate(&[0, 0, 2, 10]), rate(&[0, 0, 2, 10]));
        let (daemon_deaths, token_losses) = (rate(&[0, 0, 1, 5]), rate(&[0, 0, 2, 10]));
        let (aborted_syncs, split_rings) = (rate(&[0, 100, 500]), rate(&[0, 50, 300]));
        let (straddles, listed_dead) = (rate(&[0, 200, 900]), rate(&[0, 300, 900]));
        let (refusals, swallowed) = (rate(&[0, 5, 200]), rate(&[0, 0, 1, 20]));
        let undrained = rate(&[0, 500, 1000]);
        let mut longest = |spans: &[u64]| Duration::from_millis(random.pick(spans));
        Self {
            loss,
            bursts,
            burst_max: longest(&[20, 200, 2000]),
            skipped_turns,
            last_words,
            partitions,
            partition_max: longest(&[50, 500, 5000]),
            pauses,
            pause_max: longest(&[50, 500, 5000]),
            daemon_deaths,
            outage_max: longest(&[50, 500, 5000]),
            token_losses,
            detection_max: longest(&[10, 100, 1000]),
            sync_max: longest(&[1, 20, 200]),
            aborted_syncs,
            split_rings,
            straddles,
            listed_dead,
            refusals,
            swallowed,
            undrained,
        }
    }
}

/// Draws the length of a fault. Draws nothing if it is always zero, so that the other numbers of a
/// seed do not depend on it.
pub(super) fn draw_span(random: &mut Random, longest: Duration) -> Duration {
    if longest < Duration::from_micros(1) { Duration::ZERO } else { random.up_to(longest) }
}
