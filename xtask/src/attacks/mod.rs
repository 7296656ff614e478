//! What root tries against an armed gate, as data, and the one judge of all of it.
//!
//! Each attack is a line of shell for a root shell outside of every zone. However it ends, and whatever
//! was tried before it, one of two things must be seen afterwards: enforcement and trust are what they
//! were, or trust is lost and what needs it is denied. What no policy lists is denied throughout.

pub(crate) mod judge;
pub(crate) mod scene;
mod storms;
mod table;

use std::collections::BTreeMap;

pub(crate) use self::storms::Load;

/// What an attack reaches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    /// The switch that turns tracing programs off.
    Switch,
    /// Links of programs: detaching, updating.
    Links,
    /// The daemon that holds descriptors of everything: ended, stopped, starved.
    Daemon,
    /// Pins: removed, renamed, hidden, their file system unmounted.
    Pins,
    /// Maps, by number or by pin.
    Maps,
    /// Programs by number, and programs that would take their place.
    Programs,
    /// Programs that ride on the same kernel functions.
    Riders,
    /// The daemon's memory and descriptors, and those of the first process.
    Memory,
    /// What ends or freezes the daemon without a signal that anybody judges.
    Cgroups,
    /// Modules.
    Modules,
    /// Other kernels.
    Kexec,
    /// Memory, ports and registers of the machine.
    Machine,
    /// Block devices below mounted file systems.
    Devices,
    /// Tracing and debugging file systems.
    Tracing,
    /// Integrity policy and lockdown.
    Integrity,
    /// Settings that programs or processes lean on.
    Settings,
    /// The daemon's files, its unit, and what starts it.
    Files,
}

/// How an attack may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// Its command fails, always.
    Refused,
    /// It may be done: root may do such a thing, and the gate has to bear it.
    Either,
}

/// What an attack leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// What its undoing takes back.
    Nothing,
    /// Something that only a reboot takes back.
    Traces,
    /// A guest whose processes, the host's hand among them, were all ended.
    NoProcess,
}

/// One thing that root tries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) row: Row,
    /// Shell, with [`scene::PRELUDE`] before it.
    pub(crate) does: &'static str,
    /// Shell that makes the guest what it was, whether the attack succeeded or not.
    pub(crate) undo: &'static str,
    pub(crate) ends: Ends,
    /// Where it is refused: one of the texts that say so. What fails otherwise may never have been tried.
    pub(crate) said: &'static [&'static str],
    pub(crate) leaves: Leaves,
    /// Whether the suite `guard` tries the same, with more precise expectations.
    pub(crate) guarded: bool,
}

/// Every attack. The order is part of the numbers that `--from` takes.
pub(crate) fn all() -> Vec<&'static Attack> {
    table::ALL.iter().copied().flatten().collect()
}

/// Every ordered pair, an attack with itself included.
pub(crate) fn pairs() -> Vec<[&'static Attack; 2]> {
    let all = all();
    let after = |first: &&'static Attack| {
        let first = *first;
        all.iter().map(move |second| [first, *second])
    };
    all.iter().flat_map(after).collect()
}

/// Each row after each, itself included, by an attack of the one and one of the other: for each row the next of its
/// attacks in turn.
pub(crate) fn pairs_of_rows() -> Vec<[&'static Attack; 2]> {
    let mut rows: BTreeMap<Row, Vec<&'static Attack>> = BTreeMap::new();
    for attack in all() {
        rows.entry(attack.row).or_default().push(attack);
    }
    let rows: Vec<Vec<&'static Attack>> = rows.into_values().collect();
    let turn = |of: &[&'static Attack], number: usize| of[number % of.len()];
    let mut pairs = Vec::new();
    for (at, first) in rows.iter().enumerate() {
        for (after, second) in rows.iter().enumerate() {
            // As second a row goes on where it ended as first.
            pairs.push([turn(first, after), turn(second, rows.len() + at)]);
        }
    }
    pairs
}

/// What else reaches for the same, the next in turn first.
pub(crate) fn others_of_row(attack: &Attack) -> Vec<&'static Attack> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut met = false;
    for other in all().into_iter().filter(|other| other.row == attack.row) {
        if other.name == attack.name {
            met = true;
        } else if met {
            after.push(other);
        } else {
            before.push(other);
        }
    }
    after.append(&mut before);
    after
}

