//! The daemon: inputs in, effects out.
//!
//! One loop. Commands, evidence, events and time become inputs of the engine; its effects are
//! performed by `execute` before the next input is looked at; whoever asked is answered when the
//! record is durable. The loop never waits for the TPM, and no verdict ever waits for the loop.

mod advice;
mod ahead;
mod alone;
mod answer;
mod break_glass;
mod clock;
mod disarm;
mod draining;
mod events;
mod execute;
mod explain;
mod failing;
mod foreseen;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod holding;
mod loading;
mod names;
mod offers;
mod recording;
mod sockets;
mod start;
mod status;
mod stop;
mod store;
mod unlabelled;
mod watch;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use governor_core::{
    attest::{Challenge, Evidence, Nonce, PcrSelection},
    digest::Digest,
    engine::{Effect, Engine, Input, Refused, Trust},
    time::{BootTime, Span},
};
use tokio::sync::{broadcast, mpsc, oneshot};

use self::{events::Recent, execute::Hands};
use crate::{
    attester::Attester,
    config::Config,
    control::{Refusal, proto},
    gate::{Gate, Opened},
    peers::Peers,
    progress,
    seeding::Seeder,
};

/// Rounds of failing effects that one input may cause: far more than effects can fail.
const ROUNDS: usize = 10_000;
/// How long the TPM may take for reading registers before the reading is given up.
const PCR_PATIENCE: Duration = Duration::from_secs(5);

/// The running daemon.
#[derive(Debug)]
pub struct Daemon {
    config: Config,
    engine: Engine,
    hands: Hands,
    recent: Recent,
    feed: broadcast::Sender<Arc<proto::GateEvent>>,
    /// Answers of the TPM come back here.
    tpm: mpsc::Sender<FromTpm>,
    attester: Option<Attester>,
    reading_pcrs: bool,
    /// Callers waiting for the appraisal they asked for.
    waiting: Vec<oneshot::Sender<Result<proto::ReattestReply, Refusal>>>,
    losses: draining::Losses,
    boot_id: [u8; 16],
    started: BootTime,
    /// What was found pinned at start.
    opened: String,
    leaves: u64,
    canary: watch::Heard,
    /// Who asked for the gate to be taken down.
    disarming: Option<oneshot::Sender<Result<proto::DisarmReply, Refusal>>>,
    /// Policies come back here once the host was looked at, and what runs there without a label.
    looked: mpsc::Sender<loading::FromHost>,
    offers: offers::Offers<loading::Offer>,
    /// Why the kept policy could not be put in force yet; tried again until it is.
    owed_policy: Option<String>,
    /// When that is tried again, and how long it was waited for.
    again: (BootTime, Span),
    seeder: Option<Seeder>,
    peers: Option<Peers>,
    looks: unlabelled::Looks,
}

/// What the TPM's thread answers.
#[derive(Debug)]
enum FromTpm {
    Evidence(Nonce, Result<Box<Evidence>, String>),
    Pcrs(Result<BTreeMap<u8, Digest>, String>),
    Extended(PcrSelection, Result<(), String>),
}

/// How the daemon came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The gate stays in force.
    Stopped,
    /// The gate is down.
    Disarmed,
}

/// Runs until the service manager says stop. What is pinned stays in force.
pub fn run(config: Config) -> Result<Ended> {
    crate::memory::stay_in_small_pages();
    crate::arguments::forget();
    crate::memory::stay_small();
    crate::preload::preload(&config.tpm.tcti)?;
    crate::memory::stay_resident();
    // Two would write one ledger, and each take the other's records for a stranger's.
    let _until_the_end = alone::hold(&config, |pins| Ok(Gate::prepare(pins)?))?;
    // Before there are threads: what marks this process as the daemon is inherited by threads that come
    // later, and by nothing else.
    let attached =
        Gate::open_or_attach(&config.pins, &config.scratch()).context("attaching the gate")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let ended = runtime.block_on(serve(config, attached));
    // Whatever is still read beside the loop is not waited for: it may never end.
    runtime.shutdown_background();
    ended
}

