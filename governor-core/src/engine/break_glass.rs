//! Break-glass: denials are lifted on a host that lost what it needs to allow anything.
//!
//! Promises: it takes a credential, and a try spends the challenge it was made with; it has an end that
//! nothing moves further away; it costs the host its trust until a quote is accepted that was asked for
//! after that end; what was revoked stays revoked, also in zones that no policy names any more. What
//! ran only for it is stopped when it is over: by this daemon, or by the next one, which finds the end in
//! the kernel and takes whatever is sooner there and in the ledger. The record comes first; if it cannot
//! be written the glass is broken all the same, because that is what it is for, and the record is owed.
//!
//! Refuses to be there by default: without keys of its own there is no break-glass.

use std::collections::BTreeSet;

use governor_common::{
    names::{WORKLOAD_NONE, ZONE_EVERY, ZONE_UNKNOWN},
    row::TombstoneKey,
};

use super::{
    Cause, Class, Clears, Effect, Engine, KernelView, Refused, Running,
    credential::{Challenge, LONGEST, PATIENCE, Request},
    hold::Grip,
    operator::{ENTRIES_PER_RECORD, tombstone},
    records,
};
use crate::{
    digest::Digest,
    lineage::{GlassBroken, GlassEnded, Kind, Recovered},
    policy::OnRevoke,
    time::{BootTime, ClockReading},
};

/// What there is of break-glass.
#[derive(Clone, Debug, Default)]
pub(super) struct Glass {
    tries: Tries,
    broken: Option<BrokenGlass>,
    /// It is over and dealt with, and the kernel still says that it was.
    unforgotten: bool,
}

/// What outlives a refusal, which changes nothing else.
#[derive(Clone, Debug, Default)]
pub(super) struct Tries {
    /// The challenge that is open, and since when.
    open: Option<(Challenge, BootTime)>,
    refused: u64,
}

/// Break-glass that runs, or is over and not dealt with yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenGlass {
    pub until: BootTime,
    pub reason: String,
    /// Who asked; nobody knows if only the kernel remembers it.
    pub uid: Option<u32>,
    /// Fingerprint of the key that signed; empty: not known.
    pub key: String,
}

impl BrokenGlass {
    /// Who and why, for people.
    fn detail(&self) -> String {
        match self.uid {
            Some(uid) => format!("by uid {uid} with key {}: {}", self.key, self.reason),
            None => self.reason.clone(),
        }
    }

    fn record(&self) -> Kind {
        Kind::GlassBroken(GlassBroken {
            reason: self.reason.clone(),
            until: self.until.0,
            uid: self.uid,
            key: self.key.clone(),
        })
    }
}

impl Glass {
    /// What an earlier daemon left, and what is to be written down about it.
    pub(super) fn found(
        now: ClockReading,
        recovered: &Recovered,
        kernel: &KernelView,
    ) -> (Self, Vec<Kind>) {
        let here = |boot: &[u8]| boot == kernel.boot_id;
        let begun = recovered.glass.as_ref();
        let written = begun.filter(|(_, boot)| here(boot)).map(|(glass, _)| glass);
        let Some(word) = kernel.break_glass else {
            // Whatever the ledger says, nothing is lifted: the kernel was told last, and forgot last.
            let why = match (begun, written) {
                (None, _) => return (Self::default(), Vec::new()),
                (Some(_), None) => "the host was rebooted",
                (Some(_), Some(_)) => "the kernel was never told, or the gate was taken down",
            };
            let ended = GlassEnded {
                why: why.to_owned(),
                at: 0,
                uid: None,
            };
            return (Self::default(), vec![Kind::GlassEnded(ended)]);
        };
        let ended = recovered.glass_ended.as_ref();
        if ended.is_some_and(|(at, boot)| here(boot) && *at == word.0) && word <= now.boot {
            let glass = Self {
                unforgotten: true,
                ..Self::default()
            };
            return (glass, Vec::new());
        }
        // Both bound it, and so does what may be asked for at all.
        let longest = now.boot.after(LONGEST);
        let until = written.map_or(longest, |glass| BootTime(glass.until));
        let broken = BrokenGlass {
            until: word.min(until).min(longest),
            reason: written.map_or(FOUND.to_owned(), |glass| glass.reason.clone()),
            uid: written.and_then(|glass| glass.uid),
            key: written.map(|glass| glass.key.clone()).unwrap_or_default(),
        };
        let kinds = match written {
            Some(_) => Vec::new(),
            None => vec![broken.record()],
        };
        let glass = Self {
            broken: Some(broken),
            ..Self::default()
        };
        (glass, kinds)
    }

