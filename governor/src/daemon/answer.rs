//! Commands: what each asks of the engine, and what its caller is told.
//!
//! Answers are sent after the effects: "revoked" means the kernel denies and the record is on disk.
//! A caller that went away is not an error.

use std::sync::Arc;

use anyhow::Result;
use governor_core::{
    attest::{Challenge, Nonce, PcrSelection},
    digest::Digest,
    engine::{self, Input, Refused},
    policy::{MANIFEST, RawBundle, VerifiedPolicy},
    time::Span,
};

use super::{Applied, Daemon, clock, explain, start, status};
use crate::{
    attester::{
        Attester,
        files::{CHALLENGE, evidence_files},
    },
    cgroups,
    control::{Answer, Caller, Command, Refusal, Target, proto},
};

impl Daemon {
    pub(super) fn command(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Status { reply } => {
                drop(reply.send(status::reply(self, clock::now()?)));
            }
            Command::Reload {
                files,
                caller,
                reply,
            } => {
                let answer = match RawBundle::new(files) {
                    Ok(bundle) => self.reload(bundle, &caller)?,
                    Err(error) => Err(Refusal::Invalid(error.to_string())),
                };
                drop(reply.send(answer));
            }
            Command::PolicyShow { reply } => drop(reply.send(self.show())),
            Command::Explain { question, reply } => {
                drop(reply.send(explain::reply(self, clock::now()?, &question)));
            }
            Command::Observe {
                zone,
                seconds,
                caller,
                reply,
            } => {
                let span = Span::seconds(seconds);
                let applied = self.apply(Input::Observe {
                    zone,
                    span,
                    uid: caller.uid,
                })?;
                let now = clock::now()?;
                let until = clock::rfc3339(now, now.boot.after(span));
                let until = if seconds == 0 { String::new() } else { until };
                drop(reply.send(settled(applied).map(|_| proto::ObserveReply { until })));
            }
            Command::EnterZone {
                zone,
                caller,
                reply,
            } => {
                drop(reply.send(self.enter(&zone, &caller)));
            }
            Command::Revoke {
                target,
                reason,
                caller,
                reply,
            } => {
                let rows = self.hands.gate.table().map_or(0, |rows| rows.len());
                let target = match target {
                    Target::Workload(name) => engine::Target::Workload(name),
                    Target::Zone(name) => engine::Target::Zone(name),
                    Target::Digest(digest) => engine::Target::Digest(digest),
                    Target::All => engine::Target::All,
                };
                let applied = self.apply(Input::Revoke {
                    target,
                    reason,
                    uid: caller.uid,
                })?;
                let left = self.hands.gate.table().map_or(0, |rows| rows.len());
                let reached = applied.stopped as u64;
                let record = self.hands.ledger.head().size.saturating_sub(1);
                drop(reply.send(settled(applied).map(|_| proto::RevokeReply {
                    rows: rows.saturating_sub(left) as u64,
                    killed: reached,
                    record,
                    ..proto::RevokeReply::default()
                })));
            }
            Command::Quote { nonce, reply, .. } => self.quote(nonce, reply),
            Command::Reattest { reply, .. } => {
                if self.engine.watched().is_none() {
                    let why = "the policy in force asks for no attestation";
                    drop(reply.send(Err(Refusal::Invalid(why.into()))));
                    return Ok(());
                }
                self.waiting.push(reply);
                self.apply(Input::Reattest)?;
            }
            Command::RecentEvents { reply } => {
                self.drain()?;
                drop(reply.send(self.recent.all()));
            }
        }
        Ok(())
    }

    fn reload(
        &mut self,
        bundle: RawBundle,
        caller: &Caller,
    ) -> Result<Result<proto::ReloadReply, Refusal>> {
        let digest = bundle.get(MANIFEST).map(Digest::of);
        let uid = Some(caller.uid);
        let verified = match self.verify(&bundle) {
            Ok(verified) => verified,
            Err(error) => {
                let why = format!("{error:#}");
                tracing::warn!(%caller, "refused a policy: {why}");
                self.apply(Input::PolicyRefused {
                    why: why.clone(),
                    digest,
                    uid,
                })?;
                return Ok(Err(Refusal::Verification(why)));
            }
        };
        let users = match start::users(&verified) {
            Ok(users) => users,
            Err(error) => return Ok(Err(Refusal::Failed(format!("{error:#}")))),
        };
        let warnings = verified
            .policy()
            .warnings()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        self.hands.offered = Some((verified.digest(), bundle));
        let policy = Arc::new(verified);
        let digest = policy.digest();
        let applied = self.apply(Input::PolicyOffered { policy, users, uid })?;
        self.hands.offered = None;
        let answer = settled(applied).map(|change| {
            self.hands.store.forget_others(digest);
            tracing::info!(%caller, "{change}");
            proto::ReloadReply {
                policy: status::policy(self),
                changes: vec![change],
                warnings,
            }
        });
        Ok(answer)
    }

    fn show(&self) -> Result<proto::PolicyShowReply, Refusal> {
        let none = || Refusal::Denied("no policy is in force".into());
        let verified = self.engine.policy().ok_or_else(none)?;
        let kept = self.hands.store.load(verified.digest());
        let bundle = kept
            .map_err(|error| Refusal::Failed(format!("{error:#}")))?
            .ok_or_else(|| Refusal::Failed("the policy in force is not kept any more".into()))?;
        Ok(proto::PolicyShowReply {
            policy: status::policy(self),
            files: bundle
                .files()
                .map(|(path, content)| proto::File {
                    path: path.to_owned(),
                    content: content.to_vec(),
                })
                .collect(),
            signed_by: verified.signers().to_vec(),
        })
    }

    fn enter(&mut self, zone: &str, caller: &Caller) -> Result<proto::EnterZoneReply, Refusal> {
        let described = self
            .engine
            .policy()
            .and_then(|verified| verified.policy().zone(zone))
            .ok_or_else(|| Refusal::Invalid(format!("no policy in force has a zone `{zone}`")))?;
        self.leaves += 1;
        let name = format!("{}{}-{}", cgroups::LEAF_PREFIX, caller.pid, self.leaves);
        let leaf = cgroups::enter(&described.cgroup, &name, caller.pid)
            .map_err(|error| Refusal::Failed(format!("{error:#}")))?;
        Ok(proto::EnterZoneReply { leaf })
    }

    /// Evidence for somebody else, over their nonce or one of ours, and the whole challenge beside
    /// it: what the signature binds is the same as for the daemon's own appraisals.
    fn quote(&mut self, nonce: Option<Vec<u8>>, reply: Answer<proto::QuoteReply>) {
        match self.prepare_quote(nonce) {
            Err(refusal) => drop(reply.send(Err(refusal))),
            Ok((selection, attester, challenge)) => {
                tokio::spawn(async move {
                    let extra = *challenge.extra_data().bytes();
                    let evidence = attester.evidence(selection, extra).await;
                    let answer = evidence
                        .map_err(|error| Refusal::Failed(format!("{error:#}")))
                        .map(|evidence| {
                            let mut files = evidence_files(&evidence);
                            files.push((CHALLENGE.to_owned(), challenge.write().into_bytes()));
                            let file = |(path, content)| proto::File { path, content };
                            proto::QuoteReply {
                                files: files.into_iter().map(file).collect(),
                            }
                        });
                    drop(reply.send(answer));
                });
            }
        }
    }

    fn prepare_quote(
        &mut self,
        nonce: Option<Vec<u8>>,
    ) -> Result<(PcrSelection, Attester, Challenge), Refusal> {
        let failed = |error: anyhow::Error| Refusal::Failed(format!("{error:#}"));
        let none = || Refusal::Invalid("no policy in force says which registers to quote".into());
        let selection = self.engine.watched().cloned().ok_or_else(none)?;
        let policy = self
            .engine
            .policy()
            .map(VerifiedPolicy::digest)
            .ok_or_else(none)?;
        let attester = self.attester().map_err(failed)?;
        let (mut challenge, _) = self.challenge(policy).map_err(failed)?;
        if let Some(nonce) = nonce {
            let bytes = <[u8; 32]>::try_from(nonce.as_slice())
                .map_err(|_length| Refusal::Invalid("a nonce has 32 bytes".into()))?;
            challenge.nonce = Nonce::new(bytes);
        }
        Ok((selection, attester, challenge))
    }
}

/// A refusal of the engine, or a grant that could not be made, in the protocol's words.
fn settled(applied: Applied) -> Result<String, Refusal> {
    if let Some(error) = applied.failed {
        return Err(Refusal::Failed(format!("nothing was granted: {error}")));
    }
    applied.answer.map_err(|refused| match refused {
        Refused::Denied(why) => Refusal::Denied(why),
        Refused::Invalid(why) => Refusal::Invalid(why),
    })
}
