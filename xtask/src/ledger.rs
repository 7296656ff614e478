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
/// What the file begins with; what stands between the length of a batch and its records.
const HEADER: usize = 16;
const CHECKSUM: usize = 4;
/// Fields of a record, of a start, and of the record that it names.
const SEQUENCE: u64 = 2;
const BOOT: u64 = 3;
const START: u64 = 10;
const SINCE: u64 = 6;
const SINCE_SEQUENCE: u64 = 1;
const SINCE_BOOT: u64 = 2;

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

/// A start, as its record has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) sequence: u64,
    boot: Vec<u8>,
    /// The last record before it, and the boot of that.
    since: Option<(u64, Vec<u8>)>,
}

impl Start {
    /// Whether it names the record just before it as the last of this boot, or of another.
    pub(crate) fn names_the_gap(&self, rebooted: bool) -> bool {
        let named = self.since.as_ref();
        named.is_some_and(|(last, boot)| {
            last.checked_add(1) == Some(self.sequence) && (*boot != self.boot) == rebooted
        })
    }
}

impl Ledger {
    /// The last start in it. A batch that is being written is not looked at.
    pub(crate) fn last_start(&self) -> Option<Start> {
        let mut rest = self.0.get(HEADER..)?;
        let mut last = None;
        while let Some((mut batch, after)) = part(rest, CHECKSUM) {
            while let Some((record, more)) = part(batch, 0) {
                last = start(record).or(last);
                batch = more;
            }
            rest = after;
        }
        last
    }

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

/// What stands behind its length and as many more bytes, and the rest.
fn part(bytes: &[u8], more: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.get(more..)?
        .split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// The record, if it is of a start.
fn start(record: &[u8]) -> Option<Start> {
    let entry = fields(record)?;
    let own = fields(bytes_of(&entry, START)?)?;
    let since = bytes_of(&own, SINCE).map(fields);
    Some(Start {
        sequence: number_of(&entry, SEQUENCE),
        boot: bytes_of(&entry, BOOT).unwrap_or_default().to_vec(),
        since: since.flatten().map(|since| {
            let boot = bytes_of(&since, SINCE_BOOT).unwrap_or_default();
            (number_of(&since, SINCE_SEQUENCE), boot.to_vec())
        }),
    })
}

/// A field of a message.
#[derive(Clone, Copy, Debug)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Every field of a message, by number; nothing if it is none of ours.
fn fields(mut message: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let (tag, rest) = number(message)?;
        let (value, rest) = number(rest)?;
        let (field, rest) = match tag & 7 {
            0 => (Field::Number(value), rest),
            2 => {
                let (bytes, rest) = rest.split_at_checked(usize::try_from(value).ok()?)?;
                (Field::Bytes(bytes), rest)
            }
            _ => return None,
        };
        found.push((tag >> 3, field));
        message = rest;
    }
    Some(found)
}

fn bytes_of<'a>(message: &[(u64, Field<'a>)], wanted: u64) -> Option<&'a [u8]> {
    message.iter().find_map(|(number, field)| match field {
        Field::Bytes(bytes) if *number == wanted => Some(*bytes),
        Field::Bytes(_) | Field::Number(_) => None,
    })
}

/// A number that is not there is zero.
fn number_of(message: &[(u64, Field<'_>)], wanted: u64) -> u64 {
    let found = message.iter().find_map(|(number, field)| match field {
        Field::Number(value) if *number == wanted => Some(*value),
        Field::Number(_) | Field::Bytes(_) => None,
    });
    found.unwrap_or_default()
}

fn varint(bytes: &[u8]) -> Option<u64> {
    number(bytes).map(|(value, _)| value)
}

/// A number, and what follows it.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_start_is_told_with_the_record_that_it_names() {
        let framed =
            |bytes: &[u8], more: &[u8]| [&(bytes.len() as u32).to_le_bytes(), more, bytes].concat();
        let record = |sequence: u8, kind: &[u8]| {
            let entry = [&[0x08, 1, 0x10, sequence, 0x1a, 2, 7, 7, 0x20, 9], kind];
            framed(&entry.concat(), &[])
        };
        let start = |since: &[u8]| {
            let own = [&[0x0a, 1, b'v', 0x32, since.len() as u8], since].concat();
            [&[0x52, own.len() as u8], own.as_slice()].concat()
        };
        let begun = [0x52, 3, 0x0a, 1, b'v'];
        let gap = [0x92, 0x01, 2, 0x10, 3];
        let batches = [
            [record(0, &begun), record(1, &gap)].concat(),
            record(2, &start(&[0x08, 1, 0x12, 2, 7, 7])),
            record(3, &gap),
        ];
        let mut file = vec![0; HEADER];
        let mut told = Vec::new();
        for batch in &batches {
            file.extend(framed(batch, &[0; CHECKSUM]));
            told.push(Ledger(file.clone()).last_start().unwrap());
        }
        assert!(!told[0].names_the_gap(false) && told[0].sequence == 0);
        assert!(told[1].names_the_gap(false) && !told[1].names_the_gap(true));
        assert_eq!(told[1], told[2]);
        let other = record(3, &start(&[0x08, 2, 0x12, 2, 7, 8]));
        file.extend(framed(&other, &[0; CHECKSUM]));
        assert!(
            Ledger(file.clone())
                .last_start()
                .unwrap()
                .names_the_gap(true)
        );
        file.pop();
        assert_eq!(Ledger(file).last_start().unwrap().sequence, 2, "cut short");
    }

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