    /// A refusal spends a challenge and is counted; what else it would have changed is forgotten.
    pub(super) fn keep_tries_of(&mut self, other: Self) {
        self.tries = other.tries;
    }
}

impl Engine {
    /// Takes over what [`Glass::found`] found.
    pub(super) fn adopt_glass(&mut self, now: ClockReading, effects: &mut Vec<Effect>) {
        let Some(glass) = self.glass.broken.clone() else {
            return;
        };
        self.trust = self
            .trust
            .clone()
            .lose(now.boot, Cause::GlassBroken, glass.detail());
        // What runs is left alone until the end, as it was.
        self.withdrawn = true;
        effects.push(Effect::EndBreakGlass { at: glass.until });
    }

    /// Somebody wants to sign: what, if break-glass is possible here. Voids what was asked before.
    pub(super) fn ask_for_glass(
        &mut self,
        now: ClockReading,
        request: Request,
        nonce: [u8; 32],
    ) -> Result<String, Refused> {
        self.glass.tries.open = None;
        if let Err(why) = self.glass_is_whole().and_then(|()| {
            let keys = self.host.glass_keys.as_ref();
            keys.map(drop)
                .map_err(|why| Refused::Denied(why.to_owned()))
        }) {
            return self.refuse_glass(why);
        }
        let challenge = Challenge {
            host: self.host.id,
            boot: self.boot_id,
            nonce,
            request,
        };
        let text = challenge.write();
        self.glass.tries.open = Some((challenge, now.boot));
        Ok(text)
    }

    /// Somebody signed.
    pub(super) fn break_glass(
        &mut self,
        now: ClockReading,
        request: Request,
        signature: &[u8],
        uid: u32,
        effects: &mut Vec<Effect>,
    ) -> Result<String, Refused> {
        // Whatever comes of this try, it was the one that the challenge is good for.
        let open = self.glass.tries.open.take();
        let signer = self
            .glass_is_whole()
            .and_then(|()| self.signer_of(now, open, &request, signature));
        let key = match signer {
            Ok(key) => key,
            Err(why) => return self.refuse_glass(why),
        };
        let glass = BrokenGlass {
            until: now.boot.after(request.span()),
            reason: request.reason().to_owned(),
            uid: Some(uid),
            key,
        };
        let before = self.trust.name();
        self.trust = self
            .trust
            .clone()
            .lose(now.boot, Cause::GlassBroken, glass.detail());
        self.accepted = None;
        self.due = None;
        // Evidence from before this moment cannot speak about it.
        self.outstanding = None;
        // What runs on an authorization that goes now is left alone until the end.
        self.withdrawn = true;
        effects.push(Effect::DropLease);
        effects.push(self.raise(Class::Attested));
        let everywhere: BTreeSet<Digest> = self.revoked().collect();
        let buried = self.bury_where_no_policy_says(everywhere);
        effects.extend(buried.iter().copied().map(Effect::AddTombstone));
        let mut kinds = vec![
            glass.record(),
            records::trust_change(before, &self.trust),
            records::revocation("class attested", &self.reasons(), &[], Some(uid)),
        ];
        kinds.extend(buried.chunks(ENTRIES_PER_RECORD).map(|chunk| {
            let cause = "revoked somewhere before the glass was broken";
            records::revocation("zones that no policy names", cause, chunk, Some(uid))
        }));
        effects.push(Effect::Append(kinds));
        effects.push(Effect::BreakGlass { until: glass.until });
        let answer = format!("denials are lifted for {request}, signed by {}", glass.key);
        self.glass.broken = Some(glass);
        self.glass.unforgotten = false;
        Ok(answer)
    }

    /// An operator ends it.
    pub(super) fn mend_glass(
        &mut self,
        now: ClockReading,
        reason: &str,
        uid: u32,
        effects: &mut Vec<Effect>,
    ) -> Result<String, Refused> {
        if self.glass.broken.is_none() {
            return Err(Refused::Invalid("no break-glass runs".into()));
        }
        self.end_glass(now, reason, Some(uid), effects);
        Ok("denials are not lifted any more".into())
    }