async fn serve(config: Config, attached: (Gate, Opened)) -> Result<Ended> {
    progress::beside().context("starting the thread that tells the service manager")?;
    let (commands, mut inbox) = mpsc::channel(64);
    let (tpm, mut from_tpm) = mpsc::channel(16);
    let (looked, mut from_host) = mpsc::channel(4);
    let (feed, _) = broadcast::channel(4096);
    let listener = crate::control::server::bind(&config.control.socket)?;
    let mut daemon = start::start(config, attached, tpm, looked, feed.clone())?;
    crate::memory::give_back();
    #[cfg(feature = "bpf-log")]
    daemon.hands.gate.follow_logs()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let options = crate::control::server::Options::new(
        std::path::Path::new(crate::cgroups::ROOT).join(&daemon.config.governed),
    );
    let server = tokio::spawn(crate::control::server::serve(
        listener,
        options,
        commands,
        feed,
        Arc::default(),
        async {
            drop(stopped.await);
        },
    ));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("listening for SIGTERM")?;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .context("listening for SIGINT")?;
    let mut drain = tokio::time::interval(daemon.config.drain);
    drain.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (canary, mut from_canary) = mpsc::channel(4);
    let label = daemon
        .hands
        .gate
        .canary_label()
        .context("making a canary")?;
    crate::canary::keep(label, canary)?;
    // It speaks from now on, however long the start took.
    daemon.canary = watch::Heard::now(clock::now()?.boot, daemon.hands.gate.canaries_refused()?);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    progress::ready();
    tracing::info!(gate = daemon.opened, "governor is up");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            Some(command) = inbox.recv() => daemon.command(command)?,
            Some(answer) = from_tpm.recv() => daemon.tpm_answered(answer)?,
            Some(looked) = from_host.recv() => daemon.looked(looked)?,
            Some(report) = from_canary.recv() => daemon.canary_reported(report)?,
            _ = drain.tick() => {
                daemon.hear_tpm(&mut from_tpm)?;
                daemon.hear_ledger()?;
                daemon.watch()?;
                daemon.drain()?;
                daemon.apply(Input::Tick)?;
                daemon.note_told()?;
            }
            _ = second.tick() => {
                daemon.read_pcrs();
                daemon.hands.name_zones();
                daemon.sweep();
                daemon.guard_devices();
                daemon.miss_canary(&mut from_canary)?;
                daemon.resume_if_owed()?;
                daemon.have_files_measured();
                daemon.find_sockets();
                daemon.stop_unlabelled(clock::now()?)?;
                // Fed by a loop that went round, not by a timer of its own.
                progress::made();
            }
        }
        if daemon.hands.down {
            break;
        }
    }
    if daemon.hands.down {
        tracing::warn!("stopping; the gate is down");
    } else {
        tracing::info!("stopping; the gate stays in force");
    }
    progress::stopping();
    daemon.finish_records()?;
    drop(stop);
    server.await.context("stopping the control socket")??;
    Ok(if daemon.hands.down {
        Ended::Disarmed
    } else {
        Ended::Stopped
    })
}

/// What an input came to.
struct Applied {
    answer: Result<String, Refused>,
    /// What could not be done, or not be written down.
    failed: Option<String>,
    reached: execute::Reached,
}

