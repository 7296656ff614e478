//! What an ELF file asks to be loaded beside it.
//!
//! Promises: nothing is executed and no more than a few pages of a file are read, whatever its headers
//! claim. A file that breaks a rule of the format is no ELF file to us: the kernel or the loader would
//! not run it either, and what it asks for cannot be told.

use std::{fs::File, ops::Range};

use object::{
    Endianness, ReadCache, ReadRef,
    elf::{self, FileHeader32, FileHeader64},
    read::elf::{Dyn as _, FileHeader, ProgramHeader as _},
};
use serde::Deserialize;

/// Programs and libraries have about a dozen.
const MAX_SEGMENTS: u16 = 128;
/// Two thousand entries; real ones have less than two hundred.
const MAX_DYNAMIC: u64 = 32 << 10;
const MAX_NEEDED: usize = 1024;
/// Notes are short texts; a file has two or three segments of them.
const MAX_NOTES: u64 = 64 << 10;
const MAX_NOTE_SEGMENTS: usize = 8;
const MAX_OPENED: usize = 256;
/// The kind of note that names libraries loaded while a program runs.
const DLOPEN: u32 = 0x407c_0c0a;
/// PATH_MAX, and the longest search path that is read.
const MAX_NAME: u64 = 4096;

/// For which machine a file is; files of two kinds are never loaded together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) machine: u16,
    wide: bool,
    little: bool,
}

/// What a file asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Elf {
    pub(super) kind: Kind,
    pub(super) interpreter: Option<String>,
    pub(super) needed: Vec<String>,
    /// What it says that it loads while it runs, if it is there.
    pub(super) opened: Vec<String>,
    /// Where it says to look: DT_RPATH, and DT_RUNPATH which takes its place.
    pub(super) rpath: Vec<String>,
    pub(super) runpath: Vec<String>,
}

/// Reads an ELF file; `None`: it is none, or none that can be loaded.
pub(super) fn read(file: File) -> Option<Elf> {
    of_any_class(&ReadCache::new(file))
}

/// Reads an ELF file, wherever its bytes are.
pub(super) fn of_any_class<'a>(data: impl ReadRef<'a>) -> Option<Elf> {
    let ident = data.read_bytes_at(0, 6).ok()?;
    match (ident.get(..4)?, ident.get(4)?) {
        (magic, class) if magic != elf::ELFMAG || *class == elf::ELFCLASSNONE => None,
        (_, class) if *class == elf::ELFCLASS64 => parse::<FileHeader64<Endianness>, _>(data),
        (_, class) if *class == elf::ELFCLASS32 => parse::<FileHeader32<Endianness>, _>(data),
        _ => None,
    }
}

fn parse<'a, H, R>(data: R) -> Option<Elf>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'a>,
{
    let header = H::parse(data).ok()?;
    let endian = header.endian().ok()?;
    if !matches!(header.e_type(endian), elf::ET_EXEC | elf::ET_DYN)
        || header.e_phnum(endian) > MAX_SEGMENTS
    {
        return None;
    }
    let segments = header.program_headers(endian, data).ok()?;
    let mut found = Elf {
        kind: Kind {
            machine: header.e_machine(endian),
            wide: header.is_class_64(),
            little: header.is_little_endian(),
        },
        interpreter: None,
        needed: Vec::new(),
        opened: Vec::new(),
        rpath: Vec::new(),
        runpath: Vec::new(),
    };
    let of_type = |wanted| segments.iter().find(|one| one.p_type(endian) == wanted);
    if let Some(segment) = of_type(elf::PT_INTERP) {
        let (at, _) = segment.file_range(endian);
        found.interpreter = Some(text(data, at)?);
    }
    let notes = segments
        .iter()
        .filter(|one| one.p_type(endian) == elf::PT_NOTE && one.file_range(endian).1 <= MAX_NOTES);
    for segment in notes.take(MAX_NOTE_SEGMENTS) {
        let Ok(Some(mut notes)) = segment.notes(endian, data) else {
            continue;
        };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == b"FDO" && note.n_type(endian) == DLOPEN {
                found.opened.extend(names(note.desc()));
            }
        }
    }
    let Some(dynamic) = of_type(elf::PT_DYNAMIC) else {
        return Some(found);
    };
    if dynamic.file_range(endian).1 > MAX_DYNAMIC {
        return None;
    }
    let entries = dynamic.dynamic(endian, data).ok()??;
    let entries = entries
        .iter()
        .map(|entry| (entry.tag(endian), entry.val(endian)))
        .take_while(|(tag, _)| *tag != elf::DT_NULL);
    let entries: Vec<(i64, u64)> = entries.collect();
    let Some(strings) = entries.iter().find(|(tag, _)| *tag == elf::DT_STRTAB) else {
        return Some(found);
    };
    // The table is given by its address; the segment that it is loaded with says where it lies.
    let strings = segments.iter().find_map(|segment| {
        let (at, size) = segment.file_range(endian);
        let start: u64 = segment.p_vaddr(endian).into();
        let inside = strings
            .1
            .checked_sub(start)
            .filter(|inside| *inside < size)?;
        (segment.p_type(endian) == elf::PT_LOAD).then_some(at.checked_add(inside)?)
    })?;
    let string = |offset: u64| text(data, strings.checked_add(offset)?);
    for (tag, value) in entries {
        match tag {
            elf::DT_NEEDED => found.needed.push(string(value)?),
            elf::DT_RPATH => found.rpath = split(&string(value)?),
            elf::DT_RUNPATH => found.runpath = split(&string(value)?),
            _ => {}
        }
        if found.needed.len() > MAX_NEEDED {
            return None;
        }
    }
    Some(found)
}

/// The names in a note about libraries that are loaded while a program runs: a list of objects, whose
/// format the UAPI group describes as "ELF `dlopen()` metadata".
fn names(note: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Opened {
        soname: Vec<String>,
    }
    let end = note.iter().position(|byte| *byte == 0);
    let text = note.get(..end.unwrap_or(note.len())).unwrap_or_default();
    let listed: Vec<Opened> = serde_json::from_slice(text).unwrap_or_default();
    let all = listed.into_iter().flat_map(|one| one.soname);
    all.take(MAX_OPENED).collect()
}

/// The string at `at`, up to its zero byte.
fn text<'a>(data: impl ReadRef<'a>, at: u64) -> Option<String> {
    let end = at.checked_add(MAX_NAME)?.min(data.len().ok()?);
    let bytes = data.read_bytes_at_until(Range { start: at, end }, 0).ok()?;
    String::from_utf8(bytes.to_vec()).ok()
}

fn split(paths: &str) -> Vec<String> {
    let some = paths.split(':').filter(|path| !path.is_empty());
    some.map(str::to_owned).collect()
}
