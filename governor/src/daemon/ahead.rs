//! When listed files are measured ahead of whoever executes or opens them: with each policy, whenever digests that
//! were kept do not count any more, and after somebody was refused a file for not being known.

use super::Daemon;
use crate::{
    control::proto,
    seeding::{Progress, Seeded},
};

impl Daemon {
    pub(super) fn have_files_measured(&mut self) {
        let Some(policy) = self.engine.policy() else {
            return;
        };
        match self.hands.gate.digest_era() {
            Ok(Some(era)) => self.seeder.look(policy.digest(), policy.policy(), era),
            // Nothing that is measured now would be kept.
            Ok(None) => {}
            Err(error) => tracing::warn!("having listed files measured: {error}"),
        }
    }
}

/// How far it is.
pub(super) fn status(progress: Progress) -> proto::Ahead {
    let Seeded {
        known,
        others,
        absent,
        passed_over,
        left,
    } = progress.seeded;
    proto::Ahead {
        known,
        others,
        absent,
        passed_over,
        left,
        passes: progress.passes,
    }
}
