//! What goes on by itself when trust returns, cut: nothing that stood on a lease goes on before there is one, and
//! whoever was to go on does in the end.

use super::{
    decisions::{VICTIM, spec},
    walk::{Decision, ENDED, HELD, Round, content, hold, is_frozen, walk},
    *,
};

/// The stricter of zone and workload holds.
const FREEZES: &str = concat!(victim!(), "on_revoke = \"freeze\"\n");

/// From here on it goes on.
const THAWED: usize = 3;

#[derive(Debug, Default)]
struct Thaws {
    lines: String,
}

impl Thaws {
    fn spec(&self) -> Spec {
        Spec {
            on_revoke: "freeze",
            thaw: true,
            tables: FREEZES,
            ..spec(self.lines.clone())
        }
    }

    /// Whether it is as it may be: whoever goes on has a lease to stand on.
    fn looks(guest: &mut Guest) -> Result<()> {
        if !is_frozen(guest)? {
            expect(guest, VICTIM, true, "while a copy that needs a lease runs")?;
        }
        Ok(())
    }
}

impl Round for Thaws {
    fn before(&mut self, guest: &mut Guest, kit: &Kit) -> Result<()> {
        self.lines = content(guest, VICTIM)?;
        let spec = self.spec();
        kit.load(guest, &spec)?;
        hold(guest, VICTIM)?;
        kit.distrust(guest, &spec)?;
        ensure!(is_frozen(guest)?, "policy says freeze");
        Ok(())
    }

    fn decide(&mut self, guest: &mut Guest, kit: &Kit) -> Result<()> {
        // A policy that comes into force has evidence asked for.
        let again = kit.signed(&self.spec())?;
        kit.offer(guest, &again)?.ok()?;
        guest.run(&["governor", "attest", "now"])?;
        guest.wait_until(&format!(
            "{ENDED} || grep -q 'frozen 0' {HELD}/cgroup.events"
        ))?;
        // Whoever answers this ended itself nowhere in that step.
        guest.run(&["governor", "attest", "now"]).map(drop)
    }

    fn down(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        ensure!(
            is_frozen(guest)? == (point < THAWED),
            "it went on too early, or not at all"
        );
        Self::looks(guest)
    }

    fn adopted(&mut self, guest: &mut Guest, _point: usize) -> Result<()> {
        Self::looks(guest)
    }

    fn after(&mut self, guest: &mut Guest, kit: &Kit, _point: usize) -> Result<()> {
        kit.trusted(guest)?;
        guest
            .wait_until(&format!("grep -q 'frozen 0' {HELD}/cgroup.events"))
            .context("waiting for it to go on")?;
        expect(guest, VICTIM, true, "with trust")
    }
}

pub(super) fn goes_on(guest: &mut Guest) -> Result<()> {
    let decision = Decision {
        plan: "tick thaw",
        some: &[THAWED - 1],
        points: 4,
    };
    walk(guest, decision, &mut Thaws::default())
}
