use std::time::Duration;

use cpg::NodeId;

use crate::testing::Workload;
use crate::testing::checker::Checked;
use crate::testing::host::Death;
use crate::testing::simulation::Simulation;

/// What faults that meet by chance hardly ever bring about: one machine is cut off, so that its
/// processes still believe in an epoch; the others open one without it, commit in it, and lose
/// its sequencer; and the moment in which they open the next, the network is whole again, while
/// all their disks stand still. So what they have acked is of epochs that are over, and who was
/// cut off asks them in one before. Whoever could tell it of the new one stands still as well.
pub(in crate::testing) struct Ambush {
    alone: NodeId,
    /// When the others lose their sequencer.
    strikes_at: Duration,
    stage: Stage,
    /// Until then nothing else fails.
    ends_at: Duration,
}

#[derive(PartialEq, Eq)]
enum Stage {
    /// One machine is cut off.
    Laid,
    /// The others have lost their sequencer.
    Struck,
    /// They have opened the next epoch.
    Sprung,
}

impl<W: Workload> Simulation<W> {
    /// One machine is cut off.
    pub(in crate::testing) fn lay_ambush(&mut self) {
        let (now, p) = (self.world.now(), &self.world.parameters);
        let (machines, voters) = (p.machines.max(1), p.voters);
        let (timeout, patience) = (p.election_timeout, p.patience);
        if self.ambush.is_some() || machines < 3 {
            return;
        }
        let alone = NodeId(1 + self.world.random.below(voters.into()) as u32);
        let others: Vec<_> = (1..=machines).map(NodeId).filter(|node| *node != alone).collect();
        self.world.network.part(&[&[alone], &others]);
        let strikes_at = now + timeout * 2 + patience;
        let ends_at = strikes_at + timeout * 5;
        self.ambush = Some(Ambush { alone, strikes_at, stage: Stage::Laid, ends_at });
        self.heals_at = Some(ends_at);
    }

    /// In time the others lose their sequencer, and somebody reads where nobody has heard of it.
    pub(in crate::testing) fn go_on_with_ambush(&mut self) -> Checked {
        let now = self.world.now();
        let Some(ambush) = &mut self.ambush else { return Ok(()) };
        let alone = ambush.alone;
        if now >= ambush.ends_at || self.world.is_calm || self.world.is_disaster {
            self.ambush = None;
        } else if now >= ambush.strikes_at && ambush.stage == Stage::Laid {
            let sequencer = self.hosts.iter().position(|host| {
                let sequences = host.process.as_ref().is_some_and(|p| p.engine.is_sequencer());
                host.node() != alone && sequences
            });
            if let Some(at) = sequencer {
                ambush.stage = Stage::Struck;
                self.hosts[at].die(&mut self.world, Death::Kill)?;
                self.hosts[at].restart_at = Some(now);
                for host in self.hosts.iter_mut().filter(|host| host.node() == alone) {
                    host.read(&mut self.world)?;
                }
            }
        }
        Ok(())
    }

    /// An epoch has opened at that host.
    pub(in crate::testing) fn spring_ambush(&mut self, at: usize) {
        let host = &self.hosts[at];
        let Some(ambush) = &mut self.ambush else { return };
        if ambush.stage != Stage::Struck || host.node() == ambush.alone {
            return;
        }
        ambush.stage = Stage::Sprung;
        ambush.ends_at = self.world.now() + self.world.parameters.election_timeout;
        self.world.disks_stand_until = ambush.ends_at;
        self.world.note(|| "the ambush is sprung".into());
        let open = host.process.as_ref().and_then(|process| process.engine.open());
        let knows = open.map(|open| [open.ballot.replica, open.sequencer.replica.0]);
        let until = ambush.ends_at;
        for host in &mut self.hosts {
            let is_asked = knows.is_some_and(|knows| knows.contains(&host.replica.0));
            if let Some(process) = host.process.as_mut().filter(|_| is_asked) {
                process.runs_at = until;
            }
        }
        self.heals_at = None;
        self.world.network.heal();
    }
}
