//! The decisions that are cut, and what must hold at each of their points. The numbers of points are
//! those of the lists of effects in `governor-core/src/engine` and of their parts in the daemon.

use super::{
    walk::{Decision, Round, UNLISTED, content, held, hold, walk},
    *,
};
use crate::kit::TOOLS_SLICE;
use std::path::PathBuf;

/// What the policies of this suite list beside the agent; new in each round.
pub(super) const VICTIM: &str = "/opt/agent/victim";
const EXTRA: &str = "/opt/agent/extra";
pub(super) const TABLES: &str = concat!(
    victim!(),
    r#"
[workload.plain]
zone = "tools"
exec = ["victim"]
libraries = ["os-libraries"]
started_by = ["operator"]
user = ["root"]
on_revoke = "kill"
"#
);

/// A lease that outlasts a round; quotes come when they are asked for.
pub(super) fn spec(lines: String) -> Spec {
    Spec {
        lease: "60s",
        every: "30s",
        tables: TABLES,
        sets: vec![("victim", lines)],
        ..Spec::default()
    }
}

/// What a reload is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Adds,
    Removes,
    OnlyRaises,
}

struct Reload {
    change: Change,
    older: Option<PathBuf>,
    newer: Option<PathBuf>,
}

/// From here on the record of a reload is durable.
pub(super) const RECORDED: usize = 2;
/// From here on its table is in force.
pub(super) const SWAPPED: usize = 7;

impl Reload {
    fn dir(path: Option<&PathBuf>) -> Result<&PathBuf> {
        path.context("no policy was made")
    }
}

impl Round for Reload {
    fn before(&mut self, guest: &mut Guest, kit: &Kit) -> Result<()> {
        let (victim, extra) = (content(guest, VICTIM)?, content(guest, EXTRA)?);
        let both = format!("{victim}{extra}");
        let (first, second) = match self.change {
            Change::Adds => (victim, both),
            Change::Removes => (both, victim),
            Change::OnlyRaises => (both.clone(), both),
        };
        self.older = Some(kit.signed(&spec(first.clone()))?);
        kit.load(guest, &spec(first))?;
        self.newer = Some(kit.signed(&spec(second))?);
        hold(guest, VICTIM)
    }

    fn decide(&mut self, guest: &mut Guest, kit: &Kit) -> Result<()> {
        // It says that nobody answered, if it was cut.
        kit.offer(guest, Self::dir(self.newer.as_ref())?).map(drop)
    }

    fn down(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        for work in [AGENT, VICTIM] {
            expect(guest, work, true, "which both policies list")?;
        }
        ensure!(held(guest)?, "work that both policies list was stopped");
        match self.change {
            Change::Adds => expect(guest, EXTRA, point >= SWAPPED, "which is added"),
            Change::Removes => expect(guest, EXTRA, point < SWAPPED, "which is removed"),
            Change::OnlyRaises => expect(guest, EXTRA, true, "which both policies list"),
        }
    }

    fn adopted(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        for work in [AGENT, VICTIM] {
            expect(guest, work, true, "which both policies list")?;
        }
        ensure!(held(guest)?, "work that both policies list was stopped");
        match self.change {
            Change::Adds => expect(guest, EXTRA, point >= RECORDED, "which is added"),
            Change::Removes => expect(guest, EXTRA, point < RECORDED, "which is removed"),
            Change::OnlyRaises => expect(guest, EXTRA, true, "which both policies list"),
        }
    }

    fn after(&mut self, guest: &mut Guest, kit: &Kit, point: usize) -> Result<()> {
        let newer = Self::dir(self.newer.as_ref())?;
        if point < RECORDED {
            // Refused by nobody, and recorded by nobody: it may come again.
            kit.offer(guest, newer)?.ok().context("offering it again")?;
        }
        let lower = kit.offer(guest, Self::dir(self.older.as_ref())?)?;
        ensure!(lower.code == 3, "a lower serial was taken: {}", lower.code);
        kit.trusted(guest)?;
        expect(guest, EXTRA, self.change != Change::Removes, "in the end")
    }
}

fn reload(guest: &mut Guest, change: Change, some: &'static [usize]) -> Result<()> {
    let decision = Decision {
        plan: "policy-offered install-table",
        some,
        points: SWAPPED + 2,
    };
    let mut round = Reload {
        change,
        older: None,
        newer: None,
    };
    walk(guest, decision, &mut round)
}

pub(super) fn adds(guest: &mut Guest) -> Result<()> {
    reload(guest, Change::Adds, &[1, 2, 7])
}

