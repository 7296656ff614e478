//! Reference values: which attestation keys count, and what each PCR must be.
//!
//! Promises: a closed grammar. An unknown or repeated key, an upper-case digit or a number with a
//! leading zero is an error with line and column. What is left out accepts nothing: no key listed
//! means no host, and a PCR that policy quotes without a value here is a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

use super::public::Name;
use super::selection::{PCR_COUNT, parse_pcr};
use crate::digest::Digest;

/// The values evidence is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceValues {
    ak_names: BTreeSet<Name>,
    pcrs: BTreeMap<u8, Digest>,
}

/// Why a text is not a file of reference values, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("reading reference values: line {line}, column {column}: {problem}")]
pub struct ReferenceError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub problem: ReferenceProblem,
}

/// What is wrong with reference values.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReferenceProblem {
    #[error("{0}")]
    Syntax(String),
    #[error("`{0}` is not a PCR: they are 0 to 23")]
    NotAPcr(String),
    #[error("`{0}` is not a SHA-256 digest: 64 hexadecimal digits in lower case")]
    NotADigest(String),
    #[error("`{0}` is not the name of a key: `000b` and 64 hexadecimal digits in lower case")]
    NotAName(String),
    #[error("the key `{0}` is listed twice")]
    NameTwice(Name),
}

impl ReferenceValues {
    /// Values that were read from a host; what is not a PCR is left out.
    pub fn new(
        ak_names: impl IntoIterator<Item = Name>,
        pcrs: impl IntoIterator<Item = (u8, Digest)>,
    ) -> Self {
        Self {
            ak_names: ak_names.into_iter().collect(),
            pcrs: pcrs
                .into_iter()
                .filter(|(pcr, _)| *pcr < PCR_COUNT)
                .collect(),
        }
    }

