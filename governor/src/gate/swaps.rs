//! What pages are swapped out to.
//!
//! The kernel itself refuses writes to a swap file or device while it is in use (`ETXTBSY`), and
//! hibernation, which would be its exception, is refused while the guard is armed. What a device lies
//! on it does not refuse. The device itself is left alone: `swapoff` opens it for writing.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use super::{GateError, hosts};

const SWAPS: &str = "/proc/swaps";
const GONE: &str = " (deleted)";

/// Block devices that are swapped to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Swaps {
    pub(super) devices: BTreeSet<u32>,
    /// Names of some that lead to no device any more.
    pub(super) unknown: Vec<String>,
}

/// Those that are in use now. A kernel without swap has no list of them.
pub(super) fn in_use() -> Result<Swaps, GateError> {
    let path = Path::new(SWAPS);
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text.map_err(hosts::failed(path))?,
    };
    Ok(found(&text, |name| node(name).or_else(|| block(name))))
}

fn found(text: &str, device: impl Fn(&str) -> Option<u32>) -> Swaps {
    let mut swaps = Swaps::default();
    for name in partitions(text) {
        match device(&name) {
            Some(device) => drop(swaps.devices.insert(device)),
            None => swaps.unknown.push(name),
        }
    }
    swaps
}

/// The device that has this name. Of a node that was removed only the name says anything.
fn node(name: &str) -> Option<u32> {
    if name.ends_with(GONE) {
        return None;
    }
    let metadata = fs::metadata(name).ok()?;
    let number = metadata.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let is_block = metadata.file_type().is_block_device();
    is_block.then(|| hosts::number(major, minor)).flatten()
}

/// The device that the kernel knows by the last part of the name.
fn block(name: &str) -> Option<u32> {
    let name = name.strip_suffix(GONE).unwrap_or(name);
    hosts::number_in(&Path::new(hosts::BLOCK).join(Path::new(name).file_name()?))
}

/// `/proc/swaps`: a line of headings, then name, type and numbers. Swap files are on file systems, whose
/// devices are known as those of mounts.
fn partitions(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?;
        (fields.next()? == "partition").then(|| plain(name))
    })
}

/// Blanks and backslashes in names are written as three octal digits.
fn plain(name: &str) -> String {
    let mut parts = name.split('\\');
    let mut plain = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) => {
                plain.push(code);
                plain.extend(rest.as_bytes());
            }
            (_, _) => {
                plain.push(b'\\');
                plain.extend(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
        /dev/sda2                               partition\t8388604\t\t12\t\t-2\n\
        /swap\\040file                           file\t\t1048572\t\t0\t\t-3\n\
        /dev/zram0                              partition\t4194300\t\t0\t\t100\n\
        /root/an\\040odd\\134one\\040(deleted)      partition\t1020\t\t0\t\t-4\n";

    #[test]
    fn devices_are_told_from_files() {
        let names: Vec<String> = partitions(TEXT).collect();
        assert_eq!(
            names,
            ["/dev/sda2", "/dev/zram0", "/root/an odd\\one (deleted)"]
        );
        assert_eq!(partitions("").count(), 0);
        let (headings, _) = TEXT.split_once('\n').unwrap();
        assert_eq!(partitions(headings).count(), 0);
    }

    #[test]
    fn what_is_written_in_octal_is_read_and_nothing_else() {
        assert_eq!(plain("/dev/vdb"), "/dev/vdb");
        assert_eq!(plain("/a\\011b\\012\\134"), "/a\tb\n\\");
        assert_eq!(plain("/a\\9b\\04"), "/a\\9b\\04");
        assert_eq!(plain("/\\303\\266"), "/\u{f6}");
    }

    #[test]
    fn what_leads_nowhere_is_told() {
        let swaps = found(TEXT, |name| match name {
            "/dev/sda2" => Some(8 << 20 | 2),
            "/dev/zram0" => Some(252 << 20),
            _ => None,
        });
        assert_eq!(swaps.devices, BTreeSet::from([8 << 20 | 2, 252 << 20]));
        assert_eq!(swaps.unknown, ["/root/an odd\\one (deleted)"]);
    }

    #[test]
    fn a_node_that_is_gone_or_is_no_device_is_none() {
        assert_eq!(node("/dev/null"), None, "of characters");
        assert_eq!(node("/dev/null (deleted)"), None);
        assert_eq!(node("/nowhere"), None);
        assert_eq!(block("/dev/no-such-device (deleted)"), None);
    }
}
