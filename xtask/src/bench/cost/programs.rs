//! What each of the gate's programs does of it: the kernel's own account of how often each ran and how
//! long it took (`kernel.bpf_stats_enabled`), which is a number of instructions here. The account
//! itself takes some dozens of them for each run. The way into a program and out of it is not in it.

use super::{Work, one};
use crate::guest::Guest;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// By name: how often, and how long together.
type Account = BTreeMap<String, (f64, f64)>;

/// A line for each program that runs in most rounds of these kinds of work. The guard must not be
/// armed: it keeps the account to itself.
pub(super) fn table(guest: &mut Guest, works: &[Work], rounds: u32) -> Result<Vec<String>> {
    guest
        .run(&["sysctl", "-q", "kernel.bpf_stats_enabled=1"])?
        .ok()?;
    let mut lines = vec![
        String::new(),
        "| work | program | runs in one round | instructions in each |".to_owned(),
        "|---|---|---|---|".to_owned(),
    ];
    for work in works {
        let rounds = work.of(rounds);
        one(guest, work, rounds)?;
        let start = account(guest)?;
        one(guest, work, rounds)?;
        let short = account(guest)?;
        one(guest, work, rounds * 2)?;
        let long = account(guest)?;
        for (name, end) in &long {
            let of = |account: &Account| account.get(name).copied().unwrap_or_default();
            let (start, short) = (of(&start), of(&short));
            // Twice as many rounds less as many: what it takes to begin and to end is in both.
            let runs = end.0 - 2.0 * short.0 + start.0;
            let took = end.1 - 2.0 * short.1 + start.1;
            let each = runs / f64::from(rounds);
            if each >= OFTEN {
                let took = took / runs;
                lines.push(format!(
                    "| {} | `{name}` | {each:.1} | {took:.0} |",
                    work.name
                ));
            }
        }
    }
    guest
        .run(&["sysctl", "-q", "kernel.bpf_stats_enabled=0"])?
        .ok()?;
    Ok(lines)
}

fn account(guest: &mut Guest) -> Result<Account> {
    let shown = guest
        .run(&["bpftool", "--json", "prog", "show"])?
        .ok()?
        .text();
    let shown: Value = serde_json::from_str(&shown).context("reading what bpftool says")?;
    let mut account = Account::new();
    for program in shown.as_array().context("bpftool shows no list")? {
        let number = |name: &str| program[name].as_f64().unwrap_or_default();
        let name = program["name"].as_str().unwrap_or("without a name");
        let entry = account.entry(name.to_owned()).or_default();
        entry.0 += number("run_cnt");
        entry.1 += number("run_time_ns");
    }
    Ok(account)
}

/// Less often is not for the work's sake.
const OFTEN: f64 = 0.5;