    /// Reads the text of a `reference.toml`.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let error = |at: usize, problem| {
            let before = text.get(..at).unwrap_or(text);
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            let line = before.matches('\n').count() + 1;
            let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
            ReferenceError {
                line,
                column,
                problem,
            }
        };
        let document: Document = toml::from_str(text).map_err(|source| {
            let at = source.span().map_or(0, |span| span.start);
            error(at, ReferenceProblem::Syntax(source.message().to_owned()))
        })?;

        let mut ak_names = BTreeSet::new();
        for entry in document.ak.unwrap_or_default().names {
            let (at, text) = (entry.span().start, entry.into_inner());
            let Some(name) = Name::from_hex(&text) else {
                return Err(error(at, ReferenceProblem::NotAName(text)));
            };
            if !ak_names.insert(name) {
                return Err(error(at, ReferenceProblem::NameTwice(name)));
            }
        }
        let mut pcrs = BTreeMap::new();
        for (key, value) in document.pcr {
            let Ok(pcr) = parse_pcr(key.get_ref()) else {
                let at = key.span().start;
                return Err(error(at, ReferenceProblem::NotAPcr(key.into_inner())));
            };
            let (at, text) = (value.span().start, value.into_inner());
            match Digest::from_hex(&text) {
                Some(digest) if digest.to_string() == text => pcrs.insert(pcr, digest),
                Some(_) | None => return Err(error(at, ReferenceProblem::NotADigest(text))),
            };
        }
        Ok(Self { ak_names, pcrs })
    }

    /// The text that [`Self::parse`] reads back as the same values.
    pub fn write(&self) -> String {
        let mut text = "[ak]\nnames = [\n".to_owned();
        for name in &self.ak_names {
            // Writing to a string cannot fail.
            let _infallible = writeln!(text, "    \"{name}\",");
        }
        text.push_str("]\n\n[pcr]\n");
        for (pcr, digest) in &self.pcrs {
            let _infallible = writeln!(text, "{pcr} = \"{digest}\"");
        }
        text
    }

    /// What PCR `number` must be; `None` accepts nothing.
    pub fn pcr(&self, number: u8) -> Option<&Digest> {
        self.pcrs.get(&number)
    }

    /// The keys that count; none accepts nothing.
    pub const fn ak_names(&self) -> &BTreeSet<Name> {
        &self.ak_names
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    ak: Option<Ak>,
    #[serde(default)]
    pcr: BTreeMap<Spanned<String>, Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ak {
    names: Vec<Spanned<String>>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn refused(text: &str) -> (usize, usize, String) {
        let error = ReferenceValues::parse(text).unwrap_err();
        (error.line, error.column, error.problem.to_string())
    }

    #[test]
    fn what_is_written_reads_back() {
        let text = format!(
            "# ours\n[ak]\nnames = [\"000b{DIGEST}\"]\n\n[pcr]\n0 = \"{DIGEST}\"\n23 = \"{DIGEST}\"\n"
        );
        let values = ReferenceValues::parse(&text).unwrap();
        assert_eq!(values.pcr(0), Digest::from_hex(DIGEST).as_ref());
        assert!(values.pcr(23).is_some());
        assert_eq!(values.pcr(1), None);
        assert_eq!(
            values.ak_names().first().unwrap().to_string(),
            format!("000b{DIGEST}")
        );
        assert_eq!(ReferenceValues::parse(&values.write()), Ok(values));
    }

    #[test]
    fn what_is_left_out_accepts_nothing() {
        let values = ReferenceValues::parse("").unwrap();
        assert!(values.ak_names().is_empty());
        assert_eq!(values.pcr(0), None);
        assert_eq!(ReferenceValues::parse(&values.write()), Ok(values));
    }

    #[test]
    fn errors_say_where() {
        let (line, column, problem) = refused("[ak]\nnames = []\nother = 1\n");
        assert_eq!((line, column), (3, 1));
        assert!(problem.contains("unknown field `other`"), "{problem}");

        let (line, column, _) = refused("[pcr]\n0 = 1\n");
        assert_eq!((line, column), (2, 5));
        let (line, _, problem) = refused(&format!("[pcr]\n0 = \"{DIGEST}\"\n0 = \"{DIGEST}\"\n"));
        assert_eq!(line, 3);
        assert!(problem.contains("duplicate key"), "{problem}");
        assert_eq!(refused("[ak]\n").0, 1);
        assert_eq!(refused("[policy]\n").0, 1);

        for key in ["24", "01", "\"+1\"", "\"\"", "a"] {
            let (line, column, problem) = refused(&format!("[pcr]\n{key} = \"{DIGEST}\"\n"));
            assert_eq!((line, column), (2, 1), "{key}");
            assert!(
                problem.ends_with("is not a PCR: they are 0 to 23"),
                "{problem}"
            );
        }
        for digest in [
            "",
            &DIGEST[1..],
            &DIGEST.to_uppercase(),
            &format!("{DIGEST}00"),
        ] {
            let (line, column, problem) = refused(&format!("[pcr]\n7 = \"{digest}\"\n"));
            assert_eq!((line, column), (2, 5), "{digest}");
            assert!(problem.contains("is not a SHA-256 digest"), "{problem}");
        }
        let (line, column, problem) = refused(&format!("[ak]\nnames = [\n  \"{DIGEST}\"]\n"));
        assert_eq!((line, column), (3, 3));
        assert!(problem.contains("is not the name of a key"), "{problem}");
        let (line, column, problem) = refused(&format!(
            "[ak]\nnames = [\"000b{DIGEST}\", \"000b{DIGEST}\"]\n"
        ));
        assert_eq!((line, column), (2, 82));
        assert!(problem.ends_with("is listed twice"), "{problem}");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text: String) {
            let _read = ReferenceValues::parse(&text);
        }

        #[test]
        fn text_like_ours_never_panics(text in "(\\[ak\\]\n|\\[pcr\\]\n|names|0|7|=| |\"|\\[|\\]|\n|é){0,12}") {
            if let Ok(values) = ReferenceValues::parse(&text) {
                prop_assert_eq!(ReferenceValues::parse(&values.write()), Ok(values));
            }
        }
    }
}
