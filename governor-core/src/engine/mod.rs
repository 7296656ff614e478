//! The engine: inputs to effects, as a pure state machine.
//!
//! Promises: the same inputs with the same times give the same effects; every grant is preceded in
//! its step by the record of it; every revocation precedes its record; trust is granted by an
//! accepted appraisal and by nothing else. A [`Step`] holds the next engine beside the effects: the
//! caller keeps the old one when a grant could not be made, so that what the engine believes is
//! never more than what the kernel was told.
//!
//! Refuses: no clock, no I/O. A failed effect is an input.

mod as_recorded;
mod break_glass;
mod budget;
mod cause;
mod clocks;
mod credential;
mod disarm;
mod effect;
mod evidence;
mod gone;
mod guard;
mod hold;
mod host;
mod input;
mod lint;
mod loading;
mod operator;
mod order;
mod owed;
mod parts;
mod records;
mod risk;
mod signals;
#[cfg(test)]
mod tests;
mod trust;
mod unfinished;
mod unlabelled;
mod verdicts;
mod window;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use governor_common::{
    Signal,
    names::{WORKLOAD_SURVIVAL, ZONE_UNKNOWN},
    net::EgressKey,
    row::TombstoneKey,
};

pub use break_glass::BrokenGlass;
use break_glass::Glass;
use budget::Budget;
pub use cause::{Cause, Causes, Clears};
use clocks::Clocks;
pub use credential::{
    BREAK_GLASS, Challenge as GlassChallenge, ChallengeError, GlassKeys, LONGEST, NotSigned,
    PATIENCE, Request, RequestError,
};
use disarm::Disarming;
use effect::lets_go;
pub use effect::{Class, Effect, Table};
pub use gone::leased;
use gone::{Fates, needs_lease_row};
pub use guard::Guard;
pub use hold::{Allowed, Grip, Running, Thaw};
use host::without_grants;
pub use host::{HELD_OF_HOST, survivors};
pub use input::{Input, Refused, Target};
pub use lint::{lint, lint_in_place_of, unknowable};
use owed::Stops;
use risk::Risks;
pub use trust::{Doubted, Trust, Trusted};
use unfinished::Unfinished;
use verdicts::{LEFT_OUT, LOST_DENIALS};
use window::Window;

use crate::{
    attest::{Challenge, Evidence, Nonce, PcrSelection, ReferenceValues},
    digest::Digest,
    lineage::{Broken, FRESH, Kind, Recovered},
    policy::{self, Epochs, Ids, VerifiedPolicy},
    time::{BootTime, ClockReading, Span},
};

/// The gap that stands for records lost while the ledger could not be written.
const LOST_RECORDS: &str = "records that could not be written";
/// Without attestation in the policy there is nothing to ask the TPM.
const IDLE: Span = Span::seconds(3600);

/// What the kernel was found to hold at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelView {
    /// `fresh`, `adopted` or `upgraded`.
    pub gate: String,
    pub epochs: Epochs,
    pub generation: u32,
    pub tombstones: BTreeSet<TombstoneKey>,
    /// End of the last lease, if nobody took it back; it may be over.
    pub lease: Option<BootTime>,
    /// An operator revoked everything, and the record of it may not have been written.
    pub revoked_all: bool,
    /// The id of this boot.
    pub boot_id: [u8; 16],
    /// The gate guards itself already.
    pub armed: bool,
    /// Until when the kernel lifts denials; it may be over.
    pub break_glass: Option<BootTime>,
    /// What keeps the host alive in the table that was found.
    pub survivors: BTreeSet<Digest>,
    /// Zones that need a lease by that table.
    pub leased: BTreeSet<u32>,
}

/// How the kernel lets the gate judge what is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpensJudged {
    /// It asks when the file can be measured.
    Measured,
    /// It asks when nothing can be measured yet: what is not known by then is refused.
    Recalled,
    /// It asks about none of it.
    Never,
}

/// Facts about this host and this daemon that never change while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// SHA-256 of what names this host.
    pub id: Digest,
    /// The cgroup below which everything is governed, like `governed.slice`.
    pub governed_root: String,
    pub opens_judged: OpensJudged,
    pub version: String,
    /// SHA-256 of the kernel object.
    pub object: Digest,
    /// SHA-256 of this daemon's own program.
    pub daemon: Digest,
    /// Who may break the glass; or why nobody may, and what to do about it.
    pub glass_keys: Result<GlassKeys, String>,
}

