//! Files made to be misread.

use std::{ffi::OsStr, fs::File, os::unix::ffi::OsStrExt as _};

use proptest::prelude::*;

use super::{
    super::{elf, root::Root},
    *,
};

fn read(bytes: &[u8]) -> Option<elf::Elf> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), bytes).expect("written");
    elf::read(File::open(file.path()).expect("opened"))
}

const ASKS: Asks<'_> = Asks {
    interpreter: Some("/lib/ld.so"),
    needed: &["liba.so", "libb.so"],
    rpath: Some("/opt/a"),
    runpath: Some("/opt/b::/opt/c"),
    opened: Some("libc.so"),
};

#[test]
fn a_sound_file_says_what_it_asks_for() {
    let found = read(&ASKS.write()).expect("an ELF file");
    assert_eq!(found.interpreter.as_deref(), Some("/lib/ld.so"));
    assert_eq!(found.needed, ["liba.so", "libb.so"]);
    assert_eq!(found.opened, ["libc.so"]);
    assert_eq!(found.rpath, ["/opt/a"]);
    assert_eq!(found.runpath, ["/opt/b", "/opt/c"]);
}

#[test]
fn a_file_that_is_cut_off_is_none_or_the_same() {
    let whole = ASKS.write();
    for length in 0..whole.len() {
        assert_eq!(read(&whole[..length]), None, "{length} bytes");
    }
}

#[test]
fn sizes_that_a_header_claims_are_not_believed() {
    let whole = ASKS.write();
    let with = |at: usize, bytes: &[u8]| {
        let mut file = whole.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        read(&file)
    };
    let huge = u64::MAX.to_le_bytes();
    // Segments: their number, their place. The dynamic segment: its place, its size.
    for (at, bytes) in [
        (56, &[0xff, 0xff][..]),
        (56, &[0xff, 0xfe]),
        (32, &huge),
        (64 + 2 * 56 + 8, &huge),
        (64 + 2 * 56 + 32, &huge),
        (64 + 2 * 56 + 32, &(1_u64 << 40).to_le_bytes()),
    ] {
        assert_eq!(with(at, bytes), None, "at {at}");
    }
    // The interpreter's name goes on to the end of the file.
    assert_eq!(with(64 + 56 + 8, &huge), None);
    // A sparse file is as long as its maker likes.
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), &whole).expect("written");
    file.as_file().set_len(1 << 40).expect("sparse");
    assert!(elf::read(File::open(file.path()).expect("opened")).is_some());
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes in any::<Vec<u8>>()) {
        let _read = read(&[b"\x7fELF\x02\x01\x01", bytes.as_slice()].concat());
    }

    #[test]
    fn any_change_is_read(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut file = ASKS.write();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Some(found) = read(&file) {
            prop_assert!(found.needed.len() <= 1024);
        }
    }

    #[test]
    fn no_path_leads_out(path in "(/|[.]{2}|a|b|self|up|[.]){0,12}") {
        let host = Host::new();
        host.text("/a/b/file", "x");
        host.link("/a/up", "../../../../../..");
        host.link("/a/b/self", "self");
        host.link("/b", "/a/./b/..");
        if let Some(real) = Root::new(host.0.path()).resolve(Path::new(&path)) {
            let there = fs::canonicalize(host.0.path().join(real.strip_prefix("/").expect("absolute")));
            let there = there.expect("it is there");
            prop_assert!(there.starts_with(fs::canonicalize(host.0.path()).expect("a root")));
            prop_assert!(real.components().all(|part| part.as_os_str() != ".."));
        }
    }
}

#[test]
fn links_pipes_and_names_that_are_no_text_hold_nothing_up() {
    let host = Host::new();
    host.link("/usr/bin/sh", "loop");
    host.link("/usr/bin/loop", "sh");
    let pipe = host.path("/usr/lib/systemd/pipe");
    fs::create_dir_all(pipe.parent().expect("a parent")).expect("made");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("made");
    host.link(
        "/usr/lib/systemd/out",
        "../../../../../../../../../../etc/passwd",
    );
    host.link("/usr/lib/systemd/dangling", "/nowhere");
    let odd = host
        .path("/usr/lib/systemd")
        .join(OsStr::from_bytes(b"a\xff\n"));
    fs::write(&odd, "#!/bin/none\n").expect("written");
    fs::set_permissions(&odd, fs::Permissions::from_mode(0o755)).expect("set");
    assert_eq!(host.paths(), ["/usr/lib/systemd/a\u{fffd}\n"]);
}
