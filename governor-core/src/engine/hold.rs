//! Holding running copies by hand, and letting them go on.
//!
//! Promises: holding revokes nothing and needs nobody's trust; what goes on is listed, content by
//! content, from what is authorized at that moment, so whatever is not listed stays held; the record
//! of a hold follows it, the record of going on comes first. By itself work goes on only where policy
//! says so, when trust has just returned, and only if nothing but the loss of trust had frozen it.

use std::collections::{BTreeMap, BTreeSet};

use governor_common::row::TombstoneKey;

use super::{Cause, Effect, Engine, Refused, Target, Trust, records};
use crate::{
    lineage::{Held, Kind, Resumed},
    policy::{OnRevoke, Policy, Requires},
    time::ClockReading,
};

/// Why something that is owed keeps something from going on.
const STOPPED_AGAIN: &str = "another order is to hold or kill it too and has not reached it yet, see `NOT reached` in \
                             `governor status`";

/// What an operator does to running copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grip {
    /// Frozen.
    Pause,
    /// Frozen, and the connections closed.
    Quarantine,
    Kill,
}

impl Grip {
    /// What does by hand what policy says of a revocation.
    pub(super) const fn of(action: OnRevoke) -> Option<Self> {
        match action {
            OnRevoke::Deny => None,
            OnRevoke::Freeze => Some(Self::Pause),
            OnRevoke::Quarantine => Some(Self::Quarantine),
            OnRevoke::Kill => Some(Self::Kill),
        }
    }

    /// The word used on the command line and in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Quarantine => "quarantine",
            Self::Kill => "kill",
        }
    }
}

/// Which running copies of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    All,
    Workload(u32),
    /// Whatever was executed with this content.
    Digest([u8; 32]),
    /// What was there before the zone was governed, or was moved into it: nobody judged it.
    Unlabelled,
}

/// What may go on in a zone: contents, by workload. What is not in here may not.
pub type Allowed = BTreeMap<u32, BTreeSet<[u8; 32]>>;

/// Which held copies go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thaw {
    pub zone: u32,
    pub running: Running,
    pub allowed: Allowed,
    /// The kernel's lease must hold at the very moment.
    pub attested: bool,
    /// An operator asked. Without one, only what the loss of trust froze goes on.
    pub by_hand: bool,
}

/// A zone by name and number, and which of its copies.
type Reached = (String, u32, Running);

impl Engine {
    pub(super) fn hold(
        &self,
        target: &Target,
        grip: Grip,
        reason: &str,
        uid: u32,
        effects: &mut Vec<Effect>,
    ) -> Result<String, Refused> {
        let (name, reached) = self.reached(target)?;
        for (_, zone, running) in reached {
            effects.push(Effect::Hold {
                zone,
                running,
                grip,
            });
        }
        effects.push(Effect::Append(vec![Kind::Held(Held {
            target: name.clone(),
            grip: grip.name().to_owned(),
            reason: reason.to_owned(),
            uid: Some(uid),
        })]));
        Ok(format!("{} {name}", grip.name()))
    }

    pub(super) fn resume(
        &mut self,
        now: ClockReading,
        target: &Target,
        reason: &str,
        uid: u32,
        effects: &mut Vec<Effect>,
    ) -> Result<String, Refused> {
        let (name, reached) = self.reached(target)?;
        let (mut thaws, mut stays, mut taken) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (zone, number, running) in reached {
            // Whoever is trusted: trying it again may be what trust waits for.
            taken.extend(self.holds_of(number, running));
            if self.is_stopped_again(number, running) {
                stays.push(format!("zone `{zone}`: {STOPPED_AGAIN}"));
                continue;
            }
            match self.may_go_on(now, &zone, running) {
                Ok(allowed) => thaws.push(Thaw {
                    zone: number,
                    running,
                    allowed,
                    attested: self.requires_attestation(&zone),
                    by_hand: true,
                }),
                Err(why) => stays.push(format!("zone `{zone}`: {why}")),
            }
        }
        let stays = stays.join("; ");
        if thaws.is_empty() && taken.is_empty() {
            return Err(Refused::Denied(format!("{name} stays held: {stays}")));
        }
        let mut kinds = vec![Kind::Resumed(Resumed {
            target: name.clone(),
            reason: reason.to_owned(),
            uid: Some(uid),
        })];
        kinds.extend(self.take_back(&taken));
        effects.push(Effect::Append(kinds));
        let answer = match (thaws.is_empty(), stays.is_empty()) {
            (_, true) => format!("resume {name}"),
            (false, false) => format!("resume {name}; not all of it: {stays}"),
            (true, false) => {
                format!("{name} stays held: {stays}; what was not reached is not held any more")
            }
        };
        effects.extend(thaws.into_iter().map(|thaw| Effect::Thaw(Box::new(thaw))));
        Ok(answer)
    }

