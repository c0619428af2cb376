//! Mutants of the protocol that the simulation must catch (feature `canaries`).

use super::{Config, Engine};

macro_rules! canaries {
    ($($variant:ident, $name:literal, $what:literal;)*) => {
        /// A rule that an engine breaks on purpose, chosen at run time, so that one build
        /// holds them all. Means nothing without the feature `canaries`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Canary {
            $(#[doc = $what] $variant,)*
        }

        impl Canary {
            /// Every canary.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What it is called on the command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What it breaks.
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$variant => $what,)*
                }
            }
        }
    };
}

canaries! {
    PromiseNotDurable, "promise-not-durable",
        "P1: a report is sent before the promise is durable";
    PromiseForgotten, "promise-forgotten",
        "P1: after a restart the promise is forgotten";
    AckNotDurable, "ack-not-durable",
        "P2: entries are acked when they are in the log in memory";
    CutStaysDurable, "cut-stays-durable",
        "P2: entries in the place of what was cut count as durable";
    ReportToCommit, "report-to-commit",
        "P3: a report names what is known committed, not what was acked";
    AppliesAtRestart, "applies-at-restart",
        "P4: after a restart all of the log counts as committed";
    BallotWithoutNonce, "ballot-without-nonce",
        "B1: two runs of a replica may have the same ballot";
    BallotTwice, "ballot-twice",
        "B1: a ballot is begun a second time";
    LowerPromise, "lower-promise",
        "B2: a lower ballot is promised as well";
    NoFreeze, "no-freeze",
        "B3: the log goes on and acks after a promise";
    BaseByIndex, "base-by-index",
        "B4: the longest log is the base, whatever its last epoch";
    OpenByMinority, "open-by-minority",
        "B4: a single report opens an epoch";
    TwoOpens, "two-opens",
        "B5: a coordinator decides again when more reports come";
    OpenNotPromised, "open-not-promised",
        "B6: an epoch above the promise opens without a durable promise";
    OpenBelowPromise, "open-below-promise",
        "B6: an epoch below the promise opens";
    RepeatedOpenCuts, "repeated-open-cuts",
        "B6: an epoch that is open already is opened again";
    CutAtCommit, "cut-at-commit",
        "B6: a log that parts from the base nobody knows where is cut at the commit index";
    SequencerByReplica, "sequencer-by-replica",
        "B7: another incarnation of the sequencer sequences";
    OwnVotersAtStart, "own-voters-at-start",
        "B8: the `EpochStart` is not the one of `Open`";
    AnyBallotBelieved, "any-ballot-believed",
        "B10: a ballot is believed however far it is above all that are known";
    RemovedVoterSequences, "removed-voter-sequences",
        "B7: a coordinator sequences though it does not vote and a voter is at the base";
    NoOpenAsked, "no-open-asked",
        "B9: an epoch whose opening was missed is not asked for";
    GreatestOpenAsked, "greatest-open-asked",
        "B9: only the greatest epoch that was heard of is asked for";
    EagerBallots, "eager-ballots",
        "E3: a healthy epoch is ended by any ballot";
    BallotAlone, "ballot-alone",
        "E1: a ballot begins without a majority in the configuration";
    LonelyHurries, "lonely-hurries",
        "E2: a replica that was without a majority begins a ballot as soon as it meets others";
    RingChangeUnprotected, "ring-change-unprotected",
        "E3: a sequencer that stayed while the configuration changed is not given time to be heard";
    ChangeIsSettled, "change-is-settled",
        "V1: a change of voters counts as committed before it is";
    VotersOfLaggard, "voters-of-laggard",
        "V1: a coordinator that is not at the base changes the voters";
    NewVotersAlone, "new-voters-alone",
        "V1: acks of the new voters are enough while their change is not committed";
    BlankCounts, "blank-counts",
        "V2: a replica counts as a voter with another store too";
    BootstrapByMajority, "bootstrap-by-majority",
        "V3: a group forms without some of the listed replicas";
    NoResend, "no-resend",
        "N1: what was sent once is not sent again";
    ResentLate, "resent-late",
        "N1: what an epoch change left unordered is not sent again at once";
    OrderedTwice, "ordered-twice",
        "N2: a batch that is in the order is ordered again";
    OrderedWithGaps, "ordered-with-gaps",
        "N2: a batch is ordered before the one before it";
    SupersededStays, "superseded-stays",
        "N2: a superseded origin keeps its counter";
    NoFetch, "no-fetch",
        "N5: what is missing is not fetched";
    PastIsKept, "past-is-kept",
        "N5: batches that are in the order already are kept";
    MarksWithGaps, "marks-with-gaps",
        "N5: marks are taken in behind a gap";
    GateStaysShut, "gate-stays-shut",
        "N7: who waits for a `Progress` that got lost waits for ever";
    AckedForgotten, "acked-forgotten",
        "N7: after a restart `acked` begins at nothing";
    OldEpochCommits, "old-epoch-commits",
        "N8: entries before this epoch's `EpochStart` commit by their own acks";
    BaseIsCommitted, "base-is-committed",
        "N8: what an epoch goes on from counts as committed";
    AcksOfOtherEpochs, "acks-of-other-epochs",
        "N8: an ack counts in every epoch";
    LearnersCount, "learners-count",
        "N8: acks of learners count";
    HalfCommits, "half-commits",
        "N8: half of the voters is enough to commit";
    CommitsAlone, "commits-alone",
        "N8: the sequencer commits what it has delivered and written itself";
    BatchesOfStrangers, "batches-of-strangers",
        "N9: batches of who is no member are ordered";
    DeparturesMissed, "departures-missed",
        "N9: who has left stays a member";
    DeparturesHurry, "departures-hurry",
        "N9: departures do not wait for members that have not said who they are";
    SilentIsDead, "silent-is-dead",
        "N9: a run is taken to be dead after a short silence";
    CutNoticeCounts, "cut-notice-counts",
        "N9: a notice counts though it was cut off";
    StopRefusesSent, "stop-refuses-sent",
        "N10: who stops says that what it has sent will not take effect";
    SentIsWithdrawn, "sent-is-withdrawn",
        "N10: a command that was sent is said to be withdrawn at its deadline";
    TimeUnbounded, "time-unbounded",
        "N11: log time follows a wall clock wherever it jumps";
    WakeEarly, "wake-early",
        "N11: a state machine is woken up to a tenth of a second before its time";
    WakeLostOnRestore, "wake-lost-on-restore",
        "N11: a state machine that goes on from a snapshot is not woken before the next command";
    WakeLostInIdleGroup, "wake-lost-in-idle-group",
        "N11: nothing is ordered where somebody wants to be woken";
    WakeByWallClock, "wake-by-wall-clock",
        "N11: a time is ordered when the wall clock says so, and not the log's";
    TimeStandsStill, "time-stands-still",
        "N11a: log time waits for a wall clock that is behind";
    RepeatedTimeCounts, "repeated-time-counts",
        "N11a: a stamp that is repeated or fetched late counts as if it had just been given";
    TimeAnchoredAtLast, "time-anchored-at-last",
        "N11a: a new sequencer counts from the last stamp as if it had just been given";
    TimeOfTheBase, "time-of-the-base",
        "N11c: an epoch begins at its base's last stamp, however long ago that was";
    TimeAnchoredAnew, "time-anchored-anew",
        "N11: a new sequencer takes its wall clock, whatever it has seen";
    TimeGoesBack, "time-goes-back",
        "N11: a stamp may be before the last one";
    ResentWhileUnsent, "resent-while-unsent",
        "N12: what the group has not taken yet is sent again";
    LaggardAcks, "laggard-acks",
        "L4: a log that does not end in the epoch is acked";
    OpenWithoutCluster, "open-without-cluster",
        "V4: the first `Open` of another cluster is listened to";
    FormsBesideStrangers, "forms-beside-strangers",
        "V3: a group is formed before all members have said who they are";
    ForeignHeard, "foreign-heard",
        "V4: messages of another cluster are listened to";
    CutFromStore, "cut-from-store",
        "L3: entries are given from the store that are not applied, and may have been cut";
    ForgottenBeforeDurable, "forgotten-before-durable",
        "L3: entries leave memory before they are durable";
    EntriesOfOtherEpochs, "entries-of-other-epochs",
        "L5: entries are taken that were sent in another epoch";
    ChunksOfOthers, "chunks-of-others",
        "L5: chunks of another snapshot are taken for the one that comes in";
    SnapshotOfTheEnd, "snapshot-of-the-end",
        "L6: a snapshot says that it is of the end of the log, which is not committed";
    SnapshotWithoutOrigins, "snapshot-without-origins",
        "L6: who goes on from a snapshot does not know the origins";
    SnapshotWithoutMembers, "snapshot-without-members",
        "L6: who goes on from a snapshot does not know the members";
    SnapshotWithoutVoters, "snapshot-without-voters",
        "L6: who goes on from a snapshot keeps the voters it knew";
    SnapshotWithoutDigest, "snapshot-without-digest",
        "L6: who goes on from a snapshot keeps the digest it had";
    NeverHeldBack, "never-held-back",
        "L7: commands are ordered as fast as they come, whoever receives the state";
    CutBeforeSnapshot, "cut-before-snapshot",
        "L6: the log is compacted before a snapshot holds it";
    CompactedBeforeApplied, "compacted-before-applied",
        "L6: the log is compacted beyond what was handed out to be applied";
    RestartNotMended, "restart-not-mended",
        "L6: a restart leaves a log that its snapshot has overtaken";
    ReadAtOnce, "read-at-once",
        "R1: a linearizable read takes the state as it is";
    ReadIndexIsCommit, "read-index-is-commit",
        "R1: a read looks no further than the reader knows of commits";
    ReadBeforeStart, "read-before-start",
        "R1: a read need not wait for the epoch's `EpochStart`";
    ReadJoinsRound, "read-joins-round",
        "R1: a read joins a round that was asked before it";
    EchoesOfOtherEpochs, "echoes-of-other-epochs",
        "R1: reads are echoed whatever the epoch";
    EchoesOfOtherReaders, "echoes-of-other-readers",
        "R1: echoes for other readers, and for earlier runs, count";
    EchoesOfEarlierRounds, "echoes-of-earlier-rounds",
        "R1: echoes of earlier rounds count";
    EchoesOfLearners, "echoes-of-learners",
        "R1: echoes of learners count";
    EchoesOfHalf, "echoes-of-half",
        "R1: the echoes of half of the voters are enough";
    ReadBeforeApplied, "read-before-applied",
        "R2: a read does not wait until its index is applied";
    ReadBeforeCommands, "read-before-commands",
        "R2: a read in order does not wait for what was proposed before it";
}

impl std::str::FromStr for Canary {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|canary| canary.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|canary| canary.name()).collect();
            format!("there is no canary {name:?}; there are: {}", names.join(" "))
        })
    }
}

impl Config {
    /// Whether the engine is to break that rule.
    #[cfg(feature = "canaries")]
    pub(crate) fn is_broken(&self, rule: Canary) -> bool {
        self.canary == Some(rule)
    }

    #[cfg(not(feature = "canaries"))]
    pub(crate) fn is_broken(&self, _: Canary) -> bool {
        false
    }
}

impl<T> Engine<T> {
    /// Whether this engine is to break that rule: never without the feature `canaries`.
    pub(crate) fn is_broken(&self, rule: Canary) -> bool {
        self.config.is_broken(rule)
    }
}
