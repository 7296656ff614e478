//! A policy that is offered: verified, held against the host where it governs all of it, and handed to the
//! engine.
//!
//! Promises: a refused policy changes nothing but the record of it. A policy that would shut the operator
//! out of the host is refused before anything of it is in force. Reading a policy and looking at the host take
//! seconds and are not done on the loop; what hangs on keys and time is verified again after it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use governor_common::{Carrier, Label, Line};
use governor_core::{
    digest::Digest,
    engine::{self, Input, OpensJudged},
    lineage::Unlabelled,
    policy::{MANIFEST, Policy, PolicyError, RawBundle, ReadBundle, VerifiedPolicy},
};

use super::{Daemon, answer::settled, clock, start, status};
use crate::{
    control::{Answer, Caller, Refusal, proto},
    progress,
    survival::{self, ShutOut, Warning},
};

/// A policy, and whoever waits to hear what became of it.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// Workloads of the whole host may be stopped for it.
    pub(super) ends_host: bool,
    /// The policy epoch at which it was offered: what was revoked later is not granted by it.
    pub(super) epoch: u64,
    pub(super) caller: Caller,
    pub(super) reply: Answer<proto::ReloadReply>,
}

/// Whoever waits to hear what became of a policy.
#[derive(Debug)]
struct Asker {
    caller: Caller,
    reply: Answer<proto::ReloadReply>,
}

/// An offer that was read, and held against the host.
#[derive(Debug)]
pub(super) struct Looked {
    asker: Asker,
    ends_host: bool,
    epoch: u64,
    manifest: Option<Digest>,
    read: Result<(ReadBundle, Found), PolicyError>,
}

/// What was found out beside the loop.
#[derive(Debug)]
pub(super) enum FromHost {
    /// With its number among the offers. Nothing, if reading it ended in a defect: whoever asked hears of it
    /// otherwise.
    Policy(u64, Option<Box<Looked>>),
    Unlabelled(Vec<Unlabelled>),
}

type Found = Result<Vec<Warning>, ShutOut>;

impl Daemon {
    pub(super) fn reload(&mut self, offer: Offer) -> Result<()> {
        if let Err(refusal) = self.governs_nothing(&offer.caller) {
            drop(offer.reply.send(Err(refusal)));
            return Ok(());
        }
        if let Err(offer) = self.offers.put(offer) {
            let why = "policies that were offered before wait to be read: try again".to_owned();
            drop(offer.reply.send(Err(Refusal::Failed(why))));
        }
        self.read_next()
    }

    /// Begins with whoever waits, unless one is read already.
    fn read_next(&mut self) -> Result<()> {
        while let Some((number, offer)) = self.offers.next(Instant::now()) {
            if !self.read(number, offer)? {
                self.offers.is_over(number);
            }
        }
        Ok(())
    }

    /// Begins to read one. False: there is nothing to wait for.
    fn read(&mut self, number: u64, offer: Offer) -> Result<bool> {
        let Offer {
            files,
            ends_host,
            epoch,
            caller,
            reply,
        } = offer;
        let asker = Asker { caller, reply };
        if asker.reply.is_closed() {
            return Ok(false);
        }
        let bundle = match RawBundle::new(files) {
            Ok(bundle) => bundle,
            Err(error) => {
                self.refuse(error.to_string(), None, &asker.caller)?;
                refused(asker, Refusal::Invalid(error.to_string()))?;
                return Ok(false);
            }
        };
        let manifest = bundle.get(MANIFEST).map(Digest::of);
        let (keys, now) = match self.trusted() {
            Ok(trusted) => trusted,
            Err(error) => {
                self.unverified(asker, manifest, &error)?;
                return Ok(false);
            }
        };
        tracing::info!(caller = %asker.caller, "reading a policy that is offered");
        let reading = tokio::task::spawn_blocking(move || {
            let read = ReadBundle::new(bundle, &keys, now).map(|opened| {
                let found = shuts_out(opened.policy());
                (opened, found)
            });
            Box::new(Looked {
                asker,
                ends_host,
                epoch,
                manifest,
                read,
            })
        });
        let looked = self.looked.clone();
        tokio::spawn(async move {
            let read = reading.await;
            if let Err(error) = &read {
                tracing::error!(%error, "reading a policy");
            }
            // Nobody listening: the daemon ends.
            drop(looked.send(FromHost::Policy(number, read.ok())).await);
        });
        Ok(true)
    }

