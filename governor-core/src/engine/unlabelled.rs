//! What runs in zones without a label.
//!
//! Promises: it is stopped where policy says so and the zone denies what is not listed at this moment;
//! anywhere else it is written down and goes on. Stops come before the record of them. One that fails is not
//! owed and speaks against nobody: whoever is still there is found again, and judged by what holds then.

use std::collections::{BTreeMap, BTreeSet};

use super::{Effect, Engine, Grip, Running};
use crate::{
    lineage::{self, Kind},
    policy::Unlabelled,
};

impl Engine {
    /// What becomes of it, by zone; zones where it goes on are left out. While the glass is broken, and
    /// while a zone is observed, everything goes on.
    pub fn ends_unlabelled(&self) -> BTreeMap<&str, Grip> {
        let policy = self.policy().map(|verified| verified.policy());
        let Some(policy) = policy.filter(|_| self.broken_glass().is_none()) else {
            return BTreeMap::new();
        };
        let relaxed = self.relaxed();
        let zones = policy.zones().iter();
        let enforced = zones.filter(|(name, _)| !relaxed.contains(name.as_str()));
        let ends = enforced.filter_map(|(name, zone)| {
            let grip = match zone.unlabelled {
                Unlabelled::Leave => return None,
                Unlabelled::Freeze => Grip::Pause,
                Unlabelled::Kill => Grip::Kill,
            };
            Some((name.as_str(), grip))
        });
        ends.collect()
    }

    pub(super) fn unlabelled_found(
        &self,
        zones: &BTreeSet<String>,
        news: Vec<lineage::Unlabelled>,
        effects: &mut Vec<Effect>,
    ) {
        let ends = self.ends_unlabelled();
        for (name, grip) in ends.iter().filter(|(name, _)| zones.contains(**name)) {
            let Some(zone) = self.ids.zone(name) else {
                continue;
            };
            effects.push(Effect::Hold {
                zone,
                running: Running::Unlabelled,
                grip: *grip,
            });
        }
        let told = news.into_iter().map(|one| {
            let grip = ends.get(one.zone.as_str()).map(|grip| grip.name());
            Kind::Unlabelled(lineage::Unlabelled {
                grip: grip.unwrap_or_default().to_owned(),
                ..one
            })
        });
        let kinds: Vec<Kind> = told.collect();
        if !kinds.is_empty() {
            effects.push(Effect::Append(kinds));
        }
    }
}
