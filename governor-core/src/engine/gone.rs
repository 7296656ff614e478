//! Zones and workloads that a policy had and the one in force has not, and what still runs under them.
//!
//! Promises: of every name that a policy ever had it is known what becomes of running copies, as the
//! last policy that had it said, the stricter of zone and workload. The ledger says so before a table
//! without the name is in force, so a daemon that is killed before it stopped them is followed by one
//! that does. Where no policy is active the same is known of all names, and whether a zone needs a lease;
//! where the names are lost, the table in force says of which numbers it does, and those are frozen. One that
//! grants nothing says it too, for the daemon after this.
//! Only ever takes away, and leaves alone what a policy names again, a zone that is observed,
//! and everything while the glass is broken.

use std::collections::{BTreeMap, BTreeSet};

use governor_common::{
    Label, Row,
    names::{SCOPE_ZONE, ZONE_HOST},
    row::{CLASS_ATTESTED, MODE_OBSERVE, RowKey},
};

use super::{Effect, Engine};
use crate::{
    lineage::Recovered,
    policy::{HOST, Ids, Mode, OnRevoke, Policy, Requires, Zone},
};

/// What the last policy that had a name said of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Fates {
    /// What becomes of running copies, by `zone` or `zone/workload`.
    on_revoke: BTreeMap<String, OnRevoke>,
    /// Whether what runs in a zone needs a lease; zones of which nobody said so are not in here.
    leased: BTreeMap<String, bool>,
}

impl Fates {
    pub(super) fn found(recovered: &Recovered) -> Self {
        let on_revoke = recovered.on_revoke.iter();
        let leased = recovered.leased.iter();
        Self {
            on_revoke: on_revoke
                .filter_map(|(name, number)| Some((name.clone(), read(*number)?)))
                .collect(),
            leased: leased
                .filter_map(|(name, number)| Some((name.clone(), read_leased(*number)?)))
                .collect(),
        }
    }

    /// Zones of the kernel's table that need a lease. Of those that a record says more of it stands; the
    /// others are returned that have no name any more.
    pub(super) fn learn_leased(&mut self, ids: &Ids, zones: &BTreeSet<u32>) -> Vec<u32> {
        let mut unnamed = zones.clone();
        for (name, number) in &ids.zones {
            if unnamed.remove(number) {
                self.leased.entry(name.clone()).or_insert(true);
            }
        }
        unnamed.into_iter().collect()
    }

    /// What this policy says holds from now on, also for names that a later one drops.
    pub(super) fn learn(&mut self, policy: &Policy) {
        for (name, zone) in policy.zones() {
            self.on_revoke.insert(name.clone(), zone.on_revoke);
            self.leased.insert(name.clone(), needs_lease(zone));
        }
        for (name, workload) in policy.workloads() {
            let key = Ids::key(&workload.zone, name);
            self.on_revoke.insert(key, workload.on_revoke);
        }
    }

    /// As records have it.
    pub(super) fn number(&self, name: &str) -> u32 {
        self.on_revoke
            .get(name)
            .map_or(0, |action| written(*action))
    }

    pub(super) fn leased_number(&self, zone: &str) -> u32 {
        match self.leased.get(zone) {
            None => 0,
            Some(false) => UNLEASED,
            Some(true) => LEASED,
        }
    }

    pub(super) fn of_zone(&self, name: &str) -> Option<OnRevoke> {
        self.on_revoke.get(name).copied()
    }
}

impl Engine {
    /// Stops for what the policy in force has no name for. `before`: the policy before it, if this
    /// daemon had one: what that one did not name either was stopped when it came.
    pub(super) fn stop_gone(&self, before: Option<&Policy>) -> Vec<Effect> {
        self.stop_unnamed(|name| before.is_none_or(|before| names(before, name)))
    }

    /// The same for workloads of zones that were observed until now, where they were left alone.
    pub(super) fn stop_gone_from(&self, zone: &str) -> Vec<Effect> {
        self.stop_unnamed(|name| zone_of(name) == zone)
    }