    pub(super) fn looked(&mut self, from: FromHost) -> Result<()> {
        match from {
            FromHost::Unlabelled(found) => self.unlabelled_measured(found),
            FromHost::Policy(number, looked) => {
                let in_time = self.offers.is_over(number);
                if let Some(looked) = looked {
                    self.take(*looked, in_time)?;
                }
                self.read_next()
            }
        }
    }

    fn take(&mut self, looked: Looked, in_time: bool) -> Result<()> {
        let Looked {
            asker,
            ends_host,
            epoch,
            manifest,
            read,
        } = looked;
        if let Err(refusal) = self.governs_nothing(&asker.caller) {
            return refused(asker, refusal);
        }
        if !in_time || asker.reply.is_closed() {
            let why = "reading it took so long that nobody waited for it any more".to_owned();
            return self.denied(asker, manifest, why);
        }
        if epoch != self.engine.policy_epoch() {
            let why = "everything was revoked since it was offered: offer it again".to_owned();
            return self.denied(asker, manifest, why);
        }
        let (opened, found) = match read {
            Ok(read) => read,
            Err(error) => return self.unverified(asker, manifest, &error.into()),
        };
        let again = self
            .trusted()
            .and_then(|(keys, now)| Ok(opened.again(&keys, now)?));
        let (bundle, verified) = match again {
            Ok(again) => again,
            Err(error) => return self.unverified(asker, manifest, &error),
        };
        let warnings = match found {
            Ok(warnings) => warnings,
            Err(shut_out) => return self.denied(asker, manifest, shut_out.to_string()),
        };
        if !ends_host && let Err(why) = self.leaves_host_alone(verified.policy()) {
            return self.denied(asker, manifest, why);
        }
        let answer = self.put_in_force(&asker.caller, verified, bundle, warnings);
        // However it ended, what it was read into is of no more use.
        crate::memory::give_back();
        drop(asker.reply.send(answer?));
        Ok(())
    }

