//! What `status` answers: everything an operator needs to see why work runs or does not.
//!
//! Read from the kernel and the engine at the moment of asking. It never says `full` while a hook
//! that the design names is missing, and it names each that is.

use governor_core::{
    engine::{Cause, Engine, HELD_OF_HOST, Trust},
    lineage::OwedStop,
    policy::{Mode, OnRevoke, Requires},
    time::{BootTime, ClockReading},
};

use super::{Daemon, advice::advice, clock, foreseen::Foreseen, names, recording::LATE};
use crate::{control::proto, gate::HookState, inventory::Unlabelled};

/// Why a host whose policy wants no quote is not trusted.
const NOTHING_ASKS: &str = "the policy in force asks for no attestation";

/// Why root can take the gate away.
const NOT_ARMED: &str = "no policy lists a daemon under [governor], so root can still unpin, unmount or rewrite the gate";

/// Hooks that a later version brings. Until then enforcement is partial, and this is why.
const NOT_HOOKED: &[(&str, &str)] = &[("socket_listen", "listening and accepting are not judged")];

/// The whole answer.
pub(crate) fn reply(daemon: &Daemon, now: ClockReading) -> proto::StatusReply {
    let engine = &daemon.engine;
    let state = daemon.hands.gate.state().unwrap_or_default();
    let counts = daemon.hands.gate.counts().unwrap_or_default();
    let head = daemon.hands.ledger.head();
    let lease = state.lease_holds(now.boot.0);
    let unreached = engine.unreached();
    let mut trust = trust(engine, now, lease.then_some(state.lease_deadline));
    if let Some(error) = &daemon.owed_policy {
        say_it_is_owed(&mut trust, error);
    }
    proto::StatusReply {
        trust: Some(trust),
        enforcement: Some(enforcement(daemon)),
        zones: zones(daemon, now),
        unlabelled: unlabelled(daemon),
        unreached: unreached
            .iter()
            .take(SHOWN)
            .map(|stop| of_stop(engine, stop))
            .collect(),
        unreached_count: u32::try_from(unreached.len()).unwrap_or(u32::MAX),
        policy: policy(daemon),
        epochs: Some(proto::Epochs {
            attested: state.epoch_attested,
            policy: state.epoch_policy,
            trips: state.trips,
        }),
        counts: counts
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| proto::Count {
                reason: reason.name().to_owned(),
                count,
            })
            .collect(),
        measurements: daemon
            .hands
            .gate
            .measurements()
            .ok()
            .map(|measured| proto::Measurements {
                hashed: measured.hashed,
                recalled: measured.recalled,
                turned_away: measured.turned_away,
                ahead: Some(daemon.measured_ahead()),
            }),
        sockets: daemon.named_sockets(),
        losses: Some(proto::Losses {
            denials: daemon.losses.denials.total(),
            events: daemon.losses.events.total(),
        }),
        ledger: Some(proto::Ledger {
            records: head.size,
            head: head.digest.bytes().to_vec(),
            path: daemon.hands.ledger.path().display().to_string(),
            ok: daemon.hands.ledger.refuses().is_none()
                && !engine.trust().has(&Cause::LedgerUnwritable),
            detail: of_ledger(daemon),
        }),
        break_glass: Some(daemon.glass_status(now)),
        daemon: Some(proto::Daemon {
            version: engine.host().version.clone(),
            pid: std::process::id(),
            boot_id: hex::encode(daemon.boot_id),
            adopted: daemon.opened != "fresh",
            started: clock::rfc3339(now, daemon.started),
        }),
    }
}

/// Why the ledger takes no records, or that its disk keeps them waiting.
fn of_ledger(daemon: &Daemon) -> String {
    let ledger = &daemon.hands.ledger;
    let late = ledger
        .at_work()
        .filter(|since| *since >= LATE)
        .map(|since| {
            format!(
                "its disk has not answered for {} s, and {} more records wait",
                since.as_secs(),
                ledger.records_waiting()
            )
        });
    let refuses = ledger.refuses().map(str::to_owned);
    refuses.or(late).unwrap_or_default()
}