impl Daemon {
    /// Feeds one input, performs what it asks for, and feeds back what failed.
    fn apply(&mut self, input: Input) -> Result<Applied> {
        let mut queue = VecDeque::from([input]);
        let mut applied: Option<Applied> = None;
        let mut rounds = 0;
        while let Some(input) = queue.pop_front() {
            rounds += 1;
            if rounds > ROUNDS {
                // Each failure asks for less, so a defect: the kernel denies on, and a new daemon adopts.
                bail!("effects kept failing: {input:?}");
            }
            let now = clock::now()?;
            #[cfg(feature = "fault-points")]
            let named = crate::fault::name(&input);
            let step = self.engine.handle(now, input);
            let decided = clock::boot()?;
            progress::made();
            #[cfg(feature = "fault-points")]
            if self.hands.fault.begin(named, &step.effects) {
                // What is cut is this step, and not what is still written of the one before.
                self.await_records()?;
            }
            let before = self.engine.trust().name();
            let mut outcome = self.hands.perform(now, &step.next, step.effects);
            self.engine.go_on(step.next, outcome.grant_failed);
            let after = self.engine.trust();
            if after.name() != before {
                let reasons: Vec<String> = after.causes().keys().map(|c| c.code()).collect();
                // All of one clock, which whoever measures reads too.
                let since = |at: BootTime| at.0.saturating_sub(now.boot.0) / 1000;
                tracing::warn!(
                    from = before,
                    to = after.name(),
                    ?reasons,
                    at_us = now.boot.0 / 1000,
                    decided_us = since(decided),
                    revoked_us = outcome.revoked.map(since),
                    took_us = since(clock::boot()?),
                    "trust changed"
                );
            }
            for written in std::mem::take(&mut outcome.written) {
                queue.extend(self.written(written)?);
            }
            let failed = outcome.failed.first().map(|(_, error)| error.clone());
            if let Some(applied) = &mut applied {
                applied.reached += outcome.reached;
            }
            let begun = std::mem::take(&mut outcome.begun);
            let reached = outcome.reached;
            queue.extend(outcome.into_failed());
            for effect in begun {
                if let Some(input) = self.begin(effect)? {
                    queue.push_back(input);
                }
            }
            applied.get_or_insert(Applied {
                answer: step.answer,
                failed,
                reached,
            });
        }
        applied.context("an input was not handled")
    }

    /// Asks the TPM for what takes it a while.
    fn begin(&mut self, effect: Effect) -> Result<Option<Input>> {
        if let Effect::ExtendPcrs(pcrs) = effect {
            return Ok(self.begin_extending(pcrs));
        }
        self.begin_quote(effect)
    }