    /// What of these processes this policy would stop for having no `[zone.host]`: how many of which
    /// workload, and how. A label stays when its zone goes, and without rows it could start and send
    /// nothing, so what carries one is over, as in any zone; but the rest of the host goes on as if
    /// nothing had been, and whoever drops the zone may have thought that all of it does. What keeps the
    /// host alive has no label and is none of these.
    pub fn ends_with_host(
        &self,
        policy: &Policy,
        labels: impl IntoIterator<Item = Label>,
    ) -> BTreeMap<(String, OnRevoke), usize> {
        let mut ends = BTreeMap::new();
        if policy.host().is_some() {
            return ends;
        }
        for label in labels.into_iter().filter(|label| label.zone == ZONE_HOST) {
            let key = self.ids.workloads.iter().find_map(|(key, number)| {
                (zone_of(key) == HOST && *number == label.workload).then_some(key.as_str())
            });
            let name = key.unwrap_or(HOST);
            let said = [HOST, name].map(|name| self.fates.on_revoke.get(name));
            // Nobody ever said, of what a ledger forgot: it is not stopped either.
            let action = said.into_iter().flatten().max();
            if let Some(action) = action.filter(|action| **action != OnRevoke::Deny) {
                *ends.entry((name.to_owned(), *action)).or_default() += 1;
            }
        }
        ends
    }

    /// Where no policy is active: stops for what runs on a lease in the zones that `which` picks; frozen, where
    /// nobody ever said what becomes of it. Of a zone
    /// of which nobody said that it needs one, what runs goes on: it may be of the policy class, and the
    /// kernel starts and connects nothing there without a policy. One that comes stops it.
    pub(super) fn stop_leased(&self, which: impl Fn(&str) -> bool) -> Vec<Effect> {
        let leased = |zone: &str| which(zone) && self.fates.leased.get(zone) == Some(&true);
        let mut stops = self.stop_said(leased);
        if self.active.is_none() {
            stops.extend(self.untold_leased(which));
        }
        stops
    }

    /// Freezes what runs on a lease in zones of which nobody ever said what becomes of it.
    fn untold_leased(&self, which: impl Fn(&str) -> bool) -> Vec<Effect> {
        let zones = self.ids.zones.iter().filter(|(name, _)| {
            let untold = self.fates.of_zone(name).is_none();
            untold && self.fates.leased.get(*name) == Some(&true) && which(name)
        });
        zones.map(|(_, zone)| frozen(*zone)).collect()
    }

    /// Where no policy is active: stops for what runs in the zones that `which` picks.
    pub(super) fn stop_said(&self, which: impl Fn(&str) -> bool) -> Vec<Effect> {
        if self.active.is_some() {
            return Vec::new();
        }
        let known = self.fates.on_revoke.iter();
        known
            .filter(|(name, _)| which(zone_of(name)))
            .filter_map(|(name, action)| self.stop_of_gone(name, *action))
            .collect()
    }

    /// Of these, what no policy names now and no zone lets run. While the glass is broken everything goes
    /// on, until its end.
    fn stop_unnamed(&self, meant: impl Fn(&str) -> bool) -> Vec<Effect> {
        let policy = self.policy().map(|verified| verified.policy());
        let Some(policy) = policy.filter(|_| self.broken_glass().is_none()) else {
            return Vec::new();
        };
        let known = self.fates.on_revoke.iter();
        let mut stops: Vec<Effect> = known
            .filter(|(name, _)| meant(name) && !names(policy, name))
            .filter(|(name, _)| !self.lets_run(policy, zone_of(name)))
            .filter_map(|(name, action)| self.stop_of_gone(name, *action))
            .collect();
        let untold = self.untold_leased(|name| meant(name) && !names(policy, name));
        stops.extend(untold);
        stops
    }

    /// Whether a zone that is still there lets run what nothing authorizes.
    fn lets_run(&self, policy: &Policy, zone: &str) -> bool {
        policy.zone(zone).is_some_and(|described| {
            described.mode == Mode::Observe || self.observed.contains_key(zone)
        })
    }

