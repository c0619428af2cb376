use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use plainsong::testing::Random;

use super::group::{Delay, Group};
use super::service::Service;
use super::{Result, TOKEN_MS, embedded, hostile, wrong};
use crate::client::NodeClient;
use crate::rig::Program;

macro_rules! faults {
    ($($fault:ident, $name:literal, $what:literal;)*) => {
        /// A kind of fault. Each fault lasts until the group is healed, or ends by itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
        pub enum Fault {
            $(#[doc = $what] #[value(name = $name)] $fault,)*
        }

        impl Fault {
            /// Every fault.
            pub const ALL: &[Self] = &[$(Self::$fault,)*];

            /// Returns its name on the command line and in the report.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$fault => $name,)*
                }
            }
        }
    };
}

faults! {
    ReplicaKilled, "replica-killed",
        "Kills a replica, half of the time the sequencer";
    ReplicaPaused, "replica-paused",
        "Pauses a replica (SIGSTOP) and resumes it with outdated state";
    DaemonKilled, "daemon-killed",
        "Kills a daemon while its replicas run";
    DaemonPaused, "daemon-paused",
        "Pauses a daemon (SIGSTOP): for less than the token timeout, for longer, or until the \
         others have formed a ring";
    DaemonStopped, "daemon-stopped",
        "Shuts a daemon down while its replicas run";
    NodeKilled, "node-killed",
        "Kills a daemon and its replicas at once";
    PowerLost, "power-lost",
        "Kills all daemons and all replicas at once";
    MajorityKilled, "majority-killed",
        "Kills the replicas of a majority of the nodes";
    StoreWiped, "store-wiped",
        "Kills a replica and deletes its store";
    RollingRestart, "rolling-restart",
        "Restarts every replica in turn, each after the group is healthy again";
    MembersChanged, "members-changed",
        "Removes a voter, and adds it again at the end";
    MembersInTurn, "members-in-turn",
        "Removes every voter in turn, and adds it again before the next";
    NodeCut, "node-cut",
        "Cuts a node off from all others";
    NetworkParted, "network-parted",
        "Splits the network in two";
    NetworkInThree, "network-in-three",
        "Splits the network in three";
    PairParted, "pair-parted",
        "Cuts the link between two nodes, which all others still reach";
    OneWay, "one-way",
        "Drops all packets to a node, but none from it";
    PacketsLost, "packets-lost",
        "Drops a part of the packets of one node or all nodes";
    PacketsDelayed, "packets-delayed",
        "Limits the bandwidth of a node: its packets wait in a queue that drops its tail";
    PacketsReordered, "packets-reordered",
        "Reorders packets of a node";
    LinkFlaps, "link-flaps",
        "Cuts a node off and reconnects it, several times per second";
    CutInRingChange, "cut-in-ring-change",
        "Cuts a node off for a moment while a ring forms without another one";
    KeyLost, "key-lost",
        "Restarts a daemon with a wrong key";
    Flood, "flood",
        "Floods the ring with messages of 150 KB while a node is cut off and reconnected";
    DamagedFrames, "damaged-frames",
        "Adds a member to the group that sends truncated, damaged and random frames";
    NoPermission, "no-permission",
        "Runs a process of a user without permission that connects again and again";
    EmbeddedNonsense, "embedded-nonsense",
        "Sends malformed data to the socket of an embedded group, and kills its hub";
    BadClients, "bad-clients",
        "Runs clients that send garbage, disconnect early, and read no answers";
    ManyClients, "many-clients",
        "Opens 10,000 idle connections to the replicas of kv";
    SlowDisk, "slow-disk",
        "Delays every sync of a replica";
    FullDisk, "full-disk",
        "Fills the disk of a node";
    SlowApply, "slow-apply",
        "Slows down the apply thread of a replica";
    LittleMemory, "little-memory",
        "Limits a replica to the memory that it has already allocated";
    ClockJumps, "clock-jumps",
        "Sets the clock of a node forward or back by hours";
}

/// Durations: shorter than the token timeout, longer, and longer than the forming of a new ring.
const SPANS_MS: [u64; 3] = [300, 1800, 5000];
/// Number of idle connections.
const CLIENTS: usize = 10_000;
/// Requests per write, and number of writes, of a client that reads no answers; and its timeout.
const QUESTIONS: usize = 200;
const SLOW_CLIENT: Duration = Duration::from_millis(500);
/// Number and size of large values, which together exceed `MEMORY_MORE`.
const LARGE: u32 = 100;
const LARGE_BYTES: usize = 60_000;
/// Memory that a replica may allocate beyond its current use.
const MEMORY_MORE: u64 = 1 << 20;