/// The policy in force, with what was derived from it.
#[derive(Clone, Debug)]
struct Active {
    verified: Arc<VerifiedPolicy>,
    users: BTreeMap<String, u32>,
    attestation: Option<Attestation>,
}

#[derive(Clone, Debug)]
struct Attestation {
    selection: PcrSelection,
    reference: Arc<ReferenceValues>,
    every: Span,
    lease: Span,
}

#[derive(Clone, Debug)]
struct Outstanding {
    challenge: Challenge,
    epoch: u64,
    at: BootTime,
}

/// The whole state.
#[derive(Clone, Debug)]
pub struct Engine {
    host: Host,
    ids: Ids,
    fates: Fates,
    highest: Option<(u64, Digest)>,
    active: Option<Active>,
    trust: Trust,
    epochs: Epochs,
    generation: u32,
    /// Epochs that the rows in force were written with.
    table_epochs: Epochs,
    tombstones: BTreeSet<TombstoneKey>,
    observed: BTreeMap<String, BootTime>,
    /// The kept policy would shut the operator out, so its host is observed until one is loaded.
    shut_out: bool,
    /// What kept the host alive when this daemon started.
    survivors: BTreeSet<Digest>,
    outstanding: Option<Outstanding>,
    accepted: Option<(Arc<Evidence>, Outstanding)>,
    next_quote: BootTime,
    /// Revocations that failed and are owed to the kernel.
    owed: Vec<Effect>,
    /// Stops that failed and are owed.
    stops: Stops,
    /// Zones that need a lease by the table that was found, whose names are lost.
    unnamed: Vec<u32>,
    /// Records of revocations that could not be written and are owed to the ledger.
    owed_records: Vec<Kind>,
    /// Registers that stand for evidence which was accepted in this boot before this daemon began.
    quoted: Option<PcrSelection>,
    /// Why the host is locked, as it was kept beside the ledger for want of a record.
    kept_lock: Vec<String>,
    /// When the kernel's lease ends, or would end if it had not been dropped for a new policy: until
    /// then a quote must be accepted.
    due: Option<BootTime>,
    /// Verdicts that the budget left no record for; one gap stands for them.
    uncounted: u64,
    /// What is left of this second's records of denials, and when it is filled up again.
    budget: Budget,
    /// The same for what was allowed.
    budget_allowed: Budget,
    /// The attested class was revoked and no appraisal was accepted since.
    withdrawn: bool,
    expiry_recorded: bool,
    /// Records that could not be written, for the gap that will stand in their place.
    unwritten: u64,
    /// What the TPM said last, for the reason that a late quote becomes.
    tpm_error: Option<String>,
    clocks: Clocks,
    risks: Risks,
    /// Denials lost, for policies that bound them.
    losses: Option<Window>,
    /// Denials lost of which no record speaks yet.
    lost: u64,
    /// The ledger takes no more records, and why; an operator begins another.
    broken: Option<Broken>,
    /// The gate guards itself.
    armed: bool,
    /// An operator wants the gate down, and the TPM was asked.
    disarming: Option<Disarming>,
    /// Since when the trust holds on whose return work was thawed.
    thawed: Option<BootTime>,
    unfinished: Unfinished,
    boot_id: [u8; 16],
    glass: Glass,
}

/// What comes of one input.
#[derive(Clone, Debug)]
pub struct Step {
    pub next: Engine,
    pub effects: Vec<Effect>,
    /// For whoever asked.
    pub answer: Result<String, Refused>,
}

