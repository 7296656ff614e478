//! Builds the records of the engine's decisions.
//!
//! Only shapes: which record is due, and when, is decided in the engine.

use std::collections::BTreeMap;

use governor_common::{Plain, Signal, row::TombstoneKey};

use super::{
    Host, Table, Trust, cause, clocks,
    gone::{Fates, names},
    parts,
};
use crate::{
    attest::{AttestationResult, Challenge, Evidence},
    digest::Digest,
    lineage::{
        Appraisal, Begun, Gap, Grant, Kind, Lost, ModeChange, Named, PolicyLoaded, PolicyRefused,
        Refusal, Revocation, RiskMet, Signalled, Since, Start, TombstoneRecord, TrustChange,
        Unlocked, VerdictRecord,
    },
    policy::{Epochs, Ids, VerifiedPolicy},
    time::{BootTime, Span},
};

pub(super) fn start(host: &Host, gate: &str, since: Option<Since>) -> Kind {
    Kind::Start(Start {
        version: host.version.clone(),
        gate: gate.to_owned(),
        object: host.object.bytes().to_vec(),
        anchored: true,
        keeps_locks: true,
        since,
    })
}

/// Names with their numbers, and what becomes of what runs under them.
pub(super) fn named<'a>(
    numbers: impl IntoIterator<Item = (&'a String, &'a u32)>,
    fates: &Fates,
) -> Vec<Named> {
    let named = numbers.into_iter().map(|(name, number)| Named {
        name: name.clone(),
        number: *number,
        on_revoke: fates.number(name),
        leased: fates.leased_number(name),
    });
    named.collect()
}

/// Only the names that this policy has: the others stand in the records of those that had them, or where the
/// ledger begins.
pub(super) fn policy_loaded(
    verified: &VerifiedPolicy,
    ids: &Ids,
    fates: &Fates,
    uid: Option<u32>,
) -> Vec<Kind> {
    let policy = verified.policy();
    let own = |numbers| {
        let numbers: &BTreeMap<String, u32> = numbers;
        let own = numbers.iter().filter(|(name, _)| names(policy, name));
        named(own, fates)
    };
    let parts = parts::of(own(&ids.zones), own(&ids.workloads), Vec::new()).into_iter();
    let loaded = parts.map(|part| {
        Kind::PolicyLoaded(PolicyLoaded {
            name: policy.name().to_owned(),
            serial: policy.serial(),
            digest: verified.digest().bytes().to_vec(),
            signers: verified.signers().to_vec(),
            zones: part.zones,
            workloads: part.workloads,
            uid,
        })
    });
    loaded.collect()
}

pub(super) fn policy_refused(why: &str, digest: Option<Digest>, uid: Option<u32>) -> Kind {
    Kind::PolicyRefused(PolicyRefused {
        why: why.to_owned(),
        digest: digest
            .map(|digest| digest.bytes().to_vec())
            .unwrap_or_default(),
        uid,
    })
}

pub(super) fn appraisal(
    evidence: &Evidence,
    challenge: &Challenge,
    epoch: u64,
    outcome: Result<(&AttestationResult, BootTime, Span), &str>,
) -> Kind {
    let (accepted, reason, lease_deadline) = match outcome {
        Ok((_, deadline, _)) => (true, String::new(), deadline.0),
        Err(reason) => (false, reason.to_owned(), 0),
    };
    Kind::Appraisal(Appraisal {
        evidence: evidence.digest().bytes().to_vec(),
        nonce: challenge.nonce.bytes().to_vec(),
        accepted,
        reason,
        lease_deadline,
        trips: challenge.trips,
        epoch,
        ledger_size: challenge.ledger_size,
        ledger_head: challenge.ledger_head.bytes().to_vec(),
        quote: evidence.quote.clone(),
        signature: evidence.signature.clone(),
        ak_public: evidence.ak_public.clone(),
        pcrs: evidence
            .pcrs
            .iter()
            .flat_map(|(pcr, value)| core::iter::once(*pcr).chain(*value.bytes()))
            .collect(),
        clock: outcome.ok().map(|(result, ..)| clocks::of(result)),
        slept: outcome.ok().map(|(.., slept)| slept.0),
    })
}

pub(super) fn trust_change(from: &str, to: &Trust) -> Kind {
    Kind::TrustChange(TrustChange {
        from: from.to_owned(),
        to: to.name().to_owned(),
        reasons: to
            .causes()
            .iter()
            .map(|(cause, detail)| cause::written(cause, detail))
            .collect(),
    })
}

pub(super) fn grant(table: &Table, policy: Digest, epochs: Epochs) -> Kind {
    let rows: Vec<&[u8]> = table.rows.iter().map(Plain::bytes).collect();
    Kind::Grant(Grant {
        table: Digest::of_parts(&rows).bytes().to_vec(),
        rows: u32::try_from(table.rows.len()).unwrap_or(u32::MAX),
        generation: table.generation,
        policy: policy.bytes().to_vec(),
        epoch_attested: epochs.attested,
        epoch_policy: epochs.policy,
    })
}

pub(super) fn revocation(
    target: &str,
    cause: &str,
    tombstones: &[TombstoneKey],
    uid: Option<u32>,
) -> Kind {
    Kind::Revocation(Revocation {
        target: target.to_owned(),
        cause: cause.to_owned(),
        tombstones: buried(tombstones),
        uid,
    })
}

/// Tombstones as records have them.
pub(super) fn buried<'a>(
    tombstones: impl IntoIterator<Item = &'a TombstoneKey>,
) -> Vec<TombstoneRecord> {
    let buried = tombstones.into_iter().map(|key| TombstoneRecord {
        zone: key.zone,
        digest: key.digest.to_vec(),
    });
    buried.collect()
}

pub(super) fn verdict(event: &[u8]) -> Kind {
    Kind::Verdict(VerdictRecord {
        event: event.to_vec(),
    })
}

pub(super) fn gap(what: &str, count: u64) -> Kind {
    Kind::Gap(Gap {
        what: what.to_owned(),
        count,
    })
}

pub(super) fn mode_change(zone: &str, mode: &str, until: u64, uid: Option<u32>) -> Kind {
    Kind::ModeChange(ModeChange {
        zone: zone.to_owned(),
        mode: mode.to_owned(),
        until,
        uid,
    })
}

pub(super) fn refusal(asked: &str, why: &str, uid: u32) -> Kind {
    Kind::Refusal(Refusal {
        asked: asked.to_owned(),
        why: why.to_owned(),
        uid: Some(uid),
    })
}

pub(super) fn lost(effect: &str, error: &str) -> Kind {
    Kind::Lost(Lost {
        effect: effect.to_owned(),
        error: error.to_owned(),
        owed: Vec::new(),
    })
}

pub(super) fn signalled(signal: Signal, count: u64) -> Kind {
    Kind::Signalled(Signalled {
        signal: signal.name().to_owned(),
        count,
        alarm: signal.is_alarm(),
    })
}

pub(super) const fn unlocked(unlocked: Unlocked) -> Kind {
    Kind::Unlocked(unlocked)
}

pub(super) fn begun(begun: Begun) -> Kind {
    Kind::Begun(Box::new(begun))
}

pub(super) const fn risk_met(met: RiskMet) -> Kind {
    Kind::RiskMet(met)
}
