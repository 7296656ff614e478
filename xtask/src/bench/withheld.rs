//! A TPM that does not answer. It is stopped on the host, so the guest's driver waits for it as it
//! would for a chip that hangs; what goes on meanwhile is measured beside the same with an answer.

use super::{
    figures::{Row, Wanted, median},
    scene::{self, PROBE, at},
};
use crate::{
    guest::Guest,
    kit::{Kit, Spec},
};
use anyhow::{Context as _, Result};
use std::time::Duration;

pub(super) fn measure(guest: &mut Guest, kit: &Kit, rounds: u32) -> Result<Vec<Row>> {
    let spec = Spec {
        every: "2s",
        // What is started once the daemon is gone stands on it too.
        lease: "30m",
        on_revoke: "deny",
        ..Spec::default()
    };
    scene::prepare(guest, kit, &spec)?;
    scene::start(guest)?;
    let (mut execs, mut connects, mut revokes) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let mut pair = Vec::new();
        // Each comes first in every other round.
        let first = round % 2 == 0;
        for hung in [first, !first] {
            guest.withhold_tpm(hung)?;
            let taken = take(guest, 2 * round + u32::from(hung));
            guest.withhold_tpm(false)?;
            pair.push((hung, taken?));
        }
        let of = |wanted: bool| pair.iter().find(|(hung, _)| *hung == wanted);
        let (Some((_, hung)), Some((_, fine))) = (of(true), of(false)) else {
            continue;
        };
        execs.push(hung.exec / fine.exec);
        connects.push(hung.connect / fine.connect);
        revokes.push(hung.revoke / fine.revoke);
    }
    let driver = driver_alone(guest, rounds)?;
    let row = |what, samples| Row::new(what, "ratio", samples, Wanted::MedianAtMost(1.1));
    Ok(vec![
        row("exec, TPM hung / not", execs)?,
        row("connect, TPM hung / not", connects)?,
        row("revoke, TPM hung / not", revokes)?,
        Row::new(
            "exec, no daemon, another waits for the hung TPM / not",
            "ratio",
            driver,
            Wanted::Shown,
        )?,
    ])
}

/// What the kernel itself takes to ask a TPM again and again whether it has an answer, whoever waits for it.
fn driver_alone(guest: &mut Guest, rounds: u32) -> Result<Vec<f64>> {
    guest.run(&["systemctl", "stop", "governor"])?.ok()?;
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let (mut hung, mut fine) = (0.0, 0.0);
        let first = round % 2 == 0;
        for withheld in [first, !first] {
            guest.withhold_tpm(withheld)?;
            let waits = withheld
                .then(|| guest.spawn(&["tpm2_pcrread", "sha256:0"]))
                .transpose();
            let taken = scene::probe(guest, &["pace", "50"], BOUND);
            guest.withhold_tpm(false)?;
            if let Some(job) = waits? {
                guest.wait(job, BOUND)?.ok()?;
            }
            *if withheld { &mut hung } else { &mut fine } = column(&taken?, 0)?;
        }
        ratios.push(hung / fine);
    }
    Ok(ratios)
}

/// The median of a column, of lines that the probe printed.
fn column(lines: &[Vec<String>], place: usize) -> Result<f64> {
    let times: Result<Vec<f64>> = lines.iter().map(|line| at(line, place)).collect();
    median(&times?)
}

struct Taken {
    exec: f64,
    connect: f64,
    revoke: f64,
}

fn take(guest: &mut Guest, number: u32) -> Result<Taken> {
    let paces = scene::probe(guest, &["pace", "50"], BOUND)?;
    // Content that nobody has, each once: what is revoked stays so.
    let digest = format!("{number:064x}");
    let argv = [
        PROBE, "timed", "governor", "revoke", "--digest", &digest, "--reason", "drill",
    ];
    let revoked = guest.run_for(&argv, BOUND)?.ok()?.text();
    let mut words = revoked.split_whitespace().map(|word| word.parse::<f64>());
    let (began, ended) = match (words.next(), words.next()) {
        (Some(Ok(began)), Some(Ok(ended))) => (began, ended),
        _ => return Err(anyhow::anyhow!("reading `{revoked}`")).context("timing a revoke"),
    };
    Ok(Taken {
        exec: column(&paces, 0)?,
        connect: column(&paces, 1)?,
        revoke: ended - began,
    })
}

const BOUND: Duration = Duration::from_secs(60);