impl Engine {
    /// The first step: what a new daemon makes of what it found. It only takes away.
    pub fn start(now: ClockReading, host: Host, recovered: Recovered, kernel: &KernelView) -> Step {
        let mut trust = Trust::begin(now.boot, cause::locking(&recovered.locked)).doubt(
            now.boot,
            Cause::NoPolicy,
            String::new(),
        );
        if let Some(broken) = &recovered.broken {
            let cause = Cause::of_ledger(broken.flaw);
            trust = trust.doubt(now.boot, cause, broken.detail.clone());
        }
        let clocks = Clocks::begin(now, &recovered, &kernel.boot_id);
        let unfinished = Unfinished::found(&recovered, kernel);
        let (glass, of_glass) = Glass::found(now, &recovered, kernel);
        let revoked_all = recovered.revoked_all || kernel.revoked_all;
        let (stops, given_up) = Stops::found(&recovered, kernel);
        let since = recovered.last.clone();
        let mut engine = Self {
            host,
            fates: Fates::found(&recovered),
            ids: Ids {
                zones: recovered.zones,
                workloads: recovered.workloads,
                taken: recovered.taken,
            },
            highest: recovered.highest,
            active: None,
            trust,
            epochs: kernel.epochs,
            generation: recovered.generation.max(kernel.generation),
            table_epochs: Epochs {
                attested: 0,
                policy: 0,
            },
            tombstones: recovered
                .tombstones
                .union(&kernel.tombstones)
                .copied()
                .collect(),
            observed: BTreeMap::new(),
            shut_out: false,
            survivors: kernel.survivors.clone(),
            outstanding: None,
            accepted: None,
            next_quote: now.boot,
            owed: Vec::new(),
            stops,
            unnamed: Vec::new(),
            owed_records: Vec::new(),
            kept_lock: Vec::new(),
            quoted: recovered
                .quoted
                .clone()
                .filter(|(_, boot)| *boot == kernel.boot_id)
                .map(|(quoted, _)| quoted),
            due: kernel.lease,
            uncounted: 0,
            budget: Budget::full(now.boot),
            budget_allowed: Budget::full(now.boot),
            withdrawn: false,
            expiry_recorded: false,
            unwritten: 0,
            tpm_error: None,
            clocks,
            risks: Risks::default(),
            losses: None,
            lost: 0,
            broken: recovered.broken,
            armed: kernel.armed,
            disarming: None,
            thawed: None,
            unfinished,
            boot_id: kernel.boot_id,
            glass,
        };
        engine.unnamed = engine.fates.learn_leased(&engine.ids, &kernel.leased);
        let mut effects = Vec::new();
        engine.adopt_glass(now, &mut effects);
        if revoked_all {
            engine.doubt(now, Cause::OperatorRevoked, String::new());
            // The mark, or the record of it, may be all that was done of it.
            effects.push(Effect::MarkRevokedAll(true));
            effects.push(engine.raise(Class::Policy));
        }
        let slept = engine.clocks.woke(now);
        if let Some(slept) = slept {
            // While no daemon ran, or while one did that came to no quote after it.
            engine.doubt(now, Cause::Suspended, clocks::for_how_long(slept));
        }
        if revoked_all || slept.is_some() || matches!(engine.trust, Trust::Locked(_)) {
            // Whatever an earlier daemon was granted; what runs is stopped once the kept policy was tried.
            effects.push(Effect::DropLease);
            effects.push(engine.raise(Class::Attested));
        }
        // Names that went with a ledger no policy brings back: now is when it can be said whom to reach. While
        // the glass is broken it goes on like all else, until that ends.
        if engine.broken_glass().is_none() {
            engine.stop_unnamed_leased(&mut effects);
        }
        for tombstone in engine.tombstones.difference(&kernel.tombstones) {
            effects.push(Effect::AddTombstone(*tombstone));
        }
        // An epoch of zero denies for ever; rows of a former boot are gone with their epochs.
        if engine.epochs.attested == 0 {
            effects.push(engine.raise(Class::Attested));
        }
        if engine.epochs.policy == 0 {
            effects.push(engine.raise(Class::Policy));
        }
        if kernel.gate == FRESH {
            effects.push(Effect::InstallTable(Arc::new(engine.empty_table())));
        }
        let mut kinds = vec![records::start(&engine.host, &kernel.gate, since)];
        if slept.is_some() || matches!(engine.trust, Trust::Locked(_)) {
            kinds.push(records::trust_change("start", &engine.trust));
        }
        if slept.is_some() {
            let reasons = engine.reasons();
            kinds.push(records::revocation("class attested", &reasons, &[], None));
        }
        kinds.extend(of_glass);
        kinds.extend(given_up);
        effects.push(Effect::Append(kinds));
        Step {
            next: engine,
            effects: order::denied_first(effects),
            answer: Ok(String::new()),
        }
    }

