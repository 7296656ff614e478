//! What takes the host's trust, and what gives a lock up again, cut like other decisions: attested work
//! is denied from the first effect on, and no end of a daemon unlocks anything.

use super::{
    decisions::{VICTIM, spec},
    walk::{Decision, HELD, Round, by_hand, content, held, hold, is_frozen, walk},
    *,
};
use crate::kit::TOOLS_SLICE;

const LEDGER: &str = "/var/lib/governor/ledger/ledger";
/// Somebody reaches for a map of the gate.
const ALARM: &str = "bpftool map update pinned $(ls /sys/fs/bpf/governor/*/SIGNALS | head -1) \
                     key 1 0 0 0 value 3 0 0 0 0 0 0 0";

/// From here on the record that comes first in its step is durable.
const WRITTEN: usize = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The evidence is refused.
    Refused,
    /// No evidence comes before the lease is over.
    Late,
    /// The kernel counted something that was done to the gate.
    Alarm,
    /// The ledger went from under the daemon.
    Ledger,
}

impl Loss {
    /// What status says, where nobody was ended.
    const fn reason(self) -> &'static str {
        match self {
            Self::Refused => "evidence-rejected",
            Self::Late => "quote-late",
            Self::Alarm => "tampered:map-touched",
            Self::Ledger => "ledger-missing",
        }
    }

    const fn locks(self) -> bool {
        match self {
            Self::Refused | Self::Late => false,
            Self::Alarm | Self::Ledger => true,
        }
    }
}

struct Loses {
    how: Loss,
    lines: String,
}

impl Loses {
    fn spec(&self) -> Spec {
        let spec = spec(self.lines.clone());
        match self.how {
            Loss::Late => Spec {
                lease: "6s",
                every: "5s",
                ..spec
            },
            Loss::Refused | Loss::Alarm | Loss::Ledger => spec,
        }
    }
}

impl Round for Loses {
    fn before(&mut self, guest: &mut Guest, kit: &Kit) -> Result<()> {
        self.lines = content(guest, VICTIM)?;
        kit.load(guest, &self.spec())?;
        hold(guest, VICTIM)
    }

    fn decide(&mut self, guest: &mut Guest, kit: &Kit) -> Result<()> {
        match self.how {
            Loss::Refused => {
                let doubted = kit.doubted(&self.spec())?;
                kit.offer(guest, &doubted)?.ok()?;
                guest.run(&["governor", "attest", "now"]).map(drop)
            }
            Loss::Late => {
                guest.withhold_tpm(true)?;
                let seen = ended_or_shows(guest, self.how.reason());
                guest.withhold_tpm(false)?;
                seen
            }
            Loss::Alarm => {
                guest.sh(ALARM)?;
                ended_or_shows(guest, self.how.reason())
            }
            Loss::Ledger => {
                guest.run(&["rm", LEDGER])?.ok()?;
                ended_or_shows(guest, self.how.reason())
            }
        }
    }

    fn down(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        // Only of the ledger the kernel has to be told: a policy that was just loaded has no lease yet, one
        // that is over is over, and what the kernel counts it knows.
        let allowed_still = self.how == Loss::Ledger && point < 1;
        expect(guest, VICTIM, allowed_still, "which stands on a lease")?;
        let plain = allowed(guest, TOOLS_SLICE, &[VICTIM])?;
        ensure!(plain == [true], "what needs no lease was denied");
        Ok(())
    }

    fn adopted(&mut self, guest: &mut Guest, _point: usize) -> Result<()> {
        match self.how {
            // Evidence that comes within a lease vouches for what runs.
            Loss::Late => return Ok(()),
            Loss::Refused | Loss::Alarm | Loss::Ledger => {}
        }
        // Also by the first step of a daemon, before any policy gave it a table.
        let reasons = status::of(guest)?.reasons();
        ensure!(!reasons.contains("stop-failed"), "{reasons}");
        // What the ledger knew of it went with it, so it is frozen.
        guest
            .wait_until(&format!(
                "! systemctl is-active --quiet crash-held || grep -q 'frozen 1' {HELD}/cgroup.events"
            ))
            .context("waiting for running copies to be stopped")?;
        guest.sh("systemctl kill --signal=KILL crash-held || true")?;
        expect(guest, VICTIM, false, "without trust")
    }

    fn after(&mut self, guest: &mut Guest, kit: &Kit, _point: usize) -> Result<()> {
        kit.load(guest, &self.spec())?;
        expect(guest, VICTIM, true, "with trust")
    }

    fn locks(&self, _point: usize) -> bool {
        self.how.locks()
    }
}

pub(super) fn trust_is_lost(guest: &mut Guest) -> Result<()> {
    let losses: [(Loss, &str, &[usize]); 4] = [
        (Loss::Refused, "evidence-arrived drop-lease", &[1]),
        (Loss::Late, "tick drop-lease", &[2]),
        (Loss::Alarm, "signals drop-lease", &[0]),
        (Loss::Ledger, "ledger-broken drop-lease", &[1]),
    ];
    for (how, plan, some) in losses {
        let decision = Decision {
            plan,
            some,
            points: 4,
        };
        let lines = String::new();
        walk(guest, decision, &mut Loses { how, lines })?;
    }
    Ok(())
}

struct Unlocks;

impl Round for Unlocks {
    fn before(&mut self, guest: &mut Guest, kit: &Kit) -> Result<()> {
        let lines = content(guest, VICTIM)?;
        kit.load(guest, &spec(lines))?;
        guest.sh(ALARM)?;
        ended_or_shows(guest, Loss::Alarm.reason())?;
        ensure!(status::of(guest)?.trust() == "locked", "it is not locked");
        Ok(())
    }