    /// Trust has returned since this was last asked: zones whose policy says so go on.
    pub(super) fn thaw_when_trusted(&mut self, now: ClockReading, effects: &mut Vec<Effect>) {
        let Trust::Trusted(trusted) = &self.trust else {
            return;
        };
        let since = trusted.since;
        if self.thawed.replace(since) == Some(since) {
            return;
        }
        let Some(active) = &self.active else { return };
        let (mut kinds, mut thaws) = (Vec::new(), Vec::new());
        for (name, zone) in active.verified.policy().zones() {
            if !zone.thaw || zone.requires != Requires::Attestation {
                continue;
            }
            let (Some(number), Ok(allowed)) =
                (self.ids.zone(name), self.may_go_on(now, name, Running::All))
            else {
                continue;
            };
            kinds.push(Kind::Resumed(Resumed {
                target: format!("zone {name}"),
                reason: "trust returned".into(),
                uid: None,
            }));
            thaws.push(Effect::Thaw(Box::new(Thaw {
                zone: number,
                running: Running::All,
                allowed,
                attested: true,
                by_hand: false,
            })));
        }
        if !thaws.is_empty() {
            effects.push(Effect::Append(kinds));
            effects.extend(thaws);
        }
    }

    /// Work that stayed frozen harms nobody but itself: it is written down, and an operator's again.
    pub(super) fn thaw_failed(&mut self, thaw: &Thaw, error: &str, effects: &mut Vec<Effect>) {
        if let Trust::Trusted(trusted) = &self.trust
            && !thaw.by_hand
        {
            self.thawed = Some(trusted.since);
        }
        let mut kinds = vec![records::lost("thaw", error)];
        if thaw.by_hand {
            // The ledger says that it goes on, and so forgot what is still owed.
            kinds.extend(self.lost_again("not let go on after all"));
        }
        effects.push(Effect::Append(kinds));
    }

    /// After everything was revoked, an operator's policy lets work start again; what was stopped
    /// then does not go on with it.
    pub(super) fn bars(&self, revoked_before: bool) -> Vec<Effect> {
        let zones = self.ids.zones.values().filter(|_| revoked_before);
        zones.map(|zone| Effect::Bar { zone: *zone }).collect()
    }

    /// Zones and copies that an operator means, and how the record calls them.
    fn reached(&self, target: &Target) -> Result<(String, Vec<Reached>), Refused> {
        let zones = || self.ids.zones.iter().map(|(name, number)| (name, *number));
        let none = || Refused::Invalid("no policy was ever loaded".into());
        let (name, reached) = match target {
            Target::All => {
                let all = zones().map(|(name, number)| (name.clone(), number, Running::All));
                ("all".to_owned(), all.collect::<Vec<_>>())
            }
            Target::Zone(name) => {
                let number = self.ids.zone(name).ok_or_else(|| {
                    Refused::Invalid(format!(
                        "no policy had a zone `{name}`; `governor status` lists the zones"
                    ))
                })?;
                let one = (name.clone(), number, Running::All);
                (format!("zone {name}"), vec![one])
            }
            Target::Workload(name) => {
                let one = self.workload(name).ok_or_else(|| {
                    Refused::Invalid(format!(
                        "the policy has no workload `{name}`; `governor policy show` lists them, \
                         and `--digest` reaches what it names no more"
                    ))
                })?;
                (format!("workload {name}"), vec![one])
            }
            Target::Digest(digest) => {
                let mut reached: Vec<_> = zones()
                    .map(|(name, number)| (name.clone(), number, Running::Digest(*digest.bytes())))
                    .collect();
                let policy = self.active.as_ref().map(|active| active.verified.policy());
                for (name, workload) in policy.iter().flat_map(|policy| policy.workloads()) {
                    // Whoever may have it mapped has it in memory.
                    if workload.libraries.contains(digest) {
                        reached.extend(self.workload(name));
                    }
                }
                (format!("digest {digest}"), reached)
            }
        };
        if reached.is_empty() {
            return Err(none());
        }
        Ok((name, reached))
    }

