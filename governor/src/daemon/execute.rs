//! The one place that performs effects.
//!
//! Promises: effects run in the order the engine gave; after a failed record or grant nothing more
//! is granted in that step, and what takes away is still done; every failure is reported back with
//! the effect it belongs to. It decides nothing.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use governor_common::{
    names::ZONE_UNKNOWN,
    row::{CLASS_ATTESTED, CLASS_POLICY},
};
use governor_core::{
    digest::Digest,
    engine::{Class, Effect, Engine, Guard, Input, Table},
    policy::RawBundle,
    time::{BootTime, ClockReading},
};

use super::{clock, draining::LastTaken, failing::Failing, store::Store, unlabelled::Crowds};
use crate::{
    gate::{Drained, Gate, Listed},
    ledger::{Beside, Written},
    lock::KeptLock,
    progress, stopping,
};

/// Everything effects act on.
#[derive(Debug)]
pub(crate) struct Hands {
    pub(crate) gate: Gate,
    pub(crate) ledger: Beside,
    pub(crate) lock: KeptLock,
    pub(crate) store: Store,
    /// The bundle that is being offered, until it is kept or refused.
    pub(crate) offered: Option<(Digest, RawBundle)>,
    /// Digests of the keys that the offered policy was verified with, and how many had to sign.
    pub(crate) keys: Option<(BTreeSet<Digest>, usize)>,
    /// Digests of the keys that break the glass.
    pub(crate) glass_keys: BTreeSet<Digest>,
    /// The table in force, as the engine made it; for explanations.
    pub(crate) table: Option<Arc<Table>>,
    /// The gate is down.
    pub(crate) down: bool,
    /// cgroup path of each zone, by number.
    pub(crate) zones: Vec<(u32, String)>,
    /// Paths that are still to be named as the zones they are.
    pub(crate) unnamed: Option<Vec<(String, u32)>>,
    /// What was found in the rings while somebody waited for the disk.
    pub(super) found: Drained,
    pub(super) taken: LastTaken,
    /// cgroups in which somebody without a label is all the time.
    pub(super) crowds: Crowds,
    /// Records that could not be written since the last one that was.
    pub(super) unwritten: Failing,
    /// The same for locks that could not be kept beside the ledger either.
    pub(super) unkept: Failing,
    #[cfg(feature = "fault-points")]
    pub(crate) fault: crate::fault::Fault,
}

/// What came of a step.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// A grant was not made: the engine from before the step is the true one.
    pub(crate) grant_failed: bool,
    pub(crate) failed: Vec<(Effect, String)>,
    /// Of stops among so many of these the records of the step speak.
    told: usize,
    /// What came of batches of earlier steps.
    pub(crate) written: Vec<Written>,
    /// What to ask the TPM for, once the engine is the next one.
    pub(crate) begun: Vec<Effect>,
    /// When the last of what takes away was done.
    pub(crate) revoked: Option<BootTime>,
    pub(crate) reached: Reached,
}

/// How much was taken away, and given back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reached {
    /// Rows that were taken out of the table.
    pub(crate) rows: usize,
    /// cgroups that were frozen, quarantined or killed.
    pub(crate) stopped: stopping::Stopped,
    /// cgroups that went on, or did not although they were meant.
    pub(crate) thawed: stopping::Thawed,
}

impl Outcome {
    /// What the engine is to be told of it.
    pub(crate) fn into_failed(self) -> Vec<Input> {
        Input::of_failed(self.failed, self.told)
    }
}

impl std::ops::AddAssign for Reached {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.stopped += other.stopped;
        self.thawed += other.thawed;
    }
}

