//! Lines as `sha256sum` writes them: the format of sets and of the manifest.
//!
//! Accepts exactly `<64 hex digits>␠␠name` and `<64 hex digits>␠*name`. Refuses escapes, other
//! digest lengths, other separators and lines without a name, each with the column it is about.

use super::report::{Complaint, quoted};
use crate::digest::Digest;

/// One line's digest and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sum<'a> {
    pub(super) digest: Digest,
    pub(super) name: &'a str,
    /// Offset of the name in the line.
    pub(super) name_at: usize,
}

/// Lines with the offset each begins at, without their line ends.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let start = at;
        at += line.len();
        (start, line.strip_suffix('\n').unwrap_or(line))
    })
}

/// Reads one line, or says what is wrong at which offset in it.
pub(super) fn line(line: &str) -> Result<Sum<'_>, (usize, Complaint)> {
    if line.starts_with('\\') {
        let complaint = Complaint::new("escaped names are not accepted");
        return Err((0, complaint.hint("rename the file")));
    }
    if line.ends_with('\r') {
        let complaint = Complaint::new("line ends in a carriage return");
        return Err((line.len() - 1, complaint.hint("use Unix line ends")));
    }
    let end = line.find([' ', '\t']).unwrap_or(line.len());
    let hex = &line[..end];
    if let Some(at) = hex.find(|c: char| !c.is_ascii_hexdigit()) {
        let complaint = Complaint::new(format!("{} is not a hexadecimal digest", quoted(hex)));
        return Err((at, complaint.hint("write lines as `sha256sum` prints them")));
    }
    let Some(digest) = Digest::from_hex(hex) else {
        let complaint = Complaint::new(format!("digest has {} digits instead of 64", hex.len()));
        return Err((0, complaint.hint("use SHA-256, as `sha256sum` does")));
    };
    let rest = &line[end..];
    let Some(name) = rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *")) else {
        let complaint = Complaint::new("digest and name must be separated by two spaces, or ` *`");
        return Err((end, complaint));
    };
    if name.is_empty() {
        return Err((end, Complaint::new("line has no file name")));
    }
    Ok(Sum {
        digest,
        name,
        name_at: end + 2,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_sha256sum_writes() {
        let hex = Digest::of(b"x").to_string();
        for good in [
            format!("{hex}  a b"),
            format!("{hex} *a"),
            format!("{hex}   a"),
        ] {
            assert_eq!(line(&good).map(|sum| sum.digest), Ok(Digest::of(b"x")));
        }
        let text = format!("{hex}  a");
        assert_eq!(
            line(&text).map(|sum| (sum.name, sum.name_at)),
            Ok(("a", 66))
        );
        for (bad, at) in [
            (String::new(), 0),
            (hex.clone(), 64),
            (format!("{hex} a"), 64),
            (format!("{hex}\ta"), 64),
            (format!("{hex}  "), 64),
            (format!("{hex}  a\r"), 67),
            (format!("\\{hex}  a"), 0),
            (format!("{}  a", &hex[1..]), 0),
            (format!("{hex}{hex}  a"), 0),
            (format!("g{}  a", &hex[1..]), 0),
            (format!("{}é  a", &hex[..62]), 62),
        ] {
            assert_eq!(line(&bad).expect_err("refused").0, at, "{bad}");
        }
    }

    #[test]
    fn lines_know_where_they_begin() {
        let found: Vec<_> = lines("a\n\nbc").collect();
        assert_eq!(found, [(0, "a"), (2, ""), (3, "bc")]);
    }
}
