//! Whether a ledger is the one that was left: what stands elsewhere about it, held against it.
//!
//! Promises: a ledger that goes on from every head that was noted of it is the same ledger; one that
//! is shorter, or another, or gone while anything says that there was one, is not, and the strongest
//! word about it is kept. Pure: where the notes lie is the daemon's part.

use super::{Head, ScanError, Scanned, Start};
use crate::lineage::Kind;

/// What is wrong with a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It is not there.
    Missing,
    /// It does not go on from where it was.
    RolledBack,
    /// It does not check in itself.
    Contradicting,
    /// It, or what stands about it, cannot be read now, so which of these it is cannot be told.
    Unreadable,
}

impl Flaw {
    /// The name used in files and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::RolledBack => "rolled-back",
            Self::Contradicting => "contradicting",
            Self::Unreadable => "unreadable",
        }
    }

    /// The flaw with this name, if one with it may have been kept: what could not be read was not.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Missing, Self::RolledBack, Self::Contradicting];
        all.into_iter().find(|flaw| flaw.name() == name)
    }
}

/// A ledger that takes no more records, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub flaw: Flaw,
    pub detail: String,
    /// The last head that anything noted of it.
    pub last: Head,
}

/// What stands about a ledger elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// In the kernel, for this boot.
    pub kernel: Option<Head>,
    /// In the anchor beside it.
    pub anchor: Option<Head>,
    /// A ledger once found broken stays so until an operator begins another.
    pub broken: Option<(Flaw, String)>,
    /// Policies that an earlier daemon kept.
    pub policies: bool,
}