    /// One input at one moment.
    pub fn handle(&self, now: ClockReading, input: Input) -> Step {
        let mut next = self.clone();
        next.stops.settled.clear();
        let mut effects = Vec::new();
        let answer = match input {
            Input::PolicyOffered { policy, users, uid } => {
                next.policy_offered(now, policy, users, uid, &mut effects)
            }
            Input::PolicyRefused { why, digest, uid } => {
                effects.push(Effect::Append(vec![records::policy_refused(
                    &why, digest, uid,
                )]));
                Err(Refused::Invalid(why))
            }
            Input::HostShutOut => {
                next.observe_host(now, &mut effects);
                Ok(String::new())
            }
            Input::NoPolicyKept => {
                effects.push(Effect::InstallTable(Arc::new(next.empty_table())));
                next.finish(now, &mut effects);
                Ok(String::new())
            }
            Input::QuoteStarted {
                challenge,
                epoch,
                at,
            } => {
                // The kernel's epoch leads: rows of a lower one are void, and are written again.
                next.epochs.attested = next.epochs.attested.max(epoch);
                next.outstanding = Some(Outstanding {
                    challenge: *challenge,
                    epoch,
                    at,
                });
                Ok(String::new())
            }
            Input::EvidenceArrived { nonce, evidence } => {
                next.evidence_arrived(now, nonce, *evidence, &mut effects);
                Ok(String::new())
            }
            Input::QuoteFailed { nonce, why } => {
                next.quote_failed(now, nonce, why, &mut effects);
                Ok(String::new())
            }
            Input::PcrsRead(values) => {
                next.pcrs_read(now, &values, &mut effects);
                Ok(String::new())
            }
            Input::Observe { zone, span, uid } => {
                let asked = format!("observe zone {zone} for {} s", span.as_seconds());
                let answer = next.observe(now, zone, span, uid, &mut effects);
                recorded(asked, answer, uid, &mut effects)
            }
            Input::Revoke {
                target,
                reason,
                uid,
            } => {
                let answer = next.revoke(now, &target, &reason, uid, &mut effects);
                recorded(format!("revoke {target:?}"), answer, uid, &mut effects)
            }
            Input::Signals(seen) => {
                next.signalled(now, seen, &mut effects);
                Ok(String::new())
            }
            Input::CanaryPassed => {
                let cause = Cause::Tampered(Signal::CanaryPassed);
                if !next.trust.has(&cause) {
                    let detail = "the canary was executed".to_owned();
                    next.degrade(now, cause, detail, &mut effects);
                }
                Ok(String::new())
            }
            Input::CanarySilent(why) => {
                if !next.trust.has(&Cause::GateFault) {
                    let detail = format!("the canary does not answer: {why}");
                    next.degrade(now, Cause::GateFault, detail, &mut effects);
                }
                Ok(String::new())
            }
            Input::LedgerBroken(broken) => {
                next.ledger_broken(now, broken, &mut effects);
                Ok(String::new())
            }
            Input::UnlabelledFound { zones, news } => {
                next.unlabelled_found(&zones, news, &mut effects);
                Ok(String::new())
            }
            Input::UnlabelledMeasured(found) => {
                let kinds: Vec<Kind> = found.into_iter().map(Kind::Unlabelled).collect();
                if !kinds.is_empty() {
                    effects.push(Effect::Append(kinds));
                }
                Ok(String::new())
            }
            Input::Disarm {
                reason,
                quoted,
                uid,
            } => {
                let answer = next.disarm(reason, quoted, uid, &mut effects);
                recorded("disarm".into(), answer, uid, &mut effects)
            }
            Input::PcrsExtended(done) => {
                next.pcrs_extended(done, &mut effects);
                Ok(String::new())
            }
            Input::Unlock { reason, taken, uid } => {
                let answer = next.unlock(now, &reason, taken, uid, &mut effects);
                recorded("unlock".into(), answer, uid, &mut effects)
            }
            Input::GlassAsked {
                request,
                nonce,
                uid,
            } => {
                let asked = format!("a challenge to break the glass for {request}");
                let answer = next.ask_for_glass(now, request, nonce);
                recorded(asked, answer, uid, &mut effects)
            }
            Input::GlassSigned {
                request,
                signature,
                uid,
            } => {
                let asked = format!("break the glass for {request}");
                let answer = next.break_glass(now, request, &signature, uid, &mut effects);
                recorded(asked, answer, uid, &mut effects)
            }
            Input::GlassMended { reason, uid } => {
                let answer = next.mend_glass(now, &reason, uid, &mut effects);
                recorded("end break-glass".into(), answer, uid, &mut effects)
            }
            Input::Hold {
                target,
                grip,
                reason,
                uid,
            } => {
                let answer = next.hold(&target, grip, &reason, uid, &mut effects);
                recorded(
                    format!("{} {target:?}", grip.name()),
                    answer,
                    uid,
                    &mut effects,
                )
            }
            Input::Resume {
                target,
                reason,
                uid,
            } => {
                let answer = next.resume(now, &target, &reason, uid, &mut effects);
                recorded(format!("resume {target:?}"), answer, uid, &mut effects)
            }
            Input::Reattest => {
                // One that is under way is as good as another.
                next.next_quote = now.boot;
                next.request_quote_if_due(now, &mut effects);
                Ok("asked the TPM for a quote".into())
            }
            Input::Verdicts {
                denied,
                allowed,
                lost,
                missed,
            } => {
                // Nobody has them, so nothing but their number is to be told.
                next.uncounted = next.uncounted.saturating_add(missed);
                next.verdicts(now, &denied, &allowed, lost, &mut effects);
                Ok(String::new())
            }
            Input::LeftOut(count) => {
                next.uncounted = next.uncounted.saturating_add(count);
                Ok(String::new())
            }
            Input::EffectFailed { effect, error } => {
                next.effect_failed(now, *effect, error, &mut effects);
                Ok(String::new())
            }
            Input::StopsFailed { failed, told } => {
                next.stops_failed(now, failed, told, &mut effects);
                Ok(String::new())
            }
            Input::Tick => {
                next.tick(now, &mut effects);
                Ok(String::new())
            }
        };
        if answer.is_err() {
            // A refusal changes nothing but the record of it, and that a credential was tried.
            let tried = core::mem::take(&mut next.glass);
            next = self.clone();
            next.glass.keep_tries_of(tried);
        }
        Step {
            next,
            effects: order::denied_first(effects),
            answer,
        }
    }