    fn decide(&mut self, guest: &mut Guest, _kit: &Kit) -> Result<()> {
        let unlock = ["governor", "unlock", "--reason", "drill"];
        guest.run(&unlock).map(drop)
    }

    fn down(&mut self, guest: &mut Guest, _point: usize) -> Result<()> {
        expect(guest, VICTIM, false, "before evidence was accepted")
    }

    fn adopted(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        if self.locks(point) {
            expect(guest, VICTIM, false, "on a host that nobody unlocked")?;
        }
        Ok(())
    }

    fn after(&mut self, guest: &mut Guest, kit: &Kit, point: usize) -> Result<()> {
        if self.locks(point) {
            crate::kit::unlock(guest)?;
        }
        kit.trusted(guest)?;
        expect(guest, VICTIM, true, "with trust")
    }

    fn locks(&self, point: usize) -> bool {
        point < WRITTEN
    }
}

pub(super) fn unlocks(guest: &mut Guest) -> Result<()> {
    let decision = Decision {
        plan: "unlock forget-lock",
        some: &[1],
        points: 4,
    };
    walk(guest, decision, &mut Unlocks)
}

/// Nobody answers any more, or status names the reason. A daemon that waits for a TPM is there for systemd until
/// that answers.
fn ended_or_shows(guest: &mut Guest, reason: &str) -> Result<()> {
    let seen = format!(
        "said=$(governor status --json); test $? = 4 || echo \"$said\" | grep -q '\"code\": \"{reason}'"
    );
    guest
        .wait_until(&seen)
        .with_context(|| format!("waiting for the reason `{reason}`"))
}

/// What is done to running copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Paused,
    Resumed,
    /// It met a risk, and is killed.
    Probed,
}

struct Reaches {
    done: Done,
    lines: String,
}

impl Reaches {
    /// As the kernel was left: the effect on what runs is the first of its step, or comes after the record.
    fn looks(&self, guest: &mut Guest, point: usize) -> Result<()> {
        match self.done {
            Done::Probed => {
                let running = held(guest)?;
                ensure!(running == (point < 1), "it runs: {running}");
            }
            Done::Paused => {
                let frozen = is_frozen(guest)?;
                ensure!(frozen == (point >= 1), "it is frozen: {frozen}");
            }
            Done::Resumed => {
                let frozen = is_frozen(guest)?;
                ensure!(
                    frozen || point > WRITTEN,
                    "it goes on, and no record says so"
                );
            }
        }
        Ok(())
    }
}

impl Round for Reaches {
    fn before(&mut self, guest: &mut Guest, kit: &Kit) -> Result<()> {
        self.lines = content(guest, VICTIM)?;
        let tables = match self.done {
            Done::Probed => PROBING,
            Done::Paused | Done::Resumed => decisions::TABLES,
        };
        let spec = Spec {
            tables,
            ..spec(self.lines.clone())
        };
        kit.load(guest, &spec)?;
        hold(guest, VICTIM)?;
        if self.done == Done::Resumed {
            let paused = by_hand(guest, "pause")?;
            paused.ok()?;
            ensure!(is_frozen(guest)?, "it is not paused");
        }
        Ok(())
    }

    fn decide(&mut self, guest: &mut Guest, _kit: &Kit) -> Result<()> {
        match self.done {
            Done::Paused => by_hand(guest, "pause").map(drop),
            Done::Resumed => by_hand(guest, "resume").map(drop),
            Done::Probed => {
                // It may be killed amid this.
                guest.sh(&format!(
                    "for try in 1 2 3; do systemd-run --quiet --wait --collect --slice={AGENTS_SLICE} \
                     -- {VICTIM} spawn {}; done",
                    walk::UNLISTED
                ))?;
                guest.wait_until(
                    "! systemctl is-active --quiet governor || \
                     ! systemctl is-active --quiet crash-held",
                )
            }
        }
    }

    fn down(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        expect(guest, AGENT, true, "which nobody stopped")?;
        self.looks(guest, point)
    }

    fn adopted(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        self.looks(guest, point)
    }

    fn after(&mut self, guest: &mut Guest, kit: &Kit, _point: usize) -> Result<()> {
        // What runs on a lease does not go on before there is one.
        kit.trusted(guest)?;
        if self.done != Done::Probed {
            // Whatever became of it before.
            let said = by_hand(guest, "resume")?;
            let frozen = is_frozen(guest)?;
            ensure!(!frozen, "it does not go on: {}: {}", said.code, said.text());
        }
        expect(guest, VICTIM, true, "which is not revoked")
    }
}

pub(super) fn running_work_is_reached(guest: &mut Guest) -> Result<()> {
    let reached: [(Done, &str, &[usize]); 3] = [
        (Done::Paused, "hold hold", &[1]),
        (Done::Resumed, "resume thaw", &[1]),
        (Done::Probed, "verdicts stop", &[1]),
    ];
    for (done, plan, some) in reached {
        let decision = Decision {
            plan,
            some,
            points: 3,
        };
        let lines = String::new();
        walk(guest, decision, &mut Reaches { done, lines })?;
    }
    Ok(())
}

const PROBING: &str = concat!(
    r#"
[risk.probing]
count = 3
of = "denied-exec"
within = "10m"
action = "kill"
"#,
    victim!()
);
