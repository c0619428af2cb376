use std::time::Duration;

use super::random::Random;

/// How often the network, the daemons and CPG itself do what nobody hopes for, and how long
/// it takes. Rates are per mille of what their comment names; a *moment* is 10 ms.
///
/// The default is none of it: a ring that breaks only when it is told to and is formed anew
/// at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Of the packets, for each receiver: lost at first. They are sent again, unless the ring
    /// breaks before: then they are holes, or reach only some (S4).
    pub loss: u32,
    /// Of the moments: some node begins to hear next to nothing, for up to
    /// [`burst_max`](Self::burst_max), and falls behind the others of its ring.
    pub bursts: u32,
    /// The longest such burst.
    pub burst_max: Duration,
    /// Of a node's turns to send: it sends nothing, and what it was given waits.
    pub skipped_turns: u32,
    /// Of the turns after a ring broke: one more node still orders something, which only those
    /// may hear who still hear it (S4, S5).
    pub last_words: u32,

    /// Of the moments: the network falls into parts, for up to
    /// [`partition_max`](Self::partition_max).
    pub partitions: u32,
    /// The longest such partition.
    pub partition_max: Duration,
    /// Of the moments: a daemon stands still, for up to [`pause_max`](Self::pause_max).
    pub pauses: u32,
    /// The longest such pause.
    pub pause_max: Duration,
    /// Of the moments: a daemon dies (S15), for up to [`outage_max`](Self::outage_max).
    pub daemon_deaths: u32,
    /// The longest time that a dead daemon is not started again.
    pub outage_max: Duration,
    /// Of the moments: a ring loses its token and is formed anew, from the same nodes (S13).
    pub token_losses: u32,

    /// The longest time until nodes notice that others are gone, or came back, and have formed
    /// a ring.
    pub detection_max: Duration,
    /// The longest time a new ring takes to agree on its members. Meanwhile it delivers
    /// nothing and takes nothing (S3).
    pub sync_max: Duration,
    /// Of the new rings: it breaks again before it has agreed on its members (S8).
    pub aborted_syncs: u32,
    /// Of the new rings: it is formed by only some of the nodes that hear each other.
    pub split_rings: u32,
    /// Of the new rings, for each node with something to send: its first messages there were
    /// begun in the old ring, and are lost at nodes that were not in it (S9).
    pub straddles: u32,
    /// Of what can leave a dead member listed, when it happens (S11).
    pub listed_dead: u32,

    /// Of the calls that send, join or leave: refused with [`TryAgain`](crate::Error::TryAgain)
    /// (S3).
    pub refusals: u32,
    /// Of the calls that send: `Ok`, and the message is lost (S2).
    pub swallowed: u32,
    /// Of the connections closed: what the daemon had not read yet is lost (S2).
    pub undrained: u32,
}

impl Faults {
    /// The longest spans of a ring change, and nothing else: what is no fault at all.
    pub(super) fn only_spans(self) -> Self {
        let Self { detection_max, sync_max, .. } = self;
        Self { detection_max, sync_max, ..Self::default() }
    }

    /// Faults drawn from a seed: some kinds never, some now and then, some all the time, so
    /// that over many seeds each meets each other in every mixture.
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
