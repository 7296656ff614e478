//! Two clocks that are never mixed.
//!
//! Wall time is what people write into policies and what may be set; boot time (CLOCK_BOOTTIME) is
//! what the kernel compares with, counts suspend, and cannot be set. [`ClockReading`] is one
//! reading of both and the only way from one to the other.

use core::fmt;

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub i64);

/// Nanoseconds of CLOCK_BOOTTIME.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(pub u64);

/// A length of time in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub u64);

impl Span {
    /// `seconds` as a span, saturating.
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// Whole seconds.
    pub const fn as_seconds(self) -> u64 {
        self.0 / 1_000_000_000
    }
}

impl BootTime {
    /// This moment plus `span`, saturating.
    pub const fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// How long `later` is after this; zero if it is not.
    pub const fn until(self, later: Self) -> Span {
        Span(later.0.saturating_sub(self.0))
    }
}

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    pub wall: WallTime,
    pub boot: BootTime,
    /// How much of the boot time the host slept through (CLOCK_BOOTTIME less CLOCK_MONOTONIC).
    pub suspended: Span,
}

impl ClockReading {
    /// The boot time at which the wall clock, left alone, will show `wall`. A moment before this
    /// boot is boot time zero, one beyond what fits is the end of time.
    pub fn boot_time_of(&self, wall: WallTime) -> BootTime {
        let ahead = i128::from(wall.0) - i128::from(self.wall.0);
        let nanos = i128::from(self.boot.0) + ahead * 1_000_000_000;
        BootTime(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.0) {
            Ok(timestamp) => write!(f, "{timestamp}"),
            Err(_) => write!(f, "{} s after 1970", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_times_become_boot_times() {
        let now = ClockReading {
            wall: WallTime(1_000),
            boot: BootTime(5_000_000_000),
            suspended: Span(0),
        };
        assert_eq!(now.boot_time_of(WallTime(1_001)), BootTime(6_000_000_000));
        assert_eq!(now.boot_time_of(WallTime(900)), BootTime(0));
        assert_eq!(now.boot_time_of(WallTime(i64::MAX)), BootTime(u64::MAX));
        assert_eq!(WallTime(0).to_string(), "1970-01-01T00:00:00Z");
    }
}