/// Trust, its reasons, and what clears each.
pub(crate) fn trust(engine: &Engine, now: ClockReading, lease: Option<u64>) -> proto::Trust {
    let state = match engine.trust() {
        Trust::Unattested(_) => proto::TrustState::Unattested,
        Trust::Trusted(_) => proto::TrustState::Trusted,
        Trust::Degraded(_) => proto::TrustState::Degraded,
        Trust::Locked(_) => proto::TrustState::Locked,
    };
    let appraised = matches!(engine.trust(), Trust::Trusted(_));
    let nothing_asks = engine.policy().is_some() && engine.watched().is_none();
    let reason = |(cause, detail): (Cause, String)| {
        let (text, cleared_by) = if nothing_asks && cause == Cause::NotAttested {
            (NOTHING_ASKS.to_owned(), "nothing needs it")
        } else {
            (detail, cause.remedy())
        };
        proto::TrustReason {
            code: cause.code(),
            text,
            cleared_by: cleared_by.to_owned(),
        }
    };
    let reasons = engine.trust().causes().into_iter().map(reason).collect();
    proto::Trust {
        state: state.into(),
        class: if appraised {
            "local".into()
        } else {
            String::new()
        },
        since: clock::rfc3339(now, engine.trust().since()),
        lease_left_ms: lease.map_or(0, |deadline| {
            now.boot.until(BootTime(deadline)).0 / 1_000_000
        }),
        reasons,
        appraised_by: if appraised {
            vec!["local".into()]
        } else {
            Vec::new()
        },
    }
}

/// The policy that was accepted before is there, and comes back by itself.
fn say_it_is_owed(trust: &mut proto::Trust, error: &str) {
    let code = Cause::NoPolicy.code();
    for reason in &mut trust.reasons {
        if reason.code == code {
            reason.text = format!("the kept policy could not be put in force: {error}");
            "it is tried again by itself once records can be written; a policy reloaded by hand \
             clears this too"
                .clone_into(&mut reason.cleared_by);
        }
    }
}

/// The policy in force.
pub(crate) fn policy(daemon: &Daemon) -> Option<proto::Policy> {
    let verified = daemon.engine.policy()?;
    let policy = verified.policy();
    Some(proto::Policy {
        name: policy.name().to_owned(),
        serial: policy.serial(),
        digest: verified.digest().bytes().to_vec(),
        not_before: policy.validity().from.to_string(),
        not_after: policy.validity().until.to_string(),
        rows: daemon
            .hands
            .table
            .as_ref()
            .map_or(0, |table| table.rows.len() as u64),
    })
}

fn enforcement(daemon: &Daemon) -> proto::Enforcement {
    let mut hooks: Vec<proto::Hook> = daemon
        .hands
        .gate
        .hooks()
        .iter()
        .map(|hook| match &hook.state {
            HookState::Attached { .. } => proto::Hook {
                name: hook.name.to_owned(),
                state: proto::HookState::Attached.into(),
                detail: crate::gate::detail(hook.name).to_owned(),
            },
            HookState::Missing(why) => proto::Hook {
                name: hook.name.to_owned(),
                state: proto::HookState::Missing.into(),
                detail: why.clone(),
            },
        })
        .collect();
    let any = hooks
        .iter()
        .any(|hook| hook.state != i32::from(proto::HookState::Missing));
    hooks.extend(NOT_HOOKED.iter().map(|(name, why)| proto::Hook {
        name: (*name).to_owned(),
        state: proto::HookState::Missing.into(),
        detail: (*why).to_owned(),
    }));
    // Files of zones are held by the gate; its own program is held by the kernel alone.
    let busy = crate::gate::busy();
    if !busy.ok {
        hooks.push(proto::Hook {
            name: busy.name.to_owned(),
            state: proto::HookState::Missing.into(),
            detail: format!("{}; {}", busy.detail, busy.fix),
        });
    }
    // What cannot be read is not armed.
    if !daemon.hands.gate.is_armed().unwrap_or(false) {
        hooks.push(proto::Hook {
            name: "guard".to_owned(),
            state: proto::HookState::Missing.into(),
            detail: NOT_ARMED.to_owned(),
        });
    }
    let missing = hooks
        .iter()
        .any(|hook| hook.state == i32::from(proto::HookState::Missing));
    let level = match (any, missing) {
        (false, _) => proto::EnforcementLevel::None,
        (true, true) => proto::EnforcementLevel::Partial,
        (true, false) => proto::EnforcementLevel::Full,
    };
    proto::Enforcement {
        level: level.into(),
        hooks,
    }
}

