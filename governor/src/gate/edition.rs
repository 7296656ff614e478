//! The edition: under which number verdicts keep what they looked up.
//!
//! Promises: nothing is granted that what was kept would not be void for: where the number cannot be moved,
//! nothing is stored. What takes away is stored all the same, and the number moved after it; if that fails
//! too it is an error, so that it is tried again. Never waits.

use governor_common::state::{EDITION_OPEN, is_edition};

use super::GateError;

/// What a change does to what was allowed before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It may add.
    Grants,
    /// It only takes away.
    Takes,
}

/// Where the number is kept.
pub(super) trait Edition {
    fn edition(&self) -> Result<u64, GateError>;
    fn set_edition(&mut self, number: u64) -> Result<(), GateError>;
}

/// Stores what verdicts look up. Nothing that was looked up before counts after it, and nothing is kept of
/// what is looked up meanwhile; a store that fails leaves it so until another change comes to its end.
pub(super) fn change<E: Edition, T>(
    on: &mut E,
    change: Change,
    store: impl FnOnce(&mut E) -> Result<T, GateError>,
) -> Result<T, GateError> {
    let opened = match (open(on), change) {
        (Err(error), Change::Grants) => return Err(error),
        (opened, Change::Grants | Change::Takes) => opened,
    };
    let done = store(on)?;
    let edition = match opened {
        Ok(edition) => edition,
        // What was kept meanwhile is of the number before, and void from here on.
        Err(_) => open(on)?,
    };
    if let Err(error) = close(on, edition) {
        // The change stands, and costs everybody a look until the next one.
        tracing::warn!("noting that a change came to its end: {error}");
    }
    Ok(done)
}

/// Nothing that was kept counts, and nothing is kept.
fn open<E: Edition>(on: &mut E) -> Result<u64, GateError> {
    let open = on.edition()? | EDITION_OPEN;
    on.set_edition(open)?;
    Ok(open)
}

fn close<E: Edition>(on: &mut E, open: u64) -> Result<(), GateError> {
    let next = open.checked_add(1).filter(|next| is_edition(*next));
    let over = || GateError::Invalid("the editions are at their end; reboot".to_owned());
    on.set_edition(next.ok_or_else(over)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number of which some stores fail, and what was stored beside it under which number.
    struct Word {
        number: u64,
        fails: &'static [usize],
        stores: usize,
        stored: Option<u64>,
    }

    impl Edition for Word {
        fn edition(&self) -> Result<u64, GateError> {
            Ok(self.number)
        }

        fn set_edition(&mut self, number: u64) -> Result<(), GateError> {
            self.stores += 1;
            if self.fails.contains(&self.stores) {
                return Err(GateError::Invalid("no memory".to_owned()));
            }
            self.number = number;
            Ok(())
        }
    }

    const BEFORE: u64 = 4;

    fn after(kind: Change, fails: &'static [usize]) -> (Word, bool) {
        let mut word = Word {
            number: BEFORE,
            fails,
            stores: 0,
            stored: None,
        };
        let done = change(&mut word, kind, |word| {
            word.stored = Some(word.number);
            Ok(())
        });
        (word, done.is_ok())
    }

    #[test]
    fn what_is_stored_is_stored_between_two_numbers() {
        for kind in [Change::Grants, Change::Takes] {
            let (word, done) = after(kind, &[]);
            assert!(done && word.stored == Some(BEFORE | EDITION_OPEN));
            assert!(is_edition(word.number) && word.number > BEFORE);
        }
    }

    #[test]
    fn nothing_is_granted_where_the_number_does_not_move() {
        let (word, done) = after(Change::Grants, &[1]);
        assert!(!done && word.stored.is_none() && word.number == BEFORE);
    }

    #[test]
    fn what_takes_away_is_stored_all_the_same_and_what_was_kept_is_void_after_it() {
        let (word, done) = after(Change::Takes, &[1]);
        assert!(done && word.stored.is_some());
        assert!(is_edition(word.number) && word.number > BEFORE);
        // Nobody is told that it is done while somebody may go by what was kept.
        let (word, done) = after(Change::Takes, &[1, 2]);
        assert!(!done && word.stored.is_some() && word.number == BEFORE);
    }

    #[test]
    fn a_change_that_fails_or_does_not_come_to_its_end_keeps_nothing() {
        for kind in [Change::Grants, Change::Takes] {
            let (word, done) = after(kind, &[2]);
            assert!(done && !is_edition(word.number), "the end of it");
            let (mut word, _) = after(kind, &[]);
            let failed = || GateError::Invalid("no memory".to_owned());
            let done = change(&mut word, kind, |_| Err::<(), _>(failed()));
            assert!(done.is_err() && !is_edition(word.number), "the change");
        }
    }

    #[test]
    fn the_last_number_is_followed_by_none() {
        let (mut word, _) = after(Change::Takes, &[]);
        word.number = u64::MAX - 1;
        let done = change(&mut word, Change::Takes, |_| Ok(()));
        assert!(done.is_ok() && !is_edition(word.number));
    }
}
