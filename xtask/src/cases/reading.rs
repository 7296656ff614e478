//! A policy that takes seconds to be read, so that something else may happen meanwhile.

use anyhow::Result;

use crate::{
    guest::{Guest, JobId},
    kit::{Kit, RELOAD, Spec},
};

/// Offers it, and is back when the daemon reads it.
pub(super) fn begun(guest: &mut Guest, kit: &Kit) -> Result<JobId> {
    let mut lines = String::new();
    for number in 1..=MANY {
        lines.push_str(&format!("{number:064x}  listed\n"));
    }
    let spec = Spec {
        tables: r#"
[workload.many]
zone = "agents"
exec = ["many"]
started_by = ["operator"]
user = ["root"]
"#,
        sets: vec![("many", lines)],
        ..Spec::default()
    };
    let dir = kit.signed(&spec)?;
    kit.put(guest, &dir)?;
    let read = "journalctl -u governor -o cat | grep -c 'reading a policy that is offered'";
    let before = guest.sh(read)?.text();
    let offering = guest.spawn(&RELOAD)?;
    guest.wait_until(&format!("test $({read}) -gt {before}"))?;
    Ok(offering)
}

/// Digests: read for some seconds in a guest that is emulated.
const MANY: u32 = 150_000;
