//! Which numbers of zones and workloads the kernel still holds.
//!
//! Promises: every place that a number can be in was looked at, or it is an error: the table, the zones
//! and their cgroups, destinations, tombstones, and the label of every task. A ledger that begins anew
//! gives new names numbers above these.

use governor_common::{Carrier, Line, Plain as _, Row, names, net::EgressKey};
use governor_core::policy::Taken;

use super::{Gate, GateError};

impl Gate {
    /// The highest of them.
    pub fn taken(&self) -> Result<Taken, GateError> {
        let mut taken = Taken::default();
        for row in self.table()? {
            of_row(&row, &mut taken);
        }
        for (_, zone) in self.zones_in_force()? {
            taken.zone(zone);
        }
        for entry in self.maps.cgroups.iter() {
            let listing = GateError::map(names::CGROUPS, "listing zones' cgroups");
            taken.zone(entry.map_err(listing)?.1);
        }
        for key in self.maps.egress.keys() {
            let key = key.map_err(GateError::map(names::EGRESS, "listing destinations"))?;
            if let Some(key) = EgressKey::read(&key.data()) {
                taken.workload(key.workload);
            }
        }
        for key in self.tombstones()?.into_keys() {
            taken.zone(key.zone);
        }
        of_tasks(&self.carriers()?, &mut taken)?;
        Ok(taken)
    }
}

fn of_row(row: &Row, taken: &mut Taken) {
    taken.zone(row.key.zone);
    let workloads = [row.key.scope, row.workload];
    for workload in workloads.into_iter().chain(row.starters) {
        taken.workload(workload);
    }
}

fn of_tasks(carriers: &[Carrier], taken: &mut Taken) -> Result<(), GateError> {
    for carrier in carriers {
        match Line::from_u32(carrier.line) {
            Some(Line::Labelled) => {
                taken.zone(carrier.label.zone);
                taken.workload(carrier.label.workload);
            }
            Some(Line::Unread | Line::End) | None => {
                return Err(GateError::Invalid(format!(
                    "the label of task {} could not be read",
                    carrier.pid
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use governor_common::{
        Label, RowKey,
        names::{SCOPE_ZONE, STARTER_OPERATOR, WORKLOAD_NONE, ZONE_CANARY},
    };

    use super::*;

    #[test]
    fn the_highest_number_counts_wherever_it_is() {
        let mut taken = Taken::default();
        let mut row = Row {
            key: RowKey {
                zone: 3,
                scope: SCOPE_ZONE,
                ..RowKey::default()
            },
            workload: 2,
            ..Row::default()
        };
        row.starters[0] = STARTER_OPERATOR;
        row.starters[1] = 6;
        of_row(&row, &mut taken);
        assert_eq!((taken.zones, taken.workloads), (3, 6));
        let labelled = |zone, workload| Carrier {
            line: Line::Labelled as u32,
            label: Label {
                zone,
                workload,
                ..Label::default()
            },
            ..Carrier::default()
        };
        let carriers = [
            labelled(4, 1),
            labelled(1, 9),
            labelled(ZONE_CANARY, WORKLOAD_NONE),
        ];
        of_tasks(&carriers, &mut taken).unwrap();
        assert_eq!((taken.zones, taken.workloads), (4, 9));
    }

    #[test]
    fn a_task_that_nobody_can_read_may_have_any() {
        let unread = Carrier {
            line: Line::Unread as u32,
            pid: 77,
            ..Carrier::default()
        };
        let error = of_tasks(&[unread], &mut Taken::default()).unwrap_err();
        assert!(error.to_string().contains("task 77"), "{error}");
    }
}
