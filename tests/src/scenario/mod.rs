//! Scenarios: text files that describe a group command by command, each with the events that it
//! caused. They are documentation, and run as tests on real engines and a simulated group without
//! random faults.
//!
//! A file consists of prose (lines that begin with `#`) and commands, each followed by the
//! recorded events:
//!
//! ```text
//! # A command is answered once a majority has it.
//!
//! group replicas=3
//! ----
//! ...
//!
//! propose at=2 commands=(a)
//! ----
//! ```
//!
//! `REWRITE=1 cargo test -p plainsong-tests --test scenarios` records all events anew; review the
//! difference. The number of messages and their timing are not recorded.
//!
//! `1 2: members ..` is an event of the daemons of nodes 1 and 2, whether or not a replica runs
//! there to receive it. A member `3:2` is the second process of replica 3; a voter `3'` is replica
//! 3 with its second store. Epoch `2/3` belongs to the ballot with counter 2 of replica 3. The last
//! lines list the committed entries by index, with the replicas that applied them during this
//! command.
//!
//! The state machine is a list of the applied commands, and an alarm clock: a command `wake-500`
//! asks for a wake-up 500 ms of log time later. A read returns the list.
//!
//! | command | effect |
//! | --- | --- |
//! | `group replicas=N [learners=N] [detection=MS] [sync=MS]` | creates N voters, then learners, with consecutive numbers, each on a node of its own; no time passes |
//! | .. `[others=N]` | creates N more replicas that list each other and form a cluster of their own |
//! | .. `[snapshot-every=N] [kept=N] [state-kib=N]` | sets the interval of snapshots in entries, the number of entries kept behind a snapshot, and the minimum size of the state |
//! | .. `[cached=N]` | sets the number of bytes of applied entries that stay in memory |
//! | `run ms=MS` | lets time pass |
//! | `status` | prints the status of every replica |
//! | `log replica=R` | prints the durable log of R |
//! | `propose at=R commands=(A,B)` | proposes commands at R |
//! | `read at=R` | starts a linearizable read at R |
//! | `kill`, `start`, `wipe replica=R` | kills the process of R, starts it again, or replaces the store of a dead R by an empty one |
//! | `copy from=R to=R` | copies the data directory of the first replica to the node of the second, which runs as the first when it is started |
//! | `hang`, `wake replica=R` | stops the process of R; lets it resume with a backlog |
//! | `set-clock replica=R [ahead=MS] [behind=MS]` | steps the wall clock of R's host, so that it is wrong by this much |
//! | `hold-disk`, `release-disk replica=R` | delays all writes of R; completes the delayed writes |
//! | `replace old=R new=R` | an operator replaces a voter, at the sequencer |
//! | `admit replica=R` | an operator makes R a voter, at the sequencer |
//! | `force replica=R` | an operator forces a new cluster at R |
//! | `part one=(R,R) two=(R)`, `heal` | splits and heals the network |
//! | `pause-daemon`, `resume-daemon`, `kill-daemon`, `start-daemon node=R` | act on the daemon of a node |
//! | `lose-token`, `straddle-next`, `swallow-next node=R`, `stall-next-sync` | as in `cpg::sim` |
//! | `lose-next from=R at=(R,R)` | as in `cpg::sim` |

mod replica;
mod stage;
mod state;
mod store;
mod words;

pub use stage::Scenario;
