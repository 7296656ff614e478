//! Collecting complaints while a policy is read.
//!
//! Promises: a long list of mistakes in a stranger's file costs a bounded amount of memory, and
//! input that is shown has no control characters and never its full length.

use super::error::{Diagnostic, Diagnostics, Severity};

/// What is wrong with one value, before its place is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Complaint {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

/// Collects complaints, up to [`LIMIT`] errors and as many warnings.
#[derive(Debug, Default)]
pub(super) struct Report<'a> {
    list: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
    open: Vec<File<'a>>,
}

/// The file that is being read.
#[derive(Debug, Default)]
struct File<'a> {
    name: &'a str,
    text: &'a str,
    /// Offsets at which lines begin.
    lines: Vec<usize>,
}

impl<'a> Report<'a> {
    /// Places are offsets into `text` until [`Self::leave`].
    pub(super) fn enter(&mut self, name: &'a str, text: &'a str) {
        let lines = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = core::iter::once(0).chain(lines).collect();
        self.open.push(File { name, text, lines });
    }

    /// Places are in the file that was entered before.
    pub(super) fn leave(&mut self) {
        self.open.pop();
    }

    pub(super) fn error(&mut self, at: usize, complaint: Complaint) {
        self.add(Severity::Error, at, complaint);
    }

    pub(super) fn warn(&mut self, at: usize, complaint: Complaint) {
        self.add(Severity::Warning, at, complaint);
    }

    /// Whether an error was reported; warnings do not count.
    pub(super) fn failed(&self) -> bool {
        self.errors != 0
    }

    /// The warnings if there was no error, everything if there was one.
    pub(super) fn finish(mut self) -> Result<Vec<Diagnostic>, Diagnostics> {
        if self.errors == 0 {
            sort(&mut self.list);
            return Ok(self.list);
        }
        Err(self.refuse())
    }

    /// Everything, as the reason for a refusal.
    pub(super) fn refuse(mut self) -> Diagnostics {
        sort(&mut self.list);
        if self.errors > LIMIT {
            let message = format!("{} more errors are not shown", self.errors - LIMIT);
            self.errors = 0;
            self.add(Severity::Error, 0, Complaint::new(message));
        }
        Diagnostics(self.list)
    }

    fn add(&mut self, severity: Severity, at: usize, complaint: Complaint) {
        let kept = match severity {
            Severity::Error => {
                self.errors = self.errors.saturating_add(1);
                self.errors <= LIMIT
            }
            Severity::Warning => {
                self.warnings = self.warnings.saturating_add(1);
                self.warnings <= LIMIT
            }
        };
        if kept {
            let (file, line, column) = match self.open.last() {
                Some(file) => file.position(at),
                None => (String::new(), 1, 1),
            };
            let Complaint { message, hint } = complaint;
            self.list.push(Diagnostic {
                severity,
                file,
                line,
                column,
                message,
                hint,
            });
        }
    }
}

impl File<'_> {
    fn position(&self, at: usize) -> (String, u32, u32) {
        let at = at.min(self.text.len());
        let line = self.lines.partition_point(|start| *start <= at);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(start..at).unwrap_or("");
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (
            self.name.to_owned(),
            count(line.max(1)),
            count(before.chars().count() + 1),
        )
    }
}

fn sort(list: &mut [Diagnostic]) {
    list.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
}

/// `text` in backticks, fit for a terminal: no control characters, not longer than a line.
pub(super) fn quoted(text: &str) -> String {
    let mut shown = String::from("`");
    for (index, character) in text.chars().enumerate() {
        if index == QUOTED {
            shown.push('…');
            break;
        }
        let unfit = character.is_control() || UNSEEN.contains(&character);
        shown.push(if unfit { '\u{fffd}' } else { character });
    }
    shown.push('`');
    shown
}

/// "did you mean …?", if one of `known` is close to `word`.
pub(super) fn did_you_mean<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let allowed = if word.chars().count() < 5 { 1 } else { 2 };
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| format!("did you mean {}?", quoted(candidate)))
}

/// How many letters must be changed, added, left out or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 || a.len() > QUOTED {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (row[j] + 1).min(next[j - 1] + 1).min(row[j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            next.push(best);
        }
        before = core::mem::replace(&mut row, next);
    }
    row[b.len()]
}

/// Errors that are kept; the rest is counted.
const LIMIT: usize = 200;
/// Characters of input that are shown.
const QUOTED: usize = 80;
/// Marks that reorder or hide text on a terminal.
const UNSEEN: &[char] = &[
    '\u{200b}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}', '\u{202a}', '\u{202b}', '\u{202c}',
    '\u{202d}', '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}', '\u{feff}',
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_lines_and_characters() {
        let mut report = Report::default();
        report.enter("policy.toml", "a\nβγ = 1\n");
        report.error(4, Complaint::new("something").hint("do this"));
        report.error(usize::MAX, Complaint::new("past the end"));
        let list = report.finish().expect_err("two errors");
        assert_eq!(
            list.all()[0].to_string(),
            "policy.toml:2:2: error: something, do this"
        );
        assert_eq!(list.errors(), 2);
    }

    #[test]
    fn close_words_are_offered() {
        let known = ["egress", "exec"];
        assert_eq!(
            did_you_mean("egres", known).as_deref(),
            Some("did you mean `egress`?")
        );
        assert_eq!(
            did_you_mean("exce", known).as_deref(),
            Some("did you mean `exec`?")
        );
        assert_eq!(did_you_mean("listen", known), None);
    }

    #[test]
    fn shown_input_is_tame() {
        assert_eq!(quoted("a\u{1b}[2J\u{202e}"), "`a\u{fffd}[2J\u{fffd}`");
        assert!(quoted(&"x".repeat(10_000)).len() < 100);
    }

    #[test]
    fn a_flood_is_bounded() {
        let mut report = Report::default();
        report.enter("f", "");
        for _ in 0..10_000 {
            report.error(0, Complaint::new("no"));
        }
        let list = report.finish().expect_err("errors");
        assert_eq!(list.all().len(), LIMIT + 1);
        assert!(list.to_string().ends_with("9800 more errors are not shown"));
    }
}