    fn effect_failed(
        &mut self,
        now: ClockReading,
        effect: Effect,
        error: String,
        effects: &mut Vec<Effect>,
    ) {
        let name = effect.name();
        if effect.stops() {
            self.stops_failed(now, vec![(effect, error)], false, effects);
            return;
        }
        if effect.revokes() {
            // The narrow way failed: take everything, once, and keep trying the narrow one.
            let broad = matches!(
                effect,
                Effect::RaiseEpoch { .. } | Effect::DropLease | Effect::EndBreakGlass { .. }
            );
            let known = self.trust.has(&Cause::GateFault);
            if !broad && !known {
                effects.push(Effect::DropLease);
                effects.push(self.raise(Class::Attested));
                effects.push(self.raise(Class::Policy));
            }
            let of_glass = matches!(effect, Effect::EndBreakGlass { .. });
            if !self.owed.contains(&effect) {
                self.owed.push(effect);
            }
            if of_glass {
                self.end_of_glass_failed();
            }
            self.doubt(now, Cause::GateFault, error.clone());
            if !known {
                effects.push(Effect::Append(vec![records::lost(name, &error)]));
            }
            return;
        }
        match effect {
            // The lock stands on, and whoever asked is told.
            Effect::BeginLedger(_) => {}
            Effect::AcknowledgeSignals(_) => {
                // They come again, and are dealt with again.
                if !self.trust.has(&Cause::GateFault) {
                    effects.push(Effect::Append(vec![records::lost(name, &error)]));
                }
                self.doubt(now, Cause::GateFault, error);
            }
            Effect::Append(kinds) => {
                let letting_go = kinds.iter().any(lets_go);
                for kind in kinds {
                    match kind {
                        // What was taken away is written down sooner or later, in full.
                        Kind::Revocation(_)
                        | Kind::TrustChange(_)
                        | Kind::Held(_)
                        | Kind::Reached(_)
                        | Kind::GlassBroken(_)
                        | Kind::GlassEnded(_)
                            if !letting_go =>
                        {
                            self.owed_records.push(kind);
                        }
                        // And so is what is still to be.
                        Kind::Lost(lost) if !letting_go && !lost.owed.is_empty() => {
                            self.owed_records.push(Kind::Lost(lost));
                        }
                        // These are still there to be asked for.
                        Kind::Signalled(_) => {}
                        Kind::Gap(gap) if gap.what == LOST_RECORDS => {
                            self.unwritten = self.unwritten.saturating_add(gap.count);
                        }
                        Kind::Gap(gap) if gap.what == LOST_DENIALS => {
                            self.lost = self.lost.saturating_add(gap.count);
                        }
                        Kind::Gap(gap) if gap.what == LEFT_OUT => {
                            self.uncounted = self.uncounted.saturating_add(gap.count);
                        }
                        Kind::Start(_)
                        | Kind::Revocation(_)
                        | Kind::TrustChange(_)
                        | Kind::Held(_)
                        | Kind::RiskMet(_)
                        | Kind::Unlocked(_)
                        | Kind::Begun(_)
                        | Kind::Disarmed(_)
                        | Kind::Unlabelled(_)
                        | Kind::PolicyLoaded(_)
                        | Kind::PolicyRefused(_)
                        | Kind::Appraisal(_)
                        | Kind::Grant(_)
                        | Kind::Verdict(_)
                        | Kind::Gap(_)
                        | Kind::ModeChange(_)
                        | Kind::Lost(_)
                        | Kind::Reached(_)
                        | Kind::Resumed(_)
                        | Kind::GlassBroken(_)
                        | Kind::GlassEnded(_)
                        | Kind::Refusal(_) => self.unwritten = self.unwritten.saturating_add(1),
                    }
                }
                // A challenge whose appraisal could not be recorded is asked again.
                self.outstanding = None;
                self.doubt(now, Cause::LedgerUnwritable, error);
                self.keep_lock(effects);
            }
            // Tried again with the next record that fails.
            Effect::KeepLock(_) => self.kept_lock.clear(),
            Effect::ForgetLock => self.lock_again(&error, effects),
            Effect::InstallTable(_)
            | Effect::SetLease { .. }
            | Effect::KeepPolicy(_)
            | Effect::TakeDown
            | Effect::Guard(_) => {
                self.doubt(now, Cause::GateFault, error.clone());
                effects.push(Effect::Append(vec![records::lost(name, &error)]));
            }
            Effect::BreakGlass { .. } => {
                self.doubt(now, Cause::GateFault, error.clone());
                self.glass_failed(now, &error, effects);
            }
            Effect::ForgetBreakGlass => self.remember_glass(),
            Effect::ExtendPcrs(_) => self.pcrs_extended(Err(error), effects),
            Effect::RequestQuote { .. } => self.quote_failed(now, None, error, effects),
            Effect::Thaw(thaw) => self.thaw_failed(&thaw, &error, effects),
            Effect::DropLease
            | Effect::EndBreakGlass { .. }
            | Effect::MarkRevokedAll(_)
            | Effect::RaiseEpoch { .. }
            | Effect::AddTombstone(_)
            | Effect::RemoveRows(_)
            | Effect::Stop { .. }
            | Effect::Hold { .. }
            | Effect::Bar { .. } => {}
        }
    }