impl Hands {
    /// Performs the effects of one step, which leads to `next`.
    pub(crate) fn perform(
        &mut self,
        now: ClockReading,
        next: &Engine,
        effects: Vec<Effect>,
    ) -> Outcome {
        let grants = effects.iter().any(Effect::grants);
        let hangs = effects.iter().any(Effect::hangs_on_records);
        let mut outcome = Outcome::default();
        let mut effects = effects.into_iter().peekable();
        while let Some(effect) = effects.next() {
            progress::made();
            self.point();
            if effect.stops() {
                // What is stopped in one step is looked for once. Where that fails it does for all that are looked
                // for, and what one workload brought about is to say nothing about the host.
                let of_risk = effect.is_of_risk();
                let same = |next: &Effect| next.stops() && next.is_of_risk() == of_risk;
                let more = std::iter::from_fn(|| effects.next_if(same));
                let run = std::iter::once(effect).chain(more).collect();
                self.stop(run, &mut outcome);
                outcome.revoked = clock::boot().ok();
                continue;
            }
            if outcome.grant_failed && !effect.revokes() {
                continue;
            }
            let unwritten = |(failed, _): &(Effect, String)| matches!(failed, Effect::Append(_));
            if matches!(effect, Effect::AcknowledgeSignals(_))
                && outcome.failed.iter().any(unwritten)
            {
                // What is not written down is not dealt with; it comes again.
                continue;
            }
            let unburied =
                |(failed, _): &(Effect, String)| matches!(failed, Effect::AddTombstone(_));
            if matches!(effect, Effect::BreakGlass { .. }) && outcome.failed.iter().any(unburied) {
                let error = "content that is revoked could not be revoked everywhere".to_owned();
                outcome.failed.push((effect, error));
                continue;
            }
            if matches!(effect, Effect::RequestQuote { .. } | Effect::ExtendPcrs(_)) {
                outcome.begun.push(effect);
                continue;
            }
            if let Effect::Append(kinds) = &effect
                && !hangs
                && effect.can_wait()
            {
                if let Err(error) = self.record_beside(now, kinds) {
                    self.say(&effect, &error);
                    outcome.failed.push((effect, format!("{error:#}")));
                }
                continue;
            }
            if let Err(error) = self.perform_one(now, next, &effect, &mut outcome) {
                if grants && !effect.revokes() {
                    outcome.grant_failed = true;
                }
                self.say(&effect, &error);
                outcome.failed.push((effect, format!("{error:#}")));
                continue;
            }
            if effect.revokes() {
                outcome.revoked = clock::boot().ok();
            }
            if matches!(effect, Effect::Append(_) | Effect::BeginLedger(_)) {
                self.went_well();
            }
        }
        #[cfg(feature = "fault-points")]
        self.fault.over();
        outcome
    }

    /// A record that cannot be written is tried again at each tick.
    pub(super) fn say(&mut self, effect: &Effect, error: &anyhow::Error) {
        let of_ledger = matches!(effect, Effect::Append(_));
        // A ledger that waits for an operator refuses every record; it was said once.
        if of_ledger && (!self.unwritten.failed() || self.ledger.is_broken()) {
            return;
        }
        let of_lock = matches!(effect, Effect::KeepLock(_));
        if of_lock && !self.unkept.failed() {
            return;
        }
        let (name, more) = (
            effect.name(),
            match of_ledger || of_lock {
                true => "; further tries are counted until one goes well",
                false => "",
            },
        );
        tracing::error!(effect = name, "could not {name}: {error:#}{more}");
    }

    /// A place where a daemon that was built for tests may be made to end; nothing in any other.
    fn point(&mut self) {
        #[cfg(feature = "fault-points")]
        self.fault.point();
    }

