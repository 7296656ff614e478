//! The machine that the tests run on: what is found is what its own loader finds.

use std::{collections::BTreeSet, process::Command};

use super::{
    super::{Why, collect::Collection, root::Root},
    *,
};

/// What the dynamic loader itself says it would load. It runs the program's loader, so only for programs
/// of the system.
fn ldd(program: &Path) -> Option<BTreeSet<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .expect("ldd runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(!text.contains("not found"), "{text}");
    let named = |line: &str| {
        let start = line.find('/')?;
        let path = line.get(start..)?.split(' ').next()?;
        Some(fs::canonicalize(path).expect("it is there"))
    };
    output
        .status
        .success()
        .then(|| text.lines().filter_map(named).collect())
}

#[test]
fn libraries_are_those_that_ldd_names() {
    let root = Root::new(Path::new("/"));
    let mut compared = 0;
    for program in [
        "/bin/sh",
        "/bin/ls",
        "/usr/bin/apt-get",
        "/usr/bin/dpkg",
        "/usr/bin/perl",
        "/usr/bin/tar",
        "/usr/sbin/sshd",
        "/usr/bin/systemctl",
        "/usr/lib/systemd/systemd",
        "/usr/lib/systemd/systemd-logind",
        "/usr/bin/udevadm",
        "/sbin/agetty",
        "/usr/lib/x86_64-linux-gnu/security/pam_unix.so",
        "/usr/bin/gcc",
        "/usr/bin/git",
    ] {
        let Some(expected) = fs::canonicalize(program).ok().and_then(|path| ldd(&path)) else {
            continue;
        };
        let own = fs::canonicalize(program).expect("it is there");
        let mut all = Collection::new(&root).expect("a host");
        all.library(program, &Why::Packages).expect("found");
        let (found, notices) = all.finish();
        let found: BTreeSet<PathBuf> = found
            .into_iter()
            .map(|need| need.path)
            .filter(|path| *path != own && !path.to_string_lossy().contains("glibc-hwcaps"))
            .collect();
        assert_eq!(found, expected, "{program}");
        assert_eq!(notices, [""; 0]);
        compared += 1;
    }
    assert!(compared >= 4, "only {compared} programs are here");
}

#[test]
fn this_machine_needs_its_shell_and_its_packages() {
    let needs = needs(Path::new("/"), &[]).expect("looked at");
    let of = |path: &str| {
        let real = fs::canonicalize(path).expect(path);
        let need = needs.iter().find(|need| need.path == real);
        need.unwrap_or_else(|| panic!("{path} is not named"))
    };
    let shell = of("/bin/sh");
    assert_eq!((shell.role, shell.why.is_vital()), (Role::Executable, true));
    let dpkg = of("/usr/bin/dpkg");
    assert_eq!(
        (dpkg.role, dpkg.why.clone()),
        (Role::Executable, Why::Packages)
    );
    let own = fs::read_link("/proc/self/exe").expect("a program");
    assert_eq!(of(own.to_str().expect("text")).why, Why::Governor);
    // Not one of a process that sees another root, as those in containers do.
    let libc = needs
        .iter()
        .find(|need| need.path.ends_with("libc.so.6") && !need.path.starts_with("/proc"));
    let libc = libc.expect("a C library");
    assert!(libc.why.is_vital() && libc.role != Role::Script, "{libc:?}");
    // In order, each once.
    let paths: Vec<&PathBuf> = needs.iter().map(|need| &need.path).collect();
    assert!(paths.is_sorted_by(|a, b| a < b));
}