    fn tick(&mut self, now: ClockReading, effects: &mut Vec<Effect>) {
        let reached = self.settle_stops(now);
        self.forget_glass(effects);
        effects.append(&mut self.owed);
        self.retry_stops(effects);
        self.tell(reached, effects);
        // Before the ledger is tried again below. A table in that step would hang on the trial, and if it
        // failed the step would be taken back, with what was owed in it owed twice.
        let waits = self.trust.has(&Cause::LedgerUnwritable) || self.trust.has(&Cause::GateFault);
        self.watch_clocks(now, effects);
        if matches!(self.trust, Trust::Locked(_)) && !self.withdrawn {
            // Locked since before this daemon: only now it is settled which policy says what to stop, and how.
            self.withdraw(effects);
            let record = records::revocation("class attested", &self.reasons(), &[], None);
            effects.push(Effect::Append(vec![record]));
        }
        // A broken ledger is not tried again: an operator begins another. An appraisal that could be
        // recorded clears the cause, and not what is owed.
        let owes = self.unwritten > 0 || self.lost > 0 || !self.owed_records.is_empty();
        if (owes || self.trust.has(&Cause::LedgerUnwritable)) && self.broken.is_none() {
            // Trying is the only way to know. If it fails, that comes back like any failure.
            let mut kinds = vec![records::gap(LOST_RECORDS, self.unwritten)];
            kinds.extend(self.lost_denials());
            kinds.append(&mut self.owed_records);
            effects.push(Effect::Append(kinds));
            self.unwritten = 0;
            self.trust = self.trust.clone().cleared(Clears::Record);
        }
        if self.uncounted > 0 && self.budget.take(now.boot, 1) == 1 {
            effects.push(Effect::Append(vec![records::gap(LEFT_OUT, self.uncounted)]));
            self.uncounted = 0;
        }
        if self.due.is_some_and(|due| now.boot >= due) {
            let detail = match &self.tpm_error {
                Some(error) => format!("no accepted quote before the lease ran out: {error}"),
                None => "no accepted quote before the lease ran out".to_owned(),
            };
            self.degrade(now, Cause::QuoteLate, detail, effects);
            self.due = None;
            // One that is under way was begun before this moment: another is asked for at once.
            self.next_quote = now.boot;
        }
        self.end_sooner(now, waits, effects);
        self.end_observing(now, waits, effects);
        self.end_glass_in_time(now, effects);
        let expired = self.active.as_ref().is_some_and(|a| {
            let now = self.clocks.corrected(now);
            now.wall >= a.verified.policy().validity().until
        });
        if expired && !self.expiry_recorded {
            self.expiry_recorded = true;
            self.degrade(now, Cause::PolicyExpired, String::new(), effects);
        }
        self.thaw_when_trusted(now, effects);
        self.request_quote_if_due(now, effects);
    }

