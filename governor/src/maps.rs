//! What `/proc/PID/maps` says of files.

/// Memory that shows a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapped<'a> {
    /// The addresses that the line begins with; it pads short ones.
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) is_executable: bool,
    pub(crate) path: &'a str,
}

/// Each, in the order of `maps`.
pub(crate) fn files(maps: &str) -> impl Iterator<Item = Mapped<'_>> {
    maps.lines().filter_map(file)
}

/// What a line says, if it is of a file. A name is cut at a line break, which the kernel writes as an escape.
pub(crate) fn file(line: &str) -> Option<Mapped<'_>> {
    let path = line.get(line.find('/')?..)?;
    let mut fields = line.split_whitespace();
    let (from, to) = fields.next()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let mode = fields.next().filter(|mode| mode.len() == 4)?;
    Some(Mapped {
        from: number(from)?,
        to: number(to)?,
        is_executable: mode.contains('x'),
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_from_other_memory_and_addresses_are_read_without_their_padding() {
        let maps = "00400000-00401000 r-xp 00000000 fe:01 42   /sbin/a b\n\
            00401000-00402000 r--p 00000000 fe:01 42   /sbin/init\n\
            7ffc5000-7ffc6000 rw-p 00000000 00:00 0    [stack]\n\
            7f000000-7f001000 rw-s 00000000 00:0e 9    anon_inode:bpf-map\n\
            nothing of the kind/\n";
        let found: Vec<Mapped<'_>> = files(maps).collect();
        let mapped = |from, is_executable, path| Mapped {
            from,
            to: from + 0x1000,
            is_executable,
            path,
        };
        assert_eq!(
            found,
            [
                mapped(0x40_0000, true, "/sbin/a b"),
                mapped(0x40_1000, false, "/sbin/init"),
            ]
        );
    }
}
