//! What must hold of an event that came out of a ring, whatever is in it.

use governor_common::{Event, Plain as _};
use governor_core::{
    policy::Ids,
    time::{BootTime, ClockReading, Span, WallTime},
};

use super::events::Recent;
use crate::{control::proto, text};

/// Bytes of the wrong length are no event; all others are, and can be shown and printed.
pub fn event(bytes: &[u8]) -> bool {
    let Some(event) = Event::read(bytes) else {
        assert_ne!(bytes.len(), size_of::<Event>());
        return false;
    };
    assert_eq!(event.bytes(), bytes);
    let now = ClockReading {
        wall: WallTime(1_794_700_800),
        boot: BootTime(1_000_000_000),
        suspended: Span(0),
    };
    let mut recent = Recent::default();
    let shown = recent.push(now, event).show(&Ids::default());
    for word in [
        &shown.time,
        &shown.reason,
        &shown.operation,
        &shown.zone,
        &shown.workload,
        &shown.comm,
        &shown.path,
        &shown.address,
    ] {
        assert_eq!(text::strip(word), *word, "what is printed is stripped");
    }
    assert!(matches!(shown.digest.len(), 0 | 32));
    let found = recent.find(shown.id).map(|found| found.event.bytes());
    assert_eq!(found, Some(bytes));
    shown.verdict() != proto::Verdict::Unspecified
}
