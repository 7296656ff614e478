//! An alarm that the kernel raises itself, with nobody in user space awake.

use super::{
    figures::{Row, Wanted},
    scene::{self, at},
};
use crate::{
    guest::Guest,
    kit::{Kit, Spec},
};
use anyhow::{Result, ensure};
use std::time::Duration;

pub(super) fn measure(guest: &mut Guest, kit: &Kit, rounds: u32) -> Result<Vec<Row>> {
    let spec = Spec {
        every: "20s",
        lease: "60s",
        on_revoke: "deny",
        ..Spec::default()
    };
    scene::prepare(guest, kit, &spec)?;
    scene::start(guest)?;
    let pin = guest
        .sh("ls /sys/fs/bpf/governor/maps-*/STATE | head -n 1")?
        .ok()?
        .text();
    let bound = Duration::from_secs(60) + Duration::from_secs(30) * rounds;
    let lines = scene::probe(guest, &["alarm", &rounds.to_string(), &pin], bound)?;
    let (mut allowed, mut took) = (0, Vec::new());
    for line in &lines {
        // raised, what it came to, began, ended, the daemon's state
        ensure!(
            line.get(4).is_some_and(|state| state == "T"),
            "the daemon was not stopped: {}",
            line.join(" ")
        );
        allowed += usize::from(line.get(1).is_none_or(|came| came != "denied"));
        took.push((at(line, 3)? - at(line, 0)?) / 1e6);
    }
    Ok(vec![
        Row::never(
            "alarm, daemon stopped: the next exec was allowed",
            allowed,
            lines.len(),
        )?,
        Row::new("alarm → that exec denied", "ms", took, Wanted::Shown)?,
    ])
}
