//! `[zone.NAME]`: where a zone is, and how strict.

use std::collections::BTreeMap;

use governor_common::net::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX};

use super::{
    check::{ON_REVOKE, timespan, word},
    document::{At, Table},
    model::{Memory, Mode, OnRevoke, Opens, Requires, Unlabelled, Zone},
    places,
    report::{Complaint, Report, quoted},
    values,
};

/// Zones by name, with the offset of their name.
pub(super) type Zones = BTreeMap<String, At<Zone>>;

/// The name of the whole-host zone, and its cgroup.
pub const HOST: &str = "host";
const WHOLE: &str = "/";

impl Zone {
    /// Whether it is everything that is in no other zone.
    pub fn is_host(&self) -> bool {
        self.cgroup.is_empty()
    }

    pub(super) fn attested(&self) -> bool {
        self.requires == Requires::Attestation
    }
}

/// Reads every zone. One that has mistakes is there all the same, so that what refers to it is not
/// a second mistake.
pub(super) fn read(root: &Table<'_>, report: &mut Report<'_>) -> Zones {
    let mut zones = Zones::new();
    let mut paths: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, table) in root.tables("zone", KEYS, report) {
        if let Err(complaint) = values::name(name.value) {
            report.error(name.at, complaint);
        }
        table.require(&["cgroup"], report);
        let cgroup = cgroup(name.value, &table, report);
        if let Some(cgroup) = cgroup
            && let Some(other) = paths.insert(cgroup.value, name.value)
        {
            let message = format!("zone {} has the same cgroup", quoted(other));
            report.error(cgroup.at, Complaint::new(message));
        }
        let place = cgroup.map_or("", |cgroup| cgroup.value);
        let zone = one(place.trim_start_matches('/'), &table, report);
        zones.insert(
            name.value.to_owned(),
            At {
                value: zone,
                at: name.at,
            },
        );
    }
    zones
}

fn cgroup<'a>(name: &str, table: &Table<'a>, report: &mut Report<'_>) -> Option<At<&'a str>> {
    let cgroup = table.string("cgroup", report)?;
    if (cgroup.value == WHOLE) != (name == HOST) {
        let message = format!("the cgroup `{WHOLE}` and the zone name `{HOST}` belong together");
        let hint = "the whole host is one zone, and every policy calls it so";
        report.error(cgroup.at, Complaint::new(message).hint(hint));
        return Some(cgroup);
    }
    if cgroup.value == WHOLE {
        return Some(cgroup);
    }
    match places::cgroup(cgroup.value) {
        Err(complaint) => report.error(cgroup.at, complaint),
        Ok(()) => {
            if let Err(complaint) = places::slices_nest(cgroup.value) {
                report.warn(cgroup.at, complaint);
            }
        }
    }
    Some(cgroup)
}

fn one(cgroup: &str, table: &Table<'_>, report: &mut Report<'_>) -> Zone {
    Zone {
        cgroup: cgroup.to_owned(),
        mode: word(table, "mode", MODES, report).unwrap_or(Mode::Enforce),
        requires: word(table, "requires", REQUIRES, report).unwrap_or(Requires::Attestation),
        memory: word(table, "memory", MEMORIES, report).unwrap_or(Memory::WriteXorExecute),
        opens: word(table, "opens", OPENS, report).unwrap_or(Opens::Any),
        families: families(table, report),
        on_revoke: word(table, "on_revoke", ON_REVOKE, report).unwrap_or(OnRevoke::Kill),
        observe_up_to: timespan(table, "observe_up_to", report).map(|span| span.value),
        thaw: thaw(table, report),
        unlabelled: unlabelled(cgroup, table, report),
    }
}

fn thaw(table: &Table<'_>, report: &mut Report<'_>) -> bool {
    let Some(thaw) = table.boolean("thaw", report) else {
        return false;
    };
    if thaw.value && table.is_word("requires", "policy") {
        let complaint = Complaint::new("`thaw` has no effect in a zone that requires policy only");
        report.warn(thaw.at, complaint.hint("it is about trust that returns"));
    }
    thaw.value
}

/// What keeps a host alive has no label, so the whole host has no such key.
fn unlabelled(cgroup: &str, table: &Table<'_>, report: &mut Report<'_>) -> Unlabelled {
    let said = word(table, "unlabelled", UNLABELLED, report).unwrap_or(Unlabelled::Leave);
    if cgroup.is_empty()
        && said != Unlabelled::Leave
        && let Some(written) = table.string("unlabelled", report)
    {
        let message = format!("`unlabelled` cannot be {} here", quoted(written.value));
        let hint = "what keeps the host alive has no label";
        report.error(written.at, Complaint::new(message).hint(hint));
    }
    said
}

fn families(table: &Table<'_>, report: &mut Report<'_>) -> u64 {
    let mut families = 0u64;
    for family in table.strings("families", report).into_iter().flatten() {
        match values::word(family.value, FAMILIES) {
            Err(complaint) => report.error(family.at, complaint),
            Ok(number) => {
                let bit = 1u64 << number;
                if families & bit != 0 {
                    let message = format!("{} is listed twice", quoted(family.value));
                    report.warn(family.at, Complaint::new(message));
                }
                families |= bit;
            }
        }
    }
    families
}

const KEYS: &[&str] = &[
    "cgroup",
    "mode",
    "requires",
    "memory",
    "opens",
    "families",
    "on_revoke",
    "observe_up_to",
    "thaw",
    "unlabelled",
];
const MODES: &[(&str, Mode)] = &[("enforce", Mode::Enforce), ("observe", Mode::Observe)];
const REQUIRES: &[(&str, Requires)] = &[
    ("attestation", Requires::Attestation),
    ("policy", Requires::Policy),
];
const MEMORIES: &[(&str, Memory)] = &[("w^x", Memory::WriteXorExecute), ("any", Memory::Any)];
const UNLABELLED: &[(&str, Unlabelled)] = &[
    ("leave", Unlabelled::Leave),
    ("freeze", Unlabelled::Freeze),
    ("kill", Unlabelled::Kill),
];
/// What is opened for reading, as zones and workloads say it.
pub(super) const OPENS: &[(&str, Opens)] = &[("any", Opens::Any), ("listed", Opens::Listed)];
const FAMILIES: &[(&str, u32)] = &[
    ("unix", AF_UNIX),
    ("inet", AF_INET),
    ("inet6", AF_INET6),
    ("netlink", AF_NETLINK),
];
