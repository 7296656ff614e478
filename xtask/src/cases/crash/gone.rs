//! A reload that drops a zone and a workload, cut: what runs under the names that are gone is stopped by
//! whichever daemon is there after the record, and nothing of it before.

use super::{
    decisions::{RECORDED, SWAPPED},
    walk::{Decision, Round, content, walk},
    *,
};
use std::path::PathBuf;

const PROGRAM: &str = "/opt/agent/goer";
const GOING_SLICE: &str = "governed-going.slice";
/// Each a unit that holds a copy, and where: of a workload that goes, and in a zone that goes.
const COPIES: [(&str, &str); 2] = [("crash-goer", AGENTS_SLICE), ("crash-gone", GOING_SLICE)];
const TABLES: &str = r#"
[zone.going]
cgroup = "governed.slice/governed-going.slice"
requires = "policy"
on_revoke = "deny"

[workload.gone]
zone = "going"
exec = ["goer"]
libraries = ["os-libraries"]
started_by = ["operator"]
user = ["root"]
on_revoke = "kill"

[workload.goer]
zone = "agents"
exec = ["goer"]
libraries = ["os-libraries"]
started_by = ["operator"]
user = ["root"]
"#;

struct Drops {
    newer: Option<PathBuf>,
}

impl Round for Drops {
    fn before(&mut self, guest: &mut Guest, kit: &Kit) -> Result<()> {
        let spec = Spec {
            lease: "60s",
            every: "30s",
            sets: vec![("goer", content(guest, PROGRAM)?)],
            ..Spec::default()
        };
        let older = Spec {
            tables: TABLES,
            ..spec.clone()
        };
        kit.load(guest, &older)?;
        self.newer = Some(kit.signed(&spec)?);
        for (unit, slice) in COPIES {
            walk::hold_as(guest, unit, slice, PROGRAM)?;
        }
        Ok(())
    }

    fn decide(&mut self, guest: &mut Guest, kit: &Kit) -> Result<()> {
        self.offer(guest, kit).map(drop)
    }

    fn down(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        expect(guest, AGENT, true, "which both policies list")?;
        expect(guest, PROGRAM, point < SWAPPED, "whose workload goes")?;
        // Denied from the swap on, and stopped after it.
        let stopped = running(guest)? == 0;
        ensure!(!stopped || point > SWAPPED, "stopped before the swap");
        Ok(())
    }

    fn adopted(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        let left = if point < RECORDED { COPIES.len() } else { 0 };
        let seen = running(guest)?;
        ensure!(seen == left, "{seen} copies run, and ought to be {left}");
        expect(guest, AGENT, true, "which both policies list")?;
        expect(guest, PROGRAM, point < RECORDED, "whose workload goes")
    }

    fn after(&mut self, guest: &mut Guest, kit: &Kit, point: usize) -> Result<()> {
        if point < RECORDED {
            self.offer(guest, kit)?.ok().context("offering it again")?;
        }
        ensure!(
            running(guest)? == 0,
            "something runs under a name that is gone"
        );
        kit.trusted(guest)?;
        expect(guest, PROGRAM, false, "in the end")
    }
}

impl Drops {
    fn offer(&self, guest: &mut Guest, kit: &Kit) -> Result<crate::guest::Output> {
        let newer = self.newer.as_ref().context("no policy was made")?;
        kit.offer(guest, newer)
    }
}

/// How many of the copies still run.
fn running(guest: &mut Guest) -> Result<usize> {
    let mut left = 0;
    for (unit, _) in COPIES {
        let active = ["systemctl", "is-active", "--quiet", unit];
        left += usize::from(guest.run(&active)?.code == 0);
    }
    Ok(left)
}

pub(super) fn drops(guest: &mut Guest) -> Result<()> {
    let decision = Decision {
        plan: "policy-offered install-table",
        some: &[RECORDED, SWAPPED + 1],
        points: SWAPPED + 4,
    };
    walk(guest, decision, &mut Drops { newer: None })
}
