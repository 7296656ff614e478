//! Opening to read, where only what is listed may be read.
//!
//! Whatever is opened could be text that somebody executes, so what nobody can have listed is refused:
//! pipes, terminals, what the kernel makes up when it is read. What says nothing that anybody chose passes.
//! Where nothing can be measured when it is opened, what no digest is kept of is refused as well.

use crate::{
    decide::{Decision, settle, standing, unmeasured},
    facts::{Facts, Operation},
    reason::{Reason, Verdict},
    row::{MODE_ENFORCE, MODE_OBSERVE, ROLES},
};

/// Opening something to read it, by a task whose label says that it opens only what is listed.
#[inline(always)]
pub fn decide_open(f: &Facts) -> Decision {
    if !f.label.present() {
        return (Verdict::Allow, Reason::Unlabelled);
    }
    settle(f, judge(f))
}

#[inline(always)]
fn judge(f: &Facts) -> Reason {
    if f.operation != Operation::Open as u32 {
        return Reason::GateFault;
    }
    if f.tombstone != 0 || f.starter_tombstone != 0 {
        return Reason::Revoked;
    }
    if f.zone_mode != MODE_ENFORCE && f.zone_mode != MODE_OBSERVE {
        return Reason::UnknownZone;
    }
    match f.kind {
        S_IFREG => file(f),
        // Names alone; what they name is opened by itself.
        S_IFDIR => Reason::Authorized,
        S_IFCHR if says_nothing(f.protocol) => Reason::Authorized,
        _ => Reason::UnlistedOpen,
    }
}

#[inline(always)]
fn file(f: &Facts) -> Reason {
    if let Some(reason) = unmeasured(f) {
        return reason;
    }
    let reason = standing(f);
    if matches!(reason, Reason::NotAuthorized) {
        return Reason::UnlistedOpen;
    }
    if !matches!(reason, Reason::Authorized) {
        return reason;
    }
    if f.row.roles & ROLES == 0 {
        return Reason::UnlistedOpen;
    }
    Reason::Authorized
}

/// Whether nobody chose what a device says: `null`, `zero`, `full`, `random`, `urandom`.
#[inline(always)]
const fn says_nothing(device: u32) -> bool {
    const MEMORY: u32 = 1;
    device >> MINOR_BITS == MEMORY && matches!(device & ((1 << MINOR_BITS) - 1), 3 | 5 | 7 | 8 | 9)
}

/// Types of files, as in their modes.
const S_IFREG: u32 = 0o100_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFCHR: u32 = 0o020_000;
/// How the kernel packs the number of a device.
const MINOR_BITS: u32 = 20;
