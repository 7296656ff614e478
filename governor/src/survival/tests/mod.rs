//! Made-up hosts, files made to be misread, and the machine that the tests run on.

mod crafted;
mod host;
mod logins;
mod tree;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use super::{Need, Needs, Role, needs};

/// A host of files that a test puts there.
struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().expect("a directory"));
        for (link, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("sbin", "usr/sbin")] {
            fs::create_dir_all(host.path(target)).expect("made");
            symlink(target, host.path(link)).expect("linked");
        }
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn put(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
    }

    fn text(&self, path: &str, content: &str) {
        self.put(path, content, 0o644);
    }

    fn script(&self, path: &str, first_line: &str) {
        self.put(path, format!("{first_line}\n# {path}\n"), 0o755);
    }

    fn program(&self, path: &str, asks: &Asks<'_>) {
        self.put(path, asks.write(), 0o755);
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        symlink(target, path).expect("linked");
    }

    fn needs(&self) -> Needs {
        needs(self.0.path(), &["governed.slice".to_owned()]).expect("looked at")
    }

    /// What is needed, with the reason's words.
    fn found(&self) -> Vec<(String, Role, String)> {
        let one = |need: &Need| (need.path.display().to_string(), need.role, need.reason());
        self.needs().iter().map(one).collect()
    }

    fn paths(&self) -> Vec<String> {
        self.found().into_iter().map(|(path, ..)| path).collect()
    }
}

fn find<'a>(needs: &'a Needs, path: &str) -> Option<&'a Need> {
    needs.iter().find(|need| need.path == Path::new(path))
}

/// What an ELF file is to ask for: one of 64 bits for x86, small enough to be made here.
#[derive(Clone, Debug, Default)]
struct Asks<'a> {
    interpreter: Option<&'a str>,
    needed: &'a [&'a str],
    rpath: Option<&'a str>,
    runpath: Option<&'a str>,
    opened: Option<&'a str>,
}

impl Asks<'_> {
    /// The file: header, four segments, strings, and what is asked for.
    fn write(&self) -> Vec<u8> {
        let mut strings = vec![0];
        let mut string = |text: &str| {
            let at = strings.len() as u64;
            strings.extend(text.as_bytes());
            strings.push(0);
            at
        };
        let mut entries: Vec<(u64, u64)> =
            self.needed.iter().map(|name| (1, string(name))).collect();
        entries.extend(self.rpath.map(|path| (15, string(path))));
        entries.extend(self.runpath.map(|path| (29, string(path))));
        let interpreter = self
            .interpreter
            .map(|path| (string(path), path.len() as u64 + 1));
        let begin = STRINGS as u64;
        entries.extend([(5, begin), (0, 0)]);
        strings.resize(strings.len().next_multiple_of(8), 0);
        let noted = begin + strings.len() as u64;
        let note = self.opened.map_or_else(Vec::new, |name| {
            let text = format!("[{{\"feature\":\"x\",\"soname\":[\"{name}\"]}}]\0");
            let mut note = Vec::new();
            for value in [4, text.len() as u64, 0x407c_0c0a] {
                number(&mut note, value, 4);
            }
            note.extend(b"FDO\0");
            note.extend(text.bytes());
            note
        });
        strings.extend(&note);
        strings.resize(strings.len().next_multiple_of(8), 0);
        let dynamic = begin + strings.len() as u64;
        let size = entries.len() as u64 * 16;

        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        for (value, width) in [
            (3, 2),
            (62, 2),
            (1, 4),
            (0, 8),
            (64, 8),
            (0, 8),
            (0, 4),
            (64, 2),
            (56, 2),
            (4, 2),
            (64, 2),
            (0, 2),
            (0, 2),
        ] {
            number(&mut file, value, width);
        }
        let (text, length) = interpreter.map_or((0, 0), |(at, length)| (begin + at, length));
        let kind = if interpreter.is_some() { 3 } else { 0 };
        for (kind, at, size, align) in [
            (1, 0, dynamic + size, 8),
            (kind, text, length, 8),
            (2, dynamic, size, 8),
            (4, noted, note.len() as u64, 4),
        ] {
            number(&mut file, kind, 4);
            number(&mut file, 5, 4);
            for value in [at, at, at, size, size, align] {
                number(&mut file, value, 8);
            }
        }
        assert_eq!(file.len(), STRINGS);
        file.extend(strings);
        for (tag, value) in entries {
            number(&mut file, tag, 8);
            number(&mut file, value, 8);
        }
        file
    }
}

const STRINGS: usize = 64 + 4 * 56;

fn number(file: &mut Vec<u8>, value: u64, width: usize) {
    file.extend(&value.to_le_bytes()[..width]);
}
