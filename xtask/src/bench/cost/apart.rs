//! What is not in the other rows: opens where some work opens only what is listed, for which the kernel asks one more
//! program of whoever opens; and a long round without the daemon, which has the one processor too.

use super::{OPENED, PATIENCE, PROBE, Place, Work, judged, one, one_by};
use crate::{
    guest::Guest,
    kit::{Kit, Spec},
    status,
};
use anyhow::{Context as _, Result};

/// Opening and closing, by whoever may open anything, in the zone and outside, and by whoever may not. `none` is what
/// it takes without governor; `spec` is the policy of the other rows.
pub(super) fn opens(
    guest: &mut Guest,
    kit: &Kit,
    mut spec: Spec,
    none: f64,
    rounds: u32,
) -> Result<Vec<String>> {
    guest
        .sh(&format!("cp {PROBE} {READER} && echo >> {READER}"))?
        .ok()?;
    let measured = |guest: &mut Guest, argv: &[&str]| -> Result<String> {
        Ok(guest.run(argv)?.ok()?.text() + "\n")
    };
    let reader = measured(guest, &["governor", "measure", READER])?;
    let data = measured(guest, &["governor", "measure", "--data", OPENED])?;
    spec.tables = TABLES;
    spec.sets.extend([("reader", reader), ("data", data)]);
    kit.load(guest, &spec)?;
    status::once_measured_ahead(guest, PATIENCE)?;
    let work = |name, place, bound| Work {
        place,
        ..Work::inside(name, &["open", OPENED], bound)
    };
    let rows = [
        (
            PROBE,
            work("of work that opens anything", Place::Inside, 1.08),
        ),
        (PROBE, work("outside zones", Place::Outside, 1.04)),
        (
            READER,
            work("of work that opens what is listed", Place::Inside, 1.08),
        ),
    ];
    let mut table = Vec::new();
    for (program, work) in rows {
        let ratio = one_by(guest, program, &work, work.of(rounds))? / none;
        table.push(format!(
            "| open+close where some work opens only what is listed, {} | {none:.0} | | | | | | {ratio:.4} | {} | {} |",
            work.name,
            work.bound,
            judged(ratio, work.bound)
        ));
    }
    Ok(table)
}

/// The same round as in the other rows, while the daemon is stopped. `none` is what it takes without governor.
pub(super) fn without_the_daemon(
    guest: &mut Guest,
    work: &Work,
    none: f64,
    rounds: u32,
) -> Result<String> {
    let signal = |guest: &mut Guest, signal: &str| -> Result<()> {
        let to = format!("--signal={signal}");
        let kill = ["systemctl", "kill", "--kill-whom=main", &to, "governor"];
        guest.run(&kill)?.ok().map(drop).context("the daemon")
    };
    signal(guest, "STOP")?;
    let counted = one(guest, work, work.of(rounds));
    signal(guest, "CONT")?;
    let ratio = counted? / none;
    Ok(format!(
        "| {}, the daemon stopped | {none:.0} | | | | | | {ratio:.4} | {} | {} |",
        work.name,
        work.bound,
        judged(ratio, work.bound)
    ))
}

/// The same program with one byte more, so that it is another workload's.
const READER: &str = "/opt/cost/reader";
const TABLES: &str = r#"
[workload.cost]
zone = "agents"
exec = ["cost"]
libraries = ["cost-libraries"]
started_by = ["operator", "cost"]
user = ["root"]
on_revoke = "kill"

[workload.reader]
zone = "agents"
exec = ["reader"]
libraries = ["cost-libraries"]
data = ["data"]
opens = "listed"
started_by = ["operator"]
user = ["root"]
on_revoke = "kill"

[workload.filler]
zone = "agents"
exec = ["filler"]
started_by = ["operator"]
user = ["root"]
on_revoke = "kill"
"#;
