//! The ledger as it lies in a guest, looked through for what its records say.

use crate::guest::Guest;
use anyhow::{Context as _, Result};

const PATH: &str = "/var/lib/governor/ledger/ledger";
/// Gaps, as the daemon names them: denials that nobody has, and verdicts beyond what is kept one by one.
pub(crate) const LOST: &str = "denials that were lost";
pub(crate) const LEFT_OUT: &str = "verdicts counted, not kept one by one";
/// How often it is looked at.
const PATIENCE: usize = 20;
/// The count of a gap follows its name, as the second field.
const COUNT: u8 = 2 << 3;

/// Its bytes.
#[derive(Debug)]
pub(crate) struct Ledger(Vec<u8>);

/// Whatever is read of it, once it is as much as was expected, or some time later.
pub(crate) fn when<T>(
    guest: &mut Guest,
    read: impl Fn(&Ledger) -> Result<T>,
    is_all: impl Fn(&T) -> bool,
) -> Result<T> {
    for _ in 0..PATIENCE {
        let found = read(&of(guest)?)?;
        if is_all(&found) {
            return Ok(found);
        }
        guest.run(&["sleep", "0.5"])?.ok()?;
    }
    read(&of(guest)?)
}

/// Reads it as it is now.
pub(crate) fn of(guest: &mut Guest) -> Result<Ledger> {
    guest.get(PATH).map(Ledger)
}

impl Ledger {
    /// How often this stands in it.
    pub(crate) fn times(&self, text: &str) -> u64 {
        self.behind(text).count() as u64
    }

    /// What gaps of this name count together.
    pub(crate) fn missing(&self, what: &str) -> Result<u64> {
        let counts = self.behind(what).map(|rest| match rest.split_first() {
            Some((&COUNT, rest)) => varint(rest).with_context(|| format!("the count of `{what}`")),
            _ => Ok(0),
        });
        counts.sum()
    }

    fn behind<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a [u8]> {
        (0..self.0.len()).filter_map(move |at| self.0[at..].strip_prefix(text.as_bytes()))
    }
}

fn varint(bytes: &[u8]) -> Option<u64> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_summed_and_texts_are_counted() {
        let mut bytes = b"xx".to_vec();
        for count in [[0x10, 0x05].as_slice(), &[0x10, 0xac, 0x02], &[0x10, 0x80]] {
            let ledger = Ledger(bytes.clone());
            assert!(ledger.missing(LOST).is_ok());
            bytes.extend(LOST.as_bytes());
            bytes.extend(count);
        }
        let whole = Ledger(bytes[..bytes.len() - 1 - LOST.len() - 1].to_vec());
        assert_eq!(whole.missing(LOST).unwrap(), 305);
        assert_eq!(whole.times(LOST), 2);
        assert_eq!(whole.missing(LEFT_OUT).unwrap(), 0);
        Ledger(bytes).missing(LOST).unwrap_err();
    }
}
