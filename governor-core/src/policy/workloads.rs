//! `[workload.NAME]`: what may run in a zone, who may start it, and where it may connect.

use std::collections::{BTreeMap, BTreeSet};

use governor_common::names::{STARTERS, USERS};

use super::{
    check::{ON_REVOKE, window, word},
    document::{At, Table},
    model::{OnRevoke, Opens, Starter, Validity, Workload},
    report::{Complaint, Report, did_you_mean, quoted},
    rules,
    sets::{Sets, Use},
    sockets, values,
    zones::{OPENS, Zones},
};
use crate::digest::Digest;

/// Workloads by name, with the offset of their name.
pub(super) type Workloads = BTreeMap<String, At<Workload>>;

/// What a workload is read against.
pub(super) struct Context<'a> {
    pub(super) validity: Validity,
    pub(super) zones: &'a Zones,
}

/// Reads every workload.
pub(super) fn read(
    root: &Table<'_>,
    context: &Context<'_>,
    sets: &mut Sets,
    report: &mut Report<'_>,
) -> Workloads {
    let mut workloads = Workloads::new();
    let mut starters = Vec::new();
    for (name, table) in root.tables("workload", KEYS, report) {
        if name.value == OPERATOR {
            let complaint = Complaint::new("`operator` is not a name for a workload");
            report.error(
                name.at,
                complaint.hint("in `started_by` it means an unlabelled parent"),
            );
        } else if let Err(complaint) = values::name(name.value) {
            report.error(name.at, complaint);
        }
        table.require(&["zone"], report);
        let workload = one(&name, &table, context, sets, report);
        starters.push((name.value, table.strings("started_by", report)));
        workloads.insert(
            name.value.to_owned(),
            At {
                value: workload,
                at: name.at,
            },
        );
    }
    for (name, listed) in starters {
        let started_by = started_by(name, listed, &workloads, report);
        if let Some(workload) = workloads.get_mut(name) {
            workload.value.started_by = started_by;
        }
    }
    workloads
}

fn one(
    name: &At<&str>,
    table: &Table<'_>,
    context: &Context<'_>,
    sets: &mut Sets,
    report: &mut Report<'_>,
) -> Workload {
    let zone = table.string("zone", report);
    if let Some(zone) = zone
        && !context.zones.contains_key(zone.value)
    {
        let message = format!("unknown zone {}", quoted(zone.value));
        let hint = did_you_mean(zone.value, context.zones.keys().map(String::as_str))
            .unwrap_or_else(|| "describe it in a [zone.NAME] table".to_owned());
        report.error(zone.at, Complaint::new(message).hint(hint));
    }
    let zone = zone.map_or("", |zone| zone.value);
    let in_zone = context.zones.get(zone).map(|zone| &zone.value);
    let own = word(table, "on_revoke", ON_REVOKE, report).unwrap_or(OnRevoke::Kill);
    let exec = sets.resolve(table, "exec", Use::Code, report);
    let scripts = sets.resolve(table, "scripts", Use::Code, report);
    if exec.is_empty() && scripts.is_empty() {
        let message = format!("workload `{}` has neither `exec` nor `scripts`", name.value);
        report.warn(
            name.at,
            Complaint::new(message).hint("so nothing can be started as it"),
        );
    }
    let libraries = sets.resolve(table, "libraries", Use::Code, report);
    let listed = [&exec, &scripts, &libraries];
    let interpreters = interpreters(name, table, listed, sets, report);
    if !table.has("user") {
        let message = format!(
            "workload `{}` has no `user`, so nobody may run it",
            name.value
        );
        report.warn(name.at, Complaint::new(message));
    }
    if !table.has("started_by") {
        let message = format!(
            "workload `{}` has no `started_by`, so nobody may start it",
            name.value
        );
        report.warn(name.at, Complaint::new(message));
    }
    let own_opens = word(table, "opens", OPENS, report).unwrap_or(Opens::Any);
    let opens = in_zone.map_or(own_opens, |zone| own_opens.max(zone.opens));
    let data = sets.resolve(table, "data", Use::Data, report);
    if opens == Opens::Any && !data.is_empty() {
        let message = format!("`data` of workload `{}` has no effect", name.value);
        let hint = "it opens anything: say `opens = \"listed\"`";
        report.warn(name.at, Complaint::new(message).hint(hint));
    }
    rules::listen(table, report);
    Workload {
        zone: zone.to_owned(),
        exec,
        scripts,
        interpreters,
        data,
        opens,
        libraries,
        started_by: BTreeSet::new(),
        users: users(table, report),
        egress: rules::egress(table, in_zone.map(|zone| zone.families), report),
        sockets: sockets::read(table, in_zone.map(|zone| zone.families), report),
        validity: validity(table, context.validity, report),
        on_revoke: in_zone.map_or(own, |zone| own.max(zone.on_revoke)),
    }
}

