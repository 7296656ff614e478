//! Gathering what a verdict is made from.
//!
//! Nothing is judged here. The state is read after the measurement, and deadline before trips
//! before epoch: the daemon writes them in the opposite order.

use aya_ebpf::helpers::generated::{bpf_get_current_uid_gid, bpf_ktime_get_boot_ns};
use governor_common::{
    Facts, Label, Measured, Operation, RowKey,
    decide::{self, Decision},
    names::{SCOPE_SURVIVAL, SCOPE_ZONE, ZONE_HOST},
    state::Word,
};

use crate::maps::{self, Table};

/// Clears the facts and fills in who asks for what.
#[inline(always)]
pub(crate) fn begin(facts: &mut Facts, operation: Operation, zone: u32, label: &Label) {
    // SAFETY: integers only; all zero is a value, and the strictest one.
    unsafe { core::ptr::from_mut(facts).write_bytes(0, 1) };
    facts.operation = operation as u32;
    facts.zone = zone;
    facts.label = *label;
    // SAFETY: no arguments.
    facts.uid = unsafe { bpf_get_current_uid_gid() } as u32;
    // SAFETY: no arguments.
    facts.now = unsafe { bpf_ktime_get_boot_ns() };
}

/// Reads the state words; false when a map is not what it should be.
#[inline(always)]
pub(crate) fn read_state(facts: &mut Facts) -> bool {
    let Some(deadline) = maps::state(Word::LeaseDeadline) else {
        return false;
    };
    let Some(lease_trips) = maps::state(Word::LeaseTrips) else {
        return false;
    };
    let Some(lease_epoch) = maps::state(Word::LeaseEpoch) else {
        return false;
    };
    let Some(attested) = maps::state(Word::EpochAttested) else {
        return false;
    };
    let Some(policy) = maps::state(Word::EpochPolicy) else {
        return false;
    };
    let Some(trips) = maps::trips() else {
        return false;
    };
    let Some(glass) = maps::state(Word::BreakGlassUntil) else {
        return false;
    };
    facts.state.lease_deadline = deadline;
    facts.state.lease_trips = lease_trips;
    facts.state.lease_epoch = lease_epoch;
    facts.state.epoch_attested = attested;
    facts.state.epoch_policy = policy;
    facts.state.trips = trips;
    facts.state.break_glass_until = glass;
    true
}

/// Looks up the zone, the row that is asked for, and the tombstone. What is not found stays zero.
#[inline(always)]
pub(crate) fn look_up(facts: &mut Facts) {
    let zone = facts.zone;
    let subject = facts.subject();
    facts.tombstone = u32::from(maps::tombstone(zone, &subject));
    if facts.label.present() {
        facts.starter_tombstone = u32::from(maps::tombstone(zone, &facts.label.digest));
    }
    let Some(table) = Table::in_force() else {
        return;
    };
    let row = core::ptr::from_mut(&mut facts.row);
    table.copy(
        &RowKey {
            zone,
            scope: SCOPE_ZONE,
            digest: [0; 32],
        },
        row,
    );
    if facts.row.key.zone == zone && facts.row.key.scope == SCOPE_ZONE {
        facts.zone_mode = facts.row.mode;
        facts.zone_class = facts.row.class;
        facts.zone_memory = facts.row.memory;
        facts.zone_families = facts.row.families;
        facts.zone_observe_until = facts.row.observe_until;
    }
    if facts.on_host() {
        if is_network(facts.operation) {
            // The zone's own row stays: its rules are found by its generation.
            return;
        }
        copy_over(table, zone, SCOPE_SURVIVAL, &subject, facts);
        if facts.survives() {
            return;
        }
    }
    let scope = facts.scope();
    copy_over(table, zone, scope, &subject, facts);
}

/// What was to run is being written, so its measurement is of nothing that lasts.
#[inline(always)]
pub(crate) fn written(facts: &mut Facts) -> Decision {
    facts.measured = Measured::Written as u32;
    decide::decide_written(facts)
}

/// Whether the table in force makes the whole host a zone.
#[inline(always)]
pub(crate) fn host_is_zone() -> bool {
    match Table::in_force() {
        Some(table) => table.has(&RowKey {
            zone: ZONE_HOST,
            scope: SCOPE_ZONE,
            digest: [0; 32],
        }),
        None => false,
    }
}

#[inline(always)]
fn copy_over(table: Table, zone: u32, scope: u32, digest: &[u8; 32], facts: &mut Facts) {
    let row = core::ptr::from_mut(&mut facts.row);
    // SAFETY: integers only.
    unsafe { row.write_bytes(0, 1) };
    table.copy(
        &RowKey {
            zone,
            scope,
            digest: *digest,
        },
        row,
    );
}

#[inline(always)]
fn is_network(operation: u32) -> bool {
    operation == Operation::Connect as u32 || operation == Operation::Send as u32
}
