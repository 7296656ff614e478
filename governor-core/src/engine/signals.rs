//! What locks a host, and the operator's word that ends it.
//!
//! Promises: an alarm of the kernel takes every attested authorization and locks; what was only tried
//! and refused is written down and nothing else; a signal is acknowledged after the record of it and
//! never before, so that what was not dealt with comes again. Unlocking is written down before it
//! counts, clears what is an operator's to clear, and grants nothing: a fresh quote is due. A ledger that
//! begins anew gives nobody a number that something in the kernel still has. A lock of which no record can
//! be written is kept beside the ledger.

use std::collections::BTreeMap;

use governor_common::Signal;

use super::{Cause, Clears, Effect, Engine, Refused, Trust, cause, parts, records};
use crate::{
    digest::Digest,
    lineage::{Begun, Broken, Flaw, Kind, Unlocked},
    policy::Taken,
    time::ClockReading,
};

impl Cause {
    /// The cause that a flaw of the ledger is.
    pub(super) const fn of_ledger(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Missing => Self::LedgerMissing,
            Flaw::RolledBack => Self::LedgerRolledBack,
            Flaw::Contradicting => Self::LedgerContradiction,
            Flaw::Unreadable => Self::LedgerUnreadable,
        }
    }
}

impl Engine {
    /// Signals beyond what was acknowledged.
    pub(super) fn signalled(
        &mut self,
        now: ClockReading,
        seen: BTreeMap<Signal, u64>,
        effects: &mut Vec<Effect>,
    ) {
        let mut dealt = BTreeMap::new();
        for (signal, count) in seen.into_iter().filter(|(_, count)| *count > 0) {
            let cause = Cause::Tampered(signal);
            let news = signal.is_alarm() && !self.trust.has(&cause);
            if news {
                self.degrade(now, cause, format!("{count} times"), effects);
            }
            // Beyond the budget it stays unacknowledged, adds up in the kernel and comes again.
            if news || self.budget.take(now.boot, 1) == 1 {
                dealt.insert(signal, count);
            }
        }
        if dealt.is_empty() {
            return;
        }
        let kinds = dealt.iter().map(|(s, n)| records::signalled(*s, *n));
        effects.push(Effect::Append(kinds.collect()));
        effects.push(Effect::AcknowledgeSignals(dealt));
    }

    /// The ledger is not the one that was written.
    pub(super) fn ledger_broken(
        &mut self,
        now: ClockReading,
        broken: Broken,
        effects: &mut Vec<Effect>,
    ) {
        let (cause, detail) = (Cause::of_ledger(broken.flaw), broken.detail.clone());
        self.broken = Some(broken);
        self.degrade(now, cause, detail, effects);
    }

    /// An operator has looked.
    pub(super) fn unlock(
        &mut self,
        now: ClockReading,
        reason: &str,
        taken: Result<Taken, String>,
        uid: u32,
        effects: &mut Vec<Effect>,
    ) -> Result<String, Refused> {
        if !matches!(self.trust, Trust::Locked(_)) {
            let why = "the host is not locked; `governor status` says what clears what stands";
            return Err(Refused::Invalid(why.into()));
        }
        if self.broken.is_some() {
            // Its names may be gone, and with them what each number meant.
            let buried = self.tombstones.iter().map(|key| key.zone);
            let mut taken = taken.map_err(|why| {
                Refused::Denied(format!(
                    "a new ledger numbers zones and workloads anew, and which numbers what runs still \
                     has is not known ({why}): try again, or reboot"
                ))
            })?;
            buried.for_each(|zone| taken.zone(zone));
            self.ids.taken = self.ids.taken.and(taken);
        }
        let before = self.trust.name();
        let standing = self.trust.causes().into_keys();
        let cleared: Vec<String> = standing.filter(Cause::locks).map(|c| c.code()).collect();
        let takes_the_clock = self.trust.has(&Cause::ClockStepped);
        if takes_the_clock {
            self.clocks.take(now);
        }
        self.trust = self.trust.clone().cleared(Clears::Operator);
        // What is still owed comes first: a lock that is written down after its end would stand again
        // at the next start.
        let mut kinds = core::mem::take(&mut self.owed_records);
        kinds.extend([
            records::unlocked(Unlocked {
                reason: reason.to_owned(),
                uid: Some(uid),
                cleared: cleared.clone(),
            }),
            records::trust_change(before, &self.trust),
        ]);
        if let Some(broken) = self.broken.take() {
            kinds.extend(self.glass_for_a_new_ledger(&kinds));
            let mut first = self.follow(&broken);
            first.append(&mut kinds);
            // Whoever runs now runs on, whatever ledger says that they are to be stopped.
            first.extend(self.lost_again("owed since before this ledger"));
            effects.push(Effect::BeginLedger(first));
        } else {
            effects.push(Effect::Append(kinds));
        }
        // A lock that is kept beside the ledger outlives its record, never the other way round.
        effects.push(Effect::ForgetLock);
        self.kept_lock.clear();
        if takes_the_clock {
            self.reckon_again(now, effects);
        }
        self.next_quote = now.boot;
        self.request_quote_if_due(now, effects);
        Ok(format!("cleared {}", cleared.join(", ")))
    }

    /// The record of a lock is owed: until it is written a reboot would forget it.
    pub(super) fn keep_lock(&mut self, effects: &mut Vec<Effect>) {
        let locks =
            |kind: &Kind| matches!(kind, Kind::TrustChange(change) if change.to == "locked");
        if !self.owed_records.iter().any(locks) {
            return;
        }
        let causes = self.trust.causes().into_iter();
        let reasons: Vec<String> = causes
            .filter(|(cause, _)| cause.locks() && !cause.is_of_this_start())
            .map(|(cause, detail)| cause::written(&cause, &detail))
            .collect();
        if !reasons.is_empty() && reasons != self.kept_lock {
            self.kept_lock.clone_from(&reasons);
            effects.push(Effect::KeepLock(reasons));
        }
    }

    /// The end of a lock is written down, and what is kept beside the ledger says that it stands on. So it does,
    /// and the ledger is to say so too.
    pub(super) fn lock_again(&mut self, error: &str, effects: &mut Vec<Effect>) {
        self.kept_lock.clear();
        // What came before it in its step is written: another ledger, if there was to be one, and what was owed.
        self.broken = None;
        self.owed_records.clear();
        effects.push(Effect::Append(vec![
            records::lost(Effect::ForgetLock.name(), error),
            records::trust_change(self.trust.name(), &self.trust),
        ]));
    }

    /// The first records of a ledger that follows a broken one: what was known goes on.
    fn follow(&self, broken: &Broken) -> Vec<Kind> {
        let (serial, policy) = self.highest.unwrap_or((0, Digest::new([0; 32])));
        let parts = parts::of(
            records::named(&self.ids.zones, &self.fates),
            records::named(&self.ids.workloads, &self.fates),
            records::buried(&self.tombstones),
        );
        let begun = parts.into_iter().map(|part| {
            records::begun(Begun {
                why: format!("{}: {}", broken.flaw.name(), broken.detail),
                size: broken.last.size,
                head: broken.last.digest.bytes().to_vec(),
                serial,
                policy: policy.bytes().to_vec(),
                zones: part.zones,
                workloads: part.workloads,
                tombstones: part.tombstones,
                keeps_locks: true,
                revoked_all: self.trust.has(&Cause::OperatorRevoked),
                generation: self.generation,
                zones_taken: self.ids.taken.zones,
                workloads_taken: self.ids.taken.workloads,
            })
        });
        begun.collect()
    }
}