    fn request_quote_if_due(&mut self, now: ClockReading, effects: &mut Vec<Effect>) {
        let Some((attestation, policy)) = self.attestation() else {
            self.next_quote = now.boot.after(IDLE);
            return;
        };
        let (selection, every, lease) = (
            attestation.selection.clone(),
            attestation.every,
            attestation.lease,
        );
        if now.boot < self.next_quote {
            return;
        }
        // One nonce at a time. One that was not answered within a lease is void.
        if self
            .outstanding
            .as_ref()
            .is_some_and(|o| o.at.until(now.boot) < lease)
        {
            return;
        }
        self.next_quote = now.boot.after(every);
        effects.push(Effect::RequestQuote { selection, policy });
    }

    /// Trust ends: revoke first, reach what runs, then write it down.
    fn degrade(
        &mut self,
        now: ClockReading,
        cause: Cause,
        detail: String,
        effects: &mut Vec<Effect>,
    ) {
        if self.trust.has(&cause) {
            self.doubt(now, cause, detail);
            return;
        }
        let before = self.trust.name();
        let first = !self.withdrawn;
        self.trust = self.trust.clone().lose(now.boot, cause, detail);
        self.accepted = None;
        self.due = None;
        // Evidence from before this moment cannot speak about it.
        self.outstanding = None;
        if first {
            self.withdraw(effects);
        }
        let mut kinds = vec![records::trust_change(before, &self.trust)];
        if first {
            kinds.push(records::revocation(
                "class attested",
                &self.reasons(),
                &[],
                None,
            ));
        }
        effects.push(Effect::Append(kinds));
    }

    /// Takes every attested authorization, and stops what runs on one.
    fn withdraw(&mut self, effects: &mut Vec<Effect>) {
        self.withdrawn = true;
        effects.push(Effect::DropLease);
        effects.push(self.raise(Class::Attested));
        self.stop_attested(|_| true, effects);
    }

    fn doubt(&mut self, now: ClockReading, cause: Cause, detail: String) {
        self.trust = self.trust.clone().doubt(now.boot, cause, detail);
    }

    fn reasons(&self) -> String {
        self.trust
            .causes()
            .keys()
            .map(Cause::code)
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn raise(&mut self, class: Class) -> Effect {
        let epoch = match class {
            Class::Attested => &mut self.epochs.attested,
            Class::Policy => &mut self.epochs.policy,
        };
        *epoch = epoch.saturating_add(1);
        Effect::RaiseEpoch { class, to: *epoch }
    }

    /// Puts the active policy in force again, as it reads now.
    fn reinstall(
        &mut self,
        now: ClockReading,
        kinds: Vec<Kind>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let table = self.table(now)?;
        self.put_in_force(table, kinds, effects);
        Ok(())
    }

    pub(super) fn put_in_force(
        &self,
        table: Table,
        mut kinds: Vec<Kind>,
        effects: &mut Vec<Effect>,
    ) {
        let digest = self.active.as_ref().map(|active| active.verified.digest());
        kinds.push(records::grant(
            &table,
            digest.unwrap_or(Digest::new([0; 32])),
            self.epochs,
        ));
        effects.push(Effect::Append(kinds));
        effects.push(Effect::InstallTable(Arc::new(table)));
    }

    pub(super) fn table(&mut self, now: ClockReading) -> Result<Table, String> {
        self.clocks.reckon(now);
        self.reckoned_table(now)
    }

    /// The table with the moments of the policy as they were reckoned last.
    fn reckoned_table(&mut self, now: ClockReading) -> Result<Table, String> {
        let mut table = self.empty_table();
        let Some(active) = &self.active else {
            return Ok(table);
        };
        let compile = |clock| {
            policy::compile(
                active.verified.policy(),
                &self.ids,
                &active.users,
                clock,
                self.epochs,
                self.generation,
                &self.observed,
            )
            .map_err(|error| error.to_string())
        };
        let (begins, ends) = self.clocks.reckoned(now);
        let mut compiled = compile(ends)?;
        if begins != ends {
            // The same rows in the same order, whatever the clock.
            for (row, begun) in compiled.rows.iter_mut().zip(compile(begins)?.rows) {
                row.not_before = row.not_before.max(begun.not_before);
            }
        }
        table.zone_paths.extend(compiled.zone_paths);
        table.grants_nothing = false;
        table.rows = compiled.rows;
        let unnamed = self.unnamed.iter().map(|zone| needs_lease_row(*zone));
        table.rows.extend(unnamed);
        table.egress = compiled.egress;
        if self.trust.has(&Cause::OperatorRevoked) {
            table.rows = without_grants(table.rows);
            let survives = |key: &EgressKey| key.workload == WORKLOAD_SURVIVAL;
            table.egress.retain(|(key, _, _)| survives(key));
            return Ok(table);
        }
        table.rows.retain(|row| {
            let key = TombstoneKey {
                zone: row.key.zone,
                reserved: 0,
                digest: row.key.digest,
            };
            !self.tombstones.contains(&key)
        });
        self.table_epochs = self.epochs;
        Ok(table)
    }

    /// A table that grants nothing and governs everything below the root.
    fn empty_table(&mut self) -> Table {
        self.generation = self.generation.wrapping_add(1).max(1);
        Table {
            generation: self.generation,
            rows: Vec::new(),
            egress: Vec::new(),
            zone_paths: vec![(format!("/{}", self.host.governed_root), ZONE_UNKNOWN)],
            grants_nothing: true,
        }
    }

    fn attestation(&self) -> Option<(&Attestation, Digest)> {
        let active = self.active.as_ref()?;
        Some((active.attestation.as_ref()?, active.verified.digest()))
    }
}

/// What others may see of the state.
impl Engine {
    /// Trust now.
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The epoch of what a policy grants: another one means that all of it was revoked.
    pub const fn policy_epoch(&self) -> u64 {
        self.epochs.policy
    }

