//! Draining the rings of events.
//!
//! Promises: denials first, in the order the kernel made them; an event of another layout is
//! dropped and counted as lost, never guessed at. How much no record speaks of yet is kept in the
//! kernel, so that a daemon which ends leaves the number to the next. Verdicts do not depend on anything
//! here.

use aya::maps::{Array, MapData, RingBuf};
use governor_common::{
    Event, Plain,
    names::{self, ABI, COUNT_LOST_DENIALS, COUNT_LOST_EVENTS},
    state::Word,
};

use super::{Gate, GateError};

/// What was found in the rings.
#[derive(Debug, Default)]
pub struct Drained {
    pub denials: Vec<Event>,
    pub events: Vec<Event>,
    /// Denials of another layout among those that were taken.
    pub unreadable_denials: u64,
    /// The same of other events.
    pub unreadable_events: u64,
    /// Denials lost since the maps were made.
    pub lost_denials: u64,
    /// Other events lost since the maps were made.
    pub lost_events: u64,
}

/// How far what one ring told is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfRing {
    /// How many of those that the kernel counted as lost a record speaks of.
    pub lost: u64,
    /// Of those that were taken: in [`Told`] how many no record speaks of, in [`UpTo`] how many one does, as
    /// [`Gate::taken_so_far`] counts them.
    pub taken: u64,
}

/// How far what the rings told is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub denials: OfRing,
    pub events: OfRing,
    /// Verdicts that were counted, not kept one by one, and whose number no record tells.
    pub left_out: u64,
}

impl Told {
    /// As the kernel keeps it for the next daemon.
    const fn words(self) -> [(Word, u64); 5] {
        [
            (Word::LeftOut, self.left_out),
            (Word::DenialsTold, self.denials.lost),
            (Word::DenialsTaken, self.denials.taken),
            (Word::EventsTold, self.events.lost),
            (Word::EventsTaken, self.events.taken),
        ]
    }
}

/// What of the rings a record speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpTo {
    pub denials: OfRing,
    pub events: OfRing,
    /// Verdicts that were counted, not kept one by one, and whose number no record tells.
    pub left_out: u64,
}

/// How many left each ring: what an earlier daemon left untold, and what this one took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub denials: u64,
    pub events: u64,
}

impl Taken {
    /// What an earlier daemon left.
    pub(super) const fn untold(told: Told) -> Self {
        Self {
            denials: told.denials.taken,
            events: told.events.taken,
        }
    }
}

impl Drained {
    /// What was found since is found with it.
    pub fn add(&mut self, later: Self) {
        let Self {
            denials,
            events,
            unreadable_denials,
            unreadable_events,
            lost_denials,
            lost_events,
        } = later;
        self.denials.extend(denials);
        self.events.extend(events);
        self.unreadable_denials += unreadable_denials;
        self.unreadable_events += unreadable_events;
        (self.lost_denials, self.lost_events) = (lost_denials, lost_events);
    }

    /// Nothing was taken for it.
    pub fn is_empty(&self) -> bool {
        self.taken() == Taken::default()
    }

    /// How many were taken for it.
    pub const fn taken(&self) -> Taken {
        Taken {
            denials: (self.denials.len() as u64).saturating_add(self.unreadable_denials),
            events: (self.events.len() as u64).saturating_add(self.unreadable_events),
        }
    }
}

impl Gate {
    /// Takes at most so many denials and other events from their rings. Never waits.
    pub fn drain(&mut self, denials: usize, events: usize) -> Result<Drained, GateError> {
        let (state, told, so_far) = (&mut self.maps.state, &mut self.told, &mut self.taken_so_far);
        // Before each leaves its ring: whoever ends here leaves it to be told.
        let (denials, unreadable_denials) = take(&mut self.maps.denials, denials, || {
            told.denials.taken += 1;
            so_far.denials += 1;
            store(state, Word::DenialsTaken, told.denials.taken)
        })?;
        let (events, unreadable_events) = take(&mut self.maps.events, events, || {
            told.events.taken += 1;
            so_far.events += 1;
            store(state, Word::EventsTaken, told.events.taken)
        })?;
        Ok(Drained {
            denials,
            events,
            unreadable_denials,
            unreadable_events,
            lost_denials: self.count(COUNT_LOST_DENIALS)?,
            lost_events: self.count(COUNT_LOST_EVENTS)?,
        })
    }

    /// How far they are written down, by this daemon or by one before it.
    pub const fn told(&self) -> Told {
        self.told
    }

    /// What was taken out of the rings.
    pub const fn taken_so_far(&self) -> Taken {
        self.taken_so_far
    }

    /// Notes how far they are. Only once the records are durable.
    pub fn note_told(&mut self, up_to: UpTo) -> Result<(), GateError> {
        let since = |of: OfRing, so_far: u64| OfRing {
            lost: of.lost,
            taken: so_far.saturating_sub(of.taken),
        };
        let told = Told {
            denials: since(up_to.denials, self.taken_so_far.denials),
            events: since(up_to.events, self.taken_so_far.events),
            left_out: up_to.left_out,
        };
        // A number is stored before that of what it stands for: whoever ends in between has it told twice.
        for ((word, before), (_, now)) in self.told.words().into_iter().zip(told.words()) {
            if before != now {
                self.set_word(word, now)?;
            }
        }
        self.told = told;
        Ok(())
    }
}

/// What an earlier daemon left; zeros in maps that are new.
pub(super) fn told(state: &Array<MapData, u64>) -> Result<Told, GateError> {
    let load = |word: Word| {
        let value = state.get(&(word as u32), 0);
        value.map_err(GateError::map(names::STATE, "reading a word"))
    };
    Ok(Told {
        denials: OfRing {
            lost: load(Word::DenialsTold)?,
            taken: load(Word::DenialsTaken)?,
        },
        events: OfRing {
            lost: load(Word::EventsTold)?,
            taken: load(Word::EventsTaken)?,
        },
        left_out: load(Word::LeftOut)?,
    })
}

fn store(state: &mut Array<MapData, u64>, word: Word, value: u64) -> Result<(), GateError> {
    state
        .set(word as u32, value, 0)
        .map_err(GateError::map(names::STATE, "storing a word"))
}

fn take(
    ring: &mut RingBuf<MapData>,
    max: usize,
    mut before_it_leaves: impl FnMut() -> Result<(), GateError>,
) -> Result<(Vec<Event>, u64), GateError> {
    let (mut events, mut unreadable) = (Vec::new(), 0);
    while events.len() < max {
        let Some(item) = ring.next() else { break };
        before_it_leaves()?;
        match Event::read(&item).filter(|event| event.abi == ABI) {
            Some(mut event) => {
                end_at_zero(&mut event.path);
                end_at_zero(&mut event.comm);
                events.push(event);
            }
            None => unreadable += 1,
        }
    }
    Ok((events, unreadable))
}

/// The kernel builds paths from the end of the buffer and leaves what it built behind.
fn end_at_zero(text: &mut [u8]) {
    let end = text
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(text.len());
    text.iter_mut().skip(end).for_each(|byte| *byte = 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_path_is_cleared() {
        let mut text = *b"/bin/true\0/rest";
        end_at_zero(&mut text);
        assert_eq!(&text, b"/bin/true\0\0\0\0\0\0");
        let mut full = *b"abc";
        end_at_zero(&mut full);
        assert_eq!(&full, b"abc");
    }
}
