//! The attacks, by what they reach for.

mod around;
mod daemon;
mod gate;
mod host;

use super::{Attack, Leaves, Row, either, refused};

/// What breaks most comes last, so that soaking meets it last.
pub(super) const ALL: &[&[Attack]] = &[gate::ALL, host::ALL, daemon::ALL, around::ALL];
