//! Scenarios: text files that tell a story of a group, command by command, with what came of
//! each. They are read as documentation and run as tests, on real engines and a simulated
//! group that does nothing but what the story says.
//!
//! A file is prose (lines with `#`) and commands, each followed by what is recorded of it:
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
//! `REWRITE=1 cargo test -p plainsong-tests --test scenarios` records anew; the difference is
//! to be read in review. What is not recorded is how many messages it took and how long.
//!
//! `1 2: members ..` is what the daemons of nodes 1 and 2 tell, whether or not a replica runs
//! there to hear it. A member `3:2` is the second run of replica 3; a voter `3'` is replica 3
//! with its second store. Epoch `2/3` is that of the second ballot, by replica 3. At the end
//! comes what was committed, by index, and who has applied it by then.
//!
//! The state are the commands that were applied, and an alarm clock: a command `wake-500` asks to
//! be woken half a second later by the log's time. What a read tells is all of them.
//!
//! | command | what it does |
//! | --- | --- |
//! | `group replicas=N [learners=N] [detection=MS] [sync=MS]` | N voters, and learners with the numbers after theirs, each on a node of its own; no time passes |
//! | .. `[others=N]` | N more, who list each other and form a cluster of their own |
//! | .. `[snapshot-every=N] [kept=N] [state-kib=N]` | snapshots at the multiples of N entries, so many entries kept behind them, and how large they are at least |
//! | `run ms=MS` | time passes, and what happens is recorded |
//! | `status` | everybody's state |
//! | `log replica=R` | what is durable in the log of R |
//! | `propose at=R commands=(A,B)` | R is given commands |
//! | `read at=R` | a linearizable read at R |
//! | `kill`, `start`, `wipe replica=R` | the process dies, is started again, loses its store while it is dead |
//! | `copy from=R to=R` | an operator copies the data folder of the first to the node of the second, which is a second run of the first when it is started |
//! | `hang`, `wake replica=R` | the process stands still, and goes on with a backlog |
//! | `set-clock replica=R [ahead=MS] [behind=MS]` | the wall clock of the host of R is stepped, so that it is wrong by that |
//! | `hold-disk`, `release-disk replica=R` | nothing that R writes gets durable; what was held does |
//! | `replace old=R new=R` | an operator asks R (old) to be replaced as a voter, at the sequencer |
//! | `admit replica=R` | an operator asks R to be a voter, at the sequencer |
//! | `force replica=R` | an operator asks R to go on alone, as a new cluster |
//! | `part one=(R,R) two=(R)`, `heal` | the network |
//! | `pause-daemon`, `resume-daemon`, `kill-daemon`, `start-daemon node=R` | the daemons |
//! | `lose-token`, `straddle-next`, `swallow-next node=R`, `stall-next-sync` | as in `cpg::sim` |
//! | `lose-next from=R at=(R,R)` | as in `cpg::sim` |

mod replica;
mod stage;
mod state;
mod store;
mod words;

pub use stage::Scenario;
