//! Which PCRs a quote must cover: a set that is never empty, of the SHA-256 bank only.
//!
//! The set that policy asks for is one value; what a quote says it covers is compared with it bit
//! by bit. Text is accepted in one form: numbers, ascending or not, each once, separated by commas.

use core::fmt;
use std::collections::BTreeSet;

use thiserror::Error;

/// How many PCRs there are.
pub const PCR_COUNT: u8 = 24;

/// Registers above this one can be reset while the host runs, or belong to somebody else.
const LAST_UNTIL_REBOOT: u8 = 15;

/// A non-empty set of PCRs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrSelection(BTreeSet<u8>);

/// Why PCRs cannot be selected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SelectionError {
    #[error("no PCR is selected")]
    Empty,
    #[error("PCR `{0}` is selected twice")]
    Twice(u8),
    #[error("`{0}` is not a PCR: they are 0 to 23")]
    NotAPcr(String),
}

impl PcrSelection {
    /// Each PCR once, at least one.
    pub fn new(pcrs: impl IntoIterator<Item = u8>) -> Result<Self, SelectionError> {
        let mut set = BTreeSet::new();
        for pcr in pcrs {
            if pcr >= PCR_COUNT {
                return Err(SelectionError::NotAPcr(pcr.to_string()));
            }
            if !set.insert(pcr) {
                return Err(SelectionError::Twice(pcr));
            }
        }
        if set.is_empty() {
            Err(SelectionError::Empty)
        } else {
            Ok(Self(set))
        }
    }

    /// Reads `0,1,7`.
    pub fn parse(text: &str) -> Result<Self, SelectionError> {
        if text.is_empty() {
            return Err(SelectionError::Empty);
        }
        let pcrs: Result<Vec<u8>, _> = text.split(',').map(parse_pcr).collect();
        Self::new(pcrs?)
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.iter().copied()
    }

    /// Whether `pcr` is selected.
    pub fn contains(&self, pcr: u8) -> bool {
        self.0.contains(&pcr)
    }

    /// The one of them to extend for evidence of all to fail until the host reboots. Where each can be reset
    /// before that, or belongs to somebody else, one of those.
    #[must_use]
    pub fn lasting(&self) -> Self {
        let lasting = self.iter().filter(|pcr| *pcr <= LAST_UNTIL_REBOOT).max();
        let one = lasting.or_else(|| self.iter().max());
        Self(one.into_iter().collect())
    }

    /// Whether none of them can be reset while the host runs.
    pub fn all_last(&self) -> bool {
        self.iter().all(|pcr| pcr <= LAST_UNTIL_REBOOT)
    }

    /// These and those.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Bit `n` for register `n`.
    pub fn bits(&self) -> u32 {
        self.iter().fold(0, |bits, pcr| bits | 1 << pcr)
    }

    /// From such bits; `None`: there is none.
    pub fn from_bits(bits: u64) -> Result<Option<Self>, SelectionError> {
        if bits >> PCR_COUNT != 0 {
            return Err(SelectionError::NotAPcr(format!("{bits:#x}")));
        }
        let set: BTreeSet<u8> = (0..PCR_COUNT).filter(|pcr| bits >> pcr & 1 == 1).collect();
        Ok((!set.is_empty()).then_some(Self(set)))
    }

    /// As `pcrSelect`: bit `n % 8` of octet `n / 8`.
    pub fn octets(&self) -> [u8; 3] {
        let [first, second, third, _] = self.bits().to_le_bytes();
        [first, second, third]
    }
}

impl fmt::Display for PcrSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pcr) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{pcr}")?;
        }
        Ok(())
    }
}

/// One number in its shortest form.
pub(super) fn parse_pcr(text: &str) -> Result<u8, SelectionError> {
    match text.parse::<u8>() {
        Ok(pcr) if pcr < PCR_COUNT && pcr.to_string() == text => Ok(pcr),
        Ok(_) | Err(_) => Err(SelectionError::NotAPcr(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_one_form() {
        let selection = PcrSelection::parse("7,0,23").unwrap();
        assert_eq!(selection.to_string(), "0,7,23");
        assert_eq!(selection.octets(), [0x81, 0, 0x80]);
        assert!(selection.contains(7) && !selection.contains(8));
        assert_eq!(PcrSelection::parse(""), Err(SelectionError::Empty));
        assert_eq!(PcrSelection::parse("1,1"), Err(SelectionError::Twice(1)));
        for text in ["24", "01", "+1", "1,", " 1", "1 ", "256", "-1", "a", "1;2"] {
            assert!(PcrSelection::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_selection_is_never_empty_and_ends_at_23() {
        assert_eq!(PcrSelection::new([]), Err(SelectionError::Empty));
        assert_eq!(
            PcrSelection::new([24]),
            Err(SelectionError::NotAPcr("24".into()))
        );
        assert_eq!(PcrSelection::new([3, 3]), Err(SelectionError::Twice(3)));
    }

    #[test]
    fn one_register_stands_for_all_until_a_reboot() {
        let lasting = |text: &str| PcrSelection::parse(text).unwrap().lasting().to_string();
        assert_eq!(lasting("0,7,14,16"), "14");
        assert_eq!(lasting("15,23"), "15");
        assert_eq!(lasting("16,23"), "23");
        assert!(PcrSelection::parse("0,15").unwrap().all_last());
        assert!(!PcrSelection::parse("0,16").unwrap().all_last());
    }

    #[test]
    fn bits_are_the_same_registers() {
        for bits in [1, 1 << 14 | 1 << 3, (1 << PCR_COUNT) - 1] {
            let selection = PcrSelection::from_bits(bits).unwrap().unwrap();
            assert_eq!(u64::from(selection.bits()), bits);
        }
        assert_eq!(PcrSelection::from_bits(0), Ok(None));
        assert!(PcrSelection::from_bits(1 << PCR_COUNT).is_err());
    }
}
