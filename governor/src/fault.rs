//! Points at which a daemon built for tests ends itself, as the kernel might end any.
//!
//! Promises: nothing of this is in a build without the feature `fault-points`, and a build with it
//! says so at its start. A plan is one line, `INPUT EFFECT N`, in a file that only root can make: the
//! first step of that input that holds that effect is cut at its Nth point, counted from zero, by
//! SIGKILL. A point stands before each effect (before each run of stops), between the parts of those
//! that have parts, and one behind the last effect, before anybody is answered. `open PLACE N` means the
//! Nth time that a daemon comes by that place while it opens the gate or takes it down, counted from zero. `stops fail 0` means that
//! as long as it is there nobody is reached who is to be stopped. It decides nothing
//! else, and leaves the plan where it is: whoever wrote it takes it away.

use std::{
    fs,
    io::ErrorKind,
    sync::atomic::{AtomicU64, Ordering},
};

use governor_core::engine::{Effect, Input};

/// Where the plan lies. Outside of the daemon's own directory, so that a start can be cut too.
const PLAN: &str = "/run/governor-fault-point";
/// What `cargo xtask` looks for in a binary that is about to be packaged.
const MARK: &str =
    "built with fault-points: this daemon kills itself on demand and is for tests only";

/// The step that is to be cut, if this is it.
#[derive(Debug, Default)]
pub(crate) struct Fault {
    /// Points to go before the last.
    left: Option<u64>,
}

/// Says what this build is.
pub(crate) fn confess() {
    tracing::warn!("{MARK}");
}

impl Fault {
    /// Looks whether the plan means this step, and says so.
    pub(crate) fn begin(&mut self, input: &str, effects: &[Effect]) -> bool {
        self.left = None;
        if effects.is_empty() {
            return false;
        }
        let Some((wanted, effect, point)) = plan() else {
            return false;
        };
        if wanted == input && effects.iter().any(|found| found.name() == effect) {
            self.left = Some(point);
        }
        self.left.is_some()
    }

    /// One point.
    pub(crate) fn point(&mut self) {
        match self.left {
            None => {}
            Some(0) => end(),
            Some(left) => self.left = Some(left - 1),
        }
    }

    /// The step is over: what follows is another.
    pub(crate) fn over(&mut self) {
        self.point();
        self.left = None;
    }
}

/// A place in a start.
pub(crate) fn at(place: &str) {
    static TIMES: AtomicU64 = AtomicU64::new(0);
    let here = |(wanted, of, _): &(String, String, u64)| wanted == "open" && of == place;
    let Some((_, _, point)) = plan().filter(here) else {
        return;
    };
    if TIMES.fetch_add(1, Ordering::Relaxed) == point {
        end();
    }
}

/// Whether nobody is to be reached.
pub(crate) fn stops_fail() -> anyhow::Result<()> {
    let wanted = plan().filter(|(wanted, of, _)| wanted == "stops" && of == "fail");
    anyhow::ensure!(wanted.is_none(), "it was planned that nobody is reached");
    Ok(())
}

/// What is planned, if anything is.
fn plan() -> Option<(String, String, u64)> {
    let text = match fs::read_to_string(PLAN) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::error!("reading the plan `{PLAN}`: {error}");
            return None;
        }
    };
    let mut words = text.split_whitespace().map(str::to_owned);
    let planned = match (words.next(), words.next(), words.next()) {
        (Some(wanted), Some(of), Some(point)) => point.parse().ok().map(|at| (wanted, of, at)),
        (_, _, _) => None,
    };
    if planned.is_none() {
        tracing::error!("the plan `{PLAN}` is not `INPUT EFFECT N`: {text:?}");
    }
    planned
}

/// No destructor runs, and nothing is written.
fn end() -> ! {
    let own = nix::unistd::getpid();
    let sent = nix::sys::signal::kill(own, nix::sys::signal::Signal::SIGKILL);
    // A daemon that goes on would pass a test that it did not take.
    tracing::error!("ending itself: {sent:?}");
    std::process::abort();
}

/// The name a plan knows an input by.
pub(crate) const fn name(input: &Input) -> &'static str {
    match input {
        Input::PolicyOffered { uid: Some(_), .. } => "policy-offered",
        Input::PolicyOffered { uid: None, .. } => "policy-resumed",
        Input::PolicyRefused { .. } => "policy-refused",
        Input::HostShutOut => "host-shut-out",
        Input::NoPolicyKept => "no-policy-kept",
        Input::QuoteStarted { .. } => "quote-started",
        Input::EvidenceArrived { .. } => "evidence-arrived",
        Input::QuoteFailed { .. } => "quote-failed",
        Input::PcrsRead(_) => "pcrs-read",
        Input::Observe { .. } => "observe",
        Input::Revoke { .. } => "revoke",
        Input::Signals(_) => "signals",
        Input::LedgerBroken(_) => "ledger-broken",
        Input::Unlock { .. } => "unlock",
        Input::UnlabelledFound { .. } => "unlabelled-found",
        Input::UnlabelledMeasured(_) => "unlabelled-measured",
        Input::Hold { .. } => "hold",
        Input::Resume { .. } => "resume",
        Input::Reattest => "reattest",
        Input::Verdicts { .. } => "verdicts",
        Input::LeftOut(_) => "left-out",
        Input::EffectFailed { .. } => "effect-failed",
        Input::StopsFailed { .. } => "stops-failed",
        Input::Tick => "tick",
        Input::CanaryPassed => "canary-passed",
        Input::CanarySilent(_) => "canary-silent",
        Input::Disarm { .. } => "disarm",
        Input::GlassAsked { .. } => "glass-asked",
        Input::GlassSigned { .. } => "glass-signed",
        Input::GlassMended { .. } => "glass-mended",
        Input::PcrsExtended(_) => "pcrs-extended",
    }
}
