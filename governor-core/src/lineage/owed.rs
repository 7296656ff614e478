//! Effects that failed, and the stops among them that are owed until they are done.
//!
//! Promises: numbers that a later version may have written are read as the strictest there is, and two
//! records of one stop are read as the same.

use std::collections::BTreeSet;

use governor_common::{names::ZONE_EVERY, row::TombstoneKey};
use prost::Message;

/// An effect failed.
#[derive(Clone, PartialEq, Message)]
pub struct Lost {
    #[prost(string, tag = "1")]
    pub effect: String,
    #[prost(string, tag = "2")]
    pub error: String,
    /// If it was to stop running copies: which, and how. They are owed from here on, until a record says that
    /// they were reached or may go on, or the host reboots.
    #[prost(message, repeated, tag = "3")]
    pub owed: Vec<OwedStop>,
}

/// What was owed is not owed any more: it was done in the end (it was before this was written), or an operator took
/// it back, as the record before this in its batch says.
#[derive(Clone, PartialEq, Message)]
pub struct Reached {
    #[prost(message, repeated, tag = "1")]
    pub stops: Vec<OwedStop>,
}

/// Running copies that are to be stopped.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
pub struct OwedStop {
    /// The number of the zone.
    #[prost(uint32, tag = "1")]
    pub zone: u32,
    /// Which of its copies: 1 all, 2 those of `workload`, 3 whatever was executed as `digest`. Anything else
    /// is all.
    #[prost(uint32, tag = "2")]
    pub copies: u32,
    #[prost(uint32, tag = "3")]
    pub workload: u32,
    #[prost(bytes = "vec", tag = "4")]
    pub digest: Vec<u8>,
    /// What is done to them: 1 nothing but that what is held there already does not go on for the return of
    /// trust alone, 2 frozen, 3 quarantined, 4 killed. Anything else is killed.
    #[prost(uint32, tag = "5")]
    pub action: u32,
    /// What lets them go on again: 1 the return of trust, 2 an operator, because it was not for want of trust
    /// that they were stopped, 3 an operator, who may take this back also before it is done. Anything else is 3,
    /// of which nothing that is frozen is let go sooner.
    #[prost(uint32, tag = "6")]
    pub release: u32,
}

impl OwedStop {
    pub const ALL: u32 = 1;
    pub const WORKLOAD: u32 = 2;
    pub const DIGEST: u32 = 3;

    pub const BAR: u32 = 1;
    pub const FREEZE: u32 = 2;
    pub const QUARANTINE: u32 = 3;
    pub const KILL: u32 = 4;

    pub const BY_TRUST: u32 = 1;
    pub const BARRED: u32 = 2;
    pub const BY_HAND: u32 = 3;

    /// Whether it is of content that is revoked: nobody lets that go on.
    pub fn is_of_revoked(&self, revoked: &BTreeSet<TombstoneKey>) -> bool {
        self.copies == Self::DIGEST
            && <[u8; 32]>::try_from(self.digest.as_slice()).is_ok_and(|digest| {
                let keys = [self.zone, ZONE_EVERY].map(|zone| TombstoneKey {
                    zone,
                    reserved: 0,
                    digest,
                });
                keys.iter().any(|key| revoked.contains(key))
            })
    }

    /// As this version does it. The same for all that it does in the same way.
    #[must_use]
    pub fn understood(&self) -> Self {
        let nothing_else = Self {
            zone: self.zone,
            copies: Self::ALL,
            action: Self::BAR,
            release: Self::BARRED,
            ..Self::default()
        };
        let action = match self.action {
            Self::BAR => return nothing_else,
            Self::FREEZE | Self::QUARANTINE => self.action,
            0 | Self::KILL.. => Self::KILL,
        };
        let release = match self.release {
            Self::BY_TRUST | Self::BARRED => self.release,
            0 | Self::BY_HAND.. => Self::BY_HAND,
        };
        let read = Self {
            action,
            release,
            ..nothing_else
        };
        match self.copies {
            Self::WORKLOAD => Self {
                copies: self.copies,
                workload: self.workload,
                ..read
            },
            // Policy says nothing of contents: whoever stops by content does it by hand.
            Self::DIGEST if self.digest.len() == 32 => Self {
                copies: self.copies,
                digest: self.digest.clone(),
                release: Self::BY_HAND,
                ..read
            },
            0 | Self::ALL | Self::DIGEST.. => read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_version_may_have_meant_is_the_strictest() {
        let strictest = OwedStop {
            zone: 7,
            copies: OwedStop::ALL,
            action: OwedStop::KILL,
            release: OwedStop::BY_HAND,
            ..OwedStop::default()
        };
        for number in [0, 9, u32::MAX] {
            let later = OwedStop {
                zone: 7,
                copies: number,
                workload: 3,
                digest: vec![1; 32],
                action: number,
                release: number,
            };
            assert_eq!(later.understood(), strictest);
        }
        let cut = OwedStop {
            copies: OwedStop::DIGEST,
            digest: vec![1; 31],
            ..strictest.clone()
        };
        assert_eq!(cut.understood(), strictest, "of nothing that can be read");
    }

    #[test]
    fn what_is_understood_is_understood_as_itself() {
        for copies in 0..5 {
            for action in 0..6 {
                for release in 0..5 {
                    let stop = OwedStop {
                        zone: 7,
                        copies,
                        workload: 3,
                        digest: vec![1; 32],
                        action,
                        release,
                    };
                    let once = stop.understood();
                    assert_eq!(once.understood(), once, "{stop:?}");
                }
            }
        }
    }
}
