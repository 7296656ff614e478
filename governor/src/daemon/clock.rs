//! The only place that reads clocks and the kernel's boot id.

use anyhow::{Context as _, Result};
use governor_core::time::{BootTime, ClockReading, Span, WallTime};
use nix::time::{ClockId, clock_gettime};

/// The clocks, now.
pub(crate) fn now() -> Result<ClockReading> {
    let mut tightest = u64::MAX;
    let mut reading = None;
    for _ in 0..TRIES {
        let before = nanoseconds(ClockId::CLOCK_MONOTONIC)?;
        let boot = nanoseconds(ClockId::CLOCK_BOOTTIME)?;
        let wall = clock_gettime(ClockId::CLOCK_REALTIME).context("reading CLOCK_REALTIME")?;
        let awake = nanoseconds(ClockId::CLOCK_MONOTONIC)?;
        let took = awake.saturating_sub(before);
        if took < tightest {
            tightest = took;
            reading = Some(ClockReading {
                wall: WallTime(wall.tv_sec()),
                boot: BootTime(boot),
                suspended: Span(boot.saturating_sub(awake)),
            });
        }
        if took < TOGETHER {
            break;
        }
    }
    reading.context("reading the clocks")
}

/// Since boot, sleep included.
pub(crate) fn boot() -> Result<BootTime> {
    nanoseconds(ClockId::CLOCK_BOOTTIME).map(BootTime)
}

fn nanoseconds(clock: ClockId) -> Result<u64> {
    let context = || format!("reading {clock}");
    let time = clock_gettime(clock).with_context(context)?;
    let seconds = u64::try_from(time.tv_sec()).with_context(context)?;
    let nanos = u64::try_from(time.tv_nsec()).with_context(context)?;
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Clocks read within this count as read at once. Whoever is put aside in between tries again, so
/// that it does not look like sleep.
const TOGETHER: u64 = 10_000_000;
const TRIES: usize = 16;

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