    fn perform_one(
        &mut self,
        now: ClockReading,
        next: &Engine,
        effect: &Effect,
        outcome: &mut Outcome,
    ) -> Result<()> {
        match effect {
            Effect::Append(kinds) => {
                self.gate.try_measuring()?;
                let so_far = outcome.failed.len();
                // Whom a stop did not reach is written down together with what it was for.
                let lost = next.also_lost(&outcome.failed, outcome.told);
                self.record(now, &[kinds.as_slice(), &lost].concat(), outcome)?;
                outcome.told = so_far;
                self.point();
                self.gate
                    .note_ledger_head(self.ledger.head())
                    .context("noting the ledger's head")
            }
            Effect::BeginLedger(kinds) => {
                self.gate.try_measuring()?;
                self.wait_for_disk(|written| outcome.written.push(written))?;
                self.ledger.begin(now, kinds)?;
                self.point();
                self.gate
                    .note_new_ledger(self.ledger.head())
                    .context("noting the ledger's head")
            }
            Effect::KeepLock(reasons) => {
                self.lock.keep(reasons)?;
                self.unkept.went_well();
                Ok(())
            }
            Effect::ForgetLock => self.lock.forget(),
            Effect::AcknowledgeSignals(dealt) => self
                .gate
                .acknowledge(dealt)
                .context("acknowledging signals"),
            Effect::KeepPolicy(digest) => match self.offered.take() {
                Some((offered, bundle)) if offered == *digest => self.store.keep(*digest, &bundle),
                // A policy that was read back from the store is there already.
                _ => {
                    let kept = self.store.load(*digest)?.is_some();
                    ensure!(kept, "the policy {digest} is neither offered nor kept");
                    Ok(())
                }
            },
            Effect::TakeDown => {
                self.gate.take_down().context("taking the gate down")?;
                self.down = true;
                Ok(())
            }
            Effect::Guard(guard) => self.arm(guard).context("arming the guard"),
            Effect::InstallTable(table) => self.install(table),
            Effect::SetLease {
                deadline,
                trips,
                epoch,
            } => self
                .gate
                .set_lease(*deadline, *trips, *epoch)
                .context("setting the lease"),
            Effect::BreakGlass { until } => self
                .gate
                .set_break_glass(until.0, now.boot.0)
                .context("lifting denials"),
            Effect::EndBreakGlass { at } => self
                .gate
                .end_break_glass(at.0)
                .context("ending break-glass"),
            Effect::ForgetBreakGlass => self
                .gate
                .forget_break_glass(now.boot.0)
                .context("forgetting break-glass"),
            Effect::DropLease => self.gate.drop_lease().context("ending the lease"),
            Effect::MarkRevokedAll(revoked) => self
                .gate
                .mark_revoked_all(*revoked)
                .context("noting that everything is revoked"),
            Effect::RaiseEpoch { class, to } => self.raise(*class, *to),
            Effect::AddTombstone(key) => self
                .gate
                .add_tombstone(*key, now.boot.0)
                .context("setting a tombstone"),
            Effect::RemoveRows(keys) => {
                outcome.reached.rows += self.gate.remove_rows(keys).context("removing rows")?;
                Ok(())
            }
            Effect::Thaw(thaw) => {
                outcome.reached.thawed += self.thaw(now, thaw)?;
                Ok(())
            }
            // Taken out before: they are done together.
            Effect::Stop { .. } | Effect::Hold { .. } | Effect::Bar { .. } => Ok(()),
            // Taken out before: it is not done, it is begun.
            Effect::RequestQuote { .. } | Effect::ExtendPcrs(_) => Ok(()),
        }
    }

    /// Zone paths first (they only govern more), then the rules of the new generation, which no
    /// row names yet, then the table, whole. A path that becomes another zone's is nobody's until then:
    /// the rows of the table before were never meant for it.
    fn install(&mut self, table: &Arc<Table>) -> Result<()> {
        let named = self.gate.zones_in_force().context("listing the zones")?;
        let meanwhile = until_swapped(&named, &table.zone_paths);
        self.gate
            .set_zone_paths(&meanwhile)
            .context("naming the zones")?;
        self.point();
        self.gate
            .set_egress(table.generation, &table.egress)
            .context("writing destinations")?;
        self.point();
        let before = match table.grants_nothing {
            true => self.gate.table().context("reading the table in force")?,
            false => Vec::new(),
        };
        self.gate
            .swap_table(table.rows_after(before))
            .context("swapping the table")?;
        self.point();
        // The table is in force: from here on nothing may look as if it were not. Destinations that
        // no row names grant nothing.
        if let Err(error) = self.gate.drop_egress_except(table.generation) {
            tracing::warn!("dropping old destinations: {error}");
        }
        // What the policy names no more may still have to be stopped.
        let gone = std::mem::replace(&mut self.zones, zones_of(table));
        for (zone, path) in gone {
            if self.zones.iter().all(|(known, _)| *known != zone) {
                self.zones.push((zone, path));
            }
        }
        self.table = Some(Arc::clone(table));
        self.unnamed = (meanwhile != table.zone_paths).then(|| table.zone_paths.clone());
        self.point();
        self.name_zones();
        Ok(())
    }

