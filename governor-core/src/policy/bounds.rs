//! How much of anything a policy may hold, and what the host itself may do before it is not trusted any
//! more: `clock_step` and `[events]`.

use governor_common::names::{LISTED_ROWS, ZONE_PATH_ROWS};
use toml::de::{DeTable, DeValue};

use super::{
    check::timespan,
    document::Table,
    model::{Governor, Losses},
    report::{Complaint, Report},
};
use crate::time::Span;

/// How far the wall clock may be set back where policy says nothing. Within it nothing is won: the
/// moments of a policy are held against the latest wall clock that was seen.
pub const CLOCK_STEP: Span = Span::seconds(60);

/// While one policy takes the place of another the kernel knows the zones of both, beside the governed
/// slice and the daemon's own cgroup: what fits alone could not be loaded over another.
const ZONES: usize = ZONE_PATH_ROWS as usize / 2 - 8;
/// The same for what the host itself lists, beside the keys and what the daemon had mapped.
const LISTED: usize = LISTED_ROWS as usize / 2 - 384;

/// Tables of each kind. The kernel's tables bound zones; the others are far more than anybody
/// writes, and few enough to be looked at one by one.
const COUNTS: [(&str, &str, usize); 4] = [
    ("zone", "zones", ZONES),
    ("workload", "workloads", 4_096),
    ("risk", "risks", 256),
    ("set", "sets", 1_024),
];

/// Reports kinds of tables of which there are too many.
pub(super) fn counts(document: &DeTable<'_>, report: &mut Report<'_>) {
    for (key, kind, limit) in COUNTS {
        if let Some(DeValue::Table(tables)) = document.get(key).map(toml::Spanned::get_ref)
            && tables.len() > limit
        {
            let message = format!("{} {kind}, the limit is {limit}", tables.len());
            report.error(0, Complaint::new(message));
        }
    }
}

/// Reports more digests under `[governor]` than the kernel can hold.
pub(super) fn listed(governor: &Governor, table: &Table<'_>, report: &mut Report<'_>) {
    let kinds = [
        &governor.exec,
        &governor.libraries,
        &governor.modules,
        &governor.kexec,
    ];
    let count: usize = kinds.iter().map(|kind| kind.len()).sum();
    if count > LISTED {
        let message = format!("[governor] lists {count} digests, the limit is {LISTED}");
        report.error(table.at, Complaint::new(message).hint("use smaller sets"));
    }
}

/// `[policy] clock_step`.
pub(super) fn clock_step(table: &Table<'_>, report: &mut Report<'_>) -> Span {
    let Some(step) = timespan(table, "clock_step", report) else {
        return CLOCK_STEP;
    };
    if step.value < Span::seconds(1) || step.value > Span::seconds(86_400) {
        let complaint = Complaint::new("`clock_step` must be from 1 s to 24 h");
        report.error(step.at, complaint);
    }
    step.value
}

/// `[events]`.
pub(super) fn losses(root: &Table<'_>, report: &mut Report<'_>) -> Option<Losses> {
    let keys = ["losses", "within"];
    let table = root.table("events", &keys, report)?;
    table.require(&keys, report);
    let complaint =
        Complaint::new("a workload that floods the gate with denials can take trust away");
    report.warn(
        table.at,
        complaint
            .hint("leave [events] out unless missing evidence is worse than a host that stands"),
    );
    let denials = table.integer("losses", report).and_then(|losses| {
        let number = u64::try_from(losses.value).ok();
        if number.is_none() {
            report.error(losses.at, Complaint::new("`losses` cannot be negative"));
        }
        number
    });
    let within = timespan(&table, "within", report);
    denials.zip(within).map(|(denials, within)| Losses {
        denials,
        within: within.value,
    })
}