pub(super) fn removes(guest: &mut Guest) -> Result<()> {
    reload(guest, Change::Removes, &[5])
}

pub(super) fn raises_serial(guest: &mut Guest) -> Result<()> {
    reload(guest, Change::OnlyRaises, &[8])
}

struct RevokeWorkload;

impl Round for RevokeWorkload {
    fn before(&mut self, guest: &mut Guest, kit: &Kit) -> Result<()> {
        let lines = content(guest, VICTIM)?;
        kit.load(guest, &spec(lines))?;
        hold(guest, VICTIM)
    }

    fn decide(&mut self, guest: &mut Guest, _kit: &Kit) -> Result<()> {
        let revoke = [
            "governor",
            "revoke",
            "--workload",
            "victim",
            "--reason",
            "drill",
        ];
        guest.run(&revoke).map(drop)
    }

    fn down(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        expect(guest, AGENT, true, "which nobody revoked")?;
        // The tombstone is the first effect.
        expect(guest, VICTIM, point < 1, "which is revoked")?;
        ensure!(held(guest)? == (point < 3), "a running copy at this point");
        Ok(())
    }

    fn adopted(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        expect(guest, AGENT, true, "which nobody revoked")?;
        expect(guest, VICTIM, point < 1, "which is revoked")?;
        ensure!(
            held(guest)? == (point < 1),
            "a running copy of what was revoked is as it was"
        );
        Ok(())
    }

    fn after(&mut self, guest: &mut Guest, kit: &Kit, point: usize) -> Result<()> {
        kit.trusted(guest)?;
        expect(guest, VICTIM, point < 1, "with trust")
    }
}

pub(super) fn revokes_workload(guest: &mut Guest) -> Result<()> {
    let decision = Decision {
        plan: "revoke add-tombstone",
        some: &[1, 2, 4],
        points: 6,
    };
    walk(guest, decision, &mut RevokeWorkload)
}

struct RevokeAll {
    lines: String,
}

impl Round for RevokeAll {
    fn before(&mut self, guest: &mut Guest, kit: &Kit) -> Result<()> {
        self.lines = content(guest, VICTIM)?;
        kit.load(guest, &spec(self.lines.clone()))?;
        hold(guest, VICTIM)
    }

    fn decide(&mut self, guest: &mut Guest, _kit: &Kit) -> Result<()> {
        guest
            .run(&["governor", "revoke", "--all", "--reason", "drill"])
            .map(drop)
    }

    /// The mark, the lease, the attested epoch, the policy's, and then what runs.
    fn down(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        expect(guest, VICTIM, point < 2, "which stands on a lease")?;
        let plain = allowed(guest, TOOLS_SLICE, &[VICTIM])?;
        ensure!(plain == [point < 4], "what needs no lease: {plain:?}");
        Ok(())
    }

    fn adopted(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        let revoked = point >= 1;
        expect(guest, VICTIM, !revoked, "which stands on a lease")?;
        let plain = allowed(guest, TOOLS_SLICE, &[VICTIM])?;
        ensure!(plain == [!revoked], "what needs no lease: {plain:?}");
        ensure!(held(guest)? != revoked, "a running copy is as it was");
        Ok(())
    }

    fn after(&mut self, guest: &mut Guest, kit: &Kit, point: usize) -> Result<()> {
        if point >= 1 {
            // A quote undoes no operator; the operator's next policy does.
            guest.run(&["governor", "attest", "now"])?;
            expect(guest, VICTIM, false, "after a quote")?;
        }
        kit.load(guest, &spec(self.lines.clone()))?;
        expect(guest, VICTIM, true, "after a policy was loaded by hand")
    }
}

pub(super) fn revokes_all(guest: &mut Guest) -> Result<()> {
    let decision = Decision {
        plan: "revoke mark-revoked-all",
        some: &[1, 3],
        points: 8,
    };
    let mut round = RevokeAll {
        lines: String::new(),
    };
    walk(guest, decision, &mut round)
}

struct RegisterDiffers {
    lines: String,
}

impl Round for RegisterDiffers {
    fn before(&mut self, guest: &mut Guest, kit: &Kit) -> Result<()> {
        self.lines = content(guest, VICTIM)?;
        kit.load(guest, &spec(self.lines.clone()))?;
        hold(guest, VICTIM)
    }

    fn decide(&mut self, guest: &mut Guest, _kit: &Kit) -> Result<()> {
        guest
            .sh("tpm2_pcrextend 14:sha256=$(printf other | sha256sum | cut -d' ' -f1)")?
            .ok()
            .context("extending a register")?;
        guest.wait_until(
            "! systemctl is-active --quiet governor || \
             governor status --json | grep -q pcr-differs",
        )
    }

