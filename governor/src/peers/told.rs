//! What was found, and what is said of it.
//!
//! Promises: whoever keeps the daemon's journal learns of each socket that was not found why it was not; whoever
//! makes and removes one all the time has that said every few seconds at most, and the last of it is said.

use std::time::{Duration, Instant};

use super::Found;

/// What came of a look at all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Looked {
    pub(super) found: Found,
    /// A line for each that no name was given.
    pub(super) missing: Vec<String>,
}

impl Looked {
    fn say(&self) {
        let Found {
            found,
            absent,
            unfit,
        } = self.found;
        if found + absent + unfit > 0 {
            tracing::info!(found, absent, unfit, "sockets that policy names");
        }
        for line in &self.missing {
            tracing::info!("nobody is reached at {line}");
        }
    }
}

/// What was said last, and when.
#[derive(Debug, Default)]
pub(super) struct Told(Option<(Looked, Instant)>);

impl Told {
    /// Says it if it is news. If it is too soon for that: when to look again.
    pub(super) fn tell(&mut self, looked: Looked, now: Instant) -> Option<Instant> {
        match &self.0 {
            Some((before, _)) if *before == looked => None,
            Some((_, at)) if now < *at + PAUSE => Some(*at + PAUSE),
            Some(_) | None => {
                looked.say();
                self.0 = Some((looked, now));
                None
            }
        }
    }
}

/// Between two times.
const PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(line: &str) -> Looked {
        Looked {
            missing: vec![line.to_owned()],
            ..Looked::default()
        }
    }

    #[test]
    fn what_changes_all_the_time_is_said_now_and_then_and_in_the_end() {
        let (mut told, at) = (Told::default(), Instant::now());
        assert_eq!(told.tell(missing("a"), at), None);
        assert_eq!(told.tell(missing("a"), at), None, "the same");
        let due = Some(at + PAUSE);
        assert_eq!(told.tell(missing("b"), at), due, "too soon");
        assert_eq!(told.tell(missing("a"), at), None, "as it was said");
        assert_eq!(told.tell(missing("b"), at), due, "too soon");
        assert_eq!(told.tell(missing("b"), at + PAUSE), None, "due");
        assert_eq!(
            told.tell(missing("a"), at + PAUSE),
            Some(at + PAUSE + PAUSE)
        );
    }
}