    /// Names the zones that are new since the last swap, or tries again: until then they deny.
    pub(super) fn name_zones(&mut self) {
        let Some(paths) = self.unnamed.take() else {
            return;
        };
        if let Err(error) = self.gate.set_zone_paths(&paths) {
            tracing::warn!("naming the zones that are new, which deny until then: {error}");
            self.unnamed = Some(paths);
        }
    }

    fn raise(&mut self, class: Class, to: u64) -> Result<()> {
        let class = match class {
            Class::Attested => CLASS_ATTESTED,
            Class::Policy => CLASS_POLICY,
        };
        loop {
            let reached = self.gate.raise_epoch(class).context("raising an epoch")?;
            if reached >= to {
                return Ok(());
            }
        }
    }
}

/// cgroup path of each of its zones, by number.
pub(super) fn zones_of(table: &Table) -> Vec<(u32, String)> {
    by_number(&table.zone_paths)
}

/// The same of paths as the kernel has them.
pub(super) fn by_number(paths: &[(String, u32)]) -> Vec<(u32, String)> {
    paths
        .iter()
        .map(|(path, zone)| (*zone, path.trim_start_matches('/').to_owned()))
        .collect()
}

/// Zones by path, for the time in which the table before is in force.
fn until_swapped(before: &[(String, u32)], after: &[(String, u32)]) -> Vec<(String, u32)> {
    let stays = |named: &(String, u32)| before.contains(named);
    let paths = after.iter().map(|named| match stays(named) {
        true => named.clone(),
        false => (named.0.clone(), ZONE_UNKNOWN),
    });
    paths.collect()
}

impl Hands {
    fn arm(&mut self, guard: &Guard) -> Result<()> {
        let (keys, threshold) = self.keys.as_ref().context("no policy was verified")?;
        let listed = listed(guard, keys, *threshold, &self.glass_keys);
        Ok(self.gate.arm(&listed)?)
    }
}

fn listed(
    guard: &Guard,
    keys: &BTreeSet<Digest>,
    threshold: usize,
    glass_keys: &BTreeSet<Digest>,
) -> Listed {
    let digests = |set: &BTreeSet<Digest>| set.iter().map(|digest| *digest.bytes()).collect();
    Listed {
        keys: digests(keys),
        threshold: threshold as u64,
        glass_keys: digests(glass_keys),
        daemon: digests(&guard.daemon),
        libraries: digests(&guard.libraries),
        modules: digests(&guard.modules),
        kexec: digests(&guard.kexec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_becomes_another_zones_is_nobodys_until_the_table_is_swapped() {
        let named = |paths: &[(&str, u32)]| -> Vec<(String, u32)> {
            let owned = paths.iter().map(|(path, zone)| ((*path).to_owned(), *zone));
            owned.collect()
        };
        let root = ("/governed.slice", ZONE_UNKNOWN);
        let before = named(&[root, ("/governed.slice/a", 1), ("/governed.slice/b", 2)]);
        assert_eq!(until_swapped(&before, &before), before);
        let swapped = named(&[
            root,
            ("/governed.slice/a", 2),
            ("/governed.slice/b", 1),
            ("/governed.slice/c", 3),
        ]);
        let meanwhile = until_swapped(&before, &swapped);
        assert!(meanwhile.iter().all(|(_, zone)| *zone == ZONE_UNKNOWN));
        let paths = |named: &[(String, u32)]| -> Vec<String> {
            named.iter().map(|(path, _)| path.clone()).collect()
        };
        assert_eq!(paths(&meanwhile), paths(&swapped), "all of it is governed");
    }
}
