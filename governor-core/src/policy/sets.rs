//! Sets: which contents a name in the policy stands for.
//!
//! A set is a file as `sha256sum` prints it, with `#` comments and blank lines. The all-zero digest is an
//! error, and so is that of empty content but where a set is only for reading: both are what a measurement
//! gone wrong looks like.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    bundle::RawBundle,
    document::Table,
    report::{Complaint, Report, did_you_mean, quoted},
    sums, values,
};
use crate::digest::Digest;

/// Digests with each name they were listed under. Names decide nothing: they are for people, and whole
/// paths say where to look for files.
pub(super) type Set = BTreeSet<(Digest, String)>;

/// What a set may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// To be executed, mapped, or loaded by the kernel.
    Code,
    /// To be read: there may be nothing in it.
    Data,
}

/// The sets of the policy, and which of them something used.
pub(super) struct Sets {
    by_name: BTreeMap<String, Listed>,
}

struct Listed {
    set: Set,
    holds_empty: bool,
    at: usize,
    used: bool,
}

impl Sets {
    pub(super) fn read<'a>(
        root: &Table<'a>,
        files: &'a RawBundle,
        report: &mut Report<'a>,
    ) -> Self {
        let mut by_name = BTreeMap::new();
        let names = root.names("set");
        let Some(table) = root.table("set", &names, report) else {
            return Self { by_name };
        };
        for (name, path) in table.entries(report) {
            if let Err(complaint) = values::name(name.value) {
                report.error(name.at, complaint);
            }
            let set = if let Some(bytes) = files.get(path.value) {
                read(path.value, bytes, report)
            } else {
                let message = format!("file {} is not in the bundle", quoted(path.value));
                let hint = did_you_mean(path.value, files.files().map(|(name, _)| name));
                let complaint = Complaint { message, hint };
                report.error(path.at, complaint);
                Set::new()
            };
            let holds_empty = listings(&set, Digest::OF_NOTHING).next().is_some();
            by_name.insert(
                name.value.to_owned(),
                Listed {
                    set,
                    holds_empty,
                    at: name.at,
                    used: false,
                },
            );
        }
        Self { by_name }
    }

    /// Every digest of the sets listed at `key`.
    pub(super) fn resolve(
        &mut self,
        table: &Table<'_>,
        key: &str,
        what_for: Use,
        report: &mut Report<'_>,
    ) -> BTreeSet<Digest> {
        let mut digests = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for name in table.strings(key, report).into_iter().flatten() {
            if !seen.insert(name.value) {
                report.warn(
                    name.at,
                    Complaint::new(format!("{} is listed twice", quoted(name.value))),
                );
            }
            if let Some(listed) = self.by_name.get_mut(name.value) {
                listed.used = true;
                digests.extend(listed.set.iter().map(|(digest, _)| *digest));
                if what_for == Use::Code && listed.holds_empty {
                    let message = format!("set {} lists an empty file", quoted(name.value));
                    let hint = "only `data` may: there is nothing in it to execute or to map";
                    report.error(name.at, Complaint::new(message).hint(hint));
                }
            } else {
                let message = format!("unknown set {}", quoted(name.value));
                let hint = did_you_mean(name.value, self.by_name.keys().map(String::as_str))
                    .unwrap_or_else(|| "name its file in [set]".to_owned());
                report.error(name.at, Complaint::new(message).hint(hint));
            }
        }
        digests
    }

    pub(super) fn warn_of_unused(&self, report: &mut Report<'_>) {
        for (name, listed) in self.by_name.iter().filter(|(_, listed)| !listed.used) {
            report.warn(
                listed.at,
                Complaint::new(format!("set {} is not used", quoted(name))),
            );
        }
    }

    /// The sets by name.
    pub(super) fn into_sets(self) -> BTreeMap<String, Set> {
        self.by_name
            .into_iter()
            .map(|(name, listed)| (name, listed.set))
            .collect()
    }
}

