//! Gathering what a verdict is made from.
//!
//! Nothing is judged here. The state is read after the measurement, and deadline before trips
//! before epoch: the daemon writes them in the opposite order.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_ktime_get_boot_ns};
use governor_common::{
    Facts, Label, Measured, Operation, Row,
    decide::{self, Decision},
    facts::same,
    names::{SCOPE_SURVIVAL, ZONE_HOST},
    row::MODE_OBSERVE,
    state::Word,
};

use crate::{
    label::Known,
    maps::{self, Key, Table, ZoneRow},
    offsets::{self, load},
};

/// Whether nothing lifts a denial in the zone at this moment: it is not observed, and the glass is whole.
#[inline(always)]
pub(crate) fn enforces(zone: u32) -> bool {
    let Some(glass) = maps::state(Word::BreakGlassUntil) else {
        return false;
    };
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if now < glass {
        return false;
    }
    let Some(table) = Table::in_force() else {
        return false;
    };
    match table.zone(zone) {
        Some(row) => row.mode != MODE_OBSERVE || now >= row.observe_until,
        None => true,
    }
}

/// Clears the facts and fills in who asks for what.
#[inline(always)]
pub(crate) fn begin(facts: &mut Facts, operation: Operation, zone: u32, label: &Label) {
    // SAFETY: integers only; all zero is a value, and the strictest one.
    unsafe { core::ptr::from_mut(facts).write_bytes(0, 1) };
    facts.operation = operation as u32;
    facts.zone = zone;
    facts.label = *label;
    facts.uid = caller();
    // SAFETY: no arguments.
    facts.now = unsafe { bpf_ktime_get_boot_ns() };
}

/// The real user id of the current task, as the root namespace knows it. The helper that says so looks for
/// it, and for the group's, in maps of ids that map nothing there.
#[inline(always)]
fn caller() -> u32 {
    // SAFETY: a field of `cred`.
    unsafe { load(credentials(), &offsets::OFF_CRED_UID) }
}

/// What the current task acts with.
#[inline(always)]
pub(crate) fn credentials() -> *const c_void {
    // SAFETY: the helper returns the running task.
    let task: *const c_void = unsafe { bpf_get_current_task_btf() }.cast();
    // SAFETY: a field of `task_struct`.
    unsafe { load(task, &offsets::OFF_TASK_CRED) }
}

/// Whether the current task is in the user namespace of the host.
#[inline(always)]
pub(crate) fn is_in_hosts_namespace() -> bool {
    // SAFETY: a field of `cred`.
    let users: *const c_void = unsafe { load(credentials(), &offsets::OFF_CRED_USERS) };
    // SAFETY: a field of `user_namespace`; that of the host is at the top.
    let level: u32 = unsafe { load(users, &offsets::OFF_USERS_LEVEL) };
    level == 0
}

/// The same facts, judged at another moment.
#[inline(always)]
pub(crate) fn again(facts: &mut Facts) {
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
        let starter = facts.starter();
        facts.starter_tombstone = if same(&subject, &starter) {
            facts.tombstone
        } else {
            u32::from(maps::tombstone(zone, &starter))
        };
    }
    let Some(table) = Table::in_force() else {
        return;
    };
    if facts.on_host() && is_network(facts.operation) {
        let row = core::ptr::from_mut(&mut facts.row);
        // The zone's own is what is asked for: its rules are found by its generation.
        table.copy(&Key::of_zone(zone), row);
        // SAFETY: a copy.
        if let Some(row) = unsafe { ZoneRow::of(row, zone) } {
            take(facts, &row);
        }
        return;
    }
    if let Some(row) = table.zone(zone) {
        take(facts, &row);
    }
    find(facts, table, &subject);
}

/// The same for a task of which something may be known, and notes what is known of it then. The edition
/// that all of it is of; zero: of none.
#[inline(always)]
pub(crate) fn look_up_known(facts: &mut Facts, known: &mut Known) -> u64 {
    // Read before anything is looked up: whatever is stored after that shows in the word first.
    let edition = maps::edition();
    if facts.zone == facts.label.zone && known.holds(&facts.label, edition) {
        let table = Table::in_force();
        // And the table is of the same edition as the zone's row, if that is still the one.
        if maps::edition() == edition {
            take(facts, &known.zone);
            let subject = facts.subject();
            if !same(&subject, &facts.starter()) {
                facts.tombstone = u32::from(maps::tombstone(facts.zone, &subject));
            }
            if let Some(table) = table {
                find(facts, table, &subject);
            }
            return edition;
        }
    }
    look_up(facts);
    known.note(facts, edition);
    edition
}

#[inline(always)]
fn take(facts: &mut Facts, row: &ZoneRow) {
    facts.zone_mode = row.mode;
    facts.zone_class = row.class;
    facts.zone_memory = row.memory;
    facts.zone_families = row.families;
    facts.zone_observe_until = row.observe_until;
}

/// Finds the row that is asked for. None was looked for before.
#[inline(always)]
fn find(facts: &mut Facts, table: Table, subject: &[u64; 4]) {
    let zone = facts.zone;
    let row = core::ptr::from_mut(&mut facts.row);
    if facts.on_host() {
        copy(table, zone, SCOPE_SURVIVAL, subject, row);
        if facts.survives() {
            return;
        }
        // SAFETY: integers only.
        unsafe { row.write_bytes(0, 1) };
    }
    copy(table, zone, facts.scope(), subject, row);
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
        Some(table) => table.has(&Key::of_zone(ZONE_HOST)),
        None => false,
    }
}

#[inline(always)]
fn copy(table: Table, zone: u32, scope: u32, digest: &[u64; 4], row: *mut Row) {
    table.copy(
        &Key {
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
