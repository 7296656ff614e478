//! When listed files are measured ahead of whoever executes or opens them: with each policy, whenever digests that
//! were kept do not count any more, and after somebody was refused a file for not being known. Not before the
//! kernel's measuring was tried on a disk.

use governor_common::Event;

use super::Daemon;
use crate::{
    control::proto,
    seeding::{Progress, Seeded, Seeder},
};

impl Daemon {
    pub(super) fn have_files_measured(&mut self) {
        let Some(policy) = self.engine.policy() else {
            return;
        };
        if self.seeder.is_none() {
            let seeder = self.hands.gate.take_asker().map(Seeder::start);
            match seeder.transpose() {
                Ok(seeder) => self.seeder = seeder,
                Err(error) => tracing::warn!("having listed files measured: {error:#}"),
            }
        }
        let Some(seeder) = &mut self.seeder else {
            return;
        };
        match self.hands.gate.digest_era() {
            Ok(Some(era)) => seeder.look(policy.digest(), policy.policy(), era),
            // Nothing that is measured now would be kept.
            Ok(None) => {}
            Err(error) => tracing::warn!("having listed files measured: {error}"),
        }
    }

    /// Looks who was refused what is not known.
    pub(super) fn hear_who_missed(&mut self, events: &[Event], lost: u64) {
        if let Some(seeder) = &mut self.seeder {
            seeder.hear(events, lost);
        }
    }

    /// How far it is.
    pub(super) fn measured_ahead(&self) -> proto::Ahead {
        let progress = self.seeder.as_ref().map(Seeder::progress);
        let Progress { seeded, passes, .. } = progress.unwrap_or_default();
        let Seeded {
            known,
            others,
            absent,
            passed_over,
            left,
        } = seeded;
        proto::Ahead {
            known,
            others,
            absent,
            passed_over,
            left,
            passes,
        }
    }
}
