//! Verdicts that a daemon took out of their rings and had no time to write down.

use super::{
    walk::{ENDED, PLAN},
    *,
};
use crate::ledger::{self, LEFT_OUT, LOST, Ledger};

/// More than are kept one by one at once, and few enough for a daemon that is stopped meanwhile.
const DENIED: u64 = 300;

/// Fewer, for each is executed: all would be kept one by one.
const ALLOWED: u64 = 40;

/// What the ledger says of one program: kept one by one, left out, lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    kept: u64,
    left_out: u64,
    lost: u64,
}

impl Told {
    fn of(program: &str, ledger: &Ledger) -> Result<Self> {
        Ok(Self {
            kept: ledger.times(program),
            left_out: ledger.missing(LEFT_OUT)?,
            lost: ledger.missing(LOST)?,
        })
    }

    const fn all(self) -> u64 {
        self.kept + self.left_out + self.lost
    }
}

pub(super) fn counted(guest: &mut Guest) -> Result<()> {
    let kit = calm(guest)?;
    kit.load(guest, &Spec::default())?;
    // Before the record of them, and before the number of those that got no record of their own.
    let first = one(guest, &kit, "verdicts append 0", "/root/denied-first")?;
    ensure!(
        first.kept == 0 && first.lost == DENIED && first.left_out == 0,
        "ended before anything was written: {first:?}"
    );
    let second = one(guest, &kit, "tick append 0", "/root/denied-second")?;
    ensure!(
        second.lost == 0 && second.left_out > 0 && second.kept + second.left_out == DENIED,
        "ended before the number was written: {second:?}"
    );
    // What was allowed is no loss of denials, and is missed all the same.
    let third = told_of(
        guest,
        &kit,
        "verdicts append 0",
        &format!("{AGENT} hello"),
        ALLOWED,
    )?;
    ensure!(
        third.kept == 0 && third.lost == 0 && third.left_out == ALLOWED,
        "ended before what was allowed was written: {third:?}"
    );
    Ok(())
}

/// What is told of denials of a program that is made for it.
fn one(guest: &mut Guest, kit: &Kit, plan: &str, program: &str) -> Result<Told> {
    guest
        .sh(&format!("cp /usr/bin/true {program} && echo >> {program}"))?
        .ok()?;
    let told = told_of(guest, kit, plan, program, 0)?;
    guest.run(&["rm", program])?.ok()?;
    Ok(told)
}

/// What is told of a command by the daemon that is ended and by the two after it. So many of its tries are
/// allowed, or all are denied.
fn told_of(guest: &mut Guest, kit: &Kit, plan: &str, command: &str, allowed: u64) -> Result<Told> {
    let tries = if allowed > 0 { allowed } else { DENIED };
    let program = command.split(' ').next().unwrap_or(command);
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    kit.trusted(guest)?;
    let told = |ledger: &Ledger| Told::of(program, ledger);
    let before = told(&ledger::of(guest)?)?;
    let leaf = format!("/sys/fs/cgroup/governed.slice/{AGENTS_SLICE}/crash-untold");
    let send = "systemctl kill --kill-whom=main --signal";
    let ran = guest
        .sh(&format!(
            "{send}=STOP governor && mkdir -p {leaf} && ran=0 && i=0 && \
             (echo 0 > {leaf}/cgroup.procs && while [ $i -lt {tries} ]; do \
             {command} > /dev/null 2>&1 && ran=$((ran + 1)); i=$((i + 1)); done; echo $ran); \
             echo '{plan}' > {PLAN}; {send}=CONT governor"
        ))?
        .ok()
        .context("verdicts while the daemon is stopped")?
        .text();
    ensure!(
        ran == allowed.to_string(),
        "{ran} ran, and {allowed} are allowed"
    );
    guest
        .wait_until(ENDED)
        .with_context(|| format!("`{plan}` did not end it"))?;
    guest
        .sh(&format!("rm -f {PLAN}; systemctl restart governor"))?
        .ok()
        .context("starting another daemon")?;
    kit.trusted(guest)?;
    // A number that is left out is written as soon as the budget has room for it.
    let whole = before.all() + tries;
    let after = ledger::when(guest, told, |told| told.all() >= whole)?;
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    kit.trusted(guest)?;
    let again = told(&ledger::of(guest)?)?;
    ensure!(
        again == after,
        "told again after another start: {after:?}, {again:?}"
    );
    Ok(Told {
        kept: after.kept - before.kept,
        left_out: after.left_out - before.left_out,
        lost: after.lost - before.lost,
    })
}
