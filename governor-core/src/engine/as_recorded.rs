//! A stop as records have it, and which copies it is of.
//!
//! Promises: what is read back is the stop that was written, as this version does it.

use super::{Effect, Grip, Running};
use crate::{lineage::OwedStop, policy::OnRevoke};

/// As records have it; nothing if it is nothing that could be owed.
pub(super) fn owed(effect: &Effect) -> Option<OwedStop> {
    let (zone, running, action, release) = match effect {
        Effect::Stop {
            zone,
            workload,
            action,
            barred,
        } => {
            let action = match action {
                OnRevoke::Deny => return None,
                OnRevoke::Freeze => OwedStop::FREEZE,
                OnRevoke::Quarantine => OwedStop::QUARANTINE,
                OnRevoke::Kill => OwedStop::KILL,
            };
            let release = match barred {
                false => OwedStop::BY_TRUST,
                true => OwedStop::BARRED,
            };
            let running = workload.map_or(Running::All, Running::Workload);
            (*zone, running, action, release)
        }
        Effect::Hold {
            zone,
            running,
            grip,
        } => {
            let action = match grip {
                Grip::Pause => OwedStop::FREEZE,
                Grip::Quarantine => OwedStop::QUARANTINE,
                Grip::Kill => OwedStop::KILL,
            };
            (*zone, *running, action, OwedStop::BY_HAND)
        }
        Effect::Bar { zone } => (*zone, Running::All, OwedStop::BAR, OwedStop::BARRED),
        Effect::Append(_)
        | Effect::Guard(_)
        | Effect::AcknowledgeSignals(_)
        | Effect::KeepLock(_)
        | Effect::ForgetLock
        | Effect::BeginLedger(_)
        | Effect::KeepPolicy(_)
        | Effect::InstallTable(_)
        | Effect::SetLease { .. }
        | Effect::DropLease
        | Effect::BreakGlass { .. }
        | Effect::EndBreakGlass { .. }
        | Effect::ForgetBreakGlass
        | Effect::MarkRevokedAll(_)
        | Effect::RaiseEpoch { .. }
        | Effect::AddTombstone(_)
        | Effect::RemoveRows(_)
        | Effect::Thaw(_)
        | Effect::ExtendPcrs(_)
        | Effect::TakeDown
        | Effect::RequestQuote { .. } => return None,
    };
    let all = OwedStop {
        zone,
        copies: OwedStop::ALL,
        action,
        release,
        ..OwedStop::default()
    };
    Some(match running {
        Running::All => all,
        Running::Workload(workload) => OwedStop {
            copies: OwedStop::WORKLOAD,
            workload,
            ..all
        },
        Running::Digest(digest) => OwedStop {
            copies: OwedStop::DIGEST,
            digest: digest.to_vec(),
            ..all
        },
        Running::Unlabelled => return None,
    })
}

/// The stop that a record means.
pub(super) fn effect(stop: &OwedStop) -> Effect {
    let stop = stop.understood();
    let zone = stop.zone;
    let digest = <[u8; 32]>::try_from(stop.digest.as_slice());
    let workload = (stop.copies == OwedStop::WORKLOAD).then_some(stop.workload);
    let (action, grip) = match stop.action {
        OwedStop::BAR => return Effect::Bar { zone },
        OwedStop::FREEZE => (OnRevoke::Freeze, Grip::Pause),
        OwedStop::QUARANTINE => (OnRevoke::Quarantine, Grip::Quarantine),
        0 | OwedStop::KILL.. => (OnRevoke::Kill, Grip::Kill),
    };
    let by_policy = |barred| Effect::Stop {
        zone,
        workload,
        action,
        barred,
    };
    match stop.release {
        OwedStop::BY_TRUST => by_policy(false),
        OwedStop::BARRED => by_policy(true),
        0 | OwedStop::BY_HAND.. => Effect::Hold {
            zone,
            running: match digest {
                Ok(digest) => Running::Digest(digest),
                Err(_) => workload.map_or(Running::All, Running::Workload),
            },
            grip,
        },
    }
}

/// Whether it is of these copies alone.
pub(super) fn is_of_no_others(stop: &OwedStop, running: Running) -> bool {
    match running {
        Running::All => true,
        Running::Workload(workload) => {
            stop.copies == OwedStop::WORKLOAD && stop.workload == workload
        }
        Running::Digest(digest) => stop.copies == OwedStop::DIGEST && stop.digest == digest,
        Running::Unlabelled => false,
    }
}

/// Whether some of these copies may be among those that it is of.
pub(super) fn may_be_of(stop: &OwedStop, running: Running) -> bool {
    match (running, stop.copies) {
        (Running::Unlabelled, _) => false,
        (Running::Workload(workload), OwedStop::WORKLOAD) => stop.workload == workload,
        (Running::Digest(digest), OwedStop::DIGEST) => stop.digest == digest,
        (Running::All | Running::Workload(_) | Running::Digest(_), _) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_read_back_as_the_one_it_was() {
        use Running::{All, Digest, Workload};
        let (mut stops, zone) = (vec![Effect::Bar { zone: 3 }], 3);
        for action in [OnRevoke::Freeze, OnRevoke::Quarantine, OnRevoke::Kill] {
            for workload in [None, Some(0), Some(7)] {
                stops.extend([false, true].map(|barred| Effect::Stop {
                    zone,
                    workload,
                    action,
                    barred,
                }));
            }
        }
        for grip in [Grip::Pause, Grip::Quarantine, Grip::Kill] {
            let of = [All, Workload(0), Workload(7), Digest([9; 32])];
            stops.extend(of.map(|running| Effect::Hold {
                zone,
                running,
                grip,
            }));
        }
        for stop in stops {
            let written = owed(&stop).unwrap();
            assert_eq!(written.understood(), written, "{stop:?}");
            assert_eq!(effect(&written), stop);
        }
    }
}