/// What runs in zones without a label. A list that cannot be had says nothing of anybody.
fn unlabelled(daemon: &Daemon) -> Vec<proto::Unlabelled> {
    let found = daemon.unlabelled().unwrap_or_default();
    let listed = found.into_iter().map(|(zone, all)| proto::Unlabelled {
        zone,
        processes: u32::try_from(all.len()).unwrap_or(u32::MAX),
        found: all
            .into_iter()
            .take(SHOWN)
            .map(|Unlabelled { pid, program }| proto::unlabelled::Found { pid, program })
            .collect(),
    });
    listed.collect()
}

/// Of those in one zone, and of those who were not reached.
const SHOWN: usize = 8;

fn of_stop(engine: &Engine, stop: &OwedStop) -> proto::Unreached {
    let ids = engine.ids();
    let workload = match stop.copies {
        OwedStop::WORKLOAD => names::workload(ids, stop.workload),
        _ => String::new(),
    };
    let done = match stop.action {
        OwedStop::BAR => proto::Stop::Bar,
        OwedStop::FREEZE => proto::Stop::Freeze,
        OwedStop::QUARANTINE => proto::Stop::Quarantine,
        0 | OwedStop::KILL.. => proto::Stop::Kill,
    };
    proto::Unreached {
        zone: names::zone(ids, stop.zone),
        workload,
        digest: stop.digest.clone(),
        stop: done.into(),
    }
}

fn zones(daemon: &Daemon, now: ClockReading) -> Vec<proto::Zone> {
    let engine = &daemon.engine;
    let Some(verified) = engine.policy() else {
        return Vec::new();
    };
    // Maps that cannot be read let nothing start, as far as anybody can say.
    let maps = Foreseen::read(&daemon.hands.gate, now.boot.0).unwrap_or_default();
    let zones = verified.policy().zones().iter();
    zones
        .map(|(name, zone)| {
            let left = engine
                .observed()
                .get(name)
                .map_or(0, |until| now.boot.until(*until).0);
            let mode = match (zone.mode, left) {
                (Mode::Observe, _) => proto::ZoneMode::Observe,
                (Mode::Enforce, 0) => proto::ZoneMode::Enforce,
                (Mode::Enforce, _) => proto::ZoneMode::ObserveFor,
            };
            let held = || format!("{}/{HELD_OF_HOST}", daemon.config.governed);
            let place = if zone.is_host() {
                held()
            } else {
                zone.cgroup.clone()
            };
            let (leaves, frozen) = crate::cgroups::count(&place);
            let standing = maps.standing(verified.policy(), engine.ids(), name);
            let reason = standing.reason;
            proto::Zone {
                name: name.clone(),
                cgroup: if zone.is_host() {
                    "/".into()
                } else {
                    zone.cgroup.clone()
                },
                mode: mode.into(),
                requires: match zone.requires {
                    Requires::Attestation => proto::Requires::Attestation,
                    Requires::Policy => proto::Requires::Policy,
                }
                .into(),
                on_revoke: match zone.on_revoke {
                    OnRevoke::Deny => proto::OnRevoke::Deny,
                    OnRevoke::Freeze => proto::OnRevoke::Freeze,
                    OnRevoke::Quarantine => proto::OnRevoke::Quarantine,
                    OnRevoke::Kill => proto::OnRevoke::Kill,
                }
                .into(),
                observe_left_ms: left / 1_000_000,
                leaves,
                frozen,
                listed: standing.listed,
                startable: standing.startable,
                revoked: standing.revoked,
                reason: reason.map_or_else(String::new, |reason| reason.name().to_owned()),
                remedy: reason.map_or_else(String::new, |reason| advice(reason as u32)),
            }
        })
        .collect()
}
