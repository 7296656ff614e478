//! What a restarted daemon learns from its ledger.
//!
//! Folds records in order. Nothing recovered grants anything: serials only forbid older policies,
//! numbers only keep their names, tombstones and stops that are owed only take away, clocks only forbid earlier ones, and a
//! lock stays until an operator unlocks.

use std::collections::{BTreeMap, BTreeSet};

use governor_common::{names::ZONE_EVERY, row::TombstoneKey};

use super::{Broken, Entry, GlassBroken, Kind, Named, OwedStop, Since, TombstoneRecord, TpmClock};
use crate::{attest::PcrSelection, digest::Digest, policy::Taken, time::Span};

/// The reason that a lock of which nothing can be read is locked for.
pub const LOCK_UNREADABLE: &str = "lock-unreadable";

/// How the record of a start calls a gate that was made by it.
pub const FRESH: &str = "fresh";

/// The part of the engine's state that outlives a boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Highest serial ever accepted, with the digest it was accepted with.
    pub highest: Option<(u64, Digest)>,
    /// Numbers of zones.
    pub zones: BTreeMap<String, u32>,
    /// Numbers of workloads, by `zone/workload`.
    pub workloads: BTreeMap<String, u32>,
    /// Numbers that were in use when their names were lost with another ledger.
    pub taken: Taken,
    /// What becomes of running copies of a zone or `zone/workload` that no policy names any more, as
    /// [`Named`] has it; those of which nobody said anything are not in here.
    pub on_revoke: BTreeMap<String, u32>,
    /// Whether what runs in a zone needs a lease, as [`Named`] has it; zones of which the last record of
    /// them does not say it are not in here.
    pub leased: BTreeMap<String, u32>,
    pub tombstones: BTreeSet<TombstoneKey>,
    /// Highest table generation that was granted.
    pub generation: u32,
    /// An operator revoked everything and no policy was loaded by hand since.
    pub revoked_all: bool,
    /// Why the host is locked, if it is. Whoever read the file adds what is kept beside it.
    pub locked: Vec<String>,
    /// How the last run ended, as far as trust goes.
    pub last_trust: Option<String>,
    /// The TPM's clock at the last accepted quote, and the boot it was quoted in.
    pub tpm: Option<(TpmClock, Vec<u8>)>,
    /// How much of that boot the host had slept through by then, if the record says so.
    pub slept: Option<Span>,
    /// Registers that stand for evidence which was accepted in a boot, and that boot.
    pub quoted: Option<(PcrSelection, Vec<u8>)>,
    /// How far the wall clock had come.
    pub walls: Walls,
    /// Break-glass that began and of whose end there is no record, and the boot it began in.
    pub glass: Option<(GlassBroken, Vec<u8>)>,
    /// When the last one ended, as the kernel keeps it, and the boot.
    pub glass_ended: Option<(u64, Vec<u8>)>,
    /// Stops that failed and were not done since, and the boot: no copy outlives it.
    pub owed: (BTreeSet<OwedStop>, Vec<u8>),
    /// The last record.
    pub last: Option<Since>,
    /// This ledger takes no more records; filled in by whoever read the file.
    pub broken: Option<Broken>,
}

/// The wall clock as records have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walls {
    /// The latest moment that was ever written, in seconds since 1970.
    pub latest: Option<i64>,
    /// The boot of the last record, and by how many nanoseconds the wall clock was ahead of the time
    /// since boot in it, at most.
    pub ahead: Option<(Vec<u8>, i128)>,
}

