//! What the kernel programs say in words, for development only.
//!
//! Built with the feature `bpf-log`, around an object whose programs were built to speak. Nothing
//! depends on it: no verdict, no record, no count.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aya_log::EbpfLogger;

use super::{Gate, HookState};

/// The hook whose program speaks.
const SPEAKER: &str = "bprm_check_security";
/// The ring is drained on a timer, as all of them are; this is how stale a line may be.
const STALE: Duration = Duration::from_millis(500);

impl Gate {
    /// Passes the programs' words on to this process's own log, for as long as the runtime lives.
    pub fn follow_logs(&self) -> Result<()> {
        let speaker = self.hooks().iter().find(|hook| hook.name == SPEAKER);
        let Some(HookState::Attached { prog_id }) = speaker.map(|hook| &hook.state) else {
            return Ok(());
        };
        let mut logger = EbpfLogger::init_from_id_with_logger(*prog_id, Passing)
            .context("finding the programs' log; build them with `cargo xtask build --bpf-log`")?;
        let mut due = tokio::time::interval(STALE);
        tokio::spawn(async move {
            loop {
                due.tick().await;
                logger.flush();
            }
        });
        Ok(())
    }
}

/// Turns one log into the other.
struct Passing;

impl log::Log for Passing {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::info!(program = SPEAKER, "{}", record.args());
    }

    fn flush(&self) {}
}
