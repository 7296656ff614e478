//! `governor daemon`: what systemd starts.
//!
//! Logs go to the journal with their fields when systemd listens, to standard error otherwise.
//! `GOVERNOR_LOG` says how much (`info` unless set).

use std::{env, process::ExitCode};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use super::{Done, Globals, journal, output};
use crate::{control::Failure, daemon::Ended};

/// `RestartPreventExitStatus=` of the unit.
const DISARMED: u8 = 42;

pub(super) fn daemon(globals: &Globals) -> Done {
    let config = globals.config()?;
    log()?;
    Ok(match crate::daemon::run(config)? {
        Ended::Stopped => ExitCode::SUCCESS,
        // The unit knows this one: whoever took the gate down does not want it back.
        Ended::Disarmed => ExitCode::from(DISARMED),
    })
}

fn log() -> Result<(), Failure> {
    let filter = EnvFilter::try_from_env("GOVERNOR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let journal = match env::var_os("JOURNAL_STREAM").map(|_| journal::layer()) {
        None => None,
        Some(Ok(journal)) => Some(journal),
        Some(Err(error)) => {
            output::complain(&format!(
                "logging to standard error, the journal takes nothing: {error}"
            ));
            // Which leads to the journal too.
            let _waits = rustix::io::ioctl_fionbio(std::io::stderr(), true);
            None
        }
    };
    let plain = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let outcome = match journal {
        Some(journal) => registry.with(journal).try_init(),
        None => registry.with(plain).try_init(),
    };
    outcome.map_err(|error| Failure::Failed(format!("starting the log: {error}")))
}