/// A part of the pairs that is the same each time: `count` of them, after `skipped` others, spread so that every
/// attack comes about as often as any other, first and second.
pub(crate) fn slice_of_pairs(skipped: usize, count: usize) -> Vec<[&'static Attack; 2]> {
    let pairs: Vec<_> = pairs()
        .into_iter()
        .filter(|pair| pair.iter().all(|attack| attack.leaves == Leaves::Nothing))
        .collect();
    // Steps of the golden ratio of all of them are never near each other.
    let step = pairs.len() * 618 / 1000;
    (skipped..skipped + count)
        .map(|number| pairs[(number * step) % pairs.len()])
        .collect()
}

const fn refused(row: Row, name: &'static str, does: &'static str) -> Attack {
    Attack {
        name,
        row,
        does,
        undo: "",
        ends: Ends::Refused,
        said: REFUSED,
        leaves: Leaves::Nothing,
        guarded: false,
    }
}

const fn either(row: Row, name: &'static str, does: &'static str, undo: &'static str) -> Attack {
    Attack {
        undo,
        ends: Ends::Either,
        ..refused(row, name, does)
    }
}

impl Attack {
    const fn guarded(self) -> Self {
        Self {
            guarded: true,
            ..self
        }
    }

    /// For what was refused in part, or needs something taken back all the same.
    const fn undone_by(self, undo: &'static str) -> Self {
        Self { undo, ..self }
    }

    /// For what is not simply forbidden.
    const fn saying(self, said: &'static [&'static str]) -> Self {
        Self { said, ..self }
    }

    const fn leaves(self, leaves: Leaves) -> Self {
        Self { leaves, ..self }
    }
}

/// As tools and probes say that something is forbidden.
const REFUSED: &[&str] = &["not permitted", "ermission denied", "must be superuser"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_row_is_reached_for_and_no_name_comes_twice() {
        let rows: BTreeSet<Row> = all().iter().map(|attack| attack.row).collect();
        // The last of the enumeration, so that a row that is added is asked for here.
        assert_eq!(rows.len(), Row::Files as usize + 1, "{rows:?}");
        let names: BTreeSet<&str> = all().iter().map(|attack| attack.name).collect();
        assert_eq!(names.len(), all().len());
    }

    #[test]
    fn each_row_comes_after_each_by_many_attacks() {
        let pairs = pairs_of_rows();
        let rows: BTreeSet<[Row; 2]> = pairs.iter().map(|pair| pair.map(|a| a.row)).collect();
        let all_rows = Row::Files as usize + 1;
        assert_eq!(
            (pairs.len(), rows.len()),
            (all_rows.pow(2), all_rows.pow(2))
        );
        let tried: BTreeSet<&str> = pairs.iter().flatten().map(|attack| attack.name).collect();
        assert_eq!(tried.len(), all().len());
    }

    #[test]
    fn the_others_of_a_row_begin_with_the_next() {
        let row: Vec<&Attack> = all().into_iter().filter(|a| a.row == Row::Maps).collect();
        let others = others_of_row(row[1]);
        assert_eq!(others.len(), row.len() - 1);
        assert_eq!(
            (others[0].name, others[others.len() - 1].name),
            (row[2].name, row[0].name)
        );
    }

    #[test]
    fn a_slice_is_spread_over_the_attacks() {
        for (skipped, count, few) in [(0, 6, 6), (6, 6, 6), (0, 60, 45)] {
            let slice = slice_of_pairs(skipped, count);
            assert_eq!(slice.len(), count);
            let first: BTreeSet<&str> = slice.iter().map(|[first, _]| first.name).collect();
            let second: BTreeSet<&str> = slice.iter().map(|[_, second]| second.name).collect();
            assert!(
                first.len() >= few && second.len() >= few,
                "{first:?} {second:?}"
            );
        }
    }
}
