//! How much of a processor measuring takes, and how often it is begun again.

use std::time::{Duration, Instant};

/// The end of a job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Over {
    pub(super) at: Instant,
    pub(super) took: Duration,
    pub(super) failed: bool,
}

impl Over {
    /// Whether it is time to look at everything again, if anything asks for that: the longer it takes, the
    /// longer it is left alone.
    pub(super) fn is_due(&self, missed: bool, now: Instant) -> bool {
        let pause = self.took.saturating_mul(PAUSES).max(SHORTEST_PAUSE);
        (missed || self.failed) && now.saturating_duration_since(self.at) >= pause
    }
}

/// How long it worked: whoever runs work is to have the processor as well.
#[derive(Debug, Default)]
pub(super) struct Pace {
    all: Duration,
    /// Since it rested last.
    since: Duration,
}

impl Pace {
    pub(super) fn worked(&mut self, long: Duration) {
        self.all = self.all.saturating_add(long);
        self.since = self.since.saturating_add(long);
    }

    /// Without its rests.
    pub(super) const fn all(&self) -> Duration {
        self.all
    }

    /// How long to rest now: not for every small file.
    pub(super) fn rest(&mut self) -> Duration {
        if self.since < SHORTEST_WORK {
            return Duration::ZERO;
        }
        std::mem::take(&mut self.since).saturating_mul(RESTS)
    }
}

/// It rests for this many times as long as it worked, and works for so long before it does.
const RESTS: u32 = 3;
const SHORTEST_WORK: Duration = Duration::from_millis(5);
/// Everything is left alone for this many times as long as it took.
const PAUSES: u32 = 10;
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_it_done_again_all_the_time() {
        let at = Instant::now();
        let due = |took: u64, failed, missed, since: u64| {
            let took = Duration::from_secs(took);
            let over = Over { at, took, failed };
            over.is_due(missed, at + Duration::from_secs(since))
        };
        for (failed, missed) in [(true, false), (false, true), (true, true)] {
            assert!(!due(0, failed, missed, 4));
            assert!(due(0, failed, missed, 5));
            // It takes a part of the time at most, and comes back all the same.
            assert!(!due(3, failed, missed, 29));
            assert!(due(3, failed, missed, 30));
            assert!(!due(600, failed, missed, 5999));
            assert!(due(600, failed, missed, 6000));
        }
        assert!(!due(0, false, false, 3600), "nothing asks for it");
    }

    #[test]
    fn it_takes_a_quarter_of_a_processor_and_rests_not_for_nothing() {
        let mut pace = Pace::default();
        assert_eq!(pace.rest(), Duration::ZERO);
        pace.worked(Duration::from_millis(4));
        assert_eq!(pace.rest(), Duration::ZERO);
        pace.worked(Duration::from_millis(4));
        assert_eq!(
            pace.rest(),
            Duration::from_millis(24),
            "of all that it worked"
        );
        assert_eq!(pace.rest(), Duration::ZERO, "once");
        assert_eq!(pace.all(), Duration::from_millis(8));
    }
}
