//! Who carries a label, in one reading.
//!
//! Promises: the list was made by the gate's own program, to its end, for this very reading; anything
//! else is an error. A link to an iterator can be pointed at another program by whoever gets hold of
//! it, so none outlives a reading, and the program says in a counter that no other can write that it
//! was asked by the daemon and came to the end.

use std::{
    cell::RefCell,
    fs::File,
    io::Read as _,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use aya::programs::{ProgramFd, ProgramInfo};
use governor_common::{Carrier, Line, Plain, names::COUNT_LISTS};

use super::{Gate, GateError, error::whole, sys};

/// The program that lists tasks, held by its descriptor.
#[derive(Debug)]
pub(super) struct Listing {
    program: ProgramFd,
    /// Memory for a list, kept: whoever reads one is in a hurry.
    bytes: RefCell<Vec<u8>>,
}

impl Listing {
    /// From its pin; with the program's id.
    pub(super) fn open(pin: &Path) -> Result<(u32, Self), String> {
        let info = ProgramInfo::from_pin(pin)
            .map_err(|error| format!("its pin cannot be opened: {}", whole(&error)))?;
        let fd = info
            .fd()
            .map_err(|error| format!("it cannot be held: {}", whole(&error)))?;
        let bytes = RefCell::new(Vec::with_capacity(ROOM));
        Ok((info.id(), Self { program: fd, bytes }))
    }

    fn read(&self, bytes: &mut Vec<u8>) -> std::io::Result<()> {
        let link: OwnedFd = sys::link_iterator(self.program.as_fd())?;
        let mut list = File::from(sys::begin_iterator(link.as_fd())?);
        list.read_to_end(bytes).map(drop)
    }
}

impl Gate {
    /// Every task of the host that carries a label, threads by themselves, and those of which it
    /// could not be told.
    pub fn carriers(&self) -> Result<Vec<Carrier>, GateError> {
        let before = self.count(COUNT_LISTS)?;
        let mut bytes = self.listing.bytes.borrow_mut();
        // A large crowd's list is not kept for good.
        bytes.clear();
        bytes.shrink_to(MOST);
        self.listing.read(&mut bytes).map_err(|error| {
            GateError::Invalid(format!("listing tasks that carry labels: {error}"))
        })?;
        if self.count(COUNT_LISTS)? == before {
            return Err(GateError::Invalid(
                "listing tasks that carry labels: another program than the gate's answered".into(),
            ));
        }
        parse(&bytes)
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Carrier>, GateError> {
    let broken =
        |what: &str| GateError::Invalid(format!("listing tasks that carry labels: {what}"));
    let mut carriers = Vec::with_capacity(bytes.len() / size_of::<Carrier>());
    let mut lines = bytes.chunks(size_of::<Carrier>());
    while let Some(line) = lines.next() {
        let carrier = Carrier::read(line).ok_or_else(|| broken("a line is cut short"))?;
        match Line::from_u32(carrier.line) {
            Some(Line::Labelled | Line::Unread) => carriers.push(carrier),
            Some(Line::End) if lines.next().is_none() => return Ok(carriers),
            Some(Line::End) => return Err(broken("it goes on behind its end")),
            None => return Err(broken("a line of another kind is in it")),
        }
    }
    Err(broken("it has no end"))
}

/// For some hundred tasks; and what is kept at most, for some thousand.
const ROOM: usize = 32 << 10;
const MOST: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(line: Line, pid: u32) -> Vec<u8> {
        let carrier = Carrier {
            line: line as u32,
            pid,
            ..Carrier::default()
        };
        carrier.bytes().to_vec()
    }

    #[test]
    fn a_list_is_whole_or_none() {
        let (one, two, end) = (
            line(Line::Labelled, 1),
            line(Line::Unread, 2),
            line(Line::End, 0),
        );
        let pids = |bytes: &[u8]| -> Vec<u32> {
            let carriers = parse(bytes).unwrap();
            carriers.iter().map(|carrier| carrier.pid).collect()
        };
        assert_eq!(pids(&end), [0u32; 0]);
        let whole = [one.clone(), two.clone(), end.clone()].concat();
        assert_eq!(pids(&whole), [1, 2]);
        for (bytes, said) in [
            ([one.clone(), two].concat(), "no end"),
            (Vec::new(), "no end"),
            ([end.clone(), one].concat(), "behind its end"),
            (whole[..whole.len() - 1].to_vec(), "cut short"),
            (vec![0; size_of::<Carrier>()], "another kind"),
        ] {
            let error = parse(&bytes).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
