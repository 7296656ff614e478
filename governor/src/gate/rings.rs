//! Draining the rings of events.
//!
//! Promises: denials first, in the order the kernel made them; an event of another layout is
//! dropped and counted as lost, never guessed at. Verdicts do not depend on anything here.

use aya::maps::{MapData, RingBuf};
use governor_common::{
    Event, Plain,
    names::{ABI, COUNT_LOST_DENIALS, COUNT_LOST_EVENTS},
};

use super::Gate;

/// What one look at the rings found.
#[derive(Debug, Default)]
pub struct Drained {
    pub denials: Vec<Event>,
    pub events: Vec<Event>,
    /// Denials lost since the maps were made.
    pub lost_denials: u64,
    /// Other events lost since the maps were made.
    pub lost_events: u64,
}

impl Gate {
    /// Takes at most `max` events from each ring. Never waits.
    pub fn drain(&mut self, max: usize) -> Drained {
        let (denials, unread_denials) = take(&mut self.maps.denials, max);
        let (events, unread_events) = take(&mut self.maps.events, max);
        self.unreadable.0 += unread_denials;
        self.unreadable.1 += unread_events;
        // A counter that cannot be read is itself a loss.
        let lost_denials = self.count(COUNT_LOST_DENIALS).unwrap_or(u64::MAX);
        let lost_events = self.count(COUNT_LOST_EVENTS).unwrap_or(u64::MAX);
        Drained {
            denials,
            events,
            lost_denials: lost_denials.saturating_add(self.unreadable.0),
            lost_events: lost_events.saturating_add(self.unreadable.1),
        }
    }
}

fn take(ring: &mut RingBuf<MapData>, max: usize) -> (Vec<Event>, u64) {
    let (mut events, mut unreadable) = (Vec::new(), 0);
    while events.len() < max {
        let Some(item) = ring.next() else { break };
        match Event::read(&item).filter(|event| event.abi == ABI) {
            Some(mut event) => {
                end_at_zero(&mut event.path);
                end_at_zero(&mut event.comm);
                events.push(event);
            }
            None => unreadable += 1,
        }
    }
    (events, unreadable)
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
