//! A strict reader of big-endian structures.
//!
//! Promises: never panics, never allocates by an attacker's length, and says which field was at
//! fault. A structure is read to its last byte or not at all: [`Reader::finish`] refuses what is
//! left over. Knows nothing of the TPM.

use thiserror::Error;

/// Why bytes are not the structure they were given as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    #[error("it ends inside its {field}: {needed} bytes are needed and {left} are left")]
    Truncated {
        field: &'static str,
        needed: usize,
        left: usize,
    },
    #[error("{count} bytes follow its end")]
    Trailing { count: usize },
    #[error("its {field} has {length} bytes, at most {limit} are possible")]
    TooLong {
        field: &'static str,
        length: usize,
        limit: usize,
    },
    #[error("its {field} is not in its one encoding")]
    NotCanonical { field: &'static str },
    #[error("its {field} is {found:#06x}, which is not supported")]
    Unsupported { field: &'static str, found: u32 },
}

/// What is left of a structure.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first of `bytes`.
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `count` bytes.
    pub(super) fn take(
        &mut self,
        field: &'static str,
        count: usize,
    ) -> Result<&'a [u8], Malformed> {
        let left = self.rest.len();
        let (head, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(Malformed::Truncated {
                field,
                needed: count,
                left,
            })?;
        self.rest = rest;
        Ok(head)
    }

    /// The next bytes, as many as the array has.
    pub(super) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(field, N)?);
        Ok(array)
    }

    /// One byte.
    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array(field)?))
    }

    /// Two bytes.
    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array(field)?))
    }

    /// Four bytes.
    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array(field)?))
    }

    /// Eight bytes.
    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array(field)?))
    }

    /// A byte string behind its 16-bit length (a TPM2B), of at most `limit` bytes.
    pub(super) fn sized(
        &mut self,
        field: &'static str,
        limit: usize,
    ) -> Result<&'a [u8], Malformed> {
        let length = usize::from(self.u16(field)?);
        if length > limit {
            return Err(Malformed::TooLong {
                field,
                length,
                limit,
            });
        }
        self.take(field, length)
    }

    /// The end: nothing may be left.
    pub(super) const fn finish(self) -> Result<(), Malformed> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(Malformed::Trailing { count }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_exactly() {
        let mut reader = Reader::new(&[1, 0, 2, 0, 0, 0, 3, 0, 2, 8, 9]);
        assert_eq!(reader.u8("a"), Ok(1));
        assert_eq!(reader.u16("b"), Ok(2));
        assert_eq!(reader.u32("c"), Ok(3));
        assert_eq!(
            reader.clone().finish(),
            Err(Malformed::Trailing { count: 4 })
        );
        assert_eq!(
            reader.clone().sized("d", 1),
            Err(Malformed::TooLong {
                field: "d",
                length: 2,
                limit: 1
            })
        );
        assert_eq!(reader.sized("d", 2), Ok(&[8, 9][..]));
        assert_eq!(
            reader.clone().u64("e"),
            Err(Malformed::Truncated {
                field: "e",
                needed: 8,
                left: 0
            })
        );
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        assert_eq!(
            Reader::new(&[0xff, 0xff, 1]).sized("a", usize::MAX),
            Err(Malformed::Truncated {
                field: "a",
                needed: 0xffff,
                left: 1
            })
        );
    }
}
