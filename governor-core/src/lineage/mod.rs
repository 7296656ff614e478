//! The ledger's contents: records, their frames on disk, and what a restart learns from them.
//!
//! Promises: a record is hashed and checked as the bytes that were written, never re-encoded; a
//! torn tail is told apart from damage; folding the same records gives the same recovered state.
//! Pure: reading and writing files is the daemon's part.

mod frame;
mod keep;
mod owed;
mod record;
mod recover;
mod start;

pub use frame::{
    FRAME_HEADER, HEADER, Head, MAX_BATCH, MAX_RECORD, ScanError, Scanned, encode, encode_all, scan,
};
pub use keep::{Broken, Flaw, Found, Notes, hold};
pub use owed::{Lost, OwedStop, Reached};
pub use record::{
    Appraisal, Begun, Disarmed, Entry, Gap, GlassBroken, GlassEnded, Grant, Held, Kind, ModeChange,
    Named, PolicyLoaded, PolicyRefused, Refusal, Resumed, Revocation, RiskMet, Signalled,
    TombstoneRecord, TpmClock, TrustChange, Unlabelled, Unlocked, VerdictRecord,
};
pub use recover::{FRESH, LOCK_UNREADABLE, Recovered, Walls};
pub use start::{Since, Start};
