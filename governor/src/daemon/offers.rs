//! Policies that wait to be read, one after the other.
//!
//! Promises: they are read in the order in which they came, one at a time, for each may hold 128 MiB; few wait;
//! and one that is read for ever (a file system that does not answer) keeps the next from it for some minutes
//! and no longer. What comes of it after that is told from what comes of the next.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

#[derive(Debug)]
pub(super) struct Offers<T> {
    reading: Option<(u64, Instant)>,
    begun: u64,
    waiting: VecDeque<T>,
}

impl<T> Default for Offers<T> {
    fn default() -> Self {
        Self {
            reading: None,
            begun: 0,
            waiting: VecDeque::new(),
        }
    }
}

impl<T> Offers<T> {
    /// Takes one, or gives it back: there are enough.
    pub(super) fn put(&mut self, offer: T) -> Result<(), T> {
        if self.waiting.len() >= MOST {
            return Err(offer);
        }
        self.waiting.push_back(offer);
        Ok(())
    }

    /// The next one to be read, with its number, unless another is being read.
    pub(super) fn next(&mut self, now: Instant) -> Option<(u64, T)> {
        let is_busy = |(_, since): (u64, Instant)| now.duration_since(since) < LONGEST;
        if self.reading.is_some_and(is_busy) {
            return None;
        }
        let offer = self.waiting.pop_front()?;
        self.begun += 1;
        self.reading = Some((self.begun, now));
        Some((self.begun, offer))
    }

    /// The one of this number is done with. False: it was given up before.
    pub(super) fn is_over(&mut self, number: u64) -> bool {
        let is_that = self.reading.is_some_and(|(reading, _)| reading == number);
        if is_that {
            self.reading = None;
        }
        is_that
    }
}

/// How many wait beside the one that is read.
const MOST: usize = 3;
/// How long one is waited for.
const LONGEST: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_in_order_and_one_at_a_time() {
        let (mut offers, now) = (Offers::default(), Instant::now());
        for offer in 1..=MOST {
            offers.put(offer).unwrap();
        }
        assert_eq!(offers.put(9), Err(9), "there are enough");
        assert_eq!(offers.next(now), Some((1, 1)));
        offers.put(9).unwrap();
        assert_eq!(offers.next(now), None, "one is read");
        assert!(offers.is_over(1));
        assert!(!offers.is_over(1), "it was over");
        assert_eq!(offers.next(now), Some((2, 2)));
    }

    #[test]
    fn one_that_never_ends_is_given_up() {
        let (mut offers, now) = (Offers::default(), Instant::now());
        offers.put('a').unwrap();
        offers.put('b').unwrap();
        assert_eq!(offers.next(now), Some((1, 'a')));
        assert_eq!(offers.next(now + LONGEST - Duration::from_secs(1)), None);
        assert_eq!(offers.next(now + LONGEST), Some((2, 'b')));
        assert!(!offers.is_over(1), "it came too late");
        assert_eq!(offers.next(now + LONGEST), None, "and frees nothing");
        assert!(offers.is_over(2));
    }
}
