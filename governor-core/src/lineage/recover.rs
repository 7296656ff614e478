//! What a restarted daemon learns from its ledger.
//!
//! Folds records in order. Nothing recovered grants anything: serials only forbid older policies,
//! numbers only keep their names, tombstones only take away, and a lock stays until an operator
//! starts a new ledger.

use std::collections::{BTreeMap, BTreeSet};

use governor_common::row::TombstoneKey;

use super::{Entry, Kind};
use crate::digest::Digest;

/// The part of the engine's state that outlives a boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Highest serial ever accepted, with the digest it was accepted with.
    pub highest: Option<(u64, Digest)>,
    /// Numbers of zones.
    pub zones: BTreeMap<String, u32>,
    /// Numbers of workloads, by `zone/workload`.
    pub workloads: BTreeMap<String, u32>,
    pub tombstones: BTreeSet<TombstoneKey>,
    /// Highest table generation that was granted.
    pub generation: u32,
    /// An operator revoked everything and no policy was loaded by hand since.
    pub revoked_all: bool,
    /// Why the host is locked, if it is.
    pub locked: Vec<String>,
    /// How the last run ended, as far as trust goes.
    pub last_trust: Option<String>,
}

impl Recovered {
    /// Folds a whole ledger.
    pub fn from_entries<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut recovered = Self::default();
        for entry in entries {
            recovered.learn(entry);
        }
        recovered
    }

    fn learn(&mut self, entry: &Entry) {
        match &entry.kind {
            Some(Kind::PolicyLoaded(loaded)) => {
                if let Ok(bytes) = <[u8; 32]>::try_from(loaded.digest.as_slice())
                    && self
                        .highest
                        .is_none_or(|(serial, _)| loaded.serial >= serial)
                {
                    self.highest = Some((loaded.serial, Digest::new(bytes)));
                }
                if loaded.uid.is_some() {
                    self.revoked_all = false;
                }
                for named in &loaded.zones {
                    self.zones.insert(named.name.clone(), named.number);
                }
                for named in &loaded.workloads {
                    self.workloads.insert(named.name.clone(), named.number);
                }
            }
            Some(Kind::Revocation(revocation)) => {
                self.revoked_all |= revocation.target == "all";
                for tombstone in &revocation.tombstones {
                    if let Ok(digest) = <[u8; 32]>::try_from(tombstone.digest.as_slice()) {
                        let key = TombstoneKey {
                            zone: tombstone.zone,
                            reserved: 0,
                            digest,
                        };
                        self.tombstones.insert(key);
                    }
                }
            }
            Some(Kind::Grant(grant)) => self.generation = self.generation.max(grant.generation),
            Some(Kind::TrustChange(change)) => {
                self.last_trust = Some(change.to.clone());
                if change.to == "locked" {
                    self.locked.clone_from(&change.reasons);
                }
            }
            Some(
                Kind::Start(_)
                | Kind::PolicyRefused(_)
                | Kind::Appraisal(_)
                | Kind::Verdict(_)
                | Kind::Gap(_)
                | Kind::ModeChange(_)
                | Kind::Lost(_)
                | Kind::Refusal(_),
            )
            | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::{Named, PolicyLoaded, Revocation, TombstoneRecord};

    fn entry(kind: Kind) -> Entry {
        Entry {
            schema: 1,
            kind: Some(kind),
            ..Entry::default()
        }
    }

    fn loaded(serial: u64, byte: u8) -> Entry {
        entry(Kind::PolicyLoaded(PolicyLoaded {
            serial,
            digest: vec![byte; 32],
            zones: vec![Named {
                name: "agents".into(),
                number: 1,
            }],
            ..PolicyLoaded::default()
        }))
    }

    #[test]
    fn the_highest_serial_wins_whatever_the_order() {
        let recovered = Recovered::from_entries(&[loaded(7, 1), loaded(9, 2), loaded(8, 3)]);
        assert_eq!(recovered.highest, Some((9, Digest::new([2; 32]))));
        assert_eq!(recovered.zones.get("agents"), Some(&1));
    }

    #[test]
    fn tombstones_are_kept() {
        let revocation = Revocation {
            tombstones: vec![TombstoneRecord {
                zone: 3,
                digest: vec![9; 32],
            }],
            ..Revocation::default()
        };
        let recovered = Recovered::from_entries(&[entry(Kind::Revocation(revocation))]);
        let key = TombstoneKey {
            zone: 3,
            reserved: 0,
            digest: [9; 32],
        };
        assert!(recovered.tombstones.contains(&key));
    }
}
