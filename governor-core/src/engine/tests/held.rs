//! What the model's kernel does to running copies: they are killed, or frozen and marked why.
//!
//! The mark lies on what is frozen, so it outlives the daemon. A milder one replaces no stricter one.

use std::collections::BTreeSet;

use super::{
    super::*,
    crash::Copied,
    model::{Host, Kernel},
};
use crate::policy::OnRevoke;

/// Why a copy is frozen, from what ends by itself to what only an operator ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    Frozen,
    /// Trust that returns does not end it.
    Barred,
    Paused,
    Quarantined,
}

/// What becomes of a copy that is reached.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Killed,
    Held(Mark),
}

impl End {
    pub(super) const fn by_hand(grip: Grip) -> Self {
        match grip {
            Grip::Pause => Self::Held(Mark::Paused),
            Grip::Quarantine => Self::Held(Mark::Quarantined),
            Grip::Kill => Self::Killed,
        }
    }

    /// `None`: what runs goes on.
    pub(super) const fn of_policy(action: OnRevoke, barred: bool) -> Option<Self> {
        Some(match action {
            OnRevoke::Deny => return None,
            OnRevoke::Freeze if barred => Self::Held(Mark::Barred),
            OnRevoke::Freeze => Self::Held(Mark::Frozen),
            OnRevoke::Quarantine => Self::Held(Mark::Quarantined),
            OnRevoke::Kill => Self::Killed,
        })
    }
}

fn is_meant(copy: &Copied, zone: u32, running: Running) -> bool {
    copy.zone == zone
        && match running {
            Running::All => true,
            Running::Workload(workload) => copy.workload == workload,
            Running::Digest(digest) => copy.digest == digest,
            // Every copy has a label.
            Running::Unlabelled => false,
        }
}

impl Host {
    /// Reaches copies that run, and those that are frozen already.
    pub(super) fn stop(&mut self, zone: u32, running: Running, end: End) {
        let meant = |copy: &Copied| is_meant(copy, zone, running);
        let reached: BTreeSet<Copied> = self.copies.iter().copied().filter(meant).collect();
        self.copies.retain(|copy| !meant(copy));
        match end {
            End::Killed => self.frozen.retain(|copy, _| !meant(copy)),
            End::Held(mark) => {
                self.mark(mark, meant);
                for copy in reached {
                    self.frozen.entry(copy).or_insert(mark);
                }
            }
        }
    }

    /// What is frozen in a zone does not go on for the return of trust alone.
    pub(super) fn bar(&mut self, zone: u32) {
        self.mark(Mark::Barred, |copy| copy.zone == zone);
    }

    fn mark(&mut self, mark: Mark, meant: impl Fn(&Copied) -> bool) {
        let frozen = self.frozen.iter_mut().filter(|(copy, _)| meant(copy));
        for (_, held) in frozen {
            *held = mark.max(*held);
        }
    }

    /// Lets go on what is listed; without an operator only what nothing but the loss of trust froze.
    pub(super) fn let_go_on(&mut self, thaw: &Thaw) {
        let (zone, running) = (thaw.zone, thaw.running);
        let copies = &mut self.copies;
        self.frozen.retain(|copy, mark| {
            let listed = thaw.allowed.get(&copy.workload);
            let stays = !(thaw.by_hand || *mark == Mark::Frozen)
                || !is_meant(copy, zone, running)
                || listed.is_none_or(|digests| !digests.contains(&copy.digest));
            if !stays {
                copies.insert(*copy);
            }
            stays
        });
    }

    /// The gate is gone, and the daemon with it. The anchor lies beside the ledger.
    pub(super) fn take_down(&mut self) {
        self.down = true;
        self.kernel = Kernel {
            anchored: self.kernel.anchored,
            ..Kernel::default()
        };
    }
}
