use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use plainsong::testing::Random;

use super::group::Group;
use super::{RECOVERY_MAX, Result, TOKEN_MS, hostile, wrong};
use crate::kv_client::KvClient;

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
        "A daemon is killed under its replica";
    DaemonPaused, "daemon-paused",
        "A daemon is stopped in its tracks: shorter than the token, longer, or longer than it \
         takes the others to form a ring";
    DaemonStopped, "daemon-stopped",
        "A daemon leaves in order, under its replica";
    NodeKilled, "node-killed",
        "A daemon and its replica are killed at once";
    PowerLost, "power-lost",
        "All daemons and all replicas are killed at once";
    MajorityKilled, "majority-killed",
        "A majority of the replicas is killed";
    StoreWiped, "store-wiped",
        "A replica is killed and comes back without its store";
    RollingRestart, "rolling-restart",
        "Every replica in turn is stopped in order and started again, the next when it is well";
    NodeCut, "node-cut",
        "A node hears and is heard by nobody";
    NetworkParted, "network-parted",
        "The nodes fall into two parts";
    NetworkInThree, "network-in-three",
        "The nodes fall into three parts";
    OneWay, "one-way",
        "A node hears no other node, which all hear it";
    PacketsLost, "packets-lost",
        "Some or all nodes lose packets";
    LinkFlaps, "link-flaps",
        "A node is cut off and joined several times in a second";
    CutInRingChange, "cut-in-ring-change",
        "While a ring forms without a node, another is cut off and comes back";
    Flood, "flood",
        "Another program sends messages of 150 KB while a node is cut off and comes back";
    DamagedFrames, "damaged-frames",
        "A member of the group sends frames that are cut short, damaged or nonsense";
    BadClients, "bad-clients",
        "Clients send nonsense, or connect by the hundred and say nothing";
}

/// Shorter than the token, longer, and longer than what the others take for a new ring.
const SPANS_MS: [u64; 3] = [300, 1800, 5000];
/// Connections of clients that say nothing.
const SILENT_CLIENTS: usize = 300;

impl Fault {
    /// Does it, and lets it last a while.
    pub(super) fn inject(self, group: &Group, random: &mut Random) -> Result<()> {
        let nodes = group.ids().count() as u64;
        let one = 1 + random.below(nodes) as u32;
        match self {
            Self::ReplicaKilled => {
                let sequencer = group.sequencer()?.filter(|_| random.chance(500));
                group.replica(sequencer.unwrap_or(one), |replica| replica.kill())?;
                last(random);
            }
            Self::ReplicaPaused => {
                let sequencer = group.sequencer()?.filter(|_| random.chance(500));
                let id = sequencer.unwrap_or(one);
                group.replica(id, |replica| match replica.status() {
                    None => replica.pause(),
                    Some(_) => Ok(()),
                })?;
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
                group.replica(one, |replica| replica.kill())?;
                last(random);
            }
            Self::PowerLost => {
                for id in group.ids() {
                    group.replica(id, |replica| replica.kill())?;
                    group.node(id).kill_daemon()?;
                }
            }
            Self::MajorityKilled => {
                for id in group.ids().take(nodes as usize / 2 + 1) {
                    group.replica(id, |replica| replica.kill())?;
                }
                last(random);
            }
            Self::StoreWiped => {
                group.replica(one, |replica| replica.kill())?;
                group.wipe(one)?;
                last(random);
            }
            Self::RollingRestart => {
                group.heal()?;
                for id in group.ids() {
                    group.wait_until_well()?;
                    group.restart(id)?;
                }
            }
            Self::NodeCut => {
                group.node(one).cut()?;
                last(random);
            }
            Self::NetworkParted => part(group, random, 2)?,
            Self::NetworkInThree => part(group, random, 3)?,
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
            Self::BadClients => bad_clients(group, random)?,
        }
        Ok(())
    }
}

/// Lets a fault last.
fn last(random: &mut Random) {
    let span = Duration::from_millis(random.pick(&SPANS_MS));
    thread::sleep(span / 2 + random.up_to(span));
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

fn bad_clients(group: &Group, random: &mut Random) -> Result<()> {
    let deadline = Instant::now() + RECOVERY_MAX;
    let mut silent: Vec<KvClient> = Vec::new();
    for id in group.ids() {
        for _ in 0..SILENT_CLIENTS / group.ids().count() {
            silent.extend(group.connect(id)?);
        }
        for _ in 0..20 {
            let Some(mut kv) = group.connect(id)? else { continue };
            let bytes: Vec<u8> = (0..random.below(5000)).map(|_| random.number() as u8).collect();
            // Refused where it makes no sense, and nobody waits for what it means.
            let _ = kv.send(&bytes);
        }
        if Instant::now() > deadline {
            return Err(wrong("clients could not connect"));
        }
    }
    last(random);
    Ok(())
}