    fn down(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        expect(guest, VICTIM, point < 1, "which stands on a lease")?;
        let plain = allowed(guest, TOOLS_SLICE, &[VICTIM])?;
        ensure!(plain == [true], "what needs no lease was denied");
        Ok(())
    }

    fn adopted(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        if point >= 1 {
            expect(guest, VICTIM, false, "before anybody looked again")?;
        }
        // The daemon asks for a quote by itself.
        guest
            .wait_until("! systemctl is-active --quiet crash-held")
            .context("waiting for running copies to be stopped")?;
        expect(guest, VICTIM, false, "after the next quote")
    }

    fn after(&mut self, guest: &mut Guest, kit: &Kit, _point: usize) -> Result<()> {
        kit.baseline(guest)?;
        kit.load(guest, &spec(self.lines.clone()))?;
        expect(guest, VICTIM, true, "with what the register holds now")
    }
}

pub(super) fn register_differs(guest: &mut Guest) -> Result<()> {
    let decision = Decision {
        plan: "pcrs-read drop-lease",
        some: &[1],
        points: 6,
    };
    let mut round = RegisterDiffers {
        lines: String::new(),
    };
    walk(guest, decision, &mut round)
}

struct Renew;

impl Round for Renew {
    fn before(&mut self, guest: &mut Guest, kit: &Kit) -> Result<()> {
        let lines = content(guest, VICTIM)?;
        let spec = Spec {
            lease: "6s",
            every: "5s",
            ..spec(lines)
        };
        kit.load(guest, &spec)
    }

    fn decide(&mut self, guest: &mut Guest, _kit: &Kit) -> Result<()> {
        guest.run(&["governor", "attest", "now"]).map(drop)
    }

    fn down(&mut self, guest: &mut Guest, _point: usize) -> Result<()> {
        expect(guest, AGENT, true, "on the lease that runs")?;
        guest
            .wait_until(&format!("{PROBE} {AGENTS_SLICE} {AGENT} | grep denied"))
            .context("waiting for the lease to run out with nobody there")
    }

    fn adopted(&mut self, _guest: &mut Guest, _point: usize) -> Result<()> {
        Ok(())
    }

    fn after(&mut self, guest: &mut Guest, kit: &Kit, _point: usize) -> Result<()> {
        kit.trusted(guest)?;
        expect(guest, AGENT, true, "with a lease")
    }
}

pub(super) fn renews(guest: &mut Guest) -> Result<()> {
    let decision = Decision {
        plan: "evidence-arrived set-lease",
        some: &[2],
        points: 4,
    };
    walk(guest, decision, &mut Renew)
}

/// How an observed zone is cut: where it begins, or where it ends.
struct Observe {
    ends: bool,
}

impl Round for Observe {
    fn before(&mut self, guest: &mut Guest, kit: &Kit) -> Result<()> {
        let lines = content(guest, VICTIM)?;
        kit.load(guest, &spec(lines))?;
        if self.ends {
            guest
                .run(&["governor", "observe", "--zone", "agents", "--for", "2s"])?
                .ok()?;
        }
        Ok(())
    }

    fn decide(&mut self, guest: &mut Guest, _kit: &Kit) -> Result<()> {
        if self.ends {
            return guest.wait_until(
                "! systemctl is-active --quiet governor || \
                 ! governor status --json | grep -q observe-for",
            );
        }
        let observe = ["governor", "observe", "--zone", "agents", "--for", "10m"];
        guest.run(&observe).map(drop)
    }

    fn down(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        // Record, its head, zones, destinations; then the table that says so.
        let observed = !self.ends && point >= 5;
        expect(
            guest,
            UNLISTED,
            observed,
            "in a zone that is to be observed",
        )
    }

    fn adopted(&mut self, guest: &mut Guest, _point: usize) -> Result<()> {
        expect(guest, UNLISTED, false, "observing ends with its daemon")?;
        expect(guest, AGENT, true, "which policy lists")
    }

    fn after(&mut self, guest: &mut Guest, kit: &Kit, _point: usize) -> Result<()> {
        kit.trusted(guest)
    }
}

pub(super) fn observes(guest: &mut Guest) -> Result<()> {
    let begins: &[usize] = &[5];
    for (plan, ends, some) in [
        ("observe install-table", false, begins),
        ("tick install-table", true, &[3]),
    ] {
        let decision = Decision {
            plan,
            some,
            points: 7,
        };
        walk(guest, decision, &mut Observe { ends })?;
    }
    Ok(())
}