impl Fault {
    /// Injects the fault and waits while it lasts.
    #[expect(clippy::too_many_lines, reason = "a list of all faults, each of a few lines")]
    pub(super) fn inject(self, group: &Group, random: &mut Random) -> Result<()> {
        let nodes = group.ids().count() as u64;
        let one = 1 + random.below(nodes) as u32;
        let service = random.pick(&Service::ALL);
        match self {
            Self::ReplicaKilled => {
                group.replica(service, victim(group, service, one, random)?, Program::kill)?;
                last(random);
            }
            Self::ReplicaPaused => {
                group.replica(service, victim(group, service, one, random)?, Program::pause)?;
                last(random);
            }
            Self::DaemonKilled => {
                group.node(one).kill_daemon()?;
                last(random);
            }
            Self::DaemonPaused => {
                if group.node(one).daemon()?.status().is_none() {
                    group.node(one).pause_daemon()?;
                }
                last(random);
            }
            Self::DaemonStopped => {
                let daemon = group.node(one).daemon()?;
                if daemon.status().is_none() {
                    daemon.resume()?;
                    group.node(one).stop_daemon()?;
                }
                last(random);
            }
            Self::NodeKilled => {
                group.node(one).kill_daemon()?;
                group.kill_replicas(one)?;
                last(random);
            }
            Self::PowerLost => {
                for id in group.ids() {
                    group.kill_replicas(id)?;
                    group.node(id).kill_daemon()?;
                }
            }
            Self::MajorityKilled => {
                group
                    .ids()
                    .take(nodes as usize / 2 + 1)
                    .try_for_each(|id| group.kill_replicas(id))?;
                last(random);
            }
            Self::StoreWiped => {
                group.replica(service, one, Program::kill)?;
                group.wipe(service, one)?;
                last(random);
            }
            Self::RollingRestart => {
                group.heal()?;
                for id in group.ids() {
                    group.wait_until_healthy()?;
                    Service::ALL.iter().try_for_each(|service| group.restart(*service, id))?;
                }
            }
            Self::MembersChanged => {
                if group.remove(service, victim(group, service, one, random)?)? {
                    last(random);
                }
            }
            Self::MembersInTurn => {
                group.heal()?;
                for id in group.ids() {
                    group.wait_until_healthy()?;
                    for service in Service::ALL {
                        group.remove(service, id)?;
                    }
                }
            }
            Self::NodeCut => {
                group.node(one).cut()?;
                last(random);
            }
            Self::NetworkParted => part(group, random, 2)?,
            Self::NetworkInThree => part(group, random, 3)?,
            Self::PairParted => {
                group.cluster().cut_between(one, one % nodes as u32 + 1)?;
                last(random);
            }
            Self::OneWay => {
                for other in group.ids().filter(|id| *id != one) {
                    group.node(one).drop_from(other)?;
                }
                last(random);
            }
            Self::PacketsLost => {
                let percent = random.pick(&[2, 10, 30]);
                let all = random.chance(500);
                for id in group.ids().filter(|id| all || *id == one) {
                    group.node(id).loss_percent(percent)?;
                }
                last(random);
            }
            Self::PacketsDelayed => {
                group.node(one).slow_link(random.pick(&[256, 1024, 4096]))?;
                last(random);
            }
            Self::PacketsReordered => {
                group.node(one).reorder(random.pick(&[5, 20, 50]))?;
                last(random);
            }
            Self::LinkFlaps => {
                for _ in 0..4 + random.below(8) {
                    group.node(one).cut()?;
                    thread::sleep(random.up_to(Duration::from_millis(800)));
                    group.node(one).heal()?;
                    thread::sleep(random.up_to(Duration::from_millis(800)));
                }
            }
            Self::CutInRingChange => {
                let other = one % nodes as u32 + 1;
                group.node(one).kill_daemon()?;
                let token = Duration::from_millis(u64::from(TOKEN_MS));
                thread::sleep(token * 3 / 4 + random.up_to(token));
                group.node(other).cut()?;
                thread::sleep(random.up_to(token / 2));
                group.node(other).heal()?;
                last(random);
            }
            Self::KeyLost => {
                group.lose_key(one)?;
                last(random);
            }
            Self::Flood => {
                let flood = hostile::flood(group.node(one))?;
                for _ in 0..2 {
                    let other = one % nodes as u32 + 1;
                    group.node(other).cut()?;
                    last(random);
                    group.node(other).heal()?;
                    last(random);
                }
                flood.kill()?;
            }
            Self::DamagedFrames => {
                let noise = hostile::noise(group.node(one), random.number())?;
                last(random);
                last(random);
                noise.kill()?;
            }
            Self::NoPermission => {
                let uninvited = hostile::uninvited(group.node(one))?;
                last(random);
                if let Some(status) = uninvited.status() {
                    return Err(wrong(format!(
                        "the process without permission ended with {status}"
                    )));
                }
                uninvited.kill()?;
            }
            Self::EmbeddedNonsense => embedded::receives_nonsense(group, one, random)?,
            Self::BadClients => bad_clients(group, random)?,
            Self::ManyClients => many_clients(group, random)?,
            Self::SlowDisk => {
                let ms = random.pick(&[20, 100, 500]);
                group.delay(service, one, Delay::Syncs, Duration::from_millis(ms))?;
                last(random);
            }
            Self::FullDisk => {
                group.fill_disk(one)?;
                last(random);
            }
            Self::SlowApply => {
                let ms = random.pick(&[2, 20, 100]);
                group.delay(service, one, Delay::Apply, Duration::from_millis(ms))?;
                last(random);
            }
            Self::LittleMemory => {
                group.replica(service, one, |replica| replica.limit_memory(Some(MEMORY_MORE)))?;
                large_values(group, one)?;
                last(random);
            }
            Self::ClockJumps => {
                let hours = random.pick(&[-30, -2, 2, 30]);
                group.set_clock(one, hours * 3600)?;
                last(random);
            }
        }
        Ok(())
    }

