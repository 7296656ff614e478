//! Break-glass, cut: where it begins, where an operator ends it and where its time is over. Denials are
//! lifted only after the record, no longer than was asked for, and what ran for it alone is stopped.

use super::{
    decisions::{VICTIM, spec},
    walk::{Decision, Round, UNLISTED, content, walk},
    *,
};
use crate::cases::break_glass::{break_it, gone, lasting, mend};

/// From here on the record is durable; from there on denials are lifted.
const WRITTEN: usize = 3;
const LIFTED: usize = 5;

#[derive(Debug, Default)]
struct Begins {
    rounds: usize,
    reason: String,
}

impl Round for Begins {
    fn before(&mut self, guest: &mut Guest, kit: &Kit) -> Result<()> {
        let lines = content(guest, VICTIM)?;
        kit.load(guest, &spec(lines))?;
        if self.rounds == 0 {
            // What was revoked before is revoked where no policy says, once; the next time is shorter.
            break_it(guest, "a drill before", "1m")?.ok()?;
            mend(guest)?;
            kit.trusted(guest)?;
        }
        self.rounds += 1;
        self.reason = format!("drill number {} of these", self.rounds);
        Ok(())
    }

    fn decide(&mut self, guest: &mut Guest, _kit: &Kit) -> Result<()> {
        break_it(guest, &self.reason, "10m").map(drop)
    }

    fn down(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        let written = ledger_has(guest, &self.reason)?;
        ensure!(written == (point >= WRITTEN), "a record: {written}");
        expect(
            guest,
            UNLISTED,
            point >= LIFTED,
            "as far as the kernel was told",
        )
    }

    fn adopted(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        let lifted = point >= LIFTED;
        expect(guest, UNLISTED, lifted, "as it was before this daemon")?;
        let left = status::of(guest)?.number(&["break_glass", "left_ms"]);
        ensure!(
            if lifted {
                (1..=600_000).contains(&left)
            } else {
                left == 0
            },
            "{left} ms are left"
        );
        if lifted {
            lasting(guest, AGENTS_SLICE)?;
        }
        let ended = ledger_has(guest, "the kernel was never told")?;
        ensure!(
            ended || lifted || point < WRITTEN,
            "a beginning that was written has no end"
        );
        Ok(())
    }

    fn after(&mut self, guest: &mut Guest, kit: &Kit, point: usize) -> Result<()> {
        if point >= LIFTED {
            mend(guest)?;
            gone(guest)?;
        }
        expect(guest, UNLISTED, false, "after its end")?;
        kit.trusted(guest)
    }

    fn lifts(&self) -> bool {
        true
    }
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    ByHand,
    InTime,
}

#[derive(Debug)]
struct Ends(End);

impl Round for Ends {
    fn before(&mut self, guest: &mut Guest, kit: &Kit) -> Result<()> {
        let lines = content(guest, VICTIM)?;
        kit.load(guest, &spec(lines))?;
        let time = match self.0 {
            End::ByHand => "10m",
            End::InTime => "45s",
        };
        break_it(guest, "a drill", time)?.ok()?;
        expect(guest, UNLISTED, true, "while the glass is broken")?;
        lasting(guest, AGENTS_SLICE)
    }

    fn decide(&mut self, guest: &mut Guest, _kit: &Kit) -> Result<()> {
        match self.0 {
            // It says that nobody answered, if it was cut.
            End::ByHand => {
                let end = ["governor", "break-glass", "--end", "--reason", "over"];
                guest.run(&end).map(drop)
            }
            End::InTime => guest.wait_until(
                "! systemctl is-active --quiet governor || \
                 ! governor status --json | grep -q '\"left_ms\": *[1-9]'",
            ),
        }
    }

    fn down(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        let lifted = self.0 == End::ByHand && point < 1;
        expect(guest, UNLISTED, lifted, "while nobody is there")
    }

    fn adopted(&mut self, guest: &mut Guest, point: usize) -> Result<()> {
        let lifted = self.0 == End::ByHand && point < 1;
        expect(guest, UNLISTED, lifted, "after another daemon came")
    }

    fn after(&mut self, guest: &mut Guest, kit: &Kit, point: usize) -> Result<()> {
        if self.0 == End::ByHand && point < 1 {
            mend(guest)?;
        }
        gone(guest)?;
        expect(guest, UNLISTED, false, "after its end")?;
        // The kernel forgets it once it is dealt with and written down.
        guest.wait_until(
            "governor status --json | grep -q '\"owed\": *false' && \
             ! governor status --json | grep -q '\"left_ms\": *[1-9]'",
        )?;
        kit.trusted(guest)
    }

    fn lifts(&self) -> bool {
        true
    }
}

pub(super) fn begins_and_ends(guest: &mut Guest) -> Result<()> {
    let begins = Decision {
        plan: "glass-signed break-glass",
        some: &[LIFTED - 1, LIFTED],
        points: LIFTED + 1,
    };
    walk(guest, begins, &mut Begins::default())?;
    for (plan, end) in [
        ("glass-mended end-break-glass", End::ByHand),
        ("tick end-break-glass", End::InTime),
    ] {
        let ends = Decision {
            plan,
            some: &[1],
            points: 5,
        };
        walk(guest, ends, &mut Ends(end))?;
    }
    Ok(())
}

fn ledger_has(guest: &mut Guest, text: &str) -> Result<bool> {
    let found = format!("grep -aq '{text}' /var/lib/governor/ledger/ledger");
    Ok(guest.sh(&found)?.code == 0)
}