    /// What runs on a lease in zones whose names are lost: nobody says how, and it is not to go on.
    pub(super) fn stop_unnamed_leased(&self, effects: &mut Vec<Effect>) {
        effects.extend(self.unnamed.iter().map(|zone| frozen(*zone)));
    }

    fn stop_of_gone(&self, name: &str, action: OnRevoke) -> Option<Effect> {
        let zone = self.ids.zone(zone_of(name))?;
        let workload = match name.split_once('/') {
            Some((zone, workload)) => Some(self.ids.workload(zone, workload)?),
            None => None,
        };
        (action != OnRevoke::Deny).then_some(Effect::Stop {
            zone,
            workload,
            action,
            barred: false,
        })
    }
}

const fn frozen(zone: u32) -> Effect {
    Effect::Stop {
        zone,
        workload: None,
        action: OnRevoke::Freeze,
        barred: false,
    }
}

/// The zones in which such rows let run what they let run by a lease, also those that an operator has observed for
/// a while. Not the whole host: what a ledger forgot of that is not stopped either.
pub fn leased<'r>(rows: impl IntoIterator<Item = &'r Row>) -> BTreeSet<u32> {
    let of_lease = |row: &&Row| {
        // Observed as policy has it, it is for exactly as long as the policy is valid.
        let always = row.mode == MODE_OBSERVE && row.observe_until == row.not_after;
        let of_zone = row.key.scope == SCOPE_ZONE && row.key.zone != ZONE_HOST;
        of_zone && row.class == CLASS_ATTESTED && !always
    };
    let rows = rows.into_iter().filter(of_lease);
    rows.map(|row| row.key.zone).collect()
}

/// A row that says that what runs in the zone needs a lease, for whoever finds the table. Without a mode a verdict
/// takes it for none.
pub(super) fn needs_lease_row(zone: u32) -> Row {
    Row {
        key: RowKey {
            zone,
            scope: SCOPE_ZONE,
            digest: [0; 32],
        },
        class: CLASS_ATTESTED,
        ..Row::default()
    }
}

/// Whether a policy has this zone, or this workload in this zone.
pub(super) fn names(policy: &Policy, name: &str) -> bool {
    match name.split_once('/') {
        None => policy.zone(name).is_some(),
        Some((zone, workload)) => policy
            .workload(workload)
            .is_some_and(|described| described.zone == zone),
    }
}

/// Whether what this zone lets run is let run by a lease. One that is observed was never held back.
pub(super) fn needs_lease(zone: &Zone) -> bool {
    zone.requires == Requires::Attestation && zone.mode == Mode::Enforce
}

fn zone_of(name: &str) -> &str {
    name.split_once('/').map_or(name, |(zone, _)| zone)
}

const fn written(action: OnRevoke) -> u32 {
    match action {
        OnRevoke::Deny => 1,
        OnRevoke::Freeze => 2,
        OnRevoke::Quarantine => 3,
        OnRevoke::Kill => 4,
    }
}

/// What a later version may have meant is the strictest.
const fn read(number: u32) -> Option<OnRevoke> {
    match number {
        0 => None,
        1 => Some(OnRevoke::Deny),
        2 => Some(OnRevoke::Freeze),
        3 => Some(OnRevoke::Quarantine),
        4.. => Some(OnRevoke::Kill),
    }
}

/// What a later version may have meant is not known here.
const fn read_leased(number: u32) -> Option<bool> {
    match number {
        UNLEASED => Some(false),
        LEASED => Some(true),
        0 | 3.. => None,
    }
}

const UNLEASED: u32 = 1;
const LEASED: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_record_says_is_read_back_and_what_it_cannot_say_is_the_strictest() {
        use OnRevoke::{Deny, Freeze, Kill, Quarantine};
        for action in [Deny, Freeze, Quarantine, Kill] {
            assert_eq!(read(written(action)), Some(action));
        }
        assert_eq!((read(0), read(5)), (None, Some(Kill)));
    }

    #[test]
    fn what_a_record_does_not_say_of_a_lease_is_not_known() {
        let read = [0, 1, 2, 3].map(read_leased);
        assert_eq!(read, [None, Some(false), Some(true), None]);
    }
}