    fn workload(&self, name: &str) -> Option<Reached> {
        let workload = self.active.as_ref()?.verified.policy().workload(name)?;
        let zone = self.ids.zone(&workload.zone)?;
        let number = self.ids.workload(&workload.zone, name)?;
        Some((workload.zone.clone(), zone, Running::Workload(number)))
    }

    /// What of a zone is authorized now, or why none of what is meant is.
    fn may_go_on(
        &self,
        now: ClockReading,
        zone: &str,
        running: Running,
    ) -> Result<Allowed, String> {
        let now = self.clocks.corrected(now);
        let Some(active) = &self.active else {
            return Err("no policy is in force; load one with `governor policy reload DIR`".into());
        };
        let policy = active.verified.policy();
        let Some(described) = policy.zone(zone) else {
            return Err("the policy in force does not name it; kill what it holds".into());
        };
        if !policy.validity().contains(now.wall) {
            return Err("the policy is not valid now; load one that is".into());
        }
        if self.trust.has(&Cause::OperatorRevoked) {
            let remedy = Cause::OperatorRevoked.remedy();
            return Err(format!("an operator revoked everything; {remedy}"));
        }
        // Until the kernel knows, it is not asked what it would say.
        if !self.owed.is_empty() {
            return Err(
                "revocations could not be carried out yet and are tried again; see the journal"
                    .into(),
            );
        }
        if described.requires == Requires::Attestation {
            self.trusted_now(now)?;
        }
        if described.requires == Requires::Policy && self.table_epochs.policy != self.epochs.policy
        {
            return Err("its rows were revoked; reload the policy".into());
        }
        let allowed = self.authorized(now, policy, zone);
        let any = match running {
            Running::All => !allowed.is_empty(),
            Running::Workload(number) => allowed.contains_key(&number),
            Running::Digest(digest) => allowed.values().any(|digests| digests.contains(&digest)),
            // Nothing authorizes it.
            Running::Unlabelled => false,
        };
        if any {
            Ok(allowed)
        } else {
            Err(
                "none of its content is authorized: it is revoked, not listed or not valid now; \
                 kill it, or load a policy that lists what should run"
                    .into(),
            )
        }
    }

    /// Also of a zone that nothing is known of.
    fn requires_attestation(&self, zone: &str) -> bool {
        let policy = self.active.as_ref().map(|active| active.verified.policy());
        policy
            .and_then(|policy| policy.zone(zone))
            .is_none_or(|zone| zone.requires == Requires::Attestation)
    }

    fn trusted_now(&self, now: ClockReading) -> Result<(), String> {
        match &self.trust {
            Trust::Trusted(trusted) => {
                // A lease of an epoch that was raised since holds nothing up.
                let epoch = self.accepted.as_ref().map(|(_, asked)| asked.epoch);
                if now.boot < trusted.deadline && epoch == Some(self.epochs.attested) {
                    Ok(())
                } else {
                    Err("the lease is over; ask for another with `governor attest now`".into())
                }
            }
            Trust::Unattested(_) | Trust::Degraded(_) | Trust::Locked(_) => {
                let causes = self.trust.causes();
                let each = causes
                    .keys()
                    .map(|cause| format!("{} ({})", cause.code(), cause.remedy()));
                Err(format!(
                    "it requires attestation and the host is {}: {}",
                    self.trust.name(),
                    each.collect::<Vec<_>>().join("; ")
                ))
            }
        }
    }

    fn authorized(&self, now: ClockReading, policy: &Policy, zone: &str) -> Allowed {
        let mut allowed = Allowed::new();
        for (name, workload) in policy.workloads() {
            let numbers = self.ids.zone(zone).zip(self.ids.workload(zone, name));
            let Some((number, workload_number)) =
                numbers.filter(|_| workload.zone == zone && workload.validity.contains(now.wall))
            else {
                continue;
            };
            let digests: BTreeSet<[u8; 32]> = workload
                .exec
                .iter()
                .chain(&workload.scripts)
                .map(|digest| *digest.bytes())
                .filter(|digest| {
                    !self.tombstones.contains(&TombstoneKey {
                        zone: number,
                        reserved: 0,
                        digest: *digest,
                    })
                })
                .collect();
            if !digests.is_empty() {
                allowed.insert(workload_number, digests);
            }
        }
        allowed
    }
}
