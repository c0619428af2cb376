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
        /// What can go wrong. Each lasts until the group is healed, or ends by itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
        pub enum Fault {
            $(#[doc = $what] #[value(name = $name)] $fault,)*
        }

        impl Fault {
            /// Every fault.
            pub const ALL: &[Self] = &[$(Self::$fault,)*];

            /// What it is called on the command line and in the report.
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
        "A replica is killed, in every second case the one that sequences";
    ReplicaPaused, "replica-paused",
        "A replica is stopped in its tracks and wakes up believing what it knew";
    DaemonKilled, "daemon-killed",
        "A daemon is killed under its replicas";
    DaemonPaused, "daemon-paused",
        "A daemon is stopped in its tracks: shorter than the token, longer, or longer than it \
         takes the others to form a ring";
    DaemonStopped, "daemon-stopped",
        "A daemon leaves in order, under its replicas";
    NodeKilled, "node-killed",
        "A daemon and its replicas are killed at once";
    PowerLost, "power-lost",
        "All daemons and all replicas are killed at once";
    MajorityKilled, "majority-killed",
        "The replicas of a majority of the nodes are killed";
    StoreWiped, "store-wiped",
        "A replica is killed and comes back without its store";
    RollingRestart, "rolling-restart",
        "Every replica in turn is stopped in order and started again, the next when it is well";
    MembersChanged, "members-changed",
        "A voter is removed, and added again at the end";
    MembersInTurn, "members-in-turn",
        "Every voter in turn is removed, and added again before the next";
    NodeCut, "node-cut",
        "A node hears and is heard by nobody";
    NetworkParted, "network-parted",
        "The nodes fall into two parts";
    NetworkInThree, "network-in-three",
        "The nodes fall into three parts";
    PairParted, "pair-parted",
        "Two nodes do not hear each other, and all others hear both";
    OneWay, "one-way",
        "A node hears no other node, which all hear it";
    PacketsLost, "packets-lost",
        "Some or all nodes lose packets";
    PacketsDelayed, "packets-delayed",
        "What a node sends waits in a queue, of which the end is dropped";
    PacketsReordered, "packets-reordered",
        "Some of what a node sends arrives after what it sent later";
    LinkFlaps, "link-flaps",
        "A node is cut off and joined several times in a second";
    CutInRingChange, "cut-in-ring-change",
        "While a ring forms without a node, another is cut off and comes back";
    KeyLost, "key-lost",
        "A daemon comes back with another key than all others";
    Flood, "flood",
        "Another program sends messages of 150 KB while a node is cut off and comes back";
    DamagedFrames, "damaged-frames",
        "A member of the group sends frames that are cut short, damaged or nonsense";
    NoPermission, "no-permission",
        "A process whose user has no right to it asks the daemon without pause";
    EmbeddedNonsense, "embedded-nonsense",
        "The socket of an embedded group beside hears nonsense, and its hub is killed";
    BadClients, "bad-clients",
        "Clients send garbage, go away without a word, and take no answers";
    ManyClients, "many-clients",
        "10,000 clients connect to the replicas of kv, and say nothing";
    SlowDisk, "slow-disk",
        "A replica waits long whenever it makes something durable";
    FullDisk, "full-disk",
        "There is no room on the disk of a node";
    SlowApply, "slow-apply",
        "The thread of a replica that applies commands is slow";
    LittleMemory, "little-memory",
        "A replica gets no more memory than it has";
    ClockJumps, "clock-jumps",
        "The clock of a node goes forward or back by hours";
}

/// Shorter than the token, longer, and longer than what the others take for a new ring.
const SPANS_MS: [u64; 3] = [300, 1800, 5000];
/// Connections of clients that say nothing.
const CLIENTS: usize = 10_000;
/// Of a client that takes no answers, at a time and as often, and how long it tries to send more.
const QUESTIONS: usize = 200;
const SLOW_CLIENT: Duration = Duration::from_millis(500);
/// Large values, which fill more than that together.
const LARGE: u32 = 100;
const LARGE_BYTES: usize = 60_000;
/// What a replica may get beyond the memory that it has.
const MEMORY_MORE: u64 = 1 << 20;

impl Fault {
    /// Does it, and lets it last a while.
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
                    group.wait_until_well()?;
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
                    group.wait_until_well()?;
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
                    return Err(wrong(format!("who has no permission ended with {status}")));
                }
                uninvited.kill()?;
            }
            Self::EmbeddedNonsense => embedded::hears_nonsense(group, one, random)?,
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

    /// What somebody must have said of it, so that an operator knows.
    pub(super) fn told(self) -> Option<&'static str> {
        match self {
            Self::DamagedFrames => Some("sends messages that cannot be read"),
            Self::NoPermission => Some("no permission to use the transport"),
            Self::EmbeddedNonsense => Some("a process is cut off"),
            _ => None,
        }
    }
}

/// A replica: in every second case the one that sequences.
fn victim(group: &Group, service: Service, one: u32, random: &mut Random) -> Result<u32> {
    Ok(group.sequencer(service)?.filter(|_| random.chance(500)).unwrap_or(one))
}

/// Lets a fault last.
fn last(random: &mut Random) {
    thread::sleep(span(random));
}

/// How long a fault lasts.
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

/// Has the replicas of kv need memory.
fn large_values(group: &Group, at: u32) -> Result<()> {
    let Some(mut kv) = group.connect(Service::Kv, at)? else { return Ok(()) };
    let value = "x".repeat(LARGE_BYTES);
    let asked = kv.set_patience(SLOW_CLIENT);
    // Until the replica has no memory, and ends.
    let asked = asked.and_then(|()| {
        (0..LARGE).try_for_each(|key| kv.ask(&format!("SET large:{key} {value}")).map(drop))
    });
    group.note(&format!("large values were set: {asked:?}"));
    Ok(())
}

/// Keys that faults leave behind.
pub(super) fn rubbish() -> impl Iterator<Item = String> {
    (0..LARGE).map(|key| format!("large:{key}"))
}

fn bad_clients(group: &Group, random: &mut Random) -> Result<()> {
    let mut kept = Vec::new();
    for (service, id) in group.ids().flat_map(|id| Service::ALL.map(|service| (service, id))) {
        for _ in 0..20 {
            let Some(mut client) = group.connect(service, id)? else { continue };
            let bytes: Vec<u8> = (0..random.below(5000)).map(|_| random.number() as u8).collect();
            // Refused where it makes no sense, and nobody waits for what it means.
            let _ = client.send(&bytes);
        }
        if let Some(mut client) = group.connect(service, id)? {
            let asked = client.set_patience(SLOW_CLIENT);
            // Sent until nobody takes more, and no answer is taken.
            let asked = asked.and_then(|()| {
                let some = b"INFO\r\n".repeat(QUESTIONS);
                (0..QUESTIONS).try_for_each(|_| client.send(&some))
            });
            group.note(&format!("a client of {} that takes no answers: {asked:?}", service.name()));
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
