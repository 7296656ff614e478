//! The policies of the crash model: names that come and go, and what each of them says of stopping.

use std::sync::OnceLock;

use super::{super::*, model::WALL};
use crate::time::WallTime;

pub(super) const SERIALS: std::ops::RangeInclusive<u64> = 1..=8;
/// When the workloads of one policy end, and when all policies do, in seconds after the clock of the model
/// began.
pub(super) const SOME_END: i64 = 3_600;
pub(super) const ALL_ENDS: i64 = 30_297_600;

/// Lets the zone `tools` run what the zone `agents` runs.
pub(super) const EXTRA: &str = "[workload.extra]\nzone = \"tools\"\nexec = [\"planner\"]\n\
                     started_by = [\"operator\"]\nuser = [\"1000\"]\non_revoke = \"kill\"\n";
/// Who is refused twice is frozen, and who executes anything is killed.
const BOUNDS: &str = "[risk.probing]\nof = \"denied-exec\"\ncount = 2\nwithin = \"60s\"\n\
                      action = \"freeze\"\n\
                      [risk.spawning]\nof = \"spawn\"\ncount = 1\nwithin = \"60s\"\n\
                      action = \"kill\"\n\
                      [events]\nlosses = 10\nwithin = \"60s\"\n";
const HOST: &str = "[zone.host]\ncgroup = \"/\"\nrequires = \"policy\"\n\
                    [survival]\nexec = [\"daemon\"]\nlibraries = [\"daemon\"]\n";

/// Some list one program more; one has a workload under another name, one a zone; one has the whole host.
fn edited(serial: u64, text: String) -> String {
    let ends = format!(
        "valid = {{ from = {}, until = {} }}\n",
        WallTime(WALL - 60),
        WallTime(WALL + SOME_END)
    );
    let text = match serial {
        3 => text.replace("workload.planner", "workload.designer"),
        4 => text.replace("thaw =", "unlabelled = \"kill\"\nthaw ="),
        5 => text
            .replace(
                "[workload.planner]\n",
                &format!("[workload.planner]\n{ends}"),
            )
            .replace("[workload.helper]\n", &format!("[workload.helper]\n{ends}")),
        6 => text
            .replace("zone.tools", "zone.others")
            .replace("\"tools\"", "\"others\"")
            .replace("on_revoke = \"deny\"", "on_revoke = \"freeze\""),
        _ => text,
    };
    // What loses its trust is frozen, and goes on when it returns.
    let text = text.replace("thaw = true", "on_revoke = \"freeze\"\nthaw = true");
    let tables = [
        (EXTRA, serial % 3 == 2),
        (BOUNDS, serial % 4 != 1),
        (HOST, serial == 7),
    ];
    let tables: String = tables
        .iter()
        .filter(|(_, has)| *has)
        .map(|(table, _)| *table)
        .collect();
    text.replace("[set]\n", &format!("{tables}[set]\n"))
}

pub(super) fn menu(serial: u64) -> Arc<VerifiedPolicy> {
    static MADE: OnceLock<Vec<Arc<VerifiedPolicy>>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        SERIALS
            .map(|serial| {
                super::policies::signed_policy_edited(serial, |text| edited(serial, text))
            })
            .collect()
    });
    Arc::clone(&made[serial as usize - 1])
}