    /// Returns a text that some program must have logged because of this fault, so that an operator
    /// can notice it.
    pub(super) fn expected_log(self) -> Option<&'static str> {
        match self {
            Self::DamagedFrames => Some("sends messages that cannot be read"),
            Self::NoPermission => Some("no permission to use the transport"),
            Self::EmbeddedNonsense => Some("disconnecting a process"),
            _ => None,
        }
    }
}

/// Chooses a replica: half of the time the sequencer.
fn victim(group: &Group, service: Service, one: u32, random: &mut Random) -> Result<u32> {
    Ok(group.sequencer(service)?.filter(|_| random.chance(500)).unwrap_or(one))
}

/// Waits for the duration of a fault.
fn last(random: &mut Random) {
    thread::sleep(span(random));
}

/// Draws the duration of a fault.
pub(super) fn span(random: &mut Random) -> Duration {
    let span = Duration::from_millis(random.pick(&SPANS_MS));
    span / 2 + random.up_to(span)
}

fn part(group: &Group, random: &mut Random, parts: u64) -> Result<()> {
    let mut places: Vec<Vec<u32>> = vec![Vec::new(); parts as usize];
    for id in group.ids() {
        places[random.below(parts) as usize].push(id);
    }
    let places: Vec<&[u32]> = places.iter().map(Vec::as_slice).collect();
    group.cluster().partition(&places)?;
    last(random);
    Ok(())
}

/// Makes the replicas of kv allocate memory.
fn large_values(group: &Group, at: u32) -> Result<()> {
    let Some(mut kv) = group.connect(Service::Kv, at)? else { return Ok(()) };
    let value = "x".repeat(LARGE_BYTES);
    let asked = kv.set_patience(SLOW_CLIENT);
    // Fails once the replica runs out of memory and ends.
    let asked = asked.and_then(|()| {
        (0..LARGE).try_for_each(|key| kv.ask(&format!("SET large:{key} {value}")).map(drop))
    });
    group.note(&format!("large values were set: {asked:?}"));
    Ok(())
}

/// Returns the keys that faults leave behind.
pub(super) fn leftover_keys() -> impl Iterator<Item = String> {
    (0..LARGE).map(|key| format!("large:{key}"))
}

fn bad_clients(group: &Group, random: &mut Random) -> Result<()> {
    let mut kept = Vec::new();
    for (service, id) in group.ids().flat_map(|id| Service::ALL.map(|service| (service, id))) {
        for _ in 0..20 {
            let Some(mut client) = group.connect(service, id)? else { continue };
            let bytes: Vec<u8> = (0..random.below(5000)).map(|_| random.number() as u8).collect();
            // Invalid requests are rejected; the answers do not matter.
            let _ = client.send(&bytes);
        }
        if let Some(mut client) = group.connect(service, id)? {
            let asked = client.set_patience(SLOW_CLIENT);
            // Sends requests until the server accepts no more, without reading any answer.
            let asked = asked.and_then(|()| {
                let some = b"INFO\r\n".repeat(QUESTIONS);
                (0..QUESTIONS).try_for_each(|_| client.send(&some))
            });
            group.note(&format!("a client of {} that reads no answers: {asked:?}", service.name()));
            kept.push(client);
        }
    }
    last(random);
    Ok(())
}

fn many_clients(group: &Group, random: &mut Random) -> Result<()> {
    let mut kept = Vec::new();
    for id in group.ids() {
        let count = CLIENTS / group.ids().count();
        kept.extend(NodeClient::connect_many(group.node(id), Service::Kv.port(), count)?);
    }
    group.note(&format!("{} clients are connected", kept.len()));
    last(random);
    Ok(())
}
