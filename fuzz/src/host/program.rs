//! Programs and scripts, looked at for what they need.

/// As a file that the host executes.
pub fn check(bytes: &[u8]) -> bool {
    governor::fuzzing::program(bytes)
}

/// Two scripts, and a program that asks for all that one can ask for.
pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        b"#!/bin/sh\necho\n".to_vec(),
        b"#! /usr/bin/env -S A=1 perl -w\n".to_vec(),
        program(),
    ]
}

/// An ELF64 file: header, four segments, then what they hold.
fn program() -> Vec<u8> {
    const SEGMENTS: u64 = 64;
    const CONTENT: u64 = SEGMENTS + 4 * 56;
    let strings = b"\0liba.so\0/opt/a\0/opt/b:$ORIGIN/c\0/lib/ld.so\0";
    let opened = br#"[{"soname":["libc.so"]}]"#;
    let entries: [(u64, u64); 5] = [(5, CONTENT), (1, 1), (15, 9), (29, 16), (0, 0)];
    let dynamic = CONTENT + strings.len() as u64;
    let notes = dynamic + 16 * entries.len() as u64;
    let mut note = Vec::new();
    for word in [4, opened.len() as u32, 0x407c_0c0a] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"FDO\0");
    note.extend(opened);
    note.resize(note.len().next_multiple_of(4), 0);
    let end = notes + note.len() as u64;

    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    for half in [3_u16, 62] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    for word in [0, SEGMENTS, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 4, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    let interpreter = CONTENT + 33;
    for (kind, at, until) in [
        (3, interpreter, dynamic),
        (1, 0, end),
        (2, dynamic, notes),
        (4, notes, end),
    ] {
        file.extend(u32::to_le_bytes(kind));
        file.extend(4_u32.to_le_bytes());
        for word in [at, at, at, until - at, until - at, 4] {
            file.extend(word.to_le_bytes());
        }
    }
    file.extend(strings);
    for (tag, value) in entries {
        file.extend(tag.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file.extend(note);
    file
}