    /// Denials are not lifted any more: what ran only for it is stopped, and a fresh quote is due.
    pub(super) fn end_glass(
        &mut self,
        now: ClockReading,
        why: &str,
        uid: Option<u32>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(glass) = self.glass.broken.take() else {
            return;
        };
        let at = glass.until.min(now.boot);
        let before = self.trust.name();
        self.trust = self.trust.clone().cleared(Clears::End);
        // Evidence from before this moment cannot speak about it.
        self.outstanding = None;
        self.next_quote = now.boot;
        self.withdrawn = true;
        effects.push(Effect::EndBreakGlass { at });
        self.stop_what_glass_let_run(effects);
        effects.push(Effect::Append(vec![
            Kind::GlassEnded(GlassEnded {
                why: why.to_owned(),
                at: at.0,
                uid,
            }),
            records::trust_change(before, &self.trust),
        ]));
        self.glass.unforgotten = true;
    }

    /// Its time is over.
    pub(super) fn end_glass_in_time(&mut self, now: ClockReading, effects: &mut Vec<Effect>) {
        let over = |glass: &BrokenGlass| now.boot >= glass.until;
        if self.glass.broken.as_ref().is_some_and(over) {
            self.end_glass(now, "its time was over", None, effects);
        }
    }

    /// The kernel keeps that there was one until it was dealt with: what ran for it is stopped, and the
    /// record is durable.
    pub(super) fn forget_glass(&mut self, effects: &mut Vec<Effect>) {
        let dealt_with = !self.trust.has(&Cause::StopFailed)
            && !self.trust.has(&Cause::LedgerUnwritable)
            && !self.owes_glass()
            && !self.owed.iter().any(ENDS)
            && !self.stops.speak_against_the_host();
        if self.glass.unforgotten && self.glass.broken.is_none() && dealt_with {
            self.glass.unforgotten = false;
            effects.push(Effect::ForgetBreakGlass);
        }
    }

    /// The kernel could not be told that it is over and dealt with: it is told again.
    pub(super) const fn remember_glass(&mut self) {
        self.glass.unforgotten = true;
    }

    /// The kernel could not be told to stop lifting denials. What was stopped may be started again until
    /// it is told, so it is stopped again then.
    pub(super) fn end_of_glass_failed(&mut self) {
        let mut stops = Vec::new();
        self.stop_what_glass_let_run(&mut stops);
        self.owe_again(&stops);
    }

    /// The kernel could not be told to lift denials, or was told by half.
    pub(super) fn glass_failed(
        &mut self,
        now: ClockReading,
        error: &str,
        effects: &mut Vec<Effect>,
    ) {
        let why = format!("the kernel could not be told: {error}");
        self.end_glass(now, &why, None, effects);
    }

    /// While the glass is broken, content that is revoked anywhere is revoked where no policy names the
    /// zone: nothing else would be denied there. New tombstones, and stops for what runs there.
    pub(super) fn bury_under_glass(
        &mut self,
        revoked: &[TombstoneKey],
    ) -> (Vec<TombstoneKey>, Vec<Effect>) {
        if self.glass.broken.is_none() {
            return (Vec::new(), Vec::new());
        }
        let digests = revoked.iter().map(|key| Digest::new(key.digest)).collect();
        let buried = self.bury_where_no_policy_says(digests);
        let stop = |key: &TombstoneKey| Effect::Hold {
            zone: ZONE_UNKNOWN,
            running: Running::Digest(key.digest),
            grip: Grip::Kill,
        };
        let stops = buried.iter().map(stop).collect();
        (buried, stops)
    }

    /// The record of what runs now, for a ledger that begins without it.
    pub(super) fn glass_for_a_new_ledger(&self, kinds: &[Kind]) -> Option<Kind> {
        let written = kinds
            .iter()
            .any(|kind| matches!(kind, Kind::GlassBroken(_)));
        let glass = self.glass.broken.as_ref().filter(|_| !written)?;
        Some(glass.record())
    }

    fn glass_is_whole(&self) -> Result<(), Refused> {
        match &self.glass.broken {
            None => Ok(()),
            Some(glass) => Err(Refused::Denied(format!(
                "break-glass runs already, {}; it is not made longer: `governor break-glass --end` \
                 ends it",
                glass.detail()
            ))),
        }
    }

