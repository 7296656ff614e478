//! What must hold of what is read from the kernel: its types, its list of labelled tasks, its mounts.

use governor_common::{Carrier, Line, Plain as _};

use super::{
    btf::{FieldSize, Types},
    hosts, tasks,
};

/// Types are read or refused; every question about them has an answer, and has it soon.
pub fn types(bytes: &[u8]) -> bool {
    let Some(types) = Types::parse(bytes.to_vec()) else {
        return false;
    };
    let mut found = false;
    for field in ["a", "b", "c", "a.a", "d.b"] {
        for size in [FieldSize::Exactly(4), FieldSize::AtLeast(1)] {
            if let Ok(offset) = types.offset("s", field, size) {
                assert!(offset <= u64::from(u32::MAX / 8));
                found = true;
            }
        }
    }
    found |= types.enumerator("e", "x").is_ok();
    found |= types.arguments("f").is_some();
    found |= types.has_tracepoint("t");
    found | types.runs_every_program()
}

/// A list is whole, or it is none: what is accepted are those very bytes and an end.
pub fn carriers(bytes: &[u8]) -> bool {
    let Ok(carriers) = tasks::parse(bytes) else {
        return false;
    };
    let lines: Vec<u8> = carriers
        .iter()
        .flat_map(|carrier| carrier.bytes().to_vec())
        .collect();
    let end = bytes.strip_prefix(lines.as_slice()).and_then(Carrier::read);
    assert_eq!(end.map(|end| end.line), Some(Line::End as u32));
    true
}

/// A device is shown as it was written.
pub fn mounts(text: &str) -> bool {
    let mut any = false;
    for mount in hosts::mounts(text) {
        let (major, minor) = (mount.device >> 20, mount.device & 0xf_ffff);
        let mut fields = text.lines().map(|line| line.split(' '));
        let listed = fields.any(|mut line| {
            let device = line.nth(2).and_then(|device| device.split_once(':'));
            let same =
                device.is_some_and(|(a, b)| a.parse() == Ok(major) && b.parse() == Ok(minor));
            same && line.nth(1) == Some(&mount.point)
        });
        assert!(listed, "device {major}:{minor} at `{}`", mount.point);
        any = true;
    }
    any
}
