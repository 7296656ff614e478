//! Effects that reach what runs, put into the words of `stopping`.
//!
//! Promises: effects of one run are carried out together, and each that failed is reported with the
//! effect it belongs to. Nothing goes on on a lease that does not hold at this moment, whatever was
//! decided. A zone that no table names any more is looked for below the governed slice.

use std::{
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use governor_common::{
    Carrier, Label,
    names::{ZONE_HOST, ZONE_UNKNOWN},
};
use governor_core::{
    engine::{Effect, HELD_OF_HOST, Running, Thaw},
    time::ClockReading,
};

use super::{
    clock,
    execute::{Hands, Outcome, zones_of},
};
use crate::{
    cgroups,
    inventory::{self, Nobody},
    progress,
    stopping::{self, Action, Network, OnCgroup, Order, Scene, Thawed},
};

impl Hands {
    /// Carries out stops, holds and bars.
    pub(super) fn stop(&self, run: Vec<Effect>, outcome: &mut Outcome) {
        let began = clock::now().map(|now| now.boot.0 / 1000);
        let mut orders = Vec::new();
        for effect in &run {
            orders.push(self.order(effect));
        }
        let wanted: Vec<Order> = orders
            .iter()
            .filter_map(|order| order.as_ref().ok()?.clone())
            .collect();
        let stopped = self.in_scene(|scene| {
            #[cfg(feature = "fault-points")]
            crate::fault::stops_fail()?;
            Ok(stopping::stop(scene, &mut Network::default(), &wanted))
        });
        if let Ok(done) = &stopped {
            outcome.reached.stopped += done.stopped;
            tracing::info!(
                at_us = began.unwrap_or_default(),
                told_us = done.told.as_micros(),
                halted_us = done.halted.as_micros(),
                "{} stops took {} ms: {:?}",
                wanted.len(),
                done.halted.as_millis(),
                done.stopped
            );
        }
        for (effect, order) in run.into_iter().zip(orders) {
            let failed = match (&order, &stopped) {
                (Err(error), _) | (Ok(_), Err(error)) => Some(format!("{error:#}")),
                (Ok(None), Ok(_)) => self.bar(&effect).err().map(|error| format!("{error:#}")),
                (Ok(Some(order)), Ok(done)) => done.failure(order).map(str::to_owned),
            };
            if let Some(error) = failed {
                let name = effect.name();
                tracing::error!(effect = name, "could not {name}: {error}");
                outcome.failed.push((effect, error));
            }
        }
    }

    /// Lets go of what may go on.
    pub(super) fn thaw(&self, now: ClockReading, thaw: &Thaw) -> Result<Thawed> {
        if thaw.attested {
            let state = self.gate.state().context("reading the gate's state")?;
            ensure!(
                state.lease_holds(now.boot.0),
                "thawing: the kernel's lease does not hold any more; see `governor status`"
            );
        }
        let root = self.root(thaw.zone)?;
        self.in_scene(|scene| stopping::thaw(scene, &root, thaw))
    }

    fn bar(&self, effect: &Effect) -> Result<()> {
        let Effect::Bar { zone } = effect else {
            return Ok(());
        };
        let root = self.root(*zone)?;
        self.in_scene(|scene| stopping::bar(scene, &root))
    }

    /// `None`: nothing is to be stopped for it.
    fn order(&self, effect: &Effect) -> Result<Option<Order>> {
        let (zone, running, action) = if let Effect::Stop {
            zone,
            workload,
            action,
            barred,
        } = effect
        {
            let running = workload.map_or(Running::All, Running::Workload);
            (*zone, running, Action::of_policy(*action, *barred))
        } else if let Effect::Hold {
            zone,
            running,
            grip,
        } = effect
        {
            (*zone, *running, Some(Action::by_hand(*grip)))
        } else {
            return Ok(None);
        };
        let Some(action) = action else {
            return Ok(None);
        };
        Ok(Some(Order {
            zone,
            root: self.root(zone)?,
            running,
            action,
        }))
    }

    /// The zone's cgroup. One that is known by number only may still have work somewhere below the
    /// governed slice. The whole host's work is anywhere, and only what is held has a place.
    fn root(&self, zone: u32) -> Result<PathBuf> {
        let path = |wanted: u32| {
            let found = self.zones.iter().find(|(number, _)| *number == wanted);
            found.map(|(_, path)| Path::new(cgroups::ROOT).join(path))
        };
        let below_governed = || path(ZONE_UNKNOWN);
        let found = if zone == ZONE_HOST {
            below_governed().map(|root| root.join(HELD_OF_HOST))
        } else {
            path(zone).or_else(below_governed)
        };
        found.context("looking for a zone's cgroup: no table is in force yet")
    }

    fn in_scene<T>(&self, act: impl FnOnce(&Scene<'_>) -> Result<T>) -> Result<T> {
        let gate = &self.gate;
        let label_of = |fd: BorrowedFd<'_>| -> Result<Option<Label>> { Ok(gate.label_of(fd)?) };
        act(&Scene {
            cgroups: Path::new(cgroups::ROOT),
            proc: Path::new("/proc"),
            marks: &OnCgroup,
            carriers: &|| Ok(gate.carriers()?),
            label_of: &label_of,
            nobodies: &|carriers| self.nobodies(carriers),
            // Whoever has enough tasks would otherwise have the daemon ended amid stopping them, again at each start.
            goes_on: &progress::made,
        })
    }

    /// Who is in a zone without a label, by the list of those who carry one.
    pub(super) fn nobodies(&self, carriers: &[Carrier]) -> Result<Vec<Nobody>> {
        let in_force = self.table.as_deref().map(zones_of);
        let mut found = inventory::nobodies(&inventory::Scene {
            cgroups: Path::new(cgroups::ROOT),
            proc: Path::new("/proc"),
            // What a policy named before is nobody's zone any more.
            zones: in_force.as_ref().unwrap_or(&self.zones),
            carriers,
            now: clock::now()?.boot,
        });
        for one in &mut found {
            one.is_settled = self.is_settled(one);
        }
        Ok(found)
    }

    /// It is not about to execute what a service manager made it for.
    pub(super) fn is_settled(&self, one: &Nobody) -> bool {
        one.is_settled || self.crowds.crowded(&one.cgroup)
    }
}
