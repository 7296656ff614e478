//! The only place that reads clocks and the kernel's boot id.

use anyhow::{Context as _, Result};
use governor_core::time::{BootTime, ClockReading, WallTime};
use nix::time::{ClockId, clock_gettime};

/// Both clocks, now.
pub(crate) fn now() -> Result<ClockReading> {
    let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).context("reading CLOCK_BOOTTIME")?;
    let wall = clock_gettime(ClockId::CLOCK_REALTIME).context("reading CLOCK_REALTIME")?;
    let seconds = u64::try_from(boot.tv_sec()).context("reading CLOCK_BOOTTIME")?;
    let nanos = u64::try_from(boot.tv_nsec()).context("reading CLOCK_BOOTTIME")?;
    Ok(ClockReading {
        wall: WallTime(wall.tv_sec()),
        boot: BootTime(seconds.saturating_mul(1_000_000_000).saturating_add(nanos)),
    })
}

/// The id the kernel gave this boot.
pub(crate) fn boot_id() -> Result<[u8; 16]> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path).with_context(|| format!("reading `{path}`"))?;
    let mut id = [0; 16];
    hex::decode_to_slice(text.trim().replace('-', ""), &mut id)
        .with_context(|| format!("reading the boot id `{}`", text.trim()))?;
    Ok(id)
}

/// RFC 3339 of a boot time, as the wall clock stands now.
pub(crate) fn rfc3339(now: ClockReading, then: BootTime) -> String {
    let ago = i128::from(now.boot.0) - i128::from(then.0);
    let nanos = i128::from(now.wall.0) * 1_000_000_000 - ago;
    jiff::Timestamp::from_nanosecond(nanos)
        .map_or_else(|_| String::new(), |time| format!("{time:.3}"))
}
