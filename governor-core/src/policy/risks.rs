//! `[risk.NAME]`: how many of what in what time are answered how.

use std::collections::BTreeMap;

use super::{
    check::{ON_REVOKE, timespan, word},
    document::Table,
    model::{Risk, RiskEvent},
    report::{Complaint, Report},
    values,
};

/// Reads every risk.
pub(super) fn read(root: &Table<'_>, report: &mut Report<'_>) -> BTreeMap<String, Risk> {
    let keys = ["count", "of", "within", "action"];
    let mut risks = BTreeMap::new();
    for (name, table) in root.tables("risk", &keys, report) {
        if let Err(complaint) = values::name(name.value) {
            report.error(name.at, complaint);
        }
        table.require(&keys, report);
        let count = table.integer("count", report).and_then(|count| {
            let number = u32::try_from(count.value)
                .ok()
                .filter(|number| *number >= 1);
            if number.is_none() {
                report.error(
                    count.at,
                    Complaint::new("`count` must be from 1 to 4294967295"),
                );
            }
            number
        });
        let of = word(&table, "of", RISK_EVENTS, report);
        let within = timespan(&table, "within", report);
        let action = word(&table, "action", ON_REVOKE, report);
        if let (Some(count), Some(of), Some(within), Some(action)) = (count, of, within, action) {
            let risk = Risk {
                count,
                of,
                within: within.value,
                action,
            };
            risks.insert(name.value.to_owned(), risk);
        }
    }
    risks
}

const RISK_EVENTS: &[(&str, RiskEvent)] = &[
    ("denied-exec", RiskEvent::DeniedExec),
    ("denied-map", RiskEvent::DeniedMap),
    ("denied-open", RiskEvent::DeniedOpen),
    ("denied-socket", RiskEvent::DeniedSocket),
    ("denied-connect", RiskEvent::DeniedConnect),
    ("denied-peer", RiskEvent::DeniedPeer),
    ("denied-guard", RiskEvent::DeniedGuard),
    ("spawn", RiskEvent::Spawn),
    ("connect", RiskEvent::Connect),
];