/// What scripts are handed to. Nobody starts it, so it cannot be listed to be started as well.
fn interpreters(
    name: &At<&str>,
    table: &Table<'_>,
    [exec, scripts, libraries]: [&BTreeSet<Digest>; 3],
    sets: &mut Sets,
    report: &mut Report<'_>,
) -> BTreeSet<Digest> {
    let interpreters = sets.resolve(table, "interpreters", Use::Code, report);
    for (key, started) in [("exec", exec), ("scripts", scripts)] {
        if let Some(digest) = interpreters.intersection(started).next() {
            let message = format!(
                "workload `{}` lists {digest} in `interpreters` and in `{key}`",
                name.value
            );
            let hint = "what is in `interpreters` is never started by itself: list it once";
            report.error(name.at, Complaint::new(message).hint(hint));
        }
    }
    if let Some(digest) = interpreters.intersection(libraries).next() {
        let message = format!(
            "workload `{}` lists {digest} in `interpreters` and in `libraries`",
            name.value
        );
        let hint = "a loader in `exec` would run it as a library, with any text: list it once";
        report.error(name.at, Complaint::new(message).hint(hint));
    }
    if scripts.is_empty() && !interpreters.is_empty() {
        let message = format!(
            "workload `{}` has `interpreters` and no `scripts`",
            name.value
        );
        let hint = "so they run nothing";
        report.warn(name.at, Complaint::new(message).hint(hint));
    } else if !scripts.is_empty() && interpreters.is_empty() {
        let complaint = if exec.is_empty() {
            let message = format!(
                "workload `{}` has `scripts` and nothing that runs them",
                name.value
            );
            Complaint::new(message).hint("list their interpreter in `interpreters`")
        } else {
            let message = format!(
                "workload `{}` has `scripts` and no `interpreters`",
                name.value
            );
            Complaint::new(message)
                .hint("an interpreter in `exec` runs any text for whoever may start the workload")
        };
        report.warn(name.at, complaint);
    }
    interpreters
}

fn started_by(
    name: &str,
    listed: Option<Vec<At<&str>>>,
    workloads: &Workloads,
    report: &mut Report<'_>,
) -> BTreeSet<Starter> {
    let mut starters = BTreeSet::new();
    let zone = workloads
        .get(name)
        .map(|workload| workload.value.zone.as_str());
    for item in listed.into_iter().flatten() {
        let starter = if item.value == OPERATOR {
            Starter::Operator
        } else if let Some(other) = workloads.get(item.value) {
            if Some(other.value.zone.as_str()) != zone {
                let message = format!("workload {} is in another zone", quoted(item.value));
                let hint = "a workload starts only what is in its own zone";
                report.error(item.at, Complaint::new(message).hint(hint));
            }
            Starter::Workload(item.value.to_owned())
        } else {
            let message = format!("unknown workload {}", quoted(item.value));
            let known = workloads.keys().map(String::as_str).chain([OPERATOR]);
            let hint = did_you_mean(item.value, known)
                .unwrap_or_else(|| "name a workload, or `operator`".to_owned());
            report.error(item.at, Complaint::new(message).hint(hint));
            continue;
        };
        if !starters.insert(starter) {
            report.warn(
                item.at,
                Complaint::new(format!("{} is listed twice", quoted(item.value))),
            );
        } else if starters.len() == STARTERS + 1 {
            let message = format!("more than {STARTERS} in `started_by`");
            report.error(item.at, Complaint::new(message));
        }
    }
    starters
}

fn users(table: &Table<'_>, report: &mut Report<'_>) -> BTreeSet<String> {
    let mut users = BTreeSet::new();
    for user in table.strings("user", report).into_iter().flatten() {
        if let Err(complaint) = values::user(user.value) {
            report.error(user.at, complaint);
        } else if !users.insert(user.value.to_owned()) {
            report.warn(
                user.at,
                Complaint::new(format!("{} is listed twice", quoted(user.value))),
            );
        } else if users.len() == USERS + 1 {
            report.error(
                user.at,
                Complaint::new(format!("more than {USERS} in `user`")),
            );
        }
    }
    users
}

fn validity(table: &Table<'_>, policy: Validity, report: &mut Report<'_>) -> Validity {
    let Some(valid) = table.table("valid", &["from", "until"], report) else {
        return policy;
    };
    valid.require(&["from", "until"], report);
    let moments = valid
        .moment("from", report)
        .zip(valid.moment("until", report));
    let Some(own) = window(moments, "until", "from", report) else {
        return policy;
    };
    let clipped = Validity {
        from: own.from.max(policy.from),
        until: own.until.min(policy.until),
    };
    if clipped.from >= clipped.until {
        report.error(
            valid.at,
            Complaint::new("`valid` lies outside the policy's own validity"),
        );
    } else if clipped != own {
        let complaint = Complaint::new("`valid` reaches beyond the policy's own validity");
        report.warn(valid.at, complaint.hint("the part beyond has no effect"));
    }
    clipped
}

const OPERATOR: &str = "operator";
const KEYS: &[&str] = &[
    "zone",
    "exec",
    "libraries",
    "scripts",
    "interpreters",
    "data",
    "opens",
    "started_by",
    "user",
    "egress",
    "sockets",
    "listen",
    "valid",
    "on_revoke",
];
