//! Samples, what is made of them, and the table that they are printed in.

/// What was wanted of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wanted {
    /// Nothing: it is there to explain another.
    Shown,
    MedianAtMost(f64),
    P99AtMost(f64),
    /// Of what must never happen, how often it did.
    Never,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    what: String,
    unit: &'static str,
    samples: Vec<f64>,
    wanted: Wanted,
}

impl Row {
    /// Samples must not be empty; no figure without a measurement comes this far.
    pub(super) fn new(
        what: &str,
        unit: &'static str,
        mut samples: Vec<f64>,
        wanted: Wanted,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(!samples.is_empty(), "`{what}` has no samples");
        samples.sort_by(f64::total_cmp);
        Ok(Self {
            what: what.to_owned(),
            unit,
            samples,
            wanted,
        })
    }

    /// How often what must never happen did, out of `tries`.
    pub(super) fn never(what: &str, happened: usize, tries: usize) -> anyhow::Result<Self> {
        anyhow::ensure!(tries > 0, "`{what}` was never tried");
        let mut samples = vec![0.0; tries - happened.min(tries)];
        samples.extend(vec![1.0; happened]);
        Self::new(what, "times", samples, Wanted::Never)
    }

    fn quantile(&self, part: f64) -> f64 {
        // The smallest sample that at least this part of all is not above.
        let rank = (self.samples.len() as f64 * part).ceil() as usize;
        let at = rank.clamp(1, self.samples.len()) - 1;
        self.samples.get(at).copied().unwrap_or(f64::NAN)
    }

    fn is_over(&self) -> bool {
        match self.wanted {
            Wanted::Shown => false,
            Wanted::MedianAtMost(bound) => self.quantile(0.5) > bound,
            Wanted::P99AtMost(bound) => self.quantile(0.99) > bound,
            Wanted::Never => self.samples.iter().any(|times| *times > 0.0),
        }
    }

    pub(super) fn line(&self) -> String {
        let verdict = if self.is_over() { "OVER" } else { "ok" };
        let (bound, verdict) = match self.wanted {
            Wanted::Shown => (String::new(), ""),
            Wanted::MedianAtMost(bound) => (format!("median ≤ {bound}"), verdict),
            Wanted::P99AtMost(bound) => (format!("p99 ≤ {bound}"), verdict),
            Wanted::Never => ("never".to_owned(), verdict),
        };
        let (median, p99) = match self.wanted {
            Wanted::Never => {
                let times: f64 = self.samples.iter().sum();
                (format!("{times:.0}"), String::new())
            }
            Wanted::Shown | Wanted::MedianAtMost(_) | Wanted::P99AtMost(_) => {
                (shown(self.quantile(0.5)), shown(self.quantile(0.99)))
            }
        };
        format!(
            "| {} | {} | {} | {median} | {p99} | {bound} | {verdict} |",
            self.what,
            self.unit,
            self.samples.len(),
        )
    }
}

pub(super) fn heading(kernel: &str) -> String {
    format!(
        "\nkernel {kernel}\n\n| what | unit | rounds | median | p99 | wanted | |\n\
         |---|---|---|---|---|---|---|"
    )
}

/// Three digits that mean something.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The middle one.
pub(super) fn median(samples: &[f64]) -> anyhow::Result<f64> {
    let row = Row::new("samples", "", samples.to_vec(), Wanted::Shown)?;
    Ok(row.quantile(0.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let samples: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let row = Row::new("x", "ms", samples, Wanted::P99AtMost(197.5)).unwrap();
        assert_eq!((row.quantile(0.5), row.quantile(0.99)), (100.0, 198.0));
        assert_eq!(
            row.line(),
            "| x | ms | 200 | 100 | 198 | p99 ≤ 197.5 | OVER |"
        );
        let one = Row::new("x", "ms", vec![0.25], Wanted::MedianAtMost(0.25)).unwrap();
        assert!(!one.is_over() && one.line().contains("| 0.250 | 0.250 |"));
        assert!(Row::new("x", "ms", Vec::new(), Wanted::Shown).is_err());
    }

    #[test]
    fn what_must_never_happen_is_over_when_it_did_once() {
        let line = |happened| Row::never("x", happened, 3).unwrap().line();
        assert_eq!(line(0), "| x | times | 3 | 0 |  | never | ok |");
        assert_eq!(line(1), "| x | times | 3 | 1 |  | never | OVER |");
        assert!(Row::never("x", 0, 0).is_err());
    }
}