impl Walls {
    fn learn(&mut self, entry: &Entry) {
        let ahead = i128::from(entry.wall) * 1_000_000_000 - i128::from(entry.boot_ns);
        self.latest = self.latest.max(Some(entry.wall));
        self.ahead = Some(match self.ahead.take() {
            Some((boot, most)) if boot == entry.boot_id => (boot, most.max(ahead)),
            Some(_) | None => (entry.boot_id.clone(), ahead),
        });
    }
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
        self.walls.learn(entry);
        self.last = Some(Since::of(entry));
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
                self.learn_names(&loaded.zones, &loaded.workloads);
            }
            Some(Kind::Revocation(revocation)) => {
                self.revoked_all |= revocation.target == "all";
                self.bury(&revocation.tombstones);
                self.bury_everywhere(&revocation.target);
            }
            Some(Kind::Grant(grant)) => self.generation = self.generation.max(grant.generation),
            Some(Kind::TrustChange(change)) => {
                self.last_trust = Some(change.to.clone());
                if change.to == "locked" {
                    self.locked.clone_from(&change.reasons);
                }
            }
            Some(Kind::Unlocked(unlocked)) => {
                self.locked.clear();
                if unlocked.cleared.iter().any(|code| code == "clock-stepped") {
                    // The operator took the clock as it stood.
                    self.walls = Walls::default();
                    self.walls.learn(entry);
                }
            }
            Some(Kind::Begun(begun)) => {
                if let Ok(bytes) = <[u8; 32]>::try_from(begun.policy.as_slice())
                    && begun.serial > 0
                {
                    self.highest = Some((begun.serial, Digest::new(bytes)));
                }
                self.learn_names(&begun.zones, &begun.workloads);
                self.taken.zone(begun.zones_taken);
                self.taken.workload(begun.workloads_taken);
                self.bury(&begun.tombstones);
                self.revoked_all |= begun.revoked_all;
                self.generation = self.generation.max(begun.generation);
            }
            Some(Kind::Appraisal(appraisal)) => {
                if appraisal.accepted {
                    self.learn_quoted(&appraisal.pcrs, &entry.boot_id);
                }
                if let Some(clock) = appraisal.clock.clone().filter(|_| appraisal.accepted) {
                    self.tpm = Some((clock, entry.boot_id.clone()));
                    self.slept = appraisal.slept.map(Span);
                }
            }
            Some(Kind::GlassBroken(glass)) => {
                self.glass = Some((glass.clone(), entry.boot_id.clone()));
                // The end of one says nothing of the next.
                self.glass_ended = None;
            }
            Some(Kind::GlassEnded(ended)) => {
                self.glass = None;
                self.glass_ended = Some((ended.at, entry.boot_id.clone()));
            }
            Some(Kind::Lost(lost)) => self.owe(&lost.owed, &entry.boot_id),
            Some(Kind::Reached(reached)) => {
                for stop in reached.stops.iter().map(OwedStop::understood) {
                    self.owed.0.remove(&stop);
                }
            }
            // Nobody carries a label that another gate gave.
            Some(Kind::Start(start)) if start.gate == FRESH => self.owed.0.clear(),
            Some(
                Kind::Start(_)
                | Kind::PolicyRefused(_)
                | Kind::Signalled(_)
                | Kind::RiskMet(_)
                | Kind::Disarmed(_)
                | Kind::Unlabelled(_)
                | Kind::Verdict(_)
                | Kind::Gap(_)
                | Kind::ModeChange(_)
                | Kind::Refusal(_)
                | Kind::Held(_)
                | Kind::Resumed(_),
            )
            | None => {}
        }
    }

    fn owe(&mut self, stops: &[OwedStop], boot: &[u8]) {
        if stops.is_empty() {
            return;
        }
        let (owed, of) = &mut self.owed;
        if of != boot {
            owed.clear();
            boot.clone_into(of);
        }
        owed.extend(stops.iter().map(OwedStop::understood));
    }

    /// Number and value, 33 bytes each.
    fn learn_quoted(&mut self, pcrs: &[u8], boot: &[u8]) {
        let numbers = pcrs.chunks(33).filter_map(|one| one.first().copied());
        let Ok(quoted) = PcrSelection::new(numbers) else {
            return;
        };
        let (lasting, boot) = (quoted.lasting(), boot.to_owned());
        self.quoted = Some(match self.quoted.take() {
            Some((known, of)) if of == boot => (known.union(lasting), of),
            Some(_) | None => (lasting, boot),
        });
    }

    fn learn_names(&mut self, zones: &[Named], workloads: &[Named]) {
        for (known, listed) in [(&mut self.zones, zones), (&mut self.workloads, workloads)] {
            for named in listed {
                known.insert(named.name.clone(), named.number);
                // Names of zones have no slash, those of workloads have one.
                if named.on_revoke != 0 {
                    self.on_revoke.insert(named.name.clone(), named.on_revoke);
                }
                // Here silence does take back: what an earlier version wrote since may be of another class.
                if named.leased == 0 {
                    self.leased.remove(&named.name);
                } else {
                    self.leased.insert(named.name.clone(), named.leased);
                }
            }
        }
    }

    /// Records of earlier versions name a digest that was revoked in every zone by their target alone.
    fn bury_everywhere(&mut self, target: &str) {
        let mut digest = [0; 32];
        if let Some(hex) = target.strip_prefix("digest ")
            && hex::decode_to_slice(hex, &mut digest).is_ok()
        {
            self.tombstones.insert(TombstoneKey {
                zone: ZONE_EVERY,
                reserved: 0,
                digest,
            });
        }
    }

    fn bury(&mut self, tombstones: &[TombstoneRecord]) {
        for tombstone in tombstones {
            if let Ok(digest) = <[u8; 32]>::try_from(tombstone.digest.as_slice()) {
                self.tombstones.insert(TombstoneKey {
                    zone: tombstone.zone,
                    reserved: 0,
                    digest,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::{
        Appraisal, Begun, GlassEnded, PolicyLoaded, Revocation, TrustChange, Unlocked,
    };

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
                on_revoke: u32::from(byte),
                leased: u32::from(byte),
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
    fn what_was_said_last_of_running_copies_is_kept_and_silence_takes_nothing_back() {
        let recovered = Recovered::from_entries(&[loaded(7, 4), loaded(8, 2), loaded(9, 0)]);
        assert_eq!(recovered.on_revoke.get("agents"), Some(&2));
        assert_eq!(recovered.leased.get("agents"), None, "not known any more");
        let recovered = Recovered::from_entries(&[loaded(7, 1), loaded(8, 2)]);
        assert_eq!(recovered.leased.get("agents"), Some(&2));
    }

    #[test]
    fn what_an_earlier_version_revoked_in_every_zone_is_held_against_later_ones() {
        let revocation = Revocation {
            target: format!("digest {}", Digest::new([9; 32])),
            ..Revocation::default()
        };
        let recovered = Recovered::from_entries(&[entry(Kind::Revocation(revocation))]);
        let key = TombstoneKey {
            zone: ZONE_EVERY,
            reserved: 0,
            digest: [9; 32],
        };
        assert_eq!(recovered.tombstones, BTreeSet::from([key]));
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

    fn locked(reason: &str) -> Entry {
        entry(Kind::TrustChange(TrustChange {
            from: "trusted".into(),
            to: "locked".into(),
            reasons: vec![reason.into()],
        }))
    }

    #[test]
    fn a_lock_stays_until_an_operator_unlocks() {
        let degraded = entry(Kind::TrustChange(TrustChange {
            from: "locked".into(),
            to: "degraded".into(),
            reasons: Vec::new(),
        }));
        let entries = [locked("ledger-missing: gone"), degraded, loaded(7, 1)];
        let recovered = Recovered::from_entries(&entries);
        assert_eq!(recovered.locked, ["ledger-missing: gone"]);
        let unlocked = entry(Kind::Unlocked(Unlocked::default()));
        let entries = [locked("ledger-missing"), unlocked];
        assert!(Recovered::from_entries(&entries).locked.is_empty());
    }

    #[test]
    fn a_ledger_that_follows_another_forgets_nothing() {
        let begun = Begun {
            serial: 9,
            policy: vec![4; 32],
            zones: vec![Named {
                name: "agents".into(),
                number: 3,
                on_revoke: 4,
                leased: 2,
            }],
            tombstones: vec![TombstoneRecord {
                zone: 3,
                digest: vec![9; 32],
            }],
            revoked_all: true,
            generation: 6,
            zones_taken: 8,
            workloads_taken: 9,
            ..Begun::default()
        };
        let recovered = Recovered::from_entries(&[entry(Kind::Begun(Box::new(begun)))]);
        assert_eq!(recovered.highest, Some((9, Digest::new([4; 32]))));
        assert_eq!(recovered.zones.get("agents"), Some(&3));
        assert_eq!(recovered.on_revoke.get("agents"), Some(&4));
        assert_eq!(recovered.leased.get("agents"), Some(&2));
        assert_eq!(recovered.tombstones.len(), 1);
        assert!(recovered.revoked_all && recovered.generation == 6);
        let taken = (recovered.taken.zones, recovered.taken.workloads);
        assert_eq!(taken, (8, 9));
    }

    #[test]
    fn break_glass_is_known_until_its_end_and_by_its_boot() {
        let broken = |until, boot: u8| Entry {
            boot_id: vec![boot],
            kind: Some(Kind::GlassBroken(GlassBroken {
                until,
                ..GlassBroken::default()
            })),
            ..Entry::default()
        };
        let ended = Entry {
            boot_id: vec![1],
            kind: Some(Kind::GlassEnded(GlassEnded {
                at: 7,
                ..GlassEnded::default()
            })),
            ..Entry::default()
        };
        let over = Recovered::from_entries(&[broken(9, 1), ended.clone()]);
        assert_eq!((over.glass, over.glass_ended), (None, Some((7, vec![1]))));
        let again = Recovered::from_entries(&[broken(9, 1), ended, broken(8, 2)]);
        let found = again.glass.map(|(glass, boot)| (glass.until, boot));
        assert_eq!((found, again.glass_ended), (Some((8, vec![2])), None));
    }

    #[test]
    fn how_long_the_host_had_slept_is_of_the_last_accepted_quote_or_not_known() {
        let quoted = |accepted, slept| {
            entry(Kind::Appraisal(Appraisal {
                accepted,
                slept,
                clock: Some(TpmClock::default()),
                ..Appraisal::default()
            }))
        };
        let slept = |entries: &[Entry]| Recovered::from_entries(entries).slept;
        let (first, rejected) = (quoted(true, Some(5)), quoted(false, Some(9)));
        assert_eq!(slept(&[first.clone(), rejected]), Some(Span(5)));
        assert_eq!(slept(&[first, quoted(true, None)]), None);
    }

    #[test]
    fn the_furthest_the_wall_clock_came_is_kept_for_the_last_boot() {
        let at = |boot: u8, wall: i64, boot_ns: u64| Entry {
            boot_id: vec![boot],
            wall,
            boot_ns,
            ..Entry::default()
        };
        let entries = [at(1, 500, 0), at(2, 100, 0), at(2, 90, 1_000_000_000)];
        let walls = Recovered::from_entries(&entries).walls;
        assert_eq!(walls.latest, Some(500));
        assert_eq!(walls.ahead, Some((vec![2], 100_000_000_000)));
    }
}
