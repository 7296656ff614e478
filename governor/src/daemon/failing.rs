//! What fails again at each try is said when it begins and when it ends, and counted in between.

/// Tries that failed since the last one that did not.
#[derive(Debug, Default)]
pub(super) struct Failing(u64);

impl Failing {
    /// One more; true for the first of them, which is to be said.
    pub(super) const fn failed(&mut self) -> bool {
        self.0 = self.0.saturating_add(1);
        self.0 == 1
    }

    /// One that went well; how many did not before it, if that is news.
    pub(super) const fn went_well(&mut self) -> Option<u64> {
        match core::mem::replace(&mut self.0, 0) {
            0 => None,
            failed => Some(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_when_it_begins_and_when_it_ends() {
        let mut failing = Failing::default();
        assert_eq!(failing.went_well(), None);
        for _ in 0..2 {
            assert_eq!([(); 3].map(|()| failing.failed()), [true, false, false]);
            assert_eq!(failing.went_well(), Some(3));
            assert_eq!(failing.went_well(), None);
        }
    }
}