    /// The policy in force.
    pub fn policy(&self) -> Option<&VerifiedPolicy> {
        self.active.as_ref().map(|active| active.verified.as_ref())
    }

    /// Numbers of zones and workloads.
    pub const fn ids(&self) -> &Ids {
        &self.ids
    }

    /// This host.
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// Zones an operator relaxed, and until when.
    pub const fn observed(&self) -> &BTreeMap<String, BootTime> {
        &self.observed
    }

    /// A step was performed. If a grant in it failed its engine is not the one that goes on; but the numbers that
    /// it gave to names may be written down by then, and nobody else is given them; and what it took away is
    /// taken, so a table that is made now counts for nothing with the epochs from before.
    pub fn go_on(&mut self, next: Self, grant_failed: bool) {
        if grant_failed {
            self.ids = next.ids;
            self.epochs = next.epochs;
            self.stops.unsettle(next.stops);
        } else {
            *self = next;
        }
    }

    /// Registers to read between quotes, if the policy quotes any.
    pub fn watched(&self) -> Option<&PcrSelection> {
        self.attestation()
            .map(|(attestation, _)| &attestation.selection)
    }

    /// Whether a challenge is out that nobody answered yet.
    pub const fn is_waiting_for_evidence(&self) -> bool {
        self.outstanding.is_some()
    }

    /// Whether the challenge with this nonce is the one that is out.
    pub fn is_waiting_for(&self, nonce: &Nonce) -> bool {
        let out = self.outstanding.as_ref();
        out.is_some_and(|outstanding| outstanding.challenge.nonce == *nonce)
    }

    /// What the TPM failed with, if it was the last thing it did.
    pub fn tpm_error(&self) -> Option<&str> {
        self.tpm_error.as_deref()
    }

    /// `now` with the latest wall clock that was seen, which is the one that a policy's validity is
    /// held against.
    pub fn corrected(&self, now: ClockReading) -> ClockReading {
        self.clocks.corrected(now)
    }

    /// Why the ledger takes no more records, if it does not.
    pub const fn broken_ledger(&self) -> Option<&Broken> {
        self.broken.as_ref()
    }

    /// Highest serial accepted, with its digest.
    pub const fn highest(&self) -> Option<(u64, Digest)> {
        self.highest
    }
}

/// The answer, and the record of it if it is a refusal.
fn recorded(
    asked: String,
    answer: Result<String, Refused>,
    uid: u32,
    effects: &mut Vec<Effect>,
) -> Result<String, Refused> {
    if let Err(Refused::Denied(why) | Refused::Invalid(why) | Refused::Unverified(why)) = &answer {
        effects.push(Effect::Append(vec![records::refusal(&asked, why, uid)]));
    }
    answer
}
