//! Reaching somebody on this host through a Unix socket.
//!
//! Whoever listens may do for the asker what the asker may not: start a program, open a connection, hand over what is
//! open. So a workload reaches who is in its own zone, and outside of it what policy names, and nobody else. Who is in
//! the zone is told by who made the socket, and never by what it is called.

use crate::{
    decide::{Decision, settle, standing},
    facts::{Facts, Operation},
    reason::{Reason, Verdict},
    row::{MODE_ENFORCE, MODE_OBSERVE},
};

/// Connecting to whoever listens, or sending to whoever receives.
#[inline(always)]
pub fn decide_peer(f: &Facts) -> Decision {
    if !f.label.present() {
        return (Verdict::Allow, Reason::Unlabelled);
    }
    settle(f, judge(f))
}

#[inline(always)]
fn judge(f: &Facts) -> Reason {
    if f.operation != Operation::Peer as u32 {
        return Reason::GateFault;
    }
    if f.tombstone != 0 {
        return Reason::Revoked;
    }
    if f.zone_mode != MODE_ENFORCE && f.zone_mode != MODE_OBSERVE {
        return Reason::UnknownZone;
    }
    let reason = standing(f);
    if !matches!(reason, Reason::Authorized) {
        return reason;
    }
    let same_zone = f.port != 0 && f.port == f.zone;
    if same_zone || f.destination_listed == 1 {
        Reason::Authorized
    } else {
        Reason::UnlistedPeer
    }
}