    /// Issues a nonce and has the TPM quote. `trips` and epoch are read before the nonce exists.
    fn begin_quote(&mut self, effect: Effect) -> Result<Option<Input>> {
        let Effect::RequestQuote { selection, policy } = &effect else {
            return Ok(None);
        };
        // Before the nonce exists: the lease counts from here.
        let at = clock::now()?.boot;
        // And this before anything can come of it: who takes the gate down is to make it fail.
        let noted = self.hands.gate.note_quoted(&selection.lasting());
        let begun = noted
            .context("noting which register stands for evidence")
            .and_then(|()| self.challenge(*policy));
        let (challenge, epoch) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                let error = format!("{error:#}");
                return Ok(Some(Input::EffectFailed {
                    effect: Box::new(effect),
                    error,
                }));
            }
        };
        let attester = match self.attester() {
            Ok(attester) => attester,
            Err(error) => {
                let why = format!("{error:#}");
                return Ok(Some(Input::QuoteFailed { nonce: None, why }));
            }
        };
        let nonce = challenge.nonce;
        let (extra, selection, reply) =
            (challenge.extra_data(), selection.clone(), self.tpm.clone());
        tokio::spawn(async move {
            let evidence = attester.evidence(selection, *extra.bytes()).await;
            let evidence = evidence.map(Box::new).map_err(|error| format!("{error:#}"));
            drop(reply.send(FromTpm::Evidence(nonce, evidence)).await);
        });
        Ok(Some(Input::QuoteStarted {
            challenge: Box::new(challenge),
            epoch,
            at,
        }))
    }

    fn challenge(&self, policy: Digest) -> Result<(Challenge, u64)> {
        let state = self
            .hands
            .gate
            .state()
            .context("reading the gate's state")?;
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).context("making a nonce")?;
        let head = self.hands.ledger.head();
        let challenge = Challenge {
            nonce: Nonce::new(nonce),
            host: self.engine.host().id,
            policy,
            ledger_size: head.size,
            ledger_head: head.digest,
            trips: state.trips,
        };
        Ok((challenge, state.epoch_attested))
    }

    /// The TPM's thread, started when it is first needed and again after it could not be.
    fn attester(&mut self) -> Result<Attester> {
        if let Some(attester) = &self.attester {
            return Ok(attester.clone());
        }
        let attester = Attester::start(&self.config.tpm.tcti, &self.config.state)
            .context("starting the attester")?;
        Ok(self.attester.insert(attester).clone())
    }

    fn tpm_answered(&mut self, answer: FromTpm) -> Result<()> {
        let (asked, failed) = match answer {
            FromTpm::Evidence(nonce, Ok(evidence)) => {
                let asked = self.engine.is_waiting_for(&nonce);
                let applied = self.apply(Input::EvidenceArrived { nonce, evidence })?;
                (asked, applied.failed)
            }
            FromTpm::Evidence(nonce, Err(why)) => {
                tracing::warn!("the TPM did not quote: {why}");
                let asked = self.engine.is_waiting_for(&nonce);
                let (nonce, failed) = (Some(nonce), Some(why.clone()));
                self.apply(Input::QuoteFailed { nonce, why })?;
                (asked, failed)
            }
            FromTpm::Extended(pcrs, done) => return self.extended(&pcrs, done),
            FromTpm::Pcrs(read) => {
                self.reading_pcrs = false;
                match read {
                    Ok(values) => {
                        self.apply(Input::PcrsRead(values))?;
                    }
                    Err(why) => tracing::debug!("the TPM did not show its registers: {why}"),
                }
                return Ok(());
            }
        };
        if !asked && !self.waiting.is_empty() {
            // It answers a challenge that was given up meanwhile, and says nothing of the one that
            // they wait for.
            if !self.engine.is_waiting_for_evidence() {
                self.apply(Input::Reattest)?;
            }
            if self.engine.is_waiting_for_evidence() {
                return Ok(());
            }
        }
        self.answer_waiting(failed);
        Ok(())
    }

    /// Tells those who asked for an appraisal how it went: trust may stand on an earlier one.
    fn answer_waiting(&mut self, failed: Option<String>) {
        let failed = failed.unwrap_or_default();
        for waiting in std::mem::take(&mut self.waiting) {
            drop(waiting.send(self.reattested(failed.clone())));
        }
    }

    fn reattested(&self, failed: String) -> Result<proto::ReattestReply, Refusal> {
        let now = clock::now().map_err(|error| Refusal::Failed(format!("{error:#}")))?;
        let lease = match self.engine.trust() {
            Trust::Trusted(trusted) => Some(trusted.deadline.0),
            Trust::Unattested(_) | Trust::Degraded(_) | Trust::Locked(_) => None,
        };
        let trust = status::trust(&self.engine, now, lease);
        let trust = Some(trust);
        Ok(proto::ReattestReply { trust, failed })
    }

    /// Reads the quoted registers between quotes; one reading at a time.
    fn read_pcrs(&mut self) {
        if self.reading_pcrs {
            return;
        }
        let (Some(selection), Some(attester)) =
            (self.engine.watched().cloned(), self.attester.clone())
        else {
            return;
        };
        self.reading_pcrs = true;
        let reply = self.tpm.clone();
        tokio::spawn(async move {
            let read = tokio::time::timeout(PCR_PATIENCE, attester.read_pcrs(selection)).await;
            let read = match read {
                Ok(read) => read.map_err(|error| format!("{error:#}")),
                Err(_) => Err("no answer in time".into()),
            };
            drop(reply.send(FromTpm::Pcrs(read)).await);
        });
    }

    /// File systems come and go; the devices below them are guarded while they are mounted.
    fn guard_devices(&mut self) {
        let gate = &mut self.hands.gate;
        let guarded = gate.is_armed().and_then(|armed| match armed {
            true => gate.protect_devices(),
            false => Ok(()),
        });
        if let Err(error) = guarded {
            tracing::warn!("bringing the guarded devices up to date: {error}");
        }
    }

    fn sweep(&self) {
        for (_, cgroup) in &self.hands.zones {
            crate::cgroups::sweep(cgroup);
        }
    }
}