/// The file, as it was found.
#[derive(Debug)]
pub enum Found<'a> {
    Missing,
    Unreadable(&'a ScanError),
    Read(&'a Scanned),
}

/// Holds the notes against the file. None: it is the ledger that was left, or there never was one.
pub fn hold(found: &Found<'_>, notes: &Notes) -> Option<Broken> {
    let noted = [notes.kernel, notes.anchor];
    let last = noted
        .into_iter()
        .flatten()
        .max_by_key(|head| head.size)
        .unwrap_or(Head::EMPTY);
    let broken = |flaw, detail: String| Some(Broken { flaw, detail, last });
    if let Some((flaw, detail)) = &notes.broken {
        return broken(*flaw, detail.clone());
    }
    let scanned = match found {
        Found::Unreadable(error) => return broken(Flaw::Contradicting, error.to_string()),
        // A file without a record is what a start that was cut short leaves, or no ledger at all.
        Found::Missing => None,
        Found::Read(scanned) if scanned.head.size == 0 => None,
        Found::Read(scanned) => Some(scanned),
    };
    let Some(scanned) = scanned else {
        return match (last.size, notes.policies) {
            (0, false) => None,
            (0, true) => broken(
                Flaw::Missing,
                "policies are kept here, and no ledger says of which serial".to_owned(),
            ),
            (size, _) => broken(Flaw::Missing, format!("it had {size} records")),
        };
    };
    for head in noted.into_iter().flatten() {
        match scanned.head_at(head.size) {
            Some(same) if same == head => {}
            Some(_) => {
                let detail = format!("its first {} records are not the ones noted", head.size);
                return broken(Flaw::RolledBack, detail);
            }
            None => {
                let size = scanned.head.size;
                let detail = format!("it has {size} records and had {}", head.size);
                return broken(Flaw::RolledBack, detail);
            }
        }
    }
    let anchored = scanned
        .entries
        .iter()
        .any(|entry| matches!(&entry.kind, Some(Kind::Start(Start { anchored: true, .. }))));
    if anchored && notes.anchor.is_none() {
        let detail = "the anchor beside it is gone".to_owned();
        return broken(Flaw::RolledBack, detail);
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::lineage::{Entry, HEADER, encode, scan};

    fn ledger(records: u64, anchored: bool) -> Scanned {
        let mut file = HEADER.to_vec();
        for sequence in 0..records {
            let start = Start {
                anchored,
                ..Start::default()
            };
            let entry = Entry {
                schema: 1,
                sequence,
                kind: Some(Kind::Start(start)),
                ..Entry::default()
            };
            file.extend(encode(&[entry.encode_to_vec()]));
        }
        scan(&file).unwrap()
    }

    fn flaw(found: &Found<'_>, notes: &Notes) -> Option<Flaw> {
        hold(found, notes).map(|broken| broken.flaw)
    }

    #[test]
    fn a_host_that_was_never_armed_starts_clean() {
        assert_eq!(hold(&Found::Missing, &Notes::default()), None);
        let empty = ledger(0, false);
        assert_eq!(hold(&Found::Read(&empty), &Notes::default()), None);
        let begun = Notes {
            anchor: Some(Head::EMPTY),
            ..Notes::default()
        };
        assert_eq!(
            hold(&Found::Missing, &begun),
            None,
            "cut short at its start"
        );
    }

    #[test]
    fn it_may_have_grown_and_nothing_else() {
        let now = ledger(5, true);
        for noted in 0..=5 {
            let head = now.head_at(noted);
            let notes = Notes {
                kernel: head,
                anchor: head,
                ..Notes::default()
            };
            assert_eq!(hold(&Found::Read(&now), &notes), None, "{noted}");
        }
        let longer = ledger(6, true);
        for (kernel, anchor) in [
            (longer.head_at(6), now.head_at(5)),
            (None, longer.head_at(6)),
        ] {
            let notes = Notes {
                kernel,
                anchor,
                ..Notes::default()
            };
            let broken = hold(&Found::Read(&now), &notes).unwrap();
            assert_eq!(broken.flaw, Flaw::RolledBack);
            assert_eq!(
                broken.last, longer.head,
                "the last head known is the one named"
            );
        }
        let other = ledger(6, false);
        let notes = Notes {
            anchor: other.head_at(3),
            ..Notes::default()
        };
        assert_eq!(flaw(&Found::Read(&longer), &notes), Some(Flaw::RolledBack));
    }

    #[test]
    fn whatever_says_there_was_one_makes_it_missed() {
        let head = ledger(2, true).head;
        let empty = ledger(0, false);
        for notes in [
            Notes {
                kernel: Some(head),
                ..Notes::default()
            },
            Notes {
                anchor: Some(head),
                ..Notes::default()
            },
            Notes {
                policies: true,
                ..Notes::default()
            },
        ] {
            assert_eq!(flaw(&Found::Missing, &notes), Some(Flaw::Missing));
            assert_eq!(flaw(&Found::Read(&empty), &notes), Some(Flaw::Missing));
        }
    }

    #[test]
    fn an_anchor_that_was_there_is_missed_and_one_that_never_was_is_not() {
        let notes = Notes::default();
        let (with, without) = (ledger(2, true), ledger(2, false));
        assert_eq!(flaw(&Found::Read(&with), &notes), Some(Flaw::RolledBack));
        assert_eq!(flaw(&Found::Read(&without), &notes), None);
    }

    #[test]
    fn what_was_found_broken_stays_broken_when_it_is_put_back() {
        let good = ledger(2, true);
        let notes = Notes {
            anchor: Some(good.head),
            broken: Some((Flaw::Missing, "gone".to_owned())),
            ..Notes::default()
        };
        assert_eq!(flaw(&Found::Read(&good), &notes), Some(Flaw::Missing));
        let error = ScanError::NotALedger;
        let notes = Notes::default();
        assert_eq!(
            flaw(&Found::Unreadable(&error), &notes),
            Some(Flaw::Contradicting)
        );
    }

    #[test]
    fn names_lead_back() {
        for flaw in [Flaw::Missing, Flaw::RolledBack, Flaw::Contradicting] {
            assert_eq!(Flaw::from_name(flaw.name()), Some(flaw));
        }
        assert_eq!(Flaw::from_name("good"), None);
        assert_eq!(Flaw::from_name(Flaw::Unreadable.name()), None);
    }
}