    fn signer_of(
        &self,
        now: ClockReading,
        open: Option<(Challenge, BootTime)>,
        request: &Request,
        signature: &[u8],
    ) -> Result<String, Refused> {
        let denied = |why: String| Err(Refused::Denied(why));
        let keys = match &self.host.glass_keys {
            Ok(keys) => keys,
            Err(why) => return denied(why.clone()),
        };
        let Some((challenge, since)) = open else {
            return denied(format!(
                "no challenge is open: each is good for one try within {} s; ask for another",
                PATIENCE.as_seconds()
            ));
        };
        if now.boot >= since.after(PATIENCE) {
            return denied(format!(
                "the challenge was good for {} s and is over; ask for another",
                PATIENCE.as_seconds()
            ));
        }
        if challenge.request != *request {
            return denied(format!(
                "the challenge is for {}, not for {request}; ask for another",
                challenge.request
            ));
        }
        keys.signer(&challenge, signature)
            .map_err(|error| Refused::Unverified(error.to_string()))
    }

    fn refuse_glass(&mut self, why: Refused) -> Result<String, Refused> {
        self.glass.tries.refused = self.glass.tries.refused.saturating_add(1);
        Err(why)
    }

    /// Every content that is revoked anywhere.
    fn revoked(&self) -> impl Iterator<Item = Digest> {
        self.tombstones.iter().map(|key| Digest::new(key.digest))
    }

    fn bury_where_no_policy_says(&mut self, digests: BTreeSet<Digest>) -> Vec<TombstoneKey> {
        let mut keys: Vec<TombstoneKey> = digests
            .into_iter()
            .map(|digest| tombstone(ZONE_UNKNOWN, digest))
            .collect();
        // In zones that were named since, what was revoked everywhere was denied for not being listed.
        let zones: Vec<u32> = self.ids.zones.values().copied().collect();
        for key in self.tombstones.iter().filter(|key| key.zone == ZONE_EVERY) {
            let digest = Digest::new(key.digest);
            keys.extend(zones.iter().map(|zone| tombstone(*zone, digest)));
        }
        let known = &mut self.tombstones;
        keys.retain(|key| known.insert(*key));
        keys
    }

    /// What nothing authorizes any more: attested work, whose class was revoked at the beginning, and
    /// whatever was started for nothing but this. Where no policy says how, it is killed.
    fn stop_what_glass_let_run(&self, effects: &mut Vec<Effect>) {
        self.stop_attested(|_| true, effects);
        self.stop_unnamed_leased(effects);
        effects.extend(self.stop_gone(None));
        let policy = self.active.as_ref().map(|active| active.verified.policy());
        let relaxed = self.relaxed();
        for (name, number) in &self.ids.zones {
            let described = policy.and_then(|policy| policy.zone(name));
            let action = described.map_or(OnRevoke::Kill, |zone| zone.on_revoke);
            // A zone that is observed lets run what nothing authorizes, and goes on doing so.
            if action != OnRevoke::Deny && !(described.is_some() && relaxed.contains(name)) {
                effects.push(Effect::Stop {
                    zone: *number,
                    workload: Some(WORKLOAD_NONE),
                    action,
                    barred: false,
                });
            }
        }
        effects.push(Effect::Stop {
            zone: ZONE_UNKNOWN,
            workload: None,
            action: OnRevoke::Kill,
            barred: false,
        });
    }
}

/// What others may see of it.
impl Engine {
    /// Break-glass that runs.
    pub const fn broken_glass(&self) -> Option<&BrokenGlass> {
        self.glass.broken.as_ref()
    }

    /// How many tries were refused since this daemon started.
    pub const fn refused_glass(&self) -> u64 {
        self.glass.tries.refused
    }

    /// Whether a record of break-glass could not be written yet.
    pub fn owes_glass(&self) -> bool {
        let of_glass = |kind: &Kind| matches!(kind, Kind::GlassBroken(_) | Kind::GlassEnded(_));
        self.owed_records.iter().any(of_glass)
    }
}

const ENDS: fn(&Effect) -> bool = |effect| matches!(effect, Effect::EndBreakGlass { .. });
const FOUND: &str = "found in the kernel; who broke it and why is in the journal, if anywhere";