    fn put_in_force(
        &mut self,
        caller: &Caller,
        verified: VerifiedPolicy,
        bundle: RawBundle,
        of_host: Vec<Warning>,
    ) -> Result<Result<proto::ReloadReply, Refusal>> {
        let digest = verified.digest();
        let users = match start::users(&verified) {
            Ok(users) => users,
            Err(error) => {
                let why = format!("{error:#}");
                self.refuse(why.clone(), Some(digest), caller)?;
                return Ok(Err(Refusal::Failed(why)));
            }
        };
        let of_text = verified.policy().warnings().iter().map(ToString::to_string);
        let of_host = of_host.into_iter().map(|Warning(text)| text);
        let of_kernel = self.unknowable(verified.policy());
        let warnings = of_text.chain(of_host).chain(of_kernel).collect();
        self.hands.offered = Some((digest, bundle));
        let policy = Arc::new(verified);
        let uid = Some(caller.uid);
        let applied = self.apply(Input::PolicyOffered { policy, users, uid })?;
        self.hands.offered = None;
        let change = match settled(applied) {
            Ok(change) => change,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.hands.store.forget_others(digest);
        tracing::info!(%caller, "{change}");
        self.tell_unlabelled(clock::now()?)?;
        self.have_files_measured();
        self.find_sockets();
        Ok(Ok(proto::ReloadReply {
            policy: status::policy(self),
            changes: vec![change],
            warnings,
        }))
    }

    /// What this kernel would never open, of what the policy has somebody open.
    fn unknowable(&self, policy: &Policy) -> Vec<String> {
        match self.engine.host().opens_judged {
            OpensJudged::Recalled => {
                let found = engine::unknowable(policy);
                found.iter().map(ToString::to_string).collect()
            }
            OpensJudged::Measured | OpensJudged::Never => Vec::new(),
        }
    }

    /// What trusted keys did not sign, or not as it is, or not for now.
    fn unverified(
        &mut self,
        asker: Asker,
        manifest: Option<Digest>,
        error: &anyhow::Error,
    ) -> Result<()> {
        let why = format!("{error:#}");
        self.refuse(why.clone(), manifest, &asker.caller)?;
        refused(asker, Refusal::Verification(why))
    }

    fn denied(&mut self, asker: Asker, manifest: Option<Digest>, why: String) -> Result<()> {
        self.refuse(why.clone(), manifest, &asker.caller)?;
        refused(asker, Refusal::Denied(why))
    }

    /// Holds a kept policy against the host, unless the host is governed already.
    pub(super) fn fits_host(&self, policy: &Policy) -> Result<(), ShutOut> {
        // What cannot be read is looked at.
        let enforced = self.hands.gate.host_is_enforced().unwrap_or(false);
        if policy.host().is_none() || enforced {
            return Ok(());
        }
        progress::takes(LOOKING);
        for Warning(warning) in shuts_out(policy)? {
            tracing::warn!("{warning}");
        }
        Ok(())
    }

    /// A policy that has no `[zone.host]` any more stops what runs as its workloads: said before it
    /// happens, and done when the operator meant it.
    fn leaves_host_alone(&self, policy: &Policy) -> Result<(), String> {
        if policy.host().is_some() {
            return Ok(());
        }
        let carriers = self.hands.gate.carriers().map_err(|error| {
            format!(
                "whether it stops workloads of the whole host is not known ({error}): try again"
            )
        })?;
        let labels = labels(&carriers).map_err(|count| {
            format!(
                "whether it stops workloads of the whole host is not known (the labels of {count} tasks could \
                 not be read): try again"
            )
        })?;
        let ends = self.engine.ends_with_host(policy, labels.into_values());
        if ends.is_empty() {
            return Ok(());
        }
        let each = ends
            .iter()
            .map(|((name, action), count)| format!("{count} of `{name}` ({})", action.name()));
        let each: Vec<String> = each.collect();
        Err(format!(
            "it has no [zone.host], and what runs as a workload of that zone would be stopped as `on_revoke` \
             says: {}; load it with `--ends-host` to have that, or first a policy that says `deny` there",
            each.join(", ")
        ))
    }

    /// A refusal, with its record.
    fn refuse(&mut self, why: String, digest: Option<Digest>, caller: &Caller) -> Result<()> {
        tracing::warn!(%caller, "refused a policy: {why}");
        let uid = Some(caller.uid);
        self.apply(Input::PolicyRefused { why, digest, uid })?;
        Ok(())
    }
}

/// The label of each process; or of how many tasks it could not be told.
fn labels(carriers: &[Carrier]) -> Result<BTreeMap<u32, Label>, usize> {
    let labelled = |one: &&Carrier| Line::from_u32(one.line) == Some(Line::Labelled);
    let unread = carriers.iter().filter(|one| !labelled(one)).count();
    if unread > 0 {
        return Err(unread);
    }
    Ok(carriers.iter().map(|one| (one.tgid, one.label)).collect())
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the end of whatever handles an offer"
)]
fn refused(asker: Asker, refusal: Refusal) -> Result<()> {
    drop(asker.reply.send(Err(refusal)));
    // What it was read into is of no more use.
    crate::memory::give_back();
    Ok(())
}

/// Holds a policy that governs the whole host against it.
pub(super) fn shuts_out(policy: &Policy) -> Found {
    match policy.host() {
        None => Ok(Vec::new()),
        Some(zone) => survival::refuse_if_shut_out(policy, zone.mode),
    }
}

/// How long reading a policy, or looking at a host, may take while the daemon starts.
pub(super) const LOOKING: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_cannot_be_read_may_be_anybodys() {
        let carrier = |line: Line, pid, tgid| Carrier {
            line: line as u32,
            pid,
            tgid,
            ..Carrier::default()
        };
        let threads = [carrier(Line::Labelled, 1, 1), carrier(Line::Labelled, 2, 1)];
        assert_eq!(labels(&threads).unwrap().len(), 1);
        let unread = carrier(Line::Unread, 3, 3);
        assert_eq!(labels(&[threads[0], unread]), Err(1));
    }
}
