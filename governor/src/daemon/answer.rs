//! Commands: what each asks of the engine, and what its caller is told.
//!
//! Answers are sent after the effects: "revoked" means the kernel denies and the record is on disk.
//! A caller that went away is not an error.

use anyhow::Result;
use governor_core::{
    attest::{Challenge, Nonce, PcrSelection},
    engine::{Input, Refused},
    policy::VerifiedPolicy,
    time::Span,
};

use super::{Applied, Daemon, clock, explain, holding::meant, loading::Offer, status};
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
                ends_host,
                caller,
                reply,
            } => self.reload(Offer {
                files,
                ends_host,
                epoch: self.engine.policy_epoch(),
                caller,
                reply,
            })?,
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
                let answer = self.observe(zone, seconds, &caller)?;
                drop(reply.send(answer));
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
                let answer = self.revoke(target, reason, &caller)?;
                drop(reply.send(answer));
            }
            Command::Disarm {
                reason,
                caller,
                reply,
            } => self.disarm(reason, &caller, reply)?,
            Command::Unlock {
                reason,
                caller,
                reply,
            } => {
                let answer = self.unlock(reason, &caller)?;
                drop(reply.send(answer));
            }
            Command::GlassChallenge {
                request,
                caller,
                reply,
            } => {
                let answer = self.glass_challenge(request, &caller)?;
                drop(reply.send(answer));
            }
            Command::BreakGlass {
                request,
                signature,
                caller,
                reply,
            } => {
                let answer = self.break_glass(request, signature, &caller)?;
                drop(reply.send(answer));
            }
            Command::EndBreakGlass {
                reason,
                caller,
                reply,
            } => {
                let answer = self.end_break_glass(reason, &caller)?;
                drop(reply.send(answer));
            }
            Command::Hold {
                target,
                grip,
                reason,
                caller,
                reply,
            } => {
                let answer = self.hold(target, grip, reason, &caller)?;
                drop(reply.send(answer));
            }
            Command::Resume {
                target,
                reason,
                caller,
                reply,
            } => {
                let answer = self.let_go(target, reason, &caller)?;
                drop(reply.send(answer));
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
                if !self.engine.is_waiting_for_evidence() {
                    // The TPM could not even be asked.
                    let why = self.engine.tpm_error().unwrap_or("it could not be asked");
                    self.answer_waiting(Some(why.to_owned()));
                }
            }
            Command::RecentEvents { reply } => {
                self.drain()?;
                drop(reply.send(self.recent.all(self.engine.ids())));
            }
        }
        Ok(())
    }

    fn observe(
        &mut self,
        zone: String,
        seconds: u64,
        caller: &Caller,
    ) -> Result<Result<proto::ObserveReply, Refusal>> {
        if let Err(refusal) = self.governs_nothing(caller) {
            return Ok(Err(refusal));
        }
        let (span, uid) = (Span::seconds(seconds), caller.uid);
        let applied = self.apply(Input::Observe { zone, span, uid })?;
        let now = clock::now()?;
        let until = clock::rfc3339(now, now.boot.after(span));
        let until = if seconds == 0 { String::new() } else { until };
        Ok(settled(applied).map(|_| proto::ObserveReply { until }))
    }

    fn revoke(
        &mut self,
        target: Target,
        reason: String,
        caller: &Caller,
    ) -> Result<Result<proto::RevokeReply, Refusal>> {
        if let Err(refusal) = self.governs_nothing(caller) {
            return Ok(Err(refusal));
        }
        let everything = matches!(target, Target::All);
        let (target, uid) = (meant(target), caller.uid);
        let applied = self.apply(Input::Revoke {
            target,
            reason,
            uid,
        })?;
        let stopped = applied.reached.stopped;
        // Everything at once is revoked by its epoch: the rows stay, and none of them stands.
        let rows = match everything {
            true => self.hands.gate.table().map_or(0, |rows| rows.len()),
            false => applied.reached.rows,
        };
        let record = self.hands.ledger.head().size.saturating_sub(1);
        Ok(settled(applied).map(|_| proto::RevokeReply {
            rows: rows as u64,
            frozen: stopped.frozen as u64,
            quarantined: stopped.quarantined as u64,
            killed: stopped.killed as u64,
            closed: stopped.closed as u64,
            record,
            ..proto::RevokeReply::default()
        }))
    }

    /// Refuses a caller that carries a label, wherever its cgroup is now.
    pub(super) fn governs_nothing(&self, caller: &Caller) -> Result<(), Refusal> {
        let label = match cgroups::pidfd(caller.pid) {
            Some(fd) => self.hands.gate.label_of(std::os::fd::AsFd::as_fd(&fd)),
            None => return Err(Refusal::Denied("the caller is gone".into())),
        };
        match label {
            Ok(None) => Ok(()),
            Ok(Some(label)) if !label.present() => Ok(()),
            Ok(Some(_)) => Err(Refusal::Denied("governed work does not govern".into())),
            Err(error) => Err(Refusal::Failed(format!(
                "reading the caller's label: {error:#}"
            ))),
        }
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
        self.governs_nothing(caller)?;
        let described = self
            .engine
            .policy()
            .and_then(|verified| verified.policy().zone(zone))
            .ok_or_else(|| Refusal::Invalid(format!("no policy in force has a zone `{zone}`")))?;
        if described.is_host() {
            let why = format!(
                "zone `{zone}` is the whole host: what is started outside of zones is in it"
            );
            return Err(Refusal::Invalid(why));
        }
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
pub(super) fn settled(applied: Applied) -> Result<String, Refusal> {
    let answer = applied.answer.map_err(|refused| match refused {
        Refused::Denied(why) => Refusal::Denied(why),
        Refused::Invalid(why) => Refusal::Invalid(why),
        Refused::Unverified(why) => Refusal::Verification(why),
    })?;
    match applied.failed {
        None => Ok(answer),
        Some(error) => Err(Refusal::Failed(format!(
            "not all of it could be done or written down (what was taken away stays away, nothing \
             was granted): {error}"
        ))),
    }
}