/// Reads one set's file.
fn read<'a>(file: &'a str, bytes: &'a [u8], report: &mut Report<'a>) -> Set {
    let mut set = Set::new();
    let Some(text) = super::utf8(file, bytes, report) else {
        return set;
    };
    report.enter(file, text);
    for (start, line) in sums::lines(text) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match sums::line(line) {
            Err((at, complaint)) => report.error(start + at, complaint),
            Ok(sum) if sum.digest == Digest::new([0; 32]) => {
                report.error(
                    start,
                    Complaint::new("the all-zero digest stands for nothing"),
                );
            }
            Ok(sum) if sum.digest == Digest::OF_NOTHING && !is_place(sum.name) => {
                let complaint = Complaint::new("an empty file is listed by its whole path alone");
                report.error(start, complaint.hint("all of them have this digest"));
            }
            Ok(sum) => {
                // Several files may hold the same; names without a place say nothing more.
                let first = listings(&set, sum.digest).next();
                let first = first.filter(|_| !is_place(sum.name)).map(quoted);
                let listed = (sum.digest, sum.name.to_owned());
                let twice = set.contains(&listed).then(|| quoted(sum.name));
                match first.or(twice) {
                    Some(name) => {
                        let message = format!("digest is already listed as {name}");
                        report.warn(start, Complaint::new(message));
                    }
                    None => drop(set.insert(listed)),
                }
            }
        }
    }
    if set.is_empty() {
        report.warn(0, Complaint::new("set is empty, so it allows nothing"));
    }
    report.leave();
    set
}

/// The names that a digest is listed under.
fn listings(set: &Set, digest: Digest) -> impl Iterator<Item = &str> {
    let from = set.range((digest, String::new())..);
    from.take_while(move |(listed, _)| *listed == digest)
        .map(|(_, name)| name.as_str())
}

/// Whether a name says where the file is.
pub(super) fn is_place(name: &str) -> bool {
    name.starts_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(text: &str) -> (usize, Vec<String>) {
        let mut report = Report::default();
        let set = read("sets/a.sha256", text.as_bytes(), &mut report);
        let list = match report.finish() {
            Ok(warnings) => warnings,
            Err(all) => all.all().to_vec(),
        };
        (set.len(), list.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_set_with_comments() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(complaints(&format!("# two\n\n{a}  a\n{b} *b")), (2, vec![]));
    }

    #[test]
    fn every_fault_has_its_place() {
        let a = Digest::of(b"a");
        let (empty, zero) = (Digest::of(b""), Digest::new([0; 32]));
        let text = format!("{a}  a\n{a}  b\nxyz  c\n{empty}  d\n{zero}  e\n abc\n");
        let (count, list) = complaints(&text);
        assert_eq!(count, 1);
        let starts: Vec<_> = list
            .iter()
            .map(|d| d.split(": ").take(2).collect::<Vec<_>>())
            .collect();
        assert_eq!(
            starts,
            [
                ["sets/a.sha256:2:1", "warning"],
                ["sets/a.sha256:3:1", "error"],
                ["sets/a.sha256:4:1", "error"],
                ["sets/a.sha256:5:1", "error"],
                ["sets/a.sha256:6:1", "error"],
            ]
        );
        assert_eq!(complaints(&format!("{empty}  /d\n")), (1, vec![]));
        // Files that hold the same are each to be looked for, and each once.
        let (count, list) = complaints(&format!("{a}  /a\n{a}  /b\n{a}  /a\n{a}  c\n"));
        assert_eq!(count, 2);
        assert!(list[0].contains(":3:1: warning: digest is already listed as `/a`"));
        assert!(list[1].contains(":4:1: warning:"), "{list:?}");
        // However many there are: each is looked for, and not among all before it.
        let many = (0..200_000).map(|at| format!("{a}  /{at}\n"));
        let (count, list) = complaints(&many.collect::<String>());
        assert_eq!((count, list), (200_000, vec![]));
        let (_, list) = complaints("# nothing\n");
        assert!(list[0].contains("1:1: warning: set is empty"), "{list:?}");
    }
}
