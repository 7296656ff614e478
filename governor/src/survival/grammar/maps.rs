//! What a process has mapped and where it runs: proc_pid_maps(5), proc_pid_cgroup(5).

use crate::maps;

/// The file of a line of `maps`, if it is mapped executable.
pub(in crate::survival) fn executable(line: &str) -> Option<&str> {
    let mapped = maps::file(line).filter(|mapped| mapped.is_executable)?;
    Some(mapped.path)
}

/// The cgroup of a process, in the hierarchy that has them all.
pub(in crate::survival) fn cgroup(line: &str) -> Option<&str> {
    line.strip_prefix("0::/")
}

/// The name without what the kernel adds when the file is gone.
pub(in crate::survival) fn deleted(name: &str) -> Option<&str> {
    name.strip_suffix(" (deleted)")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_may_be_executed_is_named() {
        let libc = "7f1-7f2 r-xp 00026000 fe:01 1234    /usr/lib/x86_64-linux-gnu/libc.so.6";
        assert_eq!(
            executable(libc),
            Some("/usr/lib/x86_64-linux-gnu/libc.so.6")
        );
        assert_eq!(executable("7f1-7f2 rwxp 0 0:0 0 "), None);
        assert_eq!(executable("7f1-7f2 r--p 0 fe:01 1 /bin/x"), None);
        assert_eq!(executable("7f1-7f2 r-xp 0 0:0 0 [vdso]"), None);
        let gone = executable("7f1-7f2 r-xp 0 fe:01 1 /opt/a b (deleted)").and_then(deleted);
        assert_eq!(gone, Some("/opt/a b"));
        assert_eq!(cgroup("0::/init.scope"), Some("init.scope"));
        assert_eq!(cgroup("1:name=systemd:/x"), None);
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in ".*") {
            prop_assert!(executable(&line).is_none_or(|path| path.starts_with('/')));
        }
    }
}
